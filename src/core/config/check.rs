//! Faults and doubts of a configuration: bounds, contradictions and warnings.

use std::time::Duration;

#[cfg(feature = "tls")]
use super::ClientCertificates;
use super::units::{show_duration, show_size};
use super::{Address, Config, ConfigError, KEYS, Key, Network, RateAction};
use crate::core::wire::http::Forwarded;

/// The findings of [`Config::check`], a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Values out of bounds and keys that contradict each other: such a configuration must not be
    /// served.
    pub faults: Vec<String>,
    /// Settings that work, but probably not as intended.
    pub warnings: Vec<String>,
}

impl Config {
    /// Looks for values out of bounds, also those set in code, for contradictions and for doubtful
    /// choices.
    pub fn check(&self) -> Report {
        let mut faults = self.out_of_bounds();
        if faults.is_empty() {
            faults = self.contradictions();
        }
        Report { faults, warnings: self.doubts() }
    }

    /// Reads each value as it would be shown: the table has the bounds.
    fn out_of_bounds(&self) -> Vec<String> {
        let mut scratch = self.clone();
        let fault = |key: &Key| {
            let text = key.value(self);
            let rule = (key.read)(&mut scratch, &text).err()?;
            Some(ConfigError::new(key.name, &text, rule).to_string())
        };
        KEYS.iter().filter_map(fault).collect()
    }

    fn contradictions(&self) -> Vec<String> {
        let found = [self.silence_contradiction(), self.interval_contradiction()];
        let found = found.into_iter().flatten().chain(self.proxy_contradiction());
        #[cfg(feature = "jwt")]
        let found = found.chain(self.jwt_contradictions());
        #[cfg(feature = "store")]
        let found = found.chain(self.store_contradictions());
        #[cfg(feature = "cluster")]
        let found = found.chain(self.cluster_contradiction());
        #[cfg(feature = "sessions")]
        let found = found.chain(self.sessions_contradiction());
        #[cfg(feature = "tls")]
        let found = found.chain(self.tls_contradictions());
        #[cfg(feature = "bridge")]
        let found = found.chain(self.bridge_contradictions());
        found.collect()
    }

    /// A silent connection is pinged, then closed: one of both must be on, and the ping come first.
    fn silence_contradiction(&self) -> Option<String> {
        match (self.deadlines.read_idle, self.heartbeat.interval) {
            (None, None) => Some(
                "heartbeat.interval = off: must be on where deadlines.read_idle = off, \
                 or a silent connection has no deadline"
                    .into(),
            ),
            (Some(idle), Some(interval)) if idle <= interval => Some(format!(
                "deadlines.read_idle = {}: must be longer than heartbeat.interval = {}, \
                 or a connection ends before its first ping",
                show_duration(idle),
                show_duration(interval)
            )),
            _ => None,
        }
    }

    /// The adaptive interval begins at `interval` and stays within `min` and `max`.
    fn interval_contradiction(&self) -> Option<String> {
        let beat = &self.heartbeat;
        let [min, max] = [beat.min, beat.max].map(show_duration);
        if beat.min > beat.max {
            return Some(format!(
                "heartbeat.min = {min}: must not be longer than heartbeat.max = {max}"
            ));
        }
        let interval = beat.interval.filter(|_| beat.adaptive)?;
        let is_within = (beat.min..=beat.max).contains(&interval);
        (!is_within).then(|| {
            format!(
                "heartbeat.interval = {}: must be within heartbeat.min = {min} and \
                 heartbeat.max = {max} where heartbeat.adaptive = true",
                show_duration(interval)
            )
        })
    }

    /// Where only proxies may come, some must be known.
    fn proxy_contradiction(&self) -> Option<String> {
        let mut addresses = self.listen.iter().chain(&self.admin_listen);
        let address = addresses.find(|address| address.is_proxy())?;
        self.proxy.trusted.is_empty().then(|| format!("{address}: {NEEDS_TRUSTED}"))
    }

