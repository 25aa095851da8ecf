//! A node: the engine, the follower, and what the threads of a node do in between, as steps in a
//! time of the test's own. What it says to Redis and hears from it goes through the real codec.

use std::collections::VecDeque;
use std::time::Duration;

use heartwheel::core::cluster::{
    BEGIN_EPOCH, CLAIM, Findings, Follower, JOIN, Keys, LOOK, Outcome, PUBLISH, REGISTER, Reason,
    UNDER_WAY_MAX, Verdict, publish_parts, read_nodes, read_place, said_of,
};
use heartwheel::core::contract::backbone::{Logged, Node as Row, Publication};
use heartwheel::core::contract::event::Command;
use heartwheel::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use heartwheel::core::engine::{Engine, Served, Setup};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::wire::resp::{Decoder, Value, write_command};
use heartwheel::{Config, ConnectionId};

use crate::common::rng::Rng;
use crate::memory;
use crate::redis::Redis;
use crate::wires::Wires;

pub struct Node {
    /// Its name is `n` and this; what it allocates is counted for this and one.
    pub index: usize,
    process: String,
    engine: Engine,
    pub wires: Wires,
    follower: Follower,
    keys: Keys,
    retain: u64,
    rng: Rng,
    link: Link,
    reader: Reader,
    writer: Writer,
    pub cost: Cost,
}

/// What a node has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time of the engine, the follower and the codec.
    pub cpu: Duration,
    /// Events that were read from the log.
    pub read: u64,
    /// Publications that the log has taken.
    pub published: u64,
    pub repeated: u64,
    pub refused: u64,
    pub unknown: u64,
    pub commands: u64,
    pub to_redis: u64,
    pub from_redis: u64,
}

/// The way to Redis.
struct Link {
    decoder: Decoder,
    sent: Vec<u8>,
    answers: Vec<u8>,
    cost: Cost,
}

#[derive(Default)]
struct Reader {
    is_reached: bool,
    is_warned: bool,
    retry_at: u64,
    failures: u32,
    /// When XREAD was sent that waits.
    waits_since: Option<u64>,
    looked_at: u64,
    has_more: bool,
    is_stuck: bool,
    /// Nothing comes before this moment: what is on its way is swallowed.
    pub stalled_until: u64,
}

#[derive(Default)]
struct Writer {
    waiting: VecDeque<Waiting>,
    under_way: VecDeque<Waiting>,
    /// In which epoch it publishes, while it is connected.
    epoch: Option<u16>,
    retry_at: u64,
    failures: u32,
    register_at: u64,
    claim_at: u64,
}

struct Waiting {
    publication: Publication,
    since: u64,
    sent_in: Option<u16>,
    is_sent_again: bool,
}

/// Redis cannot be reached, or the connection has broken.
struct Away;

/// What happens on the way to Redis in a step.
pub struct Weather {
    pub is_reachable: bool,
    /// In so many of 100 batches the connection breaks with answers on their way.
    pub cuts: u64,
}

impl Node {
    pub fn new(index: usize, seed: u64, unix_ms: u64, sizes: &crate::run::Sizes) -> Node {
        let most = sizes.connections * 2 + 64;
        let wires = Wires::new(most);
        let node = memory::within(index + 1, || Node::make(index, seed, unix_ms, sizes));
        Node { wires, ..node }
    }

