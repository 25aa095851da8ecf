//! `/ws`: many topics on one WebSocket, by JSON messages. Whatever is wrong with a message is
//! answered, and the connection stays.

use crate::core::admission::rights::Right;
use crate::core::connection::Connection;
use crate::core::contract::offer::HubOfferer;
use crate::core::engine::feed::Form;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
use crate::core::engine::repeats::Known;
use crate::core::engine::rights::{NO_PUBLISH, NO_SUBSCRIBE};
use crate::core::engine::services::{Asked, Service, Socket};
use crate::core::engine::settings::Rules;
use crate::core::engine::tickets::{Answer, Asker, Published, Unpublished};
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Author;
use crate::core::ground::json;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::topics::{After, Content, Name, Payload, PublishError, SubscribeError};
use crate::core::wire::http::{HeaderLines, Request};
use crate::core::wire::hub::{self, ClientMessage, ErrorCode, Problem, Reading, ServerMessage};
use crate::core::wire::hub_cbor;
use crate::core::wire::message::Message;

/// WebSocket connections with many topics.
pub(super) const SERVICE: Service = Service {
    form: Some(Form::Hub),
    socket: Some(Socket {
        prepare: |_, _, _, _| Ok(HeaderLines::default()),
        opened: Engine::greet,
        message: Some(Engine::take_hub_message),
        read_ahead: Engine::read_hub_ahead,
    }),
    ..Service::by(Asked::Upgrade, Engine::accept_upgrade)
};

impl Engine {
    /// Tells a client whose WebSocket has just opened what holds for its connection.
    fn greet(&mut self, now: Instant, id: ConnectionId, _: Box<Request>) {
        let Some(connection) = self.get(id) else { return };
        let Rules { spans, limits, .. } = self.settings.rules(connection);
        let hello = ServerMessage::Hello {
            connection: &id.to_string(),
            heartbeat_ms: spans.heartbeat.interval.map_or(0, millis_up),
            read_idle_ms: spans.read_idle.map_or(0, millis_up),
            message_bytes: limits.message_bytes,
        };
        self.tell(now, id, &hello);
        #[cfg(any(feature = "jwt", feature = "client"))]
        self.tell_before_expiry(now, id);
    }

