//! Compressed messages of any bytes in any pieces against miniz_oxide, and what is compressed here
//! against an inflater of miniz_oxide that keeps its window, as a browser's does.

use heartwheel::core::wire::deflate::{Coders, Want};
use heartwheel::core::wire::message::Message;
use heartwheel::core::wire::spare_memory::SpareMemory;
use heartwheel::core::wire::ws::{Decoder, Incoming, Limits, Role, Violation};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};

use super::frame::{BINARY, CONTINUATION, FIN, frame};
use super::rng::Rng;
use super::source::Source;

const RSV1: u8 = 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const LAST_BLOCK: [u8; 2] = [3, 0];

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let message_bytes = source.pick(&[100, 5000, 1 << 20]);
    let limits = Limits { message_bytes, fragments: 1024 };
    let mut rng = Rng::new(source.seed());
    let window_bits = source.pick(&[9, 12, 15]);
    let level = source.pick(&[1, 6, 9]);
    let is_made = source.chance(128);
    let bytes = source.rest();
    read_by_window(&mut rng, Want { level, window_bits }, bytes);
    // Mostly what is no data; else data, of which a byte may be another.
    let payload = match is_made {
        true => {
            let mut coders = Coders::default();
            let made = coders.compress(Want { level, window_bits: 15 }, b"", bytes);
            let mut made = made.map_or(bytes.to_vec(), <[u8]>::to_vec);
            if rng.chance(50) && !made.is_empty() {
                let at = rng.below(made.len() as u64) as usize;
                made[at] ^= 1 << rng.below(8);
            }
            made
        }
        false => bytes.to_vec(),
    };
    let whole = decode(&mut rng, &[(true, &payload)], usize::MAX, &limits);
    let at = rng.below(payload.len() as u64 + 1) as usize;
    let (head, rest) = payload.split_at(at);
    let cut = decode(&mut rng, &[(false, head), (true, rest)], 700, &limits);
    // Data that is too long and corrupt is refused for either.
    if whole.is_ok() || cut.is_ok() {
        assert_eq!(whole, cut, "the pieces make no difference");
    }
    compare(whole, &payload, message_bytes);
}

/// What came of a message.
type Verdict = Result<Vec<u8>, Violation>;

fn compare(ours: Verdict, payload: &[u8], message_bytes: u64) {
    let most = message_bytes as usize + 1;
    let inflated = |bytes: &[u8]| {
        miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, most)
            .map_err(|error| error.output.len())
    };
    let theirs = inflated(&[payload, &TAIL, &LAST_BLOCK].concat());
    match ours {
        // Some clients compress an empty message to nothing.
        Ok(message) if payload.is_empty() => assert!(message.is_empty()),
        Ok(message) => assert_eq!(theirs, Ok(message)),
        Err(Violation::TooBig) => {
            let came = match &theirs {
                Ok(message) => message.len(),
                Err(came) => *came,
            };
            let is_long = payload.len() as u64 > message_bytes;
            assert!(came as u64 > message_bytes || is_long, "{came} bytes");
        }
        // A block must not end behind the message, nor a last one be followed by anything but
        // zeros.
        Err(Violation::Deflate) => {
            let mut peer = InflateState::new_boxed(DataFormat::Raw);
            let mut out = vec![0; most];
            let before = inflate(&mut peer, payload, &mut out, MZFlush::Sync).bytes_written;
            let is_cut_off = theirs.as_ref().is_ok_and(|message| message.len() > before);
            let ends_early = inflated(&[payload, &TAIL].concat()).is_ok();
            assert!(theirs.is_err() || is_cut_off || ends_early);
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Decodes a message from its fragments, in pieces of at most `most` bytes.
fn decode(rng: &mut Rng, fragments: &[(bool, &[u8])], most: usize, limits: &Limits) -> Verdict {
    let (mut decoder, mut coders) = (Decoder::default(), Coders::default());
    let mut memory = SpareMemory::none();
    let mut bytes = Vec::new();
    for (index, (is_last, payload)) in fragments.iter().enumerate() {
        let first = if index == 0 { RSV1 | BINARY } else { CONTINUATION };
        bytes.extend(frame(if *is_last { first } else { first & !FIN }, payload));
    }
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let len = rest.len().min(1 + rng.below(most as u64) as usize);
        let piece = &mut rest[..len];
        let (used, item) = decoder.decode_compressed(
            Role::Server,
            piece,
            limits,
            &mut memory,
            &mut coders,
            None,
        )?;
        coders.take_inflated();
        match item {
            Some(Incoming::Message(Message::Binary(message))) => {
                assert_eq!(used, rest.len(), "it is the only one");
                return Ok(message.to_vec());
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        rest = &mut rest[used..];
    }
    panic!("nothing came of it")
}

/// Compresses pieces of the input, most of them against the one before.
fn read_by_window(rng: &mut Rng, want: Want, bytes: &[u8]) {
    let mut coders = Coders::default();
    let mut peer = InflateState::new_boxed(DataFormat::Raw);
    let mut before = Vec::new();
    for piece in bytes.chunks(1 + rng.below(400) as usize).take(20) {
        let message = piece.repeat(1 + rng.below(5) as usize);
        let history = if rng.chance(70) { &before[..] } else { b"" };
        let Some(made) = coders.compress(want, history, &message) else { continue };
        let tailed = [made, &TAIL].concat();
        let mut out = vec![0; message.len() + 1];
        let read = inflate(&mut peer, &tailed, &mut out, MZFlush::Sync);
        assert_eq!((read.bytes_consumed, read.bytes_written), (tailed.len(), message.len()));
        assert_eq!(out[..message.len()], message);
        before = message;
    }
}
