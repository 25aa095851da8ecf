//! Tokens: who may publish, and who may subscribe, to which topics.
//!
//! ```text
//! # whose, and since when
//! 7Jp0uX2vQd publish=devices.7.* subscribe=commands.7
//! kR4mNz8sWy subscribe=devices.* subscribe=alarms
//! ```
//!
//! A line for each token: characters that RFC 6750 allows, then any number of rights. In a pattern
//! `*` means one character or more. A line may bear `identity=NAME` (`identity="device 7"`): who it
//! is that comes with this token. Empty lines and lines that begin with `#` are ignored.
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

use crate::core::admission::rights::{Right, Rights};
use crate::core::ground::identity::Identity;
use crate::core::ground::sha256;
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
    identity: Option<Identity>,
    rights: Rights,
}

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
        // The rule that each line breaks, if it breaks one.
        let mut rules: Vec<Option<&'static str>> = vec![None];
        for (line, text) in (1..).zip(text.lines()) {
            let entry = TokenEntry::parse(text, &tokens.key);
            rules.push(entry.as_ref().err().copied());
            lines.extend(entry.ok().flatten().map(|entry| (line, entry)));
        }
        if let Some((line, _)) = lines.get(Tokens::MAX) {
            rules[*line] = Some("there must be at most 65535 tokens");
        }
        // Of equal tokens the earlier line comes first.
        lines.sort_unstable_by(|(line, one), (other_line, other)| {
            (one.hash, &one.token, line).cmp(&(other.hash, &other.token, other_line))
        });
        for pair in lines.windows(2).filter(|pair| pair[0].1.token == pair[1].1.token) {
            rules[pair[1].0].get_or_insert("this token stands on a line before");
        }
        let fault = |(line, rule): (usize, Option<_>)| Some(TokensError { line, rule: rule? });
        let mut faults: Vec<TokensError> =
            rules.into_iter().enumerate().filter_map(fault).collect();
        if lines.is_empty() && faults.is_empty() {
            faults.push(TokensError { line: 1, rule: "there must be a token" });
        }
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
        self.entries.get(index.place()).is_some_and(|entry| entry.rights.may(right, topic))
    }

    /// Returns the identity that the line of a token bears.
    pub fn identity(&self, index: TokenIndex) -> Option<&Identity> {
        self.entries.get(index.place())?.identity.as_ref()
    }

    /// Returns whether the line is a certificate's: no token stands there.
    #[cfg(feature = "tls")]
    pub fn is_certificate(&self, index: TokenIndex) -> bool {
        self.entries.get(index.place()).is_some_and(|entry| !is_token(&entry.token))
    }

    /// Finds the token of this name ([`name`]).
    pub(crate) fn find_named(&self, token_name: [u8; 8]) -> Option<TokenIndex> {
        let mut entries = self.entries.iter();
        TokenIndex::new(entries.position(|entry| name(&entry.token) == token_name)?)
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
                let (token, rest) = line.split_once(is_blank).unwrap_or((line, ""));
                (token.to_owned(), rest)
            }
        };
        let is_certificate = token.starts_with("cn=") || token.starts_with("san=");
        if !is_certificate && !is_token(&token) {
            return Err("a token must be of A-Z a-z 0-9 - . _ ~ + /, perhaps with = at its end");
        }
        let mut entry = TokenEntry {
            hash: key.hash_one(&*token),
            token: token.into(),
            identity: None,
            rights: Rights::default(),
        };
        entry.parse_rest(rest)?;
        Ok(Some(entry))
    }

    /// Reads what follows a token: rights, and perhaps an identity.
    fn parse_rest(&mut self, rest: &str) -> Result<(), &'static str> {
        let mut rest = rest.trim_ascii_start();
        while !rest.is_empty() {
            let (word, behind) = match rest.strip_prefix("identity=") {
                Some(name) if self.identity.is_none() => {
                    let (name, behind) = split_name(name)?;
                    let rule = "an identity must be 1 to 256 bytes of text";
                    self.identity = Some(Identity::new(name).ok_or(rule)?);
                    ("", behind)
                }
                Some(_) => return Err("a token must have one identity"),
                None => rest.split_once(is_blank).unwrap_or((rest, "")),
            };
            match word.split_once('=') {
                Some(("publish", pattern)) => self.rights.allow(Right::Publish, pattern)?,
                Some(("subscribe", pattern)) => self.rights.allow(Right::Subscribe, pattern)?,
                _ if word.is_empty() => {}
                _ => {
                    return Err("only publish=PATTERN, subscribe=PATTERN and identity=NAME follow");
                }
            }
            rest = behind.trim_ascii_start();
        }
        Ok(())
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
    let (name, rest) = split_name(name)?;
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

/// Splits a name off, which stands in quotes where it has spaces.
fn split_name(text: &str) -> Result<(&str, &str), &'static str> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a name that begins with \" must end with it"),
        None => Ok(text.split_once(is_blank).unwrap_or((text, ""))),
    }
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace()
}

/// Returns what an operator may call a token: the first 8 bytes of its SHA-256. Nothing is known of
/// the token by it.
pub(crate) fn name(token: &str) -> [u8; 8] {
    *sha256::digest(token.as_bytes()).first_chunk().expect("a digest is longer")
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
    use super::*;

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
    fn a_line_may_bear_an_identity() {
        let text = "a identity=device-7 publish=x\nb subscribe=y identity=\"device 8\"\nc\n\
                    d identity=\"9\"publish=z";
        let tokens = Tokens::parse(text).unwrap();
        let identity = |token| tokens.identity(tokens.find(token).unwrap()).map(Identity::as_str);
        assert_eq!(
            ["a", "b", "c", "d"].map(identity),
            [Some("device-7"), Some("device 8"), None, Some("9")]
        );
        for (token, right, topic) in
            [("a", Right::Publish, "x"), ("b", Right::Subscribe, "y"), ("d", Right::Publish, "z")]
        {
            assert!(tokens.may(tokens.find(token).unwrap(), right, topic), "{token}");
        }
        let long = format!("a identity={}", "x".repeat(257));
        for line in
            ["a identity=", "a identity=\"\"", "a identity=\"x", "a identity=x identity=x", &long]
        {
            assert_eq!(Tokens::parse(line).unwrap_err().len(), 1, "{line}");
        }
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