    fn make(index: usize, seed: u64, unix_ms: u64, sizes: &crate::run::Sizes) -> Node {
        let config = config(sizes);
        let retain = config.cluster.retain_events;
        let route = RouteSpec {
            path: "/ws".into(),
            kind: RouteKind::Hub,
            placement: Placement::Inline,
            face: Face::Public,
            is_open: false,
            authorizes: false,
            wants_pongs: false,
            wants_drained: false,
            protocols: vec!["heartwheel.v1".into()],
            piecewise: None,
            has_hook: false,
            changes: Vec::new(),
        };
        let routes = vec![Served::from(route)];
        let (machine_name, memory_auto) = ("here".into(), u64::MAX);
        let setup = Setup { config, routes, machine_name, memory_auto, seed, unix_ms };
        let mut engine = Engine::new(setup);
        engine.follow_log_when_reached(Instant::from_millis(0));
        let process = format!("{seed:016x}");
        Node {
            index,
            follower: Follower::new(&process),
            process,
            engine,
            wires: Wires::default(),
            keys: Keys::new("heartwheel"),
            retain,
            rng: Rng::new(seed ^ 0xc1a5),
            link: Link {
                decoder: Decoder::new(1 << 21, 1 << 22),
                sent: Vec::new(),
                answers: Vec::new(),
                cost: Cost::default(),
            },
            reader: Reader::default(),
            writer: Writer::default(),
            cost: Cost::default(),
        }
    }

    /// Does work of the node's, and counts what it costs.
    fn work<T>(&mut self, work: impl FnOnce(&mut Node) -> T) -> T {
        let began = cpu_time();
        let done = memory::within(self.index + 1, || work(self));
        self.cost.cpu += cpu_time() - began;
        done
    }

    pub fn accept(&mut self, now: u64) -> Option<ConnectionId> {
        let accept =
            |node: &mut Node| node.engine.accept(Instant::from_millis(now), Face::Public, None);
        let id = self.work(accept).ok()?;
        self.wires.begin(slot(id));
        Some(id)
    }

    /// Has what is on its way to the reader be swallowed until then.
    pub fn stall(&mut self, until: u64) {
        self.reader.stalled_until = until;
    }

    pub fn connections(&self) -> usize {
        self.engine.len()
    }

    pub fn gaps(&self) -> [usize; 5] {
        self.follower.counts().gaps
    }

    /// Does what is due at this moment.
    pub fn step(&mut self, now: u64, redis: &mut Redis, weather: &Weather) {
        let unix_ms = redis.unix_ms;
        let is_due = self.engine.poll_timeout().is_some_and(|at| at.as_millis() <= now);
        if is_due || self.engine.has_work_left() || self.wires.has_work() {
            self.turn(now, unix_ms);
        }
        if self.is_idle(now, redis, weather) {
            return;
        }
        self.work(|node| {
            let mut told = Vec::new();
            node.read(now, redis, weather, &mut told);
            node.write(now, redis, weather, &mut told);
            for logged in told {
                let command = Command::Logged(Box::new(logged));
                let now = Instant::from_millis(now);
                node.engine.take_command(now, &mut node.wires, None, command);
            }
        });
        let Cost { cpu, commands, to_redis, from_redis, .. } = std::mem::take(&mut self.link.cost);
        self.cost.cpu = self.cost.cpu.saturating_sub(cpu);
        self.cost.commands += commands;
        self.cost.to_redis += to_redis;
        self.cost.from_redis += from_redis;
        self.turn(now, unix_ms);
    }

    fn turn(&mut self, now: u64, unix_ms: u64) {
        self.work(|node| {
            for turns in 0.. {
                assert!(turns < 10_000, "the loop spins");
                let at = Instant::from_millis(now);
                node.engine.turn(at, unix_ms, &mut node.wires);
                while let Some(publication) = node.engine.poll_publication() {
                    node.take(now, publication);
                }
                if !node.engine.has_work_left() && !node.wires.has_work() {
                    break;
                }
            }
        });
    }

    /// Says whether both threads would sleep.
    fn is_idle(&self, now: u64, redis: &Redis, weather: &Weather) -> bool {
        let Reader { is_reached, waits_since, stalled_until, .. } = self.reader;
        let seen = self.follower.seen().map(|seen| seen.id);
        let waits = waits_since.is_some_and(|since| now < since + BLOCK);
        is_reached
            && weather.is_reachable
            && (waits && seen >= Some(redis.last()) || now < stalled_until)
            && self.writer.waiting.is_empty()
            && self.writer.under_way.is_empty()
            && self.writer.epoch.is_some()
            && now < self.writer.register_at.min(self.writer.claim_at)
    }

