//! The messages of [`hub`](super::hub) as CBOR maps, for the subprotocol `heartwheel.v1.cbor`.
//!
//! Names and values are those of JSON. `data` is a text or a byte string, and bytes travel as they
//! are; JSON stands as text in `json` instead. A `ref` is any item.
//!
//! What is published and answered elsewhere bears a `ref` as text. That of a CBOR item is its bytes
//! in hexadecimal digits, in which it comes out of here and goes in again.

use std::borrow::Cow;

use crate::core::ground::json;
use crate::core::ground::trace::{BadTrace, Trace};
use crate::core::wire::cbor::{self, CborError, Item, Major, Map, NULL, Reader, write_text};
use crate::core::wire::encoded::{Around, Coding};
use crate::core::wire::hub::{self, ClientMessage, ErrorCode, Problem, Published, ServerMessage};
use crate::core::wire::payload::Payload;

/// Reads a message of a client: one map. `reference` is room for its `ref`.
///
/// Members of unknown names, and those whose name is no text, are ignored; of members with the same
/// name the last one counts. It takes time linear in the length of any bytes.
///
/// # Errors
///
/// The answer, if the bytes are no message; the connection stays open.
pub fn parse<'a>(
    bytes: &'a [u8],
    reference: &'a mut String,
) -> Result<ClientMessage<'a>, Problem<'a>> {
    let mut members = Members::default();
    let read = members.read(bytes);
    if let Some(raw) = members.reference {
        *reference = to_digits(raw);
    }
    let digits: &'a str = reference;
    let reference = members.reference.map(|_| digits);
    let problem = |(code, sentence)| Problem { code, sentence, reference };
    let bad = |sentence| (ErrorCode::BadRequest, sentence);
    read.map_err(|error| problem(bad(sentence_of(error))))?;
    members.interpret(reference).map_err(problem)
}

/// Returns the `ref` of a text, as an error about a topic has it.
pub fn text_reference(text: &str) -> String {
    let mut item = Vec::new();
    write_text(&mut item, text);
    to_digits(&item)
}

/// Returns the integer that a `ref` is, if it is one.
pub fn integer_of(reference: &str) -> Option<i64> {
    match Item::of(&from_digits(reference)) {
        Item::Integer(number) => Some(number),
        _ => None,
    }
}

/// Encodes a message of the server.
pub fn encode(message: &ServerMessage<'_>) -> Vec<u8> {
    let op = |name| Map::default().text("op", name);
    match *message {
        ServerMessage::Hello { connection, heartbeat_ms, read_idle_ms, message_bytes } => {
            op("hello")
                .text("connection", connection)
                .number("heartbeat_ms", heartbeat_ms)
                .number("read_idle_ms", read_idle_ms)
                .number("message_bytes", message_bytes)
        }
        ServerMessage::Subscribed { topic, last } => {
            op("subscribed").text("topic", topic).text("last", last)
        }
        ServerMessage::Unsubscribed { topic } => op("unsubscribed").text("topic", topic),
        ServerMessage::Event { topic, id, payload, trace } => {
            let around = event_around(topic, id, payload, trace);
            return around.encode(payload.as_bytes());
        }
        ServerMessage::Gap { topic, first } => {
            text_or_null(op("gap").text("topic", topic), "first", first)
        }
        ServerMessage::Published { reference, id } => {
            text_or_null(with_reference(op("published"), reference), "id", id)
        }
        ServerMessage::Pong { reference } => with_reference(op("pong"), reference),
        ServerMessage::Error { code, sentence, reference } => {
            let map = op("error").text("code", code.label()).text("message", sentence);
            with_reference(map, reference)
        }
        #[cfg(any(feature = "jwt", feature = "client"))]
        ServerMessage::Token { expires_in_ms, reference } => {
            with_reference(op("token"), reference).number("expires_in_ms", expires_in_ms)
        }
        #[cfg(feature = "presence")]
        ServerMessage::Presence { topic, count, members, reference } => {
            let map = op("presence").text("topic", topic).number("count", count);
            let map = match members {
                Some(members) => map.raw("members", &list_of(members)),
                None => map,
            };
            with_reference(map, reference)
        }
        ServerMessage::Pressure { level } => op("pressure").number("level", level.into()),
        ServerMessage::Goaway { retry_ms } => op("goaway").number("retry_ms", retry_ms),
    }
    .end()
}

