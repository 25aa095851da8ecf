//! One walk over all connections: what they are, and what waits with them. Nothing is kept up to
//! date for it, so it cannot drift; at 10,000 connections it takes a fraction of a millisecond.

use crate::connection::{Connection, Phase};
use crate::engine::Engine;
use crate::stats::Transport;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Connections, by transport and [`PhaseName`].
    pub connections: [[u64; PhaseName::COUNT]; Transport::COUNT],
    /// Bytes that wait for peers. A frame that many wait for counts for each of them.
    pub outbox_bytes: u64,
    /// Bytes of messages that wait for handlers.
    pub inbox_bytes: u64,
    /// Bytes received that are no whole message yet, or not decoded.
    pub partial_bytes: u64,
}

/// How far a connection has come, in the words of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PhaseName {
    /// Its first request is awaited.
    Handshake,
    /// A request is being received, decided on or answered, or the next one is awaited.
    Request,
    /// A WebSocket or an event stream.
    Open,
    /// Its end has begun.
    Closing,
}

impl PhaseName {
    pub const COUNT: usize = 4;
    pub const ALL: [PhaseName; PhaseName::COUNT] =
        [PhaseName::Handshake, PhaseName::Request, PhaseName::Open, PhaseName::Closing];

    pub fn of(connection: &Connection) -> PhaseName {
        match &connection.phase {
            Phase::Head { first: true, .. } => PhaseName::Handshake,
            Phase::Head { .. }
            | Phase::KeepAlive
            | Phase::Body(_)
            | Phase::Deciding(_)
            | Phase::Answering { .. } => PhaseName::Request,
            Phase::Open(_) | Phase::Stream => PhaseName::Open,
            Phase::Closing(_) => PhaseName::Closing,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            PhaseName::Handshake => "handshake",
            PhaseName::Request => "request",
            PhaseName::Open => "open",
            PhaseName::Closing => "closing",
        }
    }
}

impl Engine {
    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, connection) in &self.connections {
            let stage = PhaseName::of(connection);
            census.connections[connection.flags.transport as usize][stage as usize] += 1;
            census.outbox_bytes += connection.outbox.bytes() as u64;
            census.partial_bytes += partial_bytes(connection) as u64;
            if let Some(inbox) = &connection.inbox {
                census.inbox_bytes += inbox.bytes as u64;
                census.partial_bytes += inbox.rest.capacity() as u64;
            }
        }
        census
    }
}

fn partial_bytes(connection: &Connection) -> usize {
    match &connection.phase {
        Phase::Head { reader, .. } => reader.held_bytes(),
        Phase::Body(body) => body.reader.held_bytes(),
        Phase::Open(open) => open.decoder.held_bytes(),
        Phase::Closing(closing) => closing.decoder.as_ref().map_or(0, |d| d.held_bytes()),
        _ => 0,
    }
}
