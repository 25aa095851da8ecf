//! The decoder against tungstenite's: random sequences of frames, cut independently for each, must
//! give the same items in the same order and then the same class of verdict. In either role: as a
//! server that reads a client's frames, and as a client that reads a server's. And each way, what
//! one side encodes the other side of the other library reads.
//!
//! Half of the sequences are right. The others have one fault that the generator knows, or a few
//! flipped bits. `ROUNDS` says how many sequences (200,000), `SEED` where to begin; a failure
//! prints the seed of its sequence, which `ROUNDS=1 SEED=...` runs again.
//!
//! Where the two differ on purpose, and how it is made even:
//!
//! - We refuse at the header or at the first wrong byte, tungstenite when the frame is complete:
//!   it is given what is missing of the frame.
//! - We refuse lengths that are not minimal and too many fragments: nothing after that counts.
//! - Of two faults in one frame it may name the other one. Only flipped bits make such frames, and
//!   there any refusal is as good as another.
//! - It delivers a forbidden close code as 1002, and forbids 1014, which IANA has registered since.
//!   Here all of these are protocol faults.

mod common;
#[path = "differential/responses.rs"]
mod responses;

use std::num::NonZero;
use std::thread;

use common::decoders::{Item, Verdict, decode, decode_tungstenite, is_refusal, verdict};
use common::rng::Rng;
use heartwheel::core::ground::random::Random;
use heartwheel::core::wire::frame::Frame;
use heartwheel::core::wire::ws::{Limits, Role, Violation, encoder};
use heartwheel::{Bytes, Message};
use tungstenite::protocol::{self, CloseFrame, WebSocket};

#[test]
fn decoder_and_tungstenite_agree() {
    agree_as(Role::Server);
}

#[test]
fn decoder_and_tungstenite_agree_on_what_a_server_sends() {
    agree_as(Role::Client);
}

fn agree_as(role: Role) {
    let rounds = number("ROUNDS").unwrap_or(200_000);
    let first = number("SEED").unwrap_or(1);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // Each thread takes every so manieth sequence.
    let compare_part = |part: u64| {
        let mut tally = Tally::default();
        for seed in (first + part..first + rounds).step_by(threads) {
            if let Err(difference) = compare(role, seed, &mut tally) {
                panic!("SEED={seed}: {difference}");
            }
        }
        tally
    };
    let tally = thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads as u64).map(|part| scope.spawn(move || compare_part(part))).collect();
        let tallies = parts.into_iter().map(|part| part.join().expect("no difference was found"));
        tallies.reduce(Tally::plus).expect("there is a thread")
    });
    println!("{role:?}, {rounds} sequences: {tally:?}");
    if rounds >= 10_000 {
        tally.check_reach(rounds);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// How often each end was reached.
#[derive(Debug, Default)]
struct Tally {
    items: u64,
    clean: u64,
    closed: u64,
    protocol: u64,
    utf8: u64,
    too_big: u64,
    stricter: u64,
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            items: self.items + other.items,
            clean: self.clean + other.clean,
            closed: self.closed + other.closed,
            protocol: self.protocol + other.protocol,
            utf8: self.utf8 + other.utf8,
            too_big: self.too_big + other.too_big,
            stricter: self.stricter + other.stricter,
        }
    }

    /// A generator that no longer reaches an end proves nothing about it.
    fn check_reach(&self, rounds: u64) {
        assert!(self.items > rounds);
        assert!(self.clean + self.closed > rounds / 2);
        for reached in [self.clean, self.closed, self.protocol, self.utf8, self.too_big] {
            assert!(reached > rounds / 100);
        }
        assert!(self.stricter > rounds / 1000);
    }
}

