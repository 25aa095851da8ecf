//! Event streams against a reader written from the text of the WHATWG (HTML, 9.2.5 and 9.2.6).
//!
//! Random streams of all kinds of pieces, payloads full of line breaks, blanks, colons and whole
//! lines of the protocol, are cut anywhere, also within a character, and read piece by piece. The
//! reader must hand out what was encoded, with the ids it is to remember, and nothing else.
//!
//! `SEED=` runs one random stream, `ROUNDS=` sets how many there are.

#[path = "common/rng.rs"]
mod rng;

use std::env;

use data_encoding::BASE64;
use heartwheel::http::{HeadLimits, HeadReader};
use heartwheel::payload::Payload;
use heartwheel::sse;
use tinyjson::JsonValue;

use rng::Rng;

/// What a browser hands out.
#[derive(Clone, Debug, Default, PartialEq)]
struct Dispatched {
    event_type: String,
    data: String,
    last_event_id: String,
}

/// A reader, named as in the text.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    after_cr: bool,
    seen_a_line: bool,
    data: String,
    event_type: String,
    last_event_id_buffer: String,
    last_event_id: String,
    reconnection_time: Option<u64>,
    comments: usize,
    dispatched: Vec<Dispatched>,
}

impl Reader {
    /// Lines end in CRLF, LF or CR.
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' if self.after_cr => {}
                b'\n' | b'\r' => self.end_line(),
                _ => self.line.push(*byte),
            }
            self.after_cr = *byte == b'\r';
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8(std::mem::take(&mut self.line)).expect("a stream is UTF-8");
        let begun = std::mem::replace(&mut self.seen_a_line, true);
        let line = if begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        match line.split_once(':') {
            None if line.is_empty() => self.dispatch(),
            Some(("", _)) => self.comments += 1,
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => self.event_type = value.into(),
            "data" => self.data.extend([value, "\n"]),
            "id" if !value.contains('\0') => self.last_event_id_buffer = value.into(),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.reconnection_time = value.parse().ok();
            }
            _ => panic!("this server sends no such line: {field:?}: {value:?}"),
        }
    }

    fn dispatch(&mut self) {
        self.last_event_id = self.last_event_id_buffer.clone();
        let mut data = std::mem::take(&mut self.data);
        let event_type = std::mem::take(&mut self.event_type);
        if data.is_empty() {
            return;
        }
        assert_eq!(data.pop(), Some('\n'));
        let event_type = if event_type.is_empty() { "message".into() } else { event_type };
        let last_event_id = self.last_event_id.clone();
        self.dispatched.push(Dispatched { event_type, data, last_event_id });
    }
}

/// A stream and what a reader must make of it.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    last_event_id: String,
    retry_ms: Option<u64>,
    comments: usize,
    expected: Vec<Expected>,
}

struct Expected {
    event_type: String,
    data: Data,
    last_event_id: String,
}

