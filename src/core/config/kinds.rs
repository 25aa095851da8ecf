//! Kinds of values: how a field is read from text, within which bounds, and how it is shown.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::units::{read_duration, read_size, show_duration, show_size};
use super::{Address, Owner};
use crate::core::admission::cohort::CohortKey;
use crate::core::ground::decimal::{self, Decimal};

/// Reads and shows the values of one kind.
///
/// `read` takes what `show` returns; so a value set in code is checked by showing and reading it.
pub(super) trait ValueKind<T> {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// The rule that the text breaks: a phrase that begins with "must".
    fn read(&self, text: &str) -> Result<T, String>;

    /// Shows a value.
    fn show(&self, value: &T) -> Shown;
}

/// A value as text; the kind alone decides the variant. Its [`Display`] is the form that
/// [`ValueKind::read`] takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown {
    /// A number or a truth value: bare in TOML.
    Bare(String),
    /// A number, perhaps with a unit: bare in TOML, or quoted.
    Amount(String),
    /// A word or a duration: quoted in TOML.
    Text(String),
    /// A list: an array in TOML, comma-separated elsewhere; without entries it is `off`.
    List(Vec<String>),
}

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Bare(text) | Shown::Amount(text) | Shown::Text(text) => f.write_str(text),
            Shown::List(entries) if entries.is_empty() => f.write_str("off"),
            Shown::List(entries) => f.write_str(&entries.join(",")),
        }
    }
}

/// A duration within bounds.
pub(super) struct Span(pub RangeInclusive<Duration>);

impl ValueKind<Duration> for Span {
    fn read(&self, text: &str) -> Result<Duration, String> {
        let Span(bounds) = self;
        read_duration(text).filter(|span| bounds.contains(span)).ok_or_else(|| {
            let [from, to] = [bounds.start(), bounds.end()].map(|span| show_duration(*span));
            format!("must be a duration (in ms, s, m, h or d) from {from} to {to}")
        })
    }

    fn show(&self, span: &Duration) -> Shown {
        Shown::Text(show_duration(*span))
    }
}

/// A value of the inner kind, or `off`.
pub(super) struct OrOff<K>(pub K);

impl<T, K: ValueKind<T>> ValueKind<Option<T>> for OrOff<K> {
    fn read(&self, text: &str) -> Result<Option<T>, String> {
        match text {
            "off" => Ok(None),
            _ => self.0.read(text).map(Some).map_err(|rule| format!("{rule}, or off")),
        }
    }

    fn show(&self, value: &Option<T>) -> Shown {
        match value {
            Some(value) => self.0.show(value),
            None => Shown::Text("off".into()),
        }
    }
}

/// A value of the inner kind, or `auto`.
pub(super) struct OrAuto<K>(pub K);

impl<T, K: ValueKind<T>> ValueKind<Option<T>> for OrAuto<K> {
    fn read(&self, text: &str) -> Result<Option<T>, String> {
        match text {
            "auto" => Ok(None),
            _ => self.0.read(text).map(Some).map_err(|rule| format!("{rule}, or auto")),
        }
    }

    fn show(&self, value: &Option<T>) -> Shown {
        match value {
            Some(value) => self.0.show(value),
            None => Shown::Text("auto".into()),
        }
    }
}

/// A size in bytes within bounds.
pub(super) struct Size(pub RangeInclusive<u64>);

impl<T: TryFrom<u64> + TryInto<u64> + Copy> ValueKind<T> for Size {
    fn read(&self, text: &str) -> Result<T, String> {
        let Size(bounds) = self;
        narrow(read_size(text), bounds).ok_or_else(|| {
            let [from, to] = [bounds.start(), bounds.end()].map(|bytes| show_size(*bytes));
            format!("must be a size (in bytes, k, m or g) from {from} to {to}")
        })
    }

    fn show(&self, bytes: &T) -> Shown {
        Shown::Amount(show_size(widen(*bytes)))
    }
}

/// A count within bounds.
pub(super) struct Count(pub RangeInclusive<u64>);

impl<T: TryFrom<u64> + TryInto<u64> + Copy> ValueKind<T> for Count {
    fn read(&self, text: &str) -> Result<T, String> {
        let Count(bounds) = self;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok()).flatten();
        narrow(number, bounds).ok_or_else(|| {
            format!("must be a whole number from {} to {}", bounds.start(), bounds.end())
        })
    }

    fn show(&self, count: &T) -> Shown {
        Shown::Bare(widen(*count).to_string())
    }
}

/// Permissions of a file, in octal as chmod(1) takes them.
pub(super) struct Mode;

impl ValueKind<u32> for Mode {
    fn read(&self, text: &str) -> Result<u32, String> {
        let is_octal = (3..=4).contains(&text.len()) && !text.starts_with('+');
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.ok_or_else(|| "must be three octal digits, such as 660".into())
    }

    fn show(&self, mode: &u32) -> Shown {
        Shown::Text(format!("{mode:03o}"))
    }
}

/// A user, a group or both.
pub(super) struct Ownership;

impl ValueKind<Owner> for Ownership {
    fn read(&self, text: &str) -> Result<Owner, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let is_letter = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "._-".contains(c);
        let is_name = |name: &str| name.chars().all(is_letter);
        if text.trim_matches(':').is_empty() || !is_name(user) || !is_name(group) {
            return Err("must be USER, USER:GROUP or :GROUP".into());
        }
        let part = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Ok(Owner { user: part(user), group: part(group) })
    }

    fn show(&self, owner: &Owner) -> Shown {
        let part = |name: &Option<String>| name.clone().unwrap_or_default();
        let group = owner.group.as_ref().map_or(String::new(), |group| format!(":{group}"));
        Shown::Text(part(&owner.user) + &group)
    }
}

