//! What is counted of a cluster.

use std::time::Duration;

use crate::core::ground::decimal::Decimal;
use crate::core::ground::json::Object;
use crate::core::observe::metrics::Exposition;

/// The figures of a server's part in a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterFigures {
    /// The log is read.
    pub is_connected: bool,
    /// For how long the reader has not been at the end of the log.
    pub lag: Duration,
    /// Publications that the log has taken.
    pub published: u64,
    /// Publications that the log had had before.
    pub duplicates: u64,
    /// Publications that were refused.
    pub refused: u64,
    /// Entries of the log that are no events, or could not be read.
    pub foreign: u64,
    /// Gaps that all subscribers were told, by reasons.
    pub gaps: [(&'static str, u64); 5],
    /// Connections to Redis that were made after the first.
    pub reconnects: u64,
    /// Servers in the registry, this one among them.
    pub nodes: u64,
}

impl ClusterFigures {
    /// Returns how many gaps were told since the server had joined.
    pub fn gaps_told(&self) -> u64 {
        let gaps = self.gaps.iter().filter(|(reason, _)| *reason != "joined");
        gaps.map(|(_, count)| count).sum()
    }

    /// Returns the member of `$stats`.
    pub fn object(&self) -> String {
        Object::new()
            .raw("connected", if self.is_connected { "true" } else { "false" })
            .number("nodes", self.nodes)
            .number("lag_ms", self.lag.as_millis() as u64)
            .number("gaps", self.gaps_told())
            .end()
    }

    /// Writes all figures.
    pub fn write(&self, out: &mut Exposition) {
        let help = "Whether the log of the cluster is read.";
        out.gauge("heartwheel_cluster_connected", help).value(u64::from(self.is_connected));
        let help = "For how long this server has not been at the end of the cluster's log.";
        out.gauge("heartwheel_cluster_lag_seconds", help).value(Decimal::seconds(self.lag));
        let help = "Servers of the cluster that have been heard of in the last 30 s.";
        out.gauge("heartwheel_cluster_nodes", help).value(self.nodes);
        let counters = [
            (
                "heartwheel_cluster_published_total",
                "Publications of this server that the cluster's log has taken.",
                self.published,
            ),
            (
                "heartwheel_cluster_duplicates_total",
                "Publications that the cluster's log had had before: they are not in it twice.",
                self.duplicates,
            ),
            (
                "heartwheel_cluster_refused_total",
                "Publications that Redis, or this server while Redis was away, did not take.",
                self.refused,
            ),
            (
                "heartwheel_cluster_foreign_total",
                "Entries of the cluster's log that are no events, or could not be read.",
                self.foreign,
            ),
            (
                "heartwheel_cluster_reconnects_total",
                "Connections to the cluster's Redis that were made after the first.",
                self.reconnects,
            ),
        ];
        for (name, help, value) in counters {
            out.counter(name, help).value(value);
        }
        let help = "Gaps that all subscribers were told: the cluster's log may be incomplete.";
        out.counter("heartwheel_cluster_gaps_total", help).by("reason", self.gaps);
    }
}
