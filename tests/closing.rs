//! How connections end on real sockets: close codes, who ends TCP first, what is discarded, resets
//! in every state.
//!
//! Whatever happens, a handler hears of each connection's end exactly once, and what was accepted
//! is what has ended.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use heartwheel::http::{Request, Response};
use heartwheel::{Accept, Builder, CloseReason, Event, Message, Peer as Sender, Route, Server};

use common::client::{Client, Seen};
use common::frame::frame;
use common::honest::Neighbour;
use common::http::{get_request, upgrade_request};
use common::process::cpu_of;
use common::recorder::{Recorder, Told};
use common::server::TestServer;
use common::timing::{Span, eventually, ms};

const PING: u8 = 0x89;

/// Everything told is recorded; what a message says is done.
fn routes(recorder: &Recorder) -> Builder {
    let authorize = |_: &Request| {
        thread::sleep(ms(150));
        Ok(Accept::default())
    };
    let large = |_: &Request| Response::new(200).text("x".repeat(4_000_000));
    Server::builder()
        .route(Route::websocket("/inline", obedient(recorder)).inline())
        .websocket("/worker", obedient(recorder))
        .route(Route::websocket("/slow", obedient(recorder)).authorize(authorize))
        .websocket("/echo", common::server::echo)
        .route(Route::get("/", |_: &Request| Response::new(200).text("here\n")).inline())
        .route(Route::get("/large", large).inline())
        .route(Route::post("/", |_: &Request| Response::new(200)).inline())
}

/// Does what messages say: `close`, `sleep MS`, `flood BYTES`; all others are sent back.
fn obedient(recorder: &Recorder) -> impl Fn(&Sender, Event) + Send + Sync + 'static {
    let recorder = recorder.clone();
    move |peer: &Sender, event: Event| {
        recorder.note(peer.id(), &event);
        let Event::Message(message) = event else { return };
        match message.as_text().unwrap().split_once(' ') {
            Some(("sleep", span)) => thread::sleep(ms(span.parse().unwrap())),
            Some(("flood", bytes)) => {
                peer.send(Message::binary(vec![b'x'; bytes.parse().unwrap()]));
                return;
            }
            _ if message.as_text() == Some("close") => return peer.close(4001, "bye").unwrap(),
            _ => {}
        }
        peer.send(message);
    }
}

/// Waits until all connections have ended, and asserts that the books balance.
#[track_caller]
fn assert_balanced(server: &TestServer) {
    eventually("all have ended", || server.open() == 0);
    let stats = server.stats();
    assert_eq!(stats.accepted, stats.closed_total(), "{:?}", server.ends());
    assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes);
}

// FAULTS 68.
#[test]
fn a_close_is_answered_with_its_code_and_the_server_ends_tcp_first() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    let codes = codes.into_iter().chain([3000, 3999, 4000, 4999]);
    let mut count = 0;
    for code in codes {
        let mut peer = Client::open(server.address, "/inline");
        let span = Span::begin();
        peer.close(code);
        assert_eq!(peer.expect_close(code), "");
        peer.expect_fin();
        assert!(span.elapsed() < span.lateness_max(), "{:?}", span.elapsed());
        count += 1;
        drop(peer);
        eventually("the end", || recorder.closed().len() == count);
        assert_eq!(*recorder.closed().last().unwrap(), CloseReason::Peer(code));
    }
    server.expect_closed(CloseReason::Peer(0), count as u64);
    recorder.assert_whole(count);
    assert_balanced(&server);
}

#[test]
fn a_close_without_a_code_is_answered_with_1000() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let mut peer = Client::open(server.address, "/inline");
    peer.send(frame(0x88, b""));
    peer.expect_close(1000);
    peer.expect_fin();
    drop(peer);
    eventually("the end", || recorder.closed() == [CloseReason::Peer(1005)]);
    assert_balanced(&server);
}

