//! The whole engine: the input says what peers send and how much they read, what handlers do, what
//! is published, and how time passes.
//!
//! After each turn: a deadline for each connection and not too far away, a socket for each, no
//! connection lost from the books, nothing said that is not HTTP, frames or an event stream. Turns
//! without time passing come to rest, and a turn at rest changes nothing. In the end all peers fall
//! silent, and the engine must become empty by its deadlines alone; then the books balance, and
//! every handler that was told of a beginning has been told of the end.

mod application;
mod requests;
mod said;
mod socket;
mod turn;

use std::collections::VecDeque;

use heartwheel::ConnectionId;
use heartwheel::config::Config;
use heartwheel::core::admission::credentials::Credentials;
use heartwheel::core::contract::event::{Command, Done, Job};
use heartwheel::core::contract::route::{Face, Placement};
use heartwheel::core::engine::{Action, Engine, Readiness, Setup, Step};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::observe::figures::Surroundings;
use heartwheel::core::transport::Transport;
use heartwheel::topics::After;

use super::source::Source;
use application::Application;
use requests::{POSITIONS, TOPICS};
use socket::{Edge, Socket};

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let mut world = World::new(&mut source);
    for _ in 0..STEPS_MAX {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
    }
    world.end();
}

/// A run: the engine, and what surrounds it.
struct World {
    engine: Engine,
    outside: Outside,
    now: u64,
    /// Something was put in since the last turn, which thus is wanted.
    has_news: bool,
    was_shut_down: bool,
}

struct Outside {
    /// By slot.
    sockets: Vec<Option<Socket>>,
    /// With the workers.
    jobs: VecDeque<Job>,
    application: Application,
    shared: Vec<u8>,
    expiries_per_turn: usize,
    /// Steps that this turn may still take.
    steps_left: usize,
    read_bytes: u64,
    written_bytes: u64,
}

