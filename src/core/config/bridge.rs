//! Bridges: tables with names of their own, `[bridge.NAME]`, each with the keys of [`BRIDGE_KEYS`].

use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{Count, File, OrOff, Shown, Span, Text, ValueKind};
use super::{Config, ConfigError};
use crate::core::bridge::{Far, Rules};
use crate::core::ground::time::SPAN_MAX;
use crate::core::wire::target::Target;

/// A bridge to another server: which topics go there, and which come from there.
///
/// ```
/// use heartwheel::config::Bridge;
///
/// let bridge = Bridge::new("cloud", "wss://hub.example")
///     .out("devices.* -> plant7.{topic}")
///     .incoming("commands.plant7 -> commands");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bridge {
    name: String,
    /// The far side: `ws://HOST[:PORT][/PATH]` or `wss://`, another heartwheel; with the feature
    /// `mqtt` also `mqtt://HOST[:PORT]` or `mqtts://`, a broker.
    pub url: Option<String>,
    /// The rules for what goes out: `PATTERN -> TOPIC`, with `{topic}` for the whole topic.
    pub out: Vec<String>,
    /// The rules for what comes in, the key `in`: `TOPIC -> TOPIC`.
    pub incoming: Vec<String>,
    /// How many events may be without an acknowledgement. Default 20, at most 64 on `ws:` and 1000
    /// on `mqtt:`.
    pub window: usize,
    /// Of `mqtt:`: the version that is spoken. By default 5, and 3.1.1 if the broker refuses that.
    #[cfg(feature = "mqtt")]
    pub version: MqttVersion,
    /// Of `mqtt:`: 1, each message at least once, or 0, at most once. Default 1.
    #[cfg(feature = "mqtt")]
    pub qos: u8,
    /// Of `mqtt:`: by which the broker knows the session again. By default
    /// `heartwheel-NODE-NAME`, with the machine's name.
    #[cfg(feature = "mqtt")]
    pub client_id: Option<String>,
    /// Of `mqtt:`: the user.
    #[cfg(feature = "mqtt")]
    pub user: Option<String>,
    /// Of `mqtt:`: after so long without a packet the broker is asked for one. Default 30 s.
    #[cfg(feature = "mqtt")]
    pub keep_alive: Duration,
    /// A file with the token for the far side, or with the password for a broker.
    pub password_file: Option<PathBuf>,
    /// Whose certificates are believed, where not those of the system.
    pub ca: Option<PathBuf>,
    /// The bridge's own certificate.
    pub certificate: Option<PathBuf>,
    /// And its key.
    pub key: Option<PathBuf>,
    /// How long an event may be without an acknowledgement before the bridge connects anew. Default
    /// 20 s.
    pub ack: Duration,
}

/// Which version of MQTT is spoken.
#[cfg(feature = "mqtt")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttVersion {
    /// 5; 3.1.1 where the broker does not know it.
    #[default]
    Auto,
    /// 5 alone.
    V5,
    /// 3.1.1 alone.
    V311,
}

/// One key of each bridge.
pub struct BridgeKey {
    /// Its name, behind `bridge.NAME.`.
    pub name: &'static str,
    /// What it means, in a few words. Only the program shows it.
    #[cfg(feature = "program")]
    pub meaning: &'static str,
    read: fn(&mut Bridge, &str) -> Result<(), String>,
    pub(super) show: fn(&Bridge) -> Shown,
}

macro_rules! key {
    ($name:literal, $field:ident, $kind:expr, $meaning:literal) => {
        BridgeKey {
            name: $name,
            #[cfg(feature = "program")]
            meaning: $meaning,
            read: |bridge, text| $kind.read(text).map(|value| bridge.$field = value),
            show: |bridge| $kind.show(&bridge.$field),
        }
    };
}