// FAULTS 72.
#[test]
fn close_frames_that_must_not_be_are_1002_or_1007() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let mut payloads: Vec<(Vec<u8>, CloseReason)> =
        [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
            .map(|code: u16| (code.to_be_bytes().to_vec(), CloseReason::Protocol))
            .into();
    payloads.push((vec![3], CloseReason::Protocol));
    payloads.push((vec![3, 232, 0xFF, 0xFE], CloseReason::Utf8));
    payloads.push((vec![3, 232, 0xE2, 0x82], CloseReason::Utf8));
    let count = payloads.len();
    for (payload, reason) in payloads {
        let mut peer = Client::open(server.address, "/inline");
        peer.send(frame(0x88, &payload));
        peer.expect_close(reason.code());
        peer.expect_fin();
        drop(peer);
    }
    server.expect_closed(CloseReason::Utf8, 2);
    server.expect_closed(CloseReason::Protocol, count as u64 - 2);
    eventually("the handlers were told", || recorder.closed().len() == count);
    recorder.assert_whole(count);
    assert_balanced(&server);
}

#[test]
fn what_a_peer_must_not_send_has_its_close_code_and_reason() {
    let recorder = Recorder::default();
    let pairs = [
        ("limits.message_bytes", "1000"),
        ("limits.fragments", "8"),
        ("limits.pings_per_second", "10"),
        ("limits.outbox_bytes", "64k"),
    ];
    let server = TestServer::serve(&pairs, routes(&recorder));
    let neighbour = Neighbour::start(server.address);
    let fragments = [frame(0x01, b""), frame(0x00, b"").repeat(8)].concat();
    let too_big = [0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0];
    let faults = [
        (b"\x81\x00".to_vec(), CloseReason::Protocol),
        (frame(0xC1, b"reserved bit"), CloseReason::Protocol),
        (frame(0x83, b"reserved opcode"), CloseReason::Protocol),
        (frame(0x80, b"nothing to go on with"), CloseReason::Protocol),
        (frame(0x81, b"\xFF"), CloseReason::Utf8),
        (too_big.to_vec(), CloseReason::TooBig),
        (fragments, CloseReason::Fragments),
        (frame(PING, b"").repeat(21), CloseReason::Rate),
    ];
    for (bytes, reason) in &faults {
        let mut peer = Client::open(server.address, "/inline");
        peer.send(bytes);
        let label = reason.label();
        println!("{label} is {}", reason.code());
        peer.expect_close(reason.code());
        peer.expect_fin_or_close();
    }
    neighbour.was_undisturbed();
    for (_, reason) in &faults {
        let count = faults.iter().filter(|(_, other)| other == reason).count();
        server.expect_closed(*reason, count as u64);
    }
    eventually("the handlers were told", || recorder.closed().len() == faults.len());
    recorder.assert_whole(faults.len());
    assert_balanced(&server);
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    for path in ["/inline", "/worker"] {
        let mut peer = Client::open(server.address, path);
        peer.send([frame(0x81, b"one"), frame(0x81, b"two"), frame(0x81, b"close")].concat());
        assert_eq!(peer.message(), "one");
        assert_eq!(peer.message(), "two");
        assert_eq!(peer.expect_close(4001), "bye");
        peer.close(4001);
        peer.expect_fin();
    }
    server.expect_closed(CloseReason::Application(0), 2);
    eventually("the handlers were told", || recorder.closed().len() == 2);
    recorder.assert_whole(2);
    assert_balanced(&server);
}

#[test]
fn a_fault_finishes_the_frame_in_progress_and_drops_the_rest() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[("limits.outbox_bytes", "64m")], routes(&recorder));
    let mut peer = Client::open_narrow(server.address, "/inline");
    peer.text("flood 1000000");
    peer.text("flood 500000");
    // The second waits until there is room for the answer, or stands behind the first.
    eventually("the first is begun", || server.stats().sent_bytes > 1000);
    thread::sleep(ms(50));
    peer.send(b"\x81\x00");
    eventually("the fault is seen", || server.stats().discarded_bytes > 0);
    match peer.see() {
        Seen::Frame(0x82, payload) => assert_eq!(payload, vec![b'x'; 1_000_000]),
        other => panic!("{other:?}"),
    }
    peer.expect_close(1002);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Protocol, 1);
    assert_eq!(server.stats().messages_dropped(), 1);
    assert_balanced(&server);
}

