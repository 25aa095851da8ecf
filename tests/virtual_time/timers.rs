//! Timers of connections and of the server: to the tick, in order, bounded, and gone with what they
//! belong to.

use std::sync::mpsc::{self, Receiver, Sender as Outlet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::{Builder, ConnectionId, Event, Handle, ManualClock, Peer, SendError};

use crate::common::timing::{lock, ms};
use crate::common::world::*;

/// What a handler was told: a token, a message, or the end.
type Told = Arc<Mutex<Vec<(Duration, String)>>>;

/// A handler that is told what to do: `after MS TOKEN`, `cancel TOKEN`, `close`, with `;` between.
fn timed(
    told: &Told,
    ids: &Arc<Mutex<Vec<ConnectionId>>>,
    clock: &Arc<Mutex<Option<ManualClock>>>,
) -> Builder {
    let (told, ids, clock) = (told.clone(), ids.clone(), clock.clone());
    routes().websocket("/timed", move |peer: &Peer, event: Event| {
        let at = lock(&clock).as_ref().map(ManualClock::elapsed).unwrap_or_default();
        let what = match event {
            Event::Timer(token) => {
                peer.send(format!("timer {token}"));
                format!("timer {token}")
            }
            Event::Message(message) => {
                let text = message.as_text().unwrap_or_default().to_owned();
                text.split(';').for_each(|order| obey(peer, order));
                text
            }
            Event::Opened(_) => return lock(&ids).push(peer.id()),
            Event::Closed(_) => "closed".into(),
            _ => return,
        };
        lock(&told).push((at, what));
    })
}

fn obey(peer: &Peer, order: &str) {
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["after", span, token] => {
            peer.after(ms(span.parse().unwrap()), token.parse().unwrap()).unwrap();
        }
        ["cancel", token] => peer.cancel(token.parse().unwrap()).unwrap(),
        ["close"] => peer.close(4000, "").unwrap(),
        _ => {}
    }
}

struct Timed {
    world: World,
    told: Told,
    ids: Arc<Mutex<Vec<ConnectionId>>>,
}

fn begin(pairs: &[(&str, &str)]) -> Timed {
    let (told, ids, clock) = (Told::default(), Arc::default(), Arc::default());
    let world = World::new(pairs, timed(&told, &ids, &clock));
    *lock(&clock) = Some(world.clock.clone());
    Timed { world, told, ids }
}

impl Timed {
    fn fired(&self) -> Vec<(Duration, String)> {
        let told = lock(&self.told);
        told.iter().filter(|(_, what)| what.starts_with("timer")).cloned().collect()
    }

    fn tokens(&self) -> Vec<String> {
        self.fired().into_iter().map(|(_, what)| what["timer ".len()..].to_owned()).collect()
    }
}

/// Nothing is pending that was not set, and nothing is forgotten.
#[track_caller]
fn assert_balance(world: &World, pending: u64) {
    let stats = world.server.stats();
    let (set, due, cancelled) = (stats.timers_set, stats.timers_due, stats.timers_cancelled);
    assert_eq!(set, due + cancelled + pending, "set={set} due={due} cancelled={cancelled}");
}

#[test]
fn a_timer_is_told_in_its_tick_and_never_early() {
    let mut timed = begin(&[]);
    let mut clients = [timed.world.open("/timed")];
    for span in [0, 1, 49, 50, 51, 777, 3_600_000] {
        let set_at = timed.world.clock.elapsed();
        clients[0].say(&format!("after {span} {span}"));
        timed.world.pass(ms(span) + TICK, &mut clients);
        let (told_at, what) = timed.fired().pop().expect("it was told");
        assert_eq!(what, format!("timer {span}"));
        let late = told_at.checked_sub(set_at + ms(span)).expect("it was not early");
        assert!(late <= TICK, "{span}: {late:?} late");
        timed.world.pass(ms(13), &mut clients);
    }
    assert_eq!(clients[0].messages.len(), 7);
    assert_balance(&timed.world, 0);
}

#[test]
fn a_timer_of_one_token_is_moved_and_cancelled() {
    let mut timed = begin(&[("heartbeat.interval", "off")]);
    let mut clients = [timed.world.open("/timed")];
    clients[0].say("after 1000 1;after 2000 2;after 3000 3");
    timed.world.pass(ms(500), &mut clients);
    clients[0].say("after 2000 1;cancel 2;cancel 77");
    timed.world.pass(ms(400), &mut clients);
    // There is no wake-up for what was moved or cancelled: the next is that of 1.
    timed.world.settle();
    let wait = timed.world.server.next_timeout().unwrap();
    assert!(wait > ms(1550) && wait <= ms(1600) + TICK, "{wait:?}");
    timed.world.pass(ms(10_000), &mut clients);
    assert_eq!(timed.tokens(), ["1", "3"]);
    let fired = timed.fired();
    assert!(fired[0].0 >= ms(2500) && fired[0].0 <= ms(2500) + TICK, "{fired:?}");
    assert_eq!(timed.world.server.stats().timers_cancelled, 1);
    assert_balance(&timed.world, 0);
}