impl World {
    fn new(source: &mut Source) -> World {
        let setup = Setup {
            config: config(source),
            routes: requests::routes().into_iter().map(Into::into).collect(),
            machine_name: "here".into(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: UNIX_MS,
        };
        let engine = Engine::new(setup);
        let now = source.pick(&[0, (1 << 32) - 5000, (1 << 33) - 50_000]);
        let outside = Outside {
            sockets: Vec::new(),
            jobs: VecDeque::new(),
            application: Application::default(),
            shared: vec![0; source.pick(&[65_536, 1000])],
            expiries_per_turn: source.pick(&[1024, 1]),
            steps_left: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        World { engine, outside, now, has_news: false, was_shut_down: false }
    }

    fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// Lets one thing happen; a turn follows unless more is to happen at once.
    fn step(&mut self, source: &mut Source) {
        let step = source.byte();
        self.has_news = true;
        match step % 16 {
            0 | 1 => self.accept(source),
            2 | 3 => self.send(source, requests::request),
            4 | 5 => self.send(source, requests::frame),
            6 => self.send(source, requests::hub_message),
            7 => self.send(source, |source| source.text().into()),
            8 => self.disturb(source),
            9..=11 => self.pass(source),
            12 => self.do_job(source),
            13 => self.command(source),
            14 => self.publish(source),
            _ => self.upheave(source),
        }
        if step < 128 {
            self.turn(source);
        }
    }

    fn accept(&mut self, source: &mut Source) {
        let is_over = self.engine.is_draining() || self.was_shut_down;
        if is_over || self.engine.len() >= CONNECTIONS_MAX {
            return;
        }
        let face = source.pick(&[Face::Public, Face::Public, Face::Public, Face::Admin]);
        let address = source.chance(200).then(|| ([127, 0, 0, 1], 1000).into());
        let Ok(id) = self.engine.accept(self.at(), face, address) else { return };
        let key = slot(id);
        if self.outside.sockets.len() <= key {
            self.outside.sockets.resize_with(key + 1, || None);
        }
        assert!(
            self.outside.sockets[key].replace(Socket::new()).is_none(),
            "a slot is used by one"
        );
        if source.chance(128) {
            self.outside.sockets[key]
                .as_mut()
                .expect("it is there")
                .send(&requests::request(source));
        }
    }

    fn pick_socket(&mut self, source: &mut Source) -> Option<&mut Socket> {
        let index = source.below(256).checked_rem(self.engine.len())?;
        self.outside.sockets.iter_mut().flatten().nth(index)
    }

    fn send(&mut self, source: &mut Source, make: impl Fn(&mut Source) -> Vec<u8>) {
        let Some(socket) = self.pick_socket(source) else { return };
        let bytes = make(source);
        // Sometimes not all of it.
        let cut = usize::from(source.byte());
        let length = if cut == 0 { bytes.len() } else { bytes.len() * cut / 256 };
        socket.send(&bytes[..length]);
    }

    fn disturb(&mut self, source: &mut Source) {
        let Some(socket) = self.pick_socket(source) else { return };
        match source.below(8) {
            0 => socket.end(),
            1 => socket.reset(),
            2 => socket.set_room(0),
            3 => socket.set_room(1 + source.below(256)),
            4 => socket.set_room(usize::MAX),
            5 => socket.set_piece_max(1 + source.below(40)),
            6 => socket.raise(Edge { readable: true, ..Edge::default() }),
            _ => socket.raise(Edge { writable: true, ..Edge::default() }),
        }
    }

    /// Lets time pass, with a turn whenever one is due.
    fn pass(&mut self, source: &mut Source) {
        let until = self.now + source.pick(&[0, 1, 50, 700, 3000, 11_000, 31_000]);
        for _ in 0..TURNS_MAX {
            self.rest(source);
            match self.engine.poll_timeout().map(|at| at.as_millis()) {
                Some(at) if at <= until => self.now = at,
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("more turns than deadlines");
    }

    fn do_job(&mut self, source: &mut Source) {
        let index = source.below(256).checked_rem(self.outside.jobs.len());
        let Some(job) = index.and_then(|index| self.outside.jobs.remove(index)) else { return };
        self.with(source, |engine, now, world| world.take_back(engine, now, job));
    }

    fn command(&mut self, source: &mut Source) {
        let Some(id) = self.outside.application.pick(source) else { return };
        let topic = source.pick(&TOPICS).to_owned();
        let command = match source.below(5) {
            0 => Command::Send(id, source.text().into()),
            1 => Command::Close(id, 4001, "go".into()),
            2 => {
                let after = source.pick(&POSITIONS);
                let after = if source.chance(128) { After::Now } else { After::parse(after) };
                Command::Subscribe(id, topic, after)
            }
            3 => Command::Unsubscribe(id, topic),
            _ => Command::Kick(id),
        };
        self.give(command, source);
    }

    fn publish(&mut self, source: &mut Source) {
        let topic = source.pick(&TOPICS).to_owned();
        let payload = match source.below(3) {
            0 => source.text().into(),
            1 => vec![source.byte(); 300].into(),
            _ => "event\n".repeat(200).into(),
        };
        self.give(Command::Publish(topic, payload), source);
    }

    fn upheave(&mut self, source: &mut Source) {
        match source.below(8) {
            0 => self.give(Command::Drain, source),
            1 => {
                self.was_shut_down = true;
                self.give(Command::Shutdown, source);
            }
            2 => self.engine.handle_time_jump(self.at()),
            3 => self.give(Command::Shed(0.5), source),
            4 | 5 => {
                self.give(Engine::reload_command(config(source), Credentials::default()), source)
            }
            // Late, whatever was due.
            _ => self.now += source.pick(&[1, 400, 20_000, 100_000]),
        }
    }

    /// Lets all peers fall silent and take nothing, and sees everything end.
    fn end(&mut self) {
        let nothing = &mut Source::new(&[]);
        self.outside.sockets.iter_mut().flatten().for_each(Socket::vanish);
        let until = self.now + END_MS_MAX;
        for _ in 0..TURNS_MAX {
            while !self.outside.jobs.is_empty() {
                self.do_job(nothing);
                self.has_news = true;
            }
            self.rest(nothing);
            match self.engine.poll_timeout().map(|at| at.as_millis()) {
                _ if !self.outside.jobs.is_empty() => {}
                Some(at) => self.now = at,
                None => return self.check_end(),
            }
            let left = self.engine.len();
            assert!(self.now <= until, "{left} connections do not end");
        }
        panic!("more turns than deadlines");
    }
}

/// Draws a configuration without a fault: some keys of it, from a few values each.
fn config(source: &mut Source) -> Config {
    let mut config = Config::default();
    for (key, values) in CHOICES {
        config.set(key, source.pick(values)).expect("a good value");
    }
    let report = config.check();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    config
}

fn slot(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}

const CHOICES: &[(&str, &[&str])] = &[
    ("tick", &["50ms", "1ms", "1s"]),
    ("turn.bytes", &["256k", "4k", "200"]),
    ("heartbeat.interval", &["5s", "1s", "off"]),
    ("heartbeat.pong", &["2s", "300ms"]),
    ("heartbeat.max_missed", &["3", "1"]),
    ("heartbeat.adaptive", &["false", "true"]),
    ("heartbeat.min", &["1s"]),
    ("heartbeat.comment", &["15s", "1s"]),
    ("deadlines.read_idle", &["20s", "6s"]),
    ("deadlines.lifetime", &["off", "10s"]),
    ("deadlines.preset", &["balanced", "strict"]),
    ("limits.connections", &["10000", "2"]),
    ("limits.message_bytes", &["64k", "100"]),
    ("limits.fragments", &["1024", "2"]),
    ("limits.inbox_messages", &["64", "1"]),
    ("limits.inbox_bytes", &["256k", "100"]),
    ("limits.outbox_bytes", &["256k", "5000", "200"]),
    ("limits.messages_per_second", &["0", "2"]),
    ("limits.bytes_per_second", &["0", "300"]),
    ("limits.rate_action", &["pause", "close"]),
    ("limits.send_per_second", &["0", "1"]),
    ("limits.topics", &["1024", "1"]),
    ("limits.subscriptions", &["64", "1"]),
    ("overflow.policy", &["close", "drop_newest", "drop_oldest", "latest"]),
    ("topics.retain_events", &["256", "2", "1"]),
    ("topics.retain_for", &["40s", "1s"]),
];

const UNIX_MS: u64 = 1_700_000_000_000;
const STEPS_MAX: usize = 300;
const CONNECTIONS_MAX: usize = 12;
/// Of one passage of time: far more than there are deadlines in it.
const TURNS_MAX: usize = 50_000;
/// No chain of deadlines is longer, though one read of small messages may be handled at two a
/// second.
const END_MS_MAX: u64 = 6_000_000;
