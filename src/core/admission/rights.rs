//! Rights: which topics one may publish to and subscribe to.

use crate::core::topics::Name;

/// What one may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish to it.
    Publish,
    /// Subscribe to it, and read it.
    Subscribe,
}

/// The topics to which one may publish, and those to which one may subscribe, by patterns. What no
/// pattern names is not allowed.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Patterns, a blank between two of them.
    publish: String,
    subscribe: String,
    /// Those that must be there, too.
    #[cfg(feature = "client")]
    beside: Option<Box<Rights>>,
}

impl Rights {
    /// Allows what a pattern names: a topic's name in which `*` means one character or more.
    ///
    /// # Errors
    ///
    /// The rule that the pattern breaks.
    pub fn allow(&mut self, right: Right, pattern: &str) -> Result<(), &'static str> {
        if !is_pattern(pattern) {
            return Err("a pattern must be 1 to 128 characters of A-Z a-z 0-9 . _ - : and *");
        }
        let patterns = match right {
            Right::Publish => &mut self.publish,
            Right::Subscribe => &mut self.subscribe,
        };
        if !patterns.is_empty() {
            patterns.push(' ');
        }
        patterns.push_str(pattern);
        Ok(())
    }

    /// Gives back the memory for patterns that are not to come.
    pub fn shrink_to_fit(&mut self) {
        self.publish.shrink_to_fit();
        self.subscribe.shrink_to_fit();
    }

    /// Returns whether a pattern names a topic for this right.
    pub fn may(&self, right: Right, topic: &str) -> bool {
        let patterns = match right {
            Right::Publish => &self.publish,
            Right::Subscribe => &self.subscribe,
        };
        let is_allowed = patterns.split_ascii_whitespace().any(|pattern| matches(pattern, topic));
        #[cfg(feature = "client")]
        let is_allowed =
            is_allowed && self.beside.as_ref().is_none_or(|beside| beside.may(right, topic));
        is_allowed
    }

    /// Returns what both allow; `None` takes no right away.
    #[cfg(feature = "client")]
    pub fn both(one: Option<Box<Rights>>, other: Option<Box<Rights>>) -> Option<Box<Rights>> {
        match (one, other) {
            (Some(one), Some(mut other)) => {
                other.beside = Rights::both(other.beside.take(), Some(one));
                Some(other)
            }
            (one, other) => one.or(other),
        }
    }

    /// Replaces what was given first, of those that [`Rights::both`] has put together.
    #[cfg(feature = "client")]
    pub fn replace_first(&mut self, rights: Rights) {
        match &mut self.beside {
            Some(beside) => beside.replace_first(rights),
            None => *self = rights,
        }
    }

    /// Returns how many patterns there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether there is none")]
    pub fn len(&self) -> usize {
        let patterns = [&self.publish, &self.subscribe];
        patterns.into_iter().map(|patterns| patterns.split_ascii_whitespace().count()).sum()
    }
}

/// Returns whether this is a pattern: with a character for each `*` it must be a topic's name.
pub(crate) fn is_pattern(text: &str) -> bool {
    Name::is_valid(&text.replace('*', "x"))
}

/// Returns whether a pattern, a topic's name in which `*` means one character or more, matches this
/// topic, in time linear in both.
///
/// Each piece between two `*` is matched where it first occurs: if a later place leads to a match,
/// this one does, too.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return *pattern == *topic };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let has_middle = rest.contains('*');
    let Some(mut left) = topic.strip_prefix(first).and_then(|left| left.strip_suffix(last)) else {
        return false;
    };
    if has_middle {
        for piece in middle.split('*') {
            // The `*` before it takes at least one character.
            let Some(at) = left.get(1..).and_then(|behind| behind.find(piece)) else {
                return false;
            };
            left = &left[1 + at + piece.len()..];
        }
    }
    !left.is_empty()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// What a right to this pattern says of a topic.
    fn may(pattern: &str, topic: &str) -> bool {
        let mut rights = Rights::default();
        rights.allow(Right::Publish, "nothing").unwrap();
        rights.allow(Right::Publish, pattern).unwrap();
        rights.allow(Right::Subscribe, "*").unwrap();
        assert_eq!(rights.len(), 3);
        rights.may(Right::Publish, topic)
    }

    /// What a pattern means, straight from its definition.
    fn matches_by_definition(pattern: &[u8], topic: &[u8]) -> bool {
        match (pattern, topic) {
            ([], topic) => topic.is_empty(),
            ([b'*', rest @ ..], topic) => {
                (1..=topic.len()).any(|taken| matches_by_definition(rest, &topic[taken..]))
            }
            ([one, pattern @ ..], [other, topic @ ..]) => {
                one == other && matches_by_definition(pattern, topic)
            }
            _ => false,
        }
    }

    #[test]
    fn a_star_stands_for_one_character_or_more() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "a", true),
            ("*", "$stats", true),
            ("a.*", "a.b", true),
            ("a.*", "a.", false),
            ("a.*", "a.b.c", true),
            ("*.a", ".a", false),
            ("a*a", "aa", false),
            ("a*a", "aba", true),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "abxc", false),
            ("a*b*c", "abbxc", true),
            ("**", "a", false),
            ("**", "ab", true),
        ] {
            assert_eq!(may(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn all_short_patterns_mean_what_their_definition_says() {
        let words = |letters: &[u8], longest: usize| {
            let mut words = vec![Vec::new()];
            let mut from = 0;
            for _ in 0..longest {
                for at in from..words.len() {
                    let longer = letters.iter().map(|l| [words[at].as_slice(), &[*l]].concat());
                    let longer: Vec<_> = longer.collect();
                    words.extend(longer);
                }
                from = words.iter().position(|word| word.len() > words[from].len()).unwrap();
            }
            words.split_off(1)
        };
        let topics = words(b"ab", 6);
        for pattern in words(b"ab*", 5) {
            for topic in &topics {
                let [text, name] = [&pattern, topic].map(|word| str::from_utf8(word).unwrap());
                let expected = matches_by_definition(&pattern, topic);
                assert_eq!(may(text, name), expected, "{text} {name}");
            }
        }
    }

    /// FAULTS 133.
    #[test]
    fn a_pathological_pattern_costs_no_more_than_its_length() {
        let pattern = format!("{}b", "a*".repeat(63));
        let topic = "a".repeat(128);
        let began = Instant::now();
        assert!((0..1000).all(|_| !matches(&pattern, &topic)));
        // Trying all ways would take too long.
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