    /// Takes a message of a client.
    fn take_hub_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        if self.get(id).is_some_and(Connection::speaks_cbor) {
            return self.take_cbor(now, id, &message);
        }
        let Some(text) = message.as_text() else {
            // In a long one no `ref` is looked for: none of it was read as it came.
            let bytes = Some(message.as_bytes()).filter(|bytes| bytes.len() <= BINARY_READ_MAX);
            let text = str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
            let problem = Reading::refuse(text, "a message is JSON text");
            return self.tell(now, id, &problem.into());
        };
        let read = self.read_whole(id, text);
        self.follow_hub(now, id, read);
    }

    /// Takes a message of a client that speaks CBOR.
    fn take_cbor(&mut self, now: Instant, id: ConnectionId, message: &Message) {
        self.allowance.charge_checked(message.len());
        let mut reference = String::new();
        let read = match message {
            Message::Binary(bytes) => hub_cbor::parse(bytes, &mut reference),
            Message::Text(_) => {
                if let Some(inbox) = self.get_mut(id).and_then(|found| found.inbox.as_mut()) {
                    inbox.reading = None;
                }
                let (code, sentence) = (ErrorCode::BadRequest, hub_cbor::NO_CBOR);
                Err(Problem { code, sentence, reference: None })
            }
        };
        self.follow_hub(now, id, read);
    }

    /// Does what a client asks for.
    fn follow_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        read: Result<ClientMessage<'_>, Problem<'_>>,
    ) {
        match read {
            Err(problem) => self.tell(now, id, &problem.into()),
            Ok(ClientMessage::Hello { client, version, reference }) => {
                self.take_hello(now, id, (&client, &version), reference);
            }
            #[cfg(any(feature = "jwt", feature = "client"))]
            Ok(ClientMessage::Token { token, reference }) => {
                self.renew_token(now, id, &token, reference);
            }
            Ok(ClientMessage::Ping { reference }) => {
                self.tell(now, id, &ServerMessage::Pong { reference });
            }
            Ok(ClientMessage::Subscribe {
                topic,
                after,
                #[cfg(feature = "presence")]
                info,
                reference,
            }) => {
                let after = after.map_or(After::Now, |after| After::parse(&after));
                let _is_subscribed = self.subscribe_hub(now, id, &topic, after, reference);
                #[cfg(feature = "presence")]
                if let Some(info) = info.filter(|_| _is_subscribed) {
                    self.describe(id, &topic, &info);
                }
            }
            #[cfg(feature = "presence")]
            Ok(ClientMessage::Presence { topic, reference }) => {
                self.presence_hub(now, id, &topic, reference);
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.unsubscribe(now, id, &topic);
                self.tell(now, id, &ServerMessage::Unsubscribed { topic: &topic });
            }
            Ok(ClientMessage::Publish { topic, data, trace, reference }) => {
                let payload = match data {
                    hub::Published::Text(text) => Payload::text(text.into_owned()),
                    hub::Published::Json(raw) => Payload::Json(raw.into()),
                    hub::Published::Binary(bytes) => Payload::from(bytes.to_vec()),
                };
                let content = payload.traced(self.take_trace(trace));
                self.publish_hub(now, id, &topic, content, reference);
            }
        }
    }

    fn read_hub_ahead(&mut self, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some((read, held)) = connection.read_ahead(&mut self.spares.inboxes) else { return };
        self.budget.add(held);
        self.allowance.charge_checked(read);
    }

    /// Reads the rest of a message that is now complete.
    fn read_whole<'a>(
        &mut self,
        id: ConnectionId,
        text: &'a str,
    ) -> Result<ClientMessage<'a>, Problem<'a>> {
        let inbox = self.get_mut(id).and_then(|connection| connection.inbox.as_mut());
        let reading = inbox.and_then(|inbox| inbox.reading.take());
        let reading = reading.map(|reading| *reading).unwrap_or_default();
        let unread = text.len() - reading.at();
        self.allowance.charge_checked(unread);
        reading.finish(text)
    }

    /// Takes note of who the client is.
    fn take_hello(
        &mut self,
        now: Instant,
        id: ConnectionId,
        (client, version): (&str, &str),
        reference: Option<&str>,
    ) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if connection.counters.messages_in > 1 {
            let (code, sentence) = (ErrorCode::BadRequest, "hello is the first message");
            return self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
        }
        let identity = self.admission.identity(connection);
        let author = Author::new(identity.as_ref(), client);
        connection.extra.get_or_insert_default().author = Some(Box::new(author));
        self.reports.versions.note(version);
    }

    /// Returns what a publication is known by, if its client may send it again.
    fn known_by(&self, id: ConnectionId, reference: Option<&str>) -> Option<(Author, i64)> {
        let connection = self.get(id)?;
        let author = connection.extra.as_ref()?.author.as_deref()?;
        let number = match connection.speaks_cbor() {
            true => hub_cbor::integer_of(reference?)?,
            // The reader of JSON has seen it: no sign but a minus, no leading zero.
            false => reference?.parse().ok()?,
        };
        Some((author.clone(), number))
    }

    /// Answers a publication that was sent before. Returns whether it was.
    pub(in crate::core::engine) fn answer_repeat(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reference: Option<&str>,
        (author, number): &(Author, i64),
    ) -> bool {
        let Some(known) = self.repeats.find(now, author, *number) else { return false };
        self.stats.publishes_repeated += 1;
        let answer = match known {
            Known::Published(event) => Answer::Published(event),
            Known::Taken => Answer::Taken,
            Known::Asked(ticket) => match self.join_ticket(now, ticket) {
                Some(joined) => {
                    self.await_answer(joined, Asker::Hub(id, reference.map(Box::from)));
                    return true;
                }
                None => Answer::Refused(ErrorCode::Unavailable, UNKNOWN.into()),
            },
        };
        self.answer_in_order(now, id, reference, answer);
        true
    }

    /// Takes note of what a client may send again.
    pub(in crate::core::engine) fn remember(
        &mut self,
        now: Instant,
        known_by: Option<(Author, i64)>,
        known: Known,
    ) {
        if let Some(known_by) = known_by {
            let limit = self.budget.repeats_max();
            let added = self.repeats.note(now, known_by, known, limit);
            self.budget.add(added);
        }
    }

    /// Returns the name of a topic as the `ref` of an error that no `ref` was given for.
    pub(in crate::core::engine) fn quoted(&self, id: ConnectionId, topic: &str) -> String {
        if self.get(id).is_some_and(Connection::speaks_cbor) {
            return hub_cbor::text_reference(topic);
        }
        let mut quoted = String::new();
        json::write_string(&mut quoted, topic);
        quoted
    }

    /// Subscribes, or says why not. Returns whether the client is subscribed now.
    fn subscribe_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
        reference: Option<&str>,
    ) -> bool {
        let subscribed = match self.may(id, Right::Subscribe, topic) {
            false => Err((ErrorCode::Forbidden, NO_SUBSCRIBE)),
            true => {
                self.subscribe(now, id, topic, after).map(|_| ()).map_err(|error| match error {
                    SubscribeError::BadName => (ErrorCode::BadRequest, error.sentence()),
                    _ => (ErrorCode::Limit, error.sentence()),
                })
            }
        };
        match subscribed {
            Ok(()) => {
                self.feed(now, id);
                true
            }
            Err((code, sentence)) => {
                // Without a `ref` the topic says which subscription it is about.
                let quoted = self.quoted(id, topic);
                let reference = Some(reference.unwrap_or(&quoted));
                self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
                false
            }
        }
    }

    fn publish_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        content: Content,
        reference: Option<&str>,
    ) {
        let known_by = self.known_by(id, reference);
        // What is known waits for no hook: its answer may overtake those to earlier offers, and
        // the `ref` tells which it is of.
        if let Some(known_by) = &known_by
            && self.answer_repeat(now, id, reference, known_by)
        {
            return;
        }
        let forbidden = |sentence: &'static str| Err((ErrorCode::Forbidden, sentence.into()));
        let checked = match topic {
            topic if Name::is_own(topic) => forbidden("this topic is the server's own"),
            topic if !self.may(id, Right::Publish, topic) => forbidden(NO_PUBLISH),
            _ if self.budget.is_short() => Err((ErrorCode::Limit, SHORT_OF_MEMORY.into())),
            _ => Ok(()),
        };
        let checked = checked.map(|()| (topic, content));
        match (checked, self.hooks_of(id)) {
            (checked, Some(hooks)) => {
                let by = HubOfferer { reference: reference.map(Box::from), known_by };
                (hooks.offer_hub)(self, now, id, by, checked)
            }
            (Ok((topic, content)), None) => {
                self.conclude_hub(now, id, topic, content, reference, known_by)
            }
            (Err((code, sentence)), None) => {
                self.answer_in_order(now, id, reference, Answer::Refused(code, sentence));
            }
        }
    }

    /// Publishes what a client has sent, and answers, if need be when the log has answered.
    pub(in crate::core::engine) fn conclude_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        content: Content,
        reference: Option<&str>,
        known_by: Option<(Author, i64)>,
    ) {
        match self.publish(now, topic, content) {
            Ok(Published::Now(event)) => {
                self.remember(now, known_by, Known::Published(event));
                self.tell_published(now, id, reference, Answer::Published(event));
            }
            Ok(Published::Later(ticket)) => {
                self.note_known_by(ticket, known_by.clone());
                self.remember(now, known_by, Known::Asked(ticket));
                let asker = Asker::Hub(id, reference.map(Box::from));
                self.await_answer(ticket, asker);
            }
            Err(error) => {
                let code = match error {
                    Unpublished::Topic(PublishError::BadName) => ErrorCode::BadRequest,
                    Unpublished::Topic(_) => ErrorCode::Limit,
                    Unpublished::Unavailable => ErrorCode::Unavailable,
                };
                let answer = Answer::Refused(code, error.sentence().into());
                self.answer_in_order(now, id, reference, answer);
            }
        }
    }

    /// Answers a publication, behind the answers to earlier ones.
    pub(in crate::core::engine) fn answer_in_order(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reference: Option<&str>,
        answer: Answer,
    ) {
        if let Some(answer) = self.queue_answer(now, id, reference, answer) {
            self.tell_published(now, id, reference, answer);
        }
    }
}

/// The longest message that is no text and in which a `ref` is looked for.
const BINARY_READ_MAX: usize = 64 * 1024;

/// The sentence for what was sent again and may have been published before.
const UNKNOWN: &str = "the log has not answered the first of it: it may be published all the same";
