//! The loop's clock, and how it notices that it had been stopped.
//!
//! Time in which the process could not run (SIGSTOP, a debugger, a starved container, a laptop's
//! lid) is taken out of the loop's time: deadlines stand where they stood, and no peer is judged by
//! what it could not have been heard saying.

use std::time::{Duration, Instant as StdInstant};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Instant, millis_up};

/// Tells the loop's time.
#[derive(Debug)]
pub(crate) struct Clock {
    began: StdInstant,
    /// Time in which the process was stopped.
    skipped: Duration,
    /// How far the clock that counts suspended time was ahead when last looked at.
    suspended: Duration,
    looked_at: Instant,
}

/// How time passed since the loop asked to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// As asked.
    Evenly,
    /// It jumped: peers may be gone, and live ones had no chance to be heard.
    Jumped(Duration),
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            began: StdInstant::now(),
            skipped: Duration::ZERO,
            suspended: suspended(),
            looked_at: Instant::default(),
        }
    }

    /// Reads the clock.
    pub fn now(&self) -> Instant {
        let elapsed = self.began.elapsed().saturating_sub(self.skipped);
        Instant::from_millis(elapsed.as_millis() as u64)
    }

    /// Reads the clock at the start of a turn that was asked for at `asked_at` at the latest.
    pub fn resume(&mut self, asked_at: Option<Instant>) -> (Instant, Passed) {
        let now = self.now();
        let late = asked_at.map_or(Duration::ZERO, |at| now.since(at));
        let suspended_for = self.look_for_suspension(now);
        if late >= STOPPED_FOR_MIN {
            self.skipped += late;
        }
        match late.max(suspended_for) {
            jump if jump >= JUMP_MIN => (self.now(), Passed::Jumped(jump)),
            _ => (self.now(), Passed::Evenly),
        }
    }

    /// Gives for how long the machine was suspended since the last look, at most one a second: not
    /// every machine reads this clock without a system call.
    fn look_for_suspension(&mut self, now: Instant) -> Duration {
        if now.since(self.looked_at) < LOOK_EVERY {
            return Duration::ZERO;
        }
        self.looked_at = now;
        let before = std::mem::replace(&mut self.suspended, suspended());
        self.suspended.saturating_sub(before)
    }

    /// Gives the time to wait until `at`, rounded up.
    pub fn until(&self, at: Instant) -> Duration {
        Duration::from_millis(millis_up(at.since(self.now())))
    }
}

/// Gives how long the machine has been suspended since it was started.
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
/// A stop this long may have cost peers their patience: they are asked.
const JUMP_MIN: Duration = Duration::from_secs(10);
