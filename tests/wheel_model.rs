//! The wheel against a model: an ordered set of (due tick, key).
//!
//! First every program of up to six steps over three keys, then long random ones. After each step
//! the two must agree on what is armed and for when, and the wheel's next deadline must not be
//! later than the model's; whatever comes out must be what the model has first. So nothing comes
//! out early, out of order or twice, and nothing is lost.
//!
//! `SEED=` runs one random program, `ROUNDS=` sets how many there are.

#[path = "common/rng.rs"]
mod rng;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use heartwheel::core::ground::time::Instant;
use heartwheel::core::ground::wheel::Wheel;

use rng::Rng;

const HORIZON: u64 = Wheel::SLOTS as u64;

/// The wheel and its model, told the same. All moments are milliseconds, but for `due` (ticks).
struct Pair {
    wheel: Wheel,
    tick_ms: u64,
    now_ms: u64,
    /// The tick of the last poll: what is armed for an earlier one counts from here.
    polled: u64,
    due: BTreeSet<(u64, usize)>,
    armed: Vec<Option<Deadline>>,
    idle_wake_up: Option<u64>,
}

#[derive(Clone, Copy)]
struct Deadline {
    at_ms: u64,
    due: u64,
}

impl Pair {
    fn new(tick_ms: u64, keys: usize, start: u64) -> Pair {
        let mut pair = Pair {
            wheel: Wheel::new(Duration::from_millis(tick_ms)),
            tick_ms,
            now_ms: start * tick_ms,
            polled: 0,
            due: BTreeSet::new(),
            armed: vec![None; keys],
            idle_wake_up: None,
        };
        pair.drain();
        pair
    }

    fn arm(&mut self, key: usize, at_ms: u64) {
        self.wheel.arm(key, Instant::from_millis(at_ms));
        self.forget(key);
        let due = at_ms.div_ceil(self.tick_ms).max(self.polled);
        self.due.insert((due, key));
        self.armed[key] = Some(Deadline { at_ms: at_ms.max(self.now_ms), due });
    }

    fn disarm(&mut self, key: usize) {
        let was_armed = self.forget(key).is_some();
        assert_eq!(self.wheel.disarm(key), was_armed);
    }

    fn forget(&mut self, key: usize) -> Option<Deadline> {
        let deadline = self.armed[key].take()?;
        assert!(self.due.remove(&(deadline.due, key)));
        Some(deadline)
    }

    /// Polls once and gives what came out.
    fn poll(&mut self) -> Option<(usize, Deadline)> {
        self.polled = self.now_ms / self.tick_ms;
        let first = self.due.first().map(|&(due, _)| due).filter(|&due| due <= self.polled);
        let Some(key) = self.wheel.poll_expired(Instant::from_millis(self.now_ms)) else {
            assert_eq!(first, None, "lost or late");
            return None;
        };
        let deadline = self.forget(key).expect("a key comes out once");
        assert_eq!(Some(deadline.due), first, "early or out of order");
        assert!(deadline.at_ms <= self.now_ms, "early");
        Some((key, deadline))
    }

    fn drain(&mut self) {
        while self.poll().is_some() {}
    }

    fn advance(&mut self, ticks: u64) {
        self.now_ms += ticks * self.tick_ms;
        self.drain();
    }

    /// Sleeps until the wheel's next deadline, as an event loop does: nothing is a tick late then,
    /// and wake-ups for nothing are a horizon apart.
    fn sleep(&mut self) {
        let Some(next) = self.wheel.next_deadline() else { return };
        self.now_ms = self.now_ms.max(next.as_millis());
        let mut fired = self.poll();
        if fired.is_none() {
            let last = self.idle_wake_up.replace(self.polled);
            assert!(last.is_none_or(|last| self.polled - last >= HORIZON), "woken for nothing");
        }
        while let Some((_, deadline)) = fired {
            assert!(self.now_ms - deadline.at_ms < self.tick_ms, "more than a tick late");
            fired = self.poll();
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.due.len());
        let next = self.wheel.next_deadline().map(Instant::as_millis);
        match self.due.first() {
            None => assert_eq!(next, None),
            Some((due, _)) => assert!(next.unwrap() <= due * self.tick_ms, "would sleep too long"),
        }
        for (key, deadline) in self.armed.iter().enumerate() {
            let armed_ms = deadline.map(|deadline| deadline.due * self.tick_ms);
            assert_eq!(self.wheel.armed_at(key).map(Instant::as_millis), armed_ms);
        }
    }

    /// Sleeps until nothing is armed.
    fn finish(&mut self) {
        self.drain();
        while !self.due.is_empty() {
            self.sleep();
            self.check();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    ArmNear(usize),
    ArmFar(usize),
    /// As traffic does: a little later than it was.
    Rearm(usize),
    Disarm(usize),
    AdvanceOne,
    AdvanceMany,
}

impl Step {
    fn apply(self, pair: &mut Pair) {
        match self {
            Step::ArmNear(key) => pair.arm(key, pair.now_ms + 2 * pair.tick_ms - 1),
            Step::ArmFar(key) => pair.arm(key, pair.now_ms + (HORIZON + 1) * pair.tick_ms),
            Step::Rearm(key) => {
                let at_ms = pair.armed[key].expect("armed before").at_ms;
                pair.arm(key, at_ms + pair.tick_ms);
            }
            Step::Disarm(key) => pair.disarm(key),
            Step::AdvanceOne => pair.advance(1),
            Step::AdvanceMany => pair.advance(HORIZON),
        }
    }
}

/// Counts through all sequences of choices: `choose` replays the current one, `next` moves on to
/// the one after it. The number of options may depend on what was chosen before.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    position: usize,
}

impl Choices {
    fn choose(&mut self, options: usize) -> usize {
        if self.position == self.taken.len() {
            self.taken.push((0, options));
        }
        self.position += 1;
        self.taken[self.position - 1].0
    }

