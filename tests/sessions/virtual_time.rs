//! Routes with sessions by a clock that is moved by hand, with a store that never waits.

use std::sync::Arc;

use heartwheel::{Claim, Claimed, MemorySessions, Server, SessionId, SessionStore};

use tungstenite::HandshakeError;

use super::conformance::take;
use super::faulty::Faulty;
use super::tally::{Told, route};
use crate::common::http::upgrade_request;
use crate::common::timing::lock;
use crate::common::world::*;

struct Nodes<S> {
    world: World,
    store: Arc<S>,
    told: Told,
}

/// A server with the tally's route and this store.
fn start<S: SessionStore>(pairs: &[(&str, &str)], store: Arc<S>) -> Nodes<S> {
    let told = Told::default();
    let world = World::new(pairs, Server::builder().seed(7).route(route(&store, &told)));
    Nodes { world, store, told }
}

fn memory() -> Arc<Faulty> {
    Arc::new(Faulty { is_immediate: true, ..Faulty::default() })
}

impl<S: SessionStore> Nodes<S> {
    /// Opens a connection, at once: no time passes.
    fn connect(&mut self, key: &str) -> Client {
        let peer = self.world.network.connect().expect("the server listens");
        let url = format!("ws://localhost/tally?sid={key}");
        let mut handshake = tungstenite::client(url, peer);
        for _ in 0..100 {
            match handshake {
                Ok((socket, _)) => return Client::new(socket),
                Err(HandshakeError::Interrupted(waiting)) => {
                    self.world.settle();
                    handshake = waiting.handshake();
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        }
        panic!("it waits for something");
    }

    /// Opens a connection and gives what its handler says first.
    fn open(&mut self, key: &str) -> (Client, String) {
        let mut client = self.connect(key);
        let hello = self.hear(&mut client);
        (client, hello)
    }

    /// Opens a connection, which may take so long, and gives what its handler says first.
    fn open_within(&mut self, span: std::time::Duration, key: &str) -> String {
        let request = upgrade_request(&format!("/tally?sid={key}"), "");
        let mut peer = self.world.send(request.as_bytes());
        self.world.pass(span, &mut []);
        let answer = text(&read_all(&mut peer).0);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let hello = answer.split("\r\n\r\n").nth(1).expect("the head has an end");
        hello.chars().skip_while(|c| !c.is_ascii_lowercase()).collect()
    }

    fn hear(&mut self, client: &mut Client) -> String {
        self.world.meet(std::slice::from_mut(client));
        let message = client.messages.pop().expect("it was answered");
        assert!(client.messages.is_empty(), "one answer each");
        message.to_string()
    }

    fn say(&mut self, client: &mut Client, text: &str) -> String {
        client.say(text);
        self.hear(client)
    }

    fn close(&mut self, mut client: Client) {
        client.socket.close(None).unwrap();
        self.world.meet(std::slice::from_mut(&mut client));
        assert!(client.ended_at.is_some());
    }

    /// What the store has saved, as another server sees it that does not wait.
    fn saved(&self, key: &str) -> Option<String> {
        let id = SessionId::new("/tally", key).unwrap();
        let (_, frozen) = take(&*self.store, &id, Claim::new(HOUR, MINUTE));
        frozen.map(|frozen| text(&frozen))
    }

    fn figure(&self, name: &str) -> u64 {
        let metrics = self.world.server.metrics();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn a_client_that_comes_back_goes_on() {
    let mut nodes = start(&[], memory());
    let (mut client, hello) = nodes.open("a");
    assert_eq!(hello, "new");
    assert_eq!(nodes.say(&mut client, "1"), "1");
    nodes.close(client);
    for round in 2..5 {
        let (mut client, hello) = nodes.open("a");
        let before = (1..round).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(hello, format!("back {before}"));
        assert_eq!(nodes.say(&mut client, &round.to_string()), format!("{before},{round}"));
        nodes.close(client);
    }
    assert_eq!(nodes.open("b").1, "new");
    assert_eq!(nodes.figure("heartwheel_sessions_opened_total{result=\"resumed\"}"), 3);
    assert_eq!(nodes.figure("heartwheel_sessions_held"), 1);
}

#[test]
fn without_a_key_nothing_is_kept() {
    let mut nodes = start(&[], memory());
    for _ in 0..2 {
        let mut client = nodes.world.open("/tally");
        assert_eq!(nodes.hear(&mut client), "new");
        nodes.say(&mut client, "1");
        nodes.close(client);
    }
    assert!(nodes.store.inner.is_empty());
}

// FAULTS 260.
#[test]
fn a_newer_connection_gets_what_the_older_had_and_ends_it() {
    let mut nodes = start(&[], memory());
    let (mut old, _) = nodes.open("a");
    nodes.say(&mut old, "1");
    for count in 2..20 {
        // The older client is half dead: it reads nothing, and answers no close.
        let (mut new, hello) = nodes.open("a");
        let before = (1..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(hello, format!("back {before}"), "nothing is lost, and at once");
        nodes.world.meet(std::slice::from_mut(&mut old));
        assert_eq!(old.code(), 4409);
        nodes.say(&mut new, &count.to_string());
        old = new;
    }
    let handed = nodes.figure("heartwheel_sessions_taken_over_total{how=\"handed\"}");
    assert_eq!((handed, nodes.figure("heartwheel_sessions_held")), (18, 1));
}

#[test]
fn an_open_session_is_saved_every_ten_seconds_if_it_has_changed() {
    let mut nodes = start(&[], Arc::new(MemorySessions::default()));
    let (mut client, _) = nodes.open("a");
    let saves = "heartwheel_sessions_saves_total{result=\"saved\"}";
    nodes.say(&mut client, "1");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    let first = nodes.figure(saves);
    assert_eq!(first, 1);
    nodes.world.pass(HOUR, std::slice::from_mut(&mut client));
    assert_eq!(nodes.figure(saves), first, "it has not changed");
    nodes.say(&mut client, "2");
    nodes.say(&mut client, "3");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    assert_eq!(nodes.figure(saves), first + 1);
    assert_eq!(nodes.saved("a").as_deref(), Some("1,2,3"));
}

// FAULTS 261.
#[test]
fn an_older_owner_whose_session_was_taken_elsewhere_ends_and_overwrites_nothing() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.say(&mut client, "1");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    assert_eq!(nodes.saved("a").as_deref(), Some("1"), "another server has it now");
    nodes.say(&mut client, "2");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    assert_eq!(client.code(), 4409);
    assert_eq!(lock(&nodes.told).clone(), ["replaced 1,2"]);
    assert_eq!(nodes.saved("a").as_deref(), Some("1"));
    assert!(nodes.figure("heartwheel_sessions_saves_total{result=\"fenced\"}") > 0);
    assert_eq!(nodes.figure("heartwheel_sessions_held"), 0);
}

/// Another server holds the session, and dies: its claim is waited for a second, and not longer.
#[test]
fn a_claim_that_nobody_lets_go_of_is_taken_by_force() {
    let mut nodes = start(&[], memory());
    nodes.saved("a");
    let began = nodes.world.clock.elapsed();
    let mut peer = nodes.world.network.connect().unwrap();
    std::io::Write::write_all(&mut peer, upgrade_request("/tally?sid=a", "").as_bytes()).unwrap();
    let forced = "heartwheel_sessions_taken_over_total{how=\"forced\"} 1";
    let at = nodes.world.until("taken", |server| server.metrics().contains(forced));
    assert!(at - began >= SECOND && at - began <= 2 * SECOND, "{:?}", at - began);
    nodes.world.settle();
    assert!(text(&read_all(&mut peer).0).starts_with("HTTP/1.1 101"));
}

// FAULTS 262.
#[test]
fn a_store_that_fails_lets_nobody_in_and_loses_nothing() {
    for panics in [false, true] {
        let mut nodes = start(&[], memory());
        let flag = |nodes: &Nodes<Faulty>, value| {
            let store = &nodes.store;
            Faulty::set(if panics { &store.panics } else { &store.fails }, value);
        };
        let (mut client, _) = nodes.open("a");
        nodes.say(&mut client, "1");
        flag(&nodes, true);
        let answer = nodes.world.ask(&upgrade_request("/tally?sid=b", ""));
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        nodes.world.pass(25 * SECOND, std::slice::from_mut(&mut client));
        assert_eq!(lock(&nodes.told).clone(), ["unsaved Store"], "once");
        // Its end comes while the store fails, and so does the next try of its client.
        nodes.say(&mut client, "2");
        nodes.close(client);
        let answer = nodes.world.ask(&upgrade_request("/tally?sid=a", ""));
        nodes.world.pass(2 * SECOND, &mut []);
        assert!(!answer.starts_with("HTTP/1.1 101"), "no empty session: {answer}");
        flag(&nodes, false);
        nodes.world.pass(11 * SECOND, &mut []);
        assert_eq!(nodes.figure("heartwheel_sessions_held"), 0);
        assert_eq!(nodes.open("a").1, "back 1,2", "panics: {panics}");
        let lost = nodes.figure("heartwheel_sessions_saves_total{result=\"lost\"}");
        assert_eq!(lost, 0);
    }
}

/// A store that gives what it has and takes nothing: what the connection before has left is newer.
#[test]
fn what_is_still_to_be_saved_is_not_lost_to_the_next_claim() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.say(&mut client, "1");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    Faulty::set(&nodes.store.fails_to_save, true);
    nodes.say(&mut client, "2");
    nodes.close(client);
    let mut peer = nodes.world.send(upgrade_request("/tally?sid=a", "").as_bytes());
    nodes.world.pass(2 * SECOND, &mut []);
    let answer = text(&read_all(&mut peer).0);
    assert!(answer.starts_with("HTTP/1.1 503"), "not what was saved before: {answer}");
    Faulty::set(&nodes.store.fails_to_save, false);
    assert_eq!(nodes.open_within(2 * SECOND, "a"), "back 1,2", "it is saved when it is wanted");
}

#[test]
fn what_a_store_never_takes_is_given_up_and_counted() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.say(&mut client, "1");
    Faulty::set(&nodes.store.fails, true);
    nodes.close(client);
    assert_eq!(nodes.figure("heartwheel_sessions_unsaved_bytes"), 1);
    nodes.world.pass(31 * MINUTE, &mut []);
    assert_eq!(nodes.figure("heartwheel_sessions_held"), 0);
    assert_eq!(nodes.figure("heartwheel_sessions_saves_total{result=\"lost\"}"), 1);
    assert_eq!(nodes.world.server.next_timeout(), None, "nothing to do, no wake-up");
}

// FAULTS 263.
#[test]
fn a_session_that_is_too_long_is_told_and_leaves_the_one_before() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.say(&mut client, "1");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    nodes.say(&mut client, "big");
    nodes.world.pass(31 * SECOND, std::slice::from_mut(&mut client));
    assert_eq!(lock(&nodes.told).clone(), ["unsaved TooBig"]);
    nodes.close(client);
    assert_eq!(nodes.open("a").1, "back 1");
}

#[test]
fn a_handler_that_panics_leaves_what_was_saved() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.say(&mut client, "1");
    nodes.world.pass(11 * SECOND, std::slice::from_mut(&mut client));
    nodes.say(&mut client, "2");
    client.say("panic");
    nodes.world.meet(std::slice::from_mut(&mut client));
    assert_eq!(client.code(), 1011);
    assert_eq!(nodes.open("a").1, "back 1");
}

