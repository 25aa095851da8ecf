//! `/ws`: many topics on one WebSocket, by JSON messages. Whatever is wrong with a message is
//! answered, and the connection stays.

use crate::engine::Engine;
use crate::envelope::{self, ClientMessage, ErrorCode, ServerMessage};
use crate::id::ConnectionId;
use crate::json;
use crate::message::Message;
use crate::time::Instant;
use crate::topics::{After, Name, Payload, PublishError, SubscribeError};

impl Engine {
    /// Takes a message of a client.
    pub(super) fn take_envelope(&mut self, now: Instant, id: ConnectionId, message: &Message) {
        let Some(text) = message.as_text() else {
            let sentence = "a message is JSON text";
            let code = ErrorCode::BadRequest;
            let error = ServerMessage::Error { code, sentence, reference: None };
            return self.tell(now, id, &error);
        };
        match ClientMessage::parse(text) {
            Err(problem) => self.tell(now, id, &problem.into()),
            Ok(ClientMessage::Ping { reference }) => {
                self.tell(now, id, &ServerMessage::Pong { reference });
            }
            Ok(ClientMessage::Subscribe { topic, after }) => {
                let after = after.map_or(After::Now, |after| After::parse(&after));
                match self.subscribe(now, id, &topic, after) {
                    Ok(()) => self.feed(now, id),
                    Err(error) => {
                        let code = match error {
                            SubscribeError::BadName => ErrorCode::BadRequest,
                            _ => ErrorCode::Limit,
                        };
                        let mut reference = String::new();
                        json::write_string(&mut reference, &topic);
                        let reference = Some(reference.as_str());
                        let sentence = &error.to_string();
                        self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
                    }
                }
            }
            Ok(ClientMessage::Unsubscribe { topic }) => {
                self.unsubscribe(id, &topic);
                self.tell(now, id, &ServerMessage::Unsubscribed { topic: &topic });
            }
            Ok(ClientMessage::Publish { topic, data, reference }) => {
                let payload = match data {
                    envelope::Published::Text(text) => Payload::text(text.into_owned()),
                    envelope::Published::Json(raw) => Payload::Json(raw.into()),
                };
                self.publish_enveloped(now, id, &topic, payload, reference);
            }
        }
    }

    fn publish_enveloped(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        payload: Payload,
        reference: Option<&str>,
    ) {
        let published = match Name::is_own(topic) {
            true => Err((ErrorCode::Forbidden, "this topic is the server's own".to_owned())),
            false => self.publish(now, topic, payload).map_err(|error| match error {
                PublishError::BadName => (ErrorCode::BadRequest, error.to_string()),
                PublishError::TopicsFull => (ErrorCode::Limit, error.to_string()),
            }),
        };
        match published {
            Ok(event) => {
                let event = event.to_string();
                self.tell(now, id, &ServerMessage::Published { reference, id: &event });
            }
            Err((code, sentence)) => {
                let sentence = &sentence;
                self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            }
        }
    }
}