/// A fraction: 0 to 1.
pub(super) struct Share;

impl ValueKind<f64> for Share {
    fn read(&self, text: &str) -> Result<f64, String> {
        let share = decimal::parse(text).filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| "must be a number from 0 to 1, such as 0.3".into())
    }

    fn show(&self, share: &f64) -> Shown {
        Shown::Bare(decimal::share(*share))
    }
}

/// Of a hundred, with two decimals.
pub(super) struct Percent;

impl ValueKind<f64> for Percent {
    fn read(&self, text: &str) -> Result<f64, String> {
        let is_fit = |percent: &f64| {
            let hundredths = percent * 100.0;
            (0.0..=100.0).contains(percent) && (hundredths - hundredths.round()).abs() < 1e-6
        };
        let percent = decimal::parse(text).filter(is_fit);
        percent
            .ok_or_else(|| "must be a number from 0 to 100 with two decimals, such as 2.5".into())
    }

    fn show(&self, percent: &f64) -> Shown {
        Shown::Bare(Decimal::new((percent * 100.0).round() as u64, 2).to_string())
    }
}

/// What names a client.
pub(super) struct CohortKeys;

impl ValueKind<CohortKey> for CohortKeys {
    fn read(&self, text: &str) -> Result<CohortKey, String> {
        text.parse().map_err(|()| "must be header:NAME, query:NAME, identity or ip".into())
    }

    fn show(&self, key: &CohortKey) -> Shown {
        Shown::Text(key.to_string())
    }
}

/// What is hashed before a key.
pub(super) struct Salt;

impl ValueKind<String> for Salt {
    fn read(&self, text: &str) -> Result<String, String> {
        match text.len() <= 64 && !text.contains(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err("must be at most 64 bytes without control characters".into()),
        }
    }

    fn show(&self, salt: &String) -> Shown {
        Shown::Text(salt.clone())
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl ValueKind<bool> for Switch {
    fn read(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".into())
    }

    fn show(&self, is_on: &bool) -> Shown {
        Shown::Bare(is_on.to_string())
    }
}

/// One of a few words.
pub(super) struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> ValueKind<T> for OneOf<T> {
    fn read(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
            format!("must be {}", words.join(" or "))
        })
    }

    fn show(&self, value: &T) -> Shown {
        let found = self.0.iter().find(|(_, other)| other == value);
        Shown::Text(found.map_or("", |(word, _)| *word).into())
    }
}

/// The path of a file.
pub(super) struct File;

impl ValueKind<PathBuf> for File {
    fn read(&self, text: &str) -> Result<PathBuf, String> {
        match text {
            "" => Err("must be the path of a file".into()),
            _ => Ok(text.into()),
        }
    }

    fn show(&self, path: &PathBuf) -> Shown {
        Shown::Text(path.display().to_string())
    }
}

/// A text that is compared with what comes.
#[cfg(any(feature = "jwt", feature = "bridge"))]
pub(super) struct Text;

#[cfg(any(feature = "jwt", feature = "bridge"))]
impl ValueKind<String> for Text {
    fn read(&self, text: &str) -> Result<String, String> {
        match !text.is_empty() && !text.contains(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err("must be a text without control characters".into()),
        }
    }

    fn show(&self, text: &String) -> Shown {
        Shown::Text(text.clone())
    }
}

/// The address of an HTTP proxy.
#[cfg(feature = "client")]
pub(super) struct Proxy;

#[cfg(feature = "client")]
impl ValueKind<String> for Proxy {
    fn read(&self, text: &str) -> Result<String, String> {
        let target = text.parse::<crate::core::wire::target::Target>().ok();
        match target.filter(|target| !target.is_secure()) {
            Some(_) => Ok(text.to_owned()),
            None => Err("must be http://HOST:PORT".into()),
        }
    }

    fn show(&self, proxy: &String) -> Shown {
        Shown::Text(proxy.clone())
    }
}

/// A comma-separated list of addresses, or `off` for none.
pub(super) struct Addresses;

impl ValueKind<Vec<Address>> for Addresses {
    fn read(&self, text: &str) -> Result<Vec<Address>, String> {
        if text == "off" {
            return Ok(Vec::new());
        }
        #[cfg(not(feature = "tls"))]
        if text.split(',').any(|entry| Address::names_tls(entry.trim())) {
            return Err(super::NO_TLS.into());
        }
        let entries = text.split(',').map(|entry| entry.trim().parse::<Address>());
        entries.collect::<Result<_, _>>().map_err(|error| format!("{error}, or off"))
    }

    fn show(&self, addresses: &Vec<Address>) -> Shown {
        Shown::List(addresses.iter().map(Address::to_string).collect())
    }
}

/// A type that reads and shows itself, one word or a comma-separated list; with its rule.
pub(super) struct List(pub &'static str);

impl<T: FromStr + Display> ValueKind<T> for List {
    fn read(&self, text: &str) -> Result<T, String> {
        text.parse().map_err(|_| self.0.into())
    }

    fn show(&self, value: &T) -> Shown {
        let text = value.to_string();
        let entries = text.split(',').filter(|_| text != "off");
        Shown::List(entries.map(String::from).collect())
    }
}

/// Returns the number if it is within the bounds and fits the field.
fn narrow<T: TryFrom<u64>>(number: Option<u64>, bounds: &RangeInclusive<u64>) -> Option<T> {
    number.filter(|number| bounds.contains(number))?.try_into().ok()
}

fn widen<T: TryInto<u64>>(number: T) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}