/// Runs one sequence through both and compares.
fn compare(role: Role, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let sequence = Sequence::random(role, &mut rng);
    let limits = sequence.limits;
    let (ours, violation) = decode(role, &mut rng, &sequence.bytes, &limits);
    tally.items += ours.len() as u64;

    // A flipped bit may have a control frame say its length in the long way.
    let is_long_control =
        matches!(sequence.fault, Fault::Flipped) && violation == Some(Violation::ControlTooLong);
    if is_long_control || matches!(violation, Some(Violation::Length | Violation::Fragments)) {
        let (theirs, _) = decode_tungstenite(role, &mut rng, &sequence.bytes, limits);
        tally.stricter += 1;
        let is_expected = sequence.expected.is_none_or(|expected| Some(expected) == violation);
        let is_same = is_expected && theirs.starts_with(&ours);
        return if is_same { Ok(()) } else { Err(format!("{ours:?} {violation:?} {theirs:?}")) };
    }

    let verdict = verdict(&ours, violation);
    match verdict {
        Verdict::Clean => tally.clean += 1,
        Verdict::Closed => tally.closed += 1,
        Verdict::Protocol => tally.protocol += 1,
        Verdict::Utf8 => tally.utf8 += 1,
        Verdict::TooBig => tally.too_big += 1,
    }
    let mut bytes = sequence.bytes.clone();
    if violation.is_some() {
        bytes.extend(&sequence.rest);
    }
    let (theirs, their_verdict) = decode_tungstenite(role, &mut rng, &bytes, limits);
    let is_right = match sequence.fault {
        Fault::None => violation.is_none(),
        Fault::Known => sequence.expected.is_none_or(|expected| Some(expected) == violation),
        Fault::Flipped => true,
    };
    let is_same_verdict = match sequence.fault {
        Fault::Flipped => violation.is_some() == is_refusal(their_verdict),
        _ => verdict == their_verdict,
    };
    if is_right && is_same_verdict && ours == theirs {
        return Ok(());
    }
    Err(format!(
        "{:?}, expected {:?}\nours   {verdict:?} ({violation:?}) {ours:?}\n\
         theirs {their_verdict:?} {theirs:?}\n{:02x?}",
        sequence.fault, sequence.expected, sequence.bytes
    ))
}

/// What our client sends, tungstenite's server reads; what that server sends, our client reads.
#[test]
fn a_client_and_tungstenites_server_understand_each_other() {
    let mut rng = Rng::new(number("SEED").unwrap_or(1));
    let limits = Limits { message_bytes: 200_000, fragments: 1 };
    for _ in 0..number("ROUNDS").unwrap_or(300) {
        let mut random = Random::new(rng.next_u64());
        let mut theirs = WebSocket::from_raw_socket(
            std::io::Cursor::new(Vec::new()),
            protocol::Role::Server,
            None,
        );
        let (mut sent, mut ours) = (Vec::new(), Vec::new());
        for last in [false; 20].into_iter().chain([true]) {
            let (item, frame, message) = random_item(&mut rng, last);
            ours.extend(encoder::masked(&frame, &mut random).payload());
            theirs.send(message).expect("a vector takes all");
            sent.push(item);
        }
        let (read, verdict) = decode_tungstenite(Role::Server, &mut rng, &ours, limits);
        assert_eq!((&read, verdict), (&sent, Verdict::Closed), "from our client");
        let theirs = theirs.get_ref().get_ref();
        let (read, violation) = decode(Role::Client, &mut rng, theirs, &limits);
        assert_eq!((&read, violation), (&sent, None), "from tungstenite's server");
    }
}

