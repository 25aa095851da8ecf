//! Our reader of TOML beside the crate `toml`: both accept the same texts, and read the same.

use toml::de::{DeTable, DeValue};

use super::kinds::Shown;
use super::{Config, KEYS};

/// Reads a configuration by the crate. `None` if a key or a value is wrong, or it is not TOML.
fn other(text: &str) -> Option<Config> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut config = Config::default();
    let root = errors.is_empty().then_some(root)?;
    for (name, value) in root.get_ref() {
        let name = name.get_ref().as_ref();
        let is_section = KEYS.iter().any(|key| !name.is_empty() && key.section() == name);
        match value.get_ref() {
            DeValue::Table(table) if is_section => {
                for (inner, value) in table {
                    set(&mut config, name, inner.get_ref(), value.get_ref())?;
                }
            }
            value => set(&mut config, "", name, value)?,
        }
    }
    Some(config)
}

fn set(config: &mut Config, section: &str, name: &str, value: &DeValue) -> Option<()> {
    let key = KEYS.iter().find(|key| match key.name.split_once('.') {
        Some(of_it) => of_it == (section, name),
        None => section.is_empty() && key.name == name,
    })?;
    let text = plain(value, &(key.show)(config))?;
    config.set(key.name, &text).ok()
}

fn plain(value: &DeValue, shown: &Shown) -> Option<String> {
    Some(match (value, shown) {
        (DeValue::String(_), Shown::Bare(_)) => return None,
        (DeValue::String(text), _) => text.to_string(),
        (DeValue::Array(array), Shown::List(_)) => {
            let texts: Option<Vec<&str>> =
                array.iter().map(|entry| entry.get_ref().as_str()).collect();
            texts?.join(",")
        }
        (_, Shown::List(_)) => return None,
        (DeValue::Integer(number), _) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string()
        }
        (DeValue::Float(number), _) => number.as_str().into(),
        (DeValue::Boolean(is_on), _) => is_on.to_string(),
        _ => return None,
    })
}

fn ours(text: &str) -> Option<Config> {
    Config::from_toml(text).ok()
}

/// Lines that go together, and lines that do not.
const LINES: &[&str] = &[
    "",
    "\t# \u{e4} comment",
    "# \u{7f}",
    "# a\rb",
    "\r",
    "\u{b}",
    "workers = 1",
    "workers=01",
    "workers = -0",
    "workers = +0",
    "workers = 1_0 # ten",
    "workers = 1__0",
    "workers = _1",
    "workers = 0x_1",
    "workers = 0xA",
    "workers = 0Xa",
    "workers = 0b11",
    "workers = 0o7",
    "workers = 0o8",
    "workers = +0x1",
    "workers = 0x",
    "workers = 1.0",
    "workers = 99999999999999999999999999",
    "workers = 0xffffffffffffffffffff",
    "\"workers\" = 1",
    "'workers' = 1",
    "\"work\\u0065rs\" = 1",
    "\"\"\"workers\"\"\" = 1",
    "workers = 1 2",
    "workers = 1 \r\nlog = 'warn'",
    "workers = 2026-01-01",
    "workers = 10:00:00",
    "workers = 1\u{b}",
    "log = 'info'",
    "log = \"in\\u0066o\"",
    "log = \"in\\x66o\"",
    "log = \"in\\U00000066o\"",
    "log = \"in\\U11111111o\"",
    "log = \"in\\ud800o\"",
    "log = \"in\\qo\"",
    "log = \"in\\u66\"",
    "log = \"info",
    "log = \"in\nfo\"",
    "log = 'in\nfo'",
    "log = \"\"\"info\"\"\"",
    "log = \"\"\"\ninfo\"\"\"",
    "log = '''\r\ninfo'''",
    "log = '''info''''",
    "log = \"\"\"in\\  \n \r\n  fo\"\"\"",
    "log = \"\"\"in\\  fo\"\"\"",
    "log = '''in\\\nfo'''",
    "log = \"\"\"info",
    "log = \"\"\"info\"\"\"\"\"\"",
    "log = info",
    "log = inf",
    "log =",
    "log",
    "= 1",
    "log.x = 1",
    "listen = ['127.0.0.1:1', \"unix:/a b#c\",]",
    "listen = [\n # one\n '127.0.0.1:1' # two\n,\n]",
    "listen = ['127.0.0.1:1'",
    "listen = ['127.0.0.1:1' 'unix:/x']",
    "listen = [,]",
    "listen = [[]]",
    "listen = [1]",
    "listen = [{}]",
    "listen = []",
    "listen = ['''unix:/x''', \"\"\"unix:/\\\"\"\"\"]",
    "listen = ['''unix:/a\r\nb''']",
    "listen = [\"unix:/\\u00e4\\e\\t\"]",
    "[turn]",
    " [ turn ] # x",
    "[\"turn\"]",
    "[turn] x",
    "[turn",
    "[turn]]",
    "[[turn]]",
    "[ [turn] ]",
    "[]",
    "[turn.x]",
    "[turn.events]",
    "[turn.]",
    "events = 64",
    "'events' = 64",
    "bytes = \"16k\"",
    "events.x = 1",
    "turn.events = 64",
    "turn . 'bytes' = '8k'",
    "'turn.events' = 64",
    "turn.events.x = 64",
    "turn = 1",
    "turn = {}",
    "turn = { events = 64 }",
    "turn = { events = 64, }",
    "turn = {\n events = 64, # x\n bytes = '8k' }",
    "turn = { events = 64, events = 64 }",
    "turn = { events.x = 64 }",
    "turn = { events = 64 bytes = 1 }",
    "turn = {,}",
    "[heartbeat]",
    "jitter = 0.5",
    "jitter = .5",
    "jitter = 5.",
    "jitter = 0",
    "jitter = 5e-1",
    "jitter = 5_0E-0_2",
    "jitter = 0e",
    "jitter = 0.2_5",
    "jitter = 0._2",
    "jitter = nan",
    "jitter = +inf",
    "jitter = 00.1",
    "adaptive = true",
    "adaptive = True",
    "heartbeat.adaptive = false",
    "[nonsense]",
    "nonsense = {}",
    "''.tick = '1s'",
    "['']",
];

