//! Services: what a path serves, each in one file. A file says what its service is to the engine, a
//! [`Service`], and has what answers a request, opens a connection and takes its messages. Only
//! this file says which file serves which kind of route.

mod events;
mod handlers;
mod health;
mod hub;
mod operator;
mod paths;
mod topics;

use crate::core::admission::tokens::Right;
use crate::core::connection::{Connection, Posted};
use crate::core::contract::event::{Accept, Event};
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Caching, HeaderLines, Refusal, Request};
use crate::core::wire::message::Message;

pub(super) use handlers::is_handled;
pub(super) use paths::{Found, find};
pub(super) use topics::{is_publisher, topic_of};

/// What a kind of route is to the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// How it is asked for.
    pub method: Method,
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
}

/// How a service is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    /// By GET that offers WebSocket.
    Upgrade,
    /// By GET, or by HEAD.
    Get,
    Post,
    Delete,
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

impl Service {
    /// Returns what a kind of route is to the engine.
    pub fn of(kind: RouteKind) -> Service {
        match kind {
            RouteKind::WebSocket => handlers::SOCKET,
            RouteKind::Get => handlers::GET,
            RouteKind::Post => handlers::POST,
            RouteKind::TopicSocket => topics::SOCKET,
            RouteKind::TopicGet => topics::GET,
            RouteKind::TopicPost => topics::POST,
            RouteKind::Hub => hub::SERVICE,
            RouteKind::EventStream => events::SERVICE,
            RouteKind::Health | RouteKind::Ready => health::SERVICE,
            RouteKind::Operator(operation) => operator::service(operation),
        }
    }

    /// Returns the service that is asked for by a method and needs nothing else.
    const fn by(method: Method) -> Service {
        Service {
            method,
            needs: Needs::Nothing,
            form: None,
            caching: Caching::NoStore,
            is_bare: false,
            is_health: false,
        }
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
        let spec = &self.settings.routes[route];
        match spec.kind {
            RouteKind::WebSocket if spec.authorizes => self.ask(id, request),
            RouteKind::Get | RouteKind::Post => self.ask(id, request),
            RouteKind::WebSocket | RouteKind::TopicSocket | RouteKind::Hub => {
                self.handle_verdict(now, id, request, Ok(Accept::default()));
            }
            RouteKind::TopicGet => self.get_topic(now, id, &request),
            RouteKind::TopicPost => self.post_topic(now, id, &request),
            RouteKind::EventStream => self.get_events(now, id, &request),
            RouteKind::Health => self.get_health(now, id),
            RouteKind::Ready => self.get_ready(now, id),
            RouteKind::Operator(operation) => self.operate(now, id, &request, operation),
        }
    }

    /// Prepares an upgrade, while it can still be refused. Returns further headers of the answer.
    pub(super) fn prepare_upgrade(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        route: usize,
    ) -> Result<HeaderLines, Refusal> {
        match self.settings.routes[route].kind {
            RouteKind::TopicSocket => self.prepare_topic_socket(now, id, request, route),
            _ => Ok(HeaderLines::default()),
        }
    }

    /// Begins an upgraded WebSocket as its kind of route requires.
    pub(super) fn serve_opened(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let Some(kind) = self.kind_of(id) else { return };
        match kind {
            RouteKind::WebSocket => self.push_event(id, Event::Opened(request)),
            RouteKind::TopicSocket => self.feed(now, id),
            RouteKind::Hub => self.greet(now, id),
            _ => debug_assert!(false, "no other route has WebSockets"),
        }
    }

    /// Takes a message of an open WebSocket.
    pub(super) fn serve_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        let Some(kind) = self.kind_of(id) else { return };
        match kind {
            RouteKind::WebSocket => return self.push_event(id, Event::Message(message)),
            RouteKind::TopicSocket => self.publish_plain(now, id, message),
            RouteKind::Hub => self.take_hub_message(now, id, &message),
            _ => return debug_assert!(false, "no other route has WebSockets"),
        }
        self.stats.messages_handled += 1;
    }

    fn kind_of(&self, id: ConnectionId) -> Option<RouteKind> {
        let route = self.get(id)?.route?;
        Some(self.settings.routes[usize::from(route)].kind)
    }
}

/// Returns what reads the body of a request for a route as it comes, if the route wants it read.
pub(super) fn posted(spec: &RouteSpec, request: &Request) -> Option<Posted> {
    match spec.kind {
        RouteKind::TopicPost => Posted::new(request),
        _ => None,
    }
}

/// Returns how a connection is fed; `None` if it gets no events.
#[inline]
pub(super) fn form(routes: &[RouteSpec], connection: &Connection) -> Option<Form> {
    let route = &routes[usize::from(connection.route?)];
    let form = Service::of(route.kind).form?;
    let is_fed = match form {
        Form::Plain | Form::Hub => connection.is_open(),
        Form::Stream | Form::NamedStream => connection.is_stream(),
    };
    is_fed.then_some(form)
}
