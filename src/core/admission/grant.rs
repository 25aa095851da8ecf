//! Until when a connection is let in, and by what.
//!
//! A token says so that expires, and so may the service of `admission.request`. The earlier end of
//! the two counts.

use std::time::Duration;

#[cfg(feature = "jwt")]
use crate::core::admission::jwt::{Claims, KeyIndex};
#[cfg(feature = "client")]
use crate::core::admission::question::Question;
#[cfg(feature = "jwt")]
use crate::core::admission::rights::{Right, Rights};
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;

/// Until when a connection is let in, and by what. It is made with one of the two at least.
#[derive(Debug)]
pub(crate) struct Grant {
    /// When something is to be done about the end, as far as the wall clock has shown.
    acts_at: Instant,
    /// How long before the end the peer is told of it; 0 if it was told, or never is.
    told_ahead_ms: u16,
    /// The token that the last request bore, if it expires.
    #[cfg(feature = "jwt")]
    pub token: Option<ExpiringToken>,
    /// What the service has said, if it has named an end.
    #[cfg(feature = "client")]
    pub opinion: Option<Box<LapsingOpinion>>,
}

/// What a token that expires lets its connection do.
#[cfg(feature = "jwt")]
#[derive(Debug)]
pub(crate) struct ExpiringToken {
    /// Who came with the token.
    pub subject: Option<Identity>,
    rights: Rights,
    /// What the operator knows the token by.
    pub name: [u8; 8],
    expires_ms: u64,
    /// `None` once the key was taken away: there is no right without it.
    pub key: Option<KeyIndex>,
}

/// What a service has said with an end.
#[cfg(feature = "client")]
#[derive(Debug)]
pub(crate) struct LapsingOpinion {
    /// When it does not count any more, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Who it is, as the service has said.
    pub identity: Option<Identity>,
    /// What the service was asked, where a client can hand in another token.
    pub question: Option<Question>,
    /// The client has handed in another token, and the service has not said anything about it.
    pub renewal: Option<Renewal>,
}

/// A token that waits for what the service says about it.
#[cfg(feature = "client")]
#[derive(Debug)]
pub(crate) struct Renewal {
    /// What holds once the service lets it in.
    pub renewed: Renewed,
    /// The client's `ref`: JSON, raw.
    pub reference: Option<Box<str>>,
}

/// What takes the place of what a connection came with.
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    /// The token, where the connection came with one that expires.
    #[cfg(feature = "jwt")]
    pub token: Option<ExpiringToken>,
    /// Until when the service lets it in, in milliseconds since 1970.
    #[cfg(feature = "client")]
    pub expires_ms: Option<u64>,
}

/// What is to be done about the end.
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
    /// Makes one without an end, to which one is added.
    pub fn endless(now: Instant) -> Grant {
        Grant {
            acts_at: now,
            told_ahead_ms: 0,
            #[cfg(feature = "jwt")]
            token: None,
            #[cfg(feature = "client")]
            opinion: None,
        }
    }

    /// Makes one of a token.
    #[cfg(feature = "jwt")]
    pub fn of_token(token: ExpiringToken, now: Instant, unix_ms: u64) -> Grant {
        let mut grant = Grant { token: Some(token), ..Grant::endless(now) };
        grant.follow(now, unix_ms);
        grant
    }

    /// Returns the moment when something is to be done about the end.
    pub fn acts_at(&self) -> Instant {
        self.acts_at
    }

    /// Returns how many milliseconds are left; `unix_ms` is the wall clock.
    pub fn left_ms(&self, unix_ms: u64) -> u64 {
        let ends_ms = u64::MAX;
        #[cfg(feature = "jwt")]
        let ends_ms = self.token.as_ref().map_or(ends_ms, |token| token.expires_ms);
        #[cfg(feature = "client")]
        let ends_ms = self.opinion.as_ref().map_or(ends_ms, |own| own.expires_ms.min(ends_ms));
        ends_ms.saturating_sub(unix_ms)
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

    /// Takes what a client has handed in instead of what it came with.
    pub fn renew(&mut self, renewed: Renewed) {
        #[cfg(feature = "jwt")]
        if let Some(token) = renewed.token {
            self.token = Some(token);
        }
        #[cfg(feature = "client")]
        if let Some((opinion, expires_ms)) = self.opinion.as_mut().zip(renewed.expires_ms) {
            opinion.expires_ms = expires_ms;
        }
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
}

#[cfg(feature = "jwt")]
impl ExpiringToken {
    /// Makes one of what a token claims.
    pub fn new(claims: Claims, key: KeyIndex, name: [u8; 8]) -> ExpiringToken {
        let Claims { subject, rights, expires_ms, .. } = claims;
        ExpiringToken { subject, rights, name, expires_ms, key: Some(key) }
    }

    /// Returns whether the token has a right.
    pub fn may(&self, right: Right, topic: &str) -> bool {
        self.key.is_some() && self.rights.may(right, topic)
    }
}

#[cfg(feature = "jwt")]
impl From<ExpiringToken> for Renewed {
    fn from(token: ExpiringToken) -> Renewed {
        Renewed {
            token: Some(token),
            #[cfg(feature = "client")]
            expires_ms: None,
        }
    }
}

/// The wall clock before which no end is judged, in milliseconds since 1970: 26 June 2025, when the
/// oldest compiler that builds this came out. A clock that says less was never set.
pub const BUILT_MS: u64 = 1_750_896_000_000;

/// How long before the end a peer is told of it.
const TOLD_AHEAD_MS: u16 = 30_000;

// What the end of a token costs, beside the rights.
const _: () = assert!(size_of::<u64>() + size_of::<Instant>() <= 16, "an end costs too much");
