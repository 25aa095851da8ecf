//! What is under way for many connections at once: a drain, a shed, a change that all follow.

use crate::core::engine::departures::Departures;
use crate::core::engine::drain::Drain;
use crate::core::engine::rounds::Round;

/// What is under way, and the moments at which it goes on.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub drain: Option<Drain>,
    /// Connections that were chosen to be shed.
    pub shed: Option<Departures>,
    /// What is being done to every connection.
    pub round: Option<Round>,
    /// What those bear that have followed it.
    pub round_parity: bool,
    /// The engine was told to end at once.
    pub was_shut_down: bool,
}