/// Draws something to send: as it is to be read, and for either library.
fn random_item(rng: &mut Rng, is_close: bool) -> (Item, Frame, tungstenite::Message) {
    if is_close {
        let code = ALLOWED_CODES[below(rng, ALLOWED_CODES.len())];
        let length = below(rng, 124);
        let reason = String::from_utf8(random_text(rng, length)).unwrap();
        let close = CloseFrame { code: code.into(), reason: reason.clone().into() };
        let frame = encoder::close(code, &reason);
        let message = tungstenite::Message::Close(Some(close));
        return (Item::Close(Some((code, reason))), frame, message);
    }
    let length = if rng.chance(20) { message_len(rng, 100_000) } else { below(rng, 200) };
    match rng.below(4) {
        0 => {
            let ping = random_bytes(rng, length.min(125));
            let frame = encoder::ping(&ping);
            (Item::Ping(ping.clone()), frame, tungstenite::Message::Ping(ping.into()))
        }
        1 => {
            let pong = random_bytes(rng, length.min(125));
            let frame = encoder::pong(Bytes::from(pong.clone()));
            (Item::Pong(pong.clone()), frame, tungstenite::Message::Pong(pong.into()))
        }
        2 => {
            let text = String::from_utf8(random_text(rng, length)).unwrap();
            let message = Message::text(text.clone());
            let frame = encoder::message(message.clone());
            (Item::Message(message), frame, tungstenite::Message::text(text))
        }
        _ => {
            let bytes = random_bytes(rng, length);
            let message = Message::from(&bytes[..]);
            let frame = encoder::message(message.clone());
            (Item::Message(message), frame, tungstenite::Message::binary(bytes))
        }
    }
}

fn below(rng: &mut Rng, n: usize) -> usize {
    rng.below(n as u64) as usize
}

/// What is wrong with a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// One thing in the last frame.
    Known,
    /// A few bits anywhere.
    Flipped,
}

/// What a peer sends: whole frames, the last of which may be cut off.
struct Sequence {
    /// The side that reads it.
    role: Role,
    bytes: Vec<u8>,
    /// What is missing of the last frame.
    rest: Vec<u8>,
    limits: Limits,
    fault: Fault,
    /// The violation, where it is certain.
    expected: Option<Violation>,
}

/// The fragmented message in progress, as the generator knows it.
struct Open {
    /// The rest of the text, or `None` for bytes.
    text: Option<Vec<u8>>,
    received: usize,
}

impl Sequence {
    fn random(role: Role, rng: &mut Rng) -> Sequence {
        // Room for any control frame, which tungstenite measures by the same limit. In a few
        // sequences there are lengths that take eight bytes, and payloads read in place.
        let message_bytes = if rng.chance(1) { 150_000 } else { 126 + rng.below(300) };
        let limits = Limits { message_bytes, fragments: 64 };
        let fault = match rng.below(20) {
            0..11 => Fault::None,
            11..17 => Fault::Known,
            _ => Fault::Flipped,
        };
        let (bytes, rest) = (Vec::new(), Vec::new());
        let mut sequence = Sequence { role, bytes, rest, limits, fault, expected: None };
        let mut open = None;
        let most = if message_bytes > 1000 { 3 } else { 12 };
        for _ in 0..below(rng, most) {
            sequence.push_frame(rng, &mut open);
        }
        match fault {
            Fault::Known => {
                let start = sequence.bytes.len();
                sequence.push_fault(rng, open.as_ref());
                if rng.chance(20) {
                    let length = sequence.bytes.len() - start;
                    sequence.rest = sequence.bytes.split_off(start + below(rng, length));
                    sequence.expected = None;
                }
            }
            Fault::Flipped if !sequence.bytes.is_empty() => {
                for _ in 0..=rng.below(3) {
                    let index = below(rng, sequence.bytes.len());
                    sequence.bytes[index] ^= 1 << rng.below(8);
                }
                // A frame that now is longer may be missing anything; a length of ones is minimal.
                sequence.rest = vec![1; 16 + message_bytes as usize];
            }
            _ if rng.chance(5) => sequence.push(rng, FIN | CLOSE, b""),
            _ if rng.chance(20) => sequence.push_close(rng, &ALLOWED_CODES, b""),
            _ => {}
        }
        sequence
    }

