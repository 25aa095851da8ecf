//! From accept to the answer to the first request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::http::Refusal;
use heartwheel::stats::DeadlineKind;
use heartwheel::{Accept, CloseReason, Route, app};

use crate::common::client::{Client, End};
use crate::common::frame::{BINARY, PING, PONG, TEXT, frame};
use crate::common::http::{KEY, get_request, upgrade_request};
use crate::common::lag;
use crate::common::server::TestServer;
use crate::common::timing::{
    TICK, alone, assert_took, assert_took_between, optimized, percentile, quiet, rounds_of,
};

const DEADLINE: Duration = Duration::from_millis(300);

/// FAULTS 1. Nothing but FIN: who has not said a word is not answered.
#[test]
fn silent_connection_is_closed_at_the_handshake_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.handshake", "300ms")]);
    let began = Instant::now();
    let mut client = Client::connect(server.address);
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    assert_took(began, DEADLINE);
    drop(client);
    let stats = server.wait_closed(CloseReason::Handshake, 1);
    assert_eq!((stats.fired(DeadlineKind::Handshake), stats.answers), (1, [0; 5]));
    server.stop();
}

/// FAULTS 2.
#[test]
fn slow_header_is_closed_at_the_handshake_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.handshake", "300ms")]);
    let began = Instant::now();
    let mut client = Client::connect(server.address);
    client.drip(upgrade_request("/echo", "").as_bytes(), Duration::from_millis(20));
    assert_took(began, DEADLINE);
    client.assert_refused(408);
    let stats = server.wait_closed(CloseReason::Handshake, 1);
    assert_eq!((stats.fired(DeadlineKind::Handshake), stats.answers), (1, [0, 0, 0, 1, 0]));
    server.stop();
}

/// FAULTS 2, on a connection that has been answered before: the deadline counts from the first
/// byte.
#[test]
fn slow_header_of_a_later_request_is_closed_at_the_handshake_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.handshake", "300ms")]);
    let mut client = Client::connect(server.address);
    assert_eq!(client.get("/").status, 200);
    thread::sleep(DEADLINE);
    let began = Instant::now();
    client.drip(get_request("/", "").as_bytes(), Duration::from_millis(20));
    assert_took(began, DEADLINE);
    client.assert_refused(408);
    let stats = server.wait_closed(CloseReason::Handshake, 1);
    assert_eq!((stats.fired(DeadlineKind::Handshake), stats.answers), (1, [0, 1, 0, 1, 0]));
    server.stop();
}

/// CONTRACT 2, `handshake`: where the handler is late the client is not to blame.
#[test]
fn slow_verdict_is_answered_503_at_the_handshake_deadline() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("deadlines.handshake", "300ms")], |builder| {
        builder.route(Route::websocket("/slow", app::echo).authorize(|_| {
            thread::sleep(DEADLINE * 2);
            Ok(Accept::default())
        }))
    });
    let began = Instant::now();
    let mut client = Client::connect(server.address);
    client.send(upgrade_request("/slow", ""));
    let response = client.assert_refused(503);
    assert_took(began, DEADLINE);
    assert!(response.header("retry-after").is_some());
    let stats = server.wait_closed(CloseReason::Handshake, 1);
    assert_eq!((stats.fired(DeadlineKind::Handshake), stats.upgraded), (1, 0));
    server.stop();
}

/// FAULTS 3.
#[test]
fn silent_connections_do_not_delay_an_honest_one() {
    let _alone = alone();
    let server = TestServer::start(&[]);
    let silent: Vec<_> =
        (0..rounds_of(1000, 5000)).map(|_| Client::connect(server.address)).collect();
    let began = Instant::now();
    let mut client = Client::open(server.address, "/echo");
    assert_took_between(began, Duration::ZERO, Duration::from_millis(500));
    client.assert_echo(TEXT, b"still here");
    let seen = server.wait_until(|seen| seen.connections == silent.len() + 1);
    assert_eq!((seen.stats.accepted, seen.stats.closed_total()), (silent.len() as u64 + 1, 0));
    server.stop();
}

