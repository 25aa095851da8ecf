//! Configuration: whatever is read, prints to what reads back as the same; whatever is refused, is
//! refused in one line and changes nothing.

use heartwheel::config::{Config, ConfigError, KEYS};

/// The first byte says which form the rest has: TOML, or lines of `KEY=VALUE`.
pub fn run(input: &[u8]) {
    let Some((form, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let config = match form % 2 {
        0 => read_toml(text),
        _ => read_pairs(text),
    };
    check(&config);
}

fn read_toml(text: &str) -> Config {
    let mut config = Config::default();
    let faults = config.merge_toml(text);
    faults.iter().for_each(check_fault);
    let first = Config::from_toml(text);
    assert_eq!(first.as_ref().err(), faults.first(), "the first fault is the one that is told");
    if let Ok(whole) = first {
        assert_eq!(whole, config);
    }
    config
}

fn read_pairs(text: &str) -> Config {
    let mut config = Config::default();
    for line in text.split('\n') {
        let Some((name, value)) = line.split_once('=') else { continue };
        let before = config.clone();
        match config.set(name, value) {
            Ok(()) => {
                assert!(config.is_set(name));
                let key = KEYS.iter().find(|key| key.name == name).expect("what is set is a key");
                let mut again = config.clone();
                assert_eq!(again.set(name, &key.value(&config)), Ok(()), "it reads what it shows");
                assert_eq!(again, config, "{line}");
            }
            Err(fault) => {
                check_fault(&fault);
                assert_eq!(config, before, "a refusal changes nothing");
            }
        }
    }
    config
}

fn check(config: &Config) {
    let printed = config.to_toml();
    let read = Config::from_toml(&printed);
    assert_eq!(read.as_ref(), Ok(config), "{printed}");
    assert_eq!(read.unwrap().to_toml(), printed, "what was read prints the same");
    let report = config.check();
    for line in report.faults.iter().chain(&report.warnings) {
        assert!(!line.contains('\n'), "{line:?}");
    }
}

fn check_fault(fault: &ConfigError) {
    let line = fault.to_string();
    assert!(!line.is_empty() && !line.contains(char::is_control), "one line: {line:?}");
}
