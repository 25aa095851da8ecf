//! The messages of `/ws`: many topics on one WebSocket, as JSON text.
//!
//! [`ClientMessage::parse`] reads what clients send, [`ServerMessage::encode`] writes what they
//! get. It is pure: the caller judges whether a topic's name is good, an id is known or a client
//! may publish. Published JSON is passed on as it came, never encoded again: numbers keep their
//! digits, objects keep the order of their members and their blanks.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::core::ground::json::{self, Content, JsonError, Member, Object, Scanner};
use crate::core::ground::trace::{BadTrace, Trace};
use crate::core::wire::encoded::{Around, Coding};
use crate::core::wire::payload::Payload;

/// A message of a client, borrowed from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Say who the client is, first of all: then what it publishes again with the same `ref` is
    /// not published twice.
    Hello {
        /// The id that the client drew for its life: [`is_client_id`].
        client: Cow<'a, str>,
        /// The version of the client: [`is_version`].
        version: Cow<'a, str>,
        /// What an error answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Subscribe to this topic; first send the events after this id.
    Subscribe {
        /// The topic.
        topic: Cow<'a, str>,
        /// The id of the last event that the client has, as the client sent it.
        after: Option<Cow<'a, str>>,
        /// What an error answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Unsubscribe from this topic.
    Unsubscribe {
        /// The topic.
        topic: Cow<'a, str>,
    },
    /// Publish an event.
    Publish {
        /// The topic.
        topic: Cow<'a, str>,
        /// What to publish.
        data: Published<'a>,
        /// The trace context that goes with it.
        trace: Option<Result<Trace, BadTrace>>,
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Go by this token instead of the one that the connection came with.
    #[cfg(any(feature = "jwt", feature = "client"))]
    Token {
        /// The token.
        token: Cow<'a, str>,
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Answer with a pong.
    Ping {
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
}

impl<'a> ClientMessage<'a> {
    /// Reads a message: one JSON object.
    ///
    /// Members of unknown names are ignored; of members with the same name the last one counts. An
    /// `after` of `null` counts as none, a `ref` of `null` as a value. It takes time linear in the
    /// length of any text, and does not recurse.
    ///
    /// # Errors
    ///
    /// The answer, if the text is no message; the connection stays open.
    pub fn parse(text: &'a str) -> Result<ClientMessage<'a>, Problem<'a>> {
        Reading::default().finish(text)
    }
}

/// Returns whether a client may call itself so: 16 to 64 characters of base64url.
pub fn is_client_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (16..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns whether a client's version may read so: 1 to 64 characters of `A-Z a-z 0-9 . _ + -`.
pub fn is_version(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// What a client publishes: a JSON string is text, anything else is kept as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published<'a> {
    /// The content of the string.
    Text(Cow<'a, str>),
    /// The JSON value, raw.
    Json(&'a str),
    /// Bytes, which JSON does not bear.
    Binary(&'a [u8]),
}

impl Published<'_> {
    /// Returns it as the payload of an event.
    pub fn payload(&self) -> Payload<'_> {
        match self {
            Published::Text(text) => Payload::Text(text),
            Published::Json(json) => Payload::Json(json),
            Published::Binary(bytes) => Payload::Binary(bytes),
        }
    }
}

/// Why a message of a client was refused: the content of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    /// The kind of problem.
    pub code: ErrorCode,
    /// The problem in words.
    pub sentence: &'static str,
    /// What the answer must repeat, if it can be found: JSON, raw.
    pub reference: Option<&'a str>,
}

impl<'a> From<Problem<'a>> for ServerMessage<'a> {
    fn from(problem: Problem<'a>) -> ServerMessage<'a> {
        let Problem { code, sentence, reference } = problem;
        ServerMessage::Error { code, sentence, reference }
    }
}

/// The kind of problem that an `error` message reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The message is not one of those that clients send.
    BadRequest,
    /// The `op` is not one of those that clients send.
    UnknownOp,
    /// The client may not do this.
    Forbidden,
    /// A limit of the server was reached.
    Limit,
    /// The log refused the event, or did not answer in time. After the latter the event may still
    /// be published.
    Unavailable,
}

impl ErrorCode {
    /// Returns the code as it stands in the message.
    pub const fn label(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::UnknownOp => "unknown_op",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::Limit => "limit",
            ErrorCode::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

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

/// The sentence for [`JsonError::TooDeep`].
const TOO_DEEP: &str = "JSON nested deeper than 100 levels";
const _: () = assert!(json::DEPTH_MAX == 100, "the sentence names the limit");

/// A message that is read as it comes, so that a long one has been read when it is whole.
#[derive(Debug)]
pub(crate) struct Reading {
    scanner: Scanner,
    /// Where the values lie of the members that mean something: those of [`NAMES`].
    values: [Option<Range<usize>>; NAMES.len()],
    /// The content of the `data` that was last seen to be a string.
    data: Content,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading { scanner: Scanner::object(), values: Default::default(), data: Content::default() }
    }
}

impl Reading {
    /// Goes on to the end of what has come of the message, which begins as it did before.
    pub fn go_on(&mut self, text: &str) {
        self.scan(text);
        let Some((name, value_at)) = self.scanner.string_in_progress() else { return };
        if position(text, name, true) != Some(DATA) {
            return;
        }
        if self.data.start() <= value_at {
            let quote = text[value_at..].find('"').expect("a string has begun");
            self.data = Content::new(value_at + quote + 1);
        }
        self.data.go_on(text, self.scanner.at());
    }

    /// Gives how many bytes have been read.
    pub fn at(&self) -> usize {
        self.scanner.at()
    }

    /// Gives the bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        size_of::<Reading>() + self.data.held_bytes()
    }

    /// Reads the rest of the message, which is whole now.
    ///
    /// # Errors
    ///
    /// As for [`ClientMessage::parse`].
    pub fn finish(mut self, text: &str) -> Result<ClientMessage<'_>, Problem<'_>> {
        self.scan(text);
        let reference = self.value(text, REFERENCE).map(|value| &text[value]);
        let read = match self.scanner.end() {
            Ok(()) => self.interpret(text),
            Err(JsonError::Syntax) => Err((ErrorCode::BadRequest, NO_OBJECT)),
            Err(JsonError::TooDeep) => Err((ErrorCode::BadRequest, TOO_DEEP)),
        };
        read.map_err(|(code, sentence)| Problem { code, sentence, reference })
    }

    /// Refuses a message that is not text, but may read as it: its `ref` is repeated all the same.
    pub fn refuse<'a>(text: &'a str, sentence: &'static str) -> Problem<'a> {
        let mut reading = Reading::default();
        reading.scan(text);
        let reference = reading.value(text, REFERENCE).map(|value| &text[value]);
        Problem { code: ErrorCode::BadRequest, sentence, reference }
    }

    fn scan(&mut self, text: &str) {
        let Reading { scanner, values, .. } = self;
        scanner.go_on(text.as_bytes(), &mut |Member { name, value, is_sound }| {
            if let Some(position) = position(text, name, is_sound) {
                values[position] = Some(value);
            }
        });
    }

    /// Gives where the value of a member lies, without the blanks around it.
    fn value(&self, text: &str, position: usize) -> Option<Range<usize>> {
        let value = self.values[position].clone()?;
        let start = value.end - text[value.clone()].trim_ascii_start().len();
        Some(start..start + text[value].trim_ascii().len())
    }

    fn interpret(self, text: &str) -> Result<ClientMessage<'_>, (ErrorCode, &'static str)> {
        let bad = |sentence| (ErrorCode::BadRequest, sentence);
        let raw = |position| self.value(text, position).map(|value| &text[value]);
        let reference = raw(REFERENCE);
        let op = raw(OP).and_then(json::name).ok_or(bad("op is a string"))?;
        let topic = || raw(TOPIC).and_then(json::name).ok_or(bad("topic is a string"));
        match &*op {
            "hello" => {
                let word = |position, is_good: fn(&str) -> bool| {
                    raw(position).and_then(json::name).filter(|word| is_good(word))
                };
                let client = word(CLIENT, is_client_id).ok_or(bad(NO_CLIENT_ID))?;
                let version = word(VERSION, is_version).ok_or(bad(NO_VERSION))?;
                Ok(ClientMessage::Hello { client, version, reference })
            }
            "subscribe" => {
                let after = raw(AFTER).filter(|after| *after != "null");
                let after = after.map(|after| json::name(after).ok_or(bad("after is an id")));
                let after = after.transpose()?;
                Ok(ClientMessage::Subscribe { topic: topic()?, after, reference })
            }
            "unsubscribe" => Ok(ClientMessage::Unsubscribe { topic: topic()? }),
            "publish" => {
                let data = self.value(text, DATA).ok_or(bad("publish needs data"))?;
                let topic = topic()?;
                let trace = raw(TRACE).filter(|trace| *trace != "null").map(read_trace);
                let data = match text[data.clone()].starts_with('"') {
                    true => Published::Text(self.content(text, data)),
                    false => Published::Json(&text[data]),
                };
                Ok(ClientMessage::Publish { topic, data, trace, reference })
            }
            #[cfg(any(feature = "jwt", feature = "client"))]
            "token" => {
                let token = raw(TOKEN).and_then(json::string).ok_or(bad("token is a string"))?;
                Ok(ClientMessage::Token { token, reference })
            }
            "ping" => Ok(ClientMessage::Ping { reference }),
            _ => Err((ErrorCode::UnknownOp, "there is no such op")),
        }
    }

    /// Gives the content of a string, of which some may have been made.
    fn content(self, text: &str, string: Range<usize>) -> Cow<'_, str> {
        let start = string.start + 1;
        let is_begun = self.data.start() == start;
        let content = if is_begun { self.data } else { Content::new(start) };
        content.finish(text, string.end - 1)
    }
}

/// Reads a trace context, which is a string.
fn read_trace(raw: &str) -> Result<Trace, BadTrace> {
    json::name(raw).ok_or(BadTrace)?.parse()
}

/// Gives which of [`NAMES`] the name of a member is. Behind an error escapes may be broken: the
/// name is compared as it is written.
fn position(text: &str, name: Range<usize>, is_sound: bool) -> Option<usize> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let written = &text[name];
    let name = match is_sound {
        true => json::name(written)?,
        false => written.strip_prefix('"')?.strip_suffix('"')?.into(),
    };
    NAMES.iter().position(|other| *other == name)
}

const NAMES: [&str; 8 + cfg!(any(feature = "jwt", feature = "client")) as usize] = [
    "op",
    "topic",
    "after",
    "data",
    "ref",
    "client",
    "version",
    "trace",
    #[cfg(any(feature = "jwt", feature = "client"))]
    "token",
];
const OP: usize = 0;
const TOPIC: usize = 1;
const AFTER: usize = 2;
const DATA: usize = 3;
const REFERENCE: usize = 4;
const CLIENT: usize = 5;
const VERSION: usize = 6;
const TRACE: usize = 7;
#[cfg(any(feature = "jwt", feature = "client"))]
const TOKEN: usize = 8;
/// The longest of them in escapes, with its quotes.
const NAME_LEN_MAX: usize = 6 * 7 + 2;
const NO_OBJECT: &str = "a message is one JSON object";
pub(super) const NO_CLIENT_ID: &str = "client is 16 to 64 characters of A-Z a-z 0-9 - _";
pub(super) const NO_VERSION: &str = "version is 1 to 64 characters of A-Z a-z 0-9 . _ + -";

#[cfg(test)]
mod tests {
    use super::*;

    fn published(data: Published<'static>) -> ClientMessage<'static> {
        ClientMessage::Publish { topic: "t".into(), data, trace: None, reference: None }
    }

    #[test]
    fn messages_of_clients_are_read() {
        let subscribe = |after: Option<&'static str>| ClientMessage::Subscribe {
            topic: "t".into(),
            after: after.map(Cow::from),
            reference: None,
        };
        for (text, message) in [
            (r#"{"op":"subscribe","topic":"t"}"#, subscribe(None)),
            (r#"{"op":"subscribe","topic":"t","after":"7-0"}"#, subscribe(Some("7-0"))),
            (r#"{"op":"subscribe","topic":"t","after":""}"#, subscribe(Some(""))),
            (r#"{"op":"subscribe","topic":"t","after":null}"#, subscribe(None)),
            (
                r#"{"op":"unsubscribe","topic":"\u00fc\n"}"#,
                ClientMessage::Unsubscribe { topic: "ü\n".into() },
            ),
            (r#"{"op":"ping"}"#, ClientMessage::Ping { reference: None }),
            (r#"{"op":"ping","ref":null}"#, ClientMessage::Ping { reference: Some("null") }),
            (
                "{\"ref\" : [1, {}]\n,\"op\":\"ping\"}",
                ClientMessage::Ping { reference: Some("[1, {}]") },
            ),
            (
                r#"{"op":"publish","topic":"t","data":"a\tb"}"#,
                published(Published::Text("a\tb".into())),
            ),
            (
                r#"{"op":"publish","topic":"t","data":"1","ref":"x\n"}"#,
                ClientMessage::Publish {
                    topic: "t".into(),
                    data: Published::Text("1".into()),
                    trace: None,
                    reference: Some(r#""x\n""#),
                },
            ),
        ] {
            assert_eq!(ClientMessage::parse(text), Ok(message), "{text}");
        }
    }

    #[test]
    fn published_json_is_kept_as_it_came() {
        for raw in [
            "null",
            "false",
            "-0.10e999",
            "12345678901234567890123",
            "[ 1,2 ]",
            r#"{"b":1,"a":"\u00e4","b":2}"#,
        ] {
            let text = format!(r#"{{"data": {raw} ,"topic":"t","op":"publish"}}"#);
            let message = ClientMessage::parse(&text);
            let Ok(ClientMessage::Publish { data: Published::Json(json), .. }) = message else {
                panic!("{message:?}");
            };
            assert_eq!(json, raw);
            let event = ServerMessage::Event {
                topic: "t",
                id: "7-0",
                payload: Payload::Json(json),
                trace: None,
            };
            assert!(event.encode().ends_with(&format!("\"data\":{raw}}}")));
        }
    }

    #[test]
    fn unknown_members_are_ignored_and_the_last_of_a_name_counts() {
        let text =
            r#"{"op":1,"x":{"op":"a"},"Op":"b","topic":[],"\u006fp":"ping","ref":1,"ref":2}"#;
        assert_eq!(ClientMessage::parse(text), Ok(ClientMessage::Ping { reference: Some("2") }));
        let text = r#"{"op":"ping","op":"pong"}"#;
        assert_eq!(ClientMessage::parse(text).unwrap_err().code, ErrorCode::UnknownOp);
        let text = r#"{"op":"ping","op":null}"#;
        assert_eq!(ClientMessage::parse(text).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn what_is_no_message_is_a_problem() {
        use ErrorCode::{BadRequest, UnknownOp};
        for (text, code, sentence) in [
            ("", BadRequest, "a message is one JSON object"),
            ("ping", BadRequest, "a message is one JSON object"),
            ("[]", BadRequest, "a message is one JSON object"),
            (r#"{"op":"ping"}}"#, BadRequest, "a message is one JSON object"),
            (r#"{"op":"ping","topic":"\x"}"#, BadRequest, "a message is one JSON object"),
            ("{}", BadRequest, "op is a string"),
            (r#"{"op":["ping"]}"#, BadRequest, "op is a string"),
            (r#"{"op":"Ping"}"#, UnknownOp, "there is no such op"),
            (r#"{"op":"hello"}"#, BadRequest, NO_CLIENT_ID),
            (r#"{"op":"subscribe"}"#, BadRequest, "topic is a string"),
            (r#"{"op":"unsubscribe","topic":1}"#, BadRequest, "topic is a string"),
            (r#"{"op":"publish","data":1}"#, BadRequest, "topic is a string"),
            (r#"{"op":"publish","topic":"t"}"#, BadRequest, "publish needs data"),
            (r#"{"op":"subscribe","topic":"t","after":7}"#, BadRequest, "after is an id"),
        ] {
            let problem = Problem { code, sentence, reference: None };
            assert_eq!(ClientMessage::parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn a_hello_has_an_id_and_a_version() {
        let parse = |client: &str, version: &str| {
            let text = format!(r#"{{"op":"hello","client":{client},"version":{version},"ref":1}}"#);
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Hello { client, version, reference: Some("1") }) => {
                    Ok((client.into_owned(), version.into_owned()))
                }
                Err(Problem { code: ErrorCode::BadRequest, sentence, reference: Some("1") }) => {
                    Err(sentence)
                }
                other => panic!("{other:?}"),
            }
        };
        let quoted = |text: &str| format!("\"{text}\"");
        let (id, version) = ("AZaz09-_AZaz09-_", "1.0_a+b-c");
        let good = Ok((id.into(), version.into()));
        assert_eq!(parse(&quoted(id), &quoted(version)), good);
        assert_eq!(parse(&quoted(r"\u0041Zaz09-_AZaz09-_"), &quoted(version)), good);
        for length in [16, 64] {
            let id = "x".repeat(length);
            assert_eq!(parse(&quoted(&id), "\"1\""), Ok((id, "1".into())));
        }
        assert!(parse(&quoted(id), &quoted(&"9".repeat(64))).is_ok());
        let (short, long, other) = ("x".repeat(15), "x".repeat(65), "ü".repeat(8));
        let bad = ["", &short, &long, "AZaz09-_AZaz09-=", &other];
        for id in bad.map(quoted).iter().map(String::as_str).chain(["null", "[]", "1"]) {
            assert_eq!(parse(id, "\"1\""), Err(NO_CLIENT_ID), "{id}");
        }
        for version in ["", " ", "1/2", "ü", &"9".repeat(65)].map(quoted) {
            assert_eq!(parse(&quoted(id), &version), Err(NO_VERSION), "{version}");
        }
        assert_eq!(parse(&quoted(id), "2"), Err(NO_VERSION));
    }

    #[test]
    fn a_problem_repeats_the_reference_it_could_read() {
        let problem = ClientMessage::parse(r#"{"op":"x","ref":{"n": 1}}"#).unwrap_err();
        assert_eq!(
            ServerMessage::from(problem).encode(),
            r#"{"op":"error","code":"unknown_op","message":"there is no such op","ref":{"n": 1}}"#
        );
    }

    /// FAULTS 177: an error has the `ref` that was sent, even if nothing else was understood.
    #[test]
    fn a_problem_repeats_the_reference_of_what_could_not_be_read() {
        let deep = "[".repeat(101) + &"]".repeat(101);
        for text in [
            r#"{"ref":7,"#.into(),
            r#"{"op":"publish","topic":"t","data":NaN,"ref":7}"#.into(),
            format!(r#"{{"op":"publish","topic":"t","data":{deep},"ref":7}}"#),
            r#"{"op":"ping","ref":7}}"#.into(),
            r#"{"op":1,"ref":7}"#.into(),
            r#"{"op":"subscribe","topic":null,"ref":7}"#.into(),
            r#"{"op":"subscribe","topic":"t","after":1,"ref":7}"#.into(),
        ] {
            let text: String = text;
            let problem = ClientMessage::parse(&text).unwrap_err();
            assert_eq!(problem.reference, Some("7"), "{text}");
        }
    }

    #[test]
    fn a_member_is_found_in_what_is_broken_elsewhere() {
        let deep = "[".repeat(json::DEPTH_MAX as usize + 1);
        let closed = deep.clone() + &"]".repeat(json::DEPTH_MAX as usize + 1);
        for (text, found) in [
            // Behind what is no value, before it, around it.
            (r#"{"data":NaN,"ref":7}"#.into(), Some("7")),
            (r#"{"ref":7,"data":NaN}"#.into(), Some("7")),
            (r#"{"data":'a',"ref":7}"#.into(), Some("7")),
            (r#"{"data":"\x","ref":7}"#.into(), Some("7")),
            (r#"{"data":"\ü\","ref":7}"#.into(), None),
            ("{\"data\":\"a\nb\",\"ref\":7}".into(), Some("7")),
            (r#"{"data":[1,,{]},"ref":{"a":[1]}}"#.into(), Some(r#"{"a":[1]}"#)),
            (format!(r#"{{"data":{closed},"ref":"a\"b"}}"#), Some(r#""a\"b""#)),
            (format!(r#"{{"ref":7,"data":{deep}"#), Some("7")),
            (format!(r#"{{"ref":{closed},"data":1}}"#), None),
            // Cut short.
            (r#" {"ref" : [ 1 ] ,"op":"#.into(), Some("[ 1 ]")),
            (r#"{"ref":1"#.into(), None),
            (r#"{"ref":"a"#.into(), None),
            (r#"{"ref":"#.into(), None),
            (r#"{"ref"#.into(), None),
            (r#"{""#.into(), None),
            ("{".into(), None),
            ("".into(), None),
            // Followed by something.
            (r#"{"ref":7}}"#.into(), Some("7")),
            (r#"{"ref":7} {"ref":8}"#.into(), Some("7")),
            (r#"{"ref":7;"op":"ping"}"#.into(), None),
            (r#"{"ref":07,"op":"ping"}"#.into(), None),
            // The last one counts; those inside of values are others.
            (r#"{"ref":1,"ref":2,"ref":x,"data":{"ref":3}]"#.into(), Some("2")),
            (r#"{"ref":"ref":8,"#.into(), Some("8")),
            (r#"{"data":"ref","op":["ref",1]}}"#.into(), None),
            (r#"[{"ref":7}}"#.into(), None),
            (r#""ref":7,"#.into(), None),
        ] {
            let text: String = text;
            assert_eq!(ClientMessage::parse(&text).unwrap_err().reference, found, "{text}");
        }
    }

    /// Wherever it is cut, what has been read of a message is what is read of it at once.
    #[test]
    fn a_message_is_read_as_it_comes() {
        for text in [
            r#" { "op" : "publish" ,"topic":"t", "data" : [1, {"data": "x"}] , "ref":-1.5e3} "#,
            r#"{"data":"a\"b\\c\u00fc\ud83d\ude00\ud83d\n\ud83d","op":"publish","topic":"\u00fc"}"#,
            r#"{"data":"\u0041","data":"\u0042\u0043","topic":"t","op":"publish"}"#,
            r#"{"data":"\u0041","data":["\u0042"],"topic":"t","op":"publish"}"#,
            r#"{"data":"ü😀 plain","topic":"t","op":"publish","x":"\u0043"}"#,
            r#"{"data":"\x","ref":"a\n" ,"op"}"#,
            r#"{"ref":"ref" : 8 ,"#,
            r#"{"data":[[[}}}"#,
        ] {
            let parsed = ClientMessage::parse(text);
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                for step in [1, 7, 100] {
                    let mut reading = Reading::default();
                    let ends = (cut..text.len()).step_by(step).chain([text.len()]);
                    ends.filter(|end| text.is_char_boundary(*end))
                        .for_each(|end| reading.go_on(&text[..end]));
                    assert_eq!(reading.at(), text.len(), "{text}");
                    assert_eq!(reading.finish(text), parsed, "{text} from {cut} by {step}");
                }
            }
        }
    }

    /// FAULTS 177: `"party 🎉".slice(0, 7)` is a string in JavaScript.
    #[test]
    fn half_a_surrogate_pair_is_taken() {
        let text = r#"{"op":"publish","topic":"t","data":"party \ud83c","ref":"\udf89"}"#;
        let message = ClientMessage::Publish {
            topic: "t".into(),
            data: Published::Text("party \u{fffd}".into()),
            trace: None,
            reference: Some(r#""\udf89""#),
        };
        assert_eq!(ClientMessage::parse(text), Ok(message));
        let text = r#"{"op":"publish","topic":"t","data":["party \ud83c"]}"#;
        let json = published(Published::Json(r#"["party \ud83c"]"#));
        assert_eq!(ClientMessage::parse(text), Ok(json));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_where_it_gets_too_deep() {
        for endless in ["[", "{\"data\":", "[[],", "[{\"a\":"] {
            let flood = endless.repeat((1 << 20) / endless.len());
            for text in [format!(r#"{{"op":"publish","topic":"t","data":{flood}"#), flood] {
                let problem = ClientMessage::parse(&text).unwrap_err();
                let sentence = match text.starts_with('{') {
                    true => TOO_DEEP,
                    false => "a message is one JSON object",
                };
                assert_eq!((problem.code, problem.sentence), (ErrorCode::BadRequest, sentence));
            }
        }
    }

    #[test]
    fn messages_of_the_server_are_written() {
        let (topic, id) = ("t", "7-0");
        for (message, text) in [
            (
                ServerMessage::Hello {
                    connection: "9",
                    heartbeat_ms: 30_000,
                    read_idle_ms: 0,
                    message_bytes: 1 << 20,
                },
                concat!(
                    r#"{"op":"hello","connection":"9","heartbeat_ms":30000,"#,
                    r#""read_idle_ms":0,"message_bytes":1048576}"#
                ),
            ),
            (
                ServerMessage::Subscribed { topic, last: id },
                r#"{"op":"subscribed","topic":"t","last":"7-0"}"#,
            ),
            (ServerMessage::Unsubscribed { topic }, r#"{"op":"unsubscribed","topic":"t"}"#),
            (ServerMessage::Gap { topic, first: None }, r#"{"op":"gap","topic":"t","first":null}"#),
            (
                ServerMessage::Gap { topic, first: Some(id) },
                r#"{"op":"gap","topic":"t","first":"7-0"}"#,
            ),
            (
                ServerMessage::Published { reference: Some("[1]"), id: Some(id) },
                r#"{"op":"published","ref":[1],"id":"7-0"}"#,
            ),
            (
                ServerMessage::Published { reference: None, id: Some(id) },
                r#"{"op":"published","id":"7-0"}"#,
            ),
            (
                ServerMessage::Published { reference: None, id: None },
                r#"{"op":"published","id":null}"#,
            ),
            (ServerMessage::Pong { reference: None }, r#"{"op":"pong"}"#),
            (ServerMessage::Pong { reference: Some("null") }, r#"{"op":"pong","ref":null}"#),
            (
                ServerMessage::Error {
                    code: ErrorCode::Limit,
                    sentence: "a \"b\"",
                    reference: Some("1"),
                },
                r#"{"op":"error","code":"limit","message":"a \"b\"","ref":1}"#,
            ),
            (
                ServerMessage::Error {
                    code: ErrorCode::Forbidden,
                    sentence: "no",
                    reference: None,
                },
                r#"{"op":"error","code":"forbidden","message":"no"}"#,
            ),
            (ServerMessage::Pressure { level: 3 }, r#"{"op":"pressure","level":3}"#),
            (ServerMessage::Goaway { retry_ms: 0 }, r#"{"op":"goaway","retry_ms":0}"#),
        ] {
            assert_eq!(message.encode(), text);
        }
    }

    #[test]
    fn payloads_take_the_form_of_their_kind() {
        let payloads = [
            (Payload::Text("[1]\n\"\0"), r#""data":"[1]\n\"\u0000""#),
            (Payload::Json("[1, 2]"), r#""data":[1, 2]"#),
            (Payload::Binary(b"\xff\xfe\xfd\0"), r#""base64":"//79AA==""#),
            (Payload::Binary(b""), r#""base64":"""#),
        ];
        for (payload, member) in payloads {
            let event = ServerMessage::Event { topic: "t", id: "7-0", payload, trace: None };
            let expected = format!(r#"{{"op":"event","topic":"t","id":"7-0",{member}}}"#);
            assert_eq!(event.encode(), expected);
            let row = row_around("7-0", payload).encode(payload.as_bytes());
            assert_eq!(row, format!(r#"{{"id":"7-0",{member}}}"#).into_bytes());
        }
    }
}
