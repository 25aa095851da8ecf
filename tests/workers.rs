//! Handlers on worker threads: panics, blocked pools, full queues, order, verdicts, and the same on
//! the loop thread.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::http::{Refusal, Request, Response};
use heartwheel::{
    Accept, Builder, CloseReason, ConnectionId, Event, Handler, Message, Peer as Sender, Route,
    SendError, Sent, Server,
};

use common::client::{Client, Seen};
use common::frame::frame;
use common::honest::Neighbour;
use common::http::upgrade_request;
use common::process::{own_tid, writes_of};
use common::recorder::{Recorder, Told};
use common::server::{TestServer, config, echo, wait_for};
use common::timing::{Span, eventually, lock, ms, rounds, within};

/// What handlers wait at, until the test lets them go on.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>, Arc<AtomicUsize>);

impl Gate {
    fn wait(&self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        let is_open = lock(&self.0.0);
        drop(self.0.1.wait_while(is_open, |is_open| !*is_open).unwrap());
        self.1.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn waiting(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

/// A gate that opens when the test is over, so that no thread outlives it.
struct Opened(Gate);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Waits at the gate for a message `wait`, and sends everything back.
fn gated(gate: &Gate) -> impl Fn(&Sender, Event) + Send + Sync + 'static {
    let gate = gate.clone();
    move |peer: &Sender, event: Event| {
        if let Event::Message(message) = event {
            if message.as_text() == Some("wait") {
                gate.wait();
            }
            peer.send(message);
        }
    }
}

// FAULTS 97.
#[test]
fn a_panic_ends_its_own_connection_and_nothing_else() {
    let panics = rounds(1000);
    let recorder = Recorder::default();
    let noted = recorder.clone();
    let handler = move |peer: &Sender, event: Event| {
        noted.note(peer.id(), &event);
        if matches!(event, Event::Message(_)) {
            std::panic::resume_unwind(Box::new("as asked"));
        }
    };
    let tids = Arc::new(Mutex::new(HashSet::new()));
    let seen = tids.clone();
    let whoami = move |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            lock(&seen).insert(thread::current().id());
            peer.send("here");
        }
    };
    let routes = Server::builder().websocket("/panic", handler).websocket("/whoami", whoami);
    let server = TestServer::serve(&[], routes.websocket("/echo", echo));
    let neighbour = Neighbour::start(server.address);
    let mut peer = Client::open(server.address, "/whoami");
    let mut ask = || {
        for _ in 0..200 {
            peer.text("who?");
            assert_eq!(peer.message(), "here");
        }
        lock(&tids).clone()
    };
    let before = ask();
    for _ in 0..panics {
        let mut peer = Client::open(server.address, "/panic");
        peer.text("go");
        peer.expect_close(1011);
        peer.close(1011);
        peer.expect_fin();
    }
    // The same two threads: none died, none was made.
    let after: HashSet<_> = ask().union(&before).copied().collect();
    assert!(after.len() <= 2, "{after:?}");
    server.expect_closed(CloseReason::Panic, panics as u64);
    assert_eq!(server.stats().handler_panics, panics as u64);
    eventually("each was told", || recorder.closed().len() == panics);
    recorder.assert_whole(panics);
    eventually("nothing is left", || server.open() == 2);
    neighbour.was_undisturbed();
}

#[test]
fn a_panic_anywhere_is_a_close_or_a_500() {
    for workers in ["2", "0"] {
        let told = Arc::new(AtomicUsize::new(0));
        let route = |path: &str, moment: &'static str| {
            let told = told.clone();
            Route::websocket(path, move |_: &Sender, event: Event| {
                let now = match event {
                    Event::Opened(_) => "open",
                    Event::Message(_) => "message",
                    _ => "closed",
                };
                told.fetch_add(usize::from(now == "closed"), Ordering::Relaxed);
                if now == moment {
                    std::panic::resume_unwind(Box::new("as asked"));
                }
            })
        };
        let panicking = |_: &Request| -> Result<Accept, Refusal> {
            std::panic::resume_unwind(Box::new("as asked"))
        };
        let routes = Server::builder()
            .route(route("/open", "open"))
            .route(route("/closed", "closed"))
            .route(Route::websocket("/authorize", echo).authorize(panicking))
            .get("/get", |_: &Request| std::panic::resume_unwind(Box::new("as asked")))
            .websocket("/echo", echo);
        let server = TestServer::serve(&[("workers", workers)], routes);
        let neighbour = Neighbour::start(server.address);
        let mut peer = Client::open(server.address, "/open");
        peer.expect_close(1011);
        peer.close(1011);
        peer.expect_fin();
        let mut peer = Client::open(server.address, "/closed");
        peer.close(1000);
        peer.expect_close(1000);
        peer.expect_fin();
        for request in [upgrade_request("/authorize", ""), common::http::get_request("/get", "")] {
            let mut peer = Client::connect(server.address);
            peer.send(request.as_bytes());
            assert_eq!(peer.read_answer().status, 500);
        }
        eventually("all panicked", || server.stats().handler_panics == 4);
        // Whose first call panicked is told nothing more.
        assert_eq!(told.load(Ordering::Relaxed), 1);
        neighbour.was_undisturbed();
        server.expect_closed(CloseReason::Panic, 1);
    }
}

