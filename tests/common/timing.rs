//! Spans: how late a deadline may act, how often a long test repeats itself, and who may use the
//! machine meanwhile.

// Each test takes what it needs.
#![allow(dead_code)]

use super::lag;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// The wheel's tick in these tests.
pub const TICK: Duration = Duration::from_millis(10);

/// How late a deadline may act on a busy machine with two cores: a tick and a quarter of a second.
pub const EPS: Duration = Duration::from_millis(10 + 250);

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

/// Gives how often a test repeats itself: `few` times the factor in the environment variable
/// `ROUNDS`, at most `most`.
pub fn rounds(few: usize, most: usize) -> usize {
    let factor = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    few.saturating_mul(factor).min(most)
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
