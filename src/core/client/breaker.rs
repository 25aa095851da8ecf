//! When to leave a server alone for a while.
//!
//! A server that answers each try with an error is not helped by more of them. The breaker counts
//! the tries that reached the server. If too many of them have failed, it opens; after a while one
//! probe goes through, and only a connection that holds closes the breaker again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::ground::time::{Instant, Moment};

/// The breaker of one address.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// The tries of the last window that reached the server, oldest first.
    tries: VecDeque<Try>,
    state: State,
    /// How often it has opened since a connection held.
    opened: u32,
    is_degraded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    at: Moment,
    has_failed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Tries go through.
    #[default]
    Closed,
    /// None does until then.
    Open(Instant),
    /// One is under way.
    Probing,
}

/// What changed with a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Two of five have failed.
    Degraded,
    /// Too many have failed: no try until then.
    Broken(Instant),
}

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Over how long tries are counted.
    pub window: Duration,
    /// How long it is open the first time.
    pub broken_for: Duration,
}

impl Breaker {
    /// Returns until when no try may be made; `None` if one may be made now.
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Open(until) if until > now => Some(until),
            _ => None,
        }
    }

    /// Returns whether the next try is a probe, or one is under way.
    pub fn is_half_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Returns whether it remembers nothing that matters: it is as a new one.
    pub fn is_at_rest(&self, now: Instant, rules: &Rules) -> bool {
        let is_old = |one: &Try| now.since(one.at.near(now)) > rules.window;
        self.state == State::Closed && self.opened == 0 && self.tries.iter().all(is_old)
    }

    /// Takes note that a try begins.
    pub fn begin(&mut self) {
        if let State::Open(_) = self.state {
            self.state = State::Probing;
        }
    }

    /// Takes note that a connection has held.
    pub fn note_held(&mut self, now: Instant, rules: &Rules) {
        self.state = State::Closed;
        self.opened = 0;
        self.is_degraded = false;
        self.count(now, rules, false);
        self.tries.shrink_to_fit();
    }

    /// Takes note that a try has ended otherwise. `has_failed` says whether that is the server's
    /// fault: a try that did not reach it, or ended in good order, only ends a probe.
    pub fn note_ended(&mut self, now: Instant, rules: &Rules, has_failed: bool) -> Option<Change> {
        if self.state == State::Probing {
            return Some(self.open(now, rules));
        }
        if !has_failed {
            return None;
        }
        self.count(now, rules, true);
        let failed = self.tries.iter().filter(|one| one.has_failed).count();
        if self.tries.len() < TRIES_MIN {
            return None;
        }
        if failed * 100 >= self.tries.len() * BROKEN_PERCENT {
            return Some(self.open(now, rules));
        }
        let is_degraded = failed * 100 >= self.tries.len() * DEGRADED_PERCENT;
        let was_degraded = std::mem::replace(&mut self.is_degraded, is_degraded);
        (is_degraded && !was_degraded).then_some(Change::Degraded)
    }

    fn open(&mut self, now: Instant, rules: &Rules) -> Change {
        let factor = 1u32.checked_shl(self.opened).unwrap_or(u32::MAX);
        let most = rules.broken_for.max(BROKEN_FOR_MAX);
        let until = now + rules.broken_for.saturating_mul(factor).min(most);
        self.opened = self.opened.saturating_add(1);
        self.state = State::Open(until);
        self.is_degraded = false;
        self.tries = VecDeque::new();
        Change::Broken(until)
    }

    fn count(&mut self, now: Instant, rules: &Rules, has_failed: bool) {
        let is_old = |one: &Try| now.since(one.at.near(now)) > rules.window;
        while self.tries.front().is_some_and(is_old) || self.tries.len() == TRIES_MAX {
            self.tries.pop_front();
        }
        self.tries.push_back(Try { at: now.into(), has_failed });
    }
}

/// Fewer tries prove nothing.
const TRIES_MIN: usize = 5;
/// The newest tries of a window decide, where it has more.
const TRIES_MAX: usize = 32;
const DEGRADED_PERCENT: usize = 40;
const BROKEN_PERCENT: usize = 70;
/// It is open for no longer, unless it is configured so.
const BROKEN_FOR_MAX: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { window: Duration::from_secs(60), broken_for: Duration::from_secs(300) };

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    /// Has a try fail in each of these seconds.
    fn fail(breaker: &mut Breaker, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let _ = breaker.note_ended(at(second), &RULES, true);
        }
    }

    #[test]
    fn it_opens_at_seven_of_ten_and_warns_at_four() {
        let mut breaker = Breaker::default();
        for second in 0..4 {
            breaker.note_held(at(second), &RULES);
        }
        assert_eq!(breaker.note_ended(at(4), &RULES, true), None);
        assert_eq!(breaker.note_ended(at(5), &RULES, true), None, "2 of 6");
        assert_eq!(breaker.note_ended(at(6), &RULES, true), Some(Change::Degraded), "3 of 7");
        for second in 7..13 {
            assert_eq!(breaker.note_ended(at(second), &RULES, true), None, "{second}");
        }
        let opened = breaker.note_ended(at(13), &RULES, true);
        assert_eq!(opened, Some(Change::Broken(at(313))), "10 of 14");
        assert_eq!(breaker.open_until(at(312)), Some(at(313)));
        assert_eq!(breaker.open_until(at(313)), None);
    }

    #[test]
    fn fewer_than_five_tries_prove_nothing_and_old_ones_lapse() {
        let mut breaker = Breaker::default();
        for round in 0..10 {
            for second in 0..4 {
                let now = at(round * 100 + second);
                assert_eq!(breaker.note_ended(now, &RULES, true), None);
            }
        }
    }

    #[test]
    fn what_is_not_the_servers_fault_does_not_count() {
        let mut breaker = Breaker::default();
        for second in 0..100 {
            assert_eq!(breaker.note_ended(at(second), &RULES, false), None);
        }
        assert_eq!(breaker.tries.len(), 0);
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_half_an_hour() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 0..5);
        let mut spans = Vec::new();
        for has_failed in [true, false, true, true] {
            let until = breaker.open_until(at(0)).unwrap();
            breaker.begin();
            let Some(Change::Broken(next)) = breaker.note_ended(until, &RULES, has_failed) else {
                panic!("the probe was one");
            };
            spans.push(next.since(until).as_secs());
        }
        assert_eq!(spans, [600, 1200, 1800, 1800]);
        breaker.begin();
        breaker.note_held(at(9000), &RULES);
        assert!(!breaker.is_half_open());
        fail(&mut breaker, 9001..9005);
        assert_eq!(breaker.open_until(at(9005)), Some(at(9304)), "it begins anew");
    }
}