/// Claims are renewed on though the queue of commands is full whenever a timer is to be set again.
// FAULTS 297.
#[test]
fn a_full_queue_stops_no_timer() {
    let mut nodes = start(&[], memory());
    let (mut client, _) = nodes.open("a");
    nodes.store.fills.set(nodes.world.server.handle()).expect("it is not set");
    for round in 1..5 {
        nodes.world.pass(MINUTE, std::slice::from_mut(&mut client));
        let saves = nodes.store.saves.load(std::sync::atomic::Ordering::SeqCst);
        assert!(saves >= 3 * round, "{saves} saves in {round} minutes");
    }
}

#[test]
fn bytes_that_are_no_session_are_refused_and_stay() {
    let mut nodes = start(&[], memory());
    let id = SessionId::new("/tally", "a").unwrap();
    let Claimed::Taken { number, .. } = nodes.store.claim(&id, &Claim::new(HOUR, HOUR)).unwrap()
    else {
        panic!("it is free")
    };
    let save = heartwheel::Save::new(number, HOUR, HOUR).with(b"1,two").ending();
    nodes.store.save(&id, &save).unwrap();
    for _ in 0..3 {
        let answer = nodes.world.ask(&upgrade_request("/tally?sid=a", ""));
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    }
    assert_eq!(nodes.saved("a").as_deref(), Some("1,two"));
}

