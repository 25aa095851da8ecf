//! Connections over TLS: what the engine knows of them. Their bytes are handled as all others.

use std::collections::HashMap;

use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::json::Object;
use crate::core::wire::tls::{Certificate, Sealed};

impl Engine {
    /// Returns whether a connection is known to be over TLS.
    #[inline]
    pub fn is_sealed(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.flags.sealed.is_some())
    }

    /// Takes note of what a handshake has agreed on, and of the certificate of the peer.
    pub fn handle_sealed(
        &mut self,
        id: ConnectionId,
        sealed: Sealed,
        certificate: Option<Box<Certificate>>,
    ) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.flags.sealed = Some(sealed);
        if let Some(certificate) = certificate {
            self.admission.names.keep(id.key(), &certificate);
            self.admission.certificates.0.insert(id.key(), certificate);
        }
    }
}

/// What certificates call their peers, by slot. A name is kept for as long as its connection, so it
/// costs no more than its text and a place in a table: 16 bytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: Vec<Option<Box<str>>>,
    count: usize,
}

impl Names {
    /// Keeps the common name, or else the first of the other names that is an identity.
    fn keep(&mut self, key: usize, certificate: &Certificate) {
        let mut names = certificate.common_name.iter().chain(&certificate.names);
        let Some(name) = names.find(|name| Identity::new(name).is_some()) else { return };
        if key >= self.places.len() {
            // Not twice as many: what is not used would cost as much as what is.
            let growth = GROWTH_MIN.max(self.places.len() / 8);
            self.places.reserve_exact(key + growth - self.places.len());
            self.places.resize(key + 1, None);
        }
        debug_assert!(self.places[key].is_none(), "it was forgotten with its connection");
        self.places[key] = Some(name.as_str().into());
        self.count += 1;
    }

    /// Returns the name of the peer in a slot.
    pub fn of(&self, key: usize) -> Option<&str> {
        self.places.get(key)?.as_deref()
    }

    /// Forgets the name of a connection that has ended.
    pub fn forget(&mut self, key: usize) {
        let name = self.places.get_mut(key).and_then(Option::take);
        self.count -= usize::from(name.is_some());
        if self.count == 0 {
            self.places = Vec::new();
        }
    }
}

/// By how many places the table of names grows at least.
const GROWTH_MIN: usize = 64;

/// Certificates of peers that may still make requests, by slot.
#[derive(Debug, Default)]
pub(super) struct Certificates(HashMap<usize, Box<Certificate>>);

impl Certificates {
    /// Returns the certificate of the connection in a slot.
    pub fn of(&self, key: usize) -> Option<&Certificate> {
        self.0.get(&key).map(Box::as_ref)
    }

    /// Forgets the certificate of a connection that makes no more requests: its rights are known.
    pub fn forget(&mut self, key: usize) {
        // Most connections have none.
        if self.0.remove(&key).is_some() && self.0.is_empty() {
            self.0.shrink_to_fit();
        }
    }
}

/// Returns what a row of the table of connections says of TLS.
pub(super) fn shown(Sealed { suite, is_resumed }: Sealed) -> String {
    let kind = if is_resumed { "resumed" } else { "full" };
    let cipher = suite.label();
    let object = Object::new().string("version", "TLSv1.3").string("cipher", cipher);
    object.string("kind", kind).end()
}
