//! A route may be stricter or laxer than the configuration.

use std::any::Any;
use std::io::Write;
use std::sync::{Mutex, mpsc};

use heartwheel::config::OverflowPolicy;
use heartwheel::http::{Request, Response};
use heartwheel::stats::Stats;
use heartwheel::{CloseReason, Error, Event, MemoryNetwork, Peer, Route, Server};

use crate::common::frame::{PING, TEXT, frame};
use crate::common::http::{get_request, upgrade_request};
use crate::common::server::echo;
use crate::common::world::*;

#[test]
fn a_message_or_a_body_is_bounded_by_its_route() {
    let builder = Server::builder()
        .seed(7)
        .websocket("/as_configured", echo)
        .route(Route::websocket("/strict", echo).set("limits.message_bytes", "10"))
        .route(Route::websocket("/lax", echo).set("limits.message_bytes", "20000"))
        .route(Route::topics("/topics/{topic}").set("limits.message_bytes", "10"))
        .route(Route::hub("/ws").set("limits.message_bytes", "100"))
        .post("/as_configured", |_| Response::new(200))
        .route(Route::post("/lax", |_| Response::new(200)).set("limits.message_bytes", "20000"));
    let mut world = World::new(&[("limits.message_bytes", "1000")], builder);
    for (path, bytes, is_taken) in [
        ("/as_configured", 1000, true),
        ("/as_configured", 1001, false),
        ("/strict", 10, true),
        ("/strict", 11, false),
        ("/lax", 20_000, true),
        ("/lax", 20_001, false),
        ("/topics/a", 10, true),
        ("/topics/a", 11, false),
        ("/ws", 100, true),
        ("/ws", 101, false),
    ] {
        let mut client = [world.open(path)];
        client[0].say(&"x".repeat(bytes));
        world.pass(SECOND, &mut client);
        match is_taken {
            true => assert!(client[0].ended_at.is_none(), "{path} {bytes}"),
            false => assert_eq!(client[0].code(), 1009, "{path} {bytes}"),
        }
        let greeting = client[0].messages.first().map(|message| message.to_text().unwrap());
        let is_named = greeting.is_some_and(|text| text.contains(r#""message_bytes":100}"#));
        assert_eq!(is_named, path == "/ws");
    }
    for (path, bytes, status) in [
        ("/as_configured", 1000, "200"),
        ("/as_configured", 1001, "413"),
        ("/lax", 20_000, "200"),
        ("/lax", 20_001, "413"),
        ("/topics/a", 10, "200"),
        ("/topics/a", 11, "413"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}");
        let answer = world.ask(&format!("{head}\r\n\r\n{}", "x".repeat(bytes)));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {bytes}: {answer}");
    }
}

/// What a peer does to a path; it does not read what comes, and is kept for as long as it counts.
type Act = fn(&mut World, &str) -> Box<dyn Any>;
/// Whether a limit has acted.
type Acted = fn(&Stats) -> bool;
/// Keys and their values.
type Keys = &'static [(&'static str, &'static str)];

fn peer(world: &mut World, path: &str, frames: &[Vec<u8>]) -> Box<dyn Any> {
    Box::new(world.send(&[upgrade_request(path, "").into_bytes(), frames.concat()].concat()))
}

/// Asks for more than an outbox takes, and has many messages wait for that.
fn fill_inbox(world: &mut World, path: &str) -> Box<dyn Any> {
    let frames = [vec![frame(TEXT, b"200000"); 4], vec![frame(TEXT, b"1"); 30]].concat();
    peer(world, path, &frames)
}

/// The keys that a route sets, what reaches their limits, and how that shows.
const CASES: &[(Keys, Act, Acted)] = &[
    (
        &[("limits.fragments", "2")],
        |world, path| peer(world, path, &[frame(1, b"a"), frame(0, b"b"), frame(0x80, b"c")]),
        |stats| stats.closed_by(CloseReason::Fragments) == 1,
    ),
    (
        &[("limits.pings_per_second", "1")],
        |world, path| peer(world, path, &vec![frame(PING, b""); 4]),
        |stats| stats.closed_by(CloseReason::Rate) == 1,
    ),
    (
        &[("limits.messages_per_second", "1"), ("limits.rate_action", "close")],
        |world, path| peer(world, path, &vec![frame(TEXT, b"a"); 4]),
        |stats| stats.closed_by(CloseReason::Rate) == 1,
    ),
    (
        &[("limits.messages_per_second", "1")],
        |world, path| peer(world, path, &vec![frame(TEXT, b"a"); 4]),
        |stats| stats.read_pauses > 0,
    ),
    (
        &[("limits.bytes_per_second", "10")],
        |world, path| {
            let peer = peer(world, path, &[]);
            (peer, world.open(path).say("more than twice as many as ten")).0
        },
        |stats| stats.read_pauses > 0,
    ),
    (
        &[("limits.send_per_second", "1")],
        |world, path| peer(world, path, &vec![frame(TEXT, b"1"); 4]),
        |stats| stats.send_pauses > 0,
    ),
    (
        &[("limits.outbox_bytes", "1k")],
        |world, path| peer(world, path, &vec![frame(TEXT, b"100000"); 3]),
        |stats| stats.closed_by(CloseReason::Overflow) == 1,
    ),
    (&[("limits.inbox_messages", "1")], fill_inbox, |stats| stats.messages_received < 30),
    (&[("limits.inbox_bytes", "10")], fill_inbox, |stats| stats.messages_received < 30),
    (
        &[("limits.timers", "1")],
        |world, path| peer(world, path, &[frame(TEXT, b"timers")]),
        |stats| stats.timers_refused > 0,
    ),
];

fn obedient(peer: &Peer, event: Event) {
    let Event::Message(message) = event else { return };
    match message.as_text().unwrap_or_default() {
        "timers" => (1..=2).for_each(|token| peer.after(SECOND, token).unwrap_or_default()),
        bytes => drop(peer.send(vec![b'x'; bytes.parse().unwrap_or(1)])),
    }
}

#[test]
fn what_a_route_sets_holds_there_and_nowhere_else() {
    for (keys, act, acted) in CASES {
        for is_own in [true, false] {
            let own = keys
                .iter()
                .fold(Route::websocket("/own", obedient), |own, (key, value)| own.set(key, value));
            let builder = Server::builder().seed(7).route(own).websocket("/other", obedient);
            let mut world = World::new(&[], builder);
            let held = act(&mut world, if is_own { "/own" } else { "/other" });
            world.settle();
            let has_acted = acted(world.server.stats());
            // An end is counted when the peer has gone, too.
            drop(held);
            world.settle();
            assert_eq!(has_acted || acted(world.server.stats()), is_own, "{keys:?}");
        }
    }
}

#[test]
fn events_give_way_as_their_route_says() {
    let set = |route: Route| route.set("limits.outbox_bytes", "1k");
    let builder = Server::builder()
        .seed(7)
        .route(set(Route::topics("/own/{topic}")).set("overflow.policy", "drop_newest"))
        .route(set(Route::topics("/other/{topic}")));
    let mut world = World::new(&[], builder);
    for (path, dropped, closed) in [("/own/a", true, 0), ("/other/a", true, 1)] {
        let held = world.open(path);
        for _ in 0..10 {
            world.server.handle().publish("a", "x".repeat(100_000)).unwrap();
            world.settle();
        }
        drop(held);
        world.settle();
        let stats = world.server.stats();
        assert_eq!(stats.dropped_by(OverflowPolicy::DropNewest) > 0, dropped, "{path}");
        assert_eq!(stats.closed_by(CloseReason::Overflow), closed, "{path}");
    }
}

/// A handler that does not return: the answer is late by the span of its route.
#[test]
fn an_answer_is_awaited_as_its_route_says() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let slow = move |_: &Request| {
        let _ = held.lock().unwrap().recv();
        Response::new(200)
    };
    let builder =
        Server::builder().seed(7).route(Route::get("/slow", slow).set("deadlines.handshake", "9s"));
    let mut world = World::new(&[("workers", "1")], builder);
    let mut peer = world.send(get_request("/slow", "").as_bytes());
    world.until("it is answered", |server| server.stats().answers[4] == 1);
    assert!(world.clock.elapsed() >= 9 * SECOND, "{:?}", world.clock.elapsed());
    assert!(text(&read_all(&mut peer).0).starts_with("HTTP/1.1 503 "));
    drop(release);
}

/// The next request on a connection has no route yet.
#[test]
fn a_request_that_follows_is_bound_by_nothing_of_the_one_before() {
    let answer = |_: &Request| Response::new(200);
    let first = Route::get("/first", answer)
        .set("limits.messages_per_second", "1")
        .set("limits.rate_action", "close")
        .set("deadlines.handshake", "1s");
    let mut world = World::new(&[], Server::builder().seed(7).route(first).get("/next", answer));
    let mut peer = world.send(get_request("/first", "").as_bytes());
    for _ in 0..5 {
        peer.write_all(get_request("/next", "").as_bytes()).unwrap();
        world.settle();
    }
    assert_eq!(world.server.stats().answers[1], 6);
    peer.write_all(b"GET /next").unwrap();
    world.pass(4 * SECOND, &mut []);
    assert_eq!(world.server.connections(), 1);
    world.pass(2 * SECOND, &mut []);
    drop(peer);
    world.settle();
    assert_eq!(world.server.stats().closed_by(CloseReason::Handshake), 1);
}

#[test]
fn a_reload_changes_what_a_route_has_not_set() {
    let own = Route::websocket("/own", echo).set("limits.message_bytes", "10");
    let slow = Route::websocket("/slow", echo).set("heartbeat.interval", "50s");
    let builder = Server::builder().seed(7).route(own).route(slow);
    let mut world = World::new(&[("heartbeat.jitter", "0")], builder);
    let reload = |world: &mut World, pairs: &[(&str, &str)]| {
        let mut config = world.config.clone();
        pairs.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        world.server.handle().reload(config).unwrap();
        world.settle();
    };
    reload(&mut world, &[("limits.message_bytes", "1000"), ("limits.fragments", "1")]);
    for (path, frames, reason) in [
        ("/own", vec![frame(TEXT, b"more than ten")], CloseReason::TooBig),
        ("/own", vec![frame(1, b"a"), frame(0x80, b"b")], CloseReason::Fragments),
        ("/slow", vec![frame(TEXT, &[b'x'; 1001])], CloseReason::TooBig),
    ] {
        let before = world.server.stats().closed_by(reason);
        let held = peer(&mut world, path, &frames);
        world.settle();
        drop(held);
        world.settle();
        assert_eq!(world.server.stats().closed_by(reason), before + 1, "{path}");
    }
    // With a ping each 50 s none would be sent before an end by silence: the route keeps both.
    let interval = [("heartbeat.interval", "10s"), ("deadlines.read_idle", "40s")];
    reload(&mut world, &interval);
    let mut clients = [world.open("/slow"), world.open("/own")];
    world.pass(59 * SECOND, &mut clients);
    let [slow, own] = &clients;
    assert_eq!(slow.pings.len(), 1, "{:?}", slow.pings);
    assert!(own.pings.len() >= 5, "{:?}", own.pings);
    assert!(slow.ended_at.is_none() && own.ended_at.is_none());
    // A drain ends for all at one time.
    world.server.handle().drain().unwrap();
    world.pass(HOUR, &mut []);
    assert!(world.server.is_over());
}

#[test]
fn what_a_route_cannot_set_is_refused_by_name() {
    for (key, value, fault) in [
        ("limits.message_bytes", "0", "limits.message_bytes = 0: must be"),
        ("limits.message_bytes", "2g", "limits.message_bytes = 2g: must be"),
        ("limits.messages", "1", "limits.messages = 1: there is no such key"),
        ("limits.connections", "1", "limits.connections = 1: is no key of a route"),
        ("deadlines.keep_alive", "1s", "deadlines.keep_alive = 1s: is no key of a route"),
        ("workers", "2", "workers = 2: is no key of a route"),
        ("heartbeat.interval", "2m", "deadlines.read_idle = 1m: must be longer than"),
    ] {
        let builder = Server::builder().route(Route::hub("/ws").set(key, value));
        let error = builder.listen_memory(&MemoryNetwork::new()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }));
        let error = error.to_string();
        assert!(error.contains(&format!("route \"/ws\": {fault}")), "{error}");
    }
}
