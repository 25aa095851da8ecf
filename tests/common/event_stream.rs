//! Event streams: a reader written from the text of the WHATWG (HTML, 9.2.5 and 9.2.6), and streams
//! that know what it must make of them.

use data_encoding::BASE64;
use heartwheel::core::wire::payload::Payload;
use heartwheel::core::wire::sse;
use tinyjson::JsonValue;

/// What a browser hands out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dispatched {
    pub event_type: String,
    pub data: String,
    pub last_event_id: String,
}

/// A reader, named as in the text.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    after_cr: bool,
    seen_a_line: bool,
    data: String,
    event_type: String,
    last_event_id_buffer: String,
    last_event_id: String,
    reconnection_time: Option<u64>,
    comments: usize,
    pub dispatched: Vec<Dispatched>,
}

impl Reader {
    /// Lines end in CRLF, LF or CR.
    pub fn read(&mut self, bytes: &[u8]) {
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
pub struct Stream {
    pub bytes: Vec<u8>,
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
    pub fn add_retry(&mut self, ms: u64) {
        self.retry_ms = Some(ms);
        self.bytes.extend(sse::retry(ms));
    }

    pub fn add_comment(&mut self) {
        self.comments += 1;
        self.bytes.extend(sse::comment());
    }

    pub fn add_position(&mut self, id: &str) {
        self.last_event_id = id.into();
        self.bytes.extend(sse::position(id).unwrap());
    }

    pub fn add_gap(&mut self, topic: Option<String>, first: Option<String>) {
        self.bytes.extend(sse::gap(topic.as_deref(), first.as_deref()));
        let data = match topic {
            None => Data::Text(lines(&first.unwrap_or_default())),
            Some(topic) => {
                let first = first.map_or(JsonValue::Null, JsonValue::String);
                Data::Json(vec![("topic", topic.into()), ("first", first)])
            }
        };
        self.expect("gap", data);
    }

    pub fn add_event(&mut self, id: &str, name: Option<&str>, payload: Payload) {
        self.last_event_id = id.into();
        self.bytes.extend(sse::event(id, name, payload).unwrap());
        match (payload, name) {
            (Payload::Binary(bytes), None) => self.expect("binary", Data::Base64(bytes.to_vec())),
            (Payload::Binary(bytes), Some(topic)) => {
                self.expect("binary", Data::TopicBase64(topic.into(), bytes.to_vec()));
            }
            (Payload::Text(text) | Payload::Json(text), _) => {
                let name = name.filter(|name| !name.is_empty()).unwrap_or("message");
                self.expect(name, Data::Text(lines(text)));
            }
        }
    }

    fn expect(&mut self, event_type: &str, data: Data) {
        let last_event_id = self.last_event_id.clone();
        self.expected.push(Expected { event_type: event_type.into(), data, last_event_id });
    }

    pub fn compare(&self, reader: &Reader) {
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

/// Gives a text as its reader joins its lines.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
