//! Who may connect: the origins and host names that are answered.

use std::fmt;
use std::str::FromStr;

/// The origins admitted: `same`, `*` or a list. Default `same`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(String);

/// The host names answered: `auto`, `*` or a list. Default `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(String);

impl Default for Origins {
    fn default() -> Origins {
        Origins("same".into())
    }
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts("auto".into())
    }
}

impl FromStr for Origins {
    type Err = ();

    fn from_str(text: &str) -> Result<Origins, ()> {
        is_list(text).then(|| Origins(text.into())).ok_or(())
    }
}

impl FromStr for Hosts {
    type Err = ();

    fn from_str(text: &str) -> Result<Hosts, ()> {
        is_list(text).then(|| Hosts(text.into())).ok_or(())
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_list(text: &str) -> bool {
    let is_entry = |entry: &str| !entry.is_empty() && entry.bytes().all(|b| b.is_ascii_graphic());
    text.split(',').all(is_entry)
}
