//! What is retained, for how long, and what goes first when memory is short.

use std::time::Duration;

use crate::core::ground::time::Instant;

use super::Topics;
use super::log::Log;

/// What topics may hold.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `topics.retain_events`: events retained for each topic. Default 256.
    pub retain_events: usize,
    /// `topics.retain_bytes`: payload bytes retained for each topic; an event that is larger is
    /// delivered and not retained. Default 1 MiB.
    pub retain_bytes: usize,
    /// `topics.retain_for`: the age at which an event goes. Default 10 minutes.
    pub retain_for: Duration,
    /// `limits.topics`: topics that exist at a time. Default 1024.
    pub topics_max: usize,
    /// `limits.subscriptions`: subscriptions of one connection. Default 64.
    pub subscriptions_max: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            retain_events: 256,
            retain_bytes: 1 << 20,
            retain_for: Duration::from_secs(10 * 60),
            topics_max: 1024,
            subscriptions_max: 64,
        }
    }
}

impl Rules {
    /// Evicts what these rules do not retain. If that is very much (stricter rules, or a large
    /// event that displaces many small ones), the rest is evicted in later calls. What the newest
    /// event takes is freed at once.
    pub(super) fn trim(&self, now: Instant, log: &mut Log) {
        let is_old =
            |log: &Log| log.first_appended_at().is_some_and(|at| at + self.retain_for <= now);
        while is_old(log) && log.evict() {}
        let newest = log.last_len();
        let mut left = Topics::SWEEP_EVENTS_MAX + newest / Log::EVENT_BYTES;
        let is_over =
            |log: &Log| log.len() > self.retain_events || log.payload_bytes() > self.retain_bytes;
        while is_over(log) && left > 0 && log.evict() {
            left -= 1;
        }
    }

    /// How late the sweep may be, so that it wakes a quiet loop seldom.
    fn sweep_every(&self) -> Duration {
        (self.retain_for / 16).max(Duration::from_secs(1))
    }
}

