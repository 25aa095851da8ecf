//! The table of routes, as the engine sees it: what a path serves, and where its handler runs.

use crate::core::ground::subprotocol::Subprotocol;
use crate::core::wire::http::{Method, path};

/// One route.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The path, perhaps with parameters.
    pub path: String,
    /// What is served.
    pub kind: RouteKind,
    /// Where the handler runs.
    pub placement: Placement,
    /// On which listeners.
    pub face: Face,
    /// Whether it is answered without a token, even if others need one.
    pub is_open: bool,
    /// Whether `authorize` judges an upgrade.
    pub authorizes: bool,
    /// Whether the handler wants `Event::Pong`.
    pub wants_pongs: bool,
    /// Whether the handler wants `Event::Drained`.
    pub wants_drained: bool,
    /// The subprotocols offered (RFC 6455, 1.9).
    pub protocols: Vec<String>,
    /// How many bytes a body may have that the handler takes in pieces; `None` if it is given
    /// bodies as a whole.
    pub piecewise: Option<u64>,
    /// Whether a hook decides on what clients publish.
    pub has_hook: bool,
    /// Keys of the configuration, and the values that they have there.
    pub changes: Vec<(String, String)>,
}

impl RouteSpec {
    /// How many routes there may be: a connection stores its own in two bytes.
    pub const MAX: usize = 1 << 12;

    /// Makes a route of the public listeners, which asks for a token where others do.
    pub fn new(path: impl Into<String>, kind: RouteKind) -> RouteSpec {
        RouteSpec {
            path: path.into(),
            kind,
            placement: Placement::default(),
            face: Face::default(),
            is_open: false,
            authorizes: false,
            wants_pongs: false,
            wants_drained: false,
            protocols: Vec::new(),
            piecewise: None,
            has_hook: false,
            changes: Vec::new(),
        }
    }

    /// Makes the routes of topics on a path, which ends in `{topic}`.
    pub fn topics(path: &str) -> [RouteSpec; 3] {
        let kinds = [RouteKind::TopicSocket, RouteKind::TopicGet, RouteKind::TopicPost];
        kinds.map(|kind| RouteSpec::own(path, kind))
    }

    /// Makes the route of WebSockets with many topics.
    pub fn hub(path: &str) -> RouteSpec {
        let protocols = [
            Subprotocol::Json.label().to_owned(),
            #[cfg(feature = "cbor")]
            Subprotocol::Cbor.label().to_owned(),
        ];
        let protocols = protocols.into();
        RouteSpec { protocols, ..RouteSpec::own(path, RouteKind::Hub) }
    }

    /// Makes the route of event streams of the topics that the query names.
    pub fn events(path: &str) -> RouteSpec {
        RouteSpec::own(path, RouteKind::EventStream)
    }

    /// Makes the routes that report the server's health, on every listener and without a token.
    pub fn health() -> [RouteSpec; 2] {
        [("/healthz", RouteKind::Health), ("/readyz", RouteKind::Ready)].map(|(path, kind)| {
            RouteSpec { face: Face::Both, is_open: true, ..RouteSpec::own(path, kind) }
        })
    }

    /// Makes the operator's routes, on the operator's listeners.
    pub fn operator() -> [RouteSpec; OPERATIONS] {
        #[cfg(feature = "cluster")]
        use Operation::Nodes;
        use Operation::{Config, Connections, Drain, Kick, KickAll, Metrics, Shed};
        let paths = [
            ("/metrics", Metrics),
            ("/connections", Connections),
            ("/connections", KickAll),
            ("/connections/{id}", Kick),
            ("/config", Config),
            ("/drain", Drain),
            ("/shed", Shed),
            #[cfg(feature = "cluster")]
            ("/nodes", Nodes),
        ];
        paths.map(|(path, operation)| {
            let route = RouteSpec::own(path, RouteKind::Operator(operation));
            RouteSpec { face: Face::Admin, ..route }
        })
    }

    /// Makes a route that the engine answers by itself, on the loop thread.
    fn own(path: &str, kind: RouteKind) -> RouteSpec {
        RouteSpec { placement: Placement::Inline, ..RouteSpec::new(path, kind) }
    }

