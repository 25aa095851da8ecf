//! What handlers and other threads learn of peers, above all that one has gone, and what they have
//! done where a peer's handler runs.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::http::{Request, Response};
use heartwheel::{
    Accept, CloseReason, ConnectionId, Event, Handler, ManualClock, MemoryNetwork, Message, Peer,
    PeerInfo, Route, Server,
};

use common::client::Client;
use common::frame::frame;
use common::http::{get_request, upgrade_request};
use common::server::{TestServer, config};
use common::timing::{eventually, ms};

/// What a handler that waits for the end of its peer tells the test.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    Waits,
    /// It was closed, as it turned out.
    Closed(bool),
}

/// Waits for a minute at most, on every message `wait`.
fn waiting(told: Sender<Noted>) -> impl Fn(&Peer, Event) + Send + Sync + 'static {
    move |peer: &Peer, event: Event| match event {
        Event::Message(message) if message.as_text() == Some("wait") => {
            assert!(peer.is_open() && !peer.closed_within(ms(1)));
            peer.send("I wait");
            told.send(Noted::Waits).unwrap();
            let is_closed = peer.closed_within(MINUTE);
            assert_eq!(peer.is_open(), !is_closed, "both say the same");
            told.send(Noted::Closed(is_closed)).unwrap();
        }
        Event::Closed(_) => assert!(!peer.is_open(), "it has ended"),
        _ => {}
    }
}

/// Judges, or answers, when the client has gone or a minute is over.
fn waited_for(told: &Sender<Noted>) {
    let client = Peer::current().expect("it is called for a client");
    assert!(client.is_open());
    told.send(Noted::Waits).unwrap();
    told.send(Noted::Closed(client.closed_within(MINUTE))).unwrap();
}

#[track_caller]
fn expect(noted: &Receiver<Noted>, what: Noted) {
    assert_eq!(noted.recv_timeout(MINUTE / 4).expect("the handler goes on"), what);
}

/// How the tests end a connection.
type Ending = fn(&TestServer, Client) -> Option<Client>;

fn half_close(_: &TestServer, peer: Client) -> Option<Client> {
    peer.half_close();
    Some(peer)
}

fn reset(_: &TestServer, peer: Client) -> Option<Client> {
    peer.reset();
    None
}

fn drain(server: &TestServer, peer: Client) -> Option<Client> {
    server.handle.drain().unwrap();
    Some(peer)
}

fn shut_down(server: &TestServer, peer: Client) -> Option<Client> {
    server.handle.shut_down().unwrap();
    Some(peer)
}

fn deadline(_: &TestServer, peer: Client) -> Option<Client> {
    Some(peer)
}

#[test]
fn a_handler_that_waits_learns_of_every_end_of_its_peer() {
    fn close(_: &TestServer, mut peer: Client) -> Option<Client> {
        peer.close(1000);
        Some(peer)
    }
    let endings: [(Ending, &str); 6] = [
        (half_close, "1d"),
        (reset, "1d"),
        (close, "1d"),
        (drain, "1d"),
        (shut_down, "1d"),
        (deadline, "300ms"),
    ];
    for (nth, (end, read_idle)) in endings.into_iter().enumerate() {
        let (told, noted) = channel();
        let pairs = [("workers", "1"), ("deadlines.read_idle", read_idle)];
        let routes = Server::builder().websocket("/wait", waiting(told));
        let server = TestServer::serve(&pairs, routes);
        let mut peer = Client::open(server.address, "/wait");
        peer.text("wait");
        expect(&noted, Noted::Waits);
        assert_eq!(peer.message(), "I wait", "what was said leaves before the wait");
        let kept = end(&server, peer);
        expect(&noted, Noted::Closed(true));
        drop(kept);
        println!("{nth}: {:?}", server.ends());
    }
}

#[test]
fn the_end_of_a_clients_request_is_told_while_it_is_judged_and_while_it_is_answered() {
    for (nth, end) in [half_close as Ending, reset, deadline].into_iter().enumerate() {
        for judges in [true, false] {
            let (told, noted) = channel();
            let judging = told.clone();
            let answer = move |_: &Request| {
                waited_for(&told);
                Response::new(200).text("late\n")
            };
            let mut route = Route::get("/wait", answer);
            if judges {
                route = route.authorize(move |_| {
                    waited_for(&judging);
                    Ok(Accept::default())
                });
            }
            println!("{nth} {judges}");
            let handshake = if nth == 2 { "300ms" } else { "1h" };
            let pairs = [("workers", "1"), ("deadlines.handshake", handshake)];
            let server = TestServer::serve(&pairs, Server::builder().route(route));
            let mut peer = Client::connect(server.address);
            peer.send(get_request("/wait", ""));
            expect(&noted, Noted::Waits);
            let kept = end(&server, peer);
            expect(&noted, Noted::Closed(true));
            drop(kept);
        }
    }
}

