//! How connections end: the engine's part of the verbs that
//! [`ending`](crate::core::connection::ending) describes, and the one record of each end.

use log::{Level, log};

use crate::core::config::OverflowPolicy;
use crate::core::connection::closing::{After, Stage};
use crate::core::connection::http::Answering;
use crate::core::connection::{Connection, Told};
use crate::core::contract::event::{Event, Job, Task};
use crate::core::engine::departures::{Departures, RETRY_MS};
use crate::core::engine::drain::Drain;
use crate::core::engine::jobs::{Orphan, memory_of};
use crate::core::engine::{Action, End, Engine, find_mut, first_fault};
use crate::core::ground::cohort::Cohort;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::json;
use crate::core::ground::reason::{CloseReason, Severity};
use crate::core::ground::time::{Instant, millis_up};
use crate::core::ground::trace::Trace;
use crate::core::observe::stats::Transport;
use crate::core::outbox::{Discarded, Kind};
use crate::core::wire::frame::Frame;
use crate::core::wire::http;
use crate::core::wire::sse;
use crate::core::wire::ws;

impl Engine {
    /// Begins to end an open connection for a cause that is no fault. What was received before is
    /// handled and answered first, for `close_send` at most.
    pub(super) fn close_when_handled(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: CloseReason,
    ) {
        self.begin_closing(now, id, reason, Stage::Handling);
        self.advance(now, id);
    }

    /// Has a client come back later: as [`Engine::close_when_handled`], and the client is told
    /// when.
    pub(super) fn retire(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let retry_ms = self.draw_retry(reason);
        if reason != CloseReason::Lifetime {
            self.say_goodbye(now, id, retry_ms);
        }
        if self.begin_closing(now, id, reason, Stage::Handling)
            && let Some(connection) = self.get_mut(id)
        {
            connection.promise_retry(retry_ms as u32);
        }
        self.advance(now, id);
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
        if self.begin_closing(now, id, reason, Stage::Sending { then: After::Await }) {
            self.push_frame(now, id, ws::encoder::close(reason.code(), text), Kind::Close);
            self.mark_ready(id);
            self.touch(id);
        }
    }

    /// Ends a draining WebSocket when all is handled and written. Its client is told when to come
    /// back.
    pub(super) fn close_drained(&mut self, now: Instant, id: ConnectionId) {
        let retry_ms = self.draw_retry(CloseReason::Drain);
        self.say_goodbye(now, id, retry_ms);
        self.close(now, id, CloseReason::Drain, &format!("retry={retry_ms}"));
    }

    /// Ends an open connection for cause: the frame in progress is finished, the rest dropped.
    pub(super) fn fail(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.get_mut(id) else { return };
        let (is_open, is_live) = (connection.is_open(), connection.is_live());
        if !is_live {
            return;
        }
        let discarded = connection.outbox.discard_waiting();
        self.count_discarded(discarded);
        match is_open {
            true => self.close(now, id, reason, ""),
            false => self.end_stream(now, id, reason),
        }
    }

    /// Ends an event stream: the last chunk, if it goes in chunks, and FIN behind what is queued.
    pub(super) fn end_stream(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        self.unsubscribe_all(now, id);
        if matches!(reason, CloseReason::Drain | CloseReason::Shed) {
            let retry_ms = self.draw_retry(reason);
            self.push_frame(now, id, Frame::chunk(sse::retry(retry_ms)), Kind::Response);
        }
        if self.get(id).is_some_and(Connection::ends_by_chunk) {
            self.push_frame(now, id, Frame::raw(http::chunk("", true)), Kind::Response);
        }
        if let Some(connection) = self.get_mut(id) {
            // From now on what waits here waits for the peer alone, not for a rate of messages.
            connection.outbox.release_all(now);
            connection.begin_answer(now, Answering::last(reason));
        }
        self.mark_dirty(id);
        self.advance(now, id);
    }

