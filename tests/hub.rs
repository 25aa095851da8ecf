//! JSON in and out against an independent parser, tinyjson.
//!
//! Random values, whole and with a byte or two changed, must be taken exactly if the other takes
//! them, and be given as the slice they came as; random client messages must mean what they were
//! made of, and what the server writes must read back as it was meant.
//!
//! `SEED=` runs one random round, `ROUNDS=` sets how many there are.

#[path = "common/rng.rs"]
mod rng;
#[path = "common/surrogates.rs"]
mod surrogates;

use std::collections::HashMap;
use std::env;
use std::ops::RangeInclusive;
use std::time::Instant;

use data_encoding::BASE64;
use heartwheel::core::ground::json;
use heartwheel::core::wire::hub::{ClientMessage, ErrorCode, Published, ServerMessage, row_around};
use heartwheel::core::wire::payload::Payload;
use tinyjson::JsonValue;

use rng::Rng;
use surrogates::mended;

fn rounds(round: fn(&mut Rng)) {
    let number = |name| env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDS").unwrap_or(20_000),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| round(&mut Rng::new(seed)));
        assert!(outcome.is_ok(), "SEED={seed}");
    }
}

fn any<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.below(of.len() as u64) as usize]
}

fn many(rng: &mut Rng, of: &[&str]) -> String {
    (0..rng.below(6)).map(|_| any(rng, of)).collect()
}

fn text(rng: &mut Rng) -> String {
    many(
        rng,
        &["", "a", "ü", "😀", "\"", "\\", "/", "\n", "\r", "\0", "\u{1f}", "\u{7f}", "{", "]"],
    )
}

/// A string as JSON, written otherwise than the server does.
fn quoted(rng: &mut Rng, text: &str) -> String {
    let mut raw = String::from("\"");
    for character in text.chars() {
        if rng.chance(30) || character < ' ' || "\"\\".contains(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                raw += &format!("\\u{unit:04x}");
            }
        } else {
            raw.push(character);
        }
    }
    raw + "\""
}

/// A word of as many characters, which may name a client or its version.
fn word(rng: &mut Rng, lengths: RangeInclusive<u64>) -> String {
    let length = lengths.start() + rng.below(lengths.end() - lengths.start() + 1);
    (0..length).map(|_| any(rng, &["a", "Z", "0", "-", "_"])).collect()
}

fn value(rng: &mut Rng, depth: u64) -> String {
    let blank = many(rng, &["", "", "", " ", "\t", "\r\n"]);
    let members = rng.below(4);
    let joined = |values: Vec<String>| values.join(",");
    let value = match rng.below(if depth == 0 { 3 } else { 5 }) {
        0 => any(rng, &["null", "true", "false", "0", "-0", "1", "-12.5", "1e5", "0.1E-2"]).into(),
        1 => quoted_text(rng),
        2 => {
            let inner = many(
                rng,
                &["a", "ü", "\\n", "\\/", "\\\\", "\\\"", "\\u00e4", "\\ud83d", "\\ude00"],
            );
            format!("\"{inner}\"")
        }
        3 => format!("[{blank}{}]", joined((0..members).map(|_| value(rng, depth - 1)).collect())),
        _ => {
            let mut member = |_| format!("{blank}{}:{}", quoted_text(rng), value(rng, depth - 1));
            format!("{{{}}}", joined((0..members).map(&mut member).collect()))
        }
    };
    format!("{blank}{value}{blank}")
}

fn quoted_text(rng: &mut Rng) -> String {
    let text = text(rng);
    quoted(rng, &text)
}

/// The one thing that the other parser takes for good and the grammar does not.
fn has_blank_in_escape(text: &str) -> bool {
    text.split("\\u").skip(1).any(|digits| digits.chars().take(4).any(|digit| digit <= ' '))
}

/// Has the other parser read a text. It refuses half a surrogate pair, which ours takes.
fn parse(text: &str) -> Option<JsonValue> {
    mended(text).parse().ok()
}

fn trimmed(raw: &str) -> &str {
    raw.trim_matches([' ', '\t', '\r', '\n'])
}

#[test]
fn a_text_is_json_if_the_other_parser_says_so() {
    rounds(|rng| {
        let good = value(rng, 3);
        assert_eq!(json::value(&good), Ok(trimmed(&good)));
        parse(&good).expect("the other parser takes what was made by the grammar");
        let mut characters: Vec<char> = good.chars().collect();
        for _ in 0..=rng.below(2) {
            let at = rng.below(characters.len() as u64) as usize;
            let other =
                any(rng, &["\"", "\\", "{", "}", "[", "]", ",", ":", "0", "e", "-", "u", "\n"]);
            match rng.below(3) {
                0 => drop(characters.remove(at)),
                1 => characters.insert(at, other.parse().unwrap()),
                _ => characters[at] = other.parse().unwrap(),
            }
            if characters.is_empty() {
                return;
            }
        }
        let changed: String = characters.into_iter().collect();
        if has_blank_in_escape(&changed) {
            return;
        }
        let other = parse(&changed);
        assert_eq!(json::value(&changed).is_ok(), other.is_some(), "{changed:?}: {other:?}");
    });
}

