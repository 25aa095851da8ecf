//! The table of routes, as the engine sees it: what a path serves, and where its handler runs.

use crate::core::wire::http::percent_decode;

/// One route.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The path, compared exactly.
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
        }
    }

    /// Checks that there are requests that this route serves.
    ///
    /// # Errors
    ///
    /// The rule that its path breaks.
    pub fn check_path(&self) -> Result<(), &'static str> {
        let is_topical = matches!(
            self.kind,
            RouteKind::TopicSocket | RouteKind::TopicGet | RouteKind::TopicPost
        );
        let prefix = self.path.strip_suffix("{topic}").or(self.path.strip_suffix("{id}"));
        let literal = prefix.unwrap_or(&self.path);
        let decoded = percent_decode(literal);
        let is_decoded = decoded.is_some_and(|path| !path.contains(char::is_control));
        if !literal.starts_with('/') {
            Err("a path begins with /")
        } else if literal.contains(['{', '}']) {
            Err("braces stand for a segment at the end alone, as {topic} or {id}")
        } else if literal.contains('*') {
            Err("there are no wildcards: name the path, or end it in {topic}")
        } else if literal.contains(['?', '#']) {
            Err("a path ends before ? and #")
        } else if literal.contains(|c: char| c.is_control() || c == ' ') || !is_decoded {
            Err("a path bears no space, no control character, and % with two hex digits alone")
        } else if is_topical && !self.path.ends_with("{topic}") {
            Err("the path of topics ends in {topic}")
        } else {
            Ok(())
        }
    }

    /// Returns whether this route serves a path. A pattern that ends in `{topic}` or `{id}` takes
    /// one more segment, whatever it is.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        match self.path.strip_suffix("{topic}").or(self.path.strip_suffix("{id}")) {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| !rest.contains('/')),
            None => self.path == path,
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
    /// Returns whether a handler answers. The engine answers the other kinds by itself.
    pub(crate) fn has_handler(self) -> bool {
        matches!(self, RouteKind::WebSocket | RouteKind::Get | RouteKind::Post)
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
    /// `GET /config`: the configuration in force, as TOML.
    Config,
    /// `POST /drain`.
    Drain,
    /// `POST /shed?fraction=0.3`: tell a part of the connections to reconnect later.
    Shed,
}

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
    fn a_path_that_no_request_can_match_is_told_by_its_rule() {
        for (path, rule) in [
            ("", "begins with /"),
            ("chat", "begins with /"),
            ("{topic}", "begins with /"),
            ("http://a/b", "begins with /"),
            ("/rooms/{topic}/chat", "braces"),
            ("/rooms/{room}", "braces"),
            ("/{id}/{topic}", "braces"),
            ("/}", "braces"),
            ("/files/*", "wildcards"),
            ("/*/x", "wildcards"),
            ("/a?b=c", "before ?"),
            ("/a#b", "before ?"),
            ("/a b", "no space"),
            ("/a\n", "no space"),
            ("/%", "% with"),
            ("/%00", "% with"),
            ("/%ff", "% with"),
        ] {
            let broken = RouteSpec::new(path, RouteKind::WebSocket).check_path().unwrap_err();
            assert!(broken.contains(rule), "{path:?}: {broken}");
        }
        for path in ["/topics", "/topics/{id}"] {
            let broken = RouteSpec::new(path, RouteKind::TopicGet).check_path().unwrap_err();
            assert!(broken.contains("topics"), "{path:?}: {broken}");
        }
    }

    #[test]
    fn a_path_that_a_request_can_match_is_taken() {
        for path in ["/", "/a", "/a/", "//a", "/a/../b", "/rooms/{topic}", "/x-{id}", "/%20", "/ä"]
        {
            assert_eq!(RouteSpec::new(path, RouteKind::WebSocket).check_path(), Ok(()), "{path:?}");
        }
    }
}
