//! When a connection must be looked at: derived from its state, never stored. There is no phase
//! without a deadline.

use std::time::Duration;

use crate::core::config::Config;
use crate::core::connection::Connection;
use crate::core::connection::heartbeat::{self, Due};
use crate::core::connection::http::{Answering, Rest};
use crate::core::connection::phase::Phase;
use crate::core::connection::websocket::WebSocket;
use crate::core::contract::route::Face;
use crate::core::ground::time::{Instant, SPAN_MAX, millis_up};
use crate::core::observe::stats::DeadlineKind;

/// The spans that bound a connection, and the rules of heartbeats, from the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    pub tick_ms: u64,
    pub handshake: Duration,
    pub body: Duration,
    pub keep_alive: Duration,
    pub read_idle: Option<Duration>,
    pub message: Duration,
    pub write_stall: Duration,
    pub stream: Duration,
    pub close_send: Duration,
    pub close_ack: Duration,
    pub heartbeat: heartbeat::Rhythm,
    pub comment: Duration,
    /// When the drain in progress ends.
    pub drain_ends_at: Option<Instant>,
}

impl From<&Config> for Spans {
    fn from(config: &Config) -> Spans {
        let deadlines = &config.deadlines;
        Spans {
            tick_ms: millis_up(config.tick).max(1),
            handshake: deadlines.handshake,
            body: deadlines.body,
            keep_alive: deadlines.keep_alive,
            read_idle: deadlines.read_idle,
            message: deadlines.message,
            write_stall: deadlines.write_stall,
            stream: deadlines.stream,
            close_send: deadlines.close_send,
            close_ack: deadlines.close_ack,
            heartbeat: config.into(),
            comment: config.heartbeat.comment,
            drain_ends_at: None,
        }
    }
}

impl Connection {
    /// Returns the moment at which the connection must be looked at: at its deadline, when a wait
    /// for a rate is over, or when a timer falls due.
    pub fn next_at(&self, spans: &Spans, now: Instant) -> Instant {
        let (at, _) = self.deadline(spans, now);
        let Some(extra) = &self.extra else { return at };
        extra.next_at().map_or(at, |extra_at| at.min(extra_at))
    }

    /// Returns the earliest deadline. There is always one.
    pub fn deadline(&self, spans: &Spans, now: Instant) -> (Instant, DeadlineKind) {
        let mut earliest = Earliest { tick_ms: spans.tick_ms, found: None };
        let phase_at = self.phase_at.near(now);
        // Time in which the server did not read does not count: until it reads again, a deadline
        // that waits for the peer's bytes is never due.
        let read_since = phase_at + self.unread_for(now);
        match &self.phase {
            Phase::Head { .. } => {
                earliest.offer(after(read_since, spans.handshake), DeadlineKind::Handshake);
            }
            Phase::Deciding(_) => {
                earliest.offer(after(phase_at, spans.handshake), DeadlineKind::Handshake);
            }
            Phase::KeepAlive { .. } => {
                earliest.offer(after(read_since, spans.keep_alive), DeadlineKind::KeepAlive);
            }
            Phase::Body(_) => earliest.offer(after(read_since, spans.body), DeadlineKind::Body),
            Phase::Upload(_) => match self.upload_held_at() {
                // The handler is behind, not the peer.
                Some(held_at) => {
                    let at = after(held_at.near(now), spans.handshake);
                    earliest.offer(at, DeadlineKind::Handshake);
                }
                None => earliest.offer(after(read_since, spans.body), DeadlineKind::Body),
            },
            Phase::Answering(Answering { more: Some(listing), .. }) if self.outbox.is_empty() => {
                // The answer waits for its source, or for the next turn's allowance, not for the
                // peer.
                let (span, kind) = match listing.rest {
                    Rest::Source => (spans.stream, DeadlineKind::Stream),
                    Rest::Table(_) | Rest::History(_) => {
                        (spans.write_stall, DeadlineKind::WriteStall)
                    }
                };
                earliest.offer(after(phase_at, span), kind);
            }
            Phase::Answering(_) => {}
            Phase::Stream(stream) => {
                let due = after(stream.queued_at.near(now), spans.comment);
                let due =
                    if spans.comment > COMMENT_GRID_AHEAD { due.floor(COMMENT_GRID) } else { due };
                earliest.offer(due, DeadlineKind::Comment);
            }
            Phase::Open(open) => self.deadline_open(open, spans, now, &mut earliest),
            Phase::Closing(closing) => {
                let (at, kind) = closing.deadline(phase_at, spans);
                earliest.offer(at, kind);
            }
        }
        if let Some((progress_at, oldest_at)) =
            self.outbox.waiting_since(!self.flags.writing.has_room())
        {
            let stalled_at = after(progress_at.near(now), spans.write_stall);
            // Two moments further apart than that cannot be compared.
            let oldest_for = spans.write_stall.saturating_mul(3).min(SPAN_MAX);
            let too_old_at = after(oldest_at.near(now), oldest_for);
            earliest.offer(stalled_at.min(too_old_at), DeadlineKind::WriteStall);
        }
        #[cfg(any(feature = "jwt", feature = "client"))]
        if let Some(grant) = self.grant().filter(|_| self.is_live()) {
            earliest.offer(grant.acts_at(), DeadlineKind::Auth);
        }
        // The operator is answered until the process exits.
        if let Some(at) = spans.drain_ends_at.filter(|_| self.face != Face::Admin) {
            earliest.offer(at, DeadlineKind::Drain);
        }
        debug_assert!(earliest.found.is_some(), "a phase without a deadline: {:?}", self.phase);
        earliest.found.unwrap_or((now + spans.close_ack, DeadlineKind::CloseAck))
    }

