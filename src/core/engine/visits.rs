//! What the application asks of one connection or of all: what is known of them, and to have
//! something done where a connection's handler runs.

use crate::core::connection::Connection;
use crate::core::contract::event::{Event, Visit};
use crate::core::contract::peer_info::PeerInfo;
use crate::core::engine::Engine;
use crate::core::engine::services::is_handled;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::{Instant, millis_up};

impl Engine {
    /// Returns what is known of a connection; `None` if it has ended.
    pub fn peer_info(&self, now: Instant, id: ConnectionId) -> Option<PeerInfo> {
        self.get(id).map(|connection| self.info_of(now, connection))
    }

    /// Returns what is known of some of the connections open now, from this slot on, and the slot
    /// to go on with if there may be more.
    pub fn peers_slice(&self, now: Instant, first: usize) -> (Vec<PeerInfo>, Option<usize>) {
        let end = self.connections.capacity();
        let mut peers = Vec::new();
        let mut slot = first;
        while slot < end.min(first.saturating_add(SLOTS_MAX)) && peers.len() < PEERS_MAX {
            peers.extend(self.connections.get(slot).map(|peer| self.info_of(now, peer)));
            slot += 1;
        }
        (peers, (slot < end).then_some(slot))
    }

    fn info_of(&self, now: Instant, connection: &Connection) -> PeerInfo {
        let age_ms = millis_up(now.since(connection.opened_at));
        PeerInfo {
            id: connection.id,
            address: connection.peer.address(),
            path: self.path_of(connection).map(|path| path.into_owned().into_boxed_str()),
            identity: self.admission.identity(connection),
            opened_at_ms: self.unix_ms().saturating_sub(age_ms),
            outbox_bytes: connection.outbox.bytes() as u64,
        }
    }

    /// Has something done where the handler of a connection runs, behind the events that wait. What
    /// cannot be done is dropped and counted.
    pub fn visit(&mut self, id: ConnectionId, visit: Visit) {
        let has_room = |connection: &Connection| {
            let inbox = connection.inbox.as_ref();
            let most = self.settings.rules(connection).limits.inbox_messages;
            inbox.is_none_or(|inbox| inbox.events.iter().filter(|e| is_visit(e)).count() < most)
        };
        let takes = |connection: &&Connection| {
            connection.is_open()
                && is_handled(&self.settings.routes, connection)
                && has_room(connection)
        };
        if self.get(id).filter(takes).is_none() {
            self.stats.commands_stale += 1;
            return;
        }
        self.push_event(id, Event::Visit(visit));
    }
}

fn is_visit(event: &Event) -> bool {
    matches!(event, Event::Visit(_))
}

/// Connections in a slice, and slots that are looked at for it: most may be empty.
const PEERS_MAX: usize = 64;
const SLOTS_MAX: usize = 4096;
