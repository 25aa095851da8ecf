//! What holds after each turn, and what holds at the end.

use std::time::Duration;

use heartwheel::config::RateAction;
use heartwheel::core::contract::route::Face;
use heartwheel::core::engine::Waiting;
use heartwheel::{CloseReason, Config};

use crate::peer::{Kind, Peer};
use crate::world::{Run, World};

/// Handlers have so long after a drain's deadline to be told of the ends.
const TELLING: Duration = Duration::from_millis(250);

fn ms(span: Duration) -> u64 {
    span.as_millis() as u64
}

impl World {
    /// How late a deadline may act, the millisecond that each one adds included.
    fn late_ms(&self) -> u64 {
        ms(self.plan.config.tick) + self.chaos.lag_ms_max.max(self.plan.chaos.lag_ms_max) + 2
    }

    /// Gives the longest that the engine may want to sleep.
    fn farthest(&self) -> u64 {
        let config = &self.plan.config;
        let deadlines = &config.deadlines;
        let spans = [
            deadlines.handshake,
            deadlines.body,
            deadlines.keep_alive,
            deadlines.read_idle.unwrap_or_default(),
            config.heartbeat.interval.unwrap_or_default(),
            deadlines.message,
            deadlines.write_stall,
            deadlines.close_send,
            deadlines.close_ack,
            deadlines.lifetime.unwrap_or_default(),
            deadlines.drain + TELLING,
            config.heartbeat.max,
            config.heartbeat.comment,
            config.topics.retain_for * 2,
            if compresses(config) { KEPT } else { Duration::ZERO },
        ];
        spans.into_iter().map(ms).max().unwrap_or_default()
    }
}

impl Run {
    pub fn check(&mut self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert_eq!(engine.deadlines_armed(), engine.len(), "one deadline for each connection");
        assert_eq!(stats.accepted, engine.len() as u64 + stats.closed_total(), "none is lost");
        let waiting = engine.waiting();
        self.check_balance(&waiting);
        #[cfg(feature = "presence")]
        self.check_presence();
        let open = self.world.slots.iter().flatten().count();
        assert_eq!(open, engine.len(), "a socket for each connection");
        let timeout = engine.poll_timeout().map(|at| at.as_millis());
        assert!(timeout.is_some() || engine.is_empty(), "a connection without a deadline");
        if !engine.is_draining() && engine.is_empty() && !self.world.plan.has_topics() {
            let rests = |at| compresses(&self.world.plan.config) && at <= self.world.now + ms(KEPT);
            assert!(timeout.is_none_or(rests), "nothing to do, no wake-up: {timeout:?}");
        }
        let far = self.world.now + self.world.farthest() + self.world.late_ms();
        assert!(timeout.is_none_or(|at| at <= far), "a wake-up far away: {timeout:?} > {far}");
        let waiting = waiting.messages_in;
        let awaited = self.world.application.records.values().filter(|record| record.is_awaited());
        let most = (awaited.count() * engine.config().limits.inbox_messages) as u64;
        assert!(waiting <= most, "{waiting} messages wait");
        let is_over =
            engine.is_empty() && self.world.application.is_idle() && !self.world.has_parked();
        if engine.is_draining() && is_over && !engine.has_work_left() {
            let is_told = engine.is_drained() || timeout.is_some_and(|at| at <= self.world.now);
            assert!(is_told, "the drain has ended and nobody knows");
        }
        let is_settled = !self.has_work_left() && timeout.is_none_or(|at| at > self.world.now);
        if is_settled {
            for index in 0..self.world.peers.len() {
                self.check_lateness(index);
            }
        }
    }

