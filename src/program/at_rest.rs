//! Memory goes back to the system when a server that was busy has come to rest.
//!
//! The allocator of glibc keeps what was freed, unless it lies at the end of its heap: after a
//! flood of large messages that is tens of megabytes. It gives them back when it is asked. Only the
//! program asks: the allocator is the process's, and in another process it is the host's.

use std::time::{Duration, Instant};

use crate::core::observe::stats::Stats;

/// Sees when a server that was busy has come to rest.
#[derive(Default)]
pub(super) struct Rest {
    /// The work that was done when memory was last given back.
    given_back_at: u64,
    /// The work that was done at the last look, and when to look again.
    seen: u64,
    look_at: Option<Instant>,
}

impl Rest {
    /// Looks, before the loop waits. Returns how long the loop may wait at most: a busy server has
    /// one wake-up more, a second after it has come to rest.
    ///
    /// `now` is asked only once the server has been busy.
    pub fn look(
        &mut self,
        now: impl FnOnce() -> Instant,
        stats: &Stats,
        give_back: impl FnOnce(),
    ) -> Option<Duration> {
        let work = work(stats);
        let Some(look_at) = self.look_at else {
            if work - self.given_back_at < BUSY_MIN {
                return None;
            }
            return self.look_later(work, now());
        };
        let now = now();
        if now < look_at {
            return Some(look_at - now);
        }
        if work - self.seen > REST_MAX {
            return self.look_later(work, now);
        }
        self.given_back_at = work;
        self.look_at = None;
        give_back();
        None
    }

    fn look_later(&mut self, work: u64, now: Instant) -> Option<Duration> {
        self.seen = work;
        self.look_at = Some(now + INTERVAL);
        Some(INTERVAL)
    }
}

/// What takes memory for a while: connections, and messages in both directions.
fn work(stats: &Stats) -> u64 {
    stats.accepted + stats.messages_received + stats.messages_sent + stats.messages_posted
}

/// Has the allocator give back whole pages that are free. It takes some milliseconds after a flood.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim(3) may be called at any time, by any thread")]
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

/// Less work than this leaves too little.
const BUSY_MIN: u64 = 64;
/// A server that does more than this in [`INTERVAL`] is not at rest.
const REST_MAX: u64 = 16;
const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_once_when_a_busy_server_rests() {
        let (began, mut count) = (Instant::now(), 0);
        let (mut rest, mut stats) = (Rest::default(), Stats::default());
        let mut look = |ms: u64, stats: &Stats| {
            let now = || began + Duration::from_millis(ms);
            (rest.look(now, stats, || count += 1), count)
        };
        assert_eq!(look(0, &stats), (None, 0), "nothing was done");
        stats.accepted = BUSY_MIN - 1;
        assert_eq!(look(0, &stats), (None, 0), "little was done");
        stats.messages_received = 10;
        assert_eq!(look(0, &stats), (Some(INTERVAL), 0));
        assert_eq!(look(400, &stats), (Some(Duration::from_millis(600)), 0), "it is early");
        stats.messages_sent = REST_MAX + 1;
        assert_eq!(look(1000, &stats), (Some(INTERVAL), 0), "it is still at work");
        stats.messages_sent += REST_MAX;
        assert_eq!(look(1999, &stats), (Some(Duration::from_millis(1)), 0));
        assert_eq!(look(2000, &stats), (None, 1));
        // From here on the loop waits for as long as nothing happens.
        assert_eq!(look(9000, &stats), (None, 1), "nothing was done since");
    }
}
