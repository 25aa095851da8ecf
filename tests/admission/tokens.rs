//! `admission.tokens`: what each route asks for, how a request may say it, and what becomes of
//! connections when the tokens change.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use heartwheel::{CloseReason, Route, Server, app};

use crate::common::client::Client;
use crate::common::http::{Answer, upgrade_request};
use crate::common::server::{TestServer, config, echo};
use crate::common::timing::eventually;
use crate::common::topics::{self, Hub, Stream, request};

/// A file of tokens. It is removed when this is dropped.
pub struct TokenFile(PathBuf);

impl TokenFile {
    pub fn new(text: &str) -> TokenFile {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("heartwheel-tokens-{}-{number}", std::process::id());
        let file = TokenFile(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    pub fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("there is a folder for it");
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("it is text")
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const TOKENS: &str = "all publish=* subscribe=*\nwriter publish=in.*\nreader subscribe=out.*\n";

fn start(file: &TokenFile) -> TestServer {
    topics::start(&[("admission.tokens", file.path())])
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[track_caller]
fn ask(server: &TestServer, line: &str, token: &str, body: &str) -> Answer {
    let lines = format!("{}Content-Length: {}\r\n", bearer(token), body.len());
    request(server.address, line, &lines, body.as_bytes())
}

/// Asks for a WebSocket with these header lines, and gives the status.
#[track_caller]
fn knock(server: &TestServer, target: &str, lines: &str) -> (Client, u16) {
    let mut peer = Client::connect(server.address);
    peer.send(upgrade_request(target, lines).as_bytes());
    let answer = peer.read_answer();
    (peer, answer.status)
}

#[test]
fn every_route_that_gives_or_takes_something_asks_for_a_token() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    for token in ["", &bearer("none"), &bearer(""), "Authorization: Basic all\r\n"] {
        // Whoever may ask for nothing is not told how to ask.
        for line in ["GET /topics/out.a", "HEAD /topics/out.a", "GET /events", "GET /ws", "PUT /ws"]
        {
            let reply = request(server.address, line, token, b"");
            assert_eq!(reply.status, 401, "{line} {token}");
            assert_eq!(reply.header("WWW-Authenticate"), Some("Bearer"));
        }
        let lines = format!("{token}Content-Length: 1\r\n");
        let reply = request(server.address, "POST /topics/in.a", &lines, b"x");
        assert_eq!(reply.status, 401);
        for target in ["/topics/out.a", "/ws", "/echo"] {
            assert_eq!(knock(&server, target, token).1, 401, "{target}");
        }
    }
    eventually("all are counted", || server.stats().rejected_tokens == 4 * 9);
    assert_eq!(server.stats().upgraded, 0);
    // What everybody may have, and what bears no credentials by itself.
    for target in ["/", "/heartwheel.js", "/healthz", "/readyz"] {
        assert_eq!(topics::fetch(server.address, target).status, 200, "{target}");
    }
    let preflight = "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n";
    let reply = request(server.address, "OPTIONS /topics/in.a", preflight, b"");
    assert_eq!(reply.status, 204);
}

#[test]
fn a_request_may_do_what_its_token_says() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    for (line, all, writer, reader) in [
        ("POST /topics/in.a", 200, 200, 403),
        ("POST /topics/out.a", 200, 403, 403),
        ("POST /topics/in.", 200, 403, 403),
        ("POST /topics/$stats", 403, 403, 403),
        ("POST /topics/a%20b", 400, 400, 400),
        ("GET /topics/out.a", 200, 403, 200),
        ("GET /topics/out.a?after=0-0", 200, 403, 200),
        ("GET /topics/in.a", 200, 403, 403),
        ("GET /topics/%6Fut.a", 200, 403, 200),
        ("GET /events?topic=in.a&topic=out.a", 0, 403, 403),
    ] {
        for (token, status) in [("all", all), ("writer", writer), ("reader", reader)] {
            let body = if line.starts_with("POST") { "x" } else { "" };
            if status > 0 {
                assert_eq!(ask(&server, line, token, body).status, status, "{line} {token}");
            }
        }
    }
    assert!(server.stats().rejected_rights > 0);
    let head = bearer("all");
    let stream = |target: &str, lines: &str| {
        let mut peer = Client::connect(server.address);
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}");
        peer.send(format!("{request}Accept: text/event-stream\r\n\r\n").as_bytes());
        peer.read_answer().status
    };
    assert_eq!(stream("/topics/out.a", &bearer("writer")), 403);
    assert_eq!(stream("/topics/out.a", &bearer("reader")), 200);
    assert_eq!(stream("/events?topic=in.a&topic=out.a", &head), 200);
    assert_eq!(knock(&server, "/topics/out.a", &bearer("writer")).1, 403);
    assert_eq!(knock(&server, "/topics/out.a", &bearer("reader")).1, 101);
}

/// A page of another origin can read why it was refused.
#[test]
fn a_refusal_has_the_headers_that_let_a_foreign_page_read_it() {
    let file = TokenFile::new(TOKENS);
    let pairs = [("admission.tokens", file.path()), ("admission.origins", "https://a.example")];
    let server = topics::start(&pairs);
    for (token, status) in [("none", 401), ("writer", 403)] {
        let lines = format!("Origin: https://a.example\r\n{}", bearer(token));
        let reply = request(server.address, "GET /topics/out.a", &lines, b"");
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("Access-Control-Allow-Origin"), Some("https://a.example"));
    }
    // Where the page itself may not ask, no token helps.
    let lines = format!("Origin: https://b.example\r\n{}", bearer("all"));
    assert_eq!(request(server.address, "GET /topics/out.a", &lines, b"").status, 403);
}