    /// What went in has come out, is counted as lost, or waits.
    fn check_balance(&self, waiting: &Waiting) {
        let stats = self.engine.stats();
        let gone = stats.sent_bytes + stats.discarded_bytes;
        assert_eq!(stats.queued_bytes, gone + waiting.bytes_out, "bytes balance");
        let lost = stats.messages_panicked + stats.messages_cancelled;
        let out = self.world.messages_given - self.world.messages_returned;
        let known = stats.messages_handled + lost + waiting.messages_in + out;
        assert_eq!(stats.messages_received, known, "messages received balance");
        let discarded: u64 = stats.messages_discarded.iter().sum();
        let known = self.world.frames_written + discarded + waiting.messages_out;
        assert_eq!(stats.messages_sent, known, "messages sent balance");
        let timers = stats.timers_due + stats.timers_cancelled;
        let pending = self.engine.timers_pending() as u64;
        assert_eq!(stats.timers_set, timers + pending, "timers balance");
        let rejected = stats.rejected_connections + stats.rejected_per_ip + stats.rejected_memory;
        assert_eq!(rejected, self.world.rejected, "who is turned away is counted");
    }

    /// Nobody has left who had not joined, and nobody stays who is not there: where no connection
    /// is left, each member is the last of a person who was told to be there.
    #[cfg(feature = "presence")]
    fn check_presence(&self) {
        let stats = self.engine.stats();
        let there = stats.presence_joins.checked_sub(stats.presence_leaves).expect("they joined");
        let members = self.engine.presence_members() as u64;
        assert!(there <= members, "{there} persons are {members} members");
        assert!(!self.engine.is_empty() || there == members, "a ghost: {there} of {members}");
    }

    /// No deadline acts late: what must have happened by now has happened.
    fn check_lateness(&mut self, index: usize) {
        let late = self.world.late_ms();
        let now = self.world.now;
        let peer = &self.world.peers[index];
        let Some(id) = peer.id else { return };
        if !self.engine.contains(id) {
            return;
        }
        let Some(record) = self.world.application.records.get(&id) else { return };
        let link = peer.link.borrow();
        let Peer { seen, accepted_at, witness, .. } = peer;
        let deadlines = &self.world.plan.config.deadlines;
        let due = |since: u64, span: Duration| now > since + ms(span) + late;
        let name = peer.name();
        if link.read_bytes == 0 && link.finish_at.is_none() {
            let is_due = due(*accepted_at, deadlines.handshake);
            assert!(!is_due, "{name} {index}: silent since it came");
        }
        if let Some(since) = link.finish_at.or(seen.close_at) {
            assert!(!due(since, deadlines.close_ack), "{name} {index}: closing for too long");
        }
        if let Some(since) = link.blocked_since {
            let since = since.max(link.last_written_at);
            assert!(!due(since, deadlines.write_stall), "{name} {index}: stalled for too long");
        }
        if let Some(at) = self.world.drain_at.filter(|_| peer.face != Face::Admin) {
            assert!(!due(at, deadlines.drain), "{name} {index}: outlived the drain");
        }
        let is_behind = !self.world.application.has_no_job_of(id)
            || self.world.has_parked()
            || self.world.plan.rate_action() == Some(RateAction::Pause)
            // Its messages wait until their answers may go.
            || self.world.plan.config.limits.send_per_second > 0
            // It may have published, and memory be short.
            || self.world.plan.config.limits.memory_bytes.is_some()
            // It may wait for the answers to what it has published.
            || self.world.log.is_some()
            || link.blocked_since.is_some()
            || link.has_edge();
        let is_closing = link.finish_at.is_some() || seen.close_at.is_some();
        assert!(!(is_closing && link.end_was_read), "{name} {index}: both sides have ended");
        if let Some(at) = link.fin_told_at
            && !is_behind
            && (self.world.drain_at.is_none() || is_closing)
        {
            let is_late = now > at.max(record.returned_at).max(link.last_read_at) + late;
            assert!(!is_late || link.end_was_read, "{name} {index}: the end is not read");
        }
        let is_open = witness.upgraded && witness.close.is_none();
        if !is_open || is_behind || self.world.drain_at.is_some() {
            return;
        }
        let heard_at = [link.last_read_at, seen.upgraded_at, record.returned_at];
        let heard_at = heard_at.into_iter().max().unwrap_or_default();
        let heard_at =
            heard_at.max(link.last_written_at).max(self.world.jumped_at.unwrap_or_default());
        let heartbeat = &self.world.plan.config.heartbeat;
        if let Some(interval) = heartbeat.interval {
            let interval = if heartbeat.adaptive { interval.max(heartbeat.max) } else { interval };
            let waits = seen.ping_at.is_some() && seen.read_at_ping == link.read_bytes;
            let span = if waits { self.world.plan.config.heartbeat.pong } else { interval };
            assert!(!due(heard_at, span.max(interval)), "{name} {index}: no ping");
        } else if let Some(read_idle) = deadlines.read_idle {
            assert!(!due(heard_at, read_idle), "{name} {index}: idle for too long");
        }
    }

