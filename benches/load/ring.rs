//! Messages encoded once, before anything is measured, and sent again and again.
//!
//! They differ, so that one in another's place is noticed. All bear one and the same mask: masking
//! is the client's work and not measured; what the server does to take it off is the same.

use super::common::frame::{BINARY, FIN, TEXT, frame};
use super::common::rng::Rng;
use super::reader::Framing;

/// Encoded messages, one behind the other, as often as one write may need them.
pub struct Ring {
    bytes: Vec<u8>,
    frame_bytes: usize,
    payloads: Vec<Vec<u8>>,
}

/// What messages are sent as, where they have a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Binary,
    /// The server must look whether it is UTF-8.
    Text,
}

impl Ring {
    /// Encodes messages of `size` bytes, of which `depth` may go out in one write.
    pub fn new(framing: Framing, kind: Kind, size: usize, depth: usize, seed: u64) -> Ring {
        let mut rng = Rng::new(seed);
        let variants = (VARIANT_BYTES_MAX / size.max(1)).clamp(2, 16);
        let letter = |rng: &mut Rng| b'a' + rng.below(26) as u8;
        let payloads: Vec<Vec<u8>> =
            (0..variants).map(|_| (0..size).map(|_| letter(&mut rng)).collect()).collect();
        let first = if kind == Kind::Text { TEXT } else { BINARY };
        let encode = |payload: &Vec<u8>| match framing {
            Framing::WebSocket => frame(first | FIN, payload),
            Framing::Bytes(_) => payload.clone(),
        };
        let frames: Vec<Vec<u8>> = payloads.iter().map(encode).collect();
        let once = frames.concat();
        let frame_bytes = frames[0].len();
        // As many rounds as `depth` messages need, and one more to begin anywhere.
        let rounds = depth.div_ceil(variants) + 1;
        let rounds = rounds.min(RING_BYTES_MAX / once.len()).max(1);
        Ring { bytes: once.repeat(rounds), frame_bytes, payloads }
    }

    /// Gives the length of one message, encoded.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Gives where the message after `count` others begins.
    pub fn position(&self, count: usize) -> usize {
        count % self.payloads.len() * self.frame_bytes
    }

    /// Gives bytes to send from a position on, at most `most` of them.
    pub fn slice(&self, at: usize, most: usize) -> &[u8] {
        &self.bytes[at..self.bytes.len().min(at + most)]
    }

    /// Gives the position `sent` bytes later.
    pub fn advance(&self, at: usize, sent: usize) -> usize {
        (at + sent) % self.bytes.len()
    }

    /// Gives how many bytes of the message at a position are still to be sent, 0 between two.
    pub fn to_boundary(&self, at: usize) -> usize {
        (self.frame_bytes - at % self.frame_bytes) % self.frame_bytes
    }

    /// Says whether `part`, which begins at `at`, belongs to the message after `count` others.
    pub fn is_part_of(&self, count: u64, part: &[u8], at: u64) -> bool {
        let payload = &self.payloads[(count % self.payloads.len() as u64) as usize];
        let end = at as usize + part.len();
        payload.get(at as usize..end) == Some(part)
    }
}

/// Different messages take this much, so that they stay in the cache; but there are at least two.
const VARIANT_BYTES_MAX: usize = 64 * 1024;
const RING_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn a_write_of_depth_messages_fits_from_wherever_it_begins() {
        for (size, depth) in [(1, 1), (125, 16), (125, 64), (1024, 4), (16_384, 4)] {
            let ring = Ring::new(Framing::WebSocket, Kind::Binary, size, depth, 1);
            let most = ring.frame_bytes() * depth;
            let variants = ring.payloads.len();
            for count in 0..variants {
                assert_eq!(ring.slice(ring.position(count), most).len(), most, "{size} {depth}");
            }
        }
    }

    #[test]
    fn a_position_goes_round() {
        let ring = Ring::new(Framing::Bytes(10), Kind::Binary, 10, 1, 1);
        let all = ring.bytes.len();
        assert_eq!(ring.advance(all - 4, 10), 6);
        assert_eq!(ring.to_boundary(0), 0);
        assert_eq!(ring.to_boundary(13), 7);
        assert_eq!(ring.slice(all - 4, 10).len(), 4);
    }

    #[test]
    fn a_message_in_anothers_place_is_noticed() {
        let ring = Ring::new(Framing::Bytes(10), Kind::Binary, 10, 1, 1);
        let [first, second] = [&ring.payloads[0], &ring.payloads[1]];
        let variants = ring.payloads.len() as u64;
        assert!(ring.is_part_of(variants, first, 0));
        assert!(ring.is_part_of(1, &second[3..5], 3));
        assert!(!ring.is_part_of(1, first, 0));
        assert!(!ring.is_part_of(0, &[first.as_slice(), b"x"].concat(), 0));
    }
}
