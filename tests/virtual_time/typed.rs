//! Handlers with a codec before them: values in, values out, and the end by what is no value.

use std::io::{Read, Write};
use std::num::ParseIntError;
use std::sync::{Arc, Mutex};

use heartwheel::{BadMessage, Builder, CloseReason, Codec, Event, Message, Typed, TypedPeer};

use crate::common::frame::frame;
use crate::common::http::upgrade_request;
use crate::common::timing::{eventually, lock};
use crate::common::world::*;

/// Numbers from 0 to 9,999 in decimal. It has a fault: it panics at `!`.
struct Decimal;

impl Codec for Decimal {
    type Incoming = u32;
    type Outgoing = u32;

    fn decode(&self, message: Message) -> Result<u32, BadMessage> {
        let text = message.as_text().ok_or_else(|| BadMessage::with_code(1003, "no text"))?;
        assert!(text != "!", "a codec with a fault");
        match text.trim_start_matches('0').len() {
            5.. => Err(BadMessage::with_code(1005, format!("{text}{}", "ü".repeat(100)))),
            _ => text.parse().map_err(|error: ParseIntError| error.into()),
        }
    }

    fn encode(&self, number: &u32) -> Message {
        Message::text(number.to_string())
    }
}

type Told = Arc<Mutex<Vec<Event<u32>>>>;

/// Answers each number with its double.
fn doubling(told: &Told) -> Builder {
    let told = told.clone();
    let double = move |peer: TypedPeer<'_, Decimal>, event: Event<u32>| {
        if let Event::Message(number) = event {
            peer.send(&(number * 2));
        }
        lock(&told).push(event);
    };
    routes().websocket("/double", Typed::new(Decimal, double))
}

/// What the handler was told but for the opening: the numbers, then why it ended.
fn heard(told: &Told) -> (Vec<u32>, Option<CloseReason>) {
    let (mut numbers, mut reason) = (Vec::new(), None);
    for event in lock(told).iter() {
        match event {
            Event::Opened(_) => {}
            Event::Message(number) => numbers.push(*number),
            Event::Closed(why) => reason = Some(*why),
            other => panic!("{other:?}"),
        }
    }
    (numbers, reason)
}

/// Sends these at once, and sees the client to its end.
fn tell(texts: &[&str]) -> (World, Client, Told) {
    let told = Told::default();
    let mut world = World::new(&[], doubling(&told));
    let mut client = world.open("/double");
    texts.iter().for_each(|text| client.say(text));
    let mut clients = [client];
    world.pass(SECOND, &mut clients);
    let [client] = clients;
    (world, client, told)
}

#[test]
fn values_come_in_and_go_out() {
    let (mut world, client, told) = tell(&["1", "0021"]);
    assert_eq!(client.messages, ["2", "42"].map(tungstenite::Message::text));
    assert_eq!(heard(&told), (vec![1, 21], None));
    drop(client);
    world.settle();
    assert_eq!(heard(&told).1, Some(CloseReason::Eof));
    assert_eq!(world.server.stats().messages_undecodable, 0);
}

#[test]
fn what_is_no_value_closes_with_1007_and_nothing_behind_it_is_handled() {
    let (world, client, told) = tell(&["1", "two", "3", "4"]);
    assert_eq!(client.messages, ["2"].map(tungstenite::Message::text));
    assert_eq!(client.code(), 1007);
    let close = client.close.as_ref().unwrap();
    assert_eq!(close.reason.as_str(), "invalid digit found in string");
    assert_eq!(heard(&told), (vec![1], Some(CloseReason::Application(1007))));
    let stats = world.server.stats();
    assert_eq!(stats.closed_by(CloseReason::Application(1007)), 1);
    let lost = stats.messages_undecodable + stats.messages_cancelled;
    assert!(stats.messages_undecodable >= 1, "{stats:?}");
    assert_eq!(lost + 1, stats.messages_received, "each message is accounted for");
    assert_eq!(stats.messages_handled + stats.messages_cancelled, stats.messages_received);
    let figures = world.server.metrics();
    let line = format!("heartwheel_messages_undecodable_total {}", stats.messages_undecodable);
    assert!(figures.lines().any(|found| found == line), "{line}: {figures}");
}

#[test]
fn a_codec_may_name_another_code_but_only_one_that_may_be_sent() {
    let told = Told::default();
    let mut world = World::new(&[], doubling(&told));
    let mut clients = [world.open("/double"), world.open("/double")];
    clients[0].socket.send(tungstenite::Message::binary(vec![1])).unwrap();
    clients[1].say("12345");
    world.pass(SECOND, &mut clients);
    let [binary, long] = &clients;
    assert_eq!((binary.code(), long.code()), (1003, 1007));
    let text = &long.close.as_ref().unwrap().reason;
    assert_eq!(text.as_str(), format!("12345{}", "ü".repeat(59)), "123 bytes at most");
    assert_eq!(world.server.stats().messages_undecodable, 2);
}

#[test]
fn a_codec_that_panics_ends_its_connection_alone() {
    let (mut world, client, told) = tell(&["1", "!", "3"]);
    assert_eq!(client.code(), 1011);
    assert_eq!(heard(&told), (vec![1], Some(CloseReason::Panic)));
    assert_eq!(world.server.stats().messages_undecodable, 0);
    let mut other = [world.open("/double")];
    other[0].say("4");
    world.pass(SECOND, &mut other);
    assert_eq!(other[0].messages, ["8"].map(tungstenite::Message::text));
}

/// A worker is given all messages that were read together: those behind the bad one, too.
#[test]
fn messages_behind_the_bad_one_reach_no_handler_on_a_worker_either() {
    let told = Told::default();
    let mut world = World::new(&[("workers", "1")], doubling(&told));
    let mut peer = world.send(upgrade_request("/double", "").as_bytes());
    let mut bytes = Vec::new();
    let mut until = |world: &mut World, peer: &mut heartwheel::MemoryPeer, end: &[u8]| {
        eventually("bytes come", || {
            world.server.turn().unwrap();
            let mut buffer = [0; 1024];
            let len = peer.read(&mut buffer).unwrap_or(0);
            bytes.extend_from_slice(&buffer[..len]);
            bytes.windows(end.len()).any(|found| found == end)
        });
    };
    until(&mut world, &mut peer, b"\r\n\r\n");
    let texts: Vec<Vec<u8>> = ["1", "x", "3", "y"].map(|t| frame(0x81, t.as_bytes())).into();
    peer.write_all(&texts.concat()).unwrap();
    until(&mut world, &mut peer, b"\x81\x012\x88\x1f\x03\xefinvalid digit found in string");
    assert_eq!(heard(&told).0, [1]);
    // The call may still return.
    eventually("all is counted", || {
        world.server.turn().unwrap();
        let stats = world.server.stats();
        (stats.messages_undecodable, stats.messages_handled) == (3, 4)
    });
}
