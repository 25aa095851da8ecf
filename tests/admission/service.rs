//! The service that `admission.request` names: what it is asked, what comes of its answers, and
//! that nobody is let in when it fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::http::{Request, Response};
use heartwheel::{Accept, Builder, ManualClock, MemoryNetwork, Route, Server};
use tungstenite::HandshakeError;

use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;
use crate::tokens::TokenFile;

/// A service in memory, whose answers a test decides, and a server that asks it.
pub struct Asking {
    pub world: World,
    service: Server,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    /// What it was asked: heads, without those that are the same in all.
    heads: Vec<String>,
    /// The status and the header lines of its answers.
    status: u16,
    lines: Vec<(&'static str, String)>,
}

impl Asking {
    pub fn new(pairs: &[(&str, &str)]) -> Asking {
        Asking::with(pairs, builder())
    }

    pub fn with(pairs: &[(&str, &str)], builder: Builder) -> Asking {
        let script = Arc::new(Mutex::new(Script { status: 200, ..Script::default() }));
        let (told, inner) = (script.clone(), MemoryNetwork::new());
        let answer = move |request: &Request| told.lock().unwrap().answer(request);
        let mut pairs = pairs.to_vec();
        pairs.push(("admission.request", "http://127.0.0.1:9/check"));
        let world = World::new(&pairs, builder.dial_on_memory(&inner));
        let service = service(&world.clock, &inner, answer);
        Asking { world, service, script }
    }

    pub fn answers(&self, status: u16, lines: &[(&'static str, &str)]) {
        let mut script = self.script.lock().unwrap();
        script.status = status;
        script.lines = lines.iter().map(|(name, value)| (*name, (*value).into())).collect();
    }

    pub fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().unwrap().heads)
    }

