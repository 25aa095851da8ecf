//! The promise of resume, kept under churn: a publisher in a steady hurry, subscribers that break
//! off whenever they like and come back with the last id they had, and an account of every event.
//!
//! Each subscriber notes what it got and what it was told. In the end its events are the published
//! ones, once and in order; where some are missing a gap was told just there, and named the event
//! that follows it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::rng::Rng;
use crate::common::timing::{ms, rounds};
use crate::common::topics::*;

/// 500 events a second for three seconds.
const EVENTS: usize = 1500;
const EVERY: Duration = Duration::from_millis(2);

#[derive(Clone, Debug, PartialEq)]
enum Noted {
    Gap(String),
    Event(String, usize),
}

/// What a subscriber has, over all its connections.
#[derive(Default)]
struct Notes {
    last: Option<String>,
    noted: Vec<Noted>,
    connections: usize,
}

impl Notes {
    fn event(&mut self, id: &str, number: &str) {
        self.last = Some(id.to_owned());
        self.noted.push(Noted::Event(id.to_owned(), number.parse().expect("a number")));
    }

    fn gap(&mut self, first: &str) {
        self.noted.push(Noted::Gap(first.to_owned()));
    }

    fn is_complete(&self) -> bool {
        matches!(self.noted.last(), Some(Noted::Event(_, number)) if *number == EVENTS - 1)
    }

    /// Holds them against what was published. Gives how many events came, and how many were told to
    /// be missing.
    fn account(&self, published: &[String]) -> (usize, usize) {
        let (mut next, mut told, mut gap) = (0, 0, None);
        for noted in &self.noted {
            match noted {
                Noted::Gap(first) => gap = Some(first),
                Noted::Event(id, number) => {
                    assert_eq!(*id, published[*number]);
                    assert!(*number >= next, "{number} came after {next}");
                    if let Some(first) = gap.take() {
                        assert!(first.is_empty() || first == id, "{first} was told, {id} came");
                    } else {
                        assert_eq!(*number, next, "a silent gap");
                    }
                    told += *number - next;
                    next = *number + 1;
                }
            }
        }
        assert_eq!(next, published.len());
        (self.noted.iter().filter(|noted| matches!(noted, Noted::Event(..))).count(), told)
    }
}

/// How long a subscriber stays, and how long it stays away.
fn spans(rng: &mut Rng) -> (Instant, Duration) {
    let away = if rng.chance(10) { 500 + rng.below(400) } else { rng.below(60) };
    (Instant::now() + ms(20 + rng.below(400)), ms(away))
}

fn subscribe_by_stream(address: SocketAddr, target: &str, seed: u64) -> Notes {
    let (mut notes, mut rng) = (Notes::default(), Rng::new(seed));
    while !notes.is_complete() {
        let (until, away) = spans(&mut rng);
        let last = notes.last.clone().unwrap_or_else(|| "0-0".to_owned());
        let mut stream = Stream::open_after(address, target, Some(&last));
        notes.connections += 1;
        while Instant::now() < until && !notes.is_complete() {
            let Some(piece) =
                stream.piece_within(until.saturating_duration_since(Instant::now()).max(ms(1)))
            else {
                break;
            };
            read_piece(&mut notes, &piece);
        }
        if rng.chance(50) {
            stream.peer.reset();
        }
        thread::sleep(away);
    }
    notes
}

fn read_piece(notes: &mut Notes, piece: &str) {
    let field = |name: &str| piece.lines().find_map(|line| line.strip_prefix(name));
    match (field("id: "), field("event: "), field("data: ")) {
        (Some(id), None | Some("a"), Some(number)) => notes.event(id, number),
        (Some(position), None, None) => notes.last = Some(position.to_owned()),
        (None, Some("gap"), Some(data)) => notes.gap(find_member(data, "first").unwrap_or(data)),
        _ => panic!("{piece:?}"),
    }
}

fn subscribe_by_socket(address: SocketAddr, seed: u64) -> Notes {
    let (mut notes, mut rng) = (Notes::default(), Rng::new(seed));
    while !notes.is_complete() {
        let (until, away) = spans(&mut rng);
        let mut hub = Hub::open(address);
        notes.connections += 1;
        hub.subscribe_after("a", notes.last.as_deref().unwrap_or("0-0"));
        while Instant::now() < until && !notes.is_complete() {
            let left = until.saturating_duration_since(Instant::now());
            let Some(message) = hub.hear_within(left) else { break };
            match member(&message, "op") {
                "event" => notes.event(member(&message, "id"), member(&message, "data")),
                "gap" => notes.gap(find_member(&message, "first").unwrap_or_default()),
                "subscribed" => notes.last = Some(member(&message, "last").to_owned()),
                _ => panic!("{message}"),
            }
        }
        if rng.chance(50) {
            hub.peer.reset();
        }
        thread::sleep(away);
    }
    notes
}

// FAULTS 127.
#[test]
fn who_comes_back_has_every_event_once_or_was_told() {
    let server = start(&[("topics.retain_events", "64")]);
    let address = server.address;
    // `ROUNDS=200` makes it two hundred of each kind.
    let of_each_kind = rounds(20);
    let subscribers: Vec<_> = (0..2 * of_each_kind)
        .map(|n| {
            thread::spawn(move || match n % 4 {
                0 => subscribe_by_stream(address, "/topics/a", n as u64),
                1 => subscribe_by_stream(address, "/events?topic=b&topic=a", n as u64),
                _ => subscribe_by_socket(address, n as u64),
            })
        })
        .collect();
    let mut publisher = Publisher::connect(address, "a");
    let began = Instant::now();
    let publish = |n: usize| {
        thread::sleep((began + EVERY * n as u32).saturating_duration_since(Instant::now()));
        publisher.publish(&n.to_string())
    };
    let published: Vec<String> = (0..EVENTS).map(publish).collect();
    println!("published in {:?}", began.elapsed());
    let (mut connections, mut delivered, mut told) = (0, 0, 0);
    for subscriber in subscribers {
        let notes = subscriber.join().expect("the subscriber was served");
        let (events, missing) = notes.account(&published);
        assert_eq!(events + missing, EVENTS, "published = delivered + told");
        connections += notes.connections;
        delivered += events;
        told += missing;
    }
    let (pings, jumps) = (server.stats().pings_sent, server.stats().time_jumps);
    println!("pings: {pings}, time jumps: {jumps}");
    println!("connections: {connections}, delivered: {delivered}, told to be missing: {told}");
    assert!(connections > 4 * of_each_kind, "they came back");
    assert!(told > 0, "some were away for longer than events are retained");
}
