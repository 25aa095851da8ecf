//! `/ws`: many topics on one WebSocket.

use heartwheel::CloseReason;

use crate::common::client::{Client, Seen};
use crate::common::frame::frame;
use crate::common::http::{header, upgrade_request};
use crate::common::timing::{Span, eventually, ms};
use crate::common::topics::*;

#[test]
fn hello_comes_first_and_says_what_holds() {
    let settings = [
        ("heartbeat.interval", "20s"),
        ("deadlines.read_idle", "45s"),
        ("limits.message_bytes", "64k"),
    ];
    let server = start(&settings);
    let mut peer = Client::connect(server.address);
    let lines = "Sec-WebSocket-Protocol: other, heartwheel.v1\r\n";
    peer.send(upgrade_request("/ws", lines).as_bytes());
    let answer = peer.read_answer();
    assert_eq!(header(&answer.head, "Sec-WebSocket-Protocol"), Some("heartwheel.v1"));
    let hello = peer.message();
    let connection = member(&hello, "connection");
    let figures = r#""heartbeat_ms":20000,"read_idle_ms":45000,"message_bytes":65536"#;
    assert_eq!(hello, format!(r#"{{"op":"hello","connection":"{connection}",{figures}}}"#));
    let mut plain = Client::connect(server.address);
    let answer = plain.upgrade("/ws");
    assert_eq!(header(&answer.head, "Sec-WebSocket-Protocol"), None);
    assert!(plain.message().starts_with(r#"{"op":"hello","#));
}

#[test]
fn subscribed_topics_are_live_until_they_are_unsubscribed() {
    let server = start(&[]);
    let before = publish(server.address, "a", "before");
    let mut hub = Hub::open(server.address);
    assert_eq!(hub.subscribe("a"), before);
    assert_eq!(hub.subscribe("b"), before);
    // FAULTS 129: what is published after the word that one is subscribed comes.
    for (topic, text) in [("a", "one"), ("b", "two"), ("a", "three")] {
        let id = publish(server.address, topic, text);
        hub.expect(&event_message(topic, &id, text));
    }
    let id = publish_bytes(server.address, "a", &[0, 255]);
    hub.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}","base64":"AP8="}}"#));
    let json = post(server.address, "a", "application/json", br#"{"n": 1}"#);
    let id = member(json.text(), "id");
    hub.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}","data":{{"n": 1}}}}"#));
    hub.say(r#"{"op":"unsubscribe","topic":"a"}"#);
    hub.expect(r#"{"op":"unsubscribed","topic":"a"}"#);
    publish(server.address, "a", "unheard");
    let id = publish(server.address, "b", "four");
    hub.expect(&event_message("b", &id, "four"));
    hub.say(r#"{"op":"unsubscribe","topic":"never"}"#);
    hub.expect(r#"{"op":"unsubscribed","topic":"never"}"#);
}

#[test]
fn what_is_published_is_acknowledged_and_comes_to_its_publisher_too() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    hub.subscribe("a");
    hub.say(r#"{"op":"publish","topic":"a","data":"text","ref":{"n":1}}"#);
    let published = hub.hear();
    let id = member(&published, "id").to_owned();
    assert_eq!(published, format!(r#"{{"op":"published","ref":{{"n":1}},"id":"{id}"}}"#));
    hub.expect(&event_message("a", &id, "text"));
    let latest = fetch(server.address, "/topics/a");
    assert_eq!(latest.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(latest.text(), "text");
    for data in ["1.50", "null", "[1, {\"a\":\"b\"}]"] {
        hub.say(&format!(r#"{{"op":"publish","topic":"a","data":{data}}}"#));
        let published = hub.hear();
        assert!(!published.contains("ref"), "{published}");
        let id = member(&published, "id");
        hub.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}","data":{data}}}"#));
        let latest = fetch(server.address, "/topics/a");
        assert_eq!(latest.header("Content-Type"), Some("application/json"));
        assert_eq!(latest.text(), data);
    }
}

#[test]
fn pings_are_answered_with_their_ref() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    hub.say(r#"{"op":"ping"}"#);
    hub.expect(r#"{"op":"pong"}"#);
    hub.say(r#" {"ref" : [1, "two"], "op":"ping"} "#);
    hub.expect(r#"{"op":"pong","ref":[1, "two"]}"#);
}

#[test]
fn what_is_wrong_with_a_message_is_told_and_the_connection_stays() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    let (open, close) = ("[".repeat(101), "]".repeat(101));
    let too_deep = format!(r#"{{"op":"publish","topic":"a","data":{open}{close},"ref":9}}"#);
    let cases = [
        ("{", "bad_request", None),
        ("", "bad_request", None),
        ("[]", "bad_request", None),
        ("{}", "bad_request", None),
        (r#"{"op":"subscribe"}"#, "bad_request", None),
        (r#"{"op":"subscribe","topic":"a b","ref":7}"#, "bad_request", Some("7")),
        (r#"{"op":"subscribe","topic":"a b"}"#, "bad_request", Some("\"a b\"")),
        (r#"{"op":"subscribe","topic":"a","after":1,"ref":7}"#, "bad_request", Some("7")),
        (r#"{"op":"publish","topic":"a","ref":7}"#, "bad_request", Some("7")),
        (r#"{"op":"publish","topic":"a b","data":1,"ref":8}"#, "bad_request", Some("8")),
        (r#"{"op":"publish","topic":"$a","data":1,"ref":"x"}"#, "forbidden", Some("\"x\"")),
        (r#"{"op":"dance","ref":9}"#, "unknown_op", Some("9")),
        // FAULTS 177: what could not be understood.
        (r#"{"op":["ping"],"ref":9}"#, "bad_request", Some("9")),
        (r#"{"op":"publish","topic":1,"data":1,"ref":9}"#, "bad_request", Some("9")),
        (r#"{"op":"publish","topic":"a","data":NaN,"ref":9}"#, "bad_request", Some("9")),
        (r#"{"op":"ping","ref":9}}"#, "bad_request", Some("9")),
        (r#"{"op":"ping","ref":9,"topic":"#, "bad_request", Some("9")),
        (&too_deep, "bad_request", Some("9")),
    ];
    for (message, code, reference) in cases {
        hub.say(message);
        let answer = hub.hear();
        let begin = format!(r#"{{"op":"error","code":"{code}","message":""#);
        assert!(answer.starts_with(&begin), "{message}: {answer}");
        if let Some(reference) = reference {
            assert!(answer.ends_with(&format!(r#","ref":{reference}}}"#)), "{message}: {answer}");
        }
    }
    hub.peer.send(frame(0x82, b"\xff"));
    assert_eq!(member(&hub.hear(), "code"), "bad_request");
    hub.peer.send(frame(0x82, br#"{"op":"ping","ref":9}"#));
    hub.expect(r#"{"op":"error","code":"bad_request","message":"a message is JSON text","ref":9}"#);
    hub.say(r#"{"op":"ping"}"#);
    hub.expect(r#"{"op":"pong"}"#);
}

/// FAULTS 177: `"party 🎉".slice(0, 7)` ends in half a pair, and `JSON.stringify` writes it so.
#[test]
fn half_a_surrogate_pair_is_published() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    hub.subscribe("a");
    hub.say(r#"{"op":"publish","topic":"a","data":"party \ud83c","ref":1}"#);
    let id = member(&hub.hear(), "id").to_owned();
    hub.expect(&event_message("a", &id, "party \u{fffd}"));
    assert_eq!(fetch(server.address, "/topics/a").text(), "party \u{fffd}");
    let json = r#"{"text":"party \ud83c"}"#;
    hub.say(&format!(r#"{{"op":"publish","topic":"a","data":{json}}}"#));
    let id = member(&hub.hear(), "id").to_owned();
    hub.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}","data":{json}}}"#));
    let posted = post(server.address, "a", "application/json", json.as_bytes());
    let id = member(posted.text(), "id").to_owned();
    hub.expect(&format!(r#"{{"op":"event","topic":"a","id":"{id}","data":{json}}}"#));
    assert_eq!(fetch(server.address, "/topics/a").text(), json);
}

#[test]
fn an_after_of_null_is_none() {
    let server = start(&[]);
    let id = publish(server.address, "a", "before");
    let mut hub = Hub::open(server.address);
    hub.say(r#"{"op":"subscribe","topic":"a","after":null}"#);
    hub.expect(&subscribed_message("a", &id));
}

#[test]
fn limits_are_errors_and_the_connection_stays() {
    let server = start(&[("limits.subscriptions", "2"), ("limits.topics", "3")]);
    let mut hub = Hub::open(server.address);
    hub.subscribe("a");
    hub.subscribe("b");
    hub.say(r#"{"op":"subscribe","topic":"c"}"#);
    assert_eq!(member(&hub.hear(), "code"), "limit");
    hub.subscribe("a");
    hub.say(r#"{"op":"unsubscribe","topic":"a"}"#);
    hub.hear();
    hub.subscribe("c");
    publish(server.address, "d", "x");
    hub.say(r#"{"op":"publish","topic":"e","data":"x","ref":1}"#);
    let error = hub.hear();
    assert_eq!((member(&error, "code"), error.ends_with(r#","ref":1}"#)), ("limit", true));
    eventually("only the client is left", || server.open() == 1);
}

#[test]
fn after_an_id_comes_what_was_missed_then_subscribed_then_live() {
    let server = start(&[]);
    let ids = ["0", "1", "2"].map(|text| publish(server.address, "a", text));
    let other = publish(server.address, "b", "other");
    let mut hub = Hub::open(server.address);
    hub.subscribe_after("a", &ids[0]);
    hub.expect(&event_message("a", &ids[1], "1"));
    hub.expect(&event_message("a", &ids[2], "2"));
    hub.expect(&subscribed_message("a", &other));
    let id = publish(server.address, "a", "live");
    hub.expect(&event_message("a", &id, "live"));
    hub.subscribe_after("a", &id);
    hub.expect(&subscribed_message("a", &id));
    hub.subscribe_after("b", "0-0");
    hub.expect(&event_message("b", &other, "other"));
    hub.expect(&subscribed_message("b", &id));
}

#[test]
fn a_gap_is_told_before_what_follows_it() {
    let server = start(&[("topics.retain_events", "2")]);
    let ids = ["0", "1", "2", "3"].map(|text| publish(server.address, "a", text));
    for after in [ids[0].as_str(), "0-0", "5-5", "garbage", ""] {
        let mut hub = Hub::open(server.address);
        hub.subscribe_after("a", after);
        hub.expect(&format!(r#"{{"op":"gap","topic":"a","first":"{}"}}"#, ids[2]));
        hub.expect(&event_message("a", &ids[2], "2"));
        hub.expect(&event_message("a", &ids[3], "3"));
        hub.expect(&subscribed_message("a", &ids[3]));
    }
    let mut hub = Hub::open(server.address);
    hub.subscribe_after("empty", "garbage");
    hub.expect(r#"{"op":"gap","topic":"empty","first":null}"#);
    hub.expect(&subscribed_message("empty", &ids[3]));
}

#[test]
fn the_figures_come_once_a_second_while_somebody_wants_them() {
    let server = start(&[]);
    let mut hub = Hub::open(server.address);
    assert_eq!(fetch(server.address, "/topics/$stats").status, 204, "nobody wants them");
    let span = Span::begin();
    hub.subscribe("$stats");
    let first = hub.hear();
    assert!(first.starts_with(r#"{"op":"event","topic":"$stats","id":""#), "{first}");
    assert!(first.contains(r#""connections":{"websocket":1,"#), "{first}");
    span.took("the first figures", ms(0));
    hub.hear();
    span.took_between("the second", ms(0), ms(1000));
    hub.hear();
    span.took_between("the third", ms(1000), ms(2000));
    hub.say(r#"{"op":"unsubscribe","topic":"$stats"}"#);
    let mut count = 3;
    // A second may pass before the server has read it.
    while hub.hear() != r#"{"op":"unsubscribed","topic":"$stats"}"# {
        count += 1;
    }
    assert_eq!(hub.peer.see_within(ms(1300)), Seen::Nothing);
    let last = fetch(server.address, "/topics/$stats?after=0-0");
    assert_eq!(last.text().matches("uptime_ms").count(), count, "{}", last.text());
}

#[test]
fn a_drain_is_told_before_the_close() {
    let server = start(&[("deadlines.drain", "10s")]);
    let mut hub = Hub::open(server.address);
    server.handle.drain().unwrap();
    let goaway = hub.hear();
    let ms = goaway.strip_prefix(r#"{"op":"goaway","retry_ms":"#).expect("goaway first");
    let ms: u64 = ms.trim_end_matches('}').parse().expect("a number");
    // FAULTS 187.
    assert!(ms <= 1010);
    assert_eq!(hub.peer.expect_close(1001), format!("retry={ms}"));
    hub.peer.expect_fin_or_close();
    drop(hub);
    server.expect_closed(CloseReason::Drain, 1);
}
