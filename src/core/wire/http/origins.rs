//! Which web pages may send requests.
//!
//! Browsers let every page open WebSockets and event streams to every host; the Origin header names
//! the page. Programs other than browsers send none, and are let in: they could send any.
//!
//! | Origin | `same` | a list | `*` |
//! |---|---|---|---|
//! | none | same | same | same |
//! | `http(s)://` + Host, ports as below | same | same | same |
//! | on the list | 403 | foreign | foreign |
//! | `https://example.com.evil`, another port, `null`, not an origin | 403 | 403 | foreign |
//! | two Origin lines, or not UTF-8 | 403 | 403 | 403 |
//!
//! A list may have `null`, which is the Origin of pages from files, of sandboxed frames and of
//! `data:` URLs, and `file://`, which some applications send.
//!
//! Case does not matter. A missing port is the default of the Origin's scheme, on both sides:
//! behind a proxy that ends TLS the Origin is `https` and the Host has no port. On a TLS listener
//! of our own, an `http` Origin is foreign.

use std::fmt;
use std::str::FromStr;

use super::authority::Authority;
use super::cors::Cors;
use super::refusal::Refusal;
use super::request::Request;

/// Which web pages may send requests. The default is `same`.
///
/// Read from text and written as text: `same`, `*`, or a comma-separated list of origins, each
/// `scheme://host[:port]`, `null` or `file://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages of this server.
    #[default]
    Same,
    /// All pages.
    Any,
    /// Pages of this server and of these origins, each in lower case without a default port.
    List(Vec<String>),
}

/// How a request was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted<'r> {
    /// From a page of this server, or from no page.
    Same,
    /// From a page of this other origin. Its answers need [`Cors`].
    Foreign(&'r str),
}

impl Origins {
    /// Checks the origin of a request.
    ///
    /// # Errors
    ///
    /// 403, if pages of this origin may not send requests.
    pub fn check<'r>(&self, request: &'r Request, is_tls: bool) -> Result<Admitted<'r>, Refusal> {
        let mut lines = request.header_values("origin");
        let Some(line) = lines.next() else { return Ok(Admitted::Same) };
        let origin = str::from_utf8(line).ok().filter(|_| lines.next().is_none());
        let refusal = || Refusal::new(403, "this Origin is not admitted: see admission.origins");
        let origin = origin.ok_or_else(refusal)?;
        if is_same(origin, request.host().unwrap_or_default(), is_tls) {
            return Ok(Admitted::Same);
        }
        let is_admitted = match self {
            Origins::Same => false,
            Origins::Any => true,
            Origins::List(list) => canonical(origin).is_some_and(|origin| list.contains(&origin)),
        };
        is_admitted.then_some(Admitted::Foreign(origin)).ok_or_else(refusal)
    }
}

impl Admitted<'_> {
    /// Returns the CORS headers that the answer needs.
    pub fn cors(&self) -> Cors {
        match self {
            Admitted::Same => Cors::None,
            Admitted::Foreign(origin) => Cors::Admitted((*origin).into()),
        }
    }
}

fn is_same(origin: &str, host: &str, is_tls: bool) -> bool {
    let (Some((scheme, page)), Some(own)) = (split_origin(origin), Authority::parse(host)) else {
        return false;
    };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" if !is_tls => 80,
        "https" => 443,
        _ => return false,
    };
    page.host.eq_ignore_ascii_case(own.host)
        && page.port.unwrap_or(default_port) == own.port.unwrap_or(default_port)
}

/// Returns an origin in the form in which origins are compared; `None` if it is none.
fn canonical(origin: &str) -> Option<String> {
    if is_without_host(origin) {
        return Some(origin.to_ascii_lowercase());
    }
    let (scheme, page) = split_origin(origin)?;
    let scheme = scheme.to_ascii_lowercase();
    let host = page.host.to_ascii_lowercase();
    match (scheme.as_str(), page.port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => Some(format!("{scheme}://{host}")),
        (_, Some(port)) => Some(format!("{scheme}://{host}:{port}")),
    }
}

/// Returns whether an origin is one of those that name no host.
fn is_without_host(origin: &str) -> bool {
    origin.eq_ignore_ascii_case("null") || origin.eq_ignore_ascii_case("file://")
}

fn split_origin(origin: &str) -> Option<(&str, Authority<'_>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(is_scheme_byte);
    Some((scheme, Authority::parse(authority)?)).filter(|_| is_scheme)
}

impl FromStr for Origins {
    type Err = OriginsError;

    fn from_str(text: &str) -> Result<Origins, OriginsError> {
        match text.trim() {
            "same" => Ok(Origins::Same),
            "*" => Ok(Origins::Any),
            list => {
                let entries = list.split(',').map(|entry| canonical(entry.trim()));
                entries.collect::<Option<_>>().map(Origins::List).ok_or(OriginsError)
            }
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origins::Same => f.write_str("same"),
            Origins::Any => f.write_str("*"),
            Origins::List(list) => f.write_str(&list.join(",")),
        }
    }
}

