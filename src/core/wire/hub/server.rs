//! The messages of the server, written.

use super::ErrorCode;
#[cfg(feature = "presence")]
use super::Present;
use crate::core::ground::json::Object;
use crate::core::ground::trace::Trace;
use crate::core::wire::encoded::{Around, Coding};
use crate::core::wire::payload::Payload;

/// A message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMessage<'a> {
    /// The first message: the name of the connection, and the limits that concern the client.
    Hello {
        /// The connection's id.
        connection: &'a str,
        /// After how many milliseconds of silence the server pings; 0 for never.
        heartbeat_ms: u64,
        /// After how many milliseconds of silence the server closes; 0 for never.
        read_idle_ms: u64,
        /// The longest message that the server takes, in bytes.
        message_bytes: u64,
    },
    /// The client has the events it missed; those that follow are live.
    Subscribed {
        /// The topic.
        topic: &'a str,
        /// The position from which on the topic is live.
        last: &'a str,
    },
    /// No more events of this topic follow.
    Unsubscribed {
        /// The topic.
        topic: &'a str,
    },
    /// An event.
    Event {
        /// The topic.
        topic: &'a str,
        /// The event's id.
        id: &'a str,
        /// What was published.
        payload: Payload<'a>,
        /// The trace context that it was published with.
        trace: Option<&'a Trace>,
    },
    /// Events were lost for this client.
    Gap {
        /// The topic.
        topic: &'a str,
        /// The first event that follows, if there is one yet.
        first: Option<&'a str>,
    },
    /// The client's event was published, or taken over by a hook of the application.
    Published {
        /// The client's `ref`: JSON, raw.
        reference: Option<&'a str>,
        /// The event's id; `None` if it was taken over.
        id: Option<&'a str>,
    },
    /// The answer to `ping`.
    Pong {
        /// The client's `ref`: JSON, raw.
        reference: Option<&'a str>,
    },
    /// A message of the client had no effect.
    Error {
        /// What kind of problem.
        code: ErrorCode,
        /// The problem in words.
        sentence: &'a str,
        /// The client's `ref`: JSON, raw.
        reference: Option<&'a str>,
    },
    /// How long the client's token is good for: soon before its end, and as the answer to another
    /// token.
    #[cfg(any(feature = "jwt", feature = "client"))]
    Token {
        /// What is left of it, in milliseconds.
        expires_in_ms: u64,
        /// The client's `ref`, if this is an answer: JSON, raw.
        reference: Option<&'a str>,
    },
    /// The answer to `presence`: who is on a topic.
    #[cfg(feature = "presence")]
    Presence {
        /// The topic.
        topic: &'a str,
        /// How many members it has.
        count: u64,
        /// The members; `None` if they are too many to be named.
        members: Option<&'a [Present<'a>]>,
        /// The client's `ref`: JSON, raw.
        reference: Option<&'a str>,
    },
    /// How full the outbox of this client is.
    Pressure {
        /// 0 for empty; 1, 2, 3 for more than 50, 75, 90% of the limit.
        level: u8,
    },
    /// The server closes soon.
    Goaway {
        /// How long to wait before coming back, in milliseconds.
        retry_ms: u64,
    },
}

