//! A configuration that changes while connections are open.

mod common;

use std::time::Instant;

use heartwheel::config::Config;
use heartwheel::{CloseReason, Server};

use common::client::{Client, Seen};
use common::frame::frame;
use common::server::{TestServer, config, echo};
use common::timing::{Span, eventually, ms};

fn start(pairs: &[(&str, &str)]) -> TestServer {
    TestServer::serve(pairs, Server::builder().websocket("/echo", echo))
}

fn changed(pairs: &[(&str, &str)]) -> Config {
    config(pairs)
}

/// Sends a message and asserts that it comes back: the loop has taken all commands before it.
#[track_caller]
fn assert_alive(peer: &mut Client) {
    peer.text("alive");
    assert_eq!(peer.message(), "alive");
}

// FAULTS 65.
#[test]
fn a_shorter_interval_holds_for_connections_that_are_open() {
    let long = [("heartbeat.interval", "20s"), ("heartbeat.pong", "5s")];
    let server = start(&long);
    let mut peer = Client::open(server.address, "/echo");
    assert_eq!(peer.see_within(ms(50)), Seen::Nothing);
    let span = Span::begin();
    let short = [("heartbeat.interval", "500ms"), ("heartbeat.pong", "5s")];
    server.handle.reload(changed(&short)).expect("there is no fault in it");
    let Seen::Frame(0x89, payload) = peer.see() else { panic!("no ping came") };
    span.took_between("the first ping", ms(0), ms(500));
    peer.pong(&payload);
    let Seen::Frame(0x89, _) = peer.see() else { panic!("no second ping came") };
    // The peer may see it before the counters are shown.
    eventually("both are counted", || server.stats().pings_sent >= 2);
}

#[test]
fn a_shorter_read_idle_drops_nobody_who_answers() {
    let server = start(&[("heartbeat.interval", "20s"), ("deadlines.read_idle", "60s")]);
    let mut peer = Client::open(server.address, "/echo");
    // Silent for longer than the new read_idle before it comes.
    std::thread::sleep(ms(900));
    let short = [("heartbeat.interval", "300ms"), ("deadlines.read_idle", "800ms")];
    server.handle.reload(changed(&short)).expect("there is no fault in it");
    let began = Instant::now();
    while began.elapsed() < ms(1500) {
        if let Seen::Frame(0x89, payload) = peer.see_within(ms(100)) {
            peer.pong(&payload);
        }
    }
    assert_alive(&mut peer);
    assert_eq!(server.stats().closed_total(), 0);
    // And it does end one that does not.
    let span = Span::begin();
    assert!((0..).map(|_| peer.see()).any(|seen| matches!(seen, Seen::Frame(0x88, _))));
    span.took_between("the end", ms(0), ms(800 + 300));
    drop(peer);
    server.expect_closed(CloseReason::ReadIdle, 1);
}

#[test]
fn new_limits_hold_for_what_comes() {
    let server = start(&[]);
    let mut peer = Client::open(server.address, "/echo");
    let mut other = Client::open(server.address, "/echo");
    peer.send(frame(0x81, &[b'x'; 2000]));
    assert_eq!(peer.message().len(), 2000);
    server.handle.reload(changed(&[("limits.message_bytes", "1000")])).expect("it is sound");
    assert_alive(&mut other);
    peer.send(frame(0x81, &[b'x'; 1001]));
    peer.expect_close(1009);
    assert_alive(&mut other);
    let mut head = Client::connect(server.address);
    server.handle.reload(changed(&[("limits.head_bytes", "64")])).expect("it is sound");
    assert_alive(&mut other);
    head.send(common::http::upgrade_request("/echo", "").as_bytes());
    assert_eq!(head.read_answer().status, 431);
}

#[test]
fn a_deadline_that_is_shortened_counts_from_where_it_began() {
    let server = start(&[("deadlines.handshake", "20s")]);
    let span = Span::begin();
    let mut silent = Client::connect(server.address);
    std::thread::sleep(ms(300));
    server.handle.reload(changed(&[("deadlines.handshake", "700ms")])).expect("it is sound");
    silent.expect_fin();
    span.took("from accept to FIN", ms(700));
    drop(silent);
    server.expect_closed(CloseReason::Handshake, 1);
    // One that is over by then is over at once.
    server.handle.reload(changed(&[("deadlines.handshake", "20s")])).expect("it is sound");
    let mut silent = Client::connect(server.address);
    std::thread::sleep(ms(300));
    server.handle.reload(changed(&[("deadlines.handshake", "100ms")])).expect("it is sound");
    let span = Span::begin();
    silent.expect_fin();
    span.took("from the reload to FIN", ms(0));
    drop(silent);
    server.expect_closed(CloseReason::Handshake, 2);
}

// FAULTS 163.
#[test]
fn a_faulty_configuration_changes_nothing_and_drops_nobody() {
    let server = start(&[]);
    let mut peer = Client::open(server.address, "/echo");
    let mut faulty = changed(&[("limits.message_bytes", "4"), ("heartbeat.interval", "30s")]);
    faulty.deadlines.read_idle = Some(ms(10));
    let faults = server.handle.reload(faulty).expect_err("read_idle is shorter than interval");
    assert!(faults[0].starts_with("deadlines.read_idle = 10ms: must be longer"), "{faults:?}");
    assert_alive(&mut peer);
    assert_eq!(server.stats().closed_total(), 0);
}

#[test]
fn what_takes_a_restart_is_kept() {
    let server = start(&[]);
    let mut peer = Client::open(server.address, "/echo");
    let other = [("listen", "127.0.0.1:1"), ("workers", "7"), ("tick", "1s")];
    server.handle.reload(changed(&other)).expect("there is no fault in it");
    assert_alive(&mut peer);
    assert_alive(&mut Client::open(server.address, "/echo"));
}