    // -- The thread that reads ---------------------------------------------------------------

    fn read(&mut self, now: u64, redis: &mut Redis, weather: &Weather, told: &mut Vec<Logged>) {
        if !weather.is_reachable {
            return self.lose(now, told);
        }
        if now < self.reader.stalled_until {
            return;
        }
        if !self.reader.is_reached {
            if now < self.reader.retry_at {
                return;
            }
            if self.follow(now, redis, told).is_err() {
                return self.lose(now, told);
            }
        }
        if self.read_entries(now, redis, told).is_err() {
            self.lose(now, told);
        }
    }

    /// The connection is not there any more, or not yet.
    fn lose(&mut self, now: u64, told: &mut Vec<Logged>) {
        if now < self.reader.retry_at && !self.reader.is_reached {
            return;
        }
        if std::mem::take(&mut self.reader.is_reached) || !self.reader.is_warned {
            self.reader.is_warned = true;
            told.push(Logged::Reached(false));
        }
        self.reader.waits_since = None;
        self.reader.retry_at = now + backoff(&mut self.rng, &mut self.reader.failures);
    }

    /// Connects: looks at the log, and begins or goes on.
    fn follow(&mut self, now: u64, redis: &mut Redis, told: &mut Vec<Logged>) -> Result<(), Away> {
        let (found, verdict) = self.look(redis, false)?;
        match self.follower.seen() {
            None => self.join(redis, &found, told)?,
            Some(_) => self.follow_verdict(&found, &verdict, told),
        }
        told.push(Logged::Reached(true));
        let reader = &mut self.reader;
        (reader.is_reached, reader.is_warned, reader.failures) = (true, false, 0);
        (reader.looked_at, reader.waits_since) = (now, None);
        Ok(())
    }

    fn join(
        &mut self,
        redis: &mut Redis,
        found: &Findings,
        told: &mut Vec<Logged>,
    ) -> Result<(), Away> {
        let epoch = found.epoch.as_ref().ok_or(Away)?;
        let numbers = [epoch.first.to_string(), epoch.number.to_string()];
        let parts = [JOIN, "1", &self.keys.log, &numbers[0], &numbers[1], "4096", "4194304"];
        let answer = self.link.eval(redis, &parts);
        let text = |place: usize| answer.list().and_then(|list| list.get(place)?.text());
        let oldest = text(0).and_then(|id| id.parse().ok());
        let follower = &mut self.follower;
        let gap = match (oldest, text(1).and_then(read_place)) {
            (Some(oldest), Some((number, 0))) => {
                follower.go_to(number, oldest, Some(0), Reason::Joined)
            }
            (Some(oldest), Some((number, count))) => {
                follower.go_to(number, oldest.before(), Some(count - 1), Reason::Joined)
            }
            _ => follower.go_to(epoch.number, epoch.last, Some(epoch.count), Reason::Joined),
        };
        told.extend(gap);
        Ok(())
    }

    fn follow_verdict(&mut self, found: &Findings, verdict: &Verdict, told: &mut Vec<Logged>) {
        self.reader.is_stuck = false;
        self.reader.has_more = self.follower.seen().is_some_and(|seen| found.has_more_than(seen));
        if let (Verdict::Skip(last), Some(epoch)) = (verdict, &found.epoch) {
            let count = Some(epoch.count);
            told.extend(self.follower.go_to(epoch.number, *last, count, Reason::Trimmed));
        }
    }

