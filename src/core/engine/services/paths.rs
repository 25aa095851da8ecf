//! Which routes a path has, and by which methods a request is given to them.

use crate::core::contract::route::{Face, RouteSpec};
use crate::core::engine::services::{Method, Service};
use crate::core::wire::http::Caching;

/// The routes of a path for one listener, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::core::engine) struct Found {
    pub websocket: Option<usize>,
    pub get: Option<usize>,
    pub post: Option<usize>,
    pub delete: Option<usize>,
    /// A POST needs no body.
    pub is_bare: bool,
    /// It reports the server's health: a watcher may use any Host name for it.
    pub is_health: bool,
    /// What caches may do with its answers.
    pub caching: Caching,
}

/// Finds the routes of a path.
pub(in crate::core::engine) fn find(routes: &[RouteSpec], face: Face, path: &str) -> Option<Found> {
    let mut found = None;
    for (index, route) in routes.iter().enumerate() {
        if !route.has_path(path) || !route.face.is_seen_by(face) {
            continue;
        }
        let found: &mut Found = found.get_or_insert_default();
        let service = Service::of(route.kind);
        found.caching = found.caching.max(service.caching);
        found.is_health |= service.is_health;
        found.is_bare |= service.is_bare;
        let place = match service.method {
            Method::Upgrade => &mut found.websocket,
            Method::Get => &mut found.get,
            Method::Post => &mut found.post,
            Method::Delete => &mut found.delete,
        };
        *place = Some(index);
    }
    found
}

impl Found {
    /// Returns one of the routes.
    pub fn any(&self) -> Option<usize> {
        self.websocket.or(self.get).or(self.post)
    }

    /// Returns the value of the Allow header (RFC 9110, 10.2.1).
    pub fn allow(&self) -> &'static str {
        match (self.get.is_some(), self.post.is_some()) {
            (true, true) => "GET, HEAD, POST, OPTIONS",
            (true, false) => "GET, HEAD, OPTIONS",
            (false, true) if self.websocket.is_some() => "GET, POST, OPTIONS",
            (false, true) => "POST, OPTIONS",
            (false, false) if self.delete.is_some() => "DELETE, OPTIONS",
            (false, false) => "GET, OPTIONS",
        }
    }
}
