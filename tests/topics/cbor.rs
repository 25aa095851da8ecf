//! `/ws` in CBOR: the messages of JSON as maps, beside clients that speak JSON.

use heartwheel::CloseReason;

use crate::common::cbor::{bytes, map, text};
use crate::common::client::{Client, Seen};
use crate::common::frame::frame;
use crate::common::http::{header, upgrade_request};
use crate::common::server::TestServer;
use crate::common::topics::*;

/// A client that speaks CBOR; the hello is taken.
struct Cbor {
    peer: Client,
    /// The bytes of the last frame, with its header.
    last_bytes: usize,
}

impl Cbor {
    #[track_caller]
    fn open(server: &TestServer) -> Cbor {
        let mut peer = Client::connect(server.address);
        let lines = "Sec-WebSocket-Protocol: heartwheel.v1.cbor, heartwheel.v1\r\n";
        peer.send(upgrade_request("/ws", lines).as_bytes());
        let answer = peer.read_answer();
        let spoken = header(&answer.head, "Sec-WebSocket-Protocol");
        assert_eq!(spoken, Some("heartwheel.v1.cbor"));
        let mut cbor = Cbor { peer, last_bytes: 0 };
        let hello = cbor.hear();
        assert!(hello.starts_with("{op:hello connection:"), "{hello}");
        cbor
    }

    fn say(&mut self, members: &[(&str, Vec<u8>)]) {
        self.peer.send(frame(0x82, &map(members)));
    }

    /// Gives the next message as text that reads as JSON without quotes.
    #[track_caller]
    fn hear(&mut self) -> String {
        match self.peer.see() {
            Seen::Frame(0x82, payload) => {
                let header = if payload.len() < 126 { 2 } else { 4 };
                self.last_bytes = header + payload.len();
                let (text, rest) = shown(&payload);
                assert!(rest.is_empty(), "one map is a message");
                text
            }
            other => panic!("a binary message was expected: {other:?}"),
        }
    }

    #[track_caller]
    fn subscribe(&mut self, topic: &str, after: Option<&str>) {
        let mut members = vec![("op", text("subscribe")), ("topic", text(topic))];
        members.extend(after.map(|after| ("after", text(after))));
        self.say(&members);
    }
}

/// Shows an item of the kinds that the server writes, or that this test has it repeat.
fn shown(item: &[u8]) -> (String, &[u8]) {
    let (size, len) = match item[0] & 31 {
        small @ 0..24 => (1, small.into()),
        info => {
            let size = 1 << (info - 24);
            let number = item[1..1 + size].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
            (1 + size, number)
        }
    };
    let mut rest = &item[size..];
    match item[0] >> 5 {
        0 => (len.to_string(), rest),
        2 => (format!("h{:02x?}", &rest[..len]), &rest[len..]),
        3 => (String::from_utf8(rest[..len].to_vec()).unwrap(), &rest[len..]),
        4 => {
            let mut all = Vec::new();
            for _ in 0..len {
                let (one, behind) = shown(rest);
                all.push(one);
                rest = behind;
            }
            (format!("[{}]", all.join(",")), rest)
        }
        5 => {
            let mut all = Vec::new();
            for _ in 0..len {
                let (name, behind) = shown(rest);
                let (value, behind) = shown(behind);
                all.push(format!("{name}:{value}"));
                rest = behind;
            }
            (format!("{{{}}}", all.join(" ")), rest)
        }
        7 if item[0] == 0xf6 => ("null".into(), rest),
        _ => panic!("{item:x?}"),
    }
}

