//! What is under way for many connections at once: a drain, a shed, a change that all follow.

use crate::core::engine::departures::Departures;
use crate::core::engine::drain::{Drain, DrainHooks};
#[cfg(any(feature = "jwt", feature = "client"))]
use crate::core::engine::expiry::Wall;
use crate::core::engine::rounds::Round;
use crate::core::ground::id::ConnectionId;

/// What is under way, and the moments at which it goes on.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub drain: Option<Drain>,
    pub drain_hooks: DrainHooks,
    /// Connections that were chosen to be shed.
    pub shed: Option<Departures>,
    /// The change that every connection follows, while that is under way.
    pub round: Option<Round>,
    /// The mark of connections that have followed the change.
    pub round_parity: bool,
    /// Connections whose tokens a reload has taken away, and which are to end.
    pub revoked: Vec<ConnectionId>,
    /// What the wall clock showed, and for whom it matters.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub wall: Wall,
    /// The engine was told to end at once.
    pub was_shut_down: bool,
}
