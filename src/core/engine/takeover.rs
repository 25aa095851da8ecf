//! A client that connects again while its old connection is still open: of two connections of one
//! identity to one route the newest stays (`admission.takeover`).
//!
//! Only connections of routes with a takeover, and with an identity, stand in the table.

use std::collections::HashMap;

use crate::core::config::Takeover;
use crate::core::connection::{Connection, RouteIndex};
use crate::core::engine::Engine;
use crate::core::engine::admission::Admission;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;

/// The newest open connection of each identity to each route.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<(RouteIndex, Identity), ConnectionId>);

impl Admission {
    /// Takes note that a connection has ended.
    #[inline]
    pub fn forget_holder(&mut self, id: ConnectionId, connection: &Connection) {
        if !self.holders.0.is_empty()
            && let Some(key) = connection.route.zip(self.identity(connection))
            && self.holders.0.get(&key) == Some(&id)
        {
            self.holders.0.remove(&key);
        }
    }
}

impl Engine {
    /// Takes note that a connection has become a WebSocket or an event stream of its route, and
    /// ends the one that stands in its place, or asks whether its client is still there.
    pub(super) fn take_over(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let takeover = self.settings.rules(connection).takeover;
        if takeover == Takeover::Off {
            return;
        }
        let Some(key) = connection.route.zip(self.admission.identity(connection)) else { return };
        let Some(old) = self.admission.holders.0.insert(key, id).filter(|old| *old != id) else {
            return;
        };
        let Some(connection) = self.get_mut(old) else { return };
        match connection.heartbeat_mut() {
            Some(heartbeat) if takeover == Takeover::Probe => {
                if heartbeat.probe() {
                    self.ping(now, old);
                }
                self.touch(old);
            }
            // Nobody answers on an event stream.
            _ => self.end_now(now, old, CloseReason::Replaced),
        }
    }

    /// Ends a connection in good order, for a reason that is not its own.
    pub(super) fn end_now(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.get_mut(id) else { return };
        let effect = connection.end_now(reason);
        self.act_on(now, id, effect);
    }
}
