//! What a token that expires lets its connection do, and until when.

use std::time::Duration;

use crate::core::admission::jwt::{Claims, KeyIndex};
use crate::core::admission::rights::{Right, Rights};
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;

/// What a token that expires lets its connection do, and until when.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Who came with the token.
    pub subject: Option<Identity>,
    rights: Rights,
    /// What the operator knows the token by.
    pub token_name: [u8; 8],
    expires_ms: u64,
    /// When something is to be done about it, as far as the wall clock has shown.
    acts_at: Instant,
    /// How long before the end the peer is told of it; 0 if it was told, or never is.
    told_ahead_ms: u16,
    /// `None` once the key was taken away: there is no right without it.
    key: Option<KeyIndex>,
}

/// What is to be done about the end of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: the wall clock has been set.
    Nothing,
    /// The peer is told how many milliseconds are left.
    Telling(u64),
    /// The connection ends.
    End,
}

impl Grant {
    /// Makes one of what a token claims; `unix_ms` is the wall clock.
    pub fn new(
        claims: Claims,
        key: KeyIndex,
        token_name: [u8; 8],
        now: Instant,
        unix_ms: u64,
    ) -> Grant {
        let Claims { subject, rights, expires_ms, .. } = claims;
        let (acts_at, told_ahead_ms) = (now, 0);
        let key = Some(key);
        let mut grant =
            Grant { subject, rights, token_name, expires_ms, acts_at, told_ahead_ms, key };
        grant.follow(now, unix_ms);
        grant
    }

    /// Returns whether the token has a right.
    pub fn may(&self, right: Right, topic: &str) -> bool {
        self.key.is_some() && self.rights.may(right, topic)
    }

    /// Returns the moment when something is to be done about the end.
    pub fn acts_at(&self) -> Instant {
        self.acts_at
    }

    /// Returns how many milliseconds are left of the token.
    pub fn left_ms(&self, unix_ms: u64) -> u64 {
        self.expires_ms.saturating_sub(unix_ms)
    }

    /// Has the peer be told before the end: 30 s before, or at once if less is left.
    pub fn tell(&mut self, now: Instant, unix_ms: u64) {
        self.told_ahead_ms = TOLD_AHEAD_MS;
        self.follow(now, unix_ms);
    }

    /// Has the peer be told again before the end of a token that it has just handed in: when half
    /// of the time is left at the latest, so that a token of a few seconds is not asked for without
    /// a pause.
    pub fn tell_again(&mut self, now: Instant, unix_ms: u64) {
        self.told_ahead_ms = (self.left_ms(unix_ms) / 2).min(TOLD_AHEAD_MS.into()) as u16;
        self.follow(now, unix_ms);
    }

    /// Goes by what the wall clock shows now: the clock may have been set.
    pub fn follow(&mut self, now: Instant, unix_ms: u64) {
        let left_ms = self.left_ms(unix_ms).saturating_sub(self.told_ahead_ms.into());
        self.acts_at = now + Duration::from_millis(left_ms);
    }

    /// Returns what is to be done, and takes note that it is done.
    pub fn act(&mut self, now: Instant, unix_ms: u64) -> Due {
        let left_ms = self.left_ms(unix_ms);
        let due = match left_ms {
            0 => Due::End,
            _ if self.told_ahead_ms > 0 && left_ms <= self.told_ahead_ms.into() => {
                self.told_ahead_ms = 0;
                Due::Telling(left_ms)
            }
            _ => Due::Nothing,
        };
        self.follow(now, unix_ms);
        due
    }

    /// Takes note of where the key of the token stands now; `None` if it is gone.
    pub fn set_key(&mut self, key: Option<KeyIndex>) {
        self.key = key;
    }

    /// Returns the key of the token, if that was not taken away.
    pub fn key(&self) -> Option<KeyIndex> {
        self.key
    }
}

/// How long before the end of its token a peer is told of it.
const TOLD_AHEAD_MS: u16 = 30_000;

// What the end costs, beside the rights.
const _: () = assert!(size_of::<u64>() + size_of::<Instant>() <= 16, "an end costs too much");
