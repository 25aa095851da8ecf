//! `/events`: event streams of the topics that the query names, and what they share with the event
//! stream of one topic.

use std::borrow::Cow;

use crate::core::admission::rights::Right;
use crate::core::connection::http::Pending;
use crate::core::engine::Engine;
use crate::core::engine::feed::Form;
use crate::core::engine::requests::begin_of_body;
#[cfg(feature = "presence")]
use crate::core::engine::services::presence::info_of;
use crate::core::engine::services::topics::{check_name, lines, refuse_subscription};
use crate::core::engine::services::{Asked, Needs, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::outbox::Kind;
use crate::core::topics::{After, EventId};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{self, Caching, Method, Refusal, Request, Wanted};
use crate::core::wire::sse;

/// Event streams of many topics.
pub(super) const SERVICE: Service = Service {
    needs: Needs::ForQuery(Right::Subscribe),
    form: Some(Form::NamedStream),
    caching: Caching::Topics,
    ..Service::by(Asked::By(Method::Get), |engine, now, id, request| {
        engine.get_events(now, id, &request)
    })
};

impl Engine {
    /// Answers `GET /events`.
    fn get_events(&mut self, now: Instant, id: ConnectionId, request: &Request) {
        let Some(pending) = self.take_pending(id) else { return };
        let opened = match http::wanted(request, sse::CONTENT_TYPE) {
            Wanted::Refused => Err(Refusal::new(406, "there is nothing here but event streams")),
            _ => self.open_streams(now, id, request, &pending),
        };
        if let Err(refusal) = opened {
            self.answer(now, id, refusal.into(), &pending);
        }
    }

    /// Begins an event stream of the topics that the query names.
    fn open_streams(
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

    /// Begins an event stream of `topics`, after the position that the client gives.
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
        #[cfg(feature = "presence")]
        let info = info_of(request)?;
        let begin = self.begin_of_stream(now, topics, after);
        for topic in topics {
            if let Err(error) = self.subscribe(now, id, topic, after) {
                self.unsubscribe_all(now, id);
                return Err(refuse_subscription(error));
            }
            #[cfg(feature = "presence")]
            if let Some(info) = &info {
                self.describe(id, topic, info);
            }
        }
        // The stream ends with its connection.
        let pending = &Pending { keep: false, ..pending.clone() };
        let head = begin_of_body(sse::CONTENT_TYPE, pending)
            .headers(&lines("Cache-Control", "no-store, no-transform"))
            .headers(&lines("X-Accel-Buffering", "no"));
        if pending.head_only {
            self.unsubscribe_all(now, id);
            self.answer(now, id, head, pending);
            return Ok(());
        }
        self.push_answer(now, id, head, pending);
        self.stats.streams += 1;
        self.count_handshake(now, id, pending);
        self.admission.forget_hop(id);
        let Some(connection) = self.get_mut(id) else { return Ok(()) };
        connection.begin_stream(now, !pending.is_http10);
        if let Ok(bytes) = sse::position(&begin.to_string()) {
            self.push_frame(now, id, Frame::chunk(bytes), Kind::Response);
        }
        self.mark_ready(id);
        self.take_over(now, id);
        self.feed(now, id);
        Ok(())
    }

    /// Returns the position that a stream begins with. A client that loses the stream before its
    /// first event can come back to it. It is never past an event that was not delivered.
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
}