enum Data {
    Text(String),
    Json(Vec<(&'static str, JsonValue)>),
    Base64(Vec<u8>),
    TopicBase64(String, Vec<u8>),
}

impl Stream {
    fn add(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0 => {
                self.retry_ms = Some(rng.next_u64() >> rng.below(64));
                self.bytes.extend(sse::retry(self.retry_ms.unwrap()));
            }
            1 => {
                self.comments += 1;
                self.bytes.extend(sse::comment());
            }
            2 => {
                self.last_event_id = field(rng);
                self.bytes.extend(sse::position(&self.last_event_id).unwrap());
            }
            3 => self.add_gap(rng),
            _ => self.add_event(rng),
        }
    }

    fn add_gap(&mut self, rng: &mut Rng) {
        let first = rng.chance(50).then(|| field(rng));
        let topic = rng.chance(50).then(|| text(rng));
        self.bytes.extend(sse::gap(topic.as_deref(), first.as_deref()));
        let data = match topic {
            None => Data::Text(first.unwrap_or_default()),
            Some(topic) => {
                let first = first.map_or(JsonValue::Null, JsonValue::String);
                Data::Json(vec![("topic", topic.into()), ("first", first)])
            }
        };
        self.expect("gap", data);
    }

    fn add_event(&mut self, rng: &mut Rng) {
        self.last_event_id = field(rng);
        let id = self.last_event_id.clone();
        let name = rng.chance(50).then(|| field(rng));
        let mut send = |payload| {
            self.bytes.extend(sse::event(&id, name.as_deref(), payload).unwrap());
        };
        if rng.chance(25) {
            let bytes: Vec<u8> = (0..rng.below(20)).map(|_| rng.below(256) as u8).collect();
            send(Payload::Binary(&bytes));
            let data = match name {
                None => Data::Base64(bytes),
                Some(topic) => Data::TopicBase64(topic, bytes),
            };
            return self.expect("binary", data);
        }
        let text = text(rng);
        send(if rng.chance(50) { Payload::Text(&text) } else { Payload::Json(&text) });
        let name = name.filter(|name| !name.is_empty());
        let data = text.replace("\r\n", "\n").replace('\r', "\n");
        self.expect(name.as_deref().unwrap_or("message"), Data::Text(data));
    }

    fn expect(&mut self, event_type: &str, data: Data) {
        let last_event_id = self.last_event_id.clone();
        self.expected.push(Expected { event_type: event_type.into(), data, last_event_id });
    }

    fn compare(&self, reader: &Reader) {
        assert_eq!(reader.dispatched.len(), self.expected.len());
        for (seen, expected) in reader.dispatched.iter().zip(&self.expected) {
            assert_eq!(seen.event_type, expected.event_type);
            assert_eq!(seen.last_event_id, expected.last_event_id);
            expected.data.compare(&seen.data);
        }
        assert_eq!(reader.last_event_id, self.last_event_id);
        assert_eq!(reader.reconnection_time, self.retry_ms);
        assert_eq!(reader.comments, self.comments);
        assert!(reader.line.is_empty() && reader.data.is_empty(), "the stream ends whole");
    }
}

impl Data {
    fn compare(&self, seen: &str) {
        let decode = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
        let string = |value: &JsonValue| value.get::<String>().unwrap().clone();
        match self {
            Data::Text(text) => assert_eq!(seen, text),
            Data::Base64(bytes) => assert_eq!(&decode(seen), bytes),
            Data::Json(members) => {
                let object: JsonValue = seen.parse().unwrap();
                for (name, value) in members {
                    assert_eq!(object[*name], *value);
                }
            }
            Data::TopicBase64(topic, bytes) => {
                let object: JsonValue = seen.parse().unwrap();
                assert_eq!(&string(&object["topic"]), topic);
                assert_eq!(&decode(&string(&object["base64"])), bytes);
            }
        }
    }
}

/// A text that tries to break lines.
fn text(rng: &mut Rng) -> String {
    const PARTS: &[&str] = &[
        "\r", "\n", "\r\n", "\n\n", " ", "  ", ":", ": ", "data: x", "id: 9", "event", "retry: 1",
        "a", "ü", "€", "😀", "\0", "\t", "\u{feff}", "\u{85}", "\u{2028}", "\"", "\\", "{}",
    ];
    let parts = rng.below(9);
    (0..parts).map(|_| PARTS[rng.below(PARTS.len() as u64) as usize]).collect()
}

/// An id or a name: one line without NUL.
fn field(rng: &mut Rng) -> String {
    text(rng).replace(['\r', '\n', '\0'], "")
}

#[test]
fn a_reader_gets_what_was_encoded() {
    let number = |name| env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDS").unwrap_or(3000),
    };
    for seed in seeds {
        let round = std::panic::catch_unwind(|| run(&mut Rng::new(seed)));
        assert!(round.is_ok(), "SEED={seed}");
    }
}

fn run(rng: &mut Rng) {
    let mut stream = Stream::default();
    for _ in 0..rng.below(20) {
        stream.add(rng);
    }
    let mut reader = Reader::default();
    let mut rest = &stream.bytes[..];
    let chunk_bytes_max = 1 + rng.below(40);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(1 + rng.below(chunk_bytes_max) as usize));
        reader.read(chunk);
        rest = after;
    }
    stream.compare(&reader);
}

/// The reader itself, by the examples of the text, so that it is no mirror of the encoder.
#[test]
fn the_reader_reads_the_examples_of_the_standard() {
    let dispatched = |stream: &str| {
        let mut reader = Reader::default();
        reader.read(stream.as_bytes());
        let dispatched = reader.dispatched.into_iter();
        dispatched.map(|e| (e.event_type, e.data, e.last_event_id)).collect::<Vec<_>>()
    };
    let expected = |events: &[(&str, &str, &str)]| {
        let owned = |(a, b, c): &(&str, &str, &str)| (a.to_string(), b.to_string(), c.to_string());
        events.iter().map(owned).collect::<Vec<_>>()
    };
    for (stream, events) in [
        ("data: YHOO\ndata: +2\r\ndata: 10\r\r", &[("message", "YHOO\n+2\n10", "")][..]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n\
             data:  third event\n\nlost",
            &[
                ("message", "first event", "1"),
                ("message", "second event", ""),
                ("message", " third event", ""),
            ],
        ),
        ("data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]),
        ("\u{feff}data:test\n\ndata: test\n\n", &[("message", "test", ""); 2]),
        (
            "event: add\ndata: 7\n\nid: 1\n\nevent: lost\n\ndata: 8\n\n",
            &[("add", "7", ""), ("message", "8", "1")],
        ),
    ] {
        assert_eq!(dispatched(stream), expected(events), "{stream:?}");
    }
}

#[test]
fn an_id_that_is_not_utf_8_is_not_taken_for_none() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7-0\xff\r\n\r\n";
    let (_, head) =
        HeadReader::default().read(head, &HeadLimits { head_bytes: 100, headers: 2 }).unwrap();
    let request = head.unwrap().request;
    assert_eq!(sse::last_event_id(&request).as_deref(), Some("7-0\u{fffd}"));
}
