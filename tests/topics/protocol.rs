//! The examples of the protocol's page (src/guide/protocol.md), played against the server: each
//! message stands there as it is sent. The JavaScript of the page is run by tests/browser.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::common::client::{Client, Seen};
use crate::common::topics::*;

const PAGE: &str = include_str!("../../src/guide/protocol.md");
const READING: &str = r#"{"celsius": 21.50}"#;

/// Gives the examples in a language that stand under a heading, each with the end of its last line.
#[track_caller]
fn examples(heading: &str, language: &str) -> Vec<&'static str> {
    let (_, section) = PAGE.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    let section = section.split("\n#").next().expect("it has text");
    let fence = format!("\n```{language}\n");
    let examples = section.split(&fence).skip(1);
    examples.map(|rest| rest.split("```").next().expect("it is text")).collect()
}

#[track_caller]
fn example(heading: &str) -> &'static str {
    let all = examples(heading, "text");
    assert_eq!(all.len(), 1, "{heading}");
    all[0]
}

/// Which id of the server stands for which id of the page.
#[derive(Default)]
struct Ids(HashMap<String, String>);

impl Ids {
    /// Asserts that a text is the printed one, but for ids: equal ones stay equal.
    #[track_caller]
    fn expect(&mut self, said: &str, printed: &str) {
        let (said_pieces, printed_pieces) = (pieces(said), pieces(printed));
        assert_eq!(said_pieces.len(), printed_pieces.len(), "{said}\n{printed}");
        for (real, page) in said_pieces.into_iter().zip(printed_pieces) {
            if is_id(real) && is_id(page) {
                let known = self.0.entry(page.to_owned()).or_insert_with(|| real.to_owned());
                assert_eq!(known, real, "{page} in {printed}");
            } else {
                assert_eq!(real, page, "{said}\n{printed}");
            }
        }
    }

    /// Gives a printed text with the server's ids.
    fn real<'a>(&'a self, printed: &'a str) -> String {
        let real = |piece: &'a str| self.0.get(piece).map_or(piece, String::as_str);
        pieces(printed).into_iter().map(real).collect()
    }
}

/// Parts a text into ids and what is between them.
fn pieces(text: &str) -> Vec<&str> {
    let is_in_id = |c: char| c.is_ascii_digit() || c == '-';
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_in_id(c) != is_in_id(first)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Says whether it is an id of an event or a connection; `0-0` and figures are the same everywhere.
fn is_id(piece: &str) -> bool {
    let first = piece.split('-').next().expect("there is a first part");
    first.len() >= 10 && first.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says what the page has the client say, and hears what it has the server say.
#[track_caller]
fn play(hub: &mut Hub, ids: &mut Ids, conversation: &str) {
    for line in conversation.lines() {
        match line.split_at(2) {
            ("> ", message) => hub.say(&ids.real(message)),
            ("< ", message) => ids.expect(&hub.hear(), message),
            _ => panic!("{line}"),
        }
    }
}

fn post_reading(address: SocketAddr, topic: &str) {
    assert_eq!(post(address, topic, "application/json", READING.as_bytes()).status, 200);
}

#[test]
fn a_client_of_ws_hears_what_is_printed() {
    let server = start(&[("heartbeat.interval", "30s")]);
    let mut ids = Ids::default();
    let mut peer = Client::connect(server.address);
    peer.upgrade("/ws");
    let mut hub = Hub { peer };
    play(&mut hub, &mut ids, example("## Subscribe, publish, ping"));
    hub.subscribe("chat");
    publish_bytes(server.address, "chat", &[0, 255]);
    play(&mut hub, &mut ids, example("## Bytes"));
    play(&mut hub, &mut ids, example("## Coming back"));
}

#[test]
fn what_is_sent_again_is_answered_as_printed() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    play(&mut hub, &mut Ids::default(), example("## Publishing again"));
}

#[test]
fn an_event_bears_its_trace_as_printed() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    play(&mut hub, &mut Ids::default(), example("## Traces"));
}

#[cfg(feature = "presence")]
#[test]
fn who_is_there_is_told_as_printed() {
    let server = start(&[("topics.presence", "room")]);
    let mut hub = Hub::open(server.address);
    play(&mut hub, &mut Ids::default(), example("## Who is there"));
}

