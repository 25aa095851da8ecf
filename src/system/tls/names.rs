//! Certificates by the name that a client asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a server.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By name, in lower case; `*.example.org` stands for one label.
    pub by_name: BTreeMap<String, Arc<CertifiedKey>>,
    /// For everybody else.
    pub default: Option<Arc<CertifiedKey>>,
}

impl Names {
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_lowercase();
        let wild = || {
            let (_, rest) = name.split_once('.')?;
            self.by_name.get(&format!("*.{rest}"))
        };
        self.by_name.get(&name).or_else(wild)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        found.or(self.default.as_ref()).cloned()
    }
}