    /// Looks at the log, and begins a new epoch if need be.
    fn look(&mut self, redis: &mut Redis, is_stuck: bool) -> Result<(Findings, Verdict), Away> {
        for _ in 0..8 {
            let seen = self.follower.seen().copied();
            let parts = [LOOK, "2", &self.keys.epoch, &self.keys.log];
            let found = Findings::read(&self.link.eval(redis, &parts)).map_err(|_| Away)?;
            let (before, reason) = match found.judge(seen.as_ref(), is_stuck) {
                Verdict::Begin { before, reason } => (before, reason),
                verdict => return Ok((found, verdict)),
            };
            let number = match before.parse::<u16>() {
                Ok(before) => before.wrapping_add(1),
                Err(_) => self.rng.next_u64() as u16,
            };
            let last_ms = seen.map_or(0, |seen| seen.id.ms).to_string();
            let number = number.to_string();
            let Keys { epoch, log, .. } = &self.keys;
            let replication_id = &found.replication_id;
            let parts = [
                BEGIN_EPOCH,
                "2",
                epoch,
                log,
                &before,
                &number,
                replication_id,
                &last_ms,
                reason.label(),
            ];
            self.link.eval(redis, &parts);
        }
        Err(Away)
    }

    /// Asks for entries until there are none, and then waits for the next. Looks at the log now and
    /// then.
    fn read_entries(
        &mut self,
        now: u64,
        redis: &mut Redis,
        told: &mut Vec<Logged>,
    ) -> Result<(), Away> {
        loop {
            // What waits is answered with the first entry that comes.
            let count = if self.reader.waits_since.is_some() { 1 } else { COUNT };
            if self.reader.waits_since.is_none() && now >= self.reader.looked_at + BLOCK {
                self.reader.looked_at = now;
                let (found, verdict) = self.look(redis, self.reader.is_stuck)?;
                self.follow_verdict(&found, &verdict, told);
            }
            let Some(seen) = self.follower.seen().copied() else { return Ok(()) };
            if self.reader.waits_since.is_none() {
                let (log, last) = (self.keys.log.clone(), seen.id.to_string());
                self.link.say(&["XREAD", "COUNT", "512", "BLOCK", "5000", "STREAMS", &log, &last]);
                self.reader.waits_since = Some(now);
            }
            let is_over = self.reader.waits_since.is_some_and(|since| now >= since + BLOCK);
            let answer = self.link.hear(|out| match redis.read(seen.id, count, out) {
                0 if is_over => out.extend_from_slice(b"*-1\r\n"),
                _ => {}
            });
            let Some(answer) = answer else { return Ok(()) };
            self.reader.waits_since = None;
            let entries = match answer.list() {
                Some([stream]) => stream.list().expect("it is a list")[1].list().unwrap(),
                _ => &[],
            };
            for entry in entries {
                self.follower.take(entry, |logged| told.push(logged));
            }
            self.cost.read += entries.len() as u64;
            self.reader.is_stuck = self.reader.has_more && entries.is_empty();
            self.reader.has_more = false;
        }
    }

    // -- The thread that writes --------------------------------------------------------------

    fn take(&mut self, now: u64, publication: Publication) {
        match self.reader.is_reached {
            true => {
                let (sent_in, is_sent_again) = (None, false);
                let waiting = Waiting { publication, since: now, sent_in, is_sent_again };
                self.writer.waiting.push_back(waiting);
            }
            // `cluster.offline` is `refuse`.
            false => {
                self.cost.refused += 1;
                let refused = Box::new(Logged::Refused(publication.ticket));
                let now = Instant::from_millis(now);
                self.engine.take_command(now, &mut self.wires, None, Command::Logged(refused));
            }
        }
    }

    fn write(&mut self, now: u64, redis: &mut Redis, weather: &Weather, told: &mut Vec<Logged>) {
        if !self.reader.is_reached {
            (self.writer.epoch, self.writer.failures, self.writer.retry_at) = (None, 0, now);
        } else if self.writer.epoch.is_none() && now >= self.writer.retry_at {
            self.renew(redis);
        }
        self.publish(now, redis, weather, told);
        self.give_up(now, told);
        self.register(now, redis, told);
    }

    /// Looks at the log, and leaves the script with Redis.
    fn renew(&mut self, redis: &mut Redis) {
        let Ok((found, _)) = self.look(redis, false) else { return };
        self.link.ask(redis, &[b"SCRIPT", b"LOAD", PUBLISH.as_bytes()]);
        self.writer.epoch = Some(found.epoch.map_or(0, |epoch| epoch.number));
    }

