//! The header of one frame that was received (RFC 6455, 5.2).
//!
//! tungstenite reads the length and the mask. This module checks what it leaves to its caller, as
//! far as one frame alone shows it; the decoder checks the order and the size of frames.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;

use super::{Control, Role, Violation};

/// A header that is valid in itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub opcode: Opcode,
    pub is_final: bool,
    /// The first frame of a compressed message (RFC 7692, 6).
    #[cfg(feature = "deflate")]
    pub is_compressed: bool,
    /// Zero in a frame from a server: unmasking then changes nothing.
    pub mask: [u8; 4],
    /// Below 2^63.
    pub length: u64,
}

/// Which of the reserved bits may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    /// None: no extension was agreed on.
    None,
    /// RSV1 on the first frame of a message, which is compressed then.
    #[cfg(feature = "deflate")]
    Compressed,
}

/// What a frame carries.
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
    /// The longest header, a client's: two bytes, eight of length, four of mask.
    pub const BYTES_MAX: usize = 14;

    /// Parses the header at the front of `bytes`, for the side `role` that receives it. Returns the
    /// header and its length, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// An error in the first two bytes is reported as soon as they are there.
    #[inline]
    pub fn parse(role: Role, bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        Header::parse_with(role, Reserved::None, bytes)
    }

    /// Parses as [`Header::parse`] does, where more bits may have been agreed on.
    #[inline]
    pub fn parse_with(
        role: Role,
        reserved: Reserved,
        bytes: &[u8],
    ) -> Result<Option<(Header, usize)>, Violation> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        let (opcode, is_final) = parse_start(role, reserved, first, second)?;
        #[cfg(feature = "deflate")]
        let is_compressed = first & RSV1 != 0;
        let short = second & 0x7f;
        if short <= SHORT_MAX {
            // Small frames come in masses, and need no more than this.
            let mask = match role {
                Role::Server => bytes[2..].first_chunk().copied(),
                Role::Client => Some([0; 4]),
            };
            let Some(mask) = mask else { return Ok(None) };
            let header = Header {
                opcode,
                is_final,
                #[cfg(feature = "deflate")]
                is_compressed,
                mask,
                length: short.into(),
            };
            return Ok(Some((header, short_header_bytes(role))));
        }
        let mut cursor = Cursor::new(bytes);
        // The parser refuses nothing but the opcode.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Opcode)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let size = cursor.position() as usize;
        // RFC 6455, 5.2: the minimal number of bytes must be used, and the top bit must be 0.
        if header.len(length) != size || length >> 63 != 0 {
            return Err(Violation::Length);
        }
        let mask = header.mask.unwrap_or_default();
        let header = Header {
            opcode,
            is_final,
            #[cfg(feature = "deflate")]
            is_compressed,
            mask,
            length,
        };
        Ok(Some((header, size)))
    }
}

impl Opcode {
    /// Returns whether the frame may stand inside a message.
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

    /// Adds as many bytes of the input as a header can need.
    pub fn append(&mut self, input: &[u8]) {
        let room = &mut self.bytes[usize::from(self.length)..];
        let taken = room.len().min(input.len());
        room[..taken].copy_from_slice(&input[..taken]);
        self.length += taken as u8;
    }
}

/// Skips frames at the front of the input, up to one that closes, is not short or not whole.
///
/// # Errors
///
/// As for [`Header::parse`].
pub(super) fn skip_short_frames(
    role: Role,
    reserved: Reserved,
    input: &mut &mut [u8],
) -> Result<(), Violation> {
    while let [first, second, ..] = **input {
        let (opcode, _) = parse_start(role, reserved, first, second)?;
        let length = second & 0x7f;
        let size = short_header_bytes(role) + usize::from(length);
        if opcode == Opcode::Close || length > SHORT_MAX || size > input.len() {
            break;
        }
        take(input, size);
    }
    Ok(())
}

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
#[cfg(feature = "deflate")]
const RSV1: u8 = 0x40;

/// The longest length that fits the second byte.
const SHORT_MAX: u8 = 125;

/// Returns the length of a short frame's header: two bytes, and a client's mask.
fn short_header_bytes(role: Role) -> usize {
    match role {
        Role::Server => 6,
        Role::Client => 2,
    }
}

/// Parses the first two bytes.
#[inline]
fn parse_start(
    role: Role,
    reserved: Reserved,
    first: u8,
    second: u8,
) -> Result<(Opcode, bool), Violation> {
    let is_allowed = match reserved {
        Reserved::None => first & RSV == 0,
        #[cfg(feature = "deflate")]
        Reserved::Compressed => first & RSV == 0 || matches!(first & !FIN, 0x41 | 0x42),
    };
    if !is_allowed {
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
    let is_final = first & FIN != 0;
    // RFC 6455, 5.1: a client masks each frame, a server none.
    match (role, second & 0x80 != 0) {
        (Role::Server, false) => return Err(Violation::Unmasked),
        (Role::Client, true) => return Err(Violation::Masked),
        _ => {}
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

/// Takes bytes from the front of the input, which must have them.
pub(super) fn take<'a>(input: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    input.split_off_mut(..length).expect("the input is as long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bytes: &[u8]) -> Option<Violation> {
        Header::parse(Role::Server, bytes).err()
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
            let from_server = |second| Header::parse(Role::Client, &[0x80 | opcode, second]);
            assert_eq!(from_server(0x80).err(), Some(Violation::Masked));
            assert_eq!(from_server(0x01).err(), None);
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
            let (header, size) = Header::parse(Role::Server, &short(length)).unwrap().unwrap();
            assert_eq!((header.length, size), (length.into(), 8));
        }
        for length in [65_536, (1 << 63) - 1] {
            let (header, size) = Header::parse(Role::Server, &long(length)).unwrap().unwrap();
            assert_eq!((header.length, size), (length, Header::BYTES_MAX));
        }
    }

    #[test]
    fn a_part_of_a_header_is_none() {
        let header = [0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for length in 0..header.len() {
            assert!(Header::parse(Role::Server, &header[..length]).unwrap().is_none(), "{length}");
        }
        let (header, _) = Header::parse(Role::Server, &header).unwrap().unwrap();
        assert_eq!(header.mask, [1, 2, 3, 4]);
        assert!(!header.is_final);
    }

    #[test]
    fn a_header_from_a_server_has_no_mask() {
        for (bytes, length) in [
            (&[0x82, 0][..], 0),
            (&[0x82, 125], 125),
            (&[0x82, 126, 0, 126], 126),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ] {
            for cut in 0..bytes.len() {
                assert!(Header::parse(Role::Client, &bytes[..cut]).unwrap().is_none(), "{cut}");
            }
            let (header, size) = Header::parse(Role::Client, bytes).unwrap().unwrap();
            assert_eq!((header.length, header.mask, size), (length, [0; 4], bytes.len()));
        }
        for bytes in [&[0x82, 126, 0, 125][..], &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
            assert_eq!(Header::parse(Role::Client, bytes).err(), Some(Violation::Length));
        }
    }
}
