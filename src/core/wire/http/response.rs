//! Responses: status, header lines and a body.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use tungstenite::Bytes;

use super::cors::Cors;
use super::header_lines::{HeaderError, HeaderLines};
use super::source::AnySource;
use super::syntax::is_field_value;

/// A response: built step by step, encoded once.
///
/// ```
/// use heartwheel::http::Response;
///
/// let response = Response::new(200).text("hello").header("Event-Id", "7-0")?;
/// # Ok::<(), heartwheel::http::HeaderError>(())
/// ```
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: HeaderLines,
    content_type: Option<Cow<'static, str>>,
    body: Bytes,
    delimited: Delimited,
    source: Option<AnySource>,
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimited {
    Length,
    /// The length of a body that comes from a source.
    #[cfg(feature = "streams")]
    Known(u64),
    Chunks,
    Close,
    /// The body is an event stream, in chunks or to the close.
    #[cfg(feature = "streams")]
    Events,
}

/// How a body from a source is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The bytes of the body, if they were promised.
    pub length: Option<u64>,
    /// It is an event stream.
    pub is_events: bool,
}

/// A clone has all but a body that comes piece by piece, which is there once. Where a handler
/// answers with such a clone, the client gets 500.
impl Clone for Response {
    fn clone(&self) -> Response {
        Response {
            status: self.status,
            headers: self.headers.clone(),
            content_type: self.content_type.clone(),
            body: self.body.clone(),
            delimited: self.delimited,
            source: None,
        }
    }
}

impl Response {
    /// Makes an empty response.
    ///
    /// # Panics
    ///
    /// If the status is not within 100 to 599.
    pub fn new(status: u16) -> Response {
        assert!((100..600).contains(&status), "a status is within 100 to 599");
        Response {
            status,
            headers: HeaderLines::default(),
            content_type: None,
            body: Bytes::new(),
            delimited: Delimited::Length,
            source: None,
        }
    }

    /// Sets a body of plain text.
    pub fn text(self, text: impl Into<String>) -> Response {
        self.bytes("text/plain; charset=utf-8", text.into())
    }

    /// Sets a body of JSON, which is not checked.
    pub fn json(self, json: impl Into<Bytes>) -> Response {
        self.bytes("application/json", json)
    }