/// The text is neither `same` nor `*` nor a list of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginsError;

impl fmt::Display for OriginsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "must be same, * or a list of origins like https://example.com:8443, null or file://",
        )
    }
}

impl std::error::Error for OriginsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::head::tests::{read, request};

    /// Returns S(ame), F(oreign) or - (refused).
    fn verdict(origins: &str, host: &str, origin: &str, is_tls: bool) -> char {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
        let request = request(&text);
        match origins.parse::<Origins>().unwrap().check(&request, is_tls) {
            Ok(Admitted::Same) => 'S',
            Ok(Admitted::Foreign(foreign)) => {
                assert_eq!(foreign, origin);
                'F'
            }
            Err(refusal) => {
                assert_eq!(refusal.status(), 403);
                '-'
            }
        }
    }

    // FAULTS 9: each row under `same`, a list, and `*`.
    #[test]
    fn the_table_holds() {
        let list = "https://app.example, http://dev.example:3000";
        for (host, origin, expected) in [
            ("example.com", "http://example.com", "SSS"),
            ("example.com", "https://EXAMPLE.com", "SSS"),
            ("Example.com:80", "http://example.com", "SSS"),
            ("example.com:443", "https://example.com", "SSS"),
            ("example.com", "HTTPS://example.com:443", "SSS"),
            ("[::1]:8765", "http://[::1]:8765", "SSS"),
            ("example.com:80", "https://example.com", "--F"),
            ("example.com:8765", "http://example.com", "--F"),
            ("example.com:8765", "http://example.com:8766", "--F"),
            ("example.com", "https://example.com.evil", "--F"),
            ("example.com", "https://evil-example.com", "--F"),
            ("example.com", "https://example.com@evil", "--F"),
            ("example.com", "https://evil/example.com", "--F"),
            ("example.com", "https://example.com/", "--F"),
            ("example.com", "ftp://example.com", "--F"),
            ("example.com", "example.com", "--F"),
            ("example.com", "://example.com", "--F"),
            ("example.com", "null", "--F"),
            ("example.com", "", "--F"),
            ("", "http://", "--F"),
            ("example.com", "https://app.example", "-FF"),
            ("example.com", "https://App.Example:443", "-FF"),
            ("example.com", "http://app.example", "--F"),
            ("example.com", "https://app.example:8443", "--F"),
            ("example.com", "http://dev.example:3000", "-FF"),
        ] {
            let found: String =
                ["same", list, "*"].map(|o| verdict(o, host, origin, false)).iter().collect();
            assert_eq!(found, expected, "{origin:?} at {host:?}");
        }
    }

    /// Pages from files and of applications: a list can name them; no other page sends that Origin.
    #[test]
    fn origins_without_a_host_may_be_listed() {
        for (list, origin, expected) in [
            ("null", "null", 'F'),
            ("null", "file://", '-'),
            ("null", "https://null", '-'),
            ("file://", "file://", 'F'),
            ("file://", "null", '-'),
            ("file://", "file:///", '-'),
            ("file://", "http://", '-'),
            ("https://a", "null", '-'),
            ("capacitor://localhost", "capacitor://localhost", 'F'),
            ("capacitor://localhost", "http://localhost", '-'),
            ("moz-extension://0a-1b", "moz-extension://0a-1b", 'F'),
            ("moz-extension://0a-1b", "moz-extension://0a-1c", '-'),
        ] {
            assert_eq!(verdict(list, "example.com", origin, false), expected, "{list} {origin}");
        }
    }

    #[test]
    fn a_tls_listener_has_no_plain_pages() {
        assert_eq!(verdict("same", "a", "http://a", true), '-');
        assert_eq!(verdict("same", "a", "https://a", true), 'S');
    }

    #[test]
    fn odd_origins_are_not_taken_for_none() {
        let none = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(Origins::Same.check(&none, false), Ok(Admitted::Same));
        let two =
            request("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://a\r\n\r\n");
        assert!(Origins::Any.check(&two, false).is_err());
        let no_host = read("GET / HTTP/1.0\r\nOrigin: http://a\r\n\r\n").unwrap().request;
        assert!(Origins::Same.check(&no_host, false).is_err());
    }

    #[test]
    fn text_is_read_and_printed_back() {
        for (text, printed) in [
            ("same", "same"),
            ("*", "*"),
            ("HTTPS://A.example:443 ,app://b:1", "https://a.example,app://b:1"),
            ("null,FILE://, https://a", "null,file://,https://a"),
            (
                "capacitor://localhost, app://., moz-extension://0a-1b, vscode-webview://0f",
                "capacitor://localhost,app://.,moz-extension://0a-1b,vscode-webview://0f",
            ),
        ] {
            let origins: Origins = text.parse().unwrap();
            assert_eq!(origins.to_string(), printed);
            assert_eq!(printed.parse(), Ok(origins));
        }
        for text in
            ["", "nil", "a.example", "https://a/", "https://*.a", "https://a,", "https://a,*"]
        {
            assert_eq!(text.parse::<Origins>(), Err(OriginsError), "{text:?}");
        }
    }
}
