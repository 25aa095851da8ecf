//! A run: nodes, their clients, one Redis, and what happens to them, in a time of its own.

use std::time::Duration;

use heartwheel::core::topics::EventId;

use crate::clients::{Publisher, Subscriber, Truth};
use crate::common::rng::Rng;
use crate::memory;
use crate::node::{Cost, Node, Weather, slot};
use crate::redis::Redis;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub nodes: usize,
    /// Subscribers of each node.
    pub connections: usize,
    pub topics: usize,
    /// Publishers of each node.
    pub publishers: usize,
    /// How long each waits between two publications, in milliseconds.
    pub every: u64,
    /// `cluster.retain_events`.
    pub retain: u64,
}

pub struct Run {
    pub sizes: Sizes,
    pub now: u64,
    pub nodes: Vec<Option<Node>>,
    pub redis: Redis,
    pub truth: Truth,
    pub subscribers: Vec<Subscriber>,
    pub publishers: Vec<Publisher>,
    /// Whose connection is in a slot of a node: subscribers first, then publishers.
    owners: Vec<Vec<usize>>,
    /// Which publishers publish, and to which topics.
    pub says: fn(&Run, usize) -> bool,
    pub topics: std::ops::Range<usize>,
    pub is_reachable: bool,
    pub cuts: u64,
    rng: Rng,
    processes: u64,
}

impl Run {
    pub fn new(seed: u64, sizes: Sizes) -> Run {
        let home = |place: usize| place % sizes.nodes;
        let subscribers = (0..sizes.nodes * sizes.connections)
            .map(|place| Subscriber::new(home(place), place / sizes.nodes % sizes.topics));
        let publishers = (0..sizes.nodes * sizes.publishers)
            .map(|place| Publisher::new(place as u32, home(place)));
        let mut run = Run {
            sizes,
            now: 1000,
            nodes: Vec::new(),
            redis: Redis::new(UNIX_MS),
            // One more, to which nobody subscribes.
            truth: Truth::new(sizes.topics + 1),
            subscribers: subscribers.collect(),
            publishers: publishers.collect(),
            owners: vec![Vec::new(); sizes.nodes],
            says: |_, _| false,
            topics: 0..sizes.topics,
            is_reachable: true,
            cuts: 0,
            rng: Rng::new(seed),
            processes: seed << 8,
        };
        for index in 0..sizes.nodes {
            run.nodes.push(None);
            run.start(index);
        }
        run
    }

    /// Starts a node as a process of its own.
    pub fn start(&mut self, index: usize) {
        memory::forget(index + 1);
        self.processes += 1;
        let node = Node::new(index, self.processes, self.redis.unix_ms, &self.sizes);
        self.nodes[index] = Some(node);
    }

    /// Kills a node. Its clients connect to others within a second or so.
    pub fn kill(&mut self, index: usize) {
        let node = self.nodes[index].take();
        memory::within(index + 1, || drop(node));
        let now = self.now;
        let retry = |rng: &mut Rng| now + 200 + rng.below(1000);
        for one in self.subscribers.iter_mut().filter(|one| is_at(one.at, index)) {
            one.lose(retry(&mut self.rng));
        }
        for one in self.publishers.iter_mut().filter(|one| is_at(one.at, index)) {
            one.lose(retry(&mut self.rng));
        }
    }

    /// Has clients that are elsewhere go home.
    pub fn go_home(&mut self) {
        let now = self.now;
        for one in self.subscribers.iter_mut() {
            let Some((at, id)) = one.at.filter(|(at, _)| *at != one.home) else { continue };
            if let Some(node) = &mut self.nodes[at] {
                self.owners[at][slot(id)] = usize::MAX;
                node.wires.end(slot(id));
            }
            one.lose(now + self.rng.below(1000));
        }
    }

