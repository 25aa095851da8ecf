//! The messages of `/ws` as CBOR maps, on the client's side: see
//! [`hub_cbor`](crate::core::wire::hub_cbor), which has the server's.

use std::borrow::Cow;

use tungstenite::Bytes;

#[cfg(feature = "presence")]
use super::TopicMember;
use super::form::{NO_POSITION, Order, VERSION};
use super::said::{Reference, Said};
use crate::core::ground::json;
use crate::core::topics::{After, Payload};
use crate::core::wire::cbor::{Item, Map, Reader, TRUE};

/// Writes a message to the server.
pub(super) fn write(order: &Order<'_>) -> Vec<u8> {
    let op = |name| Map::default().text("op", name);
    match *order {
        Order::Hello { client } => op("hello").text("client", client).text("version", VERSION),
        Order::Subscribe {
            topic,
            after,
            #[cfg(feature = "presence")]
            info,
        } => {
            let map = op("subscribe").text("topic", topic);
            let map = match after {
                After::Now => map,
                After::Position(id) => map.text("after", &id.to_string()),
                After::Garbage => map.text("after", NO_POSITION),
            };
            #[cfg(feature = "presence")]
            let map = match info {
                Some(info) => map.text("info", info),
                None => map,
            };
            map.text("ref", topic)
        }
        #[cfg(feature = "presence")]
        Order::Presence { topic, reference } => {
            op("presence").text("topic", topic).number("ref", reference.into())
        }
        Order::Unsubscribe { topic } => op("unsubscribe").text("topic", topic),
        Order::Publish { topic, reference, content } => {
            let map = op("publish").text("topic", topic).number("ref", reference.into());
            let map = match &content.trace {
                Some(trace) => map.text("trace", &trace.to_string()),
                None => map,
            };
            match &content.payload {
                Payload::Text(text) => map.text("data", text.as_str()),
                Payload::Json(json) => map.text("json", json.as_str()),
                Payload::Binary(bytes) => map.bytes("data", bytes),
            }
        }
        // As in JSON.
        Order::Token { token } => op("token").text("token", token).raw("ref", &[TRUE]),
    }
    .end()
}

/// Reads a message of the server: one map, and nothing behind it. An event's bytes share the
/// memory of the message.
pub(super) fn read(message: &Bytes) -> Option<Said<'_>> {
    let mut said = Said::default();
    let (mut data, mut json) = (None, None);
    let mut reader = Reader::new(message);
    for _ in 0..reader.map().ok()?? {
        let (name, value) = (reader.raw().ok()?, reader.raw().ok()?);
        let (Item::Text(name), item) = (Item::of(name), Item::of(value)) else { continue };
        match name {
            "op" => said.op = text(item),
            "topic" => said.topic = text(item),
            "id" => said.id = text(item),
            "last" => said.last = text(item),
            "first" => said.first = text(item),
            "code" => said.code = text(item),
            "message" => said.sentence = text(item),
            "trace" => said.trace = text(item),
            "connection" => said.connection = text(item),
            "ref" => said.reference = reference(item),
            "level" => said.level = number(item),
            "retry_ms" => said.retry_ms = number(item),
            "message_bytes" => said.message_bytes = number(item),
            "data" => data = Some(item),
            "json" => json = Some(item),
            #[cfg(feature = "presence")]
            "count" => said.count = number(item),
            #[cfg(feature = "presence")]
            "members" => said.members = members_of(value),
            _ => {}
        }
    }
    said.payload = match (data, json) {
        (Some(Item::Text(text)), _) => Some(Payload::text(text)),
        (Some(Item::Bytes(bytes)), _) => Some(Payload::Binary(message.slice_ref(bytes))),
        // What applications are handed as JSON is JSON.
        (None, Some(Item::Text(text))) => Some(Payload::Json(json::value(text).ok()?.into())),
        _ => None,
    };
    reader.is_over().then_some(said)
}

#[cfg(feature = "presence")]
fn members_of(raw: &[u8]) -> Option<Vec<TopicMember>> {
    let mut reader = Reader::new(raw);
    let count = reader.array().ok()??;
    let mut members = Vec::new();
    // There are not more than their bytes.
    for _ in 0..count {
        let mut member = TopicMember::default();
        for _ in 0..reader.map().ok()?? {
            let (name, value) = (reader.raw().ok()?, reader.raw().ok()?);
            let Item::Text(name) = Item::of(name) else { continue };
            let value = match Item::of(value) {
                Item::Text(text) => Some(text.to_owned()),
                _ => None,
            };
            match name {
                "identity" => member.identity = value,
                "connection" => member.connection = value.unwrap_or_default(),
                "info" => member.info = value,
                _ => {}
            }
        }
        members.push(member);
    }
    Some(members)
}

fn text(item: Item<'_>) -> Cow<'_, str> {
    match item {
        Item::Text(text) => text.into(),
        _ => Cow::default(),
    }
}

fn number<T: TryFrom<i64>>(item: Item<'_>) -> Option<T> {
    match item {
        Item::Integer(number) => number.try_into().ok(),
        _ => None,
    }
}

fn reference(item: Item<'_>) -> Reference<'_> {
    match item {
        Item::Text(text) => Reference::Text(text.into()),
        item => number(item).map_or(Reference::Other, Reference::Number),
    }
}
