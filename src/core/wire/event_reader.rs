//! Event streams, read as their bytes come: what a client reads.
//!
//! It reads them as the HTML standard of the WHATWG says (9.2.5, 9.2.6): lines end in LF, CR or
//! CRLF, bytes that are no UTF-8 become U+FFFD, one byte order mark at the beginning is skipped, an
//! event without data is none, an id with NUL and fields of other names are ignored. Two things are
//! added: a limit, and that an id which no request can bear is an error, since the stream could not
//! be resumed from there.

use std::fmt;

use tungstenite::Utf8Bytes;

use super::http::is_field_value;

/// An event of an event stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamEvent {
    /// Its name: `message` where the server gave none.
    pub name: String,
    /// Its data: the `data` lines, joined by LF.
    pub data: String,
    /// The last id that the server has given, with this event or before; empty before the first.
    /// Events with the same one share it.
    pub id: Utf8Bytes,
}

/// Reads one event stream. At rest it holds its last id alone.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    is_behind_cr: bool,
    /// A first line has ended: no byte order mark may follow.
    has_begun: bool,
    /// It was idle behind a line: see [`EventReader::take_rest`].
    has_rested: bool,
    name: String,
    data: String,
    /// What the next empty line makes the last id.
    id: Option<Utf8Bytes>,
    last_id: Option<Utf8Bytes>,
    retry_ms: Option<u64>,
}

impl EventReader {
    /// Makes a reader of a stream that goes on behind this id, if there was one.
    pub fn after(last_id: Option<Utf8Bytes>) -> EventReader {
        let id = last_id.clone();
        EventReader { id, last_id, ..EventReader::default() }
    }

    /// Takes bytes from the front of `input`. Returns how many were used, and the next event once
    /// it is complete; without an event all were used. A line has at most `most` bytes, and so have
    /// the data of an event, and its name.
    ///
    /// # Errors
    ///
    /// See [`EventError`]. Nothing more can be read of the stream then.
    pub fn read(
        &mut self,
        input: &[u8],
        most: u64,
    ) -> Result<(usize, Option<StreamEvent>), EventError> {
        let mut used = 0;
        while used < input.len() {
            if std::mem::take(&mut self.is_behind_cr) && input[used] == b'\n' {
                used += 1;
                continue;
            }
            let rest = &input[used..];
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &rest[..end.unwrap_or(rest.len())];
            if (self.line.len() + piece.len()) as u64 > most {
                return Err(EventError::TooLong);
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.is_behind_cr = rest[end] == b'\r';
            used += end + 1;
            let event = self.end_line(most)?;
            self.has_rested |= self.is_idle();
            if event.is_some() {
                return Ok((used, event));
            }
        }
        Ok((input.len(), None))
    }

    /// Returns the id of the last event, which the next request names; `None` before the server has
    /// given any, empty where it has taken it back.
    pub fn last_id(&self) -> Option<&Utf8Bytes> {
        self.last_id.as_ref()
    }

    /// Returns how long the server wants clients to wait before they come back, if it has said so.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Returns whether no part of an event has come that is not complete.
    pub fn is_idle(&self) -> bool {
        let is_between_lines = self.line.is_empty();
        let is_between_events = self.data.is_empty() && self.name.is_empty();
        is_between_lines && is_between_events && self.id == self.last_id
    }

    /// Returns whether the reader was idle behind any line since this was asked last: what has come
    /// in part since then has begun since then.
    pub fn take_rest(&mut self) -> bool {
        std::mem::take(&mut self.has_rested)
    }

    fn end_line(&mut self, most: u64) -> Result<Option<StreamEvent>, EventError> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = match std::mem::replace(&mut self.has_begun, true) {
            true => &line,
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
        };
        if line.is_empty() {
            return Ok(self.end_event());
        }
        // A line that begins with a colon is a comment: a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // Bytes that are no UTF-8 have become longer.
            "event" if value.len() as u64 > most => return Err(EventError::TooLong),
            "event" => self.name = value.to_owned(),
            "data" if (self.data.len() + value.len()) as u64 > most => {
                return Err(EventError::TooLong);
            }
            "data" => self.data.extend([value, "\n"]),
            "id" if value.contains('\0') => {}
            "id" if value.len() > ID_BYTES_MAX || !is_field_value(value.as_bytes()) => {
                return Err(EventError::Id);
            }
            "id" => self.id = Some(value.into()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<StreamEvent> {
        if self.last_id != self.id {
            self.last_id = self.id.clone();
        }
        let mut data = std::mem::take(&mut self.data);
        let mut name = std::mem::take(&mut self.name);
        // Each line of data leaves a line feed.
        data.pop()?;
        if name.is_empty() {
            name.push_str("message");
        }
        Some(StreamEvent { name, data, id: self.last_id.clone().unwrap_or_default() })
    }
}

/// Why an event stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// A line, or the data or the name of an event, is longer than the limit.
    TooLong,
    /// An id has control characters, or more than 1 KiB.
    Id,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventError::TooLong => "an event is too long",
            EventError::Id => "an id cannot stand in a request",
        })
    }
}

