//! Peers that break the protocol, that speak another, or that say too little: an alert or a FIN,
//! counted by kind, within the deadline, while honest clients are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::CloseReason;
use rustls::client::ClientConnection;

use super::client::{TlsClient, borrowed, config, settings};
use crate::common::frame::frame;
use crate::common::rng::Rng;
use crate::common::server::{TestServer, ends};

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
    let server = start(&[("deadlines.handshake", "300ms")]);
    let hello = hello();
    let mut streams: Vec<_> = (0..hello.len())
        .map(|len| {
            let mut stream = connect(server.address);
            stream.write_all(&hello[..len]).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    for stream in &mut streams {
        assert_eq!(read_to_end(stream), b"", "nothing is said in plain text");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
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
    let at = old.windows(2).position(|pair| pair == [0, 43]).expect("it offers versions");
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
    let server = start(&[("deadlines.handshake", "400ms")]);
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

/// A handshake that is broken off behind the hello, with an honest client beside a thousand.
#[test]
fn stalled_handshakes_make_room_and_do_not_keep_an_honest_client_out() {
    let server = start(&[
        ("deadlines.handshake", "6s"),
        ("limits.handshaking", "16"),
        ("limits.connections", "1200"),
    ]);
    let hello = hello();
    let mut stalled: Vec<_> = (0..200).map(|_| connect(server.address)).collect();
    stalled.iter_mut().for_each(|stream| stream.write_all(&hello).unwrap());
    thread::sleep(Duration::from_millis(500));
    // All places are taken, and 184 wait for one: the newest is served first when, after a second,
    // one is given up.
    let began = Instant::now();
    TlsClient::upgraded(server.address, "/echo").assert_echo(b"in");
    let took = began.elapsed();
    drop(stalled);
    assert!(took < Duration::from_secs(3), "{took:?}");
    println!("an honest client behind 200 stalled ones of 16 places was in after {took:?}");
    let stats = server.wait_until(|seen| seen.stats.closed_total() == 201).stats;
    assert!(stats.closed_by(CloseReason::Tls) > 0, "{:?}", ends(&stats));
    server.stop();
}

#[test]
fn a_thousand_stalled_handshakes_leave_room_for_honest_clients() {
    let server = start(&[("deadlines.handshake", "5s"), ("limits.connections", "1200")]);
    let hello = hello();
    let mut stalled: Vec<_> = (0..1000).map(|_| connect(server.address)).collect();
    // Half of them say nothing whole, and hold no state.
    for (index, stream) in stalled.iter_mut().enumerate() {
        let len = if index % 5 == 0 { hello.len() } else { hello.len() - 1 };
        stream.write_all(&hello[..len]).unwrap();
    }
    let began = Instant::now();
    TlsClient::upgraded(server.address, "/echo").assert_echo(b"in");
    println!("an honest client beside 1,000 stalled ones was in after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3));
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
    let began = Instant::now();
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
    assert!(began.elapsed() < Duration::from_secs(3));
    server.wait_until(|seen| seen.stats.closed_total() == 3);
    server.stop();
}

/// The end stands behind a message, and no FIN follows of which the poller would tell.
#[test]
fn an_end_in_the_same_read_as_a_message_is_seen() {
    let server = start(&[]);
    let mut client = TlsClient::upgraded(server.address, "/echo");
    let began = Instant::now();
    client.stream.conn.writer().write_all(&frame(0x82, b"last")).unwrap();
    client.stream.conn.send_close_notify();
    let mut bytes = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut bytes).unwrap();
    }
    client.stream.sock.write_all(&bytes).unwrap();
    assert_eq!(client.read_frame(), (0x82, b"last".to_vec()));
    client.read_to_end().expect("it ends with close_notify");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
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
    for _ in 0..100 {
        if client.stream.conn.refresh_traffic_keys().is_err() || client.stream.flush().is_err() {
            break;
        }
    }
    let said = client.ended_by();
    let ends = ["InternalError", "reset", "Broken pipe"];
    assert!(ends.iter().any(|end| said.contains(end)), "{said}");
    server.wait_closed(CloseReason::Tls, 1);
    server.stop();
}
