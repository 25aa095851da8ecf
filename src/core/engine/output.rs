//! What goes out to a socket.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use crate::core::connection::Mark;
use crate::core::contract::event::Event;
use crate::core::engine::spares::Spares;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::Transport;
use crate::core::outbox::{Kind, Outbox};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::Pipe;

impl Engine {
    /// Lends the bytes to write next to a connection. Returns how many slices were filled: zero if
    /// nothing waits, if the socket takes nothing, or if its rate holds the messages back for now.
    pub fn gather<'a>(
        &'a mut self,
        now: Instant,
        id: ConnectionId,
        slices: &mut [IoSlice<'a>],
    ) -> usize {
        self.release_messages(now, id);
        #[cfg(feature = "deflate")]
        let ready = self.make_ready(now, id);
        #[cfg(not(feature = "deflate"))]
        let ready = usize::MAX;
        let Some(connection) = find_mut(&mut self.connections, id) else { return 0 };
        if !connection.flags.writing.has_room() {
            return 0;
        }
        if self.allowance.is_spent() && connection.outbox.is_encoding() {
            // Encoding is charged to the turn: the rest is encoded in the next turn.
            connection.outbox.excuse(now);
            self.queues.hungry.push(connection);
        }
        let room = self.allowance.encoding_left();
        let (count, encoded) =
            connection.outbox.gather(ready, slices, &mut self.spares.scratch, room);
        self.allowance.charge_encoded(encoded);
        count
    }

    /// Lends the pipe whose bytes are to be written next to a connection, and their number.
    pub fn next_pipe(&self, id: ConnectionId) -> Option<(BorrowedFd<'_>, usize)> {
        let connection = self.get(id).filter(|_| cfg!(feature = "streams"))?;
        let (pipe, left) =
            connection.outbox.next_pipe().filter(|_| connection.flags.writing.has_room())?;
        Some((pipe.end(), left))
    }

    /// Takes note that the kernel took `len` bytes, or some of what the transport keeps. Returns
    /// whether there is more to write.
    pub fn handle_written(&mut self, now: Instant, id: ConnectionId, len: usize) -> bool {
        self.stats.sent_bytes += len as u64;
        debug_assert!(self.contains(id), "what was taken was lent by a connection");
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        connection.counters.bytes_out += len as u64;
        let Spares { queues, memory, .. } = &mut self.spares;
        let left = connection.outbox.written(now, len, queues, memory);
        if left.ping {
            connection.note_ping_sent(now);
            connection.flags.writing.narrow();
        }
        let has_more = !connection.outbox.is_empty();
        if left.close {
            let effect = connection.close_frame_sent(now);
            self.act_on(now, id, effect);
        }
        has_more
    }

    /// Takes note that the socket takes no more for now.
    pub fn handle_blocked(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.writing.block();
        }
    }

    /// Returns whether the socket may take something.
    pub fn may_write(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.flags.writing.has_room())
    }

    /// Notes that the transport itself has something to write. It is written as the turn ends.
    pub fn handle_wants_write(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.writing.want();
            self.mark_dirty(id);
        }
    }

    /// Notes that a read may return bytes that no edge of the poller announces.
    pub fn handle_wants_read(&mut self, id: ConnectionId) {
        self.mark_readable(id);
        self.mark_ready(id);
    }

    /// Takes note that writing has come to its end, for this turn. `wants_write` says whether the
    /// transport has something to write that the socket does not take. Returns whether the send
    /// buffer is to be narrow again.
    pub fn handle_flushed(&mut self, now: Instant, id: ConnectionId, wants_write: bool) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        let is_narrowing = connection.flags.writing.is_narrowing();
        connection.flags.writing.set_wanted(wants_write);
        connection.marks.clear(Mark::Dirty);
        let is_empty = connection.outbox.is_empty();
        let was_filled = std::mem::replace(&mut connection.flags.feed.filled, !is_empty);
        let route = connection.route.map_or(0, usize::from);
        let is_pressed = !is_empty || connection.flags.feed.pressure > 0;
        let replays = connection.flags.feed.replays;
        if is_empty && was_filled {
            let is_open = connection.is_open();
            if is_open && self.settings.routes[route].wants_drained {
                self.push_event(id, Event::Drained);
            }
        }
        self.mark_runnable(id);
        if is_pressed {
            self.tell_pressure(now, id);
        }
        if is_empty {
            self.tell_losses(now, id);
        }
        if replays {
            self.feed(now, id);
        }
        let narrows = is_narrowing && self.narrows(id);
        self.advance(now, id);
        narrows
    }

    /// Returns whether so much waits for a peer that it is better written at once than when the
    /// turn ends: what was read lately is still in the processor's cache.
    pub(super) fn writes_early(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| {
            connection.outbox.bytes() >= EARLY_BYTES && connection.flags.writing.has_room()
        })
    }

    /// Queues a frame for a peer.
    pub(super) fn push_frame(&mut self, now: Instant, id: ConnectionId, frame: Frame, kind: Kind) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let frame = connection.framed(frame);
        let (len, made) = (frame.len() as u64, frame.made_bytes());
        let replaced = connection.outbox.push(now, frame, kind, &mut self.spares.queues);
        self.queues.dirty.push(connection);
        connection.note_queued(now);
        if matches!(kind, Kind::Message | Kind::Event(..)) {
            connection.counters.messages_out += 1;
            self.stats.messages_sent += 1;
            let is_stream = connection.flags.transport() == Transport::EventStream;
            self.stats.messages_streamed += u64::from(is_stream);
        }
        self.stats.queued_bytes += len;
        self.stats.discarded_bytes += replaced as u64;
        self.budget.add(match kind {
            // Shared: it was counted when it was encoded.
            Kind::Event(..) => Outbox::ENTRY_BYTES,
            _ => Outbox::ENTRY_BYTES + made,
        });
    }

    /// Queues bytes in a pipe for a peer.
    pub(super) fn push_pipe(&mut self, now: Instant, id: ConnectionId, pipe: Pipe) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        self.stats.queued_bytes += pipe.bytes() as u64;
        connection.outbox.push_pipe(now, pipe, &mut self.spares.queues);
        self.queues.dirty.push(connection);
        connection.note_queued(now);
        self.budget.add(Outbox::ENTRY_BYTES);
    }
}

/// From so many bytes on, what waits for a peer is written before the next peer is read from.
const EARLY_BYTES: usize = 32 * 1024;