#[test]
fn a_body_is_not_read_if_the_token_may_not_publish_it() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    let mut peer = Client::connect(server.address);
    let head = "POST /topics/in.a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n";
    peer.send(format!("{head}{}\r\n", bearer("reader")).as_bytes());
    assert_eq!(peer.read_answer().status, 403, "no byte of the body was sent");
}

#[test]
fn a_token_may_come_by_header_subprotocol_or_query() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    let lines = "Accept: text/event-stream\r\n";
    let mut stream = Stream::open(server.address, "/topics/out.a?access_token=reader");
    stream.position();
    assert_eq!(request(server.address, "GET /topics/a?access_token=x", lines, b"").status, 401);
    for (target, lines, protocol) in [
        ("/ws", "Sec-WebSocket-Protocol: heartwheel.v1, heartwheel.bearer.all\r\n", true),
        ("/ws", "Sec-WebSocket-Protocol: heartwheel.bearer.all, heartwheel.v1\r\n", true),
        ("/ws", "Sec-WebSocket-Protocol: heartwheel.bearer.all\r\n", false),
        ("/echo", "Sec-WebSocket-Protocol: heartwheel.bearer.all, other\r\n", false),
        ("/ws?access_token=all", "", false),
    ] {
        let mut peer = Client::connect(server.address);
        peer.send(upgrade_request(target, lines).as_bytes());
        let answer = peer.read_answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert!(!answer.head.contains("bearer"), "the token is not echoed: {}", answer.head);
        let echoed = answer.head.contains("Sec-WebSocket-Protocol: heartwheel.v1\r\n");
        assert_eq!(echoed, protocol, "{lines}");
        assert_eq!(answer.head.contains("Sec-WebSocket-Protocol"), protocol);
    }
}

#[test]
fn an_application_cannot_echo_a_token_by_mistake() {
    let file = TokenFile::new(TOKENS);
    let echoes = |request: &heartwheel::http::Request| {
        let offered = request.header("sec-websocket-protocol").unwrap_or_default();
        Ok(heartwheel::Accept::with_protocol(offered).unwrap())
    };
    let route = Route::websocket("/a", echo).authorize(echoes);
    let pairs = [("admission.tokens", file.path())];
    let server = TestServer::serve(&pairs, Server::builder().route(route));
    let mut peer = Client::connect(server.address);
    let lines = "Sec-WebSocket-Protocol: heartwheel.bearer.all\r\n";
    peer.send(upgrade_request("/a", lines).as_bytes());
    let answer = peer.read_answer();
    assert_eq!(answer.status, 101);
    assert!(!answer.head.contains("heartwheel.bearer"), "{}", answer.head);
}