/// FAULTS 3. A slot and a wheel entry; the socket's own memory is the kernel's.
#[cfg(feature = "program")]
#[test]
fn silent_connections_cost_a_kilobyte_each_at_most() {
    let _alone = alone();
    let server = crate::common::program::Program::start(&[("deadlines.handshake", "1m")]);
    let (descriptors, memory) = (server.descriptors_at_rest(), server.memory());
    let count = rounds_of(2000, 5000);
    let silent: Vec<_> = (0..count).map(|_| Client::connect(server.address)).collect();
    server.wait_descriptors(descriptors + silent.len());
    let each = server.memory().saturating_sub(memory) / count as u64;
    println!("{each} bytes for each of {count} silent connections");
    assert!(each <= 1024, "{each} bytes");
}

/// FAULTS 4, with the next test. At each byte of the request, by FIN and by reset.
#[test]
fn disconnect_at_every_byte_of_the_handshake_is_counted_once() {
    let _alone = alone();
    let server = TestServer::start(&[]);
    let mut count = 0;
    for round in 0..rounds_of(2, 64) {
        count += disconnect_at_every_byte(server.address, round % 2 == 0);
    }
    let stats = server.wait_until(|seen| seen.stats.closed_total() == count).stats;
    let silent_ends = [CloseReason::Eof, CloseReason::Reset].map(|reason| stats.closed_by(reason));
    println!("{count} ends, by EOF and reset: {silent_ends:?}");
    assert_eq!((silent_ends.iter().sum::<u64>(), stats.accepted), (count, count));
    assert_eq!(server.snapshot().connections, 0);
    server.stop();
}

/// FAULTS 4.
#[cfg(feature = "program")]
#[test]
fn disconnect_at_every_byte_of_the_handshake_loses_no_descriptor() {
    let _alone = alone();
    let server = crate::common::program::Program::start(&[]);
    let descriptors = server.descriptors_at_rest();
    for round in 0..rounds_of(2, 64) {
        disconnect_at_every_byte(server.address, round % 2 == 0);
    }
    server.wait_descriptors(descriptors);
}

/// Gives the number of connections that were made.
fn disconnect_at_every_byte(address: std::net::SocketAddr, resets: bool) -> u64 {
    let request = upgrade_request("/echo", "");
    for end in 0..=request.len() {
        let mut client = Client::connect(address);
        client.send(&request[..end]);
        if resets {
            client.reset();
        }
    }
    request.len() as u64 + 1
}

/// FAULTS 5.
#[test]
fn frames_behind_the_upgrade_request_are_answered_after_the_101() {
    let server = TestServer::start(&[]);
    let frames = [frame(TEXT, b"one"), frame(PING, b"two"), frame(BINARY, b"three")].concat();
    for path in ["/echo", "/inline"] {
        let mut client = Client::connect(server.address);
        client.send([upgrade_request(path, "").as_bytes(), &frames].concat());
        client.read_upgrade();
        let mut answers: Vec<_> = (0..3).map(|_| client.read_frame()).collect();
        // The pong goes ahead of the messages that wait, or not: both are right.
        answers.sort_by_key(|answer| answer.first);
        let answers: Vec<_> = answers.iter().map(|a| (a.first, a.payload.as_slice())).collect();
        assert_eq!(answers, [(TEXT, &b"one"[..]), (BINARY, b"three"), (PONG, b"two")]);
    }
    server.stop();
}

/// FAULTS 6. What follows the upgrade is frames: `G` bears a reserved bit.
#[test]
fn request_behind_an_upgrade_is_never_answered_as_http() {
    let server = TestServer::start(&[]);
    let mut client = Client::connect(server.address);
    client.send(upgrade_request("/echo", "") + &get_request("/", ""));
    client.read_upgrade();
    client.assert_closed(1002);
    let stats = server.wait_closed(CloseReason::Protocol, 1);
    assert_eq!(stats.answers, [1, 0, 0, 0, 0]);
    server.stop();
}

/// FAULTS 7.
#[test]
fn wrong_version_is_answered_426_and_closed() {
    let server = TestServer::start(&[]);
    let mut client = Client::connect(server.address);
    client.send(upgrade_request("/echo", "").replace("Version: 13", "Version: 12"));
    let response = client.assert_refused(426);
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    let stats = server.wait_closed(CloseReason::Done, 1);
    assert_eq!((stats.answers, stats.upgraded), ([0, 0, 0, 1, 0], 0));
    server.stop();
}

