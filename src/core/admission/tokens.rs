//! Tokens: who may publish, and who may subscribe, to which topics.
//!
//! ```text
//! # whose, and since when
//! 7Jp0uX2vQd publish=devices.7.* subscribe=commands.7
//! kR4mNz8sWy subscribe=devices.* subscribe=alarms
//! ```
//!
//! A line for each token: characters that RFC 6750 allows, then any number of rights. In a pattern
//! `*` means one character or more. Empty lines and lines that begin with `#` are ignored.
//!
//! Where clients show certificates, a line may begin with `cn=NAME` or `san=NAME` instead of a
//! token, in quotes where there are spaces (`cn="device 7"`): the certificate is the token.
//!
//! A token is found by a hash with a random key, and then compared without stopping at the first
//! difference: the time it takes reveals nothing about the other tokens. No token is ever shown, in
//! a fault or by `Debug`.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::num::NonZeroU16;

use crate::core::topics::Name;
#[cfg(feature = "tls")]
use crate::core::wire::tls::Certificate;

/// All tokens and their rights.
#[derive(Clone)]
pub struct Tokens {
    /// In the order of their hashes.
    entries: Vec<TokenEntry>,
    key: RandomState,
}

/// The position of a token, valid until the tokens are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIndex(NonZeroU16);

/// What a token may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish to it.
    Publish,
    /// Subscribe to it, and read it.
    Subscribe,
}

/// A fault of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensError {
    line: usize,
    rule: &'static str,
}

#[derive(Clone)]
struct TokenEntry {
    hash: u64,
    token: Box<str>,
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
}

/// A topic's name in which `*` means one character or more.
#[derive(Clone, Debug)]
struct Pattern(Box<str>);

impl Tokens {
    /// How many tokens there may be.
    pub const MAX: usize = u16::MAX as usize;

    /// Reads tokens, one a line.
    ///
    /// # Errors
    ///
    /// Every faulty line.
    pub fn parse(text: &str) -> Result<Tokens, Vec<TokensError>> {
        let mut tokens = Tokens { entries: Vec::new(), key: RandomState::new() };
        let mut lines = Vec::new();
        let mut faults = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            match TokenEntry::parse(text, &tokens.key) {
                Ok(None) => {}
                Ok(Some(entry)) => lines.push((line, entry)),
                Err(rule) => faults.push(TokensError { line, rule }),
            }
        }
        if let Some((line, _)) = lines.get(Tokens::MAX) {
            faults.push(TokensError { line: *line, rule: "there must be at most 65535 tokens" });
        }
        // Of equal tokens the earlier line comes first.
        lines.sort_unstable_by(|(line, one), (other_line, other)| {
            (one.hash, &one.token, line).cmp(&(other.hash, &other.token, other_line))
        });
        let repeated = lines.windows(2).filter(|pair| pair[0].1.token == pair[1].1.token);
        let rule = "this token stands on a line before";
        faults.extend(repeated.map(|pair| TokensError { line: pair[1].0, rule }));
        if lines.is_empty() && faults.is_empty() {
            faults.push(TokensError { line: 1, rule: "there must be a token" });
        }
        faults.sort_unstable_by_key(|fault| fault.line);
        tokens.entries = lines.into_iter().map(|(_, entry)| entry).collect();
        if faults.is_empty() { Ok(tokens) } else { Err(faults) }
    }

    /// Returns how many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Finds a token; `None` if it is none of these.
    pub fn find(&self, token: &str) -> Option<TokenIndex> {
        // The name of a certificate is not to be had by saying it.
        self.find_entry(token).filter(|_| is_token(token))
    }

    /// Finds the line for a certificate by its common name, or else by one of its other names.
    #[cfg(feature = "tls")]
    pub fn find_certificate(&self, certificate: &Certificate) -> Option<TokenIndex> {
        let by_common_name = certificate.common_name.iter().map(|name| format!("cn={name}"));
        let by_others = certificate.names.iter().map(|name| format!("san={name}"));
        by_common_name.chain(by_others).find_map(|entry| self.find_entry(&entry))
    }

    fn find_entry(&self, token: &str) -> Option<TokenIndex> {
        let hash = self.key.hash_one(token);
        let from = self.entries.partition_point(|entry| entry.hash < hash);
        let same_hash = self.entries[from..].iter().take_while(|entry| entry.hash == hash);
        let ahead = same_hash.enumerate().find(|(_, entry)| is_same(&entry.token, token))?.0;
        TokenIndex::new(from + ahead)
    }

    /// Returns whether a token has a right. An index that [`Tokens::find`] of other tokens returned
    /// has none, or another token's.
    pub fn may(&self, index: TokenIndex, right: Right, topic: &str) -> bool {
        let Some(entry) = self.entries.get(index.place()) else { return false };
        let patterns = match right {
            Right::Publish => &entry.publish,
            Right::Subscribe => &entry.subscribe,
        };
        patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Finds a token of `other` among these.
    pub(crate) fn find_again(&self, other: &Tokens, index: TokenIndex) -> Option<TokenIndex> {
        self.find_entry(&other.entries.get(index.place())?.token)
    }
}