#[test]
fn timers_come_in_the_order_of_their_moments() {
    let mut timed = begin(&[]);
    let mut clients = [timed.world.open("/timed")];
    clients[0].say("after 30 5;after 10 4;after 30 3;after 20 2;after 30 5");
    timed.world.pass(SECOND, &mut clients);
    assert_eq!(timed.tokens(), ["4", "2", "3", "5"]);
}

#[test]
fn one_timer_too_many_is_not_set_and_is_counted() {
    let mut timed = begin(&[]);
    let mut clients = [timed.world.open("/timed"), timed.world.open("/timed")];
    let orders: Vec<String> = (0..20).map(|token| format!("after 1000 {token}")).collect();
    clients[0].say(&orders.join(";"));
    clients[1].say("after 1000 99");
    timed.world.pass(ms(10), &mut clients);
    assert_eq!(timed.world.server.stats().timers_refused, 4, "16 of the one, 1 of the other");
    assert_balance(&timed.world, 17);
    // To move one takes no room.
    clients[0].say("after 500 3");
    timed.world.pass(ms(10), &mut clients);
    assert_eq!(timed.world.server.stats().timers_refused, 4);
    timed.world.pass(2 * SECOND, &mut clients);
    assert_eq!(timed.tokens().len(), 17);
    assert_eq!(timed.tokens()[0], "3");
    // None may be set where none is allowed.
    let mut none = begin(&[("limits.timers", "0")]);
    let mut clients = [none.world.open("/timed")];
    clients[0].say("after 0 1");
    none.world.pass(SECOND, &mut clients);
    assert_eq!((none.tokens().len(), none.world.server.stats().timers_refused), (0, 1));
}

#[test]
fn a_storm_of_timers_is_bounded_by_turns_and_limits() {
    let mut timed = begin(&[("limits.timers", "256")]);
    let mut clients: Vec<Client> = (0..40).map(|_| timed.world.open("/timed")).collect();
    let orders: Vec<String> = (0..256).map(|token| format!("after 1000 {token}")).collect();
    clients.iter_mut().for_each(|client| client.say(&orders.join(";")));
    timed.world.pass(ms(100), &mut clients);
    let turns = timed.world.server.stats().turns;
    timed.world.pass(SECOND, &mut clients);
    assert_eq!(timed.world.server.stats().timers_due, 40 * 256);
    let turns = timed.world.server.stats().turns - turns;
    assert!(turns >= 10, "{turns} turns: no more than 1024 and a connection's in one");
    assert!(clients.iter().all(|client| client.messages.len() == 256));
    assert_balance(&timed.world, 0);
}

#[test]
fn no_timer_outlives_the_end_and_none_keeps_a_connection() {
    for end in ["close", "leave", "kick", "drain", "drop"] {
        let mut timed = begin(&[]);
        let mut clients = [timed.world.open("/timed")];
        clients[0].say("after 100 1;after 60000 2");
        timed.world.pass(ms(10), &mut clients);
        match end {
            "close" => clients[0].say("close"),
            "leave" => clients[0].socket.close(None).unwrap(),
            "kick" => timed.world.server.handle().kick(lock(&timed.ids)[0]).unwrap(),
            "drain" => timed.world.server.handle().drain().unwrap(),
            _ => clients[0].socket.get_mut().shut_down(),
        }
        timed.world.pass(2 * MINUTE, &mut clients);
        assert_eq!(timed.world.server.connections(), 0, "{end}");
        let told = lock(&timed.told);
        assert_eq!(told.last().map(|(_, what)| what.as_str()), Some("closed"), "{end}: {told:?}");
        drop(told);
        assert_eq!(timed.world.server.stats().timers_cancelled, 2, "{end}");
        assert_balance(&timed.world, 0);
    }
}

