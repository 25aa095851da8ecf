//! Answers that handlers and threads write over time: by a clock that is moved by hand, in memory.

mod common;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::http::get_request;
use common::world::*;
use heartwheel::http::{Request, Response};
use heartwheel::stats::DeadlineKind;
use heartwheel::{Body, Builder, CloseReason, Events, MemoryPeer, Record, Route, StreamError};

/// The writers that handlers have left for the test.
#[derive(Clone, Default)]
struct Left {
    bodies: Arc<Mutex<Vec<Body>>>,
    events: Arc<Mutex<Vec<Events>>>,
}

impl Left {
    fn body(&self) -> Body {
        self.bodies.lock().unwrap().pop().expect("a handler has left one")
    }

    fn events(&self) -> Events {
        self.events.lock().unwrap().pop().expect("a handler has left some")
    }

    fn routes(&self) -> Builder {
        let streams = self.bodies.clone();
        let lengths = self.bodies.clone();
        let events = self.events.clone();
        routes()
            .get("/stream", move |_: &Request| {
                let (response, body) = Response::new(200).stream("text/plain");
                streams.lock().unwrap().push(body);
                response
            })
            .get("/length", move |request: &Request| {
                let length = request.query().unwrap_or_default().parse().expect("a number");
                let (response, body) = Response::new(200).stream_of("text/plain", length);
                lengths.lock().unwrap().push(body);
                response
            })
            .get("/own-events", move |_: &Request| {
                let (response, own) = Response::new(200).events();
                events.lock().unwrap().push(own);
                response
            })
    }
}

fn start(pairs: &[(&str, &str)]) -> (World, Left) {
    let left = Left::default();
    (World::new(pairs, left.routes()), left)
}

fn read(peer: &mut MemoryPeer) -> String {
    text(&read_all(peer).0)
}

/// Gives what stands behind the head.
fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn a_body_goes_in_chunks_and_another_request_follows() {
    let (mut world, left) = start(&[]);
    let mut peer = world.send(get_request("/stream", "").as_bytes());
    let body = left.body();
    let head = read(&mut peer);
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && head.ends_with("\r\n\r\n"));
    assert!(head.contains("Connection: keep-alive\r\n"), "{head}");
    for (piece, chunk) in
        [("hello", "5\r\nhello\r\n"), ("0123456789abcdef", "10\r\n0123456789abcdef\r\n")]
    {
        body.send(piece).unwrap();
        world.settle();
        assert_eq!(read(&mut peer), chunk);
    }
    body.send("").unwrap();
    world.settle();
    assert_eq!(read(&mut peer), "", "an empty piece is no end");
    body.end();
    world.settle();
    assert_eq!(read(&mut peer), "0\r\n\r\n");
    io::Write::write_all(&mut peer, get_request("/", "").as_bytes()).unwrap();
    world.settle();
    assert!(read(&mut peer).ends_with("here\n"));
}

#[test]
fn what_is_written_before_the_handler_returns_leaves_behind_the_head() {
    let builder = routes().get("/both", |_: &Request| {
        let (response, body) = Response::new(200).stream("text/plain");
        body.send("a").unwrap();
        body.send(vec![b'b'; 70_000]).unwrap_err();
        body.send("c").unwrap();
        body.end();
        response
    });
    let mut world = World::new(&[], builder);
    let answer = world.ask(&get_request("/both", ""));
    assert_eq!(body_of(&answer), "2\r\nac\r\n0\r\n\r\n");
}

#[test]
fn a_promised_length_is_told_and_kept() {
    let (mut world, left) = start(&[]);
    let mut peer = world.send(get_request("/length?6", "").as_bytes());
    let body = left.body();
    body.send("abc").unwrap();
    body.send("def").unwrap();
    world.settle();
    let answer = read(&mut peer);
    assert!(answer.contains("Content-Length: 6\r\n") && answer.ends_with("\r\n\r\nabcdef"));
    assert_eq!(body.send("g"), Err(StreamError::Ended), "the body is complete");
    io::Write::write_all(&mut peer, get_request("/length?0", "").as_bytes()).unwrap();
    world.settle();
    assert!(read(&mut peer).contains("Content-Length: 0\r\n"));
    assert_eq!(left.body().send("g"), Err(StreamError::Ended));
}

#[test]
fn a_length_that_is_not_met_ends_the_connection_by_a_reset() {
    type Break = fn(Body);
    let breaks: [(&str, Break); 4] = [
        ("it ends early", |body| {
            body.send("abc").unwrap();
            body.end();
        }),
        ("it is dropped early", |body| {
            body.send("abc").unwrap();
            drop(body);
        }),
        ("there is more", |body| {
            body.send("abcdefg").unwrap();
            body.end();
        }),
        ("there is nothing", Body::end),
    ];
    for (what, broken) in breaks {
        let (mut world, left) = start(&[]);
        let mut peer = world.send(get_request("/length?6", "").as_bytes());
        broken(left.body());
        world.settle();
        let (_, ended) = read_all(&mut peer);
        assert_eq!(ended, Some(io::ErrorKind::ConnectionReset), "{what}");
        assert_eq!(world.server.stats().closed_by(CloseReason::Cut), 1, "{what}");
    }
}

