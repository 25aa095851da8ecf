//! Connections from proxies: PROXY headers, and the lines in which proxies note whom a request
//! comes from. A Unix socket and a clock of the test's own, unless addresses matter.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use heartwheel::http::Response;
use heartwheel::{CloseReason, ManualClock, Server};
use socket2::{Domain, Socket, Type};

use common::client::Client;
use common::engine::TestEngine;
use common::http::{get_request, upgrade_request};
use common::server::{TestServer, config, echo};
use common::timing::{PATIENCE, ms};

/// A server on a Unix socket, where a proxy connects.
struct Door {
    server: Server,
    clock: ManualClock,
    path: PathBuf,
}

impl Door {
    /// Each pair is a key of the configuration and its value. `speech` stands before the address.
    fn new(name: &str, speech: &str, pairs: &[(&str, &str)]) -> Door {
        let name = format!("heartwheel-proxied-{name}-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let (public, admin) = (path.display(), path.with_extension("admin"));
        let listen = [format!("{speech}unix:{public}"), format!("unix:{}", admin.display())];
        let mut config = config(&[("workers", "0"), ("proxy.trusted", "unix,10.0.0.0/8")]);
        for (key, value) in [("listen", &*listen[0]), ("admin_listen", &listen[1])] {
            config.set(key, value).expect("the path is short");
        }
        for (key, value) in pairs {
            config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
        }
        let clock = ManualClock::new();
        let builder = Server::builder().config(config).clock(clock.clone()).health().operator();
        let whose = |request: &heartwheel::http::Request| {
            let peer = request.peer().map_or("unix".into(), |peer| peer.to_string());
            Response::new(200).text(peer)
        };
        let builder = builder.get("/peer", whose).post("/peer", whose).websocket("/echo", echo);
        let builder = builder.events("/events").topics("/topics/{topic}");
        Door { server: builder.build().expect("it is sound"), clock, path }
    }

    fn connect(&mut self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("it listens");
        stream.set_nonblocking(true).unwrap();
        self.settle();
        stream
    }

    fn settle(&mut self) {
        // Two turns after the last that did something: the kernel may have more to tell.
        for _ in 0..3 {
            self.server.turn().expect("the poller works");
            while self.server.next_timeout() == Some(Duration::ZERO) {
                self.server.turn().expect("the poller works");
            }
        }
    }

    /// Lets time pass, tick by tick.
    fn pass(&mut self, span: Duration) {
        let end = self.clock.elapsed() + span;
        while self.clock.elapsed() < end {
            self.clock.advance(ms(10).min(end - self.clock.elapsed()));
            self.settle();
        }
    }

    fn send(&mut self, stream: &mut UnixStream, bytes: impl AsRef<[u8]>) {
        stream.write_all(bytes.as_ref()).expect("there is room");
        self.settle();
    }

    /// Connects, sends, and gives what comes back.
    fn ask(&mut self, bytes: impl AsRef<[u8]>) -> (UnixStream, String) {
        let mut stream = self.connect();
        self.send(&mut stream, bytes);
        let answer = read(&mut stream).0;
        (stream, answer)
    }

    /// Gives the table of connections.
    fn rows(&mut self) -> String {
        let mut stream = UnixStream::connect(self.path.with_extension("admin")).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.settle();
        self.send(&mut stream, get_request("/connections", ""));
        read(&mut stream).0
    }

    fn closed_by(&self, reason: CloseReason) -> u64 {
        self.server.stats().closed_by(reason)
    }
}

/// Reads what has come, and says whether FIN has.
fn read(stream: &mut UnixStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let has_ended = match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    };
    (String::from_utf8_lossy(&bytes).into_owned(), has_ended)
}

fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    answer.split_once("\r\n\r\n").expect("a whole head").1
}

fn line(ip: &str) -> String {
    format!("PROXY TCP4 {ip} 192.0.2.99 1000 80\r\n")
}

