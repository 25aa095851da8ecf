//! Memory of large messages, kept for the next ones.
//!
//! Fresh memory costs a page fault for each 4 KiB of a message, and a message that grows as it
//! comes is copied again and again. So the memory of a message that has been written goes to the
//! next one. It is lent by what has come, not by what a header claims; it is counted in the memory
//! budget; and it is freed soon after large messages have ceased to come.

use std::time::Duration;

use tungstenite::Bytes;

use crate::core::ground::time::Instant;

/// Blocks of memory that held large messages: a few, and no more bytes than the limit.
#[derive(Debug, Default)]
pub struct SpareMemory {
    blocks: Vec<Vec<u8>>,
    /// The sum of their capacities.
    bytes: usize,
    limit: usize,
    /// Bytes that messages have taken and that have not come back: no more is kept. Where large
    /// messages only leave, nothing is.
    owed: usize,
    /// Something was kept or lent since the end of a turn was last told.
    is_in_use: bool,
    /// When to free everything; `None` if nothing is kept.
    rests_at: Option<Instant>,
}

impl SpareMemory {
    /// Keeps nothing: for a decoder or an outbox that stands alone.
    pub const fn none() -> SpareMemory {
        SpareMemory {
            blocks: Vec::new(),
            bytes: 0,
            limit: 0,
            owed: 0,
            is_in_use: false,
            rests_at: None,
        }
    }

    /// Keeps at most `limit` bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        if self.bytes > limit {
            self.free();
        }
    }

    /// Returns the bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lends a block for a message of which `received` bytes have come, and which will have
    /// `expected` bytes: the smallest one that holds these, or as much as may be lent. `None` if no
    /// block is as large, or all are much too large.
    ///
    /// The block's content is of an earlier message.
    pub fn lend(&mut self, received: usize, expected: usize) -> Option<Vec<u8>> {
        debug_assert!(received <= expected, "no more comes than is expected");
        let most = received.saturating_mul(AHEAD_MAX).min(expected.saturating_mul(2));
        let least = if expected <= most { expected } else { most / 2 };
        let mut found: Option<(usize, usize)> = None;
        for (index, capacity) in self.blocks.iter().map(Vec::capacity).enumerate().rev() {
            if (least..=most).contains(&capacity) && found.is_none_or(|(_, best)| capacity < best) {
                found = Some((index, capacity));
            }
            if capacity == least {
                break;
            }
        }
        let taken = found.map_or(expected, |(_, capacity)| capacity);
        self.owed = self.owed.saturating_add(taken).min(self.limit);
        let (index, _) = found?;
        let block = self.blocks.swap_remove(index);
        self.bytes -= block.capacity();
        self.is_in_use = true;
        Some(block)
    }

    /// Copies a message that has come, into a block if there is one for it.
    pub fn copy(&mut self, message: &[u8]) -> Bytes {
        if message.len() >= BLOCK_BYTES_MIN
            && let Some(mut block) = self.lend(message.len(), message.len())
        {
            block.clear();
            block.extend_from_slice(message);
            return block.into();
        }
        Bytes::copy_from_slice(message)
    }

    /// Keeps the memory of a payload that nothing else holds, if it is large and there is room.
    #[inline]
    pub fn keep(&mut self, payload: Bytes) {
        if payload.len() >= BLOCK_BYTES_MIN && payload.is_unique() {
            self.keep_block(payload);
        }
    }

    #[inline(never)]
    fn keep_block(&mut self, payload: Bytes) {
        let room = self.limit.saturating_sub(self.bytes).min(self.owed);
        if payload.len() > room || self.blocks.len() == BLOCKS_MAX {
            return;
        }
        // Nothing is copied: the payload is the memory's only owner.
        let block = Vec::from(payload);
        if block.capacity() <= room {
            self.bytes += block.capacity();
            self.owed -= block.capacity();
            self.blocks.push(block);
            self.is_in_use = true;
        }
    }

    /// Frees everything.
    pub fn free(&mut self) {
        self.blocks = Vec::new();
        self.bytes = 0;
        self.owed = 0;
        self.rests_at = None;
    }

    /// Keeps blocks of these lengths.
    #[cfg(test)]
    pub fn of(limit: usize, lengths: &[usize]) -> SpareMemory {
        let mut spare = SpareMemory { limit, owed: limit, ..SpareMemory::none() };
        lengths.iter().for_each(|length| spare.keep(vec![0xee; *length].into()));
        spare
    }

    /// Frees everything if nothing was lent or kept for a while. To be called as a turn ends.
    #[inline]
    pub fn rest(&mut self, now: Instant) {
        if self.bytes > 0 {
            self.rest_on(now);
        }
    }

    fn rest_on(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_use) || self.rests_at.is_none() {
            self.rests_at = Some(now + KEPT_FOR);
        } else if self.rests_at.is_some_and(|at| at <= now) {
            self.free();
        }
    }

    /// Returns when everything is to be freed; `None` if nothing is kept.
    pub fn rests_at(&self) -> Option<Instant> {
        self.rests_at.filter(|_| self.bytes > 0)
    }
}