    /// What is expected of tokens that nobody can check.
    #[cfg(feature = "jwt")]
    fn jwt_contradictions(&self) -> Vec<String> {
        let admission = &self.admission;
        let expected = [
            ("admission.jwt_issuer", &admission.jwt_issuer),
            ("admission.jwt_audience", &admission.jwt_audience),
        ];
        let idle = expected.into_iter().filter(|(_, text)| text.is_some());
        let fault = |(key, _)| format!("{key}: never acts while admission.jwt = off");
        idle.filter(|_| admission.jwt.is_none()).map(fault).collect()
    }

    /// Files of TLS that belong together.
    #[cfg(feature = "tls")]
    fn tls_contradictions(&self) -> Vec<String> {
        let tls = &self.tls;
        let mut faults = Vec::new();
        let mut addresses = self.listen.iter().chain(&self.admin_listen);
        if let Some(address) = addresses.find(|address| address.is_tls())
            && tls.certificate.is_none()
            && tls.sni.is_none()
        {
            faults.push(format!("{address}: needs tls.certificate and tls.key"));
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            faults.push("tls.certificate and tls.key: must be set together".into());
        }
        if tls.ocsp.is_some() && tls.certificate.is_none() {
            faults.push("tls.ocsp: is for tls.certificate, which is not set".into());
        }
        match (tls.client, &tls.client_ca) {
            (ClientCertificates::Off, None) => {}
            (ClientCertificates::Off, Some(_)) => {
                faults.push("tls.client_ca: never acts while tls.client = off".into());
            }
            (_, None) => faults.push("tls.client: must be off where tls.client_ca is".into()),
            (_, Some(_)) => {}
        }
        if tls.client_crl.is_some() && tls.client_ca.is_none() {
            faults.push("tls.client_crl: is for tls.client_ca, which is not set".into());
        }
        faults
    }

    /// Settings that work, but hardly as intended.
    fn doubts(&self) -> Vec<String> {
        let proxy = self.proxy_doubts();
        let doubts =
            [self.address_doubts(), self.silence_doubts(), self.limit_doubts(), proxy].concat();
        #[cfg(feature = "client")]
        let doubts: Vec<_> = doubts.into_iter().chain(self.service_doubt()).collect();
        #[cfg(feature = "store")]
        let doubts: Vec<_> = doubts.into_iter().chain(self.store_doubt()).collect();
        #[cfg(feature = "cluster")]
        let doubts = doubts.into_iter().chain(self.cluster_doubt()).collect();
        doubts
    }

    fn proxy_doubts(&self) -> Vec<String> {
        let proxy = &self.proxy;
        let mut everyone = proxy.trusted.networks().filter(Network::is_everyone);
        let everyone = everyone.next().map(|network| {
            format!("proxy.trusted = {network}: every peer may say which address it has")
        });
        let never = proxy.forwarded != Forwarded::Off && proxy.trusted.is_empty();
        let never = never.then(|| "proxy.forwarded: never acts while proxy.trusted = off".into());
        everyone.into_iter().chain(never).collect()
    }

