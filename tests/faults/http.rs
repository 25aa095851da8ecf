//! Requests that are malformed, too long, too slow, or never read the answers to.

use std::thread;
use std::time::{Duration, Instant};

use heartwheel::Builder;
use heartwheel::http::Response;
use heartwheel::stats::DeadlineKind;
use heartwheel::{CloseReason, Route, app};

use crate::common::client::{Client, End, is_timeout};
use crate::common::http::{get_request, upgrade_request};
use crate::common::server::TestServer;
use crate::common::timing::{TICK, assert_took, assert_took_between, optimized, quiet, rounds_of};

/// Adds `POST /length`, which answers how long the body is.
fn with_post(builder: Builder) -> Builder {
    builder.post("/length", |request| Response::new(200).text(request.body().len().to_string()))
}

/// Asserts that each of these is answered with its status, and that the connection ends.
#[track_caller]
fn assert_all_refused(cases: &[(Vec<u8>, u16)]) {
    let server = TestServer::start_with(&[], with_post);
    for (request, status) in cases {
        println!("{}", request[..request.len().min(80)].escape_ascii());
        let mut client = Client::connect(server.address);
        client.send(request);
        let response = client.assert_refused(*status);
        assert_eq!(response.text().lines().count(), 1, "{response:?}");
    }
    let stats = server.wait_closed(CloseReason::Done, cases.len() as u64);
    let refused = stats.answers[3] + stats.answers[4];
    assert_eq!((refused, stats.messages_received), (cases.len() as u64, 0));
    server.stop();
}

/// FAULTS 17.
#[test]
fn long_header_block_is_answered_431() {
    let long = get_request("/", &format!("X-Long: {}\r\n", "x".repeat(20_000)));
    let many = get_request("/", &"X: y\r\n".repeat(100));
    assert_all_refused(&[(long.into(), 431), (many.into(), 431)]);
}

/// FAULTS 17.
#[test]
fn dripped_header_block_is_answered_431_at_its_limit() {
    let server = TestServer::start(&[("limits.head_bytes", "4k")]);
    let mut client = Client::connect(server.address);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
    while !client.has_ended() && client.try_send("x".repeat(100)).is_ok() {
        thread::sleep(Duration::from_millis(2));
    }
    client.assert_refused(431);
    let stats = server.wait_closed(CloseReason::Done, 1);
    println!("{} bytes were read of a head of at most 4096", stats.received_bytes);
    assert!((4096..4096 + 400).contains(&stats.received_bytes), "{}", stats.received_bytes);
    assert_eq!(stats.answers, [0, 0, 0, 1, 0]);
    server.stop();
}

/// FAULTS 20.
#[test]
fn malformed_lines_are_answered_400_and_closed() {
    let whole = get_request("/", "X-A: b\r\n");
    let cases = [
        whole.replace("\r\n", "\n"),
        whole.replace("X-A: b\r\n", "X-A: b\rc\r\n"),
        whole.replace("X-A: b\r\n", "X-A: b\r\n c\r\n"),
        whole.replace("X-A: b", "X-A : b"),
        whole.replace("X-A: b", "X-A: b\0"),
        whole.replace("X-A: b", "X-A: \x07"),
        whole.replace("X-A: b", "X-A b"),
        whole.replace("Host: localhost\r\n", ""),
        whole.replace("X-A: b", "Host: localhost"),
        whole.replace("GET ", "GE\tT "),
    ];
    assert_all_refused(&cases.map(|request| (request.into_bytes(), 400)));
}

