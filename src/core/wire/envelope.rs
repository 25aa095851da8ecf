//! The messages of `/ws`: many topics on one WebSocket, as JSON text.
//!
//! [`ClientMessage::parse`] reads what clients send, [`ServerMessage::encode`] writes what they
//! get. It is pure: the caller judges whether a topic's name is good, an id is known or a client
//! may publish. Published JSON is passed on as it came, never encoded again: numbers keep their
//! digits, objects keep the order of their members and their blanks.

use std::borrow::Cow;
use std::fmt;

use crate::core::ground::json::{self, JsonError, Object};
use crate::core::wire::encoded::{Around, Coding};
use crate::core::wire::payload::Payload;

/// A message of a client, borrowed from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
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
        let members = Members::read(text).map_err(|error| {
            Problem::unreadable(
                text,
                match error {
                    JsonError::Syntax => "a message is one JSON object",
                    JsonError::TooDeep => TOO_DEEP,
                },
            )
        })?;
        members.interpret().map_err(|(code, sentence)| Problem {
            code,
            sentence,
            reference: members.reference,
        })
    }
}

/// What a client publishes: a JSON string is text, anything else is kept as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published<'a> {
    /// The content of the string.
    Text(Cow<'a, str>),
    /// The JSON value, raw.
    Json(&'a str),
}

impl Published<'_> {
    /// Returns it as the payload of an event.
    pub fn payload(&self) -> Payload<'_> {
        match self {
            Published::Text(text) => Payload::Text(text),
            Published::Json(json) => Payload::Json(json),
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

impl<'a> Problem<'a> {
    /// A message that cannot be understood: its `ref` is repeated if it can be found.
    pub(crate) fn unreadable(text: &'a str, sentence: &'static str) -> Problem<'a> {
        let reference = json::recover_member(text, "ref");
        Problem { code: ErrorCode::BadRequest, sentence, reference }
    }
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
}

impl ErrorCode {
    /// Returns the code as it stands in the message.
    pub const fn label(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::UnknownOp => "unknown_op",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::Limit => "limit",
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
    },
    /// Events were lost for this client.
    Gap {
        /// The topic.
        topic: &'a str,
        /// The first event that follows, if there is one yet.
        first: Option<&'a str>,
    },
    /// The client's event was published.
    Published {
        /// The client's `ref`: JSON, raw.
        reference: Option<&'a str>,
        /// The event's id.
        id: &'a str,
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
        if let ServerMessage::Event { topic, id, payload } = *self {
            let text = event_around(topic, id, payload).encode(payload.as_bytes());
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
                with_reference(op("published"), reference).string("id", id)
            }
            ServerMessage::Pong { reference } => with_reference(op("pong"), reference),
            ServerMessage::Error { code, sentence, reference } => {
                let object = op("error").string("code", code.label()).string("message", sentence);
                with_reference(object, reference)
            }
            ServerMessage::Pressure { level } => op("pressure").number("level", level.into()),
            ServerMessage::Goaway { retry_ms } => op("goaway").number("retry_ms", retry_ms),
        }
        .end()
    }
}

/// Returns what stands around the payload of an event on `/ws`.
pub fn event_around(topic: &str, id: &str, payload: Payload) -> Around {
    let object = Object::new().string("op", "event").string("topic", topic).string("id", id);
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

/// The members that have a meaning, raw.
#[derive(Default)]
struct Members<'a> {
    op: Option<&'a str>,
    topic: Option<&'a str>,
    after: Option<&'a str>,
    data: Option<&'a str>,
    reference: Option<&'a str>,
}

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Members<'a>, JsonError> {
        let mut members = Members::default();
        json::members(text, |name, value| {
            let member = match &*name {
                "op" => &mut members.op,
                "topic" => &mut members.topic,
                "after" => &mut members.after,
                "data" => &mut members.data,
                "ref" => &mut members.reference,
                _ => return,
            };
            *member = Some(value);
        })?;
        Ok(members)
    }

    fn interpret(&self) -> Result<ClientMessage<'a>, (ErrorCode, &'static str)> {
        let bad = |sentence| (ErrorCode::BadRequest, sentence);
        let op = self.op.and_then(json::string).ok_or(bad("op is a string"))?;
        let topic = || self.topic.and_then(json::string).ok_or(bad("topic is a string"));
        match &*op {
            "subscribe" => {
                let after = self.after.filter(|after| *after != "null");
                let after = after.map(|after| json::string(after).ok_or(bad("after is an id")));
                let (after, reference) = (after.transpose()?, self.reference);
                Ok(ClientMessage::Subscribe { topic: topic()?, after, reference })
            }
            "unsubscribe" => Ok(ClientMessage::Unsubscribe { topic: topic()? }),
            "publish" => {
                let data = self.data.ok_or(bad("publish needs data"))?;
                let data = json::string(data).map_or(Published::Json(data), Published::Text);
                Ok(ClientMessage::Publish { topic: topic()?, data, reference: self.reference })
            }
            "ping" => Ok(ClientMessage::Ping { reference: self.reference }),
            _ => Err((ErrorCode::UnknownOp, "there is no such op")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(data: Published<'static>) -> ClientMessage<'static> {
        ClientMessage::Publish { topic: "t".into(), data, reference: None }
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
            let event =
                ServerMessage::Event { topic: "t", id: "7-0", payload: Payload::Json(json) };
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
            (r#"{"op":"hello"}"#, UnknownOp, "there is no such op"),
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

    /// FAULTS 177: `"party 🎉".slice(0, 7)` is a string in JavaScript.
    #[test]
    fn half_a_surrogate_pair_is_taken() {
        let text = r#"{"op":"publish","topic":"t","data":"party \ud83c","ref":"\udf89"}"#;
        let message = ClientMessage::Publish {
            topic: "t".into(),
            data: Published::Text("party \u{fffd}".into()),
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
                ServerMessage::Published { reference: Some("[1]"), id },
                r#"{"op":"published","ref":[1],"id":"7-0"}"#,
            ),
            (ServerMessage::Published { reference: None, id }, r#"{"op":"published","id":"7-0"}"#),
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
            let event = ServerMessage::Event { topic: "t", id: "7-0", payload };
            let expected = format!(r#"{{"op":"event","topic":"t","id":"7-0",{member}}}"#);
            assert_eq!(event.encode(), expected);
            let row = row_around("7-0", payload).encode(payload.as_bytes());
            assert_eq!(row, format!(r#"{{"id":"7-0",{member}}}"#).into_bytes());
        }
    }
}
