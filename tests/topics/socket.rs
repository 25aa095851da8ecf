//! WebSockets of one topic.

use heartwheel::CloseReason;

use crate::common::client::{Client, Seen};
use crate::common::frame::frame;
use crate::common::http::{Answer, header, upgrade_request};
use crate::common::timing::ms;
use crate::common::topics::*;

fn text(text: &str) -> Seen {
    Seen::Frame(0x81, text.as_bytes().to_vec())
}

fn open_after(address: std::net::SocketAddr, topic: &str, after: &str) -> (Client, Answer) {
    let mut peer = Client::connect(address);
    let answer = peer.upgrade(&format!("/topics/{topic}?after={after}"));
    (peer, answer)
}

#[test]
fn each_message_is_published_and_everybody_gets_it() {
    let server = start(&[]);
    publish(server.address, "a", "before");
    let mut one = Client::open(server.address, "/topics/a");
    let mut other = Client::open(server.address, "/topics/a");
    let mut elsewhere = Client::open(server.address, "/topics/b");
    one.text("größe");
    one.send(frame(0x82, &[0, 255]));
    other.text("");
    post(server.address, "a", "application/json", b"[1]");
    // Of two publishers each has its own order.
    for peer in [&mut one, &mut other] {
        let mut seen: Vec<Seen> = (0..4).map(|_| peer.see()).collect();
        let empty = seen.iter().position(|seen| *seen == text("")).expect("the other's");
        seen.remove(empty);
        assert_eq!(seen, [text("größe"), Seen::Frame(0x82, vec![0, 255]), text("[1]")]);
    }
    elsewhere.text("mine");
    assert_eq!(elsewhere.see(), text("mine"));
    one.close(1000);
    one.expect_close(1000);
    one.expect_fin();
    drop(one);
    server.expect_closed(CloseReason::Peer(1000), 1);
    publish(server.address, "a", "after");
    assert_eq!(other.see(), text("after"));
}

#[test]
fn after_an_id_comes_what_was_missed_and_then_live() {
    let server = start(&[]);
    for (n, skipped) in [0, 1, 3].into_iter().enumerate() {
        let topic = format!("topic-{n}");
        let ids = ["0", "1", "2"].map(|text| publish(server.address, &topic, text));
        let after = if skipped == 0 { "0-0" } else { &ids[skipped - 1] };
        let (mut peer, answer) = open_after(server.address, &topic, after);
        assert_eq!(header(&answer.head, "Event-Gap"), None);
        for n in ["0", "1", "2"].iter().skip(skipped) {
            assert_eq!(peer.see(), text(n));
        }
        let mut other = Client::open(server.address, &format!("/topics/{topic}"));
        for n in ["3", "4"] {
            other.text(n);
            assert_eq!((peer.see(), other.see()), (text(n), text(n)));
        }
    }
}

#[test]
fn a_gap_is_a_header_of_the_upgrade() {
    let server = start(&[("topics.retain_events", "2")]);
    let ids = ["0", "1", "2", "3"].map(|text| publish(server.address, "a", text));
    for after in [ids[0].as_str(), "garbage", "5-5", ""] {
        let (mut peer, answer) = open_after(server.address, "a", after);
        assert_eq!(header(&answer.head, "Event-Gap"), Some(ids[2].as_str()), "{after}");
        assert_eq!((peer.see(), peer.see()), (text("2"), text("3")));
        assert_eq!(peer.see_within(ms(20)), Seen::Nothing, "it stays open");
    }
    let (_peer, answer) = open_after(server.address, "empty", "garbage");
    assert!(answer.head.contains("\r\nEvent-Gap: \r\n"), "{}", answer.head);
    assert_eq!(server.closed_by(CloseReason::Overflow), 0);
}

// The budget of a turn is spent by the others: the replay begins later, and so does its gap.
#[test]
fn a_gap_that_was_told_ends_no_connection_later() {
    let server = start(&[("topics.retain_events", "2"), ("turn.bytes", "128")]);
    for n in 0..4 {
        publish(server.address, "a", &n.to_string());
    }
    let mut peers: Vec<Client> = (0..30).map(|_| Client::connect(server.address)).collect();
    for peer in &mut peers {
        peer.send(upgrade_request("/topics/a?after=garbage", "").as_bytes());
    }
    for peer in &mut peers {
        assert_eq!(peer.read_answer().status, 101);
        assert_eq!((peer.see(), peer.see()), (text("2"), text("3")));
    }
    assert_eq!(server.ends().iter().find(|(reason, _)| *reason == "overflow"), None);
}

#[test]
fn publishing_to_the_servers_own_topics_is_forbidden() {
    let server = start(&[]);
    let mut peer = Client::open(server.address, "/topics/$own");
    peer.text("x");
    peer.expect_close(1008);
    peer.expect_fin_or_close();
    drop(peer);
    server.expect_closed(CloseReason::Forbidden, 1);
}

#[test]
fn an_upgrade_to_what_is_no_topic_is_refused() {
    let server = start(&[]);
    let mut peer = Client::connect(server.address);
    peer.send(upgrade_request("/topics/a%20b", "").as_bytes());
    assert_eq!(peer.read_answer().status, 400);
    peer.expect_fin();
}

/// There is no handler to be told of a suspect; asking one was taken for a panic once.
#[test]
fn a_silent_client_is_pinged_until_max_missed_and_closed_3008() {
    for target in ["/topics/a", "/ws"] {
        let server = start(&[
            ("heartbeat.interval", "200ms"),
            ("heartbeat.pong", "100ms"),
            ("heartbeat.max_missed", "4"),
        ]);
        let mut peer = Client::open(server.address, target);
        let mut pings = 0;
        let last = loop {
            match peer.see() {
                Seen::Frame(0x89, _) => pings += 1,
                Seen::Frame(0x81, _) => {}
                other => break other,
            }
        };
        let code = 3008u16.to_be_bytes();
        assert!(matches!(&last, Seen::Frame(0x88, close) if close.starts_with(&code)), "{last:?}");
        assert_eq!(pings, 4, "{target}");
        assert_eq!((server.stats().suspects, server.stats().handler_panics), (1, 0), "{target}");
        drop(peer);
        server.expect_closed(CloseReason::Heartbeat, 1);
    }
}