// FAULTS 69.
#[test]
fn what_comes_behind_the_peers_close_is_discarded() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[("deadlines.close_ack", "300ms")], routes(&recorder));
    let mut peer = Client::open(server.address, "/worker");
    let span = Span::begin();
    peer.send([frame(0x88, &1000u16.to_be_bytes()), frame(0x81, b"and another thing")].concat());
    peer.expect_close(1000);
    peer.expect_fin();
    while peer.try_send(frame(0x81, b"and another thing")).is_ok() {
        thread::sleep(ms(10));
        assert!(span.elapsed() < ms(300) + span.lateness_max(), "it goes on being read");
    }
    // A client that does not end its side is at fault.
    server.expect_closed(CloseReason::CloseAck, 1);
    span.took_between("close_ack", ms(300), ms(300 + 20));
    eventually("the handler was told", || recorder.closed() == [CloseReason::CloseAck]);
    assert_eq!(recorder.told(), [[Told::Opened, Told::Closed(CloseReason::CloseAck)]]);
    assert_balanced(&server);
}

#[test]
fn what_comes_behind_our_close_is_discarded() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let mut peer = Client::open(server.address, "/inline");
    peer.text("close");
    peer.expect_close(4001);
    for _ in 0..10 {
        peer.text("not heard");
        peer.send(frame(PING, b"not answered"));
    }
    peer.send(frame(0x82, &[0; 300_000]));
    assert_eq!(peer.see_within(ms(100)), Seen::Nothing);
    peer.close(4001);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Application(0), 1);
    eventually("the handler was told", || recorder.closed().len() == 1);
    let close = Told::Message("close".into());
    assert_eq!(
        recorder.told(),
        [[Told::Opened, close, Told::Closed(CloseReason::Application(4001))]]
    );
    assert_balanced(&server);
}

// FAULTS 73.
#[test]
fn closes_that_cross_are_one_end_with_the_code_that_was_first() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[("limits.inbox_messages", "1")], routes(&recorder));
    // The handler is given `close` before the peer's close frame is decoded.
    let mut peer = Client::open(server.address, "/inline");
    peer.text("close");
    peer.close(1000);
    peer.expect_close(4001);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Application(0), 1);
    // The peer's close is there first; what the handler then wants is no news.
    let mut peer = Client::open(server.address, "/worker");
    let closes = [frame(0x81, b"sleep 100"), frame(0x88, &1001u16.to_be_bytes())].concat();
    peer.send(&closes);
    eventually("the handler is busy", || recorder.count(&Told::Message("sleep 100".into())) == 1);
    assert_eq!(peer.message(), "sleep 100");
    peer.expect_close(1001);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Peer(0), 1);
    eventually("the handlers were told", || recorder.closed().len() == 2);
    assert_eq!(recorder.closed(), [CloseReason::Application(4001), CloseReason::Peer(1001)]);
    recorder.assert_whole(2);
    assert_balanced(&server);
}

#[test]
fn a_close_waits_for_the_handler_but_no_longer_than_close_send() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[("deadlines.close_send", "300ms")], routes(&recorder));
    let mut patient = Client::open(server.address, "/worker");
    patient.text("sleep 100");
    patient.close(1000);
    assert_eq!(patient.message(), "sleep 100");
    patient.expect_close(1000);
    patient.expect_fin();
    drop(patient);
    let mut peer = Client::open(server.address, "/worker");
    peer.text("sleep 700");
    let span = Span::begin();
    peer.close(1000);
    // Nothing from the handler, but the answer to the close.
    peer.expect_close(1000);
    span.took("close_send", ms(300));
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Peer(0), 2);
    eventually("the handlers were told", || recorder.closed().len() == 2);
    recorder.assert_whole(2);
    assert_balanced(&server);
    server.assert_in_time();
}

