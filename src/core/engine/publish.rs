//! Topics over HTTP: `GET` and `POST /topics/{topic}`, event streams, and WebSockets of one topic.

use std::borrow::Cow;

use crate::core::admission::tokens::Right;
use crate::core::connection::Posted;
use crate::core::connection::http::{History, Pending, Rest};
use crate::core::contract::route::RouteKind;
use crate::core::engine::Engine;
use crate::core::engine::requests::begin_of_body;
use crate::core::engine::tickets::{self, Asker, Published, Unpublished};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::outbox::Kind;
use crate::core::topics::log::Log;
use crate::core::topics::{
    After, EventId, Gap, Name, Payload, PublishError, SubscribeError, SubscriptionKey,
};
use crate::core::wire::envelope::ServerMessage;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{HeaderLines, Refusal, Request, Response};
use crate::core::wire::message::Message;
use crate::core::wire::sse;

impl Engine {
    /// Publishes, for those that may. Where a log answers later, [`Engine::await_answer`] follows.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        topic: &str,
        payload: Payload,
    ) -> Result<Published, Unpublished> {
        if self.queues.tickets.is_some() {
            return self.publish_later(now, topic, payload);
        }
        let added = payload.len() + Log::EVENT_BYTES;
        self.budget.add(added);
        let published = self.topics.publish(now, self.reports.date.unix_ms, topic, payload);
        self.halve_logs(added);
        Ok(Published::Now(published?))
    }

    /// Begins to answer `GET /topics/{topic}?after=` with what came after a position.
    pub(super) fn read_history(
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

    /// Answers `GET /topics/{topic}` with the newest event.
    pub(super) fn read_topic(&mut self, now: Instant, topic: &str) -> Result<Response, Refusal> {
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
    pub(super) fn post_topic(
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

    /// Begins an event stream of these topics, after the position that the client gives.
    pub(super) fn open_stream(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        topics: &[Cow<'_, str>],
        pending: &Pending,
    ) -> Result<(), Refusal> {
        for topic in topics {
            check_name(topic)?;
        }
        let after = match sse::last_event_id(request) {
            Some(last) => After::parse(&last),
            None => After::Now,
        };
        let begin = self.begin_of_stream(now, topics, after);
        for topic in topics {
            if let Err(error) = self.subscribe(now, id, topic, after) {
                self.unsubscribe_all(id);
                return Err(refuse_subscription(error));
            }
        }
        // The stream ends with its connection.
        let pending = &Pending { keep: false, ..pending.clone() };
        let head = begin_of_body(sse::CONTENT_TYPE, pending)
            .headers(&lines("Cache-Control", "no-store, no-transform"))
            .headers(&lines("X-Accel-Buffering", "no"));
        if pending.head_only {
            self.unsubscribe_all(id);
            self.answer(now, id, head, pending);
            return Ok(());
        }
        self.push_answer(now, id, head, pending);
        self.stats.streams += 1;
        self.stats.handshake.record_ms(now.since(pending.began_at.near(now)));
        let Some(connection) = self.get_mut(id) else { return Ok(()) };
        connection.begin_stream(now, !pending.is_http10);
        if let Ok(bytes) = sse::position(&begin.to_string()) {
            self.push_frame(now, id, Frame::chunk(bytes), Kind::Response);
        }
        self.mark_ready(id);
        self.feed(now, id);
        Ok(())
    }

    /// Begins an event stream of the topics that the query names.
    pub(super) fn open_streams(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        pending: &Pending,
    ) -> Result<(), Refusal> {
        let topics: Vec<_> = request.query_values("topic").collect();
        if topics.is_empty() {
            return Err(Refusal::bad_request("name the topics: ?topic=a&topic=b"));
        }
        if topics.iter().any(|topic| sse::is_reserved(topic)) {
            return Err(Refusal::bad_request("a topic here may not be named as a stream event is"));
        }
        self.open_stream(now, id, request, &topics, pending)
    }

    /// Subscribes an upgrade to its topic, so that one that cannot be is refused while that can
    /// still be said, and gives the header that tells a gap. Nothing for other routes.
    pub(super) fn prepare_upgrade(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        route: usize,
    ) -> Result<HeaderLines, Refusal> {
        let spec = &self.settings.routes[route];
        if spec.kind != RouteKind::TopicSocket {
            return Ok(HeaderLines::default());
        }
        let topic = topic_of(&spec.path, request.path()).unwrap_or_default();
        check_name(&topic)?;
        let after = request.query_value("after").map_or(After::Now, |after| After::parse(&after));
        let key = self.subscribe(now, id, &topic, after).map_err(refuse_subscription)?;
        // What is evicted before the turn's budget lets the replay begin is another gap.
        let gap = key.and_then(|key| self.topics.poll_gap(key));
        self.stats.gaps += u64::from(gap.is_some());
        Ok(gap_lines(gap))
    }

    /// Gives the position that a stream begins with, so that a client that loses it before its
    /// first event can come back to where it began: never past what has not been delivered.
    fn begin_of_stream(&mut self, now: Instant, topics: &[Cow<'_, str>], after: After) -> EventId {
        let mut begin = match after {
            After::Position(position) => position,
            After::Now | After::Garbage => self.topics.position(),
        };
        for topic in topics {
            let read = self.topics.read_after(now, topic, after);
            if read.gap.is_some() {
                // Everything retained follows, from the beginning.
                begin = EventId::ZERO;
            }
        }
        begin
    }

    /// Subscribes a connection, if it is still there.
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<Option<SubscriptionKey>, SubscribeError> {
        let Some(connection) = super::find_mut(&mut self.connections, id) else { return Ok(None) };
        let list = &mut connection.subscriptions;
        let subscribed = self.topics.subscribe(now, id, list, topic, after);
        let key = subscribed.inspect(|_| connection.flags.feed.replays = true);
        self.charge_looks();
        let key = key?;
        if after != After::Now {
            let has_gap = self.topics.has_gap(key);
            self.stats.resumes_gap += u64::from(has_gap);
            self.stats.resumes_complete += u64::from(!has_gap);
        }
        Ok(Some(key))
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, topic: &str) {
        if let Some(connection) = super::find_mut(&mut self.connections, id)
            && let Some(key) = self.topics.find_subscription(&connection.subscriptions, topic)
        {
            self.topics.unsubscribe(&mut connection.subscriptions, key);
        }
        self.charge_looks();
    }

    pub(super) fn unsubscribe_all(&mut self, id: ConnectionId) {
        if let Some(connection) = super::find_mut(&mut self.connections, id) {
            self.topics.unsubscribe_all(&mut connection.subscriptions);
        }
    }

    /// Begins what a WebSocket of a topic, or `/ws`, begins with. Nothing for other routes.
    pub(super) fn begin_feed(&mut self, now: Instant, id: ConnectionId) {
        let Some(route) = self.get(id).and_then(|connection| connection.route) else { return };
        match self.settings.routes[usize::from(route)].kind {
            RouteKind::TopicSocket => self.feed(now, id),
            RouteKind::Hub => {
                let config = &self.settings.config;
                let hello = ServerMessage::Hello {
                    connection: &id.to_string(),
                    heartbeat_ms: config.heartbeat.interval.map_or(0, millis_up),
                    read_idle_ms: config.deadlines.read_idle.map_or(0, millis_up),
                    message_bytes: config.limits.message_bytes,
                };
                self.tell(now, id, &hello);
            }
            _ => {}
        }
    }

    /// Takes a message of a WebSocket whose route has no handler. Gives it back if it has.
    pub(super) fn take_published(
        &mut self,
        now: Instant,
        id: ConnectionId,
        message: Message,
    ) -> Option<Message> {
        let connection = self.get(id)?;
        let route = usize::from(connection.route?);
        match self.settings.routes[route].kind {
            RouteKind::TopicSocket => self.publish_plain(now, id, message),
            RouteKind::Hub => self.take_envelope(now, id, &message),
            _ => return Some(message),
        }
        self.stats.messages_handled += 1;
        None
    }

    fn publish_plain(&mut self, now: Instant, id: ConnectionId, message: Message) {
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
        // The topic is there: somebody is subscribed to it. Where the log is busy, that is counted.
        if let Ok(Published::Later(ticket)) = self.publish(now, &topic, payload) {
            self.await_answer(ticket, Asker::Plain(id));
        }
    }
}

/// What is said where the memory budget has no room.
pub(super) const SHORT_OF_MEMORY: &str = "the server is short of memory";

/// Gives the topic that a path names, by the pattern of its route.
pub(super) fn topic_of<'p>(pattern: &str, path: &'p str) -> Option<Cow<'p, str>> {
    let prefix = pattern.strip_suffix("{topic}")?;
    crate::core::wire::http::percent_decode(path.strip_prefix(prefix)?)
}

/// Gives the header that tells a gap, if there is one.
pub(super) fn gap_lines(gap: Option<Gap>) -> HeaderLines {
    match gap {
        Some(gap) => lines("Event-Gap", &gap.first.map(|id| id.to_string()).unwrap_or_default()),
        None => HeaderLines::default(),
    }
}

fn lines(name: &str, value: &str) -> HeaderLines {
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

fn refuse_subscription(error: SubscribeError) -> Refusal {
    match error {
        SubscribeError::BadName => bad_name(),
        SubscribeError::TopicsFull => Refusal::new(503, error.to_string()),
        SubscribeError::SubscriptionsFull => Refusal::bad_request(error.to_string()),
    }
}
