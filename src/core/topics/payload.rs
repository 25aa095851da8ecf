//! What is published.

use tungstenite::{Bytes, Utf8Bytes};

use super::EventId;
use crate::core::ground::trace::Trace;
use crate::core::wire::message::Message;

/// One published event. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of everything published.
    pub id: EventId,
    /// What was published.
    pub payload: Payload,
    /// The trace context that it was published with, if there was one.
    pub trace: Option<Trace>,
}

/// What is to be published. A [`Payload`], and all that becomes one, is content without a trace
/// context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What is published.
    pub payload: Payload,
    /// The trace context that goes with it to subscribers.
    pub trace: Option<Trace>,
}

impl<T: Into<Payload>> From<T> for Content {
    fn from(payload: T) -> Content {
        Content { payload: payload.into(), trace: None }
    }
}

/// What was published, and as which type. Cloning shares the bytes.
///
/// The bytes are kept as they are given: a slice of a larger buffer keeps the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Text: always UTF-8.
    Text(Utf8Bytes),
    /// One JSON value. The publisher has checked it.
    Json(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl From<&str> for Payload {
    fn from(text: &str) -> Payload {
        Payload::Text(text.into())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        Payload::Text(text.into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::Binary(bytes.into())
    }
}

impl From<Message> for Payload {
    fn from(message: Message) -> Payload {
        match message {
            Message::Text(text) => Payload::Text(text),
            Message::Binary(bytes) => Payload::Binary(bytes),
        }
    }
}

impl Payload {
    /// Makes a payload of text.
    pub fn text(text: impl Into<Utf8Bytes>) -> Payload {
        Payload::Text(text.into())
    }

    /// Returns it as content with a trace context, or without one.
    pub fn traced(self, trace: Option<Trace>) -> Content {
        Content { payload: self, trace }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) | Payload::Json(text) => text.as_str().as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// Returns the text of text or JSON; `None` if the payload is bytes.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Payload::Text(text) | Payload::Json(text) => Some(text.as_str()),
            Payload::Binary(_) => None,
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Payload::Text(text) | Payload::Json(text) => text.into(),
            Payload::Binary(bytes) => bytes,
        }
    }
}
