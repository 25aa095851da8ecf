//! Where the configuration comes from: options win over the environment, the environment over the
//! file, the file over the defaults.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::options::Options;
use crate::core::config::{Config, KEYS};

/// A configuration of valid values. Whether its keys contradict each other is not judged yet.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was ignored, a line each.
    pub warnings: Vec<String>,
}

/// Reads the configuration from all its sources. The environment and the reader of the file are
/// arguments, so that loading can be repeated and tested.
///
/// # Errors
///
/// All faults of all sources, a line each.
pub fn load(
    options: &Options,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Loaded, Vec<String>> {
    let mut loaded = Loaded::default();
    let mut faults = Vec::new();
    if let Some(path) = &options.file {
        let found = match read(path) {
            Ok(text) => loaded.config.merge_toml(&text).iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        faults.extend(found.iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    for (name, value) in variables(environment) {
        let key = KEYS.iter().find(|key| variable_name(key.name) == name);
        if let Some(key) = key {
            let result = loaded.config.set(key.name, &value);
            faults.extend(result.err().map(|fault| format!("{name}: {fault}")));
        } else {
            loaded.warnings.push(format!("{name}: no key has this name, it is ignored"));
        }
    }
    for (key, value) in &options.settings {
        faults.extend(loaded.config.set(key, value).err().map(|fault| fault.to_string()));
    }
    if loaded.config.listen.is_empty() {
        faults.push("listen = off: must name an address".into());
    }
    if faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// How the name of each variable begins. An orchestrator adds variables of its own with this prefix
/// (Kubernetes for a service of this name), so an unknown one is no fault.
const PREFIX: &str = "HEARTWHEEL_";

/// Returns the variables for this program, ordered by name.
fn variables(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    // A value that is not UTF-8 is kept as far as possible: no key accepts it, and the fault can
    // show it.
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let all = environment.into_iter().map(|(name, value)| (text(name), text(value)));
    let mut ours: Vec<(String, String)> = Vec::new();
    for variable in all.filter(|(name, _)| name.starts_with(PREFIX)) {
        ours.insert(ours.partition_point(|other| other.0 < variable.0), variable);
    }
    ours
}

/// Returns the name of the variable for a key: `HEARTWHEEL_DEADLINES_HANDSHAKE`.
fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Loads with these options, these variables and a file of this text.
    fn load_from(
        options: &'static str,
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<Loaded, Vec<String>> {
        let arguments = format!("-c h.toml {options}");
        let arguments: Vec<_> = arguments.split_whitespace().map(OsString::from).collect();
        let options = Options::parse(arguments).unwrap();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        load(&options, environment, |_| Ok(file.into()))
    }

    #[test]
    fn without_any_source_the_defaults_hold() {
        let nothing = load(&Options::default(), [], |_| unreachable!("no file was named"));
        assert_eq!(nothing, Ok(Loaded::default()));
    }

    #[test]
    fn options_win_over_the_environment_and_that_over_the_file() {
        let file = "tick = '1ms'";
        let environment = [("HEARTWHEEL_TICK", "2ms"), ("PATH", "/bin")];
        for (options, environment, tick_ms) in [
            ("--set tick=3ms", environment.as_slice(), 3),
            ("", &environment, 2),
            ("", &[], 1),
            ("--set tick=3ms --set tick=4ms", &[], 4),
        ] {
            let loaded = load_from(options, environment, file).unwrap();
            assert_eq!(loaded.config.tick, Duration::from_millis(tick_ms));
            assert_eq!(loaded.warnings, [""; 0]);
        }
    }

    #[test]
    fn a_single_key_wins_over_the_preset_of_a_stronger_source() {
        let file = "deadlines.close_send = '4s'";
        for (options, environment) in [
            ("--set deadlines.preset=strict", [].as_slice()),
            ("", &[("HEARTWHEEL_DEADLINES_PRESET", "strict")]),
        ] {
            let deadlines = load_from(options, environment, file).unwrap().config.deadlines;
            assert_eq!(deadlines.close_send, Duration::from_secs(4));
            assert_eq!(deadlines.close_ack, Duration::from_secs(1));
        }
    }

    #[test]
    fn each_key_has_its_variable() {
        let default = Config::default();
        let environment: Vec<_> =
            KEYS.iter().map(|key| (variable_name(key.name), key.value(&default))).collect();
        let pairs = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let loaded = load(&Options::default(), pairs, |_| unreachable!()).unwrap();
        assert_eq!(loaded, Loaded::default());
        assert!(KEYS.iter().all(|key| loaded.config.is_set(key.name)));
    }

    #[test]
    fn an_unknown_variable_only_warns() {
        let loaded = load_from("", &[("HEARTWHEEL_PORT", "80")], "").unwrap();
        assert_eq!(loaded.warnings, ["HEARTWHEEL_PORT: no key has this name, it is ignored"]);
    }

    #[test]
    fn faults_of_all_sources_are_told_at_once() {
        let options = "--set workers=x --set ticks=1s --listen off";
        let environment = [("HEARTWHEEL_LIMITS_HEADERS", "0")];
        let file = "log = 'loud'\n[deadlines]\nbody = '0s'";
        let faults = load_from(options, &environment, file).unwrap_err();
        let expected = [
            "h.toml: line 1: log = loud: must be off or error",
            "h.toml: line 3: deadlines.body = 0s: must be a duration",
            "HEARTWHEEL_LIMITS_HEADERS: limits.headers = 0: must be a whole number",
            "workers = x: must be a whole number",
            "ticks = 1s: there is no such key",
            "listen = off: must name an address",
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_fault() {
        let options = Options { file: Some("gone.toml".into()), ..Options::default() };
        let gone = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(load(&options, [], gone), Err(vec!["gone.toml: entity not found".into()]));
    }
}
