//! Reads the plain part of TOML, for a library that is built without the feature `toml`: sections,
//! one `key = value` on a line, strings in double quotes without escapes, lists of them, numbers,
//! `true` and `false`, comments.
//!
//! TOML reads the same from every text that is accepted here; a line that is not plain is refused.
//! It suits the source of a C host, and takes a tenth of a megabyte less.

use super::kinds::Shown;
use super::{Config, ConfigError, KEYS, Key};

impl Config {
    /// Sets every key in the text, and returns every fault in the order of lines. A text with a
    /// line that is not plain TOML sets nothing.
    #[must_use]
    pub(crate) fn merge_plain_toml(&mut self, text: &str) -> Vec<ConfigError> {
        let mut reader = Reader::default();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if let Err(rule) = reader.read(index + 1, line) {
                let given = line.trim().into();
                faults.push(ConfigError { line: Some(index + 1), given, rule: rule.into() });
            }
        }
        if !faults.is_empty() {
            return faults;
        }
        let merge = |entry: &PlainEntry| self.merge_plain(entry).err();
        reader.entries.iter().filter_map(merge).collect()
    }

    fn merge_plain(&mut self, entry: &PlainEntry) -> Result<(), ConfigError> {
        let fault = |rule: &str| ConfigError {
            line: Some(entry.line),
            given: format!("{} = {}", entry.path, entry.given),
            rule: rule.into(),
        };
        let shape = Key::find(&entry.path).map(|key| (key.show)(self));
        #[cfg(feature = "bridge")]
        let shape = shape.or_else(|| Config::shape_of_bridge_key(&entry.path));
        let shape = shape.ok_or_else(|| fault(super::no_such_key(&entry.path)))?;
        let text = match (&entry.value, shape) {
            (Value::Text(_), Shown::Bare(_)) => {
                return Err(fault("must be written without quotes"));
            }
            (Value::Bare, Shown::List(_)) => {
                return Err(fault("must be a string or a list of strings"));
            }
            (Value::List(_), shown) if !matches!(shown, Shown::List(_)) => {
                return Err(fault("must be a single value"));
            }
            (Value::Text(text) | Value::List(text), _) => text,
            (Value::Bare, _) => entry.given,
        };
        self.set(&entry.path, text).map_err(|fault| ConfigError { line: Some(entry.line), ..fault })
    }
}

/// The content of a text, line by line.
#[derive(Default)]
struct Reader<'a> {
    section: Option<&'a str>,
    sections: Vec<&'a str>,
    entries: Vec<PlainEntry<'a>>,
}

struct PlainEntry<'a> {
    line: usize,
    path: String,
    /// The value as it was written.
    given: &'a str,
    value: Value,
}

enum Value {
    Text(String),
    /// Strings, with commas between.
    List(String),
    /// A number or a truth value.
    Bare,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: usize, text: &'a str) -> Result<(), &'static str> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err("control characters are not text");
        }
        let text = text.trim_matches(BLANK);
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some(header) = text.strip_prefix('[') {
            let (name, rest) = header.split_once(']').ok_or("a section ends with ]")?;
            nothing_but_a_comment(rest)?;
            return self.begin(name);
        }
        let (name, value) = text.split_once('=').ok_or("must be key = value, or [section]")?;
        let (name, value) = (name.trim_end_matches(BLANK), value.trim_start_matches(BLANK));
        if name.is_empty() || !name.split('.').all(is_bare_key) {
            return Err("a key is letters, digits, - and _, with a dot behind its section");
        }
        let (read, used) = read_value(value)?;
        let (given, rest) = value.split_at(used);
        nothing_but_a_comment(rest)?;
        let path = self.section.map_or(name.into(), |section| format!("{section}.{name}"));
        if self.entries.iter().any(|entry| entry.path == path) {
            return Err("stands here twice");
        }
        self.entries.push(PlainEntry { line, path, given, value: read });
        Ok(())
    }

    fn begin(&mut self, name: &'a str) -> Result<(), &'static str> {
        let is_section = |key: &Key| !name.is_empty() && key.section() == name;
        // A fault in it is told of its first key.
        let is_bridge = name.strip_prefix("bridge.").is_some_and(is_bare_key);
        if !is_bridge && !KEYS.iter().any(is_section) {
            return Err("there is no such section");
        }
        let of_it =
            |entry: &PlainEntry| entry.path.rsplit_once('.').is_some_and(|(of, _)| of == name);
        if self.sections.contains(&name) || self.entries.iter().any(of_it) {
            return Err("stands here twice");
        }
        self.sections.push(name);
        self.section = Some(name);
        Ok(())
    }
}

