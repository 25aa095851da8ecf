//! The server and its clients on one machine, as they are meant to work together. What goes wrong
//! is in tests/faults.rs.

mod common;

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use heartwheel::Builder;
use heartwheel::http::{Request, Response};
use heartwheel::{CloseReason, Route};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::{CloseFrame, Frame, coding::Data, coding::OpCode};
use tungstenite::{Message, WebSocket};

use common::client::{Client, End};
use common::frame::TEXT;
use common::http::get_request;
use common::rng::Rng;
use common::server::TestServer;

/// Says what was asked of it.
fn tell(request: &Request) -> Response {
    let body = request.body();
    let text = format!("{} {} {}", request.method(), request.path(), String::from_utf8_lossy(body));
    Response::new(200).text(text)
}

fn with_tell(builder: Builder) -> Builder {
    builder.get("/tell", tell).post("/tell", tell)
}

fn connect(server: &TestServer, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is a socket");
    let url = format!("ws://localhost{path}");
    tungstenite::client(url, stream).expect("the upgrade is accepted").0
}

/// Sends text, binary, fragments and a mebibyte through an echo, and closes.
fn converse(socket: &mut WebSocket<impl Read + Write>) {
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 255) as u8).collect();
    let messages = [
        Message::text("größe"),
        Message::text(""),
        Message::binary(vec![0, 255, 128]),
        Message::binary(large),
        Message::text("x".repeat(1 << 20)),
    ];
    for message in messages {
        socket.send(message.clone()).expect("the server reads");
        assert!(socket.read().expect("the server answers") == message);
    }
    for (piece, opcode, is_final) in [
        ("one ", Data::Text, false),
        ("two ", Data::Continue, false),
        ("three", Data::Continue, true),
    ] {
        let frame = Frame::message(piece, OpCode::Data(opcode), is_final);
        socket.send(Message::Frame(frame)).expect("the server reads");
    }
    assert_eq!(socket.read().expect("the server answers"), Message::text("one two three"));
    let close = CloseFrame { code: CloseCode::Library(4321), reason: "bye".into() };
    socket.close(Some(close)).expect("the server reads");
    match socket.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Library(4321)),
        other => panic!("{other:?}"),
    }
    let end = socket.read().expect_err("it is closed");
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end}");
}

#[test]
fn tungstenite_converses_over_tcp() {
    for workers in ["0", "2"] {
        let server = TestServer::start(&[("workers", workers)]);
        for path in ["/echo", "/inline"] {
            converse(&mut connect(&server, path));
        }
        let stats = server.wait_closed(CloseReason::Peer(4321), 2);
        assert_eq!((stats.messages_received, stats.messages_sent), (12, 12));
        server.stop();
    }
}

#[test]
fn tungstenite_converses_over_a_unix_socket() {
    let path = env::temp_dir().join(format!("heartwheel-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let server = TestServer::start(&[("listen", &address)]);
    let stream = UnixStream::connect(&path).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is a socket");
    let (mut socket, _) = tungstenite::client("ws://localhost/echo", stream).expect("accepted");
    converse(&mut socket);
    drop(socket);
    server.wait_closed(CloseReason::Peer(4321), 1);
    server.stop();
    assert!(!path.exists(), "the socket's file goes with the listener");
}

/// A hundred clients at once, each with messages of its own: nothing is mixed up, whatever is under
/// way beside it.
#[test]
fn a_hundred_clients_each_get_their_own_back() {
    let server = TestServer::start(&[]);
    let clients: Vec<_> = (0..100)
        .map(|seed| {
            let mut socket = connect(&server, if seed % 2 == 0 { "/echo" } else { "/inline" });
            thread::spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..20 {
                    let batch: Vec<_> = (0..1 + rng.below(4)).map(|_| random(&mut rng)).collect();
                    for message in &batch {
                        socket.send(message.clone()).expect("the server reads");
                    }
                    for message in batch {
                        assert!(socket.read().expect("an answer") == message, "seed {seed}");
                    }
                }
                socket.close(None).expect("the server reads");
                while socket.read().is_ok() {}
            })
        })
        .collect();
    for client in clients {
        client.join().expect("what came was what was sent");
    }
    let stats = server.wait_closed(CloseReason::Peer(1005), 100);
    assert_eq!(stats.messages_sent, stats.messages_received);
    assert_eq!(server.stop().messages_dropped(), 0);
}

/// Gives a message that ends with the sum of its bytes, most of them small.
fn random(rng: &mut Rng) -> Message {
    let most = if rng.chance(90) { 300 } else { 20_000 };
    let mut bytes: Vec<u8> = (0..rng.below(most)).map(|_| rng.next_u64() as u8).collect();
    let sum = bytes.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    bytes.extend(sum.to_be_bytes());
    Message::binary(bytes)
}