/// A header of version 2, from 192.0.2.1, or [2001:db8::1].
fn block(command: u8, family: u8, values: &[u8]) -> Vec<u8> {
    let addresses: &[u8] = match family >> 4 {
        1 => &[192, 0, 2, 1, 192, 0, 2, 99, 3, 232, 0, 80],
        2 => &[
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
            3, 232, 0, 80,
        ],
        _ => &[],
    };
    let body = [addresses, values].concat();
    let len = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, &body].concat()
}

fn get() -> String {
    get_request("/peer", "")
}

/// FAULTS 210.
#[test]
fn a_header_names_the_client_however_it_is_cut() {
    let mut door = Door::new("cut", "proxy:", &[]);
    // A value of 7 bytes, and the checksum as another implementation has it.
    let summed = block(0x21, 0x11, b"\x05\x00\x02id\x03\x00\x04\x88\x60\xbf\x73");
    for (header, client) in [
        (line("192.0.2.1").into_bytes(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 1000 80\r\n".to_vec(), "2001:db8::1"),
        (block(0x21, 0x11, b""), "192.0.2.1"),
        (block(0x21, 0x21, b"\x04\x00\x03abc"), "2001:db8::1"),
        (summed, "192.0.2.1"),
    ] {
        let bytes = [&header[..], get().as_bytes()].concat();
        for cut in 0..=header.len() + 1 {
            let mut stream = door.connect();
            door.send(&mut stream, &bytes[..cut]);
            door.send(&mut stream, &bytes[cut..]);
            assert_eq!(body(&read(&mut stream).0), client, "cut at {cut}");
        }
        let mut stream = door.connect();
        for byte in &bytes {
            door.send(&mut stream, [*byte]);
        }
        assert_eq!(body(&read(&mut stream).0), client, "byte by byte");
        door.send(&mut stream, get());
        assert_eq!(body(&read(&mut stream).0), client, "and of the next request");
    }
    assert_eq!(door.closed_by(CloseReason::Proxy), 0);
}

#[test]
fn a_proxy_that_names_nobody_is_the_peer_itself() {
    let mut door = Door::new("nobody", "proxy:", &[]);
    let unknown = b"PROXY UNKNOWN 192.0.2.1 and more\r\n".to_vec();
    for header in [unknown, block(0x20, 0, b""), block(0x20, 0x11, b""), block(0x21, 0, b"")] {
        assert_eq!(body(&door.ask([&header[..], get().as_bytes()].concat()).1), "unix");
    }
}

/// FAULTS 210.
#[test]
fn without_a_good_header_a_connection_gets_fin_and_not_a_byte() {
    let mut door = Door::new("bad", "proxy:", &[]);
    let long = format!("PROXY UNKNOWN {}", "x".repeat(107));
    let huge = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &4097_u16.to_be_bytes()].concat();
    let bad: Vec<Vec<u8>> = vec![
        get().into_bytes(),
        b"PROXY TCP4 192.0.2.256 192.0.2.99 1000 80\r\n".to_vec(),
        long.into_bytes(),
        huge,
        block(0x21, 0x11, b"\x05\x00\x02id\x03\x00\x04\x88\x60\xbf\x72"),
        block(0x21, 0x11, b"\x05\xff\x02id"),
        block(0x22, 0x11, b""),
        block(0x21, 0x51, b""),
        vec![0x16, 3, 1],
    ];
    for (count, bytes) in (1..).zip(&bad) {
        // A good request behind changes nothing.
        let mut stream = door.connect();
        door.send(&mut stream, [&bytes[..], get().as_bytes()].concat());
        assert_eq!(read(&mut stream), (String::new(), true), "{}", bytes.escape_ascii());
        drop(stream);
        door.settle();
        assert_eq!(door.closed_by(CloseReason::Proxy), count, "{}", bytes.escape_ascii());
    }
    assert_eq!(door.server.connections(), 0);
    let metrics = door.server.metrics();
    let count = bad.len();
    let figure = format!(
        "heartwheel_connections_closed_total{{transport=\"http\",reason=\"proxy\"}} {count}"
    );
    assert!(metrics.contains(&figure), "{metrics}");
}

/// FAULTS 210.
#[test]
fn a_header_that_is_cut_off_is_none() {
    let mut door = Door::new("off", "proxy:", &[]);
    let stream = door.connect();
    drop(stream);
    door.settle();
    assert_eq!(door.closed_by(CloseReason::Eof), 1, "whoever looks whether the port is open");
    for header in [line("192.0.2.1").into_bytes(), block(0x21, 0x11, b"")] {
        for cut in 1..header.len() {
            let mut stream = door.connect();
            door.send(&mut stream, &header[..cut]);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            door.settle();
            assert_eq!(read(&mut stream), (String::new(), true));
        }
    }
    let cuts = (line("192.0.2.1").len() + block(0x21, 0x11, b"").len() - 2) as u64;
    assert_eq!(door.closed_by(CloseReason::Proxy), cuts);
}

#[test]
fn a_header_and_a_head_have_one_deadline() {
    let mut door = Door::new("deadline", "proxy:", &[]);
    let begin = |door: &mut Door, bytes: &[u8]| {
        let mut stream = door.connect();
        door.send(&mut stream, bytes);
        stream
    };
    let line = line("192.0.2.1");
    let mut silent = begin(&mut door, b"");
    let mut part = begin(&mut door, &line.as_bytes()[..30]);
    let mut headed = begin(&mut door, line.as_bytes());
    let mut late = begin(&mut door, &line.as_bytes()[..1]);
    door.pass(ms(4900));
    door.send(&mut late, &line.as_bytes()[1..]);
    door.send(&mut late, "GET / HTTP/1.1\r\n");
    for stream in [&mut silent, &mut part, &mut headed, &mut late] {
        assert_eq!(read(stream), (String::new(), false), "it is not over yet");
    }
    door.pass(ms(100) + ms(60));
    assert_eq!(read(&mut silent), (String::new(), true));
    assert_eq!(read(&mut part), (String::new(), true), "not a byte to who has not said for whom");
    assert_eq!(read(&mut headed), (String::new(), true));
    let (answer, _) = read(&mut late);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    drop((silent, part, headed, late));
    door.settle();
    assert_eq!(door.closed_by(CloseReason::Handshake), 4);
}

/// FAULTS 210.
#[test]
fn who_is_not_trusted_gets_fin_and_not_a_byte_whatever_it_says() {
    let pairs = [("listen", "proxy:127.0.0.1:0"), ("proxy.trusted", "10.0.0.0/8,unix,::1")];
    let server = TestServer::start(&pairs);
    for (count, bytes) in (1..).zip([line("192.0.2.1") + &get(), get(), String::new()]) {
        let mut client = Client::connect(server.address);
        client.send(&bytes);
        assert_eq!(client.read_to_fin(), b"");
        drop(client);
        server.wait_closed(CloseReason::Proxy, count);
    }
    server.stop();
    let mut door = Door::new("unix", "proxy:", &[("proxy.trusted", "127.0.0.0/8")]);
    let mut stream = door.connect();
    assert_eq!(read(&mut stream), (String::new(), true), "a Unix socket is trusted by name");
}

/// A connection without a slot is answered before its header is read.
#[test]
fn who_is_not_trusted_gets_not_a_byte_of_a_refusal_either() {
    let pairs = [
        ("listen", "proxy:127.0.0.1:0"),
        ("proxy.trusted", "127.0.0.2"),
        ("limits.connections", "1"),
    ];
    let server = TestServer::start(&pairs);
    let connect = |from: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&server.address.into()).expect("it listens");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("FIN comes");
            String::from_utf8(bytes).expect("it is text")
        }
    };
    let _open = Client::connect(server.address);
    server.wait_until(|seen| seen.connections == 1);
    assert_eq!(connect([127, 0, 0, 1])(), "");
    let answer = connect([127, 0, 0, 2])();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
    assert_eq!(server.stats().rejected_connections, 2);
}

