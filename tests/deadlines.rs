//! Every deadline on real sockets: it acts neither early nor late, in the way CONTRACT 5 says, is
//! counted under its own reason, and a neighbour who does nothing wrong does not notice.
//!
//! Spans are short and the tick is 10 ms. What is measured is printed; `ROUNDS=` makes the idle
//! stretches longer.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::http::{Refusal, Request, Response};
use heartwheel::stats::DeadlineKind;
use heartwheel::{Accept, Builder, CloseReason, Event, Message, Peer as Sender, Route, Server};

use common::client::{Client, Seen};
use common::frame::frame;
use common::honest::{Crowd, Neighbour};
use common::http::{get_request, upgrade_request};
use common::recorder::{Recorder, Told};
use common::server::{TestServer, echo};
use common::timing::{PATIENCE, Span, eventually, ms};

/// Echo, silence, floods, closes, and what is slow before a connection is open.
fn routes() -> Builder {
    Server::builder()
        .websocket("/echo", echo)
        .route(Route::websocket("/quiet", |_: &Sender, _: Event| {}).inline())
        .route(Route::websocket("/flood", flood).inline())
        .websocket("/sleep", sleep_and_echo)
        .route(Route::websocket("/bye", bye).inline())
        .route(Route::websocket("/slow", echo).authorize(authorize_slowly))
        .get("/slow", answer_slowly)
        .route(Route::get("/", |_: &Request| Response::new(200).text("here\n")).inline())
        .route(Route::post("/", |_: &Request| Response::new(200).text("taken\n")).inline())
}

/// Sends a message of so many bytes for each message that is a number, and closes behind it for one
/// that ends with `!`.
fn flood(peer: &Sender, event: Event) {
    if let Event::Message(message) = event {
        let text = message.as_text().unwrap();
        let bytes = text.trim_end_matches('!').parse().unwrap();
        peer.send(Message::binary(vec![b'x'; bytes]));
        if text.ends_with('!') {
            peer.close(4000, "flooded").unwrap();
        }
    }
}

fn sleep_and_echo(peer: &Sender, event: Event) {
    if let Event::Message(message) = event {
        thread::sleep(ms(message.as_text().unwrap().parse().unwrap()));
        peer.send(message);
    }
}

/// Closes for every message.
fn bye(peer: &Sender, event: Event) {
    if let Event::Message(_) = event {
        peer.close(4001, "bye").unwrap();
    }
}

fn authorize_slowly(request: &Request) -> Result<Accept, Refusal> {
    thread::sleep(asked_ms(request));
    Ok(Accept::default())
}

fn answer_slowly(request: &Request) -> Response {
    thread::sleep(asked_ms(request));
    Response::new(200).text("at last\n")
}

fn asked_ms(request: &Request) -> Duration {
    ms(request.query_value("ms").unwrap().parse().unwrap())
}

