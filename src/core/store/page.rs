//! The head of a page.

use crate::core::ground::crc::{CASTAGNOLI, crc32};
use crate::core::topics::EventId;

/// What stands before the records of a page. All numbers are little-endian.
///
/// ```text
///   0 checksum of all that follows   4 "hwr1"      8 number of the page
///   16 position before: MS           24 its SEQ    32 run   36 process   38 bytes of records
///   40 place of the first that begins here         42 is it clean?       43 zero
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Pages count from 1.
    pub number: u64,
    /// The id of the last record that began before this page.
    pub before: EventId,
    pub run: u32,
    /// The number of the process in the ids of this run.
    pub process: u16,
    /// The bytes of records.
    pub used: u16,
    /// Where the first record that begins in this page stands; `used` if none does.
    pub first: u16,
    /// All is well up to here: nothing was published behind this page.
    pub is_clean: bool,
}

impl Head {
    pub const BYTES: usize = 44;

    /// Writes the head into its page, whose records are there already.
    pub fn seal(&self, page: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(4, MAGIC);
        put(8, &self.number.to_le_bytes());
        put(16, &self.before.ms().to_le_bytes());
        put(24, &self.before.seq().to_le_bytes());
        put(32, &self.run.to_le_bytes());
        put(36, &self.process.to_le_bytes());
        put(38, &self.used.to_le_bytes());
        put(40, &self.first.to_le_bytes());
        put(42, &[u8::from(self.is_clean), 0]);
        let sum = crc32(CASTAGNOLI, page[4..].iter());
        page[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the head of a page. `None` if the page is damaged, or is no page of a ring.
    pub fn read(page: &[u8]) -> Option<Head> {
        if page.get(4..8)? != MAGIC {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?));
        let head = Head {
            number: number(8)?,
            before: EventId::new(number(16)?, number(24)?),
            run: long(32)?,
            process: short(36)?,
            used: short(38)?,
            first: short(40)?,
            is_clean: *page.get(42)? == 1,
        };
        let is_whole = (1..=NUMBER_MAX).contains(&head.number)
            && head.run <= RUN_MAX
            && head.before.ms() <= MS_MAX
            && head.first <= head.used
            && usize::from(head.used) <= page.len().checked_sub(Head::BYTES)?;
        (is_whole && long(0)? == crc32(CASTAGNOLI, page[4..].iter())).then_some(head)
    }
}

/// No clock is there yet, and sums do not overflow.
pub(super) const MS_MAX: u64 = 1 << 51;

/// Nor will any ring come so far.
const NUMBER_MAX: u64 = 1 << 60;
const RUN_MAX: u32 = u32::MAX / 2;

const MAGIC: &[u8; 4] = b"hwr1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_no_bit_of_its_page_may_change() {
        let head = Head {
            number: 1 << 40,
            before: EventId::new(1 << 50, 1 << 47),
            run: 9,
            process: 65535,
            used: 60,
            first: 7,
            is_clean: true,
        };
        let mut page = [0xA5; 128];
        head.seal(&mut page);
        assert_eq!(Head::read(&page), Some(head));
        for bit in 0..8 * page.len() {
            page[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&page), None, "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn what_is_no_page_has_no_head() {
        for page in [&[0; 4096][..], &[0xFF; 4096], b"", b"hwr1", b"\0\0\0\0hwr1"] {
            assert_eq!(Head::read(page), None);
        }
    }
}
