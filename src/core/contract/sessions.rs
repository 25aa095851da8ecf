//! Sessions that outlast connections, as the engine sees them: something that is asked for the
//! session of a request before the request is answered, and that answers later.

use std::fmt;

use crate::core::ground::id::ConnectionId;
use crate::core::observe::sessions::SessionFigures;
use crate::core::wire::http::{Refusal, Request};

/// Claims sessions for the upgrades of one route.
pub trait Claims: Send + Sync {
    /// Claims the session of a request, or begins to. It must not block.
    fn claim(&self, id: ConnectionId, request: Box<Request>) -> Claiming;

    /// Returns what is counted.
    fn figures(&self) -> SessionFigures;

    /// Saves what is to be saved, and ends; it waits for that, but not for long.
    fn end(&self);
}

impl fmt::Debug for dyn Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims")
    }
}

/// What has come of [`Claims::claim`] at once.
#[derive(Debug)]
pub enum Claiming {
    /// The answer comes by [`Engine::follow_claim`](crate::core::engine::Engine::follow_claim).
    Waits,
    /// The request goes on with what it now bears.
    Known(Box<Request>),
    /// It is refused.
    Refused(Refusal),
}