    /// Sets a body of any type.
    ///
    /// # Panics
    ///
    /// If the type has a control character.
    pub fn bytes(
        mut self,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Response {
        let content_type = content_type.into();
        assert!(is_field_value(content_type.as_bytes()), "a content type is one line");
        self.content_type = Some(content_type);
        self.body = body.into();
        self
    }

    /// Announces a body of this type that follows piece by piece, until the connection is closed.
    ///
    /// # Panics
    ///
    /// If the type has a control character.
    pub(crate) fn until_close(self, content_type: &'static str) -> Response {
        Response { delimited: Delimited::Close, ..self.bytes(content_type, Bytes::new()) }
    }

    /// Announces a body of this type that follows in chunks ([`chunk`]), for HTTP/1.1 only.
    ///
    /// # Panics
    ///
    /// If the type has a control character.
    pub(crate) fn chunked(self, content_type: &'static str) -> Response {
        Response { delimited: Delimited::Chunks, ..self.bytes(content_type, Bytes::new()) }
    }

    #[cfg(feature = "streams")]
    /// Has the body come from a source, whose bytes are counted if their number is given.
    pub(crate) fn sourced(
        self,
        content_type: impl Into<Cow<'static, str>>,
        shape: Shape,
        source: AnySource,
    ) -> Response {
        let delimited = match shape {
            Shape { is_events: true, .. } => Delimited::Events,
            Shape { length: Some(length), .. } => Delimited::Known(length),
            Shape { length: None, .. } => Delimited::Chunks,
        };
        let response = self.bytes(content_type, Bytes::new());
        Response { delimited, source: Some(source), ..response }
    }

    /// Takes the source of the body out, if there is one; to HTTP/1.0 a body without a length goes
    /// until the connection is closed.
    pub(crate) fn take_source(&mut self, is_http10: bool) -> Option<(Shape, AnySource)> {
        let source = self.source.take()?;
        let shape = self.shape();
        if shape.length.is_none() {
            self.delimited = if is_http10 { Delimited::Close } else { Delimited::Chunks };
        }
        Some((shape, source))
    }

    #[cfg(feature = "streams")]
    fn shape(&self) -> Shape {
        let length = match self.delimited {
            Delimited::Known(length) => Some(length),
            _ => None,
        };
        Shape { length, is_events: self.delimited == Delimited::Events }
    }

    #[cfg(not(feature = "streams"))]
    fn shape(&self) -> Shape {
        Shape { length: None, is_events: false }
    }

    /// Returns whether the source of the body went to another response: this one is a clone.
    pub(crate) fn lacks_source(&self) -> bool {
        cfg!(feature = "streams") && self.delimited != Delimited::Length && self.source.is_none()
    }

    /// Lends the source of the body.
    pub(crate) fn source_mut(&mut self) -> Option<&mut AnySource> {
        self.source.as_mut()
    }

    /// Adds a header line.
    ///
    /// # Errors
    ///
    /// As [`HeaderLines::push`]; there is no response then.
    pub fn header(mut self, name: &str, value: &str) -> Result<Response, HeaderError> {
        self.headers.push(name, value)?;
        Ok(self)
    }

    /// Adds header lines that were checked before.
    pub fn headers(mut self, lines: &HeaderLines) -> Response {
        self.headers.append(lines);
        self
    }

    /// Sets what caches may do with the response.
    pub fn caching(mut self, caching: Caching) -> Response {
        if caching != Caching::Handlers && self.headers.get("Cache-Control").is_none() {
            self.headers.push_own("Cache-Control", "no-store");
        }
        if caching == Caching::Topics {
            self.headers.add_to_list("Vary", &["Accept", "Origin"]);
        }
        self
    }

    /// Adds the CORS headers for a page of another origin.
    pub fn cors(mut self, cors: &Cors) -> Response {
        cors.write(&mut self.headers);
        self
    }

    /// Makes the answer to OPTIONS (RFC 9110, 9.3.7) with the methods, for instance `GET, HEAD`.
    pub fn options(allow: &str) -> Response {
        let mut response = Response::new(204);
        response.headers.push_own("Allow", allow);
        response
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the header lines added so far, without those that encoding adds.
    pub fn header_lines(&self) -> &HeaderLines {
        &self.headers
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the bytes on the wire.
    pub fn encode(&self, wire: &Wire) -> Bytes {
        let mut bytes = self.encode_head(wire);
        if !wire.head_only && self.has_body() {
            bytes.extend_from_slice(&self.body);
        }
        bytes.into()
    }

    /// Returns the bytes on the wire, with a long body apart, which is not copied.
    pub(crate) fn encode_apart(&self, wire: &Wire) -> (Bytes, Bytes) {
        if wire.head_only || !self.has_body() || self.body.len() <= JOINED_BODY_BYTES_MAX {
            return (self.encode(wire), Bytes::new());
        }
        (self.encode_head(wire).into(), self.body.clone())
    }

    /// Returns the head alone, for a body that is sent after it without being copied.
    pub fn encode_head(&self, wire: &Wire) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        let mut line = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("a String takes all that is written");
        };
        line("Date", wire.date);
        let kept = wire.keep_alive.filter(|_| self.delimited != Delimited::Close);
        let is_final = self.status >= 200;
        let option = is_final.then_some(if kept.is_some() { "keep-alive" } else { "close" });
        // RFC 9110, 7.8: a sender of Upgrade also names it in Connection.
        let upgrade = self.headers.get("Upgrade").map(|_| "Upgrade");
        let options: Vec<&str> = [option, upgrade].into_iter().flatten().collect();
        if !options.is_empty() {
            line("Connection", &options.join(", "));
        }
        if let Some(seconds @ 1..) = kept.filter(|_| is_final).map(|kept| kept.as_secs()) {
            line("Keep-Alive", &format!("timeout={seconds}"));
        }
        if let Some(content_type) = &self.content_type {
            line("Content-Type", content_type);
        }
        match self.delimited {
            Delimited::Length if self.has_body() => {
                line("Content-Length", &self.body.len().to_string());
            }
            #[cfg(feature = "streams")]
            Delimited::Known(length) => line("Content-Length", &length.to_string()),
            Delimited::Chunks => line("Transfer-Encoding", "chunked"),
            _ => {}
        }
        line("X-Content-Type-Options", "nosniff");
        head.push_str(self.headers.as_str());
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Returns whether this status has a body, even an empty one (RFC 9110, 8.6).
    fn has_body(&self) -> bool {
        self.status >= 200 && !matches!(self.status, 204 | 304)
    }
}

/// What caches may do with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caching {
    /// They may not keep it: it tells the present state.
    #[default]
    NoStore,
    /// The route's handler decides.
    Handlers,
    /// They may not keep it, and it depends on the request's headers: one URL has many forms.
    Topics,
}

/// Returns a piece of a body as a chunk (RFC 9112, 7.1), with the body's end if it is the last.
pub fn chunk(piece: &str, is_last: bool) -> Vec<u8> {
    // An empty chunk would be the end.
    let mut bytes = match piece.len() {
        0 => Vec::new(),
        len => format!("{len:x}\r\n{piece}\r\n").into_bytes(),
    };
    if is_last {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    bytes
}

/// What encoding must know of the connection and of the request.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    /// Now, in the form of [`date`].
    pub date: &'a str,
    /// How long the server waits for the next request, as the peer is told; `None` sends
    /// `Connection: close`.
    pub keep_alive: Option<Duration>,
    /// Whether it was a HEAD request: the head is the same, the body is left out.
    pub head_only: bool,
}

/// Returns the value of the `Date` header for milliseconds since 1970.
pub fn date(unix_ms: u64) -> String {
    // The format has four digits for the year.
    let unix_ms = unix_ms.min(LAST_SECOND_OF_9999 * 1000);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms))
}