    fn publish(&mut self, now: u64, redis: &mut Redis, weather: &Weather, told: &mut Vec<Logged>) {
        while let Some(epoch) = self.writer.epoch {
            self.leave_behind(epoch, told);
            while self.writer.under_way.len() < UNDER_WAY_MAX
                && let Some(next) = self.writer.waiting.pop_front()
            {
                self.writer.under_way.push_back(next);
            }
            let count = self.writer.under_way.len();
            if count == 0 {
                return;
            }
            let mut outcomes = Vec::with_capacity(count);
            for waiting in &mut self.writer.under_way {
                waiting.is_sent_again = waiting.sent_in.is_some();
                waiting.sent_in = Some(epoch);
                let (producer, parts) =
                    publish_parts(&self.process, &waiting.publication, self.retain);
                let producer = self.keys.producer(&producer.name);
                let number = epoch.to_string();
                let head: [&[u8]; 7] = [
                    b"EVALSHA",
                    crate::redis::SCRIPT.as_bytes(),
                    b"3",
                    self.keys.epoch.as_bytes(),
                    self.keys.log.as_bytes(),
                    &producer,
                    number.as_bytes(),
                ];
                let all: Vec<&[u8]> =
                    head.into_iter().chain(parts.iter().map(Vec::as_slice)).collect();
                outcomes.push(Outcome::read(&self.link.ask(redis, &all)));
            }
            // Redis has done all; not every answer comes.
            let is_cut = self.rng.chance(weather.cuts);
            if is_cut {
                outcomes.truncate(self.rng.below(count as u64 + 1) as usize);
            }
            self.take_outcomes(redis, epoch, outcomes, told);
            if is_cut {
                self.writer.epoch = None;
                self.writer.retry_at = now + backoff(&mut self.rng, &mut self.writer.failures);
            }
        }
    }

    fn take_outcomes(
        &mut self,
        redis: &mut Redis,
        epoch: u16,
        outcomes: Vec<Outcome>,
        told: &mut Vec<Logged>,
    ) {
        let (mut again, mut is_stale) = (VecDeque::new(), false);
        for outcome in outcomes {
            let mut waiting = self.writer.under_way.pop_front().expect("it was sent");
            waiting.sent_in = waiting.sent_in.filter(|_| waiting.is_sent_again);
            match outcome {
                Outcome::Taken => {
                    self.cost.published += 1;
                    self.writer.failures = 0;
                }
                Outcome::Repeated(id, of) => {
                    self.cost.repeated += 1;
                    let ticket = waiting.publication.ticket;
                    let event = id.event(of.unwrap_or(epoch));
                    told.extend(event.map(|id| Logged::Repeated(ticket, id)));
                }
                Outcome::OtherEpoch | Outcome::NoScript => {
                    is_stale = true;
                    again.push_back(waiting);
                }
                other => panic!("{other:?}"),
            }
        }
        again.append(&mut self.writer.under_way);
        self.writer.under_way = again;
        if is_stale {
            self.renew(redis);
        }
    }

    /// Leaves what was sent without an answer in an epoch before.
    fn leave_behind(&mut self, epoch: u16, told: &mut Vec<Logged>) {
        let under_way = std::mem::take(&mut self.writer.under_way);
        for waiting in under_way {
            match waiting.sent_in {
                Some(sent_in) if sent_in != epoch => {
                    self.cost.unknown += 1;
                    told.push(Logged::Unknown(waiting.publication.ticket));
                }
                _ => self.writer.under_way.push_back(waiting),
            }
        }
    }

    fn give_up(&mut self, now: u64, told: &mut Vec<Logged>) {
        let is_late = |waiting: &Waiting| now >= waiting.since + WAIT_MAX;
        while self.writer.under_way.front().is_some_and(is_late) {
            let waiting = self.writer.under_way.pop_front().expect("it is there");
            let ticket = waiting.publication.ticket;
            match waiting.sent_in {
                Some(_) => told.push(Logged::Unknown(ticket)),
                None => told.push(Logged::Refused(ticket)),
            }
        }
        let is_away = self.writer.epoch.is_none() && !self.reader.is_reached;
        while self.writer.waiting.front().is_some_and(|one| is_away || is_late(one)) {
            let waiting = self.writer.waiting.pop_front().expect("it is there");
            self.cost.refused += 1;
            told.push(Logged::Refused(waiting.publication.ticket));
        }
    }