/// FAULTS 8.
#[test]
fn missing_duplicate_or_short_key_is_answered_400_and_closed() {
    let server = TestServer::start(&[]);
    let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
    for wrong in ["".into(), line.repeat(2), "Sec-WebSocket-Key: c2hvcnQ=\r\n".into()] {
        let mut client = Client::connect(server.address);
        client.send(upgrade_request("/echo", "").replace(&line, &wrong));
        client.assert_refused(400);
    }
    let stats = server.wait_closed(CloseReason::Done, 3);
    assert_eq!((stats.answers, stats.upgraded), ([0, 0, 0, 3, 0], 0));
    server.stop();
}

/// FAULTS 8.
#[cfg(feature = "program")]
#[test]
fn refused_upgrades_leave_no_memory_behind() {
    let _alone = alone();
    let server = crate::common::program::Program::start(&[]);
    let request = upgrade_request("/echo", "").replace(KEY, "c2hvcnQ=");
    let refuse = |count| {
        for _ in 0..count {
            let mut client = Client::connect(server.address);
            client.send(&request);
            client.assert_refused(400);
        }
    };
    refuse(500);
    let memory = server.memory();
    let count = rounds_of(1000, 100_000);
    refuse(count);
    let grown = server.memory().saturating_sub(memory);
    println!("{grown} bytes after {count} refusals");
    assert!(grown < 64 * 1024, "{grown} bytes");
}

/// FAULTS 9. The table of origins.rs; here it counts that no handler hears of it.
#[test]
fn foreign_origin_is_answered_403_before_any_handler() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let server = TestServer::start_with(&[], |builder| {
        builder.route(Route::websocket("/asked", app::echo).authorize(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Accept::default())
        }))
    });
    let port = server.address.port();
    let host = format!("Host: localhost:{port}");
    let request = |origin: &str| {
        upgrade_request("/asked", &format!("Origin: {origin}\r\n"))
            .replace("Host: localhost", &host)
    };
    let foreign = [
        "http://evil.example".into(),
        format!("http://localhost.evil.example:{port}"),
        format!("http://evil-localhost:{port}"),
        "null".into(),
        "http://localhost:1".into(),
        "http://localhost".into(),
        format!("http://localhost:{port}\r\nOrigin: http://localhost:{port}"),
    ];
    for origin in &foreign {
        let mut client = Client::connect(server.address);
        client.send(request(origin));
        client.assert_refused(403);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let stats = server.wait_closed(CloseReason::Done, foreign.len() as u64);
    assert_eq!((stats.answers[3], stats.upgraded), (foreign.len() as u64, 0));
    let mut own = Client::connect(server.address);
    own.send(request(&format!("http://localhost:{port}")));
    own.read_upgrade();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    server.stop();
}

/// FAULTS 10.
#[test]
fn foreign_host_is_answered_421() {
    let server = TestServer::start(&[]);
    for request in [upgrade_request("/echo", ""), get_request("/", "Connection: close\r\n")] {
        let mut client = Client::connect(server.address);
        client.send(request.replace("Host: localhost", "Host: rebound.example"));
        let response = client.assert_refused(421);
        assert!(response.text().contains("admission.hosts"), "{response:?}");
    }
    let stats = server.wait_closed(CloseReason::Done, 2);
    assert_eq!((stats.answers, stats.upgraded), ([0, 0, 0, 2, 0], 0));
    server.stop();
}

/// FAULTS 11. The loop thread's own CPU time, the least of a few attempts: what else runs here does
/// not count.
#[test]
fn eight_kilobytes_of_commas_are_decided_on_at_once() {
    let server = TestServer::start_with(&[("limits.head_bytes", "16k")], |builder| {
        builder.route(Route::websocket("/spoken", app::echo).protocol("chat").inline())
    });
    let line = format!("Sec-WebSocket-Protocol: {}\r\n", " ,".repeat(4096));
    let mut least = Duration::MAX;
    for round in 1..=5 {
        let mut client = Client::connect(server.address);
        let before = server.wait_until(|seen| seen.stats.accepted == round);
        client.send(upgrade_request("/spoken", &line));
        assert_eq!(client.read_upgrade().header("sec-websocket-protocol"), None);
        let after = server.wait_until(|seen| seen.stats.upgraded == round);
        least = least.min(after.cpu - before.cpu);
    }
    println!("{least:?}");
    assert!(least < optimized(Duration::from_millis(1)), "{least:?}");
    server.stop();
}

