//! Records of TLS: what one end has sealed comes out at the other, in whatever pieces it comes;
//! what was not sealed, or was changed, ends the session with an alert; and the first bytes of a
//! connection and certificates are read without a panic, whatever they are.

use std::io::IoSlice;

use heartwheel::core::ground::time::Instant;
use heartwheel::core::wire::tls::{
    Certificate, Ended, First, OVERHEAD_BYTES, PLAIN_BYTES_MAX, Secret, Session, Suite, first,
};

use super::rng::Rng;
use super::source::Source;

pub fn run(input: &[u8]) {
    judge_first(input);
    let _ = Certificate::read(input);
    let mut source = Source::new(input);
    let suite = source.pick(&Suite::ALL);
    let mut rng = Rng::new(source.seed());
    let number = source.pick(&[0, suite.records_max() / 2 - 2]);
    let secret = |byte| Secret::new(&vec![byte; suite.secret_len()]).expect("it is short enough");
    let (ours, theirs) = (secret(1), secret(2));
    let mut sender = Session::new(suite, (&theirs, 0), (&ours, number));
    let receiver = || Session::new(suite, (&ours, number), (&theirs, 0));

    let (mut sent, mut records) = (Vec::new(), Vec::new());
    let mut is_changed = false;
    while !source.is_empty() {
        match source.below(8) {
            0 => sender.update(&mut records),
            1 => sender.close(&mut records),
            2 => {
                let raw = usize::from(source.byte());
                is_changed |= raw > 0;
                records.extend_from_slice(source.take(raw));
            }
            3 if !records.is_empty() => {
                let at = usize::from(source.number()) % records.len();
                let bit = 1 << source.below(8);
                records[at] ^= bit;
                is_changed = true;
            }
            _ => {
                let len = usize::from(source.number()).min(source.pick(&[10, 300, 40_000]));
                let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let mut sealed = 0;
                while sealed < data.len() {
                    let before = records.len();
                    let cut = rng.below(data.len() as u64 + 1) as usize;
                    let slices = [IoSlice::new(&data[..cut]), IoSlice::new(&data[cut..])];
                    let taken = sender.seal_data(&slices, sealed, &mut records);
                    assert_eq!(taken, (data.len() - sealed).min(PLAIN_BYTES_MAX));
                    // A key update may stand before it.
                    let added = records.len() - before;
                    assert!([0, 27].contains(&(added - taken - OVERHEAD_BYTES)), "{added} {taken}");
                    sealed += taken;
                }
                sent.extend(data);
            }
        }
    }

    let whole = read(&mut receiver(), &records, |left| left);
    let dripped = read(&mut receiver(), &records, |_| 1);
    let in_pieces = read(&mut receiver(), &records, |left| 1 + rng.below(left as u64) as usize);
    assert_eq!(whole, dripped);
    assert_eq!(whole, in_pieces);
    let (plain, own, ended) = whole;
    if !is_changed && ended.is_none() {
        assert_eq!(plain, sent);
    } else if !matches!(ended, Some(Ended::Fault(_))) {
        assert!(sent.starts_with(&plain), "nothing comes out that was not sealed");
    }
    // What the receiver says is understood by the sender.
    let (nothing, _, said) = read(&mut sender, &own, |left| left);
    assert!(nothing.is_empty());
    let expected = match ended {
        Some(Ended::Fault(alert)) => Some(Ended::ByPeer(alert as u8)),
        _ => None,
    };
    assert_eq!(said, expected);
}

/// Reads records in pieces. Returns the plaintext, what the reader says to it, and how it ended.
fn read(
    session: &mut Session,
    mut records: &[u8],
    mut piece: impl FnMut(usize) -> usize,
) -> (Vec<u8>, Vec<u8>, Option<Ended>) {
    let (mut buffer, mut plain, mut own) = (Vec::new(), Vec::new(), Vec::new());
    while !records.is_empty() {
        let (now, later) = records.split_at(piece(records.len()));
        records = later;
        buffer.extend_from_slice(now);
        let len = buffer.len();
        let opened = session.open(Instant::from_millis(0), &mut buffer, &mut own);
        assert!(opened.plain <= opened.used && opened.used <= len);
        plain.extend_from_slice(&buffer[..opened.plain]);
        buffer.drain(..opened.used);
        if opened.ended.is_some() {
            return (plain, own, opened.ended);
        }
    }
    (plain, own, None)
}

/// What the first bytes are does not change when more of them come, but that a part becomes more.
fn judge_first(bytes: &[u8]) {
    let mut last = First::Part;
    for len in 0..=bytes.len().min(400) {
        let found = first(&bytes[..len]);
        assert!(found == last || last == First::Part, "{last:?} becomes {found:?}");
        last = found;
    }
}