#[test]
fn ws_answers_forbidden_and_stays() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    let (mut peer, status) = knock(&server, "/ws", &bearer("reader"));
    assert_eq!(status, 101);
    assert!(peer.message().starts_with(r#"{"op":"hello""#));
    let mut hub = Hub { peer };
    let forbidden = |sentence: &str, reference: &str| {
        let code = r#"{"op":"error","code":"forbidden","#;
        format!(r#"{code}"message":"{sentence}","ref":{reference}}}"#)
    };
    hub.say(r#"{"op":"publish","topic":"out.a","data":1,"ref":7}"#);
    hub.expect(&forbidden("this token may not publish there", "7"));
    hub.say(r#"{"op":"subscribe","topic":"in.a"}"#);
    hub.expect(&forbidden("this token may not subscribe to that", "\"in.a\""));
    hub.subscribe("out.a");
    assert_eq!(ask(&server, "POST /topics/out.a", "all", "x").status, 200);
    assert!(hub.hear().contains(r#""data":"x""#));
    eventually("both are counted", || server.stats().rejected_rights == 2);
}

#[test]
fn publishing_on_a_plain_socket_without_the_right_closes_1008() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    let (mut peer, status) = knock(&server, "/topics/out.a", &bearer("reader"));
    assert_eq!(status, 101);
    peer.text("mine");
    peer.expect_close(1008);
    peer.close(1008);
    peer.expect_fin();
    drop(peer);
    server.expect_closed(CloseReason::Forbidden, 1);
    assert_eq!(ask(&server, "GET /topics/out.a", "all", "").status, 204, "nothing was published");
}

/// New requests are judged by the new file at once; who is connected by what its token may then.
#[test]
fn a_reload_replaces_the_tokens() {
    let file = TokenFile::new(TOKENS);
    let server = start(&file);
    let open = |token: &str| {
        let (mut peer, status) = knock(&server, "/ws", &bearer(token));
        assert_eq!(status, 101, "{token}");
        peer.message();
        Hub { peer }
    };
    let (mut all, mut reader) = (open("all"), open("reader"));
    let (mut plain, _) = knock(&server, "/topics/out.b", &bearer("all"));
    reader.subscribe("out.a");
    file.write("# new\nanother publish=out.*\nreader subscribe=in.*\n");
    let pairs = [("admission.tokens", file.path())];
    server.handle.reload(config(&pairs)).expect("there is no fault in it");
    assert_eq!(ask(&server, "POST /topics/out.a", "all", "x").status, 401);
    assert_eq!(ask(&server, "POST /topics/out.a", "another", "x").status, 200);
    assert!(reader.hear().contains(r#""data":"x""#), "what it is subscribed to goes on");
    reader.subscribe("in.a");
    reader.say(r#"{"op":"subscribe","topic":"out.c"}"#);
    assert!(reader.hear().contains("forbidden"), "the new rights");
    all.say(r#"{"op":"subscribe","topic":"out.c"}"#);
    assert!(all.hear().contains("forbidden"), "a token that is gone may nothing");
    plain.text("x");
    plain.expect_close(1008);
    // A file with a fault changes nothing.
    file.write("another publish=out.*\nreader! subscribe=in.*\n");
    let faults = server.handle.reload(config(&pairs)).expect_err("there is a fault in it");
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("line 2: a token must be of "), "{faults:?}");
    assert_eq!(ask(&server, "POST /topics/out.a", "another", "x").status, 200);
    // Without a file nobody is asked.
    server.handle.reload(config(&[])).expect("there is no fault in it");
    assert_eq!(topics::fetch(server.address, "/topics/out.a").status, 200);
    all.subscribe("out.c");
}

#[test]
fn routes_of_an_application_ask_for_a_token_unless_they_are_open() {
    let file = TokenFile::new("any\n");
    let answer = |_: &heartwheel::http::Request| heartwheel::http::Response::new(200);
    let builder = app::routes(Server::builder())
        .get("/closed", answer)
        .route(Route::get("/open", answer).open())
        .route(Route::get("/operator", answer).admin());
    let mut config = config(&[("admission.tokens", file.path())]);
    config.set("admin_listen", "127.0.0.1:0").unwrap();
    let server = builder.config(config).build().unwrap();
    let admin = server.admin_addresses()[0].as_tcp().unwrap();
    let server = TestServer::of(server);
    assert_eq!(topics::fetch(server.address, "/closed").status, 401);
    assert_eq!(ask(&server, "GET /closed", "any", "").status, 200, "a token without rights");
    assert_eq!(ask(&server, "GET /topics/a", "any", "").status, 403);
    assert_eq!(topics::fetch(server.address, "/open").status, 200);
    assert_eq!(topics::fetch(admin, "/operator").status, 200, "guarded by where it listens");
    let mut peer = Client::connect(server.address);
    peer.send(upgrade_request("/echo?access_token=any", "").as_bytes());
    assert_eq!(peer.read_answer().status, 101);
    peer.text("hello");
    assert_eq!(peer.message(), "hello");
}
