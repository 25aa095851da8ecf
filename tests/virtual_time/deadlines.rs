//! Every deadline acts in its tick, whatever its span.

use std::any::Any;
use std::time::Duration;

use heartwheel::CloseReason;
use heartwheel::stats::DeadlineKind;

use crate::common::frame::frame;
use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;

/// The other end, kept while its deadline is waited for, and since when that is.
type Begun = (Box<dyn Any>, Duration);
type Begin = fn(&mut World) -> Begun;

fn peer(world: &mut World, bytes: &[u8]) -> Begun {
    (Box::new(world.send(bytes)), world.clock.elapsed())
}

fn client(world: &mut World, path: &str, message: &str) -> Begun {
    let mut client = world.open(path);
    client.say(message);
    world.settle();
    (Box::new(client), world.clock.elapsed())
}

/// Has a first ping answered, if there is one: the next comes an interval later.
fn after_a_ping(world: &mut World) -> Begun {
    let mut client = world.open("/quiet");
    let sent_at = world.until("a ping", |server| server.stats().pings_sent == 1);
    client.attend(sent_at);
    world.settle();
    (Box::new(client), sent_at)
}

fn with_a_ping_unanswered(world: &mut World) -> Begun {
    let client = world.open("/quiet");
    let sent_at = world.until("a ping", |server| server.stats().pings_sent == 1);
    (Box::new(client), sent_at)
}

fn draining(world: &mut World) -> Begun {
    let held = client(world, "/flood", "1000000");
    world.server.handle().drain().unwrap();
    world.settle();
    held
}

/// A kind, the key and the value it is configured with, how it begins.
const CASES: &[(DeadlineKind, &str, Duration, Begin)] = {
    use DeadlineKind::*;
    &[
        (Handshake, "deadlines.handshake", Duration::from_secs(7), |world| peer(world, b"")),
        (Handshake, "deadlines.handshake", HOUR, |world| peer(world, b"GET / HT")),
        (Body, "deadlines.body", DAY, |world| {
            peer(world, b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        }),
        (KeepAlive, "deadlines.keep_alive", HOUR, |world| {
            peer(world, get_request("/", "").as_bytes())
        }),
        (ReadIdle, "deadlines.read_idle", DAY, |world| client(world, "/quiet", "last words")),
        (Message, "deadlines.message", HOUR, |world| {
            let mut bytes = upgrade_request("/echo", "").into_bytes();
            bytes.extend(&frame(0x81, b"half of it")[..9]);
            peer(world, &bytes)
        }),
        (WriteStall, "deadlines.write_stall", HOUR, |world| client(world, "/flood", "1000000")),
        (CloseSend, "deadlines.close_send", MINUTE, |world| client(world, "/flood", "1000000!")),
        (CloseAck, "deadlines.close_ack", DAY, |world| client(world, "/flood", "!")),
        (Lifetime, "deadlines.lifetime", DAY, |world| client(world, "/quiet", "hello")),
        (Drain, "deadlines.drain", HOUR, draining),
        #[cfg(feature = "streams")]
        (Stream, "deadlines.stream", HOUR, |world| {
            peer(world, get_request("/stream", "").as_bytes())
        }),
        (Ping, "heartbeat.interval", HOUR, after_a_ping),
        (Pong, "heartbeat.pong", HOUR, with_a_ping_unanswered),
        (Comment, "heartbeat.comment", HOUR, |world| {
            let head = "Host: localhost\r\nAccept: text/event-stream\r\n\r\n";
            peer(world, format!("GET /topics/a HTTP/1.1\r\n{head}").as_bytes())
        }),
    ]
};

/// Where the deadline is set: for all connections, or for routes alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Config,
    Routes,
}