// FAULTS 1.
#[test]
fn a_silent_connection_gets_fin_at_the_handshake_deadline() {
    let server = TestServer::serve(&[("deadlines.handshake", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let span = Span::begin();
    let mut peer = Client::connect(server.address);
    peer.expect_fin();
    span.took("handshake", ms(300));
    drop(peer);
    server.expect_closed(CloseReason::Handshake, 1);
    assert_eq!(server.stats().fired(DeadlineKind::Handshake), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

// FAULTS 2.
#[test]
fn a_dripped_head_gets_408_at_the_handshake_deadline() {
    let server = TestServer::serve(&[("deadlines.handshake", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let span = Span::begin();
    let mut peer = Client::connect(server.address);
    drip_until_answered(&mut peer, upgrade_request("/echo", "").as_bytes());
    assert_eq!(peer.read_answer().status, 408);
    span.took("handshake", ms(300));
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Handshake, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

/// Sends a byte every 20 ms until something comes back.
fn drip_until_answered(peer: &mut Client, bytes: &[u8]) {
    peer.stream.set_nonblocking(true).unwrap();
    for byte in bytes {
        peer.send([*byte]);
        thread::sleep(ms(20));
        if peer.stream.peek(&mut [0]).is_ok() {
            break;
        }
    }
    peer.stream.set_nonblocking(false).unwrap();
}

#[test]
fn the_head_of_a_later_request_has_the_handshake_deadline_from_its_first_byte() {
    let pairs = [("deadlines.handshake", "300ms"), ("deadlines.keep_alive", "5s")];
    let server = TestServer::serve(&pairs, routes());
    let mut peer = Client::connect(server.address);
    peer.send(get_request("/", "").as_bytes());
    assert_eq!(peer.read_answer().status, 200);
    thread::sleep(ms(400));
    let span = Span::begin();
    drip_until_answered(&mut peer, get_request("/", "").as_bytes());
    let answer = peer.read_answer();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.text(), "the request head took too long\n");
    span.took("handshake of a later request", ms(300));
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Handshake, 1);
    server.assert_in_time();
}

#[test]
fn a_verdict_that_takes_longer_than_the_handshake_deadline_is_503() {
    let server = TestServer::serve(&[("deadlines.handshake", "200ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::connect(server.address);
    let span = Span::begin();
    peer.send(upgrade_request("/slow?ms=500", "").as_bytes());
    assert_eq!(peer.read_answer().status, 503);
    span.took("verdict", ms(200));
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Handshake, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn an_answer_that_takes_longer_than_the_handshake_deadline_is_503() {
    let server = TestServer::serve(&[("deadlines.handshake", "200ms")], routes());
    let mut peer = Client::connect(server.address);
    let span = Span::begin();
    peer.send(get_request("/slow?ms=500", "").as_bytes());
    let answer = peer.read_answer();
    assert_eq!(answer.status, 503);
    span.took("answer", ms(200));
    // A plain request has no handshake, and its peer is not to blame.
    assert_eq!(answer.text(), "no answer was ready in time\n");
    // The late answer is dropped: nothing but FIN follows.
    peer.expect_fin();
    thread::sleep(ms(350));
    drop(peer);
    server.expect_closed(CloseReason::Handshake, 1);
    server.assert_in_time();
}

// RFC 9110, 9.3.2.
#[test]
fn a_refusal_of_head_has_no_body() {
    let server = TestServer::serve(&[("deadlines.handshake", "200ms")], routes());
    for (request, status) in [
        ("HEAD /slow?ms=500 HTTP/1.1\r\nHost: localhost\r\n\r\n", 503),
        // Its time is over before it is complete, or it is malformed.
        ("HEAD / HTTP/1.1\r\nHost:", 408),
        ("HEAD / HTTP/1.1\nHost: localhost\n\n", 400),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer:?}");
    }
    server.expect_closed(CloseReason::Handshake, 2);
}

#[test]
fn the_handshake_deadline_counts_again_from_the_complete_request() {
    let server = TestServer::serve(&[("deadlines.handshake", "400ms")], routes());
    let mut peer = Client::connect(server.address);
    let request = upgrade_request("/slow?ms=300", "");
    peer.send(&request.as_bytes()[..10]);
    thread::sleep(ms(250));
    peer.send(&request.as_bytes()[10..]);
    assert_eq!(peer.read_answer().status, 101);
    peer.text("here");
    assert_eq!(peer.message(), "here");
}

#[test]
fn a_dripped_body_gets_408_at_the_body_deadline() {
    let server = TestServer::serve(&[("deadlines.body", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::connect(server.address);
    let span = Span::begin();
    peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    drip_until_answered(&mut peer, &[b'x'; 1000]);
    assert_eq!(peer.read_answer().status, 408);
    span.took("body", ms(300));
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Body, 1);
    assert_eq!(server.stats().fired(DeadlineKind::Body), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_kept_connection_without_a_request_gets_fin_at_keep_alive() {
    let server = TestServer::serve(&[("deadlines.keep_alive", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::connect(server.address);
    for _ in 0..3 {
        // Each request begins it anew.
        thread::sleep(ms(150));
        peer.send(get_request("/", "").as_bytes());
        assert_eq!(peer.read_answer().status, 200);
    }
    let mut peer_span = Span::begin();
    peer.send(get_request("/", "").as_bytes());
    assert_eq!(peer.read_answer().status, 200);
    peer.expect_fin();
    peer_span.took("keep_alive", ms(300));
    peer_span = Span::begin();
    drop(peer);
    server.expect_closed(CloseReason::KeepAlive, 1);
    assert!(peer_span.elapsed() < peer_span.lateness_max());
    assert_eq!(server.stats().fired(DeadlineKind::KeepAlive), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_websocket_that_sends_nothing_is_closed_with_3008_at_read_idle() {
    let pairs = [("deadlines.read_idle", "300ms")];
    let server = TestServer::serve(&pairs, routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/quiet");
    for _ in 0..3 {
        thread::sleep(ms(100));
        peer.text("still here");
    }
    let span = Span::begin();
    peer.text("for the last time");
    peer.expect_close(3008);
    span.took("read_idle", ms(300));
    peer.close(3008);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::ReadIdle, 1);
    assert_eq!(server.stats().fired(DeadlineKind::ReadIdle), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

// FAULTS 52.
#[test]
fn a_client_that_answers_no_ping_is_closed_with_3008_after_max_missed() {
    let recorder = Recorder::default();
    let pairs = [
        ("heartbeat.interval", "200ms"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "4"),
    ];
    let server = TestServer::serve(&pairs, routes().websocket("/told", told(&recorder)));
    let neighbour = Neighbour::start(server.address);
    let span = Span::begin();
    let mut peer = Client::open(server.address, "/told");
    for _ in 0..4 {
        assert!(matches!(peer.see(), Seen::Frame(0x89, _)));
    }
    assert!(matches!(peer.see(), Seen::Frame(0x88, _)));
    // The first ping falls anywhere in the interval.
    span.took_between("heartbeat", ms(4 * 100), ms(200 + 4 * 100));
    peer.close(3008);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Heartbeat, 1);
    assert!(server.stats().pings_missed >= 4);
    eventually("the handler was told", || recorder.closed() == [CloseReason::Heartbeat]);
    let suspect = [Told::Opened, Told::Suspect, Told::Closed(CloseReason::Heartbeat)];
    assert_eq!(recorder.told(), [suspect], "told to be suspect once");
    assert_eq!(server.stats().suspects, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

fn told(recorder: &Recorder) -> impl Fn(&Sender, Event) + Send + Sync + 'static {
    let recorder = recorder.clone();
    move |peer, event| recorder.note(peer.id(), &event)
}

#[test]
fn a_suspect_that_is_heard_again_may_become_one_again() {
    let recorder = Recorder::default();
    let pairs = [
        ("heartbeat.interval", "100ms"),
        ("heartbeat.pong", "80ms"),
        ("heartbeat.max_missed", "50"),
    ];
    let server = TestServer::serve(&pairs, routes().websocket("/told", told(&recorder)));
    let mut peer = Client::open(server.address, "/told");
    eventually("it is suspect", || recorder.count(&Told::Suspect) == 1);
    thread::sleep(ms(300));
    assert_eq!(recorder.count(&Told::Suspect), 1, "told once until it is heard again");
    peer.text("I am here");
    eventually("it is suspect again", || recorder.count(&Told::Suspect) == 2);
    // The handler is told before the turn ends that counts it.
    eventually("it is counted", || server.stats().suspects == 2);
}

// FAULTS 53.
#[test]
fn a_client_that_sends_data_and_never_pongs_stays_and_is_hardly_pinged() {
    let pairs = [
        ("heartbeat.interval", "400ms"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "2"),
    ];
    let server = TestServer::serve(&pairs, routes());
    let mut peer = Client::open(server.address, "/echo");
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < ms(1500) {
        peer.text("data");
        loop {
            match peer.see() {
                Seen::Frame(0x89, _) => pings += 1,
                Seen::Frame(0x81, _) => break,
                other => panic!("{other:?}"),
            }
        }
        thread::sleep(ms(40));
    }
    println!("pings: {pings}");
    // The first may fall anywhere, also between two messages.
    assert!(pings <= 2, "{pings}");
    assert_eq!(server.stats().closed_total(), 0);
}

// FAULTS 55.
#[test]
fn a_pong_that_comes_late_is_life() {
    let pairs = [
        ("heartbeat.interval", "150ms"),
        ("heartbeat.pong", "60ms"),
        ("heartbeat.max_missed", "5"),
    ];
    let server =
        TestServer::serve(&pairs, routes().route(Route::websocket("/p", echo).with_pongs()));
    let mut peer = Client::open(server.address, "/p");
    let began = Instant::now();
    let mut answered = 0;
    while began.elapsed() < ms(1500) {
        match peer.see() {
            Seen::Frame(0x89, payload) => {
                thread::sleep(ms(150));
                peer.pong(&payload);
                answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let stats = server.stats();
    println!("{answered} pings answered late, {} missed", stats.pings_missed);
    assert!(answered >= 3 && stats.pings_missed >= 2);
    assert_eq!((stats.closed_total(), server.open()), (0, 1));
}

// FAULTS 54.
#[test]
fn a_flood_of_pongs_nobody_asked_for_is_closed_with_1008() {
    let recorder = Recorder::default();
    let note = told(&recorder);
    let pairs = [("limits.pings_per_second", "10")];
    let told = Route::websocket("/told", note).with_pongs();
    let server = TestServer::serve(&pairs, routes().route(told));
    let neighbour = Neighbour::start(server.address);
    let mut few = Client::open(server.address, "/told");
    for _ in 0..15 {
        few.pong(b"why?");
    }
    let mut many = Client::open(server.address, "/told");
    many.send(frame(0x8A, b"why?").repeat(1000));
    many.expect_close(1008);
    drop(many);
    server.expect_closed(CloseReason::Rate, 1);
    assert_eq!(few.see_within(ms(100)), Seen::Nothing, "a few are harmless");
    assert_eq!((recorder.count(&Told::Pong), server.stats().ping_rtt.count()), (0, 0));
    neighbour.was_undisturbed();
}

// FAULTS 44.
#[test]
fn a_message_in_fragments_that_never_ends_is_closed_with_3008_at_the_message_deadline() {
    let pairs = [("deadlines.message", "400ms")];
    let server = TestServer::serve(&pairs, routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/echo");
    let span = Span::begin();
    let mut first = 0x01;
    let seen = loop {
        peer.send(frame(first, b"and "));
        first = 0x00;
        match peer.see_within(ms(50)) {
            Seen::Nothing | Seen::Frame(0x89, _) => {}
            seen => break seen,
        }
    };
    span.took("message", ms(400));
    assert_eq!(seen, Seen::Frame(0x88, 3008u16.to_be_bytes().to_vec()));
    peer.close(3008);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Message, 1);
    assert_eq!(server.stats().fired(DeadlineKind::Message), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_peer_that_does_not_read_is_reset_at_write_stall() {
    let server = TestServer::serve(&[("deadlines.write_stall", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open_narrow(server.address, "/flood");
    let span = Span::begin();
    peer.text("4000000");
    eventually("the reset", || peer.is_reset_unread());
    // The kernel may take a little more for a moment, while the windows settle.
    span.took_between("write_stall", ms(300), ms(300 + 100));
    server.expect_closed(CloseReason::WriteStall, 1);
    assert_eq!(server.stats().fired(DeadlineKind::WriteStall), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_peer_that_reads_a_little_is_reset_when_the_oldest_byte_is_three_times_write_stall_old() {
    let server = TestServer::serve(&[("deadlines.write_stall", "250ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open_narrow(server.address, "/flood");
    let span = Span::begin();
    peer.text("8000000");
    let mut read = 0;
    let error = loop {
        match peer.sip(8 * 1024) {
            Ok(len) => {
                assert!(len > 0 && span.elapsed() < PATIENCE, "no reset after {read} bytes");
                read += len;
            }
            Err(error) => break error,
        }
        thread::sleep(ms(5));
    };
    println!("{read} bytes read: {error}");
    span.took("three times write_stall", ms(3 * 250));
    server.expect_closed(CloseReason::WriteStall, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_close_frame_that_cannot_leave_is_a_reset_at_close_send() {
    let server = TestServer::serve(&[("deadlines.close_send", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open_narrow(server.address, "/flood");
    let span = Span::begin();
    peer.text("4000000!");
    eventually("the reset", || peer.is_reset_unread());
    span.took("close_send", ms(300));
    server.expect_closed(CloseReason::CloseSend, 1);
    assert_eq!(server.stats().fired(DeadlineKind::CloseSend), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

// FAULTS 70.
#[test]
fn a_close_that_is_not_answered_is_a_reset_at_close_ack() {
    let server = TestServer::serve(&[("deadlines.close_ack", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/bye");
    let span = Span::begin();
    peer.text("leave me");
    assert_eq!(peer.expect_close(4001), "bye");
    peer.expect_reset();
    span.took("close_ack", ms(300));
    server.expect_closed(CloseReason::CloseAck, 1);
    assert_eq!(server.stats().fired(DeadlineKind::CloseAck), 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_fin_that_is_not_answered_is_a_reset_at_close_ack() {
    let server = TestServer::serve(&[("deadlines.close_ack", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    for ours in [true, false] {
        let mut peer = Client::open(server.address, "/bye");
        let span = match ours {
            // We begin, and the server answers.
            true => {
                let span = Span::begin();
                peer.close(4321);
                peer.expect_close(4321);
                span
            }
            // The server begins, and we answer after a while: the deadline begins anew with FIN.
            false => {
                peer.text("leave me");
                peer.expect_close(4001);
                thread::sleep(ms(150));
                let span = Span::begin();
                peer.close(4001);
                span
            }
        };
        peer.expect_fin();
        assert!(span.elapsed() < span.lateness_max(), "the server ends its side first");
        eventually("the reset", || peer.is_reset_unread());
        span.took("close_ack after FIN", ms(300));
    }
    server.expect_closed(CloseReason::CloseAck, 2);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

#[test]
fn a_fault_that_runs_into_close_ack_keeps_its_reason() {
    let pairs = [("deadlines.read_idle", "200ms"), ("deadlines.close_ack", "200ms")];
    let server = TestServer::serve(&pairs, routes());
    let span = Span::begin();
    let mut peer = Client::open(server.address, "/quiet");
    peer.expect_close(3008);
    peer.expect_reset();
    span.took("read_idle and close_ack", ms(200 + 200));
    server.expect_closed(CloseReason::ReadIdle, 1);
    let stats = server.stats();
    assert_eq!(stats.closed_by(CloseReason::CloseAck), 0);
    assert_eq!(stats.fired(DeadlineKind::ReadIdle), 1, "both are counted as acting");
    assert_eq!(stats.fired(DeadlineKind::CloseAck), 1);
    server.assert_in_time();
}

// FAULTS 67.
#[test]
fn lifetimes_end_with_1001_and_a_time_to_come_back_spread_over_the_jitter() {
    let pairs = [("deadlines.lifetime", "800ms"), ("heartbeat.jitter", "0.5")];
    let server = TestServer::serve(&pairs, routes());
    let watched = Span::begin();
    let crowd = Crowd::open(server.address, "/quiet", 100);
    eventually("all have ended", || server.stats().closed_total() == 100);
    let members = crowd.finish();
    let late = watched.lateness_max();
    let mut spans = Vec::new();
    let mut retries = Vec::new();
    for member in &members {
        let span = member.closed_at.unwrap() - member.opened_at;
        assert!(span >= ms(400) && span <= ms(800) + late, "{span:?}");
        spans.push(span);
        let payload = member.closed_with.as_ref().unwrap();
        assert_eq!(payload[..2], 1001u16.to_be_bytes());
        let text = std::str::from_utf8(&payload[2..]).unwrap();
        let retry: u64 = text.strip_prefix("retry=").unwrap().parse().unwrap();
        assert!(retry <= 1000, "{text}");
        retries.push(retry);
    }
    let spread = *spans.iter().max().unwrap() - *spans.iter().min().unwrap();
    println!("lived {:?} to {:?}", spans.iter().min().unwrap(), spans.iter().max().unwrap());
    assert!(spread >= ms(400 * 8 / 10), "{spread:?}");
    let (least, most) = (retries.iter().min().unwrap(), retries.iter().max().unwrap());
    assert!(*least < 200 && *most > 800, "told to come back after {least} to {most} ms");
    server.expect_closed(CloseReason::Lifetime, 100);
    server.assert_in_time();
}

#[test]
fn a_handler_that_takes_too_long_is_counted_and_ends_nothing() {
    let server = TestServer::serve(&[("deadlines.handler", "200ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/sleep");
    let span = Span::begin();
    peer.text("900");
    eventually("it is stuck", || server.stats().handlers_stuck == 1);
    span.took("handler", ms(200));
    assert_eq!(peer.message(), "900");
    eventually("it is free again", || server.stats().handlers_stuck == 0);
    let stats = server.stats();
    assert_eq!((stats.handlers_stuck_total, stats.fired(DeadlineKind::Handler)), (1, 1));
    assert_eq!(stats.closed_total(), 0);
    neighbour.was_undisturbed();
}

#[test]
fn an_inline_handler_that_takes_too_long_is_counted_when_it_returns() {
    let pairs = [("workers", "0"), ("deadlines.handler", "100ms")];
    let server = TestServer::serve(&pairs, routes());
    let mut peer = Client::open(server.address, "/sleep");
    peer.text("150");
    assert_eq!(peer.message(), "150");
    eventually("it is counted", || server.stats().handlers_stuck_total == 1);
    peer.text("1");
    assert_eq!(peer.message(), "1");
    assert_eq!(server.stats().fired(DeadlineKind::Handler), 1);
}

#[test]
fn adaptive_heartbeats_ping_less_while_all_is_well_and_more_after_a_miss() {
    let pairs = [
        ("heartbeat.interval", "200ms"),
        ("heartbeat.jitter", "0"),
        ("heartbeat.pong", "150ms"),
        ("heartbeat.adaptive", "true"),
        ("heartbeat.min", "100ms"),
        ("heartbeat.max", "600ms"),
    ];
    let server = TestServer::serve(&pairs, routes());
    let mut peer = Client::open(server.address, "/quiet");
    let mut gaps = Vec::new();
    let watched = Span::begin();
    let mut answered_at = Instant::now();
    while gaps.len() < 7 {
        let Seen::Frame(0x89, payload) = peer.see() else { panic!("a ping") };
        gaps.push(answered_at.elapsed());
        peer.pong(&payload);
        answered_at = Instant::now();
    }
    println!("gaps: {gaps:?}");
    // Drawn before the first pong: 200 ms. Then a quarter more each time, and never beyond the
    // bound.
    for (gap, least) in gaps[1..].iter().zip([200, 250, 312, 390, 488, 600]) {
        let gap_ms = gap.as_millis() as u64;
        let most = ms(least) + watched.lateness_max();
        assert!(gap_ms + 2 >= least && *gap <= most, "{gap_ms} ms, {least} asked for");
    }
    // Two misses halve it twice; the ping that is answered was drawn after them.
    for _ in 0..3 {
        assert!(matches!(peer.see(), Seen::Frame(0x89, _)));
    }
    peer.pong(b"late");
    let span = Span::begin();
    assert!(matches!(peer.see(), Seen::Frame(0x89, _)));
    println!("after two misses: {:?}", span.elapsed());
    assert!(span.elapsed() < ms(300) + span.lateness_max(), "{:?}", span.elapsed());
}

// FAULTS 57.
#[test]
fn a_peer_that_vanished_while_idle_ends_by_heartbeat() {
    let pairs = [
        ("heartbeat.interval", "200ms"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "2"),
        ("deadlines.close_ack", "200ms"),
    ];
    let server = TestServer::serve(&pairs, routes());
    let neighbour = Neighbour::start(server.address);
    let span = Span::begin();
    let peer = Client::open(server.address, "/quiet");
    peer.vanish();
    eventually("it has ended", || server.open() == 1);
    span.took_between("heartbeat", ms(2 * 100 + 200), ms(200 + 2 * 100 + 200));
    server.expect_closed(CloseReason::Heartbeat, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

// FAULTS 57.
#[test]
fn a_peer_that_vanished_with_data_outstanding_ends_by_write_stall() {
    let server = TestServer::serve(&[("deadlines.write_stall", "300ms")], routes());
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/flood");
    peer.vanish();
    let span = Span::begin();
    peer.text("4000000");
    eventually("it has ended", || server.open() == 1);
    span.took("write_stall", ms(300));
    server.expect_closed(CloseReason::WriteStall, 1);
    neighbour.was_undisturbed();
    server.assert_in_time();
}

// FAULTS 63: absolute and inactivity deadlines at spans nobody chose.
#[test]
fn deadlines_act_in_time_whatever_their_span() {
    let seed = std::process::id() as u64;
    let span_ms = move |nth: u64| 40 + (seed * 7919 + nth * 104_729) % 460;
    let threads: Vec<_> = (0..15)
        .map(|nth| {
            thread::spawn(move || {
                let span = span_ms(nth);
                let text = format!("{span}ms");
                let pairs = match nth % 3 {
                    0 => [("workers", "0"), ("deadlines.handshake", text.as_str())],
                    1 => [("workers", "0"), ("deadlines.keep_alive", &text)],
                    _ => [("workers", "0"), ("deadlines.read_idle", &text)],
                };
                let server = TestServer::serve(&pairs, routes());
                let mut peer = Client::connect(server.address);
                let began = Span::begin();
                let mut peer = match nth % 3 {
                    0 => Client::connect(server.address),
                    1 => {
                        peer.send(get_request("/", "").as_bytes());
                        assert_eq!(peer.read_answer().status, 200);
                        peer
                    }
                    _ => {
                        peer.upgrade("/quiet");
                        peer
                    }
                };
                if nth % 3 == 2 {
                    peer.expect_close(3008);
                } else {
                    peer.expect_fin();
                }
                began.took(pairs[1].0, ms(span));
                server.assert_in_time();
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("each deadline is in time");
    }
}

// FAULTS 51, 62, 64: half a minute's behaviour at a quarter of the spans. A ping due more than five
// seconds ahead is moved down to a whole second, so a thousand idle connections wake the loop about
// once a second, not a thousand times.
#[test]
fn a_thousand_idle_clients_are_pinged_on_a_grid_within_their_window() {
    const CLIENTS: usize = 1000;
    let pairs = [("heartbeat.interval", "8s"), ("heartbeat.jitter", "0.3")];
    let server = TestServer::serve(&pairs, routes());
    let watched = Span::begin();
    let crowd = Crowd::open(server.address, "/quiet", CLIENTS);
    // First pings fall anywhere; those due within five seconds on no grid.
    thread::sleep(ms(5600));
    let (before, began) = (server.timeouts(), Instant::now());
    thread::sleep(ms(5000 * common::timing::rounds(1) as u64));
    let woken = server.timeouts() - before;
    let per_second = woken as f64 / began.elapsed().as_secs_f64();
    println!("woken by time alone: {woken} times, {per_second:.2} a second");
    assert!(per_second <= 1.2 + 0.2, "{per_second}: one more in five seconds is chance");
    assert_eq!(server.stats().closed_total(), 0);
    let members = crowd.finish();
    let mut by_second = std::collections::BTreeMap::new();
    let late = watched.lateness_max();
    let loop_began = members[0].opened_at;
    let mut gaps = Vec::new();
    for member in &members {
        let first = member.pinged_at.first().expect("a ping within the interval");
        assert!(*first - member.opened_at <= ms(8000) + late);
        for pair in member.pinged_at.windows(2) {
            let gap = pair[1] - pair[0];
            gaps.push(gap);
            // 8 s x (1 - 0.3), and moved down by less than a second.
            assert!(gap + ms(20) >= ms(5600 - 1000) && gap <= ms(8000) + late, "{gap:?}");
        }
        for at in &member.pinged_at {
            *by_second.entry((*at - loop_began).as_secs()).or_insert(0usize) += 1;
        }
    }
    println!("{} second pings, pings in each second: {by_second:?}", gaps.len());
    assert!(!gaps.is_empty());
    let mean = by_second.values().sum::<usize>() / by_second.len();
    assert!(*by_second.values().max().unwrap() <= 3 * mean, "not spread: mean {mean}");
}

#[cfg(feature = "program")]
mod as_a_child {
    use super::*;
    use common::process::voluntary_switches;
    use common::program::Program;
    use common::timing::{EPS, within};
    use rustix::process::Signal;

    #[test]
    fn clients_live_through_a_stop_of_twice_read_idle() {
        let pairs = [
            ("deadlines.read_idle", "1s"),
            ("heartbeat.interval", "300ms"),
            ("heartbeat.pong", "200ms"),
            ("heartbeat.max_missed", "2"),
            ("deadlines.close_ack", "100ms"),
        ];
        let lab = Program::lab(&pairs);
        let crowd = Crowd::open(lab.address, "/echo", 50);
        let mut talker = Client::open(lab.address, "/echo");
        eventually("all were pinged", || crowd.pings() >= 50);
        lab.signal(Signal::STOP);
        talker.text("while you were out");
        thread::sleep(ms(2000));
        lab.signal(Signal::CONT);
        assert_eq!(talker.message(), "while you were out");
        let pings = crowd.pings();
        // One that died meanwhile is found out in the usual time.
        let silent = talker;
        within(ms(300 + 2 * 200 + 100) + EPS, "the silent one is found out", || {
            lab.lines_with("reason=heartbeat").len() == 1
        });
        eventually("the others were pinged again", || crowd.pings() >= pings + 100);
        drop(silent);
        let ends = lab.lines_with("closed id=");
        assert_eq!(ends.len(), 1, "{ends:#?}");
        assert!(crowd.finish().iter().all(|member| !member.has_ended));
    }

    // FAULTS 64.
    #[test]
    fn without_connections_no_thread_wakes() {
        let lab = Program::lab(&[]);
        thread::sleep(ms(500));
        let before = voluntary_switches(lab.id());
        thread::sleep(ms(5000 * common::timing::rounds(1) as u64));
        let after = voluntary_switches(lab.id());
        println!("voluntary context switches: {before:?}");
        assert_eq!(before, after);
        assert!(before.len() >= 4, "the loop, two workers, signals: {before:?}");
    }

    #[test]
    fn a_stuck_handler_is_one_log_line() {
        let lab = Program::lab(&[("deadlines.handler", "150ms"), ("workers", "1")]);
        let mut peer = Client::open(lab.address, "/block");
        let mut other = Client::open(lab.address, "/block");
        peer.text("block");
        thread::sleep(ms(20));
        other.text("behind it");
        let line = lab.expect_line("handlers stuck");
        assert!(line.contains("WARN"), "{line}");
        assert!(line.contains("now=1") && line.contains("longer_than_ms=150"), "{line}");
        thread::sleep(ms(400));
        lab.expect_line("handlers stuck");
    }
}
