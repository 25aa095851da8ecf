//! Configuration: a plain structure, read from text by a table of keys.
//!
//! ```
//! use heartwheel::config::Config;
//!
//! let mut config = Config::default();
//! config.limits.connections = 500;
//! config.set("deadlines.handshake", "2s")?;
//! assert!(config.check().faults.is_empty());
//! # Ok::<(), heartwheel::config::ConfigError>(())
//! ```
//!
//! [`KEYS`] drives everything that knows keys by name: [`Config::set`], TOML both ways and
//! [`Config::check`]. This module has no file, no environment and no option; the program has those.

use std::fmt;
use std::time::Duration;

use log::LevelFilter;

mod address;
#[cfg(feature = "bridge")]
mod bridge;
mod check;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod keys;
mod kinds;
mod networks;
#[cfg(any(test, all(feature = "ffi", not(feature = "toml"))))]
mod plain_toml;
mod print_toml;
#[cfg(feature = "toml")]
mod read_toml;
mod sections;
#[cfg(feature = "client")]
mod service;
#[cfg(feature = "sessions")]
mod sessions;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(test, feature = "toml"))]
mod toml_oracle;
#[cfg(feature = "toml")]
mod toml_text;
pub(crate) mod units;
mod worst_case;

pub use crate::core::admission::cohort::CohortKey;
pub use address::{Address, AddressError};
#[cfg(feature = "mqtt")]
pub use bridge::MqttVersion;
#[cfg(feature = "bridge")]
pub use bridge::{BRIDGE_KEYS, Bridge, BridgeKey};
pub(crate) use check::NEEDS_TRUSTED;
pub use check::Report;
pub use client::ClientAdvice;
#[cfg(feature = "cluster")]
pub(crate) use cluster::{
    CLUSTER_QUEUE_BYTES, Credentials, OFFLINE_QUEUE_BYTES, RedisPlace, Sentinels,
};
#[cfg(feature = "cluster")]
pub use cluster::{Cluster, Offline, RedisUrl, RedisUrlError};
pub use keys::{KEYS, Key};
pub use networks::{Network, Networks};
#[cfg(feature = "client")]
pub use sections::Client;
#[cfg(feature = "streams")]
pub use sections::Serve;
pub use sections::{
    Admission, Canary, Deadlines, Heartbeat, Limits, Overflow, OverflowPolicy, Owner, Preset,
    Proxy, RateAction, Revoke, Takeover, Topics, Turn, Unix, Watch,
};
#[cfg(feature = "deflate")]
pub use sections::{Compression, CompressionHistory, CompressionMode};
#[cfg(feature = "client")]
pub(crate) use service::OPINION_WITHIN;
#[cfg(feature = "client")]
pub use service::{PassedHeaders, PassedHeadersError};
#[cfg(feature = "sessions")]
pub use sessions::Sessions;
#[cfg(feature = "store")]
pub(crate) use store::STORE_QUEUE_BYTES;
#[cfg(feature = "store")]
pub use store::{Store, StoreAck, WhenSpent};
#[cfg(feature = "tls")]
pub use tls::{Ciphers, ClientCertificates, Tls};
#[cfg(feature = "client")]
pub(crate) use worst_case::OPINION_BYTES_MAX;
pub(crate) use worst_case::{
    EXTRA_BYTES, JOBS_QUEUED_MAX, READ_BUFFER_BYTES, SOCKET_PLACE_BYTES, TIMER_BYTES,
};
pub use worst_case::{IDLE_CONNECTION_BYTES, Term};

