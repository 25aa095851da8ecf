//! Long stretches of time: a day of heartbeats, suspensions, lifetimes of hours, drains, what
//! topics retain, and a date that is set while deadlines run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use heartwheel::CloseReason;
use heartwheel::stats::DeadlineKind;

use crate::common::http::get_request;
use crate::common::world::*;

// FAULTS 51.
#[test]
fn a_day_of_heartbeats() {
    const CLIENTS: usize = 5;
    let began = Instant::now();
    let mut world = World::new(&[], routes());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| world.open("/quiet")).collect();
    world.pass(DAY, &mut clients);
    let stats = world.server.stats();
    println!("{} pings in a day, {} turns, {:?}", stats.pings_sent, stats.turns, began.elapsed());
    assert_eq!(world.server.connections(), CLIENTS);
    assert_eq!((stats.pings_missed, stats.closed_total()), (0, 0));
    assert!(u128::from(stats.deadline_lateness.max()) <= TICK.as_millis());
    for client in &clients {
        assert!(client.pings[0] <= 30 * SECOND + TICK);
        for pair in client.pings.windows(2) {
            let interval = pair[1] - pair[0];
            assert!(interval >= 20 * SECOND && interval <= 30 * SECOND + TICK, "{interval:?}");
        }
        // On average 0.85 of the interval, and up to a second less for the grid.
        assert!((3300..3600).contains(&client.pings.len()), "{}", client.pings.len());
    }
    // In the evening they stop.
    let stopped_at = world.clock.elapsed();
    let gone_at = world.until("all have ended", |server| server.connections() == 0);
    assert!(gone_at - stopped_at <= (30 + 3 * 10 + 3 + 3) * SECOND, "{:?}", gone_at - stopped_at);
    assert_eq!(world.server.stats().closed_by(CloseReason::Heartbeat), CLIENTS as u64);
    assert_eq!(world.server.next_timeout(), None);
}

#[test]
fn a_suspension_evicts_nobody_who_is_there() {
    let mut world = World::new(&[], routes());
    let mut clients: Vec<Client> = (0..50).map(|_| world.open("/quiet")).collect();
    let dead: Vec<Client> = (0..5).map(|_| world.open("/quiet")).collect();
    world.pass(10 * SECOND, &mut clients);
    // The lid closes while pings are unanswered and deadlines near, and opens in the morning.
    for client in &mut clients {
        client.pings.clear();
    }
    world.clock.suspend(8 * HOUR);
    world.pass(30 * SECOND + TICK, &mut clients);
    assert_eq!(world.server.stats().time_jumps, 1);
    assert_eq!(world.server.connections(), 55);
    let pinged = clients.iter().filter(|client| !client.pings.is_empty()).count();
    assert_eq!(pinged, 50, "each is asked within one interval");
    world.pass(MINUTE, &mut clients);
    assert_eq!(world.server.stats().closed_by(CloseReason::Heartbeat), 5, "{:?}", dead.len());
    assert_eq!(world.server.connections(), 50);
    // A short stop is only taken out of the time.
    world.clock.suspend(9 * SECOND);
    world.settle();
    assert_eq!(world.server.stats().time_jumps, 1);
    assert_eq!(world.clock.elapsed(), 8 * HOUR + 109 * SECOND + TICK);
}

// FAULTS 67, over hours.
#[test]
fn lifetimes_of_hours_end_with_1001_spread_over_the_jitter() {
    const CLIENTS: usize = 100;
    let pairs = [("deadlines.lifetime", "6h"), ("heartbeat.interval", "1h")];
    let mut world = World::new(&[&pairs[..], &[("deadlines.read_idle", "2h")]].concat(), routes());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| world.open("/quiet")).collect();
    world.pass(6 * HOUR + 10 * SECOND, &mut clients);
    let stats = world.server.stats();
    assert_eq!(stats.closed_by(CloseReason::Lifetime), CLIENTS as u64);
    assert_eq!(stats.fired(DeadlineKind::Lifetime), CLIENTS as u64);
    let mut ends: Vec<Duration> = clients.iter().map(|client| client.ended_at.unwrap()).collect();
    ends.sort();
    println!("ended from {:?} to {:?}", ends[0], ends[CLIENTS - 1]);
    assert!(ends[0] >= 6 * HOUR * 7 / 10 - SECOND && ends[CLIENTS - 1] <= 6 * HOUR + SECOND);
    assert!(ends[CLIENTS - 1] - ends[0] >= 6 * HOUR * 3 / 10 * 8 / 10);
    for client in &clients {
        assert_eq!(client.code(), 1001);
        assert!(client.close.as_ref().unwrap().reason.starts_with("retry="));
    }
    assert_eq!(world.server.connections(), 0);
}

// FAULTS 107, 109 and 111.
#[test]
fn a_drain_ends_each_in_turn_and_the_rest_when_its_time_is_over() {
    const CLIENTS: usize = 200;
    let mut world = World::new(&[("deadlines.close_send", "2m")], routes());
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| world.open("/echo")).collect();
    let mut stuck = world.open("/flood");
    stuck.say("1000000");
    // What a client of a drain has said before is answered before.
    clients[0].say("before");
    world.settle();
    world.server.handle().drain().unwrap();
    let began_at = world.clock.elapsed();
    world.pass(9 * SECOND, &mut clients);
    let refused = world.network.connect().expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(clients.iter().all(|client| client.code() == 1001 && client.ended_at.is_some()));
    assert_eq!(clients[0].messages, [tungstenite::Message::text("before")]);
    let ends: Vec<Duration> = clients.iter().map(|client| client.ended_at.unwrap()).collect();
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    println!("{CLIENTS} ended from {:?} to {:?}", *first - began_at, *last - began_at);
    // Their starts are spread over n/500 seconds.
    assert!(*last - *first >= Duration::from_millis(300) && *last - began_at <= SECOND);
    assert!(!world.server.is_over());
    // Who does not read is reset by `write_stall` here, long before the drain would.
    let over_at = world.until("the drain is over", |server| server.is_over());
    assert!(over_at - began_at <= 30 * SECOND + TICK, "{:?}", over_at - began_at);
    let stats = world.server.stats();
    assert_eq!(stats.closed_by(CloseReason::Drain), CLIENTS as u64, "{:?}", stats.closed_total());
    assert_eq!(stats.closed_by(CloseReason::WriteStall), 1);
}

