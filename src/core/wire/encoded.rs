//! A payload inside a text: what stands around it, and how its bytes are written there.
//!
//! In JSON a payload of control characters is six times as long, on an event stream one of line
//! feeds seven times. So a large payload is not encoded at once: its length is computed beforehand,
//! and the text is written piece by piece, from the payload that all share, as a socket takes it.

use tungstenite::Bytes;

use crate::core::ground::{base64, json};
use crate::core::wire::frame;

/// How the bytes of a payload are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Plain,
    /// As the content of a JSON string.
    Json,
    /// As lines of `data:`. Each line but the first begins with that name.
    Lines,
    /// As base64.
    Base64,
}

/// What stands around a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around {
    /// What stands before it.
    pub head: Vec<u8>,
    /// How it is written.
    pub coding: Coding,
    /// What stands behind it.
    pub tail: &'static str,
}

/// A payload with what stands around it. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Encoded {
    head: Bytes,
    payload: Bytes,
    coding: Coding,
    /// The length of the payload as it is written.
    coded_len: usize,
    tail: Bytes,
}

/// How far the payload has been written: `coded` bytes of the text are `raw` bytes of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    raw: usize,
    coded: usize,
}

impl Around {
    /// Writes the whole text at once.
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let len = self.head.len() + self.coding.len_of(payload) + self.tail.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&self.head);
        self.coding.write(payload, 0, usize::MAX, &mut out);
        out.extend_from_slice(self.tail.as_bytes());
        debug_assert_eq!(out.len(), len);
        out
    }
}

impl Encoded {
    /// Puts a text around a payload. This looks at each byte of the payload once, and copies none.
    pub fn new(around: Around, payload: Bytes) -> Encoded {
        let Around { head, coding, tail } = around;
        let coded_len = coding.len_of(&payload);
        // Most texts have nothing that must be escaped: such a payload is sent as it is.
        let is_plain = coding != Coding::Base64 && coded_len == payload.len();
        Encoded {
            head: head.into(),
            payload,
            coding: if is_plain { Coding::Plain } else { coding },
            coded_len,
            tail: Bytes::from_static(tail.as_bytes()),
        }
    }

    /// Returns the length of the whole text in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.coded_len + self.tail.len()
    }

    /// Returns whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the text as a chunk of an HTTP body (RFC 9112, 7.1); behind the last chunk the body
    /// ends.
    pub fn into_chunk(self, is_last: bool) -> Encoded {
        let end: &[u8] = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        let tail = [&self.tail, end].concat().into();
        let size = format!("{:x}\r\n", self.len());
        Encoded { tail, ..self.behind(size.as_bytes()) }
    }

    /// Returns the text that [`Encoded::into_chunk`] made a chunk of: the bytes stay shared.
    pub fn without_chunk(&self) -> Encoded {
        let head = self.head.slice(frame::size_len(&self.head)..);
        let tail = self.tail.slice(..self.tail.len().saturating_sub(b"\r\n".len()));
        Encoded { head, tail, ..self.clone() }
    }

    /// Returns this text with `text` in front.
    pub fn behind(self, text: &[u8]) -> Encoded {
        Encoded { head: [text, &self.head].concat().into(), ..self }
    }

    /// Writes the whole text at once.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.len());
        self.write(&mut out);
        out.into()
    }

    /// Appends the whole text at once.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        self.coding.write(&self.payload, 0, usize::MAX, out);
        out.extend_from_slice(&self.tail);
    }

    /// Returns what stands before the payload.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Returns the payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns how the payload is written.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Returns the length of the payload as it is written, in bytes.
    pub fn coded_len(&self) -> usize {
        self.coded_len
    }

    /// Returns what stands behind the payload.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Returns the bytes of memory that this text has of its own, without the payload.
    pub fn own_bytes(&self) -> usize {
        size_of::<Encoded>() + self.head.len() + self.tail.len()
    }

    /// Lends the payload as it is written, from its byte `from` on, about `room` bytes of it.
    /// `cursor` is a place at or before `from`. The bytes are written into `scratch`.
    pub fn piece<'a>(
        &self,
        cursor: Cursor,
        from: usize,
        room: usize,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        scratch.clear();
        let gone = from - cursor.coded;
        self.coding.write(&self.payload, cursor.raw, gone.saturating_add(room), scratch);
        &scratch[gone.min(scratch.len())..]
    }

    /// Moves a cursor on, to `coded` or just before it: a byte of the payload is written whole, or
    /// not at all.
    pub fn advance(&self, cursor: &mut Cursor, coded: usize) {
        let (raw, len) = self.coding.pass(&self.payload, cursor.raw, coded - cursor.coded);
        cursor.raw += raw;
        cursor.coded += len;
    }
}

