//! The server's own code hears topics and reads them: in order, bounded, with every gap told, and
//! without a wait of the loop.

use std::thread;
use std::time::Duration;

use heartwheel::topics::{After, EventId};
use heartwheel::{
    Event, Handle, Heard, MemoryNetwork, MemoryPeer, Message, Peer, ReceiveError, Route, SendError,
    Server, Subscription,
};

use tungstenite::{HandshakeError, WebSocket};

use crate::common::server::config;
use crate::common::timing::eventually;
use crate::common::world::*;

const BEGIN: After = After::Position(EventId::ZERO);

/// Everything that is there: texts of events, and `gap` with the id that follows.
fn heard(subscription: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_receive().ok()).map(spelt).collect()
}

fn spelt(heard: Heard) -> String {
    match heard {
        Heard::Event(event) => event.payload.as_text().unwrap_or("bytes").to_owned(),
        Heard::Gap(_) => "gap".to_owned(),
        other => unreachable!("{other:?}"),
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn post(topic: &str, text: &str) -> String {
    let len = text.len();
    format!(
        "POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {len}\r\n\r\n{text}"
    )
}

fn publish(world: &mut World, range: std::ops::Range<u32>) {
    for number in range {
        world.server.handle().publish("a", number.to_string()).unwrap();
        if number % 100 == 0 {
            world.settle();
        }
    }
    world.settle();
}

#[test]
fn server_code_hears_what_clients_and_handlers_publish() {
    let handler = |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            peer.publish("a", message).unwrap();
        }
    };
    let mut world = World::new(&[], routes().websocket("/publishing", handler));
    let handle = world.server.handle();
    handle.publish("a", "before").unwrap();
    let live = handle.subscribe("a", After::Now).unwrap();
    let all = handle.subscribe("a", BEGIN).unwrap();
    let garbage = handle.subscribe("a", After::Garbage).unwrap();
    world.settle();
    assert_eq!(live.topic(), "a");
    assert_eq!(live.try_receive(), Err(ReceiveError::Nothing));
    let answer = world.ask(&post("a", "posted"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut client = world.open("/topics/a");
    client.say("plain");
    world.settle();
    let mut client = world.open("/publishing");
    client.say("by a handler");
    world.settle();
    let later = ["posted", "plain", "by a handler"];
    assert_eq!(heard(&live), later);
    assert_eq!(heard(&all), [&["before"][..], &later].concat());
    assert_eq!(heard(&garbage), [&["gap", "before"][..], &later].concat());
    assert_eq!(world.server.stats().gaps, 1);
}

// It may miss only what the log has evicted.
#[test]
fn one_that_does_not_receive_waits_in_the_log_and_is_told_its_gap() {
    let mut world = World::new(&[("topics.retain_events", "1000")], routes());
    let handle = world.server.handle();
    let subscription = handle.subscribe("a", After::Now).unwrap();
    publish(&mut world, 0..700);
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(heard(&subscription));
        world.settle();
    }
    assert_eq!(got, numbers(0..700), "the log has all of it");
    assert_eq!(world.server.stats().gaps, 0);
    publish(&mut world, 0..3000);
    got.clear();
    for _ in 0..20 {
        got.extend(heard(&subscription));
        world.settle();
    }
    let gap = got.iter().position(|one| one == "gap").expect("it was told");
    assert!((256..400).contains(&gap), "{gap} waited");
    assert_eq!(got[..gap], numbers(0..gap as u32));
    assert_eq!(got[gap + 1..], numbers(2000..3000));
    assert_eq!(world.server.stats().gaps, 1);
    publish(&mut world, 7..9);
    assert_eq!(heard(&subscription), ["7", "8"], "it is live again");
}

#[test]
fn what_no_log_retains_is_heard_live() {
    let mut world = World::new(&[("topics.retain_bytes", "1")], routes());
    let subscription = world.server.handle().subscribe("a", After::Now).unwrap();
    publish(&mut world, 100..300);
    assert_eq!(heard(&subscription), numbers(100..300));
    publish(&mut world, 100..400);
    let got = heard(&subscription);
    world.settle();
    let rest = heard(&subscription);
    assert_eq!([got, rest].concat(), [numbers(100..356), vec!["gap".into()]].concat());
    publish(&mut world, 500..501);
    assert_eq!(heard(&subscription), ["500"]);
}

#[test]
fn large_events_wait_one_by_one_and_count_in_the_budget() {
    let pairs = [("topics.retain_bytes", "1m"), ("topics.retain_events", "100")];
    let mut world = World::new(&pairs, routes());
    let handle = world.server.handle();
    let subscription = handle.subscribe("a", After::Now).unwrap();
    world.settle();
    for number in 0..8 {
        handle.publish("a", vec![number; 100_000]).unwrap();
        world.settle();
    }
    for number in 0..8 {
        let Ok(Heard::Event(event)) = subscription.try_receive() else { panic!("{number}") };
        assert_eq!(event.payload.as_bytes()[0], number);
        assert_eq!(subscription.try_receive(), Err(ReceiveError::Nothing), "one waits");
        world.settle();
    }
}

#[test]
fn subscriptions_are_bounded_end_when_dropped_and_are_refused_without_a_topic() {
    let pairs = [("limits.subscriptions", "2"), ("limits.topics", "2")];
    let mut world = World::new(&pairs, routes());
    let handle = world.server.handle();
    let one = handle.subscribe("a", After::Now).unwrap();
    let other = handle.subscribe("a", After::Now).unwrap();
    world.settle();
    assert_eq!(handle.subscribe("a", After::Now).unwrap_err(), SendError::Subscriptions);
    assert_eq!(handle.subscribe("no topic", After::Now).unwrap_err(), SendError::Topic);
    drop((one, other));
    world.settle();
    ["b", "c"].into_iter().for_each(|topic| handle.publish(topic, "x").unwrap());
    let refused = handle.subscribe("d", After::Now).unwrap();
    world.settle();
    assert_eq!(refused.try_receive(), Err(ReceiveError::Topics));
    assert_eq!(refused.receive(), Err(ReceiveError::Topics));
    assert_eq!(world.server.stats().publishes_refused, 1);
    let again = handle.subscribe("b", BEGIN).unwrap();
    world.settle();
    assert_eq!(heard(&again), ["x"]);
}

#[test]
fn a_subscription_keeps_its_topic_and_gives_it_back() {
    let mut world = World::new(&[("limits.topics", "1"), ("topics.retain_for", "1s")], routes());
    let handle = world.server.handle();
    let subscription = handle.subscribe("a", After::Now).unwrap();
    world.pass(MINUTE, &mut []);
    assert!(world.ask(&post("b", "x")).starts_with("HTTP/1.1 503"));
    drop(subscription);
    world.settle();
    assert!(world.ask(&post("b", "x")).starts_with("HTTP/1.1 200"));
}

#[test]
fn topics_are_read_by_threads_and_not_by_handlers_on_the_loop() {
    let handler = |peer: &Peer, event: Event| {
        if let Event::Message(_) = event {
            let topic = peer.handle().topic("a").unwrap();
            let subscription = peer.handle().subscribe("a", BEGIN).unwrap();
            assert_eq!(topic.newest(HOUR), Err(SendError::Unanswered));
            assert_eq!(topic.read(BEGIN, HOUR), Err(SendError::Unanswered));
            assert_eq!(subscription.receive(), Err(ReceiveError::Nothing));
            assert_eq!(subscription.receive_timeout(HOUR), Err(ReceiveError::Nothing));
            peer.send("it did not wait");
        }
    };
    let mut world = World::new(&[], routes().websocket("/impatient", handler));
    let mut clients = [world.open("/impatient")];
    clients[0].say("x");
    world.pass(SECOND, &mut clients);
    assert_eq!(clients[0].messages, [tungstenite::Message::text("it did not wait")]);

    let handle = world.server.handle();
    assert_eq!(handle.topic("no topic").unwrap_err(), SendError::Topic);
    let reader = handle.topic("a").unwrap();
    assert_eq!(reader.newest(Duration::ZERO), Err(SendError::Unanswered), "no loop turns");
    publish(&mut world, 0..300);
    let asking = thread::spawn(move || {
        let newest = reader.newest(MINUTE).unwrap().expect("it is retained");
        let first = reader.read(BEGIN, MINUTE).unwrap();
        let rest = reader.read(After::Position(first.position), MINUTE).unwrap();
        let none = reader.read(After::Position(rest.position), MINUTE).unwrap();
        let empty = handle.topic("b").unwrap().newest(MINUTE);
        (newest, first, rest, none, empty)
    });
    while !asking.is_finished() {
        world.server.turn().unwrap();
        thread::yield_now();
    }
    let (newest, first, rest, none, empty) = asking.join().unwrap();
    assert_eq!(newest.payload.as_text(), Some("299"));
    // 256 are retained: 44 to 299.
    assert!(first.gap.is_some() && first.events[0].payload.as_text() == Some("44"), "{first:?}");
    assert!(!first.has_more && first.events.len() == 256 && first.position == newest.id);
    assert!(rest.gap.is_none() && rest.events.is_empty() && rest.position == newest.id);
    assert_eq!((none, empty), (rest, Ok(None)));
}

#[test]
fn a_thread_waits_for_events_until_the_server_ends() {
    for workers in ["0", "2"] {
        let route = |peer: &Peer, event: Event| {
            if let Event::Message(Message::Text(text)) = event {
                // What this call has published and subscribed to has left when it waits.
                let subscription = peer.handle().subscribe("b", After::Now).unwrap();
                peer.publish("b", text.as_str()).unwrap();
                if let Ok(heard) = subscription.receive_timeout(MINUTE) {
                    peer.publish("a", spelt(heard)).unwrap();
                }
            }
        };
        let network = MemoryNetwork::new();
        let builder = Server::builder().config(config(&[("workers", workers)]));
        let builder = builder.topics("/topics/{topic}").route(Route::websocket("/wait", route));
        let server = builder.listen_memory(&network).unwrap();
        let handle: Handle = server.handle();
        let subscription = handle.subscribe("a", After::Now).unwrap();
        let serving = thread::spawn(move || server.run().unwrap());
        let hearing = thread::spawn(move || {
            let got: Vec<String> = subscription.iter().map(spelt).collect();
            (got, subscription.receive())
        });
        for number in 0..2000 {
            while handle.publish("a", number.to_string()) == Err(SendError::Full) {
                thread::yield_now();
            }
        }
        if workers == "2" {
            let mut client = open(&network, "/wait");
            client.send(tungstenite::Message::text("told by a handler")).unwrap();
            let told = handle.topic("a").unwrap();
            eventually("the handler has heard", || {
                let newest = told.newest(MINUTE).unwrap().unwrap();
                newest.payload.as_text() == Some("told by a handler")
            });
        }
        // The loop may still have publications to take.
        while handle.drain() == Err(SendError::Full) {
            thread::yield_now();
        }
        serving.join().unwrap();
        let (got, end) = hearing.join().unwrap();
        let events: Vec<&String> = got.iter().filter(|one| *one != "gap").collect();
        assert!(events.is_sorted_by_key(|one| one.parse::<u32>().unwrap_or(u32::MAX)));
        assert_eq!(end, Err(ReceiveError::Ended));
        assert_eq!(got.last().unwrap() == "told by a handler", workers == "2");
        assert_eq!(handle.subscribe("a", After::Now).unwrap_err(), SendError::Ended);
    }
}

// A server that ends does not take along what its log still has for a subscription.
#[test]
fn what_waits_in_the_log_comes_when_the_server_ends() {
    let mut world = World::new(&[("topics.retain_events", "1000")], routes());
    let handle = world.server.handle();
    let slow = handle.subscribe("a", After::Now).unwrap();
    let silent = handle.subscribe("b", After::Now).unwrap();
    publish(&mut world, 0..700);
    let late = handle.subscribe("a", After::Garbage).unwrap();
    world.settle();
    drop(world);
    assert_eq!(heard(&slow), numbers(0..700));
    assert_eq!(heard(&late), [vec!["gap".into()], numbers(0..700)].concat());
    for subscription in [&slow, &silent, &late] {
        assert_eq!(subscription.receive(), Err(ReceiveError::Ended));
    }
}

/// Opens a WebSocket of a server that runs on another thread.
fn open(network: &MemoryNetwork, path: &str) -> WebSocket<MemoryPeer> {
    let peer = network.connect().unwrap();
    let mut handshake = tungstenite::client(format!("ws://localhost{path}"), peer);
    loop {
        match handshake {
            Ok((socket, _)) => return socket,
            Err(HandshakeError::Interrupted(waiting)) => {
                thread::yield_now();
                handshake = waiting.handshake();
            }
            Err(HandshakeError::Failure(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_no_topic_is_an_error_to_its_publisher() {
    let mut world = World::new(&[], routes());
    let handle = world.server.handle();
    let peer = handle.peer(heartwheel::ConnectionId::from_u64(77.try_into().unwrap()));
    for name in ["", "a b", "*", "a/b", &"x".repeat(129)] {
        assert_eq!(handle.publish(name, "x"), Err(SendError::Topic), "{name}");
        assert_eq!(peer.publish(name, "x"), Err(SendError::Topic), "{name}");
        assert_eq!(peer.subscribe(name), Err(SendError::Topic), "{name}");
        assert_eq!(peer.subscribe_after(name, "0-0"), Err(SendError::Topic), "{name}");
    }
    world.settle();
    assert_eq!(world.server.stats().publishes_refused, 0);
    assert_eq!(handle.publish("x".repeat(128), "x"), Ok(()));
}
