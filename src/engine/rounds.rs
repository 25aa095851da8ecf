//! What is to be done to every connection: a few at a time, so that no turn takes as long as there
//! are connections.
//!
//! A round goes through the table of connections. One whose turn has not come, and about which
//! something is to be decided, is brought up to date first: nothing is judged by half a change.

use crate::connection::Phase;
use crate::engine::Engine;
use crate::time::Instant;
use crate::tokens::Tokens;

/// A change that not every connection has followed yet.
#[derive(Debug)]
pub(super) struct Round {
    /// The time of the turn that is at it.
    now: Instant,
    /// The next slot.
    next: usize,
    change: Change,
}

/// What every connection is to follow, beside the rules that deadlines are derived from.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Other tokens than these were.
    pub tokens: Option<Option<Tokens>>,
    pub beats: Beats,
}

/// What becomes of heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Beats {
    #[default]
    Stay,
    /// They follow other rules, and judge by nothing before.
    Reload,
    /// They begin anew: nobody could answer for some time.
    Spread,
}

impl Engine {
    /// Begins to have every connection follow a change. A round that is under way is finished
    /// first: changes come seldom, and each has few turns before the next.
    pub(super) fn begin_round(&mut self, now: Instant, change: Change) {
        self.finish_round(now);
        self.round_parity = !self.round_parity;
        self.round = Some(Round { now, next: 0, change });
    }

    /// Finishes the round that is under way, if one is.
    pub(super) fn finish_round(&mut self, now: Instant) {
        let mut all = usize::MAX;
        self.round_on(now, &mut all);
    }

    /// Goes on with a round, as far as the budget allows.
    pub(super) fn round_on(&mut self, now: Instant, budget: &mut usize) {
        while *budget > 0
            && let Some(round) = &mut self.round
        {
            *budget -= 1;
            round.now = now;
            let key = round.next;
            round.next += 1;
            self.catch_up(key);
            if key >= self.connections.capacity() {
                self.round = None;
            }
        }
    }

    /// Has a connection follow the change of the round, if it has not yet.
    pub(super) fn catch_up(&mut self, key: usize) {
        let Some(Round { now, change, .. }) = &self.round else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if std::mem::replace(&mut connection.flags.round_parity, self.round_parity)
            == self.round_parity
        {
            return;
        }
        let (now, beats) = (*now, change.beats);
        if let Some(before) = &change.tokens {
            connection.token = match (before, &self.tokens, connection.token) {
                (Some(before), Some(now), Some(token)) => now.find_again(before, token),
                _ => None,
            };
        }
        if connection.flags.paused {
            connection.skip_pause(now);
        }
        let heard_at = connection.heard_at.near(now).max(now);
        if let Phase::Open(open) = &mut connection.phase
            && beats != Beats::Stay
        {
            match beats {
                Beats::Reload => open.heartbeat.reload(&self.rules.heartbeat, &mut self.random),
                _ => open.heartbeat.spread(&mut self.random),
            }
            open.unread_ms = 0;
            connection.heard_at = heard_at.into();
        }
        connection.flags.relink = true;
        self.rearm(now, key);
    }
}
