//! How connections end: the close handshake of RFC 6455, section 7, FIN before close, and the one
//! record of each end.
//!
//! ```text
//!   clean   Handling ─► Sending ─► Awaiting ─► Lingering ─► gone
//!   peer    Handling ─► Sending ─────────────► Lingering ─► gone
//!   fault               Sending ─► Awaiting ─► Lingering ─► gone
//!   garbled             Sending ─────────────► Lingering ─► gone
//! ```

use log::{Level, log};

use crate::core::config::OverflowPolicy;
use crate::core::connection::{After, Closing, Connection, Inbox, Mark, Phase, Stage};
use crate::core::contract::event::{Event, Job, Task};
use crate::core::engine::drain::Drain;
use crate::core::engine::jobs::{Orphan, memory_of};
use crate::core::engine::turns::{RETRY_MS, Turns};
use crate::core::engine::{Action, End, Engine, find_mut, first_fault, tickets};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::{CloseReason, Severity};
use crate::core::ground::time::{Instant, millis_up};
use crate::core::observe::stats::Transport;
use crate::core::outbox::{Discarded, Kind};
use crate::core::wire::frame::Frame;
use crate::core::wire::http;
use crate::core::wire::sse;
use crate::core::wire::ws;

impl Engine {
    /// Moves a connection on as far as it goes without new input: an answer that has left, a close
    /// that nothing holds up.
    pub(super) fn settle(&mut self, now: Instant, id: ConnectionId) {
        self.release_inbox(id);
        let Some(connection) = self.get(id) else { return };
        if self.is_settled_later(connection) {
            if !connection.marks.has(Mark::Dirty) && !connection.is_in_step() {
                self.touch(id);
            }
            return;
        }
        self.update_pause(now, id);
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if connection.is_in_step() {
            return;
        }
        let is_written = connection.outbox.is_empty();
        let is_handled = connection.is_handled() && !tickets::is_asking(&self.tickets, id);
        let is_writable = connection.flags.writable;
        match &connection.phase {
            Phase::Answering { more: Some(_), .. } if is_written => self.list_on(now, id),
            Phase::Answering { keep, reason, .. } if is_written => {
                let (keep, reason) = (*keep, *reason);
                self.answered(now, id, keep, reason);
            }
            Phase::Open(_) if connection.flags.draining && is_written && is_handled => {
                let retry_ms = self.draw_retry(CloseReason::Drain);
                self.say_goodbye(now, id, retry_ms);
                self.close(now, id, CloseReason::Drain, &format!("retry={retry_ms}"));
            }
            Phase::Closing(Closing { stage: Stage::Handling, reason, .. }) if is_handled => {
                match *reason {
                    CloseReason::Eof if is_written => {
                        self.finish(now, id, CloseReason::Eof, End::Close);
                    }
                    // Answers to what came before a fault leave if the socket takes them.
                    reason if !reason.is_clean() && !is_written && is_writable => {}
                    CloseReason::Eof => {}
                    _ => self.send_close_frame(now, id),
                }
            }
            _ => {}
        }
        self.touch(id);
    }

    /// Says whether an open WebSocket is settled when it has been written to, at the end of the
    /// turn, or when what waits for its handler has been taken.
    fn is_settled_later(&self, connection: &Connection) -> bool {
        let limits = &self.setup.config.limits;
        let is_taken =
            |inbox: &Inbox| connection.marks.has(Mark::Runnable) && !inbox.is_full(limits);
        matches!(connection.phase, Phase::Open(_))
            && !connection.flags.draining
            && (connection.marks.has(Mark::Dirty)
                || connection.inbox.as_deref().is_some_and(is_taken))
    }

    /// Begins to end an open connection for a cause that is nobody's fault: what was received
    /// before is handled and answered first, for `close_send` at the most.
    pub(super) fn close_when_handled(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: CloseReason,
    ) {
        self.leave_open(now, id, reason, Stage::Handling);
        self.settle(now, id);
    }

