//! What the server says on one connection, held against the grammar: whole answers, then frames of
//! a server with nothing behind a close frame, or an event stream with ids that grow.

use super::super::chunked::{self, Unchunker};
use super::super::event_stream::Reader;
use super::super::witness::Witness;

#[derive(Debug, Default)]
pub struct Said {
    form: Form,
    pending: Vec<u8>,
    /// The last bytes of the peer that may be the beginning of `HEAD`.
    heard: Vec<u8>,
}

#[derive(Debug, Default)]
enum Form {
    #[default]
    Answers,
    /// The peer may have asked for an answer without its body, which cannot be told from others.
    Unknown,
    Frames(Witness),
    /// In chunks, but for HTTP/1.0.
    Events(Box<Reader>, Option<Unchunker>, Position),
}

/// The last event's id, as two numbers.
type Position = (u64, u64);

impl Said {
    /// Takes note of what the peer says.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        if matches!(self.form, Form::Answers) && self.heard.windows(4).any(|four| four == b"HEAD") {
            self.form = Form::Unknown;
        }
        let kept = self.heard.len().saturating_sub(3);
        self.heard.drain(..kept);
    }

    /// Takes what the server says.
    pub fn take(&mut self, bytes: &[u8]) {
        match &mut self.form {
            Form::Unknown => {}
            Form::Answers => {
                self.pending.extend_from_slice(bytes);
                while self.take_answer() {}
            }
            Form::Frames(witness) => drop(witness.take(bytes)),
            Form::Events(reader, chunks, position) => match chunks {
                Some(chunks) => read_events(reader, position, &chunks.take(bytes)),
                None => read_events(reader, position, bytes),
            },
        }
    }

    fn take_answer(&mut self) -> bool {
        let start = self.pending.len().min(9);
        assert_eq!(self.pending[..start], b"HTTP/1.1 "[..start], "an answer begins so");
        let end = self.pending.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|end| end + 4) else { return false };
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        assert!(head.parse(&self.pending[..end]).expect("a head is well-formed").is_complete());
        let value = |name: &str| {
            let header = head.headers.iter().find(|header| header.name == name);
            header.map(|header| std::str::from_utf8(header.value).expect("text"))
        };
        let length = value("Content-Length").map(|length| length.parse::<usize>().unwrap());
        let is_stream = value("Content-Type") == Some("text/event-stream");
        let is_chunked = value("Transfer-Encoding") == Some("chunked");
        let status = head.code.expect("a status");
        let body = match is_chunked && !is_stream {
            true => chunked::length(&self.pending[end..]),
            false => Some(length.unwrap_or_default()),
        };
        let Some(body_end) = body.map(|body| end + body) else { return false };
        if self.pending.len() < body_end {
            return false;
        }
        let rest = self.pending.split_off(body_end);
        if status == 101 {
            let mut witness = Witness::default();
            witness.take(&self.pending);
            self.form = Form::Frames(witness);
        } else if is_stream {
            self.form = Form::Events(Box::default(), is_chunked.then(Unchunker::default), (0, 0));
        } else {
            self.pending = rest;
            return !self.pending.is_empty();
        }
        self.pending = Vec::new();
        self.take(&rest);
        false
    }
}

/// Reads a stream; what is handed out with an id of its own has a greater one than all before.
fn read_events(reader: &mut Reader, position: &mut Position, bytes: &[u8]) {
    reader.read(bytes);
    for event in reader.dispatched.drain(..) {
        if event.event_type == "gap" {
            continue;
        }
        let (ms, seq) = event.last_event_id.split_once('-').expect("an id has two parts");
        let id = (ms.parse().expect("a number"), seq.parse().expect("a number"));
        assert!(id > *position, "ids grow: {id:?} behind {position:?}");
        *position = id;
    }
}
