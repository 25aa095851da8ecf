//! Services: what a path serves, each in one file. A file says what its service is to the engine, a
//! [`Service`], and has what answers a request, opens a connection and takes its messages. Only
//! this file says which file serves which kind of route.

mod events;
mod handlers;
mod health;
mod hub;
mod operator;
mod paths;
#[cfg(feature = "presence")]
mod presence;
mod topics;

use std::ops::Deref;
use std::sync::Arc;

use crate::core::admission::rights::Right;
use crate::core::connection::{Connection, Posted};
use crate::core::contract::accept::Accept;
use crate::core::contract::event::Event;
use crate::core::contract::route::{OPERATIONS, RouteKind, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::offers::{HOOKS, Hooks};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Caching, HeaderLines, Method, Refusal, Request, path};
use crate::core::wire::message::Message;

pub(super) use handlers::is_handled;
pub(super) use paths::{Found, Paths};
#[cfg(all(feature = "cluster", feature = "presence"))]
pub use presence::MemberChange;
pub(super) use topics::is_publisher;

/// A route, with what serves it. It is made by a function for each service, so that a linker leaves
/// out the services that a program does not use.
#[derive(Clone, Debug)]
pub struct Served {
    /// The route.
    pub spec: RouteSpec,
    /// The key by which its path is compared.
    key: Box<str>,
    /// Its path, for requests to find their parameters, if it has any.
    pattern: Option<Arc<str>>,
    service: &'static Service,
    /// Takes the verdicts of `authorize`, if the route has it.
    judge: Option<Judge>,
    /// What is done with what clients publish there, if a hook decides on it.
    hooks: Option<&'static Hooks>,
    /// What claims the sessions of its upgrades, if they outlast connections.
    #[cfg(feature = "sessions")]
    claims: Option<Arc<dyn crate::core::contract::sessions::Claims>>,
}

/// Takes the verdict of `authorize` on a request.
type Judge = fn(&mut Engine, Instant, ConnectionId, Box<Request>, Result<Accept, Refusal>);

/// What a kind of route is to the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// How it is asked for.
    pub asked: Asked,
    /// What a request's token must allow.
    pub needs: Needs,
    /// In which form a connection gets events, once it is open.
    pub form: Option<Form>,
    /// What caches may do with the answers.
    pub caching: Caching,
    /// A POST needs no body.
    pub is_bare: bool,
    /// It reports the server's health.
    pub is_health: bool,
    /// Answers a complete request, or has the route's handler answer.
    answer: fn(&mut Engine, Instant, ConnectionId, Box<Request>),
    /// What it does with a WebSocket; `None` if it has none.
    socket: Option<Socket>,
    /// Makes what reads the body of a request as it comes, if the service wants it read.
    pub posted: fn(&Request) -> Option<Posted>,
}

/// What a service does with a WebSocket.
#[derive(Clone, Copy, Debug)]
struct Socket {
    /// Prepares an upgrade, while it can still be refused. Returns further headers of the answer.
    prepare: fn(&mut Engine, Instant, ConnectionId, &Request) -> Result<HeaderLines, Refusal>,
    /// Begins an upgraded WebSocket.
    opened: fn(&mut Engine, Instant, ConnectionId, Box<Request>),
    /// Takes a message; `None` if the route's handler does.
    message: Option<fn(&mut Engine, Instant, ConnectionId, Message)>,
    /// Reads what has come of an incomplete message.
    read_ahead: fn(&mut Engine, ConnectionId),
}

/// How a service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// By GET that offers WebSocket.
    Upgrade,
    /// By this method.
    By(Method),
}

/// What a request's token must allow, where tokens are needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needs {
    /// No right: any token will do.
    Nothing,
    /// This right, for the topic that the path names.
    ForPath(Right),
    /// This right, for each topic that the query names.
    ForQuery(Right),
}

impl Served {
    /// Checks that each route has requests that it serves, and no other one does.
    ///
    /// # Errors
    ///
    /// The number of the first route that has none, and the rule that it breaks.
    pub fn check(routes: &[Served]) -> Result<(), (usize, &'static str)> {
        let by_path =
            |(number, route): (usize, &Served)| route.check().map_err(|rule| (number, rule));
        routes.iter().take(RouteSpec::MAX).enumerate().try_for_each(by_path)?;
        if routes.len() > RouteSpec::MAX {
            return Err((RouteSpec::MAX, "there must be at most 4096 routes"));
        }
        match Paths::default().add(routes, 0) {
            Some(number) => Err((number, "another route answers the same method there")),
            None => Ok(()),
        }
    }