// FAULTS 98.
#[test]
fn a_pool_that_is_blocked_for_ever_holds_up_only_its_own_routes() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let routes = Server::builder()
        .websocket("/gated", gated(&gate))
        .route(Route::websocket("/echo", echo).inline())
        .route(Route::get("/", |_: &Request| Response::new(200).text("here\n")).inline());
    let pairs = [
        ("deadlines.handshake", "3s"),
        ("heartbeat.interval", "2s"),
        ("heartbeat.pong", "1s"),
        ("heartbeat.max_missed", "2"),
        ("deadlines.close_ack", "100ms"),
        ("limits.pings_per_second", "1000"),
    ];
    let server = TestServer::serve(&pairs, routes);
    let neighbour = Neighbour::start(server.address);
    let mut blocked: Vec<Client> = (0..400)
        .map(|_| {
            let mut peer = Client::open(server.address, "/gated");
            peer.text("wait");
            peer
        })
        .collect();
    eventually("both workers are blocked", || gate.waiting() == 2);
    // The queue holds 256 jobs: it is full, and more connections wait for it.
    let mut peer = Client::open(server.address, "/gated");
    let span = Span::begin();
    let mut round_trips: Vec<Duration> = (0..100)
        .map(|_| {
            let sent_at = Instant::now();
            peer.send(frame(0x89, b"are you there?"));
            loop {
                match peer.see() {
                    Seen::Frame(0x89, payload) => peer.pong(&payload),
                    Seen::Frame(0x8A, payload) => {
                        assert_eq!(payload, b"are you there?");
                        return sent_at.elapsed();
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
        .collect();
    round_trips.sort_unstable();
    println!("p99 of 100 pongs: {:?}", round_trips[98]);
    let most = ms(50) + common::timing::TICK + span.stalled();
    assert!(round_trips[98] < most, "{:?}", round_trips[98]);
    let mut asking = Client::connect(server.address);
    asking.send(common::http::get_request("/", "").as_bytes());
    assert_eq!(asking.read_answer().status, 200);
    // Deadlines act, also on connections whose handlers never return.
    let span = Span::begin();
    let mut silent = Client::connect(server.address);
    silent.expect_fin();
    span.took("handshake", ms(3000));
    eventually("all that answer no ping have ended", || server.open() <= 3);
    println!("{:?}", server.ends());
    assert!(server.closed_by(CloseReason::Heartbeat) >= 400);
    for peer in &mut blocked {
        peer.expect_close(3008);
    }
    neighbour.was_undisturbed();
    gate.open();
    eventually("the jobs came back", || gate.waiting() == 0);
    assert_eq!(server.stats().handler_panics, 0);
}

// FAULTS 100, 103: nobody is forgotten.
#[test]
fn when_a_full_pool_is_free_again_everybody_goes_on() {
    const CLIENTS: usize = 600;
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let pairs = [("limits.inbox_messages", "4")];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/gated", gated(&gate)));
    let mut peers: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut peer = Client::open(server.address, "/gated");
            peer.text("wait");
            peer
        })
        .collect();
    eventually("both workers are blocked", || gate.waiting() == 2);
    // Beyond the inbox: reading pauses, and the rest stays in the read buffer or the kernel.
    for (index, peer) in peers.iter_mut().enumerate() {
        let burst: Vec<u8> =
            (0..20).flat_map(|nth| frame(0x81, format!("{index}: {nth}").as_bytes())).collect();
        peer.send(&burst);
    }
    thread::sleep(ms(100));
    assert_eq!(server.stats().messages_handled, 0);
    let span = Span::begin();
    gate.open();
    for (index, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.message(), "wait");
        for nth in 0..20 {
            assert_eq!(peer.message(), format!("{index}: {nth}"));
        }
    }
    println!("{CLIENTS} clients went on after {:?}", span.elapsed());
    assert_eq!(server.open(), CLIENTS);
}

/// After this the timer comes: long enough for the first message, also on a machine that stands
/// still for two seconds.
const TIMER: Duration = ms(3000);

/// Sets timer 7 when it is opened; waits at the gate for `wait`, and then cancels the timer if it
/// is `wait and cancel`, or moves it for `wait and move`.
fn timed(gate: &Gate) -> impl Fn(&Sender, Event) + Send + Sync + 'static {
    let gate = gate.clone();
    move |peer: &Sender, event: Event| match event {
        Event::Opened(_) => peer.after(TIMER, 7).unwrap(),
        Event::Timer(token) => drop(peer.send(format!("timer {token}"))),
        Event::Message(message) => {
            let text = message.as_text().unwrap_or_default().to_owned();
            if text.starts_with("wait") {
                gate.wait();
            }
            match text.as_str() {
                "wait and cancel" => peer.cancel(7).unwrap(),
                "wait and move" => peer.after(ms(300), 7).unwrap(),
                _ => {}
            }
            peer.send(text);
        }
        _ => {}
    }
}

