//! Rates: how much a peer may send and be sent, and the waits when it is more.
//!
//! A wait ends by the wheel: it is among the moments at which the connection must be looked at.
//! While a wait stops reading, the deadlines for the peer's bytes stand still. The operator's
//! connections have no rates.

use crate::core::admission::rates::enough;
use crate::core::config::RateAction;
use crate::core::connection::{Connection, Leaving};
use crate::core::contract::route::Face;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;

impl Engine {
    /// Takes a token for a message, or for a request. Returns whether the connection may go on: if
    /// a token was there, or if the rate makes peers wait, since the wait is over then.
    pub(super) fn spend_message(&mut self, now: Instant, id: ConnectionId) -> bool {
        if !self.settings.counts_input {
            return true;
        }
        let Some(connection) = find_mut(&mut self.connections, id) else { return true };
        let limits = &self.settings.rules(connection).limits;
        let (rate, action) = (limits.messages_per_second.into(), limits.rate_action);
        if rate == 0 || !is_paced(connection) {
            return true;
        }
        let messages = &mut connection.extra.get_or_insert_default().rates().messages;
        let is_there = messages.tokens(now, rate) > 0;
        messages.spend(now, rate, 1);
        is_there || action == RateAction::Pause
    }

    /// Takes tokens for bytes that were read. With `RateAction::Close` too few end the connection.
    pub(super) fn spend_bytes(&mut self, now: Instant, id: ConnectionId, len: usize) {
        if !self.settings.counts_input {
            return;
        }
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let limits = &self.settings.rules(connection).limits;
        let (rate, action) = (limits.bytes_per_second, limits.rate_action);
        if rate == 0 || !is_paced(connection) {
            return;
        }
        let bytes = &mut connection.extra.get_or_insert_default().rates().bytes;
        let fits = bytes.tokens(now, rate) >= len as u64;
        bytes.spend(now, rate, len as u64);
        if action == RateAction::Close && !fits {
            let effect = connection.end_by_rate();
            self.act_on(now, id, effect);
        }
    }

    /// Returns whether a peer may begin a message or a request. If not, nothing is read until it
    /// may. A message that is under way goes on: its token has been there.
    pub(super) fn may_begin(&mut self, now: Instant, id: ConnectionId) -> bool {
        if !self.settings.counts_input {
            return true;
        }
        let Some(connection) = self.get(id) else { return true };
        let limits = &self.settings.rules(connection).limits;
        let rate = limits.messages_per_second.into();
        if rate == 0 || limits.rate_action == RateAction::Close {
            return true;
        }
        match connection.rates() {
            Some(rates) if is_paced(connection) && connection.is_between_messages() => {
                let messages = rates.messages;
                let is_there = messages.tokens(now, rate) > 0;
                if !is_there {
                    self.wait_to_read(now, id, messages.ready_at(now, rate, enough(rate)));
                }
                is_there
            }
            _ => true,
        }
    }

    /// Returns how many bytes may be read now. If 0, nothing is read until some may be.
    pub(super) fn bytes_left(&mut self, now: Instant, id: ConnectionId) -> usize {
        if !self.settings.counts_input {
            return usize::MAX;
        }
        let Some(connection) = self.get(id) else { return 0 };
        let limits = &self.settings.rules(connection).limits;
        let rate = limits.bytes_per_second;
        if rate == 0 || limits.rate_action == RateAction::Close {
            return usize::MAX;
        }
        match connection.rates() {
            Some(rates) if is_paced(connection) => {
                let bytes = rates.bytes;
                let left = bytes.tokens(now, rate);
                if left == 0 {
                    self.wait_to_read(now, id, bytes.ready_at(now, rate, enough(rate)));
                }
                usize::try_from(left).unwrap_or(usize::MAX)
            }
            // All that are saved up.
            _ if is_paced(connection) => usize::try_from(2 * rate).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }

    fn wait_to_read(&mut self, now: Instant, id: ConnectionId, at: Instant) {
        let Some(connection) = self.get_mut(id) else { return };
        let rates = connection.extra.get_or_insert_default().rates();
        if rates.read_at.is_none() {
            debug_assert!(at > now, "a wait takes time");
            rates.unread_since = now.into();
            rates.read_at = Some(at);
            self.stats.read_pauses += 1;
            self.update_pause(now, id);
            self.touch(id);
        }
    }

    /// Releases as many messages to a peer as its rate allows now.
    ///
    /// The last messages of an ending connection are not held back: they would be cut off.
    pub(super) fn release_messages(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let rate = self.settings.rules(connection).limits.send_per_second.into();
        let is_live = connection.is_live() && connection.flags.leaving != Leaving::Draining;
        if rate == 0 || !is_live || connection.face == Face::Admin {
            return connection.outbox.release_all(now);
        }
        if !connection.flags.writing.has_room() || connection.outbox.is_empty() {
            return;
        }
        let rates = connection.extra.get_or_insert_default().rates();
        let sent = connection.outbox.release(now, rates.sends.tokens(now, rate));
        debug_assert!(sent <= rates.sends.tokens(now, rate), "no more leave than may");
        if sent > 0 {
            rates.sends.spend(now, rate, sent);
        }
        if connection.outbox.is_held() {
            self.stats.send_pauses += u64::from(rates.send_at.is_none());
            rates.send_at = Some(rates.sends.ready_at(now, rate, enough(rate)));
            connection.flags.relink = true;
        }
    }

    /// Ends the waits of a connection that are over. Returns whether one was over.
    pub(super) fn end_waits(&mut self, now: Instant, id: ConnectionId) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        let Some(rates) = connection.rates_mut() else { return false };
        let reads = rates.read_at.is_some_and(|at| at <= now);
        let sends = rates.send_at.take_if(|at| *at <= now).is_some();
        if reads {
            connection.read_on(now);
            self.update_pause(now, id);
            self.mark_ready(id);
        }
        if sends {
            self.mark_dirty(id);
        }
        reads || sends
    }
}

/// Returns whether a peer's bytes are counted. Not while its connection ends: its bytes are then
/// discarded, and its close frame should be read soon.
fn is_paced(connection: &Connection) -> bool {
    connection.face != Face::Admin && !connection.is_closing()
}