/// Returns the reason phrase of a status that this server uses; empty for others, which is legal.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// The complete interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A body up to this many bytes is copied behind its head rather than sent apart.
const JOINED_BODY_BYTES_MAX: usize = 1024;

const LAST_SECOND_OF_9999: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Option<Duration> = Some(Duration::from_millis(1999));
    const WIRE: Wire = Wire { date: "D", keep_alive: KEPT, head_only: false };

    fn encoded(response: Response, wire: Wire) -> String {
        String::from_utf8(response.encode(&wire).to_vec()).unwrap()
    }

    #[test]
    fn a_response_is_complete_and_delimited() {
        let response = Response::new(200).text("hi").header("Event-Id", "1-2").unwrap();
        let head = "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\n\
                    Keep-Alive: timeout=1\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 2\r\nX-Content-Type-Options: nosniff\r\nEvent-Id: 1-2\r\n\r\n";
        assert_eq!(encoded(response.clone(), WIRE), format!("{head}hi"));
        assert_eq!(encoded(response, Wire { head_only: true, ..WIRE }), head);
    }

    #[test]
    fn no_content_has_no_length() {
        let text = encoded(Response::new(204), Wire { keep_alive: None, ..WIRE });
        assert_eq!(
            text,
            "HTTP/1.1 204 No Content\r\nDate: D\r\nConnection: close\r\n\
             X-Content-Type-Options: nosniff\r\n\r\n"
        );
        assert!(encoded(Response::new(404), WIRE).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn a_stream_ends_with_the_connection() {
        let text = encoded(Response::new(200).until_close("text/event-stream"), WIRE);
        assert!(text.contains("Connection: close\r\nContent-Type: text/event-stream\r\n"));
        assert!(!text.contains("Content-Length") && !text.contains("Keep-Alive"));
    }

    #[test]
    fn how_long_it_is_kept_is_told_in_whole_seconds() {
        for (kept_ms, line) in [
            (75_000, Some("timeout=75")),
            (75_999, Some("timeout=75")),
            (1000, Some("timeout=1")),
            (999, None),
            (1, None),
        ] {
            let wire = Wire { keep_alive: Some(Duration::from_millis(kept_ms)), ..WIRE };
            let text = encoded(Response::new(204), wire);
            let found = text.lines().find_map(|line| line.strip_prefix("Keep-Alive: "));
            assert_eq!(found, line, "{kept_ms}");
            assert!(text.contains("\r\nConnection: keep-alive\r\n"), "{text}");
        }
    }

    // FAULTS 173.
    #[test]
    fn caches_keep_nothing_of_topics() {
        let own = Response::new(200).header("Cache-Control", "no-cache").unwrap();
        for (response, caching, lines) in [
            (Response::new(200), Caching::NoStore, "Cache-Control: no-store\r\n"),
            (
                Response::new(200),
                Caching::Topics,
                "Cache-Control: no-store\r\nVary: Accept, Origin\r\n",
            ),
            (Response::new(200), Caching::Handlers, ""),
            (own.clone(), Caching::Handlers, "Cache-Control: no-cache\r\n"),
            (own, Caching::NoStore, "Cache-Control: no-cache\r\n"),
        ] {
            assert_eq!(response.caching(caching).header_lines().as_str(), lines, "{caching:?}");
        }
    }

    #[test]
    fn chunks_end_with_an_empty_one() {
        let text = encoded(Response::new(200).chunked("application/json"), WIRE);
        assert!(text.contains("Transfer-Encoding: chunked\r\n"));
        assert!(!text.contains("Content-Length") && text.contains("Connection: keep-alive\r\n"));
        assert_eq!(
            chunk(&"x".repeat(17), false),
            format!("11\r\n{}\r\n", "x".repeat(17)).as_bytes()
        );
        assert_eq!(chunk("[]", true), b"2\r\n[]\r\n0\r\n\r\n");
        assert_eq!(chunk("", false), b"");
    }

    #[test]
    fn a_date_is_the_imf_format_and_never_panics() {
        assert_eq!(date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    #[should_panic(expected = "one line")]
    fn a_content_type_cannot_split_the_head() {
        let _ = Response::new(200).bytes("text/plain\r\nEvil: 1", "");
    }
}
