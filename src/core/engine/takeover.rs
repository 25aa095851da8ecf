//! A client that connects again while its old connection is still open: of two connections of one
//! identity to one route the newest stays (`admission.takeover`).
//!
//! Only connections of routes with a takeover, and with an identity, stand in the table.
//!
//! The old connection may have been half dead: what was sent on it last has come to nobody. So a
//! client that names no position for a topic goes on behind what the old connection has surely
//! brought: what was sent before the last ping that its client answered.

use std::collections::{HashMap, HashSet};

use crate::core::config::Takeover;
use crate::core::connection::{Connection, RouteIndex};
use crate::core::engine::Engine;
use crate::core::engine::admission::Admission;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, EventId, Name};

/// The newest open connection of each identity to each route.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<(RouteIndex, Identity), Holder>);

/// A connection, and how far its client has surely read.
#[derive(Debug)]
struct Holder {
    id: ConnectionId,
    /// All before is read, in every topic that the connection is subscribed to.
    read: EventId,
    /// All before was sent ahead of the last ping.
    pinged: EventId,
    inherited: Option<Box<Inherited>>,
}

/// The topics of the connection before, and how far its client had surely read.
#[derive(Debug)]
struct Inherited {
    read: EventId,
    topics: Vec<Name>,
}

impl Holders {
    fn find(
        &mut self,
        id: ConnectionId,
        key: Option<(RouteIndex, Identity)>,
    ) -> Option<&mut Holder> {
        self.0.get_mut(&key?).filter(|holder| holder.id == id)
    }
}

impl Holder {
    /// Takes note that the client reads from an earlier position.
    fn read_from(&mut self, position: EventId) {
        self.read = self.read.min(position);
        self.pinged = self.pinged.min(position);
    }
}

impl Inherited {
    /// Adds what that connection had inherited itself, and its client has not subscribed to yet. No
    /// more topics than `most` are kept.
    fn add(&mut self, left: Inherited, most: usize) {
        self.read = self.read.min(left.read);
        let own: HashSet<Name> = self.topics.iter().cloned().collect();
        self.topics.extend(left.topics.into_iter().filter(|topic| !own.contains(topic)));
        self.topics.truncate(most);
    }
}

impl Admission {
    /// Takes note that a connection has ended.
    #[inline]
    pub fn forget_holder(&mut self, id: ConnectionId, connection: &Connection) {
        if !self.holders.0.is_empty()
            && let Some(key) = connection.route.zip(self.identity(connection))
            && self.holders.0.get(&key).is_some_and(|holder| holder.id == id)
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
        let position = self.topics.position();
        let holder = Holder { id, read: position, pinged: position, inherited: None };
        let old = self.admission.holders.0.insert(key, holder).filter(|old| old.id != id);
        let Some(old) = old else { return };
        let old = self.inherit(id, old);
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

    /// Returns from where a connection begins with a topic for which its client has named no
    /// position.
    #[inline]
    pub(super) fn begin_inherited(&mut self, id: ConnectionId, topic: &str, after: After) -> After {
        if self.admission.holders.0.is_empty() { after } else { self.begin_held(id, topic, after) }
    }

    /// Takes note that a ping goes out behind all that its connection was given.
    #[inline]
    pub(super) fn note_pinged(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id).filter(|_| !self.admission.holders.0.is_empty()) else {
            return;
        };
        let is_sent = connection.outbox.is_empty()
            && !self.has_events_left()
            && self.topics.are_all_given(&connection.subscriptions);
        let position = self.topics.position();
        if let Some(holder) = self.holder(id).filter(|_| is_sent) {
            holder.pinged = position;
        }
    }

    /// Takes note that the last ping was answered.
    #[inline]
    pub(super) fn note_ponged(&mut self, id: ConnectionId) {
        if !self.admission.holders.0.is_empty()
            && let Some(holder) = self.holder(id)
        {
            holder.read = holder.pinged;
        }
    }

    /// Ends a connection in good order, for a reason that is not its own.
    pub(super) fn end_now(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.get_mut(id) else { return };
        let effect = connection.end_now(reason);
        self.act_on(now, id, effect);
    }

    fn holder(&mut self, id: ConnectionId) -> Option<&mut Holder> {
        let connection = self.get(id)?;
        let key = connection.route.zip(self.admission.identity(connection));
        self.admission.holders.find(id, key)
    }

    /// Keeps what a connection inherits of the one before, and returns that one. An event stream
    /// has nothing to leave: its client says itself how far it has read.
    fn inherit(&mut self, id: ConnectionId, old: Holder) -> ConnectionId {
        let Some(before) = self.get(old.id).filter(|before| before.is_open()) else {
            return old.id;
        };
        let keys = self.topics.subscriptions_of(&before.subscriptions);
        let topics: Vec<Name> = keys.map(|key| self.topics.topic_of(key).clone()).collect();
        let mut inherited = Inherited { read: old.read, topics };
        if let Some(left) = old.inherited {
            inherited.add(*left, self.config().limits.subscriptions);
        }
        self.allowance.charge_looks(inherited.topics.len());
        if let Some(holder) = self.holder(id).filter(|_| !inherited.topics.is_empty()) {
            holder.inherited = Some(Box::new(inherited));
        }
        old.id
    }

    #[cold]
    fn begin_held(&mut self, id: ConnectionId, topic: &str, after: After) -> After {
        let Some(holder) = self.holder(id) else { return after };
        let inherited = holder.inherited.as_mut().and_then(|inherited| {
            let at = inherited.topics.iter().position(|name| **name == *topic)?;
            inherited.topics.swap_remove(at);
            Some(inherited.read)
        });
        holder.inherited.take_if(|inherited| inherited.topics.is_empty());
        let after = match (after, inherited) {
            (After::Now, Some(read)) => After::Position(read),
            (after, _) => after,
        };
        match after {
            After::Now => {}
            After::Position(position) => holder.read_from(position),
            After::Garbage => holder.read_from(EventId::ZERO),
        }
        after
    }
}
