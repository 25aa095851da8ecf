//! Names of connections that are never used twice.

use std::fmt;
use std::num::NonZeroU64;

/// Names one connection of one server, for good: a later connection in the same slot bears another
/// generation.
///
/// As a number it is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    generation: u32,
    key: u32,
}

impl ConnectionId {
    /// Makes the id of the connection in slot `key`; `generation` is not zero.
    pub(crate) fn new(key: usize, generation: u32) -> Self {
        debug_assert!(generation != 0);
        ConnectionId { generation, key: key as u32 }
    }

    /// Gives the slot.
    pub(crate) fn key(self) -> usize {
        self.key as usize
    }

    /// Tells connections in the same slot apart.
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    /// Gives the id as a number, for logs and for C.
    pub fn as_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.key)
    }

    /// Gives the id that [`ConnectionId::as_u64`] made this number of.
    pub fn from_u64(id: NonZeroU64) -> Self {
        ConnectionId { generation: (id.get() >> 32) as u32, key: id.get() as u32 }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u64().fmt(f)
    }
}