/// FAULTS 12.
#[test]
fn strange_extensions_are_declined_and_the_connection_works() {
    let server = TestServer::start(&[("limits.head_bytes", "64k")]);
    let many = format!("permessage-deflate{}", "; constructor=\"__proto__\"".repeat(500));
    for extensions in
        [&many, "constructor", "permessage-deflate; server_max_window_bits=abc", ",;="]
    {
        let mut client = Client::connect(server.address);
        let line = format!("Sec-WebSocket-Extensions: {extensions}\r\n");
        client.send(upgrade_request("/echo", &line));
        client.read_upgrade();
        client.assert_echo(TEXT, b"plain");
    }
    assert_eq!(server.stop().upgraded, 4);
}

/// FAULTS 14.
#[test]
fn other_protocols_on_the_port_get_a_clean_error() {
    let _quiet = quiet();
    let server = TestServer::start(&[]);
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20);
    let old_upgrade = upgrade_request("/echo", "").replace("HTTP/1.1", "HTTP/1.0");
    let cases: [(&[u8], u16); 5] = [
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (old_upgrade.as_bytes(), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (&tls_hello, 400),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    ];
    for (bytes, status) in cases {
        let began = Instant::now();
        let mut client = Client::connect(server.address);
        client.send(bytes);
        client.assert_refused(status);
        assert_took_between(began, Duration::ZERO, Duration::from_secs(1));
    }
    let stats = server.wait_closed(CloseReason::Done, 5);
    assert_eq!(stats.answers, [0, 1, 0, 3, 1]);
    server.stop();
}

/// FAULTS 15.
#[test]
fn upgrade_with_a_body_is_answered_400_and_closed() {
    let server = TestServer::start(&[]);
    let length = upgrade_request("/echo", "Content-Length: 5\r\n") + "hello";
    let chunked = upgrade_request("/echo", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n";
    for request in [length, chunked] {
        let mut client = Client::connect(server.address);
        client.send(request);
        client.assert_refused(400);
    }
    let stats = server.wait_closed(CloseReason::Done, 2);
    assert_eq!((stats.answers, stats.upgraded), ([0, 0, 0, 2, 0], 0));
    server.stop();
}

/// FAULTS 16. Upgrades that a worker refuses come at a thousand a second beside peers whose round
/// trips are measured.
#[test]
fn failing_authorizations_do_not_delay_established_peers() {
    let _alone = alone();
    let server = TestServer::start_with(&[("limits.pings_per_second", "1000")], |builder| {
        builder.route(
            Route::websocket("/locked", app::echo)
                .authorize(|_| Err(Refusal::new(401, "a token is needed"))),
        )
    });
    let address = server.address;
    let mut peers: Vec<_> = (0..10).map(|_| Client::open(address, "/echo")).collect();
    let count = rounds_of(500, 60_000) as u32;
    let began = Instant::now();
    let attempts = thread::spawn(move || {
        for index in 0..count {
            let mut client = Client::connect(address);
            client.send(upgrade_request("/locked", ""));
            let response = client.assert_refused(401);
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            let due_at = began + Duration::from_millis(1) * index;
            thread::sleep(due_at.saturating_duration_since(Instant::now()));
        }
        began.elapsed()
    });
    let mut round_trips = Vec::new();
    while !attempts.is_finished() {
        for peer in &mut peers {
            let began = Instant::now();
            peer.send(frame(PING, b"?"));
            assert_eq!(peer.read_frame().first, PONG);
            round_trips.push(began.elapsed());
        }
        thread::sleep(TICK);
    }
    let took = attempts.join().expect("every attempt was answered 401");
    let p99 = percentile(&mut round_trips, 99);
    println!("{count} refusals in {took:?}, p99 of {} pongs: {p99:?}", round_trips.len());
    assert!(p99 < Duration::from_millis(50) + lag::worst(), "{p99:?}");
    assert_eq!(server.stop().answers, [10, 0, 0, count.into(), 0]);
}
