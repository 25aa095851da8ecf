//! Topics from code: a handler subscribes its peer, any thread publishes.

use std::thread;

use heartwheel::{Event, Peer, SendError, Server};

use crate::common::client::Client;
use crate::common::server::TestServer;
use crate::common::timing::ms;
use crate::common::topics::*;

fn room(peer: &Peer, event: Event) {
    match event {
        Event::Opened(request) => {
            match request.query_value("after") {
                Some(after) => peer.subscribe_after("room", &after).unwrap(),
                None => peer.subscribe("room").unwrap(),
            }
            peer.send("joined");
        }
        Event::Message(message) if message.as_text() == Some("leave") => {
            peer.unsubscribe("room").unwrap();
            peer.send("left");
        }
        Event::Message(message) => peer.publish("room", message).unwrap(),
        _ => {}
    }
}

fn start_room(pairs: &[(&str, &str)]) -> TestServer {
    let builder = Server::builder().topics("/topics/{topic}").websocket("/room", room);
    TestServer::serve(pairs, builder)
}

#[test]
fn a_handler_subscribes_its_peer_and_publishes_for_it() {
    for workers in ["0", "2"] {
        let server = start_room(&[("workers", workers)]);
        let mut one = Client::open(server.address, "/room");
        assert_eq!(one.message(), "joined");
        let mut other = Client::open(server.address, "/room");
        assert_eq!(other.message(), "joined");
        one.text("hello");
        assert_eq!((one.message(), other.message()), ("hello".into(), "hello".into()));
        one.text("leave");
        assert_eq!(one.message(), "left");
        other.text("alone");
        assert_eq!(other.message(), "alone");
        // Who comes later gets what it missed.
        let mut late = Client::open(server.address, "/room?after=0-0");
        let heard = [late.message(), late.message(), late.message()];
        assert!(heard.contains(&"hello".into()) && heard.contains(&"alone".into()), "{heard:?}");
    }
}

#[test]
fn any_thread_publishes_until_the_server_has_ended() {
    let server = start_room(&[]);
    let handle = server.handle.clone();
    let mut stream = Stream::open(server.address, "/topics/sensor");
    stream.position();
    let publisher = thread::spawn(move || {
        for reading in 0..100 {
            while handle.publish("sensor", reading.to_string()) == Err(SendError::Full) {
                thread::sleep(ms(1));
            }
        }
        handle
    });
    for reading in 0..100 {
        assert!(stream.piece().ends_with(&format!("\ndata: {reading}")));
    }
    let handle = publisher.join().unwrap();
    assert_eq!(handle.publish("no topic", "x"), Err(SendError::Topic));
    drop((stream, server));
    assert_eq!(handle.publish("sensor", "x"), Err(SendError::Ended));
}
