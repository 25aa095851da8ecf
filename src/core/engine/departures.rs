//! Connections that are told to go one after another over a window of time, so that their clients
//! do not come back all at once.

use std::time::Duration;

use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::{Instant, millis_up};

/// Connections whose turn to go is still to come.
#[derive(Debug)]
pub(super) struct Departures {
    began_at: Instant,
    /// The connection whose turn is next stands last.
    waiting: Vec<ConnectionId>,
    /// How many connections there were at the beginning.
    total: u64,
    spread_ms: u64,
    /// The latest that a client is told to come back.
    retry_ms_max: u64,
}

impl Departures {
    /// Spreads the connections over half the window, or less if they are few. The first goes at
    /// once. `told` clients are told when to come back: within the window, sooner if they are few.
    pub fn new(
        now: Instant,
        waiting: Vec<ConnectionId>,
        told: u64,
        window: Duration,
    ) -> Departures {
        let total = waiting.len() as u64;
        let window_ms = millis_up(window);
        let spread_ms = (window_ms / 2).min(total * 1000 / STARTS_PER_SECOND);
        let retry_ms_max = window_ms.min(RETRY_MS + told * RETRY_MS_EACH);
        Departures { began_at: now, waiting, total, spread_ms, retry_ms_max }
    }

    /// Returns within how many milliseconds clients are told to come back.
    pub fn retry_ms_max(&self) -> u64 {
        self.retry_ms_max
    }

    pub fn began_at(&self) -> Instant {
        self.began_at
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns over how many milliseconds the connections are spread.
    pub fn spread_ms(&self) -> u64 {
        self.spread_ms
    }

    /// Returns when the next connection's turn comes; `None` if no connection is left.
    pub fn next_at(&self) -> Option<Instant> {
        let left = self.waiting.len() as u64;
        let after_ms = (self.spread_ms * (self.total - left)).checked_div(self.total)?;
        (left > 0).then(|| self.began_at + Duration::from_millis(after_ms))
    }

    /// Takes the next connection whose turn has come; `None` if there is none.
    pub fn poll(&mut self, now: Instant) -> Option<ConnectionId> {
        self.next_at().filter(|at| *at <= now)?;
        self.waiting.pop()
    }

    /// Returns the connections whose turn has not come.
    pub fn into_waiting(self) -> Vec<ConnectionId> {
        self.waiting
    }
}

/// How many connections are told to go in a second, if there are that many.
const STARTS_PER_SECOND: u64 = 500;

/// How late one client comes back at most, and how much each further client adds, in milliseconds:
/// a restarted server easily takes a hundred connections a second.
pub(super) const RETRY_MS: u64 = 1000;
const RETRY_MS_EACH: u64 = 10;

const _: () = assert!(RETRY_MS_EACH < RETRY_MS && STARTS_PER_SECOND > 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;

    // FAULTS 187.
    #[test]
    fn a_client_comes_back_within_a_second_and_ten_milliseconds_for_each() {
        for (told, window_ms, most) in [
            (0, 30_000, 1000),
            (1, 30_000, 1010),
            (1, 500, 500),
            (100, 30_000, 2000),
            (10_000, 30_000, 30_000),
            (u64::from(u32::MAX), 24 * 86_400_000, 24 * 86_400_000),
        ] {
            let window = Duration::from_millis(window_ms);
            let departures = Departures::new(Instant::from_millis(7), Vec::new(), told, window);
            assert_eq!(departures.retry_ms_max(), most, "{told} in {window_ms}");
        }
    }

    #[test]
    fn the_first_goes_at_once_and_the_last_within_half_the_window() {
        for (count, window_s, last_ms) in [(1, 30, 0), (100, 30, 198), (10_000, 30, 14_998)] {
            let ids = (0..count).map(|key| ConnectionId::new(key, Generation::FIRST)).collect();
            let began_at = Instant::from_millis(7);
            let mut departures =
                Departures::new(began_at, ids, count as u64, Duration::from_secs(window_s));
            assert_eq!(departures.next_at(), Some(began_at));
            let mut last = None;
            while let Some(at) = departures.next_at() {
                assert_eq!(departures.poll(Instant::from_millis(at.as_millis() - 1)), None);
                assert!(departures.poll(at).is_some());
                last = Some(at.since(began_at).as_millis());
            }
            assert_eq!(last, Some(last_ms));
        }
    }
}
