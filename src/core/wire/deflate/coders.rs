//! The compressor and the inflater that all connections share.

use std::time::Duration;

use super::{Compressor, Inflater, Want};
use crate::core::ground::time::Instant;

/// One compressor and one inflater, made when they are first needed.
#[derive(Debug, Default)]
pub struct Coders {
    inflater: Option<Box<Inflater>>,
    compressor: Option<Box<Compressor>>,
    /// What the compressor writes into.
    out: Vec<u8>,
    /// Bytes that were inflated since they were last asked for.
    inflated: usize,
    /// All compressed bytes that came, and all that came out of them.
    counts: (u64, u64),
    /// Something was needed since the end of a turn was last told.
    is_in_use: bool,
    /// When to free everything; `None` if nothing is kept.
    rests_at: Option<Instant>,
}

impl Coders {
    /// Lends an inflater that begins with the next message, which may refer to a history.
    pub fn take_inflater(&mut self, history: &[u8]) -> Box<Inflater> {
        self.is_in_use = true;
        let mut inflater = self.inflater.take().unwrap_or_default();
        inflater.begin(history);
        inflater
    }

    /// Takes an inflater back.
    pub fn keep_inflater(&mut self, inflater: Box<Inflater>) {
        self.inflater = Some(inflater);
    }

    /// Takes note of bytes that went into an inflater, and of those that came out.
    pub fn note_inflated(&mut self, used: usize, made: usize) {
        self.inflated += made;
        self.counts.0 += used as u64;
        self.counts.1 += made as u64;
    }

    /// Returns all compressed bytes that came, and all that came out of them.
    pub fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// Returns whether so much was inflated that others must have a turn.
    pub fn has_inflated_much(&self) -> bool {
        self.inflated >= SLICE_BYTES
    }

    /// Returns how many bytes were inflated since the last call.
    pub fn take_inflated(&mut self) -> usize {
        std::mem::take(&mut self.inflated)
    }

    /// Lends the compressed form of a message behind its history, which may be empty; `None` if the
    /// message does not shrink.
    pub fn compress(&mut self, want: Want, history: &[u8], message: &[u8]) -> Option<&[u8]> {
        self.is_in_use = true;
        let Coders { compressor, out, .. } = self;
        Compressor::compress(compressor, want, history, message, out).then_some(&out[..])
    }

    /// Returns the bytes that are kept.
    pub fn bytes(&self) -> usize {
        let inflater = self.inflater.as_ref().map_or(0, |_| Inflater::BYTES);
        let compressor = self.compressor.as_ref().map_or(0, |_| Compressor::BYTES);
        inflater + compressor + self.out.capacity()
    }

    /// Frees everything if nothing was needed for a while. To be called as a turn ends.
    #[inline]
    pub fn rest(&mut self, now: Instant) {
        if self.inflater.is_some() || self.compressor.is_some() {
            self.rest_on(now);
        }
    }

    fn rest_on(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_use) || self.rests_at.is_none() {
            self.rests_at = Some(now + KEPT_FOR);
        } else if self.rests_at.is_some_and(|at| at <= now) {
            *self = Coders { counts: self.counts, ..Coders::default() };
        }
    }

    /// Returns when everything is to be freed; `None` if nothing is kept.
    pub fn rests_at(&self) -> Option<Instant> {
        self.rests_at
    }
}

/// So much is inflated of one message before the turn is looked at again.
const SLICE_BYTES: usize = 64 * 1024;

/// How long coders are kept that nothing needs.
const KEPT_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coders_are_made_at_the_first_need_and_freed_ten_seconds_after_the_last() {
        let at = Instant::from_millis;
        let mut coders = Coders::default();
        coders.rest(at(0));
        assert_eq!((coders.bytes(), coders.rests_at()), (0, None));
        let want = Want { level: 6, window_bits: 15 };
        assert!(coders.compress(want, b"", &[b'a'; 100]).is_some());
        let inflater = coders.take_inflater(b"");
        coders.keep_inflater(inflater);
        assert!(coders.bytes() > Compressor::BYTES + Inflater::BYTES);
        coders.rest(at(1000));
        coders.rest(at(10_999));
        assert_eq!(coders.rests_at(), Some(at(11_000)));
        coders.compress(want, b"", &[b'a'; 100]);
        coders.rest(at(11_000));
        coders.rest(at(20_999));
        assert!(coders.bytes() > 0);
        coders.rest(at(21_000));
        assert_eq!((coders.bytes(), coders.rests_at()), (0, None));
    }
}
