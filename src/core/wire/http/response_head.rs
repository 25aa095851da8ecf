//! Response heads, read as their bytes come: what a client reads.
//!
//! They are judged as strictly as requests, line by line and for the length of the body. Errors are
//! also: a status outside 100 to 599, a 1xx of HTTP/1.0, a 101 that was not asked for, and too many
//! interim responses.

use std::borrow::Cow;
use std::fmt;

use httparse::{EMPTY_HEADER, Status};
use tungstenite::Bytes;

use super::framing::{Asked, BodyLength, Version};
use super::head::HeadReader;
use super::headers::Headers;
use super::refusal::Refusal;
use super::scan::{HeadLimits, Start};

/// Reads the response to one request. Before its first byte it uses no heap.
#[derive(Debug, Default)]
pub struct ResponseReader {
    head: HeadReader,
    /// Interim responses so far.
    interim: u8,
}

impl ResponseReader {
    /// Takes bytes from the front of `input`. Returns how many were used, and the head of the final
    /// response once it is complete; without a head all were used. Bytes after a 101 belong to the
    /// other protocol.
    ///
    /// Interim responses (1xx except 101) are skipped: at most eight.
    ///
    /// # Errors
    ///
    /// If this is no response to the request. Nothing more can be read on this connection then.
    pub fn read(
        &mut self,
        asked: Asked,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, Option<ResponseHead>), ResponseError> {
        let mut used = 0;
        loop {
            let (taken, found) = self.head.find(Start::Status, &input[used..], limits)?;
            used += taken;
            let Some((bytes, lines)) = found else { return Ok((used, None)) };
            let head = ResponseHead::parse(asked, &bytes, lines)?;
            if head.status >= 200 || head.status == 101 {
                return Ok((used, Some(head)));
            }
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(ResponseError("too many interim responses".into()));
            }
        }
    }

    /// Returns whether no byte of a response has come yet.
    pub fn is_idle(&self) -> bool {
        self.interim == 0 && self.head.is_idle()
    }

    /// Returns the heap bytes held: at most about `head_bytes`.
    pub fn held_bytes(&self) -> usize {
        self.head.held_bytes()
    }
}

/// A response head, and what it says of the connection.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseHead {
    status: u16,
    body: BodyLength,
    keep_alive: bool,
    headers: Headers,
}

impl ResponseHead {
    /// Parses a complete head, in which the scan has found `lines` header lines.
    fn parse(asked: Asked, bytes: &Bytes, lines: usize) -> Result<ResponseHead, Refusal> {
        let mut lines = vec![EMPTY_HEADER; lines];
        let mut parsed = httparse::Response::new(&mut lines);
        match parsed.parse(bytes) {
            Ok(Status::Complete(_)) => {}
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(Refusal::bad_request("a header line is malformed"));
            }
            _ => return Err(Refusal::bad_request("the status line is malformed")),
        }
        let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let status = parsed.code.unwrap_or_default();
        check_status(asked, status, version)?;
        let headers = Headers::new(bytes, parsed.headers);
        let body = BodyLength::of_response(asked, status, &headers, version)?;
        let keep_alive = version == Version::Http11
            && body != BodyLength::Close
            && !headers.has_token("connection", "close");
        Ok(ResponseHead { status, body, keep_alive, headers })
    }

    /// Returns the status: 101, or 200 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the length of the body, which [`BodyReader`](super::BodyReader) reads.
    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// Returns whether another request may follow on the connection once the body is read.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Returns the first header of this name; `None` if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Returns all header lines in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter()
    }

    /// Returns the header lines, for modules that read more of them.
    pub(super) fn lines(&self) -> &Headers {
        &self.headers
    }
}

/// Without the headers, which may have cookies.
impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = f.debug_struct("ResponseHead");
        head.field("status", &self.status).field("body", &self.body);
        head.field("keep_alive", &self.keep_alive).finish_non_exhaustive()
    }
}

/// Why a response cannot be read: one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseError(Cow<'static, str>);

impl From<Refusal> for ResponseError {
    /// The readers describe an error in a head or a body as a server's answer. A client sends no
    /// answer, so only the sentence is kept.
    fn from(refusal: Refusal) -> ResponseError {
        ResponseError(refusal.into_sentence())
    }
}

/// The sentence.
impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ResponseError {}

fn check_status(asked: Asked, status: u16, version: Version) -> Result<(), Refusal> {
    let is_known = match status {
        101 => asked == Asked::Upgrade && version == Version::Http11,
        100..200 => version == Version::Http11,
        200..600 => true,
        _ => false,
    };
    match is_known {
        true => Ok(()),
        false => Err(Refusal::bad_request("this status answers no request that was sent")),
    }
}

