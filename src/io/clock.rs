//! The loop's clock: the system's, or one that a test or a host moves by hand.
//!
//! The system's clock notices that the process was stopped. Time in which the process could not run
//! (SIGSTOP, a debugger, a starved container, a laptop's lid) is taken out of the loop's time: the
//! time left to each deadline stays, and no peer is judged for what the server could not hear.

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::ground::time::{Instant, millis_up};
use crate::io::manual_clock::ManualClock;
use crate::threads::command_queue::Shared;

/// Tells the loop's time.
#[derive(Debug)]
pub(crate) enum Clock {
    System(SystemClock),
    Manual(Follower),
}

/// How time passed since the loop asked to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// As expected.
    Evenly,
    /// Time jumped: peers may be gone, and live ones had no chance to be heard.
    Jumped(Duration),
}

impl Clock {
    /// Makes the system's clock, or one that follows `manual`.
    pub fn new(manual: Option<ManualClock>) -> Clock {
        match manual {
            None => Clock::System(SystemClock::new()),
            Some(clock) => Clock::Manual(Follower::new(clock)),
        }
    }

    /// Reads the clock.
    pub fn now(&self) -> Instant {
        match self {
            Clock::System(clock) => clock.now(),
            Clock::Manual(clock) => clock.seen,
        }
    }

    /// Reads the clock at the start of a turn that was due at `asked_at` at the latest.
    pub fn resume(&mut self, asked_at: Option<Instant>) -> (Instant, Passed) {
        let (now, jump) = match self {
            Clock::System(clock) => clock.resume(asked_at),
            Clock::Manual(clock) => clock.resume(asked_at),
        };
        match jump >= JUMP_MIN {
            true => (now, Passed::Jumped(jump)),
            false => (now, Passed::Evenly),
        }
    }

    /// Returns the time to wait until `at`, rounded up.
    pub fn until(&self, at: Instant) -> Duration {
        let now = match self {
            Clock::System(clock) => clock.now(),
            Clock::Manual(clock) => clock.shown(),
        };
        Duration::from_millis(millis_up(at.since(now)))
    }

    /// Returns the date, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        let date = match self {
            Clock::System(_) => SystemTime::now(),
            Clock::Manual(clock) => clock.clock.read().date,
        };
        date.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
    }

    /// Returns whether time passes by itself.
    pub fn is_running(&self) -> bool {
        matches!(self, Clock::System(_))
    }

    /// Wakes `server` whenever a manual clock is moved.
    pub fn wake(&self, server: &Arc<Shared>) {
        if let Clock::Manual(follower) = self {
            follower.clock.attach(server);
        }
    }
}

/// The system's clock, less the time in which the process was stopped.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: StdInstant,
    /// Time in which the process was stopped.
    skipped: Duration,
    /// For how long the machine had been suspended at `looked_at`.
    suspended: Duration,
    looked_at: Instant,
}

impl SystemClock {
    fn new() -> SystemClock {
        SystemClock {
            began: StdInstant::now(),
            skipped: Duration::ZERO,
            suspended: suspended(),
            looked_at: Instant::default(),
        }
    }

    fn now(&self) -> Instant {
        let elapsed = self.began.elapsed().saturating_sub(self.skipped);
        Instant::from_millis(elapsed.as_millis() as u64)
    }

    /// Returns the time, and for how long the process could not run.
    fn resume(&mut self, asked_at: Option<Instant>) -> (Instant, Duration) {
        let now = self.now();
        let late = asked_at.map_or(Duration::ZERO, |at| now.since(at));
        let suspended_for = self.look_for_suspension(now);
        if late >= STOPPED_FOR_MIN {
            self.skipped += late;
        }
        (self.now(), late.max(suspended_for))
    }

    /// Returns for how long the machine was suspended since the last look, with one look a second
    /// at most: some machines need a system call to read this clock.
    fn look_for_suspension(&mut self, now: Instant) -> Duration {
        if now.since(self.looked_at) < LOOK_EVERY {
            return Duration::ZERO;
        }
        self.looked_at = now;
        let before = std::mem::replace(&mut self.suspended, suspended());
        self.suspended.saturating_sub(before)
    }
}

/// Follows a manual clock, to the next deadline and no further in one turn: however far the clock
/// was moved, each deadline acts in its own tick.
#[derive(Debug)]
pub(crate) struct Follower {
    clock: ManualClock,
    /// What the clock showed when the loop began.
    began: Duration,
    /// The time of the last turn.
    seen: Instant,
    suspended: Duration,
}

impl Follower {
    fn new(clock: ManualClock) -> Follower {
        let time = clock.read();
        let (began, suspended) = (time.passed, time.suspended);
        Follower { clock, began, seen: Instant::default(), suspended }
    }

    /// Returns the time that the clock shows.
    fn shown(&self) -> Instant {
        let passed = self.clock.read().passed.saturating_sub(self.began);
        Instant::from_millis(passed.as_millis() as u64)
    }

    /// Returns the time, and for how long the process could not run.
    fn resume(&mut self, asked_at: Option<Instant>) -> (Instant, Duration) {
        let shown = self.shown();
        self.seen = asked_at.map_or(shown, |at| shown.min(at)).max(self.seen);
        let suspended = self.clock.read().suspended;
        let before = std::mem::replace(&mut self.suspended, suspended);
        (self.seen, suspended.saturating_sub(before))
    }
}

/// Returns how long the machine has been suspended since it was started.
fn suspended() -> Duration {
    let read = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
    };
    let monotonic = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(monotonic)
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A turn this late means that the process could not run.
const STOPPED_FOR_MIN: Duration = Duration::from_secs(1);
/// After a stop this long peers may have given up: they are pinged.
const JUMP_MIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_manual_clock_is_followed_to_what_is_due_and_no_further() {
        let manual = ManualClock::new();
        manual.advance(seconds(1000));
        let mut clock = Clock::new(Some(manual.clone()));
        assert_eq!(clock.resume(None), (at(0), Passed::Evenly), "it begins with the loop");
        manual.advance(seconds(10));
        assert_eq!(clock.now(), at(0), "it is read at the start of a turn");
        assert_eq!(clock.until(at(4_000)), Duration::ZERO);
        assert_eq!(clock.until(at(12_000)), seconds(2));
        assert_eq!(clock.resume(Some(at(4_000))), (at(4_000), Passed::Evenly));
        assert_eq!(clock.resume(Some(at(3_000))).0, at(4_000), "it never goes back");
        assert_eq!(clock.resume(Some(at(12_000))).0, at(10_000));
        manual.advance(seconds(10));
        assert_eq!(clock.resume(None).0, at(20_000));
    }

    #[test]
    fn a_suspension_moves_the_date_alone() {
        let manual = ManualClock::new();
        let mut clock = Clock::new(Some(manual.clone()));
        let date = clock.unix_ms();
        manual.suspend(seconds(9));
        assert_eq!(clock.resume(None), (at(0), Passed::Evenly));
        manual.suspend(seconds(3600));
        assert_eq!(clock.resume(Some(at(5))), (at(0), Passed::Jumped(seconds(3600))));
        assert_eq!(clock.resume(Some(at(5))), (at(0), Passed::Evenly));
        assert_eq!(clock.unix_ms() - date, 3_609_000);
        manual.set_date(UNIX_EPOCH);
        assert_eq!((clock.resume(None), clock.unix_ms()), ((at(0), Passed::Evenly), 0));
    }
}
