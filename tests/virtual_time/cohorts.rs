//! Cohorts: who is in which, and what is counted of each.

use std::io::Write;

use heartwheel::http::{Request, Response};
use heartwheel::{Accept, Cohort, Event, Peer, Route, Server};

use crate::common::http::get_request;
use crate::common::world::*;

fn named(request: &Request) -> Response {
    Response::new(200).text(request.cohort().map_or("none", Cohort::label))
}

fn routes() -> heartwheel::Builder {
    let identify = |request: &Request| {
        let user = request.query_value("user");
        Ok(user.map_or(Accept::new(), |user| Accept::new().identity(user)))
    };
    let echo = |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            peer.send(message);
        }
    };
    Server::builder()
        .route(Route::get("/cohort", named).authorize(identify))
        .websocket("/echo", echo)
}

/// Of 2,000 devices about as many as are asked for, each by the same answer each time.
#[test]
fn a_request_knows_its_cohort() {
    let mut world = World::new(&[("canary.percent", "12.5")], routes());
    let mut cohort = |lines: &str, query: &str| {
        let answer = world.ask(&get_request(&format!("/cohort{query}"), lines));
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let mut canaries = 0;
    for number in 0..2000 {
        let line = format!("X-Device-Id: device-{number}\r\n");
        let own = cohort(&line, "");
        canaries += u32::from(own == "canary");
        assert!(number % 100 != 0 || cohort(&line, "") == own);
    }
    assert!((200..300).contains(&canaries), "{canaries} of 2000");
    assert_eq!(cohort("", ""), "stable", "it has no name");
    let mut off = World::new(&[], routes());
    assert!(off.ask(&get_request("/cohort", "X-Device-Id: a\r\n")).ends_with("none"));
    // Whom `authorize` names is known to the answer.
    let pairs = [("canary.percent", "100"), ("canary.key", "identity")];
    let mut world = World::new(&pairs, routes());
    assert!(world.ask(&get_request("/cohort", "")).ends_with("stable"));
    assert!(world.ask(&get_request("/cohort?user=ann", "")).ends_with("canary"));
    // 10.0.0.7 has the bucket 8630, 10.0.0.8 the bucket 4775: by `zlib.crc32`.
    let pairs = [("canary.percent", "60"), ("canary.key", "ip")];
    let mut world = World::new(&pairs, routes());
    for (address, expected) in
        [("10.0.0.7:1", "stable"), ("10.0.0.8:1", "canary"), ("[::ffff:10.0.0.8]:1", "canary")]
    {
        let mut peer = world.network.connect_from(address.parse().unwrap()).unwrap();
        peer.write_all(get_request("/cohort", "").as_bytes()).unwrap();
        world.settle();
        let answer = text(&read_all(&mut peer).0);
        assert!(answer.ends_with(expected), "{address}: {answer}");
    }
    assert!(world.ask(&get_request("/cohort", "")).ends_with("stable"), "it has no address");
}

#[test]
fn ends_handshakes_and_round_trips_are_counted_for_each() {
    let pairs = [("canary.percent", "50"), ("canary.key", "query:device"), ("canary.salt", "s")];
    let mut world = World::new(&pairs, routes());
    let mut clients: Vec<Client> =
        (0..20).map(|number| world.open(&format!("/echo?device={number}"))).collect();
    world.pass(MINUTE, &mut clients);
    let handle = world.server.handle();
    let table = std::thread::spawn(move || {
        let mut rows = String::new();
        assert!(handle.connections(10 * SECOND, |slice| rows.push_str(slice)));
        rows
    });
    while !table.is_finished() {
        world.settle();
    }
    let rows = table.join().unwrap();
    let canaries = rows.matches(r#""cohort":"canary""#).count() as u64;
    assert_eq!(canaries + rows.matches(r#""cohort":"stable""#).count() as u64, 20, "{rows}");
    assert!((1..20).contains(&canaries), "{canaries}");
    // Five leave without a word; the others stay.
    drop(clients.drain(..5));
    world.pass(MINUTE, &mut clients);
    let stats = world.server.stats();
    let figures = world.server.metrics();
    let figure = |line: &str| -> u64 {
        let found = figures.lines().find_map(|own| own.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("{line}: {figures}")).parse().unwrap()
    };
    for (name, all, canary) in [
        ("handshake", stats.handshake, stats.canary.handshake),
        ("ping_rtt", stats.ping_rtt, stats.canary.ping_rtt),
    ] {
        let count = |cohort: &str| {
            figure(&format!("heartwheel_{name}_seconds_count{{cohort=\"{cohort}\"}}"))
        };
        assert_eq!(
            (count("canary"), count("stable")),
            (canary.count(), all.without(&canary).count())
        );
        assert!(canary.count() >= canaries && all.count() > canary.count(), "{name}");
        let last = format!("heartwheel_{name}_seconds_bucket{{cohort=\"stable\",le=\"+Inf\"}}");
        assert_eq!(figure(&last), count("stable"));
    }
    assert_eq!(stats.canary.handshake.count(), canaries);
    let ends = |cohort: &str| {
        let line = "heartwheel_connections_closed_total{transport=\"websocket\",reason=\"reset\"";
        figure(&format!("{line},cohort=\"{cohort}\"}}"))
            + figure(&format!("{},cohort=\"{cohort}\"}}", line.replace("reset", "eof")))
    };
    assert_eq!(ends("canary") + ends("stable"), 5);
    let gone: u64 = stats.canary.closed.iter().flatten().sum();
    assert_eq!(ends("canary"), gone);
    // Without cohorts nothing bears the label.
    let plain = World::new(&[], self::routes()).server.metrics();
    assert!(!plain.contains("cohort") && plain.contains("heartwheel_handshake_seconds_count 0"));
}

/// The canary's clients before are the canary's clients when the share grows.
#[test]
fn a_reload_follows_the_next_request() {
    let mut world = World::new(&[("canary.percent", "10")], routes());
    let of = |world: &mut World| -> Vec<bool> {
        let ask = |number: u32| {
            let line = format!("X-Device-Id: {number}\r\n");
            world.ask(&get_request("/cohort", &line)).ends_with("canary")
        };
        (0..500).map(ask).collect()
    };
    let before = of(&mut world);
    let mut config = world.config.clone();
    config.set("canary.percent", "30").unwrap();
    world.server.handle().reload(config).unwrap();
    let after = of(&mut world);
    assert!(before.iter().zip(&after).all(|(before, after)| !before || *after));
    let count = |cohort: &[bool]| cohort.iter().filter(|is_canary| **is_canary).count();
    assert!(count(&after) > 2 * count(&before));
}