#[test]
fn messages_of_clients_mean_what_they_were_made_of() {
    rounds(|rng| {
        let (topic, after, data, reference) = (text(rng), text(rng), value(rng, 2), value(rng, 2));
        let op = any(rng, &["hello", "subscribe", "unsubscribe", "publish", "ping"]);
        let (client, version) = (word(rng, 16..=64), word(rng, 1..=64));
        let mut members = [
            ("op", quoted(rng, op)),
            ("topic", quoted(rng, &topic)),
            ("after", quoted(rng, &after)),
            ("data", data.clone()),
            ("ref", reference.clone()),
            ("client", quoted(rng, &client)),
            ("version", quoted(rng, &version)),
            ("unknown", value(rng, 2)),
        ];
        for at in (1..members.len()).rev() {
            members.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut member = |(name, value): &(&str, String)| format!("{} :{value}", quoted(rng, name));
        let message = members.iter().map(&mut member).collect::<Vec<_>>().join(",");
        let message = format!(" {{ {message} }}\n");
        let raw = trimmed(&reference);
        match ClientMessage::parse(&message).unwrap() {
            #[cfg(any(feature = "jwt", feature = "client"))]
            ClientMessage::Token { token, reference } => {
                panic!("{token} {reference:?} was not written")
            }
            #[cfg(feature = "presence")]
            ClientMessage::Presence { topic, reference } => {
                panic!("{topic} {reference:?} was not written")
            }
            ClientMessage::Hello { client: c, version: v, reference } => {
                assert_eq!((op, &*c, &*v), ("hello", &*client, &*version));
                assert_eq!(reference, Some(raw));
            }
            ClientMessage::Subscribe { topic: t, after: a, reference, .. } => {
                assert_eq!((op, &*t, a.as_deref()), ("subscribe", &*topic, Some(&*after)));
                assert_eq!(reference, Some(raw));
            }
            ClientMessage::Unsubscribe { topic: t } => {
                assert_eq!((op, &*t), ("unsubscribe", &*topic));
            }
            ClientMessage::Publish { topic: t, data: published, trace, reference } => {
                assert_eq!(trace, None);
                assert_eq!((op, &*t, reference), ("publish", &*topic, Some(raw)));
                match (published, parse(&data).unwrap()) {
                    (Published::Text(text), JsonValue::String(other)) => assert_eq!(text, other),
                    (Published::Json(json), other) => {
                        assert!(!other.is_string());
                        assert_eq!(json, trimmed(&data));
                    }
                    (text, other) => panic!("{text:?} is no {other:?}"),
                }
            }
            ClientMessage::Ping { reference } => assert_eq!((op, reference), ("ping", Some(raw))),
        }
    });
}

#[test]
fn messages_of_the_server_read_back_as_they_were_meant() {
    rounds(|rng| {
        let (topic, id, reference) = (text(rng), text(rng), value(rng, 2));
        let (data, raw) = (text(rng), value(rng, 2));
        let bytes: Vec<u8> = (0..rng.below(9)).map(|_| rng.below(256) as u8).collect();
        let payload = match rng.below(3) {
            0 => Payload::Text(&data),
            1 => Payload::Json(&raw),
            _ => Payload::Binary(&bytes),
        };
        let check = |object: &HashMap<String, JsonValue>| {
            assert_eq!(object["id"], id.clone().into());
            match payload {
                Payload::Text(_) => assert_eq!(object["data"], data.clone().into()),
                Payload::Json(_) => assert_eq!(object["data"], parse(&raw).unwrap()),
                Payload::Binary(_) => {
                    let base64: &String = object["base64"].get().unwrap();
                    assert_eq!(BASE64.decode(base64.as_bytes()).unwrap(), bytes);
                }
            }
        };
        let object = |message: ServerMessage| -> HashMap<String, JsonValue> {
            parse(&message.encode()).unwrap().try_into().unwrap()
        };
        let event = object(ServerMessage::Event { topic: &topic, id: &id, payload, trace: None });
        assert_eq!((event.len(), &event["topic"]), (4, &topic.clone().into()));
        check(&event);

        let error = ServerMessage::Error {
            code: ErrorCode::Limit,
            sentence: &data,
            reference: Some(&reference),
        };
        let error = object(error);
        assert_eq!((error.len(), &error["message"]), (4, &data.clone().into()));
        assert_eq!(error["ref"], parse(&reference).unwrap());

        let row = row_around(&id, payload).encode(payload.as_bytes());
        let row = parse(std::str::from_utf8(&row).expect("it is text")).unwrap();
        check(&row.try_into().unwrap());
    });
}

/// A reader that looked back or ahead from each byte would need hours for these.
#[test]
fn hostile_texts_take_linear_time() {
    let parts = [
        "[",
        "{\"a\":",
        "[],",
        "\\u",
        "\\ud800",
        "\\\"",
        "\"",
        "1",
        "a",
        " ",
        "{\"op\":1}",
        "\"ref\":",
        "\"ref\":[",
        "\"ref\":\"\\x\",",
    ];
    for part in parts {
        for head in ["", "[", "\"", "{\"op\":\"ping\",\"ref\":\"", "{\"\":[", "{\"op\":\"ping\","] {
            let text = format!("{head}{}", part.repeat((2 << 20) / part.len()));
            let begun = Instant::now();
            let _ = (json::value(&text).is_ok(), ClientMessage::parse(&text).is_ok());
            assert!(begun.elapsed().as_secs() < 10, "{head}{part}...");
        }
    }
}
