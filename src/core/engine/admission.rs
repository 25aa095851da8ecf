//! Which connection gets a slot: limits in all, for each address, and for each second.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::core::admission::rates::enough;
use crate::core::connection::{Connection, PeerAddress};
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
#[cfg(feature = "tls")]
use crate::core::engine::sealed::{Certificates, Names};
use crate::core::engine::takeover::Holders;
use crate::core::ground::bucket::Bucket;
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;
use crate::core::wire::http::Refusal;

/// The number of connections, in all and by address, and the next connection's id.
#[derive(Debug)]
pub(super) struct Admission {
    /// How many connections came through listeners that are not the operator's.
    pub public: usize,
    by_address: ByAddress,
    handshakes: Handshakes,
    generation: Generation,
    /// The newest connections of identities, where a newer one takes an older one's place.
    pub holders: Holders,
    /// The proxies whose connections stand for a client meanwhile, by slot.
    pub hops: HashMap<usize, PeerAddress>,
    /// Certificates of peers that may still make requests, by slot.
    #[cfg(feature = "tls")]
    pub certificates: Certificates,
    /// What certificates call their peers.
    #[cfg(feature = "tls")]
    pub names: Names,
}

/// How many connections each address has open. Only addresses with an open connection have an
/// entry, so there are no more entries than connections.
#[derive(Debug, Default)]
struct ByAddress(HashMap<u64, u32>);

/// How many connections may be accepted in a second.
#[derive(Debug, Default)]
struct Handshakes {
    bucket: Bucket,
    /// Nothing is accepted before.
    wait_until: Option<Instant>,
}

impl Engine {
    /// Returns whether a connection may be accepted now, by `limits.handshakes_per_second`. If not,
    /// [`Engine::poll_timeout`] comes when one may.
    ///
    /// In a drain each waiting connection may be accepted: its client is told of the drain before
    /// the listener closes.
    pub fn may_accept(&mut self, now: Instant, face: Face) -> bool {
        let rate = self.settings.config.limits.handshakes_per_second.into();
        if rate == 0 || face == Face::Admin || self.schedule.drain.is_some() {
            return true;
        }
        let Handshakes { bucket, wait_until } = &mut self.admission.handshakes;
        if wait_until.is_none() && bucket.tokens(now, rate) == 0 {
            *wait_until = Some(bucket.ready_at(now, rate, enough(rate)));
            self.stats.handshake_pauses += 1;
        }
        wait_until.is_none()
    }

    /// Returns whether no rate holds up accepting.
    pub fn is_accepting(&self, face: Face) -> bool {
        face == Face::Admin || self.admission.handshakes.wait_until.is_none()
    }

    pub(super) fn accepts_at(&self) -> Option<Instant> {
        self.admission.handshakes.wait_until
    }

    /// Ends the wait if it is over: accepting goes on in the next turn.
    pub(super) fn accept_on(&mut self, now: Instant) {
        self.admission.handshakes.wait_until.take_if(|at| *at <= now);
    }

    /// Takes in a connection.
    ///
    /// # Errors
    ///
    /// The answer to a connection that gets no slot: 503 if `limits.connections` are open or memory
    /// is short, 429 if `limits.connections_per_ip` are open from its address.
    pub fn accept(
        &mut self,
        now: Instant,
        face: Face,
        peer: Option<SocketAddr>,
    ) -> Result<ConnectionId, Refusal> {
        let is_public = face != Face::Admin;
        let rate = self.settings.config.limits.handshakes_per_second.into();
        if is_public && rate > 0 {
            self.admission.handshakes.bucket.spend(now, rate, 1);
        }
        let (open, limit) = match is_public {
            true => {
                (self.admission.public, self.settings.config.limits.connections.min(PUBLIC_MAX))
            }
            false => (self.connections.len() - self.admission.public, ADMIN_CONNECTIONS_MAX),
        };
        if open >= limit {
            self.stats.rejected_connections += 1;
            return Err(Refusal::new(503, "too many connections are open"));
        }
        if is_public && self.budget.is_short() {
            self.stats.rejected_memory += 1;
            return Err(Refusal::new(503, SHORT_OF_MEMORY));
        }
        let network = self.network(face, peer);
        let per_ip = self.settings.config.limits.connections_per_ip;
        if let Some(network) = network.filter(|_| per_ip > 0)
            && !self.admission.by_address.take(network, per_ip)
        {
            self.stats.rejected_per_ip += 1;
            return Err(Refusal::new(429, TOO_MANY_FROM_THERE));
        }
        self.admission.public += usize::from(is_public);
        self.admission.generation = self.admission.generation.next();
        let entry = self.connections.vacant_entry();
        let id = ConnectionId::new(entry.key(), self.admission.generation);
        let connection = entry.insert(Connection::new(id, face, PeerAddress::new(peer), now));
        connection.flags.round_parity = self.schedule.round_parity;
        self.stats.accepted += 1;
        debug_assert!(self.wheel.armed_at(id.key()).is_none(), "the slot was given back");
        self.rearm(now, id.key());
        Ok(id)
    }

    /// Notes that a connection has given its slot back.
    pub(super) fn release_address(&mut self, connection: &Connection) {
        if let Some(network) = self.network(connection.face, connection.peer.address()) {
            self.admission.by_address.give_back(network);
        }
    }