/// All settings. Each field is a key of the same name; bridges have names of their own.
///
/// Two configurations are equal if their values are, however they were set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen. Default `127.0.0.1:8765`.
    pub listen: Vec<Address>,
    /// Where the operator's listener is; empty for none. Default `127.0.0.1:8766`.
    pub admin_listen: Vec<Address>,
    /// Worker threads; 0 runs handlers on the loop thread. Default 2, at most 256.
    pub workers: usize,
    /// How much is logged. Default info.
    pub log: LevelFilter,
    /// The width of a slot of the timing wheel: how late a deadline may act. Default 50 ms, 1 ms to
    /// 1 s.
    pub tick: Duration,
    /// Who may connect to a Unix socket.
    pub unix: Unix,
    /// How much one turn of the loop may do.
    pub turn: Turn,
    /// How long each step of a connection may take.
    pub deadlines: Deadlines,
    /// When to ping a silent peer, and when to give it up.
    pub heartbeat: Heartbeat,
    /// How large things may grow.
    pub limits: Limits,
    /// What happens to a message for a full outbox.
    pub overflow: Overflow,
    /// Which messages are compressed.
    #[cfg(feature = "deflate")]
    pub compression: Compression,
    /// Whom proxies in front are believed to connect for.
    pub proxy: Proxy,
    /// Who may connect.
    pub admission: Admission,
    /// What topics retain.
    pub topics: Topics,
    /// Which topics outlast a restart.
    #[cfg(feature = "store")]
    pub store: Store,
    /// With which servers topics are shared.
    #[cfg(feature = "cluster")]
    pub cluster: Cluster,
    /// How long sessions are kept that outlast connections.
    #[cfg(feature = "sessions")]
    pub sessions: Sessions,
    /// Early warning.
    pub watch: Watch,
    /// Which clients are counted apart.
    pub canary: Canary,
    /// What the program serves beside topics.
    #[cfg(feature = "streams")]
    pub serve: Serve,
    /// How connections are made.
    #[cfg(feature = "client")]
    pub client: Client,
    /// Certificates, and whom TLS lets in.
    #[cfg(feature = "tls")]
    pub tls: Tls,
    /// The bridges to other servers, by their names: the tables `[bridge.NAME]`. Default none.
    #[cfg(feature = "bridge")]
    pub bridges: Vec<Bridge>,
    chosen: Chosen,
}

impl Config {
    /// Sets the key `name` to the value that `text` means. A later call wins over an earlier one,
    /// but `deadlines.preset` never changes a deadline that was set by its own key, whichever came
    /// first.
    ///
    /// # Errors
    ///
    /// An unknown key or a value out of its bounds; nothing has changed then. [`Config::check`]
    /// finds keys that contradict each other, when all are set.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        #[cfg(feature = "bridge")]
        if name.starts_with(bridge::PREFIX) {
            return self.set_of_bridge(name, text);
        }
        let key = Key::find(name).ok_or_else(|| ConfigError::new(name, text, no_such_key(name)))?;
        (key.read)(self, text).map_err(|rule| ConfigError::new(name, text, rule))?;
        if !self.is_set(key.name) {
            self.chosen.0.push(key.name);
        }
        Ok(())
    }

    /// Returns whether [`Config::set`] or TOML set this key; a field set in code does not count.
    pub fn is_set(&self, name: &str) -> bool {
        self.chosen.0.contains(&name)
    }

    /// Returns this configuration with the values that a route has of its own.
    ///
    /// # Errors
    ///
    /// Keys that no route has, values out of their bounds, and what contradicts itself then.
    pub(crate) fn changed_by(&self, changes: &[(String, String)]) -> Result<Config, Vec<String>> {
        let mut config = self.clone();
        let change = |(name, text): &(String, String)| {
            if Key::find(name).is_some_and(|key| !key.is_for_routes()) {
                return Some(ConfigError::new(name, text, "is no key of a route"));
            }
            config.set(name, text).err()
        };
        let faults: Vec<_> = changes.iter().filter_map(change).collect();
        let faults = match faults.is_empty() {
            true => config.check().faults,
            false => faults.iter().map(ConfigError::to_string).collect(),
        };
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// Returns the keys whose values differ.
    pub(crate) fn differences(&self, other: &Config) -> Vec<&'static Key> {
        KEYS.iter().filter(|key| (key.show)(self) != (key.show)(other)).collect()
    }

    /// Takes the values of these keys from another configuration.
    pub(crate) fn keep(&mut self, keys: &[&Key], from: &Config) {
        for key in keys {
            let kept = (key.read)(self, &key.value(from));
            debug_assert!(kept.is_ok(), "what is shown can be read");
        }
    }

    fn choose(&mut self, preset: Preset) {
        self.deadlines.preset = preset;
        if !self.is_set("deadlines.close_send") {
            self.deadlines.close_send = preset.close_send();
        }
        if !self.is_set("deadlines.close_ack") {
            self.deadlines.close_ack = preset.close_ack();
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![Address::Tcp("127.0.0.1:8765".into())],
            admin_listen: vec![Address::Tcp("127.0.0.1:8766".into())],
            workers: 2,
            log: LevelFilter::Info,
            tick: Duration::from_millis(50),
            unix: Unix::default(),
            turn: Turn::default(),
            deadlines: Deadlines::default(),
            heartbeat: Heartbeat::default(),
            limits: Limits::default(),
            overflow: Overflow::default(),
            #[cfg(feature = "deflate")]
            compression: Compression::default(),
            proxy: Proxy::default(),
            admission: Admission::default(),
            topics: Topics::default(),
            #[cfg(feature = "store")]
            store: Store::default(),
            #[cfg(feature = "cluster")]
            cluster: Cluster::default(),
            #[cfg(feature = "sessions")]
            sessions: Sessions::default(),
            watch: Watch::default(),
            canary: Canary::default(),
            #[cfg(feature = "streams")]
            serve: Serve::default(),
            #[cfg(feature = "client")]
            client: Client::default(),
            #[cfg(feature = "tls")]
            tls: Tls::default(),
            #[cfg(feature = "bridge")]
            bridges: Vec::new(),
            chosen: Chosen::default(),
        }
    }
}

