//! Subscribers that do not keep up: what they lose is told, and nobody else loses anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use heartwheel::CloseReason;
use heartwheel::core::contract::event::Command;

use crate::common::client::{Client, Seen};
use crate::common::engine::TestEngine;
use crate::common::frame::frame;
use crate::common::http::upgrade_request;
use crate::common::timing::{PATIENCE, ms, within};
use crate::common::topics::*;

/// A payload that begins with its number.
fn large(n: usize) -> String {
    format!("{n:04}{}", "x".repeat(64 * 1024))
}

const DROPS: &[(&str, &str)] = &[
    ("overflow.policy", "drop_newest"),
    ("limits.outbox_bytes", "128k"),
    // One peer after the other is read, slowly where the machine is busy.
    ("heartbeat.comment", "5m"),
    ("deadlines.write_stall", "1m"),
];

/// How many large payloads are more than the kernel takes for a peer that does not read.
const FLOOD: usize = 150;

fn flood(publisher: &mut Publisher) {
    for n in 0..FLOOD {
        publisher.publish(&large(n));
    }
}

#[test]
fn an_overflow_closes_who_does_not_read_and_nobody_else() {
    // Each is read after the other, slowly where the machine is busy.
    let patient = [("deadlines.write_stall", "1m"), ("deadlines.close_send", "1m")];
    let server = start(&[[("limits.outbox_bytes", "128k")].as_slice(), &patient].concat());
    let mut plain = Client::open_narrow(server.address, "/topics/a");
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    hub.subscribe("a");
    let mut stream = Stream::over(Client::connect_narrow(server.address), "/topics/a", None);
    let mut reader = Stream::open(server.address, "/topics/a");
    stream.position();
    reader.position();
    let mut publisher = Publisher::connect(server.address, "a");
    for n in 0..FLOOD {
        let id = publisher.publish(&large(n));
        reader.expect(&id, &large(n));
    }
    for peer in [&mut plain, &mut hub.peer] {
        let mut whole = 0;
        let payload = loop {
            match peer.see() {
                Seen::Frame(0x81, _) => whole += 1,
                Seen::Frame(0x88, payload) => break payload,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(payload, 1013u16.to_be_bytes());
        assert!(whole < FLOOD, "{whole}");
        peer.expect_fin_or_close();
    }
    let mut whole = 0;
    while stream.try_piece().is_some() {
        whole += 1;
    }
    assert!(whole < FLOOD, "{whole}");
    drop((plain, hub, stream));
    server.expect_closed(CloseReason::Overflow, 3);
    assert_eq!(server.open(), 2, "the publisher and the reader");
}

#[test]
fn what_a_client_of_many_topics_lost_is_told_when_its_outbox_has_drained() {
    let server = start(DROPS);
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    hub.subscribe("a");
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    let mut next = 0;
    let (mut levels, mut gap) = (Vec::new(), None);
    let after = loop {
        match hub.peer.see_within(ms(300)) {
            Seen::Nothing => break publisher.publish("after"),
            Seen::Frame(0x81, message) => {
                let message = String::from_utf8(message).unwrap();
                match member(&message, "op") {
                    "event" => {
                        assert!(member(&message, "data").starts_with(&format!("{next:04}")));
                        next += 1;
                    }
                    "pressure" => levels.push(message.clone()),
                    _ => gap = Some(message.clone()),
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(next < FLOOD, "some were dropped");
    // FAULTS 179: the last of them are lost, and nothing more comes for now.
    assert_eq!(gap.as_deref(), Some(r#"{"op":"gap","topic":"a","first":null}"#));
    assert_eq!(levels.last().unwrap(), r#"{"op":"pressure","level":0}"#);
    assert!(levels.len() > 1, "{levels:?}");
    hub.expect(&event_message("a", &after, "after"));
    let dropped = server.stats().messages_dropped();
    assert_eq!(next + dropped as usize, FLOOD, "published = delivered + dropped");
}

#[test]
fn what_a_stream_lost_is_told_when_its_outbox_has_drained() {
    let server = start(DROPS);
    let narrow = Client::connect_narrow(server.address);
    let mut one = Stream::over(narrow, "/topics/a", None);
    let narrow = Client::connect_narrow(server.address);
    let mut many = Stream::over(narrow, "/events?topic=a&topic=b", None);
    one.position();
    many.position();
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    // FAULTS 179: the last of them are lost, and nothing more comes for now.
    let read = |stream: &mut Stream, gap: &str| {
        let mut count = 0;
        let last = loop {
            let piece = stream.piece();
            if piece.starts_with("event: gap") {
                break piece;
            }
            assert!(piece.contains(&format!("\ndata: {count:04}")), "{}", &piece[..60]);
            count += 1;
        };
        assert!(count < FLOOD, "some were dropped");
        assert_eq!(last, gap);
        assert_eq!(stream.piece_within(ms(300)), None, "told once");
    };
    read(&mut one, "event: gap\ndata: ");
    read(&mut many, "event: gap\ndata: {\"topic\":\"a\",\"first\":null}");
    let other = publish(server.address, "b", "other");
    assert_eq!(many.piece(), format!("id: {other}\nevent: b\ndata: other"));
    let after = publisher.publish("after");
    assert_eq!(many.piece(), format!("id: {after}\nevent: a\ndata: after"));
    one.expect(&after, "after");
}

#[test]
fn a_plain_socket_that_lost_events_stays_open() {
    let server = start(DROPS);
    let mut plain = Client::open_narrow(server.address, "/topics/a");
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    let mut next = 0;
    while let Seen::Frame(first, payload) = plain.see_within(ms(300)) {
        assert_eq!((first, &payload[..4]), (0x81, format!("{next:04}").as_bytes()));
        next += 1;
    }
    assert!(next < FLOOD, "some were dropped");
    within(PATIENCE, "the loss is counted", || server.stats().gaps == 1);
    publisher.publish("after");
    assert_eq!(plain.see(), Seen::Frame(0x81, b"after".to_vec()));
    assert_eq!(server.stats().gaps, 1, "once");
    assert_eq!(next + server.stats().messages_dropped() as usize, FLOOD);
    assert_eq!(server.ends(), []);
}

// Word of a loss is not itself something that piles up.
#[test]
fn a_full_outbox_takes_no_word_of_what_it_lost() {
    let server = start(&[("overflow.policy", "drop_newest"), ("limits.outbox_bytes", "64k")]);
    let mut stuck = Hub::over(Client::connect_narrow(server.address));
    stuck.subscribe("a");
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    let queued = server.stats().queued_bytes;
    let mut socket = Client::open(server.address, "/topics/a");
    for n in 0..2000 {
        socket.text(&format!("{n:0100}"));
        socket.see();
    }
    let answers = 2000 * 102 + 200;
    let more = server.stats().queued_bytes - queued;
    assert!(more < answers + 64 * 1024, "{more} bytes more");
}

// Who does not read what it is answered is not asked for more, and meets its deadline.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let server = start(&[("limits.outbox_bytes", "64k"), ("deadlines.write_stall", "500ms")]);
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    let ping = format!(r#"{{"op":"ping","ref":"{}"}}"#, "x".repeat(60_000));
    let ping = frame(0x81, ping.as_bytes());
    hub.peer.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    while hub.peer.try_send(&ping).is_ok() {}
    server.expect_closed(CloseReason::WriteStall, 1);
    let stats = server.stats();
    assert!(stats.discarded_bytes < 3 * 64 * 1024, "{} bytes waited", stats.discarded_bytes);
}

// A client may ask for more in a moment than its outbox takes at once, as long as the kernel takes
// it: less than 64 KiB here.
#[test]
fn what_the_kernel_takes_never_overflows() {
    let server = start(&[("limits.outbox_bytes", "32k")]);
    let mut hub = Hub::open(server.address);
    hub.subscribe("a");
    let publish = format!(r#"{{"op":"publish","topic":"a","data":"{}"}}"#, "x".repeat(200));
    let mut message = frame(0x81, publish.as_bytes());
    message.extend(frame(0x81, br#"{"op":"ping","ref":"0123456789"}"#));
    hub.peer.send(message.repeat(150));
    let mut counts = [0; 3];
    while counts != [150; 3] {
        let message = hub.hear();
        match member(&message, "op") {
            "published" => counts[0] += 1,
            "pong" => counts[1] += 1,
            "event" => counts[2] += 1,
            "pressure" => {}
            _ => panic!("{message}"),
        }
    }
}

// A publisher that never pauses must not keep the loop from delivering, nor make it hold more and
// more of what is to be delivered.
#[test]
fn a_publisher_in_a_hurry_waits_for_the_delivery() {
    let server = start(&[("turn.bytes", "4k"), ("limits.outbox_bytes", "64m")]);
    let mut reader = Stream::open(server.address, "/topics/a");
    reader.position();
    let mut publisher = Hub::open(server.address);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let message = format!(r#"{{"op":"publish","topic":"a","data":"{}"}}"#, "x".repeat(100));
    let messages = frame(0x81, message.as_bytes()).repeat(100);
    let mut answers = publisher.peer.stream.try_clone().unwrap();
    let answers = thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
    let sender = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            publisher.peer.send(&messages);
        }
        publisher.peer.half_close();
    });
    for _ in 0..2000 {
        reader.piece();
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    answers.join().unwrap().unwrap();
}

#[test]
fn a_thousand_who_do_not_read_hold_up_nobody() {
    let server = start(&[]);
    let mut stuck: Vec<Client> =
        (0..1000).map(|_| Client::open_narrow(server.address, "/topics/a")).collect();
    let mut readers: Vec<Stream> =
        (0..5).map(|_| Stream::open(server.address, "/topics/a")).collect();
    let mut sockets: Vec<Client> =
        (0..5).map(|_| Client::open(server.address, "/topics/a")).collect();
    readers.iter_mut().for_each(|reader| _ = reader.position());
    within(PATIENCE, "all are there", || server.open() == 1010);
    let payload = large(7);
    let id = publish(server.address, "a", &payload);
    for reader in &mut readers {
        reader.expect(&id, &payload);
    }
    for socket in &mut sockets {
        assert_eq!(socket.see(), Seen::Frame(0x81, payload.clone().into_bytes()));
    }
    assert_eq!(stuck[0].see(), Seen::Frame(0x81, payload.into_bytes()), "it comes when it is read");
    assert_eq!(server.stats().messages_dropped(), 0);
}

/// Reads everything a client of `/ws` is sent, and checks that no event is missing without word of
/// it: an event follows the one before it, or a gap that names it. Gives the numbers of the events.
fn read_without_silent_loss(hub: &mut Hub) -> Vec<usize> {
    let (mut seen, mut gap): (Vec<usize>, Option<String>) = (Vec::new(), None);
    while let Some(message) = hub.hear_within(ms(300)) {
        match member(&message, "op") {
            "event" => {
                let number = member(&message, "data")[..4].parse().unwrap();
                let next = seen.last().map_or(0, |last| last + 1);
                let told = gap.take().is_some_and(|first| first == member(&message, "id"));
                assert!(number == next || told, "{next} to {number} are missing without a word");
                seen.push(number);
            }
            "gap" => gap = Some(member(&message, "first").to_owned()),
            _ => {}
        }
    }
    assert_eq!(gap, None, "what a gap names follows");
    seen
}

#[test]
fn the_oldest_event_gives_way_and_the_gap_stands_in_its_place() {
    let server = start(&[("overflow.policy", "drop_oldest"), ("limits.outbox_bytes", "256k")]);
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    hub.subscribe("a");
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    let seen = read_without_silent_loss(&mut hub);
    assert_eq!(seen.last(), Some(&(FLOOD - 1)), "the newest are there: {seen:?}");
    assert!(seen.len() < FLOOD, "some were dropped");
    let dropped = server.stats().messages_dropped() as usize;
    assert_eq!(seen.len() + dropped, FLOOD, "published = delivered + dropped");
}

#[test]
fn of_each_topic_the_latest_event_stays() {
    let server = start(&[("overflow.policy", "latest"), ("limits.outbox_bytes", "128k")]);
    let mut hub = Hub::over(Client::connect_narrow(server.address));
    hub.subscribe("a");
    hub.subscribe("b");
    let quiet = publish(server.address, "b", "0000 once and never again");
    let mut publisher = Publisher::connect(server.address, "a");
    flood(&mut publisher);
    let (mut numbers, mut once) = (Vec::new(), 0);
    while let Some(message) = hub.hear_within(ms(300)) {
        if member(&message, "op") != "event" {
            continue;
        }
        match member(&message, "topic") {
            "b" => {
                assert_eq!(member(&message, "id"), quiet);
                once += 1;
            }
            _ => numbers.push(member(&message, "data")[..4].parse::<usize>().unwrap()),
        }
    }
    assert_eq!(once, 1, "the newest of a quiet topic is not sacrificed to a loud one");
    assert!(numbers.is_sorted() && numbers.len() < FLOOD, "{numbers:?}");
    assert_eq!(numbers.last(), Some(&(FLOOD - 1)));
}

/// What `subscribed` names as the last position must not lie behind an event that was dropped.
#[test]
fn a_gap_before_subscribed_is_told_before_it() {
    // With the entries, which take 128 bytes each, room for all but the last event.
    let pairs = [("overflow.policy", "drop_oldest"), ("limits.outbox_bytes", "1050")];
    let mut server = TestEngine::new(&pairs);
    let hub = server.open("/ws");
    let say = |server: &mut TestEngine, text: &str| {
        server.send(hub, frame(0x81, text.as_bytes()));
        server.settle();
    };
    let publish = |server: &mut TestEngine, topic: &str, len: usize| {
        server.command(Command::Publish(topic.into(), "x".repeat(len).into()));
        server.settle();
    };
    publish(&mut server, "a", 100);
    say(&mut server, r#"{"op":"subscribe","topic":"b"}"#);
    server.received(hub);
    // A pong is begun, and what follows waits behind it.
    server.narrow(hub, 1);
    say(&mut server, r#"{"op":"ping"}"#);
    say(&mut server, r#"{"op":"subscribe","topic":"a","after":"0-0"}"#);
    publish(&mut server, "b", 400);
    server.narrow(hub, usize::MAX);
    server.settle();
    let got = server.received(hub);
    let got = String::from_utf8_lossy(&got);
    let place = |what: &str| got.find(what).unwrap_or_else(|| panic!("no {what} in {got}"));
    let gap = place(r#"{"op":"gap","topic":"a","first":null}"#);
    assert!(gap < place(r#"{"op":"subscribed","topic":"a""#), "{got}");
    assert_eq!(server.engine.stats().messages_dropped(), 1);
}

/// The first event that the 101 names is the first that follows, or the end is an overflow.
#[test]
fn what_is_evicted_behind_the_gap_of_the_101_is_another_gap() {
    let mut server =
        TestEngine::new(&[("topics.retain_events", "1"), ("limits.outbox_bytes", "300")]);
    let publish = |server: &mut TestEngine, text: &str| {
        server.command(Command::Publish("a".into(), text.into()));
        server.settle();
    };
    publish(&mut server, "first");
    publish(&mut server, "second");
    let id = server.connect("127.0.0.1:9").expect("there is room");
    server.narrow(id, 0);
    server.send(id, upgrade_request("/topics/a?after=0-0", ""));
    server.settle();
    publish(&mut server, "third");
    server.narrow(id, usize::MAX);
    server.settle();
    let got = server.received(id);
    let got = String::from_utf8_lossy(&got);
    assert!(got.contains("\r\nEvent-Gap: ") && !got.contains("third"), "{got}");
    server.run_for(60_000);
    assert_eq!(server.engine.stats().closed_by(CloseReason::Overflow), 1);
}
