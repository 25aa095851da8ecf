//! The step from HTTP to a WebSocket (RFC 6455, 4.2).
//!
//! This is stricter than the RFC where leniency buys nothing: one key, one version, no body. All
//! lines of Connection and Upgrade are read, because proxies add their own. Extensions are
//! declined, unless the caller adds a line that names one.

use super::accept_key::accept_key;
use super::bearer::is_bearer;
use super::framing::BodyLength;
use super::framing::Version;
use super::head::Head;
use super::header_lines::HeaderLines;
use super::refusal::Refusal;
use super::request::Request;
use super::response::Response;
use super::syntax;

/// Returns whether a request asks for a WebSocket; [`upgrade`] judges whether rightly.
pub fn wants_websocket(request: &Request) -> bool {
    request.has_token("upgrade", "websocket")
}

/// The outcome of an accepted upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The value of `Sec-WebSocket-Accept`: only a server that read the key can send it.
    pub accept_key: String,
}

/// Judges an upgrade; for HEAD, as if it were GET.
///
/// # Errors
///
/// 405 if the method is neither; 426 if it does not ask for a WebSocket, or for another version
/// than 13; 400 if it is HTTP/1.0, has a body, lacks `Connection: upgrade`, or has not exactly one
/// key of 16 bytes.
pub fn upgrade(head: &Head) -> Result<Accepted, Refusal> {
    let request = &head.request;
    if !matches!(request.method(), "GET" | "HEAD") {
        return Err(Refusal::method_not_allowed("GET"));
    }
    if head.version != Version::Http11 {
        return Err(Refusal::bad_request("an upgrade needs HTTP/1.1"));
    }
    if !matches!(head.body, BodyLength::None | BodyLength::Length(0)) {
        return Err(Refusal::bad_request("an upgrade has no body"));
    }
    if !wants_websocket(request) {
        return Err(Refusal::upgrade_required());
    }
    if !request.has_token("connection", "upgrade") {
        return Err(Refusal::bad_request("an upgrade needs Connection: Upgrade"));
    }
    if request.lines().only_value("sec-websocket-version") != Some(b"13") {
        return Err(Refusal::websocket_version());
    }
    match request.lines().only_value("sec-websocket-key") {
        Some(key) if is_key(key) => Ok(Accepted { accept_key: accept_key(key) }),
        _ => Err(Refusal::bad_request("an upgrade needs one Sec-WebSocket-Key of 16 bytes")),
    }
}

/// Returns the first of the offered subprotocols, in the peer's order, that is configured.
///
/// Subprotocols are compared with regard to case (RFC 6455, 11.5).
pub fn choose_protocol<'c>(request: &Request, configured: &'c [String]) -> Option<&'c str> {
    request
        .header_list("sec-websocket-protocol")
        .find_map(|offered| configured.iter().find(|own| own.as_bytes() == offered))
        .map(String::as_str)
}

/// Returns whether the Upgrade header names a WebSocket anywhere, even in a form that is not valid
/// here (`websocket/13`).
///
/// If the answer is not 101, such a request ends its connection. A proxy that looks only for the
/// word, as Varnish usually does, takes what follows for the bytes of a WebSocket and passes it on
/// unseen. Other offers (`h2c`) are ignored.
pub fn offers_websocket(request: &Request) -> bool {
    let has_word =
        |value: &[u8]| value.windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD));
    request.header_values("upgrade").any(has_word)
}

/// Returns whether an answer may name this subprotocol: not if it is no token of RFC 9110, or
/// carries an access token.
pub fn may_name(protocol: &str) -> bool {
    syntax::is_token(protocol.as_bytes()) && !is_bearer(protocol)
}

/// Returns the response that accepts an upgrade.
///
/// `protocol` is what [`choose_protocol`] returned; left out if [`may_name`] says so.
pub fn switching_protocols(
    accept_key: &str,
    protocol: Option<&str>,
    extra: &HeaderLines,
) -> Response {
    let mut lines = HeaderLines::default();
    lines.push_own("Upgrade", "websocket");
    lines.push_own("Sec-WebSocket-Accept", accept_key);
    if let Some(protocol) = protocol.filter(|protocol| may_name(protocol)) {
        lines.push_own("Sec-WebSocket-Protocol", protocol);
    }
    lines.append(extra);
    Response::new(101).headers(&lines)
}