    /// Has a connection stand for another peer, and count for that one. Returns false, and changes
    /// nothing, if `limits.connections_per_ip` are open from there.
    pub(super) fn move_to(&mut self, id: ConnectionId, peer: PeerAddress) -> bool {
        let Some(connection) = self.get(id) else { return false };
        let network = |peer: PeerAddress| self.network(connection.face, peer.address());
        let (old, new) = (network(connection.peer), network(peer));
        let per_ip = self.settings.config.limits.connections_per_ip;
        if per_ip > 0 && old != new {
            if new.is_some_and(|new| !self.admission.by_address.take(new, per_ip)) {
                self.stats.rejected_per_ip += 1;
                return false;
            }
            if let Some(old) = old {
                self.admission.by_address.give_back(old);
            }
        }
        if let Some(connection) = self.get_mut(id) {
            connection.peer = peer;
        }
        true
    }

    /// Returns what a connection counts for. `None` if for nothing: on the operator's listeners,
    /// and if it comes from this machine or from a trusted proxy, which stand for many clients.
    fn network(&self, face: Face, peer: Option<SocketAddr>) -> Option<u64> {
        let is_counted = face != Face::Admin && !self.trusts(peer);
        peer.filter(|_| is_counted).and_then(network)
    }

    /// Counts anew: `limits.connections_per_ip` may have been off before.
    pub(super) fn count_addresses(&mut self) {
        self.admission.by_address = ByAddress::default();
        if self.settings.config.limits.connections_per_ip > 0 {
            for (_, connection) in &self.connections {
                let network = self.network(connection.face, connection.peer.address());
                if let Some(network) = network {
                    self.admission.by_address.take(network, u32::MAX);
                }
            }
        }
    }
}

impl Admission {
    pub fn new(generation: Generation) -> Admission {
        Admission {
            public: 0,
            by_address: ByAddress::default(),
            handshakes: Handshakes::default(),
            generation,
            hops: HashMap::new(),
            holders: Holders::default(),
            #[cfg(feature = "tls")]
            certificates: Certificates::default(),
            #[cfg(feature = "tls")]
            names: Names::default(),
        }
    }

    /// Returns who is at the other end of a connection, if that is known: by its last request, or
    /// else by its certificate.
    #[inline(always)]
    pub fn identity(&self, connection: &Connection) -> Option<Identity> {
        let identity = connection.identity().cloned();
        #[cfg(feature = "tls")]
        let identity = identity.or_else(|| Identity::new(self.names.of(connection.id.key())?));
        identity
    }

    /// Returns the text of [`Admission::identity`].
    #[inline(always)]
    pub fn name<'a>(&'a self, connection: &'a Connection) -> Option<&'a str> {
        let name = connection.identity().map(Identity::as_str);
        #[cfg(feature = "tls")]
        let name = name.or_else(|| self.names.of(connection.id.key()));
        name
    }
}

impl ByAddress {
    /// Counts a connection from a network, unless the network is at its limit.
    fn take(&mut self, network: u64, most: u32) -> bool {
        let open = self.0.get(&network).copied().unwrap_or(0);
        if open < most {
            self.0.insert(network, open + 1);
        }
        open < most
    }

    fn give_back(&mut self, network: u64) {
        // While the limit is off nothing is counted.
        let Some(open) = self.0.get_mut(&network) else { return };
        debug_assert!(*open > 0, "an address without connections is not remembered");
        *open -= 1;
        if *open == 0 {
            self.0.remove(&network);
            if self.0.is_empty() {
                self.0 = HashMap::new();
            }
        }
    }
}

/// Returns what is counted as one address. Of IPv6 it is the first 64 bits, because one customer
/// has at least such a network. `None` for loopback: a local process, such as a proxy, may stand
/// for many clients.
fn network(peer: SocketAddr) -> Option<u64> {
    match peer.ip().to_canonical() {
        ip if ip.is_loopback() => None,
        // As an IPv6 prefix this would lie in ::/32, which no network is given.
        IpAddr::V4(ip) => Some(u32::from(ip).into()),
        IpAddr::V6(ip) => Some((u128::from(ip) >> 64) as u64),
    }
}

/// What a client is told that has as many connections as one address may have.
pub(super) const TOO_MANY_FROM_THERE: &str = "too many connections are open from this address";

/// Connections through the operator's listeners: they come out of the descriptors kept in reserve.
const ADMIN_CONNECTIONS_MAX: usize = 16;

/// All others: more slots than these no id can tell apart.
const PUBLIC_MAX: usize = ConnectionId::SLOTS_MAX - ADMIN_CONNECTIONS_MAX;

const _: () = assert!(ADMIN_CONNECTIONS_MAX < PUBLIC_MAX, "the operator takes the smaller part");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_64_bits_and_loopback_not_at_all() {
        let network = |ip: &str| network(SocketAddr::new(ip.parse().unwrap(), 1));
        assert_eq!(network("2001:db8:0:1::5"), network("2001:db8:0:1:ffff::"));
        assert_ne!(network("2001:db8:0:1::5"), network("2001:db8:0:2::5"));
        assert_eq!(network("192.0.2.7"), network("::ffff:192.0.2.7"));
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(network(ip), None, "{ip}");
        }
    }

    #[test]
    fn an_address_without_connections_is_not_remembered() {
        let mut counts = ByAddress::default();
        for round in 0..3 {
            for network in 0..1000 {
                assert!(counts.take(network, 2) && counts.take(network, 2), "{round}");
                assert!(!counts.take(network, 2));
            }
            (0..1000).for_each(|network| counts.give_back(network));
            assert_eq!(counts.0.len(), 1000);
            (0..1000).for_each(|network| counts.give_back(network));
            assert_eq!(counts.0.capacity(), 0);
        }
        counts.give_back(7);
        assert!(counts.take(7, 1));
    }
}
