//! Requests of a client, to be sent.

use std::fmt;

use tungstenite::Bytes;

use super::authority::Authority;
use super::header_lines::{HeaderError, HeaderLines};
use super::switch::UpgradeKey;
use super::syntax::{is_field_value, is_token};

/// A request to a server: built step by step, encoded once.
///
/// A value that could end a line early is an error, and no request is made. The request has `Host`,
/// but no `Origin`, no cookie and no `User-Agent` unless they are added.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    first_line: String,
    /// The lines that the request has by itself.
    own: HeaderLines,
    lines: HeaderLines,
    body: Bytes,
    is_upgrade: bool,
}

impl OutgoingRequest {
    /// Makes a request without a body: a method, `host[:port]`, and a path with its query. POST,
    /// PUT and PATCH say `Content-Length: 0` then (RFC 9110, 8.6).
    ///
    /// # Errors
    ///
    /// If the method is no token, the host is not `host[:port]`, or the path does not begin with
    /// `/` or has anything but visible ASCII.
    pub fn new(method: &str, host: &str, target: &str) -> Result<OutgoingRequest, RequestError> {
        if !is_token(method.as_bytes()) {
            return Err(RequestError::Method);
        }
        if Authority::parse(host).is_none() {
            return Err(RequestError::Host);
        }
        let is_clean = target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#');
        if !target.starts_with('/') || !is_clean {
            return Err(RequestError::Target);
        }
        let mut own = HeaderLines::default();
        own.push_own("Host", host);
        Ok(OutgoingRequest {
            first_line: format!("{method} {target} HTTP/1.1\r\n"),
            own,
            lines: HeaderLines::default(),
            body: Bytes::new(),
            is_upgrade: false,
        })
    }

    /// Makes a request to switch to a WebSocket (RFC 6455, 4.1). It offers these subprotocols, the
    /// most wanted first, and no extension.
    ///
    /// # Errors
    ///
    /// As [`OutgoingRequest::new`], and if a subprotocol is no token or is there twice.
    pub fn upgrade(
        host: &str,
        target: &str,
        key: &UpgradeKey,
        protocols: &[&str],
    ) -> Result<OutgoingRequest, RequestError> {
        let mut request = OutgoingRequest::new("GET", host, target)?;
        for (index, protocol) in protocols.iter().enumerate() {
            if !is_token(protocol.as_bytes()) || protocols[..index].contains(protocol) {
                return Err(RequestError::Protocol);
            }
        }
        request.is_upgrade = true;
        request.own.push_own("Upgrade", "websocket");
        request.own.push_own("Connection", "Upgrade");
        request.own.push_own("Sec-WebSocket-Version", "13");
        request.own.push_own("Sec-WebSocket-Key", key.as_str());
        if !protocols.is_empty() {
            request.own.push_own("Sec-WebSocket-Protocol", &protocols.join(", "));
        }
        Ok(request)
    }

    /// Offers an extension (RFC 6455, 9.1).
    #[cfg(all(feature = "client", feature = "deflate"))]
    pub(crate) fn extension(mut self, offer: &str) -> OutgoingRequest {
        debug_assert!(self.is_upgrade, "nothing else has extensions");
        self.own.push_extension(offer);
        self
    }

    /// Asks the server to close the connection behind its answer.
    pub fn closing(mut self) -> OutgoingRequest {
        debug_assert!(!self.is_upgrade, "an upgrade has a Connection by itself");
        self.own.set("Connection", "close");
        self
    }

    /// Adds a header line.
    ///
    /// # Errors
    ///
    /// If the name is no token, if the value has a control character, or if the request has this
    /// header by itself: it delimits the message, or names the host or the protocol.
    pub fn header(mut self, name: &str, value: &str) -> Result<OutgoingRequest, RequestError> {
        self.lines.push_unless(&RESERVED, name, value).map_err(RequestError::Header)?;
        Ok(self)
    }

