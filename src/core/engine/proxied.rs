//! Connections from trusted proxies, and whom they stand for: by a PROXY header to their end, by
//! forwarded lines for as long as a request takes.

use std::collections::HashMap;
use std::net::SocketAddr;

use log::debug;

use crate::core::connection::PeerAddress;
use crate::core::engine::Engine;
use crate::core::engine::admission::{Admission, TOO_MANY_FROM_THERE};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::transport::Handshake;
use crate::core::wire::http::{Forwarded, Refusal, Request};
use crate::core::wire::proxy_header::Malformed;

impl Engine {
    /// Returns whether a peer is believed whom it connects for; `None` is one on a Unix socket.
    pub fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        self.settings.config.proxy.trusted.has_peer(peer)
    }

    /// Ends a connection to where only trusted proxies may connect, unless it is from one.
    pub(super) fn check_proxy(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        if !self.trusts(connection.peer.address()) {
            self.hang_up(now, id, CloseReason::Proxy);
        }
    }

    /// Takes note of what the PROXY header of a connection has said, before any byte of its client.
    pub fn handle_client(
        &mut self,
        now: Instant,
        id: ConnectionId,
        client: Result<Option<SocketAddr>, Malformed>,
        handshake: Handshake,
    ) {
        match client {
            Ok(None) => {}
            Ok(Some(client)) if self.move_to(id, PeerAddress::new(Some(client))) => {}
            Ok(Some(_)) if handshake == Handshake::Done => {
                let pending = self.give_up_request(id);
                let refusal = Refusal::new(429, TOO_MANY_FROM_THERE);
                self.answer(now, id, refusal.into(), &pending);
                self.advance(now, id);
            }
            // An answer inside TLS would cost a handshake.
            Ok(Some(_)) => self.hang_up(now, id, CloseReason::Done),
            Err(Malformed(what)) => {
                debug!("PROXY header refused id={id}: {what}");
                self.hang_up(now, id, CloseReason::Proxy);
            }
        }
    }

    /// Has the connection stand for the client of a request, if it is from a trusted proxy that
    /// names one. Returns false if the client has as many connections as one address may have.
    pub(super) fn follow_forwarded(&mut self, id: ConnectionId, request: &Request) -> bool {
        let proxy = &self.settings.config.proxy;
        if proxy.forwarded == Forwarded::Off {
            return true;
        }
        let Some(hop) = self.get(id).map(|connection| connection.peer) else { return true };
        if !proxy.trusted.has_peer(hop.address()) {
            return true;
        }
        let client = proxy.forwarded.client(request, |ip| proxy.trusted.has(ip));
        let Some(client) = client.map(|ip| PeerAddress::new(Some((ip, 0).into()))) else {
            return true;
        };
        let is_welcome = self.move_to(id, client);
        if is_welcome {
            self.admission.hops.insert(id.key(), hop);
        }
        is_welcome
    }

    /// Has the connection stand for its proxy again: its request has been answered, and the next
    /// may be another client's.
    pub(super) fn return_to_hop(&mut self, id: ConnectionId) {
        if let Some(hop) = self.admission.forget_hop(id) {
            // A proxy is not counted, unless it has been distrusted meanwhile.
            self.move_to(id, hop);
        }
    }
}

impl Admission {
    /// Forgets which proxy a connection came from, and returns it.
    pub fn forget_hop(&mut self, id: ConnectionId) -> Option<PeerAddress> {
        let hop = self.hops.remove(&id.key())?;
        if self.hops.is_empty() {
            self.hops = HashMap::new();
        }
        Some(hop)
    }
}