    /// Lets time pass, in steps of 5 ms.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += STEP;
            self.redis.unix_ms += STEP;
            self.step();
        }
    }

    /// Lets time pass until something holds.
    #[track_caller]
    pub fn until(&mut self, what: &str, most: u64, holds: impl Fn(&Run) -> bool) -> u64 {
        let began = self.now;
        while !holds(self) {
            assert!(self.now - began < most, "{what}: not within {most} ms");
            self.pass(STEP);
        }
        self.now - began
    }

    fn step(&mut self) {
        self.connect();
        for place in 0..self.publishers.len() {
            if !(self.says)(self, place) {
                continue;
            }
            let width = (self.topics.end - self.topics.start) as u64;
            let topic = self.topics.start + self.rng.below(width) as usize;
            let one = &mut self.publishers[place];
            if let Some((at, _)) = one.at
                && let Some(node) = &mut self.nodes[at]
            {
                one.say(self.now, topic, node);
            }
        }
        let weather = Weather { is_reachable: self.is_reachable, cuts: self.cuts };
        for index in 0..self.nodes.len() {
            if let Some(node) = &mut self.nodes[index] {
                node.step(self.now, &mut self.redis, &weather);
                for taken in self.redis.taken.drain(..) {
                    self.truth.take(&taken);
                }
                self.deliver(index);
            }
        }
    }

    fn connect(&mut self) {
        let (now, count) = (self.now, self.subscribers.len());
        if !now.is_multiple_of(10 * STEP) {
            return;
        }
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|place| self.nodes[*place].is_some()).collect();
        for place in 0..count + self.publishers.len() {
            let (at, retry_at, home) = match place.checked_sub(count) {
                None => {
                    let one = &self.subscribers[place];
                    (one.at, one.retry_at, one.home)
                }
                Some(place) => {
                    let one = &self.publishers[place];
                    (one.at, one.retry_at, one.home)
                }
            };
            if at.is_some() || now < retry_at {
                continue;
            }
            let index = match self.nodes[home] {
                Some(_) => home,
                None => up[self.rng.below(up.len() as u64) as usize],
            };
            let node = self.nodes[index].as_mut().expect("it is up");
            let at = match place.checked_sub(count) {
                None => {
                    self.subscribers[place].connect(now, node);
                    self.subscribers[place].at
                }
                Some(place) => {
                    self.publishers[place].connect(now, node);
                    self.publishers[place].at
                }
            };
            let Some((_, id)) = at else { continue };
            let owners = &mut self.owners[index];
            owners.resize(owners.len().max(slot(id) + 1), usize::MAX);
            owners[slot(id)] = place;
        }
    }

    /// Gives clients what a node has written.
    fn deliver(&mut self, index: usize) {
        let Some(node) = &mut self.nodes[index] else { return };
        let received = std::mem::take(&mut node.wires.received);
        let pieces = std::mem::take(&mut node.wires.pieces);
        for (slot, start, end) in &pieces {
            let (place, bytes) = (self.owners[index][*slot], &received[*start..*end]);
            if let Some(one) = self.subscribers.get_mut(place) {
                one.hear(bytes, &self.truth, node);
            } else if let Some(place) = place.checked_sub(self.subscribers.len())
                && let Some(one) = self.publishers.get_mut(place)
            {
                one.hear(self.now, self.sizes.every, bytes, node);
            }
        }
        (node.wires.received, node.wires.pieces) = (received, pieces);
        node.wires.received.clear();
        node.wires.pieces.clear();
        for slot in std::mem::take(&mut node.wires.ended) {
            let place = std::mem::replace(&mut self.owners[index][slot], usize::MAX);
            let retry_at = self.now + 100;
            if let Some(one) = self.subscribers.get_mut(place) {
                one.lose(retry_at);
            } else if let Some(place) = place.checked_sub(self.subscribers.len())
                && let Some(one) = self.publishers.get_mut(place)
            {
                one.lose(retry_at);
            }
        }
    }

    pub fn are_all_live(&self) -> bool {
        self.subscribers.iter().all(Subscriber::is_live)
    }

    pub fn are_all_complete(&self) -> bool {
        self.subscribers.iter().all(|one| one.is_complete(&self.truth))
    }

    /// Gaps that subscribers were told.
    pub fn gaps(&self) -> u64 {
        self.subscribers.iter().map(|one| u64::from(one.gaps)).sum()
    }

    pub fn delivered(&self) -> u64 {
        self.subscribers.iter().map(|one| one.events).sum()
    }

    pub fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("it is up")
    }

    pub fn costs(&self) -> Vec<Cost> {
        let cost = |node: &Option<Node>| node.as_ref().map_or(Cost::default(), |node| node.cost);
        self.nodes.iter().map(cost).collect()
    }

    // -- What happens ------------------------------------------------------------------------

    /// A node dies, and begins again; its clients go on elsewhere, and come back.
    pub fn node_dies(&mut self, index: usize) {
        self.kill(index);
        self.pass(10_000);
        assert!(self.are_all_live(), "all are at other nodes");
        self.start(index);
        self.pass(1000);
        self.go_home();
        self.pass(3000);
    }

    /// Redis is away for a while, and is as it was.
    pub fn redis_is_away(&mut self, ms: u64) {
        self.is_reachable = false;
        self.pass(ms);
        self.is_reachable = true;
        self.pass(3000);
    }

    /// The log is trimmed past a node to which nothing comes.
    pub fn trimmed(&mut self, index: usize, ms: u64) -> usize {
        let before = self.node(index).gaps()[1];
        let until = self.now + ms;
        self.nodes[index].as_mut().expect("it is up").stall(until);
        self.pass(ms + 1000);
        self.node(index).gaps()[1] - before
    }

    /// A replica that lacks what was acknowledged in the last moments becomes the master. Returns
    /// how many events are lost.
    pub fn stale_replica(&mut self, ms: u64, name: &str) -> usize {
        let mut replica = self.redis.clone();
        let last = replica.last();
        self.pass(ms);
        // The clock is the same; what was published since is not there.
        replica.unix_ms = self.redis.unix_ms;
        replica.promote(name);
        let epoch = u16::MAX;
        let last = last.event(epoch).unwrap_or(EventId::ZERO);
        let lost = self.truth.lose_after(last);
        self.redis = replica;
        self.is_reachable = false;
        self.pass(1500);
        self.is_reachable = true;
        self.pass(4000);
        lost
    }

    /// No more faults: each subscriber gets all that comes, to the last event.
    pub fn settle(&mut self) {
        (self.cuts, self.is_reachable) = (0, true);
        self.pass(3000);
        self.says = |_, _| false;
        self.until("all are live", 20_000, Run::are_all_live);
        self.says = |_, _| true;
        self.pass(2000);
        // One more to each topic, behind the last gap.
        let topics = self.topics.clone();
        for topic in topics.clone() {
            self.topics = topic..topic + 1;
            self.pass(self.sizes.every + 50);
        }
        self.topics = topics;
        self.says = |_, _| false;
        self.until("all have everything", 20_000, Run::are_all_complete);
        for one in &self.publishers {
            one.check(&self.truth);
        }
    }
}

fn is_at(at: Option<(usize, heartwheel::ConnectionId)>, index: usize) -> bool {
    at.is_some_and(|(at, _)| at == index)
}

/// How far time goes at once, and how long an answer of Redis takes.
pub const STEP: u64 = 5;

const UNIX_MS: u64 = 1_800_000_000_000;

pub fn per(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count.max(1) as f64
}
