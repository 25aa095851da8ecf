//! `limits.messages_per_second` and `limits.bytes_per_second`, in virtual time.

use heartwheel::CloseReason;
use heartwheel::stats::DeadlineKind;

use crate::common::frame::frame;
use crate::common::lines::Lines;

const TICK_MS: u64 = 10;

fn texts(count: usize) -> Vec<u8> {
    (0..count).flat_map(|_| frame(0x81, b"x")).collect()
}

/// Gives how many echoes of [`texts`] the peer has received.
fn echoes(server: &mut Lines, id: usize) -> usize {
    let received = server.received(id);
    assert_eq!(received.len() % 3, 0, "nothing but echoes: {received:?}");
    received.len() / 3
}

fn post(body: usize) -> Vec<u8> {
    let head = format!("POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; body]].concat()
}

#[test]
fn twice_the_rate_comes_at_once_and_then_the_rate_to_the_tick() {
    let mut server = Lines::new(&[("limits.messages_per_second", "10")]);
    let id = server.open("/echo");
    server.send(id, texts(100));
    server.settle();
    assert_eq!(echoes(&mut server, id), 20);
    for second in 0..8 {
        server.run_for(1000);
        let count = echoes(&mut server, id);
        // The last of a second may wait for its tick.
        assert!((9..=11).contains(&count), "{count} in second {second}");
    }
    server.run_for(2 * TICK_MS);
    assert_eq!(server.stats().messages_handled, 100);
    assert!(server.stats().read_pauses >= 70);
    assert_eq!(server.stats().closed_total(), 0);
}

#[test]
fn the_average_over_a_minute_is_the_rate_whatever_it_is() {
    for rate in [1, 7, 50, 1000, 20_000] {
        let set = rate.to_string();
        let mut server = Lines::new(&[("limits.messages_per_second", &set)]);
        let id = server.open("/echo");
        let turns = server.stats().turns;
        for _ in 0..60 {
            // More than it may, all the time.
            server.send(id, texts(2 * rate));
            server.run_for(1000);
        }
        let handled = server.stats().messages_handled as f64;
        let allowed = (62 * rate) as f64;
        assert!((0.98 * allowed..=allowed).contains(&handled), "{rate}: {handled} of {allowed}");
        // Each wait ends in a turn and is read after in another, which its budget may cut.
        let turns = server.stats().turns - turns;
        let pauses = server.stats().read_pauses;
        println!("{rate} a second: {handled} in a minute, {pauses} pauses, {turns} turns");
        let decoding = 60 * rate as u64 * 135 / (256 << 10);
        assert!(turns <= 3 * pauses + 3 * 60 + 2 * decoding, "{turns} turns, {pauses} pauses");
        assert!(pauses <= 60 * 20 + 60, "at most twenty waits a second");
    }
}

#[test]
fn a_paused_connection_wakes_nobody_before_its_wait_is_over() {
    let mut server = Lines::new(&[("limits.messages_per_second", "1")]);
    let id = server.open("/echo");
    server.send(id, texts(40));
    server.settle();
    assert_eq!(echoes(&mut server, id), 2);
    let turns = server.stats().turns;
    server.run_for(980);
    assert_eq!(server.stats().turns, turns);
    server.run_for(9000);
    assert!(server.stats().turns - turns <= 3 * 10 + 2, "{} turns", server.stats().turns - turns);
    assert!((9..=10).contains(&echoes(&mut server, id)));
}

#[test]
fn bytes_beyond_the_rate_stay_in_the_socket() {
    let mut server = Lines::new(&[("limits.bytes_per_second", "10000")]);
    let id = server.open("/echo");
    let before = server.stats().received_bytes;
    let message = frame(0x82, &[7; 50_000]);
    server.send(id, &message);
    for ms in (0..4000).step_by(250) {
        server.run_for(250);
        let received = server.stats().received_bytes;
        let most = 20_000 + (ms + 250) * 10;
        assert!(received <= most, "{received} of {most} after {ms} ms");
        let least = (most - 1000).min(before + 50_000);
        assert!(received >= least, "{received} is less than {least} after {ms} ms");
    }
    assert_eq!(server.stats().messages_handled, 1);
    assert_eq!(server.stats().received_bytes, before + message.len() as u64);
}

/// What waits for the peer's bytes stands still while they are not read: the message and the body
/// take three seconds, of which they are read for none.
#[test]
fn deadlines_that_wait_for_bytes_stand_still_while_nothing_is_read() {
    let pairs = [
        ("limits.bytes_per_second", "10000"),
        ("deadlines.message", "500ms"),
        ("deadlines.body", "500ms"),
        ("deadlines.handshake", "500ms"),
        ("deadlines.read_idle", "700ms"),
    ];
    let mut server = Lines::new(&pairs);
    let socket = server.open("/echo");
    server.send(socket, frame(0x82, &[7; 50_000]));
    let plain = server.connect();
    server.send(plain, post(50_000));
    server.run_for(3200);
    assert_eq!(server.stats().messages_handled, 1);
    assert!(server.received(plain).starts_with(b"HTTP/1.1 200 "));
    assert_eq!(server.stats().closed_total(), 0, "{:?}", server.stats().closed);
    // And go on from there.
    server.run_for(900);
    assert_eq!(server.stats().closed_by(CloseReason::ReadIdle), 0, "the close is on its way");
    assert!(server.received(socket).ends_with(&[0x88, 2, 0x0b, 0xc0]), "3008");
}

/// Five messages at once take three seconds. Then the peer has been silent for no longer than the
/// server has listened.
#[test]
fn silence_counts_from_when_all_was_read() {
    let pairs = [("limits.messages_per_second", "1"), ("deadlines.read_idle", "700ms")];
    let mut server = Lines::new(&pairs);
    let id = server.open("/echo");
    server.send(id, texts(5));
    server.run_for(3600);
    assert_eq!(echoes(&mut server, id), 5);
    assert_eq!(server.stats().fired(DeadlineKind::ReadIdle), 0);
    server.run_for(200);
    assert_eq!(server.stats().fired(DeadlineKind::ReadIdle), 1);
}

#[test]
fn a_body_that_stops_is_judged_by_its_own_time() {
    let pairs = [("limits.bytes_per_second", "10000"), ("deadlines.body", "500ms")];
    let mut server = Lines::new(&pairs);
    let id = server.connect();
    let whole = post(50_000);
    server.send(id, &whole[..40_000]);
    server.run_for(2000);
    assert!(server.received(id).is_empty());
    server.run_for(700);
    assert!(server.received(id).starts_with(b"HTTP/1.1 408 "));
    server.run_for(5000);
    assert_eq!(server.stats().closed_by(CloseReason::Body), 1);
}

#[test]
fn the_wait_for_a_pong_stands_still_while_nothing_is_read() {
    let pairs = [
        ("limits.messages_per_second", "1"),
        ("heartbeat.interval", "2s"),
        ("heartbeat.jitter", "0"),
        ("heartbeat.pong", "200ms"),
        ("heartbeat.max_missed", "1"),
    ];
    let mut server = Lines::new(&pairs);
    let id = server.open("/echo");
    // Behind these lies whatever the peer answers.
    server.send(id, texts(30));
    server.run_for(20_000);
    let stats = server.stats();
    assert!(stats.pings_sent >= 5, "pings go out: {}", stats.pings_sent);
    assert_eq!((stats.pings_missed, stats.closed_total()), (0, 0));
    // Once all is read it is judged.
    server.run_for(13_000);
    assert!(server.received(id).ends_with(&[0x88, 2, 0x0b, 0xc0]), "3008");
    server.run_for(10_000);
    assert_eq!(server.stats().closed_by(CloseReason::Heartbeat), 1);
}

#[test]
fn requests_count_as_messages_and_an_upgrade_does_not() {
    let mut server = Lines::new(&[("limits.messages_per_second", "2")]);
    let plain = server.connect();
    server.send(plain, post(10).repeat(10));
    let answers = |server: &mut Lines| {
        let received = String::from_utf8(server.received(plain)).unwrap();
        received.matches("HTTP/1.1 200 ").count()
    };
    server.settle();
    assert_eq!(answers(&mut server), 4, "twice the rate");
    server.run_for(2020);
    assert_eq!(answers(&mut server), 4, "and then the rate");
    server.run_for(1020);
    assert_eq!(answers(&mut server), 2);
    let socket = server.open("/echo");
    server.send(socket, texts(10));
    server.settle();
    assert_eq!(echoes(&mut server, socket), 4);
}

#[test]
fn a_peer_that_is_closed_for_its_rate_gets_1008_and_a_request_429() {
    for key in ["limits.messages_per_second", "limits.bytes_per_second"] {
        let rate = if key.contains("bytes") { "1000" } else { "10" };
        let mut server = Lines::new(&[(key, rate), ("limits.rate_action", "close")]);
        let socket = server.open("/echo");
        server.send(socket, if key.contains("bytes") { texts(400) } else { texts(21) });
        server.settle();
        assert!(server.received(socket).ends_with(&[0x88, 2, 0x03, 0xf0]), "1008: {key}");
        server.send(socket, frame(0x88, &[0x03, 0xf0]));
        server.settle();
        assert!(server.is_over(socket), "its close is read all the same: {key}");
        server.end(socket);
        server.settle();
        assert_eq!(server.stats().closed_by(CloseReason::Rate), 1, "{key}");
        let plain = server.connect();
        server.send(plain, if key.contains("bytes") { post(3000) } else { post(1).repeat(21) });
        server.settle();
        let answers = String::from_utf8(server.received(plain)).unwrap();
        let last = &answers[answers.rfind("HTTP/1.1 ").unwrap()..];
        assert!(last.starts_with("HTTP/1.1 429 ") && last.contains("\r\nRetry-After: "), "{last}");
        server.run_for(10_000);
        assert_eq!(server.stats().closed_by(CloseReason::Rate), 2, "{key}");
        assert_eq!(server.stats().read_pauses, 0);
    }
}

#[test]
fn what_is_within_the_rate_is_neither_paused_nor_closed() {
    for action in ["pause", "close"] {
        let pairs = [
            ("limits.messages_per_second", "10"),
            ("limits.bytes_per_second", "1000"),
            ("limits.rate_action", action),
        ];
        let mut server = Lines::new(&pairs);
        let id = server.open("/echo");
        for _ in 0..600 {
            server.send(id, texts(1));
            server.run_for(100);
        }
        assert_eq!(echoes(&mut server, id), 600);
        assert_eq!(server.stats().read_pauses, 0);
    }
}

#[test]
fn a_large_message_within_its_own_memory_is_held_to_the_rate_too() {
    let pairs = [("limits.bytes_per_second", "100k"), ("limits.rate_action", "close")];
    let mut server = Lines::new(&pairs);
    let id = server.open("/echo");
    // Its beginning is within the rate; the rest is read into the message's own memory.
    let message = frame(0x82, &[7; 1_000_000]);
    server.send(id, &message[..100_000]);
    server.settle();
    server.send(id, &message[100_000..]);
    server.settle();
    assert!(server.received(id).ends_with(&[0x88, 2, 0x03, 0xf0]));
    // Behind the rest of the frame the close is still found.
    server.send(id, frame(0x88, &[0x03, 0xf0]));
    server.settle();
    assert!(server.is_over(id));
}

#[test]
fn a_drain_ends_who_is_paused() {
    let pairs = [("limits.messages_per_second", "1"), ("deadlines.drain", "10s")];
    let mut server = Lines::new(&pairs);
    let socket = server.open("/echo");
    server.send(socket, texts(100));
    let plain = server.connect();
    server.send(plain, post(1).repeat(10));
    server.settle();
    server.received(socket);
    server.handle().drain().expect("the server is there");
    server.run_for(100);
    let received = server.received(socket);
    assert!(received.starts_with(&[0x88]) && received.windows(6).any(|w| w == b"retry="));
    server.run_for(20_000);
    assert!(server.server().is_over());
    assert_eq!(server.stats().closed_total(), 2);
}

#[test]
fn a_reload_to_a_lower_rate_ends_nobody_who_is_to_be_paused() {
    let mut server = Lines::new(&[("limits.messages_per_second", "1000")]);
    let id = server.open("/echo");
    server.send(id, texts(1500));
    let last = frame(0x81, b"x");
    server.send(id, &last[..4]);
    server.settle();
    assert_eq!(echoes(&mut server, id), 1500);
    let mut config = server.config();
    config.limits.messages_per_second = 1;
    server.handle().reload(config).expect("it is sound");
    server.settle();
    server.send(id, &last[4..]);
    server.send(id, texts(2));
    server.settle();
    assert_eq!(echoes(&mut server, id), 1, "the one under way");
    server.run_for(5000);
    assert_eq!(echoes(&mut server, id), 2);
    assert_eq!(server.stats().closed_total(), 0);
}

#[test]
fn the_operator_has_no_rates() {
    let pairs = [("limits.messages_per_second", "1"), ("limits.bytes_per_second", "100")];
    let mut server = Lines::new(&pairs);
    let id = server.connect_admin();
    server.send(id, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50));
    server.settle();
    let answers = String::from_utf8(server.received(id)).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 50);
}

#[test]
fn a_reset_frees_who_is_paused() {
    let mut server = Lines::new(&[("limits.messages_per_second", "1")]);
    let id = server.open("/echo");
    server.send(id, texts(100));
    server.settle();
    server.reset(id);
    server.run_for(5000);
    assert_eq!(server.stats().closed_by(CloseReason::Reset), 1);
    assert_eq!(server.server().next_timeout(), None, "nothing to do, no wake-up");
}
