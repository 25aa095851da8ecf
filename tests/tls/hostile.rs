//! Peers that break the protocol, that speak another, or that say too little: an alert or a FIN,
//! counted by kind, within the deadline, while honest clients are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::CloseReason;
use rustls::client::ClientConnection;

use super::client::{TlsClient, borrowed, config, settings};
use crate::common::frame::frame;
use crate::common::rng::Rng;
use crate::common::server::{TestServer, ends};
use crate::common::timing::Span;

fn start(more: &[(&'static str, &str)]) -> TestServer {
    let more: Vec<_> = more.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    TestServer::start(&borrowed(&settings(&more)))
}

/// Gives a complete hello of rustls's client.
fn hello() -> Vec<u8> {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config(None)), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads to the end, of which a reset is one too.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => all,
        Err(error) => panic!("it never ended: {error}"),
    }
}

/// Sends these bytes first, and gives what the server says to them.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_to_end(&mut stream)
}

/// The end of what a server says in plain text: a fatal alert.
fn alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [.., 21, 3, 3, 0, 2, 2, alert] => Some(*alert),
        _ => None,
    }
}

/// FAULTS 137.
#[test]
fn a_hello_that_is_cut_anywhere_ends_by_the_deadline() {
    let server = start(&[("deadlines.handshake", "3s")]);
    let hello = hello();
    let mut streams: Vec<_> = (0..hello.len())
        .map(|len| {
            let mut stream = connect(server.address);
            stream.write_all(&hello[..len]).unwrap();
            stream
        })
        .collect();
    let span = Span::begin();
    for stream in &mut streams {
        assert_eq!(read_to_end(stream), b"", "nothing is said in plain text");
    }
    span.took_between("the deadlines", Duration::ZERO, Duration::from_secs(5));
    let stats = server.wait_until(|seen| seen.stats.closed_total() == hello.len() as u64).stats;
    assert_eq!(ends(&stats), [("handshake", hello.len() as u64)]);
    server.stop();
}

/// FAULTS 137.
#[test]
fn a_hello_in_single_bytes_and_in_records_of_one_byte_is_answered() {
    let server = start(&[]);
    let hello = hello();
    let mut stream = connect(server.address);
    for byte in &hello {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut first = [0; 6];
    stream.read_exact(&mut first).unwrap();
    assert_eq!((first[0], first[5]), (22, 2), "a ServerHello");
    let mut stream = connect(server.address);
    let records: Vec<u8> = hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    stream.write_all(&records).unwrap();
    stream.read_exact(&mut first).unwrap();
    assert_eq!((first[0], first[5]), (22, 2), "a ServerHello");
    drop(stream);
    server.stop();
}

#[test]
fn plain_http_is_told_so_in_plain_text() {
    let server = start(&[]);
    for len in [1, 16, 5000, 40_000] {
        let request = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(len));
        let answer = String::from_utf8(answer_to(server.address, request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        assert!(body.contains("TLS"), "{answer}");
    }
    server.wait_closed(CloseReason::Tls, 4);
    server.stop();
}

/// FAULTS 143.
#[test]
fn what_is_no_hello_of_tls_1_3_is_refused_with_an_alert() {
    let server = start(&[]);
    let address = server.address;
    // SSLv2; a record that is empty; one of 2^14 + 257; another content; a ServerHello.
    let sslv2 = [0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10];
    let too_long = [&[22, 3, 1, 0x41, 1][..], &[1; 200]].concat();
    let cases: [(&[u8], u8); 6] = [
        (&sslv2, 10),
        (&[22, 3, 1, 0, 0], 10),
        (&too_long, 10),
        (&[23, 3, 3, 0, 1, 0], 10),
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], 10),
        (&[0; 11], 10),
    ];
    for (bytes, expected) in cases {
        assert_eq!(alert(&answer_to(address, bytes)), Some(expected), "{bytes:?}");
    }
    // Without the extension that offers TLS 1.3: protocol_version.
    let mut old = hello();
    // With the first byte of its length: two bytes alone may stand in the random ones.
    let at = old.windows(3).position(|three| three == [0, 43, 0]).expect("it offers versions");
    old[at + 1] = 99;
    assert_eq!(alert(&answer_to(address, &old)), Some(70));
    // A hello that never ends: too long for any.
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(20_000, 7);
    assert_eq!(alert(&answer_to(address, &endless)), Some(50));
    server.wait_until(|seen| seen.stats.closed_by(CloseReason::Tls) == 8);
    server.stop();
}