#[test]
fn a_timer_that_falls_due_while_a_job_is_out_waits_its_turn() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let routes = Server::builder().websocket("/timed", timed(&gate));
    let server = TestServer::serve(&[], routes);
    let mut peer = Client::open(server.address, "/timed");
    peer.text("wait");
    eventually("the handler is blocked", || gate.waiting() == 1);
    peer.text("before");
    eventually("it is due", || server.stats().timers_due == 1);
    peer.text("after");
    eventually("it has come", || server.stats().messages_received == 3);
    gate.open();
    for expected in ["wait", "before", "timer 7", "after"] {
        assert_eq!(peer.message(), expected);
    }
}

#[test]
fn a_due_timer_that_the_handler_cancels_or_moves_is_not_told() {
    for (order, due) in [("wait and cancel", 1), ("wait and move", 2)] {
        let gate = Gate::default();
        let _opened = Opened(gate.clone());
        let routes = Server::builder().websocket("/timed", timed(&gate));
        let server = TestServer::serve(&[], routes);
        let mut peer = Client::open(server.address, "/timed");
        peer.text(order);
        eventually("the handler is blocked", || gate.waiting() == 1);
        eventually("it is due", || server.stats().timers_due == 1);
        gate.open();
        peer.text("next");
        assert_eq!(peer.message(), order);
        assert_eq!(peer.message(), "next");
        if due == 2 {
            assert_eq!(peer.message(), "timer 7", "once, where it was moved to");
        }
        peer.text("last");
        assert_eq!(peer.message(), "last");
        assert_eq!(server.stats().timers_due, due);
    }
}

#[test]
fn the_servers_timers_run_on_workers_and_a_stuck_job_is_counted() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let pairs = [("deadlines.handler", "200ms")];
    let routes = Server::builder().websocket("/echo", echo);
    let server = TestServer::serve(&pairs, routes);
    let blocked = gate.clone();
    server.handle.after(ms(10), move || blocked.wait()).unwrap();
    let panics = || std::panic::resume_unwind(Box::new("as asked"));
    server.handle.after(ms(10), panics).unwrap();
    eventually("a worker is blocked", || gate.waiting() == 1);
    eventually("a panic is counted", || server.stats().handler_panics == 1);
    let mut peer = Client::open(server.address, "/echo");
    peer.text("here");
    assert_eq!(peer.message(), "here", "the loop goes on, and so does the other worker");
    eventually("it is counted", || server.stats().handlers_stuck_total >= 1);
    gate.open();
    eventually("it has returned", || server.stats().handlers_stuck == 0);
}

#[test]
fn jobs_that_find_no_worker_free_wait_for_one() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let pairs = [("limits.timers", "256")];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/gated", gated(&gate)));
    let mut peers: Vec<Client> = (0..300).map(|_| Client::open(server.address, "/gated")).collect();
    peers.iter_mut().for_each(|peer| peer.text("wait"));
    eventually("both workers are blocked", || gate.waiting() == 2);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..256 {
        let ran = ran.clone();
        server.handle.after(ms(1), move || _ = ran.fetch_add(1, Ordering::SeqCst)).unwrap();
    }
    eventually("all are due", || server.stats().timers_due == 256);
    let turns = server.stats().turns;
    thread::sleep(ms(200));
    assert!(server.stats().turns - turns < 30, "the loop does not spin");
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    gate.open();
    eventually("all have run", || ran.load(Ordering::SeqCst) == 256);
    for peer in &mut peers {
        assert_eq!(peer.message(), "wait");
    }
}