/// Returns why there is no key of this name: perhaps this build lacks what it is for.
pub(super) fn no_such_key(name: &str) -> &'static str {
    match name {
        #[cfg(not(feature = "tls"))]
        _ if name.starts_with("tls.") || name == "limits.handshaking" => NO_TLS,
        #[cfg(not(feature = "jwt"))]
        "admission.jwt" | "admission.jwt_issuer" | "admission.jwt_audience" => {
            "this build has no tokens that expire: feature `jwt`"
        }
        #[cfg(not(feature = "deflate"))]
        "client.history_bytes" => "this build has no compression: feature `deflate`",
        #[cfg(not(feature = "client"))]
        _ if name.starts_with("client.") || name.starts_with("admission.request") => {
            "this build has no client: feature `client`"
        }
        #[cfg(not(feature = "deflate"))]
        _ if name.starts_with("compression.") => "this build has no compression: feature `deflate`",
        #[cfg(not(feature = "streams"))]
        "serve.files" => "this build has no files: feature `streams`",
        #[cfg(not(feature = "bridge"))]
        _ if name == "bridge" || name.starts_with("bridge.") => {
            "this build has no bridges: feature `bridge`"
        }
        #[cfg(not(feature = "store"))]
        _ if name.starts_with("store.") => "this build has no durable topics: feature `store`",
        #[cfg(not(feature = "cluster"))]
        _ if name.starts_with("cluster.") => "this build has no cluster: feature `cluster`",
        #[cfg(not(feature = "sessions"))]
        _ if name.starts_with("sessions.") => "this build has no sessions: feature `sessions`",
        #[cfg(feature = "bridge")]
        _ if name.starts_with(bridge::PREFIX) => bridge::no_such_key(name),
        _ => "there is no such key",
    }
}

#[cfg(not(feature = "tls"))]
pub(crate) const NO_TLS: &str = "this build has no TLS: feature `tls`";

/// The keys that were set: history, not value, so that any two are equal.
#[derive(Clone, Debug, Default)]
struct Chosen(Vec<&'static str>);

impl PartialEq for Chosen {
    fn eq(&self, _: &Chosen) -> bool {
        true
    }
}

/// A fault of one key: always a single line with the key, the value and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    line: Option<usize>,
    given: String,
    rule: String,
}

