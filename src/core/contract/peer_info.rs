//! What the application is told of a connection that is open.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;

/// What is known of an open connection: as it was when the loop answered
/// [`Peer::info`](crate::Peer::info) or [`Handle::peers`](crate::Handle::peers).
#[derive(Clone, Debug)]
pub struct PeerInfo {
    pub(crate) id: ConnectionId,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) path: Option<Box<str>>,
    pub(crate) identity: Option<Identity>,
    /// In milliseconds since 1970.
    pub(crate) opened_at_ms: u64,
    pub(crate) outbox_bytes: u64,
}

impl PeerInfo {
    /// Returns the connection's id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns the client's address; a trusted proxy may have told it. `None` on a Unix socket
    /// and in memory.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the path of the connection's route, as the route was given: `/users/{id}`. Where
    /// the route is of topics, the topic stands in it. `None` before a request has named a route.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns who is at the other end, if that is known.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(Identity::as_str)
    }

    /// Returns when the connection was accepted, by the wall clock of today.
    pub fn opened_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.opened_at_ms)
    }

    /// Returns how many bytes wait to be taken by the kernel.
    pub fn outbox_bytes(&self) -> u64 {
        self.outbox_bytes
    }
}