    fn deadline_open(
        &self,
        open: &WebSocket,
        spans: &Spans,
        now: Instant,
        earliest: &mut Earliest,
    ) {
        let heard_at = self.heard_at.near(now);
        let is_paused = self.is_paused();
        match open.heartbeat.due(&spans.heartbeat, heard_at, is_paused, now) {
            Due::Ping(at) => earliest.offer(at, DeadlineKind::Ping),
            Due::Pong(at) => earliest.offer(at, DeadlineKind::Pong),
            Due::Nothing => {}
        }
        if let Some(at) = open.lifetime_at {
            earliest.offer(at.near(now), DeadlineKind::Lifetime);
        }
        if let Some(read_idle) = spans.read_idle {
            // While reading is paused this deadline stands still and is never due.
            let since = if is_paused { now } else { heard_at + open.unread_for() };
            earliest.offer(after(since, read_idle), DeadlineKind::ReadIdle);
        }
        if is_paused {
            return;
        }
        if let Some(begun_at) = open.decoder.begun_at() {
            earliest.offer(after(begun_at.near(now), spans.message), DeadlineKind::Message);
        }
    }

    /// Returns for how long reading of a request has been held up by a rate; 0 if it is not.
    fn unread_for(&self, now: Instant) -> Duration {
        match self.rates() {
            Some(rates) if rates.read_at.is_some() => now.since(rates.unread_since.near(now)),
            _ => Duration::ZERO,
        }
    }

    /// Reads on after a wait for a rate. Deadlines for the bytes of a request do not count that
    /// time. Those of a WebSocket are moved by [`Connection::set_paused`].
    pub fn read_on(&mut self, now: Instant) {
        if self.is_requesting() {
            self.phase_at = (self.phase_at.near(now) + self.unread_for(now)).into();
        }
        if let Some(rates) = self.rates_mut() {
            rates.read_at = None;
        }
        self.flags.relink = true;
    }
}

/// The earliest of the deadlines offered. In one tick the kind that comes first wins.
struct Earliest {
    tick_ms: u64,
    found: Option<(Instant, DeadlineKind)>,
}

impl Earliest {
    fn offer(&mut self, at: Instant, kind: DeadlineKind) {
        let Some((found_at, found_kind)) = self.found else {
            self.found = Some((at, kind));
            return;
        };
        // Most deadlines are far apart: then their ticks differ, and no division is needed.
        let apart = at.as_millis().abs_diff(found_at.as_millis());
        let tick = |at: Instant| at.as_millis().div_ceil(self.tick_ms);
        let is_earlier = match apart >= self.tick_ms {
            true => at < found_at,
            false => (tick(at), kind) < (tick(found_at), found_kind),
        };
        if is_earlier {
            self.found = Some((at, kind));
        }
    }
}

/// Comments share wake-ups as pings do.
const COMMENT_GRID: Duration = Duration::from_secs(1);
const COMMENT_GRID_AHEAD: Duration = Duration::from_secs(5);

const _: () = assert!(
    COMMENT_GRID.as_millis() <= COMMENT_GRID_AHEAD.as_millis(),
    "what is moved down to the grid stays ahead"
);

/// Returns the first moment at which `span` has surely passed since `at`.
pub(super) fn after(at: Instant, span: Duration) -> Instant {
    at + span + Instant::RESOLUTION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::connection::PeerAddress;
    use crate::core::ground::id::{ConnectionId, Generation};
    use crate::core::ground::reason::CloseReason;
    use crate::core::outbox::{Kind, Spares};
    use crate::core::wire::frame::Frame;
    use crate::core::wire::spare_memory::SpareMemory;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    // From 8.3 days on, three times the span was more than moments can be apart: no byte was ever
    // too old.
    #[test]
    fn a_byte_is_too_old_after_three_times_the_stall_and_24_days_at_the_most() {
        for (stall_days, too_old_days) in [(1, 3), (8, 24), (10, 24), (24, 24)] {
            let mut config = Config::default();
            config.deadlines.write_stall = Duration::from_millis(stall_days * DAY_MS);
            let spans = Spans::from(&config);
            let at = |days| Instant::from_millis((1 << 31) + days * DAY_MS);
            let id = ConnectionId::new(0, Generation::FIRST);
            let mut connection = Connection::new(id, Face::Public, PeerAddress::new(None), at(0));
            connection.enter(at(0), Answering::last(CloseReason::Done));
            let spares = &mut Spares::default();
            connection.outbox.push(at(0), Frame::raw(vec![0; 100]), Kind::Response, spares);
            let ended = (0..100).find(|&day| {
                // The peer takes a byte every now and then.
                if day < too_old_days {
                    connection.outbox.written(at(day), 1, spares, &mut SpareMemory::none());
                }
                let (due_at, kind) = connection.deadline(&spans, at(day) + Instant::RESOLUTION);
                assert_eq!(kind, DeadlineKind::WriteStall);
                due_at <= at(day) + Instant::RESOLUTION
            });
            assert_eq!(ended, Some(too_old_days), "{stall_days}");
        }
    }
}