/// Real servers send one, or one for each header that is known early (103).
const INTERIM_MAX: u8 = 8;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::wire::http::BodyReader;
    use crate::core::wire::http::head::tests::LIMITS;

    /// Reads a head whole and byte by byte, and expects the same verdict.
    pub fn read(asked: Asked, text: &str) -> Result<ResponseHead, String> {
        let read = |piece_len| {
            let mut reader = ResponseReader::default();
            for piece in text.as_bytes().chunks(piece_len) {
                match reader.read(asked, piece, &LIMITS) {
                    Ok((_, Some(head))) => return Ok(head),
                    Ok((used, None)) => assert_eq!(used, piece.len()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            panic!("no verdict on {text:?}");
        };
        let (whole, dripped) = (read(text.len()), read(1));
        let show = |verdict: &Result<ResponseHead, String>| format!("{verdict:?}");
        assert_eq!(show(&whole), show(&dripped), "{text:?}");
        whole
    }

    #[test]
    fn a_response_is_read_up_to_the_end_of_its_head() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nEvent-Id: 7-0\r\n\r\nhiHTTP/1.1 204";
        for cut in 0..52 {
            let mut reader = ResponseReader::default();
            let (before, none) = reader.read(Asked::Any, &text[..cut], &LIMITS).unwrap();
            assert!(none.is_none() && reader.is_idle() == (cut == 0));
            let (used, head) = reader.read(Asked::Any, &text[cut..], &LIMITS).unwrap();
            let head = head.unwrap();
            assert_eq!((before + used, head.status()), (53, 200));
            assert_eq!((head.body(), head.keep_alive()), (BodyLength::Length(2), true));
            assert_eq!(head.header("event-id"), Some("7-0"));
            assert_eq!((head.headers().count(), reader.held_bytes()), (2, 0));
        }
    }

    // RFC 9112, 6.3.
    #[test]
    fn a_body_ends_by_its_length_its_chunks_or_the_connection() {
        use Asked::*;
        use BodyLength::*;
        for (asked, status, headers, expected) in [
            (Any, 200, "Content-Length: 5\r\n", Length(5)),
            (Any, 200, "Content-Length: 0\r\n", Length(0)),
            (Any, 404, "Transfer-Encoding: chunked\r\n", Chunked),
            (Any, 200, "", Close),
            (Any, 503, "", Close),
            (Upgrade, 403, "Content-Length: 3\r\n", Length(3)),
            (Upgrade, 101, "", None),
            (Upgrade, 101, "Content-Length: 5\r\n", None),
            (Head, 200, "", None),
            (Head, 200, "Content-Length: 5\r\n", None),
            (Head, 200, "Transfer-Encoding: chunked\r\n", None),
            (Any, 204, "", None),
            (Any, 204, "Content-Length: 5\r\n", None),
            (Any, 304, "Content-Length: 5\r\n", None),
        ] {
            let head = read(asked, &format!("HTTP/1.1 {status} x\r\n{headers}\r\n")).unwrap();
            assert_eq!(head.body(), expected, "{asked:?} {status} {headers:?}");
            assert_eq!(head.keep_alive(), expected != Close);
        }
        let old = read(Any, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((old.body(), old.keep_alive()), (Length(5), false));
        let closing = read(Any, "HTTP/1.1 204\r\nConnection: x, Close\r\n\r\n").unwrap();
        assert!(!closing.keep_alive());
    }

    // FAULTS 20, 21, for responses: the reader does not guess where one ends.
    #[test]
    fn what_is_ambiguous_in_a_response_is_an_error() {
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "A: b\r\n c\r\n",
            "A : b\r\n",
            ": b\r\n",
            "A\r\n",
            "A: b\rc\r\n",
            "A: b\nB: c\r\n",
            "A: \0\r\n",
        ] {
            for (asked, status) in [(Asked::Any, 200), (Asked::Head, 200), (Asked::Any, 304)] {
                let text = format!("HTTP/1.1 {status} x\r\n{headers}\r\n");
                assert!(read(asked, &text).is_err(), "{text:?}");
            }
        }
        let old = read(Asked::Any, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(old.is_err());
    }

    #[test]
    fn a_status_line_is_one_of_http_1() {
        for line in ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 \u{e4}"] {
            assert!(read(Asked::Any, &format!("{line}\r\n\r\n")).is_ok(), "{line:?}");
        }
        for line in [
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1 2x0 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 600 OK",
            "HTTP/1.2 200 OK",
            "HTTP/2 200",
            "ICY 200 OK",
            "GET / HTTP/1.1",
            // The request did not ask to switch, and HTTP/1.0 has no 1xx.
            "HTTP/1.1 101 Switching Protocols",
            "HTTP/1.0 100 Continue",
        ] {
            assert!(read(Asked::Any, &format!("{line}\r\n\r\n")).is_err(), "{line:?}");
        }
    }

    #[test]
    fn interim_responses_are_skipped_and_bounded() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let last = "HTTP/1.1 204 No Content\r\n\r\n";
        let most = format!("{}{last}", interim.repeat(4));
        assert_eq!(read(Asked::Any, &most).unwrap().status(), 204);
        let more = format!("{interim}{most}");
        assert_eq!(read(Asked::Any, &more).unwrap_err(), "too many interim responses");
        let mut reader = ResponseReader::default();
        reader.read(Asked::Any, interim.as_bytes(), &LIMITS).unwrap();
        assert!(!reader.is_idle() && reader.held_bytes() == 0);
    }

    // FAULTS 17, for responses.
    #[test]
    fn the_limits_of_heads_are_kept_for_responses() {
        let reason = "x".repeat(8192);
        let error = read(Asked::Any, &format!("HTTP/1.1 200 {reason}\r\n\r\n")).unwrap_err();
        assert_eq!(error, "the head is too long");
        for (count, is_ok) in [(64, true), (65, false)] {
            let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
            assert_eq!(read(Asked::Any, &text).is_ok(), is_ok, "{count} headers");
        }
        let head = read(Asked::Any, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n").unwrap();
        let error = ResponseError::from(BodyReader::new(head.body(), 10, &LIMITS).unwrap_err());
        assert_eq!(error.to_string(), "the body is too large");
    }

    #[test]
    fn what_is_shown_of_a_response_bears_no_cookie() {
        let head = read(Asked::Any, "HTTP/1.1 204 x\r\nSet-Cookie: secret\r\n\r\n").unwrap();
        let shown = "ResponseHead { status: 204, body: None, keep_alive: true, .. }";
        assert_eq!(format!("{head:?}"), shown);
    }
}
