//! The header of one frame from a client (RFC 6455, 5.2).
//!
//! tungstenite reads the length and the mask. What it leaves to its caller is checked here, as far
//! as one frame alone can show it; the order and the size of frames are the decoder's business.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;

use super::{Control, Violation};

/// A header that is right in itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub opcode: Opcode,
    pub is_final: bool,
    pub mask: [u8; 4],
    /// Below 2^63.
    pub length: u64,
}

/// What a frame bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Header {
    /// The longest header: two bytes, eight of length, four of mask.
    pub const BYTES_MAX: usize = 14;

    /// Parses the header at the front of `bytes`. Returns it and its length, or `None` if more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// What the first two bytes get wrong is told as soon as they are there.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        let (opcode, is_final) = parse_start(first, second)?;
        let short = second & 0x7f;
        if short <= SHORT_MAX {
            // Small frames come in masses. These need no more than this.
            let Some(&mask) = bytes[2..].first_chunk() else { return Ok(None) };
            let header = Header { opcode, is_final, mask, length: short.into() };
            return Ok(Some((header, SHORT_HEADER_BYTES)));
        }
        let mut cursor = Cursor::new(bytes);
        // The opcode is all that the parser refuses.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Opcode)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let size = cursor.position() as usize;
        // RFC 6455, 5.2: the minimal number of bytes must be used, and the top bit must be 0.
        if header.len(length) != size || length >> 63 != 0 {
            return Err(Violation::Length);
        }
        let mask = header.mask.ok_or(Violation::Unmasked)?;
        Ok(Some((Header { opcode, is_final, mask, length }, size)))
    }
}

impl Opcode {
    /// Says whether the frame may stand inside a message.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The first bytes of a header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spill {
    bytes: [u8; Header::BYTES_MAX],
    length: u8,
}

impl Spill {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds as much of the input as a header can need.
    pub fn append(&mut self, input: &[u8]) {
        let room = &mut self.bytes[usize::from(self.length)..];
        let taken = room.len().min(input.len());
        room[..taken].copy_from_slice(&input[..taken]);
        self.length += taken as u8;
    }
}

/// Skips the frames at the front of the input, up to one that closes, is not short or not whole.
///
/// # Errors
///
/// As for [`Header::parse`].
pub(super) fn skip_short_frames(input: &mut &mut [u8]) -> Result<(), Violation> {
    while let [first, second, ..] = **input {
        let (opcode, _) = parse_start(first, second)?;
        let length = second & 0x7f;
        let size = SHORT_HEADER_BYTES + usize::from(length);
        if opcode == Opcode::Close || length > SHORT_MAX || size > input.len() {
            break;
        }
        take(input, size);
    }
    Ok(())
}

/// The longest length that the second byte tells by itself.
const SHORT_MAX: u8 = 125;
/// The header of a frame of such a length: two bytes and the mask.
const SHORT_HEADER_BYTES: usize = 6;

/// Parses what the first two bytes say by themselves.
fn parse_start(first: u8, second: u8) -> Result<(Opcode, bool), Violation> {
    if first & 0x70 != 0 {
        return Err(Violation::Rsv);
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Violation::Opcode),
    };
    let is_final = first & 0x80 != 0;
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    if opcode.is_control() {
        if !is_final {
            return Err(Violation::ControlFragmented);
        }
        if usize::from(second & 0x7f) > Control::BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
    }
    Ok((opcode, is_final))
}

/// Takes bytes from the front of the input, which has them.
pub(super) fn take<'a>(input: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    input.split_off_mut(..length).expect("the input is as long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bytes: &[u8]) -> Option<Violation> {
        Header::parse(bytes).err()
    }

    #[test]
    fn two_bytes_are_enough_to_refuse() {
        for rsv in [0x40, 0x20, 0x10, 0x70] {
            assert_eq!(verdict(&[0x81 | rsv, 0x80]), Some(Violation::Rsv));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(verdict(&[0x80 | opcode, 0x80]), Some(Violation::Opcode));
        }
        for opcode in [0, 1, 2, 8, 9, 10] {
            assert_eq!(verdict(&[0x80 | opcode, 0x01]), Some(Violation::Unmasked));
            assert_eq!(verdict(&[0x80 | opcode, 0x80]), None);
        }
        for opcode in [8, 9, 10] {
            assert_eq!(verdict(&[opcode, 0x80]), Some(Violation::ControlFragmented));
            assert_eq!(verdict(&[0x80 | opcode, 0xfd]), None);
            assert_eq!(verdict(&[0x80 | opcode, 0xfe]), Some(Violation::ControlTooLong));
            assert_eq!(verdict(&[0x80 | opcode, 0xff]), Some(Violation::ControlTooLong));
        }
    }

    #[test]
    fn lengths_have_one_form_each() {
        let short = |length: u16| [&[0x82, 0xfe][..], &length.to_be_bytes(), &[0; 4]].concat();
        let long = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        for length in [0, 1, 125] {
            assert_eq!(verdict(&short(length)), Some(Violation::Length), "{length}");
        }
        for length in [0, 125, 126, 65_535, 1 << 63, u64::MAX] {
            assert_eq!(verdict(&long(length)), Some(Violation::Length), "{length}");
        }
        for length in [126, 65_535] {
            let (header, size) = Header::parse(&short(length)).unwrap().unwrap();
            assert_eq!((header.length, size), (length.into(), 8));
        }
        for length in [65_536, (1 << 63) - 1] {
            let (header, size) = Header::parse(&long(length)).unwrap().unwrap();
            assert_eq!((header.length, size), (length, Header::BYTES_MAX));
        }
    }

    #[test]
    fn a_part_of_a_header_is_none() {
        let header = [0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for length in 0..header.len() {
            assert!(Header::parse(&header[..length]).unwrap().is_none(), "{length}");
        }
        let (header, _) = Header::parse(&header).unwrap().unwrap();
        assert_eq!(header.mask, [1, 2, 3, 4]);
        assert!(!header.is_final);
    }
}
