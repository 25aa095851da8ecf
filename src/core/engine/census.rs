//! One walk over all connections: what they are, and what waits with them. Nothing is kept up to
//! date for it, so it cannot drift; at 10,000 connections it takes a fraction of a millisecond.

use std::collections::HashSet;

use crate::core::connection::{Connection, Inbox};
use crate::core::contract::event::Event;
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::observe::stats::Crowd;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    pub connections: Crowd,
    /// Bytes that wait for peers. A frame that many peers wait for counts once for each peer.
    pub outbox_bytes: u64,
    /// Memory of what waits for peers. A frame that many peers wait for counts once.
    pub queued_bytes: u64,
    /// Bytes of messages and requests that handlers have or are to be given.
    pub inbox_bytes: u64,
    /// Bytes received that are no whole message yet, or not decoded.
    pub partial_bytes: u64,
}

/// Memory that the end of a connection frees, or, if that is 0, what waits for its peer. The
/// connection with the greatest value is ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnBytes {
    /// Bytes that no other connection holds.
    pub bytes: u64,
    /// Bytes that wait for the peer, shared or not.
    pub waiting: u64,
}

impl Engine {
    pub(super) fn census(&self) -> Census {
        self.census_of(|_, _| {})
    }

    /// Counts, and tells `found` each connection that holds something, except the operator's.
    pub(super) fn census_of(&self, mut found: impl FnMut(ConnectionId, OwnBytes)) -> Census {
        let mut census = Census::default();
        let mut seen = HashSet::new();
        for (_, connection) in &self.connections {
            let stage = connection.name_of_phase();
            let of_transport = &mut census.connections[connection.flags.transport() as usize];
            of_transport[stage as usize][connection.flags.subprotocol() as usize] += 1;
            let waiting = connection.outbox.bytes() as u64;
            census.outbox_bytes += waiting;
            let queued = connection.outbox.memory(&mut seen);
            census.queued_bytes += (queued.own + queued.shared + queued.room) as u64;
            let partial = partial_bytes(connection);
            census.partial_bytes += partial as u64;
            let inbox = inbox_bytes(connection);
            let around = inbox_room(connection) + promised_bytes(connection);
            census.inbox_bytes += (inbox + around) as u64;
            let own = OwnBytes { bytes: (queued.own + partial + inbox) as u64, waiting };
            if own.bytes + waiting > 0 && connection.face != Face::Admin {
                found(connection.id, own);
            }
        }
        census.inbox_bytes += self.jobs.left_bytes() as u64;
        census.queued_bytes += self.spares.memory.bytes() as u64;
        #[cfg(feature = "deflate")]
        {
            census.queued_bytes += self.spares.coders.bytes() as u64;
        }
        for payload in self.spares.forms.payloads() {
            if seen.insert(payload.as_ptr()) {
                census.queued_bytes += payload.len() as u64;
            }
        }
        census
    }
}

/// What has come of a head, a body or a message, and what was read and is not decoded.
fn partial_bytes(connection: &Connection) -> usize {
    let rest = connection.inbox.as_ref().map_or(0, |inbox| inbox.partial_bytes());
    rest + connection.partial_bytes() + connection.source_bytes()
}

/// What waits for a handler, or is the body of a request that it decides on.
fn inbox_bytes(connection: &Connection) -> usize {
    let messages = connection.inbox.as_ref().map_or(0, |inbox| inbox.bytes);
    messages + connection.request_bytes()
}

/// What that takes beside its bytes.
fn inbox_room(connection: &Connection) -> usize {
    let events = |inbox: &Inbox| inbox.events.capacity() * size_of::<Event>();
    connection.inbox.as_ref().map_or(0, |inbox| size_of::<Inbox>() + events(inbox))
}

/// What a handler has been given and has not answered.
fn promised_bytes(connection: &Connection) -> usize {
    connection.inbox.as_ref().filter(|inbox| inbox.given > 0).map_or(0, |inbox| inbox.promised)
}