/// The keys of a bridge, in the order in which they are printed.
pub const BRIDGE_KEYS: &[BridgeKey] = &[
    key!("url", url, OrOff(Url), "the far side: ws:, wss:, mqtt: or mqtts:, //HOST:PORT"),
    key!("out", out, RuleTexts, "rules for what goes out: PATTERN -> TOPIC"),
    key!("in", incoming, RuleTexts, "rules for what comes in: TOPIC -> TOPIC"),
    key!("window", window, Count(1..=WINDOW_MAX), "events without an acknowledgement, at most"),
    #[cfg(feature = "mqtt")]
    key!("version", version, OfMqtt, "of MQTT: auto, 5 or 3.1.1"),
    #[cfg(feature = "mqtt")]
    key!("qos", qos, Quality, "of MQTT: 1, or 0"),
    #[cfg(feature = "mqtt")]
    key!("client_id", client_id, OrOff(Text), "of MQTT: the session; heartwheel-NODE-NAME"),
    #[cfg(feature = "mqtt")]
    key!("user", user, OrOff(Text), "of MQTT: the user"),
    #[cfg(feature = "mqtt")]
    key!("keep_alive", keep_alive, Span(SECOND..=HOURS_18), "of MQTT: a packet so often"),
    key!("password_file", password_file, OrOff(File), "a file with the token, or the password"),
    key!("ca", ca, OrOff(File), "PEM: whose certificates are believed"),
    key!("certificate", certificate, OrOff(File), "PEM: the bridge's own certificate"),
    key!("key", key, OrOff(File), "PEM: and its key"),
    key!("ack", ack, Span(SECOND..=SPAN_MAX), "longest time without an acknowledgement"),
];

impl BridgeKey {
    /// Returns the value of this key of a bridge as text.
    pub fn value(&self, bridge: &Bridge) -> String {
        (self.show)(bridge).to_string()
    }
}

impl Bridge {
    /// Makes a bridge without rules. Its name is of `a-z`, `0-9` and `-`.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Bridge {
        Bridge { url: Some(url.into()), ..Bridge::named(name.into()) }
    }

    /// Adds a rule for what goes out.
    pub fn out(mut self, rule: impl Into<String>) -> Bridge {
        self.out.push(rule.into());
        self
    }

    /// Adds a rule for what comes in.
    pub fn incoming(mut self, rule: impl Into<String>) -> Bridge {
        self.incoming.push(rule.into());
        self
    }

    /// Sets how many events may be without an acknowledgement.
    pub fn window(mut self, window: usize) -> Bridge {
        self.window = window;
        self
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its rules.
    ///
    /// # Errors
    ///
    /// The first rule that is none.
    pub(crate) fn rules(&self) -> Result<Rules, String> {
        let far = if self.is_to_broker() { Far::Mqtt } else { Far::Heartwheel };
        Rules::new(far, &self.out, &self.incoming).map_err(|bad| bad.to_string())
    }

    /// Returns whether the far side is a broker of MQTT.
    pub(crate) fn is_to_broker(&self) -> bool {
        let url = self.url.as_deref().unwrap_or_default();
        cfg!(feature = "mqtt") && is_mqtt(url)
    }

    fn named(name: String) -> Bridge {
        Bridge {
            name,
            url: None,
            out: Vec::new(),
            incoming: Vec::new(),
            window: 20,
            #[cfg(feature = "mqtt")]
            version: MqttVersion::Auto,
            #[cfg(feature = "mqtt")]
            qos: 1,
            #[cfg(feature = "mqtt")]
            client_id: None,
            #[cfg(feature = "mqtt")]
            user: None,
            #[cfg(feature = "mqtt")]
            keep_alive: Duration::from_secs(30),
            password_file: None,
            ca: None,
            certificate: None,
            key: None,
            ack: Duration::from_secs(20),
        }
    }

    /// Returns what is wrong with it, a line each.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let name = &self.name;
        if !is_name(name) {
            faults.push(format!("bridge.{name}: a name is 1 to 32 of a-z, 0-9 and -"));
        }
        for key in BRIDGE_KEYS {
            let text = (key.show)(self).to_string();
            if let Err(rule) = (key.read)(&mut self.clone(), &text) {
                faults.push(format!("bridge.{name}.{} = {text}: {rule}", key.name));
            }
        }
        if self.url.is_none() {
            faults.push(format!("bridge.{name}.url = off: a bridge must have a far side"));
        }
        if self.out.is_empty() && self.incoming.is_empty() {
            faults.push(format!("bridge.{name}: must have a rule, in bridge.{name}.out or .in"));
        }
        if let Err(fault) = self.rules() {
            faults.push(format!("bridge.{name}: {fault}"));
        }
        let most = if self.is_to_broker() { WINDOW_MAX } else { WS_WINDOW_MAX };
        if self.window as u64 > most {
            faults.push(format!("bridge.{name}.window = {}: must be 1 to {most}", self.window));
        }
        if self.certificate.is_some() != self.key.is_some() {
            faults.push(format!("bridge.{name}.certificate: needs bridge.{name}.key, and it this"));
        }
        faults
    }
}

