//! `/topics/{topic}`: `GET` of the newest event, of the events after a position, or of an event
//! stream; `POST` to publish; and WebSockets of one topic.

use std::borrow::Cow;

use crate::core::admission::tokens::Right;
use crate::core::connection::http::{History, Pending, Rest};
use crate::core::connection::{Connection, Posted};
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
use crate::core::engine::services::{Method, Needs, Service};
use crate::core::engine::tickets::{self, Asker, Published, Unpublished};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, Gap, Name, Payload, PublishError, SubscribeError};
use crate::core::wire::http::{self, Caching, HeaderLines, Refusal, Request, Response, Wanted};
use crate::core::wire::message::Message;
use crate::core::wire::sse;

/// WebSockets of one topic.
pub(super) const SOCKET: Service = Service {
    needs: Needs::ForPath(Right::Subscribe),
    form: Some(Form::Plain),
    caching: Caching::Topics,
    ..Service::by(Method::Upgrade)
};

/// The newest event of a topic, or an event stream of it.
pub(super) const GET: Service = Service {
    needs: Needs::ForPath(Right::Subscribe),
    form: Some(Form::Stream),
    caching: Caching::Topics,
    ..Service::by(Method::Get)
};

/// Publishing to a topic.
pub(super) const POST: Service = Service {
    needs: Needs::ForPath(Right::Publish),
    caching: Caching::Topics,
    ..Service::by(Method::Post)
};

impl Engine {
    /// Answers `GET /topics/{topic}`.
    pub(super) fn get_topic(&mut self, now: Instant, id: ConnectionId, request: &Request) {
        let Some(pending) = self.take_pending(id) else { return };
        let topic = self.topic_of_path(pending.route, request);
        let wanted = http::wanted(request, sse::CONTENT_TYPE);
        let answered = match request.query_value("after") {
            _ if wanted == Wanted::Named => self.open_stream(now, id, request, &[topic], &pending),
            Some(after) => self.read_history(now, id, &topic, &after, &pending),
            None => self
                .read_topic(now, &topic)
                .map(|response| self.answer(now, id, response, &pending)),
        };
        if let Err(refusal) = answered {
            self.answer(now, id, refusal.into(), &pending);
        }
    }

    /// Answers `POST /topics/{topic}`, if need be when the log has answered.
    pub(super) fn post_topic(&mut self, now: Instant, id: ConnectionId, request: &Request) {
        let Some(mut pending) = self.take_pending(id) else { return };
        let topic = self.topic_of_path(pending.route, request);
        let response = match self.publish_posted(now, request, &topic, pending.posted.take()) {
            Ok(Published::Later(ticket)) => return self.await_post(id, ticket, pending),
            Ok(Published::Now(event)) => {
                self.stats.messages_posted += 1;
                tickets::posted(event)
            }
            Err(refusal) => refusal.into(),
        };
        self.answer(now, id, response, &pending);
    }

