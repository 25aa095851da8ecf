//! A thousand clients that lose their server together, and one that loses its connection a thousand
//! times.
//!
//! `ROUNDS=` sets how often it loses it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::topics::After;
use heartwheel::{
    Config, Dial, Handle, Heard, Link, LinkEvent, Links, Server, State, Subscription, TopicEvent,
};
use socket2::SockRef;

use super::common::rng::Rng;
use super::memory::{Both, dial};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);

/// When the tries of all clients began: which retry it was, and how long after the failure before.
#[derive(Default)]
struct Tries {
    waited: Vec<(u32, Duration)>,
    /// By the second of the clock.
    seconds: Vec<u64>,
}

fn pass(both: &mut Both, span: Duration) {
    let until = both.clock.elapsed() + span;
    while both.clock.elapsed() < until {
        both.clock.advance(TICK);
        both.settle();
    }
}

/// A thousand clients come back one by one. Of the window of each try no second has more than its
/// share and four deviations; all are back 35 s after the server, which was away for 15 s.
#[test]
fn a_thousand_clients_come_back_spread_and_in_time() {
    const COUNT: usize = 1000;
    let mut both = Both::new();
    let tries = Arc::new(Mutex::new(Tries::default()));
    let mut all = Vec::new();
    for _ in 0..COUNT {
        let (kept, clock) = (tries.clone(), both.clock.clone());
        let mut failed = None;
        let handler = move |_: &Link, event: LinkEvent| {
            let LinkEvent::State(change) = event else { return };
            let now = clock.elapsed();
            match change.state {
                State::Waiting => failed = Some((change.failures, now)),
                State::Resolving => {
                    let Some((failures, at)) = failed.take() else { return };
                    let mut tries = kept.lock().unwrap();
                    tries.waited.push((failures, now - at));
                    tries.seconds.push(now.as_secs());
                }
                _ => {}
            }
        };
        all.push(both.links.connect(dial("/echo"), handler).unwrap());
    }
    both.settle();
    pass(&mut both, 15 * SECOND);
    let are_open = |all: &[Link]| all.iter().filter(|link| link.state() == State::Open).count();
    assert_eq!(are_open(&all), COUNT);
    both.server = None;
    pass(&mut both, 15 * SECOND);
    assert_eq!(are_open(&all), 0);
    both.serve();
    let back = both.clock.elapsed();
    while are_open(&all) < COUNT {
        pass(&mut both, TICK);
        let away = both.clock.elapsed() - back;
        assert!(away <= 35 * SECOND, "{} are back after {away:?}", are_open(&all));
    }
    println!("all are back {:?} after the server", both.clock.elapsed() - back);
    let tries = tries.lock().unwrap();
    // The end of a connection that had held counts as no failure: retry n follows n failures.
    for retry in 0..5 {
        let waits = tries.waited.iter().filter(|(failures, _)| *failures == retry);
        let waits: Vec<Duration> = waits.map(|(_, wait)| *wait).collect();
        let window = 1 << retry;
        let mean = waits.len() as f64 / f64::from(window);
        let most = mean + 4.0 * mean.sqrt();
        let mut seconds = vec![0; window as usize];
        // The tick may put the last ones a little behind.
        let place = |wait: &Duration| (wait.as_secs() as usize).min(window as usize - 1);
        waits.iter().for_each(|wait| seconds[place(wait)] += 1);
        println!("retry {retry}: mean {mean:.0} a second, by second {seconds:?}");
        assert!(waits.len() >= 100 && waits.iter().all(|wait| *wait <= window * SECOND + TICK));
        assert!(seconds.iter().all(|count| f64::from(*count) <= most), "{seconds:?} of {most:.0}");
    }
}

/// A relay between clients and a server, which cuts connections anywhere: within frames, in both
/// directions, with what is under way lost.
struct Relay {
    address: SocketAddr,
    kills: Arc<AtomicUsize>,
}

