//! How long a client waits before it tries again.

use std::time::Duration;

use crate::core::ground::random::Random;
use crate::core::ground::time::millis_up;

/// Full jitter: retry `n`, counted from 0, waits anything from nothing to `delay` doubled `n`
/// times, at most `delay_max`. So clients that lost their server together do not come back
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first retry.
    pub delay: Duration,
    /// The longest wait of all.
    pub delay_max: Duration,
}

impl Backoff {
    /// Returns the longest wait before retry `n`.
    pub fn most(&self, n: u32) -> Duration {
        let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
        self.delay.saturating_mul(factor).min(self.delay_max)
    }

    /// Draws the wait before retry `n`; at least what the server asked for.
    pub fn draw(&self, n: u32, asked: Duration, random: &mut Random) -> Duration {
        let drawn = random.between(0, millis_up(self.most(n)));
        Duration::from_millis(drawn).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { delay: Duration::from_secs(1), delay_max: Duration::from_secs(30) };

    #[test]
    fn the_longest_wait_doubles_up_to_its_bound() {
        let seconds: Vec<u64> = (0..7).map(|n| BACKOFF.most(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        for n in [31, 32, 33, u32::MAX] {
            assert_eq!(BACKOFF.most(n), BACKOFF.delay_max);
        }
    }

    #[test]
    fn waits_are_spread_over_all_of_it_and_never_shorter_than_asked() {
        let mut random = Random::new(1);
        let waits: Vec<_> =
            (0..1000).map(|_| BACKOFF.draw(2, Duration::ZERO, &mut random)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(4)));
        let early = waits.iter().filter(|wait| **wait < Duration::from_secs(1)).count();
        assert!((150..350).contains(&early), "{early} of 1000 in the first quarter");
        let asked = Duration::from_secs(60);
        assert_eq!(BACKOFF.draw(2, asked, &mut random), asked);
    }
}
