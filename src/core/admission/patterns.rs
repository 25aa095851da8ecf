//! A list of patterns of topics.

use std::fmt;
use std::str::FromStr;

use super::rights::{is_pattern, matches};
use crate::core::topics::Name;

/// Topics by patterns: names in which `*` means one character or more.
///
/// Read from text and written as text: a comma-separated list, or `off` for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Returns whether a pattern names this topic.
    pub fn name(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, topic))
    }

    /// Returns whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Patterns {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Patterns, BadPattern> {
        if text == "off" {
            return Ok(Patterns::default());
        }
        let patterns = text.split(',').map(|pattern| pattern.trim().to_owned());
        let patterns: Vec<_> = patterns.collect();
        // The server's own topics are not for patterns.
        let is_good = |pattern: &String| is_pattern(pattern) && !Name::is_own(pattern);
        match patterns.iter().all(is_good) {
            true => Ok(Patterns(patterns)),
            false => Err(BadPattern),
        }
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("off"),
            false => f.write_str(&self.0.join(",")),
        }
    }
}

/// The text is no list of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;