/// Each pair of lines, with a third between some of them.
#[test]
fn the_same_texts_are_accepted_and_read_the_same() {
    let mut accepted = 0;
    for first in LINES {
        for second in LINES {
            for third in ["", "[turn]", "turn.events = 3"] {
                let text = format!("{first}\n{third}\n{second}");
                let ours = ours(&text);
                assert_eq!(ours, other(&text), "{text:?}: {:?}", Config::from_toml(&text).err());
                accepted += u32::from(ours.is_some());
            }
        }
    }
    assert!(accepted > 900, "{accepted}");
}

/// Any bytes in the place of any others: nothing panics, and both judge alike.
#[test]
fn texts_with_a_few_bytes_changed_are_judged_alike() {
    let text = "\u{feff}workers = 0x1f # x\nlog = \"in\\u0066o\"\n\
                listen = ['127.0.0.1:0', \"\"\"\nunix:/a\\\n  b\"\"\"]\n\
                turn = { events = 6_4, bytes = '16k' }\n[heartbeat]\njitter = 5.0e-1\n\
                adaptive = true\n[deadlines]\nbody = '''9s'''\n";
    assert!(ours(text).is_some());
    // The crate takes ends of lines around the = of a table in a line; TOML does not.
    let table = text.find("turn = {").unwrap()..=text.find("'16k'").unwrap();
    let bytes = b" \t\r\n\"'\\#=.,[]{}_-+0aeExuT:\x00\x7f";
    let chars: Vec<char> = text.chars().collect();
    for at in 0..chars.len() {
        let offset: usize = chars[..at].iter().map(|c| c.len_utf8()).sum();
        for byte in bytes {
            for is_instead in [true, false] {
                let mut changed = chars.clone();
                match is_instead {
                    true => changed[at] = char::from(*byte),
                    false => changed.insert(at, char::from(*byte)),
                }
                if b"\r\n".contains(byte) && table.contains(&offset) {
                    continue;
                }
                let text: String = changed.iter().collect();
                assert_eq!(
                    ours(&text),
                    other(&text),
                    "{text:?}: {:?}",
                    Config::from_toml(&text).err()
                );
            }
        }
        let cut: String = chars[..at].iter().collect();
        assert_eq!(ours(&cut), other(&cut), "{cut:?}");
    }
}
