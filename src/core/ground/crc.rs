//! Cyclic redundancy checks of 32 bits, the reflected ones. The table has a place for each half of
//! a byte: a larger one would not be worth its bytes.

use std::array;

/// The polynomial of gzip and Ethernet, its bits turned round.
pub const GZIP: u32 = 0xEDB8_8320;
/// Castagnoli's polynomial (RFC 3720, appendix B.4), its bits turned round.
pub const CASTAGNOLI: u32 = 0x82F6_3B78;

/// Returns the checksum of some bytes by a polynomial.
pub fn crc32<'b>(polynomial: u32, bytes: impl Iterator<Item = &'b u8>) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ (polynomial & (sum & 1).wrapping_neg());
    let table: [u32; 16] = array::from_fn(|half| (0..4).fold(half as u32, step));
    !bytes.fold(u32::MAX, |sum, byte| {
        let sum = sum ^ u32::from(*byte);
        let sum = (sum >> 4) ^ table[(sum & 15) as usize];
        (sum >> 4) ^ table[(sum & 15) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogues of such sums.
    #[test]
    fn nine_digits_have_the_sums_that_are_known() {
        assert_eq!(crc32(GZIP, b"123456789".iter()), 0xCBF4_3926);
        assert_eq!(crc32(CASTAGNOLI, b"123456789".iter()), 0xE306_9283);
        assert_eq!(crc32(GZIP, b"".iter()), 0);
    }
}