/// Without the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl TokenIndex {
    fn new(place: usize) -> Option<TokenIndex> {
        u16::try_from(place + 1).ok().and_then(NonZeroU16::new).map(TokenIndex)
    }

    fn place(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

impl TokenEntry {
    /// Reads a line; `None` if it has no token. A fault does not repeat the line's text.
    fn parse(line: &str, key: &RandomState) -> Result<Option<TokenEntry>, &'static str> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (token, rest) = match split_certificate(line)? {
            Some((name, rest)) => (name, rest),
            None => {
                let (token, rest) =
                    line.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((line, ""));
                (token.to_owned(), rest)
            }
        };
        let is_certificate = token.starts_with("cn=") || token.starts_with("san=");
        if !is_certificate && !is_token(&token) {
            return Err("a token must be of A-Z a-z 0-9 - . _ ~ + /, perhaps with = at its end");
        }
        let words = rest.split_ascii_whitespace();
        let mut entry = TokenEntry {
            hash: key.hash_one(&*token),
            token: token.into(),
            publish: Vec::new(),
            subscribe: Vec::new(),
        };
        for word in words {
            let (patterns, pattern) = match word.split_once('=') {
                Some(("publish", pattern)) => (&mut entry.publish, pattern),
                Some(("subscribe", pattern)) => (&mut entry.subscribe, pattern),
                _ => return Err("only publish=PATTERN and subscribe=PATTERN may follow a token"),
            };
            patterns.push(Pattern::parse(pattern)?);
        }
        Ok(Some(entry))
    }
}

/// Splits off what stands in the place of a token and names a certificate: `cn=NAME` or `san=NAME`,
/// with quotes where there are spaces.
#[cfg(feature = "tls")]
fn split_certificate(line: &str) -> Result<Option<(String, &str)>, &'static str> {
    let kinds = ["cn=", "san="];
    let Some((kind, name)) = kinds.iter().find_map(|k| Some((k, line.strip_prefix(k)?))) else {
        return Ok(None);
    };
    let (name, rest) = match name.strip_prefix('"') {
        Some(quoted) => {
            quoted.split_once('"').ok_or("a name that begins with \" must end with it")?
        }
        None => name.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((name, "")),
    };
    let is_good = (1..=256).contains(&name.len()) && !name.contains(char::is_control);
    match is_good && !name.bytes().all(|byte| byte == b'=') {
        true => Ok(Some((format!("{kind}{name}"), rest))),
        false => Err("the name of a certificate must be 1 to 256 bytes of text"),
    }
}

/// Without TLS there are no certificates.
#[cfg(not(feature = "tls"))]
fn split_certificate(_: &str) -> Result<Option<(String, &str)>, &'static str> {
    Ok(None)
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, &'static str> {
        // With a character for each `*` it must be a topic's name.
        match Name::is_valid(&text.replace('*', "x")) {
            true => Ok(Pattern(text.into())),
            false => Err("a pattern must be 1 to 128 characters of A-Z a-z 0-9 . _ - : and *"),
        }
    }

    /// Returns whether the pattern matches this topic, in time linear in both.
    ///
    /// Each piece between two `*` is matched where it first occurs: if a later place leads to a
    /// match, this one does, too.
    fn matches(&self, topic: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *topic };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let has_middle = rest.contains('*');
        let Some(mut left) = topic.strip_prefix(first).and_then(|left| left.strip_suffix(last))
        else {
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
}

/// Compares without stopping at the first difference. A difference in length may show.
fn is_same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    let difference = pairs.fold(0, |so_far, (one, other)| black_box(so_far | (one ^ other)));
    one.len() == other.len() && difference == 0
}

/// RFC 6750, 2.1: the characters allowed behind `Bearer`.
fn is_token(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !digits.is_empty() && digits.bytes().all(is_digit)
}

impl fmt::Display for TokensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.rule)
    }
}

impl std::error::Error for TokensError {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(topic)
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