#[test]
fn a_timer_of_what_is_gone_or_has_no_handler_is_stale() {
    let mut timed = begin(&[]);
    let mut clients = [timed.world.open("/timed")];
    clients[0].say("close;after 10 1");
    timed.world.pass(SECOND, &mut clients);
    let gone = timed.world.server.handle().peer(lock(&timed.ids)[0]);
    gone.after(ms(1), 2).unwrap();
    gone.cancel(2).unwrap();
    timed.world.pass(SECOND, &mut clients);
    assert_eq!(timed.tokens().len(), 0);
    assert_eq!(timed.world.server.stats().commands_stale, 2);
    assert_balance(&timed.world, 0);
}

#[test]
fn a_jump_of_time_tells_each_timer_once() {
    let mut timed = begin(&[("deadlines.read_idle", "1d"), ("heartbeat.interval", "off")]);
    let mut clients = [timed.world.open("/timed")];
    clients[0].say("after 1000 1;after 5000 2;after 600000 3");
    timed.world.pass(ms(10), &mut clients);
    timed.world.clock.advance(2 * MINUTE);
    timed.world.pass(ms(10), &mut clients);
    assert_eq!(timed.tokens(), ["1", "2"]);
    assert_balance(&timed.world, 1);
    timed.world.pass(9 * MINUTE, &mut clients);
    assert_eq!(timed.tokens(), ["1", "2", "3"]);
}

/// A job that says when it ran, by the clock of the test.
fn saying(
    world: &World,
    outlet: &Outlet<(Duration, u32)>,
    number: u32,
) -> impl FnOnce() + Send + use<> {
    let (clock, outlet) = (world.clock.clone(), outlet.clone());
    move || outlet.send((clock.elapsed(), number)).unwrap()
}

fn taken(inlet: &Receiver<(Duration, u32)>) -> Vec<u32> {
    inlet.try_iter().map(|(_, number)| number).collect()
}

#[test]
fn the_servers_own_timers_run_jobs_are_moved_cancelled_and_bounded() {
    let mut world = World::new(&[], routes());
    let handle = world.server.handle();
    let (outlet, inlet) = mpsc::channel();
    let timers: Vec<heartwheel::Timer> = (0..16)
        .map(|number| {
            let span = SECOND * (number + 1);
            handle.after(span, saying(&world, &outlet, number)).unwrap()
        })
        .collect();
    let more = handle.after(SECOND, || unreachable!("it was refused"));
    assert_eq!(more.unwrap_err(), SendError::Timers);
    timers[1].cancel().unwrap();
    timers[0].restart(ms(3500)).unwrap();
    timers[7].restart(ms(10)).unwrap();
    world.pass(ms(10) + TICK, &mut []);
    assert_eq!(taken(&inlet), [7]);
    world.pass(MINUTE, &mut []);
    assert_eq!(taken(&inlet), [2, 0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_balance(&world, 0);
    assert_eq!(world.server.next_timeout(), None, "nothing is due any more");
    // What has run or was cancelled is not pending.
    handle.after(SECOND, saying(&world, &outlet, 99)).unwrap();
    timers[2].restart(SECOND).unwrap();
    let set_at = world.clock.elapsed();
    world.pass(2 * SECOND, &mut []);
    let (at, number) = inlet.try_recv().unwrap();
    assert_eq!(number, 99);
    assert!(at >= set_at + SECOND && at <= set_at + SECOND + TICK, "{:?}", at - set_at);
    assert!(inlet.try_recv().is_err(), "what has run does not run again");
}

#[test]
fn a_job_may_set_itself_again_send_and_panic() {
    fn again(handle: &Handle, left: u32) {
        let next = handle.clone();
        let job = move || {
            next.publish("ticks", left.to_string()).unwrap();
            match left {
                0 => panic!("the last"),
                _ => again(&next, left - 1),
            }
        };
        handle.after(SECOND, job).unwrap();
    }
    let mut world = World::new(&[("limits.timers", "1")], routes());
    again(&world.server.handle(), 4);
    world.pass(10 * SECOND, &mut []);
    assert_eq!(world.server.stats().handler_panics, 1);
    let answer = world.ask(&crate::common::http::get_request("/topics/ticks?after=0-0", ""));
    assert_eq!(answer.matches("\"id\"").count(), 5, "{answer}");
}

#[test]
fn jobs_that_are_not_due_end_with_the_server() {
    let world = World::new(&[], routes());
    let (outlet, inlet) = mpsc::channel();
    world.server.handle().after(SECOND, saying(&world, &outlet, 1)).unwrap();
    let handle = world.server.handle();
    drop((world, outlet));
    assert!(inlet.recv().is_err(), "the job is dropped");
    assert_eq!(handle.after(SECOND, || {}).unwrap_err(), SendError::Ended);
}
