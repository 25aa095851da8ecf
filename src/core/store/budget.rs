//! How much may be written in a day.

use std::time::Duration;

use crate::core::ground::time::Instant;

/// Bytes that come evenly over the day, and are saved up to an hour's share, or to 64 KiB if that
/// is more.
#[derive(Debug)]
pub struct Budget {
    per_day: u64,
    /// Less than nothing while more was written than there was.
    saved: i64,
    at: Instant,
}

impl Budget {
    /// Makes a budget of so many bytes a day, from 1 MiB to 64 GiB. It begins with as much as can
    /// be saved.
    pub fn new(now: Instant, per_day: u64) -> Budget {
        let mut budget = Budget { per_day, saved: 0, at: now };
        budget.saved = budget.most();
        budget
    }

    /// Returns how long it takes until so many bytes may be written: nothing if they may be now.
    pub fn wait(&mut self, now: Instant, bytes: u64) -> Duration {
        self.follow(now);
        let missing = u64::try_from(bytes as i64 - self.saved).unwrap_or(0);
        Duration::from_millis((missing * DAY_MS).div_ceil(self.per_day))
    }

    /// Notes that so many bytes were written.
    pub fn spend(&mut self, bytes: u64) {
        self.saved -= bytes as i64;
    }

    fn follow(&mut self, now: Instant) {
        let passed = (now.since(self.at).as_millis() as u64).min(DAY_MS);
        let come = self.per_day * passed / DAY_MS;
        self.saved = (self.saved + come as i64).min(self.most());
        // What was too short for a byte goes on counting.
        let counted = (come * DAY_MS).div_ceil(self.per_day).min(passed);
        self.at = match passed {
            DAY_MS => now,
            _ => self.at + Duration::from_millis(counted),
        };
    }

    fn most(&self) -> i64 {
        (self.per_day / 24).max(SAVED_MIN) as i64
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const SAVED_MIN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_bytes_and_what_was_saved() {
        for per_day in [1 << 20, 50 << 20, 1 << 36] {
            let mut now = Instant::from_millis(5);
            let mut budget = Budget::new(now, per_day);
            let saved = budget.most() as u64;
            let mut written = 0;
            while now < Instant::from_millis(5 + DAY_MS) {
                let wait = budget.wait(now, 4096);
                now = now + wait;
                budget.spend(4096 * 16);
                written += 4096 * 16;
                now = now + Duration::from_millis(7);
                if per_day == 1 << 36 {
                    now = now + Duration::from_secs(60);
                }
            }
            let most = per_day + saved + 2 * 4096 * 16;
            assert!(written <= most, "{written} of {most}");
            assert!(per_day == 1 << 36 || written + 4096 * 17 >= per_day, "{written}");
        }
    }

    #[test]
    fn no_more_than_an_hour_is_saved() {
        let mut budget = Budget::new(Instant::from_millis(0), 24 << 20);
        budget.spend(1 << 20);
        let later = Instant::from_millis(30 * DAY_MS);
        assert_eq!(budget.wait(later, 1 << 20), Duration::ZERO);
        assert_eq!(budget.wait(later, (1 << 20) + 1), Duration::from_millis(4));
    }
}
