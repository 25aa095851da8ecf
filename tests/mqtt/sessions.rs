//! Sessions against a broker that a test cuts off anywhere.
//!
//! `SEED=` runs one program, `ROUNDS=` sets how many there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use heartwheel::Payload;
use heartwheel::core::client::broker::{Heard, Login, Publication, Receipt, Version};
use heartwheel::core::client::{Purpose, Setup, State, Told, Why};
use heartwheel::core::topics::EventId;
use heartwheel::core::wire::target::Target;

use super::broker::{Broker, Old};
use super::common::rng::Rng;
use super::rig::{Rig, rules};
use super::seeds;

const WINDOW: u16 = 5;

pub fn login() -> Login {
    Login {
        client_id: "heartwheel-box-cloud".into(),
        user: Some("box".into()),
        password: Some(b"secret".to_vec()),
        version: Version::Auto,
        qos: 1,
        window: WINDOW,
        ack: Duration::from_secs(20),
        keep_alive: Duration::from_secs(30),
        filters: vec!["in/#".into()],
        packet_max: 1 << 20,
        node: "box".into(),
    }
}

pub fn rig(login: Login, seed: u64) -> Rig {
    let target = Target::broker("mqtt://10.0.0.1").unwrap();
    let mut setup = Setup::new(vec![target], rules(&[("client.broken_for", "10s")]));
    setup.purpose = Purpose::Broker(Arc::new(login));
    Rig::new(setup, seed, 1000)
}

/// A client, its broker, and what is between them.
struct World {
    rig: Rig,
    broker: Broker,
    rng: Rng,
    published: u32,
    /// How often the fate of each publication was told.
    fates: BTreeMap<u32, u32>,
    receipts: VecDeque<Receipt>,
    arrived: Vec<String>,
    is_connected: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let old = [Old::Knows5, Old::Knows5, Old::Answers, Old::Closes][rng.below(4) as usize];
        World {
            rig: rig(login(), seed),
            broker: Broker::new(old),
            rng,
            published: 0,
            fates: BTreeMap::new(),
            receipts: VecDeque::new(),
            arrived: Vec::new(),
            is_connected: false,
        }
    }

    fn publish(&mut self) {
        if self.rig.dialler.broker_room() == 0 {
            return;
        }
        let reference = self.published;
        self.published += 1;
        let topic = format!("out/{}", reference % 3);
        let payload = Payload::text(reference.to_string());
        let id = Some(EventId::new(reference.into(), 7));
        let publication = Publication { reference, topic, payload, id };
        let published =
            self.rig.act(|dialler, means| dialler.publish_to_broker(means, publication));
        published.expect("there is room");
        self.listen();
    }

    /// Goes on with connecting, one step.
    fn connect(&mut self) {
        match self.rig.dialler.state() {
            State::Waiting | State::Broken => {
                let at = self.rig.dialler.poll_timeout(self.rig.now()).unwrap();
                self.rig.now_ms = self.rig.now_ms.max(at.as_millis());
                self.rig.act(|dialler, means| dialler.timeout(means));
            }
            State::Connecting if !self.rig.tries.is_empty() => {
                let number = *self.rig.tries.first().unwrap();
                self.rig.act(|dialler, means| dialler.connected(means, number));
                self.broker.accept();
                self.is_connected = true;
            }
            _ => {}
        }
        self.look();
    }

    /// Carries bytes to the broker, and from it, at most so many.
    fn carry(&mut self, most: usize) {
        if !self.is_connected {
            return;
        }
        let before = self.rig.written.len();
        self.rig.write(most);
        let bytes = self.rig.written.split_off(before);
        self.broker.receive(&bytes);
        let len = self.broker.out.len().min(most);
        let bytes: Vec<u8> = self.broker.out.drain(..len).collect();
        if !bytes.is_empty() {
            self.rig.receive(&bytes);
        }
        if self.broker.is_closed && self.broker.out.is_empty() {
            self.cut();
        }
        self.look();
        assert!(self.broker.unanswered.len() <= usize::from(WINDOW), "the window is kept");
    }

    fn cut(&mut self) {
        self.rig.act(|dialler, means| dialler.lost(means, None));
        self.look();
    }

    /// Takes note of what the client has done and told.
    fn look(&mut self) {
        if self.is_connected && !self.rig.is_kept {
            self.is_connected = false;
            self.broker.cut();
        }
        self.listen();
    }

    fn listen(&mut self) {
        for told in std::mem::take(&mut self.rig.told) {
            match told {
                Told::Broker(Heard::Acked(reference)) => {
                    *self.fates.entry(reference).or_default() += 1;
                }
                Told::Broker(Heard::Came(arrival)) => {
                    self.arrived.push(arrival.payload.as_text().unwrap().to_owned());
                    self.receipts.extend(arrival.receipt);
                }
                Told::Broker(Heard::Accepted) => {}
                Told::Broker(other) => panic!("{other:?}"),
                Told::State { why: Some(Why::Stopped), .. } => panic!("it stops"),
                _ => {}
            }
        }
        let pending = self.published as usize - self.fates.len();
        assert!(pending <= usize::from(WINDOW));
        assert!(self.rig.dialler.poll_timeout(self.rig.now()).is_some(), "there is a deadline");
    }

    fn acknowledge(&mut self) {
        if let Some(receipt) = self.receipts.pop_front() {
            self.rig.act(|dialler, means| dialler.acknowledge_to_broker(means, receipt));
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..20 => self.publish(),
            20..35 => self.broker.acknowledge(),
            35..45 => self.acknowledge(),
            45..50 => {
                let n = self.rng.next_u64();
                self.broker.queue.push_back(n.to_string().into_bytes());
            }
            50..55 => self.broker.publish(3),
            55..80 => {
                let most = 1 + self.rng.below(60) as usize;
                self.carry(most);
            }
            80..96 => self.connect(),
            96 => self.cut(),
            _ => {
                let until = self.rig.now_ms + self.rng.below(40_000);
                self.rig.pass_to(until);
                self.look();
            }
        }
    }
}

