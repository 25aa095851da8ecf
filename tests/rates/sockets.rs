//! Rates over real sockets: the average holds, nobody spins, and the kernel pushes back.

use std::io::Write;
use std::time::Instant;

use heartwheel::{CloseReason, Event, Server};

use crate::common::client::{Client, Seen};
use crate::common::frame::frame;
use crate::common::server::TestServer;
use crate::common::timing::{Span, eventually, ms, within};
use crate::common::topics;

#[test]
fn a_websocket_that_sends_all_it_can_is_held_to_the_rate() {
    let server = topics::start(&[("limits.messages_per_second", "40"), ("workers", "0")]);
    let mut peer = Client::open(server.address, "/echo");
    let span = Span::begin();
    peer.send(frame(0x81, b"x").repeat(200));
    let began = server.stats().turns;
    for _ in 0..200 {
        assert_eq!(peer.message(), "x");
    }
    // Eighty at once, forty a second from then on.
    span.took_between("two hundred messages", ms(2950), ms(3100));
    let turns = server.stats().turns - began;
    println!(
        "{turns} turns, {} pauses, {} timeouts",
        server.stats().read_pauses,
        server.timeouts()
    );
    assert!(turns <= 3 * server.stats().read_pauses + 20, "{turns}");
    // Each wait ends in one turn and is read after in the next.
    assert!(server.timeouts() <= 2 * server.stats().read_pauses + 10, "{}", server.timeouts());
}

#[test]
fn a_body_is_held_to_the_rate_of_bytes() {
    let pairs = [("limits.bytes_per_second", "200k"), ("deadlines.body", "1s")];
    let server = topics::start(&pairs);
    let mut peer = Client::connect(server.address);
    let span = Span::begin();
    let len = 1000 * 1024;
    let head =
        format!("POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n");
    peer.send(head.as_bytes());
    peer.send(vec![b'x'; len]);
    assert_eq!(peer.read_answer().status, 200);
    span.took_between("a thousand kilobytes", ms(2950), ms(3100));
    assert_eq!(server.stats().closed_by(CloseReason::Body), 0);
}

#[test]
fn a_peer_that_goes_on_is_pushed_back_by_its_kernel() {
    let server = topics::start(&[("limits.bytes_per_second", "10k")]);
    let mut peer = Client::open(server.address, "/echo");
    peer.stream.set_write_timeout(Some(ms(300))).unwrap();
    let message = frame(0x82, &[7; 60_000]);
    let mut sent = 0;
    let began = Instant::now();
    while let Ok(len) = peer.stream.write(&message) {
        sent += len;
        assert!(sent < 100 << 20, "nothing pushes back");
    }
    let received = server.stats().received_bytes;
    println!("{sent} bytes taken by the kernel, {received} read");
    let allowed = 2.0 * 10_240.0 + began.elapsed().as_secs_f64() * 10_240.0;
    assert!((received as f64) < allowed + 1000.0, "{received} of {allowed}");
    peer.reset();
    server.expect_closed(CloseReason::Reset, 1);
}

/// FAULTS 84b, for a peer that is read in fits and starts: pings go out all the same, and the
/// kernel notices that nobody takes them.
#[test]
fn a_peer_that_vanishes_while_it_is_paused_is_gone_in_time() {
    let pairs = [
        ("limits.messages_per_second", "20"),
        ("heartbeat.interval", "1s"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "1"),
        ("deadlines.close_send", "100ms"),
        ("deadlines.close_ack", "100ms"),
        ("workers", "0"),
    ];
    // It is answered nothing: a ping alone can tell that it is gone.
    let silent = |_: &heartwheel::Peer, _: Event| {};
    let server = TestServer::serve(&pairs, Server::builder().websocket("/silent", silent));
    let mut peer = Client::open(server.address, "/silent");
    peer.send(frame(0x81, b"x").repeat(2000));
    eventually("it is paused", || server.stats().read_pauses > 0);
    let span = Span::begin();
    peer.vanish();
    within(ms(20_000), "it is gone", || server.open() == 0);
    // The interval at most, then as long as the kernel tries; it looks when it would send again.
    span.took_between("a vanished peer", ms(5000), ms(1000 + 5300 + 4000));
    assert_eq!(server.closed_by(CloseReason::WriteStall), 1, "{:?}", server.ends());
}

#[test]
fn with_close_one_message_too_many_is_1008() {
    let pairs = [("limits.messages_per_second", "5"), ("limits.rate_action", "close")];
    let server = topics::start(&pairs);
    let mut peer = Client::open(server.address, "/topics/a");
    peer.send(frame(0x81, b"x").repeat(10));
    for _ in 0..10 {
        assert_eq!(peer.see(), Seen::Frame(0x81, b"x".to_vec()));
    }
    // More than can have come meanwhile.
    peer.send(frame(0x81, b"x").repeat(50));
    while let Seen::Frame(first, payload) = peer.see() {
        if first == 0x88 {
            assert_eq!(payload, [0x03, 0xf0], "1008");
            break;
        }
    }
    peer.close(1008);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Rate, 1);
}

#[test]
fn events_reach_a_peer_at_its_rate_and_others_at_once() {
    let server = topics::start(&[("limits.send_per_second", "50")]);
    let mut peer = Client::open(server.address, "/topics/a");
    let span = Span::begin();
    for _ in 0..200 {
        server.handle.publish("a", "x").unwrap();
    }
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(peer.message(), "x");
    }
    span.took_between("two hundred events", ms(1950), ms(2100));
    println!("{} pauses in {:?}", server.stats().send_pauses, began.elapsed());
    eventually("the outbox is empty", || {
        let stats = server.stats();
        stats.queued_bytes == stats.sent_bytes + stats.discarded_bytes
    });
}