/// FAULTS 21. Nothing of the body is answered as a request of its own.
#[test]
fn ambiguous_lengths_are_answered_400_and_closed() {
    let smuggled = get_request("/", "");
    let post = |lines: &str| {
        let head = format!("POST /length HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        (format!("{head}0\r\n\r\n{smuggled}").into_bytes(), 400)
    };
    assert_all_refused(&[
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n"),
        post("Content-Length: 5, 5\r\n"),
        post("Content-Length: +5\r\n"),
        post("Content-Length: 0x5\r\n"),
        post("Transfer-Encoding: chunked, chunked\r\n"),
        post("Transfer-Encoding: xchunked\r\n"),
    ]);
}

/// CONTRACT 5: what is understood but not done.
#[test]
fn unknown_codings_versions_and_long_bodies_are_refused() {
    let head = |lines: &str| {
        format!("POST /length HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
    };
    assert_all_refused(&[
        (head("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (head("Content-Length: 1048577\r\n"), 413),
        (head("Content-Length: 99999999999999999999\r\n"), 413),
        ([head("Transfer-Encoding: chunked\r\n"), b"100001\r\n".to_vec()].concat(), 413),
        (get_request("/", "").replace("HTTP/1.1", "HTTP/3.0").into(), 505),
    ]);
}

/// FAULTS 22. The loop thread's own CPU time, the least of a few attempts.
#[test]
fn long_chunk_size_is_answered_400_at_once() {
    let server = TestServer::start_with(&[], with_post);
    let head = "POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut least = Duration::MAX;
    for round in 1..=5 {
        let mut client = Client::connect(server.address);
        client.send(head);
        let length = head.len() as u64;
        let before = server
            .wait_until(|seen| seen.stats.received_bytes >= (round - 1) * (length + 1000) + length);
        client.send("f".repeat(1000));
        client.assert_refused(400);
        let after = server.wait_until(|seen| seen.stats.closed_total() == round);
        least = least.min(after.cpu - before.cpu);
    }
    println!("{least:?}");
    assert!(least < optimized(Duration::from_millis(1)), "{least:?}");
    server.wait_closed(CloseReason::Done, 5);
    server.stop();
}

/// FAULTS 23. The table of target.rs.
#[test]
fn strange_targets_get_their_documented_answer() {
    let server = TestServer::start(&[]);
    let long = format!("/{}", "x".repeat(8 << 10));
    let cases = [
        ("http://localhost/", 200),
        ("HTTP://localhost/?q", 200),
        ("http://evil.example/", 421),
        ("/../etc/passwd", 404),
        ("//", 404),
        ("/%C3%A9", 404),
        ("*", 400),
        ("localhost:80", 400),
        ("/#fragment", 400),
        ("/%00", 400),
        ("/%ff", 400),
        ("/%zz", 400),
        (&long, 431),
    ];
    for (target, status) in cases {
        let mut client = Client::connect(server.address);
        client.send(get_request(target, "Connection: close\r\n"));
        let response = client.assert_refused(status);
        println!("{:.40}: {}", target, response.status);
    }
    let mut client = Client::connect(server.address);
    client.send(b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.assert_refused(400);
    let stats = server.wait_closed(CloseReason::Done, cases.len() as u64 + 1);
    assert_eq!(stats.answers, [0, 2, 0, 12, 0]);
    server.stop();
}

/// FAULTS 24. The embedder is told, and the line is not on the wire.
#[test]
fn line_break_in_a_response_header_is_an_error_of_the_api() {
    let server = TestServer::start_with(&[], |builder| {
        builder.get("/header", |_| {
            let mut response = Response::new(200);
            for value in ["a\r\nSet-Cookie: evil=1", "a\nb", "a\rb", "a\0b"] {
                let refused = response.clone().header("X-Value", value);
                assert!(refused.is_err(), "{value:?}");
            }
            assert!(response.clone().header("X-Na\r\nme", "a").is_err());
            response = response.header("X-Value", "plain").expect("nothing is wrong with it");
            response.text("checked\n")
        })
    });
    let response = Client::connect(server.address).get("/header");
    assert_eq!((response.status, response.text()), (200, "checked\n"));
    assert_eq!(response.header("x-value"), Some("plain"));
    assert!(!response.head.contains("evil"));
    assert_eq!(server.stop().handler_panics, 0);
}

/// FAULTS 25.
#[test]
fn empty_lines_before_the_request_line_are_answered_400_after_a_few() {
    assert_all_refused(&[(b"\r\n".repeat(10_000), 400)]);
}

/// FAULTS 26.
#[test]
fn subprotocols_are_answered_by_one_that_is_configured_or_not_at_all() {
    let server = TestServer::start_with(&[], |builder| {
        builder.route(Route::websocket("/spoken", app::echo).protocol("v2").protocol("v1"))
    });
    let cases = [
        ("/spoken", "v1, v2", Some("v1")),
        ("/spoken", "v3,v2", Some("v2")),
        ("/spoken", "V1", None),
        ("/spoken", "v3", None),
        ("/echo", "v1", None),
    ];
    for (path, offered, answered) in cases {
        let mut client = Client::connect(server.address);
        client.send(upgrade_request(path, &format!("Sec-WebSocket-Protocol: {offered}\r\n")));
        let response = client.read_upgrade();
        assert_eq!(response.header("sec-websocket-protocol"), answered, "{offered}");
    }
    assert_eq!(server.stop().upgraded, 5);
}

/// FAULTS 27. Answers of 16 KiB to one who reads none: reading pauses, so that only what the kernel
/// holds and one answer is ever made, and the peer is dropped.
#[test]
fn pipelined_requests_without_reading_end_by_write_stall() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("deadlines.write_stall", "300ms")], |builder| {
        builder.get("/large", |_| Response::new(200).text("x".repeat(16 << 10)))
    });
    let began = Instant::now();
    let mut client = Client::connect_narrow(server.address);
    client.send(get_request("/large", "").repeat(1000));
    let stalled = server.wait_until(|seen| seen.connections == 1 && seen.stats.answers[1] > 1);
    println!("{} answers made", stalled.stats.answers[1]);
    let stats = server.wait_closed(CloseReason::WriteStall, 1);
    assert_took(began, Duration::from_millis(300));
    println!("{} of 1000 requests answered", stats.answers[1]);
    assert!(stats.answers[1] < 100, "{:?}", stats.answers);
    assert!(stats.queued_bytes - stats.sent_bytes <= 17 << 10, "one answer waits at the most");
    assert_eq!(stats.fired(DeadlineKind::WriteStall), 1);
    assert_eq!(client.read_to_end().1, End::Reset);
    server.stop();
}

/// CONTRACT 2, `body`.
#[test]
fn slow_body_is_answered_408_at_the_body_deadline() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("deadlines.body", "300ms")], with_post);
    let mut client = Client::connect(server.address);
    let began = Instant::now();
    client.send("POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    client.drip(&[b'x'; 1000], Duration::from_millis(20));
    assert_took(began, Duration::from_millis(300));
    client.assert_refused(408);
    let stats = server.wait_closed(CloseReason::Body, 1);
    assert_eq!((stats.fired(DeadlineKind::Body), stats.answers), (1, [0, 0, 0, 1, 0]));
    server.stop();
}

