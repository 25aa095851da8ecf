//! What the application's handlers serve: WebSocket connections, and answers by any method.

use crate::core::connection::Connection;
use crate::core::contract::event::Event;
use crate::core::contract::route::RouteKind;
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::services::{Asked, Served, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Caching, Method, Request};

/// WebSocket connections. A handler may subscribe one to topics.
pub(super) const SOCKET: Service =
    Service { form: Some(Form::Plain), ..Service::upgrade(Engine::tell_opened, None) };

pub(super) const GET: Service = by(Method::Get);
pub(super) const POST: Service = by(Method::Post);
pub(super) const PUT: Service = by(Method::Put);
pub(super) const DELETE: Service = by(Method::Delete);
pub(super) const PATCH: Service = by(Method::Patch);
pub(super) const TRACE: Service = by(Method::Trace);
pub(super) const OPTIONS: Service = by(Method::Options);

const fn by(method: Method) -> Service {
    Service { caching: Caching::Handlers, ..Service::by(Asked::By(method), Engine::ask) }
}

impl Engine {
    /// Has the request wait for the route's handler, with its connection: if the connection ends,
    /// the request is dropped.
    pub(in crate::core::engine) fn ask(
        &mut self,
        _: Instant,
        id: ConnectionId,
        request: Box<Request>,
    ) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.keep_request(request);
        self.mark_runnable(id);
    }

    /// Tells the handler of a WebSocket that has been opened.
    fn tell_opened(&mut self, _: Instant, id: ConnectionId, request: Box<Request>) {
        self.push_event(id, Event::Opened(request));
    }

    /// Returns whether the route of a connection has a handler; the others are the engine's own.
    pub(in crate::core::engine) fn has_handler(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| is_handled(&self.settings.routes, connection))
    }
}

/// Returns whether the route of a connection has a handler; the others are the engine's own.
pub(in crate::core::engine) fn is_handled(routes: &[Served], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    kind == Some(RouteKind::WebSocket)
}