impl Relay {
    fn new(server: SocketAddr, kills_max: usize) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kills = Arc::new(AtomicUsize::new(0));
        let counted = kills.clone();
        thread::spawn(move || {
            let mut rng = Rng::new(1);
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { return };
                // What an upgrade and a hello take, or a good deal more.
                let bytes = if rng.chance(20) { rng.below(1000) } else { rng.below(20_000) };
                let budget = match counted.load(Ordering::SeqCst) < kills_max {
                    true => bytes as usize,
                    false => usize::MAX,
                };
                relay(client, server, budget);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Relay { address, kills }
    }
}

/// Relays until so many bytes have passed, in both directions together; then resets both.
fn relay(client: TcpStream, server: TcpStream, budget: usize) {
    let left = Arc::new(Mutex::new(budget));
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let left = left.clone();
        move || {
            let mut buffer = [0; 512];
            while let Ok(len @ 1..) = from.read(&mut buffer) {
                let taken = {
                    let mut left = left.lock().unwrap();
                    let taken = len.min(*left);
                    *left -= taken;
                    taken
                };
                if to.write_all(&buffer[..taken]).is_err() || taken < len {
                    break;
                }
            }
            for stream in [&from, &to] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    };
    let up = copy(client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(up);
    copy(server, client)();
    up.join().unwrap();
}

/// What was published to a topic, as the server has it.
struct Published {
    subscription: Subscription,
    next: u64,
}

impl Published {
    fn check(&mut self) {
        while let Ok(heard) = self.subscription.try_receive() {
            let Heard::Event(event) = heard else { panic!("{heard:?}") };
            let number: u64 = event.payload.as_text().unwrap().parse().unwrap();
            assert_eq!(number, self.next, "published twice, out of order, or not at all");
            self.next += 1;
        }
    }
}

/// A client under load whose connection breaks again and again, anywhere: what it is subscribed to
/// comes once each, and so does what it publishes.
#[test]
fn a_connection_that_breaks_again_and_again_loses_nothing_and_doubles_nothing() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let kills_max = rounds.unwrap_or(60).min(100_000);
    let mut server_config = Config::default();
    server_config.set("topics.retain_events", "10000").unwrap();
    let server = Server::builder().config(server_config).hub("/ws").listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let handle = server.handle();
    let serving = thread::spawn(move || server.run().unwrap());
    let subscription = handle.subscribe("up", After::Now).unwrap();
    let mut published = Published { subscription, next: 0 };
    let relay = Relay::new(address, kills_max);
    let mut config = Config::default();
    for (key, value) in
        [("client.delay", "4ms"), ("client.delay_max", "4ms"), ("client.stable", "1ms")]
    {
        config.set(key, value).unwrap();
    }
    // What does not get as far as an upgrade counts as the server's fault.
    config.set("client.broken_for", "1ms").unwrap();
    let dial = Dial::to(&format!("ws://{}/ws", relay.address)).unwrap().topics();
    let (sender, events) = channel();
    let mut links = Links::new().unwrap();
    let handler = move |_: &Link, event: LinkEvent| sender.send(event).unwrap_or_default();
    let link = links.connect(dial.config(&config).unwrap(), handler).unwrap();
    let driving = thread::spawn(move || links.run().unwrap());
    link.subscribe("down", After::Position("0-0".parse().unwrap())).unwrap();
    let mut load = Load { handle, link, down: 0, heard: 0, up: 0, answered: 0 };
    let began = Instant::now();
    while relay.kills.load(Ordering::SeqCst) < kills_max || !load.is_settled() {
        assert!(began.elapsed() < Duration::from_secs(60) + TICK * kills_max as u32, "{load:?}");
        if relay.kills.load(Ordering::SeqCst) < kills_max {
            load.publish();
        }
        match events.recv_timeout(Duration::from_millis(1)) {
            Ok(event) => load.take(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
        events.try_iter().for_each(|event| load.take(event));
        published.check();
    }
    let late = Instant::now() + 10 * SECOND;
    while published.next < load.up && Instant::now() < late {
        published.check();
    }
    assert_eq!(published.next, load.up);
    println!("{load:?} over {kills_max} breaks in {:?}", began.elapsed());
    load.link.close().unwrap();
    driving.join().unwrap();
    load.handle.shut_down().unwrap();
    serving.join().unwrap();
}

struct Load {
    handle: Handle,
    link: Link,
    /// Events published to the client, and heard by it.
    down: u64,
    heard: u64,
    /// Events published by the client, and answered.
    up: u64,
    answered: u64,
}

impl Load {
    fn is_settled(&self) -> bool {
        (self.heard, self.answered) == (self.down, self.up)
    }

    fn publish(&mut self) {
        while self.down < self.heard + 40 {
            self.handle.publish("down", self.down.to_string()).unwrap();
            self.down += 1;
        }
        while self.up < self.answered + 40 {
            self.link.publish("up", self.up.to_string()).unwrap();
            self.up += 1;
        }
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Topic(TopicEvent::Event { topic, event }) => {
                assert_eq!(topic, "down");
                assert_eq!(
                    event.payload.as_text(),
                    Some(&*self.heard.to_string()),
                    "lost or twice"
                );
                self.heard += 1;
            }
            LinkEvent::Topic(TopicEvent::Published { .. }) => self.answered += 1,
            LinkEvent::Topic(
                TopicEvent::Ready | TopicEvent::Subscribed { .. } | TopicEvent::Pressure(_),
            )
            | LinkEvent::Degraded
            | LinkEvent::Alarm => {}
            LinkEvent::State(change) => {
                assert_ne!(change.state, State::Stopped, "{:?}", change.why);
            }
            event => panic!("{event:?}"),
        }
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Load { down, heard, up, answered, .. } = self;
        write!(f, "heard {heard} of {down}, answered {answered} of {up}")
    }
}