const WORD: &[u8] = b"websocket";

/// Returns whether these are 16 bytes in base64: 22 digits. The last digit has four spare bits,
/// whose values do not matter: the example of RFC 6455, 4.1 has some set.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key {
        [digits @ .., b'=', b'='] => digits.len() == 22 && digits.iter().all(is_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::handshake::server::{Request as OracleRequest, create_response};
    use tungstenite::http;

    use super::*;
    use crate::core::wire::http::Wire;
    use crate::core::wire::http::head::tests::{read, request};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// Returns the verdict on a good upgrade in which one header is replaced by other lines.
    fn verdict(replaced: &str, lines: &str) -> Result<String, u16> {
        let good = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        let kept = good.iter().filter(|(name, _)| *name != replaced);
        let kept: String = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{kept}{lines}\r\n")).unwrap();
        upgrade(&head).map(|accepted| accepted.accept_key).map_err(|refusal| refusal.status())
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(verdict("", ""), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into()));
    }

    #[test]
    fn all_lines_are_looked_at() {
        for (replaced, lines) in [
            ("Connection", "Connection: keep-alive\r\nConnection: x, UPGRADE\r\n"),
            ("Connection", "Connection: keep-alive, Upgrade\r\n"),
            ("Upgrade", "Upgrade: h2c\r\nUpgrade: WebSocket\r\n"),
            ("", "Content-Length: 0\r\n"),
            // FAULTS 175: the example of RFC 6455, 4.1, whose pad bits are set.
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n"),
            // FAULTS 12: declined without a look at them.
            ("", "Sec-WebSocket-Extensions: constructor; server_max_window_bits=abc\r\n"),
        ] {
            assert!(verdict(replaced, lines).is_ok(), "{lines:?}");
        }
    }

    // FAULTS 7, 8, 15.
    #[test]
    fn half_an_upgrade_is_refused() {
        for (replaced, lines, status) in [
            ("Upgrade", "", 426),
            ("Upgrade", "Upgrade: websocket/13\r\n", 426),
            ("Connection", "", 400),
            ("Connection", "Connection: upgraded\r\n", 400),
            ("Sec-WebSocket-Version", "", 426),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12\r\n", 426),
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8\r\n", 426),
            ("", "Sec-WebSocket-Version: 13\r\n", 426),
            ("Sec-WebSocket-Key", "", 400),
            ("", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
            // FAULTS 175: 15 bytes, 17 bytes.
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P\r\n", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEBE=\r\n", 400),
            ("", "Content-Length: 1\r\n", 400),
            ("", "Transfer-Encoding: chunked\r\n", 400),
        ] {
            assert_eq!(verdict(replaced, lines), Err(status), "{replaced} {lines:?}");
        }
        let post = read("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").unwrap();
        assert_eq!(upgrade(&post).unwrap_err().status(), 405);
        let old = read("GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n").unwrap();
        assert_eq!(upgrade(&old).unwrap_err().status(), 400);
    }

    // FAULTS 175: the accept key is made of the key as it was sent.
    #[test]
    fn pad_bits_of_a_key_do_not_matter() {
        let verdict =
            verdict("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n");
        assert_eq!(verdict, Ok("OfS0wDaT5NoxF2gqm7Zj2YtetzM=".into()));
    }

    /// tungstenite accepts each upgrade that is accepted here, with the same accept key; with one
    /// line of each header it accepts no other. (tungstenite knows only one Connection line, an
    /// Upgrade of one token and a key whose pad bits are zero; only this module takes lists,
    /// further lines and other keys.)
    #[test]
    fn tungstenite_agrees() {
        let keys = [
            KEY,
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "////////////////////+w==",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAAA-==",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAA=AAAAAAAAAAAAAAAAA==",
            "x",
            "AAAAAAAAAAAAAAAAAAAAAA==AAAAAAAAAAAAAAAAAAAAAA==",
            "",
        ];
        let mut accepted = 0;
        for key in keys {
            for version in ["13", "8", "013"] {
                for connection in ["Upgrade", "keep-alive, upgrade", "close", ""] {
                    for protocol in ["websocket", "WebSocket", "h2c", ""] {
                        let lines = format!(
                            "Upgrade: {protocol}\r\nConnection: {connection}\r\n\
                             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n"
                        );
                        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
                        let own = upgrade(&read(&text).unwrap()).ok();
                        assert_eq!(
                            own.clone().map(|own| own.accept_key),
                            oracle(&lines),
                            "{lines}"
                        );
                        accepted += usize::from(own.is_some());
                    }
                }
            }
        }
        assert_eq!(accepted, 3 * 2 * 2);
    }

    /// Returns the accept key of tungstenite, if it accepts.
    fn oracle(lines: &str) -> Option<String> {
        let mut request = OracleRequest::new(());
        *request.version_mut() = http::Version::HTTP_11;
        for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let response = create_response(&request).ok()?;
        Some(response.headers()["Sec-WebSocket-Accept"].to_str().unwrap().into())
    }

    // FAULTS 169.
    #[test]
    fn half_an_offer_of_a_websocket_is_seen() {
        for (lines, expected) in [
            ("", false),
            ("Upgrade: h2c\r\n", false),
            ("Upgrade: web, socket\r\n", false),
            ("Upgrade: websocket\r\n", true),
            ("Upgrade: WebSocket/13\r\n", true),
            ("Upgrade: h2c, websockets\r\n", true),
            ("Upgrade: h2c\r\nupgrade: ,WEBSOCKET\r\n", true),
            ("Upgrade: h2c websocket\r\n", true),
        ] {
            let request = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            assert_eq!(offers_websocket(&request), expected, "{lines:?}");
        }
    }

    // FAULTS 26.
    #[test]
    fn the_first_offer_that_is_configured_is_chosen() {
        let configured = ["v2".to_string(), "v1".to_string()];
        for (lines, chosen) in [
            ("", None),
            ("Sec-WebSocket-Protocol: v3, v1, v2\r\n", Some("v1")),
            ("Sec-WebSocket-Protocol: v3\r\nSec-WebSocket-Protocol: ,v2\r\n", Some("v2")),
            ("Sec-WebSocket-Protocol: V1, v1x, v1 v2\r\n", None),
        ] {
            let head = read(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap();
            assert_eq!(choose_protocol(&head.request, &configured), chosen, "{lines:?}");
        }
    }

    // FAULTS 11: one pass over the list, even if all its elements are empty.
    #[test]
    fn a_list_of_blanks_and_commas_offers_nothing() {
        let configured = ["v1".to_string()];
        for filler in [",", " ,", ", \t", "a,", "a "] {
            let offer = filler.repeat(8000 / filler.len());
            let text =
                format!("GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: {offer}\r\n\r\n");
            let head = read(&text).unwrap();
            assert_eq!(choose_protocol(&head.request, &configured), None);
        }
    }

    #[test]
    fn the_answer_switches_protocols() {
        let mut extra = HeaderLines::default();
        extra.push("Event-Gap", "7-0").unwrap();
        let wire = Wire { date: "D", keep_alive: None, head_only: false };
        let bytes = switching_protocols("KEY=", Some("v1"), &extra).encode(&wire);
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "HTTP/1.1 101 Switching Protocols\r\nDate: D\r\nConnection: Upgrade\r\n\
             X-Content-Type-Options: nosniff\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: KEY=\r\nSec-WebSocket-Protocol: v1\r\nEvent-Gap: 7-0\r\n\r\n"
        );
        // FAULTS 24.
        let split = switching_protocols("KEY=", Some("v1\r\nEvil: 1"), &extra).encode(&wire);
        assert!(!String::from_utf8_lossy(&split).contains("Evil"));
    }
}