    /// Checks that there are requests that this route serves, and that what it was given is for
    /// routes of its kind, and within its bounds.
    ///
    /// # Errors
    ///
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        path::check_path(&self.path)?;
        if self.has_hook && !self.kind.publishes() {
            return Err("only routes of topics and hubs have hooks");
        }
        match self.kind.is_topical() && path::around_topic(&self.path).is_none() {
            true => Err("the path of topics has {topic}"),
            false => Ok(()),
        }
    }
}

/// What a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// WebSocket connections.
    WebSocket,
    /// GET and HEAD.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// PATCH.
    Patch,
    /// TRACE.
    Trace,
    /// OPTIONS.
    Options,
    /// WebSocket connections, each with one topic: `/topics/{topic}`.
    TopicSocket,
    /// The newest event of a topic, or an event stream of it.
    TopicGet,
    /// Publishing to a topic.
    TopicPost,
    /// WebSocket connections with many topics and JSON messages: `/ws`.
    Hub,
    /// Event streams of many topics: `/events`.
    EventStream,
    /// `GET /healthz`: 200 as long as the loop turns.
    Health,
    /// `GET /readyz`: 200, or 503 while draining.
    Ready,
    /// An operation of the operator.
    Operator(Operation),
}

impl RouteKind {
    /// Returns the kind of handlers that answer a method.
    pub fn answering(method: Method) -> RouteKind {
        match method {
            Method::Get => RouteKind::Get,
            Method::Post => RouteKind::Post,
            Method::Put => RouteKind::Put,
            Method::Delete => RouteKind::Delete,
            Method::Patch => RouteKind::Patch,
            Method::Trace => RouteKind::Trace,
            Method::Options => RouteKind::Options,
        }
    }

    /// Returns whether a handler answers. The engine answers the other kinds by itself.
    pub(crate) fn has_handler(self) -> bool {
        use RouteKind::{Delete, Get, Options, Patch, Post, Put, Trace, WebSocket};
        matches!(self, WebSocket | Get | Post | Put | Delete | Patch | Trace | Options)
    }

    /// Returns whether clients publish there.
    fn publishes(self) -> bool {
        matches!(self, RouteKind::TopicSocket | RouteKind::TopicPost | RouteKind::Hub)
    }

    fn is_topical(self) -> bool {
        use RouteKind::{TopicGet, TopicPost, TopicSocket};
        matches!(self, TopicSocket | TopicGet | TopicPost)
    }
}

/// An operation of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `GET /metrics`: the figures, as Prometheus reads them.
    Metrics,
    /// `GET /connections`: the table, as JSON.
    Connections,
    /// `DELETE /connections/{id}`: end this one.
    Kick,
    /// `DELETE /connections?identity=` or `?token=`: end those that came so.
    KickAll,
    /// `GET /config`: the configuration in force, as TOML.
    Config,
    /// `POST /drain`.
    Drain,
    /// `POST /shed?fraction=0.3`: tell a part of the connections to reconnect later.
    Shed,
    /// `GET /nodes`: the servers of the cluster, as JSON.
    #[cfg(feature = "cluster")]
    Nodes,
}

/// How many there are.
pub(crate) const OPERATIONS: usize = 7 + cfg!(feature = "cluster") as usize;

/// Where a handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On a worker thread: it may block. With `workers = 0` on the loop thread all the same.
    #[default]
    Worker,
    /// On the loop thread, because it never blocks: saves two wake-ups for each message.
    Inline,
}

/// Who may reach a route, and what a listener is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Face {
    /// The public: closed first when the server drains.
    #[default]
    Public,
    /// The operator: answers until the process exits.
    Admin,
    /// Both.
    Both,
}

impl Face {
    /// Returns whether there are listeners for both.
    pub fn overlaps(self, other: Face) -> bool {
        self == other || self == Face::Both || other == Face::Both
    }

    /// Returns whether a route with this face is reached through a listener for `listener`.
    pub fn is_seen_by(self, listener: Face) -> bool {
        self == Face::Both || self == listener
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The builder took these paths, and every request for them was answered 404.
    #[test]
    fn a_path_of_topics_has_a_topic() {
        for path in ["/topics", "/topics/{id}"] {
            let broken = RouteSpec::new(path, RouteKind::TopicGet).check().unwrap_err();
            assert!(broken.contains("topics"), "{path:?}: {broken}");
        }
        for path in ["/topics/{topic}", "/{topic}/events", "/{topic...}"] {
            let route = RouteSpec::new(path, RouteKind::TopicGet);
            assert_eq!(route.check().is_ok(), path != "/{topic...}", "{path:?}");
        }
    }
}
