//! Bodies that handlers take in pieces: by a clock that is moved by hand, in memory.

mod common;

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::http::get_request;
use common::world::*;
use heartwheel::http::{Method, Refusal, Request, Response};
use heartwheel::stats::DeadlineKind;
use heartwheel::{Accept, Bytes, CloseReason, MemoryPeer, Route, Upload};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// What the handler was told, and how it behaves.
#[derive(Clone, Default)]
struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    body: Vec<u8>,
    /// The lengths of the pieces.
    pieces: Vec<usize>,
    /// Pieces wait here.
    is_shut: bool,
}

impl Log {
    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.0.state.lock().unwrap())
    }

    fn calls(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.calls))
    }

    fn body(&self) -> Vec<u8> {
        self.with(|state| std::mem::take(&mut state.body))
    }

    fn note(&self, call: impl Into<String>) {
        self.with(|state| state.calls.push(call.into()));
    }

    fn shut(&self, is_shut: bool) {
        self.with(|state| state.is_shut = is_shut);
        self.0.opened.notify_all();
    }

    fn pass_gate(&self) {
        let state = self.0.state.lock().unwrap();
        drop(self.0.opened.wait_while(state, |state| state.is_shut));
    }
}

/// Tells when it is dropped.
struct Held(Log);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

impl Upload for Log {
    type State = Held;

    fn begin(&self, request: &Request) -> Result<Held, Response> {
        assert!(request.body().is_empty(), "it is yet to come");
        self.note("begin");
        if request.query() == Some("slow") {
            self.pass_gate();
        }
        match request.query() {
            Some("no") => Err(Response::new(403).text("not here\n")),
            Some("panic") => panic!("at the beginning, as asked"),
            _ => Ok(Held(self.clone())),
        }
    }

    fn piece(&self, _: &mut Held, piece: Bytes) -> Result<(), Response> {
        self.pass_gate();
        assert!(!piece.is_empty());
        self.with(|state| {
            state.pieces.push(piece.len());
            state.body.extend_from_slice(&piece);
        });
        match &piece[..] {
            b"stop" => Err(Response::new(507).text("full\n")),
            b"panic" => panic!("at a piece, as asked"),
            _ => Ok(()),
        }
    }

    fn end(&self, _: Held) -> Response {
        self.note("end");
        let is_bad = self.with(|state| state.body.ends_with(b"bad end"));
        assert!(!is_bad, "it ends badly, as asked");
        Response::new(201).text("stored\n")
    }

    fn cut(&self, _: Held, reason: CloseReason) {
        self.note(format!("cut {reason:?}"));
    }
}

const MOST: u64 = 10_000_000;

fn start(pairs: &[(&str, &str)]) -> (World, Log) {
    let log = Log::default();
    let judged = |request: &Request| match request.query() {
        Some("forbidden") => Err(Refusal::new(403, "not you")),
        _ => Ok(Accept::default()),
    };
    let builder = routes()
        .operator()
        .route(Route::upload(Method::Put, "/put", MOST, log.clone()))
        .route(Route::upload(Method::Put, "/small", 10, log.clone()))
        .route(Route::upload(Method::Post, "/judged", MOST, log.clone()).authorize(judged));
    (World::new(pairs, builder), log)
}

fn put(path: &str, len: u64, lines: &str) -> String {
    let method = if path.starts_with("/judged") { "POST" } else { "PUT" };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n{lines}\r\n")
}