/// Smaller memory is cheap to get from the allocator. Of larger memory it gives even a few tens of
/// kilobytes back to the system at once.
pub const BLOCK_BYTES_MIN: usize = 8 * 1024;

/// How many blocks are kept: a list of them is looked through.
const BLOCKS_MAX: usize = 256;

/// A block is at most so many times as large as what has come of its message.
const AHEAD_MAX: usize = 16;

/// How long memory is kept that nothing needs.
const KEPT_FOR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn memory_goes_to_the_next_message_without_a_copy() {
        let payload = Bytes::from(vec![7; 100 * KIB]);
        let place = payload.as_ptr();
        let mut spare = SpareMemory::of(1 << 20, &[]);
        spare.keep(payload);
        assert_eq!(spare.bytes(), 100 * KIB);
        let block = spare.lend(20 * KIB, 100 * KIB).unwrap();
        assert_eq!((block.as_ptr(), block.capacity()), (place, 100 * KIB));
        assert_eq!(spare.bytes(), 0);
    }

    #[test]
    fn what_is_small_or_shared_or_too_much_is_not_kept() {
        let mut spare = SpareMemory::of(200 * KIB, &[7 * KIB, 300 * KIB]);
        assert_eq!(spare.bytes(), 0);
        let shared = Bytes::from(vec![7; 100 * KIB]);
        spare.keep(shared.clone());
        spare.keep(Bytes::from_static(&[0; 100 * KIB]));
        spare.keep(Bytes::from_owner(vec![0; 100 * KIB]));
        assert_eq!(spare.bytes(), 0);
        spare.keep(shared);
        spare.keep(vec![7; 150 * KIB].into());
        assert_eq!(spare.bytes(), 100 * KIB);
        spare.owed = 0;
        spare.keep(vec![7; 20 * KIB].into());
        assert_eq!(spare.bytes(), 100 * KIB, "no more is kept than was taken");
        spare.set_limit(50 * KIB);
        assert_eq!(spare.bytes(), 0);
        (0..2).for_each(|_| spare.keep(vec![7; 64 * KIB].into()));
        assert_eq!(spare.bytes(), 0);
    }

    #[test]
    fn the_smallest_block_is_lent_that_will_do() {
        let mut spare = SpareMemory::of(4 << 20, &[900 * KIB, 128 * KIB, 300 * KIB]);
        assert_eq!(spare.lend(100 * KIB, 250 * KIB).unwrap().capacity(), 300 * KIB);
        assert_eq!(spare.lend(100 * KIB, 120 * KIB).unwrap().capacity(), 128 * KIB);
        assert!(spare.lend(100 * KIB, 120 * KIB).is_none(), "far too large");
        assert!(spare.lend(20 * KIB, 2000 * KIB).is_none(), "too little of it has come");
        assert_eq!(spare.lend(100 * KIB, 900 * KIB).unwrap().capacity(), 900 * KIB);
    }

    #[test]
    fn a_claim_is_lent_nothing() {
        let mut spare = SpareMemory::of(4 << 20, &[1024 * KIB]);
        for received in [0, 1, 1000, 60 * KIB] {
            assert!(spare.lend(received, 1024 * KIB).is_none(), "{received}");
        }
        assert!(spare.lend(64 * KIB, 1024 * KIB).is_some());
    }

    #[test]
    fn at_rest_everything_is_freed() {
        let at = Instant::from_millis;
        let mut spare = SpareMemory::of(1 << 20, &[100 * KIB]);
        spare.rest(at(1000));
        assert_eq!(spare.rests_at(), Some(at(2000)));
        let block = spare.lend(100 * KIB, 100 * KIB).unwrap();
        assert_eq!(spare.rests_at(), None);
        spare.keep(block.into());
        spare.rest(at(1999));
        spare.rest(at(2998));
        assert_eq!((spare.bytes(), spare.rests_at()), (100 * KIB, Some(at(2999))));
        spare.rest(at(2999));
        assert_eq!((spare.bytes(), spare.rests_at()), (0, None));
    }
}
