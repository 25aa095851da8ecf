//! Token bucket in eight bytes.

use crate::core::ground::time::Instant;

/// Limits a rate: `rate` tokens come each second, at most twice as many are saved up.
///
/// The bucket stores no count but a time: when all tokens taken will have come. So a new bucket,
/// zero, is full, and a rate may change while the bucket is in use. Each take cuts the time of its
/// tokens to whole nanoseconds. Rates and counts are from 1 to 2^30.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    paid_at_ns: u64,
}

impl Bucket {
    /// Takes one token; returns whether there was one.
    pub fn take(&mut self, now: Instant, rate: u64) -> bool {
        let is_there = self.tokens(now, rate) > 0;
        if is_there {
            self.spend(now, rate, 1);
        }
        is_there
    }

    /// Takes `count` tokens, also more than there are: the missing ones have to come first.
    pub fn spend(&mut self, now: Instant, rate: u64, count: u64) {
        let paid_at_ns = self.paid_at_ns.max(nanoseconds(now));
        self.paid_at_ns = paid_at_ns.saturating_add(count * SECOND_NS / rate);
    }

    /// Returns how many tokens there are.
    pub fn tokens(&self, now: Instant, rate: u64) -> u64 {
        let debt_ns = self.paid_at_ns.saturating_sub(nanoseconds(now));
        SAVED_NS.saturating_sub(debt_ns) * rate / SECOND_NS
    }

    /// Returns the first moment, at `now` or later, with `count` tokens in the bucket. It never has
    /// more than twice the rate.
    pub fn ready_at(&self, now: Instant, rate: u64, count: u64) -> Instant {
        let needed_ns = (count * SECOND_NS).div_ceil(rate).min(SAVED_NS);
        let at_ns = (self.paid_at_ns + needed_ns).saturating_sub(SAVED_NS);
        Instant::from_millis(at_ns.div_ceil(MILLISECOND_NS)).max(now)
    }
}

fn nanoseconds(at: Instant) -> u64 {
    at.as_millis().saturating_mul(MILLISECOND_NS)
}

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MILLISECOND_NS;
/// The time in which a bucket fills: two seconds, whatever its rate.
const SAVED_NS: u64 = 2 * SECOND_NS;

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1 << 33;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(START_MS + ms)
    }

    #[test]
    fn twice_the_rate_at_once_and_then_the_rate() {
        for rate in [1, 2, 3, 7, 10, 999, 1000, 777_777, 1_000_000] {
            let mut bucket = Bucket::default();
            assert_eq!(bucket.tokens(at(0), rate), 2 * rate);
            let burst = (0..3 * rate).filter(|_| bucket.take(at(0), rate)).count() as u64;
            // A token's time is cut to a nanosecond.
            assert!((2 * rate..=2 * rate + rate / 500).contains(&burst), "{rate}: {burst}");
        }
        let mut bucket = Bucket::default();
        bucket.spend(at(0), 10, 20);
        assert!(!bucket.take(at(99), 10));
        assert!(bucket.take(at(100), 10));
        assert!(!bucket.take(at(100), 10));
        assert_eq!(bucket.tokens(at(1_000_000), 10), 20, "no more is saved");
    }

    #[test]
    fn the_rate_holds_however_often_is_asked() {
        for rate in [1, 3, 9, 999, 1024] {
            let mut bucket = Bucket::default();
            bucket.spend(at(0), rate, 2 * rate);
            let mut taken = 0;
            for ms in 1..=60_000 {
                while bucket.take(at(ms), rate) {
                    taken += 1;
                }
            }
            assert_eq!(taken, 60 * rate, "{rate}");
        }
    }

    #[test]
    fn tokens_are_there_when_they_are_said_to_be_and_not_before() {
        for rate in [1u64, 3, 7, 50, 1000, 30_000, 1 << 30] {
            for spent in [0, 1, rate, 2 * rate, 2 * rate + 5, 1 << 30] {
                for count in [1, rate.div_ceil(20), 2 * rate] {
                    let mut bucket = Bucket::default();
                    bucket.spend(at(0), rate, spent);
                    let ready_at = bucket.ready_at(at(0), rate, count);
                    let case = format!("rate {rate} spent {spent} count {count}: {ready_at:?}");
                    assert!(bucket.tokens(ready_at, rate) >= count, "{case}");
                    if ready_at > at(0) {
                        let before = Instant::from_millis(ready_at.as_millis() - 1);
                        assert!(bucket.tokens(before, rate) < count, "{case}");
                    }
                }
            }
        }
    }
}