/// CONTRACT 2, `keep_alive`.
#[test]
fn connection_without_a_further_request_is_closed_at_the_keep_alive_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.keep_alive", "300ms")]);
    let mut client = Client::connect(server.address);
    let began = Instant::now();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    assert_took(began, Duration::from_millis(300));
    drop(client);
    let stats = server.wait_closed(CloseReason::KeepAlive, 1);
    assert_eq!(stats.fired(DeadlineKind::KeepAlive), 1);
    server.stop();
}

/// CONTRACT 5: where a request cannot be read on, what still comes is discarded for `close_ack`, so
/// that no reset takes the answer away; then the peer is dropped.
#[test]
fn refused_peer_that_keeps_sending_gets_its_answer_and_is_dropped_at_close_ack() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("deadlines.close_ack", "300ms")], with_post);
    let mut client = Client::connect(server.address);
    let began = Instant::now();
    client.send("POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n");
    let mut sent = 0;
    while client.try_send([0; 10_000]).is_ok() {
        sent += 10_000;
        thread::sleep(TICK);
    }
    println!("{sent} bytes were sent after the refusal");
    assert_took(began, Duration::from_millis(300));
    // The answer arrived before the reset: it is still there to be read.
    assert_eq!(client.read_answer().status, 413);
    let stats = server.wait_closed(CloseReason::Done, 1);
    assert_eq!((stats.fired(DeadlineKind::CloseAck), stats.answers), (1, [0, 0, 0, 1, 0]));
    server.stop();
}

/// The end of one peer's request is not waited for by another: each drips its own.
#[test]
fn many_slow_requests_are_each_answered() {
    let server = TestServer::start(&[]);
    let request = get_request("/", "");
    let mut clients: Vec<_> =
        (0..rounds_of(50, 500)).map(|_| Client::connect(server.address)).collect();
    for byte in request.bytes() {
        for client in &mut clients {
            client.send([byte]);
        }
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().status, 200);
    }
    let count = clients.len() as u64;
    assert_eq!(server.stop().answers, [0, count, 0, 0, 0]);
}

/// A peer that reads its answer byte by byte is not one that does not read.
#[test]
fn slow_reader_of_a_large_answer_is_not_dropped() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("deadlines.write_stall", "2s")], |builder| {
        builder.get("/large", |_| Response::new(200).text("x".repeat(300 << 10)))
    });
    let mut client = Client::connect_narrow(server.address);
    client.send(get_request("/large", ""));
    let began = Instant::now();
    let mut left = 300 << 10;
    while left > 0 {
        let piece = client.read_exact(left.min(4 << 10));
        left -= piece.len();
        thread::sleep(3 * TICK);
    }
    assert_took_between(began, Duration::from_secs(2), Duration::from_secs(20));
    let error = client.stream.peek(&mut [0]);
    assert!(!error.is_err_and(|error| !is_timeout(&error)));
    assert_eq!(server.snapshot().stats.closed_by(CloseReason::WriteStall), 0);
    server.stop();
}
