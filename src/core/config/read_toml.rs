//! Reading TOML against the table of keys.
//!
//! Each value becomes the text that [`Config::set`] takes, so the rules for a file are those for an
//! option. TOML itself refuses a repeated key.

use super::kinds::Shown;
use super::toml_text::{self, Entry, Fault, Value};
use super::{Config, ConfigError, KEYS, Key};

impl Config {
    /// Reads a configuration from TOML; keys that are not in it keep their defaults.
    ///
    /// # Errors
    ///
    /// The first of the faults that [`Config::merge_toml`] finds. [`Config::check`] finds
    /// contradictions.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        match config.merge_toml(text).into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(config),
        }
    }

    /// Sets every key in the text, and returns every fault in the order of lines: text that is not
    /// TOML, unknown and repeated keys, values of a wrong type or out of bounds. A text that is not
    /// TOML sets nothing.
    #[must_use]
    pub fn merge_toml(&mut self, text: &str) -> Vec<ConfigError> {
        let (entries, faults) = toml_text::read(text);
        if !faults.is_empty() {
            return faults.into_iter().map(|fault| syntax_fault(text, fault)).collect();
        }
        let mut faults = Vec::new();
        for entry in &entries {
            if let Err(fault) = self.merge_value(entry) {
                faults.push(fault.on(line_of(text, entry.at)));
            }
        }
        faults
    }

    fn merge_value(&mut self, entry: &Entry) -> Result<(), ConfigError> {
        let Entry { section, name, value, given, .. } = entry;
        if section.is_none() && matches!(value, Value::Table(_)) && is_section(name) {
            // A section without keys.
            return Ok(());
        }
        let path = match section {
            Some(section) => format!("{section}.{name}"),
            None => name.clone(),
        };
        #[cfg(feature = "bridge")]
        if let Some(shape) = Config::shape_of_bridge_key(&path) {
            let value =
                plain(value, &shape).map_err(|rule| ConfigError::new(&path, given, rule))?;
            return self.set(&path, &value);
        }
        // A quoted "turn.bytes" is one name, not two, and so no key.
        let key = Key::find(&path)
            .filter(|key| key.section() == section.as_deref().unwrap_or_default())
            .ok_or_else(|| ConfigError::new(&path, given, super::no_such_key(&path)))?;
        let value =
            plain(value, &(key.show)(self)).map_err(|rule| ConfigError::new(&path, given, rule))?;
        self.set(key.name, &value)
    }
}

impl ConfigError {
    fn on(self, line: usize) -> ConfigError {
        ConfigError { line: Some(line), ..self }
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

/// Returns a value as the text for a key whose values are shown like `shown`.
///
/// A quoted number, and an array for a single value, are wrong types; the key judges whether a
/// number is allowed.
fn plain(value: &Value, shown: &Shown) -> Result<String, &'static str> {
    match (value, shown) {
        (Value::Text(_), Shown::Bare(_)) => Err("must be written without quotes"),
        (Value::Text(text), _) => Ok(text.clone()),
        (Value::List(values), Shown::List(_)) => list(values),
        (_, Shown::List(_)) => Err("must be a string or a list of strings"),
        (Value::Bare(text), _) => Ok(text.clone()),
        _ => Err("must be a single value"),
    }
}

fn list(values: &[Value]) -> Result<String, &'static str> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let entries: Option<Vec<String>> = values.iter().map(text).collect();
    Ok(entries.ok_or("must be a string or a list of strings")?.join(","))
}

/// Returns the fault for text that is not TOML, with its line.
fn syntax_fault(text: &str, (at, rule): Fault) -> ConfigError {
    let line = line_of(text, at);
    let given = text.lines().nth(line - 1).unwrap_or_default().trim().into();
    ConfigError { line: Some(line), given, rule: rule.into() }
}