#[test]
fn nothing_is_lost_however_connections_break() {
    for seed in seeds(400) {
        let mut world = World::new(seed);
        let mut queued = Vec::new();
        for _ in 0..400 {
            world.step();
            queued = merged(queued, &world.broker);
        }
        for _ in 0..2000 {
            world.connect();
            world.carry(1000);
            world.broker.acknowledge();
            world.broker.publish(3);
            world.acknowledge();
            world.publish_if(world.published < 30);
        }
        assert_eq!(world.fates.len() as u32, world.published, "seed {seed}: all have a fate");
        assert!(world.fates.values().all(|count| *count == 1), "seed {seed}: told once");
        let mut last = BTreeMap::<&str, u32>::new();
        let mut seen = vec![0; world.published as usize];
        for (topic, payload, _) in &world.broker.got {
            let n: u32 = std::str::from_utf8(payload).unwrap().parse().unwrap();
            if seen[n as usize] == 0 {
                let before = last.insert(topic, n);
                assert!(before.is_none_or(|before| before < n), "seed {seed}: order");
            }
            seen[n as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0), "seed {seed}: each has arrived");
        assert!(world.broker.sent.is_empty() && world.broker.queue.is_empty(), "seed {seed}");
        for payload in &queued {
            assert!(world.arrived.contains(payload), "seed {seed}: {payload} has not come");
        }
    }
}

/// Adds what a broker has been given for its client to what it was given before.
fn merged(mut all: Vec<String>, broker: &Broker) -> Vec<String> {
    for payload in broker.queue.iter().chain(broker.sent.values()) {
        let payload = String::from_utf8(payload.clone()).unwrap();
        if !all.contains(&payload) {
            all.push(payload);
        }
    }
    all
}

impl World {
    fn publish_if(&mut self, wanted: bool) {
        if wanted {
            self.publish();
        }
    }

    fn up(mut self) -> World {
        for _ in 0..20 {
            self.connect();
            self.carry(10_000);
            if self.rig.dialler.state() == State::Open {
                // What follows from that.
                self.carry(10_000);
                return self;
            }
        }
        panic!("it does not connect");
    }
}

fn world(old: Old) -> World {
    let mut world = World::new(7);
    world.broker = Broker::new(old);
    world
}

#[test]
fn a_broker_that_knows_no_version_5_is_spoken_to_in_3_1_1() {
    for (old, is_five) in [(Old::Knows5, true), (Old::Answers, false), (Old::Closes, false)] {
        let mut world = world(old).up();
        assert_eq!(world.broker.is_five, is_five, "{old:?}");
        world.cut();
        let world = world.up();
        assert_eq!(world.broker.is_five, is_five, "{old:?}: it is remembered");
    }
}

#[test]
fn a_session_that_the_broker_has_kept_is_not_subscribed_again() {
    let mut world = world(Old::Knows5).up();
    world.carry(1000);
    assert_eq!(world.broker.subscriptions, 1);
    world.cut();
    world = world.up();
    world.carry(1000);
    assert_eq!(world.broker.subscriptions, 1);
    world.cut();
    world.broker.forget();
    world = world.up();
    world.carry(1000);
    assert_eq!(world.broker.subscriptions, 2);
}

#[test]
fn what_was_sent_before_is_sent_again_as_such() {
    let mut world = world(Old::Knows5).up();
    world.publish();
    world.carry(1000);
    world.cut();
    world.publish();
    world = world.up();
    world.carry(1000);
    let again: Vec<bool> = world.broker.got.iter().map(|(_, _, again)| *again).collect();
    assert_eq!(again, [false, true, false]);
    assert!(world.fates.is_empty());
    world.broker.acknowledge();
    world.broker.acknowledge();
    world.carry(1000);
    assert_eq!(world.fates, BTreeMap::from([(0, 1), (1, 1)]));
}

