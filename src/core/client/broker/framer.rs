//! Whole packets, out of what came: the memory of a packet grows with its bytes, not with the
//! length that it claims.

use crate::core::ground::time::Instant;

/// A packet of which a part has come.
#[derive(Debug, Default)]
pub(super) struct Framer {
    partial: Vec<u8>,
    begun_at: Option<Instant>,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadLength {
    /// The length takes more than four bytes (MQTT 5, 1.5.5).
    Malformed,
    /// The packet is longer than is taken.
    TooLong,
}

impl Framer {
    /// Takes the next whole packet; `None` if more must come. What is used of the input is taken
    /// from its front.
    pub fn next<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a [u8],
        packet_max: u32,
    ) -> Result<Option<Packet<'a>>, BadLength> {
        if self.partial.is_empty() {
            if let Some(len) = packet_len(input, packet_max)?
                && input.len() >= len
            {
                let (packet, rest) = input.split_at(len);
                *input = rest;
                return Ok(Some(Packet::Borrowed(packet)));
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.begun_at = Some(now);
        }
        loop {
            let wanted = match packet_len(&self.partial, packet_max)? {
                Some(len) if self.partial.len() == len => {
                    self.begun_at = None;
                    return Ok(Some(Packet::Owned(std::mem::take(&mut self.partial))));
                }
                Some(len) => len - self.partial.len(),
                None => 1,
            };
            let taken = wanted.min(input.len());
            if taken == 0 {
                return Ok(None);
            }
            let (front, rest) = input.split_at(taken);
            self.partial.extend_from_slice(front);
            *input = rest;
        }
    }

    /// Returns since when a packet is on its way.
    pub fn begun_at(&self) -> Option<Instant> {
        self.begun_at
    }

    /// Begins the time of a packet that is on its way anew: nothing was read meanwhile.
    pub fn spare(&mut self, now: Instant) {
        self.begun_at = self.begun_at.map(|_| now);
    }
}

/// One whole packet.
pub(super) enum Packet<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Packet<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Packet::Borrowed(bytes) => bytes,
            Packet::Owned(bytes) => bytes,
        }
    }
}

/// Returns the length of the packet at the front, with its head; `None` if the head is not whole.
fn packet_len(bytes: &[u8], packet_max: u32) -> Result<Option<usize>, BadLength> {
    let mut rest: u32 = 0;
    for (index, byte) in bytes.iter().skip(1).take(LENGTH_BYTES).enumerate() {
        rest |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let len = rest + 2 + index as u32;
            return if len > packet_max { Err(BadLength::TooLong) } else { Ok(Some(len as usize)) };
        }
    }
    if bytes.len() > LENGTH_BYTES { Err(BadLength::Malformed) } else { Ok(None) }
}

/// How many bytes a length takes at most.
const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(7);

    /// Feeds bytes in slices of this length, and returns the packets.
    fn packets(bytes: &[u8], step: usize, most: u32) -> (Vec<Vec<u8>>, Option<BadLength>, usize) {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for mut slice in bytes.chunks(step) {
            loop {
                match framer.next(NOW, &mut slice, most) {
                    Ok(Some(packet)) => found.push(packet.as_ref().to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error), 0),
                }
            }
            assert!(slice.is_empty());
            assert_eq!(framer.begun_at().is_some(), !framer.partial.is_empty());
        }
        (found, None, framer.partial.len())
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let long = [&[0x30, 0x80, 0x02][..], &[7; 256]].concat();
        let all = [&[0xd0, 0][..], &[0x40, 2, 0, 1], &long, &[0xd0, 0]].concat();
        for step in 1..=all.len() {
            let (found, error, left) = packets(&all, step, 1000);
            assert_eq!((error, left), (None, 0), "{step}");
            let lens: Vec<usize> = found.iter().map(Vec::len).collect();
            assert_eq!(lens, [2, 4, 259, 2], "{step}");
        }
    }

    #[test]
    fn claims_are_refused_before_memory_is_taken() {
        for step in 1..6 {
            let claim = [0x30, 0xff, 0xff, 0xff, 0x7f, 0];
            assert_eq!(packets(&claim, step, 1 << 20).1, Some(BadLength::TooLong), "{step}");
            let endless = [0x30, 0x80, 0x80, 0x80, 0x80, 0x80];
            assert_eq!(packets(&endless, step, 1 << 20).1, Some(BadLength::Malformed), "{step}");
        }
        // 258 bytes in all.
        let edge = [&[0x30, 0xff, 0x01][..], &[0; 255]].concat();
        assert_eq!(packets(&edge, 300, 258).1, None);
        assert_eq!(packets(&edge, 300, 257).1, Some(BadLength::TooLong));
        let mut framer = Framer::default();
        let mut claim = &[0x30, 0xff, 0xff, 0x03, 1, 2, 3][..];
        assert!(matches!(framer.next(NOW, &mut claim, 1 << 20), Ok(None)));
        assert!(framer.partial.capacity() < 64, "{}", framer.partial.capacity());
    }
}