/// Reads a value; returns it and how many bytes it takes.
fn read_value(text: &str) -> Result<(Value, usize), &'static str> {
    match text.as_bytes().first() {
        Some(b'"') => {
            let inner = read_string(text)?;
            Ok((Value::Text(inner.into()), inner.len() + 2))
        }
        Some(b'[') => read_list(text),
        _ => {
            let end = text.find([' ', '\t', '#']).unwrap_or(text.len());
            match is_bare_value(&text[..end]) {
                true => Ok((Value::Bare, end)),
                false => Err("a value is a number, true, false, \"text\" or [\"text\", \"text\"]"),
            }
        }
    }
}

/// Returns the text between the quotes at the beginning.
fn read_string(text: &str) -> Result<&str, &'static str> {
    let inner = text.strip_prefix('"').ok_or("an entry of a list is \"text\"")?;
    let (inner, rest) = inner.split_once('"').ok_or("a text ends with a quote")?;
    match inner.contains('\\') || inner.is_empty() && rest.starts_with('"') {
        true => Err("escapes and texts of several lines are not plain TOML"),
        false => Ok(inner),
    }
}

fn read_list(text: &str) -> Result<(Value, usize), &'static str> {
    let mut entries = Vec::new();
    let mut rest = text[1..].trim_start_matches(BLANK);
    while !rest.starts_with(']') {
        let entry = read_string(rest)?;
        entries.push(entry);
        rest = rest[entry.len() + 2..].trim_start_matches(BLANK);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(BLANK),
            None if rest.starts_with(']') => {}
            None => return Err("a list has commas between its entries and ends with ]"),
        }
    }
    Ok((Value::List(entries.join(",")), text.len() - rest.len() + 1))
}

/// Returns whether this is a decimal number, or a truth value.
fn is_bare_value(text: &str) -> bool {
    if matches!(text, "true" | "false") {
        return true;
    }
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = match text.strip_prefix('-').unwrap_or(text).split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.strip_prefix('-').unwrap_or(text), None),
    };
    let is_short = whole == "0" || !whole.starts_with('0');
    is_digits(whole) && is_short && fraction.is_none_or(is_digits)
}

fn is_bare_key(part: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !part.is_empty() && part.bytes().all(is_allowed)
}

fn nothing_but_a_comment(text: &str) -> Result<(), &'static str> {
    let text = text.trim_start_matches(BLANK);
    match text.is_empty() || text.starts_with('#') {
        true => Ok(()),
        false => Err("only a comment may follow"),
    }
}