impl Coding {
    /// Returns the length of a payload when it is written, in bytes.
    pub fn len_of(self, payload: &[u8]) -> usize {
        match self {
            Coding::Plain => payload.len(),
            Coding::Json => payload.len() + json::escapes_len(payload),
            Coding::Lines => {
                let behind = payload.get(1..).unwrap_or_default();
                let is_break = |(byte, _): (&u8, &u8)| is_break(byte);
                let is_pair = |(byte, next): (&u8, &u8)| (*byte == b'\r') & (*next == b'\n');
                let breaks = count(payload, payload, is_break);
                let pairs = count(payload, behind, is_pair);
                payload.len() - breaks + (breaks - pairs) * NEXT_LINE.len()
            }
            Coding::Base64 => base64::len(payload.len()),
        }
    }

    /// Writes a payload from its byte `at` on, about `room` bytes.
    fn write(self, payload: &[u8], at: usize, room: usize, out: &mut Vec<u8>) {
        let end = out.len().saturating_add(room);
        let mut rest = &payload[at..];
        match self {
            Coding::Plain => out.extend_from_slice(&rest[..rest.len().min(room)]),
            Coding::Json | Coding::Lines => {
                while !rest.is_empty() && out.len() < end {
                    // Special bytes often come in rows.
                    if self.is_special(&rest[0]) {
                        rest = &rest[self.write_special(rest, out)..];
                        continue;
                    }
                    let near = &rest[..rest.len().min(end - out.len())];
                    let run = near.iter().position(|byte| self.is_special(byte));
                    let (plain, behind) = rest.split_at(run.unwrap_or(near.len()));
                    out.extend_from_slice(plain);
                    rest = behind;
                }
            }
            Coding::Base64 => {
                let whole = rest.len() / 3 * 3;
                let most = room.div_ceil(4).saturating_mul(3);
                let near = if most > whole { rest } else { &rest[..most] };
                base64::append(out, near);
            }
        }
    }

    /// Returns how many bytes of the payload from `at` on fit into `most` written bytes, and how
    /// many written bytes they are.
    fn pass(self, payload: &[u8], at: usize, most: usize) -> (usize, usize) {
        let rest = &payload[at..];
        match self {
            Coding::Plain => (most.min(rest.len()), most.min(rest.len())),
            Coding::Base64 if most / 4 >= rest.len().div_ceil(3) => {
                (rest.len(), rest.len().div_ceil(3) * 4)
            }
            Coding::Base64 => (most / 4 * 3, most / 4 * 4),
            Coding::Json | Coding::Lines => {
                let (mut raw, mut coded) = (0, 0);
                while raw < rest.len() {
                    let (used, len) = self.unit(&rest[raw..]);
                    if coded + len > most {
                        break;
                    }
                    raw += used;
                    coded += len;
                }
                (raw, coded)
            }
        }
    }

    fn is_special(self, byte: &u8) -> bool {
        match self {
            Coding::Json => json::escape(*byte).is_some(),
            _ => is_break(byte),
        }
    }

    /// Writes the replacement of the first byte, or of CRLF; returns how many bytes it replaces.
    fn write_special(self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        match self {
            Coding::Json => {
                let escape = json::escape(rest[0]);
                match escape.as_ref().map_or(&rest[..1], |escape| escape.bytes()) {
                    &[slash, letter] => out.extend([slash, letter]),
                    bytes => out.extend_from_slice(bytes),
                }
            }
            _ => out.extend_from_slice(NEXT_LINE),
        }
        self.unit(rest).0
    }

