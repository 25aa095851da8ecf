//! Sessions of a handler whose messages are values, by a clock that is moved by hand.

use std::sync::Arc;

use heartwheel::http::Request;
use heartwheel::{
    BadMessage, BadSession, Claim, CloseReason, Codec, MemorySessions, Message, Route, Save,
    Server, SessionId, SessionKey, SessionStore, Typed, TypedHandler, TypedPeer, TypedResume,
    Unsaved,
};

use super::conformance::take;
use super::tally::Told;
use crate::common::http::upgrade_request;
use crate::common::timing::lock;
use crate::common::world::*;

/// Decimal numbers, one in each message.
struct Decimal;

impl Codec for Decimal {
    type Incoming = u32;
    type Outgoing = str;

    fn decode(&self, message: Message) -> Result<u32, BadMessage> {
        Ok(message.as_text().unwrap_or_default().parse()?)
    }

    fn encode(&self, text: &str) -> Message {
        Message::text(text)
    }
}

/// Adds up the numbers of each client.
struct Sum(Told);

type SumPeer<'a> = TypedPeer<'a, Decimal>;

impl TypedHandler<Decimal> for Sum {
    type Session = u32;

    fn open(&self, peer: SumPeer<'_>, _: Request) -> u32 {
        peer.send("new");
        0
    }

    fn message(&self, sum: &mut u32, peer: SumPeer<'_>, number: u32) {
        *sum += number;
        peer.send(&sum.to_string());
    }

    fn closed(&self, sum: u32, _: SumPeer<'_>, reason: CloseReason) {
        lock(&self.0).push(format!("{} {sum}", reason.label()));
    }
}

impl TypedResume<Decimal> for Sum {
    /// The number 9 makes a session that is too long.
    fn freeze(&self, sum: &u32) -> Vec<u8> {
        sum.to_string().repeat(if *sum == 9 { 100_000 } else { 1 }).into()
    }

    fn thaw(&self, frozen: &[u8]) -> Result<u32, BadSession> {
        Ok(str::from_utf8(frozen)?.parse()?)
    }

    fn resumed(&self, sum: &mut u32, peer: SumPeer<'_>, request: Request) {
        assert_eq!(request.query_value("sid").as_deref(), Some("a"));
        peer.send(&format!("back {sum}"));
    }

    fn unsaved(&self, _: &mut u32, peer: SumPeer<'_>, why: Unsaved) {
        peer.send(&format!("unsaved {why:?}"));
    }
}

fn start(store: &Arc<MemorySessions>, told: &Told) -> World {
    let (handler, key) = (Typed::new(Decimal, Sum(told.clone())), SessionKey::query("sid"));
    let route = Route::sessions("/sum", handler, key, store.clone());
    World::new(&[], Server::builder().seed(7).route(route))
}

/// Says something, and gives what has come since the last time.
fn say(world: &mut World, client: &mut Client, text: &str) -> Vec<String> {
    if !text.is_empty() {
        client.say(text);
    }
    world.meet(std::slice::from_mut(client));
    client.messages.drain(..).map(|message| message.to_string()).collect()
}

// FAULTS 263.
#[test]
fn a_typed_handler_goes_on_with_its_session() {
    let (store, told) = (Arc::new(MemorySessions::default()), Told::default());
    let mut world = start(&store, &told);
    let mut old = world.open("/sum?sid=a");
    assert_eq!(say(&mut world, &mut old, "3"), ["new", "3"]);
    // The newer connection has what the older had, and ends it.
    let mut new = world.open("/sum?sid=a");
    assert_eq!(say(&mut world, &mut new, "4"), ["back 3", "7"]);
    assert!(say(&mut world, &mut old, "").is_empty());
    assert_eq!(old.code(), 4409);
    // A message that is no value ends the connection. The session is as it was before.
    let nothing: Vec<String> = Vec::new();
    assert_eq!(say(&mut world, &mut new, "four"), nothing);
    assert_eq!(new.code(), 1007);
    let mut next = world.open("/sum?sid=a");
    assert_eq!(say(&mut world, &mut next, "2"), ["back 7", "9"]);
    // One that is too long is told.
    world.pass(11 * SECOND, std::slice::from_mut(&mut next));
    assert_eq!(say(&mut world, &mut next, ""), ["unsaved TooBig"]);
    next.socket.close(None).unwrap();
    world.meet(std::slice::from_mut(&mut next));
    let mut last = world.open("/sum?sid=a");
    assert_eq!(say(&mut world, &mut last, ""), ["back 7"]);
    assert_eq!(lock(&told).clone(), ["replaced 3", "application 7", "peer 9"]);
}

// FAULTS 263.
#[test]
fn bytes_that_a_typed_handler_cannot_read_are_refused_and_stay() {
    let store = Arc::new(MemorySessions::default());
    let mut world = start(&store, &Told::default());
    let id = SessionId::new("/sum", "a").unwrap();
    let taken = |store: &MemorySessions| take(store, &id, Claim::new(HOUR, HOUR));
    let save = Save::new(taken(&store).0, HOUR, HOUR).with(b"one").ending();
    store.save(&id, &save).unwrap();
    for _ in 0..2 {
        let answer = world.ask(&upgrade_request("/sum?sid=a", ""));
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    }
    assert_eq!(taken(&store).1.as_deref(), Some(&b"one"[..]));
}
