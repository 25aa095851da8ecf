//! What happens when a deadline comes due. Deadlines act last in a turn, and one that bytes already
//! in the socket could move gets one attempt to read or write first: a client must not be judged by
//! what the server has not looked at.

use crate::core::connection::Connection;
use crate::core::connection::effect::Effect;
use crate::core::connection::heartbeat::Missed;
use crate::core::contract::event::Event;
use crate::core::engine::rounds::{Beats, Change};
use crate::core::engine::{End, Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, sooner};
use crate::core::observe::stats::DeadlineKind;
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::sse;
use crate::core::wire::ws;

/// What is to be attempted before a deadline judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// One read; then [`Engine::expire`].
    Read(ConnectionId),
    /// One write; then [`Engine::expire`].
    Write(ConnectionId),
}

impl Engine {
    /// Returns the moment at which the next turn must come at the latest; earlier is harmless.
    /// `None` if nothing will ever be due: there is no connection.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let others = [
            self.drain_at(),
            self.shed_at(),
            self.topics.next_sweep_at(),
            self.reports.figures_at,
            self.accepts_at(),
            self.budget.next_at(),
            self.tickets_at(),
            self.timers.next_at(),
            self.spares.memory.rests_at(),
            #[cfg(feature = "presence")]
            self.presence.next_at(),
            #[cfg(feature = "deflate")]
            self.spares.coders.rests_at(),
        ];
        #[cfg(feature = "client")]
        let others = others.into_iter().chain([self.questions.next_at()]);
        others.into_iter().fold(self.wheel.next_deadline(), sooner)
    }

    /// Lets deadlines act until one needs an attempt first. `None` when none is due any more, or
    /// when the turn's allowance is spent: the next timeout is zero then.
    pub fn handle_timeout(&mut self, now: Instant, acts_left: &mut usize) -> Option<Attempt> {
        self.weigh(now);
        self.round_on(now, acts_left);
        self.end_revoked(now, acts_left);
        self.drain_on(now, acts_left);
        self.accept_on(now);
        self.shed_on(now, acts_left);
        self.expire_tickets(now, acts_left);
        self.fire_calls(now);
        #[cfg(feature = "client")]
        self.forget_opinions(now);
        while *acts_left > 0 {
            let key = self.wheel.poll_expired(now)?;
            let id = self.id_of(key)?;
            self.catch_up(key);
            let waited = self.end_waits(now, id);
            *acts_left -= usize::from(waited);
            *acts_left = acts_left.saturating_sub(self.fire_timers(now, id));
            let connection = &self.connections[key];
            let spans = self.settings.spans(connection);
            let (at, kind) = connection.deadline(spans, now);
            if at > now {
                self.wheel.arm(key, connection.next_at(spans, now));
                continue;
            }
            *acts_left = acts_left.saturating_sub(1);
            self.wheel.arm(key, now);
            match kind {
                DeadlineKind::WriteStall => return Some(Attempt::Write(id)),
                kind if kind.is_inactivity() => return Some(Attempt::Read(id)),
                _ => self.expire(now, id),
            }
        }
        None
    }

    /// Lets the deadline of a connection act, if it is still due.
    pub fn expire(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let (at, kind) = connection.deadline(self.settings.spans(connection), now);
        match kind {
            _ if at > now => {}
            #[cfg(any(feature = "jwt", feature = "client"))]
            DeadlineKind::Auth => self.act_on_expiry(now, id, at),
            kind => {
                self.fired(now, at, kind);
                self.act(now, id, kind);
            }
        }
        if let Some(connection) = self.get_mut(id) {
            connection.flags.relink = true;
            self.rearm(now, id.key());
        }
    }

    fn act(&mut self, now: Instant, id: ConnectionId, kind: DeadlineKind) {
        match kind {
            DeadlineKind::Handshake => self.act_by(now, id, Connection::end_by_handshake),
            DeadlineKind::Body => self.refuse_late(now, id, 408, CloseReason::Body),
            DeadlineKind::KeepAlive => self.hang_up(now, id, CloseReason::KeepAlive),
            DeadlineKind::Ping => self.ping(now, id),
            DeadlineKind::Pong => self.act_pong(now, id),
            DeadlineKind::ReadIdle => self.fail(now, id, CloseReason::ReadIdle),
            DeadlineKind::Message => self.fail(now, id, CloseReason::Message),
            DeadlineKind::Comment => {
                self.handle_more(now, id);
                self.push_frame(now, id, Frame::chunk(sse::comment()), Kind::Response);
            }
            DeadlineKind::Lifetime => self.retire(now, id, CloseReason::Lifetime),
            DeadlineKind::WriteStall => self.finish(now, id, CloseReason::WriteStall, End::Abort),
            DeadlineKind::Stream => self.act_on_standstill(now, id),
            DeadlineKind::CloseSend => self.act_by(now, id, Connection::end_by_close_send),
            DeadlineKind::CloseAck => self.finish(now, id, CloseReason::CloseAck, End::Abort),
            DeadlineKind::Drain => self.finish(now, id, CloseReason::DrainDeadline, End::Abort),
            // Not a deadline of a connection.
            DeadlineKind::Handler => {}
            // It looks at the wall clock first.
            #[cfg(any(feature = "jwt", feature = "client"))]
            DeadlineKind::Auth => {}
        }
    }

    /// Ends a connection as its phase requires.
    pub(super) fn act_by(
        &mut self,
        now: Instant,
        id: ConnectionId,
        end: fn(&Connection) -> Effect,
    ) {
        let effect = self.get(id).map_or(Effect::None, end);
        self.act_on(now, id, effect);
    }

    fn act_pong(&mut self, now: Instant, id: ConnectionId) {
        self.stats.pings_missed += 1;
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let rhythm = self.settings.spans(connection).heartbeat;
        let Some(heartbeat) = connection.heartbeat_mut() else { return };
        debug_assert!(heartbeat.is_waiting(), "a pong is missed that was waited for");
        match heartbeat.miss(&rhythm) {
            Missed::Again => self.ping(now, id),
            Missed::Suspect => {
                self.stats.suspects += 1;
                if self.has_handler(id) {
                    self.push_event(id, Event::Suspect);
                }
                self.ping(now, id);
            }
            Missed::GiveUp => self.fail(now, id, CloseReason::Heartbeat),
            Missed::Replaced => self.end_now(now, id, CloseReason::Replaced),
        }
    }

    pub(super) fn ping(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.key()) else { return };
        let rhythm = self.settings.spans(connection).heartbeat;
        // However long the pause: moments stay near to now.
        connection.skip_pause(now);
        let Some(heartbeat) = connection.heartbeat_mut() else { return };
        let payload = heartbeat.ping(&rhythm, now, &mut self.random);
        self.stats.pings_sent += 1;
        self.note_pinged(id);
        self.push_frame(now, id, ws::encoder::ping(&payload), Kind::Ping);
    }

    /// Takes note that the process had been stopped, or the machine suspended: peers may be gone,
    /// and live ones had no chance to answer. No peer is judged; each is pinged within the next
    /// interval.
    pub fn handle_time_jump(&mut self, now: Instant) {
        self.stats.time_jumps += 1;
        self.begin_round(now, Change { credentials: None, beats: Beats::Spread });
    }
}
