//! Compressed messages: what is agreed on with a client, and what is compressed for it.

use tungstenite::Bytes;

use crate::core::config::CompressionMode;
use crate::core::engine::services::form;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::outbox::{COMPRESSED_BYTES_MAX, Kind, Verdict};
use crate::core::wire::deflate::{self, Agreed, Want};
use crate::core::wire::http::{HeaderLines, Request};
use crate::core::wire::ws;

impl Engine {
    /// Agrees on compression with the client of an upgrade, if the client offers it and the route
    /// has it. Returns the header lines of the answer.
    pub(super) fn agree_on_compression(
        &mut self,
        id: ConnectionId,
        request: &Request,
        mut lines: HeaderLines,
    ) -> HeaderLines {
        let Some(connection) = find_mut(&mut self.connections, id) else { return lines };
        if self.settings.rules(connection).compression.mode == CompressionMode::Off {
            return lines;
        }
        let agreed = deflate::choose(request.header_list("sec-websocket-extensions"));
        if let Some(agreed) = agreed {
            lines.push_extension(&agreed.answer());
            connection.flags.writing.agree_on_compression();
            self.spares.windows.set(id, agreed);
        }
        lines
    }

    /// Compresses what is about to leave, as far as the turn allows. Returns how many bytes may
    /// leave.
    #[inline]
    pub(super) fn make_ready(&mut self, now: Instant, id: ConnectionId) -> usize {
        match self.get(id) {
            Some(connection) if connection.flags.writing.is_compressed() => self.compress(now, id),
            _ => usize::MAX,
        }
    }

    fn compress(&mut self, now: Instant, id: ConnectionId) -> usize {
        let Some(connection) = find_mut(&mut self.connections, id) else { return 0 };
        let agreed = self.spares.windows.of(id);
        if !connection.flags.writing.has_room() {
            return 0;
        }
        let settings = &self.settings.rules(connection).compression;
        let least = settings.min_bytes.max(ALONE_BYTES_MIN);
        let want = Want { level: settings.level, window_bits: agreed.window_bits };
        let form = form(&self.settings.routes, connection);
        let Engine { spares, allowance, budget, .. } = self;
        let mut is_late = false;
        let made = connection.outbox.make_ready(|kind, opcode, payload| {
            if !(least..=COMPRESSED_BYTES_MAX).contains(&payload.len()) {
                return Verdict::Plain;
            }
            let event = match kind {
                // What was compressed for the largest window may reach too far back.
                Kind::Event(_, event) if want.is_for_all(payload) => Some(event).zip(form),
                _ => None,
            };
            let found = event.and_then(|(event, form)| spares.forms.find_compressed(event, form));
            let compressed = match found {
                Some(found) => found.clone(),
                None if allowance.is_spent() => {
                    is_late = true;
                    return Verdict::Later;
                }
                None => {
                    allowance.charge_compressed(payload.len());
                    let bytes = spares.coders.compress(want, payload);
                    let frame = bytes.map(|bytes| {
                        ws::encoder::compressed(opcode, Bytes::copy_from_slice(bytes))
                    });
                    budget.add(frame.as_ref().map_or(0, |frame| frame.made_bytes()));
                    if let Some((event, form)) = event {
                        spares.forms.keep_compressed(event, form, frame.clone());
                    }
                    frame
                }
            };
            compressed.map_or(Verdict::Plain, Verdict::Compressed)
        });
        if is_late {
            // The rest is compressed in the next turn: the peer is not to blame for the wait.
            connection.outbox.excuse(now);
            self.queues.hungry.push(connection);
        }
        self.stats.queued_bytes -= made.saved as u64;
        made.ready
    }
}

/// What the peers' inflaters are like, by the slots of their connections.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Agreed>);

impl Windows {
    fn set(&mut self, id: ConnectionId, agreed: Agreed) {
        if self.0.len() <= id.key() {
            self.0.resize(id.key() + 1, Agreed { window_bits: 0 });
        }
        self.0[id.key()] = agreed;
    }

    /// Returns what was agreed on, with a connection that has agreed.
    fn of(&self, id: ConnectionId) -> Agreed {
        self.0[id.key()]
    }
}

/// A shorter message hardly shrinks by itself.
const ALONE_BYTES_MIN: usize = 512;
