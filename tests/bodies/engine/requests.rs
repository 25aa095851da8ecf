//! What peers send that gets them anywhere.

use heartwheel::core::contract::route::{Face, Placement, RouteKind, RouteSpec};

use super::super::frame::frame_masked_by;
use super::super::source::Source;

/// Everything that the server can serve.
pub fn routes() -> Vec<RouteSpec> {
    let route = |path: &str, kind, placement| RouteSpec {
        path: path.into(),
        kind,
        placement,
        face: if kind == RouteKind::Ready { Face::Both } else { Face::Public },
        is_open: false,
        authorizes: path == "/asked",
        wants_pongs: path == "/inline",
        wants_drained: path == "/inline",
        protocols: Vec::new(),
        piecewise: None,
        has_hook: false,
        changes: Vec::new(),
    };
    vec![
        route("/inline", RouteKind::WebSocket, Placement::Inline),
        route("/worker", RouteKind::WebSocket, Placement::Worker),
        route("/asked", RouteKind::WebSocket, Placement::Worker),
        route("/plain", RouteKind::Get, Placement::Inline),
        route("/slow", RouteKind::Get, Placement::Worker),
        route("/slow", RouteKind::Post, Placement::Worker),
        route("/ws", RouteKind::Hub, Placement::Inline),
        route("/events", RouteKind::EventStream, Placement::Inline),
        route("/topics/{topic}", RouteKind::TopicSocket, Placement::Inline),
        route("/topics/{topic}", RouteKind::TopicGet, Placement::Inline),
        route("/topics/{topic}", RouteKind::TopicPost, Placement::Inline),
        route("/readyz", RouteKind::Ready, Placement::Inline),
    ]
}

pub const TOPICS: [&str; 5] = ["a", "b", "$stats", "c.d", "not a topic"];
pub const POSITIONS: [&str; 4] = ["0-0", "1-1", "1700000000100-65536", "x"];

/// Makes a request: a whole one, for whatever there is.
pub fn request(source: &mut Source) -> Vec<u8> {
    let topic = source.pick(&TOPICS).replace(' ', "%20");
    let after = source.pick(&POSITIONS);
    let (upgrade, get) = (UPGRADE, "");
    let stream = "Accept: text/event-stream\r\n";
    let (line, headers) = match source.below(16) {
        0 => ("GET /inline".into(), upgrade),
        1 => ("GET /worker".into(), upgrade),
        2 => ("GET /asked".into(), upgrade),
        3 => ("GET /ws".into(), upgrade),
        4 => (format!("GET /topics/{topic}"), upgrade),
        5 => (format!("GET /topics/{topic}?after={after}"), upgrade),
        6 => (format!("GET /topics/{topic}"), stream),
        7 => (format!("GET /topics/{topic}?last_event_id={after}"), stream),
        8 => (format!("GET /events?topic={topic}&topic=b&last_event_id={after}"), get),
        9 => (format!("GET /topics/{topic}?after={after}"), get),
        10 => (format!("GET /topics/{topic}"), get),
        11 => ("GET /plain".into(), get),
        12 => ("GET /slow".into(), get),
        13 => ("GET /readyz".into(), get),
        form => {
            let path = if form == 14 { "/slow".into() } else { format!("/topics/{topic}") };
            let body = source.text();
            let kind = source.pick(&["text/plain", "application/json", "application/octet-stream"]);
            let length = body.len();
            return format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .into();
        }
    };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into()
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Makes a frame: any first byte, any mask, as many bytes as it says.
pub fn frame(source: &mut Source) -> Vec<u8> {
    let first = source.pick(&[0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x02, 0xff]);
    let length = usize::from(source.byte()) << source.pick(&[0, 0, 1, 4]);
    let payload = source.take(length).to_vec();
    frame_of(first, &payload)
}

/// Makes a message of a client of `/ws`.
pub fn hub_message(source: &mut Source) -> Vec<u8> {
    let topic = source.pick(&TOPICS);
    let after = source.pick(&POSITIONS);
    let text = match source.below(6) {
        0 => format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#),
        1 => format!(r#"{{"op":"subscribe","topic":"{topic}","after":"{after}"}}"#),
        2 => format!(r#"{{"op":"publish","topic":"{topic}","data":[{}],"ref":1}}"#, source.byte()),
        3 => format!(r#"{{"op":"publish","topic":"{topic}","data":"{}"}}"#, "x".repeat(2000)),
        4 => format!(r#"{{"op":"unsubscribe","topic":"{topic}"}}"#),
        _ => match source.below(4) {
            0 => r#"{"op":"hello","client":"0123456789abcdef","version":"1"}"#.into(),
            1 => r#"{"op":"hello","client":"ABCDEFGHIJKLMNOP","version":"1","ref":2}"#.into(),
            _ => r#"{"op":"ping","ref":[1]}"#.into(),
        },
    };
    frame_of(0x81, text.as_bytes())
}

fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_masked_by([0x55, 0, 0xff, 1], first, payload)
}
