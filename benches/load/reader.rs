//! What a server sends: understood by headers, counted by bytes.
//!
//! Nothing is copied but a header that came in pieces and the payload of a control frame. Payloads
//! of messages are handed on as they lie in the read buffer, for whoever wants to look at them.

use std::fmt;

/// Reads frames, or bare bytes, in any pieces.
#[derive(Debug)]
pub struct Reader {
    framing: Framing,
    /// The present header, as far as it has come.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    /// The first byte of the present frame.
    first: u8,
    /// Bytes of the present frame, or bare message, that are still to come.
    left: u64,
    /// Bytes of the present message that have come.
    message_bytes: u64,
    /// The payload of the present control frame, as far as it has come.
    control: Vec<u8>,
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    WebSocket,
    /// Bare bytes: each message has this many, not 0.
    Bytes(u64),
}

/// What was found in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of a message, which begin at this place in it.
    Part {
        bytes: &'a [u8],
        at: u64,
        is_last: bool,
    },
    /// A ping, with its payload.
    Ping(Vec<u8>),
    Pong,
    /// A close frame, with its code; 1005 if it bears none.
    Close(u16),
}

/// What no server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    Masked,
    ReservedBits,
    LongControl,
    UnknownOpcode,
}

impl Reader {
    pub fn new(framing: Framing) -> Reader {
        let left = match framing {
            Framing::WebSocket => 0,
            Framing::Bytes(size) => size,
        };
        Reader {
            framing,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            first: 0,
            left,
            message_bytes: 0,
            control: Vec::new(),
        }
    }

    /// Takes the next piece off the front of `bytes`. `None` when more must come first; then all
    /// bytes are taken.
    ///
    /// # Errors
    ///
    /// If a server may not send this. Nothing can be read behind it.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Violation> {
        if let Framing::Bytes(size) = self.framing {
            return Ok(self.next_bare(size, bytes));
        }
        loop {
            if self.header_len > 0 || self.left == 0 {
                if !self.read_header(bytes)? {
                    return Ok(None);
                }
            } else if bytes.is_empty() {
                return Ok(None);
            }
            if self.first & CONTROL == 0 {
                return Ok(Some(self.take_part(bytes)));
            }
            let part = self.take(bytes);
            self.control.extend_from_slice(part);
            if self.left == 0 {
                return Ok(Some(self.end_control()));
            }
        }
    }

    fn next_bare<'a>(&mut self, size: u64, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if bytes.is_empty() {
            return None;
        }
        self.first = FIN;
        let piece = self.take_part(bytes);
        if self.left == 0 {
            self.left = size;
        }
        Some(piece)
    }

    /// Reads a header. Says whether it is complete.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<bool, Violation> {
        loop {
            let header = &self.header[..self.header_len];
            let wanted = match header.get(1).map(|short| short & 0x7f) {
                None => 2,
                Some(126) => 4,
                Some(127) => 10,
                Some(_) => 2,
            };
            if header.len() == wanted {
                break;
            }
            let Some((&next, rest)) = bytes.split_first() else { return Ok(false) };
            self.header[self.header_len] = next;
            self.header_len += 1;
            *bytes = rest;
        }
        self.left = match self.header_len {
            4 => u16::from_be_bytes([self.header[2], self.header[3]]).into(),
            10 => u64::from_be_bytes(self.header[2..].try_into().expect("eight bytes")),
            _ => u64::from(self.header[1] & 0x7f),
        };
        self.first = self.header[0];
        self.header_len = 0;
        self.check()?;
        Ok(true)
    }

    fn check(&self) -> Result<(), Violation> {
        if self.header[1] & 0x80 != 0 {
            return Err(Violation::Masked);
        }
        if self.first & RESERVED != 0 {
            return Err(Violation::ReservedBits);
        }
        match self.first & OPCODE {
            CLOSE | PING | PONG if self.left > 125 => Err(Violation::LongControl),
            0..=2 | CLOSE | PING | PONG => Ok(()),
            _ => Err(Violation::UnknownOpcode),
        }
    }

    /// Takes what there is of the present message. A frame without a payload is a part, too.
    fn take_part<'a>(&mut self, bytes: &mut &'a [u8]) -> Piece<'a> {
        let part = self.take(bytes);
        let at = self.message_bytes;
        let is_last = self.left == 0 && self.first & FIN != 0;
        self.message_bytes = if is_last { 0 } else { at + part.len() as u64 };
        Piece::Part { bytes: part, at, is_last }
    }

    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (part, rest) = bytes.split_at(length);
        *bytes = rest;
        self.left -= length as u64;
        part
    }

    fn end_control(&mut self) -> Piece<'static> {
        let payload = std::mem::take(&mut self.control);
        match (self.first & OPCODE, &payload[..]) {
            (PING, _) => Piece::Ping(payload),
            (PONG, _) => Piece::Pong,
            (_, [high, low, ..]) => Piece::Close(u16::from_be_bytes([*high, *low])),
            _ => Piece::Close(1005),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::Masked => "a frame with a mask",
            Violation::ReservedBits => "a frame with reserved bits",
            Violation::LongControl => "a control frame of more than 125 bytes",
            Violation::UnknownOpcode => "a frame with an unknown opcode",
        })
    }
}