const BLANK: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str) -> Result<Config, Vec<String>> {
        let mut config = Config::default();
        let faults = config.merge_plain_toml(text);
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    #[test]
    fn a_plain_configuration_is_read() {
        let text = "# a comment\r\n\nlog = \"warn\" # another\nlisten = [\"127.0.0.1:0\", \
                    \"unix:/a b#c\",]\nturn.bytes=\"16k\"\n\t[deadlines]\t# of ours\n\
                    handshake  =  \"2s\"\n[heartbeat]\njitter = 0.5\nadaptive = true\n\
                    [limits]\nhead_bytes = 4096";
        let config = merge(text).unwrap();
        let mut expected = Config::default();
        for (name, text) in [
            ("log", "warn"),
            ("listen", "127.0.0.1:0,unix:/a b#c"),
            ("turn.bytes", "16k"),
            ("deadlines.handshake", "2s"),
            ("heartbeat.jitter", "0.5"),
            ("heartbeat.adaptive", "true"),
            ("limits.head_bytes", "4k"),
        ] {
            expected.set(name, text).unwrap();
        }
        assert_eq!(config, expected);
        assert!(config.is_set("turn.bytes") && !config.is_set("turn.events"));
    }

    #[test]
    fn what_is_printed_is_plain() {
        let text = Config::default().to_toml();
        assert_eq!(merge(&text), Ok(Config::default()), "{text}");
    }

    #[test]
    fn faults_have_their_lines() {
        for (text, fault) in [
            ("\nnope = 1", "line 2: nope = 1: there is no such key"),
            ("[nope]", "line 1: [nope]: there is no such section"),
            ("[turn]\n[turn]", "line 2: [turn]: stands here twice"),
            ("turn.events = 1\n[turn]", "line 2: [turn]: stands here twice"),
            ("workers = 1\nworkers = 1", "line 2: workers = 1: stands here twice"),
            ("workers = \"1\"", "line 1: workers = \"1\": must be written without quotes"),
            ("listen = 1", "line 1: listen = 1: must be a string or a list of strings"),
            ("log = [\"info\"]", "line 1: log = [\"info\"]: must be a single value"),
            ("tick = \"9s\"", "line 1: tick = 9s: must be"),
            ("log", "line 1: log: must be key = value, or [section]"),
        ] {
            let faults = merge(text).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{faults:?}: {fault}");
        }
    }

    /// TOML reads the same from each text that is accepted here; it may accept more.
    #[cfg(feature = "toml")]
    #[test]
    fn toml_reads_the_same() {
        let lines = [
            "workers = 1",
            "workers=01",
            "workers = -0",
            "workers = 1_0",
            "workers = +1",
            "log",
            "log = \"info\"",
            "log = 'info'",
            "log = \"in\\u0066o\"",
            "log = \"\"\"info\"\"\"",
            "[turn]",
            "[ turn ]",
            "[[turn]]",
            "[turn",
            "events = 64",
            "turn.events = 64",
            "turn . events = 64",
            "\"turn.events\" = 64",
            "turn.events.x = 64",
            "turn = 1",
            "listen = [\"127.0.0.1:1\"]",
            "listen = [\"127.0.0.1:1\",]",
            "listen = []",
            "listen = [,]",
            "listen = [\"127.0.0.1:1\" \"127.0.0.1:2\"]",
            "listen = [1]",
            "listen = \"127.0.0.1:1\"",
            "listen = [\"127.0.0.1:1\"] x",
            "log = \"info\"#",
            "# \u{e4}",
            "log = \"\u{e4}\"",
            "#\u{0}",
            "",
            "\t",
            "[heartbeat]",
            "jitter = 0.5",
            "jitter = .5",
            "jitter = 5.",
            "jitter = 0",
            "jitter = 5e-1",
            "adaptive = true",
            "adaptive = True",
            "= 1",
            "[]",
            "[limits]",
            "head_bytes = \"4k\"",
            "head_bytes = 4096",
        ];
        let mut taken = 0;
        for first in lines {
            for second in lines {
                for third in ["", "[turn]", "events = 64", "turn.events = 3"] {
                    let text = format!("{first}\n{second}\n{third}");
                    let Ok(config) = merge(&text) else { continue };
                    let mut other = Config::default();
                    assert_eq!(other.merge_toml(&text), [], "{text}");
                    assert_eq!(config, other, "{text}");
                    taken += 1;
                }
            }
        }
        assert!(taken > 300, "{taken}");
    }
}