/// FAULTS 156, the first half.
#[test]
fn two_servers_in_one_process_share_nothing() {
    let (one, two) = (TestServer::start(&[]), TestServer::start(&[]));
    let mut to_one = Client::open(one.address, "/echo");
    let mut to_two = Client::open(two.address, "/echo");
    to_one.assert_echo(TEXT, b"one");
    to_two.assert_echo(TEXT, b"two");
    assert_eq!(one.stop().messages_received, 1);
    assert_eq!(to_one.read_to_end(), (Vec::new(), End::Reset));
    to_two.assert_echo(TEXT, b"still here");
    assert_eq!(two.stop().messages_received, 2);
}

#[test]
fn one_connection_serves_many_requests_and_then_upgrades() {
    let server = TestServer::start_with(&[], with_tell);
    let mut client = Client::connect(server.address);
    for (path, status) in [("/", 200), ("/tell", 200), ("/nowhere", 404), ("/healthz", 404)] {
        let response = client.get(path);
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
    }
    client.upgrade("/echo");
    client.assert_echo(TEXT, b"upgraded");
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.answers), (1, [1, 2, 0, 2, 0]));
}

#[test]
fn connection_close_is_heeded() {
    let server = TestServer::start(&[]);
    let mut client = Client::connect(server.address);
    client.send(get_request("/", "Connection: close\r\n"));
    assert_eq!(client.assert_refused(200).text(), "hello\n");
    server.wait_closed(CloseReason::Done, 1);
    server.stop();
}

#[test]
fn health_is_told() {
    let server = TestServer::start_with(&[], Builder::health);
    let mut client = Client::connect(server.address);
    assert_eq!(client.get("/healthz").text(), "ok\n");
    assert_eq!(client.get("/readyz").text(), "ready\n");
    server.stop();
}

#[test]
fn head_is_answered_as_get_without_the_body() {
    let server = TestServer::start_with(&[], with_tell);
    let mut client = Client::connect(server.address);
    for path in ["/", "/tell", "/nowhere"] {
        let get = client.get(path);
        client.send(get_request(path, "").replace("GET", "HEAD"));
        let head = client.read_head();
        assert_eq!(
            (head.status, head.header("content-type")),
            (get.status, get.header("content-type"))
        );
        if path != "/tell" {
            assert_eq!(head.header("content-length"), get.header("content-length"));
        }
    }
    assert_eq!(client.get("/").text(), "hello\n", "no body was left over");
    server.stop();
}

