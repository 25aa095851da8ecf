//! Requests as handlers see them.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tungstenite::Bytes;

use super::headers::{Headers, Span};
use super::path;
use super::percent::query_decode;
use super::target::Target;
use crate::core::ground::cohort::Cohort;
use crate::core::ground::identity::Identity;
use crate::core::ground::trace::{BadTrace, Trace};

/// A request: the head's bytes, an index into them, and the body.
///
/// Names of headers are compared without regard to case. Already checked: the method and the header
/// names are tokens, values have no control characters, the decoded path is UTF-8.
#[derive(Clone)]
pub struct Request {
    headers: Headers,
    method: Span,
    authority: Option<Span>,
    path: Option<Span>,
    query: Option<Span>,
    body: Bytes,
    peer: Option<IpAddr>,
    identity: Option<Identity>,
    cohort: Option<Cohort>,
    /// The path of its route, if that has parameters.
    pattern: Option<Arc<str>>,
    #[cfg(feature = "sessions")]
    borne: super::borne::Borne,
}

impl Request {
    /// Makes a request from a head and the parts that were found in it.
    pub(super) fn new(
        head: &Bytes,
        method: &str,
        target: &Target,
        headers: &[httparse::Header],
    ) -> Request {
        let headers = Headers::new(head, headers);
        let span = |part: &str| headers.span(part);
        Request {
            method: span(method),
            authority: target.authority.map(span),
            path: target.path.map(span),
            query: target.query.map(span),
            headers,
            body: Bytes::new(),
            peer: None,
            identity: None,
            cohort: None,
            pattern: None,
            #[cfg(feature = "sessions")]
            borne: super::borne::Borne::default(),
        }
    }

    /// Returns the method as sent: methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.headers.text(self.method)
    }

    /// Returns the path without the query, percent-encoded as sent; `*` for `OPTIONS *`.
    ///
    /// Any other begins with `/`. [`percent_decode`](super::percent_decode) decodes its parts.
    pub fn path(&self) -> &str {
        self.path.map_or("/", |span| self.headers.text(span))
    }

    /// Returns what the path has for a parameter of its route, decoded: `{name}` or `{name...}`.
    /// `None` if the route has no parameter of this name.
    ///
    /// A `/` in the value of a `{name}` was sent as `%2F`; `.` and `..` stay as they are. To make a
    /// file name of a value, check it.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        path::parameter(self.pattern.as_ref()?, self.path(), name)
    }

    /// Sets the path of its route, if that has parameters.
    pub(crate) fn set_pattern(&mut self, pattern: Option<Arc<str>>) {
        self.pattern = pattern;
    }

    /// Returns what follows the `?`, as sent; `None` without a `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.headers.text(span))
    }

    /// Returns the first value of this name in the query, decoded: `+` is a blank, and bytes that
    /// are not UTF-8 become U+FFFD.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_values(name).next()
    }

    /// Returns all values of this name in the query, decoded.
    pub fn query_values<'r>(&'r self, name: &str) -> impl Iterator<Item = Cow<'r, str>> {
        let pairs = self.query().unwrap_or_default().split('&');
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(move |(own, _)| query_decode(own) == name)
            .map(|(_, value)| query_decode(value))
    }

    /// Returns the host and port that the request names: in an absolute target, else in Host.
    ///
    /// Only in HTTP/1.0 there may be none.
    pub fn host(&self) -> Option<&str> {
        self.authority.map(|span| self.headers.text(span)).or_else(|| self.header("host"))
    }

    /// Returns the first header of this name; `None` if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Returns the values of all lines with this name.
    pub fn header_values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        self.headers.values(name)
    }

    /// Returns all header lines in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter()
    }

    /// Returns the elements of a comma-separated list. All lines with this name are one list (RFC
    /// 9110, 5.3); empty elements are skipped.
    pub fn header_list<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        self.headers.elements(name)
    }

    /// Returns whether the list in all lines of this name has the token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers.has_token(name, token)
    }

    /// Returns the whole body; empty if there is none.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Sets the body.
    pub fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    /// Returns the peer's address; `None` for a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Sets the peer's address.
    pub fn set_peer(&mut self, peer: Option<IpAddr>) {
        self.peer = peer;
    }

    /// Returns who asks: as [`Accept::identity`](crate::Accept::identity) says, or, before that and
    /// without it, as the client's certificate or the line of its token does. `None` if none of
    /// them says anything.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(Identity::as_str)
    }

    /// Sets who asks.
    pub(crate) fn set_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity;
    }

    /// Returns what it bears of its session.
    #[cfg(feature = "sessions")]
    pub(crate) fn borne(&mut self) -> &mut super::borne::Borne {
        &mut self.borne
    }

    /// Returns the client's cohort; `None` while `canary.percent` is 0.
    ///
    /// Where the cohort follows from the identity, that is in `authorize` the identity which the
    /// token or the certificate gives.
    pub fn cohort(&self) -> Option<Cohort> {
        self.cohort
    }

    /// Sets the cohort.
    pub(crate) fn set_cohort(&mut self, cohort: Option<Cohort>) {
        self.cohort = cohort;
    }

    /// Returns the trace context that the client gave (W3C Trace Context): which work of its caller
    /// the request belongs to. `None` if there is no `traceparent`, or one that is not valid.
    pub fn trace(&self) -> Option<Trace> {
        self.traceparent()?.ok()
    }

    /// Returns what stands in `traceparent`, of which there may be one line.
    pub(crate) fn traceparent(&self) -> Option<Result<Trace, BadTrace>> {
        let mut lines = self.header_values(TRACEPARENT);
        let first = lines.next()?;
        Some(match (str::from_utf8(first), lines.next()) {
            (Ok(text), None) => text.parse(),
            _ => Err(BadTrace),
        })
    }

    /// Returns the header lines, for modules that read more of them.
    pub(super) fn lines(&self) -> &Headers {
        &self.headers
    }
}

