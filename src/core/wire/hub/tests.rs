//! The messages of `/ws` in JSON, one by one.

use super::reading::TOO_DEEP;
use super::*;
use crate::core::ground::json;

fn published(data: Published<'static>) -> ClientMessage<'static> {
    ClientMessage::Publish { topic: "t".into(), data, trace: None, reference: None }
}

#[test]
fn messages_of_clients_are_read() {
    let subscribe = |after: Option<&'static str>| ClientMessage::Subscribe {
        #[cfg(feature = "presence")]
        info: None,
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
    let text = r#"{"op":1,"x":{"op":"a"},"Op":"b","topic":[],"\u006fp":"ping","ref":1,"ref":2}"#;
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
        (ServerMessage::Published { reference: None, id: None }, r#"{"op":"published","id":null}"#),
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
            ServerMessage::Error { code: ErrorCode::Forbidden, sentence: "no", reference: None },
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
