//! What comes in from a socket: readiness, bytes, its end, its failure.

use std::io;

use crate::core::connection::{Phase, Stage};
use crate::core::contract::event::Event;
use crate::core::engine::upgraded::is_handled;
use crate::core::engine::{CHECK_COST, End, Engine, MESSAGE_COST, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::wire::http::HeadReader;
use crate::core::wire::ws::{Incoming, Role};

impl Engine {
    /// Takes note of what the poller said about a slot's socket. A stale note is harmless: it is a
    /// hint.
    pub fn handle_readiness(&mut self, key: usize, readable: bool, writable: bool, closed: bool) {
        let Some(id) = self.id_of(key) else { return };
        let connection = &mut self.connections[key];
        connection.flags.readable |= readable || closed;
        connection.flags.read_closed |= closed;
        connection.flags.writable |= writable;
        let waits = connection.flags.wants_write || !connection.outbox.is_empty();
        let writes = writable && waits;
        if readable || closed {
            self.mark_ready(id);
        }
        if writes {
            self.mark_dirty(id);
        }
    }

    /// Takes the next connection to read from, as long as the budget lasts: at least one in each
    /// turn, unless it is the turn of events that were left over.
    pub fn poll_ready(&mut self) -> Option<ConnectionId> {
        if self.deliver_first || self.turn_left == 0 && !self.first_read {
            return None;
        }
        self.first_read = false;
        self.ready.pop(&mut self.connections)
    }

    /// Says whether work is left for the next turn, which must then come at once.
    pub fn has_work_left(&self) -> bool {
        let scrapes = !self.scrapes.is_empty();
        !self.ready.is_empty()
            || !self.touched.is_empty()
            || scrapes
            || self.jobs.has_inline()
            || self.has_events_left()
            || self.budget.is_trimming()
            || self.round.is_some()
            || self.has_logs_to_trim()
    }

    /// Decodes what was read before and had to wait; then says how many bytes may be read at most.
    /// None if the connection is gone, the application is behind, or the peer has sent too much.
    pub fn prepare_read(&mut self, now: Instant, id: ConnectionId) -> usize {
        self.weigh(now);
        if self.has_rest(id) {
            self.update_pause(now, id);
            self.decode_rest(now, id);
            if self.has_rest(id) {
                return 0;
            }
        }
        let may_read = self.update_pause(now, id);
        match may_read && self.get(id).is_some_and(|connection| connection.flags.readable) {
            true => self.bytes_left(now, id),
            false => 0,
        }
    }

    /// Says that something may wait in the socket, or that it is worth an attempt.
    pub fn mark_readable(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.readable = true;
        }
    }

    /// Says that the socket may take something, or that it is worth an attempt.
    pub fn mark_writable(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.writable = true;
        }
    }

    /// Says whether the turn's budget is spent.
    pub fn is_turn_spent(&self) -> bool {
        self.turn_left == 0
    }

    /// Takes note that reading stopped before the socket was empty: it goes on in the next turn.
    pub fn handle_budget_spent(&mut self, now: Instant, id: ConnectionId) {
        if self.get(id).is_some_and(|connection| connection.flags.readable) {
            self.mark_ready_unless_waiting(now, id);
        }
    }

    /// Takes note that the last read gave all that there was.
    pub fn handle_drained_socket(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.flags.readable = connection.flags.read_closed && !connection.flags.eof;
        }
    }

    /// Says whether the socket must be read until it gives nothing: its end is known to be near.
    pub fn must_read_to_end(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.flags.read_closed)
    }

    /// Takes bytes that were read into the shared buffer. What cannot be decoded yet is copied.
    pub fn handle_input(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) {
        if self.note_input(now, id, input.len()) {
            self.decode(now, id, input);
        }
        self.settle(now, id);
    }

    /// Takes note that the peer has ended its side.
    pub fn handle_eof(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.flags.eof = true;
        connection.flags.readable = false;
        match &connection.phase {
            Phase::Head { .. } | Phase::Body(_) => {
                self.finish(now, id, CloseReason::Eof, End::Close);
            }
            Phase::KeepAlive { .. } => self.finish(now, id, CloseReason::Done, End::Close),
            // A client may end its side and still want its answer.
            Phase::Deciding(_) | Phase::Answering { .. } => {}
            Phase::Stream { .. } => self.finish(now, id, CloseReason::Eof, End::Close),
            Phase::Open(_) => {
                self.close_when_handled(now, id, CloseReason::Eof);
            }
            Phase::Closing(closing) => match closing.stage {
                Stage::Handling | Stage::Sending { .. } => {}
                Stage::Awaiting | Stage::Lingering => {
                    let reason = closing.reason;
                    self.finish(now, id, reason, End::Close);
                }
            },
        }
    }

    /// Takes note that the socket failed.
    pub fn handle_error(&mut self, now: Instant, id: ConnectionId, error: &io::Error) {
        let reason = match error.kind() {
            // The kernel gave up retrying after TCP_USER_TIMEOUT: the peer takes nothing any more.
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => CloseReason::WriteStall,
            _ => CloseReason::Reset,
        };
        self.finish(now, id, reason, End::Abort);
    }

    /// Counts bytes that came; the peer lives. Says whether they are to be decoded.
    fn note_input(&mut self, now: Instant, id: ConnectionId, len: usize) -> bool {
        self.stats.received_bytes += len as u64;
        self.budget.add(len);
        self.turn_left = self.turn_left.saturating_sub(len);
        let Some(connection) = self.get_mut(id) else { return false };
        connection.counters.bytes_in += len as u64;
        connection.heard_at = now.into();
        if let Phase::Open(open) = &mut connection.phase {
            open.unread_ms = 0;
            connection.flags.relink |= open.heartbeat.heard();
        }
        self.spend_bytes(now, id, len);
        true
    }

    /// Decodes `input` as far as the application and the budget allow, and keeps the rest.
    fn decode(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) {
        let used = self.decode_some(now, id, input);
        if used < input.len()
            && let Some(connection) = self.get_mut(id)
        {
            let inbox = connection.inbox();
            debug_assert!(inbox.rest.is_empty());
            inbox.rest = input[used..].to_vec();
            inbox.rest_from = 0;
            self.mark_ready_unless_waiting(now, id);
        }
    }

    /// Goes on decoding what was kept.
    fn decode_rest(&mut self, now: Instant, id: ConnectionId) {
        if !self.has_rest(id) {
            return;
        }
        let Some(connection) = self.get_mut(id) else { return };
        let inbox = connection.inbox();
        let mut rest = std::mem::take(&mut inbox.rest);
        let from = inbox.rest_from;
        let used = from + self.decode_some(now, id, &mut rest[from..]);
        if used < rest.len()
            && let Some(connection) = self.get_mut(id)
        {
            let inbox = connection.inbox();
            inbox.rest = rest;
            inbox.rest_from = used;
            self.mark_ready_unless_waiting(now, id);
        }
        self.release_inbox(id);
        self.settle(now, id);
    }

    fn has_rest(&self, id: ConnectionId) -> bool {
        let inbox = self.get(id).and_then(|connection| connection.inbox.as_ref());
        inbox.is_some_and(|inbox| !inbox.rest.is_empty())
    }

    fn mark_ready_unless_waiting(&mut self, now: Instant, id: ConnectionId) {
        if self.update_pause(now, id) {
            self.mark_ready(id);
        }
    }

    /// Gives how many bytes of `input` were used.
    fn decode_some(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) -> usize {
        let mut used = 0;
        while used < input.len() {
            let spent = self.turn_left == 0 && used > 0;
            let Some(connection) = self.get(id) else { return input.len() };
            if spent || self.is_behind(connection) || !self.may_begin(now, id) {
                break;
            }
            used += self.decode_one(now, id, &mut input[used..]);
        }
        used
    }

    /// Decodes one head, body or frame, or a part of it, and acts on it.
    fn decode_one(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) -> usize {
        let all = input.len();
        let Some(connection) = self.connections.get_mut(id.key()) else { return all };
        match &mut connection.phase {
            Phase::KeepAlive { blank } => {
                let used = HeadReader::blank_bytes(*blank, input);
                *blank += used as u8;
                if used < input.len() {
                    let reader = HeadReader::behind_blank(*blank, &self.head_limits);
                    connection.begin_request(now, reader);
                }
                used
            }
            Phase::Head { reader, .. } => {
                let head_only = reader.is_for_head(input);
                match reader.read(input, &self.head_limits) {
                    Ok((used, None)) => used,
                    Ok((used, Some(head))) => {
                        self.handle_head(now, id, head);
                        used
                    }
                    Err(refusal) => {
                        self.refuse(now, id, refusal, head_only);
                        all
                    }
                }
            }
            Phase::Body(body) => {
                let checked = if body.posted.is_some() { all } else { 0 };
                self.turn_left = self.turn_left.saturating_sub(checked * CHECK_COST);
                match body.read(input) {
                    Ok((used, None)) => used,
                    Ok((used, Some(bytes))) => {
                        self.handle_body(now, id, bytes);
                        used
                    }
                    Err(refusal) => {
                        self.refuse(now, id, refusal, false);
                        all
                    }
                }
            }
            Phase::Open(_) => self.decode_frames(now, id, input),
            Phase::Closing(_) => self.discard_some(now, id, input),
            // A request pipelined behind it is never answered.
            Phase::Stream { .. } => all,
            Phase::Deciding(_) | Phase::Answering { .. } => 0,
        }
    }

    /// Decodes messages for the handler of an open WebSocket, as many as there is room for: they
    /// come in masses. Anything else that a frame says is acted on, and ends the call.
    fn decode_frames(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) -> usize {
        let limits = &self.setup.config.limits;
        let is_paced = limits.messages_per_second > 0;
        let Some(connection) = find_mut(&mut self.connections, id) else { return input.len() };
        let is_handled = is_handled(&self.setup.routes, connection);
        let Phase::Open(open) = &mut connection.phase else { return input.len() };
        let mut begun_at = open.decoder.begun_at().unwrap_or(now.into());
        let (mut used, mut messages) = (0, 0);
        let other = loop {
            match open.decoder.decode(Role::Server, &mut input[used..], &self.frame_limits) {
                Ok((len, Some(Incoming::Message(message)))) if is_handled && !is_paced => {
                    used += len;
                    messages += 1;
                    begun_at = now.into();
                    self.turn_left = self.turn_left.saturating_sub(MESSAGE_COST);
                    let spare = || self.spare_inboxes.pop().unwrap_or_default();
                    let inbox = connection.inbox.get_or_insert_with(spare);
                    inbox.push(Event::Message(message));
                    let is_over = used == input.len() || self.turn_left == 0;
                    if is_over || inbox.is_full(limits) {
                        break None;
                    }
                }
                Ok((len, item)) => {
                    used += len;
                    let is_fragment = item.is_none() && used < input.len();
                    self.turn_left -= usize::from(is_fragment) * MESSAGE_COST.min(self.turn_left);
                    break item.map(Ok);
                }
                Err(violation) => {
                    used = input.len();
                    break Some(Err(violation));
                }
            }
        };
        open.decoder.set_begun_at(begun_at);
        connection.counters.messages_in += messages;
        self.stats.messages_received += messages;
        if messages > 0 {
            self.mark_runnable(id);
        }
        match other {
            None if is_handled => {}
            None => self.read_ahead(id),
            Some(Ok(item)) => self.handle_incoming(now, id, item),
            Some(Err(violation)) => self.handle_violation(now, id, violation),
        }
        used
    }

    /// Looks for the peer's close frame in what comes behind ours.
    fn discard_some(&mut self, now: Instant, id: ConnectionId, input: &mut [u8]) -> usize {
        let all = input.len();
        let Some(connection) = self.get_mut(id) else { return all };
        let Phase::Closing(closing) = &mut connection.phase else { return all };
        let Some(decoder) = &mut closing.decoder else { return all };
        match decoder.discard(Role::Server, input) {
            Ok((used, Some(Incoming::Close(_)))) => {
                self.handle_close_reply(now, id);
                used
            }
            Ok((used, _)) => used,
            Err(_) => {
                closing.decoder = None;
                all
            }
        }
    }

    /// Puts an event into the inbox.
    pub(super) fn push_event(&mut self, id: ConnectionId, event: Event) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let spare = || self.spare_inboxes.pop().unwrap_or_default();
        let inbox = connection.inbox.get_or_insert_with(spare);
        inbox.push(event);
        self.mark_runnable(id);
    }
}
