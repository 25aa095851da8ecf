//! How fast one connection may send and be sent to: its buckets, and until when it waits for them.
//!
//! Made for a connection when it first takes a token, so that an idle one owns none.

use crate::core::ground::bucket::Bucket;
use crate::core::ground::time::{Instant, Moment};

/// The buckets of one connection.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// `limits.messages_per_second`.
    pub messages: Bucket,
    /// `limits.bytes_per_second`.
    pub bytes: Bucket,
    /// `limits.send_per_second`.
    pub sends: Bucket,
    /// Nothing is read before.
    pub read_at: Option<Instant>,
    /// Since when nothing is read.
    pub unread_since: Moment,
    /// No message is sent before.
    pub send_at: Option<Instant>,
}

impl Rates {
    /// Gives when one of the waits ends.
    pub fn next_at(&self) -> Option<Instant> {
        [self.read_at, self.send_at].into_iter().flatten().min()
    }
}

/// Gives how many tokens a wait is for: as many as come in a twentieth of a second, so that it ends
/// twenty times a second at most, whatever the rate.
pub(crate) fn enough(rate: u64) -> u64 {
    rate.div_ceil(20)
}
