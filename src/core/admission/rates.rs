//! How fast one connection may send and be sent to: its buckets, and how long it waits for them.
//!
//! A connection gets them when it first takes a token, so that an idle one has none.

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
    /// Nothing is read before this moment.
    pub read_at: Option<Instant>,
    /// Since when nothing is read.
    pub unread_since: Moment,
    /// No message is sent before this moment.
    pub send_at: Option<Instant>,
}

impl Rates {
    /// Returns the moment when the next wait ends; `None` without a wait.
    pub fn next_at(&self) -> Option<Instant> {
        [self.read_at, self.send_at].into_iter().flatten().min()
    }
}

/// Returns how many tokens a wait is for: those of a twentieth of a second, so that at most twenty
/// waits end in a second, whatever the rate.
pub(crate) fn enough(rate: u64) -> u64 {
    rate.div_ceil(20)
}
