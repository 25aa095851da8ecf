//! What the application's handlers serve: WebSocket connections, and answers to GET and POST.

use crate::core::connection::Connection;
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::services::{Method, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::wire::http::{Caching, Request};

/// WebSocket connections. A handler may subscribe one to topics.
pub(super) const SOCKET: Service =
    Service { form: Some(Form::Plain), ..Service::by(Method::Upgrade) };

/// GET and HEAD.
pub(super) const GET: Service = Service { caching: Caching::Handlers, ..Service::by(Method::Get) };

/// POST.
pub(super) const POST: Service =
    Service { caching: Caching::Handlers, ..Service::by(Method::Post) };

impl Engine {
    /// Has the request wait for the route's handler, with its connection: if the connection ends,
    /// the request is dropped.
    pub(super) fn ask(&mut self, id: ConnectionId, request: Box<Request>) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.keep_request(request);
        self.mark_runnable(id);
    }

    /// Returns whether the route of a connection has a handler; the others are the engine's own.
    pub(in crate::core::engine) fn has_handler(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| is_handled(&self.settings.routes, connection))
    }
}

/// Returns whether the route of a connection has a handler; the others are the engine's own.
pub(in crate::core::engine) fn is_handled(routes: &[RouteSpec], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    kind == Some(RouteKind::WebSocket)
}
