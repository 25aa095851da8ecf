//! The frame decoder against tungstenite's, over any bytes in any pieces: the same messages, and
//! where one refuses the other does. Each input is read twice: as what a client sent, and as what a
//! server sent.
//!
//! Where they differ on purpose is written in `tests/differential.rs`. Of two faults in one frame
//! each may name another, so any refusal is as good as another here.

use heartwheel::core::wire::ws::{Limits, Role, Violation};

use super::decoders::{FORBIDDEN_CODE, Item, decode, decode_tungstenite, is_refusal};
use super::rng::Rng;
use super::source::Source;

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    // Room for any control frame, which tungstenite measures by the same limit.
    let message_bytes = source.pick(&[126, 127, 200, 4096, 150_000]);
    let limits = Limits { message_bytes, fragments: source.pick(&[1024, 1, 3]) };
    let mut rng = Rng::new(source.seed());
    let bytes = source.rest();
    for role in [Role::Server, Role::Client] {
        compare(role, &mut rng, bytes, limits);
    }
}

fn compare(role: Role, rng: &mut Rng, bytes: &[u8], limits: Limits) {
    let (ours, violation) = decode(role, rng, bytes, &limits);
    let (whole, again) = decode(role, &mut Rng::new(1), bytes, &limits);
    assert_eq!((&ours, violation), (&whole, again), "the pieces make no difference");
    let mimics = |item: &Item| matches!(item, Item::Close(Some((_, r))) if r == FORBIDDEN_CODE);
    if ours.iter().any(mimics) {
        return;
    }
    // A control frame may be too long by the form of its length alone.
    let stricter = [Violation::Length, Violation::Fragments, Violation::ControlTooLong];
    if violation.is_some_and(|violation| stricter.contains(&violation)) {
        let (theirs, _) = decode_tungstenite(role, rng, bytes, limits);
        return assert!(theirs.starts_with(&ours), "{ours:?} {violation:?} {theirs:?}");
    }
    let mut bytes = bytes.to_vec();
    if violation.is_some() {
        // We refuse at the first wrong byte, tungstenite when the frame is complete: here is what
        // may be missing of it. A length of ones is minimal.
        bytes.resize(bytes.len() + 16 + limits.message_bytes as usize, 1);
    }
    let (theirs, verdict) = decode_tungstenite(role, rng, &bytes, limits);
    assert_eq!(ours, theirs, "{violation:?} {verdict:?}");
    assert_eq!(violation.is_some(), is_refusal(verdict), "{violation:?} {verdict:?} {ours:?}");
}
