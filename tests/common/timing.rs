//! Spans: how late a deadline may act, how long to wait for what has none, how often a long test
//! repeats itself, and who may use the machine meanwhile.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::lag;

/// The tick of every server in these tests.
pub const TICK: Duration = Duration::from_millis(10);

/// How much later than its moment a deadline may act on a busy machine with two cores: one tick,
/// and a quarter of a second.
pub const EPS: Duration = Duration::from_millis(10 + 250);

/// How long to wait for what must come some time, but has no deadline of its own.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stretch of time that is measured from before its cause, so that it is never measured too
/// short.
#[derive(Clone, Copy, Debug)]
pub struct Span(Instant);

impl Span {
    /// To be called before what starts the deadline.
    pub fn begin() -> Span {
        lag::watch();
        Span(Instant::now())
    }

    /// Gives how late something may be that was due in this stretch: [`EPS`], and the time for
    /// which the machine let nobody run.
    pub fn lateness_max(&self) -> Duration {
        EPS + self.stalled()
    }

    /// Gives the time for which the machine let nobody run.
    pub fn stalled(&self) -> Duration {
        lag::stalled_since(self.0)
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Asserts that `span` has passed since the beginning, and no more than [`Span::lateness_max`]
    /// beyond it.
    #[track_caller]
    pub fn took(&self, what: &str, span: Duration) {
        self.took_between(what, span, span);
    }

    /// Asserts that at least `least` and at most `most` and [`Span::lateness_max`] have passed
    /// since the beginning.
    #[track_caller]
    pub fn took_between(&self, what: &str, least: Duration, most: Duration) {
        let elapsed = self.elapsed();
        println!("{what}: {elapsed:?} of {least:?} to {most:?}");
        assert!(elapsed >= least, "{what}: {elapsed:?} is before {least:?}");
        let late = self.lateness_max();
        assert!(elapsed <= most + late, "{what}: {elapsed:?} is more than {late:?} after {most:?}");
    }
}

/// Asserts that what began at `began` happened now: not before `span` had passed, and at most
/// [`EPS`] after.
#[track_caller]
pub fn assert_took(began: Instant, span: Duration) {
    assert_took_between(began, span, span + EPS);
}

/// Asserts that what began at `began` happened now, not before `least` and not after `most`.
#[track_caller]
pub fn assert_took_between(began: Instant, least: Duration, most: Duration) {
    let took = began.elapsed();
    // What the machine was late by itself is not the server's.
    let most = most + lag::worst();
    println!("took {took:?}, allowed {least:?} to {most:?}");
    assert!((least..=most).contains(&took), "took {took:?}, allowed {least:?} to {most:?}");
}

/// Waits until `condition` holds, for [`PATIENCE`] at most.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds, for `span` at most.
#[track_caller]
pub fn within(span: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_within(span, condition), "not within {span:?}: {what}");
}

/// Waits until `condition` holds, for `span` at most, and for as long as the machine let nobody
/// run. Says whether it does.
pub fn comes_within(span: Duration, mut condition: impl FnMut() -> bool) -> bool {
    lag::watch();
    let began = Instant::now();
    while !condition() {
        if began.elapsed() >= span && began.elapsed() >= span + lag::stalled_since(began) {
            return condition();
        }
        thread::sleep(ms(2));
    }
    true
}

/// Sets a flag when it is dropped, also when a test fails: scoped threads that wait for the flag
/// end then, and the test too.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Locks what a test that failed may have left locked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives how often to do what is better done often: `default`, or `ROUNDS=` if that is set.
pub fn rounds(default: usize) -> usize {
    env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Gives how often to do what cannot be done for ever: `few` times `ROUNDS=` if that is set, at
/// most `most`.
pub fn rounds_of(few: usize, most: usize) -> usize {
    few.saturating_mul(rounds(1)).min(most)
}

/// Gives a bound on CPU time or on delay under load that holds for optimized code, widened where it
/// is not optimized.
pub fn optimized(bound: Duration) -> Duration {
    if cfg!(debug_assertions) { bound * 5 } else { bound }
}

/// Held by a test whose timing others may share the machine with, as long as they are as quiet.
pub fn quiet() -> RwLockReadGuard<'static, ()> {
    lag::watch();
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that loads the machine, or that measures it: it runs alone.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    lag::watch();
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the value that `percent` of the values do not exceed.
pub fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort();
    values[(values.len() * percent).div_ceil(100).saturating_sub(1)]
}

static MACHINE: RwLock<()> = RwLock::new(());
