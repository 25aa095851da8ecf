//! `limits.send_per_second`, in virtual time.

use heartwheel::CloseReason;
use heartwheel::core::contract::event::Command;

use crate::common::engine::TestEngine;
use crate::common::frame::frame;
use crate::common::http::upgrade_request;
use crate::common::lines::Lines;

fn publish_below(server: &mut TestEngine, count: usize) {
    (0..count).for_each(|_| server.command(Command::Publish("a".into(), "x".into())));
}

/// Gives how many messages of one byte were received.
fn messages(received: &[u8]) -> usize {
    assert_eq!(received.len() % 3, 0, "nothing but messages: {received:?}");
    received.len() / 3
}

#[test]
fn twice_the_rate_leaves_at_once_and_then_the_rate() {
    let mut server = Lines::new(&[("limits.send_per_second", "10")]);
    let id = server.open("/topics/a");
    server.publish(100);
    server.settle();
    assert_eq!(messages(&server.received(id)), 20);
    let turns = server.stats().turns;
    for _ in 0..8 {
        server.run_for(1000);
        let count = messages(&server.received(id));
        assert!((9..=11).contains(&count), "{count}");
    }
    assert!(server.stats().turns - turns <= 8 * 21, "{} turns", server.stats().turns - turns);
    server.run_for(20);
    assert_eq!(server.stats().messages_sent, 100);
    let stats = server.stats();
    assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes);
    assert_eq!(stats.closed_total(), 0, "nobody is late who was held back");
    assert!(stats.send_pauses > 0);
}

#[test]
fn the_average_over_a_minute_is_the_rate_for_answers_and_events_alike() {
    for (path, rate) in [("/echo", 7), ("/echo", 500), ("/topics/a", 7), ("/topics/a", 500)] {
        let set = rate.to_string();
        let pairs = [("limits.send_per_second", set.as_str()), ("limits.outbox_bytes", "8m")];
        let mut server = Lines::new(&pairs);
        let id = server.open(path);
        for _ in 0..240 {
            // Twice as many as may leave; the outbox takes all of them.
            match path {
                "/echo" => server.send(id, frame(0x81, b"x").repeat(rate / 2)),
                _ => server.publish(rate / 2),
            }
            server.run_for(250);
        }
        let count = messages(&server.received(id)) as f64;
        let allowed = (62 * rate) as f64;
        println!("{path} at {rate}: {count} of {allowed}");
        assert!((0.97 * allowed..=allowed).contains(&count), "{path} {rate}: {count} of {allowed}");
    }
}

#[test]
fn an_event_stream_is_held_to_the_rate_and_its_head_is_not() {
    let mut server = Lines::new(&[("limits.send_per_second", "2")]);
    let id = server.connect();
    let lines = "Host: localhost\r\nAccept: text/event-stream\r\n\r\n";
    server.send(id, format!("GET /topics/a HTTP/1.1\r\n{lines}"));
    server.settle();
    let head = String::from_utf8(server.received(id)).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("\n\nid: ") || head.contains("id: ")
    );
    server.publish(10);
    server.settle();
    let events = |server: &mut Lines| {
        String::from_utf8(server.received(id)).unwrap().matches("data: x").count()
    };
    assert_eq!(events(&mut server), 4);
    server.run_for(2010);
    assert_eq!(events(&mut server), 4);
    server.run_for(1010);
    assert_eq!(events(&mut server), 2);
}

#[test]
fn pings_and_pongs_are_not_held_back() {
    let pairs = [
        ("limits.send_per_second", "1"),
        ("heartbeat.interval", "1s"),
        ("heartbeat.pong", "300ms"),
        ("heartbeat.jitter", "0"),
    ];
    let mut server = Lines::new(&pairs);
    let id = server.open("/topics/a");
    server.publish(50);
    server.settle();
    server.received(id);
    server.send(id, frame(0x89, b"hi"));
    server.settle();
    assert_eq!(server.received(id), [0x8a, 2, b'h', b'i']);
    // Nothing is heard: the pings that go out are missed, one after the other.
    server.run_for(1000);
    assert!(server.received(id).contains(&0x89));
    server.run_for(1200);
    assert!(server.received(id).ends_with(&[0x88, 2, 0x0b, 0xc0]), "3008");
}