#[test]
fn hellos_that_are_changed_anywhere_end_somehow() {
    let server = start(&[("deadlines.handshake", "3s")]);
    let mut rng = Rng::new(1);
    let streams: Vec<_> = (0..300)
        .map(|_| {
            let mut hello = hello();
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(hello.len() as u64) as usize;
                hello[at] ^= 1 << rng.below(8);
            }
            let mut stream = connect(server.address);
            let _ = stream.write_all(&hello);
            stream
        })
        .collect();
    for mut stream in streams {
        read_to_end(&mut stream);
    }
    TlsClient::upgraded(server.address, "/echo").assert_echo(b"still here");
    server.stop();
}

/// Complete hellos of which nothing follows: a thousand at once, and 100 more in each second. The
/// places are all taken, and most hellos wait for one. Where places are few, an honest client that
/// is slow for once may have to come again. A stalled one goes after 6 s.
#[test]
fn a_thousand_stalled_handshakes_keep_no_honest_client_out() {
    for (places, most) in [("256", Duration::from_secs(2)), ("16", Duration::from_secs(5))] {
        let server = start(&[
            ("deadlines.handshake", "6s"),
            ("limits.handshaking", places),
            ("limits.connections", "4000"),
        ]);
        let address = server.address;
        let stalled = move || {
            let mut stream = connect(address);
            stream.write_all(&hello()).unwrap();
            stream
        };
        let first: Vec<_> = (0..1000).map(|_| stalled()).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let more = thread::spawn({
            let is_over = is_over.clone();
            move || {
                let mut more = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    more.push(stalled());
                    thread::sleep(Duration::from_millis(10));
                }
                more
            }
        });
        let mut slowest = Duration::ZERO;
        for _ in 0..8 {
            let span = Span::begin();
            let mut client = TlsClient::connect(address);
            while let Err(error) = client.shake() {
                assert!(places == "16", "{error}");
                client = TlsClient::connect(address);
            }
            client.upgrade("/echo");
            client.assert_echo(b"in");
            let took = span.elapsed();
            slowest = slowest.max(took);
            let most = most + span.stalled();
            assert!(took < most, "{took:?}, {most:?} beside {places} places");
            thread::sleep(Duration::from_millis(130));
        }
        println!("honest clients beside stalled ones of {places} places: in within {slowest:?}");
        is_over.store(true, Ordering::Relaxed);
        drop((first, more.join()));
        let stats = server.wait_until(|seen| seen.connections == 0).stats;
        assert!(stats.closed_by(CloseReason::Tls) > 0, "{:?}", ends(&stats));
        server.stop();
    }
}

/// A handshake that is broken behind the hello: the client is told so in its own keys, and once.
#[test]
fn a_flight_that_is_changed_is_answered_with_an_alert() {
    let server = start(&[]);
    for is_another in [false, true] {
        let mut client = TlsClient::connect(server.address);
        let mut flight = Vec::new();
        while client.stream.conn.is_handshaking() {
            while client.stream.conn.wants_write() {
                client.stream.conn.write_tls(&mut flight).unwrap();
            }
            if client.stream.conn.is_handshaking() {
                client.stream.sock.write_all(&std::mem::take(&mut flight)).unwrap();
                client.stream.conn.read_tls(&mut client.stream.sock).unwrap();
                client.stream.conn.process_new_packets().unwrap();
            }
        }
        while client.stream.conn.wants_write() {
            client.stream.conn.write_tls(&mut flight).unwrap();
        }
        // The last record is the Finished: its last byte is wrong, or the record is in plain text.
        *flight.last_mut().unwrap() ^= 1;
        if is_another {
            flight = vec![22, 3, 3, 0, 4, 1, 0, 0, 0];
        }
        client.stream.sock.write_all(&flight).unwrap();
        let said = client.ended_by();
        assert!(said.contains("BadRecordMac"), "{said}");
    }
    server.wait_closed(CloseReason::Tls, 2);
    server.stop();
}