    /// Says whether two turns in which nothing happens change nothing.
    pub fn check_rest(&mut self) {
        let is_settled = !self.has_work_left()
            && self.engine.poll_timeout().is_none_or(|at| at.as_millis() > self.world.now);
        if !is_settled {
            return;
        }
        let before = self.picture();
        let chaos = std::mem::take(&mut self.world.chaos);
        self.world.is_at_rest = true;
        for _ in 0..2 {
            self.turn();
        }
        self.world.is_at_rest = false;
        self.world.chaos = chaos;
        assert_eq!(self.picture(), before, "a turn without cause has changed something");
    }

    fn picture(&self) -> String {
        let engine = &self.engine;
        let mut stats = *engine.stats();
        stats.turns = 0;
        format!("{stats:?} {} {:?} {}", engine.len(), engine.poll_timeout(), engine.has_work_left())
    }

    /// What holds when everything has ended.
    pub fn check_end(&mut self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert!(engine.is_empty() && engine.deadlines_armed() == 0, "nothing is left");
        assert!(!engine.has_work_left(), "no work is left");
        if engine.is_draining() && self.world.shut_down_at.is_none() {
            assert!(engine.is_drained(), "the drain has ended");
        }
        assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes, "bytes balance");
        let ended = self.world.peers.iter().filter(|peer| peer.seen.ended.is_some());
        assert_eq!(ended.count() as u64, stats.accepted, "each end is told");
        for reason in CloseReason::ALL {
            let told = self.world.peers.iter().filter(|peer| peer.ended_as(reason.label())).count();
            assert_eq!(stats.closed_by(reason), told as u64, "{}", reason.label());
        }
        let read: u64 = self.world.peers.iter().map(|peer| peer.link.borrow().read_bytes).sum();
        let written: u64 =
            self.world.peers.iter().map(|peer| peer.link.borrow().written_bytes).sum();
        assert_eq!((stats.received_bytes, stats.sent_bytes), (read, written));
        assert_eq!(engine.waiting(), Waiting::default(), "nothing waits");
        self.check_balance(&Waiting::default());
        // What handlers sent, and what the topics sent: all of it was queued, or was refused.
        let refused: u64 = stats.messages_refused.iter().sum();
        let offered = stats.messages_sent + refused;
        assert!(offered >= self.world.application.messages_sent, "what is to be sent is counted");
        if !self.world.plan.has_topics() {
            assert_eq!(offered, self.world.application.messages_sent, "nothing is sent unasked");
        }
        self.world.ledger.check();
        for (id, record) in &self.world.application.records {
            let label =
                self.world.peers[record.peer].seen.ended.as_ref().map(|ended| ended.1.clone());
            assert!(record.is_told(), "the handler of {id} was not told of its end");
            if record.reason.is_some() {
                assert_eq!(record.reason, label, "the handler hears what the log says");
                assert_eq!(record.code, self.world.peers[record.peer].seen.code, "and the code");
            }
        }
        for (index, peer) in self.world.peers.iter().enumerate() {
            let Kind::Honest(honest) = &peer.kind else { continue };
            let is_whole = peer.seen.ended.as_ref().is_some_and(|ended| !ended.2)
                && !peer.link.borrow().was_reset;
            if is_whole && honest.tells_all() {
                assert_eq!(honest.close_seen, peer.witness.close, "peer {index} heard why");
                assert_eq!(honest.received, peer.witness.messages, "peer {index} got all");
            }
        }
    }
}

/// Says whether what compresses is given back a while after its last use.
#[cfg(feature = "deflate")]
fn compresses(config: &Config) -> bool {
    config.compression.mode == heartwheel::config::CompressionMode::On
}

#[cfg(not(feature = "deflate"))]
fn compresses(_: &Config) -> bool {
    false
}

/// For how long it is kept.
const KEPT: Duration = Duration::from_secs(10);
