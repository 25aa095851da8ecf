//! Event streams of several topics.

use crate::common::http::header;
use crate::common::topics::*;

#[test]
fn each_event_names_its_topic() {
    let server = start(&[]);
    let mut stream = Stream::open(server.address, "/events?topic=a&topic=b:1");
    assert_eq!(header(&stream.head, "Content-Type"), Some("text/event-stream"));
    stream.position();
    let id = publish(server.address, "a", "one\ntwo");
    assert_eq!(stream.piece(), format!("id: {id}\nevent: a\ndata: one\ndata: two"));
    let id = publish(server.address, "b:1", "x");
    assert_eq!(stream.piece(), format!("id: {id}\nevent: b:1\ndata: x"));
    publish(server.address, "c", "elsewhere");
    let id = publish_bytes(server.address, "b:1", &[0, 255]);
    let data = r#"{"topic":"b:1","base64":"AP8="}"#;
    assert_eq!(stream.piece(), format!("id: {id}\nevent: binary\ndata: {data}"));
}

#[test]
fn what_cannot_be_a_name_here_is_refused() {
    let server = start(&[("limits.subscriptions", "2")]);
    for query in [
        "",
        "?",
        "?topic=",
        "?topic=gap",
        "?topic=open",
        "?topic=error",
        "?topic=message",
        "?topic=binary",
        "?topic=a&topic=gap",
        "?topic=a%0Ab",
        "?topic=a&topic=b&topic=c",
    ] {
        let target = format!("/events{query}");
        assert_eq!(fetch(server.address, &target).status, 400, "{target}");
    }
    assert!(!publish(server.address, "gap", "x").is_empty(), "elsewhere it is a name");
    Stream::open(server.address, "/events?topic=a&topic=b").position();
    Stream::open(server.address, "/events?topic=a&topic=a&topic=%61").position();
}

#[test]
fn what_was_missed_comes_in_the_order_of_ids() {
    let server = start(&[]);
    let begin = publish(server.address, "a", "begin");
    let mut expected = Vec::new();
    for (n, topic) in ["b", "a", "c", "x", "a", "b", "b", "c", "a"].into_iter().enumerate() {
        let id = publish(server.address, topic, &n.to_string());
        if topic != "x" {
            expected.push(format!("id: {id}\nevent: {topic}\ndata: {n}"));
        }
    }
    let target = "/events?topic=c&topic=a&topic=b";
    let mut stream = Stream::open_after(server.address, target, Some(&begin));
    assert_eq!(stream.position(), begin);
    for piece in &expected {
        assert_eq!(stream.piece(), *piece);
    }
    let id = publish(server.address, "a", "live");
    assert_eq!(stream.piece(), format!("id: {id}\nevent: a\ndata: live"));
    // Any event's id is the position in all topics.
    for (index, piece) in expected.iter().enumerate() {
        let last = piece.lines().next().unwrap().strip_prefix("id: ").unwrap();
        let target = format!("{target}&last_event_id={last}");
        let mut stream = Stream::open(server.address, &target);
        stream.position();
        for piece in &expected[index + 1..] {
            assert_eq!(stream.piece(), *piece);
        }
    }
}

#[test]
fn a_gap_names_its_topic() {
    let server = start(&[("topics.retain_events", "1")]);
    let begin = publish(server.address, "a", "0");
    let one = publish(server.address, "b", "1");
    publish(server.address, "a", "2");
    let two = publish(server.address, "a", "3");
    let target = "/events?topic=a&topic=b&topic=c";
    let mut stream = Stream::open_after(server.address, target, Some(&begin));
    assert_eq!(stream.position(), "0-0", "everything retained follows");
    let data = format!(r#"{{"topic":"a","first":"{two}"}}"#);
    assert_eq!(stream.piece(), format!("event: gap\ndata: {data}"));
    assert_eq!(stream.piece(), format!("id: {one}\nevent: b\ndata: 1"));
    assert_eq!(stream.piece(), format!("id: {two}\nevent: a\ndata: 3"));

    let mut stream = Stream::open_after(server.address, "/events?topic=c", Some("garbage"));
    stream.position();
    assert_eq!(stream.piece(), "event: gap\ndata: {\"topic\":\"c\",\"first\":null}");
}