// FAULTS 5: neither a pong nor a ping overtakes the 101.
#[test]
fn a_ping_in_the_segment_of_the_upgrade_is_101_and_a_pong() {
    let pairs = [("heartbeat.interval", "1ms"), ("limits.pings_per_second", "1000")];
    let server = TestServer::serve(&pairs, routes(&Recorder::default()));
    for path in ["/inline", "/worker", "/slow"] {
        for _ in 0..20 {
            let mut peer = Client::connect(server.address);
            peer.send([upgrade_request(path, "").into_bytes(), frame(PING, b"early")].concat());
            assert_eq!(peer.read_answer().status, 101);
            while peer.see() != Seen::Frame(0x8A, b"early".to_vec()) {}
            if path == "/slow" {
                break;
            }
        }
    }
}

// FAULTS 5: the 101 is not dropped with what the fault makes useless.
#[test]
fn a_broken_frame_in_the_segment_of_the_upgrade_is_101_and_a_close() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    for path in ["/inline", "/worker", "/slow"] {
        let mut peer = Client::connect(server.address);
        peer.send([upgrade_request(path, "").into_bytes(), b"\x81\x00".to_vec()].concat());
        assert_eq!(peer.read_answer().status, 101);
        peer.expect_close(1002);
        peer.expect_fin();
    }
    server.expect_closed(CloseReason::Protocol, 3);
    eventually("the handlers were told", || recorder.closed().len() == recorder.told().len());
    assert_balanced(&server);
}

// FAULTS 76.
#[test]
fn a_peer_that_ends_its_side_still_gets_its_replies() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    for path in ["/inline", "/worker"] {
        let mut peer = Client::open(server.address, path);
        for text in ["sleep 50", "sleep 51", "last"] {
            peer.text(text);
        }
        peer.half_close();
        for text in ["sleep 50", "sleep 51", "last"] {
            assert_eq!(peer.message(), text);
        }
        peer.expect_fin();
    }
    server.expect_closed(CloseReason::Eof, 2);
    eventually("the handlers were told", || recorder.closed() == [CloseReason::Eof; 2]);
    recorder.assert_whole(2);
    assert_balanced(&server);
}

#[test]
fn a_peer_that_ends_its_side_does_not_wait_longer_than_close_send() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[("deadlines.close_send", "200ms")], routes(&recorder));
    let mut peer = Client::open(server.address, "/worker");
    peer.text("sleep 600");
    let span = Span::begin();
    peer.half_close();
    peer.expect_reset();
    span.took("close_send", ms(200));
    server.expect_closed(CloseReason::Eof, 1);
    eventually("the handler was told", || recorder.closed() == [CloseReason::Eof]);
    assert_balanced(&server);
}

#[test]
fn an_upgrade_and_fin_together_are_an_open_and_an_end() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    for path in ["/inline", "/slow", "/worker"] {
        let mut peer = Client::connect(server.address);
        peer.send(upgrade_request(path, "").as_bytes());
        peer.half_close();
        assert_eq!(peer.read_answer().status, 101);
        let span = Span::begin();
        peer.expect_fin();
        assert!(span.elapsed() < span.lateness_max(), "{path}: not left to a deadline");
    }
    server.expect_closed(CloseReason::Eof, 3);
    eventually("the handlers were told", || recorder.closed() == [CloseReason::Eof; 3]);
    recorder.assert_whole(3);
    assert_balanced(&server);
}

#[test]
fn a_request_and_fin_together_are_answered() {
    let server = TestServer::serve(&[], routes(&Recorder::default()));
    let mut peer = Client::connect(server.address);
    peer.send([get_request("/", ""), get_request("/", "")].concat().as_bytes());
    peer.half_close();
    assert_eq!(peer.read_answer().status, 200);
    assert_eq!(peer.read_answer().status, 200);
    peer.expect_fin();
    server.expect_closed(CloseReason::Done, 1);
    assert_balanced(&server);
}

#[test]
fn a_peer_that_hangs_up_without_a_close_frame_is_eof() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    drop(Client::connect(server.address));
    let mut half = Client::connect(server.address);
    half.send(b"GET / HT");
    drop(half);
    drop(Client::open(server.address, "/inline"));
    let mut half = Client::open(server.address, "/inline");
    half.send(&frame(0x81, b"half a message")[..9]);
    drop(half);
    server.expect_closed(CloseReason::Eof, 4);
    eventually("the handlers were told", || recorder.closed() == [CloseReason::Eof; 2]);
    recorder.assert_whole(2);
    assert_balanced(&server);
}