const HEADER_BYTES_MAX: usize = 10;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    /// Reads bytes in pieces of a length; gives messages by length and everything else by name.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> Result<Vec<String>, Violation> {
        let mut reader = Reader::new(framing);
        let mut found = Vec::new();
        let mut payload = Vec::new();
        for mut chunk in bytes.chunks(piece) {
            while let Some(piece) = reader.next(&mut chunk)? {
                match piece {
                    Piece::Part { bytes, at, is_last } => {
                        assert_eq!(at, payload.len() as u64);
                        payload.extend_from_slice(bytes);
                        if is_last {
                            found.push(format!("message {}", payload.len()));
                            payload.clear();
                        }
                    }
                    other => found.push(format!("{other:?}")),
                }
            }
            assert!(chunk.is_empty());
        }
        Ok(found)
    }

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(length as u8),
            126..65_536 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length, b'x');
        frame
    }

    #[test]
    fn frames_in_any_pieces_are_the_same_messages() {
        let lengths = [0, 1, 125, 126, 65_535, 65_536];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(0x82, *length)).collect();
        let expected: Vec<_> = lengths.iter().map(|length| format!("message {length}")).collect();
        for piece in [1, 2, 3, 7, 4096, bytes.len()] {
            assert_eq!(read(Framing::WebSocket, &bytes, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn fragments_are_one_message_and_a_ping_may_stand_between() {
        let bytes =
            [frame(0x01, 3), frame(0x89, 2), frame(0x00, 0), frame(0x80, 4), frame(0x8a, 0)];
        let bytes = bytes.concat();
        for piece in 1..bytes.len() {
            let found = read(Framing::WebSocket, &bytes, piece).unwrap();
            assert_eq!(found, ["Ping([120, 120])", "message 7", "Pong"]);
        }
    }

    #[test]
    fn a_close_frame_tells_its_code() {
        assert_eq!(read(Framing::WebSocket, &[0x88, 2, 3, 0xe8], 1).unwrap(), ["Close(1000)"]);
        assert_eq!(read(Framing::WebSocket, &[0x88, 0], 2).unwrap(), ["Close(1005)"]);
    }

    #[test]
    fn bare_bytes_are_messages_of_their_size() {
        let found = read(Framing::Bytes(10), &[0; 35], 4).unwrap();
        assert_eq!(found, ["message 10", "message 10", "message 10"]);
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        for (bytes, violation) in [
            (&[0x82, 0x81][..], Violation::Masked),
            (&[0xc2, 1], Violation::ReservedBits),
            (&[0x89, 126, 0, 126], Violation::LongControl),
            (&[0x83, 0], Violation::UnknownOpcode),
        ] {
            assert_eq!(read(Framing::WebSocket, bytes, 1), Err(violation));
        }
    }
}
