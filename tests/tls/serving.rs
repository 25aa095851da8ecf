//! Servers over TLS do what servers do.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::{Builder, CloseReason, Config, Event, Handle, Peer};
use rustls::HandshakeKind;
use rustls::client::Resumption;

use super::anyone::Anyone;
use super::client::{TlsClient, borrowed, chain, config, file, settings};
use crate::common::frame;
use crate::common::server::TestServer;
use crate::common::timing::{Span, optimized, percentile};

fn start(more: &[(&'static str, &str)]) -> TestServer {
    start_with(more, |builder| builder)
}

pub fn start_with(
    more: &[(&'static str, &str)],
    routes: impl FnOnce(Builder) -> Builder,
) -> TestServer {
    let more: Vec<_> = more.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    TestServer::start_with(&borrowed(&settings(&more)), routes)
}

#[test]
fn echoes_come_back_with_and_without_workers() {
    for workers in ["2", "0"] {
        let server = start(&[("workers", workers)]);
        let mut client = TlsClient::upgraded(server.address, "/echo");
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            client.assert_echo(&vec![len as u8; len]);
        }
        let answer = TlsClient::connect(server.address).get("/");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello\n"), "{answer}");
        drop(client);
        server.stop();
    }
}

/// What stands ready in pipes is read, and sealed as all else is.
#[test]
fn files_come_whole() {
    let folder = std::env::temp_dir().join(format!("heartwheel-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let text: String = (0..100_000).map(|number| format!("{number:06}\n")).collect();
    for workers in ["2", "0"] {
        let server =
            start_with(&[("workers", workers)], |builder| builder.files("/files", &folder));
        for len in [100, 32 * 1024, 128 * 1024 + 1, text.len()] {
            fs::write(folder.join("file"), &text[..len]).unwrap();
            let answer = TlsClient::connect(server.address).get("/files/file");
            assert!(answer.split_once("\r\n\r\n").unwrap().1 == &text[..len], "{len} bytes");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn echoes_come_back_through_a_narrow_budget_and_in_fragments_of_records() {
    // Less than a record may be read at once: the rest of its plaintext waits for its turn.
    let server = start(&[("turn.bytes", "1000"), ("limits.bytes_per_second", "200k")]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    client.assert_echo(&[7; 60_000]);
    let mut bytes = Vec::new();
    client.stream.conn.writer().write_all(&frame::frame(0x82, &[8; 100])).unwrap();
    client.stream.conn.write_tls(&mut bytes).unwrap();
    for byte in bytes {
        client.stream.sock.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.read_frame(), (0x82, vec![8; 100]));
    drop(client);
    server.stop();
}

#[test]
fn every_suite_is_spoken_and_only_those_that_are_named() {
    let names =
        ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for name in names {
        let server = start(&[("tls.ciphers", name)]);
        let mut client = TlsClient::upgraded(server.address, "/echo");
        client.assert_echo(&[3; 40_000]);
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.assert_echo(&[4; 400]);
        let suite = client.stream.conn.negotiated_cipher_suite().unwrap();
        assert_eq!(format!("{:?}", suite.suite()), format!("TLS13_{}", &name[4..]));
        drop(client);
        server.stop();
    }
}

#[test]
fn topics_streams_and_hubs_are_served() {
    let server =
        start_with(&[], |builder| builder.topics("/topics/{topic}").hub("/ws").events("/events"));
    let address = server.address;
    let mut stream = TlsClient::connect(address);
    stream.send("GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(stream.read_head().starts_with("HTTP/1.1 200 "));
    let mut hub = TlsClient::connect(address);
    let offer = "Sec-WebSocket-Protocol: heartwheel.v1\r\n";
    hub.send(crate::common::http::upgrade_request("/ws", offer));
    assert!(hub.read_head().starts_with("HTTP/1.1 101 "));
    hub.read_frame();
    hub.send(frame::frame(0x81, br#"{"op":"subscribe","topic":"a"}"#));
    hub.read_frame();
    for round in 0..20 {
        let mut publisher = TlsClient::connect(address);
        let body = format!("event {round}");
        let request = format!(
            "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        publisher.send(request);
        let answer = String::from_utf8(publisher.read_to_end().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        stream.read_until(&format!("data: {body}\n"));
        let (_, message) = hub.read_frame();
        assert!(String::from_utf8(message).unwrap().contains(&body));
    }
    drop((stream, hub));
    server.stop();
}

#[test]
fn refusals_and_drains_are_told_inside_and_end_with_close_notify() {
    let server = start(&[("limits.head_bytes", "200"), ("deadlines.handshake", "3s")]);
    let address = server.address;
    let answer = TlsClient::connect(address).get(&"/x".repeat(200));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // The deadline of the head spans the handshake; what is said of it is said inside.
    let mut late = TlsClient::connect(address);
    let span = Span::begin();
    late.shake().unwrap();
    late.read_to_end().expect("it ends with close_notify");
    assert!(span.elapsed() < Duration::from_secs(5) + span.stalled());
    let mut open = TlsClient::upgraded(address, "/echo");
    open.assert_echo(b"before");
    server.handle.drain().unwrap();
    let (first, _) = open.read_frame();
    assert_eq!(first, 0x88);
    open.send(frame::close(1001, ""));
    assert_eq!(open.read_to_end().expect("it ends with close_notify"), b"");
}

/// FAULTS 139, 145.
#[test]
fn a_peer_that_does_not_read_is_ended_and_costs_no_wake_ups() {
    let server = start_with(&[("deadlines.write_stall", "400ms"), ("workers", "0")], |builder| {
        builder.topics("/topics/{topic}")
    });
    let mut client = TlsClient::connect(server.address);
    client.send("GET /topics/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    client.read_head();
    let turns = server.snapshot().stats.turns;
    let publish = |handle: &Handle| {
        let event = "x".repeat(60_000);
        while handle.publish("a", event.clone()).is_ok() {
            thread::sleep(Duration::from_millis(1));
            if server.snapshot().stats.closed_total() > 0 {
                break;
            }
        }
    };
    publish(&server.handle);
    let stats = server.wait_until(|seen| seen.stats.closed_total() == 1).stats;
    let ended = stats.closed_by(CloseReason::WriteStall) + stats.closed_by(CloseReason::Overflow);
    assert_eq!(ended, 1);
    assert!(stats.turns - turns < 5000, "{}", stats.turns - turns);
    drop(client);
}

#[test]
fn what_was_sent_arrives_whole_through_a_slow_reader() {
    let server = start(&[("limits.outbox_bytes", "4m"), ("limits.message_bytes", "4m")]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    let payload: Vec<u8> = (0..3_000_000u32).map(|at| (at * 7) as u8).collect();
    client.send(frame::frame(0x82, &payload));
    let mut got = vec![0; payload.len() + 10];
    let mut at = 0;
    while at < got.len() {
        let to = (at + 50_000).min(got.len());
        client.stream.read_exact(&mut got[at..to]).unwrap();
        at = to;
        if at % 500_000 < 50_000 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(got[10..] == payload, "nothing is lost, and nothing comes twice");
    drop(client);
    server.stop();
}

#[test]
fn sessions_are_resumed_by_tickets_and_not_after_who_may_come_has_changed() {
    let tls = [
        ("tls.client", "optional".to_owned()),
        ("tls.client_ca", file("ca.crt")),
        ("tls.ticket_keys", ticket_keys()),
    ];
    let tls: Vec<_> = tls.iter().map(|(name, text)| (*name, &**text)).collect();
    let mut client = config(Some("client"));
    client.resumption = Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    let kind = |address| {
        let mut peer = TlsClient::connect_with(address, &client, "localhost");
        peer.upgrade("/echo");
        peer.assert_echo(&[9; 20_000]);
        peer.stream.conn.handshake_kind().unwrap()
    };
    let server = start(&tls);
    assert_eq!(kind(server.address), HandshakeKind::Full);
    assert_eq!(kind(server.address), HandshakeKind::Resumed);
    // Another server with the same keys, as after a restart.
    let other = start(&tls);
    assert_eq!(kind(other.address), HandshakeKind::Resumed);
    let required = [tls.clone(), vec![("tls.client", "required")]].concat();
    let stricter = start(&required);
    assert_eq!(kind(stricter.address), HandshakeKind::Full, "others may come");
    for server in [server, other, stricter] {
        server.stop();
    }
}

fn ticket_keys() -> String {
    let path = std::env::temp_dir().join(format!("heartwheel-tickets-{}", std::process::id()));
    fs::write(&path, [5; 80]).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn clients_show_certificates_where_they_must() {
    let revoked = file("ca.crl");
    let ca = file("ca.crt");
    for (mode, who, is_let_in) in [
        ("off", None, true),
        ("optional", None, true),
        ("optional", Some("client"), true),
        ("optional", Some("stranger"), false),
        ("required", None, false),
        ("required", Some("client"), true),
        ("required", Some("revoked"), false),
        ("required", Some("expired"), false),
        ("required", Some("stranger"), false),
    ] {
        let mut more = vec![("tls.client", mode)];
        if mode != "off" {
            more.extend([("tls.client_ca", &*ca), ("tls.client_crl", &revoked)]);
        }
        let server = start(&more);
        let mut client =
            TlsClient::connect_with(server.address, &Arc::new(config(who)), "localhost");
        // A client of TLS 1.3 is done before the server has judged it.
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = client.read_to_end();
        let is_in = answer.as_ref().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "));
        assert_eq!(is_in, is_let_in, "{mode} {who:?} {answer:?}");
        if !is_let_in {
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("ertificate") || error.contains("CA"), "{mode} {who:?} {error}");
            server.wait_closed(CloseReason::Tls, 1);
        }
        server.stop();
    }
}

/// FAULTS 143.
#[test]
fn certificates_are_chosen_by_the_name_that_is_asked_for() {
    let folder = std::env::temp_dir().join(format!("heartwheel-sni-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["second.example.org", "*.example.net"] {
        fs::copy(file("second.crt"), folder.join(format!("{name}.crt"))).unwrap();
        fs::copy(file("second.key"), folder.join(format!("{name}.key"))).unwrap();
    }
    let server = start(&[("tls.sni", folder.to_str().unwrap())]);
    for (name, expected) in [
        ("localhost", "server.crt"),
        ("second.example.org", "second.crt"),
        ("SECOND.example.ORG", "second.crt"),
        ("third.example.org", "server.crt"),
        ("a.example.net", "second.crt"),
        ("b.a.example.net", "server.crt"),
    ] {
        let mut client = config(None);
        client.enable_sni = true;
        client.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let mut client = TlsClient::connect_with(server.address, &Arc::new(client), name);
        client.shake().unwrap();
        assert_eq!(client.stream.conn.peer_certificates().unwrap(), chain(expected), "{name}");
    }
    server.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// FAULTS 144.
#[test]
fn a_reload_gives_new_handshakes_the_new_certificate_and_drops_nobody() {
    let server = start(&[]);
    let mut open: Vec<_> = (0..20).map(|_| TlsClient::upgraded(server.address, "/echo")).collect();
    let reload = |certificate: &str, key: &str| {
        let mut next = Config::default();
        for (name, text) in settings(&[
            ("tls.certificate", file(certificate)),
            ("tls.key", file(key)),
            ("heartbeat.interval", "off".into()),
        ]) {
            next.set(name, &text).unwrap();
        }
        server.handle.reload(next)
    };
    let shown = |address: SocketAddr| {
        let mut client = config(None);
        client.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let mut client = TlsClient::connect_with(address, &Arc::new(client), "localhost");
        client.shake().unwrap();
        client.stream.conn.peer_certificates().unwrap()[0].clone()
    };
    let faults = reload("second.crt", "server.key").unwrap_err();
    assert!(faults[0].contains("tls.key = ") && faults[0].contains("does not fit"), "{faults:?}");
    assert!(reload("client.der", "server.key").unwrap_err()[0].contains("no certificate in PEM"));
    assert!(reload("nobody.crt", "server.key").unwrap_err()[0].contains("tls.certificate = "));
    assert_eq!(shown(server.address), chain("server.crt")[0]);
    reload("second.crt", "second.key").unwrap();
    assert_eq!(shown(server.address), chain("second.crt")[0]);
    open.iter_mut().for_each(|client| client.assert_echo(b"still here"));
    drop(open);
    server.stop();
}

#[test]
fn alpn_is_http_1_1_and_nothing_else() {
    let server = start(&[]);
    let with = |names: &[&str]| {
        let mut client = config(None);
        client.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = TlsClient::connect_with(server.address, &Arc::new(client), "localhost");
        let shaken = client.shake().map_err(|error| error.to_string());
        shaken.map(|()| client.stream.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(with(&[]), Ok(None));
    assert_eq!(with(&["h2", "http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
    assert!(with(&["h2"]).unwrap_err().contains("NoApplicationProtocol"));
    server.stop();
}

/// Asks on the operator's listener.
fn ask_operator(path: &Path, what: &str) -> String {
    let mut admin = UnixStream::connect(path).unwrap();
    let request = format!("GET {what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    admin.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    admin.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn figures_tell_handshakes_failures_and_dates() {
    let path = std::env::temp_dir().join(format!("heartwheel-tls-{}.sock", std::process::id()));
    let ask_operator = |what: &str| ask_operator(&path, what);
    let operator = format!("unix:{}", path.display());
    let server = start_with(&[("admin_listen", &operator)], Builder::operator);
    let mut open = TlsClient::upgraded(server.address, "/echo");
    open.assert_echo(b"x");
    let rows = ask_operator("/connections");
    assert!(rows.contains(r#""tls":{"version":"TLSv1.3","cipher":"TLS_"#), "{rows}");
    assert!(rows.contains(r#""kind":"full"}"#), "{rows}");
    drop(open);
    let mut plain = std::net::TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    plain.read_to_string(&mut String::new()).unwrap();
    server.wait_until(|seen| seen.stats.closed_total() == 3);
    let text = ask_operator("/metrics");
    for line in [
        "heartwheel_tls_handshake_seconds_count{kind=\"full\"} 1",
        "heartwheel_tls_handshake_failures_total{reason=\"http\"} 1",
        "heartwheel_tls_handshake_failures_total{reason=\"no_cipher\"} 0",
        "heartwheel_tls_reload_errors_total 0",
        "heartwheel_tls_handshaking 0",
        "heartwheel_tls_held_bytes 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}: {text}");
    }
    let until = "heartwheel_tls_certificate_not_after_seconds{name=\"default\"} ";
    let until = text.lines().find_map(|line| line.strip_prefix(until)).expect("it is there");
    assert!(until.parse::<u64>().unwrap() > 4_000_000_000, "{until}");
    server.stop();
}

/// Steps of handshakes are made by workers; where handlers keep all of them, by the loop.
#[test]
fn new_connections_come_in_while_all_workers_are_blocked() {
    let gate = Arc::new(Mutex::new(()));
    for workers in ["1", "2"] {
        let held = gate.lock().unwrap();
        let server = start_with(&[("workers", workers)], |builder| {
            let gate = gate.clone();
            builder.websocket("/blocked", move |_: &Peer, event: Event| {
                if matches!(event, Event::Message(_)) {
                    drop(gate.lock());
                }
            })
        });
        let mut blocked: Vec<_> =
            (0..4).map(|_| TlsClient::upgraded(server.address, "/blocked")).collect();
        blocked.iter_mut().for_each(|client| client.send(frame::frame(0x82, b"x")));
        server.wait_until(|seen| seen.stats.messages_received == 4);
        for _ in 0..40 {
            TlsClient::upgraded(server.address, "/inline").assert_echo(b"in");
        }
        drop(held);
        // The workers do it again.
        let mut last = TlsClient::upgraded(server.address, "/echo");
        last.assert_echo(b"in");
        drop((blocked, last));
        server.stop();
    }
}

#[test]
fn a_page_of_this_address_is_one_of_https() {
    let server = start(&[]);
    let port = server.address.port();
    let status = |origin: &str| {
        let mut client = TlsClient::connect(server.address);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\n\
             Connection: close\r\n\r\n"
        ));
        String::from_utf8(client.read_to_end().unwrap()).unwrap()[9..12].to_owned()
    };
    assert_eq!(status(&format!("https://localhost:{port}")), "200");
    assert_eq!(status(&format!("https://localhost:{}", port - 1)), "403");
    assert_eq!(status(&format!("http://localhost:{port}")), "403");
    server.stop();
}

/// What people read names every key and every figure of TLS, and every reason.
#[test]
fn the_page_names_every_key_figure_and_reason() {
    let page = include_str!("../../src/guide/tls.md");
    for key in heartwheel::config::KEYS {
        let is_of_tls = key.section() == "tls" || key.name == "limits.handshaking";
        let is_there = page.contains(&format!("`{}`", key.name));
        assert!(is_there || !is_of_tls, "{}", key.name);
    }
    for reason in heartwheel::core::observe::tls::TlsFigures::FAILURES {
        assert!(page.contains(&format!("`{reason}`")), "{reason}");
    }
    let mut out = heartwheel::core::observe::metrics::Exposition::default();
    heartwheel::core::observe::tls::TlsFigures::default().write(&mut out);
    for line in out.end().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// FAULTS 142.
#[test]
fn pongs_come_in_time_beside_a_flood_of_handshakes() {
    let server = start(&[("limits.connections", "2000"), ("limits.pings_per_second", "1000")]);
    let address = server.address;
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut client = TlsClient::upgraded(address, "/inline");
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let is_over = is_over.clone();
            thread::spawn(move || {
                let client = Arc::new(config(None));
                let mut count = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut peer = TlsClient::connect_with(address, &client, "localhost");
                    if peer.shake().is_ok() {
                        count += 1;
                    }
                }
                count
            })
        })
        .collect();
    let span = Span::begin();
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            client.send(frame::frame(0x89, b"ping"));
            assert_eq!(client.read_frame(), (0x8a, b"ping".to_vec()));
            let took = began.elapsed();
            thread::sleep(Duration::from_millis(30).saturating_sub(took));
            took
        })
        .collect();
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    let count: u32 = flood.into_iter().map(|thread| thread.join().unwrap()).sum();
    let p99 = percentile(&mut took, 99);
    println!("pongs beside {count} handshakes: 99 of 100 within {p99:?}");
    assert!(p99 < optimized(Duration::from_millis(100)) + span.stalled(), "{p99:?}");
    drop(client);
    server.stop();
}

/// Before the hello a proxy says whom it connects for, in as many pieces as it likes.
#[test]
fn a_proxy_header_comes_before_the_hello() {
    let pairs = [
        ("listen", "proxy+tls:127.0.0.1:0"),
        ("proxy.trusted", "127.0.0.1"),
        ("limits.connections_per_ip", "1"),
        ("deadlines.close_ack", "500ms"),
    ];
    let whose = |request: &heartwheel::http::Request| {
        let peer = request.peer().expect("it has an address");
        heartwheel::http::Response::new(200).text(peer.to_string())
    };
    let server = start_with(&pairs, |builder| builder.get("/peer", whose));
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n";
    for cut in [0, 1, 20, line.len(), line.len() + 1, line.len() + 6, line.len() + 100] {
        let mut client = TlsClient::connect(server.address);
        let mut bytes = line.to_vec();
        client.stream.conn.write_tls(&mut bytes).unwrap();
        for part in [&bytes[..cut], &bytes[cut..]] {
            client.stream.sock.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        let answer = client.get("/peer");
        assert!(answer.ends_with("\r\n192.0.2.1"), "cut at {cut}: {answer}");
    }
    let mut open = TlsClient::connect(server.address);
    open.stream.sock.write_all(line).unwrap();
    open.upgrade("/echo");
    open.assert_echo(&[7; 40_000]);
    for (bytes, reason) in [
        // A second one from there; an answer would cost a handshake.
        (&line[..], CloseReason::Done),
        (b"\x16\x03\x01", CloseReason::Proxy),
        (b"PROXY UNKNOWN\n", CloseReason::Proxy),
        (b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", CloseReason::Tls),
    ] {
        let before = server.closed_by(reason);
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.is_empty(), reason != CloseReason::Tls, "{}", bytes.escape_ascii());
        drop(stream);
        server.wait_until(|seen| seen.stats.closed_by(reason) == before + 1);
    }
    drop(open);
    server.stop();
}

/// What TLS costs, in CPU time of the loop: a figure, and no test.
#[test]
#[ignore = "it measures, and takes an optimized build"]
fn what_an_echo_costs_over_tls_and_in_plain_text() {
    const CLIENTS: usize = 32;
    const ECHOES: usize = 3000;
    let cpu_of = |server: &TestServer, run: &(dyn Fn() + Sync)| {
        let before = server.snapshot().cpu;
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(run);
            }
        });
        let each = (server.snapshot().cpu - before) / (CLIENTS * ECHOES) as u32;
        println!("{each:?} of the loop for each echo of 125 bytes");
        each
    };
    let plain = TestServer::start(&[]);
    let cpu_plain = cpu_of(&plain, &|| {
        let mut client = crate::common::client::Client::connect(plain.address);
        client.upgrade("/inline");
        (0..ECHOES).for_each(|_| client.assert_echo(0x82, &[7; 125]));
    });
    let sealed = start(&[]);
    let cpu_sealed = cpu_of(&sealed, &|| {
        let mut client = TlsClient::upgraded(sealed.address, "/inline");
        (0..ECHOES).for_each(|_| client.assert_echo(&[7; 125]));
    });
    println!("TLS takes {:.2} times as much", cpu_sealed.div_duration_f64(cpu_plain));
    let large = start(&[("limits.message_bytes", "4m"), ("limits.outbox_bytes", "4m")]);
    let mut client = TlsClient::upgraded(large.address, "/inline");
    let before = large.snapshot().cpu;
    (0..50).for_each(|_| client.assert_echo(&vec![7; 1 << 20]));
    let took = large.snapshot().cpu - before;
    let rate = 100.0 / took.as_secs_f64();
    println!("messages of 1 MiB: {rate:.0} MiB opened or sealed in a second of the loop");
}