/// Subscribes to an event stream after a position and gives what it begins with.
fn subscribe(world: &mut World, after: &str) -> String {
    let head = format!("Accept: text/event-stream\r\nLast-Event-ID: {after}");
    let request = format!("GET /topics/news HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n");
    let answer = world.ask(&request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The last id of an event stream.
fn last_id(stream: &str) -> String {
    let id = stream.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
    id.expect("a stream begins with an id").to_owned()
}

#[test]
fn an_event_stream_resumes_until_its_events_are_too_old() {
    let mut world = World::new(&[], routes());
    let publish = |world: &mut World, text: &str| {
        world.server.handle().publish("news", text).unwrap();
        world.settle();
    };
    publish(&mut world, "first");
    let stream = subscribe(&mut world, "0-0");
    let position = last_id(&stream);
    assert!(stream.contains("data: first\n"), "{stream}");
    publish(&mut world, "second");
    publish(&mut world, "third");
    // `retain_for` is ten minutes.
    world.pass(9 * MINUTE, &mut []);
    let stream = subscribe(&mut world, &position);
    assert!(!stream.contains("event: gap"), "{stream}");
    let (second, third) = (stream.find("data: second\n"), stream.find("data: third\n"));
    assert!(second.is_some() && second < third, "{stream}");
    publish(&mut world, "fourth");
    world.pass(2 * MINUTE, &mut []);
    let stream = subscribe(&mut world, &position);
    assert!(stream.contains("event: gap") && stream.contains("data: fourth\n"), "{stream}");
    assert!(!stream.contains("second") && !stream.contains("third"), "{stream}");
    // Who has seen all there was has missed nothing, however long ago.
    let position = last_id(&stream);
    world.pass(DAY, &mut []);
    let stream = subscribe(&mut world, &position);
    assert!(!stream.contains("event: gap") && !stream.contains("data:"), "{stream}");
    let comments = world.server.stats().fired(DeadlineKind::Comment);
    assert_eq!(comments, 0, "whoever has gone is sent nothing");
}

/// What a world has done, by when.
type History = BTreeMap<Duration, String>;

/// Two hours with clients of each sort; `date` is done to the clock between any two minutes.
fn history(seed: u64, date: impl Fn(&World, u32)) -> History {
    let mut world = World::new(&[("deadlines.lifetime", "90m")], routes().seed(seed));
    let mut clients: Vec<Client> = (0..5).map(|_| world.open("/quiet")).collect();
    let _silent = (
        world.open("/quiet"),
        world.send(b"GET / HT"),
        world.send(get_request("/", "").as_bytes()),
    );
    let mut history = History::new();
    for minute in 0..120 {
        for _ in 0..60 {
            world.pass(SECOND, &mut clients);
            let stats = world.server.stats();
            let pings: Vec<usize> = clients.iter().map(|client| client.pings.len()).collect();
            let now = format!("{pings:?} {:?} {:?}", stats.closed, stats.deadlines_fired);
            history.insert(world.clock.elapsed(), now);
        }
        date(&world, minute);
    }
    assert_eq!(world.server.connections(), 0);
    history
}

// FAULTS 59.
#[test]
fn a_date_that_is_set_moves_no_deadline() {
    let steady = history(7, |_, _| {});
    let stepped = history(7, |world, minute| {
        let date = world.clock.date();
        let stepped = if minute % 2 == 0 { date + HOUR } else { date - HOUR };
        world.clock.set_date(stepped);
    });
    assert!(steady == stepped, "each second is the same");
    assert!(steady != history(8, |_, _| {}), "a different seed is a different history");
}

#[test]
fn dates_and_ids_follow_the_clock() {
    let mut world = World::new(&[], routes());
    let date = |world: &mut World| {
        let answer = world.ask(&get_request("/", ""));
        let date = answer
            .lines()
            .find_map(|line| line.strip_prefix("date: ").or(line.strip_prefix("Date: ")));
        httpdate::parse_http_date(date.expect("each answer has one")).unwrap()
    };
    assert_eq!(date(&mut world), UNIX_EPOCH + Duration::from_secs(978_307_200));
    world.pass(DAY, &mut []);
    assert_eq!(date(&mut world), UNIX_EPOCH + Duration::from_secs(978_307_200) + DAY);
    let publish = "POST /topics/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let id = |world: &mut World| {
        let answer = world.ask(publish);
        let (_, id) = answer.split_once("{\"id\":\"").expect("it is published");
        let (ms, _) = id.split_once('-').unwrap();
        Duration::from_millis(ms.parse().unwrap())
    };
    let unix = |world: &World| world.clock.date().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(id(&mut world), unix(&world));
    world.clock.suspend(HOUR);
    assert_eq!(id(&mut world), unix(&world));
    // Ids increase also where the date does not.
    let last = id(&mut world);
    world.clock.set_date(UNIX_EPOCH);
    assert_eq!(id(&mut world), last);
    assert_eq!(date(&mut world), UNIX_EPOCH);
}