fn put_chunks(path: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn read(peer: &mut MemoryPeer) -> String {
    text(&read_all(peer).0)
}

fn write(world: &mut World, peer: &mut MemoryPeer, bytes: impl AsRef<[u8]>) {
    peer.write_all(bytes.as_ref()).expect("there is room");
    world.settle();
}

/// Turns until a worker has got so far. The clock stands still meanwhile.
#[track_caller]
fn wait(world: &mut World, what: &str, mut condition: impl FnMut(&mut World) -> bool) {
    for _ in 0..10_000 {
        world.server.turn().expect("the poller works");
        world.settle();
        if condition(world) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

/// Sends all of the bytes, however little is taken at once.
fn pour(world: &mut World, peer: &mut MemoryPeer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match peer.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        world.settle();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn bodies_of_any_length_come_whole_and_another_request_follows() {
    for len in [0, 1, 1000, 262_144, 5_000_000, MOST as usize] {
        let (mut world, log) = start(&[]);
        let mut peer = world.send(put("/put", len as u64, "").as_bytes());
        pour(&mut world, &mut peer, &pattern(len));
        let answer = read(&mut peer);
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with("stored\n"), "{answer}");
        assert!(answer.contains("Connection: keep-alive\r\n"), "{answer}");
        assert_eq!(log.body(), pattern(len));
        assert_eq!(log.calls(), ["begin", "end", "dropped"]);
        write(&mut world, &mut peer, get_request("/", ""));
        assert!(read(&mut peer).ends_with("here\n"));
        let stats = world.server.stats();
        assert_eq!((stats.uploads, stats.uploads_cut), (1, 0));
    }
}

#[test]
fn chunks_come_as_bytes_however_they_are_cut() {
    for step in [1, 2, 7, 4096] {
        let (mut world, log) = start(&[("limits.inbox_bytes", "5")]);
        let mut peer = world.send(put_chunks("/put").as_bytes());
        let chunks = b"5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n";
        for piece in chunks.chunks(step) {
            write(&mut world, &mut peer, piece);
        }
        assert!(read(&mut peer).starts_with("HTTP/1.1 201 "));
        assert_eq!(log.body(), b"hello0123456789abcdef");
        assert!(log.with(|state| state.pieces.iter().all(|len| *len <= 5)));
        write(&mut world, &mut peer, get_request("/", ""));
        assert!(read(&mut peer).ends_with("here\n"));
    }
}

#[test]
fn requests_behind_it_are_answered_in_order() {
    let (mut world, log) = start(&[("limits.inbox_bytes", "3")]);
    let both = [
        put("/put", 10, "") + "0123456789",
        put_chunks("/put") + "4\r\nabcd\r\n0\r\n\r\n",
        put("/put", 0, ""),
        get_request("/", ""),
    ];
    let answers = world.ask(&both.concat());
    let order: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(order, ["201", "201", "201", "200"], "{answers}");
    assert_eq!(log.body(), b"0123456789abcd");
}

#[test]
fn too_long_a_body_is_refused_as_soon_as_that_is_known() {
    for (request, calls) in [
        (put("/small", 11, "Expect: 100-continue\r\n"), &[][..]),
        (put("/small", u64::MAX, ""), &[]),
        (put_chunks("/small") + "b\r\n", &["begin", "cut Done", "dropped"]),
        (put_chunks("/small") + "4\r\nabcd\r\n7\r\n", &["begin", "cut Done", "dropped"]),
    ] {
        let (mut world, log) = start(&[]);
        let mut peer = world.send(request.as_bytes());
        let answer = read(&mut peer);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{request}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        drop(peer);
        world.settle();
        assert_eq!(log.calls(), calls, "{request}");
    }
    let (mut world, log) = start(&[]);
    let answer = world.ask(&(put("/small", 10, "") + "0123456789"));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let answer = world.ask(&(put_chunks("/small") + "a\r\n0123456789\r\n0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(log.body().len(), 20);
}

#[test]
fn the_client_is_told_to_go_on_when_the_handler_has_begun() {
    let expect = "Expect: 100-continue\r\n";
    let (mut world, log) = start(&[]);
    let mut peer = world.send(put("/put", 3, expect).as_bytes());
    assert_eq!(read(&mut peer), CONTINUE);
    write(&mut world, &mut peer, "abc");
    assert!(read(&mut peer).starts_with("HTTP/1.1 201 "));
    assert_eq!(log.calls(), ["begin", "end", "dropped"]);
    for (path, calls) in [("/put?no", &["begin"][..]), ("/judged?forbidden", &[])] {
        let mut peer = world.send(put(path, 3, expect).as_bytes());
        let answer = read(&mut peer);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{path}: {answer}");
        assert_eq!(log.calls(), calls, "{path}");
    }
    // Without a body there is nothing that is not read.
    for path in ["/put?no", "/judged?forbidden"] {
        let mut peer = world.send(put(path, 0, "").as_bytes());
        assert!(read(&mut peer).contains("Connection: keep-alive\r\n"), "{path}");
        write(&mut world, &mut peer, put("/judged", 2, "") + "ok");
        assert!(read(&mut peer).starts_with("HTTP/1.1 201 "), "{path}");
    }
}

#[test]
fn a_client_that_leaves_is_told_to_the_handler_once() {
    type Leave = fn(&mut MemoryPeer);
    let ways: [(Leave, &str); 2] =
        [(MemoryPeer::shut_down, "cut Eof"), (MemoryPeer::reset, "cut Reset")];
    for (leave, told) in ways {
        for request in [put("/put", 6, "") + "abc", put_chunks("/put") + "3\r\nabc\r\n"] {
            let (mut world, log) = start(&[]);
            let mut peer = world.send(request.as_bytes());
            leave(&mut peer);
            world.settle();
            assert_eq!(log.calls(), ["begin", told, "dropped"]);
            assert_eq!(log.body(), b"abc");
            let stats = world.server.stats();
            assert_eq!((stats.uploads, stats.uploads_cut), (1, 1));
            assert_eq!(world.server.connections(), 0);
        }
    }
    // One that has sent all may end its side, and is answered.
    let (mut world, log) = start(&[("limits.inbox_bytes", "2")]);
    let mut peer = world.network.connect().unwrap();
    peer.write_all((put("/put", 6, "") + "abcdef").as_bytes()).unwrap();
    peer.shut_down();
    world.settle();
    assert!(read(&mut peer).starts_with("HTTP/1.1 201 "));
    assert_eq!(log.body(), b"abcdef");
    assert_eq!(log.calls(), ["begin", "end", "dropped"]);
}

#[test]
fn a_body_that_drips_is_refused_and_one_that_comes_steadily_is_not() {
    let pairs = [("deadlines.body", "7s"), ("deadlines.handshake", "3s")];
    let (mut world, log) = start(&pairs);
    let mut peer = world.send(put("/put", MOST, "").as_bytes());
    let since = world.clock.elapsed();
    while world.server.stats().fired(DeadlineKind::Body) == 0 {
        peer.write_all(b"x").expect("there is room");
        world.pass(Duration::from_millis(10), &mut []);
    }
    let drop_at = world.clock.elapsed();
    let took = drop_at - since;
    assert!(took >= 7 * SECOND && took <= 7 * SECOND + TICK, "{took:?}");
    world.settle();
    assert!(read(&mut peer).starts_with("HTTP/1.1 408 "));
    drop(peer);
    world.settle();
    assert_eq!(log.calls(), ["begin", "cut Body", "dropped"]);
    assert_eq!(world.server.stats().closed_by(CloseReason::Body), 1);

    let (mut world, log) = start(&pairs);
    let len = 16 * 1024 * 100;
    let mut peer = world.send(put("/put", len, "").as_bytes());
    for _ in 0..100 {
        world.pass(6 * SECOND, &mut []);
        pour(&mut world, &mut peer, &[7; 16 * 1024]);
    }
    assert!(read(&mut peer).starts_with("HTTP/1.1 201 "));
    assert_eq!(log.body().len() as u64, len);
}

#[test]
fn while_the_handler_is_behind_nothing_is_read_and_the_client_is_not_blamed() {
    let pairs = [
        ("workers", "1"),
        ("deadlines.body", "2s"),
        ("deadlines.handshake", "1h"),
        ("limits.inbox_bytes", "64k"),
    ];
    let (mut world, log) = start(&pairs);
    log.shut(true);
    let mut peer = world.send(put("/put", 2_000_000, "").as_bytes());
    let body = pattern(2_000_000);
    let mut sent = 0;
    // What is under way in memory is full when nothing more is read.
    wait(&mut world, "the client cannot go on", |world| {
        let before = sent;
        while let Ok(len) = peer.write(&body[sent..]) {
            sent += len;
            world.settle();
        }
        before == sent && sent > 100_000
    });
    assert!(sent <= 64 * 1024 + 64 * 1024 + MemoryPeer::BUFFER_BYTES, "{sent}");
    world.pass(30 * MINUTE, &mut []);
    assert_eq!(world.server.stats().fired(DeadlineKind::Body), 0, "it is not the client's fault");
    log.shut(false);
    wait(&mut world, "the answer", |world| {
        while let Ok(len) = peer.write(&body[sent..]) {
            sent += len;
            world.settle();
            if len == 0 {
                break;
            }
        }
        log.with(|state| state.calls.iter().any(|call| call == "dropped"))
    });
    wait(&mut world, "it has left", |_| read(&mut peer).starts_with("HTTP/1.1 201 "));
    assert_eq!(log.body(), body);
    assert!(log.with(|state| state.pieces.iter().all(|len| *len <= 64 * 1024)));
}

#[test]
fn a_handler_that_does_not_come_back_has_its_deadline_and_is_told_of_the_end() {
    for (len, sent) in [(3, 3), (1_000_000, 200_000)] {
        let pairs = [
            ("workers", "1"),
            ("deadlines.handshake", "5s"),
            ("limits.inbox_bytes", "64k"),
            ("deadlines.body", "1h"),
        ];
        let (mut world, log) = start(&pairs);
        log.shut(true);
        let mut peer = world.send(put("/put", len, "").as_bytes());
        wait(&mut world, "it has begun", |world| world.server.stats().uploads == 1);
        let mut left = sent;
        while let Ok(count) = peer.write(&pattern(left)) {
            left -= count;
            world.settle();
            if left == 0 {
                break;
            }
        }
        let since = world.clock.elapsed();
        let at =
            world.until("its end", |server| server.stats().fired(DeadlineKind::Handshake) == 1);
        assert!(at - since <= 5 * SECOND + TICK);
        assert!(read(&mut peer).starts_with("HTTP/1.1 503 "), "{len}");
        drop(peer);
        world.settle();
        assert_eq!(world.server.stats().closed_by(CloseReason::Answer), 1);
        assert_eq!(log.calls(), ["begin"], "it is busy");
        log.shut(false);
        wait(&mut world, "it is told", |_| {
            log.with(|state| state.calls.iter().any(|call| call == "dropped"))
        });
        assert_eq!(log.calls(), ["cut Answer", "dropped"]);
        assert_eq!(world.server.stats().uploads_cut, 1);
    }
}

#[test]
fn a_client_that_leaves_while_the_handler_begins_is_told_behind_that() {
    let (mut world, log) = start(&[("workers", "1")]);
    log.shut(true);
    let mut peer = world.send(put("/put?slow", 10, "").as_bytes());
    wait(&mut world, "it is asked", |_| log.with(|state| !state.calls.is_empty()));
    peer.reset();
    world.settle();
    assert_eq!(world.server.connections(), 0);
    log.shut(false);
    let is_told = || log.with(|state| state.calls.iter().any(|call| call == "dropped"));
    wait(&mut world, "it is told", |_| is_told());
    assert_eq!(log.calls(), ["begin", "cut Reset", "dropped"]);
    let stats = world.server.stats();
    assert_eq!((stats.uploads, stats.uploads_cut), (1, 1));
}

#[test]
fn a_panic_is_answered_and_ends_the_connection_where_the_body_is_not_read() {
    for (request, calls, keeps) in [
        (put("/put?panic", 6, ""), &["begin"][..], false),
        (put("/put", 6, "") + "panic", &["begin", "dropped"], false),
        (put("/put", 7, "") + "bad end", &["begin", "end", "dropped"], true),
    ] {
        let (mut world, log) = start(&[]);
        let mut peer = world.send(request.as_bytes());
        let answer = read(&mut peer);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{request}: {answer}");
        assert_eq!(answer.contains("keep-alive"), keeps, "{answer}");
        assert_eq!(log.calls(), calls, "{request}");
        drop(peer);
        world.settle();
        assert_eq!(log.calls(), [""; 0], "nothing follows");
        assert_eq!(world.server.stats().handler_panics, 1);
        assert_eq!(world.server.connections(), 0);
    }
}

#[test]
fn a_handler_may_answer_before_the_end() {
    let (mut world, log) = start(&[]);
    let mut peer = world.send((put("/put", 1000, "") + "stop").as_bytes());
    let answer = read(&mut peer);
    assert!(answer.starts_with("HTTP/1.1 507 ") && answer.ends_with("full\n"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(log.calls(), ["begin", "dropped"]);
    // What still comes is discarded: no reset overtakes the answer.
    write(&mut world, &mut peer, [b'x'; 996]);
    assert_eq!(read_all(&mut peer).1, None);
    drop(peer);
    world.settle();
    assert_eq!((log.calls(), log.body()), (Vec::new(), b"stop".to_vec()));
}

#[test]
fn a_drain_lets_an_upload_end_within_its_time() {
    let (mut world, log) = start(&[("deadlines.drain", "20s"), ("deadlines.body", "1m")]);
    let mut peer = world.send((put("/put", 6, "") + "abc").as_bytes());
    let mut slow = world.send((put("/put", 6, "") + "xyz").as_bytes());
    world.server.handle().drain().unwrap();
    world.pass(5 * SECOND, &mut []);
    write(&mut world, &mut peer, "def");
    let answer = read(&mut peer);
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(log.calls(), ["begin", "begin", "end", "dropped"]);
    drop(peer);
    world.pass(16 * SECOND, &mut []);
    assert_eq!(log.calls(), ["cut DrainDeadline", "dropped"]);
    assert_eq!(read_all(&mut slow).1, Some(ErrorKind::ConnectionReset));
}

#[test]
fn kicks_and_malformed_chunks_are_told() {
    let (mut world, log) = start(&[]);
    let mut peer = world.send((put_chunks("/put") + "3\r\nabc\r\nx").as_bytes());
    assert!(read(&mut peer).starts_with("HTTP/1.1 400 "));
    drop(peer);
    world.settle();
    let calls = log.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(calls[1].starts_with("cut "), "{calls:?}");
    let mut peer = world.send((put("/put", 6, "") + "abc").as_bytes());
    let mut operator = world.network.connect_admin().unwrap();
    let table = "GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n";
    write(&mut world, &mut operator, table);
    let table = read(&mut operator);
    let row = table.split("{\"id\":\"").find(|row| row.contains("\"request\""));
    let id = row.expect("the upload").split('"').next().unwrap();
    let kick = format!("DELETE /connections/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    write(&mut world, &mut operator, kick);
    assert_eq!(read_all(&mut peer).1, None);
    drop(peer);
    world.settle();
    assert_eq!(log.calls(), ["begin", "cut Kicked", "dropped"]);
}