// A drain lets answers that are under way be given: their clients are there.
#[test]
fn a_drain_is_no_end_of_a_request() {
    let (told, noted) = channel();
    let answer = move |_: &Request| {
        told.send(Noted::Waits).unwrap();
        let client = Peer::current().expect("it is called for a client");
        told.send(Noted::Closed(client.closed_within(ms(100)))).unwrap();
        Response::new(200).text("whole\n")
    };
    let server = TestServer::serve(&[("workers", "1")], Server::builder().get("/wait", answer));
    let mut peer = Client::connect(server.address);
    peer.send(get_request("/wait", ""));
    expect(&noted, Noted::Waits);
    server.handle.drain().unwrap();
    expect(&noted, Noted::Closed(false));
    assert_eq!(peer.read_answer().status, 200);
}

#[test]
fn a_deadline_by_a_manual_clock_ends_a_wait() {
    let (told, noted) = channel();
    let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
    let pairs = [("workers", "1"), ("deadlines.read_idle", "1d")];
    let builder = Server::builder().config(config(&pairs)).websocket("/wait", waiting(told));
    let server = builder.clock(clock.clone()).listen_memory(&network).unwrap();
    let handle = server.handle();
    let serving = thread::spawn(move || server.run().unwrap());
    let mut peer = network.connect().unwrap();
    peer.write_all(upgrade_request("/wait", "").as_bytes()).unwrap();
    peer.write_all(&frame(0x81, b"wait")).unwrap();
    expect(&noted, Noted::Waits);
    clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    thread::sleep(ms(20));
    assert!(noted.try_recv().is_err(), "not yet");
    clock.advance(Duration::from_secs(2));
    expect(&noted, Noted::Closed(true));
    eventually("it ends", || {
        peer.read(&mut [0; 1024]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    handle.shut_down().unwrap();
    serving.join().unwrap();
}

#[test]
fn any_thread_may_wait_for_the_end_of_any_peer() {
    let (told, noted) = channel();
    let handler = move |peer: &Peer, event: Event| {
        if let Event::Opened(_) = event {
            told.send(peer.clone()).unwrap();
        }
    };
    let pairs = [("workers", "1")];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/w", handler));
    let (mut clients, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        clients.push(Client::open(server.address, "/w"));
        peers.push(noted.recv_timeout(MINUTE).unwrap());
    }
    assert!(Peer::current().is_none(), "this thread is in no call");
    let info = peers[2].info(MINUTE).unwrap();
    assert!(info.address().unwrap().ip().is_loopback() && info.id() == peers[2].id());
    // One thread asks for several in turn.
    for _ in 0..100 {
        assert!(peers.iter().all(Peer::is_open));
    }
    let began = Instant::now();
    assert!(!peers[0].closed_within(ms(30)));
    assert!(began.elapsed() >= ms(30), "not before the span is over");
    let waiting: Vec<_> = (0..20)
        .map(|nth| {
            let peer = peers[nth % 2].clone();
            thread::spawn(move || peer.closed_within(MINUTE))
        })
        .collect();
    drop(clients.remove(0));
    drop(clients.remove(0));
    assert!(waiting.into_iter().all(|thread| thread.join().unwrap()), "all are told");
    assert_eq!(peers.iter().map(Peer::is_open).collect::<Vec<_>>(), [false, false, true]);
    // Its slot is in use again.
    let _new = Client::open(server.address, "/w");
    assert!(!peers[0].is_open() && peers[0].closed_within(MINUTE));
    server.stop();
    assert!(!peers[2].is_open() && peers[2].closed_within(MINUTE), "the server has ended");
}

#[test]
fn the_loop_thread_waits_for_nothing() {
    let handler = |peer: &Peer, event: Event| {
        if let Event::Message(_) = event {
            let began = Instant::now();
            let (is_open, is_closed) = (peer.is_open(), peer.closed_within(MINUTE));
            let is_current = Peer::current().is_some_and(|current| current.id() == peer.id());
            assert!(began.elapsed() < MINUTE / 2);
            peer.send(format!("{is_open} {is_closed} {is_current}"));
        }
    };
    let route = Route::websocket("/inline", handler).inline();
    let server = TestServer::serve(&[], Server::builder().route(route));
    let mut peer = Client::open(server.address, "/inline");
    peer.text("?");
    assert_eq!(peer.message(), "true false true");
    let (told, noted) = channel();
    let job = move || told.send(Peer::current().is_none()).unwrap();
    server.handle.after(ms(1), job).unwrap();
    assert_eq!(noted.recv_timeout(MINUTE), Ok(true), "a job of the server's own has no peer");
}

/// Notes all that happens to it in its session, and sends it on `tell`.
struct Noting(Sender<Peer>, Sender<String>);

struct Notes(String);

impl Handler for Noting {
    type Session = Notes;

    fn open(&self, peer: &Peer, _: Request) -> Notes {
        self.0.send(peer.clone()).unwrap();
        Notes("o".into())
    }

    fn message(&self, notes: &mut Notes, peer: &Peer, message: Message) {
        match message.as_text() {
            Some("tell") => _ = peer.send(notes.0.as_str()),
            Some("block") => assert!(peer.closed_within(MINUTE)),
            text => notes.0.push_str(text.unwrap()),
        }
    }

    fn closed(&self, notes: Notes, _: &Peer, _: CloseReason) {
        self.1.send(notes.0).unwrap();
    }
}

#[test]
fn a_job_runs_with_the_session_in_order_with_the_events() {
    for workers in ["2", "0"] {
        let ((told, peers), (left, notes)) = (channel(), channel());
        let routes = Server::builder().websocket("/n", Noting(told, left));
        let server = TestServer::serve(&[("workers", workers)], routes);
        let mut client = Client::open(server.address, "/n");
        let peer = peers.recv_timeout(MINUTE).unwrap();
        client.text("m");
        client.text("tell");
        assert_eq!(client.message(), "om");
        for nth in 0..5 {
            let at = peer.clone();
            let job = move |notes: &mut Notes| {
                notes.0.push_str(&nth.to_string());
                at.send(notes.0.as_str());
            };
            peer.run(job).unwrap();
        }
        let told: Vec<_> = (0..5).map(|_| client.message()).collect();
        assert_eq!(told, ["om0", "om01", "om012", "om0123", "om01234"], "one by one, in order");
        // Of another type.
        peer.run(|_: &mut String| unreachable!("it is none")).unwrap();
        eventually("it is counted", || server.stats().commands_stale == 1);
        client.text("tell");
        assert_eq!(client.message(), "om01234");
        // A panic is the handler's.
        peer.run(|_: &mut Notes| std::panic::resume_unwind(Box::new("as asked"))).unwrap();
        client.expect_close(1011);
        drop(client);
        assert_eq!(notes.recv_timeout(MINUTE).unwrap(), "om01234");
        server.expect_closed(CloseReason::Panic, 1);
        peer.run(|_: &mut Notes| unreachable!("the connection has ended")).unwrap();
        eventually("it is counted", || server.stats().commands_stale == 2);
    }
}

#[test]
fn jobs_wait_behind_a_handler_that_blocks_and_are_bounded() {
    let ((told, peers), (left, notes)) = (channel(), channel());
    let routes = Server::builder().websocket("/n", Noting(told, left));
    let pairs = [("workers", "1"), ("limits.inbox_messages", "4")];
    let server = TestServer::serve(&pairs, routes);
    let mut client = Client::open(server.address, "/n");
    let peer = peers.recv_timeout(MINUTE).unwrap();
    client.text("block");
    eventually("the handler blocks", || server.stats().messages_received == 1);
    thread::sleep(ms(20));
    for _ in 0..10 {
        peer.run(|notes: &mut Notes| notes.0.push('j')).unwrap();
    }
    eventually("six are refused", || server.stats().commands_stale == 6);
    drop(client);
    assert_eq!(notes.recv_timeout(MINUTE).unwrap(), "ojjjj", "before the end is told");
}

#[test]
fn a_peer_does_not_get_what_it_is_excepted_from() {
    let handler = |peer: &Peer, event: Event| match event {
        Event::Opened(_) => drop(peer.subscribe("room")),
        Event::Message(message) => {
            let text = message.as_text().unwrap();
            peer.handle().publish_except(peer, "room", text).unwrap();
            if text == "last" {
                peer.publish("room", "to all").unwrap();
            }
        }
        _ => {}
    };
    for workers in ["2", "0"] {
        let routes = Server::builder().websocket("/room", handler).topics("/topics/{topic}");
        let server = TestServer::serve(&[("workers", workers)], routes);
        let mut peers: Vec<_> = (0..3).map(|_| Client::open(server.address, "/room")).collect();
        eventually("all are subscribed", || server.stats().upgraded == 3);
        let mut watcher = Client::open(server.address, "/topics/room");
        thread::sleep(ms(20));
        for nth in 0..200 {
            peers[0].text(&nth.to_string());
        }
        peers[0].text("last");
        let told: Vec<_> = (0..200).map(|nth| nth.to_string()).collect();
        for other in peers[1..].iter_mut().chain([&mut watcher]) {
            let all: Vec<_> = (0..200).map(|_| other.message()).collect();
            assert_eq!(all, told);
            assert_eq!((other.message(), other.message()), ("last".into(), "to all".into()));
        }
        assert_eq!(peers[0].message(), "to all", "and nothing else");
    }
}

/// Turns until nothing is left to do at this time.
fn settle(server: &mut Server) {
    while server.next_timeout() == Some(Duration::ZERO) {
        server.turn().unwrap();
    }
}

#[test]
fn what_is_known_of_peers_comes_in_slices() {
    const PEERS: usize = 300;
    let (told, peers) = channel();
    let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
    let handler = move |peer: &Peer, event: Event| {
        if let Event::Opened(_) = event {
            assert!(peer.info(MINUTE).is_none(), "the loop answers nothing meanwhile");
            assert!(!peer.handle().peers(MINUTE, |_| unreachable!("nor then")));
            told.send(peer.clone()).unwrap();
        }
    };
    let route = Route::websocket("/rooms/{room}", handler);
    let route = route.authorize(|_| Ok(Accept::new().identity("ann")));
    let builder = Server::builder().workers(0).clock(clock.clone()).route(route);
    let mut server = builder.listen_memory(&network).unwrap();
    let date = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    clock.set_date(date);
    let mut clients: Vec<_> = (0..PEERS)
        .map(|_| {
            let mut client = network.connect().unwrap();
            client.write_all(upgrade_request("/rooms/7", "").as_bytes()).unwrap();
            settle(&mut server);
            client
        })
        .collect();
    let peers: Vec<Peer> = peers.try_iter().collect();
    assert_eq!(peers.len(), PEERS);
    clock.advance(Duration::from_secs(10));
    settle(&mut server);
    peers[1].send("x".repeat(200_000));
    settle(&mut server);
    let (handle, gone) = (server.handle(), clients.remove(0));
    drop(gone);
    settle(&mut server);
    let turns = server.stats().turns;
    let first = peers[0].clone();
    let second = peers[1].clone();
    let asking = thread::spawn(move || {
        let mut all: Vec<PeerInfo> = Vec::new();
        let take = |info| {
            all.push(info);
            // A turn that has answered would else be asked for the next slice before its end.
            if all.len().is_multiple_of(64) {
                thread::sleep(ms(5));
            }
        };
        assert!(handle.peers(MINUTE, take));
        (all, first.info(MINUTE), second.info(MINUTE).unwrap())
    });
    while !asking.is_finished() {
        common::server::wait_for(&server, Some(ms(1)));
        server.turn().unwrap();
    }
    let (all, first, second) = asking.join().unwrap();
    assert!(first.is_none(), "it has ended");
    let ids: Vec<ConnectionId> = all.iter().map(PeerInfo::id).collect();
    let mut expected: Vec<_> = peers[1..].iter().map(Peer::id).collect();
    expected.sort_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(ids, expected, "each once");
    assert!(server.stats().turns - turns > 4, "in slices");
    assert_eq!(second.path(), Some("/rooms/{room}"));
    assert_eq!(second.identity(), Some("ann"));
    assert_eq!(second.opened_at(), date);
    assert!(second.address().is_none() && second.outbox_bytes() > 100_000, "{second:?}");
    assert!(all.iter().filter(|info| info.outbox_bytes() > 0).count() == 1);
}

const MINUTE: Duration = Duration::from_secs(60);