impl ServerMessage<'_> {
    /// Returns the message's text, without spare memory.
    ///
    /// A payload of text may become six times as long (control characters are escaped), a binary
    /// one four thirds.
    pub fn encode(&self) -> String {
        let op = |name| Object::new().string("op", name);
        if let ServerMessage::Event { topic, id, payload, trace } = *self {
            let text = event_around(topic, id, payload, trace).encode(payload.as_bytes());
            return String::from_utf8(text).expect("text around text, or base64, is text");
        }
        match *self {
            ServerMessage::Hello { connection, heartbeat_ms, read_idle_ms, message_bytes } => {
                op("hello")
                    .string("connection", connection)
                    .number("heartbeat_ms", heartbeat_ms)
                    .number("read_idle_ms", read_idle_ms)
                    .number("message_bytes", message_bytes)
            }
            ServerMessage::Subscribed { topic, last } => {
                op("subscribed").string("topic", topic).string("last", last)
            }
            ServerMessage::Unsubscribed { topic } => op("unsubscribed").string("topic", topic),
            ServerMessage::Event { topic, id, .. } => {
                op("event").string("topic", topic).string("id", id)
            }
            ServerMessage::Gap { topic, first } => with_gap(op("gap"), topic, first),
            ServerMessage::Published { reference, id } => {
                let object = with_reference(op("published"), reference);
                match id {
                    Some(id) => object.string("id", id),
                    None => object.raw("id", "null"),
                }
            }
            ServerMessage::Pong { reference } => with_reference(op("pong"), reference),
            ServerMessage::Error { code, sentence, reference } => {
                let object = op("error").string("code", code.label()).string("message", sentence);
                with_reference(object, reference)
            }
            #[cfg(any(feature = "jwt", feature = "client"))]
            ServerMessage::Token { expires_in_ms, reference } => {
                with_reference(op("token"), reference).number("expires_in_ms", expires_in_ms)
            }
            #[cfg(feature = "presence")]
            ServerMessage::Presence { topic, count, members, reference } => {
                let object = op("presence").string("topic", topic).number("count", count);
                let object = match members {
                    Some(members) => object.raw("members", &list_of(members)),
                    None => object,
                };
                with_reference(object, reference)
            }
            ServerMessage::Pressure { level } => op("pressure").number("level", level.into()),
            ServerMessage::Goaway { retry_ms } => op("goaway").number("retry_ms", retry_ms),
        }
        .end()
    }
}

/// Returns what stands around the payload of an event on `/ws`.
pub fn event_around(topic: &str, id: &str, payload: Payload, trace: Option<&Trace>) -> Around {
    let object = Object::new().string("op", "event").string("topic", topic).string("id", id);
    let object = match trace {
        Some(trace) => object.string("trace", &trace.to_string()),
        None => object,
    };
    around(object, payload)
}

/// Returns what stands around the payload of an event in an array of events: `{"id":..,"data":..}`,
/// with `base64` instead of `data` if it is binary.
pub fn row_around(id: &str, payload: Payload) -> Around {
    around(Object::new().string("id", id), payload)
}

/// Returns members of a topic as a JSON array of
/// `{"identity":NAME|null,"connection":ID,"info":TEXT}`, without `info` where there is none.
#[cfg(feature = "presence")]
pub fn list_of(members: &[Present<'_>]) -> String {
    let mut list = String::from("[");
    for Present { identity, connection, info } in members {
        if list.len() > 1 {
            list.push(',');
        }
        let object = match identity {
            Some(identity) => Object::new().string("identity", identity),
            None => Object::new().raw("identity", "null"),
        };
        let object = object.string("connection", &connection.to_string());
        let object = match info {
            Some(info) => object.string("info", info),
            None => object,
        };
        list.push_str(&object.end());
    }
    list.push(']');
    list
}

/// Adds the members of a gap.
pub(crate) fn with_gap(object: Object, topic: &str, first: Option<&str>) -> Object {
    let object = object.string("topic", topic);
    match first {
        Some(first) => object.string("first", first),
        None => object.raw("first", "null"),
    }
}

/// Ends an object with a payload.
fn around(object: Object, payload: Payload) -> Around {
    match payload {
        Payload::Text(_) => {
            let head = (object.begin("data") + "\"").into();
            Around { head, coding: Coding::Json, tail: "\"}" }
        }
        Payload::Json(_) => {
            Around { head: object.begin("data").into(), coding: Coding::Plain, tail: "}" }
        }
        Payload::Binary(_) => around_base64(object, "\"}"),
    }
}

/// Ends an object with binary data, behind which `tail` follows.
pub(crate) fn around_base64(object: Object, tail: &'static str) -> Around {
    Around { head: (object.begin("base64") + "\"").into(), coding: Coding::Base64, tail }
}

fn with_reference(object: Object, reference: Option<&str>) -> Object {
    match reference {
        Some(reference) => object.raw("ref", reference),
        None => object,
    }
}