const TRACEPARENT: &str = "traceparent";

/// Without the query, the headers and the body, which may have tokens and other private data.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut request = f.debug_struct("Request");
        request.field("method", &self.method()).field("path", &self.path());
        request.field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::core::wire::http::head::tests::request;

    #[test]
    fn headers_are_found_in_any_case_and_all_lines() {
        let request = request(
            "GET / HTTP/1.1\r\nHost: a\r\nX-List: a ,\r\nx-list: ,B\r\nEmpty:\r\n\
             Blank:  b c \t\r\nLatin: \u{e4}\r\n\r\n",
        );
        assert_eq!(request.header("HOST"), Some("a"));
        assert_eq!(request.header("empty"), Some(""));
        assert_eq!(request.header("blank"), Some("b c"));
        assert_eq!(request.header("latin"), Some("\u{e4}"));
        assert_eq!(request.header("none"), None);
        assert_eq!(request.header_values("x-list").count(), 2);
        assert_eq!(request.headers().count(), 6);
        assert!(request.has_token("X-List", "b") && request.has_token("X-List", "A"));
        assert!(!request.has_token("X-List", "") && !request.has_token("X-List", "c"));
    }

    #[test]
    fn a_query_is_decoded_when_asked() {
        let request = request("GET /a%3Ab?t=1&&%74=a+b%2B&T=2&flag&t HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request.path(), "/a%3Ab");
        assert_eq!(request.query_value("t").as_deref(), Some("1"));
        assert_eq!(request.query_values("t").collect::<Vec<_>>(), ["1", "a b+", ""]);
        assert_eq!(request.query_value("flag").as_deref(), Some(""));
        assert_eq!(request.query_value("none"), None);
    }

    #[test]
    fn what_is_shown_bears_no_token() {
        let request = request(
            "GET /a?access_token=secret HTTP/1.1\r\nHost: a\r\n\
             Authorization: Bearer secret\r\n\r\n",
        );
        let shown = format!("{request:?}");
        assert_eq!(shown, r#"Request { method: "GET", path: "/a", peer: None, .. }"#);
    }

    #[test]
    fn an_absolute_target_replaces_the_host() {
        let absolute = request("GET http://b:1?q HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((absolute.host(), absolute.path()), (Some("b:1"), "/"));
        assert_eq!((absolute.header("host"), absolute.query()), (Some("a"), Some("q")));
        assert_eq!(request("GET / HTTP/1.0\r\n\r\n").host(), None);
    }
}