/// Held back is not stalled; but what was let go and is not taken is.
#[test]
fn a_peer_is_judged_by_what_was_let_go() {
    let pairs = [("limits.send_per_second", "1"), ("deadlines.write_stall", "500ms")];
    let mut server = TestEngine::new(&pairs);
    let id = server.open("/topics/a");
    publish_below(&mut server, 30);
    server.run_for(10_000);
    assert!((11..=12).contains(&messages(&server.received(id))));
    assert_eq!(server.engine.stats().closed_total(), 0);
    server.narrow(id, 0);
    server.run_for(1000);
    assert_eq!(server.engine.stats().closed_total(), 0, "let go less than half a second ago");
    server.run_for(600);
    assert_eq!(server.engine.stats().closed_by(CloseReason::WriteStall), 1);
}

#[test]
fn what_a_connection_that_ends_has_to_say_is_not_held_back() {
    for end in ["drain", "close", "peer", "eof"] {
        let mut server = TestEngine::new(&[("limits.send_per_second", "1")]);
        let id = server.open("/echo");
        server.send(id, frame(0x81, b"x").repeat(50));
        server.settle();
        assert_eq!(messages(&server.received(id)), 2);
        match end {
            "drain" => server.command(Command::Drain),
            "close" => server.command(Command::Close(id, 4000, "".into())),
            "peer" => server.send(id, frame(0x88, &[0x03, 0xe8])),
            _ => server.end(id),
        }
        server.run_for(50);
        let received = server.received(id);
        assert!(received.len() >= 48 * 3, "{end}: {} bytes", received.len());
        assert_eq!(received[48 * 3..].first(), (end != "eof").then_some(&0x88), "{end}");
    }
}

#[test]
fn pressure_is_told_of_what_is_held_back() {
    let pairs = [("limits.send_per_second", "10"), ("limits.outbox_bytes", "12400")];
    let mut server = Lines::new(&pairs);
    let id = server.connect();
    server.send(id, upgrade_request("/ws", ""));
    server.send(id, frame(0x81, br#"{"op":"subscribe","topic":"a"}"#));
    server.settle();
    server.received(id);
    let waiting = |server: &Lines| {
        let stats = server.stats();
        stats.queued_bytes - stats.sent_bytes
    };
    let mut published = 0;
    while waiting(&server) < 4080 {
        server.publish(1);
        server.settle();
        published += 1;
    }
    server.run_for(20_000);
    let text = String::from_utf8_lossy(&server.received(id)).into_owned();
    let levels: Vec<_> = text
        .match_indices("\"level\":")
        .map(|(at, found)| &text[at + found.len()..][..1])
        .collect();
    println!("levels {levels:?}");
    assert_eq!(levels, ["1", "2", "3", "0"]);
    assert_eq!(text.matches(r#""op":"event""#).count(), published);
}

#[test]
fn beyond_the_outbox_the_policy_acts_on_what_is_held_back() {
    for (policy, left) in [("close", None), ("drop_newest", Some(())), ("drop_oldest", Some(()))] {
        let pairs = [
            ("limits.send_per_second", "10"),
            // A hundred events of 3 bytes, each an entry of 128.
            ("limits.outbox_bytes", "13100"),
            ("overflow.policy", policy),
        ];
        let mut server = Lines::new(&pairs);
        let id = server.open("/topics/a");
        for _ in 0..300 {
            server.publish(1);
            server.settle();
        }
        match left {
            None => assert!(server.received(id).ends_with(&[0x88, 2, 0x03, 0xf5]), "1013"),
            Some(()) => {
                server.run_for(30_000);
                let count = messages(&server.received(id));
                assert!((100..=125).contains(&count), "{policy}: {count}");
                let stats = server.stats();
                assert_eq!(stats.messages_dropped() + count as u64, 300, "{policy}");
                assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes);
            }
        }
    }
}