/// Brings a peer into a state; what is done before is asserted, so that the state is really
/// reached.
type Approach = fn(&TestServer, &Recorder) -> Client;

/// Every state that a connection can be in, and whether its handler has heard of it there.
const STATES: [(&str, bool, Approach); 16] = [
    ("accepted", false, |server, _| Client::connect(server.address)),
    ("in the head", false, |server, _| sent(server, b"GET / HTTP/1.1\r\nHost")),
    ("in the body", false, |server, _| {
        sent(server, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nfour")
    }),
    ("awaiting the verdict", false, |server, _| {
        sent(server, upgrade_request("/slow", "").as_bytes())
    }),
    ("in the answer", false, |server, _| {
        let mut peer = Client::connect_narrow(server.address);
        peer.send(get_request("/large", "").as_bytes());
        peer
    }),
    ("kept alive", false, |server, _| {
        let mut peer = sent(server, get_request("/", "").as_bytes());
        assert_eq!(peer.read_answer().status, 200);
        peer
    }),
    ("refused", false, |server, _| {
        let mut peer = sent(server, b"nonsense\r\n\r\n");
        assert_eq!(peer.read_answer().status, 400);
        peer
    }),
    ("open", true, |server, _| Client::open(server.address, "/inline")),
    ("in a message", true, |server, _| {
        let mut peer = Client::open(server.address, "/inline");
        peer.send(&frame(0x82, &[0; 5000])[..3000]);
        peer
    }),
    ("in the handler", true, |server, recorder| in_handler(server, recorder, "sleep 200")),
    ("not read from", true, |server, recorder| {
        let mut peer = in_handler(server, recorder, "sleep 201");
        peer.send(frame(0x81, b"one of many").repeat(1000));
        peer
    }),
    ("not reading", true, |server, _| {
        let mut peer = Client::open_narrow(server.address, "/inline");
        peer.text("flood 4000000");
        peer
    }),
    ("closing, in the handler", true, |server, recorder| {
        let mut peer = in_handler(server, recorder, "sleep 202");
        peer.close(1000);
        peer
    }),
    ("closing, not reading", true, |server, _| {
        let mut peer = Client::open_narrow(server.address, "/inline");
        peer.text("flood 4000000");
        peer.text("close");
        peer
    }),
    ("closing, not answering", true, |server, _| {
        let mut peer = Client::open(server.address, "/inline");
        peer.text("close");
        peer.expect_close(4001);
        peer
    }),
    ("closed but for its FIN", true, |server, _| {
        let mut peer = Client::open(server.address, "/inline");
        peer.close(1000);
        peer.expect_close(1000);
        peer.expect_fin();
        peer
    }),
];

fn sent(server: &TestServer, bytes: &[u8]) -> Client {
    let mut peer = Client::connect(server.address);
    peer.send(bytes);
    peer
}

fn in_handler(server: &TestServer, recorder: &Recorder, text: &str) -> Client {
    let mut peer = Client::open(server.address, "/worker");
    let before = recorder.count(&Told::Message(text.into()));
    peer.text(text);
    eventually("it is handled", || recorder.count(&Told::Message(text.into())) > before);
    peer
}

// FAULTS 75.
#[test]
fn a_reset_in_any_state_is_one_end() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let neighbour = Neighbour::start(server.address);
    let mut told = 0;
    for round in 0..common::timing::rounds(2) {
        for (state, is_told, approach) in STATES {
            let ended = server.stats().closed_total();
            let peer = approach(&server, &recorder);
            // Where nothing comes back, the server is given the time to get there.
            thread::sleep(ms(10));
            peer.reset();
            let span = Span::begin();
            eventually(state, || server.stats().closed_total() == ended + 1);
            assert!(span.elapsed() < span.lateness_max(), "{state}: not left to a deadline");
            told += usize::from(is_told);
            eventually(state, || recorder.closed().len() == told);
            if round == 0 {
                println!("reset while {state}: {:?}", server.ends());
            }
        }
    }
    recorder.assert_whole(told);
    neighbour.was_undisturbed();
    assert_balanced(&server);
    assert_eq!(server.stats().handler_panics, 0);
}

