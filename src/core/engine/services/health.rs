//! `GET /healthz` and `GET /readyz`: whether the loop turns, and whether more connections are
//! welcome.

use crate::core::engine::Engine;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
use crate::core::engine::services::{Method, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Refusal, Response};

/// Both paths.
pub(super) const SERVICE: Service = Service { is_health: true, ..Service::by(Method::Get) };

impl Engine {
    /// Answers `GET /healthz`.
    pub(super) fn get_health(&mut self, now: Instant, id: ConnectionId) {
        self.handle_answer(now, id, Response::new(200).text("ok\n"));
    }

    /// Answers `GET /readyz`.
    pub(super) fn get_ready(&mut self, now: Instant, id: ConnectionId) {
        let response = if self.schedule.drain.is_some() {
            Refusal::new(503, "the server is draining").into()
        } else if self.budget.is_short() {
            Refusal::new(503, SHORT_OF_MEMORY).into()
        } else {
            Response::new(200).text("ready\n")
        };
        self.handle_answer(now, id, response);
    }
}