    /// Makes the routes of topics on a path, which ends in `{topic}`.
    pub fn topics(path: &str) -> [Served; 3] {
        let [socket, get, post] = RouteSpec::topics(path);
        [(socket, &topics::SOCKET), (get, &topics::GET), (post, &topics::POST)]
            .map(|(spec, service)| Served::by(spec, service))
    }

    /// Makes the route of WebSockets with many topics.
    pub fn hub(path: &str) -> Served {
        Served::by(RouteSpec::hub(path), &hub::SERVICE)
    }

    /// Makes the route of event streams of the topics that the query names.
    pub fn events(path: &str) -> Served {
        Served::by(RouteSpec::events(path), &events::SERVICE)
    }

    /// Makes the routes that report the server's health.
    pub fn health() -> [Served; 2] {
        RouteSpec::health().map(|spec| Served::by(spec, &health::SERVICE))
    }

    /// Makes the operator's routes.
    pub fn operator() -> [Served; OPERATIONS] {
        RouteSpec::operator().map(|spec| {
            let service = operator::service(spec.kind);
            Served::by(spec, service)
        })
    }

    /// Makes the route of a handler: of WebSockets, or of answers.
    pub fn handled(spec: RouteSpec) -> Served {
        debug_assert!(spec.kind.has_handler(), "the other kinds have functions of their own");
        let service = match spec.kind {
            RouteKind::Get => &handlers::GET,
            RouteKind::Post => &handlers::POST,
            RouteKind::Put => &handlers::PUT,
            RouteKind::Delete => &handlers::DELETE,
            RouteKind::Patch => &handlers::PATCH,
            RouteKind::Trace => &handlers::TRACE,
            RouteKind::Options => &handlers::OPTIONS,
            _ => &handlers::SOCKET,
        };
        Served::by(spec, service)
    }

    /// Has `authorize` judge each request.
    pub fn judged(&mut self) {
        self.spec.authorizes = true;
        self.judge = Some(Engine::handle_verdict);
    }

    /// Has a hook decide on what clients publish, if they may publish there.
    pub fn hooked(&mut self) {
        // What comes of a route of topics by GET publishes nothing.
        if self.spec.kind != RouteKind::TopicGet {
            self.spec.has_hook = true;
            self.hooks = Some(&HOOKS);
        }
    }

    /// Returns what is done with what clients publish, if a hook decides on it.
    pub(super) fn hooks(&self) -> Option<&'static Hooks> {
        self.hooks
    }

    /// Has sessions of its upgrades claimed.
    #[cfg(feature = "sessions")]
    pub fn claimed_by(&mut self, claims: Arc<dyn crate::core::contract::sessions::Claims>) {
        self.claims = Some(claims);
    }

    /// Returns what claims the sessions of its upgrades, if they outlast connections.
    #[cfg(feature = "sessions")]
    pub(super) fn claims(&self) -> Option<Arc<dyn crate::core::contract::sessions::Claims>> {
        self.claims.clone()
    }

    /// Returns its path, for requests to find their parameters; `None` without parameters.
    pub(super) fn pattern(&self) -> Option<Arc<str>> {
        self.pattern.clone()
    }

    fn with_parts(mut self) -> Served {
        if self.spec.authorizes {
            self.judged();
        }
        if self.spec.has_hook {
            self.hooked();
        }
        self
    }

    fn by(spec: RouteSpec, service: &'static Service) -> Served {
        let key = path::key_of_route(&spec.path).into();
        let pattern = path::has_parameters(&spec.path).then(|| (&*spec.path).into());
        Served {
            spec,
            key,
            pattern,
            service,
            judge: None,
            hooks: None,
            #[cfg(feature = "sessions")]
            claims: None,
        }
    }
}

/// For routes of any kind: all services are linked then.
impl From<RouteSpec> for Served {
    fn from(spec: RouteSpec) -> Served {
        let service = match spec.kind {
            kind if kind.has_handler() => return Served::handled(spec).with_parts(),
            RouteKind::TopicSocket => &topics::SOCKET,
            RouteKind::TopicGet => &topics::GET,
            RouteKind::TopicPost => &topics::POST,
            RouteKind::Hub => &hub::SERVICE,
            RouteKind::EventStream => &events::SERVICE,
            RouteKind::Health | RouteKind::Ready => &health::SERVICE,
            _ => operator::service(spec.kind),
        };
        Served::by(spec, service).with_parts()
    }
}

