//! One compressed message to its bytes.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::TAIL;

/// Inflates one message at a time, in steps that a caller can bound.
pub struct Inflater {
    inflate: Inflate,
    /// The data has said that it is complete: only padding follows.
    has_ended: bool,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many bytes of the input were used.
    pub used: usize,
    /// How many bytes came out.
    pub made: usize,
}

/// The data is no DEFLATE data, or ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl Inflater {
    /// The memory of an inflater, in bytes: its window and its tables.
    pub const BYTES: usize = 48 * 1024;

    /// Makes an inflater, for a window of any size.
    pub fn new() -> Inflater {
        Inflater { inflate: Inflate::new(false, WINDOW_BITS), has_ended: false }
    }

    /// Begins another message, which may refer to the last bytes that came before it.
    pub fn begin(&mut self, history: &[u8]) {
        self.inflate.reset(false);
        self.has_ended = false;
        if !history.is_empty() {
            let set = self.inflate.set_dictionary(history);
            debug_assert!(set.is_ok(), "raw data takes one at its beginning");
        }
    }

    /// Inflates a part of a message into `room`. If a step leaves some of the room, the input is
    /// used up, or the data has come to its end.
    ///
    /// # Errors
    ///
    /// If the data is corrupt.
    pub fn step(&mut self, input: &[u8], room: &mut [u8]) -> Result<Step, Corrupt> {
        if self.has_ended {
            // RFC 7692, 7.2.3.4: a byte of padding follows a last block.
            let is_padding = input.iter().all(|byte| *byte == 0);
            return is_padding.then_some(Step { used: input.len(), made: 0 }).ok_or(Corrupt);
        }
        let (used, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, room, InflateFlush::NoFlush);
        self.has_ended = status.map_err(|_| Corrupt)? == Status::StreamEnd;
        let used = (self.inflate.total_in() - used) as usize;
        Ok(Step { used, made: (self.inflate.total_out() - made) as usize })
    }

    /// Takes the end of a message all of whose bytes were given to [`Inflater::step`], and have
    /// come out. A last block behind it shows that the message ended between blocks.
    ///
    /// # Errors
    ///
    /// If the message ended inside a block.
    pub fn finish(&mut self) -> Result<(), Corrupt> {
        let mut room = [0; 8];
        for end in [&TAIL[..], &LAST_BLOCK] {
            if self.has_ended {
                return Ok(());
            }
            let step = self.step(end, &mut room)?;
            if step.made > 0 || step.used < end.len() {
                return Err(Corrupt);
            }
        }
        if self.has_ended { Ok(()) } else { Err(Corrupt) }
    }
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// The largest window: what was compressed for a smaller one fits, too.
const WINDOW_BITS: u8 = 15;

/// An empty block, the last one (RFC 1951, 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

#[cfg(test)]
mod tests {
    use super::*;

    /// Inflates a message from pieces of `size` bytes, with little room.
    fn inflate(message: &[u8], size: usize) -> Result<Vec<u8>, Corrupt> {
        let mut inflater = Inflater::new();
        // What an earlier message has left behind.
        let _ = inflater.step(b"\xcaH\xcd", &mut [0; 2]);
        inflater.begin(b"");
        let mut out = Vec::new();
        for mut piece in message.chunks(size) {
            loop {
                let mut room = [0; 3];
                let Step { used, made } = inflater.step(piece, &mut room)?;
                out.extend_from_slice(&room[..made]);
                piece = &piece[used..];
                if piece.is_empty() && made < room.len() {
                    break;
                }
            }
        }
        inflater.finish().map(|()| out)
    }

    /// The examples of RFC 7692, 7.2.3, all of which say Hello.
    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        for message in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A last block, and its padding.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            for size in 1..message.len() {
                assert_eq!(inflate(message, size).as_deref(), Ok(&b"Hello"[..]), "{message:x?}");
            }
        }
        assert_eq!(inflate(&[0], 1), Ok(vec![]));
    }

    #[test]
    fn what_is_corrupt_or_cut_off_is_told() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for len in 1..hello.len() - 1 {
            assert_eq!(inflate(&hello[..len], 1), Err(Corrupt), "{len} bytes");
        }
        for message in [
            &[0xff, 0xff][..],
            // A distance beyond what there is; a length that does not match.
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
            &[0x00, 0x05, 0x00, 0xfb, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // Something behind the last block.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x07],
        ] {
            assert_eq!(inflate(message, 1), Err(Corrupt), "{message:x?}");
        }
    }
}