#[test]
fn a_trusted_network_may_say_whom_it_connects_for() {
    let pairs = [("listen", "proxy:127.0.0.1:0"), ("proxy.trusted", "127.0.0.0/8")];
    let server = TestServer::start(&pairs);
    let mut client = Client::connect(server.address);
    client.send(line("192.0.2.1") + &upgrade_request("/echo", ""));
    assert_eq!(client.read_upgrade().status, 101);
    client.text("hello");
    assert_eq!(client.message(), "hello");
    let mut addresses = Vec::new();
    assert!(server.handle.peers(PATIENCE, |peer| addresses.push(peer.address())));
    assert_eq!(addresses, [Some("192.0.2.1:1000".parse().unwrap())]);
    drop(client);
    server.stop();
}

/// FAULTS 212.
#[test]
fn the_limit_of_an_address_holds_for_the_clients_behind_a_proxy() {
    let mut door = Door::new("limit", "proxy:", &[("limits.connections_per_ip", "2")]);
    let open = |door: &mut Door, ip: &str| {
        let (stream, answer) = door.ask(line(ip) + &upgrade_request("/echo", ""));
        (stream, answer.lines().next().unwrap_or_default().to_owned())
    };
    let first = open(&mut door, "192.0.2.1");
    let second = open(&mut door, "192.0.2.1");
    let other = open(&mut door, "192.0.2.2");
    for (_, status) in [&first, &second, &other] {
        assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    }
    let (mut third, status) = open(&mut door, "192.0.2.1");
    assert_eq!(status, "HTTP/1.1 429 Too Many Requests");
    assert!(read(&mut third).1, "FIN follows");
    assert_eq!(door.server.stats().rejected_per_ip, 1);
    let rows = door.rows();
    assert_eq!(rows.matches(r#""peer":"192.0.2.1:1000""#).count(), 2, "{rows}");
    drop((first, third));
    door.settle();
    assert_eq!(open(&mut door, "192.0.2.1").1, "HTTP/1.1 101 Switching Protocols");
    // A balancer's own checks are not counted.
    let checks: Vec<_> = (0..5).map(|_| door.ask(block(0x20, 0, b""))).collect();
    assert_eq!(door.server.stats().rejected_per_ip, 1);
    drop(checks);
}

#[test]
fn a_trusted_proxy_is_not_counted_and_others_are() {
    let mut server = TestEngine::new(&[
        ("limits.connections_per_ip", "1"),
        ("proxy.trusted", "10.0.0.0/8"),
        ("proxy.forwarded", "x-forwarded-for"),
    ]);
    for port in 1..=5 {
        assert!(server.connect(&format!("10.0.0.1:{port}")).is_ok());
    }
    let id = server.connect("192.0.2.7:1").expect("the first");
    assert_eq!(server.connect("192.0.2.7:2"), Err(429));
    // Who is not trusted names nobody.
    server.send(id, get_request("/", "X-Forwarded-For: 192.0.2.8\r\n"));
    server.settle();
    assert!(server.connect("192.0.2.8:1").is_ok());
    assert_eq!(server.connect("192.0.2.7:3"), Err(429));
}

/// FAULTS 211.
#[test]
fn forwarded_lines_of_a_trusted_proxy_name_the_client_of_each_request() {
    let mut door = Door::new("lines", "", &[("proxy.forwarded", "x-forwarded-for")]);
    let get = |lines: &str| get_request("/peer", lines);
    let (mut stream, answer) = door.ask(get("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n"));
    assert_eq!(body(&answer), "192.0.2.1");
    for (lines, client) in [
        ("X-Forwarded-For: 192.0.2.2\r\n", "192.0.2.2"),
        ("", "unix"),
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.9.9.9\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.3\r\n", "192.0.2.3"),
        ("X-Forwarded-For: 192.0.2.3, unknown\r\n", "unix"),
        ("X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1"),
        ("Forwarded: for=192.0.2.3\r\n", "unix"),
    ] {
        door.send(&mut stream, get(lines));
        assert_eq!(body(&read(&mut stream).0), client, "{lines:?}");
    }
    let mut door = Door::new("rfc", "proxy:", &[("proxy.forwarded", "forwarded")]);
    // The header's address is the hop then: here it is trusted.
    let request = line("10.0.0.1") + &get("Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:9\"\r\n");
    assert_eq!(body(&door.ask(request).1), "2001:db8::1");
    let request = line("192.0.2.1") + &get("Forwarded: for=6.6.6.6\r\n");
    assert_eq!(body(&door.ask(request).1), "192.0.2.1", "a client's own lines say nothing");
    let mut door = Door::new("none", "", &[]);
    assert_eq!(body(&door.ask(get("X-Forwarded-For: 192.0.2.1\r\n")).1), "unix", "off");
    let pairs = [("proxy.forwarded", "x-forwarded-for"), ("proxy.trusted", "10.0.0.0/8")];
    let mut door = Door::new("distrusted", "", &pairs);
    assert_eq!(body(&door.ask(get("X-Forwarded-For: 192.0.2.1\r\n")).1), "unix");
}

/// FAULTS 212.
#[test]
fn the_limit_of_an_address_holds_for_the_clients_of_forwarded_lines() {
    let pairs = [("proxy.forwarded", "x-forwarded-for"), ("limits.connections_per_ip", "1")];
    let mut door = Door::new("counted", "", &pairs);
    let by = "X-Forwarded-For: 192.0.2.1\r\n";
    // In the pool of the proxy a connection is nobody's.
    let (mut pooled, answer) = door.ask(get_request("/peer", by));
    assert_eq!(body(&answer), "192.0.2.1");
    let (open, answer) = door.ask(upgrade_request("/echo", by));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(door.rows().contains(r#""peer":"192.0.2.1""#));
    door.send(&mut pooled, get_request("/peer", by));
    assert!(read(&mut pooled).0.starts_with("HTTP/1.1 429 "), "its second at once");
    door.send(&mut pooled, get_request("/peer", "X-Forwarded-For: 192.0.2.2\r\n"));
    assert_eq!(body(&read(&mut pooled).0), "192.0.2.2", "the proxy's connection stays");
    let stream_of =
        |ip: &str| get_request("/events?topic=a", &format!("X-Forwarded-For: {ip}\r\n"));
    let (stream, answer) = door.ask(stream_of("192.0.2.3"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(door.ask(stream_of("192.0.2.3")).1.starts_with("HTTP/1.1 429 "));
    assert!(door.ask(stream_of("192.0.2.1")).1.starts_with("HTTP/1.1 429 "));
    drop((open, stream));
    door.settle();
    for ip in ["192.0.2.1", "192.0.2.3"] {
        assert!(door.ask(stream_of(ip)).1.starts_with("HTTP/1.1 200 "), "{ip}");
    }
}

#[test]
fn an_address_for_proxies_without_any_that_is_trusted_is_refused() {
    let config = config(&[("listen", "proxy:127.0.0.1:0")]);
    let error = Server::builder().config(config).build().expect_err("nobody may connect");
    assert_eq!(error.to_string(), "proxy:127.0.0.1:0: needs proxy.trusted");
    let error = Server::builder().listen("proxy:127.0.0.1:0").expect_err("nobody may connect");
    assert!(error.to_string().contains("needs proxy.trusted"), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Server::builder().adopt_proxy(listener).build().expect_err("nobody may connect");
    assert!(error.to_string().contains("needs proxy.trusted"), "{error}");
}

#[test]
fn a_listener_of_somebody_else_may_be_for_proxies() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&[("proxy.trusted", "127.0.0.1")]);
    let builder = Server::builder().config(config).websocket("/echo", echo).adopt_proxy(listener);
    let server = builder.build().expect("there is a listener");
    let address = server.local_addresses().remove(0);
    assert_eq!(address.to_string(), format!("proxy:{}", address.as_tcp().unwrap()));
    let server = TestServer::of(server);
    let mut client = Client::connect(server.address);
    client.send(line("192.0.2.1") + &upgrade_request("/echo", ""));
    assert_eq!(client.read_upgrade().status, 101);
}