    /// Has a client come back later: as [`Engine::close_when_handled`], and it is told when.
    pub(super) fn retire(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let retry_ms = self.draw_retry(reason);
        if reason != CloseReason::Lifetime {
            self.say_goodbye(now, id, retry_ms);
        }
        if self.leave_open(now, id, reason, Stage::Handling)
            && let Some(connection) = self.get_mut(id)
            && let Phase::Closing(closing) = &mut connection.phase
        {
            closing.retry_ms = Some(retry_ms as u32);
        }
        self.settle(now, id);
    }

    /// Ends an open connection: the close frame goes behind what is queued, nothing more is taken
    /// from the handler.
    pub(super) fn close(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: CloseReason,
        text: &str,
    ) {
        if self.leave_open(now, id, reason, Stage::Sending { then: After::Await }) {
            self.push_frame(now, id, ws::encoder::close(reason.code(), text), Kind::Close);
            self.mark_ready(id);
            self.touch(id);
        }
    }

    /// Ends an open connection for cause: the frame in progress is finished, the rest dropped.
    pub(super) fn fail(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.get_mut(id) else { return };
        match connection.phase {
            Phase::Open(_) => {
                let discarded = connection.outbox.discard_waiting();
                self.count_discarded(discarded);
                self.close(now, id, reason, "");
            }
            Phase::Stream { .. } => {
                let discarded = connection.outbox.discard_waiting();
                self.count_discarded(discarded);
                self.end_stream(now, id, reason);
            }
            _ => {}
        }
    }

    /// Ends an event stream: the last chunk, if it goes in chunks, and FIN behind what is queued.
    pub(super) fn end_stream(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        self.unsubscribe_all(id);
        if matches!(reason, CloseReason::Drain | CloseReason::Shed) {
            let retry_ms = self.draw_retry(reason);
            self.push_frame(now, id, Frame::chunk(sse::retry(retry_ms)), Kind::Response);
        }
        let phase = self.get(id).map(|connection| &connection.phase);
        if let Some(Phase::Stream { is_chunked: true }) = phase {
            self.push_frame(now, id, Frame::raw(http::chunk("", true)), Kind::Response);
        }
        if let Some(connection) = self.get_mut(id) {
            // From now on it waits for the peer alone, however few messages a second it may have.
            connection.outbox.release_all(now);
            connection.enter(now, Phase::Answering { keep: false, reason, more: None });
        }
        self.mark_dirty(id);
        self.settle(now, id);
    }

