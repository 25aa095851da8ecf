//! The timers that a handler has set for one connection.
//!
//! They have no entries of their own on the wheel: the entry of their connection is never later
//! than the earliest of them. There are at most `limits.timers`, a small
//! number, so looking through all of them takes bounded time.

use std::time::Duration;

use crate::core::config::TIMER_BYTES;
use crate::core::ground::time::Instant;

/// The timers of one connection, in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers(Box<[Timer]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    at: Instant,
    token: u64,
}

impl Timers {
    /// Returns how many timers are pending.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns when the first of them falls due; `None` if there is none.
    pub fn next_at(&self) -> Option<Instant> {
        self.0.iter().map(|timer| timer.at).min()
    }

    /// Sets a timer, or moves the pending timer with this token.
    pub fn set(&mut self, token: u64, at: Instant) {
        // A timer that is moved stands behind those of the same moment, as one that is set anew.
        match self.0.iter().position(|timer| timer.token == token) {
            Some(index) => {
                self.0[index..].rotate_left(1);
                let last = self.0.last_mut().expect("there is the one that was found");
                last.at = at;
            }
            None => {
                let mut timers = std::mem::take(&mut self.0).into_vec();
                timers.reserve_exact(1);
                timers.push(Timer { at, token });
                self.0 = timers.into_boxed_slice();
            }
        }
    }

    /// Removes the pending timer with this token. Returns whether there was one.
    pub fn cancel(&mut self, token: u64) -> bool {
        let found = self.0.iter().position(|timer| timer.token == token);
        found.is_some_and(|index| {
            self.remove(index);
            true
        })
    }

    /// Takes out the earliest timer that is due; of several of one moment, the one set first.
    pub fn poll_due(&mut self, now: Instant) -> Option<u64> {
        let due = self.0.iter().enumerate().filter(|(_, timer)| timer.at <= now);
        let (index, _) = due.min_by_key(|(_, timer)| timer.at)?;
        Some(self.remove(index).token)
    }

    /// Moves a timer later, by the time that has passed between the beginning of the turn in which
    /// it was set and its end.
    pub fn postpone(&mut self, token: u64, by: Duration) {
        if let Some(timer) = self.0.iter_mut().find(|timer| timer.token == token) {
            timer.at = timer.at + by;
        }
    }

    fn remove(&mut self, index: usize) -> Timer {
        let mut timers = std::mem::take(&mut self.0).into_vec();
        let timer = timers.remove(index);
        self.0 = timers.into_boxed_slice();
        timer
    }
}

const _: () = assert!(size_of::<Timer>() as u64 == TIMER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn timers_come_out_in_the_order_of_their_moments_and_of_their_setting() {
        let mut timers = Timers::default();
        for (token, at) in [(1, 30), (2, 10), (3, 30), (4, 20)] {
            timers.set(token, ms(at));
        }
        assert_eq!((timers.len(), timers.next_at()), (4, Some(ms(10))));
        assert_eq!(timers.poll_due(ms(9)), None, "none is early");
        timers.set(1, ms(30));
        timers.set(4, ms(40));
        assert_eq!(timers.len(), 4, "they are moved");
        assert!(timers.cancel(2) && !timers.cancel(2));
        assert_eq!(timers.next_at(), Some(ms(30)));
        timers.postpone(3, Duration::from_millis(1));
        let told: Vec<u64> = std::iter::from_fn(|| timers.poll_due(ms(100))).collect();
        assert_eq!(told, [1, 3, 4]);
        assert_eq!((timers.len(), timers.next_at()), (0, None));
    }
}