/// Returns what stands around the payload of an event.
pub fn event_around(topic: &str, id: &str, payload: Payload, trace: Option<&Trace>) -> Around {
    let map = Map::default().text("op", "event").text("topic", topic).text("id", id);
    let map = match trace {
        Some(trace) => map.text("trace", &trace.to_string()),
        None => map,
    };
    let (name, major) = match payload {
        Payload::Text(_) => ("data", Major::Text),
        Payload::Json(_) => ("json", Major::Text),
        Payload::Binary(_) => ("data", Major::Bytes),
    };
    let map = map.head(name, major, payload.as_bytes().len() as u64);
    Around { head: map.end(), coding: Coding::Plain, tail: "" }
}

/// Returns members of a topic as an array of maps.
#[cfg(feature = "presence")]
fn list_of(members: &[hub::Present<'_>]) -> Vec<u8> {
    let mut list = Vec::new();
    cbor::write_head(&mut list, Major::Array, members.len() as u64);
    for hub::Present { identity, connection, info } in members {
        let map = text_or_null(Map::default(), "identity", *identity);
        let map = map.text("connection", &connection.to_string());
        let map = match info {
            Some(info) => map.text("info", info),
            None => map,
        };
        list.extend(map.end());
    }
    list
}

/// The sentence for a message of text.
pub const NO_CBOR: &str = "a message is CBOR in a binary message";

/// The members of a message that mean something: the bytes of their values.
#[derive(Default)]
struct Members<'a> {
    op: Option<&'a [u8]>,
    topic: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    json: Option<&'a [u8]>,
    reference: Option<&'a [u8]>,
    client: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    trace: Option<&'a [u8]>,
    #[cfg(any(feature = "jwt", feature = "client"))]
    token: Option<&'a [u8]>,
    #[cfg(feature = "presence")]
    info: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), CborError> {
        let mut reader = Reader::new(bytes);
        let pairs = reader.map()?.ok_or(CborError::Syntax)?;
        for _ in 0..pairs {
            let name = Item::of(reader.raw()?);
            let value = reader.raw()?;
            let place = match name {
                Item::Text("op") => &mut self.op,
                Item::Text("topic") => &mut self.topic,
                Item::Text("after") => &mut self.after,
                Item::Text("data") => &mut self.data,
                Item::Text("json") => &mut self.json,
                Item::Text("ref") => &mut self.reference,
                Item::Text("client") => &mut self.client,
                Item::Text("version") => &mut self.version,
                Item::Text("trace") => &mut self.trace,
                #[cfg(any(feature = "jwt", feature = "client"))]
                Item::Text("token") => &mut self.token,
                #[cfg(feature = "presence")]
                Item::Text("info") => &mut self.info,
                _ => continue,
            };
            *place = Some(value);
        }
        if reader.is_over() { Ok(()) } else { Err(CborError::Syntax) }
    }

    fn interpret(
        &self,
        reference: Option<&'a str>,
    ) -> Result<ClientMessage<'a>, (ErrorCode, &'static str)> {
        let bad = |sentence| (ErrorCode::BadRequest, sentence);
        let op = text(self.op).ok_or(bad("op is a string"))?;
        let topic = || text(self.topic).map(Cow::Borrowed).ok_or(bad("topic is a string"));
        match op {
            "hello" => {
                let client = text(self.client).filter(|word| hub::is_client_id(word));
                let version = text(self.version).filter(|word| hub::is_version(word));
                let client = client.ok_or(bad(hub::NO_CLIENT_ID))?.into();
                let version = version.ok_or(bad(hub::NO_VERSION))?.into();
                Ok(ClientMessage::Hello { client, version, reference })
            }
            "subscribe" => {
                let after = self.after.filter(|after| Item::of(after) != Item::Null);
                let after = after.map(|after| text(Some(after)).ok_or(bad("after is an id")));
                let after = after.transpose()?.map(Cow::Borrowed);
                Ok(ClientMessage::Subscribe {
                    topic: topic()?,
                    after,
                    #[cfg(feature = "presence")]
                    info: self.info()?,
                    reference,
                })
            }
            #[cfg(feature = "presence")]
            "presence" => Ok(ClientMessage::Presence { topic: topic()?, reference }),
            "unsubscribe" => Ok(ClientMessage::Unsubscribe { topic: topic()? }),
            "publish" => {
                let (data, topic) = (self.published().map_err(bad)?, topic()?);
                let trace = self.trace.filter(|trace| Item::of(trace) != Item::Null);
                let trace = trace.map(|raw| text(Some(raw)).ok_or(BadTrace)?.parse());
                Ok(ClientMessage::Publish { topic, data, trace, reference })
            }
            #[cfg(any(feature = "jwt", feature = "client"))]
            "token" => {
                let token = text(self.token).ok_or(bad("token is a string"))?.into();
                Ok(ClientMessage::Token { token, reference })
            }
            "ping" => Ok(ClientMessage::Ping { reference }),
            _ => Err((ErrorCode::UnknownOp, "there is no such op")),
        }
    }

    #[cfg(feature = "presence")]
    fn info(&self) -> Result<Option<Cow<'a, str>>, (ErrorCode, &'static str)> {
        let Some(info) = self.info.filter(|info| Item::of(info) != Item::Null) else {
            return Ok(None);
        };
        let info = text(Some(info)).filter(|info| hub::is_info(info));
        info.map(|info| Some(info.into())).ok_or((ErrorCode::BadRequest, hub::NO_INFO))
    }

    fn published(&self) -> Result<Published<'a>, &'static str> {
        match (self.data.map(Item::of), self.json.map(Item::of)) {
            (Some(Item::Text(text)), None) => Ok(Published::Text(text.into())),
            (Some(Item::Bytes(bytes)), None) => Ok(Published::Binary(bytes)),
            (None, Some(Item::Text(text))) => {
                json::value(text).map(Published::Json).map_err(|_| "json is no JSON")
            }
            (None, Some(_)) => Err("json is a string"),
            (Some(_), None) => Err("data is a string of text or bytes"),
            (Some(_), Some(_)) => Err("publish takes data or json, not both"),
            (None, None) => Err("publish needs data"),
        }
    }
}