/// Gives a client whose handshake is broken behind the hello, and the flight that breaks it.
fn broken_handshake(address: SocketAddr) -> (TlsClient, Vec<u8>) {
    let mut client = TlsClient::connect(address);
    while client.stream.conn.is_handshaking() {
        let mut flight = Vec::new();
        while client.stream.conn.wants_write() {
            client.stream.conn.write_tls(&mut flight).unwrap();
        }
        client.stream.sock.write_all(&flight).unwrap();
        client.stream.conn.read_tls(&mut client.stream.sock).unwrap();
        client.stream.conn.process_new_packets().unwrap();
    }
    let mut flight = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut flight).unwrap();
    }
    *flight.last_mut().unwrap() ^= 1;
    (client, flight)
}

/// FAULTS 143: a peer that goes on sending after the server has given it up. What it is told is not
/// lost to a reset. FIN comes with it, and the peer may send until `deadlines.close_ack`.
#[test]
fn who_goes_on_sending_is_told_all_the_same() {
    let server = start(&[("deadlines.close_ack", "30s"), ("deadlines.handshake", "60s")]);
    let mut count = 0;
    let mut goes_on = |stream: &mut TcpStream| {
        count += 1;
        server.wait_closed(CloseReason::Tls, count);
        // A socket that is closed answers this with a reset, and the next write finds it.
        for _ in 0..5 {
            stream.write_all(&[23; 4096]).expect("the server takes it");
            thread::sleep(Duration::from_millis(20));
        }
    };
    for (bytes, answer) in
        [(&b"GET / HTTP/1.1\r\n\r\n"[..], &b"HTTP/1.1 400"[..]), (&[0; 11], &[21])]
    {
        let mut stream = connect(server.address);
        stream.write_all(bytes).unwrap();
        goes_on(&mut stream);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("no reset");
        assert!(all.starts_with(answer), "{all:?}");
    }
    let (mut client, flight) = broken_handshake(server.address);
    client.stream.sock.write_all(&flight).unwrap();
    goes_on(&mut client.stream.sock);
    assert!(client.ended_by().contains("BadRecordMac"), "{}", client.ended_by());
    let mut client = TlsClient::upgraded(server.address, "/echo");
    client.stream.sock.write_all(&[23, 3, 3, 0, 30]).unwrap();
    client.stream.sock.write_all(&[7; 30]).unwrap();
    goes_on(&mut client.stream.sock);
    assert!(client.ended_by().contains("BadRecordMac"), "{}", client.ended_by());
    server.stop();
}

/// Of a peer that never ends its side the socket is kept for `deadlines.close_ack`, and no longer.
#[test]
fn who_is_told_and_stays_is_cut_off() {
    let server = start(&[("deadlines.close_ack", "300ms")]);
    let mut streams: Vec<_> = (0..20).map(|_| connect(server.address)).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&[0; 11]).unwrap());
    for stream in &mut streams {
        assert_eq!(alert(&read_to_end(stream)), Some(10));
    }
    let began = Instant::now();
    for stream in &mut streams {
        while stream.write_all(&[0; 64]).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(9), "it is never closed");
            thread::sleep(Duration::from_millis(20));
        }
    }
    server.stop();
}

/// No handshake is spent on a connection for which there is no slot.
#[test]
fn who_gets_no_slot_is_told_by_an_alert() {
    let server = start(&[("limits.connections", "1")]);
    let mut first = TlsClient::upgraded(server.address, "/echo");
    for _ in 0..40 {
        let said = TlsClient::connect(server.address).ended_by();
        assert!(said.contains("InternalError"), "{said}");
    }
    // The alert comes without a hello, too, and is all that comes.
    assert_eq!(read_to_end(&mut connect(server.address)), [21, 3, 3, 0, 2, 2, 80]);
    first.assert_echo(b"still here");
    drop(first);
    let stats = server.wait_closed(CloseReason::Eof, 1);
    assert_eq!((stats.accepted, stats.rejected_connections), (1, 41));
    server.stop();
}