    /// Takes the WebSocket out of an open connection, whose end begins; a pause of reading ends
    /// with it.
    fn leave_open(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: CloseReason,
        stage: Stage,
    ) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let Phase::Open(open) = &mut connection.phase else { return false };
        let has_more = !matches!(reason, CloseReason::Peer(_) | CloseReason::Eof);
        let decoder = has_more.then(|| std::mem::take(&mut open.decoder));
        connection.flags.paused = false;
        self.topics.unsubscribe_all(&mut connection.subscriptions);
        connection.enter(now, Phase::Closing(Closing { decoder, ..Closing::new(stage, reason) }));
        self.mark_dirty(id);
        true
    }

    /// Ends the wait for the handler of a closing connection: nothing more is taken from it.
    pub(super) fn end_handling(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        match &connection.phase {
            Phase::Closing(Closing {
                stage: Stage::Handling, reason: CloseReason::Eof, ..
            }) => {
                self.finish(now, id, CloseReason::Eof, End::Abort);
            }
            Phase::Closing(Closing { stage: Stage::Handling, .. }) => {
                self.send_close_frame(now, id);
            }
            _ => {}
        }
    }

    /// Answers the peer's close, or closes after the lifetime, when what came before was handled.
    pub(super) fn send_close_frame(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let Phase::Closing(closing) = &mut connection.phase else { return };
        let code = match closing.reason {
            // RFC 6455, 7.4.1: 1005 stands for no code and is never sent.
            CloseReason::Peer(1005) => 1000,
            reason => reason.code(),
        };
        let then = if closing.decoder.is_some() { After::Await } else { After::Fin };
        closing.stage = Stage::Sending { then };
        let is_by_peer = closing.is_by_peer();
        let retry_ms = closing.retry_ms;
        let is_fault = !closing.reason.is_clean();
        if is_by_peer {
            // Only the peer waits for its messages to be handled before `close_send` begins.
            connection.phase_at = now.into();
        }
        connection.flags.relink = true;
        let discarded = match is_fault {
            true => connection.outbox.discard_waiting(),
            false => Discarded::default(),
        };
        self.count_discarded(discarded);
        let text = retry_ms.map_or(String::new(), |retry_ms| format!("retry={retry_ms}"));
        self.push_frame(now, id, ws::encoder::close(code, &text), Kind::Close);
        self.mark_ready(id);
        self.touch(id);
    }

    /// Draws when a client is to come back, in milliseconds: the more are told to, the wider, so
    /// that not all come at once. After a lifetime there is no restart to wait for, and no other
    /// goes with it.
    fn draw_retry(&mut self, reason: CloseReason) -> u64 {
        let turns = match reason {
            CloseReason::Drain => self.drain.as_ref().map(Drain::turns),
            CloseReason::Shed => self.shed.as_ref(),
            _ => None,
        };
        self.random.between(0, turns.map_or(RETRY_MS, Turns::retry_ms_max))
    }

    /// Ends an open connection whose peer broke the protocol. Messages that came before are handled
    /// first.
    pub(super) fn handle_violation(
        &mut self,
        now: Instant,
        id: ConnectionId,
        violation: ws::Violation,
    ) {
        self.stats.violations[violation as usize] += 1;
        self.leave_open(now, id, violation.reason(), Stage::Handling);
        if let Some(connection) = self.get_mut(id)
            && let Phase::Closing(closing) = &mut connection.phase
        {
            // Frames cannot be told apart any more: what still comes is discarded unread.
            closing.decoder = None;
            closing.violation = Some(violation);
        }
        self.settle(now, id);
    }

    /// Takes the peer's answer to our close frame. One that crossed ours on the way is an answer
    /// too.
    pub(super) fn handle_close_reply(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let Phase::Closing(closing) = &mut connection.phase else { return };
        closing.decoder = None;
        match &mut closing.stage {
            Stage::Sending { then } => *then = After::Fin,
            Stage::Awaiting => self.linger(now, id),
            Stage::Handling | Stage::Lingering => {}
        }
    }

    /// Takes note that the close frame is with the kernel.
    pub(super) fn close_frame_sent(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let eof = connection.flags.eof;
        let Phase::Closing(closing) = &mut connection.phase else { return };
        let reason = closing.reason;
        match closing.stage {
            Stage::Sending { .. } if eof => self.finish(now, id, reason, End::Close),
            Stage::Sending { then: After::Fin } => self.linger(now, id),
            Stage::Sending { then: After::Await } => {
                closing.stage = Stage::Awaiting;
                connection.phase_at = now.into();
                connection.flags.relink = true;
            }
            Stage::Handling | Stage::Awaiting | Stage::Lingering => {}
        }
    }

    /// Sends FIN and discards what still comes, so that a reset does not overtake what was written.
    pub(super) fn linger(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let Phase::Closing(closing) = &mut connection.phase else { return };
        closing.stage = Stage::Lingering;
        closing.decoder = None;
        connection.phase_at = now.into();
        connection.flags.relink = true;
        if let Some(inbox) = &mut connection.inbox {
            inbox.rest = Vec::new();
            inbox.reading = None;
        }
        self.actions.push_back(Action::Shutdown(id.key()));
        self.mark_ready(id);
        self.touch(id);
    }

    /// Ends a connection: its slot, its wheel entry and its memory are given back, its end is
    /// counted and logged once, and its handler is told when no job of it is out.
    pub(super) fn finish(&mut self, now: Instant, id: ConnectionId, why: CloseReason, end: End) {
        if self.get(id).is_none() {
            return;
        }
        self.unsubscribe_all(id);
        let mut connection = self.connections.remove(id.key());
        self.wheel.disarm(id.key());
        self.public -= usize::from(connection.face != crate::core::contract::route::Face::Admin);
        self.release_address(&connection);
        let so_far = match &connection.phase {
            // What the server wanted and the peer was not told of gives way to what came before.
            Phase::Closing(closing) if !closing.is_settled() => None,
            Phase::Closing(closing) => Some(closing.reason),
            Phase::Answering { reason, .. } if *reason != CloseReason::Done => Some(*reason),
            _ => None,
        };
        let reason = first_fault(so_far, why);
        let discarded = connection.outbox.discard();
        self.count_discarded(discarded);
        self.stats.closed[connection.flags.transport as usize][reason.index()] += 1;
        log_end(now, id, &connection, reason);
        self.actions.push_back(match end {
            End::Close => Action::Close(id.key()),
            End::Abort => Action::Abort(id.key()),
        });
        self.tell_handler(id, connection, reason);
        self.relax(now);
    }

    fn tell_handler(&mut self, id: ConnectionId, mut connection: Connection, reason: CloseReason) {
        let route = connection.route.map_or(0, usize::from);
        let mut inbox = connection.inbox.take().unwrap_or_default();
        if let Phase::Deciding(pending) = &connection.phase {
            self.jobs.note_left(id, pending.given_bytes);
        }
        if !connection.flags.opened {
            // The handler never heard of it.
            self.stats.messages_cancelled += inbox.messages as u64;
        } else if connection.flags.job {
            let events = std::mem::take(&mut inbox.events);
            self.jobs.note_left(id, inbox.promised + memory_of(&events));
            self.orphans.insert(id, Orphan { events, reason });
        } else {
            let mut events = std::mem::take(&mut inbox.events);
            events.push_back(Event::Closed(reason));
            let task = Task::Events { session: connection.session.take(), events };
            self.queue_job(Job { id, route, task });
        }
        self.keep_spare_inbox(inbox);
    }

    pub(super) fn count_discarded(&mut self, discarded: Discarded) {
        self.stats.messages_discarded[OverflowPolicy::Close as usize] += discarded.messages;
        self.stats.discarded_bytes += discarded.bytes;
    }

    /// Counts a message or an event that is not queued.
    pub(super) fn count_refused(&mut self, policy: OverflowPolicy) {
        self.stats.messages_refused[policy as usize] += 1;
    }
}

/// One line for each end.
fn log_end(now: Instant, id: ConnectionId, connection: &Connection, reason: CloseReason) {
    let level = match reason.severity() {
        Severity::Clean => Level::Debug,
        Severity::Deadline => Level::Info,
        Severity::Fault => Level::Warn,
    };
    let counters = &connection.counters;
    let violation = match &connection.phase {
        Phase::Closing(Closing { violation: Some(violation), .. }) => violation.kind(),
        _ => "none",
    };
    log!(
        target: "heartwheel::connection",
        level,
        "closed id={id} transport={} reason={} code={} violation={violation} peer={} age_ms={} \
         bytes_in={} bytes_out={} messages_in={} messages_out={}: {reason}",
        connection.flags.transport.label(),
        reason.label(),
        if connection.flags.transport == Transport::WebSocket { reason.code() } else { 0 },
        connection.peer,
        millis_up(now.since(connection.opened_at)),
        counters.bytes_in,
        counters.bytes_out,
        counters.messages_in,
        counters.messages_out,
    );
}
