//! `/ws`: many topics on one WebSocket, by JSON messages. Whatever is wrong with a message is
//! answered, and the connection stays.

use crate::core::admission::tokens::Right;
use crate::core::engine::feed::Form;
use crate::core::engine::memory_budget::SHORT_OF_MEMORY;
use crate::core::engine::rights::{NO_PUBLISH, NO_SUBSCRIBE};
use crate::core::engine::services::{Method, Service, form};
use crate::core::engine::tickets::{Answer, Asker, BUSY, Published, Unpublished};
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::json;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::topics::{After, Name, Payload, PublishError, SubscribeError};
use crate::core::wire::hub::{self, ClientMessage, ErrorCode, Problem, Reading, ServerMessage};
use crate::core::wire::message::Message;

/// WebSocket connections with many topics.
pub(super) const SERVICE: Service =
    Service { form: Some(Form::Hub), ..Service::by(Method::Upgrade) };

impl Engine {
    /// Tells a client whose WebSocket has just opened what holds for its connection.
    pub(super) fn greet(&mut self, now: Instant, id: ConnectionId) {
        let config = &self.settings.config;
        let hello = ServerMessage::Hello {
            connection: &id.to_string(),
            heartbeat_ms: config.heartbeat.interval.map_or(0, millis_up),
            read_idle_ms: config.deadlines.read_idle.map_or(0, millis_up),
            message_bytes: config.limits.message_bytes,
        };
        self.tell(now, id, &hello);
    }

    /// Takes a message of a client.
    pub(super) fn take_hub_message(&mut self, now: Instant, id: ConnectionId, message: &Message) {
        let Some(text) = message.as_text() else {
            // In a long one no `ref` is looked for: none of it was read as it came.
            let bytes = Some(message.as_bytes()).filter(|bytes| bytes.len() <= BINARY_READ_MAX);
            let text = str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
            let problem = Reading::refuse(text, "a message is JSON text");
            return self.tell(now, id, &problem.into());
        };
        match self.read_whole(id, text) {
            Err(problem) => self.tell(now, id, &problem.into()),
            Ok(ClientMessage::Ping { reference }) => {
                self.tell(now, id, &ServerMessage::Pong { reference });
            }
            Ok(ClientMessage::Subscribe { topic, after, reference }) => {
                let after = after.map_or(After::Now, |after| After::parse(&after));
                self.subscribe_hub(now, id, &topic, after, reference);
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.unsubscribe(id, &topic);
                self.tell(now, id, &ServerMessage::Unsubscribed { topic: &topic });
            }
            Ok(ClientMessage::Publish { topic, data, reference }) => {
                let payload = match data {
                    hub::Published::Text(text) => Payload::text(text.into_owned()),
                    hub::Published::Json(raw) => Payload::Json(raw.into()),
                };
                self.publish_hub(now, id, &topic, payload, reference);
            }
        }
    }

    /// Reads what has come of an incomplete message: a long message takes longer than a turn may.
    pub(in crate::core::engine) fn read_ahead(&mut self, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if form(&self.settings.routes, connection) != Some(Form::Hub) {
            return;
        }
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

    fn subscribe_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
        reference: Option<&str>,
    ) {
        let subscribed = match self.may(id, Right::Subscribe, topic) {
            false => Err((ErrorCode::Forbidden, NO_SUBSCRIBE.to_owned())),
            true => {
                self.subscribe(now, id, topic, after).map(|_| ()).map_err(|error| match error {
                    SubscribeError::BadName => (ErrorCode::BadRequest, error.to_string()),
                    _ => (ErrorCode::Limit, error.to_string()),
                })
            }
        };
        match subscribed {
            Ok(()) => self.feed(now, id),
            Err((code, sentence)) => {
                // Without a `ref` the topic says which subscription it is about.
                let mut quoted = String::new();
                json::write_string(&mut quoted, topic);
                let (sentence, reference) = (&sentence, Some(reference.unwrap_or(&quoted)));
                self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            }
        }
    }

    fn publish_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        payload: Payload,
        reference: Option<&str>,
    ) {
        let forbidden = |sentence: &str| Err((ErrorCode::Forbidden, sentence.to_owned()));
        let published = match topic {
            topic if Name::is_own(topic) => forbidden("this topic is the server's own"),
            topic if !self.may(id, Right::Publish, topic) => forbidden(NO_PUBLISH),
            _ if self.budget.is_short() => Err((ErrorCode::Limit, SHORT_OF_MEMORY.to_owned())),
            topic => self.publish(now, topic, payload).map_err(|error| match error {
                Unpublished::Topic(error @ PublishError::BadName) => {
                    (ErrorCode::BadRequest, error.to_string())
                }
                Unpublished::Topic(error) => (ErrorCode::Limit, error.to_string()),
                Unpublished::Unavailable => (ErrorCode::Unavailable, BUSY.to_owned()),
            }),
        };
        let answer = match published {
            Ok(Published::Now(event)) => Answer::Published(event),
            Ok(Published::Later(ticket)) => {
                let asker = Asker::Hub(id, reference.map(Box::from));
                return self.await_answer(ticket, asker);
            }
            Err(refusal) => match self.queue_refusal(now, id, reference, refusal) {
                Some((code, sentence)) => Answer::Refused(code, sentence.into()),
                None => return,
            },
        };
        self.tell_published(now, id, reference, answer);
    }
}

/// The longest message that is no text and in which a `ref` is looked for.
const BINARY_READ_MAX: usize = 64 * 1024;
