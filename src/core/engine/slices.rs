//! Answers that may be long, in slices: the table of connections, and the history of a topic. The
//! next slice is made when the one before is with the kernel, and is charged to the turn. So an
//! answer takes the memory of one slice, however long it is and however slow its reader.

use crate::core::connection::Connection;
use crate::core::connection::http::{Answering, History, Listing, Pending, Rest};
use crate::core::engine::requests::begin_of_body;
use crate::core::engine::{End, Engine, feed, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::outbox::Kind;
use crate::core::topics::{After, Event};
use crate::core::wire::encoded::{Around, Coding, Encoded};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::HeaderLines;
use crate::core::wire::hub;

/// A piece of an answer.
struct Slice {
    text: Encoded,
    /// What follows it; nothing if it is the last.
    rest: Option<Rest>,
}

/// Events of a history were evicted before their reader had taken the earlier events.
struct Evicted;

impl Engine {
    /// Begins an answer in slices: in chunks, or, to HTTP/1.0, until the connection is closed.
    pub(super) fn begin_slices(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pending: &Pending,
        lines: &HeaderLines,
        rest: Rest,
    ) {
        let keep = pending.keep && !pending.is_http10;
        let begin = begin_of_body(CONTENT_TYPE, pending).headers(lines);
        self.push_answer(now, id, begin, pending);
        let listing = Listing { rest, is_chunked: !pending.is_http10 };
        let more = (!pending.head_only).then_some(listing);
        if let Some(connection) = self.get_mut(id) {
            let reason = CloseReason::Done;
            connection.begin_answer(now, Answering { keep, reason, more });
        }
    }

    /// Goes on with an answer whose last slice is with the kernel: makes the next slice, in a later
    /// turn if this turn's allowance is spent.
    pub(super) fn list_on(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if !connection.is_listing() {
            return;
        }
        if connection.sourced().is_some() {
            return self.pull(now, id);
        }
        connection.note_listing(now);
        if self.allowance.is_spent() {
            return self.mark_hungry(id);
        }
        self.allowance.charge_slice(SLICE_BYTES);
        let Some(listing) = connection.listing_mut() else { return };
        let is_chunked = listing.is_chunked;
        let slice = match &mut listing.rest {
            Rest::Table(place) => {
                let place = *place;
                let (text, place) = self.table_slice(now, place);
                Ok(Slice { text: whole(text), rest: place.map(Rest::Table) })
            }
            Rest::History(history) => {
                let history = std::mem::take(history);
                self.history_slice(now, history)
            }
            Rest::Source => return debug_assert!(false, "what has a source is pulled"),
        };
        let Ok(Slice { text, rest }) = slice else {
            self.stats.gaps += 1;
            // The missing end tells the client that the answer is incomplete.
            return self.finish(now, id, CloseReason::Overflow, End::Abort);
        };
        let text = if is_chunked { text.into_chunk(rest.is_none()) } else { text };
        self.push_frame(now, id, Frame::encoded(&[], text), Kind::Response);
        if let Some(connection) = self.get_mut(id) {
            connection.list_on(rest);
        }
        self.touch(id);
    }

    /// Returns whether the answer to a connection's request has more to come.
    pub(super) fn is_listing(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(Connection::is_listing)
    }

    /// Makes a slice of a history: small events, or one large event, encoded as it is written.
    fn history_slice(&mut self, now: Instant, mut history: Box<History>) -> Result<Slice, Evicted> {
        let mut text = if history.has_rows { Vec::new() } else { b"[".to_vec() };
        let after = After::Position(history.after);
        let read = self.topics.read_after(now, &history.topic, after);
        if history.after < history.until && read.position() > history.after {
            return Err(Evicted);
        }
        for event in read.events().take_while(|event| event.id <= history.until) {
            let row = row(&event);
            let is_large = row.len() > SLICE_BYTES;
            let is_full = text.len() + row.len() > SLICE_BYTES;
            if is_full && !(is_large && text.len() <= 1) {
                break;
            }
            if std::mem::replace(&mut history.has_rows, true) {
                text.push(b',');
            }
            history.after = event.id;
            if is_large {
                let (text, rest) = (row.behind(&text), Some(Rest::History(history)));
                return Ok(Slice { text, rest });
            }
            row.write(&mut text);
        }
        debug_assert!(history.after <= history.until || !history.has_rows, "none is newer");
        let is_last = history.after >= history.until;
        if is_last {
            text.push(b']');
        }
        let rest = (!is_last).then_some(Rest::History(history));
        Ok(Slice { text: whole(text), rest })
    }
}

fn row(event: &Event) -> Encoded {
    let around = hub::row_around(&event.id.to_string(), feed::payload(&event.payload));
    Encoded::new(around, event.payload.clone().into_bytes())
}

fn whole(text: impl Into<Vec<u8>>) -> Encoded {
    let around = Around { head: text.into(), coding: Coding::Plain, tail: "" };
    Encoded::new(around, Default::default())
}

const CONTENT_TYPE: &str = "application/json";
/// A slice, about fifty rows of the table.
pub(super) const SLICE_BYTES: usize = 16 * 1024;
