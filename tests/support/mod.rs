//! What the tests on real sockets share: peers that are scripted byte by byte, servers that can be
//! looked into, the lab as a child process, and how late is too late.

// Each test takes what it needs.
#![allow(dead_code)]

pub mod chunked;
pub mod honest;
#[cfg(feature = "program")]
pub mod lab;
pub mod peer;
pub mod process;
pub mod recorder;
pub mod server;
pub mod topics;
pub mod virtual_server;
mod witness;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The tick of every server in these tests.
pub const TICK: Duration = Duration::from_millis(10);

/// How much later than its moment a deadline may act: one tick, and 250 ms for a busy machine.
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
        witness::watch();
        Span(Instant::now())
    }

    /// Gives how late something may be that was due in this stretch: [`EPS`], and the time for
    /// which the machine let nobody run.
    pub fn lateness_max(&self) -> Duration {
        EPS + self.stalled()
    }

    /// Gives the time for which the machine let nobody run.
    pub fn stalled(&self) -> Duration {
        witness::stalled_since(self.0)
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

/// Waits until `condition` holds, for [`PATIENCE`] at most.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds, for `span` at most.
#[track_caller]
pub fn within(span: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < span, "not within {span:?}: {what}");
        std::thread::sleep(ms(2));
    }
}

/// Sets a flag when it is dropped, also when a test fails: scoped threads that wait for the flag
/// end then, and the test too.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often to do what is better done often: `default`, or `ROUNDS=` if that is set.
pub fn rounds(default: usize) -> usize {
    env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