/// Starts a world in which no deadline but the one of `key` is near.
fn world_of(key: &str, span: Duration, place: Place) -> World {
    let span = format!("{}s", span.as_secs());
    let far = |name: &'static str| (name, if name == key { span.as_str() } else { "20d" });
    let mut pairs: Vec<(&str, &str)> = [
        "deadlines.handshake",
        "deadlines.body",
        "deadlines.keep_alive",
        "deadlines.read_idle",
        "deadlines.message",
        "deadlines.write_stall",
        "deadlines.stream",
        "deadlines.close_send",
        "deadlines.close_ack",
        "deadlines.drain",
        "heartbeat.comment",
        "heartbeat.pong",
    ]
    .map(far)
    .to_vec();
    pairs.push(("heartbeat.jitter", "0"));
    match key {
        "heartbeat.interval" => pairs.push((key, &span)),
        "heartbeat.pong" => pairs.push(("heartbeat.interval", "1m")),
        _ => pairs.push(("heartbeat.interval", "off")),
    }
    if key == "deadlines.lifetime" {
        pairs.push((key, &span));
    }
    match place {
        Place::Config => World::new(&pairs, routes_with_a_stream_that_set(&[])),
        Place::Routes => {
            let (own, common) = pairs.into_iter().partition::<Vec<_>, _>(|pair| pair.0 == key);
            let far = own.iter().map(|_| (key, "20d")).filter(|_| key != "heartbeat.interval");
            let common: Vec<_> = common.into_iter().chain(far).collect();
            World::new(&common, routes_with_a_stream_that_set(&own))
        }
    }
}

// FAULTS 63 and 66, with time that is exact.
#[test]
fn every_deadline_acts_once_and_in_its_tick() {
    let all = CASES.iter().map(|case| (case, Place::Config));
    let of_routes = |key| heartwheel::config::Key::find(key).unwrap().is_for_routes();
    // Before there is a route, those of the configuration hold.
    let own = CASES.iter().filter(|case| case.0 != DeadlineKind::Handshake && of_routes(case.1));
    let own = own.map(|case| (case, Place::Routes));
    for ((kind, key, span, begin), place) in all.chain(own) {
        let mut world = world_of(key, *span, place);
        world.pass(Duration::from_millis(1234), &mut []);
        let (held, since) = begin(&mut world);
        assert_eq!(world.server.stats().fired(*kind), u64::from(key.ends_with("interval")));
        let before = world.server.stats().fired(*kind);
        let at = world.until(key, |server| server.stats().fired(*kind) > before);
        let took = at - since;
        // Pings and comments due more than five seconds ahead are moved down to a whole second.
        let least = match kind {
            DeadlineKind::Ping | DeadlineKind::Comment => *span - SECOND,
            _ => *span,
        };
        println!("{place:?} {key} = {span:?}: {took:?}");
        assert!(took >= least, "{key}: {took:?} is before its time");
        assert!(took <= *span + TICK, "{key}: {took:?} is late");
        assert_eq!(world.server.stats().fired(*kind), before + 1, "{key}");
        assert!(u128::from(world.server.stats().deadline_lateness.max()) <= TICK.as_millis());
        drop(held);
        world.until("nobody is left", |server| server.connections() == 0);
    }
}

// FAULTS 66.
#[test]
fn a_deadline_of_a_day_fires_once_in_its_tick_in_one_step() {
    let pairs = [("deadlines.lifetime", "1d"), ("heartbeat.jitter", "0")];
    let mut world = World::new(&pairs, routes());
    let mut client = world.open("/quiet");
    world.clock.advance(DAY + HOUR);
    // The time that the client sees is the clock's, which is there already: it has its turn between
    // any two deadlines all the same.
    while world.server.next_timeout() == Some(Duration::ZERO) {
        world.server.turn().unwrap();
        client.attend(Duration::ZERO);
    }
    let stats = world.server.stats();
    assert_eq!(client.code(), 1001);
    assert_eq!(stats.fired(DeadlineKind::Lifetime), 1);
    assert_eq!(stats.closed_by(CloseReason::Lifetime), 1);
    assert_eq!(stats.pings_missed, 0);
    assert!(u128::from(stats.deadline_lateness.max()) <= TICK.as_millis());
    assert_eq!((stats.closed_total(), world.server.next_timeout()), (1, None));
}

#[test]
fn a_step_over_many_deadlines_gives_the_reason_that_time_would() {
    for step in [Duration::from_millis(7), SECOND, MINUTE, DAY] {
        let mut world = World::new(&[], routes());
        let client = world.open("/quiet");
        for _ in 0..100_000 {
            world.settle();
            if world.server.connections() == 0 {
                break;
            }
            world.clock.advance(step);
        }
        let stats = world.server.stats();
        assert_eq!(stats.closed_by(CloseReason::Heartbeat), 1, "{step:?}");
        assert_eq!((stats.pings_sent, stats.pings_missed, stats.suspects), (3, 3, 1));
        drop(client);
    }
}