    #[cfg(feature = "tls")]
    #[test]
    fn a_certificate_is_the_token_where_a_line_names_it() {
        let text = "cn=device-7 publish=a\ncn=\"Door 1\" publish=b\nsan=urn:x:9 publish=c";
        let tokens = Tokens::parse(text).unwrap();
        let may = |common_name: &str, names: &[&str]| -> Vec<&str> {
            let certificate = Certificate {
                common_name: Some(common_name.into()),
                names: names.iter().map(|name| (*name).into()).collect(),
                ..Certificate::default()
            };
            let Some(index) = tokens.find_certificate(&certificate) else { return Vec::new() };
            let topics = ["a", "b", "c"].into_iter();
            topics.filter(|topic| tokens.may(index, Right::Publish, topic)).collect()
        };
        assert_eq!(may("device-7", &[]), ["a"]);
        assert_eq!(may("Door 1", &["urn:x:9"]), ["b"]);
        assert_eq!(may("device-8", &["x", "urn:x:9"]), ["c"]);
        assert_eq!(may("urn:x:9", &["device-7"]), [""; 0], "a kind is not the other");
        for said in ["cn=device-7", "san=urn:x:9", "cn=Door 1", "device-7"] {
            assert_eq!(tokens.find(said), None, "saying a name is not enough");
        }
        for line in ["cn=", "cn=\"x publish=a", "san=\"\" publish=a", "cn=== publish=a"] {
            assert!(Tokens::parse(line).is_err(), "{line}");
        }
        let again = Tokens::parse("x\ncn=device-7").unwrap();
        let index = again.find_certificate(&Certificate {
            common_name: Some("device-7".into()),
            ..Certificate::default()
        });
        assert!(tokens.find_again(&again, index.unwrap()).is_some(), "a reload keeps it");
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
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
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
                assert_eq!(matches(text, name), expected, "{text} {name}");
            }
        }
    }

    /// FAULTS 133.
    #[test]
    fn a_pathological_pattern_costs_no_more_than_its_length() {
        let pattern = Pattern::parse(&format!("{}b", "a*".repeat(63))).unwrap();
        let topic = "a".repeat(128);
        let began = Instant::now();
        assert!((0..1000).all(|_| !pattern.matches(&topic)));
        // Trying all ways would take too long.
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn tokens_are_found_with_their_rights() {
        let tokens = Tokens::parse(
            "# two\n\nfirst publish=a.* subscribe=*\r\n  second\tsubscribe=a subscribe=b.*\n\
             third=\n",
        )
        .unwrap();
        assert_eq!(tokens.len(), 3);
        for token in ["", "firs", "firstt", "First", "third", "#"] {
            assert_eq!(tokens.find(token), None, "{token}");
        }
        let may = |token, right, topic| tokens.may(tokens.find(token).unwrap(), right, topic);
        assert!(may("first", Right::Publish, "a.b") && !may("first", Right::Publish, "b"));
        assert!(may("first", Right::Subscribe, "b"));
        assert!(may("second", Right::Subscribe, "a") && may("second", Right::Subscribe, "b.c"));
        assert!(!may("second", Right::Subscribe, "b") && !may("second", Right::Publish, "a"));
        assert!(!may("third=", Right::Subscribe, "a"));
    }

    #[test]
    fn each_of_many_tokens_is_found() {
        let text: String = (0..5000).map(|n| format!("token-{n} publish=t{n}\n")).collect();
        let tokens = Tokens::parse(&text).unwrap();
        for n in 0..5000 {
            let index = tokens.find(&format!("token-{n}")).unwrap();
            assert!(tokens.may(index, Right::Publish, &format!("t{n}")));
            assert!(!tokens.may(index, Right::Publish, &format!("t{}", n + 1)));
        }
    }

    #[test]
    fn a_token_is_found_again_after_others_took_the_place() {
        let old = Tokens::parse("a publish=x\nb publish=y").unwrap();
        let new = Tokens::parse("c\nb subscribe=z\nd").unwrap();
        let [a, b] = ["a", "b"].map(|token| old.find(token).unwrap());
        assert_eq!(new.find_again(&old, a), None);
        assert_eq!(new.find_again(&old, b), new.find("b"));
    }

    #[test]
    fn faults_name_their_line_and_never_the_token() {
        let text = "good publish=a\nsecret! publish=a\nsecret publish\nsecret publish=a/b\n\
            secret publish=\nsecret read=a\n# secret\ngood\nsecret subscribe=a,b\n=secret\n";
        let faults = Tokens::parse(text).unwrap_err();
        let faults: Vec<_> = faults.iter().map(TokensError::to_string).collect();
        let lines: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        let expected = ["line 2", "line 3", "line 4", "line 5", "line 6", "line 8", "line 9"];
        assert_eq!(lines, [expected.as_slice(), &["line 10"]].concat());
        assert!(faults.iter().all(|fault| !fault.contains("secret") && !fault.contains('\n')));
        assert!(Tokens::parse("# none\n").is_err(), "a file cut short is no file without tokens");
        let many: String = (0..=Tokens::MAX).map(|n| format!("t{n}\n")).collect();
        assert_eq!(Tokens::parse(&many).unwrap_err().len(), 1);
    }

    #[test]
    fn what_is_shown_bears_no_token() {
        let tokens = Tokens::parse("secret publish=a").unwrap();
        assert_eq!(format!("{tokens:?}"), "Tokens { len: 1, .. }");
    }

    #[test]
    fn tokens_are_the_same_if_every_byte_is() {
        assert!(is_same("abc", "abc") && is_same("", ""));
        for other in ["abd", "bbc", "ab", "abcd", ""] {
            assert!(!is_same("abc", other), "{other}");
        }
    }
}