    /// Turns both until neither has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let servers = [&mut self.world.server, &mut self.service];
            let is_done =
                servers.iter().all(|server| server.next_timeout() != Some(Duration::ZERO));
            if is_done {
                return;
            }
            servers.into_iter().for_each(|server| server.turn().unwrap());
        }
        panic!("there is no end");
    }

    fn pass(&mut self, span: Duration) {
        self.pass_for(span, &mut []);
    }

    /// Lets `span` pass; clients see to what has come in between.
    pub fn pass_for(&mut self, span: Duration, clients: &mut [Client]) {
        let until = self.world.clock.elapsed() + span;
        self.meet(clients);
        while self.world.clock.elapsed() < until {
            let left = until - self.world.clock.elapsed();
            let next = [self.world.server.next_timeout(), self.service.next_timeout()];
            let next = next.into_iter().flatten().chain([left]).min().unwrap();
            self.world.clock.advance(next.max(Duration::from_millis(1)).min(left));
            self.meet(clients);
        }
    }

    fn meet(&mut self, clients: &mut [Client]) {
        let mut has_moved = true;
        while has_moved {
            self.settle();
            let now = self.world.clock.elapsed();
            has_moved = clients.iter_mut().fold(false, |moved, client| client.attend(now) | moved);
        }
    }

    #[track_caller]
    pub fn open(&mut self, path: &str) -> Client {
        let peer = self.world.network.connect().expect("the server listens");
        let mut handshake = tungstenite::client(format!("ws://localhost{path}"), peer);
        loop {
            match handshake {
                Ok((socket, _)) => return Client::new(socket),
                Err(HandshakeError::Interrupted(waiting)) => {
                    self.settle();
                    handshake = waiting.handshake();
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        }
    }

    /// Sends a request, and gives what has come of it so far.
    pub fn ask(&mut self, request: &str) -> String {
        let mut peer = self.send(request);
        self.settle();
        text(&read_all(&mut peer).0)
    }

    pub fn send(&mut self, request: &str) -> heartwheel::MemoryPeer {
        let mut peer =
            self.world.network.connect_from("[::ffff:192.0.2.1]:5".parse().unwrap()).unwrap();
        std::io::Write::write_all(&mut peer, request.as_bytes()).unwrap();
        self.world.settle();
        peer
    }

    pub fn metric(&self, line: &str) -> bool {
        self.world.server.metrics().lines().any(|own| own == line)
    }
}

impl Script {
    fn answer(&mut self, request: &Request) -> Response {
        let lines = request.headers().filter(|(name, _)| !["Host", "Connection"].contains(name));
        let lines = lines.map(|(name, value)| format!("{name}: {}\n", text(value)));
        self.heads.push(
            format!("{} {}\n", request.method(), request.path()) + &lines.collect::<String>(),
        );
        let response = Response::new(self.status);
        self.lines.iter().fold(response, |response, (name, value)| {
            response.header(name, value).expect("a header line")
        })
    }
}

fn service(
    clock: &ManualClock,
    network: &MemoryNetwork,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Server {
    let mut config = heartwheel::Config::default();
    for (key, value) in [("workers", "0"), ("admission.origins", "*")] {
        config.set(key, value).unwrap();
    }
    let builder = Server::builder().config(config).clock(clock.clone());
    builder.get("/{path...}", answer).listen_memory(network).unwrap()
}

pub fn builder() -> Builder {
    let who = |request: &Request| Response::new(200).text(request.identity().unwrap_or("nobody"));
    Server::builder()
        .topics("/topics/{topic}")
        .hub("/ws")
        .events("/events")
        .health()
        .get("/who", who)
        .post("/who", who)
        .route(Route::get("/open", who).open())
        .websocket("/echo", |_: &heartwheel::Peer, _: heartwheel::Event| {})
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

const RIGHTS: [(&str, &str); 3] = [
    ("Heartwheel-Identity", "ann"),
    ("Heartwheel-Publish", "in.ann"),
    ("Heartwheel-Subscribe", "out.ann, all"),
];

#[test]
fn it_is_told_what_it_needs_and_nothing_that_a_client_makes_up() {
    let mut asking = Asking::new(&[("admission.request_headers", "Authorization, Cookie, X-A")]);
    let lines = "Cookie: a=b\r\nX-Real-IP: 10.0.0.1\r\nX-Original-URI: /open\r\n\
        X-A: 1\r\nx-a: 2\r\nX-B: 3\r\nX-Original-Method: HEAD\r\n";
    for (path, token, authorization) in [
        ("/who?x=%20y", "", ""),
        ("/who?x=1", "Authorization: Basic abc\r\n", "Authorization: Basic abc\n"),
        ("/who?x=2", "Authorization: Bearer t\r\n", "Authorization: Bearer t\n"),
        ("/who?access_token=t%2Bu", "", "Authorization: Bearer t+u\n"),
        (
            "/who?x=3",
            "Sec-WebSocket-Protocol: heartwheel.bearer.t\r\n",
            "Authorization: Bearer t\n",
        ),
    ] {
        asking.ask(&get_request(path, &format!("{lines}{token}")));
        let heads = asking.heads();
        assert_eq!(heads.len(), 1, "{path}");
        let (head, rest) = heads[0].split_once("X-Original-Method: GET\n").unwrap();
        assert_eq!(head, "GET /check\n");
        let own = format!("X-Original-URI: {path}\nX-Real-IP: 192.0.2.1\n");
        let bearer = if authorization.contains("Bearer") { authorization } else { "" };
        let basic = if bearer.is_empty() { authorization } else { "" };
        let expected = format!("{own}{bearer}{basic}Cookie: a=b\nX-A: 1\nX-A: 2\n");
        assert_eq!(rest, expected, "{path}");
    }
    // A token that could be two lines is none.
    assert_eq!(status(&asking.ask(&get_request("/who?access_token=a%0AX-A:b", ""))), 400);
    assert_eq!(asking.heads(), [""; 0]);
}

/// The trace context goes along with the question, and is no part of it: one answer counts for
/// requests that are alike but for it.
#[test]
fn it_is_told_the_trace_and_one_answer_counts_for_all_traces() {
    let mut asking = Asking::new(&[]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let lines = |trace: &str| format!("traceparent: {trace}\r\ntracestate: a=b\r\n");
    asking.ask(&get_request("/who", &lines(trace)));
    let heads = asking.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].contains(&format!("\ntraceparent: {trace}\ntracestate: a=b\n")), "{heads:?}");
    let other = trace.replace("c80319c", "c80319d");
    for lines in [lines(trace), lines(&other), String::new()] {
        assert_eq!(status(&asking.ask(&get_request("/who", &lines))), 200);
    }
    assert_eq!(asking.heads(), [""; 0], "it is asked once");
    asking.ask(&get_request("/who?x", &lines("00-x")));
    let heads = asking.heads();
    assert!(!heads[0].contains("trace"), "{heads:?}");
    assert_eq!(asking.world.server.stats().traces_ignored, 1);
}

#[test]
fn behind_a_proxy_it_is_told_the_address_of_the_client() {
    let trusted = ("proxy.trusted", "192.0.2.1");
    let mut asking = Asking::new(&[trusted, ("proxy.forwarded", "x-forwarded-for")]);
    for (line, address) in [
        ("X-Forwarded-For: 10.0.0.9, 198.51.100.7\r\n", "198.51.100.7"),
        ("X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        ("X-Real-IP: 10.0.0.9\r\n", "192.0.2.1"),
    ] {
        asking.ask(&get_request("/who", line));
        let heads = asking.heads();
        assert_eq!(heads.len(), 1, "an answer counts for one client");
        assert!(heads[0].contains(&format!("X-Real-IP: {address}\n")), "{}", heads[0]);
    }
}

#[test]
fn it_is_asked_before_all_that_would_need_a_token_and_nothing_else() {
    let mut asking = Asking::new(&[("admission.request_cache", "off")]);
    asking.answers(200, &RIGHTS);
    let post = "POST /topics/in.ann HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let head = "HEAD /topics/all HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let preflight = "OPTIONS /topics/all HTTP/1.1\r\nHost: localhost\r\n\
        Origin: http://localhost\r\nAccess-Control-Request-Method: GET\r\n\r\n";
    for (request, expected, is_asked) in [
        (get_request("/topics/all", ""), 204, true),
        (head.to_owned(), 204, true),
        (get_request("/topics/all", "Accept: text/event-stream\r\n"), 200, true),
        (get_request("/events?topic=all", ""), 200, true),
        (upgrade_request("/topics/all", ""), 101, true),
        (upgrade_request("/ws", ""), 101, true),
        (upgrade_request("/echo", ""), 101, true),
        (post.to_owned(), 200, true),
        (get_request("/who", ""), 200, true),
        (get_request("/open", ""), 200, false),
        (get_request("/healthz", ""), 200, false),
        (get_request("/nowhere", ""), 404, false),
        (get_request("/ws", ""), 426, false),
        (preflight.to_owned(), 204, false),
    ] {
        let answer = asking.ask(&request);
        assert_eq!(status(&answer), expected, "{request} {answer}");
        assert_eq!(asking.heads().len(), usize::from(is_asked), "{request}");
    }
}

#[test]
fn what_it_says_is_followed() {
    let mut asking = Asking::new(&[]);
    asking.answers(204, &RIGHTS);
    for (request, expected) in [
        (get_request("/topics/out.ann", ""), 204),
        (get_request("/topics/in.ann", ""), 403),
        (get_request("/events?topic=all&topic=other", ""), 403),
        (upgrade_request("/topics/out.ann", ""), 101),
        (upgrade_request("/topics/other", ""), 403),
    ] {
        let answer = asking.ask(&request);
        assert_eq!(status(&answer), expected, "{request} {answer}");
    }
    assert!(asking.ask(&get_request("/who", "")).ends_with("\r\n\r\nann"));
    let mut peer = asking.send(&upgrade_request("/ws", ""));
    asking.settle();
    read_all(&mut peer);
    // What it does not name is not given.
    asking.answers(200, &[("Heartwheel-Subscribe", "all")]);
    asking.pass(11 * SECOND);
    let post = "POST /topics/in.ann HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(status(&asking.ask(post)), 403);
    assert!(asking.ask(&get_request("/who?a", "")).ends_with("\r\n\r\nnobody"));
    asking.answers(200, &[]);
    assert_eq!(status(&asking.ask(&get_request("/topics/all?a", ""))), 403);
    for status_of_service in [401, 403] {
        asking.answers(status_of_service, &RIGHTS);
        let answer = asking.ask(&get_request(&format!("/who?{status_of_service}"), ""));
        assert_eq!(status(&answer), status_of_service);
        assert_eq!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), status_of_service == 401);
    }
    assert!(asking.metric("heartwheel_admission_requests_total{result=\"refused\"} 2"));
}

#[test]
fn whatever_is_no_clear_answer_lets_nobody_in() {
    let mut asking = Asking::new(&[("admission.request_cache", "off")]);
    let many = "a,".repeat(65);
    for (status_of_service, lines) in [
        (302, &[("Location", "/ok")][..]),
        (304, &[]),
        (400, &[]),
        (404, &[]),
        (500, &[]),
        (503, &[]),
        (200, &[("Heartwheel-Identity", "")]),
        (200, &[("Heartwheel-Identity", "ann"), ("Heartwheel-Identity", "bob")]),
        (200, &[("Heartwheel-Publish", "a/b")]),
        (200, &[("Heartwheel-Subscribe", many.as_str())]),
        (200, &[("Heartwheel-Expires", "soon")]),
        (200, &[("Heartwheel-Expires", "-1")]),
        (200, &[("Heartwheel-Expires", "99999999999999999999")]),
        (200, &[("Heartwheel-Expires", "1"), ("Heartwheel-Expires", "2")]),
    ] {
        // Each by itself: five in a row would open the breaker.
        asking.pass(MINUTE + SECOND);
        asking.answers(status_of_service, lines);
        let answer = asking.ask(&get_request("/who", ""));
        assert_eq!(status(&answer), 503, "{lines:?} {answer}");
        assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
        let heads = asking.heads();
        assert_eq!(heads.len(), 1, "{status_of_service} {lines:?}: it is not asked twice");
    }
    assert!(asking.metric("heartwheel_admission_requests_total{result=\"failed\"} 14"));
    assert!(asking.metric("heartwheel_admission_requests_total{result=\"allowed\"} 0"));
}

#[test]
fn tokens_and_authorize_must_let_in_too_and_rights_are_those_of_all() {
    let file = TokenFile::new(
        "tok publish=in.* subscribe=out.ann subscribe=t subscribe=u identity=of_token\n",
    );
    let authorize = |request: &Request| match request.query_value("no") {
        Some(_) => Err(heartwheel::http::Refusal::new(403, "not you")),
        None => Ok(Accept::new().subscribe(["out.*", "all", "u"])),
    };
    let who = |request: &Request| Response::new(200).text(request.identity().unwrap_or("nobody"));
    let builder = Server::builder()
        .route(Route::topics("/topics/{topic}").authorize(authorize))
        .route(Route::hub("/ws").authorize(authorize))
        .route(Route::get("/who", who).authorize(|_: &Request| Ok(Accept::new())))
        .get("/plain", who);
    let path = file.path().to_owned();
    let mut asking = Asking::with(&[("admission.tokens", &path)], builder);
    asking.answers(200, &[("Heartwheel-Subscribe", "out.ann, all, t, x")]);
    let token = "Authorization: Bearer tok\r\n";
    for (path, lines, expected, is_asked) in [
        ("/topics/out.ann", "", 401, false),
        ("/topics/x", token, 403, false),
        ("/topics/out.ann?no", token, 403, true),
        ("/topics/out.ann", token, 204, true),
        // Each of the three has it but one.
        ("/topics/t", token, 403, true),
        ("/topics/all", token, 403, false),
        ("/topics/out.bob", token, 403, false),
    ] {
        let answer = asking.ask(&get_request(path, lines));
        assert_eq!(status(&answer), expected, "{path} {answer}");
        assert_eq!(asking.heads().len(), usize::from(is_asked), "{path}");
    }
    // Rights hold for as long as the connection does.
    let mut socket = Client::new_on(&mut asking, "/topics/out.ann?access_token=tok");
    socket.say("mine");
    asking.settle();
    socket.attend(asking.world.clock.elapsed());
    assert_eq!(socket.code(), 1008);
    let mut hub = Client::new_on(&mut asking, "/ws?access_token=tok");
    // Of the last two one is not given by `authorize`, the other one not by the service.
    for (topic, expected) in [("out.ann", "subscribed"), ("t", "forbidden"), ("u", "forbidden")] {
        hub.say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        asking.settle();
        hub.attend(asking.world.clock.elapsed());
        let answer = hub.messages.pop().expect("each is answered").to_string();
        assert!(answer.contains(expected), "{topic}: {answer}");
    }
    // The service names who it is, else the token does; `authorize` may say nothing.
    assert!(asking.ask(&get_request("/who", token)).ends_with("\r\n\r\nof_token"));
    asking.answers(200, &[("Heartwheel-Identity", "of_service")]);
    assert!(asking.ask(&get_request("/who?a", token)).ends_with("\r\n\r\nof_service"));
    assert!(asking.ask(&get_request("/plain", token)).ends_with("\r\n\r\nof_service"));
    // What `authorize` gives, the service has to give, too.
    assert_eq!(status(&asking.ask(&get_request("/topics/out.ann?a", token))), 403);
}

impl Client {
    fn new_on(asking: &mut Asking, path: &str) -> Client {
        let peer = asking.world.network.connect().unwrap();
        let mut handshake = tungstenite::client(format!("ws://localhost{path}"), peer);
        loop {
            match handshake {
                Ok((socket, _)) => return Client::new(socket),
                Err(tungstenite::HandshakeError::Interrupted(waiting)) => {
                    asking.settle();
                    handshake = waiting.handshake();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn an_answer_counts_for_requests_that_are_the_same_in_all_that_is_passed() {
    let mut asking = Asking::new(&[]);
    asking.answers(200, &RIGHTS);
    let who = |path: &str, lines: &str| get_request(path, lines);
    let head = "HEAD /who HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let counts = |asking: &mut Asking, requests: &[String]| {
        requests.iter().for_each(|request| drop(asking.ask(request)));
        asking.heads().len()
    };
    let same = [who("/who", ""), who("/who", "X-Other: 1\r\n"), who("/who", "")];
    assert_eq!(counts(&mut asking, &same), 1);
    let others = [
        head,
        who("/who?x", ""),
        who("/who", "Cookie: a\r\n"),
        who("/who", "Cookie: b\r\n"),
        who("/who", "Authorization: Bearer a\r\n"),
        who("/who", "Origin: http://localhost\r\n"),
        who("/who?access_token=a", ""),
    ];
    assert_eq!(counts(&mut asking, &others), others.len());
    assert_eq!(counts(&mut asking, &others), 0);
    let mut peer = asking.world.network.connect_from("192.0.2.7:5".parse().unwrap()).unwrap();
    std::io::Write::write_all(&mut peer, who("/who", "").as_bytes()).unwrap();
    asking.settle();
    assert_eq!(asking.heads().len(), 1, "another address");
    // Refusals are kept, failures are not, and nothing longer than it should.
    asking.answers(403, &[]);
    assert_eq!(counts(&mut asking, &same), 0);
    asking.pass(10 * SECOND + TICK);
    assert_eq!(counts(&mut asking, &same), 1);
    asking.answers(200, &RIGHTS);
    assert_eq!(status(&asking.ask(&same[0])), 403);
    asking.pass(10 * SECOND + TICK);
    asking.answers(404, &[]);
    assert_eq!(counts(&mut asking, &same), 3);
    asking.answers(200, &RIGHTS);
    assert_eq!(status(&asking.ask(&same[0])), 200);
}

#[test]
fn thirty_two_are_asked_at_once_and_the_same_question_once() {
    let mut asking = Asking::new(&[]);
    let mut peers = Vec::new();
    for n in 0..40 {
        for _ in 0..3 {
            peers.push(asking.send(&get_request(&format!("/who?{n}"), "")));
        }
    }
    assert!(asking.metric("heartwheel_admission_waiting 120"));
    assert!(asking.metric("heartwheel_admission_asked_total 32"));
    asking.service.turn().unwrap();
    assert_eq!(asking.service.stats().accepted, 32);
    // Those whose clients have gone are not asked.
    peers.drain(35 * 3..).for_each(|mut peer| peer.reset());
    asking.settle();
    assert_eq!(asking.service.stats().accepted, 35);
    for peer in &mut peers {
        assert_eq!(status(&text(&read_all(peer).0)), 200);
    }
    assert!(asking.metric("heartwheel_admission_waiting 0"));
    assert!(asking.metric("heartwheel_admission_requests_total{result=\"allowed\"} 105"));
    assert!(asking.metric("heartwheel_admission_request_seconds_count 35"));
}

/// The service takes connections and is silent: each question ends after 2 s, and what has waited
/// for longer than `deadlines.handshake` is answered then.
#[test]
fn a_silent_service_refuses_all_in_time_and_holds_up_nobody() {
    let mut asking = Asking::new(&[]);
    let mut peers: Vec<_> =
        (0..100).map(|n| asking.send(&get_request(&format!("/who?{n}"), ""))).collect();
    let world = &mut asking.world;
    assert_eq!(status(&world.ask(&get_request("/open", ""))), 200, "the loop goes on");
    for (ms, expected) in [(1999, 0), (2100, 32), (4200, 64), (4900, 64), (5100, 100)] {
        let span = Duration::from_millis(ms) - world.clock.elapsed();
        world.pass(span, &mut []);
        let mut answered = 0;
        for peer in &mut peers {
            let answer = text(&read_all(peer).0);
            assert!(answer.is_empty() || status(&answer) == 503, "{answer}");
            answered += usize::from(!answer.is_empty());
        }
        peers.truncate(peers.len());
        let told = world.server.stats().answers[4];
        assert_eq!((answered > 0 || expected == 0 || ms == 4900, told), (true, expected), "{ms}");
    }
    // Late answers are for nobody; then all is as before.
    asking.settle();
    assert_eq!(status(&asking.ask(&get_request("/who", ""))), 200);
}

#[test]
fn a_broken_service_is_left_alone_but_for_one_probe() {
    let settings = [("client.broken_for", "20s"), ("admission.request_cache", "5s")];
    let mut asking = Asking::new(&settings);
    assert_eq!(status(&asking.ask(&get_request("/who?known", ""))), 200);
    asking.answers(500, &[]);
    let mut n = 0;
    let mut ask = |asking: &mut Asking| {
        n += 1;
        let answer = asking.ask(&get_request(&format!("/who?{n}"), ""));
        (status(&answer), asking.heads().len())
    };
    asking.heads();
    for _ in 0..4 {
        assert_eq!(ask(&mut asking), (503, 1));
    }
    assert!(asking.metric("heartwheel_admission_broken 1"), "four of five have failed");
    for _ in 0..10 {
        assert_eq!(ask(&mut asking), (503, 0));
    }
    assert_eq!(status(&asking.ask(&get_request("/who?known", ""))), 200, "what is known counts");
    asking.pass(20 * SECOND + TICK);
    // Of several at once one is the probe.
    let peers: Vec<_> =
        ["/who?a", "/who?b", "/who?c"].map(|path| asking.send(&get_request(path, ""))).into();
    asking.settle();
    assert_eq!(asking.heads().len(), 1);
    drop(peers);
    assert_eq!(ask(&mut asking), (503, 0));
    asking.answers(200, &[]);
    asking.pass(40 * SECOND + TICK);
    assert_eq!(ask(&mut asking), (200, 1));
    assert_eq!(ask(&mut asking), (200, 1));
    assert!(asking.metric("heartwheel_admission_broken 0"));
}

#[test]
fn an_opinion_that_comes_too_late_is_dropped() {
    let mut asking = Asking::new(&[("deadlines.handshake", "1s")]);
    let mut peer = asking.send(&upgrade_request("/ws", ""));
    asking.world.pass(SECOND + TICK, &mut []);
    let answer = text(&read_all(&mut peer).0);
    assert_eq!(status(&answer), 503, "{answer}");
    asking.settle();
    assert_eq!(asking.heads().len(), 1);
    assert!(read_all(&mut peer).0.is_empty());
    assert_eq!(asking.world.server.stats().upgraded, 0);
}

/// A body that is taken in pieces is not asked for before the service has spoken.
#[cfg(feature = "streams")]
#[test]
fn an_upload_waits_for_it_and_a_refusal_ends_it() {
    struct Count(Arc<Mutex<u32>>);
    impl heartwheel::Upload for Count {
        type State = usize;
        fn begin(&self, request: &Request) -> Result<usize, Response> {
            assert_eq!(request.identity(), Some("ann"));
            *self.0.lock().unwrap() += 1;
            Ok(0)
        }
        fn piece(&self, len: &mut usize, piece: heartwheel::Bytes) -> Result<(), Response> {
            *len += piece.len();
            Ok(())
        }
        fn end(&self, len: usize) -> Response {
            Response::new(200).text(len.to_string())
        }
    }
    let begun = Arc::new(Mutex::new(0));
    let route = Route::upload(heartwheel::http::Method::Put, "/up", 1000, Count(begun.clone()));
    let mut asking = Asking::with(&[], Server::builder().route(route));
    let put = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
    };
    asking.answers(403, &[]);
    assert_eq!(status(&asking.ask(&put("/up"))), 403);
    assert_eq!(*begun.lock().unwrap(), 0);
    asking.answers(200, &RIGHTS);
    let answer = asking.ask(&put("/up?a"));
    assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
    assert_eq!(*begun.lock().unwrap(), 1);
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let mut asking = Asking::new(&[("admission.request_cache", "off")]);
    let asked = |asking: &mut Asking, url: &str| {
        let mut config = asking.world.config.clone();
        config.set("admission.request", url).unwrap();
        asking.world.server.handle().reload(config).unwrap();
        asking.settle();
        assert_eq!(status(&asking.ask(&get_request("/who", ""))), 200);
        asking.heads().pop().and_then(|head| head.lines().next().map(String::from))
    };
    assert_eq!(asked(&mut asking, "off"), None);
    for (url, line) in [
        ("http://127.0.0.1:9", "GET /"),
        ("http://127.0.0.1:9?a=b", "GET /"),
        ("http://127.0.0.1:9/x/y", "GET /x/y"),
    ] {
        assert_eq!(asked(&mut asking, url).as_deref(), Some(line), "{url}");
    }
    assert_eq!(asked(&mut asking, "off"), None);
}
