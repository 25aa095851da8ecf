//! Event streams: Server-Sent Events as the HTML standard of the WHATWG reads them (9.2).
//!
//! Every function returns one piece of a stream: whole lines, the last one empty. So pieces can be
//! sent in any order, and leaving one out harms no other.
//!
//! A stream is text in lines, so two things change on the way. Line breaks: CR, LF and CRLF in a
//! payload each begin another `data:` line, and a reader joins these lines by LF; to keep the exact
//! bytes, publish binary. Bytes: they go as base64 in an event named `binary`. A byte order mark in
//! a payload stays, since a stream never begins with a payload.

use std::borrow::Cow;
use std::fmt;

use tungstenite::Bytes;

use crate::core::ground::json::Object;
use crate::core::wire::encoded::{Around, Coding};
use crate::core::wire::http::Request;
use crate::core::wire::hub::{around_base64, with_gap};
use crate::core::wire::payload::Payload;

/// The type of a response that is an event stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// Encodes an event.
///
/// On a stream of one topic `name` is `None`; a payload of bytes is named `binary`, and its data is
/// base64. On a stream of several topics `name` is the topic; a payload of bytes is named `binary`
/// and its data is `{"topic":T,"base64":..}`.
///
/// At worst, for a payload of nothing but line breaks, the event is seven times as long.
///
/// # Errors
///
/// If the id or the name has CR, LF or NUL: it would end its line, or readers would ignore it.
pub fn event(id: &str, name: Option<&str>, payload: Payload) -> Result<Bytes, FieldError> {
    Ok(event_around(id, name, payload)?.encode(payload.as_bytes()).into())
}

/// Returns what stands around the payload of an event, which is written as [`event`] says.
///
/// # Errors
///
/// As [`event`].
pub fn event_around(id: &str, name: Option<&str>, payload: Payload) -> Result<Around, FieldError> {
    check(id, FieldError::Id)?;
    check(name.unwrap_or_default(), FieldError::Name)?;
    let shown = match payload {
        Payload::Text(_) | Payload::Json(_) => name,
        Payload::Binary(_) => Some("binary"),
    };
    let mut lines = String::new();
    write_line(&mut lines, "id", id);
    if let Some(shown) = shown {
        write_line(&mut lines, "event", shown);
    }
    lines.push_str("data: ");
    Ok(match (payload, name) {
        (Payload::Text(_) | Payload::Json(_), _) => {
            Around { head: lines.into(), coding: Coding::Lines, tail: "\n\n" }
        }
        (Payload::Binary(_), None) => {
            Around { head: lines.into(), coding: Coding::Base64, tail: "\n\n" }
        }
        (Payload::Binary(_), Some(topic)) => {
            let around = around_base64(Object::new().string("topic", topic), "\"}\n\n");
            Around { head: [lines.as_bytes(), &around.head].concat(), ..around }
        }
    })
}

/// Encodes a gap: events were lost on this stream, and `first` is the next one, if there is one
/// yet. `topic` is the topic on a stream of several topics.
///
/// It has no id, so that the position that a reader remembers stays.
pub fn gap(topic: Option<&str>, first: Option<&str>) -> Bytes {
    let data: Cow<str> = match topic {
        None => first.unwrap_or_default().into(),
        Some(topic) => with_gap(Object::new(), topic, first).end().into(),
    };
    let head = "event: gap\ndata: ".into();
    Around { head, coding: Coding::Lines, tail: "\n\n" }.encode(data.as_bytes()).into()
}

/// Encodes a position: readers remember it as their last id, and deliver no event.
///
/// # Errors
///
/// As [`event`].
pub fn position(id: &str) -> Result<Bytes, FieldError> {
    check(id, FieldError::Id)?;
    Ok(format!("id: {id}\n\n").into())
}

/// Encodes how long readers wait before they reconnect, in milliseconds.
pub fn retry(ms: u64) -> Bytes {
    format!("retry: {ms}\n\n").into()
}

/// Returns a comment, which readers ignore: a sign of life.
pub fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// Returns whether a topic's name has another meaning on streams of several topics: `gap` and
/// `binary` name events of their own, browsers use the others.
pub fn is_reserved(topic: &str) -> bool {
    matches!(topic, "gap" | "open" | "error" | "message" | "binary")
}

/// Returns the id of the last event that the client claims to have, unchecked.
///
/// It is taken from the header `Last-Event-ID`, else from `last_event_id`, `lastEventId` or `after`
/// in the query, which mean the same: if a browser reconnects to a URL that names an id, the header
/// is newer. An empty header counts as none. Bytes that are not UTF-8 become U+FFFD, so that
/// garbage is seen and not taken for nothing.
pub fn last_event_id(request: &Request) -> Option<Cow<'_, str>> {
    let header = request.header_values("Last-Event-ID").next().map(String::from_utf8_lossy);
    let header = header.filter(|id| !id.is_empty());
    let mut names = ["last_event_id", "lastEventId", "after"].into_iter();
    header.or_else(|| names.find_map(|name| request.query_value(name)))
}

/// Which field cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The id has CR, LF or NUL.
    Id,
    /// The name of the event has CR, LF or NUL.
    Name,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FieldError::Id => "the id of the event bears CR, LF or NUL",
            FieldError::Name => "the name of the event bears CR, LF or NUL",
        })
    }
}

impl std::error::Error for FieldError {}

/// Adds a line. Readers remove the one blank, whatever the value begins with.
fn write_line(lines: &mut String, field: &str, value: &str) {
    for part in [field, ": ", value, "\n"] {
        lines.push_str(part);
    }
}