fn text(raw: Option<&[u8]>) -> Option<&str> {
    match Item::of(raw?) {
        Item::Text(text) => Some(text),
        _ => None,
    }
}

fn sentence_of(error: CborError) -> &'static str {
    match error {
        CborError::Syntax => "a message is one CBOR map",
        CborError::Indefinite => "CBOR of definite lengths is taken alone",
        CborError::TooDeep => "CBOR nested deeper than 100 levels",
    }
}

const _: () = assert!(cbor::DEPTH_MAX == 100, "the sentence names the limit");

fn with_reference(map: Map, reference: Option<&str>) -> Map {
    match reference {
        Some(digits) => map.raw("ref", &from_digits(digits)),
        None => map,
    }
}

fn text_or_null(map: Map, name: &str, text: Option<&str>) -> Map {
    match text {
        Some(text) => map.text(name, text),
        None => map.raw(name, &[NULL]),
    }
}

fn to_digits(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Gives the bytes of an item whose digits came from here.
fn from_digits(digits: &str) -> Vec<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | value(*d)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = vec![0xa0 | members.len() as u8];
        for (name, value) in members {
            write_text(&mut out, name);
            out.extend_from_slice(value);
        }
        out
    }

    fn item(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_text(&mut out, text);
        out
    }

    #[track_caller]
    fn refused(bytes: &[u8]) -> (ErrorCode, &'static str, Option<String>) {
        let mut room = String::new();
        let problem = parse(bytes, &mut room).unwrap_err();
        (problem.code, problem.sentence, problem.reference.map(String::from))
    }

    #[test]
    fn messages_of_clients_are_read() {
        let (op, topic) = (item("publish"), item("t"));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (name, value, data) in [
            ("data", item("größe"), Published::Text("größe".into())),
            ("data", vec![0x43, 0, 255, 7], Published::Binary(&[0, 255, 7])),
            ("json", item(" {\"n\": 1.50} "), Published::Json("{\"n\": 1.50}")),
        ] {
            let bytes = message(&[
                ("op", &op),
                ("data", &[0x01]),
                (name, &value),
                ("topic", &topic),
                ("trace", &item(trace)),
                ("ref", &[0x82, 0x01, 0x40]),
            ]);
            // Of two members the last one counts: without the first `data` where it is JSON.
            let bytes = if name == "json" {
                message(&[
                    ("op", &op),
                    (name, &value),
                    ("topic", &topic),
                    ("trace", &item(trace)),
                    ("ref", &[0x82, 0x01, 0x40]),
                ])
            } else {
                bytes
            };
            let mut room = String::new();
            let expected = ClientMessage::Publish {
                topic: "t".into(),
                data,
                trace: Some(trace.parse()),
                reference: Some("820140"),
            };
            assert_eq!(parse(&bytes, &mut room), Ok(expected));
        }
        let mut room = String::new();
        let bytes = message(&[("op", &item("subscribe")), ("topic", &topic), ("after", &[NULL])]);
        let expected = ClientMessage::Subscribe {
            topic: "t".into(),
            after: None,
            #[cfg(feature = "presence")]
            info: None,
            reference: None,
        };
        assert_eq!(parse(&bytes, &mut room), Ok(expected));
        let other =
            [vec![0xa2, 0x01, 0x02], message(&[("op", &item("ping"))])[1..].to_vec()].concat();
        assert_eq!(parse(&other, &mut room), Ok(ClientMessage::Ping { reference: None }));
    }

    #[test]
    fn what_is_none_is_answered_and_its_reference_found_if_it_came_before() {
        let bad = ErrorCode::BadRequest;
        let ping = message(&[("op", &item("ping"))]);
        let no_map = "a message is one CBOR map";
        for (bytes, sentence) in [
            (vec![], no_map),
            (vec![0x81, 0x01], no_map),
            (item("ping"), no_map),
            ([&ping[..], &[0x00]].concat(), no_map),
            (ping[..ping.len() - 1].to_vec(), no_map),
            ([&[0xbf], &ping[1..], &[0xff]].concat(), "CBOR of definite lengths is taken alone"),
            (b"{\"op\":\"ping\"}".to_vec(), no_map),
            (message(&[("op", &[0x44, b'p', b'i', b'n', b'g'])]), "op is a string"),
            (message(&[("op", &item("publish")), ("topic", &item("t"))]), "publish needs data"),
            (
                message(&[("op", &item("publish")), ("data", &[0x01])]),
                "data is a string of text or bytes",
            ),
            (message(&[("op", &item("publish")), ("json", &item("{"))]), "json is no JSON"),
            (message(&[("op", &item("publish")), ("json", &[0x41, b'1'])]), "json is a string"),
            (
                message(&[("op", &item("publish")), ("json", &item("1")), ("data", &item("1"))]),
                "publish takes data or json, not both",
            ),
            (
                message(&[("op", &item("subscribe")), ("topic", &item("t")), ("after", &[0x01])]),
                "after is an id",
            ),
        ] {
            assert_eq!(refused(&bytes), (bad, sentence, None), "{bytes:x?}");
        }
        let deep =
            [&[0xa2][..], &message(&[("ref", &[0x07])])[1..], &item("data"), &[0x81; 500]].concat();
        let too_deep = (bad, "CBOR nested deeper than 100 levels", Some("07".to_owned()));
        assert_eq!(refused(&deep), too_deep);
        let dance = message(&[("ref", &[0xf5]), ("op", &item("dance"))]);
        assert_eq!(
            refused(&dance),
            (ErrorCode::UnknownOp, "there is no such op", Some("f5".into()))
        );
    }

    #[test]
    fn messages_of_the_server_are_maps() {
        for (message, expected) in [
            (
                ServerMessage::Pong { reference: Some("820140") },
                &b"\xa2\x62op\x64pong\x63ref\x82\x01\x40"[..],
            ),
            (
                ServerMessage::Gap { topic: "t", first: None },
                b"\xa3\x62op\x63gap\x65topic\x61t\x65first\xf6",
            ),
            (ServerMessage::Pressure { level: 2 }, b"\xa2\x62op\x68pressure\x65level\x02"),
            (
                ServerMessage::Event {
                    topic: "t",
                    id: "7-0",
                    payload: Payload::Binary(&[0, 255]),
                    trace: None,
                },
                b"\xa4\x62op\x65event\x65topic\x61t\x62id\x637-0\x64data\x42\x00\xff",
            ),
            (
                ServerMessage::Event {
                    topic: "t",
                    id: "7-0",
                    payload: Payload::Json("[1]"),
                    trace: None,
                },
                b"\xa4\x62op\x65event\x65topic\x61t\x62id\x637-0\x64json\x63[1]",
            ),
        ] {
            assert_eq!(encode(&message), expected, "{message:?}");
        }
        let (text, number) = (text_reference("t"), |digits| integer_of(digits));
        assert_eq!(
            (&*text, number("07"), number("26"), number("f5")),
            ("6174", Some(7), Some(-7), None)
        );
    }
}
