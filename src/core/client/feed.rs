//! An open event stream, on the client's side.

use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::core::client::link::after;
use crate::core::client::rules::Rules;
use crate::core::client::why::Why;
use crate::core::ground::time::Instant;
use crate::core::wire::event_reader::{EventReader, StreamEvent};
use crate::core::wire::http::{BodyLength, BodyReader, ResponseError, ResponseHead};
use crate::core::wire::sse::CONTENT_TYPE;

/// Where a client of an event stream goes on, and when it may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The id of the last event: `None` before the server has given any, empty where it has taken
    /// it back.
    pub last_id: Option<Utf8Bytes>,
    /// For how long the server wants clients to stay away.
    pub retry: Duration,
}

/// An event stream that is read.
#[derive(Debug)]
pub(super) struct Feed {
    body: BodyReader,
    /// The connection's end is that of the stream.
    ends_with_connection: bool,
    reader: EventReader,
    heard_at: Instant,
    pub opened_at: Instant,
    /// It has held: this was told.
    pub is_stable: bool,
    /// Since when an event has come in part.
    begun_at: Option<Instant>,
    /// Since when nothing is read, because the application takes nothing.
    paused_at: Option<Instant>,
}

/// What is due on an open event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedDue {
    /// It has held.
    Stable,
    /// The end of all silence.
    Silent,
    /// An event has taken too long.
    Event,
}

impl Feed {
    /// Begins with an answer, if it is an event stream.
    pub fn new(
        now: Instant,
        head: &ResponseHead,
        resume: &Resume,
        rules: &Rules,
    ) -> Result<Feed, Why> {
        check(head)?;
        // A stream has no length of its own that could be too large.
        let body = BodyReader::new(head.body(), u64::MAX, &rules.head);
        let body = body.map_err(|refusal| Why::Answer(ResponseError::from(refusal).to_string()))?;
        Ok(Feed {
            body,
            ends_with_connection: head.body() == BodyLength::Close,
            reader: EventReader::after(resume.last_id.clone()),
            heard_at: now,
            opened_at: now,
            is_stable: false,
            begun_at: None,
            paused_at: None,
        })
    }

    /// Takes bytes, all of them, and tells the events in them.
    ///
    /// # Errors
    ///
    /// Why the stream has ended, in good order or not.
    pub fn receive(
        &mut self,
        now: Instant,
        input: &[u8],
        most: u64,
        tell: &mut impl FnMut(StreamEvent),
    ) -> Result<(), Why> {
        self.heard_at = now;
        let (bytes, end) = match self.body.read(input) {
            Ok((_, None)) => (self.body.take(), None),
            Ok((_, Some(last))) => (last.to_vec(), Some(Why::Ended)),
            // What came before the fault counts, however it was cut.
            Err(refusal) => {
                let error = ResponseError::from(refusal).to_string();
                (self.body.take(), Some(Why::Answer(error)))
            }
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let read = self.reader.read(rest, most);
            let (used, event) = read.map_err(|error| Why::Stream(error.to_string()))?;
            rest = &rest[used..];
            event.map(&mut *tell);
        }
        if self.reader.take_rest() {
            self.begun_at = None;
        }
        self.begun_at = match self.reader.is_idle() {
            true => None,
            false => self.begun_at.or(Some(now)),
        };
        end.map_or(Ok(()), Err)
    }

    /// Returns why it has ended when the connection has, in good order.
    pub fn close(&self) -> Why {
        match self.ends_with_connection {
            true => Why::Ended,
            false => Why::Lost("FIN inside the event stream".into()),
        }
    }

    /// Returns where to go on.
    pub fn resume(&self, before: &Resume) -> Resume {
        let retry = self.reader.retry_ms().map(Duration::from_millis);
        Resume { last_id: self.reader.last_id().cloned(), retry: retry.unwrap_or(before.retry) }
    }

    /// Begins or ends a pause of reading: the server is not judged for what is not read.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        match self.paused_at {
            None if is_paused => self.paused_at = Some(now),
            Some(_) if !is_paused => {
                self.paused_at = None;
                self.spare(now);
            }
            _ => {}
        }
    }

    /// Takes note that nothing could be read until now.
    pub fn spare(&mut self, now: Instant) {
        self.heard_at = now;
        self.begun_at = self.begun_at.map(|_| now);
    }

    /// Returns what is due next, and when; `None` in a pause of one that has held.
    pub fn due(&self, rules: &Rules) -> Option<(Instant, FeedDue)> {
        let is_paused = self.paused_at.is_some();
        let read_idle = rules.read_idle.unwrap_or(READ_IDLE);
        let all = [
            (!self.is_stable).then(|| (self.opened_at + rules.stable, FeedDue::Stable)),
            (!is_paused).then(|| (after(self.heard_at, read_idle), FeedDue::Silent)),
            self.begun_at
                .filter(|_| !is_paused)
                .map(|at| (after(at, rules.message), FeedDue::Event)),
        ];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Checks that an answer is an event stream.
fn check(head: &ResponseHead) -> Result<(), Why> {
    let header = |name| head.header(name).unwrap_or_default();
    let is_of = |value: &str, name: &str| value.trim().eq_ignore_ascii_case(name);
    let content_type = header("content-type");
    let encoding = header("content-encoding");
    let is_stream = is_of(content_type.split(';').next().unwrap_or_default(), CONTENT_TYPE);
    match head.status() {
        200 if !is_stream => Err(Why::Stream(format!("the type is {content_type:?}"))),
        200 if !(encoding.is_empty() || is_of(encoding, "identity")) => {
            Err(Why::Stream(format!("the encoding is {encoding:?}")))
        }
        200 => Ok(()),
        204 => Err(Why::Stream("the server has no events: status 204".into())),
        _ => Err(Why::status_of(head)),
    }
}

/// Where `deadlines.read_idle` is off: on an event stream there are no pings instead.
const READ_IDLE: Duration = Duration::from_secs(60);