    /// On other systems `[::]` often takes IPv4 too.
    fn address_doubts(&self) -> Vec<String> {
        let doubts = |key: &'static str, addresses| {
            Address::without_ipv4(addresses).map(move |address| {
                let text = address.to_string();
                let port = text.rsplit(':').next().unwrap_or_default();
                format!("{key} = {text}: does not take IPv4; *:{port} takes IPv4 and IPv6")
            })
        };
        let public = doubts("listen", &self.listen);
        public.chain(doubts("admin_listen", &self.admin_listen)).collect()
    }

    /// A request waits for the service no longer than for any other answer.
    #[cfg(feature = "client")]
    fn service_doubt(&self) -> Option<String> {
        let handshake = self.deadlines.handshake;
        let is_short = self.admission.request.is_some() && handshake <= super::OPINION_WITHIN;
        is_short.then(|| {
            format!(
                "deadlines.handshake = {}: is not longer than the {} that the service of \
                 admission.request may take, so a slow one is never waited for",
                show_duration(handshake),
                show_duration(super::OPINION_WITHIN)
            )
        })
    }

    fn limit_doubts(&self) -> Vec<String> {
        let limits = &self.limits;
        let mut warnings = Vec::new();
        if limits.connections_per_ip as usize > limits.connections {
            warnings.push(format!(
                "limits.connections_per_ip = {}: is more than limits.connections = {}, so it \
                 never acts",
                limits.connections_per_ip, limits.connections
            ));
        }
        let closes = limits.rate_action == RateAction::Close;
        if closes && limits.messages_per_second == 0 && limits.bytes_per_second == 0 {
            warnings.push(
                "limits.rate_action = close: never acts while limits.messages_per_second = 0 and \
                 limits.bytes_per_second = 0"
                    .into(),
            );
        }
        let burst = limits.bytes_per_second.saturating_mul(2);
        if closes && (1..limits.message_bytes).contains(&burst) {
            warnings.push(format!(
                "limits.bytes_per_second = {}: with limits.rate_action = close a message of \
                 limits.message_bytes = {} that comes at once ends its connection",
                show_size(limits.bytes_per_second),
                show_size(limits.message_bytes)
            ));
        }
        warnings
    }

    fn silence_doubts(&self) -> Vec<String> {
        let Some(given_up) = self.given_up_after() else { return Vec::new() };
        let mut warnings = Vec::new();
        if let Some(idle) = self.deadlines.read_idle
            && idle < given_up
        {
            warnings.push(format!(
                "deadlines.read_idle = {}: is shorter than heartbeat.interval + \
                 heartbeat.max_missed x heartbeat.pong = {}, so a silent peer is closed before \
                 all its pings are missed",
                show_duration(idle),
                show_duration(given_up)
            ));
        }
        if given_up > BALANCER_PATIENCE {
            warnings.push(format!(
                "heartbeat.interval + heartbeat.max_missed x heartbeat.pong = {}: is longer than \
                 {}, after which balancers cut a silent connection",
                show_duration(given_up),
                show_duration(BALANCER_PATIENCE)
            ));
        }
        warnings
    }

    /// Returns how long a peer may be silent until its last ping is missed; `None` if no pings are
    /// sent.
    fn given_up_after(&self) -> Option<Duration> {
        let beat = &self.heartbeat;
        Some(beat.interval?.saturating_add(beat.pong.saturating_mul(beat.max_missed)))
    }
}

/// What is said of an address for proxies where none is trusted.
pub(crate) const NEEDS_TRUSTED: &str = "needs proxy.trusted";

