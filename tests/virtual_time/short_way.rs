//! Messages that a handler on the loop takes while they are decoded, and those that must wait.

use std::io::Write;
use std::sync::{Arc, Mutex};

use heartwheel::{Event, Peer, Route, Server};

use crate::common::frame::{BINARY, frame};
use crate::common::http::upgrade_request;
use crate::common::world::*;

/// Has a handler take what is sent in one piece.
fn world(pairs: &[(&str, &str)], handler: impl Fn(&Peer, &str) + Send + Sync + 'static) -> World {
    let told = move |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            handler(peer, message.as_text().expect("text"));
        }
    };
    let builder = Server::builder().topics("/topics/{topic}").route(Route::websocket("/", told));
    World::new(pairs, builder)
}

fn say(client: &mut Client, texts: &[&str]) {
    for text in texts {
        client.socket.write(tungstenite::Message::text(*text)).unwrap();
    }
    client.socket.flush().unwrap();
}

fn heard(client: &mut Client, world: &World) -> Vec<String> {
    client.attend(world.clock.elapsed());
    let messages = client.messages.drain(..);
    messages.map(|message| message.into_text().unwrap().to_string()).collect()
}

#[test]
fn what_a_handler_says_keeps_its_order_whatever_it_says() {
    let other: Arc<Mutex<Option<Peer>>> = Arc::default();
    let known = other.clone();
    let mut world = world(&[], move |peer, text| match text {
        "other" => *known.lock().unwrap() = Some(peer.clone()),
        "all" => {
            peer.subscribe("a").unwrap();
            peer.send("first");
            peer.publish("a", "second").unwrap();
            known.lock().unwrap().as_ref().unwrap().send("from elsewhere");
            peer.send("third");
        }
        "end" => {
            peer.send("last");
            peer.close(4000, "done").unwrap();
            peer.send("behind the end");
        }
        text => {
            peer.send(text);
            peer.send("again");
        }
    });
    let mut second = world.open("/");
    say(&mut second, &["other"]);
    world.settle();
    let mut client = world.open("/");
    say(&mut client, &["1", "all", "2", "end", "never heard"]);
    world.settle();
    let expected = ["1", "again", "first", "third", "2", "again", "last"];
    let mut said = heard(&mut client, &world);
    // An event goes to its subscribers behind what handlers said in the turn.
    said.retain(|text| text != "second");
    assert_eq!(said, expected);
    assert_eq!(client.code(), 4000);
    assert_eq!(heard(&mut second, &world), ["from elsewhere"]);
    let stats = world.server.stats();
    assert_eq!(stats.messages_received, stats.messages_handled + stats.messages_cancelled);
}

#[test]
fn a_panic_costs_its_message_and_its_connection() {
    let mut world = world(&[], |peer, text| {
        peer.send(text);
        if text == "panic" {
            std::panic::resume_unwind(Box::new("as asked"));
        }
    });
    let mut bystander = world.open("/");
    let mut client = world.open("/");
    say(&mut client, &["1", "2", "panic", "4", "5"]);
    say(&mut bystander, &["6"]);
    world.settle();
    client.attend(world.clock.elapsed());
    assert_eq!(client.code(), 1011);
    assert_eq!(heard(&mut bystander, &world), ["6"]);
    let stats = world.server.stats();
    assert_eq!((stats.handler_panics, stats.messages_panicked), (1, 1));
    assert_eq!(stats.messages_handled, 3);
}

#[test]
fn a_peer_that_does_not_read_is_read_no_further_and_loses_nothing() {
    let pairs = [("limits.outbox_bytes", "4k"), ("limits.inbox_messages", "4")];
    let echo = |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            peer.send(message);
        }
    };
    let mut world = World::new(&pairs, Server::builder().route(Route::websocket("/", echo)));
    let mut peer = world.send(upgrade_request("/", "").as_bytes());
    read_all(&mut peer);
    let message = |number: u32| frame(BINARY, &[&number.to_be_bytes()[..], &[7; 496]].concat());
    let bytes: Vec<u8> = (0..MESSAGES).flat_map(message).collect();
    let mut left = &bytes[..];
    // Until the server takes no more.
    while let Ok(len) = peer.write(left) {
        left = &left[len..];
        world.settle();
    }
    assert!(!left.is_empty() && world.server.stats().messages_handled > 0);
    assert!(world.server.stats().messages_handled < MESSAGES.into());
    let mut answers = Vec::new();
    loop {
        let (more, _) = read_all(&mut peer);
        if more.is_empty() && left.is_empty() {
            break;
        }
        answers.extend(more);
        world.settle();
        left = &left[peer.write(left).unwrap_or(0)..];
        world.settle();
    }
    let numbers = answers.chunks(4 + 500).map(|frame| frame[4..8].try_into().unwrap());
    let numbers: Vec<_> = numbers.map(u32::from_be_bytes).collect();
    assert!(numbers.into_iter().eq(0..MESSAGES));
    let stats = world.server.stats();
    assert_eq!((stats.messages_handled, stats.closed_total()), (MESSAGES.into(), 0));
}

const MESSAGES: u32 = 2000;