// FAULTS 100: workers that wait to reply and jobs that wait for workers do not wait for each other.
#[test]
fn with_replies_and_jobs_both_at_their_limits_everything_goes_on() {
    const CLIENTS: usize = 300;
    const REPLIES: usize = 40;
    let (workers, inline) = (Gate::default(), Gate::default());
    let _opened = (Opened(workers.clone()), Opened(inline.clone()));
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let gate = workers.clone();
    let reply = move |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            gate.wait();
            (0..REPLIES).for_each(|_| _ = peer.send(vec![7; 2000]));
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    let routes = Server::builder()
        .websocket("/reply", reply)
        .route(Route::websocket("/gated", gated(&inline)).inline());
    let server = TestServer::serve(&[("limits.outbox_bytes", "1m")], routes);
    let mut peers: Vec<Client> =
        (0..CLIENTS).map(|_| Client::open(server.address, "/reply")).collect();
    peers.iter_mut().for_each(|peer| peer.text("reply"));
    eventually("all have come", || server.stats().messages_received == CLIENTS as u64);
    // The loop stands still, and the workers reply until there is no room for more.
    let mut stopper = Client::open(server.address, "/gated");
    stopper.text("wait");
    eventually("the loop waits", || inline.waiting() == 1);
    workers.open();
    let mut before = usize::MAX;
    eventually("the workers wait", || {
        thread::sleep(ms(20));
        std::mem::replace(&mut before, done.load(Ordering::SeqCst)) == before && before > 0
    });
    assert!(before < CLIENTS / 2, "most jobs still wait: {before} are done");
    let span = Span::begin();
    inline.open();
    assert_eq!(stopper.message(), "wait");
    println!("after {before} of {CLIENTS} jobs; the loop answered after {:?}", span.elapsed());
    for peer in &mut peers {
        (0..REPLIES).for_each(|_| assert_eq!(peer.see(), Seen::Frame(0x82, vec![7; 2000])));
    }
    println!("all was there after {:?}", span.elapsed());
    assert_eq!((server.open(), server.stats().messages_dropped()), (CLIENTS + 1, 0));
}

// FAULTS 84c.
#[test]
fn many_small_messages_in_one_segment_are_kept_and_answered_in_order() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let pairs = [("limits.inbox_messages", "16")];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/gated", gated(&gate)));
    let mut peer = Client::open(server.address, "/gated");
    peer.text("wait");
    eventually("the handler waits", || gate.waiting() == 1);
    let burst: Vec<u8> =
        (0..9000).flat_map(|nth| frame(0x81, &[b'a' + (nth % 26) as u8])).collect();
    peer.send(&burst);
    thread::sleep(ms(50));
    assert!(server.stats().messages_received <= 1 + 16, "{:?}", server.stats().messages_received);
    gate.open();
    assert_eq!(peer.message(), "wait");
    for nth in 0..9000 {
        assert_eq!(peer.message().as_bytes(), [b'a' + (nth % 26) as u8]);
    }
}

// FAULTS 84b.
#[test]
fn a_peer_that_vanishes_while_its_handler_is_blocked_is_noticed() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let pairs = [
        ("limits.inbox_messages", "1"),
        ("heartbeat.interval", "2s"),
        ("heartbeat.pong", "1s"),
        ("heartbeat.max_missed", "1"),
        ("deadlines.close_send", "100ms"),
        ("deadlines.close_ack", "100ms"),
    ];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/gated", gated(&gate)));
    let mut peer = Client::open(server.address, "/gated");
    peer.text("wait");
    eventually("the handler waits", || gate.waiting() == 1);
    (0..5).for_each(|_| peer.text("not read"));
    thread::sleep(ms(20));
    let span = Span::begin();
    peer.vanish();
    // The pings that go out are not answered, and not missed either: TCP_USER_TIMEOUT finds out,
    // five seconds and all the close deadlines after the first of them. The kernel looks at its
    // timeout when it would retransmit, so it is late by up to its back-off.
    within(ms(2000 + 5300) + ms(4000), "it has ended", || server.open() == 0);
    println!("noticed after {:?}: {:?}", span.elapsed(), server.ends());
    server.expect_closed(CloseReason::WriteStall, 1);
}

/// Checks that what comes is what follows, and answers with what it was.
struct InOrder;

impl Handler for InOrder {
    type Session = u64;

    fn open(&self, _: &Sender, _: Request) -> u64 {
        0
    }

    fn message(&self, next: &mut u64, peer: &Sender, message: Message) {
        let number: u64 = message.as_text().unwrap().parse().unwrap();
        assert_eq!(number, *next, "out of order");
        *next += 1;
        peer.send(message);
    }
}