impl Config {
    /// Sets a key of a bridge, which is made with its first key; `name` begins with `bridge.`.
    pub(super) fn set_of_bridge(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let bad = |rule: String| ConfigError::new(name, text, rule);
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        let (of, key) = rest.split_once('.').ok_or_else(|| bad("there is no such key".into()))?;
        let key = BRIDGE_KEYS.iter().find(|known| known.name == key);
        let key = key.ok_or_else(|| bad(super::no_such_key(name).into()))?;
        if !is_name(of) {
            return Err(bad("a bridge's name is 1 to 32 of a-z, 0-9 and -".into()));
        }
        let place = self.bridges.binary_search_by(|bridge| bridge.name.as_str().cmp(of));
        let mut bridge = match place {
            Ok(place) => self.bridges[place].clone(),
            Err(_) => Bridge::named(of.to_owned()),
        };
        (key.read)(&mut bridge, text).map_err(bad)?;
        match place {
            Ok(place) => self.bridges[place] = bridge,
            Err(place) => self.bridges.insert(place, bridge),
        }
        Ok(())
    }

    /// Returns the form of a bridge's key in TOML.
    #[cfg(any(feature = "toml", test, feature = "ffi"))]
    pub(super) fn shape_of_bridge_key(name: &str) -> Option<Shown> {
        let (_, key) = name.strip_prefix(PREFIX)?.split_once('.')?;
        let key = BRIDGE_KEYS.iter().find(|known| known.name == key)?;
        Some((key.show)(&Bridge::named(String::new())))
    }

    /// Adds a bridge, or puts it in place of the one with the same name.
    pub fn add_bridge(&mut self, bridge: Bridge) {
        match self.bridges.binary_search_by(|other| other.name.cmp(&bridge.name)) {
            Ok(place) => self.bridges[place] = bridge,
            Err(place) => self.bridges.insert(place, bridge),
        }
    }

    pub(super) fn bridge_contradictions(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.bridges.iter().flat_map(Bridge::faults).collect();
        if self.bridges.len() > BRIDGES_MAX {
            faults.push(format!("bridge: there are more than {BRIDGES_MAX}"));
        }
        faults
    }
}

/// Returns why a bridge has no such key.
pub(super) fn no_such_key(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        #[cfg(not(feature = "mqtt"))]
        Some("version" | "qos" | "client_id" | "user" | "keep_alive") => NO_MQTT,
        _ => "there is no such key",
    }
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// The URL of a far side.
struct Url;

impl ValueKind<String> for Url {
    fn read(&self, text: &str) -> Result<String, String> {
        if is_mqtt(text) {
            #[cfg(feature = "mqtt")]
            return Target::broker(text).map(|_| text.to_owned()).map_err(|bad| bad.to_string());
            #[cfg(not(feature = "mqtt"))]
            return Err(NO_MQTT.into());
        }
        let target: Result<Target, _> = text.parse();
        match target {
            Ok(_) if text.starts_with("ws:") || text.starts_with("wss:") => Ok(text.to_owned()),
            _ => Err("must be ws://HOST[:PORT][/PATH], wss:, mqtt://HOST[:PORT], or mqtts:".into()),
        }
    }

