//! The messages of `/ws` as JSON, on the client's side.

#[cfg(feature = "presence")]
use std::borrow::Cow;

#[cfg(feature = "presence")]
use super::TopicMember;
use super::form::{NO_POSITION, Order, VERSION};
use super::said::{Reference, Said};
use crate::core::ground::base64;
use crate::core::ground::json::{self, Object};
use crate::core::topics::{After, Payload};

/// Writes a message to the server; `None` if it would bear bytes.
pub(super) fn write(order: &Order<'_>) -> Option<String> {
    let op = |name| Object::new().string("op", name);
    let object = match *order {
        Order::Hello { client } => op("hello").string("client", client).string("version", VERSION),
        Order::Subscribe {
            topic,
            after,
            #[cfg(feature = "presence")]
            info,
        } => {
            let object = op("subscribe").string("topic", topic);
            let object = match after {
                After::Now => object,
                After::Position(id) => object.string("after", &id.to_string()),
                After::Garbage => object.string("after", NO_POSITION),
            };
            #[cfg(feature = "presence")]
            let object = match info {
                Some(info) => object.string("info", info),
                None => object,
            };
            object.string("ref", topic)
        }
        #[cfg(feature = "presence")]
        Order::Presence { topic, reference } => {
            op("presence").string("topic", topic).number("ref", reference.into())
        }
        Order::Unsubscribe { topic } => op("unsubscribe").string("topic", topic),
        Order::Publish { topic, reference, content } => {
            let object = op("publish").string("topic", topic).number("ref", reference.into());
            let object = match &content.trace {
                Some(trace) => object.string("trace", &trace.to_string()),
                None => object,
            };
            match &content.payload {
                Payload::Text(text) => object.string("data", text.as_str()),
                Payload::Json(json) => object.raw("data", json.as_str()),
                Payload::Binary(_) => return None,
            }
        }
        // The answer is told by its `ref` from the server's own word. No publication has this one.
        Order::Token { token } => op("token").string("token", token).raw("ref", "true"),
    };
    Some(object.end())
}

/// Reads a message of the server.
pub(super) fn read(text: &str) -> Option<Said<'_>> {
    let mut said = Said::default();
    let (mut data, mut base64) = (None, None);
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
        "connection" => said.connection = string(raw),
        "ref" => said.reference = reference(raw),
        "level" => said.level = raw.parse().ok(),
        "retry_ms" => said.retry_ms = raw.parse().ok(),
        "message_bytes" => said.message_bytes = raw.parse().ok(),
        "data" => data = Some(raw),
        "base64" => base64 = Some(raw),
        #[cfg(feature = "presence")]
        "count" => said.count = raw.parse().ok(),
        #[cfg(feature = "presence")]
        "members" => said.members = members_of(raw),
        _ => {}
    })
    .ok()?;
    said.payload = payload(data, base64);
    Some(said)
}

#[cfg(feature = "presence")]
pub(super) fn members_of(raw: &str) -> Option<Vec<TopicMember>> {
    let member = |raw: &str| {
        let mut member = TopicMember::default();
        let string = |raw| json::string(raw).map(Cow::into_owned);
        json::members(raw, |name, raw| match &*name {
            "identity" => member.identity = string(raw),
            "connection" => member.connection = string(raw).unwrap_or_default(),
            "info" => member.info = string(raw),
            _ => {}
        })
        .ok()?;
        Some(member)
    };
    json::elements(raw)?.map(member).collect()
}

fn reference(raw: &str) -> Reference<'_> {
    match (raw.parse(), json::string(raw)) {
        (Ok(number), _) => Reference::Number(number),
        (_, Some(text)) => Reference::Text(text),
        _ => Reference::Other,
    }
}

fn payload(data: Option<&str>, base64: Option<&str>) -> Option<Payload> {
    let Some(data) = data else {
        let bytes = base64::decode(&json::string(base64?)?)?;
        return Some(Payload::Binary(bytes.into()));
    };
    Some(match json::string(data) {
        Some(text) => Payload::Text(text.into_owned().into()),
        None => Payload::Json(data.into()),
    })
}