#[test]
fn text_json_and_bytes_go_both_ways_between_both_codecs() {
    let server = start(&[]);
    let (mut cbor, mut json) = (Cbor::open(&server), Hub::open(server.address));
    cbor.subscribe("a", None);
    assert!(cbor.hear().starts_with("{op:subscribed topic:a last:"));
    json.subscribe("a");
    for (name, value, in_cbor, in_json) in [
        ("data", text("ü\"x"), "data:ü\"x", r#""data":"ü\"x""#),
        ("json", text(" {\"n\": 1.50}"), "json:{\"n\": 1.50}", r#""data":{"n": 1.50}"#),
        ("data", bytes(&[0, 255]), "data:h[00, ff]", r#""base64":"AP8=""#),
    ] {
        let reference = vec![0x82, 0x18, 0x64, 0x41, 0x07];
        cbor.say(&[
            ("op", text("publish")),
            ("topic", text("a")),
            (name, value),
            ("ref", reference),
        ]);
        let published = cbor.hear();
        let id = published.strip_prefix("{op:published ref:[100,h[07]] id:").unwrap();
        let id = id.strip_suffix('}').unwrap();
        assert_eq!(cbor.hear(), format!("{{op:event topic:a id:{id} {in_cbor}}}"));
        json.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}",{in_json}}}"#));
    }
    let id = publish(server.address, "a", "posted");
    assert_eq!(cbor.hear(), format!("{{op:event topic:a id:{id} data:posted}}"));
    // A replay, and a gap that needs none of the earlier ids.
    let mut late = Cbor::open(&server);
    late.subscribe("a", Some("1-1"));
    assert!(late.hear().starts_with("{op:gap topic:a first:"));
    assert!(late.hear().ends_with(" data:ü\"x}"));
    late.say(&[("op", text("unsubscribe")), ("topic", text("a"))]);
    while late.hear() != "{op:unsubscribed topic:a}" {}
    late.subscribe("quiet", Some("1-1"));
    assert_eq!(late.hear(), "{op:gap topic:quiet first:null}");
}

#[test]
fn a_trace_goes_along_and_a_repeat_is_published_once() {
    let server = start(&[]);
    let (mut cbor, mut json) = (Cbor::open(&server), Hub::open(server.address));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let hello =
        [("op", text("hello")), ("client", text("abcdefghijklmnop")), ("version", text("1"))];
    cbor.say(&hello);
    json.say(r#"{"op":"hello","client":"abcdefghijklmnop","version":"1"}"#);
    let publish = [
        ("op", text("publish")),
        ("topic", text("a")),
        ("data", text("x")),
        ("trace", text(trace)),
        ("ref", vec![0x20]),
    ];
    cbor.peer.send(frame(0x82, &map(&publish)));
    // -1 is no kind that is shown above: the answer ends with the id.
    let Seen::Frame(0x82, answer) = cbor.peer.see() else { panic!("an answer") };
    let id = String::from_utf8_lossy(&answer[answer.len() - 19..]).into_owned();
    let id = id.trim_start_matches(|c: char| !c.is_ascii_digit());
    json.say(r#"{"op":"publish","topic":"a","data":"x","ref":-1}"#);
    let again = json.hear();
    assert!(member(&again, "id").ends_with(id), "the same client, in the other codec: {again}");
    cbor.subscribe("a", Some("0-0"));
    assert!(cbor.hear().contains(&format!(" trace:{trace} data:x}}")));
    assert_eq!(server.stats().publishes_repeated, 1);
}

/// 1 KiB of bytes, which JSON bears as 1,368 characters of base64.
#[test]
fn bytes_travel_as_they_are() {
    let server = start(&[]);
    let mut cbor = Cbor::open(&server);
    cbor.subscribe("a", None);
    cbor.hear();
    let id = publish_bytes(server.address, "a", &[7; 1024]);
    cbor.hear();
    assert_eq!(cbor.last_bytes, 1024 + 34 + id.len());
}

#[test]
fn what_is_wrong_is_answered_and_the_connection_stays() {
    let server = start(&[("limits.subscriptions", "1")]);
    let mut cbor = Cbor::open(&server);
    let bad = |sentence: &str| format!("{{op:error code:bad_request message:{sentence}}}");
    cbor.peer.text(r#"{"op":"ping","ref":1}"#);
    assert_eq!(cbor.hear(), bad("a message is CBOR in a binary message"));
    for (message, sentence) in [
        (vec![], "a message is one CBOR map"),
        (vec![0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a message is one CBOR map"),
        (vec![0xbf, 0xff], "CBOR of definite lengths is taken alone"),
        ([&[0xa1][..], &vec![0x81; 100_000]].concat(), "CBOR nested deeper than 100 levels"),
    ] {
        cbor.peer.send(frame(0x82, &message));
        assert_eq!(cbor.hear(), bad(sentence));
    }
    for (members, answer) in [
        (vec![("op", text("dance")), ("ref", vec![0x07])], "unknown_op"),
        (vec![("op", text("subscribe")), ("topic", text("no blanks"))], "bad_request"),
        (
            vec![("op", text("publish")), ("topic", text("$stats")), ("data", text("x"))],
            "forbidden",
        ),
    ] {
        cbor.say(&members);
        let heard = cbor.hear();
        assert!(heard.starts_with(&format!("{{op:error code:{answer} message:")), "{heard}");
        match answer {
            "unknown_op" => assert!(heard.ends_with(" ref:7}"), "{heard}"),
            "bad_request" => assert!(heard.ends_with(" ref:no blanks}"), "{heard}"),
            _ => {}
        }
    }
    cbor.say(&[("op", text("ping")), ("ref", text("still"))]);
    assert_eq!(cbor.hear(), "{op:pong ref:still}");
    assert_eq!(server.closed_by(CloseReason::Peer(1000)), 0);
}

#[cfg(feature = "presence")]
#[test]
fn who_is_there_is_told_in_cbor() {
    let server = start(&[("topics.presence", "room")]);
    let (mut cbor, mut json) = (Cbor::open(&server), Hub::open(server.address));
    for (info, refused) in [
        (text(&"x".repeat(257)), true),
        (vec![0x01], true),
        (vec![0xf6], false),
        (text("\"here\""), false),
    ] {
        cbor.say(&[("op", text("subscribe")), ("topic", text("room")), ("info", info)]);
        let answer = cbor.hear();
        let expected = if refused { "{op:error code:bad_request " } else { "{op:subscribed " };
        assert!(answer.starts_with(expected), "{answer}");
    }
    json.say(r#"{"op":"presence","topic":"room"}"#);
    let answer = json.hear();
    let id = answer.split(r#""connection":""#).nth(1).unwrap().split('"').next().unwrap();
    let member = format!(r#"{{"identity":null,"connection":"{id}","info":"\"here\""}}"#);
    let head = r#"{"op":"presence","topic":"room","count":1,"members""#;
    assert_eq!(answer, format!("{head}:[{member}]}}"));
    cbor.say(&[("op", text("presence")), ("topic", text("room")), ("ref", vec![0x82, 1, 0x40])]);
    let member = format!("{{identity:null connection:{id} info:\"here\"}}");
    let head = "{op:presence topic:room count:1 members";
    assert_eq!(cbor.hear(), format!("{head}:[{member}] ref:[1,h[]]}}"));
    cbor.say(&[("op", text("presence")), ("topic", text("hall"))]);
    assert!(cbor.hear().ends_with(" ref:hall}"));
    cbor.subscribe("$presence.room", None);
    assert!(cbor.hear().starts_with("{op:subscribed "));
    let event = cbor.hear();
    assert!(event.starts_with("{op:event topic:$presence.room id:"), "{event}");
    assert!(event.contains(r#" json:{"joined":[{"identity":null,"#), "{event}");
}
