//! Ids of connections. No id is used twice.

use std::fmt;
use std::num::NonZeroU64;

/// Identifies one connection of one server for good: a later connection in the same slot has
/// another generation.
///
/// As a number it is never zero: 40 bits of generation, then 24 of the slot. A server that accepts
/// 10,000 connections a second comes to the end of its generations after three years, and begins
/// anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(NonZeroU64);

impl ConnectionId {
    /// How many slots an id can tell apart.
    pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

    /// No id is less.
    #[cfg(feature = "presence")]
    pub(crate) const LEAST: ConnectionId = ConnectionId(NonZeroU64::MIN);

    /// No id is greater.
    #[cfg(feature = "presence")]
    pub(crate) const GREATEST: ConnectionId = ConnectionId(NonZeroU64::MAX);

    /// Makes the id of the connection in slot `key`.
    pub(crate) fn new(key: usize, generation: Generation) -> Self {
        debug_assert!(key < ConnectionId::SLOTS_MAX);
        ConnectionId(generation.0 | key as u64)
    }

    /// Returns the slot.
    pub(crate) fn key(self) -> usize {
        (self.0.get() & SLOT_MASK) as usize
    }

    /// Returns the id as a number, for logs and for C.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// Returns the id for a number that [`ConnectionId::as_u64`] returned.
    pub fn from_u64(id: NonZeroU64) -> Self {
        ConnectionId(id)
    }
}

/// Tells connections in the same slot apart: counts all connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(NonZeroU64);

impl Generation {
    pub const FIRST: Generation = Generation(NonZeroU64::new(1 << SLOT_BITS).unwrap());

    /// Returns the generation with this number; for zero, the first.
    pub fn from_bits(bits: u64) -> Generation {
        Generation(NonZeroU64::new(bits << SLOT_BITS).unwrap_or(Generation::FIRST.0))
    }

    /// Returns the generation that follows.
    pub fn next(self) -> Generation {
        Generation::from_bits((self.0.get() >> SLOT_BITS) + 1)
    }
}

const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u64().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_bears_40_bits_of_generation_and_24_of_the_slot() {
        for key in [0, 1, ConnectionId::SLOTS_MAX - 1] {
            for bits in [1, 1 << 32, (1 << 40) - 1] {
                let id = ConnectionId::new(key, Generation::from_bits(bits));
                assert_eq!((id.key(), id.as_u64() >> 24), (key, bits));
                let number = NonZeroU64::new(id.as_u64()).unwrap();
                assert_eq!(ConnectionId::from_u64(number), id);
            }
        }
    }

    // Invariant 6: with 32 bits a busy server reused an id of its first days after a week.
    #[test]
    fn a_generation_comes_again_after_40_bits_and_is_never_zero() {
        let first = Generation::from_bits(u64::from(u32::MAX));
        assert_eq!(first.next(), Generation::from_bits(1 << 32));
        assert_ne!(first.next(), Generation::from_bits(0));
        let last = Generation::from_bits((1 << 40) - 1);
        assert_eq!(last.next(), Generation::from_bits(1));
        assert_eq!(Generation::from_bits(0), Generation::from_bits(1));
    }
}
