//! The request target (RFC 9112, 3.2).
//!
//! | target | answer |
//! |---|---|
//!  `/path?query` | taken; `..` and `//` have no meaning here and stay as they are |
//! | `http://host/path`, `https://..` | taken; its authority replaces Host (RFC 9112, 3.2.2) |
//! | `*` | with OPTIONS; else 400 |
//! | `host:port` (CONNECT) and anything else | 400 |
//! | with a `#fragment` | 400: a client keeps it to itself |
//! | a path with a bad `%`, with `%00` or another control character, or not UTF-8 | 400 |
//!  of any length | 431 once the head is over its limit |
//!
//! UTF-8 that was not percent-encoded is taken. A query is not checked.

use super::authority::Authority;
use super::percent::percent_decode;
use super::refusal::Refusal;

/// The parts of a request target, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Only in the absolute form.
    pub authority: Option<&'a str>,
    /// Missing in `http://host`, where it means `/`.
    pub path: Option<&'a str>,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Parses a target and refuses what is ambiguous in it.
    pub fn parse(method: &str, target: &'a str) -> Result<Target<'a>, Refusal> {
        if target == "*" && method == "OPTIONS" {
            return Ok(Target { authority: None, path: Some(target), query: None });
        }
        if target.contains('#') {
            return Err(Refusal::bad_request("a request target has no fragment"));
        }
        let (authority, rest) = split_authority(target)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        match percent_decode(path) {
            Some(decoded) if !decoded.contains(char::is_control) => {}
            _ => return Err(Refusal::bad_request("the path is not clean UTF-8")),
        }
        Ok(Target { authority, path: Some(path).filter(|path| !path.is_empty()), query })
    }
}

/// Splits `http://host` off. The rest begins with `/`; behind an authority it may also be empty or
/// begin with the query.
fn split_authority(target: &str) -> Result<(Option<&str>, &str), Refusal> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let malformed = || Refusal::bad_request("the request target is neither a path nor an http URL");
    let (scheme, rest) = target.split_once("://").ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(malformed());
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Authority::parse(authority).ok_or_else(malformed)?;
    Ok((Some(authority), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    // FAULTS 23.
    #[test]
    fn targets_are_taken_apart() {
        for (target, authority, path, query) in [
            ("/", None, Some("/"), None),
            ("/a/../b?x=%00&y#".trim_end_matches('#'), None, Some("/a/../b"), Some("x=%00&y")),
            ("//evil/x", None, Some("//evil/x"), None),
            ("/?", None, Some("/"), Some("")),
            ("/\u{e4}%C3%A4", None, Some("/\u{e4}%C3%A4"), None),
            ("http://a:1/b?c", Some("a:1"), Some("/b"), Some("c")),
            ("HTTPS://[::1]", Some("[::1]"), None, None),
            ("http://a?b/c", Some("a"), None, Some("b/c")),
        ] {
            let expected = Target { authority, path, query };
            assert_eq!(Target::parse("GET", target), Ok(expected), "{target:?}");
        }
        assert!(Target::parse("OPTIONS", "*").is_ok());
    }

    #[test]
    fn other_targets_are_refused() {
        for target in [
            "*",
            "a",
            "host:443",
            "ftp://a/",
            "http:///a",
            "http://u@a/",
            "http://a:x/",
            "://a/",
            "/a#b",
            "/%00",
            "/%0a",
            "/%7f",
            "/%",
            "/%f",
            "/%ff",
            "/%c2%80",
            "?a",
        ] {
            let refusal = Target::parse("GET", target).unwrap_err();
            assert_eq!(refusal.status(), 400, "{target:?}");
        }
        assert!(Target::parse("CONNECT", "host:443").is_err());
    }
}