    fn show(&self, url: &String) -> Shown {
        Text.show(url)
    }
}

fn is_mqtt(url: &str) -> bool {
    ["mqtt:", "mqtts:"].iter().any(|scheme| url.starts_with(scheme))
}

/// The version of MQTT.
#[cfg(feature = "mqtt")]
struct OfMqtt;

#[cfg(feature = "mqtt")]
impl ValueKind<MqttVersion> for OfMqtt {
    fn read(&self, text: &str) -> Result<MqttVersion, String> {
        match text {
            "auto" => Ok(MqttVersion::Auto),
            "5" => Ok(MqttVersion::V5),
            "3.1.1" => Ok(MqttVersion::V311),
            _ => Err("must be auto, 5 or 3.1.1".into()),
        }
    }

    fn show(&self, version: &MqttVersion) -> Shown {
        let text = match version {
            MqttVersion::Auto => "auto",
            MqttVersion::V5 => "5",
            MqttVersion::V311 => "3.1.1",
        };
        Text.show(&text.to_owned())
    }
}

/// A quality of service of MQTT.
#[cfg(feature = "mqtt")]
struct Quality;

#[cfg(feature = "mqtt")]
impl ValueKind<u8> for Quality {
    fn read(&self, text: &str) -> Result<u8, String> {
        match text {
            "0" => Ok(0),
            "1" => Ok(1),
            _ => Err("must be 0 or 1".into()),
        }
    }

    fn show(&self, qos: &u8) -> Shown {
        Count(0..=1).show(&usize::from(*qos))
    }
}

/// Rules, a comma between two; they are read when all are known.
struct RuleTexts;

impl ValueKind<Vec<String>> for RuleTexts {
    fn read(&self, text: &str) -> Result<Vec<String>, String> {
        if text == "off" || text.is_empty() {
            return Ok(Vec::new());
        }
        let rules: Vec<String> = text.split(',').map(|rule| rule.trim().to_owned()).collect();
        match rules.iter().all(|rule| rule.contains("->")) {
            true => Ok(rules),
            false => Err("must be rules: FROM -> TO, a comma between two".into()),
        }
    }

    fn show(&self, rules: &Vec<String>) -> Shown {
        Shown::List(rules.clone())
    }
}