impl Topics {
    /// Follows other rules from now on. What they do not retain goes when its topic is next used,
    /// or by age; subscriptions and topics beyond them stay.
    pub fn reload(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Returns when [`sweep`](Topics::sweep) next has work; `None` if nothing is retained.
    ///
    /// The time is coarse: an event may stay a sixteenth of `retain_for` longer, or a second if
    /// that is more, unless its topic is used. Sweeping earlier is harmless, later keeps memory.
    pub fn next_sweep_at(&self) -> Option<Instant> {
        let grid = self.rules.sweep_every();
        let expires_at = self.oldest_expires_at()?;
        Some((expires_at + grid - Instant::RESOLUTION).floor(grid))
    }

    /// Evicts events by age, at most [`Topics::SWEEP_EVENTS_MAX`] in a call. If more are due,
    /// [`next_sweep_at`](Topics::next_sweep_at) lies in the past.
    pub fn sweep(&mut self, now: Instant) {
        for _ in 0..Topics::SWEEP_EVENTS_MAX {
            if self.oldest_expires_at().is_none_or(|at| at > now) {
                return;
            }
            self.trim_oldest();
        }
    }

    /// Evicts the oldest event of all topics. Returns the bytes that this frees, as
    /// [`bytes`](Topics::bytes) counts them: 0 if nothing is retained.
    ///
    /// Live subscribers still get the event: what is on its way is not taken.
    pub fn trim_oldest(&mut self) -> usize {
        let Some(slot) = self.table.oldest() else { return 0 };
        let bytes = self.table.bytes();
        self.table.change_log(slot, Log::evict);
        self.table.forget_if_unused(slot);
        bytes - self.table.bytes()
    }

    /// How many events one sweep evicts at most.
    pub const SWEEP_EVENTS_MAX: usize = 1024;

    fn oldest_expires_at(&self) -> Option<Instant> {
        let log = &self.table[self.table.oldest()?].log;
        log.first_appended_at().map(|at| at + self.rules.retain_for)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, ids, publish, topics};
    use super::super::{After, EventId};
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    // All of a topic's excess was evicted in one call, when the topic was next used.
    #[test]
    fn stricter_rules_take_a_large_log_a_share_at_a_time() {
        let mut topics = topics();
        topics.rules.retain_events = 5000;
        (0..5000).for_each(|_| _ = publish(&mut topics, 0, "a", "x"));
        topics.rules.retain_events = 10;
        let mut left = 5000;
        while left > 10 {
            publish(&mut topics, 1, "a", "x");
            left = (left + 1 - Topics::SWEEP_EVENTS_MAX.min(left)).max(10);
            assert_eq!(ids(&topics, "a").len(), left);
        }
        check(&topics);
    }

    #[test]
    fn count_bytes_and_age_each_evict() {
        let sizes = [3usize, 3, 3, 3];
        let cases = [
            // events, bytes, how long, now: what stays
            (9, 99, 60_000, 400, 4),
            (2, 99, 60_000, 400, 2),
            (0, 99, 60_000, 400, 0),
            (9, 6, 60_000, 400, 2),
            (9, 5, 60_000, 400, 1),
            (9, 2, 60_000, 400, 0),
            (9, 99, 100, 400, 1),
            (9, 99, 150, 400, 2),
            (9, 99, 60_000, 60_199, 3),
            (9, 99, 60_000, 60_200, 2),
            (9, 99, 0, 400, 0),
        ];
        for (retain_events, retain_bytes, retain_ms, now, left) in cases {
            let mut topics = topics();
            topics.rules.retain_events = retain_events;
            topics.rules.retain_bytes = retain_bytes;
            topics.rules.retain_for = Duration::from_millis(retain_ms);
            for (n, size) in sizes.into_iter().enumerate() {
                publish(&mut topics, 100 * (n as u64 + 1), "a", &"x".repeat(size));
            }
            let after = After::Position(EventId::ZERO);
            let read = topics.read_after(at(now), "a", after);
            assert_eq!(read.events().count(), left, "{retain_events} {retain_bytes} {retain_ms}");
            assert_eq!(read.gap.is_some(), left < 4);
            check(&topics);
        }
    }

    #[test]
    fn a_sweep_is_coarse_and_never_early() {
        let mut topics = topics(); // 10 minutes, so sweeps are 37.5 s apart
        assert_eq!(topics.next_sweep_at(), None);
        publish(&mut topics, 1000, "a", "x");
        publish(&mut topics, 2000, "b", "x");
        publish(&mut topics, 70_000, "a", "x");
        let sweep_at = topics.next_sweep_at().unwrap();
        assert_eq!(sweep_at, at(637_500));
        topics.sweep(at(600_999));
        assert_eq!(topics.len(), 2);
        topics.sweep(sweep_at);
        assert_eq!((topics.len(), topics.next_sweep_at()), (1, Some(at(675_000))));
        topics.sweep(at(675_000));
        assert_eq!((topics.len(), topics.next_sweep_at(), topics.bytes()), (0, None, 0));
        check(&topics);
    }

    #[test]
    fn one_sweep_does_not_do_everything() {
        let mut topics = topics();
        topics.rules.retain_events = usize::MAX;
        for n in 0..Topics::SWEEP_EVENTS_MAX as u64 + 5 {
            publish(&mut topics, n / 100, "a", "x");
        }
        let now = at(700_000);
        topics.sweep(now);
        assert_eq!(topics.table[0].log.len(), 5);
        assert!(topics.next_sweep_at().unwrap() <= now);
        topics.sweep(now);
        assert_eq!(topics.len(), 0);
    }

    #[test]
    fn the_oldest_event_of_all_topics_goes_first() {
        let mut topics = topics();
        let mut published = Vec::new();
        for (n, topic) in ["a", "b", "b", "a", "c", "a"].into_iter().enumerate() {
            published.push(publish(&mut topics, n as u64, topic, "x"));
        }
        while !published.is_empty() {
            let mut left: Vec<_> = ["a", "b", "c"].iter().flat_map(|t| ids(&topics, t)).collect();
            left.sort();
            assert_eq!(left, published);
            assert_eq!(topics.trim_oldest(), 1 + Log::EVENT_BYTES);
            published.remove(0);
            check(&topics);
        }
        assert_eq!((topics.trim_oldest(), topics.bytes(), topics.len()), (0, 0, 0));
    }
}