impl ConfigError {
    fn new(name: &str, text: &str, rule: impl Into<String>) -> ConfigError {
        ConfigError { line: None, given: format!("{name} = {text}"), rule: rule.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        #[cfg(feature = "cluster")]
        let given = cluster::without_password(&self.given);
        #[cfg(not(feature = "cluster"))]
        let given = &self.given;
        for c in given.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        write!(f, ": {}", self.rule)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (name, text) in pairs {
            config.set(name, text).unwrap();
        }
        config
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn what_a_build_without_tls_lacks_is_refused_by_name() {
        let mut config = Config::default();
        for (key, value) in
            [("tls.certificate", "a.crt"), ("limits.handshaking", "1"), ("listen", "tls:*:443")]
        {
            let error = config.set(key, value).unwrap_err().to_string();
            let fault = format!("{key} = {value}: this build has no TLS: feature `tls`");
            assert!(error.starts_with(&fault), "{error}");
        }
    }

    #[test]
    fn a_key_set_from_text_is_the_field_of_that_name() {
        let config = set(&[
            ("listen", "0.0.0.0:80, unix:/run/h.sock"),
            ("admin_listen", "off"),
            ("log", "debug"),
            ("deadlines.handshake", "250ms"),
            ("deadlines.read_idle", "off"),
            ("limits.message_bytes", "64k"),
            ("heartbeat.jitter", "0.5"),
        ]);
        let listen = [Address::Tcp("0.0.0.0:80".into()), Address::Unix("/run/h.sock".into())];
        assert_eq!(config.listen, listen);
        assert!(config.admin_listen.is_empty());
        assert_eq!(config.log, LevelFilter::Debug);
        assert_eq!(config.deadlines.handshake, Duration::from_millis(250));
        assert_eq!(config.deadlines.read_idle, None);
        assert_eq!(config.limits.message_bytes, 65_536);
        assert_eq!(config.heartbeat.jitter, 0.5);
        assert!(config.is_set("log") && !config.is_set("workers"));
    }

    #[test]
    fn a_key_nobody_built_is_refused() {
        for name in ["", "deadline.handshake", "limits", "watch.folder", "deadlines.handshek"] {
            let error = Config::default().set(name, "1").unwrap_err();
            assert_eq!(error.to_string(), format!("{name} = 1: there is no such key"));
        }
    }

    /// FAULTS 160.
    #[test]
    fn a_duration_out_of_bounds_is_refused_with_the_name_of_its_key() {
        for key in KEYS.iter().filter(|key| key.value(&Config::default()).ends_with('s')) {
            if !matches!(key.section(), "deadlines" | "heartbeat") {
                continue;
            }
            for text in ["0s", "0", "5", "-1s", "18446744073709551615ms", "25d", "577h", ""] {
                let mut config = Config::default();
                let error = config.set(key.name, text).unwrap_err().to_string();
                assert!(error.starts_with(&format!("{} = {text}: must be", key.name)), "{error}");
                assert_eq!(config, Config::default());
            }
            assert_eq!(Config::default().set(key.name, "24d"), Ok(()));
        }
    }

    #[test]
    fn a_value_out_of_bounds_is_refused() {
        for (name, text) in [
            ("listen", ""),
            ("listen", "127.0.0.1:80,"),
            ("workers", "257"),
            ("workers", "+1"),
            ("log", "loud"),
            ("tick", "2s"),
            ("tick", "off"),
            ("turn.events", "0"),
            ("deadlines.preset", "fast"),
            ("deadlines.handshake", "off"),
            ("heartbeat.jitter", "1.1"),
            ("heartbeat.jitter", "-0.1"),
            ("heartbeat.jitter", "nan"),
            ("heartbeat.max_missed", "0"),
            ("heartbeat.adaptive", "yes"),
            ("limits.connections", "0"),
            ("limits.message_bytes", "2g"),
            ("limits.outbox_bytes", "0"),
            ("limits.pings_per_second", "0"),
            ("overflow.policy", "drop"),
            ("admission.origins", "same,,"),
        ] {
            let error = Config::default().set(name, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} = {text}: must be ")), "{error}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let error = Config::default().set("tick\n", "\r\n5\0").unwrap_err().to_string();
        assert_eq!(error, "tick\\n = \\r\\n5\\u{0}: there is no such key");
    }

    #[test]
    fn a_single_key_wins_over_the_preset_in_any_order() {
        let preset = ("deadlines.preset", "strict");
        let single = ("deadlines.close_send", "5s");
        for pairs in [[preset, single], [single, preset]] {
            let config = set(&pairs);
            assert_eq!(config.deadlines.preset(), Preset::Strict);
            assert_eq!(config.deadlines.close_send, Duration::from_secs(5), "{pairs:?}");
            assert_eq!(config.deadlines.close_ack, Duration::from_secs(1), "{pairs:?}");
        }
    }

    #[test]
    fn the_last_preset_wins_over_those_before() {
        let config = set(&[("deadlines.preset", "relaxed"), ("deadlines.preset", "balanced")]);
        assert_eq!(config, Config::default());
    }
}
