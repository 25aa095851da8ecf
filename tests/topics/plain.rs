//! Topics asked for without an upgrade and without a stream.

use heartwheel::topics::EventId;

use crate::common::client::Client;
use crate::common::http::upgrade_request;
use crate::common::topics::*;

#[test]
fn what_is_posted_can_be_fetched_with_its_id() {
    let server = start(&[]);
    let none = fetch(server.address, "/topics/a");
    assert_eq!((none.status, none.body.len()), (204, 0));
    let before = none.header("Event-Id").expect("the position").to_owned();
    let first = publish(server.address, "a", "one");
    let second = publish(server.address, "a", "two\nlines");
    let ids: Vec<EventId> = [&before, &first, &second].map(|id| id.parse().unwrap()).into();
    assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
    let latest = fetch(server.address, "/topics/a");
    assert_eq!((latest.status, latest.text()), (200, "two\nlines"));
    assert_eq!(latest.header("Event-Id"), Some(second.as_str()));
    assert_eq!(latest.header("X-Content-Type-Options"), Some("nosniff"));
    let head = request(server.address, "HEAD /topics/a", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["Event-Id", "Content-Length", "Content-Type"] {
        assert_eq!(head.header(name), latest.header(name), "{name}");
    }
    let elsewhere = fetch(server.address, "/topics/b");
    assert_eq!(elsewhere.header("Event-Id"), Some(second.as_str()), "one id is a position in all");
}

#[test]
fn what_came_after_an_id_is_a_json_array() {
    let server = start(&[("topics.retain_events", "4")]);
    let position = fetch(server.address, "/topics/a").header("Event-Id").unwrap().to_owned();
    let first = publish(server.address, "a", "say \"one\"");
    let json = post(server.address, "a", "application/json", br#" {"n": [1, 2]} "#);
    let second = member(json.text(), "id").to_owned();
    let third = publish_bytes(server.address, "a", &[0, 255]);
    let rows = [
        format!(r#"{{"id":"{first}","data":"say \"one\""}}"#),
        format!(r#"{{"id":"{second}","data":{{"n": [1, 2]}}}}"#),
        format!(r#"{{"id":"{third}","base64":"AP8="}}"#),
    ];
    let ids = [&position, &first, &second, &third];
    for (skipped, after) in ids.into_iter().enumerate() {
        let reply = fetch(server.address, &format!("/topics/a?after={after}"));
        assert_eq!((reply.status, reply.header("Event-Gap")), (200, None));
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        assert_eq!(dechunk(&reply.body), format!("[{}]", rows[skipped..].join(",")));
    }
    let beginning = fetch(server.address, "/topics/a?after=0-0");
    assert_eq!(beginning.header("Event-Gap"), None, "nothing was evicted");
    for (garbage, topic, gap) in [("x", "a", first.as_str()), ("7-7", "a", &first), ("x", "b", "")]
    {
        let reply = fetch(server.address, &format!("/topics/{topic}?after={garbage}"));
        assert_eq!(reply.header("Event-Gap"), Some(gap), "{garbage}: {}", reply.head);
    }
    publish(server.address, "a", "four");
    publish(server.address, "a", "five");
    for (after, gap) in [(&position, Some(second.as_str())), (&first, None)] {
        let reply = fetch(server.address, &format!("/topics/a?after={after}"));
        assert_eq!(reply.header("Event-Gap"), gap, "the first was evicted");
        let text = dechunk(&reply.body);
        assert!(text.starts_with(&format!("[{}", rows[1])), "{text}");
    }
}

#[test]
fn a_content_type_decides_what_a_payload_is() {
    let server = start(&[]);
    let text = "text/plain; charset=utf-8";
    let cases: &[(&str, &[u8], &str)] = &[
        ("text/plain", "größe".as_bytes(), text),
        ("text/html", b"<script>", text),
        ("", b"", text),
        ("application/json", br#"{"a":1}"#, "application/json"),
        ("Application/JSON; charset=utf-8", b"[1]", "application/json"),
        ("application/octet-stream", b"abc", "application/octet-stream"),
        ("text/plain", &[b'a', 0xFF], "application/octet-stream"),
    ];
    for (sent, body, expected) in cases {
        assert_eq!(post(server.address, "a", sent, body).status, 200, "{sent}");
        let reply = fetch(server.address, "/topics/a");
        assert_eq!(reply.header("Content-Type"), Some(*expected), "{sent}");
        assert_eq!(reply.body, *body, "{sent}");
    }
    for body in [&b"{"[..], b"", b"1 2", &[b'"', 0xFF, b'"']] {
        assert_eq!(post(server.address, "a", "application/json", body).status, 400, "{body:?}");
    }
}

#[test]
fn what_no_topic_can_be_is_refused() {
    let server = start(&[("limits.message_bytes", "10")]);
    let long = "x".repeat(129);
    for topic in ["", "a/b", "a%20b", "%C3%A4", "a%00", long.as_str(), "a%"] {
        let target = format!("/topics/{topic}");
        let status = fetch(server.address, &target).status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
        let status = post(server.address, topic, "text/plain", b"x").status;
        assert!(matches!(status, 400 | 404 | 405), "{target}: {status}");
    }
    assert_eq!(fetch(server.address, "/topics/a%20b").status, 400);
    assert_eq!(post(server.address, &long, "text/plain", b"x").status, 400);
    assert_eq!(post(server.address, &long[1..], "text/plain", b"x").status, 200);
    assert_eq!(post(server.address, "A-z.0_9:", "text/plain", b"x").status, 200);
    assert_eq!(post(server.address, "a%2Db", "text/plain", b"x").status, 200);
    assert_eq!(fetch(server.address, "/topics/a-b").status, 200);
    assert_eq!(post(server.address, "a", "text/plain", &[b'x'; 11]).status, 413);
    assert_eq!(request(server.address, "POST /topics/a", "", b"").status, 411);
    assert_eq!(request(server.address, "DELETE /topics/a", "", b"").status, 405);
    let foreign = request(server.address, "GET /topics/a-b", "Origin: http://other\r\n", b"");
    assert_eq!(foreign.status, 403);
}

#[test]
fn the_servers_own_topics_can_be_read_and_not_written() {
    let server = start(&[]);
    assert_eq!(post(server.address, "$stats", "text/plain", b"x").status, 403);
    assert_eq!(post(server.address, "$other", "text/plain", b"x").status, 403);
    assert_eq!(fetch(server.address, "/topics/$stats").status, 204);
}

#[test]
fn there_are_no_more_topics_than_may_be() {
    let server = start(&[("limits.topics", "2"), ("topics.retain_for", "1h")]);
    publish(server.address, "a", "x");
    publish(server.address, "b", "x");
    assert_eq!(post(server.address, "c", "text/plain", b"x").status, 503);
    assert_eq!(fetch(server.address, "/topics/c").status, 204, "reading makes none");
    let lines = "Accept: text/event-stream\r\n";
    assert_eq!(request(server.address, "GET /topics/c", lines, b"").status, 503);
    assert_eq!(request(server.address, "GET /events?topic=a&topic=c", "", b"").status, 503);
    let mut peer = Client::connect(server.address);
    peer.send(upgrade_request("/topics/c", "").as_bytes());
    assert_eq!(peer.read_answer().status, 503);
    assert_eq!(fetch(server.address, "/topics/a").text(), "x");
    publish(server.address, "a", "y");
}

#[test]
fn a_topic_that_only_a_subscriber_kept_goes_with_it() {
    let server = start(&[("limits.topics", "1")]);
    let stream = Stream::open(server.address, "/topics/a");
    assert_eq!(post(server.address, "b", "text/plain", b"x").status, 503);
    drop(stream);
    crate::common::timing::eventually("the stream is gone", || server.open() == 0);
    publish(server.address, "b", "x");
}
