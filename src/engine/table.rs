//! The table of connections as the operator reads it: an object of JSON for each, in slices, so
//! that thousands of rows neither hold up the loop nor pile up in memory.

use std::borrow::Cow;

use crate::connection::{Connection, Listing, Phase};
use crate::engine::census::phase_of;
use crate::engine::requests::begin_of_body;
use crate::engine::{Engine, find_mut};
use crate::event::Place;
use crate::frame::Frame;
use crate::http;
use crate::id::ConnectionId;
use crate::json::Object;
use crate::outbox::Kind;
use crate::reason::CloseReason;
use crate::time::{Instant, millis_up};

impl Engine {
    /// Appends a slice of the table, an array of JSON objects: rows of whoever is there now, about
    /// `bytes` of them. Says whether there is more; who has gone meanwhile is not in it then.
    pub fn write_table(
        &self,
        now: Instant,
        place: &mut Place,
        bytes: usize,
        out: &mut String,
    ) -> bool {
        let most = out.len() + bytes;
        let first = place.slot as usize;
        let end = self.connections.capacity();
        for slot in first..end.min(first + SLOTS_MAX) {
            if out.len() >= most {
                break;
            }
            place.slot = slot as u32 + 1;
            if let Some(connection) = self.connections.get(slot) {
                out.push_str(if place.has_rows { ",\n" } else { "[\n" });
                out.push_str(&self.row(now, connection));
                place.has_rows = true;
            }
        }
        let has_more = (place.slot as usize) < end;
        if !has_more {
            out.push_str(if place.has_rows { "\n]\n" } else { "[]\n" });
        }
        has_more
    }

    /// Gives a slice of the table, and the place to go on from if there is more.
    pub(super) fn table_slice(&self, now: Instant, mut place: Place) -> (String, Option<Place>) {
        let mut text = String::with_capacity(SLICE_BYTES + SLICE_BYTES / 8);
        let has_more = self.write_table(now, &mut place, SLICE_BYTES, &mut text);
        (text, has_more.then_some(place))
    }

    fn row(&self, now: Instant, connection: &Connection) -> String {
        let id = connection.id;
        let age_ms = millis_up(now.since(connection.opened_at));
        let heard_ms = millis_up(now.since(connection.heard_at.near(now)));
        let counters = &connection.counters;
        let (missed, rtt) = match &connection.phase {
            Phase::Open(open) => (open.heartbeat.missed(), open.heartbeat.rtt()),
            _ => (0, None),
        };
        let rtt_ms = rtt.map_or(Cow::Borrowed("null"), |rtt| millis_up(rtt).to_string().into());
        let (at, kind) = connection.deadline(&self.rules, now);
        let deadline = Object::new()
            .string("kind", kind.label())
            .number("in_ms", millis_up(at.since(now)))
            .end();
        let object = Object::new()
            .string("id", &id.to_string())
            .string("transport", connection.flags.transport.label())
            .string("phase", phase_of(connection).label())
            .string("peer", &connection.peer.to_string());
        let object = match self.path_of(connection) {
            Some(path) => object.string("path", &path),
            None => object.raw("path", "null"),
        };
        object
            .number("opened_at", self.date.unix_ms.saturating_sub(age_ms))
            .number("last_heard_ms", heard_ms)
            .number("messages_in", counters.messages_in)
            .number("messages_out", counters.messages_out)
            .number("bytes_in", counters.bytes_in)
            .number("bytes_out", counters.bytes_out)
            .number("outbox_bytes", connection.outbox.bytes() as u64)
            .number("missed", missed.into())
            .raw("rtt_ms", &rtt_ms)
            .raw("next_deadline", &deadline)
            .raw("suspect", if missed >= 2 { "true" } else { "false" })
            .end()
    }

    /// Gives the path of a connection's route, with the topic it is subscribed to where the route
    /// is of topics; nothing before a request has named one.
    fn path_of(&self, connection: &Connection) -> Option<Cow<'_, str>> {
        let path = &*self.setup.routes[usize::from(connection.route?)].path;
        let mut topics = self.topics.subscriptions_of(&connection.subscriptions);
        let topic = path.strip_suffix("{topic}").zip(topics.next());
        Some(match topic {
            Some((prefix, key)) => format!("{prefix}{}", self.topics.topic_of(key)).into(),
            None => path.into(),
        })
    }

    /// Begins to answer with the table: in chunks, or, to HTTP/1.0, until the connection is closed.
    pub(super) fn begin_listing(&mut self, now: Instant, id: ConnectionId) {
        let Some(pending) = self.take_pending(id) else { return };
        let keep = pending.keep;
        let head = self.encode_answer(begin_of_body(CONTENT_TYPE, &pending), &pending);
        self.push_frame(now, id, Frame::raw(head), Kind::Response);
        let listing = Listing { place: Place::default(), is_chunked: !pending.is_http10 };
        let more = (!pending.head_only).then_some(listing);
        if let Some(connection) = self.get_mut(id) {
            let reason = CloseReason::Done;
            connection.enter(now, Phase::Answering { keep, reason, more });
        }
    }

    /// Goes on with the table, when what was sent of it before is with the kernel: a slice, if the
    /// turn's budget allows it, else when there is budget again.
    pub(super) fn list_on(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Phase::Answering { more: Some(listing), .. } = &connection.phase else { return };
        let Listing { place, is_chunked } = *listing;
        connection.phase_at = now.into();
        if self.turn_left == 0 {
            return self.mark_hungry(id);
        }
        let (text, place) = self.table_slice(now, place);
        self.turn_left = self.turn_left.saturating_sub(SLICE_COST);
        let bytes = match is_chunked {
            true => http::chunk(&text, place.is_none()),
            false => text.into_bytes(),
        };
        self.push_frame(now, id, Frame::raw(bytes), Kind::Response);
        if let Some(connection) = self.get_mut(id)
            && let Phase::Answering { more, .. } = &mut connection.phase
        {
            *more = place.map(|place| Listing { place, is_chunked });
        }
        self.touch(id);
    }

    /// Says whether the answer to a connection's request has more to come.
    pub(super) fn is_listing(&self, id: ConnectionId) -> bool {
        let phase = self.get(id).map(|connection| &connection.phase);
        matches!(phase, Some(Phase::Answering { more: Some(_), .. }))
    }
}

const CONTENT_TYPE: &str = "application/json";
/// A slice of the table, about fifty rows.
const SLICE_BYTES: usize = 16 * 1024;
/// What a slice costs of `turn.bytes`: writing a row takes longer than reading its bytes.
const SLICE_COST: usize = 4 * SLICE_BYTES;
/// How many slots are looked at for one slice: most may be empty.
const SLOTS_MAX: usize = 4096;