    /// Takes the WebSocket out of an open connection, whose end begins; a pause of reading ends
    /// with it.
    fn begin_closing(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: CloseReason,
        stage: Stage,
    ) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        if !connection.begin_closing(now, reason, stage) {
            return false;
        }
        self.unsubscribe_all(now, id);
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        self.stats.timers_cancelled += connection.drop_timers();
        self.mark_dirty(id);
        true
    }

    /// Has the close frame of an end that has begun go: it answers the peer's close, or says that
    /// the server closes.
    pub(super) fn send_close_frame(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let Some(frame) = connection.begin_sending(now) else { return };
        let discarded = match frame.is_for_fault {
            true => connection.outbox.discard_waiting(),
            false => Discarded::default(),
        };
        self.count_discarded(discarded);
        let text = frame.retry_ms.map_or(String::new(), |retry_ms| format!("retry={retry_ms}"));
        self.push_frame(now, id, ws::encoder::close(frame.code, &text), Kind::Close);
        self.mark_ready(id);
        self.touch(id);
    }

    /// Draws after how many milliseconds a client is to come back. The more clients are told to,
    /// the wider the range, so that they do not come all at once. After a lifetime there is no
    /// restart to wait for, and no other client is told to.
    fn draw_retry(&mut self, reason: CloseReason) -> u64 {
        let departures = match reason {
            CloseReason::Drain => self.schedule.drain.as_ref().map(Drain::departures),
            CloseReason::Shed => self.schedule.shed.as_ref(),
            _ => None,
        };
        self.random.between(0, departures.map_or(RETRY_MS, Departures::retry_ms_max))
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
        self.begin_closing(now, id, violation.reason(), Stage::Handling);
        if let Some(connection) = self.get_mut(id) {
            connection.note_violation(violation);
        }
        self.advance(now, id);
    }

    /// Sends FIN and discards what still comes, so that a reset does not overtake what was written.
    pub(super) fn linger(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.linger(now) {
            self.actions.push_back(Action::Shutdown(id.key()));
            self.mark_ready(id);
            self.touch(id);
        }
    }

    /// Ends a connection that has nothing more to say: FIN, behind what may still wait (`100
    /// Continue`), and what still comes is discarded.
    pub(super) fn hang_up(&mut self, now: Instant, id: ConnectionId, reason: CloseReason) {
        if self.get_mut(id).is_some_and(|connection| connection.hang_up(now, reason)) {
            self.linger(now, id);
        }
    }

    /// Ends a connection: its slot, its wheel entry and its memory are given back, its end is
    /// counted and logged once, and its handler is told when no job of it is out.
    pub(super) fn finish(&mut self, now: Instant, id: ConnectionId, why: CloseReason, end: End) {
        if self.get(id).is_none() {
            return;
        }
        self.unsubscribe_all(now, id);
        let mut connection = self.connections.remove(id.key());
        self.forget_width(connection.flags.writing.is_wide());
        #[cfg(feature = "tls")]
        self.admission.certificates.forget(id.key());
        let was_armed = self.wheel.disarm(id.key());
        debug_assert!(was_armed, "there is no connection without a deadline");
        self.admission.public -=
            usize::from(connection.face != crate::core::contract::route::Face::Admin);
        self.release_address(&connection);
        self.admission.forget_hop(id);
        self.admission.forget_holder(id, &connection);
        let reason = first_fault(connection.reason_so_far(), why);
        let discarded = connection.outbox.discard();
        self.count_discarded(discarded);
        self.stats.timers_cancelled += connection.drop_timers();
        let transport = connection.flags.transport() as usize;
        self.stats.closed[transport][reason.index()] += 1;
        if connection.flags.cohort == Some(Cohort::Canary) {
            self.stats.canary.closed[transport][reason.index()] += 1;
        }
        log_end(now, id, &connection, self.admission.name(&connection), reason);
        debug_assert!(connection.outbox.is_empty(), "all that waited was counted as discarded");
        self.actions.push_back(match end {
            End::Close => Action::Close(id.key()),
            End::Abort => Action::Abort(id.key()),
        });
        self.tell_handler(id, connection, reason);
        #[cfg(feature = "tls")]
        self.admission.names.forget(id.key());
        self.relax(now);
    }

    fn tell_handler(&mut self, id: ConnectionId, mut connection: Connection, reason: CloseReason) {
        let route = connection.route.map_or(0, usize::from);
        let identity = self.admission.identity(&connection);
        let mut inbox = connection.inbox.take().unwrap_or_default();
        self.jobs.note_left(id, connection.given_bytes());
        self.tell_upload(id, route, &mut connection, reason);
        match connection.flags.told {
            // The handler was never told of the connection.
            Told::Not => self.stats.messages_cancelled += inbox.messages as u64,
            Told::Out => {
                let events = std::mem::take(&mut inbox.events);
                self.jobs.note_left(id, inbox.promised + memory_of(&events));
                let before = self.jobs.orphans.insert(id, Orphan { events, reason, identity });
                debug_assert!(before.is_none(), "a connection ends once");
            }
            Told::Yes => {
                let mut events = std::mem::take(&mut inbox.events);
                events.push_back(Event::Closed(reason));
                let task = Task::Events { session: connection.session.take(), events };
                self.queue_job(Job { id, route, identity, task });
            }
        }
        self.spares.inboxes.keep(inbox);
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
fn log_end(
    now: Instant,
    id: ConnectionId,
    connection: &Connection,
    name: Option<&str>,
    reason: CloseReason,
) {
    let level = match reason.severity() {
        Severity::Clean => Level::Debug,
        Severity::Deadline => Level::Info,
        Severity::Fault => Level::Warn,
    };
    let counters = &connection.counters;
    let violation = connection.violation().map_or("none", |violation| violation.kind());
    log!(
        target: "heartwheel::connection",
        level,
        "closed id={id} transport={} reason={} code={} violation={violation} peer={} age_ms={} \
         bytes_in={} bytes_out={} messages_in={} messages_out={}{}{}: {reason}",
        connection.flags.transport().label(),
        reason.label(),
        if connection.flags.transport() == Transport::WebSocket { reason.code() } else { 0 },
        connection.peer,
        millis_up(now.since(connection.opened_at)),
        counters.bytes_in,
        counters.bytes_out,
        counters.messages_in,
        counters.messages_out,
        name.map(shown_identity).unwrap_or_default(),
        Trace::shown(connection.trace()),
    );
}

/// Returns an identity as log lines have it: in quotes, with what could end them escaped.
fn shown_identity(name: &str) -> String {
    let mut shown = String::from(" identity=");
    json::write_string(&mut shown, name);
    shown
}
