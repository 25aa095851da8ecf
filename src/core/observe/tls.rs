//! What is counted of TLS.

use crate::core::observe::metrics::Exposition;
use crate::core::observe::stats::Histogram;
use crate::core::wire::tls::Suite;

/// Counters of all connections over TLS.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsFigures {
    /// Handshakes that were done, by suite and by whether they resumed a session.
    pub handshakes: [[u64; 2]; 3],
    /// How long they took from accept, in milliseconds: full ones, and resumed ones.
    pub took: [Histogram; 2],
    /// Handshakes that failed, by why, in the order of [`TlsFigures::FAILURES`].
    pub failures: [u64; TlsFigures::FAILURES.len()],
    /// Key updates, of both sides.
    pub key_updates: u64,
    /// Until when each certificate is valid: its name, and seconds since 1970.
    pub valid_until: Vec<(String, i64)>,
    /// Reloads that were refused for the files of TLS.
    pub reload_errors: u64,
    /// Gauge: bytes of records that are under way.
    pub held_bytes: u64,
    /// Gauge: handshakes that hold state.
    pub handshaking: u64,
}

impl TlsFigures {
    /// Why a handshake can fail.
    pub const FAILURES: [&str; 13] = [
        "alert",
        "bad_certificate",
        "eof",
        "http",
        "no_application_protocol",
        "no_certificate",
        "no_cipher",
        "no_name",
        "not_tls",
        "protocol",
        "room",
        "unfinished",
        "version",
    ];

    /// Counts a handshake that failed.
    pub fn count_failure(&mut self, label: &str) {
        let index = TlsFigures::FAILURES.iter().position(|failure| *failure == label);
        debug_assert!(index.is_some(), "{label} is in the list");
        self.failures[index.unwrap_or(0)] += 1;
    }

    /// Writes all figures.
    pub fn write(&self, out: &mut Exposition) {
        let name = "heartwheel_tls_handshake_seconds";
        let help = "Time from accept to the end of a TLS handshake.";
        let [full, resumed] = &self.took;
        out.histograms_by(name, help, "kind", [("full", full), ("resumed", resumed)]);
        let name = "heartwheel_tls_handshakes_total";
        let mut family = out.counter(name, "TLS handshakes done.");
        for suite in Suite::ALL {
            let counts = self.handshakes[suite as usize];
            for (kind, count) in ["full", "resumed"].into_iter().zip(counts) {
                family.labelled(&[("cipher", suite.label()), ("kind", kind)], count);
            }
        }
        let name = "heartwheel_tls_handshake_failures_total";
        let mut family = out.counter(name, "TLS handshakes that failed.");
        family.by("reason", TlsFigures::FAILURES.into_iter().zip(self.failures));
        let help = "TLS handshakes that hold state.";
        out.gauge("heartwheel_tls_handshaking", help).value(self.handshaking);
        let help = "Bytes of TLS records that are under way, of all connections.";
        out.gauge("heartwheel_tls_held_bytes", help).value(self.held_bytes);
        let help = "Changes of keys of open TLS connections, by either side.";
        out.counter("heartwheel_tls_key_updates_total", help).value(self.key_updates);
        let name = "heartwheel_tls_certificate_not_after_seconds";
        let help = "Until when a certificate is valid, in seconds since 1970.";
        let mut family = out.gauge(name, help);
        for (certificate, until) in &self.valid_until {
            family.labelled(&[("name", certificate)], until);
        }
        let help = "Reloads that were refused for the files of TLS.";
        out.counter("heartwheel_tls_reload_errors_total", help).value(self.reload_errors);
    }
}