pub(super) const PREFIX: &str = "bridge.";
#[cfg(not(feature = "mqtt"))]
const NO_MQTT: &str = "this build speaks no MQTT: feature `mqtt`";
const SECOND: Duration = Duration::from_secs(1);
const WINDOW_MAX: u64 = 1000;
/// As many as a client of `/ws` may have without an answer.
const WS_WINDOW_MAX: u64 = 64;
/// What MQTT has room for.
#[cfg(feature = "mqtt")]
const HOURS_18: Duration = Duration::from_secs(18 * 60 * 60);
/// Each has one reader of the topics.
const BRIDGES_MAX: usize = crate::core::topics::Topics::READERS_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(settings: &[(&str, &str)]) -> Vec<String> {
        let mut config = Config::default();
        for (name, text) in settings {
            if let Err(error) = config.set(name, text) {
                return vec![error.to_string()];
            }
        }
        config.check().faults
    }

    #[test]
    fn a_bridge_is_made_with_its_first_key_and_judged_as_a_whole() {
        let url = ("bridge.cloud.url", "wss://hub:443/ws");
        let out = ("bridge.cloud.out", "a.* -> b.{topic}, c -> d");
        assert_eq!(faults(&[url, out]), Vec::<String>::new());
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[url], "bridge.cloud: must have a rule"),
            (&[out], "bridge.cloud.url = off: a bridge must have a far side"),
            (&[url, ("bridge.cloud.in", "a.* -> b")], "bridge.cloud: \"a.* -> b\": another"),
            (&[url, ("bridge.cloud.out", "a")], "bridge.cloud.out = a: must be rules"),
            (&[("bridge.Cloud.url", "ws://a")], "bridge.Cloud.url = ws://a: a bridge's name is"),
            (&[("bridge..url", "ws://a")], "bridge..url = ws://a: a bridge's name is"),
            (&[("bridge.url", "ws://a")], "bridge.url = ws://a: there is no such key"),
            (&[("bridge.a.b.url", "ws://a")], "bridge.a.b.url = ws://a: there is no such key"),
            #[cfg(not(feature = "mqtt"))]
            (&[("bridge.a.url", "mqtt://a")], "bridge.a.url = mqtt://a: this build speaks no MQTT"),
            #[cfg(feature = "mqtt")]
            (&[("bridge.a.url", "mqtt://a/b")], "bridge.a.url = mqtt://a/b: must be mqtt://HOST"),
            (&[("bridge.a.url", "http://a")], "bridge.a.url = http://a: must be ws://"),
            (&[("bridge.a.window", "65")], "bridge.a.window = 65: must be"),
            (&[url, out, ("bridge.cloud.key", "k.pem")], "bridge.cloud.certificate: needs"),
        ];
        for (settings, fault) in cases {
            let found = faults(settings);
            assert!(found.iter().any(|found| found.starts_with(fault)), "{fault}: {found:?}");
        }
    }

    #[cfg(feature = "mqtt")]
    #[test]
    fn a_bridge_to_a_broker_has_keys_of_its_own() {
        let url = ("bridge.b.url", "mqtts://broker");
        let rules = [("bridge.b.out", "a.* -> x/{topic}"), ("bridge.b.in", "x/+/# -> b.{rest}")];
        let good = [("version", "3.1.1"), ("qos", "0"), ("window", "1000"), ("keep_alive", "1m")];
        let good = good.map(|(key, text)| (format!("bridge.b.{key}"), text));
        let good = good.iter().map(|(key, text)| (&**key, *text));
        let all: Vec<(&str, &str)> = [url].into_iter().chain(rules).chain(good).collect();
        assert_eq!(faults(&all), Vec::<String>::new());
        for (key, text) in
            [("version", "4"), ("qos", "2"), ("window", "1001"), ("in", "x/#/y -> b")]
        {
            let name = format!("bridge.b.{key}");
            let found = faults(&[url, rules[0], (&name, text)]);
            assert!(found.len() == 1 && found[0].starts_with("bridge.b"), "{key}: {found:?}");
        }
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_table_for_each_bridge_is_printed_and_reads_back() {
        let text = "[bridge.cloud]\nurl = 'ws://hub'\nout = ['a.* -> b.{topic}', 'c -> d']\n\
            [bridge.a-1]\nin = 'x -> y'\nurl = 'ws://b/p'\nwindow = 5\nack = '2s'";
        let config = Config::from_toml(text).unwrap();
        let names: Vec<&str> = config.bridges.iter().map(Bridge::name).collect();
        assert_eq!(names, ["a-1", "cloud"]);
        assert_eq!((config.bridges[0].window, config.bridges[1].out.len()), (5, 2));
        let again = Config::from_toml(&config.to_toml()).unwrap();
        assert_eq!(again, config);
        for (text, fault) in [
            ("[bridge]\n", "line 1: bridge = [bridge]: there is no such key"),
            ("[bridge.a]\nurls = 'x'", "line 2: bridge.a.urls = 'x': there is no such key"),
            ("[bridge.a]\n[bridge.a]", "line 2: [bridge.a]: duplicate key"),
            ("[bridge.a.b]\nurl = 'x'", "line 1: bridge.a = [bridge.a.b]: "),
            #[cfg(not(feature = "mqtt"))]
            ("[bridge.a]\nqos = 1", "line 2: bridge.a.qos = 1: this build speaks no MQTT"),
            #[cfg(feature = "mqtt")]
            ("[bridge.a]\nqos = 2", "line 2: bridge.a.qos = 2: must be 0 or 1"),
        ] {
            let error = Config::from_toml(text).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
    }
}
