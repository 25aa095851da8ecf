//! Connections that are let in until a moment: how tokens that expire are judged, and how their
//! connections end.
//!
//! The time of a token is over by the wall clock, and a connection's entry on the wheel goes by the
//! loop's own. Where the two drift apart, because somebody sets the wall clock, every connection is
//! looked at again ([`Engine::follow_wall`]). What is due is judged by the wall clock alone.

use crate::core::admission::grant::Due;
#[cfg(feature = "jwt")]
use crate::core::admission::grant::ExpiringToken;
#[cfg(feature = "jwt")]
use crate::core::admission::jwt::{Expected, Fault};
#[cfg(feature = "jwt")]
use crate::core::admission::tokens;
use crate::core::connection::Connection;
use crate::core::engine::Engine;
use crate::core::engine::rounds::Change;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::DeadlineKind;
use crate::core::wire::hub::ServerMessage;

/// How the wall clock stands to the loop's own.
#[derive(Debug, Default)]
pub(super) struct Wall {
    /// How far it was ahead when connections last went by it, in milliseconds.
    ahead_ms: i64,
    /// A connection is let in until a moment.
    is_needed: bool,
}

impl Engine {
    /// Checks a token that expires. Returns what it lets its connection do.
    #[cfg(feature = "jwt")]
    pub(super) fn verify_token(
        &mut self,
        now: Instant,
        token: &str,
    ) -> Result<ExpiringToken, Fault> {
        let Some(keys) = &self.settings.credentials.keys else { return Err(Fault::Algorithm) };
        let admission = &self.settings.config.admission;
        let expected = Expected {
            issuer: admission.jwt_issuer.as_deref(),
            audience: admission.jwt_audience.as_deref(),
        };
        let unix_ms = self.reports.date.unix_ms;
        self.allowance.charge_signature();
        let (claims, key) = keys.verify(token, unix_ms, expected)?;
        self.need_wall(now);
        Ok(ExpiringToken::new(claims, key, tokens::name(token)))
    }

    /// Takes note that a connection goes by the wall clock.
    pub(super) fn need_wall(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.schedule.wall.is_needed, true) {
            self.schedule.wall.ahead_ms = ahead(now, self.reports.date.unix_ms);
        }
    }

    /// Has every connection go by the wall clock anew, if that was set.
    pub(super) fn follow_wall(&mut self, now: Instant, unix_ms: u64) {
        let Wall { ahead_ms, is_needed } = &mut self.schedule.wall;
        if !*is_needed {
            return;
        }
        let before = std::mem::replace(ahead_ms, ahead(now, unix_ms));
        match ahead_ms.abs_diff(before) {
            // Both clocks are cut to whole milliseconds. A slow drift adds up until it counts.
            0..STEP_MS => *ahead_ms = before,
            _ => self.begin_round(now, Change::default()),
        }
    }

    /// Does what is due about the end of what a connection came with.
    pub(super) fn act_on_expiry(&mut self, now: Instant, id: ConnectionId, at: Instant) {
        let unix_ms = self.reports.date.unix_ms;
        let Some(grant) = self.get_mut(id).and_then(Connection::grant_mut) else { return };
        match grant.act(now, unix_ms) {
            Due::Nothing => {}
            Due::Telling(expires_in_ms) => {
                self.tell(now, id, &ServerMessage::Token { expires_in_ms, reference: None });
            }
            Due::End => {
                self.fired(now, at, DeadlineKind::Auth);
                self.act_by(now, id, Connection::end_by_auth);
            }
        }
    }

    /// Has the client of a WebSocket that has just been greeted be told before the end of what it
    /// came with.
    pub(super) fn tell_before_expiry(&mut self, now: Instant, id: ConnectionId) {
        let unix_ms = self.reports.date.unix_ms;
        let Some(connection) = self.get_mut(id) else { return };
        if let Some(grant) = connection.grant_mut() {
            grant.tell(now, unix_ms);
            connection.flags.relink = true;
        }
    }
}

fn ahead(now: Instant, unix_ms: u64) -> i64 {
    unix_ms as i64 - now.as_millis() as i64
}

/// The wall clock was set if it moved so far against the loop's own.
const STEP_MS: u64 = 10;