    fn register(&mut self, now: u64, redis: &mut Redis, told: &mut Vec<Logged>) {
        if self.writer.epoch.is_none() {
            return;
        }
        let name = format!("n{}", self.index);
        if now >= self.writer.claim_at {
            self.writer.claim_at = now + 4000;
            let claim = self.keys.claim(&name);
            let answer = self.link.eval(redis, &[CLAIM, "1", &claim, &self.process, "15000"]);
            // One that was killed has its claim for a while: the next process waits.
            assert!(answer.list().is_some());
        }
        if now >= self.writer.register_at {
            self.writer.register_at = now + 10_000;
            let row = Row {
                name: name.clone(),
                instance: self.process.clone(),
                started_ms: 0,
                connections: self.engine.len() as u64,
                lag_ms: 0,
                is_draining: false,
                version: "0.1.0".into(),
                gaps: 0,
                seen_ms: 0,
            };
            let parts = [REGISTER, "1", &self.keys.nodes, &name, &said_of(&row)];
            told.push(Logged::Nodes(read_nodes(&self.link.eval(redis, &parts))));
        }
    }
}

impl Link {
    fn eval(&mut self, redis: &mut Redis, parts: &[&str]) -> Value {
        let all: Vec<&[u8]> = [b"EVAL".as_slice()]
            .into_iter()
            .chain(parts.iter().map(|part| part.as_bytes()))
            .collect();
        self.ask(redis, &all)
    }

    /// Asks, and awaits the answer.
    fn ask(&mut self, redis: &mut Redis, parts: &[&[u8]]) -> Value {
        self.write(parts);
        self.hear(|out| redis.command(parts, out)).expect("it is answered at once")
    }

    fn say(&mut self, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.write(&parts);
    }

    fn write(&mut self, parts: &[&[u8]]) {
        self.sent.clear();
        write_command(&mut self.sent, parts.iter().copied());
        self.cost.commands += 1;
        self.cost.to_redis += self.sent.len() as u64;
    }

    /// Reads what Redis answers, if it does. What the model needs is not the node's.
    fn hear(&mut self, answer: impl FnOnce(&mut Vec<u8>)) -> Option<Value> {
        self.answers.clear();
        let began = cpu_time();
        memory::within(0, || answer(&mut self.answers));
        self.cost.cpu += cpu_time() - began;
        self.cost.from_redis += self.answers.len() as u64;
        self.decoder.feed(&self.answers).expect("the model writes what Redis writes");
        self.decoder.poll()
    }
}

/// From 0 to 100 ms, twice as much with each failure, to 400 ms.
fn backoff(rng: &mut Rng, failures: &mut u32) -> u64 {
    let most = 100_u64 << (*failures).min(2);
    *failures += 1;
    rng.below(most + 1)
}

fn config(sizes: &crate::run::Sizes) -> Config {
    let most = (sizes.connections * 2 + 64).to_string();
    let retain = sizes.retain.to_string();
    let mut config = Config::default();
    for (key, value) in [
        ("heartbeat.interval", "off"),
        ("deadlines.read_idle", "1h"),
        ("limits.connections", &*most),
        ("limits.memory_bytes", "1g"),
        ("cluster.redis", "redis://127.0.0.1:1"),
        ("cluster.retain_events", &*retain),
        ("topics.retain_events", "1000"),
    ] {
        config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(config.check().faults, [""; 0]);
    config
}

pub fn slot(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}

pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long Redis waits for the next entry, and how often the log is looked at.
const BLOCK: u64 = 5000;
/// How many entries are read at once.
const COUNT: usize = 512;
/// How long a publication may wait.
const WAIT_MAX: u64 = 10_000;
