//! A message of the server, read.

use std::borrow::Cow;

use crate::core::ground::json;
use crate::core::topics::EventId;

/// The members of a message that mean something. Numbers and references are raw.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub op: Cow<'a, str>,
    pub topic: Cow<'a, str>,
    pub id: Cow<'a, str>,
    pub last: Cow<'a, str>,
    pub first: Cow<'a, str>,
    pub code: Cow<'a, str>,
    pub sentence: Cow<'a, str>,
    pub trace: Cow<'a, str>,
    pub reference: &'a str,
    pub level: &'a str,
    pub retry_ms: &'a str,
    pub message_bytes: &'a str,
    pub connection: &'a str,
    pub data: Option<&'a str>,
    pub base64: Option<&'a str>,
}

impl<'a> Said<'a> {
    pub fn read(text: &'a str) -> Option<Said<'a>> {
        let mut said = Said::default();
        let string = |raw| json::string(raw).unwrap_or_default();
        json::members(text, |name, raw| match &*name {
            "op" => said.op = string(raw),
            "topic" => said.topic = string(raw),
            "id" => said.id = string(raw),
            "last" => said.last = string(raw),
            "first" => said.first = string(raw),
            "code" => said.code = string(raw),
            "message" => said.sentence = string(raw),
            "trace" => said.trace = string(raw),
            "ref" => said.reference = raw,
            "level" => said.level = raw,
            "retry_ms" => said.retry_ms = raw,
            "message_bytes" => said.message_bytes = raw,
            "connection" => said.connection = raw,
            "data" => said.data = Some(raw),
            "base64" => said.base64 = Some(raw),
            _ => {}
        })
        .ok()?;
        Some(said)
    }
}

pub(super) fn id_of(text: &str) -> Option<EventId> {
    text.parse().ok()
}