/// Many clients, one key: of any number that race one has the session, and none of its numbers is
/// lost or comes twice.
#[test]
fn of_any_number_that_race_one_has_the_session() {
    let mut nodes = start(&[("deadlines.read_idle", "10m")], memory());
    let mut clients: Vec<Client> = Vec::new();
    for round in 0..50 {
        let open = clients.last_mut();
        if let Some(client) = open {
            nodes.say(client, &round.to_string());
        }
        let mut racing: Vec<Client> = (0..4).map(|_| nodes.connect("a")).collect();
        nodes.world.meet(&mut racing);
        nodes.world.meet(&mut clients);
        assert!(clients.iter().all(|client| client.ended_at.is_some()), "{round}");
        clients = racing;
        let open = clients.iter().filter(|client| client.ended_at.is_none());
        assert_eq!(open.count(), 1, "{round}");
        clients.retain(|client| client.ended_at.is_none());
        clients[0].messages.clear();
    }
    let expected: Vec<String> = (1..50).map(|n: u32| n.to_string()).collect();
    assert_eq!(nodes.say(&mut clients[0], "look"), expected.join(","));
}

/// A drain tells each handler of its end: all sessions are saved when the server is gone.
#[test]
fn a_server_that_ends_has_saved_everything() {
    let store = Arc::new(MemorySessions::default());
    let mut nodes = start(&[], store.clone());
    let mut clients: Vec<Client> = Vec::new();
    for n in 0..50 {
        let (mut client, _) = nodes.open(&format!("c{n}"));
        nodes.say(&mut client, &n.to_string());
        clients.push(client);
    }
    drop(nodes);
    let mut next = start(&[], store);
    for n in 0..50 {
        assert_eq!(next.open(&format!("c{n}")).1, format!("back {n}"));
    }
}
