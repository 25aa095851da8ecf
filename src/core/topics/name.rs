//! Names of topics.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;

use tungstenite::Utf8Bytes;

/// The name of a topic: 1 to 128 characters of `A-Z a-z 0-9 . _ - :`. Cloning shares it.
///
/// Names that begin with `$` are the server's own: [`Name::is_own`]. Every client may read them,
/// but the engine lets no client publish there.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Utf8Bytes);

impl Name {
    /// The longest name, in characters and bytes.
    pub const LEN_MAX: usize = 128;

    /// Returns whether `text` may name a topic, the server's own among them.
    pub fn is_valid(text: &str) -> bool {
        let rest = text.strip_prefix('$').unwrap_or(text);
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        !rest.is_empty() && text.len() <= Name::LEN_MAX && rest.bytes().all(is_allowed)
    }

    /// Returns whether `text` names a topic of the server's own.
    pub fn is_own(text: &str) -> bool {
        text.starts_with('$')
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Name, BadName> {
        if Name::is_valid(text) { Ok(Name(text.into())) } else { Err(BadName) }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

// A map is asked by text: a name hashes and borrows as its text does.
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The text cannot name a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BadName::SENTENCE)
    }
}

impl BadName {
    /// It in words.
    pub const SENTENCE: &'static str = "a topic is 1 to 128 characters of A-Z a-z 0-9 . _ - :";
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let longest = "x".repeat(128);
        for text in ["a", "A.b_c-d:9", ".", "$stats", &longest] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        let too_long = "x".repeat(129);
        // FAULTS 133: patterns are not names, so matching costs one lookup.
        for text in ["", "$", "$$a", "a$", "a b", "a/b", "*", "a.*", "#", "ä", "a\n", &too_long] {
            assert_eq!(text.parse::<Name>(), Err(BadName), "{text:?}");
        }
        assert!(Name::is_own("$stats") && !Name::is_own("stats"));
    }
}
