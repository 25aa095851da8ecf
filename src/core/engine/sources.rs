//! Answers whose bodies come from sources: handlers that stream, and files. The next piece is asked
//! for when the one before is with the kernel, and is charged to the turn.

use crate::core::connection::http::{Answering, Listing, Pending, Rest};
use crate::core::connection::{Connection, Turn};
use crate::core::contract::event::{Job, Task};
use crate::core::engine::{End, Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{self, AnySource, Next, PIECE_BYTES, Response, Shape};

impl Engine {
    /// Returns whether what goes to the peer is sealed: without TLS it never is.
    #[cfg(not(feature = "tls"))]
    pub(super) fn is_sealed(&self, _: ConnectionId) -> bool {
        false
    }

    /// Begins an answer whose body comes from a source.
    pub(super) fn begin_source(
        &mut self,
        now: Instant,
        id: ConnectionId,
        head: Response,
        (shape, mut source): (Shape, AnySource),
        pending: Pending,
    ) {
        let is_endless = shape.length.is_none() && pending.is_http10;
        let keep = pending.keep && !shape.is_events && !is_endless;
        let is_chunked = shape.length.is_none() && !pending.is_http10;
        let pending = Pending { keep, ..pending };
        self.push_answer(now, id, head, &pending);
        let is_empty = pending.head_only || shape.length == Some(0);
        let is_sealed = self.is_sealed(id);
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let room = self.settings.rules(connection).limits.outbox_bytes;
        if shape.is_events && !is_empty {
            connection.begin_stream(now, is_chunked);
            self.admission.forget_hop(id);
            self.stats.streams += 1;
            self.count_handshake(now, id, &pending);
            self.mark_ready(id);
            self.take_over(now, id);
        } else {
            let listing = Listing { rest: Rest::Source, is_chunked };
            let more = (!is_empty).then_some(listing);
            connection.begin_answer(now, Answering { keep, reason: CloseReason::Done, more });
        }
        if !is_empty && let Some(connection) = self.get_mut(id) {
            source.begin(room, shape.length.is_some() && !is_sealed);
            connection.begin_pulling(source, shape.length);
            self.pull(now, id);
        }
    }

    /// Asks the source of an answer for the next piece: at once, or by a job.
    pub(super) fn pull(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if !connection.wants_piece() {
            return;
        }
        connection.note_pull(now);
        if self.allowance.is_spent() {
            return self.mark_hungry(id);
        }
        self.ask_source(now, id);
        self.touch(id);
    }

    fn ask_source(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some(sourced) = connection.sourced_mut() else { return };
        match &mut sourced.source {
            Some(source) if source.is_quick() => {
                let next = source.next(PIECE_BYTES);
                self.take_piece(now, id, next);
            }
            Some(_) => {
                sourced.turn = Turn::Queued;
                self.mark_runnable(id);
            }
            None => debug_assert!(sourced.turn == Turn::Out, "the source is here or out"),
        }
    }

    /// Makes a job of the source that a connection waits to have asked.
    pub(super) fn take_pull(&mut self, id: ConnectionId) -> Option<Job> {
        let connection = self.get_mut(id)?;
        let route = usize::from(connection.route?);
        let sourced = connection.sourced_mut().filter(|sourced| sourced.turn == Turn::Queued)?;
        let source = sourced.source.take()?;
        sourced.turn = Turn::Out;
        // No peer is handed to a source.
        Some(Job { id, route, identity: None, task: Task::Pull(source) })
    }

    /// Takes a source back from its job. One whose connection has ended is dropped.
    pub(super) fn handle_pulled(
        &mut self,
        now: Instant,
        id: ConnectionId,
        source: AnySource,
        next: Next,
    ) {
        self.stats.handler_panics += u64::from(matches!(next, Next::Panicked));
        let sourced = self.get_mut(id).and_then(Connection::sourced_mut);
        let Some(sourced) = sourced.filter(|sourced| sourced.turn == Turn::Out) else { return };
        sourced.source = Some(source);
        sourced.turn = Turn::Engine;
        self.take_piece(now, id, next);
    }

    /// Takes note that a source has more.
    pub(super) fn handle_more(&mut self, now: Instant, id: ConnectionId) {
        if self.get_mut(id).is_some_and(Connection::wake_source) {
            self.advance(now, id);
        }
    }

    /// Ends an answer that stands still; but first its source is asked once more.
    pub(super) fn act_on_standstill(&mut self, now: Instant, id: ConnectionId) {
        if self.get_mut(id).is_some_and(Connection::wake_source) {
            self.ask_source(now, id);
        }
        let stands = |connection: &Connection| {
            connection.outbox.is_empty()
                && connection.sourced().is_some_and(|sourced| sourced.turn != Turn::Engine)
        };
        if self.get(id).is_some_and(stands) {
            self.finish(now, id, CloseReason::Stream, End::Abort);
        }
    }

    fn take_piece(&mut self, now: Instant, id: ConnectionId, next: Next) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let Some(sourced) = connection.sourced_mut() else { return };
        match next {
            Next::Piece(piece) => {
                let Some(is_last) = sourced.count(piece.len()) else {
                    return self.cut_off(now, id);
                };
                self.allowance.charge_bytes(piece.len());
                // To HTTP/1.0 an event stream is sent what is in its chunks.
                let in_chunks = |peer: &Connection| peer.is_stream() || peer.is_chunked();
                let is_chunked = self.get(id).is_some_and(in_chunks);
                let frame = if is_chunked { Frame::chunk(piece) } else { Frame::raw(piece) };
                self.push_frame(now, id, frame, Kind::Response);
                if is_last {
                    self.end_pulling(now, id);
                }
            }
            Next::Piped(pipe) => {
                let Some(is_last) = sourced.count(pipe.bytes()) else {
                    return self.cut_off(now, id);
                };
                self.allowance.charge_bytes(pipe.bytes());
                self.push_pipe(now, id, pipe);
                if is_last {
                    self.end_pulling(now, id);
                }
            }
            Next::Waiting => sourced.turn = Turn::Source,
            Next::End if sourced.left.is_some() => self.cut_off(now, id),
            Next::End => self.end_pulling(now, id),
            Next::Broken => self.cut_off(now, id),
            Next::Panicked => self.finish(now, id, CloseReason::Panic, End::Abort),
        }
    }

    /// Ends an answer whose body is complete.
    fn end_pulling(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.drop_source();
        if connection.is_stream() {
            return self.end_stream(now, id, CloseReason::Done);
        }
        if connection.is_chunked() {
            self.push_frame(now, id, Frame::raw(http::chunk("", true)), Kind::Response);
        }
        if let Some(connection) = self.get_mut(id) {
            connection.list_on(None);
        }
        self.advance(now, id);
    }

    /// Ends a connection whose answer cannot be completed: by a reset, so that its client does not
    /// take the part for the whole.
    fn cut_off(&mut self, now: Instant, id: ConnectionId) {
        self.finish(now, id, CloseReason::Cut, End::Abort);
    }
}
