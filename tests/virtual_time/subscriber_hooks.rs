//! Hooks hear when a topic gets its first subscriber and when it loses its last one: whatever way
//! subscribers come, in order, none left out, bounded.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::topics::After;
use heartwheel::{Builder, Handle, Peer, Route, Server};

use crate::common::timing::eventually;
use crate::common::world::*;

type Told = Arc<Mutex<Vec<String>>>;

/// Routes with topics, and what their hooks are told.
fn hooked() -> (Builder, Told) {
    let told = Told::default();
    let note = |what: &'static str| {
        let told = told.clone();
        move |_: &Handle, topic: &str| told.lock().unwrap().push(format!("{what} {topic}"))
    };
    let topics = Route::topics("/topics/{topic}")
        .on_first_subscriber(note("first"))
        .on_last_subscriber(note("last"));
    let subscribing = |peer: &Peer, event: heartwheel::Event| {
        if let heartwheel::Event::Opened(_) = event {
            peer.subscribe("a").unwrap();
        }
    };
    let builder = Server::builder().seed(7).route(topics).hub("/ws").events("/events");
    (builder.websocket("/subscribing", subscribing), told)
}

fn taken(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

const STREAM: &[u8] =
    b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
const STREAMS: &[u8] = b"GET /events?topic=a&topic=b HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn whoever_subscribes_counts() {
    let (builder, told) = hooked();
    let mut world = World::new(&[], builder);
    let handle = world.server.handle();
    let own = handle.subscribe("a", After::Now).unwrap();
    world.settle();
    assert_eq!(taken(&told), ["first a"]);
    let plain = world.open("/topics/a");
    drop(own);
    let handled = world.open("/subscribing");
    let mut hub = world.open("/ws");
    hub.say(r#"{"op":"subscribe","topic":"a"}"#);
    hub.say(r#"{"op":"subscribe","topic":"a"}"#);
    let stream = world.send(STREAM);
    let streams = world.send(STREAMS);
    world.settle();
    assert_eq!(taken(&told), ["first b"], "the others were not the first");
    drop((plain, handled, stream, streams));
    world.settle();
    assert_eq!(taken(&told), ["last b"]);
    hub.say(r#"{"op":"unsubscribe","topic":"a"}"#);
    world.settle();
    assert_eq!(taken(&told), ["last a"]);
    // It comes and goes within a turn.
    hub.say(r#"{"op":"subscribe","topic":"a"}"#);
    hub.say(r#"{"op":"unsubscribe","topic":"a"}"#);
    hub.say(r#"{"op":"subscribe","topic":"a"}"#);
    world.settle();
    assert_eq!(taken(&told), ["first a", "last a", "first a"]);
    // The end of a connection, and that of all.
    hub.say(r#"{"op":"subscribe","topic":"c"}"#);
    world.settle();
    assert_eq!(taken(&told), ["first c"]);
    handle.drain().unwrap();
    world.pass(MINUTE, &mut [hub]);
    let mut last = taken(&told);
    last.sort();
    assert_eq!(last, ["last a", "last c"]);
    assert!(world.server.is_over());
    assert_eq!(world.server.stats().handler_panics, 0);
}

#[test]
fn a_hook_that_blocks_or_panics_loses_nothing_and_holds_up_its_topic_alone() {
    let (outlet, inlet) = mpsc::channel::<()>();
    let inlet = Mutex::new(inlet);
    let told = Told::default();
    let (first, last) = (told.clone(), told.clone());
    let topics = Route::topics("/topics/{topic}")
        .on_first_subscriber(|_, topic| assert!(topic != "brittle"))
        .on_first_subscriber(move |_, topic| {
            if topic == "slow" {
                inlet.lock().unwrap().recv().unwrap();
            }
            first.lock().unwrap().push(format!("first {topic}"));
        })
        .on_last_subscriber(move |_, topic| last.lock().unwrap().push(format!("last {topic}")));
    let builder = Server::builder().seed(7).route(topics).hub("/ws");
    let pairs = [("workers", "2"), ("limits.topics", "2")];
    let mut world = World::new(&pairs, builder);
    let mut hub = [world.open("/ws")];
    let mut ask = |world: &mut World, op: &str, topic: &str| {
        hub[0].say(&format!(r#"{{"op":"{op}","topic":"{topic}"}}"#));
        world.pass(Duration::ZERO, &mut hub);
        hub[0].messages.last().unwrap().to_text().unwrap().to_owned()
    };
    for _ in 0..3 {
        ask(&mut world, "subscribe", "slow");
        ask(&mut world, "unsubscribe", "slow");
    }
    ask(&mut world, "subscribe", "other");
    ask(&mut world, "unsubscribe", "other");
    eventually("the other topic is told", || {
        world.settle();
        *told.lock().unwrap() == ["first other", "last other"]
    });
    taken(&told);
    // Topics that wait for hooks count as topics.
    eventually("there is room for a topic", || {
        ask(&mut world, "subscribe", "brittle").contains("subscribed")
    });
    eventually("the next hook is called", || {
        world.settle();
        taken(&told) == ["first brittle"]
    });
    eventually("there is room for one more", || {
        ask(&mut world, "subscribe", "slow").contains("subscribed")
    });
    let refused = ask(&mut world, "subscribe", "more");
    assert!(refused.contains(r#""code":"limit""#), "{refused}");
    ask(&mut world, "unsubscribe", "slow");
    (0..4).for_each(|_| outlet.send(()).unwrap());
    let alternating = ["first slow", "last slow"].repeat(4);
    eventually("none is left out", || {
        world.settle();
        *told.lock().unwrap() == alternating
    });
    eventually("there is room again", || {
        ask(&mut world, "subscribe", "more").contains("subscribed")
    });
    assert_eq!(world.server.stats().handler_panics, 1);
}
