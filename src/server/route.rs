//! Routes: what an application serves on a path.

use crate::core::contract::event::Accept;
use crate::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use crate::core::wire::http::{Refusal, Request, Response};
use crate::threads::handler::{AnswerEndpoint, Authorize, Endpoint, Handler, WebSocketEndpoint};

/// A route: a path, a handler, and where the handler runs.
pub struct Route {
    pub(super) spec: RouteSpec,
    /// What its handler is run by. The engine answers a route without one.
    endpoint: Option<Box<MakeEndpoint>>,
    authorize: Option<Box<Authorize>>,
}

type MakeEndpoint = dyn FnOnce(Option<Box<Authorize>>) -> Box<dyn Endpoint>;

impl Route {
    /// Serves WebSocket connections on `path`, which is compared exactly. A path that ends in
    /// `{topic}` takes one more segment, whatever it is. A path that no request could match is
    /// refused by [`build`](crate::Builder::build).
    pub fn websocket(path: impl Into<String>, handler: impl Handler) -> Route {
        Route::handled(path, RouteKind::WebSocket, move |authorize| {
            Box::new(WebSocketEndpoint { handler, authorize })
        })
    }

    /// Answers GET and HEAD on `path`.
    pub fn get<F>(path: impl Into<String>, answer: F) -> Route
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        Route::handled(path, RouteKind::Get, move |_| Box::new(AnswerEndpoint(answer)))
    }

    /// Answers POST on `path`; the body is complete when `answer` is called.
    pub fn post<F>(path: impl Into<String>, answer: F) -> Route
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        Route::handled(path, RouteKind::Post, move |_| Box::new(AnswerEndpoint(answer)))
    }

    /// Runs the handler on the loop thread. The handler must never block: everything else waits for
    /// it. This saves two wake-ups and two switches of context for each message.
    pub fn inline(mut self) -> Route {
        self.spec.placement = Placement::Inline;
        self
    }

    /// Serves this route on the operator's listeners instead of the public ones.
    pub fn admin(mut self) -> Route {
        self.spec.face = Face::Admin;
        self
    }

    /// Answers this route without a token, even if `admission.tokens` is set: for public pages,
    /// such as one that then asks with a token.
    pub fn open(mut self) -> Route {
        self.spec.is_open = true;
        self
    }

    /// Calls `authorize` for each upgrade before it is answered, where the handler runs. The answer
    /// must come within `deadlines.handshake`.
    pub fn authorize<F>(mut self, authorize: F) -> Route
    where
        F: Fn(&Request) -> std::result::Result<Accept, Refusal> + Send + Sync + 'static,
    {
        self.spec.authorizes = true;
        self.authorize = Some(Box::new(authorize));
        self
    }

    /// Adds a subprotocol (RFC 6455, 1.9). The server answers with the first one offered by the
    /// client that the route has.
    pub fn protocol(mut self, name: impl Into<String>) -> Route {
        self.spec.protocols.push(name.into());
        self
    }

    /// Calls the handler with the round trip of each ping.
    pub fn with_pongs(mut self) -> Route {
        self.spec.wants_pongs = true;
        self
    }

    /// Tells the handler when all that was queued for a peer is with the kernel, after it was not.
    pub fn with_drained(mut self) -> Route {
        self.spec.wants_drained = true;
        self
    }

    fn handled(
        path: impl Into<String>,
        kind: RouteKind,
        endpoint: impl FnOnce(Option<Box<Authorize>>) -> Box<dyn Endpoint> + 'static,
    ) -> Route {
        Route { endpoint: Some(Box::new(endpoint)), ..Route::own(path, kind) }
    }

    /// Makes a route that the engine answers by itself.
    pub(super) fn own(path: impl Into<String>, kind: RouteKind) -> Route {
        Route { spec: RouteSpec::new(path, kind), endpoint: None, authorize: None }
    }

    /// Parts the route into what the engine is told, and what runs its handler, if it has one.
    pub(super) fn into_parts(self) -> (RouteSpec, Option<Box<dyn Endpoint>>) {
        debug_assert_eq!(self.endpoint.is_some(), self.spec.kind.has_handler());
        (self.spec, self.endpoint.map(|endpoint| endpoint(self.authorize)))
    }
}