fn check(value: &str, error: FieldError) -> Result<(), FieldError> {
    if value.contains(['\r', '\n', '\0']) { Err(error) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::test_request;

    fn text(piece: Bytes) -> String {
        String::from_utf8(piece.to_vec()).unwrap()
    }

    fn data(payload: &str) -> String {
        let piece = text(event("7-0", None, Payload::Text(payload)).unwrap());
        piece.strip_prefix("id: 7-0\n").and_then(|rest| rest.strip_suffix('\n')).unwrap().into()
    }

    #[test]
    fn each_line_of_a_payload_is_a_line_of_data() {
        for (payload, lines) in [
            ("", "data: \n"),
            ("a", "data: a\n"),
            (" a: b", "data:  a: b\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n"),
            ("\n", "data: \ndata: \n"),
            ("\r\n\n\r", "data: \ndata: \ndata: \ndata: \n"),
            ("\n\r", "data: \ndata: \ndata: \n"),
            ("a\r\n", "data: a\ndata: \n"),
            ("a\n\nid: 9\r\revent: x", "data: a\ndata: \ndata: id: 9\ndata: \ndata: event: x\n"),
            ("\u{feff}ü\0\u{85}\u{2028}", "data: \u{feff}ü\0\u{85}\u{2028}\n"),
        ] {
            assert_eq!(data(payload), lines, "{payload:?}");
        }
    }

    #[test]
    fn events_bear_id_name_and_payload() {
        let event = |name, payload| text(event("7-0", name, payload).unwrap());
        for (name, payload, piece) in [
            (None, Payload::Text("a"), "id: 7-0\ndata: a\n\n"),
            (None, Payload::Json("[1,\n2]"), "id: 7-0\ndata: [1,\ndata: 2]\n\n"),
            (None, Payload::Binary(b"\0\xff\n"), "id: 7-0\nevent: binary\ndata: AP8K\n\n"),
            (None, Payload::Binary(b""), "id: 7-0\nevent: binary\ndata: \n\n"),
            (Some("t:1"), Payload::Text("a"), "id: 7-0\nevent: t:1\ndata: a\n\n"),
            (Some("t:1"), Payload::Json("{}"), "id: 7-0\nevent: t:1\ndata: {}\n\n"),
            (
                Some("t\"1"),
                Payload::Binary(b"\xff"),
                "id: 7-0\nevent: binary\ndata: {\"topic\":\"t\\\"1\",\"base64\":\"/w==\"}\n\n",
            ),
        ] {
            assert_eq!(event(name, payload), piece);
        }
    }

    #[test]
    fn a_gap_has_no_id() {
        for (topic, first, piece) in [
            (None, None, "event: gap\ndata: \n\n"),
            (None, Some("7-0"), "event: gap\ndata: 7-0\n\n"),
            (Some("t"), None, "event: gap\ndata: {\"topic\":\"t\",\"first\":null}\n\n"),
            (Some("t"), Some("7-0"), "event: gap\ndata: {\"topic\":\"t\",\"first\":\"7-0\"}\n\n"),
        ] {
            assert_eq!(text(gap(topic, first)), piece);
        }
    }

    #[test]
    fn pieces_without_an_event_end_in_an_empty_line_too() {
        assert_eq!(position("7-0"), Ok(Bytes::from_static(b"id: 7-0\n\n")));
        assert_eq!(text(retry(1500)), "retry: 1500\n\n");
        assert_eq!(text(comment()), ":\n\n");
    }

    #[test]
    fn fields_that_would_break_a_line_are_refused() {
        for bad in ["\r", "\n", "\0", "7-0\r\n", "a\rdata: x", "a\n\ndata: x", "\0a"] {
            for payload in [Payload::Text("x"), Payload::Binary(b"x")] {
                assert_eq!(event(bad, None, payload), Err(FieldError::Id), "{bad:?}");
                assert_eq!(event("1", Some(bad), payload), Err(FieldError::Name), "{bad:?}");
            }
            assert_eq!(position(bad), Err(FieldError::Id));
            let lines = text(gap(Some(bad), Some(bad))).lines().count();
            assert_eq!(lines, 3, "JSON bears no line break");
        }
    }

    #[test]
    fn names_of_the_streams_own_events_are_reserved() {
        for name in ["gap", "open", "error", "message", "binary"] {
            assert!(is_reserved(name));
        }
        for name in ["", "Gap", "gaps", "t", "$stats"] {
            assert!(!is_reserved(name));
        }
    }

    #[test]
    fn the_last_id_comes_from_the_header_or_else_the_query() {
        let header = "Last-event-id: 1-0\r\n";
        for (query, header, id) in [
            ("", "", None),
            ("?last_event_id=2-0&lastEventId=3-0", header, Some("1-0")),
            ("?lastEventId=3-0&last_event_id=2-0", "", Some("2-0")),
            ("?lastEventId=3%2D0", "", Some("3-0")),
            ("?last_event_id", "", Some("")),
            ("?lasteventid=3-0", "", None),
            ("?last_event_id=%ff", "", Some("\u{fffd}")),
            ("?after=4-0", "", Some("4-0")),
            ("?after=4-0&lastEventId=3-0", "", Some("3-0")),
            ("?after=4-0", header, Some("1-0")),
            // FAULTS 176: an empty header is none.
            ("?last_event_id=2-0", "Last-Event-ID:\r\n", Some("2-0")),
            ("", "Last-Event-ID: \r\n", None),
        ] {
            let request =
                test_request(&format!("GET /{query} HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
            assert_eq!(last_event_id(&request).as_deref(), id, "{query} {header}");
        }
    }
}