    fn next(&mut self) -> bool {
        self.position = 0;
        while let Some((choice, options)) = self.taken.pop() {
            if choice + 1 < options {
                self.taken.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

/// Chooses among the steps that mean something now. Keys are alike: a new one is always the next.
fn choose_step(choices: &mut Choices, pair: &Pair, keys_used: &mut usize) -> Step {
    let mut steps = [Step::AdvanceOne; 14];
    let mut options = 1;
    let mut offer = |step| {
        steps[options] = step;
        options += 1;
    };
    offer(Step::AdvanceMany);
    for key in 0..pair.armed.len().min(*keys_used + 1) {
        offer(Step::ArmNear(key));
        offer(Step::ArmFar(key));
        if pair.armed[key].is_some() {
            offer(Step::Rearm(key));
            offer(Step::Disarm(key));
        }
    }
    let step = steps[choices.choose(options)];
    if let Step::ArmNear(key) | Step::ArmFar(key) = step {
        *keys_used = (*keys_used).max(key + 1);
    }
    step
}

/// Deadlines that one random program likes, so that some know only near ones and some only far.
#[derive(Debug)]
struct Taste {
    tick_ms: u64,
    keys: u64,
    start: u64,
    span: u64,
    budget: u64,
}

impl Taste {
    fn draw(rng: &mut Rng) -> Taste {
        let pick = |rng: &mut Rng, from: &[u64]| from[rng.below(from.len() as u64) as usize];
        let wrap = (1 << 32) - rng.below(2 * HORIZON);
        Taste {
            tick_ms: pick(rng, &[1, 7, 50]),
            keys: pick(rng, &[1, 3, 40, 200]),
            start: pick(rng, &[0, HORIZON - 1, wrap, wrap]),
            span: pick(rng, &[2, 100, HORIZON, 2 * HORIZON, 50 * HORIZON]),
            budget: pick(rng, &[1, 4, 1000]),
        }
    }

    /// Draws a moment round about now: mostly ahead, sometimes past, often on an edge.
    fn deadline(&self, rng: &mut Rng, pair: &Pair) -> u64 {
        let edge = HORIZON * rng.below(3) * self.tick_ms;
        match rng.below(10) {
            0 => pair.now_ms.saturating_sub(rng.below(self.span * self.tick_ms)),
            1 => pair.now_ms + edge + rng.below(2 * self.tick_ms),
            2 => (pair.now_ms + edge).saturating_sub(rng.below(2 * self.tick_ms)),
            _ => pair.now_ms + rng.below(self.span * self.tick_ms),
        }
    }

    fn step(&self, rng: &mut Rng, pair: &mut Pair) {
        let key = rng.below(self.keys) as usize;
        match rng.below(20) {
            0..8 => pair.arm(key, self.deadline(rng, pair)),
            8..10 => pair.disarm(key),
            10..13 => {
                pair.drain();
                pair.sleep();
            }
            13 => pair.now_ms += rng.below(self.span * self.tick_ms),
            14 => pair.now_ms += rng.below(3 * HORIZON * self.tick_ms),
            _ => pair.now_ms += rng.below(2 * self.tick_ms),
        }
        if rng.chance(50) {
            self.expire_some(rng, pair);
        }
    }

    /// Takes out what a budget allows and arms half of it again in between, maybe into the past.
    fn expire_some(&self, rng: &mut Rng, pair: &mut Pair) {
        for _ in 0..self.budget {
            let Some((key, _)) = pair.poll() else { return };
            if rng.chance(50) {
                pair.arm(key, self.deadline(rng, pair));
            }
        }
    }
}

/// Says what was running when a check fails.
struct Running<T: Debug>(&'static str, T);

impl<T: Debug> Drop for Running<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}={:?}", self.0, self.1);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

#[test]
fn every_short_program_agrees_with_the_model() {
    for length in 1..=6 {
        let mut choices = Choices::default();
        loop {
            let mut pair = Pair::new(2, 3, HORIZON - 1);
            let mut keys_used = 0;
            let mut program = Running("PROGRAM", Vec::new());
            for _ in 0..length {
                let step = choose_step(&mut choices, &pair, &mut keys_used);
                program.1.push(step);
                step.apply(&mut pair);
                pair.check();
            }
            pair.finish();
            if !choices.next() {
                break;
            }
        }
    }
}

#[test]
fn long_random_programs_agree_with_the_model() {
    let seeds = match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("ROUNDS").unwrap_or(60),
    };
    for seed in seeds {
        let _running = Running("SEED", seed);
        let mut rng = Rng::new(seed);
        let taste = Taste::draw(&mut rng);
        let mut pair = Pair::new(taste.tick_ms, taste.keys as usize, taste.start);
        for _ in 0..2000 {
            taste.step(&mut rng, &mut pair);
            pair.check();
        }
        pair.finish();
    }
}
