//! What comes in from a socket: readiness, bytes, its end, its failure.

use std::io;

use crate::core::connection::Told;
use crate::core::connection::receive::{Context, Decoded, Received};
use crate::core::connection::short_way::{ShortWay, Tally};
use crate::core::contract::event::Event;
use crate::core::contract::handlers::Handlers;
use crate::core::contract::route::Placement;
use crate::core::engine::services::is_handled;
use crate::core::engine::settings::{Rules, Settings};
use crate::core::engine::{End, Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;

impl Engine {
    /// Takes note of what the poller said about a slot's socket. A stale note is harmless: it is a
    /// hint.
    pub fn handle_readiness(&mut self, key: usize, readable: bool, writable: bool, closed: bool) {
        let Some(id) = self.id_of(key) else { return };
        let connection = &mut self.connections[key];
        connection.flags.reading.note(readable, closed);
        connection.flags.writing.note(writable);
        let waits = connection.flags.writing.is_wanted() || !connection.outbox.is_empty();
        let writes = writable && waits;
        if readable || closed {
            self.mark_ready(id);
        }
        if writes {
            self.mark_dirty(id);
        }
    }

    /// Takes the next connection to read from, as long as the allowance lasts: at least one in each
    /// turn, unless the turn is for events that were left over.
    pub fn poll_ready(&mut self) -> Option<ConnectionId> {
        if !self.allowance.may_read() {
            return None;
        }
        self.allowance.note_read();
        self.queues.ready.pop(&mut self.connections)
    }

    /// Returns whether work is left for the next turn, which must then come at once.
    pub fn has_work_left(&self) -> bool {
        !self.queues.ready.is_empty()
            || !self.queues.touched.is_empty()
            || self.reports.has_asked()
            || self.jobs.has_inline()
            || self.has_events_left()
            || self.budget.is_trimming()
            || self.schedule.round.is_some()
            || !self.schedule.revoked.is_empty()
            || self.has_logs_to_trim()
    }

    /// Decodes what was read before and had to wait. Returns how many bytes may be read at most: 0
    /// if the connection is gone, the application is behind, or the peer has sent too much.
    pub fn prepare_read(
        &mut self,
        now: Instant,
        id: ConnectionId,
        handlers: &mut dyn Handlers,
    ) -> usize {
        self.weigh(now);
        if self.has_rest(id) {
            self.update_pause(now, id);
            self.decode_rest(now, id, handlers);
            if self.has_rest(id) {
                return 0;
            }
        }
        let may_read = self.update_pause(now, id);
        match may_read && self.get(id).is_some_and(|connection| connection.flags.reading.is_ready())
        {
            true => self.bytes_left(now, id),
            false => 0,
        }
    }

    /// Notes that the socket may have bytes, or that a read is worth an attempt.
    pub fn mark_readable(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.reading.attempt();
        }
    }

    /// Notes that the socket may take bytes, or that a write is worth an attempt.
    pub fn mark_writable(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.writing.note(true);
        }
    }

    /// Charges the turn with what a transport has read for itself.
    #[inline]
    pub fn spend(&mut self, len: usize) {
        self.allowance.charge_bytes(len);
    }

    /// Returns whether the turn's allowance is spent.
    pub fn is_turn_spent(&self) -> bool {
        self.allowance.is_spent()
    }

    /// Notes that reading stopped before the socket was empty: reading goes on in the next turn.
    pub fn handle_unfinished_read(&mut self, now: Instant, id: ConnectionId) {
        if self.get(id).is_some_and(|connection| connection.flags.reading.is_ready()) {
            self.mark_ready_unless_waiting(now, id);
        }
    }

    /// Takes note that the last read gave all that there was.
    pub fn handle_drained_socket(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.reading.drain();
        }
    }

    /// Returns whether the socket must be read until it is empty: its end has been announced.
    pub fn must_read_to_end(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.flags.reading.is_ending())
    }

    /// Takes bytes that were read into the shared buffer. What cannot be decoded yet is copied.
    pub fn handle_input(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &mut [u8],
        handlers: &mut dyn Handlers,
    ) {
        if self.note_input(now, id, input.len()) {
            self.decode(now, id, input, handlers);
        }
        self.advance(now, id);
    }

    /// Lends room, at most `most` bytes, to read what comes next straight into its place in a large
    /// message; `None` if it is to be read into the shared buffer. Call it after
    /// [`Engine::prepare_read`]. The bytes that are read go to [`Engine::handle_lent`].
    #[inline]
    pub fn lend(&mut self, id: ConnectionId, most: usize) -> Option<&mut [u8]> {
        find_mut(&mut self.connections, id)?.lend(most)
    }

    /// Takes the bytes that were read into the room that was lent.
    pub fn handle_lent(
        &mut self,
        now: Instant,
        id: ConnectionId,
        len: usize,
        handlers: &mut dyn Handlers,
    ) {
        if self.note_input(now, id, len) {
            self.decode_one(now, id, Came::InPlace(len), handlers);
        }
        self.advance(now, id);
    }

    /// Takes note that the peer has ended its side.
    pub fn handle_eof(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let effect = connection.receive_eof();
        self.act_on(now, id, effect);
    }

    /// Takes note that the socket failed.
    pub fn handle_error(&mut self, now: Instant, id: ConnectionId, error: &io::Error) {
        #[cfg(feature = "tls")]
        if error.kind() == io::ErrorKind::InvalidData {
            // The transport has told the peer what was wrong: a reset must not discard that.
            return self.finish(now, id, CloseReason::Tls, End::Close);
        }
        let reason = match error.kind() {
            // The kernel gave up retrying after TCP_USER_TIMEOUT: the peer takes nothing any more.
            #[cfg(feature = "tls")]
            io::ErrorKind::QuotaExceeded => CloseReason::Memory,
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => CloseReason::WriteStall,
            _ => CloseReason::Reset,
        };
        self.finish(now, id, reason, End::Abort);
    }

    /// Counts bytes that came; the peer lives. Returns whether they are to be decoded.
    fn note_input(&mut self, now: Instant, id: ConnectionId, len: usize) -> bool {
        self.stats.received_bytes += len as u64;
        self.budget.add(len);
        self.allowance.charge_bytes(len);
        let Some(connection) = self.get_mut(id) else { return false };
        connection.note_heard(now, len);
        self.spend_bytes(now, id, len);
        true
    }

    /// Decodes `input` as far as the application and the allowance allow, and keeps the rest.
    fn decode(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &mut [u8],
        handlers: &mut dyn Handlers,
    ) {
        let used = self.decode_some(now, id, input, handlers);
        if used < input.len()
            && let Some(connection) = self.get_mut(id)
        {
            connection.inbox().keep_rest(input[used..].to_vec(), 0);
            self.mark_ready_unless_waiting(now, id);
        }
    }

    /// Goes on decoding what was kept.
    fn decode_rest(&mut self, now: Instant, id: ConnectionId, handlers: &mut dyn Handlers) {
        if !self.has_rest(id) {
            return;
        }
        let Some(connection) = self.get_mut(id) else { return };
        let (mut rest, from) = connection.inbox().take_rest();
        let used = from + self.decode_some(now, id, &mut rest[from..], handlers);
        if used < rest.len()
            && let Some(connection) = self.get_mut(id)
        {
            connection.inbox().keep_rest(rest, used);
            self.mark_ready_unless_waiting(now, id);
        }
        self.release_inbox(id);
        self.advance(now, id);
    }

    fn has_rest(&self, id: ConnectionId) -> bool {
        let inbox = self.get(id).and_then(|connection| connection.inbox.as_ref());
        inbox.is_some_and(|inbox| inbox.has_rest())
    }

    fn mark_ready_unless_waiting(&mut self, now: Instant, id: ConnectionId) {
        if self.update_pause(now, id) {
            self.mark_ready(id);
        }
    }

    /// Returns how many bytes of `input` were used.
    fn decode_some(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &mut [u8],
        handlers: &mut dyn Handlers,
    ) -> usize {
        let mut used = 0;
        while used < input.len() {
            let spent = self.allowance.is_spent() && used > 0;
            let Some(connection) = self.get(id) else { return input.len() };
            if spent || self.is_behind(connection) || !self.may_begin(now, id) {
                break;
            }
            used += self.decode_one(now, id, Came::Shared(&mut input[used..]), handlers);
        }
        used
    }

    /// Has a connection take bytes: one head, body or frame, or a part of it, and acts on it. Of
    /// messages for a handler it takes as many as there is room for. Returns how many bytes were
    /// used.
    fn decode_one(
        &mut self,
        now: Instant,
        id: ConnectionId,
        came: Came<'_>,
        handlers: &mut dyn Handlers,
    ) -> usize {
        let Some(connection) = find_mut(&mut self.connections, id) else { return came.len() };
        let Rules { limits, frame_limits, .. } = self.settings.rules(connection);
        let Settings { routes, head_limits, .. } = &self.settings;
        let is_paced = limits.messages_per_second > 0;
        let is_handled = is_handled(routes, connection);
        let is_for_handler = !is_paced && is_handled;
        let has_deferred = self.calls.has_deferred();
        let mut short_way = ShortWay {
            now,
            id,
            route: connection.route.map_or(0, usize::from),
            identity: self.admission.identity(connection),
            outbox_bytes: limits.outbox_bytes,
            handlers: &mut *handlers,
            said: &mut self.calls.said,
            spares: &mut self.spares.queues,
            tally: Tally::default(),
        };
        let is_short = is_for_handler
            && connection.flags.told == Told::Yes
            && routes[short_way.route].placement == Placement::Inline
            && !has_deferred;
        let context = Context {
            now,
            limits,
            head_limits,
            frame_limits,
            allowance: &mut self.allowance,
            inboxes: &mut self.spares.inboxes,
            memory: &mut self.spares.memory,
            #[cfg(feature = "deflate")]
            coders: connection.flags.writing.is_compressed().then_some(&mut self.spares.coders),
            is_for_handler,
            short_way: is_short.then_some(&mut short_way),
        };
        let Decoded { used, messages, found } = match came {
            Came::Shared(input) => connection.receive(input, context),
            Came::InPlace(len) => connection.receive_lent(len, context),
        };
        let tally = short_way.tally;
        #[cfg(feature = "deflate")]
        {
            let (came, made) = self.spares.coders.counts();
            (self.stats.inflated_bytes, self.stats.inflated_plain_bytes) = (came, made);
        }
        if messages > 0 {
            self.stats.messages_received += messages;
        }
        if messages > u64::from(tally.calls) {
            self.mark_runnable(id);
        }
        if tally.calls > 0 {
            self.settle_calls(now, id, handlers, tally);
        }
        match found {
            Some(found) => self.act_on_received(now, id, found),
            None if is_handled => {}
            None => self.read_ahead(id),
        }
        used
    }

    fn act_on_received(&mut self, now: Instant, id: ConnectionId, found: Received) {
        match found {
            Received::Frame(item) => self.handle_incoming(now, id, item),
            Received::Violation(violation) => self.handle_violation(now, id, violation),
            Received::CloseReply => {
                let Some(connection) = self.get_mut(id) else { return };
                let effect = connection.take_close_reply();
                self.act_on(now, id, effect);
            }
            Received::Head(head) => self.handle_head(now, id, *head),
            Received::Body(bytes) => self.handle_body(now, id, bytes),
            Received::Pieces => self.hand_out(now, id),
            Received::Refusal { refusal, is_for_head } => {
                self.refuse(now, id, refusal, is_for_head)
            }
        }
    }

    /// Puts an event into the inbox.
    pub(super) fn push_event(&mut self, id: ConnectionId, event: Event) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let inbox = connection.inbox.get_or_insert_with(|| self.spares.inboxes.take());
        inbox.push(event);
        self.mark_runnable(id);
    }
}

/// Bytes that have come.
enum Came<'a> {
    /// In a buffer that connections share.
    Shared(&'a mut [u8]),
    /// So many in the room that a message in progress has lent.
    InPlace(usize),
}

impl Came<'_> {
    fn len(&self) -> usize {
        match self {
            Came::Shared(input) => input.len(),
            Came::InPlace(len) => *len,
        }
    }
}