    /// Sets the body, perhaps an empty one, and its type.
    ///
    /// # Errors
    ///
    /// If the request is an upgrade, which has no body, or has a body already, or the type has a
    /// control character.
    pub fn body(
        mut self,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<OutgoingRequest, RequestError> {
        if self.is_upgrade || self.own.get("Content-Length").is_some() {
            return Err(RequestError::Body);
        }
        if !is_field_value(content_type.as_bytes()) {
            return Err(RequestError::Header(HeaderError::Value));
        }
        self.body = body.into();
        self.own.push_own("Content-Type", content_type);
        self.own.push_own("Content-Length", &self.body.len().to_string());
        Ok(self)
    }

    /// Returns the bytes on the wire.
    pub fn encode(&self) -> Bytes {
        let has_length = self.own.get("Content-Length").is_some();
        let (method, _) = self.first_line.split_once(' ').unwrap_or_default();
        let length = match method {
            "POST" | "PUT" | "PATCH" if !has_length => "Content-Length: 0\r\n",
            _ => "",
        };
        let head = [&self.first_line, self.own.as_str(), length, self.lines.as_str(), "\r\n"];
        let head = head.into_iter().map(str::as_bytes);
        head.chain([&self.body[..]]).collect::<Vec<_>>().concat().into()
    }
}

/// Why a request was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The method is not a token of RFC 9110.
    Method,
    /// The host is not `host[:port]`.
    Host,
    /// The target is not a path, perhaps with a query, in visible ASCII.
    Target,
    /// A subprotocol is not a token, or was offered twice.
    Protocol,
    /// The request cannot have a body, or has one already.
    Body,
    /// A header line was refused.
    Header(HeaderError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::Method => "a method must be a token",
            RequestError::Host => "a host must be a name or an address, perhaps with a port",
            RequestError::Target => "a target must be a path in visible ASCII, without a fragment",
            RequestError::Protocol => "subprotocols must be tokens, each offered once",
            RequestError::Body => "this request has no body, or has one already",
            RequestError::Header(HeaderError::Reserved) => "a request bears this header by itself",
            RequestError::Header(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for RequestError {}

/// A request has these by itself or has no use for them; a second would contradict the first.
const RESERVED: [&str; 13] = [
    "Connection",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::head::tests::read;
    use crate::core::wire::http::{BodyLength, upgrade};

    fn text(request: &OutgoingRequest) -> String {
        String::from_utf8(request.encode().to_vec()).unwrap()
    }

    #[test]
    fn an_upgrade_is_what_our_server_takes() {
        let key = UpgradeKey::new(*b"the sample nonce");
        let request = OutgoingRequest::upgrade("a:1", "/ws?after=0-0", &key, &["v2", "v1"])
            .and_then(|request| request.header("Authorization", "Bearer x"))
            .unwrap();
        assert_eq!(
            text(&request),
            "GET /ws?after=0-0 HTTP/1.1\r\nHost: a:1\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v2, v1\r\n\
             Authorization: Bearer x\r\n\r\n"
        );
        let head = read(&text(&request)).unwrap();
        let accepted = upgrade(&head).unwrap();
        assert_eq!(accepted.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(head.request.header("origin"), None);
        assert_eq!(request.body("text/plain", "x").unwrap_err(), RequestError::Body);
    }

    #[test]
    fn a_body_is_delimited() {
        let request = OutgoingRequest::new("POST", "[::1]:8765", "/topics/a").unwrap();
        let request = request.body("application/json", "{}").unwrap();
        assert_eq!(
            text(&request),
            "POST /topics/a HTTP/1.1\r\nHost: [::1]:8765\r\nContent-Type: application/json\r\n\
             Content-Length: 2\r\n\r\n{}"
        );
        assert_eq!(request.body("application/json", "").unwrap_err(), RequestError::Body);
        for (method, length) in [
            ("POST", "Content-Length: 0\r\n"),
            ("PUT", "Content-Length: 0\r\n"),
            ("PATCH", "Content-Length: 0\r\n"),
            ("DELETE", ""),
            ("post", ""),
        ] {
            let request = OutgoingRequest::new(method, "a", "/").unwrap();
            let expected = format!("{method} / HTTP/1.1\r\nHost: a\r\n{length}\r\n");
            assert_eq!(text(&request), expected);
        }
        let get = OutgoingRequest::new("GET", "a", "/").unwrap();
        assert_eq!(read(&text(&get)).unwrap().body, BodyLength::None);
    }

    // FAULTS 24, for requests: an error, and nothing on the wire.
    #[test]
    fn a_request_cannot_be_split() {
        use RequestError::*;
        for (method, host, target, error) in [
            ("GET ", "a", "/", Method),
            ("", "a", "/", Method),
            ("GET\r\n", "a", "/", Method),
            ("GET", "a\r\nEvil: 1", "/", Host),
            ("GET", "", "/", Host),
            ("GET", "user@a", "/", Host),
            ("GET", "a/b", "/", Host),
            ("GET", "a", "", Target),
            ("GET", "a", "b", Target),
            ("GET", "a", "http://b/", Target),
            ("GET", "a", "/ HTTP/1.1\r\nEvil: 1\r\n\r\n", Target),
            ("GET", "a", "/b c", Target),
            ("GET", "a", "/#b", Target),
            ("GET", "a", "/\u{e4}", Target),
            ("GET", "a", "/\0", Target),
        ] {
            let made = OutgoingRequest::new(method, host, target);
            assert_eq!(made.unwrap_err(), error, "{method:?} {host:?} {target:?}");
        }
        let key = UpgradeKey::new([0; 16]);
        for protocols in [&["a\r\nEvil: 1"][..], &["a,b"], &[""], &["a", "b", "a"]] {
            let made = OutgoingRequest::upgrade("a", "/", &key, protocols);
            assert_eq!(made.unwrap_err(), Protocol, "{protocols:?}");
        }
        for (name, value, error) in [
            ("A", "b\r\nEvil: 1", HeaderError::Value),
            ("A", "b\n", HeaderError::Value),
            ("A\r\nEvil", "b", HeaderError::Name),
            ("", "b", HeaderError::Name),
            ("host", "b", HeaderError::Reserved),
            ("content-length", "1", HeaderError::Reserved),
            ("Sec-WebSocket-Key", "x", HeaderError::Reserved),
        ] {
            let request = OutgoingRequest::new("GET", "a", "/").unwrap();
            let made = request.header(name, value);
            assert_eq!(made.unwrap_err(), Header(error), "{name:?}: {value:?}");
        }
        let request = OutgoingRequest::new("POST", "a", "/").unwrap();
        let made = request.body("text/plain\r\nEvil: 1", "");
        assert_eq!(made.unwrap_err(), Header(HeaderError::Value));
    }
}