#[test]
fn options_and_wrong_methods_name_what_is_allowed() {
    let server = TestServer::start_with(&[], with_tell);
    let mut client = Client::connect(server.address);
    let cases = [
        ("OPTIONS", "/", 204, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/tell", 204, "GET, HEAD, POST, OPTIONS"),
        ("POST", "/", 405, "GET, HEAD, OPTIONS"),
        ("DELETE", "/tell", 405, "GET, HEAD, POST, OPTIONS"),
        ("BREW", "/echo", 405, "GET, OPTIONS"),
    ];
    for (method, path, status, allow) in cases {
        client.send(get_request(path, "").replace("GET", method));
        let response = client.read_answer();
        assert_eq!((response.status, response.header("allow")), (status, Some(allow)), "{method}");
    }
    let upgrade = client.get("/echo");
    assert_eq!((upgrade.status, upgrade.header("upgrade")), (426, Some("websocket")));
    server.stop();
}

#[test]
fn admitted_foreign_pages_get_the_cors_headers() {
    let settings = [("admission.origins", "https://app.example")];
    let server = TestServer::start_with(&settings, with_tell);
    let mut client = Client::connect(server.address);
    let origin = "Origin: https://app.example\r\n";
    client.send(get_request("/tell", origin));
    let response = client.read_answer();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(response.header("vary"), Some("Origin"));
    let exposed = response.header("access-control-expose-headers");
    assert_eq!(exposed, Some("Event-Id, Event-Gap"));

    let asked = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-own\r\n";
    client.send(get_request("/tell", &format!("{origin}{asked}")).replace("GET", "OPTIONS"));
    let preflight = client.read_answer();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("x-own"));
    assert!(preflight.header("access-control-allow-methods").is_some_and(|m| m.contains("POST")));

    let own = client.get("/tell");
    assert_eq!(own.header("access-control-allow-origin"), None, "no page asked");
    client.send(get_request("/tell", "Origin: https://evil.example\r\n"));
    let refused = client.read_answer();
    // The page may see that it is refused, and nothing else.
    let evil = Some("https://evil.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, evil));
    assert_eq!(refused.header("access-control-expose-headers"), None);
    server.stop();
}

#[test]
fn posted_bodies_arrive_whole_however_they_are_sent() {
    let server = TestServer::start_with(&[], with_tell);
    let mut client = Client::connect(server.address);
    let head = |lines: &str| format!("POST /tell HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let chunked = "5;extension=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    let requests = [
        (head("Content-Length: 11\r\n") + "hello world", "POST /tell hello world"),
        (head("Transfer-Encoding: chunked\r\n") + chunked, "POST /tell hello world"),
        (head("Content-Length: 0\r\n"), "POST /tell "),
        (head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "POST /tell "),
        (head(""), "say how long the body is\n"),
        (get_request("/tell", "Content-Length: 4\r\n") + "body", "GET /tell body"),
    ];
    for (request, answer) in &requests {
        client.send(request);
        assert_eq!(client.read_answer().text(), *answer, "{request:?}");
    }
    for (request, answer) in &requests {
        // Byte by byte, and a moment between them: each is read alone.
        for byte in request.bytes() {
            client.send([byte]);
            thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(client.read_answer().text(), *answer, "{request:?}");
    }
    // All at once: each body ends where the next request begins.
    client.send(requests.iter().map(|(request, _)| request.as_str()).collect::<String>());
    for (_, answer) in &requests {
        assert_eq!(client.read_answer().text(), *answer);
    }
    let large = "x".repeat(1 << 20);
    client.send(head("Content-Length: 1048576\r\n") + &large);
    assert_eq!(client.read_answer().text(), format!("POST /tell {large}"));
    assert_eq!(server.stop().answers, [0, 16, 0, 3, 0]);
}

#[test]
fn client_that_expects_100_continue_is_told_before_it_sends() {
    let server = TestServer::start_with(&[], with_tell);
    let mut client = Client::connect(server.address);
    let head = "POST /tell HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    for (lines, body) in [
        ("Content-Length: 5\r\n\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        client.send(format!("{head}{lines}"));
        assert_eq!(client.read_head().status, 100);
        client.send(body);
        assert_eq!(client.read_answer().text(), "POST /tell hello");
    }
    // What is refused is refused before the body is sent.
    client.send(format!("{head}Content-Length: 9999999\r\n\r\n"));
    client.assert_refused(413);
    server.stop();
}

/// The handler takes longer for earlier requests: the order would show, and so would two at a time.
#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most_seen = most.clone();
    let slow = move |request: &Request| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let number = request.query_value("n").expect("it is asked with one");
        thread::sleep(Duration::from_millis(10 - number.parse::<u64>().expect("a number")));
        running.fetch_sub(1, Ordering::SeqCst);
        Response::new(200).text(number)
    };
    let server = TestServer::start_with(&[("workers", "4")], |builder| builder.get("/slow", slow));
    let mut client = Client::connect(server.address);
    client.send((0..10).map(|n| get_request(&format!("/slow?n={n}"), "")).collect::<String>());
    for n in 0..10 {
        assert_eq!(client.read_answer().text(), n.to_string());
    }
    assert_eq!(most_seen.load(Ordering::SeqCst), 1);
    server.stop();
}

/// FAULTS 76, of requests: a client may end its side and still wants its answers.
#[test]
fn half_close_after_requests_still_gets_their_answers() {
    for slow_ms in [0, 50] {
        let slow = move |request: &Request| {
            thread::sleep(Duration::from_millis(slow_ms));
            tell(request)
        };
        let server = TestServer::start_with(&[], |builder| builder.get("/slow", slow));
        for count in [1, 3] {
            let mut client = Client::connect(server.address);
            client.send(get_request("/slow", "").repeat(count));
            client.half_close();
            for _ in 0..count {
                assert_eq!(client.read_answer().text(), "GET /slow ");
            }
            assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
        }
        server.wait_closed(CloseReason::Done, 2);
        server.stop();
    }
}

/// The same of messages.
#[test]
fn half_close_after_messages_still_gets_their_echoes() {
    let server = TestServer::start(&[]);
    for path in ["/echo", "/inline"] {
        let mut client = Client::open(server.address, path);
        let payload = vec![7; 100_000];
        for _ in 0..10 {
            client.send(common::frame::frame(common::frame::BINARY, &payload));
        }
        client.half_close();
        for _ in 0..10 {
            assert!(client.read_frame().payload == payload);
        }
        assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    }
    let stats = server.wait_closed(CloseReason::Eof, 2);
    assert_eq!((stats.messages_sent, stats.messages_dropped()), (20, 0));
    server.stop();
}

#[test]
fn panicking_answer_is_a_500_and_the_next_is_served() {
    let server = TestServer::start_with(&[], |builder| {
        builder.route(Route::get("/panic", |_| panic!("as asked")).inline())
    });
    let mut client = Client::connect(server.address);
    assert_eq!(client.get("/panic").status, 500);
    assert_eq!(client.get("/").status, 200);
    let stats = server.stop();
    assert_eq!((stats.handler_panics, stats.answers), (1, [0, 1, 0, 0, 1]));
}