#[test]
fn gaps_are_told_as_printed() {
    let server = start(&[]);
    publish(server.address, "chat", "hello");
    let mut hub = Hub::open(server.address);
    play(&mut hub, &mut Ids::default(), example("## Gaps"));
}

#[test]
fn errors_are_told_as_printed() {
    let server = start(&[("limits.subscriptions", "1")]);
    let mut hub = Hub::open(server.address);
    hub.subscribe("chat");
    play(&mut hub, &mut Ids::default(), example("## Errors"));
}

#[test]
fn pressure_is_told_as_printed() {
    let server = start(&[
        ("overflow.policy", "drop_newest"),
        ("limits.outbox_bytes", "128k"),
        ("deadlines.write_stall", "1m"),
    ]);
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    hub.subscribe("a");
    let mut publisher = Publisher::connect(server.address, "a");
    let large = "x".repeat(16 * 1024);
    (0..200).for_each(|_| drop(publisher.publish(&large)));
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != r#"{"op":"pressure","level":0}"#) {
        match hub.peer.see() {
            Seen::Frame(0x81, message) if message.starts_with(br#"{"op":"pressure""#) => {
                told.push(String::from_utf8(message).expect("it is text"));
            }
            Seen::Frame(0x81, _) => {}
            other => panic!("{other:?}"),
        }
    }
    for line in example("## Pressure").lines() {
        let message = line.strip_prefix("< ").expect("the server says it");
        assert!(told.iter().any(|one| one == message), "{message}: {told:?}");
    }
}

#[test]
fn going_away_is_told_as_printed() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    server.handle.drain().expect("the server is there");
    let printed = example("## Going away").trim_end().strip_prefix("< ").expect("the server's");
    for text in [&*hub.hear(), printed] {
        let figure = text.strip_prefix(r#"{"op":"goaway","retry_ms":"#);
        let figure = figure.and_then(|rest| rest.strip_suffix('}')).expect("it has this form");
        assert!(figure.parse::<u64>().is_ok(), "{text}");
    }
}

#[test]
fn streams_are_as_printed() {
    let server = start(&[]);
    let streams = [
        ("## `/events`: many topics", "/events?topic=chat&topic=news", "news"),
        ("## `/topics/{topic}`: one topic", "/topics/chat", "chat"),
    ];
    for (heading, target, other) in streams {
        let mut stream = Stream::open(server.address, target);
        let (mut ids, printed) = (Ids::default(), examples(heading, "text"));
        let mut pieces = printed[0].split_terminator("\n\n");
        ids.expect(&stream.piece(), pieces.next().expect("the position"));
        publish(server.address, "chat", "hello");
        post_reading(server.address, other);
        publish_bytes(server.address, "chat", &[0, 255]);
        pieces.for_each(|printed| ids.expect(&stream.piece(), printed));
    }
    let server = start(&[]);
    publish(server.address, "chat", "hello");
    for (heading, target, _) in streams {
        let mut stream = Stream::open_after(server.address, target, Some("5-5"));
        let mut ids = Ids::default();
        let printed = examples(heading, "text")[1].split_terminator("\n\n");
        printed.for_each(|printed| ids.expect(&stream.piece(), printed));
    }
}

#[test]
fn plain_answers_are_as_printed() {
    let server = start(&[]);
    let (mut ids, printed) = (Ids::default(), examples("# Plain requests", "json"));
    let answer = post(server.address, "chat", "text/plain", b"hello");
    ids.expect(answer.text(), printed[0].trim_end());
    post_reading(server.address, "chat");
    publish_bytes(server.address, "chat", &[0, 255]);
    let retained = fetch(server.address, "/topics/chat?after=0-0");
    ids.expect(&dechunk(&retained.body), printed[1].trim_end());
}

/// Every message of the contract stands on the page at least once.
#[test]
fn every_message_is_printed() {
    let client = ["subscribe", "unsubscribe", "publish", "ping"];
    let server = [
        "hello",
        "subscribed",
        "unsubscribed",
        "event",
        "gap",
        "published",
        "pong",
        "error",
        "pressure",
        "goaway",
    ];
    for (side, ops) in [('>', client.as_slice()), ('<', server.as_slice())] {
        for op in ops {
            let line = format!("\n{side} {{\"op\":\"{op}\"");
            assert!(PAGE.contains(&line), "{side} {op}");
        }
    }
}