// FAULTS 75: the same, and nobody waits for anybody.
#[test]
fn resets_at_random_moments_are_one_end_each() {
    let recorder = Recorder::default();
    let server = TestServer::serve(&[], routes(&recorder));
    let rounds = common::timing::rounds(150);
    for round in 0..rounds {
        let mut peer = Client::connect(server.address);
        let script = [
            upgrade_request("/worker", "").into_bytes(),
            frame(0x81, b"hello"),
            frame(0x81, b"close"),
        ];
        let script = script.concat();
        peer.send(&script[..script.len() * round / rounds]);
        if round % 3 == 0 {
            thread::sleep(Duration::from_micros(200 * (round as u64 % 7)));
        }
        peer.reset();
    }
    eventually("all were accepted", || server.stats().accepted == rounds as u64);
    assert_balanced(&server);
    let stats = server.stats();
    eventually("the handlers were told", || recorder.closed().len() == recorder.told().len());
    println!("{} of {rounds} were opened, {} upgraded", recorder.told().len(), stats.upgraded);
    recorder.assert_whole(recorder.told().len());
}

// FAULTS 77.
#[test]
fn a_handler_may_close_at_any_moment() {
    for placement in ["inline", "worker"] {
        let recorder = Recorder::default();
        let builder =
            ["open", "message", "closed"].into_iter().fold(Server::builder(), |builder, moment| {
                let recorder = recorder.clone();
                let handler = move |peer: &Sender, event: Event| {
                    recorder.note(peer.id(), &event);
                    let now = match event {
                        Event::Opened(_) => "open",
                        Event::Message(_) => "message",
                        _ => "closed",
                    };
                    if now == moment {
                        // Once is enough; what more is said is not taken.
                        assert_eq!(peer.close(4001, now), Ok(()));
                        assert_eq!(peer.close(4002, now), Ok(()));
                        peer.send("too late");
                    }
                };
                let route = Route::websocket(format!("/{moment}"), handler);
                builder.route(if placement == "inline" { route.inline() } else { route })
            });
        let server = TestServer::serve(&[], builder);
        for moment in ["/open", "/message", "/closed"] {
            let mut peer = Client::open(server.address, moment);
            if moment != "/open" {
                peer.text("hello");
            }
            if moment == "/closed" {
                peer.close(1000);
                peer.expect_close(1000);
            } else {
                assert_eq!(peer.expect_close(4001), moment[1..]);
                peer.close(4001);
            }
            peer.expect_fin();
            drop(peer);
        }
        eventually("the handlers were told", || recorder.closed().len() == 3);
        recorder.assert_whole(3);
        server.expect_closed(CloseReason::Application(0), 2);
        server.expect_closed(CloseReason::Peer(0), 1);
        assert_eq!(server.stats().handler_panics, 0);
        assert_balanced(&server);
    }
}

// FAULTS 78.
#[test]
fn a_thousand_clients_stuck_in_closing_cost_hardly_any_time() {
    const CLIENTS: usize = 1000;
    let is_closing = Arc::new(AtomicBool::new(false));
    let close = is_closing.clone();
    let bye = move |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            close.store(true, Ordering::Relaxed);
            peer.close(4001, "").unwrap();
        }
    };
    let routes = Server::builder().route(Route::websocket("/bye", bye).inline());
    let server = TestServer::serve(&[("deadlines.close_ack", "20s")], routes);
    let mut stuck = Vec::new();
    for _ in 0..CLIENTS {
        let mut peer = Client::open(server.address, "/bye");
        peer.text("leave me");
        stuck.push(peer);
    }
    for peer in &mut stuck {
        peer.expect_close(4001);
    }
    assert_eq!(server.open(), CLIENTS);
    let (before, span) = (cpu_of(server.tid()), Span::begin());
    thread::sleep(ms(2000));
    let used = cpu_of(server.tid()) - before;
    let share = used.as_secs_f64() / span.elapsed().as_secs_f64();
    println!("the loop used {used:?}, {:.3} % of the time", share * 100.0);
    assert!(share < 0.02, "{share}");
    assert_eq!(server.open(), CLIENTS);
}
