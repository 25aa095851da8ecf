//! What does a deadline cost on the wheel, and what would it cost in a tree or a heap?
//!
//! Each bench gives the time of one operation among 1,000, 10,000 and 50,000 connections. The
//! figures to beat are those of the tree and the heap with as many connections. As a yardstick: the
//! system call that sends one small message costs 5,000 ns. `traffic` against `arm` is what lazy
//! re-arm saves; drawing the random key and deadline is part of both, about 3 ns.

// By its path: a generator of numbers is no part of the library, and the tests have it already.
#[path = "../tests/common/rng.rs"]
mod rng;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use divan::{Bencher, black_box};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::ground::wheel::Wheel;

use rng::Rng;

const CONNECTIONS: [usize; 3] = [1_000, 10_000, 50_000];
const TICK: Duration = Duration::from_millis(50);
const IDLE_AFTER: Duration = Duration::from_secs(60);

fn main() {
    divan::main();
}

/// A byte came and moves its connection's deadline: the timers are told each time.
#[divan::bench(types = [Wheel, Tree, Heap], args = CONNECTIONS, sample_size = 10_000)]
fn arm<T: Timers>(bencher: Bencher, connections: usize) {
    let mut table = Table::<T>::new(connections);
    bencher.bench_local(|| {
        let (key, at) = (table.draw_key(), table.draw_deadline());
        table.timers.arm(key, at);
    });
}

/// The same with lazy re-arm: a byte came, the moment is stored, and the timers are polled. Each
/// connection hears something every 10 s, so one message in six meets an entry that comes out
/// early and is armed again.
#[divan::bench(types = [Wheel, Tree, Heap], args = CONNECTIONS, sample_size = 10_000)]
fn traffic<T: Timers>(bencher: Bencher, connections: usize) {
    let mut table = Table::<T>::new(connections);
    let message_every_us = 10_000_000 / connections as u64;
    let mut message = || {
        table.now_us += message_every_us;
        let key = table.draw_key();
        table.idle_at[key] = table.now() + IDLE_AFTER;
        table.expire();
    };
    for _ in 0..12 * connections {
        message(); // Two minutes, until the first deadlines are forgotten.
    }
    bencher.bench_local(message);
}

/// The loop asks how long it may sleep.
#[divan::bench(types = [Wheel, Tree, Heap], args = CONNECTIONS, sample_size = 10_000)]
fn next_deadline<T: Timers>(bencher: Bencher, connections: usize) {
    let mut table = Table::<T>::new(connections);
    bencher.bench_local(|| black_box(&mut table.timers).next_deadline());
}

/// A deadline comes due and the connection gets its next one.
#[divan::bench(types = [Wheel, Tree, Heap], args = CONNECTIONS, sample_size = 10_000)]
fn churn<T: Timers>(bencher: Bencher, connections: usize) {
    let mut table = Table::<T>::new(connections);
    bencher.bench_local(|| {
        let key = loop {
            if let Some(key) = table.timers.poll_expired(table.now()) {
                break key;
            }
            let next = table.timers.next_deadline().expect("every connection has a deadline");
            table.now_us = next.as_millis() * 1_000;
        };
        let at = table.draw_deadline();
        table.timers.arm(key, at);
    });
}

/// Connections that are closed after a minute of silence, each with its deadline.
struct Table<T> {
    timers: T,
    idle_at: Vec<Instant>,
    now_us: u64,
    rng: Rng,
}

impl<T: Timers> Table<T> {
    fn new(connections: usize) -> Table<T> {
        let (timers, rng) = (T::new(), Rng::new(0x5EED));
        let mut table = Table { timers, idle_at: Vec::new(), now_us: 0, rng };
        for key in 0..connections {
            let at = table.draw_deadline();
            table.timers.arm(key, at);
            table.idle_at.push(at);
        }
        table
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now_us / 1_000)
    }

    fn draw_key(&mut self) -> usize {
        self.rng.below(self.idle_at.len() as u64) as usize
    }

    fn draw_deadline(&mut self) -> Instant {
        self.now() + Duration::from_millis(1 + self.rng.below(IDLE_AFTER.as_millis() as u64))
    }

    fn expire(&mut self) {
        let now = self.now();
        while let Some(key) = self.timers.poll_expired(now) {
            if self.idle_at[key] <= now {
                self.idle_at[key] = now + IDLE_AFTER; // A peer that closes and comes back.
            }
            self.timers.arm(key, self.idle_at[key]);
        }
    }
}

trait Timers {
    fn new() -> Self;
    fn arm(&mut self, key: usize, at: Instant);
    fn next_deadline(&mut self) -> Option<Instant>;
    fn poll_expired(&mut self, now: Instant) -> Option<usize>;
}

impl Timers for Wheel {
    fn new() -> Wheel {
        Wheel::new(TICK)
    }

    fn arm(&mut self, key: usize, at: Instant) {
        Wheel::arm(self, key, at);
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        Wheel::next_deadline(self)
    }

    fn poll_expired(&mut self, now: Instant) -> Option<usize> {
        Wheel::poll_expired(self, now)
    }
}

/// An ordered map, and by key what is armed, to find the old place.
#[derive(Default)]
struct Tree {
    queue: BTreeMap<(Instant, usize), ()>,
    armed: Vec<Option<Instant>>,
}

impl Timers for Tree {
    fn new() -> Tree {
        Tree::default()
    }

    fn arm(&mut self, key: usize, at: Instant) {
        if let Some(old) = replace(&mut self.armed, key, at) {
            self.queue.remove(&(old, key));
        }
        self.queue.insert((at, key), ());
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&(at, _), ())| at)
    }

    fn poll_expired(&mut self, now: Instant) -> Option<usize> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, key), ()) = entry.remove_entry();
        self.armed[key] = None;
        Some(key)
    }
}

/// A heap that keeps what was moved until it comes up, or until that is more than half.
#[derive(Default)]
struct Heap {
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    armed: Vec<Option<Instant>>,
}

impl Heap {
    fn pop_stale(&mut self) {
        while let Some(&Reverse((at, key))) = self.queue.peek() {
            if self.armed[key] == Some(at) {
                return;
            }
            self.queue.pop();
        }
    }
}

impl Timers for Heap {
    fn new() -> Heap {
        Heap::default()
    }

    fn arm(&mut self, key: usize, at: Instant) {
        let moved = replace(&mut self.armed, key, at).is_some();
        if moved && self.queue.len() >= 2 * self.armed.len() {
            self.queue.retain(|&Reverse((at, key))| self.armed[key] == Some(at));
        }
        self.queue.push(Reverse((at, key)));
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.pop_stale();
        self.queue.peek().map(|&Reverse((at, _))| at)
    }

    fn poll_expired(&mut self, now: Instant) -> Option<usize> {
        self.next_deadline().filter(|&at| at <= now)?;
        let Reverse((_, key)) = self.queue.pop()?;
        self.armed[key] = None;
        Some(key)
    }
}

fn replace(armed: &mut Vec<Option<Instant>>, key: usize, at: Instant) -> Option<Instant> {
    if key >= armed.len() {
        armed.resize(key + 1, None);
    }
    armed[key].replace(at)
}