/// Of hellos that are not complete nothing is held but their bytes.
#[test]
fn hellos_without_an_end_take_no_place() {
    let server = start(&[
        ("deadlines.handshake", "6s"),
        ("limits.handshaking", "1"),
        ("limits.connections", "1200"),
    ]);
    let hello = hello();
    let mut stalled: Vec<_> = (0..1000).map(|_| connect(server.address)).collect();
    stalled.iter_mut().for_each(|stream| stream.write_all(&hello[..hello.len() - 1]).unwrap());
    let span = Span::begin();
    TlsClient::upgraded(server.address, "/echo").assert_echo(b"in");
    assert!(span.elapsed() < Duration::from_secs(3) + span.stalled());
    drop(stalled);
    server.stop();
}

/// Behind the handshake: what does not open, an end without the last word, a flood of nothing.
#[test]
fn a_broken_session_ends_with_an_alert_and_a_reason() {
    let server = start(&[]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    client.stream.sock.write_all(&[23, 3, 3, 0, 30]).unwrap();
    client.stream.sock.write_all(&[7; 30]).unwrap();
    let said = client.ended_by();
    assert!(said.contains("BadRecordMac"), "{said}");
    server.wait_closed(CloseReason::Tls, 1);
    server.stop();
}

/// FAULTS 146.
#[test]
fn a_fin_without_close_notify_is_an_end_of_file() {
    let server = start(&[]);
    let client = TlsClient::upgraded(server.address, "/echo");
    client.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    server.wait_closed(CloseReason::Eof, 1);
    server.stop();
}

/// FAULTS 138.
#[test]
fn a_close_notify_in_the_handshake_and_behind_it_is_an_end() {
    let server = start(&[("deadlines.handshake", "5s")]);
    let span = Span::begin();
    let mut client = TlsClient::connect(server.address);
    client.stream.conn.send_close_notify();
    let mut bytes = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut bytes).unwrap();
    }
    client.stream.sock.write_all(&bytes).unwrap();
    read_to_end(&mut client.stream.sock);
    // Before a request the connection is closed at once, and the last word said with it.
    let mut client = TlsClient::connect(server.address);
    client.shake().unwrap();
    client.stream.conn.send_close_notify();
    assert_eq!(client.ended_by(), "close_notify");
    let mut client = TlsClient::upgraded(server.address, "/echo");
    client.stream.conn.send_close_notify();
    assert_eq!(client.ended_by(), "close_notify");
    assert!(span.elapsed() < Duration::from_secs(3) + span.stalled());
    server.wait_until(|seen| seen.stats.closed_total() == 3);
    server.stop();
}

/// The end stands behind a message, and no FIN follows of which the poller would tell.
#[test]
fn an_end_in_the_same_read_as_a_message_is_seen() {
    let server = start(&[]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    let span = Span::begin();
    client.stream.conn.writer().write_all(&frame(0x82, b"last")).unwrap();
    client.stream.conn.send_close_notify();
    let mut bytes = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut bytes).unwrap();
    }
    client.stream.sock.write_all(&bytes).unwrap();
    assert_eq!(client.read_frame(), (0x82, b"last".to_vec()));
    client.read_to_end().expect("it ends with close_notify");
    assert!(span.elapsed() < Duration::from_secs(3) + span.stalled(), "{:?}", span.elapsed());
    server.wait_closed(CloseReason::Eof, 1);
    server.stop();
}

/// FAULTS 141.
#[test]
fn a_flood_of_key_updates_ends() {
    let server = start(&[]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    for _ in 0..20 {
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.assert_echo(b"still here");
    }
    for _ in 0..600 {
        if client.stream.conn.refresh_traffic_keys().is_err() || client.stream.flush().is_err() {
            break;
        }
    }
    let said = client.ended_by();
    // The client itself bears no more than 32 answers in a row.
    let ends = ["InternalError", "reset", "Broken pipe", "TooManyKeyUpdateRequests"];
    assert!(ends.iter().any(|end| said.contains(end)), "{said}");
    server.wait_closed(CloseReason::Tls, 1);
    server.stop();
}
