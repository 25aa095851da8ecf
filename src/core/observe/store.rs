//! What is counted of the store of durable topics.

use crate::core::observe::metrics::{Exposition, Unit};
use crate::core::observe::stats::Histogram;

/// The figures of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreFigures {
    /// Bytes written, in whole pages.
    pub bytes_written: u64,
    /// Events of durable topics that stayed in memory alone.
    pub lost: u64,
    /// How long commits took, in microseconds.
    pub took: Histogram,
    /// The disk has not returned for ten seconds.
    pub is_stuck: bool,
    /// The disk has failed, and will be tried again.
    pub is_failing: bool,
}

impl StoreFigures {
    /// Writes all figures.
    pub fn write(&self, out: &mut Exposition) {
        let help = "Bytes that the store has written, in whole pages.";
        out.counter("heartwheel_store_bytes_written_total", help).value(self.bytes_written);
        let help = "Commits of the store: pages written, and synced once.";
        out.counter("heartwheel_store_commits_total", help).value(self.took.count());
        let name = "heartwheel_store_commit_seconds";
        let help = "How long the commits of the store took.";
        out.histogram(name, help, &self.took, Unit::Microseconds);
        let help = "Events of durable topics that the store does not have: they were in memory.";
        out.counter("heartwheel_store_lost_total", help).value(self.lost);
        let help = "Whether the disk of the store has not returned for ten seconds, or fails.";
        let is_stuck = self.is_stuck || self.is_failing;
        out.gauge("heartwheel_store_stuck", help).value(u64::from(is_stuck));
    }
}
