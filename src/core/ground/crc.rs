//! Cyclic redundancy checks of 32 bits, the reflected ones. What is summed up here is short and
//! rare: a table would not be worth its bytes.

/// The polynomial of gzip and Ethernet, its bits turned round.
pub const GZIP: u32 = 0xEDB8_8320;
/// Castagnoli's polynomial (RFC 3720, appendix B.4), its bits turned round.
pub const CASTAGNOLI: u32 = 0x82F6_3B78;

/// Returns the checksum of some bytes by a polynomial.
pub fn crc32<'b>(polynomial: u32, bytes: impl Iterator<Item = &'b u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (polynomial & (sum & 1).wrapping_neg())
        })
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
