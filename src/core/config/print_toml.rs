//! Printing TOML: a table for each section, a line for each key.

use super::kinds::Shown;
use super::{Config, KEYS};

impl Config {
    /// Returns all keys and their values as TOML, which reads back as an equal configuration.
    ///
    /// Durations and sizes are in the largest unit that divides them. The closing deadlines in
    /// force stand beside `deadlines.preset`, so that the preset changes nothing when the text is
    /// read.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            if key.section() != section {
                section = key.section();
                text += &format!("\n[{section}]\n");
            }
            let name = key.name.rsplit('.').next().unwrap_or(key.name);
            text += &format!("{name} = {}\n", literal(&(key.show)(self)));
        }
        #[cfg(feature = "bridge")]
        for bridge in &self.bridges {
            text += &format!("\n[bridge.{}]\n", bridge.name());
            for key in super::BRIDGE_KEYS {
                text += &format!("{} = {}\n", key.name, literal(&(key.show)(bridge)));
            }
        }
        text
    }
}

/// Returns a value as TOML.
fn literal(shown: &Shown) -> String {
    match shown {
        Shown::Bare(text) => text.clone(),
        Shown::Amount(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.clone(),
        Shown::Amount(text) | Shown::Text(text) => quote(text),
        Shown::List(entries) if entries.is_empty() => quote("off"),
        Shown::List(entries) => {
            let quoted: Vec<_> = entries.iter().map(|entry| quote(entry)).collect();
            format!("[{}]", quoted.join(", "))
        }
    }
}

/// Returns a basic string (TOML 1.0, String).
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_printed_section_by_section() {
        let text = Config::default().to_toml();
        let begin = "listen = [\"127.0.0.1:8765\"]\nadmin_listen = [\"127.0.0.1:8766\"]\n\
            workers = 2\nlog = \"info\"\ntick = \"50ms\"\n\n\
            [unix]\nmode = \"600\"\nowner = \"off\"\n\n\
            [turn]\nevents = 1024\nbytes = \"256k\"\n\n\
            [deadlines]\npreset = \"balanced\"\nhandshake = \"5s\"\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("\nread_idle = \"1m\"\n"));
        assert!(text.contains("\nlifetime = \"off\"\n"));
        let end = "\n[watch]\ninterval = \"off\"\ndrift = 0.5\nthreshold = 8\ndir = \"off\"\n\
            snapshots = 8\n\n\
            [canary]\npercent = 0\nkey = \"header:X-Device-Id\"\nsalt = \"\"\n";
        // The keys of what a build has besides come last.
        let has_more = cfg!(any(feature = "tls", feature = "client"));
        let is_there = text.ends_with(end) || has_more && text.contains(end);
        assert!(is_there, "{text}");
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
