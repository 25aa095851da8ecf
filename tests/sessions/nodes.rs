//! Two servers that share one store, over sockets: clients that move between them, and a store that
//! does not answer.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::{
    Claim, Claimed, Listener, Save, Saved, Server, SessionId, SessionStore, StoreError,
};

use super::faulty::Faulty;
use super::tally::{SLOW_END, Told, route};
use crate::common::client::Client;
use crate::common::http::upgrade_request;
use crate::common::rng::Rng;
use crate::common::server::TestServer;
use crate::common::timing::{Span, eventually, lock, ms};

pub fn start<S: SessionStore>(pairs: &[(&str, &str)], store: &Arc<S>, told: &Told) -> TestServer {
    TestServer::serve(pairs, Server::builder().route(route(store, told)))
}

pub fn open(address: SocketAddr, key: &str) -> (Client, String) {
    let mut client = Client::open(address, &format!("/tally?sid={key}"));
    let hello = client.message();
    (client, hello)
}

#[test]
fn a_client_that_moves_between_servers_takes_its_session_along() {
    let store = Arc::new(Faulty::default());
    moves_between([store.clone(), store]);
}

/// A client that moves between two servers takes its session along, whatever becomes of the old
/// connection: it is closed, cut, or left open. `ROUNDS=25` moves it 1,000 times.
pub fn moves_between<S: SessionStore>(stores: [Arc<S>; 2]) {
    let moves = 40 * std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let told = Told::default();
    let [one, other] = &stores;
    let nodes = [start(&[], one, &told), start(&[("workers", "0")], other, &told)];
    let mut rng = Rng::new(7);
    let (mut sent, mut left) = (Vec::<u32>::new(), Vec::new());
    for round in 0..moves {
        let node = &nodes[rng.below(2) as usize];
        let (mut client, hello) = open(node.address, "a");
        let before = sent.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let expected = if round == 0 { "new".into() } else { format!("back {before}") };
        assert_eq!(hello, expected, "move {round}: nothing lost, nothing twice");
        for _ in 0..rng.below(4) {
            sent.push(round);
            client.text(&round.to_string());
            client.message();
        }
        match rng.below(10) {
            0..5 => client.close(1000),
            5..9 => drop(client),
            // Half dead: the next one is on the same server, or this one is waited for.
            _ => {
                let here = open(node.address, "a").1;
                assert_eq!(here.split(',').count(), sent.len().max(1), "move {round}");
                left.push(client);
            }
        }
        left.retain_mut(|client| {
            client.expect_close(4409);
            false
        });
    }
    let stats: u64 = nodes.iter().map(|node| node.stats().handler_panics).sum();
    assert_eq!(stats, 0);
}

/// An older connection on another server is not told, since the store of the test tells nothing: it
/// ends with its next save, and what it saves then is refused.
#[test]
fn an_older_connection_elsewhere_ends_with_its_next_save() {
    let store = Arc::new(Faulty::default());
    let told = Told::default();
    let pairs = [("sessions.save", "1s")];
    let nodes = [start(&pairs, &store, &told), start(&pairs, &store, &told)];
    let (mut old, _) = open(nodes[0].address, "a");
    old.text("1");
    old.message();
    // Its session is saved within a second: then the other server takes it by force.
    std::thread::sleep(Duration::from_millis(1300));
    let span = Span::begin();
    let (mut new, hello) = open(nodes[1].address, "a");
    assert_eq!(hello, "back 1");
    old.expect_close(4409);
    span.took_between("the older one ends", Duration::ZERO, Duration::from_secs(3));
    new.text("2");
    assert_eq!(new.message(), "1,2");
    drop((old, new));
    eventually("it is saved", || lock(&told).len() == 2);
    eventually("it goes on", || open(nodes[0].address, "a").1 == "back 1,2");
}

// FAULTS 262.
#[test]
fn a_store_that_does_not_return_holds_up_nothing_else() {
    let store = Arc::new(Faulty::default());
    let told = Told::default();
    for workers in ["0", "1"] {
        let pairs = [("workers", workers), ("deadlines.handshake", "500ms")];
        let server = TestServer::start_with(&pairs, |builder| builder.route(route(&store, &told)));
        let (mut open_before, _) = open(server.address, "a");
        Faulty::set(&store.hangs, true);
        let span = Span::begin();
        let mut waiting = Client::connect(server.address);
        waiting.send(upgrade_request("/tally?sid=b", ""));
        // The handlers of all routes go on, that of this route too.
        Client::open(server.address, "/echo").assert_echo(0x81, b"here");
        open_before.text("1");
        assert_eq!(open_before.message().split(',').next_back(), Some("1"));
        assert_eq!(waiting.read_answer().status, 503);
        span.took("its handshake", ms(500));
        Faulty::set(&store.hangs, false);
        drop(open_before);
        eventually("the session goes on", || {
            let (_, hello) = open(server.address, "a");
            hello.starts_with("back 1")
        });
        eventually("its claim is ended", || open(server.address, "b").1.starts_with("back"));
    }
}

