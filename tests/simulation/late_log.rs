//! A log that keeps the events of a run, answers late and out of step, refuses, repeats itself, and
//! never answers at all, until the faults stop.

use heartwheel::core::contract::backbone::{Logged, Publication};
use heartwheel::topics::EventId;

use crate::common::rng::Rng;
use crate::plan::pick;

pub struct LateLog {
    /// Its own: what a seed stands for without a log is what it stands for with one.
    rng: Rng,
    waiting: Vec<(u64, Fate, Publication)>,
    /// Events that it will give once more.
    repeats: Vec<Logged>,
    last: EventId,
    is_calm: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Logged,
    /// The event is given, but its ticket is not answered.
    Unanswered,
    Refused,
}

impl LateLog {
    pub fn new(seed: u64, unix_ms: u64) -> LateLog {
        let mut rng = Rng::new(seed ^ 0x1_0906);
        let last = EventId::new(unix_ms, rng.below(1 << 16));
        LateLog { rng, waiting: Vec::new(), repeats: Vec::new(), last, is_calm: false }
    }

    /// Gives the last id of the log.
    pub fn last(&self) -> EventId {
        self.last
    }

    pub fn take(&mut self, now: u64, publication: Publication) {
        let fate = match self.rng.below(100) {
            _ if self.is_calm => Fate::Logged,
            // It is swallowed.
            0..5 => return,
            5..10 => Fate::Refused,
            10..15 => Fate::Unanswered,
            _ => Fate::Logged,
        };
        // Some come after the deadline.
        let most = if self.is_calm { 20 } else { pick(&mut self.rng, &[1, 1, 200, 2000, 10_000]) };
        self.waiting.push((now + self.rng.below(most), fate, publication));
    }

    /// Gives what the log has to say now, by the wall clock of the log, which may stand still.
    pub fn poll(&mut self, now: u64, unix_ms: u64) -> Option<Logged> {
        if let Some(repeat) = self.repeats.pop() {
            return Some(repeat);
        }
        let is_due = |(at, ..): &(u64, Fate, Publication)| *at <= now;
        let place = self.waiting.iter().position(is_due)?;
        let (_, fate, Publication { ticket, topic, content, .. }) = self.waiting.swap_remove(place);
        if fate == Fate::Refused {
            return Some(Logged::Refused(ticket));
        }
        let next = EventId::new(self.last.ms(), self.last.seq() + (1 << 16));
        let by_clock = EventId::new(unix_ms, self.last.process().into());
        self.last = next.max(by_clock);
        let ticket = (fate == Fate::Logged).then_some(ticket);
        let event = || Logged::Event {
            ticket,
            id: self.last,
            topic: topic.clone(),
            content: content.clone(),
        };
        if self.rng.chance(5) {
            self.repeats.push(event());
        }
        Some(event())
    }

    /// Gives when it speaks next.
    pub fn next_at(&self) -> Option<u64> {
        self.waiting.iter().map(|(at, ..)| *at).min()
    }

    /// From now on it answers everything, and soon.
    pub fn calm_down(&mut self) {
        self.is_calm = true;
    }
}