    fn topic_of_path<'r>(&self, route: usize, request: &'r Request) -> Cow<'r, str> {
        topic_of(&self.settings.routes[route].path, request.path()).unwrap_or_default()
    }

    /// Begins to answer `GET /topics/{topic}?after=` with the events after a position.
    fn read_history(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: &str,
        pending: &Pending,
    ) -> Result<(), Refusal> {
        check_name(topic)?;
        let read = self.topics.read_after(now, topic, After::parse(after));
        let lines = gap_lines(read.gap);
        let (after, until) = (read.position(), read.last());
        let history = History { topic: topic.into(), after, until, has_rows: false };
        self.begin_slices(now, id, pending, &lines, Rest::History(Box::new(history)));
        Ok(())
    }

    /// Reads the newest event of a topic.
    fn read_topic(&mut self, now: Instant, topic: &str) -> Result<Response, Refusal> {
        check_name(topic)?;
        let position = self.topics.position().to_string();
        let (status, id, payload) = match self.topics.latest(now, topic) {
            Some(event) => (200, event.id.to_string(), Some(event.payload.clone())),
            None => (204, position, None),
        };
        let response = Response::new(status);
        let response = match payload {
            None => response,
            Some(Payload::Text(text)) => response.bytes("text/plain; charset=utf-8", text),
            Some(Payload::Json(text)) => response.json(text),
            Some(Payload::Binary(bytes)) => response.bytes("application/octet-stream", bytes),
        };
        Ok(response.headers(&lines("Event-Id", &id)))
    }

    /// Publishes what `POST /topics/{topic}` bears.
    fn publish_posted(
        &mut self,
        now: Instant,
        request: &Request,
        topic: &str,
        posted: Option<Box<Posted>>,
    ) -> Result<Published, Refusal> {
        check_name(topic)?;
        if Name::is_own(topic) {
            return Err(Refusal::new(403, "this topic is the server's own"));
        }
        if self.budget.is_short() {
            return Err(Refusal::new(503, SHORT_OF_MEMORY));
        }
        let posted = posted.map(|posted| *posted).or_else(|| Posted::new(request));
        let payload = match posted {
            Some(posted) => posted.finish()?,
            None => Payload::Binary(request.body().clone()),
        };
        self.publish(now, topic, payload).map_err(|error| match error {
            Unpublished::Topic(PublishError::BadName) => bad_name(),
            Unpublished::Topic(error) => Refusal::new(503, error.to_string()),
            Unpublished::Unavailable => Refusal::new(503, tickets::BUSY),
        })
    }

    /// Subscribes an upgrade to its topic, while a refusal can still be told. Returns the header
    /// that tells a gap, if there is one.
    pub(super) fn prepare_topic_socket(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        route: usize,
    ) -> Result<HeaderLines, Refusal> {
        let topic = self.topic_of_path(route, request);
        check_name(&topic)?;
        let after = request.query_value("after").map_or(After::Now, |after| After::parse(&after));
        let key = self.subscribe(now, id, &topic, after).map_err(refuse_subscription)?;
        // What is evicted before the turn's budget lets the replay begin is another gap.
        let gap = key.and_then(|key| self.topics.poll_gap(key));
        self.stats.gaps += u64::from(gap.is_some());
        Ok(gap_lines(gap))
    }

    /// Publishes a message to the topic of its WebSocket.
    pub(super) fn publish_plain(&mut self, now: Instant, id: ConnectionId, message: Message) {
        let Some(connection) = self.get(id) else { return };
        let key = self.topics.subscriptions_of(&connection.subscriptions).next();
        let Some(topic) = key.map(|key| self.topics.topic_of(key).clone()) else { return };
        if Name::is_own(&topic) || !self.may(id, Right::Publish, &topic) {
            return self.fail(now, id, CloseReason::Forbidden);
        }
        let payload = match message {
            Message::Text(text) => Payload::Text(text),
            Message::Binary(bytes) => Payload::Binary(bytes),
        };
        // The topic exists: this WebSocket is subscribed to it. A busy log is counted.
        if let Ok(Published::Later(ticket)) = self.publish(now, &topic, payload) {
            self.await_answer(ticket, Asker::Plain(id));
        }
    }
}

/// Returns the topic that a path names, by the pattern of its route.
pub(in crate::core::engine) fn topic_of<'p>(pattern: &str, path: &'p str) -> Option<Cow<'p, str>> {
    let prefix = pattern.strip_suffix("{topic}")?;
    crate::core::wire::http::percent_decode(path.strip_prefix(prefix)?)
}

/// Returns the header that tells a gap, if there is one.
fn gap_lines(gap: Option<Gap>) -> HeaderLines {
    match gap {
        Some(gap) => lines("Event-Gap", &gap.first.map(|id| id.to_string()).unwrap_or_default()),
        None => HeaderLines::default(),
    }
}

pub(super) fn lines(name: &str, value: &str) -> HeaderLines {
    let mut lines = HeaderLines::default();
    // Names and values are the server's own and fit on a line.
    let _ = lines.push(name, value);
    lines
}

pub(super) fn check_name(topic: &str) -> Result<(), Refusal> {
    if Name::is_valid(topic) { Ok(()) } else { Err(bad_name()) }
}

fn bad_name() -> Refusal {
    Refusal::bad_request("a topic is 1 to 128 characters of A-Z a-z 0-9 . _ - :")
}

pub(super) fn refuse_subscription(error: SubscribeError) -> Refusal {
    match error {
        SubscribeError::BadName => bad_name(),
        SubscribeError::TopicsFull => Refusal::new(503, error.to_string()),
        SubscribeError::SubscriptionsFull => Refusal::bad_request(error.to_string()),
    }
}

/// Returns whether a connection is a publishing WebSocket of a topic. It cannot be told a refusal,
/// so it is not read while memory is short. A WebSocket that only listens is read on for its pongs.
/// What was read is decoded, or paused connections alone might keep the shortage up.
pub(in crate::core::engine) fn is_publisher(routes: &[RouteSpec], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    let has_rest = connection.inbox.as_ref().is_some_and(|inbox| inbox.has_rest());
    kind == Some(RouteKind::TopicSocket)
        && connection.is_open()
        && connection.counters.messages_in > 0
        && !has_rest
}
