//! Upgrades that wait for their session, and connections that give theirs up.
//!
//! An upgrade waits as one does whose `authorize` runs on a worker: complete, under
//! `deadlines.handshake`, and what comes too late is dropped. The session is asked for behind
//! `authorize`, which may have said who the client is.

use crate::core::contract::event::{Event, Visit};
use crate::core::contract::sessions::Claiming;
use crate::core::engine::Engine;
use crate::core::engine::services::is_handled;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::observe::sessions::SessionFigures;
use crate::core::wire::http::{Refusal, Request};

impl Engine {
    /// Returns an upgrade that bears its session, or needs none. Any other waits now, or is
    /// refused.
    pub(super) fn with_session(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mut request: Box<Request>,
    ) -> Option<Box<Request>> {
        let route = self.get(id)?.route?;
        let Some(claims) = self.settings.routes[usize::from(route)].claims() else {
            return Some(request);
        };
        if request.borne().is_asked() {
            return Some(request);
        }
        match claims.claim(id, request) {
            Claiming::Known(request) => Some(request),
            Claiming::Waits => None,
            Claiming::Refused(refusal) => {
                self.refuse_claim(now, id, refusal);
                None
            }
        }
    }

    /// Goes on with an upgrade whose session is known, or refuses it. What comes too late is
    /// dropped.
    pub fn follow_claim(
        &mut self,
        now: Instant,
        id: ConnectionId,
        claimed: Result<Box<Request>, Refusal>,
    ) {
        match claimed {
            Ok(request) => self.accept_upgrade(now, id, request),
            Err(refusal) => self.refuse_claim(now, id, refusal),
        }
        self.advance(now, id);
    }

    /// Ends a connection because a newer one has its session, or wants it. The visit comes behind
    /// what its handler is in.
    pub fn hand_over(&mut self, now: Instant, id: ConnectionId, visit: Visit) {
        self.end_now(now, id, CloseReason::Replaced);
        let connection = self.get(id);
        if connection.is_some_and(|connection| is_handled(&self.settings.routes, connection)) {
            self.push_event(id, Event::Visit(visit));
        }
    }

    /// Saves all sessions, and ends what does.
    pub fn end_sessions(&self) {
        self.settings.routes.iter().filter_map(|route| route.claims()).for_each(|c| c.end());
    }

    pub(super) fn session_figures(&self) -> Option<SessionFigures> {
        let figures = self.settings.routes.iter().filter_map(|route| route.claims());
        figures.map(|claims| claims.figures()).reduce(|mut sum, more| {
            sum.add(&more);
            sum
        })
    }

    fn refuse_claim(&mut self, now: Instant, id: ConnectionId, refusal: Refusal) {
        let Some(pending) = self.take_pending(id) else { return };
        self.answer(now, id, refusal.into(), &pending);
    }
}