    /// Adds a frame that may stand here.
    fn push_frame(&mut self, rng: &mut Rng, open: &mut Option<Open>) {
        if rng.chance(20) {
            let opcode = if rng.chance(50) { PING } else { PONG };
            let length = below(rng, 126);
            let payload = random_bytes(rng, length);
            return self.push(rng, FIN | opcode, &payload);
        }
        let limit = self.limits.message_bytes as usize;
        let Some(message) = open else {
            let length = message_len(rng, limit);
            let text = rng.chance(60).then(|| random_text(rng, length));
            let is_whole = rng.chance(50);
            let first = if text.is_some() { TEXT } else { BINARY };
            let mut message = Open { text, received: 0 };
            if is_whole {
                let payload = message.text.take().unwrap_or_else(|| random_bytes(rng, length));
                return self.push(rng, FIN | first, &payload);
            }
            let payload = message.next(rng, limit);
            self.push(rng, first, &payload);
            *open = Some(message);
            return;
        };
        if rng.chance(40) {
            let payload = message.last(rng, limit);
            self.push(rng, FIN | CONTINUATION, &payload);
            *open = None;
        } else {
            let payload = message.next(rng, limit);
            self.push(rng, CONTINUATION, &payload);
        }
    }

    /// Adds a frame with one fault.
    fn push_fault(&mut self, rng: &mut Rng, open: Option<&Open>) {
        let limit = self.limits.message_bytes as usize;
        let received = open.map_or(0, |message| message.received);
        let opcode = if open.is_some() { CONTINUATION } else { BINARY };
        let violation = match rng.below(13) {
            0 => {
                let rsv = [0x40, 0x20, 0x10][below(rng, 3)];
                self.push(rng, FIN | rsv | opcode, b"");
                Violation::Rsv
            }
            1 => {
                let reserved = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15][below(rng, 10)];
                self.push(rng, FIN | reserved, b"");
                Violation::Opcode
            }
            2 => {
                match self.role {
                    Role::Server => self.push_to(Role::Client, rng, FIN | PING, b"hi"),
                    Role::Client => self.push_to(Role::Server, rng, FIN | PING, b"hi"),
                }
                match self.role {
                    Role::Server => Violation::Unmasked,
                    Role::Client => Violation::Masked,
                }
            }
            3 => {
                self.push(rng, FIN | PING, &[0; 126]);
                Violation::ControlTooLong
            }
            4 => {
                let opcode = [PING, PONG, CLOSE][below(rng, 3)];
                self.push(rng, opcode, b"");
                Violation::ControlFragmented
            }
            5 => {
                let length = rng.below(126) as u8;
                match self.role {
                    Role::Server => self.bytes.extend([FIN | opcode, 0xfe, 0, length, 0, 0, 0, 0]),
                    Role::Client => self.bytes.extend([FIN | opcode, 0x7e, 0, length]),
                }
                self.bytes.resize(self.bytes.len() + usize::from(length), 0);
                Violation::Length
            }
            6 if open.is_some() => {
                self.push(rng, FIN | TEXT, b"new");
                Violation::StartInsideMessage
            }
            6 => {
                self.push(rng, FIN | CONTINUATION, b"rest");
                Violation::ContinuationWithoutStart
            }
            7 => {
                self.push_close(rng, &FORBIDDEN_CODES, b"");
                Violation::CloseCode
            }
            8 => {
                self.push(rng, FIN | CLOSE, b"x");
                Violation::ClosePayload
            }
            9 => {
                let tail = WRONG_TEXT[below(rng, WRONG_TEXT.len())];
                self.push_close(rng, &ALLOWED_CODES, tail);
                Violation::Utf8
            }
            10 if open.is_none() => {
                let length = below(rng, limit - 3);
                let mut text = random_text(rng, length);
                text.extend(WRONG_TEXT[below(rng, WRONG_TEXT.len())]);
                self.push(rng, FIN | TEXT, &text);
                Violation::Utf8
            }
            10 if open.is_some_and(|open| open.text.is_some() && received < limit) => {
                // Wrong even if the last fragment ended inside a character.
                self.push(rng, CONTINUATION, b"\xff");
                Violation::Utf8
            }
            11 => {
                for _ in 0..self.limits.fragments {
                    self.push(rng, CONTINUATION, b"");
                }
                if open.is_some() {
                    Violation::Fragments
                } else {
                    Violation::ContinuationWithoutStart
                }
            }
            _ => {
                let length = limit - received + 1;
                self.push(rng, FIN | opcode, &vec![b'.'; length]);
                Violation::TooBig
            }
        };
        self.expected = Some(violation);
    }

    /// Adds a close frame with one of the codes, and `tail` behind a random reason.
    fn push_close(&mut self, rng: &mut Rng, codes: &[u16], tail: &[u8]) {
        let code = codes[below(rng, codes.len())].to_be_bytes();
        let length = below(rng, 124 - tail.len());
        let reason = random_text(rng, length);
        self.push(rng, FIN | CLOSE, &[&code, &reason[..], tail].concat());
    }

    /// Adds a frame.
    fn push(&mut self, rng: &mut Rng, first: u8, payload: &[u8]) {
        self.push_to(self.role, rng, first, payload);
    }

    /// Adds a frame as this side reads it: with a random mask to a server, with none to a client.
    fn push_to(&mut self, role: Role, rng: &mut Rng, first: u8, payload: &[u8]) {
        let length = payload.len();
        let masked = if role == Role::Server { 0x80 } else { 0 };
        match length {
            0..=125 => self.bytes.extend([first, masked | length as u8]),
            126..=0xffff => {
                self.bytes.extend([first, masked | 0x7e]);
                self.bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                self.bytes.extend([first, masked | 0x7f]);
                self.bytes.extend((length as u64).to_be_bytes());
            }
        }
        if role == Role::Client {
            return self.bytes.extend(payload);
        }
        let mask = if rng.chance(5) { [0; 4] } else { (rng.next_u64() as u32).to_be_bytes() };
        self.bytes.extend(mask);
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

impl Open {
    /// Gives the payload of a fragment in the middle; text is cut anywhere.
    fn next(&mut self, rng: &mut Rng, limit: usize) -> Vec<u8> {
        let payload = match &mut self.text {
            Some(text) => {
                let length = below(rng, text.len() + 1);
                text.drain(..length).collect()
            }
            None => {
                let length = below(rng, limit - self.received + 1);
                random_bytes(rng, length)
            }
        };
        self.received += payload.len();
        payload
    }

    /// Gives the payload of the last fragment.
    fn last(&mut self, rng: &mut Rng, limit: usize) -> Vec<u8> {
        match self.text.take() {
            Some(text) => text,
            None => self.next(rng, limit),
        }
    }
}

/// Draws a length: often one at which something changes.
fn message_len(rng: &mut Rng, limit: usize) -> usize {
    let edges = [0, 1, 125, 126, 127, 65_535, 65_536, limit - 1, limit];
    match rng.below(3) {
        0 => edges[below(rng, edges.len())].min(limit),
        1 => below(rng, limit.min(16)),
        _ => below(rng, limit + 1),
    }
}

fn random_bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes text of exactly so many bytes, with characters of one to four.
fn random_text(rng: &mut Rng, length: usize) -> Vec<u8> {
    const CHARACTERS: [&str; 8] =
        ["a", "\u{7f}", "\u{80}", "ß", "\u{800}", "水", "\u{ffff}", "\u{10ffff}"];
    let mut text = Vec::with_capacity(length);
    while text.len() < length {
        let character = CHARACTERS[below(rng, CHARACTERS.len())];
        if text.len() + character.len() <= length {
            text.extend(character.as_bytes());
        } else {
            text.push(b'.');
        }
    }
    text
}

const ALLOWED_CODES: [u16; 10] = [1000, 1001, 1003, 1007, 1011, 1013, 3000, 3999, 4000, 4999];
const FORBIDDEN_CODES: [u16; 10] = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];

/// Never UTF-8 behind whole characters: overlong, surrogates, too large, cut off.
const WRONG_TEXT: [&[u8]; 10] = [
    b"\xff",
    b"\x80",
    b"\xc0\x80",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc3",
    b"\xe6\xb0",
    b"\xf0\x9f\x98",
];

const CONTINUATION: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const CLOSE: u8 = 0x08;
const PING: u8 = 0x09;
const PONG: u8 = 0x0a;
const FIN: u8 = 0x80;
