//! Event streams of one topic.

use std::time::Duration;

use heartwheel::CloseReason;
use heartwheel::stats::DeadlineKind;

use crate::common::client::{Client, Seen};
use crate::common::http::header;
use crate::common::timing::{Span, eventually, ms};
use crate::common::topics::*;

#[test]
fn a_stream_begins_with_its_position_and_goes_on_with_events() {
    let server = start(&[]);
    let before = publish(server.address, "a", "before");
    let mut stream = Stream::open(server.address, "/topics/a");
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store, no-transform"),
        ("Vary", "Accept, Origin"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("X-Accel-Buffering", "no"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        assert_eq!(header(&stream.head, name), Some(value), "{}", stream.head);
    }
    assert_eq!(header(&stream.head, "Content-Length"), None);
    assert_eq!(stream.position(), before);
    let id = publish(server.address, "a", "one");
    stream.expect(&id, "one");
    let id = publish(server.address, "a", "two\r\nlines\n\n: not a comment\rid: 5");
    let lines = "data: two\ndata: lines\ndata: \ndata: : not a comment\ndata: id: 5";
    assert_eq!(stream.piece(), format!("id: {id}\n{lines}"));
    let id = publish(server.address, "a", "");
    stream.expect(&id, "");
    let id = publish_bytes(server.address, "a", &[0, 255]);
    assert_eq!(stream.piece(), format!("id: {id}\nevent: binary\ndata: AP8="));
    publish(server.address, "b", "elsewhere");
    let json = post(server.address, "a", "application/json", b"{\"a\":\n1}");
    let id = member(json.text(), "id");
    assert_eq!(stream.piece(), format!("id: {id}\ndata: {{\"a\":\ndata: 1}}"));
    assert_eq!(server.stats().streams, 1);
}

#[test]
fn what_was_missed_comes_first_by_header_and_by_query() {
    let server = start(&[]);
    let ids = ["0", "1", "2"].map(|text| publish(server.address, "a", text));
    let query = |name: &str| format!("/topics/a?{name}={}", ids[0]);
    for (target, last) in [
        ("/topics/a".to_owned(), Some(ids[0].as_str())),
        (query("last_event_id"), None),
        (query("lastEventId"), None),
        (query("after"), None),
        ("/topics/a?after=0-0".to_owned(), Some(&ids[0])),
        ("/topics/a?last_event_id=0-0".to_owned(), Some(&ids[0])),
    ] {
        let mut stream = Stream::open_after(server.address, &target, last);
        assert_eq!(stream.position(), ids[0], "{target}");
        stream.expect(&ids[1], "1");
        stream.expect(&ids[2], "2");
        let live = publish(server.address, "b", "live");
        let mut other = Stream::open_after(server.address, "/topics/b", Some(&ids[2]));
        assert_eq!(other.position(), ids[2]);
        while other.piece() != format!("id: {live}\ndata: live") {}
    }
    let mut stream = Stream::open_after(server.address, "/topics/a", Some("0-0"));
    assert_eq!(stream.position(), "0-0");
    stream.expect(&ids[0], "0");
}

// FAULTS 122: valid, unknown, too old, other process, long, garbage: never silently from now.
#[test]
fn what_is_no_good_position_is_a_gap() {
    let server = start(&[("topics.retain_events", "2")]);
    let ids = ["0", "1", "2", "3"].map(|text| publish(server.address, "a", text));
    let long = "9".repeat(4000);
    let other = format!("{}-1", ids[3].split('-').next().unwrap());
    let lasts = [&ids[0], "0-0", &other, "x", &long, "99999999999999999999-0", "1-2-3", "-"];
    for last in lasts {
        let mut stream = Stream::open_after(server.address, "/topics/a", Some(last));
        stream.position();
        assert_eq!(stream.piece(), format!("event: gap\ndata: {}", ids[2]), "{last:?}");
        stream.expect(&ids[2], "2");
        stream.expect(&ids[3], "3");
        let mut empty = Stream::open_after(server.address, "/topics/empty", Some("x"));
        empty.position();
        assert_eq!(empty.piece(), "event: gap\ndata: ");
    }
    // What the stream began with is good until something follows that is evicted again.
    let mut stream = Stream::open_after(server.address, "/topics/empty", Some("x"));
    let position = stream.position();
    drop(stream);
    let mut stream = Stream::open_after(server.address, "/topics/empty", Some(&position));
    assert_eq!(stream.position(), position);
}

// FAULTS 176.
#[test]
fn an_empty_last_event_id_is_none() {
    let server = start(&[]);
    let id = publish(server.address, "a", "before");
    let mut stream = Stream::open_after(server.address, "/topics/a", Some(""));
    assert_eq!(stream.position(), id);
    let id = publish(server.address, "a", "one");
    stream.expect(&id, "one");
}

// FAULTS 172: HTTP/1.0 knows no chunks, and gets the same events.
#[test]
fn a_stream_to_http_1_0_ends_with_its_connection() {
    let server = start(&[("heartbeat.comment", "300ms")]);
    let before = publish(server.address, "a", "before");
    let mut chunked = Stream::open(server.address, "/topics/a");
    assert_eq!(chunked.position(), before);
    let mut peer = Client::connect(server.address);
    let lines = "Host: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: 0-0\r\n\r\n";
    peer.send(format!("GET /topics/a HTTP/1.0\r\n{lines}").as_bytes());
    let answer = peer.read_answer();
    assert_eq!(header(&answer.head, "Connection"), Some("close"));
    assert_eq!(header(&answer.head, "Transfer-Encoding"), None);
    eventually("a comment", || server.stats().fired(DeadlineKind::Comment) > 1);
    let large = "x".repeat(5000);
    let ids = [publish(server.address, "a", "y"), publish(server.address, "a", &large)];
    while chunked.piece() != format!("id: {}\ndata: {large}", ids[1]) {}
    server.handle.drain().unwrap();
    let received = peer.read_to_fin();
    let text = String::from_utf8(received).unwrap();
    let pieces: Vec<&str> = text.split_terminator("\n\n").filter(|piece| *piece != ":").collect();
    assert_eq!(
        pieces[..4],
        [
            "id: 0-0".to_owned(),
            format!("id: {before}\ndata: before"),
            format!("id: {}\ndata: y", ids[0]),
            format!("id: {}\ndata: {large}", ids[1]),
        ]
    );
    assert!(pieces[4].starts_with("retry: ") && pieces.len() == 5, "{pieces:?}");
}

#[test]
fn a_silent_stream_gets_comments() {
    let server = start(&[("heartbeat.comment", "300ms")]);
    let span = Span::begin();
    let mut stream = Stream::open(server.address, "/topics/a");
    stream.position();
    assert_eq!(stream.piece(), ":");
    span.took_between("the first comment", COMMENT_LEAST, ms(300));
    let span = Span::begin();
    publish(server.address, "a", "x");
    // Another comment may have come before it.
    while stream.piece() == ":" {}
    assert_eq!(stream.piece(), ":");
    span.took_between("the comment after an event", COMMENT_LEAST, ms(300));
}

// FAULTS 123.
#[test]
fn a_client_that_leaves_is_freed_at_once() {
    let server = start(&[]);
    for (round, reason) in [CloseReason::Eof, CloseReason::Reset].into_iter().enumerate() {
        let mut stream = Stream::open(server.address, "/topics/a");
        stream.position();
        let span = Span::begin();
        match round {
            0 => stream.peer.half_close(),
            _ => stream.peer.reset(),
        }
        eventually("it is freed", || server.open() == 0);
        span.took("freeing", ms(0));
        server.expect_closed(reason, 1);
    }
}

#[test]
fn a_drain_says_when_to_come_back_and_ends_the_stream() {
    let server = start(&[("deadlines.drain", "10s")]);
    let mut one = Stream::open(server.address, "/topics/a");
    let mut many = Stream::open(server.address, "/events?topic=a");
    let span = Span::begin();
    server.handle.drain().unwrap();
    for stream in [&mut one, &mut many] {
        stream.position();
        let piece = stream.piece();
        let retry = piece.strip_prefix("retry: ").expect("a time to come back");
        assert!(retry.parse::<u64>().is_ok_and(|ms| ms <= 1020), "{piece}");
        stream.expect_fin();
        stream.peer.half_close();
    }
    span.took("both ends", ms(0));
    eventually("the server ends", || server.is_over());
    assert_eq!(server.closed_by(CloseReason::Drain), 2, "{:?}", server.ends());
}

// FAULTS 121.
#[test]
fn a_stream_that_does_not_read_is_dropped_and_holds_up_nobody() {
    // Longer than it takes to publish on a machine that does other things, too: nobody reads for
    // the reader meanwhile.
    let settings = [("deadlines.write_stall", "3s"), ("limits.outbox_bytes", "64m")];
    let server = start(&settings);
    let narrow = Client::connect_narrow(server.address);
    let stuck = Stream::over(narrow, "/topics/a", None);
    let mut reader = Stream::open(server.address, "/topics/a");
    reader.position();
    let payload = "x".repeat(512 * 1024);
    let span = Span::begin();
    for _ in 0..16 {
        let id = publish(server.address, "a", &payload);
        reader.expect(&id, &payload);
    }
    eventually("the reset", || stuck.peer.is_reset_unread());
    assert!(span.elapsed() >= ms(3000), "after {:?}", span.elapsed());
    server.expect_closed(CloseReason::WriteStall, 1);
    let id = publish(server.address, "a", "after");
    reader.expect(&id, "after");
}

// FAULTS 125.
#[test]
fn a_request_behind_a_stream_is_not_answered() {
    let server = start(&[]);
    let mut stream = Stream::open(server.address, "/topics/a");
    let position = stream.position();
    stream.peer.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.peer.send(b"\x00garbage\r\n\r\n");
    let id = publish(server.address, "a", "one");
    stream.expect(&id, "one");
    assert_ne!(position, id);
    let mut peer = Client::connect(server.address);
    let get = "GET /topics/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    peer.send(format!("{get}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!(peer.read_answer().status, 200);
    let id = publish(server.address, "a", "two");
    let mut stream = Stream::continued(peer);
    assert_ne!(stream.position(), id);
    stream.expect(&id, "two");
}

#[test]
fn an_accept_header_chooses_the_stream() {
    let server = start(&[]);
    publish(server.address, "a", "x");
    // FAULTS 171: all lines are one list, and `q=0` means no.
    for (accept, is_stream) in [
        ("text/event-stream", true),
        ("text/html, Text/Event-Stream;q=0.5", true),
        ("application/json\r\nAccept: text/event-stream", true),
        ("*/*", false),
        ("text/*", false),
        ("text/plain", false),
        ("text/event-stream;q=0", false),
        ("*/*\r\nAccept: text/event-stream; q=0.0", false),
    ] {
        let mut peer = Client::connect(server.address);
        let head = "GET /topics/a HTTP/1.1\r\nHost: localhost\r\n";
        peer.send(format!("{head}Accept: {accept}\r\n\r\n").as_bytes());
        let answer = peer.read_answer();
        let media = header(&answer.head, "Content-Type").unwrap();
        assert_eq!(media.starts_with("text/event-stream"), is_stream, "{accept}: {media}");
    }
    let lines = "Accept: text/event-stream\r\n";
    let head = request(server.address, "HEAD /topics/a", lines, b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(request(server.address, "PUT /topics/a", lines, b"").status, 405);
}

// FAULTS 126.
#[test]
fn every_way_of_subscribing_sees_the_same_sequence() {
    let server = start(&[]);
    let mut stream = Stream::open(server.address, "/topics/a");
    let mut named = Stream::open(server.address, "/events?topic=a");
    let mut plain = Client::open(server.address, "/topics/a");
    let mut hub = Hub::open(server.address);
    hub.subscribe("a");
    stream.position();
    named.position();
    let mut publisher = Publisher::connect(server.address, "a");
    for n in 0..200 {
        let text = format!("event {n}");
        match n % 3 {
            0 => _ = publisher.publish(&text),
            1 => plain.text(&text),
            _ => hub.say(&format!(r#"{{"op":"publish","topic":"a","data":"{text}"}}"#)),
        }
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    while seen.len() < 200 {
        let message = hub.hear();
        if message.contains(r#""op":"event""#) {
            seen.push((member(&message, "id").into(), member(&message, "data").into()));
        }
    }
    for (id, text) in seen {
        stream.expect(&id, &text);
        assert_eq!(named.piece(), format!("id: {id}\nevent: a\ndata: {text}"));
        assert_eq!(plain.see(), Seen::Frame(0x81, text.into_bytes()));
    }
}

/// A comment may come early, never late: it counts from a moment cut to whole milliseconds.
const COMMENT_LEAST: Duration = Duration::from_millis(299);
