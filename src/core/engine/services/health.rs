//! `GET /healthz` and `GET /readyz`: whether the loop turns, and whether more connections are
//! welcome.

use crate::core::contract::route::RouteKind;
use crate::core::engine::Engine;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
use crate::core::engine::services::{Asked, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Method, Refusal, Request, Response};

/// Both paths.
pub(super) const SERVICE: Service =
    Service { is_health: true, ..Service::by(Asked::By(Method::Get), Engine::get_health) };

impl Engine {
    fn get_health(&mut self, now: Instant, id: ConnectionId, _: Box<Request>) {
        let response = if self.kind_of(id) == Some(RouteKind::Health) {
            Response::new(200).text("ok\n")
        } else if self.schedule.drain.is_some() {
            Refusal::new(503, "the server is draining").into()
        } else if self.budget.is_short() {
            Refusal::new(503, SHORT_OF_MEMORY).into()
        } else if self.has_lost_cluster(now) {
            Refusal::new(503, "the cluster's Redis is not reached").into()
        } else {
            Response::new(200).text("ready\n")
        };
        self.handle_answer(now, id, response);
    }

    /// Returns whether the cluster's log has not been reached for `cluster.grace`.
    #[cfg(feature = "cluster")]
    fn has_lost_cluster(&self, now: Instant) -> bool {
        let grace = self.settings.config.cluster.grace;
        self.log_away_since().is_some_and(|since| since + grace <= now)
    }

    #[cfg(not(feature = "cluster"))]
    fn has_lost_cluster(&self, _: Instant) -> bool {
        false
    }
}
