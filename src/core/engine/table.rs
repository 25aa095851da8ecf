//! The table of connections as the operator reads it: an object of JSON for each, in slices, so
//! that thousands of rows neither hold up the loop nor pile up in memory.

use std::borrow::Cow;

use crate::core::connection::Connection;
use crate::core::connection::heartbeat::Heartbeat;
use crate::core::contract::event::Place;
use crate::core::engine::Engine;
use crate::core::engine::slices::SLICE_BYTES;
use crate::core::ground::json::Object;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::wire::http::path::around_topic;

impl Engine {
    /// Appends a slice of the table, an array of JSON objects: rows of the connections open now,
    /// about `bytes` of them. Returns whether there is more. A connection that ends before its
    /// slice is left out.
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

    /// Returns a slice of the table, and the place to go on from if there is more.
    pub fn table_slice(&self, now: Instant, mut place: Place) -> (String, Option<Place>) {
        let mut text = String::with_capacity(SLICE_BYTES + SLICE_BYTES / 8);
        let has_more = self.write_table(now, &mut place, SLICE_BYTES, &mut text);
        (text, has_more.then_some(place))
    }

    /// Returns the wall clock of this turn, in milliseconds since 1970.
    pub(super) fn unix_ms(&self) -> u64 {
        self.reports.date.unix_ms
    }

    fn row(&self, now: Instant, connection: &Connection) -> String {
        let id = connection.id;
        let age_ms = millis_up(now.since(connection.opened_at));
        let heard_ms = millis_up(now.since(connection.heard_at.near(now)));
        let counters = &connection.counters;
        let heartbeat = connection.heartbeat();
        let missed = heartbeat.map_or(0, Heartbeat::missed);
        let rtt = heartbeat.and_then(Heartbeat::rtt);
        let rtt_ms = rtt.map_or(Cow::Borrowed("null"), |rtt| millis_up(rtt).to_string().into());
        let (at, kind) = connection.deadline(self.settings.spans(connection), now);
        let deadline = Object::new()
            .string("kind", kind.label())
            .number("in_ms", millis_up(at.since(now)))
            .end();
        let object = Object::new()
            .string("id", &id.to_string())
            .string("transport", connection.flags.transport().label())
            .string("phase", connection.name_of_phase().label())
            .string("subprotocol", connection.flags.subprotocol().label())
            .string("peer", &connection.peer.to_string());
        let object = match self.admission.name(connection) {
            Some(name) => object.string("identity", name),
            None => object,
        };
        let object = match connection.flags.cohort {
            Some(cohort) => object.string("cohort", cohort.label()),
            None => object,
        };
        let object = match self.path_of(connection) {
            Some(path) => object.string("path", &path),
            None => object.raw("path", "null"),
        };
        let object = object
            .number("opened_at", self.unix_ms().saturating_sub(age_ms))
            .number("last_heard_ms", heard_ms)
            .number("messages_in", counters.messages_in)
            .number("messages_out", counters.messages_out)
            .number("bytes_in", counters.bytes_in)
            .number("bytes_out", counters.bytes_out)
            .number("outbox_bytes", connection.outbox.bytes() as u64)
            .number("missed", missed.into())
            .raw("rtt_ms", &rtt_ms)
            .raw("next_deadline", &deadline)
            .raw("suspect", if missed >= 2 { "true" } else { "false" });
        #[cfg(feature = "tls")]
        let object = match connection.flags.sealed {
            Some(sealed) => object.raw("tls", &super::sealed::shown(sealed)),
            None => object,
        };
        object.end()
    }

    /// Returns the path of a connection's route, with the topic it is subscribed to where the route
    /// is of topics; empty before a request has named one.
    pub(super) fn path_of(&self, connection: &Connection) -> Option<Cow<'_, str>> {
        let path = &*self.settings.routes[usize::from(connection.route?)].path;
        let mut topics = self.topics.subscriptions_of(&connection.subscriptions);
        Some(match around_topic(path).zip(topics.next()) {
            Some(((before, behind), key)) => {
                [before, self.topics.topic_of(key), behind].concat().into()
            }
            None => path.into(),
        })
    }
}

/// How many slots are looked at for one slice: most may be empty.
const SLOTS_MAX: usize = 4096;
