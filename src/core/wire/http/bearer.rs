//! Where a request carries its token (RFC 6750, 2).

use std::borrow::Cow;

use super::request::Request;

/// Returns the token of a request: from `Authorization: Bearer TOKEN`; else from the subprotocol
/// `heartwheel.bearer.TOKEN`, because a page can set no header of a WebSocket; else from
/// `?access_token=TOKEN`.
pub fn bearer(request: &Request) -> Option<Cow<'_, str>> {
    let mut protocols = request.header_list("sec-websocket-protocol");
    let of_protocol = |name| str::from_utf8(name).ok()?.strip_prefix(PROTOCOL_PREFIX);
    request
        .header("authorization")
        .and_then(of_authorization)
        .or_else(|| protocols.find_map(of_protocol))
        .map(Cow::Borrowed)
        .or_else(|| request.query_value("access_token"))
}

/// Returns whether a subprotocol carries a token: the answer never names it.
pub(super) fn is_bearer(protocol: &str) -> bool {
    protocol.starts_with(PROTOCOL_PREFIX)
}

/// Another scheme may be for another program, such as a proxy.
fn of_authorization(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

const PROTOCOL_PREFIX: &str = "heartwheel.bearer.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::test_request;

    #[test]
    fn a_token_is_found_wherever_it_may_stand() {
        for (target, lines, token) in [
            ("/", "", None),
            ("/", "Authorization: Bearer a.b=\r\n", Some("a.b=")),
            ("/", "authorization: BEARER  a \r\n", Some("a")),
            ("/", "Authorization: Basic a\r\n", None),
            ("/", "Authorization: Bearer\r\n", None),
            ("/?access_token=a%2Bb&access_token=c", "", Some("a+b")),
            ("/?access_token=a", "Authorization: Basic b\r\n", Some("a")),
            ("/?access_token=a", "Authorization: Bearer b\r\n", Some("b")),
            ("/", "Sec-WebSocket-Protocol: x, heartwheel.bearer.a.b , y\r\n", Some("a.b")),
            (
                "/",
                "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: heartwheel.bearer.a\r\n",
                Some("a"),
            ),
            ("/", "Sec-WebSocket-Protocol: heartwheel.bearera\r\n", None),
        ] {
            let request = test_request(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
            assert_eq!(bearer(&request).as_deref(), token, "{target} {lines}");
        }
    }
}