    /// Returns how many bytes are written as one, and how many written bytes that makes.
    fn unit(self, rest: &[u8]) -> (usize, usize) {
        match self {
            Coding::Json => (1, json::escape(rest[0]).map_or(1, |escape| escape.bytes().len())),
            Coding::Lines if rest.starts_with(b"\r\n") => (2, NEXT_LINE.len()),
            Coding::Lines if is_break(&rest[0]) => (1, NEXT_LINE.len()),
            _ => (1, 1),
        }
    }
}

/// Counts the pairs of two texts for which `is_so` holds, in parts whose counts fit a byte: then
/// one instruction handles many bytes.
fn count(one: &[u8], other: &[u8], is_so: impl Fn((&u8, &u8)) -> bool) -> usize {
    let parts = one.chunks(255).zip(other.chunks(255));
    let in_part = |(one, other): (&[u8], &[u8])| {
        one.iter().zip(other).map(|pair| u8::from(is_so(pair))).sum::<u8>()
    };
    parts.map(|part| usize::from(in_part(part))).sum()
}

fn is_break(byte: &u8) -> bool {
    (*byte == b'\r') | (*byte == b'\n')
}

const NEXT_LINE: &[u8] = b"\ndata: ";

#[cfg(test)]
mod tests {
    use super::*;

    const CODINGS: [Coding; 4] = [Coding::Plain, Coding::Json, Coding::Lines, Coding::Base64];

    fn around(coding: Coding) -> Around {
        Around { head: "<".into(), coding, tail: ">" }
    }

    fn payloads() -> Vec<Vec<u8>> {
        let all: Vec<u8> = (0..=255).collect();
        let breaks = b"\r\n\n\r\r\n\r\r\n\na\r".repeat(3);
        vec![vec![], b"plain".to_vec(), vec![1; 50], vec![b'\n'; 50], all, breaks, vec![7; 1000]]
    }

    /// A text written in pieces of any size, with cursors anywhere between, equals the whole text.
    #[test]
    fn pieces_make_the_text_that_is_written_at_once() {
        for coding in CODINGS {
            for payload in payloads() {
                let whole = around(coding).encode(&payload);
                let encoded = Encoded::new(around(coding), payload.into());
                assert_eq!((&encoded.to_bytes()[..], encoded.len()), (&whole[..], whole.len()));
                let body = &whole[1..whole.len() - 1];
                for (room, taken) in [(1, 1), (4, 3), (64, 61), (4096, 4096)] {
                    let (mut cursor, mut scratch, mut got) = (Cursor::default(), vec![], vec![]);
                    while got.len() < encoded.coded_len() {
                        let piece = encoded.piece(cursor, got.len(), room, &mut scratch);
                        assert!(!piece.is_empty() && piece.len() < room + 7, "{coding:?}");
                        got.extend_from_slice(&piece[..piece.len().min(taken)]);
                        encoded.advance(&mut cursor, got.len());
                        assert!(got.len() - cursor.coded < 7, "{coding:?} {cursor:?}");
                    }
                    assert_eq!(got, body, "{coding:?} {room}");
                }
            }
        }
    }

    #[test]
    fn what_needs_no_escape_is_sent_as_it_lies_there() {
        let text = Bytes::from_static("größe".as_bytes());
        for coding in [Coding::Json, Coding::Lines] {
            let encoded = Encoded::new(around(coding), text.clone());
            assert_eq!(encoded.coding(), Coding::Plain);
            assert_eq!(encoded.payload().as_ptr(), text.as_ptr());
        }
        let encoded = Encoded::new(around(Coding::Base64), Bytes::new());
        assert_eq!((encoded.coding(), encoded.len()), (Coding::Base64, 2));
    }

    #[test]
    fn a_chunk_bears_its_length_and_the_last_one_the_end() {
        let encoded = Encoded::new(around(Coding::Json), Bytes::from_static(&[1, 1, 1]));
        let text = r"<\u0001\u0001\u0001>";
        assert_eq!(encoded.clone().into_chunk(false).to_bytes(), format!("14\r\n{text}\r\n"));
        let last = format!("14\r\n{text}\r\n0\r\n\r\n");
        assert_eq!(encoded.into_chunk(true).to_bytes(), last);
    }
}
