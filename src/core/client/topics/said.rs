//! A message of the server, read.

use std::borrow::Cow;

#[cfg(feature = "cbor")]
use super::cbor;
use super::json;
use crate::core::topics::{EventId, Payload};
use crate::core::wire::message::Message;

/// The members of a message that mean something, in whatever form it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub op: Cow<'a, str>,
    pub topic: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub last: Cow<'a, str>,
    pub first: Cow<'a, str>,
    pub code: Cow<'a, str>,
    pub sentence: Cow<'a, str>,
    pub trace: Cow<'a, str>,
    pub connection: Cow<'a, str>,
    pub reference: Reference<'a>,
    pub level: Option<u8>,
    pub retry_ms: Option<u32>,
    pub message_bytes: Option<u64>,
    pub payload: Option<Payload>,
    #[cfg(feature = "presence")]
    pub count: Option<u64>,
    #[cfg(feature = "presence")]
    pub members: Option<Vec<super::TopicMember>>,
}

/// The `ref` of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// There is none.
    #[default]
    None,
    /// That of a publication.
    Number(u32),
    /// That of a subscription: its topic.
    Text(Cow<'a, str>),
    /// That of a token; or one that the client has never sent.
    Other,
}

impl<'a> Said<'a> {
    /// Reads a message; `None` if it is none of `/ws`.
    pub fn read(message: &'a Message) -> Option<Said<'a>> {
        match message {
            Message::Text(text) => json::read(text.as_str()),
            #[cfg(feature = "cbor")]
            Message::Binary(bytes) => cbor::read(bytes),
            #[cfg(not(feature = "cbor"))]
            Message::Binary(_) => None,
        }
    }
}

pub(super) fn id_of(text: &str) -> Option<EventId> {
    text.parse().ok()
}
