//! Moments of the loop's own clock.
//!
//! The engine never reads a clock: `now` is an argument. An [`Instant`] counts milliseconds since
//! the loop began, so it fits a device without a wall clock. A connection stores its moments as
//! [`Moment`], 32 bits wide, compared by wrapping difference. That is good for spans up to 24 days:
//! no configured duration may be longer.

use std::num::NonZeroU32;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment: whole milliseconds since the loop began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// How far a moment may lie before the instant it stands for: it is cut to whole milliseconds.
    /// A deadline adds it to its span, so that it never acts early.
    pub const RESOLUTION: Duration = Duration::from_millis(1);

    /// Returns the moment `ms` milliseconds after the loop began.
    pub const fn from_millis(ms: u64) -> Self {
        Instant(ms)
    }

    /// Returns the milliseconds since the loop began.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Rounds the moment down to a multiple of `grid`; a `grid` of zero changes nothing.
    pub fn floor(self, grid: Duration) -> Instant {
        match millis_up(grid) {
            0 => self,
            grid => Instant(self.0 - self.0 % grid),
        }
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Adds a span, rounded up to whole milliseconds: a deadline is never early.
    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(millis_up(span)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(millis_up(span)))
    }
}

/// A moment in 32 bits, as a connection stores it: the low half of an [`Instant`].
///
/// Only moments less than 24 days apart can be told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    /// Returns the full moment: of all with these 32 bits, the one nearest to `now`.
    pub const fn near(self, now: Instant) -> Instant {
        let ahead = self.0.wrapping_sub(now.0 as u32) as i32;
        Instant(now.0.saturating_add_signed(ahead as i64))
    }

    /// Returns the 32 bits themselves, for instance as the payload of a ping.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Moment {
        Moment(at.0 as u32)
    }
}

/// A [`Moment`] whose `Option` takes no more room. The moment whose bits are all zero is stored as
/// the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SomeMoment(NonZeroU32);

impl SomeMoment {
    /// Returns the full moment, as [`Moment::near`].
    pub const fn near(self, now: Instant) -> Instant {
        Moment(self.0.get()).near(now)
    }
}

impl From<Instant> for SomeMoment {
    fn from(at: Instant) -> SomeMoment {
        SomeMoment(NonZeroU32::new(Moment::from(at).bits()).unwrap_or(NonZeroU32::MIN))
    }
}

const _: () = assert!(size_of::<Option<SomeMoment>>() == size_of::<Moment>());

/// Returns a span in whole milliseconds, rounded up. Rounded down it would end a deadline early or
/// make a busy loop.
pub fn millis_up(span: Duration) -> u64 {
    let part = u64::from(span.subsec_nanos().div_ceil(1_000_000));
    span.as_secs().saturating_mul(1000).saturating_add(part)
}

/// Returns the earlier of two moments; the only one, if the other is `None`.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}

/// The longest span that two moments of a connection can be apart.
pub const SPAN_MAX: Duration = Duration::from_secs(24 * 24 * 60 * 60);

const _: () = assert!(SPAN_MAX.as_millis() < i32::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_finds_its_instant_over_the_wrap() {
        let wrap = 1u64 << 32;
        for (at, now) in
            [(5, 9), (wrap - 1, wrap + 10), (wrap + 10, wrap - 1), (wrap * 3 + 7, wrap * 3)]
        {
            let at = Instant::from_millis(at);
            assert_eq!(Moment::from(at).near(Instant::from_millis(now)), at);
        }
    }

    #[test]
    fn a_moment_that_may_be_none_is_never_early() {
        for ms in [0, 1, 5, (1 << 32) - 1, 1 << 32, (1 << 32) + 1] {
            let at = Instant::from_millis(ms);
            let kept = SomeMoment::from(at).near(Instant::from_millis(ms + 7));
            assert_eq!(kept.since(at), Duration::from_millis(u64::from(ms % (1 << 32) == 0)));
            assert!(kept >= at);
        }
    }

    #[test]
    fn spans_are_rounded_up() {
        assert_eq!(millis_up(Duration::from_micros(1)), 1);
        assert_eq!(millis_up(Duration::from_millis(7)), 7);
        assert_eq!(millis_up(Duration::MAX), u64::MAX);
        assert_eq!(Instant::from_millis(3) + Duration::from_micros(1500), Instant::from_millis(5));
    }

    #[test]
    fn the_grid_moves_down() {
        let second = Duration::from_secs(1);
        assert_eq!(Instant::from_millis(7_999).floor(second), Instant::from_millis(7_000));
        assert_eq!(Instant::from_millis(7_999).floor(Duration::ZERO), Instant::from_millis(7_999));
    }
}
