//! Tokens that expire: how they are judged, how their connections end, and how `/ws` renews them.
//!
//! The time of a token is over by the wall clock, and a connection's entry on the wheel goes by the
//! loop's own. Where the two drift apart, because somebody sets the wall clock, every connection is
//! looked at again ([`Engine::follow_wall`]). What is due is judged by the wall clock alone.

use log::debug;

use crate::core::admission::grant::{Due, Grant};
use crate::core::admission::jwt::{Expected, Fault};
use crate::core::admission::rights::Right;
use crate::core::admission::tokens;
use crate::core::connection::Connection;
use crate::core::engine::Engine;
use crate::core::engine::rights::NO_SUBSCRIBE;
use crate::core::engine::rounds::Change;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::json;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::DeadlineKind;
use crate::core::wire::hub::{ErrorCode, ServerMessage};

/// How the wall clock stands to the loop's own.
#[derive(Debug, Default)]
pub(super) struct Wall {
    /// How far it was ahead when connections last went by it, in milliseconds.
    ahead_ms: i64,
    /// A connection came with a token that expires.
    is_needed: bool,
}

impl Engine {
    /// Checks a token that expires. Returns what it lets its connection do.
    pub(super) fn verify_token(&mut self, now: Instant, token: &str) -> Result<Grant, Fault> {
        let Some(keys) = &self.settings.credentials.keys else { return Err(Fault::Algorithm) };
        let admission = &self.settings.config.admission;
        let expected = Expected {
            issuer: admission.jwt_issuer.as_deref(),
            audience: admission.jwt_audience.as_deref(),
        };
        let unix_ms = self.reports.date.unix_ms;
        self.allowance.charge_signature();
        let (claims, key) = keys.verify(token, unix_ms, expected)?;
        if !std::mem::replace(&mut self.schedule.wall.is_needed, true) {
            self.schedule.wall.ahead_ms = ahead(now, unix_ms);
        }
        Ok(Grant::new(claims, key, tokens::name(token), now, unix_ms))
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

    /// Does what is due about the end of a token.
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

    /// Has the client of a WebSocket that has just been greeted be told before its token's end.
    pub(super) fn tell_before_expiry(&mut self, now: Instant, id: ConnectionId) {
        let unix_ms = self.reports.date.unix_ms;
        let Some(connection) = self.get_mut(id) else { return };
        if let Some(grant) = connection.grant_mut() {
            grant.tell(now, unix_ms);
            connection.flags.relink = true;
        }
    }

    /// Takes a token that a client of `/ws` hands in instead of the one that it came with.
    pub(super) fn renew_token(
        &mut self,
        now: Instant,
        id: ConnectionId,
        token: &str,
        reference: Option<&str>,
    ) {
        let renewed = match self.check_renewal(now, id, token) {
            Ok(grant) => grant,
            Err(sentence) => {
                self.stats.tokens_refused += 1;
                let code = ErrorCode::Forbidden;
                return self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            }
        };
        self.stats.tokens_renewed += 1;
        let unix_ms = self.reports.date.unix_ms;
        let Some(connection) = self.get_mut(id) else { return };
        connection.flags.relink = true;
        let Some(grant) = connection.grant_mut() else { return };
        *grant = renewed;
        grant.tell_again(now, unix_ms);
        let expires_in_ms = grant.left_ms(unix_ms);
        self.tell(now, id, &ServerMessage::Token { expires_in_ms, reference });
        self.end_forbidden(now, id);
        self.touch(id);
    }

    fn check_renewal(
        &mut self,
        now: Instant,
        id: ConnectionId,
        token: &str,
    ) -> Result<Grant, &'static str> {
        let grant = self.get(id).and_then(Connection::grant);
        let grant = grant.ok_or("this connection came with no token that expires")?;
        let subject = grant.subject.clone();
        let renewed = self.verify_token(now, token).map_err(|fault| {
            debug!(target: "heartwheel::connection", "no renewal id={id} token={fault}");
            "this token is not good"
        })?;
        match renewed.subject == subject {
            true => Ok(renewed),
            false => Err("this token is another's"),
        }
    }

    /// Ends the subscriptions that a connection's rights do not allow any more.
    fn end_forbidden(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let keys = self.topics.subscriptions_of(&connection.subscriptions);
        let topics: Vec<_> = keys.map(|key| self.topics.topic_of(key).clone()).collect();
        self.allowance.charge_looks(topics.len());
        for topic in topics {
            if self.may(id, Right::Subscribe, &topic) {
                continue;
            }
            let mut quoted = String::new();
            json::write_string(&mut quoted, &topic);
            let (code, sentence) = (ErrorCode::Forbidden, NO_SUBSCRIBE);
            let reference = Some(&*quoted);
            self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            self.unsubscribe(id, &topic);
            self.tell(now, id, &ServerMessage::Unsubscribed { topic: &topic });
        }
    }
}

fn ahead(now: Instant, unix_ms: u64) -> i64 {
    unix_ms as i64 - now.as_millis() as i64
}

/// The wall clock was set if it moved so far against the loop's own.
const STEP_MS: u64 = 10;
