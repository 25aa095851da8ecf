//! What is reported of asking the service of `admission.request`.

use crate::core::observe::metrics::{Exposition, Unit};
use crate::core::observe::stats::ServiceStats;

/// How it stands with the service now.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceState {
    /// Requests of clients that wait for the service.
    pub waiting: u64,
    /// The breaker is open: nothing is asked but for a probe.
    pub is_broken: bool,
}

impl ServiceState {
    /// Writes all figures.
    pub fn write(&self, stats: &ServiceStats, out: &mut Exposition) {
        let name = "heartwheel_admission_requests_total";
        let help = "Requests of clients on which the admission service had to decide.";
        let counts = [stats.allowed, stats.refused, stats.failed];
        let results = ["allowed", "refused", "failed"];
        out.counter(name, help).by("result", results.into_iter().zip(counts));
        let help = "Questions sent to the admission service: one for many requests that are alike.";
        out.counter("heartwheel_admission_asked_total", help).value(stats.asked);
        let name = "heartwheel_admission_request_seconds";
        let help = "How long the admission service took, failures included.";
        out.histogram(name, help, &stats.took, Unit::Milliseconds);
        let help = "Requests of clients that wait for the admission service.";
        out.gauge("heartwheel_admission_waiting", help).value(self.waiting);
        let help = "Whether the admission service has failed so often that it is left alone.";
        out.gauge("heartwheel_admission_broken", help).value(u64::from(self.is_broken));
    }
}
