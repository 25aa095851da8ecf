//! One walk over all connections: what they are, and what waits with them. Nothing is kept up to
//! date for it, so it cannot drift; at 10,000 connections it takes a fraction of a millisecond.

use std::collections::HashSet;

use crate::core::connection::{Connection, Inbox, Phase};
use crate::core::contract::event::Event;
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::observe::stats::{PhaseName, Transport};

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Connections, by transport and [`PhaseName`].
    pub connections: [[u64; PhaseName::COUNT]; Transport::COUNT],
    /// Bytes that wait for peers. A frame that many wait for counts for each of them.
    pub outbox_bytes: u64,
    /// Memory of what waits for peers. A frame that many wait for counts once.
    pub queued_bytes: u64,
    /// Bytes of messages and requests that handlers have or are to be given.
    pub inbox_bytes: u64,
    /// Bytes received that are no whole message yet, or not decoded.
    pub partial_bytes: u64,
}

/// What a connection holds that goes with it, or, where that is nothing, what waits for its peer:
/// who is more goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnBytes {
    /// Bytes that nobody else holds.
    pub bytes: u64,
    /// Bytes that wait for the peer, shared or not.
    pub waiting: u64,
}

/// Says how far a connection has come, in the words of an operator.
pub(super) fn phase_of(connection: &Connection) -> PhaseName {
    match &connection.phase {
        Phase::Head { first: true, .. } => PhaseName::Handshake,
        Phase::Head { .. }
        | Phase::KeepAlive { .. }
        | Phase::Body(_)
        | Phase::Deciding(_)
        | Phase::Answering { .. } => PhaseName::Request,
        Phase::Open(_) | Phase::Stream { .. } => PhaseName::Open,
        Phase::Closing(_) => PhaseName::Closing,
    }
}

impl Engine {
    pub(super) fn census(&self) -> Census {
        self.census_of(|_, _| {})
    }

    /// Counts, and names each connection that holds something, those of the operator left out.
    pub(super) fn census_of(&self, mut found: impl FnMut(ConnectionId, OwnBytes)) -> Census {
        let mut census = Census::default();
        let mut seen = HashSet::new();
        for (_, connection) in &self.connections {
            let stage = phase_of(connection);
            census.connections[connection.flags.transport as usize][stage as usize] += 1;
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
        for payload in self.forms.payloads() {
            if seen.insert(payload.as_ptr()) {
                census.queued_bytes += payload.len() as u64;
            }
        }
        census
    }
}

/// What has come of a head, a body or a message, and what was read and is not decoded.
fn partial_bytes(connection: &Connection) -> usize {
    let rest = connection.inbox.as_ref().map_or(0, |inbox| {
        let reading = inbox.reading.as_ref().map_or(0, |reading| reading.held_bytes());
        inbox.rest.capacity() + reading
    });
    rest + match &connection.phase {
        Phase::Head { reader, .. } => reader.held_bytes(),
        Phase::Body(body) => {
            let posted = body.posted.as_ref().map_or(0, |posted| posted.held_bytes());
            body.reader.held_bytes() + posted
        }
        Phase::Open(open) => open.decoder.held_bytes(),
        Phase::Closing(closing) => closing.decoder.as_ref().map_or(0, |d| d.held_bytes()),
        _ => 0,
    }
}

/// What waits for a handler, or is the body of a request that it decides on.
fn inbox_bytes(connection: &Connection) -> usize {
    let messages = connection.inbox.as_ref().map_or(0, |inbox| inbox.bytes);
    let request = match &connection.phase {
        Phase::Deciding(pending) => {
            let waiting = pending.request.as_ref().map(|request| request.body().len());
            waiting.unwrap_or(pending.given_bytes)
        }
        _ => 0,
    };
    messages + request
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