impl Deref for Served {
    type Target = RouteSpec;

    fn deref(&self) -> &RouteSpec {
        &self.spec
    }
}

impl Service {
    /// Returns the service that is asked for by a method and needs nothing else.
    const fn by(
        asked: Asked,
        answer: fn(&mut Engine, Instant, ConnectionId, Box<Request>),
    ) -> Service {
        Service {
            asked,
            needs: Needs::Nothing,
            form: None,
            caching: Caching::NoStore,
            is_bare: false,
            is_health: false,
            answer,
            socket: None,
            posted: |_| None,
        }
    }

    /// Returns the service of WebSockets that are opened and served by these.
    const fn upgrade(
        opened: fn(&mut Engine, Instant, ConnectionId, Box<Request>),
        message: Option<fn(&mut Engine, Instant, ConnectionId, Message)>,
    ) -> Service {
        let prepare: fn(&mut Engine, Instant, ConnectionId, &Request) -> _ =
            |_, _, _, _| Ok(HeaderLines::new());
        let socket = Socket { prepare, opened, message, read_ahead: |_, _| {} };
        Service { socket: Some(socket), ..Service::by(Asked::Upgrade, Engine::accept_upgrade) }
    }
}

impl Engine {
    /// Answers a complete request for a route, or has its handler answer.
    pub(super) fn serve_request(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: Box<Request>,
        route: usize,
    ) {
        (self.settings.routes[route].service.answer)(self, now, id, request);
    }

    /// Takes the verdict of a route's `authorize`.
    pub(super) fn take_verdict(
        &mut self,
        now: Instant,
        id: ConnectionId,
        route: usize,
        request: Box<Request>,
        verdict: Result<Accept, Refusal>,
    ) {
        let judge = self.settings.routes[route].judge;
        debug_assert!(judge.is_some(), "the route asked for it");
        if let Some(judge) = judge {
            judge(self, now, id, request, verdict);
        }
    }

    /// Prepares an upgrade, while it can still be refused. Returns further headers of the answer.
    pub(super) fn prepare_upgrade(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
    ) -> Result<HeaderLines, Refusal> {
        match self.socket_of(id) {
            Some(socket) => (socket.prepare)(self, now, id, request),
            None => Ok(HeaderLines::default()),
        }
    }

    /// Begins an upgraded WebSocket as its kind of route requires.
    pub(super) fn serve_opened(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let socket = self.socket_of(id);
        debug_assert!(socket.is_some(), "no other route has WebSockets");
        if let Some(socket) = socket {
            (socket.opened)(self, now, id, request);
        }
    }

    /// Takes a message of an open WebSocket.
    pub(super) fn serve_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        match self.socket_of(id).map(|socket| socket.message) {
            Some(Some(take)) => {
                self.stats.messages_handled += 1;
                take(self, now, id, message);
            }
            Some(None) => self.push_event(id, Event::Message(message)),
            None => {}
        }
    }

    /// Reads what has come of an incomplete message: a long message takes longer than a turn may.
    pub(super) fn read_ahead(&mut self, id: ConnectionId) {
        if let Some(socket) = self.socket_of(id) {
            (socket.read_ahead)(self, id);
        }
    }

    fn kind_of(&self, id: ConnectionId) -> Option<RouteKind> {
        let route = self.get(id)?.route?;
        Some(self.settings.routes[usize::from(route)].kind)
    }

    fn socket_of(&self, id: ConnectionId) -> Option<&'static Socket> {
        let route = self.get(id)?.route?;
        self.settings.routes[usize::from(route)].service.socket.as_ref()
    }
}

/// Returns what a kind of route is to the engine.
pub(super) fn service_of(route: &Served) -> &'static Service {
    route.service
}

/// Returns how a connection is fed; `None` if it gets no events.
#[inline]
pub(super) fn form(routes: &[Served], connection: &Connection) -> Option<Form> {
    let form = match routes[usize::from(connection.route?)].service.form? {
        #[cfg(feature = "cbor")]
        Form::Hub if connection.speaks_cbor() => Form::CborHub,
        form => form,
    };
    let is_fed = match form {
        Form::Plain | Form::Hub => connection.is_open(),
        #[cfg(feature = "cbor")]
        Form::CborHub => connection.is_open(),
        Form::Stream | Form::NamedStream => connection.is_stream(),
    };
    is_fed.then_some(form)
}
