//! Refusals: requests that are answered with an error.

use std::borrow::Cow;
use std::fmt;

use super::header_lines::{HeaderError, HeaderLines};
use super::response::Response;

/// A refused request: a status, one sentence for people, and the headers that the status needs.
///
/// It becomes a [`Response`] with the sentence as a line of plain text. Unless it is set, the
/// response gets `WWW-Authenticate: Bearer` for 401, `Upgrade: websocket` for 426, `Retry-After: 5`
/// for 429 and 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    sentence: Cow<'static, str>,
    headers: HeaderLines,
}

impl Refusal {
    /// Makes a refusal.
    ///
    /// # Panics
    ///
    /// If the status is not within 300 to 599: no other status refuses.
    pub fn new(status: u16, sentence: impl Into<Cow<'static, str>>) -> Refusal {
        assert!((300..600).contains(&status), "a refusal's status is within 300 to 599");
        Refusal { status, sentence: sentence.into(), headers: HeaderLines::default() }
    }

    /// Makes a 400: the request is malformed.
    pub fn bad_request(sentence: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(400, sentence)
    }

    /// Makes a 405 that names the allowed methods, for instance `GET, HEAD`.
    pub fn method_not_allowed(allow: &str) -> Refusal {
        let mut refusal = Refusal::new(405, "this method is not allowed here");
        refusal.headers.push_own("Allow", allow);
        refusal
    }

    /// Makes a 426: only a WebSocket is served here.
    pub fn upgrade_required() -> Refusal {
        Refusal::new(426, "this is a WebSocket: upgrade")
    }

    /// Makes a 426 that names the version spoken here.
    pub fn websocket_version() -> Refusal {
        let mut refusal = Refusal::new(426, "the WebSocket version spoken here is 13");
        refusal.headers.push_own("Sec-WebSocket-Version", "13");
        refusal
    }

    /// Makes a 415: a body must not be encoded.
    pub fn unsupported_encoding() -> Refusal {
        let mut refusal = Refusal::new(415, "a body is taken without a Content-Encoding only");
        refusal.headers.push_own("Accept-Encoding", "identity");
        refusal
    }

    /// Adds a header line.
    ///
    /// # Errors
    ///
    /// As [`HeaderLines::push`].
    pub fn header(mut self, name: &str, value: &str) -> Result<Refusal, HeaderError> {
        self.headers.push(name, value)?;
        Ok(self)
    }

    /// Adds header lines that were checked before.
    #[cfg(feature = "ffi")]
    pub(crate) fn headers(mut self, lines: &HeaderLines) -> Refusal {
        self.headers.append(lines);
        self
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the sentence alone.
    pub(super) fn into_sentence(self) -> Cow<'static, str> {
        self.sentence
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Response {
        let mut headers = refusal.headers;
        if let Some((name, value)) = header_of(refusal.status)
            && headers.get(name).is_none()
        {
            headers.push_own(name, value);
        }
        Response::new(refusal.status).text(format!("{}\n", refusal.sentence)).headers(&headers)
    }
}

/// The sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refusal {}

/// Returns the header that a status needs; `None` if it needs none.
fn header_of(status: u16) -> Option<(&'static str, &'static str)> {
    match status {
        401 => Some(("WWW-Authenticate", "Bearer")),
        426 => Some(("Upgrade", "websocket")),
        429 | 503 => Some(("Retry-After", "5")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::Wire;

    #[test]
    fn a_status_brings_its_headers() {
        for (refusal, name, value) in [
            (Refusal::new(401, ""), "WWW-Authenticate", "Bearer"),
            (Refusal::method_not_allowed("GET, HEAD"), "Allow", "GET, HEAD"),
            (Refusal::upgrade_required(), "Upgrade", "websocket"),
            (Refusal::websocket_version(), "Upgrade", "websocket"),
            (Refusal::websocket_version(), "Sec-WebSocket-Version", "13"),
            (Refusal::new(429, ""), "Retry-After", "5"),
            (Refusal::new(503, "").header("retry-after", "60").unwrap(), "Retry-After", "60"),
        ] {
            let response = Response::from(refusal);
            assert_eq!(response.header_lines().get(name), Some(value), "{}", response.status());
        }
    }

    // FAULTS 7 and 168: one Connection line, with the option that Upgrade needs.
    #[test]
    fn a_refused_version_closes() {
        let wire = Wire { date: "D", keep_alive: None, head_only: false };
        let bytes = Response::from(Refusal::websocket_version()).encode(&wire);
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "HTTP/1.1 426 Upgrade Required\r\nDate: D\r\n\
             Connection: close, Upgrade\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 40\r\nX-Content-Type-Options: nosniff\r\n\
             Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n\
             the WebSocket version spoken here is 13\n"
        );
    }

    // FAULTS 24.
    #[test]
    fn a_header_cannot_be_split() {
        let split = Refusal::new(403, "no").header("X", "a\r\nSet-Cookie: b");
        assert_eq!(split, Err(HeaderError::Value));
    }
}
