//! `/topics/{topic}`: `GET` of the newest event, of the events after a position, or of an event
//! stream; `POST` to publish; and WebSockets of one topic.

use std::borrow::Cow;

use crate::core::admission::rights::Right;
use crate::core::connection::http::{History, Pending, Rest};
use crate::core::connection::{Connection, Posted};
use crate::core::contract::offer::Offer;
use crate::core::contract::route::RouteKind;
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
#[cfg(feature = "presence")]
use crate::core::engine::services::presence::info_of;
use crate::core::engine::services::{Asked, Needs, Served, Service, Socket};
use crate::core::engine::tickets::{self, Asker, Published};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, BadName, Content, Gap, Name, Payload, SubscribeError};
use crate::core::wire::http::{
    self, Caching, HeaderLines, Method, Refusal, Request, Response, Wanted,
};
use crate::core::wire::message::Message;
use crate::core::wire::sse;

/// WebSockets of one topic.
pub(super) const SOCKET: Service = Service {
    needs: Needs::ForPath(Right::Subscribe),
    form: Some(Form::Plain),
    caching: Caching::Topics,
    socket: Some(Socket {
        prepare: Engine::prepare_topic_socket,
        opened: |engine, now, id, _| engine.feed(now, id),
        message: Some(Engine::publish_plain),
        read_ahead: |_, _| {},
    }),
    ..Service::by(Asked::Upgrade, Engine::accept_upgrade)
};

/// The newest event of a topic, or an event stream of it.
pub(super) const GET: Service = Service {
    needs: Needs::ForPath(Right::Subscribe),
    form: Some(Form::Stream),
    caching: Caching::Topics,
    ..Service::by(Asked::By(Method::Get), |engine, now, id, request| {
        engine.get_topic(now, id, &request)
    })
};

/// Publishing to a topic.
pub(super) const POST: Service = Service {
    needs: Needs::ForPath(Right::Publish),
    caching: Caching::Topics,
    posted: Posted::new,
    ..Service::by(Asked::By(Method::Post), |engine, now, id, request| {
        engine.post_topic(now, id, &request)
    })
};

impl Engine {
    /// Answers `GET /topics/{topic}`.
    fn get_topic(&mut self, now: Instant, id: ConnectionId, request: &Request) {
        let Some(pending) = self.take_pending(id) else { return };
        let topic = topic_of_path(request);
        #[cfg(feature = "presence")]
        if request.query_value("presence").is_some() {
            let response = self.read_presence(&topic).unwrap_or_else(Response::from);
            return self.answer(now, id, response, &pending);
        }
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
    fn post_topic(&mut self, now: Instant, id: ConnectionId, request: &Request) {
        let Some(mut pending) = self.take_pending(id) else { return };
        let topic = topic_of_path(request);
        match self.check_posted(request, &topic, pending.posted.take()) {
            Ok(offer) => match self.settings.routes[pending.route].hooks() {
                Some(hooks) => (hooks.offer_posted)(self, id, pending, offer),
                None => {
                    let content = offer.payload.traced(offer.trace);
                    self.conclude_post(now, id, &topic, content, pending);
                }
            },
            Err(refusal) => self.answer(now, id, refusal.into(), &pending),
        }
    }

    /// Publishes what a request bears, and answers, if need be when the log has answered.
    pub(in crate::core::engine) fn conclude_post(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        content: Content,
        pending: Pending,
    ) {
        let response = match self.publish(now, topic, content) {
            Ok(Published::Later(ticket)) => return self.await_post(id, ticket, pending),
            Ok(Published::Now(event)) => {
                self.stats.messages_posted += 1;
                tickets::posted(event)
            }
            // The name is good: it was checked.
            Err(error) => Refusal::new(503, error.sentence()).into(),
        };
        self.answer(now, id, response, &pending);
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

    /// Checks what `POST /topics/{topic}` bears.
    fn check_posted(
        &mut self,
        request: &Request,
        topic: &str,
        posted: Option<Box<Posted>>,
    ) -> Result<Offer, Refusal> {
        let topic: Name = topic.parse().map_err(|_| bad_name())?;
        if Name::is_own(&topic) {
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
        Ok(Offer { topic, payload, trace: request.trace() })
    }

    /// Subscribes an upgrade to its topic, while a refusal can still be told. Returns the header
    /// that tells a gap, if there is one.
    fn prepare_topic_socket(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
    ) -> Result<HeaderLines, Refusal> {
        let topic = topic_of_path(request);
        check_name(&topic)?;
        let after = request.query_value("after").map_or(After::Now, |after| After::parse(&after));
        #[cfg(feature = "presence")]
        let info = info_of(request)?;
        let key = self.subscribe(now, id, &topic, after).map_err(refuse_subscription)?;
        #[cfg(feature = "presence")]
        if let Some(info) = info {
            self.describe(id, &topic, &info);
        }
        // What is evicted before the turn's budget lets the replay begin is another gap.
        let gap = key.and_then(|key| self.topics.poll_gap(key));
        self.stats.gaps += u64::from(gap.is_some());
        Ok(gap_lines(gap))
    }

    /// Publishes a message to the topic of its WebSocket.
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
        if let Some(hooks) = self.hooks_of(id) {
            return (hooks.offer_plain)(self, id, Offer { topic, payload, trace: None });
        }
        self.conclude_plain(now, id, &topic, payload);
    }

    /// Publishes what a WebSocket of a topic has sent.
    pub(in crate::core::engine) fn conclude_plain(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        content: impl Into<Content>,
    ) {
        // The topic exists: this WebSocket is subscribed to it. A busy log is counted.
        if let Ok(Published::Later(ticket)) = self.publish(now, topic, content) {
            self.await_answer(ticket, Asker::Plain(id));
        }
    }
}

/// Returns the topic that a path names.
fn topic_of_path(request: &Request) -> Cow<'_, str> {
    request.parameter("topic").unwrap_or_default()
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
    Refusal::bad_request(BadName::SENTENCE)
}

pub(super) fn refuse_subscription(error: SubscribeError) -> Refusal {
    match error {
        SubscribeError::BadName => bad_name(),
        SubscribeError::TopicsFull => Refusal::new(503, error.sentence()),
        SubscribeError::SubscriptionsFull => Refusal::bad_request(error.sentence()),
    }
}

/// Returns whether a connection is a publishing WebSocket of a topic. It cannot be told a refusal,
/// so it is not read while memory is short. A WebSocket that only listens is read on for its pongs.
/// What was read is decoded, or paused connections alone might keep the shortage up.
pub(in crate::core::engine) fn is_publisher(routes: &[Served], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    let has_rest = connection.inbox.as_ref().is_some_and(|inbox| inbox.has_rest());
    kind == Some(RouteKind::TopicSocket)
        && connection.is_open()
        && connection.counters.messages_in > 0
        && !has_rest
}
