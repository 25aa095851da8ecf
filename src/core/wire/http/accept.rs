//! What a client wants to get (RFC 9110, 12.5.1).

use super::request::Request;
use super::syntax::trim;

/// What a client's Accept header says about a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The client names the type.
    Named,
    /// The client names the type to say that it does not want it: `q=0`.
    Refused,
    /// The client does not name the type: there is no Accept, or only ranges such as `*/*`.
    Unsaid,
}

/// Returns what the Accept header, over all its lines, says about a media type.
///
/// Parameters of the type other than `q` do not matter; if the type is named several times, one
/// that wants it is enough. A weight that cannot be read counts as none, which is 1.
pub fn wanted(request: &Request, media_type: &str) -> Wanted {
    let mut found = Wanted::Unsaid;
    for range in request.header_list("accept") {
        let mut parts = range.split(|byte| *byte == b';').map(trim);
        let name = parts.next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(media_type.as_bytes()) {
            continue;
        }
        if !parts.any(is_zero_weight) {
            return Wanted::Named;
        }
        found = Wanted::Refused;
    }
    found
}

/// Returns whether a parameter is the weight zero: `q=0`, `q=0.` or with up to three digits more.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some(at) = parameter.iter().position(|byte| *byte == b'=') else { return false };
    let (name, value) = (trim(&parameter[..at]), trim(&parameter[at + 1..]));
    let is_zero = match value {
        [b'0'] => true,
        [b'0', b'.', digits @ ..] => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    };
    name.eq_ignore_ascii_case(b"q") && is_zero
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::test_request;

    // FAULTS 171.
    #[test]
    fn a_list_over_several_lines_is_one_and_q_0_means_no() {
        for (lines, expected) in [
            ("", Wanted::Unsaid),
            ("Accept: */*\r\n", Wanted::Unsaid),
            ("Accept: text/*\r\n", Wanted::Unsaid),
            ("Accept: text/event-streams, xtext/event-stream\r\n", Wanted::Unsaid),
            ("Accept: text/event-stream\r\n", Wanted::Named),
            ("Accept: application/json\r\nAccept: text/event-stream\r\n", Wanted::Named),
            ("Accept: text/event-stream\r\naccept: application/json\r\n", Wanted::Named),
            ("Accept: text/html, Text/Event-Stream;q=0.5\r\n", Wanted::Named),
            ("Accept: text/event-stream;q=0.001\r\n", Wanted::Named),
            ("Accept: text/event-stream;charset=utf-8\r\n", Wanted::Named),
            ("Accept: text/event-stream;q=0\r\n", Wanted::Refused),
            ("Accept: text/event-stream ; Q=0.000, */*\r\n", Wanted::Refused),
            ("Accept: text/event-stream; charset=utf-8; q=0.\r\n", Wanted::Refused),
            ("Accept: text/event-stream;q=0\r\nAccept: text/event-stream\r\n", Wanted::Named),
        ] {
            let request = test_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            assert_eq!(wanted(&request, "text/event-stream"), expected, "{lines:?}");
        }
    }
}
