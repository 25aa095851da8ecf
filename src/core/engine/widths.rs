//! How much of what waits for a peer the kernel may hold. A peer begins with a narrow send buffer,
//! and one that does not read keeps it. For a peer that reads, a large message would go out in many
//! small steps: its buffer is wide from then on until it is pinged. Only so many are wide at once.

use std::time::Duration;

use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::transport::{SEND_BUFFER_BYTES, WIDE_SEND_BUFFER_BYTES};

impl Engine {
    /// Returns whether a connection's send buffer is to be widened now. Then it counts as wide.
    #[inline]
    pub fn widens(&mut self, now: Instant, id: ConnectionId) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        if connection.outbox.bytes() < STEP_BYTES
            || connection.flags.writing.is_wide()
            || !connection.flags.writing.has_room()
            || connection.counters.bytes_out < READER_BYTES
            || !connection.outbox.flows(now, FLOWS_WITHIN)
            || self.wide >= self.budget.wide_max()
        {
            return false;
        }
        connection.flags.writing.set_wide(true);
        self.wide += 1;
        true
    }

    /// Returns whether a connection's send buffer is to be narrow again: nothing waits. Then it
    /// counts as narrow.
    pub(super) fn narrows(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let is_due = connection.flags.writing.is_wide() && connection.outbox.is_empty();
        if is_due {
            connection.flags.writing.set_wide(false);
            self.wide -= 1;
        }
        is_due
    }

    /// Takes note that a connection has ended.
    pub(super) fn forget_width(&mut self, is_wide: bool) {
        self.wide -= usize::from(is_wide);
    }
}

/// What waits beyond a full buffer, if a wide one is worth its while.
const STEP_BYTES: usize = SEND_BUFFER_BYTES / 4;

/// So many bytes no peer takes that never reads: its kernel's buffer and ours are full before,
/// unless it has asked its kernel for more.
const READER_BYTES: u64 = 512 * 1024;

/// How recently the peer must have taken bytes.
const FLOWS_WITHIN: Duration = Duration::from_secs(1);

const _: () = assert!(WIDE_SEND_BUFFER_BYTES as u64 <= READER_BYTES);
