//! The messages of `/ws`: a text is taken exactly if another JSON reader takes it and it says what
//! a client may say, and means what the other reads; what is answered is JSON and repeats `ref`.

use std::collections::HashMap;

use heartwheel::core::ground::json;
use heartwheel::core::ground::trace::{BadTrace, Trace};
use heartwheel::core::wire::hub::{ClientMessage, ErrorCode, Published, ServerMessage};
use tinyjson::JsonValue;

#[path = "../common/surrogates.rs"]
mod surrogates;

use surrogates::mended;

type Object = HashMap<String, JsonValue>;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // The other reader recurses, and takes blanks for hexadecimal digits.
    if is_deep(text) || has_blank_in_escape(text) {
        let _ = (json::value(text).is_ok(), ClientMessage::parse(text).is_ok());
        return;
    }
    let other = parse(text);
    match (json::value(text), &other) {
        (Ok(value), Some(_)) => assert_eq!(value, text.trim_matches([' ', '\t', '\r', '\n'])),
        (Err(_), None) => {}
        (own, other) => panic!("{own:?} {other:?}"),
    }
    let object = other.and_then(|value| Object::try_from(value).ok());
    check(ClientMessage::parse(text), object.as_ref());
}

/// Has the other reader read a text. It refuses half a surrogate pair, which ours takes.
fn parse(text: &str) -> Option<JsonValue> {
    mended(text).parse().ok()
}

fn check(
    message: Result<ClientMessage, heartwheel::core::wire::hub::Problem>,
    object: Option<&Object>,
) {
    let member = |name: &str| object.and_then(|object| object.get(name));
    let string = |name: &str| member(name).and_then(|value| value.get::<String>().cloned());
    let op = string("op");
    let read = |raw: &str| parse(raw).expect("JSON");
    let reference_is = |raw: Option<&str>| assert_eq!(raw.map(read).as_ref(), member("ref"));
    let topic_is = |topic: &str| assert_eq!(Some(topic), string("topic").as_deref());
    let trace_is = |trace: Option<Result<Trace, BadTrace>>| match member("trace") {
        None => assert_eq!(trace, None),
        Some(value) if value.is_null() => assert_eq!(trace, None),
        Some(_) => {
            let text = string("trace").unwrap_or_default();
            assert_eq!(trace, Some(text.parse()));
        }
    };
    match message {
        Ok(ClientMessage::Subscribe {
            topic,
            after,
            #[cfg(feature = "presence")]
            info,
            reference,
        }) => {
            assert_eq!(op.as_deref(), Some("subscribe"));
            topic_is(&topic);
            reference_is(reference);
            assert_eq!(after.as_deref(), string("after").as_deref());
            #[cfg(feature = "presence")]
            assert_eq!(info.as_deref(), string("info").as_deref());
        }
        #[cfg(feature = "presence")]
        Ok(ClientMessage::Presence { topic, reference }) => {
            assert_eq!(op.as_deref(), Some("presence"));
            topic_is(&topic);
            reference_is(reference);
        }
        Ok(ClientMessage::Unsubscribe { topic }) => {
            assert_eq!(op.as_deref(), Some("unsubscribe"));
            topic_is(&topic);
        }
        Ok(ClientMessage::Publish { topic, data, trace, reference }) => {
            trace_is(trace);
            assert_eq!(op.as_deref(), Some("publish"));
            topic_is(&topic);
            reference_is(reference);
            match data {
                Published::Text(text) => assert_eq!(Some(&*text), string("data").as_deref()),
                Published::Binary(bytes) => panic!("JSON bears no bytes: {bytes:?}"),
                Published::Json(raw) => {
                    assert!(string("data").is_none());
                    assert_eq!(parse(raw).as_ref(), member("data"));
                }
            }
        }
        Ok(ClientMessage::Hello { client, version, reference }) => {
            assert_eq!(op.as_deref(), Some("hello"));
            reference_is(reference);
            assert_eq!(Some(&*client), string("client").as_deref());
            assert_eq!(Some(&*version), string("version").as_deref());
            assert!(is_word(&client, 16, "-_") && is_word(&version, 1, "._+-"));
        }
        #[cfg(any(feature = "jwt", feature = "client"))]
        Ok(ClientMessage::Token { token, reference }) => {
            assert_eq!(op.as_deref(), Some("token"));
            reference_is(reference);
            assert_eq!(Some(&*token), string("token").as_deref());
        }
        Ok(ClientMessage::Ping { reference }) => {
            assert_eq!(op.as_deref(), Some("ping"));
            reference_is(reference);
        }
        Err(problem) => {
            let is_hello = op.as_deref() == Some("hello");
            let client = string("client").is_some_and(|client| is_word(&client, 16, "-_"));
            let version = string("version").is_some_and(|version| is_word(&version, 1, "._+-"));
            assert!(!(is_hello && client && version), "{problem:?}");
            let known = ["subscribe", "unsubscribe", "publish", "ping", "presence"];
            let known = &known[..known.len() - usize::from(!cfg!(feature = "presence"))];
            let is_token =
                cfg!(any(feature = "jwt", feature = "client")) && op.as_deref() == Some("token");
            assert!(!(is_token && string("token").is_some()), "{problem:?}");
            let is_known = op.as_deref().is_some_and(|op| known.contains(&op));
            let is_unknown = op.is_some() && !is_known && !is_hello && !is_token;
            assert!(problem.code != ErrorCode::UnknownOp || is_unknown);
            let is_whole = string("topic").is_some() && member("data").is_some();
            let has_good_after =
                member("after").is_none_or(|after| after.is_string() || after.is_null());
            let has_good_info = !cfg!(feature = "presence")
                || member("info").is_none_or(|info| info.is_null())
                || string("info")
                    .is_some_and(|info| info.len() <= 256 && !info.contains(char::is_control));
            assert!(!(is_known && is_whole && has_good_after && has_good_info), "{problem:?}");
            // What is no object may bear a `ref` that could be found all the same.
            let reference = problem.reference;
            if object.is_some() {
                reference_is(reference);
            }
            let answer = read(&ServerMessage::from(problem).encode());
            let said = answer.get::<Object>().and_then(|answer| answer.get("ref"));
            assert_eq!(said, reference.map(read).as_ref());
        }
    }
}

fn is_word(text: &str, least: usize, others: &str) -> bool {
    (least..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn is_deep(text: &str) -> bool {
    text.bytes().filter(|byte| b"[{".contains(byte)).count() >= json::DEPTH_MAX as usize
}

fn has_blank_in_escape(text: &str) -> bool {
    text.split("\\u").skip(1).any(|digits| digits.chars().take(4).any(|digit| digit <= ' '))
}
