//! Frames that are about to leave are compressed, and not before: what an overflow policy drops is
//! never in the peer's window. What has been made ready leaves in this order, whatever happens.

use super::queue::{Body, Queue, QueueEntry, frame_ends};
use super::{Kind, Outbox};
use crate::core::wire::frame::Frame;
use crate::core::wire::ws;

/// What becomes of a message that is about to leave.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It goes as it is.
    Plain,
    /// This shorter frame goes in its place.
    Compressed(Frame),
    /// It stays until it is asked for again.
    Later,
}

/// What has been made ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// How many bytes may leave.
    pub ready: usize,
    /// How many bytes are gone by it.
    pub saved: usize,
}

impl Outbox {
    /// Makes the next frames ready to leave, as many as are often written at once. `judge` says
    /// what becomes of a message, by its kind, its opcode and its payload.
    pub fn make_ready(&mut self, mut judge: impl FnMut(Kind, u8, &[u8]) -> Verdict) -> Made {
        let mut made = Made::default();
        let Some(queue) = self.0.as_mut() else { return made };
        queue.stage();
        // What is released is whole frames, but perhaps not all of a packed entry.
        let released = queue.released.unwrap_or(usize::MAX);
        let mut begun = queue.begun;
        for place in 0.. {
            let Some(entry) = queue.entries.get(place) else { break };
            if made.ready >= AT_ONCE_BYTES {
                break;
            }
            if made.ready + made.saved + entry.len() - begun > released {
                made.ready = usize::MAX;
                break;
            }
            if begun == 0 && !entry.is_ready {
                let Some(saved) = queue.make_ready(place, &mut judge) else { break };
                made.saved += saved;
            }
            made.ready += queue.entries[place].len() - begun;
            begun = 0;
        }
        queue.bytes -= made.saved;
        queue.released = queue.released.map(|released| released - made.saved);
        made
    }
}

impl Queue {
    /// Makes the messages of an entry ready. Returns how many bytes are gone by it; `None` if the
    /// entry has to wait. Of messages that are packed together, those that have to wait become an
    /// entry of their own.
    fn make_ready(
        &mut self,
        place: usize,
        judge: &mut impl FnMut(Kind, u8, &[u8]) -> Verdict,
    ) -> Option<usize> {
        let entry = &mut self.entries[place];
        let before = entry.len();
        let rest = match &mut entry.body {
            Body::Packed(packed) => make_packed_ready(packed, judge)?,
            Body::Shared(frame) => {
                match judge_frame(entry.kind, frame, judge) {
                    Verdict::Plain => {}
                    Verdict::Compressed(compressed) => *frame = compressed,
                    Verdict::Later => return None,
                }
                Vec::new()
            }
            Body::Piped(_) => Vec::new(),
        };
        entry.is_ready = true;
        let saved = before - entry.len() - rest.len();
        if !rest.is_empty() {
            let QueueEntry { kind, queued_at, .. } = *entry;
            let behind = QueueEntry { body: Body::Packed(rest), kind, queued_at, is_ready: false };
            self.entries.insert(place + 1, behind);
        }
        Some(saved)
    }
}

/// Judges a frame, if it is a message that can be compressed.
fn judge_frame(
    kind: Kind,
    frame: &Frame,
    judge: &mut impl FnMut(Kind, u8, &[u8]) -> Verdict,
) -> Verdict {
    if !matches!(kind, Kind::Message | Kind::Event(..) | Kind::Gap(_)) {
        return Verdict::Plain;
    }
    if let Some((opcode, payload)) = ws::encoder::parts(frame) {
        return judge(kind, opcode, payload);
    }
    match (frame.text(), ws::encoder::opcode(frame.head())) {
        (Some(encoded), Some(opcode)) if encoded.len() <= COMPRESSED_BYTES_MAX => {
            judge(kind, opcode, &encoded.to_bytes())
        }
        _ => Verdict::Plain,
    }
}

/// Makes small messages ready that are packed together. Returns the bytes of those that have to
/// wait; `None` if all have to.
fn make_packed_ready(
    packed: &mut Vec<u8>,
    judge: &mut impl FnMut(Kind, u8, &[u8]) -> Verdict,
) -> Option<Vec<u8>> {
    // Nothing is copied before a message is compressed.
    let mut out = Vec::new();
    let mut at = 0;
    for end in frame_ends(packed) {
        let frame = &packed[at..end];
        let verdict = match ws::encoder::split(frame) {
            Some((opcode, payload)) => judge(Kind::Message, opcode, payload),
            None => Verdict::Plain,
        };
        match verdict {
            Verdict::Later => break,
            Verdict::Compressed(frame) => {
                if out.is_empty() {
                    out.reserve_exact(packed.len());
                    out.extend_from_slice(&packed[..at]);
                }
                frame.write(&mut out);
            }
            Verdict::Plain if out.is_empty() => {}
            Verdict::Plain => out.extend_from_slice(frame),
        }
        at = end;
    }
    if at == 0 {
        return None;
    }
    let rest = packed.split_off(at);
    if !out.is_empty() {
        *packed = out;
    }
    Some(rest)
}

/// So many bytes are made ready at once.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// A longer message goes as it is: to compress one would hold all others up.
pub const COMPRESSED_BYTES_MAX: usize = 64 * 1024;
