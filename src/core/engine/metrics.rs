//! One look at the server, from which its figures are read. What each figure means, and what to do
//! about it, is told in the operator's page, [`operating`](crate::guide::operating).

use crate::core::engine::Engine;
use crate::core::observe::figures::{Snapshot, Surroundings};

impl Engine {
    /// Returns all figures in the Prometheus text format. Takes time by the number of connections,
    /// some nanoseconds for each.
    pub fn metrics(&self, around: &Surroundings) -> String {
        self.snapshot(around).exposition()
    }

    pub(super) fn snapshot<'a>(&'a self, around: &'a Surroundings) -> Snapshot<'a> {
        let census = self.census();
        Snapshot {
            stats: &self.stats,
            versions: &self.reports.versions,
            has_cohorts: self.config().canary.percent > 0.0,
            connections: census.connections,
            connections_limit: self.config().limits.connections as u64,
            outbox_bytes: census.outbox_bytes,
            deadlines_armed: self.deadlines_armed() as u64,
            jobs_waiting: self.jobs.waiting() as u64,
            jobs_out: self.jobs.out() as u64,
            topics: self.topics.len() as u64,
            subscriptions: self.topics.subscriptions() as u64,
            #[cfg(feature = "presence")]
            presence_members: self.presence_members() as u64,
            events_published: self.topics.events_published(),
            memory: [
                ("partial", census.partial_bytes),
                ("inbox", census.inbox_bytes),
                ("outbox", census.queued_bytes),
                ("log", self.log_bytes() as u64),
                ("command", around.command_bytes as u64),
            ],
            memory_limit: self.budget.limit(),
            #[cfg(feature = "client")]
            service: self.service_state(),
            #[cfg(feature = "sessions")]
            sessions: self.session_figures(),
            #[cfg(feature = "bridge")]
            topics_read: &self.topics,
            around,
        }
    }
}