/// The older handler gives its session up, and then blocks in the same job: the newer connection
/// does not wait for that.
#[test]
fn a_session_is_handed_over_though_the_older_handler_goes_on_to_block() {
    let store = Arc::new(Faulty { is_immediate: true, ..Faulty::default() });
    let server = start(&[], &store, &Told::default());
    let (mut old, _) = open(server.address, "a");
    old.text(&SLOW_END.to_string());
    assert_eq!(old.message(), SLOW_END.to_string());
    old.text("nap");
    eventually("its handler naps", || server.stats().messages_received == 2);
    let span = Span::begin();
    // Its end waits for the handler, behind what the newer one wants.
    let address = server.address;
    let newer = std::thread::spawn(move || open(address, "a").1);
    std::thread::sleep(ms(100));
    old.reset();
    assert_eq!(newer.join().expect("it is opened"), format!("back {SLOW_END}"));
    span.took_between("the newer one is opened", Duration::ZERO, Duration::from_secs(2));
}

/// A store that counts claims, and tells when its server is over.
#[derive(Default)]
struct Counting {
    inner: Faulty,
    claims: AtomicUsize,
    listener: Mutex<Option<Listener>>,
}

impl SessionStore for Counting {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        self.inner.claim(id, claim)
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        self.inner.save(id, save)
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        *lock(&self.listener) = Some(listener);
        Box::new(())
    }
}

/// Upgrades wait for a slow store when the server ends: the last saves come first, and nothing that
/// was claimed stays held.
// FAULTS 295.
#[test]
fn a_server_that_ends_claims_nothing_any_more() {
    let (store, told) = (Arc::new(Counting::default()), Told::default());
    let server = TestServer::start_with(&[], |builder| builder.route(route(&store, &told)));
    let (mut last, _) = open(server.address, "a");
    last.text("1");
    last.message();
    let flags = &store.inner;
    Faulty::set(&flags.hangs, true);
    let claims = || store.claims.load(Ordering::SeqCst);
    for (key, count) in [("b", 2), ("c", 2), ("d", 2)] {
        Client::connect(server.address).send(upgrade_request(&format!("/tally?sid={key}"), ""));
        eventually("the first is with the store", || claims() == count);
    }
    Client::open(server.address, "/echo").assert_echo(0x81, b"all were read");
    let stopping = std::thread::spawn(move || server.stop());
    let is_over = || lock(&store.listener).as_ref().is_some_and(Listener::is_over);
    eventually("the server is over", is_over);
    Faulty::set(&flags.hangs, false);
    stopping.join().expect("it stops");
    assert_eq!(claims(), 2, "those that waited are not claimed");
    let claim = Claim::new(ms(60_000), ms(60_000));
    for (key, kept) in [("a", true), ("b", false), ("c", false), ("d", false)] {
        let id = SessionId::new("/tally", key).unwrap();
        let claimed = store.claim(&id, &claim);
        let is_as_left = matches!(
            &claimed,
            Ok(Claimed::Taken { frozen, .. }) if frozen.is_some() == kept
        );
        assert!(is_as_left, "{key}: {claimed:?}");
    }
}

#[test]
fn no_more_wait_than_may() {
    let store = Arc::new(Faulty::default());
    let server = start(&[("deadlines.handshake", "2s")], &store, &Told::default());
    Faulty::set(&store.hangs, true);
    let request = upgrade_request("/tally?sid=b", "");
    let mut waiting: Vec<Client> = Vec::new();
    for _ in 0..1100 {
        let mut client = Client::connect(server.address);
        client.send(&request);
        waiting.push(client);
    }
    let last = waiting.last_mut().unwrap();
    assert_eq!(last.read_answer().status, 503, "at once");
    Faulty::set(&store.hangs, false);
    drop(waiting);
    eventually("all are gone", || server.open() == 0);
    // Those that still waited have had it, and have kept nothing in it.
    let (_, hello) = open(server.address, "b");
    assert!(matches!(&*hello, "new" | "back "), "{hello}");
}
