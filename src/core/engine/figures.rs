//! The server's own figures, as events of the topic `$stats`: once a second, and only while that
//! topic has subscribers.

use std::time::Duration;

use crate::core::engine::Engine;
use crate::core::engine::tickets::Unpublished;
use crate::core::ground::json::Object;
use crate::core::ground::time::Instant;
#[cfg(feature = "cluster")]
use crate::core::observe::cluster::ClusterFigures;
use crate::core::observe::figures::Surroundings;
use crate::core::observe::stats::Vitals;
use crate::core::topics::Payload;

/// What is on its way through an engine: counted as received or queued, and not yet as handled,
/// written or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages received that are in no job yet.
    pub messages_in: u64,
    /// Messages and events for peers of which not every byte is written.
    pub messages_out: u64,
    /// Bytes for peers.
    pub bytes_out: u64,
}

impl Engine {
    /// Sums what waits in all connections and in the last jobs of those that have ended, frame by
    /// frame: for tests of what must balance.
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting { messages_in: self.messages_left(), ..Waiting::default() };
        for (_, connection) in &self.connections {
            let out = connection.outbox.waiting();
            waiting.messages_in +=
                connection.inbox.as_ref().map_or(0, |inbox| inbox.messages as u64);
            waiting.messages_out += out.messages;
            waiting.bytes_out += out.bytes;
        }
        waiting
    }

    /// Publishes the figures if it is time for them.
    pub(super) fn publish_figures(&mut self, now: Instant) {
        if !self.topics.has_subscribers(TOPIC) {
            self.reports.figures_at = None;
            return;
        }
        if self.reports.figures_at.is_some_and(|at| at > now) {
            return;
        }
        self.reports.figures_at = Some((now + EVERY).floor(EVERY));
        let payload = Payload::Json(self.figures(now).into());
        let published = self.publish(now, TOPIC, payload);
        // Beside a log that has issued nothing for long there may be no id for it.
        let is_busy = matches!(published, Err(Unpublished::Unavailable));
        debug_assert!(published.is_ok() || is_busy, "a topic with subscribers is there");
    }

    /// Returns whether somebody is told the figures each second.
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    pub fn tells_figures(&self) -> bool {
        self.reports.figures_at.is_some()
    }

    /// Sets what is told of the cluster.
    #[cfg(feature = "cluster")]
    pub fn set_cluster_figures(&mut self, figures: ClusterFigures) {
        self.reports.cluster = Some(Box::new(figures));
    }

    /// Returns the state of the loop.
    pub fn vitals(&self, now: Instant) -> Vitals {
        Vitals {
            stats: self.stats,
            connections: self.connections.len(),
            jobs: self.jobs.out(),
            wheel_late: self.wheel.next_deadline().map_or(Duration::ZERO, |at| now.since(at)),
            is_draining: self.is_draining(),
        }
    }

    fn figures(&self, now: Instant) -> String {
        // Figures that only the loop knows are left out here.
        let around = Surroundings {
            #[cfg(feature = "bridge")]
            bridges: self.bridged.figures().to_vec(),
            #[cfg(feature = "cluster")]
            cluster: self.reports.cluster.clone(),
            ..Surroundings::default()
        };
        let object = Object::new()
            .number("at_ms", self.reports.date.unix_ms)
            .string("version", env!("CARGO_PKG_VERSION"))
            .number("uptime_ms", now.as_millis());
        self.snapshot(&around).members(object).end()
    }
}

const TOPIC: &str = "$stats";
const EVERY: Duration = Duration::from_secs(1);