// FAULTS 102.
#[test]
fn each_connections_messages_are_handled_in_order_whoever_handles_them() {
    for workers in ["4", "1", "0"] {
        let pairs = [("workers", workers), ("limits.inbox_messages", "8")];
        let server = TestServer::serve(&pairs, Server::builder().websocket("/order", InOrder));
        let address = server.address;
        let count = rounds(2000);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(move || {
                    let mut peer = Client::open(address, "/order");
                    for burst in (0..count).collect::<Vec<_>>().chunks(50) {
                        let text = |nth: &usize| frame(0x81, nth.to_string().as_bytes());
                        peer.send(burst.iter().flat_map(text).collect::<Vec<u8>>());
                        for nth in burst {
                            assert_eq!(peer.message(), nth.to_string());
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let stats = server.stats();
        assert_eq!(stats.handler_panics, 0);
        eventually("all are handled", || server.stats().messages_handled == 8 * count as u64);
    }
}

// FAULTS 104: one write to the waker for all that is said until the loop has woken.
#[test]
fn what_is_said_while_the_loop_sleeps_wakes_it_once() {
    let routes = Server::builder().route(Route::websocket("/echo", echo).inline());
    let mut server = routes.config(config(&[])).build().unwrap();
    let handle = server.handle();
    let settle = |server: &mut Server| {
        while wait_for(server, Some(ms(20))) || server.next_timeout() == Some(Duration::ZERO) {
            server.turn().unwrap();
        }
    };
    settle(&mut server);
    let before = server.stats().turns;
    let nobody = handle.peer(ConnectionId::from_u64(1.try_into().unwrap()));
    let writes = writes_of(own_tid());
    for _ in 0..1000 {
        assert_eq!(nobody.send("anybody?"), Sent::Taken);
    }
    assert_eq!(writes_of(own_tid()) - writes, 1, "system calls to wake the loop");
    assert!(wait_for(&server, Some(ms(100))), "it is woken");
    settle(&mut server);
    assert_eq!(server.stats().commands_stale, 1000);
    assert!(server.stats().turns - before <= 3, "{}", server.stats().turns - before);
}

// FAULTS 104: the workers wake the loop at most once for each of its turns.
#[test]
fn replies_at_full_speed_cost_fewer_wakes_than_turns() {
    let tids = Arc::new(Mutex::new(HashSet::new()));
    let seen = tids.clone();
    let handler = move |peer: &Sender, event: Event| {
        lock(&seen).insert(own_tid());
        echo(peer, event);
    };
    let server = TestServer::serve(&[], Server::builder().websocket("/echo", handler));
    let address = server.address;
    let count = rounds(10_000);
    let clients: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let mut peer = Client::open(address, "/echo");
                for _ in 0..count / 50 {
                    peer.send(frame(0x81, b"again").repeat(50));
                    (0..50).for_each(|_| assert_eq!(peer.message(), "again"));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let wakes: u64 = lock(&tids).iter().map(|tid| writes_of(*tid)).sum();
    let turns = server.stats().turns;
    println!("{} messages: {wakes} wakes, {turns} turns", 2 * count);
    assert!(wakes <= turns + turns / 100, "{wakes} wakes, {turns} turns");
}

// FAULTS 105: each is run or cancelled, and nobody waits for what never returns.
#[test]
fn an_end_with_jobs_queued_runs_or_cancels_each() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let recorder = Recorder::default();
    let (noted, at) = (recorder.clone(), gate.clone());
    let handler = move |peer: &Sender, event: Event| {
        noted.note(peer.id(), &event);
        if matches!(event, Event::Message(_)) {
            at.wait();
            peer.send("let go");
        }
    };
    let server = TestServer::serve(&[], Server::builder().websocket("/gated", handler));
    let mut peers: Vec<Client> = (0..50)
        .map(|_| {
            let mut peer = Client::open(server.address, "/gated");
            peer.text("wait");
            peer
        })
        .collect();
    eventually("both workers are blocked", || gate.waiting() == 2);
    let span = Span::begin();
    drop(server);
    println!("the server ended after {:?}", span.elapsed());
    let most = ms(500) + span.lateness_max();
    assert!(span.elapsed() < most, "it does not wait for what never returns");
    peers.iter_mut().for_each(Client::expect_reset);
    gate.open();
    eventually("the handlers returned", || gate.waiting() == 0);
    thread::sleep(ms(50));
    for told in recorder.told() {
        let closed = told.iter().filter(|told| matches!(told, Told::Closed(_))).count();
        assert!(told[0] == Told::Opened && closed <= 1, "{told:?}");
    }
}

// A worker that waits for room in the channel must not wait for a loop that is gone.
#[test]
fn workers_end_with_their_server_whatever_they_were_sending() {
    let is_sending = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicUsize::new(0));
    let (sending, returned) = (is_sending.clone(), ended.clone());
    let handler = move |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            sending.store(true, Ordering::SeqCst);
            for _ in 0..200 {
                peer.send(Message::binary(vec![b'x'; 100_000]));
            }
            returned.fetch_add(1, Ordering::SeqCst);
        }
    };
    let mut server =
        Server::builder().websocket("/much", handler).config(config(&[])).build().unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let mut client = Client::connect(address);
    client.send(upgrade_request("/much", "").as_bytes());
    client.text("go");
    // The host turns its loop until the handler is busy, and then no more.
    while !is_sending.load(Ordering::SeqCst) {
        wait_for(&server, Some(ms(5)));
        server.turn().unwrap();
    }
    thread::sleep(ms(100));
    assert_eq!(ended.load(Ordering::SeqCst), 0, "the channel takes four megabytes, not twenty");
    let span = Span::begin();
    drop(server);
    eventually("the handler returned", || ended.load(Ordering::SeqCst) == 1);
    println!("the handler returned after {:?}", span.elapsed());
}

#[test]
fn commands_from_many_threads_do_not_disturb_each_other() {
    let sent = rounds(2000);
    let recorder = Recorder::default();
    let noted = recorder.clone();
    let ids = Arc::new(Mutex::new(Vec::new()));
    let opened = ids.clone();
    let handler = move |peer: &Sender, event: Event| {
        noted.note(peer.id(), &event);
        if let Event::Opened(_) = event {
            lock(&opened).push(peer.clone());
        }
    };
    // All of it fits, so that nobody is closed for what others say, and it may take its time: a
    // close stands behind all of it.
    let pairs = [
        ("limits.outbox_bytes", "64m"),
        ("deadlines.close_send", "60s"),
        ("deadlines.close_ack", "60s"),
    ];
    let server = TestServer::serve(&pairs, Server::builder().websocket("/told", handler));
    let mut clients: Vec<Client> = (0..8).map(|_| Client::open(server.address, "/told")).collect();
    eventually("all are open", || lock(&ids).len() == 8);
    let peers = lock(&ids).clone();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let peers = peers.clone();
            thread::spawn(move || {
                for nth in 0..sent {
                    for peer in &peers {
                        while peer.send(format!("{thread}:{nth}")) == Sent::Full {
                            thread::yield_now();
                        }
                    }
                }
                for peer in &peers {
                    while peer.close(4000 + thread as u16, "enough") == Err(SendError::Full) {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            thread::spawn(move || {
                let mut next = [0; 8];
                loop {
                    match client.see() {
                        Seen::Frame(0x81, payload) => {
                            let text = String::from_utf8(payload).unwrap();
                            let (thread, nth) = text.split_once(':').unwrap();
                            let next: &mut usize = &mut next[thread.parse::<usize>().unwrap()];
                            assert_eq!(nth.parse::<usize>().unwrap(), *next, "in order, none lost");
                            *next += 1;
                        }
                        Seen::Frame(0x88, payload) => {
                            let code = u16::from_be_bytes([payload[0], payload[1]]);
                            // The thread whose close was first had said all before it.
                            assert_eq!(next[usize::from(code - 4000)], sent);
                            client.close(code);
                            client.expect_fin();
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    server.expect_closed(CloseReason::Application(0), 8);
    eventually("each was told", || recorder.closed().len() == 8);
    recorder.assert_whole(8);
    // What was said to peers that had gone may still fill the queue: the answer comes behind it.
    eventually("the queue is taken", || server.handle.vitals(ms(1000)).is_some());
    // Whoever is gone takes nothing, and says so by no panic.
    assert_eq!(peers[0].send("anybody?"), Sent::Taken);
    assert_eq!(peers[0].close(1006, ""), Err(SendError::CloseCode));
    assert_eq!(peers[0].close(1000, ""), Ok(()));
    drop(server);
    assert_eq!(peers[0].send("anybody?"), Sent::Ended);
    assert_eq!(peers[0].close(1000, ""), Err(SendError::Ended));
}

fn authorizing() -> Builder {
    let authorize = |request: &Request| match request.query() {
        Some("choose") => Ok(Accept::with_protocol("second").expect("it is a token")),
        Some("slow") => {
            thread::sleep(ms(100));
            Ok(Accept::default())
        }
        Some("reject") => Err(Refusal::new(403, "not you").header("X-Why", "because").unwrap()),
        _ => Ok(Accept::default()),
    };
    let route = Route::websocket("/a", echo).protocol("first").protocol("second");
    Server::builder().route(route.authorize(authorize))
}

#[test]
fn verdicts_are_obeyed_wherever_they_are_given() {
    for workers in ["2", "0"] {
        let server = TestServer::serve(&[("workers", workers)], authorizing());
        let ask = |query: &str| {
            let offer = "Sec-WebSocket-Protocol: first, second\r\n\r\n";
            let request = upgrade_request(&format!("/a?{query}"), "");
            let mut peer = Client::connect(server.address);
            peer.send([request.trim_end(), "\r\n", offer].concat().as_bytes());
            (peer.read_answer(), peer)
        };
        let (answer, mut peer) = ask("choose");
        assert_eq!(answer.status, 101);
        assert!(answer.head.contains("Sec-WebSocket-Protocol: second\r\n"), "{}", answer.head);
        peer.text("hello");
        assert_eq!(peer.message(), "hello");
        let (answer, _) = ask("whatever");
        assert!(answer.head.contains("Sec-WebSocket-Protocol: first\r\n"), "{}", answer.head);
        let (answer, mut peer) = ask("reject");
        assert_eq!(answer.status, 403);
        assert!(answer.head.contains("X-Why: because\r\n"), "{}", answer.head);
        assert!(answer.text().contains("not you"), "{}", answer.text());
        peer.expect_fin();
        // Frames that came with the request are the first messages.
        let mut eager = Client::connect(server.address);
        eager.send(
            [upgrade_request("/a?slow", "").into_bytes(), frame(0x81, b"already here")].concat(),
        );
        assert_eq!(eager.read_answer().status, 101);
        assert_eq!(eager.message(), "already here");
    }
}

#[test]
fn a_peer_that_leaves_before_its_verdict_is_gone_at_once() {
    let recorder = Recorder::default();
    let noted = recorder.clone();
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let at = gate.clone();
    let authorize = move |_: &Request| {
        at.wait();
        Ok(Accept::default())
    };
    let handler = move |peer: &Sender, event: Event| noted.note(peer.id(), &event);
    let route = Route::websocket("/a", handler).authorize(authorize);
    let server =
        TestServer::serve(&[("deadlines.handshake", "5s")], Server::builder().route(route));
    let mut peer = Client::connect(server.address);
    peer.send(upgrade_request("/a", "").as_bytes());
    eventually("the verdict is awaited", || gate.waiting() == 1);
    peer.reset();
    server.expect_closed(CloseReason::Reset, 1);
    gate.open();
    eventually("the verdict came", || gate.waiting() == 0);
    thread::sleep(ms(50));
    assert_eq!((server.stats().upgraded, server.open()), (0, 0));
    assert!(recorder.told().is_empty(), "the handler never heard of it");
}

#[test]
fn an_empty_outbox_takes_one_reply_whatever_its_size() {
    for workers in ["2", "0"] {
        let large = |peer: &Sender, event: Event| {
            if let Event::Message(message) = event {
                let count: usize = message.as_text().unwrap().parse().unwrap();
                (0..count).for_each(|_| {
                    peer.send(Message::binary(vec![b'x'; 1_500_000]));
                });
            }
        };
        let pairs = [("limits.outbox_bytes", "64k"), ("workers", workers)];
        let server = TestServer::serve(&pairs, Server::builder().websocket("/large", large));
        let mut peer = Client::open_narrow(server.address, "/large");
        peer.text("1");
        match peer.see() {
            Seen::Frame(0x82, payload) => assert_eq!(payload.len(), 1_500_000),
            other => panic!("{other:?}"),
        }
        peer.text("2");
        // It does not read before both are sent.
        eventually("the overflow", || server.stats().messages_dropped() == 1);
        match peer.see() {
            Seen::Frame(0x82, payload) => assert_eq!(payload.len(), 1_500_000),
            other => panic!("{other:?}"),
        }
        peer.expect_close(1013);
        peer.close(1013);
        peer.expect_fin();
        drop(peer);
        server.expect_closed(CloseReason::Overflow, 1);
    }
}

#[test]
fn a_flood_is_1013_to_who_does_not_read_and_whole_to_who_does() {
    let flood = |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            for nth in 0..40 {
                peer.send(Message::binary(vec![nth; 20_000]));
                // Faster than anybody reads would be an overflow for everybody.
                peer.flush();
                thread::sleep(ms(2));
            }
        }
    };
    let pairs = [("limits.outbox_bytes", "64k")];
    let routes = Server::builder().websocket("/flood", flood).websocket("/echo", echo);
    let server = TestServer::serve(&pairs, routes);
    let neighbour = Neighbour::start(server.address);
    let mut reading = Client::open(server.address, "/flood");
    let mut not_reading = Client::open_narrow(server.address, "/flood");
    not_reading.text("go");
    reading.text("go");
    for nth in 0..40 {
        assert_eq!(reading.see(), Seen::Frame(0x82, vec![nth; 20_000]));
    }
    eventually("the overflow", || server.stats().messages_dropped() > 0);
    let mut messages = 0;
    loop {
        match not_reading.see() {
            Seen::Frame(0x82, payload) => assert_eq!(payload.len(), 20_000),
            Seen::Frame(0x88, payload) => break assert_eq!(payload, 1013u16.to_be_bytes()),
            other => panic!("{other:?}"),
        }
        messages += 1;
    }
    println!("{messages} of 40 messages came whole before the close");
    assert!(messages < 40);
    not_reading.close(1013);
    not_reading.expect_fin();
    drop(not_reading);
    server.expect_closed(CloseReason::Overflow, 1);
    neighbour.was_undisturbed();
}

#[test]
fn a_handler_may_send_what_it_was_given_beyond_the_outbox_limit() {
    for workers in ["2", "0"] {
        // Each answer is as long as its cause, and the limit is shorter than one of them.
        let pairs = [("limits.outbox_bytes", "1k"), ("workers", workers)];
        let server = TestServer::serve(&pairs, Server::builder().websocket("/echo", echo));
        let mut peer = Client::open_narrow(server.address, "/echo");
        let text = "x".repeat(5000);
        let mut writer = peer.stream.try_clone().unwrap();
        let burst = frame(0x81, text.as_bytes()).repeat(200);
        let writes = thread::spawn(move || std::io::Write::write_all(&mut writer, &burst).unwrap());
        thread::sleep(ms(50));
        (0..200).for_each(|_| assert_eq!(peer.message(), text));
        writes.join().unwrap();
        assert_eq!(server.open(), 1);
    }
}

#[test]
fn inline_and_worker_routes_tell_the_same_story() {
    let mut stories = Vec::new();
    for (workers, is_inline) in [("2", false), ("2", true), ("0", false)] {
        let recorder = Recorder::default();
        let noted = recorder.clone();
        let handler = move |peer: &Sender, event: Event| {
            noted.note(peer.id(), &event);
            match event {
                Event::Opened(_) => drop(peer.send("hello")),
                Event::Message(message) if message.as_text() == Some("close") => {
                    peer.send("bye");
                    peer.close(4001, "bye").unwrap();
                    peer.send("too late");
                }
                Event::Message(message) => drop(peer.send(message)),
                _ => {}
            }
        };
        let route = Route::websocket("/told", handler).with_drained();
        let route = if is_inline { route.inline() } else { route };
        let server = TestServer::serve(&[("workers", workers)], Server::builder().route(route));
        let mut seen = Vec::new();
        let mut peer = Client::open(server.address, "/told");
        peer.text("one");
        peer.text("two");
        peer.text("close");
        while seen.last() != Some(&Seen::Fin) {
            seen.push(peer.see());
            if matches!(seen.last(), Some(Seen::Frame(0x88, _))) {
                peer.close(4001);
            }
        }
        drop(peer);
        eventually("the end is told", || recorder.closed().len() == 1);
        let mut told = recorder.told().remove(0);
        told.retain(|told| *told != Told::Drained);
        stories.push((seen, told));
    }
    assert_eq!(stories[0].0.len(), 6, "{:?}", stories[0]);
    assert_eq!(stories[0], stories[1]);
    assert_eq!(stories[0], stories[2]);
}

#[test]
fn a_handler_that_blocks_may_flush_first() {
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let at = gate.clone();
    let handler = move |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            peer.send("wait a moment");
            peer.flush();
            at.wait();
            peer.send("here you are");
        }
    };
    let server = TestServer::serve(&[], Server::builder().websocket("/flush", handler));
    let mut peer = Client::open(server.address, "/flush");
    peer.text("please");
    assert_eq!(peer.message(), "wait a moment");
    eventually("it blocks", || gate.waiting() == 1);
    gate.open();
    assert_eq!(peer.message(), "here you are");
}

// Where more was published than a turn delivers, no command was taken any more at the end: not what
// came back from the workers either, behind which the last event of a connection waits.
#[test]
fn every_handler_is_told_of_the_end_in_the_middle_of_a_flood() {
    const PEERS: usize = 60;
    let recorder = Recorder::default();
    let noted = recorder.clone();
    let handler = move |peer: &Sender, event: Event| {
        noted.note(peer.id(), &event);
        match event {
            Event::Opened(_) => drop(peer.subscribe("a")),
            Event::Message(_) => thread::sleep(ms(5)),
            _ => {}
        }
    };
    let builder = Server::builder().config(config(&[("turn.bytes", "4k")]));
    let mut server = builder.websocket("/slow", handler).listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let (handle, stop) = (server.handle(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let turning = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            server.turn().unwrap();
            thread::sleep(ms(1));
        }
    });
    let mut peers: Vec<_> = (0..PEERS).map(|_| Client::open(address, "/slow")).collect();
    eventually("all are open", || recorder.count(&Told::Opened) == PEERS);
    peers.iter_mut().for_each(|peer| peer.text("go"));
    // Many turns' worth of deliveries.
    (0..200).for_each(|_| handle.publish("a", "x".repeat(1000)).unwrap());
    thread::sleep(ms(5));
    stop.store(true, Ordering::Relaxed);
    turning.join().unwrap();
    assert_eq!(recorder.closed().len(), PEERS);
    recorder.assert_whole(PEERS);
}