impl std::error::Error for EventError {}

/// Of an id: it goes out in a header line.
const ID_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<(Vec<StreamEvent>, Option<Utf8Bytes>, Option<u64>), EventError>;

    fn read_in(bytes: &[u8], pieces: &[usize], most: u64) -> Read {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        let (mut rest, mut pieces) = (bytes, pieces.iter());
        while !rest.is_empty() {
            let len = pieces.next().copied().unwrap_or(rest.len()).min(rest.len());
            let (mut piece, left) = rest.split_at(len);
            rest = left;
            while !piece.is_empty() {
                let (used, event) = reader.read(piece, most)?;
                piece = &piece[used..];
                events.extend(event);
            }
        }
        Ok((events, reader.last_id().cloned(), reader.retry_ms()))
    }

    /// Reads a stream whole, byte by byte, and cut anywhere, and expects the same.
    fn read(bytes: &[u8]) -> Read {
        let whole = read_in(bytes, &[], 20);
        assert_eq!(read_in(bytes, &vec![1; bytes.len()], 20), whole);
        for cut in 0..bytes.len() {
            assert_eq!(read_in(bytes, &[cut], 20), whole, "{} at {cut}", bytes.escape_ascii());
        }
        whole
    }

    fn events(bytes: &[u8]) -> Vec<(String, String, String)> {
        let (events, _, _) = read(bytes).unwrap();
        events.into_iter().map(|event| (event.name, event.data, event.id.to_string())).collect()
    }

    #[test]
    fn it_is_idle_where_nothing_is_left_to_complete() {
        for (text, is_idle, has_rested) in [
            ("", true, false),
            (":", false, false),
            (":\n", true, true),
            (":\n:", false, true),
            ("data: x\n", false, false),
            ("data: x\n:\n", false, false),
            ("event: x\n:\n", false, false),
            ("event: x\nevent\n", true, true),
            ("id: 1\n:\n", false, false),
            ("id: 1\n\nid: 1\n", true, true),
            ("event: x\n\n:", false, true),
        ] {
            let mut reader = EventReader::default();
            reader.read(text.as_bytes(), 20).unwrap();
            assert_eq!((reader.is_idle(), reader.take_rest()), (is_idle, has_rested), "{text:?}");
            assert!(!reader.take_rest());
        }
    }

    // The first of them are the examples of the standard, 9.2.6.
    #[test]
    fn streams_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", "")][..]),
            (
                ": test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n",
                &[("message", "first", "1"), ("message", "second", ""), ("message", " third", "")],
            ),
            ("data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]),
            ("data:test\n\ndata: test\n\n", &[("message", "test", ""), ("message", "test", "")]),
            (
                "data: a\r\rdata: b\r\n\r\ndata: c\n\r",
                &[("message", "a", ""), ("message", "b", ""), ("message", "c", "")],
            ),
            ("event: x\ndata: a\n\ndata: b\n\n", &[("x", "a", ""), ("message", "b", "")]),
            ("event: x\n\ndata: b\n\n", &[("message", "b", "")]),
            ("event: x\nevent: y\nevent\ndata: b\n\n", &[("message", "b", "")]),
            ("id: 1\n\ndata: b\n\n", &[("message", "b", "1")]),
            ("id: 1\nid: 2\0\ndata: b\n\n", &[("message", "b", "1")]),
            ("\u{feff}data: b\n\n\u{feff}data: c\n\n", &[("message", "b", "")]),
            ("\u{feff}\u{feff}data: b\n\n", &[]),
            ("data : b\n\nData: b\n\n data: b\n\n", &[]),
            ("data: b", &[]),
            ("data: b\n", &[]),
            ("data: a:b\n\n:\n:data: c\n\n", &[("message", "a:b", "")]),
            ("", &[]),
        ] {
            let found = events(text.as_bytes());
            let found = found.iter().map(|(name, data, id)| (&**name, &**data, &**id));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{text:?}");
        }
        assert_eq!(events(b"data: \xffa\xe2\x82\n\n")[0].1, "\u{fffd}a\u{fffd}");
    }

    #[test]
    fn an_id_counts_from_the_empty_line_on_and_outlives_a_break() {
        for (text, last_id) in [
            ("id: 1\n\nid: 2\n", Some("1")),
            ("id: 1\n\nid\n\n", Some("")),
            ("data: x\n\nid: 2\n", None),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap().1.as_deref(), last_id, "{text:?}");
        }
        let mut reader = EventReader::after(Some("7-0".into()));
        let (_, event) = reader.read(b"data: x\n\n", 20).unwrap();
        let id = event.unwrap().id;
        assert_eq!((id.as_str(), reader.last_id()), ("7-0", Some(&id)));
        // The events of one id share it: many of them would not fit otherwise.
        let (_, event) = reader.read(b"data\n\n", 20).unwrap();
        assert_eq!(event.unwrap().id.as_str().as_ptr(), id.as_str().as_ptr());
    }

    #[test]
    fn a_wait_is_of_digits_alone() {
        for (text, ms) in [
            ("retry: 70\n", Some(70)),
            ("retry: 70\nretry: x\nretry: -1\nretry: 1.5\nretry\nretry:  3\n", Some(70)),
            ("retry: 999999999999\nretry", Some(999_999_999_999)),
            ("retry:+1\n", None),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap().2, ms, "{text:?}");
        }
        let long = format!("retry:{}\n", u128::MAX);
        assert_eq!(read_in(long.as_bytes(), &[], 100).unwrap().2, Some(u64::MAX));
    }

    #[test]
    fn lines_data_and_ids_have_limits() {
        use EventError::{Id, TooLong};
        for (text, error) in [
            ("data:0123456789abcdef", Some(TooLong)),
            ("data:0123456789abcde\n\n", None),
            (":0123456789abcdefghij", Some(TooLong)),
            ("data:0123456789\ndata:0123456789\n\n", Some(TooLong)),
            ("data:0123456789\ndata:012345678\n\n", None),
            ("data: a\n\nid: \u{1}\ndata: b\n\n", Some(Id)),
        ] {
            assert_eq!(read(text.as_bytes()).err(), error, "{text:?}");
        }
        let broken = [b"event:".as_slice(), &[0xff; 7], b"\n"].concat();
        assert_eq!(read(&broken).err(), Some(TooLong), "it has 21 bytes of UTF-8");
        assert_eq!(read_in(&broken, &[], 21).err(), None);
        for (len, is_taken) in [(1024, true), (1025, false)] {
            let text = format!("id: {}\n\n", "x".repeat(len));
            assert_eq!(read_in(text.as_bytes(), &[], 5000).is_ok(), is_taken);
        }
        let mut reader = EventReader::default();
        for _ in 0..1000 {
            reader.read(b": alive\n\nevent: x\ndata: x\n\n", 20).unwrap();
            assert!(reader.read(b"\n", 20).unwrap().1.is_none() && reader.is_idle());
        }
        assert_eq!(reader.line.capacity() + reader.data.capacity(), 0);
    }
}