/// Returns the number of the line of a byte; the first line is 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Address, Preset};
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        Config::default().merge_toml(text).iter().map(ConfigError::to_string).collect()
    }

    #[test]
    fn a_file_sets_what_it_mentions() {
        let config = Config::from_toml(
            "workers = 0
             listen = ['0.0.0.0:80', 'unix:/run/h.sock']
             turn.bytes = 0x1000
             [deadlines]
             read_idle = 'off'
             [heartbeat]
             adaptive = true
             jitter = 0
             [limits] # nothing yet",
        )
        .unwrap();
        let listen = [Address::Tcp("0.0.0.0:80".into()), Address::Unix("/run/h.sock".into())];
        assert_eq!(config.workers, 0);
        assert_eq!(config.listen, listen);
        assert_eq!(config.turn.bytes, 4096);
        assert_eq!(config.deadlines.read_idle, None);
        assert!(config.heartbeat.adaptive);
        assert_eq!(config.heartbeat.jitter, 0.0);
        assert_eq!(config.limits, Config::default().limits);
    }

    /// FAULTS 162.
    #[test]
    fn each_fault_is_one_line_with_its_key() {
        for (text, fault) in [
            ("tick = 50", "line 1: tick = 50: must be a duration"),
            ("tick = ['50ms']", "line 1: tick = ['50ms']: must be a single value"),
            ("workers = '2'", "line 1: workers = '2': must be written without quotes"),
            ("workers = 2.0", "line 1: workers = 2.0: must be a whole number"),
            ("workers = -1", "line 1: workers = -1: must be a whole number"),
            ("log = true", "line 1: log = true: must be off or error"),
            ("listen = 80", "line 1: listen = 80: must be a string or a list"),
            ("listen = []", "line 1: listen = : must be host:port"),
            ("listen = [\n80]", "line 1: listen = [\\n80]: must be a string or a list"),
            ("worker = 2", "line 1: worker = 2: there is no such key"),
            ("deadlines = 5", "line 1: deadlines = 5: there is no such key"),
            ("'turn.bytes' = 5", "line 1: turn.bytes = 5: there is no such key"),
            ("''.tick = '1s'", "line 1: .tick = '1s': there is no such key"),
            ("['']", "line 1:  = ['']: there is no such key"),
            ("\n[nonsense]", "line 2: nonsense = [nonsense]: there is no such key"),
            ("[topics]\nretained = 1", "line 2: topics.retained = 1: there is no such key"),
            ("[limits.headers]", "line 1: limits.headers = [limits.headers]: must be a single"),
            ("[turn]\nbytes = 2026-01-01", "line 2: turn.bytes = 2026-01-01: must be a single"),
            ("tick = '1s'\ntick = '1s'", "line 2: tick = '1s': duplicate key"),
            ("\n\ntick 50ms", "line 3: tick 50ms: "),
            ("tick =", "line 1: tick =: "),
        ] {
            let faults = faults(text);
            assert!(faults[0].starts_with(fault), "{faults:?}");
            assert!(faults.iter().all(|fault| fault.lines().count() == 1), "{faults:?}");
        }
    }

    #[test]
    fn all_faults_are_told_in_the_order_of_lines() {
        let text = "workers = 2.5\n[turn]\nevents = 0\n[deadlines]\nbody = '0s'\ndrain = '1s'";
        let keys: Vec<_> = faults(text)
            .iter()
            .map(|fault| fault.split_once(": ").unwrap().1.split(' ').next().unwrap().to_string())
            .collect();
        assert_eq!(keys, ["workers", "turn.events", "deadlines.body"]);
    }

    #[test]
    fn a_single_key_wins_over_the_preset_of_the_same_file() {
        for text in ["close_send = '4s'\npreset = 'strict'", "preset = 'strict'\nclose_send = '4s'"]
        {
            let deadlines = Config::from_toml(&format!("[deadlines]\n{text}")).unwrap().deadlines;
            assert_eq!(deadlines.preset(), Preset::Strict);
            assert_eq!(deadlines.close_send, Duration::from_secs(4));
            assert_eq!(deadlines.close_ack, Duration::from_secs(1));
        }
    }

    /// FAULTS 166: with nothing set, with everything off its default, and with a path that needs
    /// quoting.
    #[test]
    fn what_is_printed_reads_back_to_the_same() {
        let mut changed = Config::default();
        for (name, text) in [
            ("listen", "[::1]:0,*:0,unix:/run/a \"b\"\\c"),
            ("admin_listen", "off"),
            ("log", "trace"),
            ("tick", "7ms"),
            ("deadlines.preset", "relaxed"),
            ("deadlines.close_ack", "90s"),
            ("deadlines.lifetime", "24h"),
            ("deadlines.handler", "off"),
            ("heartbeat.jitter", "0.000001"),
            ("heartbeat.adaptive", "true"),
            ("limits.outbox_bytes", "1000"),
            ("admission.origins", "https://a.example,https://b.example"),
            ("admission.hosts", "*"),
            ("admission.admin_hosts", "gauge.example"),
            ("admission.tokens", "/etc/heart wheel/\"tokens\""),
        ] {
            changed.set(name, text).unwrap();
        }
        for config in [Config::default(), changed] {
            let text = config.to_toml();
            let again = Config::from_toml(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
            assert_eq!(again, config);
            assert_eq!(again.to_toml(), text);
        }
    }
}