/// Returns why the connection ended, and after how long, if the broker says nothing any more.
fn silent(mut world: World) -> (Why, u64) {
    let began = world.rig.now_ms;
    for _ in 0..100 {
        let at = world.rig.dialler.poll_timeout(world.rig.now()).unwrap();
        world.rig.now_ms = world.rig.now_ms.max(at.as_millis());
        world.rig.act(|dialler, means| dialler.timeout(means));
        world.rig.write_all();
        for told in std::mem::take(&mut world.rig.told) {
            if let Told::State { why: Some(why), .. } = told {
                return (why, world.rig.now_ms - began);
            }
        }
    }
    panic!("nothing ends it");
}

#[test]
fn each_silence_has_an_end() {
    // A ping after 30 s, the end after 45.
    let (why, ms) = silent(world(Old::Knows5).up());
    assert_eq!(why, Why::Silent);
    assert!((45_000..45_100).contains(&ms), "{ms}");

    let mut unanswered = world(Old::Knows5).up();
    unanswered.publish();
    unanswered.carry(1000);
    let (why, ms) = silent(unanswered);
    assert_eq!(why, Why::Lost("no acknowledgement in time".into()));
    assert!((20_000..20_100).contains(&ms), "{ms}");

    // Half a packet.
    let mut half = world(Old::Knows5).up();
    half.rig.receive(&[0x30, 200, 1, 0]);
    let (why, ms) = silent(half);
    assert_eq!(why, Why::Message);
    assert!((30_000..30_100).contains(&ms), "{ms}");

    // No answer to the first packet.
    let mut mute = world(Old::Knows5);
    while mute.rig.dialler.state() != State::Upgrading {
        mute.connect();
    }
    let (why, ms) = silent(mute);
    assert_eq!(why, Why::TimedOut(State::Upgrading));
    assert!((5_000..5_100).contains(&ms), "{ms}");
}

#[test]
fn a_broker_that_is_not_read_is_not_judged() {
    // Version 3.1.1 has no bound of its own for what is on its way.
    let mut world = world(Old::Answers).up();
    (0..1024).for_each(|n| world.broker.queue.push_back(n.to_string().into_bytes()));
    world.broker.publish(1024);
    world.carry(1 << 20);
    assert_eq!(world.receipts.len(), 1024);
    assert!(!world.rig.dialler.wants_read(), "too much waits here");
    for _ in 0..20 {
        world.rig.pass_to(world.rig.now_ms + 10_000);
        world.rig.write_all();
        assert_eq!(world.rig.dialler.state(), State::Open);
    }
    world.acknowledge();
    assert!(world.rig.dialler.wants_read());
    world.rig.pass_to(world.rig.now_ms + 1000);
    assert_eq!(world.rig.dialler.state(), State::Open, "its spans begin anew");
}

#[test]
fn a_stop_is_said() {
    let mut world = world(Old::Knows5).up();
    world.rig.act(|dialler, means| dialler.stop(means, 1000, ""));
    world.carry(1000);
    assert_eq!(world.broker.disconnects, 1);
    assert_eq!(world.rig.dialler.state(), State::Closing);
    world.rig.act(|dialler, means| dialler.lost(means, None));
    assert_eq!(world.rig.dialler.state(), State::Stopped);
}

#[test]
fn quality_0_is_told_when_it_is_sent() {
    let mut world = world(Old::Knows5);
    world.rig = rig(Login { qos: 0, ..login() }, 7);
    world.publish();
    assert!(world.fates.is_empty(), "there is no connection");
    world = world.up();
    world.publish();
    assert_eq!(world.fates, BTreeMap::from([(0, 1), (1, 1)]));
    world.carry(1000);
    assert_eq!(world.broker.got.len(), 2);
    assert!(world.broker.unanswered.is_empty());
}

#[test]
fn echoes_do_not_come_in() {
    // Version 3.1.1 sends a client what it has published itself.
    let mut world = world(Old::Answers).up();
    let publication =
        Publication { reference: 0, topic: "in/x".into(), payload: Payload::text("own"), id: None };
    world.rig.act(|dialler, means| dialler.publish_to_broker(means, publication)).unwrap();
    world.published = 1;
    for payload in ["own", "other", "own"] {
        world.broker.queue.push_back(payload.into());
    }
    for _ in 0..10 {
        world.broker.publish(3);
        world.carry(1000);
        world.broker.acknowledge();
        world.acknowledge();
    }
    assert_eq!(world.arrived, ["other", "own"], "one echo each");
    assert!(world.broker.sent.is_empty(), "the echo is acknowledged, too");
}