/// How long common balancers let a connection be silent.
const BALANCER_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Report {
        let mut config = Config::default();
        for (name, text) in pairs {
            config.set(name, text).unwrap();
        }
        config.check()
    }

    #[test]
    fn the_default_is_sound() {
        assert_eq!(Config::default().check(), Report::default());
    }

    /// FAULTS 161.
    #[test]
    fn each_contradiction_is_named() {
        for (pairs, fault) in [
            (
                [("deadlines.read_idle", "30s"), ("heartbeat.interval", "30s")].as_slice(),
                "deadlines.read_idle = 30s: must be longer than heartbeat.interval = 30s",
            ),
            (
                &[("deadlines.read_idle", "off"), ("heartbeat.interval", "off")],
                "heartbeat.interval = off: must be on where deadlines.read_idle = off",
            ),
            (
                &[("heartbeat.min", "10m")],
                "heartbeat.min = 10m: must not be longer than heartbeat.max = 5m",
            ),
            (
                &[("heartbeat.adaptive", "true"), ("heartbeat.min", "31s")],
                "heartbeat.interval = 30s: must be within heartbeat.min = 31s",
            ),
        ] {
            let faults = check(pairs).faults;
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(fault), "{faults:?}");
        }
    }

    #[test]
    fn an_address_for_proxies_needs_some_that_are_trusted() {
        for key in ["listen", "admin_listen"] {
            let address = (key, "127.0.0.1:1,proxy:127.0.0.1:2");
            assert_eq!(check(&[address]).faults, ["proxy:127.0.0.1:2: needs proxy.trusted"]);
            assert_eq!(check(&[address, ("proxy.trusted", "unix")]), Report::default());
        }
    }

    #[test]
    fn proxies_that_cannot_be_meant_so_are_warned_of() {
        for (name, text, warning) in [
            ("proxy.trusted", "10.0.0.0/8,0.0.0.0/0", "proxy.trusted = 0.0.0.0/0: every peer"),
            ("proxy.trusted", "::/0", "proxy.trusted = ::/0: every peer may say"),
            ("proxy.forwarded", "forwarded", "proxy.forwarded: never acts while proxy.trusted"),
        ] {
            let report = check(&[(name, text)]);
            assert_eq!(report.faults, [""; 0]);
            assert!(report.warnings[0].starts_with(warning), "{report:?}");
        }
    }

    #[test]
    fn either_of_read_idle_and_heartbeat_may_be_off() {
        for name in ["deadlines.read_idle", "heartbeat.interval"] {
            assert_eq!(check(&[(name, "off")]), Report::default(), "{name}");
        }
    }

    #[test]
    fn each_warning_is_named() {
        for (name, text, warning) in [
            ("deadlines.read_idle", "59s", "deadlines.read_idle = 59s: is shorter than"),
            ("heartbeat.pong", "10001ms", "deadlines.read_idle = 1m: is shorter than"),
            (
                "limits.connections_per_ip",
                "10001",
                "limits.connections_per_ip = 10001: is more than limits.connections = 10000",
            ),
        ] {
            let report = check(&[(name, text)]);
            assert_eq!(report.faults, [""; 0]);
            assert!(report.warnings[0].starts_with(warning), "{report:?}");
        }
        let report = check(&[("heartbeat.interval", "31s"), ("deadlines.read_idle", "61s")]);
        assert_eq!(report.faults, [""; 0]);
        assert_eq!(report.warnings.len(), 1);
        assert!(report.warnings[0].contains("= 61s: is longer than 1m"), "{report:?}");
    }

    #[cfg(feature = "client")]
    #[test]
    fn a_service_that_may_take_longer_than_a_request_waits_is_doubtful() {
        for (handshake, has_doubt) in [("2s", true), ("2001ms", false)] {
            let url = ("admission.request", "http://127.0.0.1:9000/check");
            let report = check(&[url, ("deadlines.handshake", handshake)]);
            assert_eq!((report.faults.len(), !report.warnings.is_empty()), (0, has_doubt));
            assert_eq!(check(&[("deadlines.handshake", handshake)]), Report::default());
        }
    }

    #[test]
    fn an_address_that_takes_no_ipv4_is_told_to() {
        let doubts = |key, addresses| check(&[(key, addresses)]).warnings;
        for key in ["listen", "admin_listen"] {
            assert_eq!(
                doubts(key, "[::]:8765"),
                [format!("{key} = [::]:8765: does not take IPv4; *:8765 takes IPv4 and IPv6")]
            );
            for addresses in ["[::1]:8765", "*:8765", "0.0.0.0:8765,[::]:8765", "unix:/x"] {
                assert_eq!(doubts(key, addresses), [""; 0], "{addresses}");
            }
        }
    }

    #[test]
    fn rates_that_cannot_be_meant_so_are_warned_of() {
        let close = ("limits.rate_action", "close");
        for (pairs, warning) in [
            ([close].as_slice(), "limits.rate_action = close: never acts"),
            (
                &[close, ("limits.bytes_per_second", "256k")],
                "limits.bytes_per_second = 256k: with limits.rate_action = close a message of \
                 limits.message_bytes = 1m",
            ),
        ] {
            let report = check(pairs);
            assert_eq!(report.faults, [""; 0]);
            assert!(report.warnings[0].starts_with(warning), "{report:?}");
        }
        let pairs = [("limits.bytes_per_second", "1"), ("limits.messages_per_second", "1")];
        assert_eq!(check(&pairs), Report::default(), "a peer that is read slowly is well");
    }

    #[test]
    fn a_value_assigned_in_code_is_held_to_the_same_bounds() {
        let mut config = Config::default();
        config.deadlines.close_ack = Duration::ZERO;
        config.deadlines.lifetime = Some(Duration::MAX);
        config.heartbeat.jitter = f64::NAN;
        config.limits.headers = 0;
        let faults = config.check().faults;
        let keys: Vec<_> = faults.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(
            keys,
            ["deadlines.close_ack", "deadlines.lifetime", "heartbeat.jitter", "limits.headers"]
        );
    }
}