#[test]
fn a_body_that_is_dropped_is_cut_off_and_takes_nobody_for_the_whole() {
    let (mut world, left) = start(&[]);
    let mut peer = world.send(get_request("/stream", "").as_bytes());
    let body = left.body();
    body.send("some").unwrap();
    world.settle();
    drop(body);
    world.settle();
    let (bytes, ended) = read_all(&mut peer);
    assert!(!text(&bytes).ends_with("0\r\n\r\n"));
    assert_eq!(ended, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(world.server.stats().closed_by(CloseReason::Cut), 1);
}

#[test]
fn a_stream_that_stands_still_ends_in_its_tick() {
    let (mut world, left) = start(&[("deadlines.stream", "7s"), ("deadlines.keep_alive", "1h")]);
    let peer = world.send(get_request("/stream", "").as_bytes());
    let body = left.body();
    world.pass(Duration::from_secs(5), &mut []);
    body.send("the clock begins anew").unwrap();
    world.settle();
    let since = world.clock.elapsed();
    let at = world.until("its end", |server| server.stats().closed_by(CloseReason::Stream) == 1);
    let took = at - since;
    assert!(took >= Duration::from_secs(7) && took <= Duration::from_secs(7) + TICK, "{took:?}");
    assert_eq!(world.server.stats().fired(DeadlineKind::Stream), 1);
    assert!(!body.is_open());
    assert_eq!(body.send("late"), Err(StreamError::Ended));
    drop(peer);
}

#[test]
fn a_slow_reader_pushes_back_and_its_end_is_told() {
    let (mut world, left) =
        start(&[("limits.outbox_bytes", "100k"), ("deadlines.write_stall", "3s")]);
    let peer = world.send(get_request("/stream", "").as_bytes());
    let body = left.body();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    body.on_room(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut sent = 0;
    while body.try_send(vec![b'x'; 10_000]).is_ok() {
        sent += 10_000;
        world.settle();
        assert!(sent < 1_000_000, "somebody keeps all of it");
    }
    assert_eq!(body.try_send(vec![b'x'; 10_000]), Err(StreamError::Full));
    assert!(body.waiting_bytes() <= 100 * 1024, "{}", body.waiting_bytes());
    world.until("the end", |server| server.stats().closed_by(CloseReason::WriteStall) == 1);
    assert_eq!(body.try_send("x"), Err(StreamError::Ended));
    assert!(calls.load(Ordering::Relaxed) >= 1, "the writer is told");
    assert!(body.waiting_bytes() > 0, "what was lost is known");
    drop(peer);
}

#[test]
fn a_client_that_goes_ends_the_stream() {
    let (mut world, left) = start(&[]);
    let peer = world.send(get_request("/own-events", "").as_bytes());
    let events = left.events();
    drop(peer);
    world.settle();
    assert!(!events.is_open());
    assert_eq!(events.send(&Record::data("x")), Err(StreamError::Ended));
}

#[test]
fn head_and_http_1_0_get_what_they_understand() {
    let (mut world, left) = start(&[]);
    let head = world.ask("HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.contains("Transfer-Encoding: chunked") && body_of(&head).is_empty());
    assert_eq!(left.body().send("x"), Err(StreamError::Ended));
    let head = world.ask("HEAD /length?9 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.contains("Content-Length: 9") && body_of(&head).is_empty());
    let mut peer = world.send(b"GET /stream HTTP/1.0\r\n\r\n");
    let body = left.body();
    body.send("old ").unwrap();
    body.send("times").unwrap();
    body.end();
    world.settle();
    let (bytes, ended) = read_all(&mut peer);
    let answer = text(&bytes);
    assert!(answer.contains("Connection: close\r\n") && !answer.contains("chunked"), "{answer}");
    assert_eq!((body_of(&answer), ended), ("old times", None));
    let mut peer = world.send(b"GET /own-events HTTP/1.0\r\n\r\n");
    let events = left.events();
    events.send(&Record::data("a")).unwrap();
    events.end();
    world.settle();
    let (bytes, ended) = read_all(&mut peer);
    assert_eq!((body_of(&text(&bytes)), ended), ("data: a\n\n", None));
}

#[test]
fn an_event_stream_of_ones_own_is_kept_alive_and_told_of_a_drain() {
    let (mut world, left) = start(&[("heartbeat.comment", "4s")]);
    let mut peer = world.send(get_request("/own-events", "").as_bytes());
    let events = left.events();
    events.send(&Record::data("one\ntwo").id("1").event("count")).unwrap();
    world.settle();
    let answer = read(&mut peer);
    assert!(answer.contains("Content-Type: text/event-stream\r\n"), "{answer}");
    assert!(answer.contains("Cache-Control: no-store, no-transform\r\n"), "{answer}");
    let record = "id: 1\nevent: count\ndata: one\ndata: two\n\n";
    assert_eq!(body_of(&answer), format!("{:x}\r\n{record}\r\n", record.len()));
    world.pass(Duration::from_secs(9), &mut []);
    assert_eq!(read(&mut peer), "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
    assert_eq!(world.server.stats().streams, 1);
    world.server.handle().drain().unwrap();
    world.settle();
    let (bytes, ended) = read_all(&mut peer);
    let told = text(&bytes);
    assert!(told.contains("retry: ") && told.ends_with("0\r\n\r\n"), "{told}");
    assert_eq!(ended, None);
    assert_eq!(events.send(&Record::data("x")), Err(StreamError::Ended));
    assert_eq!(world.server.stats().closed_by(CloseReason::Drain), 0, "it waits for its peer");
    drop(peer);
    world.settle();
    assert_eq!(world.server.stats().closed_by(CloseReason::Drain), 1);
}

#[test]
fn a_drain_lets_a_body_end_within_its_time() {
    for ends in [true, false] {
        let (mut world, left) = start(&[("deadlines.drain", "20s"), ("deadlines.stream", "1h")]);
        let mut peer = world.send(get_request("/stream", "").as_bytes());
        let body = left.body();
        world.server.handle().drain().unwrap();
        world.pass(Duration::from_secs(10), &mut []);
        body.send("late").unwrap();
        let mut body = Some(body);
        if ends {
            body.take().unwrap().end();
        }
        world.pass(Duration::from_secs(if ends { 1 } else { 15 }), &mut []);
        let (bytes, ended) = read_all(&mut peer);
        assert_eq!(text(&bytes).ends_with("4\r\nlate\r\n0\r\n\r\n"), ends);
        assert_eq!(ended.is_none(), ends, "{ended:?}");
        assert!(body.is_none_or(|body| !body.is_open()));
    }
}

/// A body of numbers, asked for where handlers run, which is the loop here.
fn numbers(most: u32, at_end: fn() -> io::Result<tungstenite::Bytes>) -> Builder {
    routes().get("/numbers", move |_: &Request| {
        let mut next = 0;
        Response::new(200).pieces("text/plain", move |room| {
            let mut text = String::new();
            while text.len() + 11 < room && next < most {
                text.push_str(&format!("{next}\n"));
                next += 1;
            }
            if text.is_empty() { at_end() } else { Ok(text.into()) }
        })
    })
}

#[test]
fn pieces_are_asked_for_as_the_client_takes_them() {
    let mut world = World::new(&[], numbers(200_000, || Ok(Default::default())));
    let mut peer = world.send(get_request("/numbers", "").as_bytes());
    let mut all = Vec::new();
    loop {
        let (bytes, ended) = read_all(&mut peer);
        assert_eq!(ended, Some(io::ErrorKind::WouldBlock));
        if bytes.is_empty() {
            break;
        }
        all.extend(bytes);
        world.settle();
    }
    let decoded = common::chunked::Unchunker::default().take(body_of(&text(&all)).as_bytes());
    let expected: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    assert!(decoded == expected.as_bytes());
    let stats = world.server.stats();
    assert_eq!(stats.handler_panics, 0);
}

#[test]
fn pieces_that_fail_or_panic_end_the_connection_with_a_reason() {
    let fails: fn() -> io::Result<tungstenite::Bytes> = || Err(io::Error::other("no more"));
    for (at_end, reason) in
        [(fails, CloseReason::Cut), (|| panic!("at the end"), CloseReason::Panic)]
    {
        let mut world = World::new(&[], numbers(3, at_end));
        let mut peer = world.send(get_request("/numbers", "").as_bytes());
        world.settle();
        let (_, ended) = read_all(&mut peer);
        assert_eq!(ended, Some(io::ErrorKind::ConnectionReset), "{reason:?}");
        assert_eq!(world.server.stats().closed_by(reason), 1, "{reason:?}");
    }
}

#[test]
fn the_end_of_the_server_is_told_to_writers() {
    let (mut world, left) = start(&[]);
    let _peer = world.send(get_request("/stream", "").as_bytes());
    let body = left.body();
    world.server.handle().shut_down().unwrap();
    world.settle();
    assert!(!body.is_open());
    assert_eq!(body.send("x"), Err(StreamError::Ended));
}

#[test]
fn a_clone_of_a_stream_is_answered_by_500() {
    let builder = routes().route(Route::get("/clone", |_: &Request| {
        let (response, _body) = Response::new(200).stream("text/plain");
        response.clone()
    }));
    let mut world = World::new(&[], builder);
    let answer = world.ask(&get_request("/clone", ""));
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}
