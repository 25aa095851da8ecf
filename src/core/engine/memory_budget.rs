//! The memory budget, `limits.memory_bytes`: what waits is counted. If that is much, first logs
//! shrink, then what would add to it is refused, and last connections are ended.
//!
//! Between counts only the sum of what has come since is kept. A new count is made only if the last
//! count and this sum together are much. So the budget is exceeded by a sixty-fourth at most, and
//! costs nothing while there is room.

use std::collections::BinaryHeap;

use log::{info, warn};

use crate::core::config::Config;
use crate::core::engine::census::{Census, OwnBytes};
use crate::core::engine::{End, Engine};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::topics::Topics;
use crate::core::topics::log::Log;
use crate::core::transport::WIDE_SEND_BUFFER_BYTES;
use crate::core::wire::frame::Frame;

/// What is known of the memory in use.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    /// `limits.memory_bytes`.
    limit: u64,
    /// What was counted last, commands left out.
    counted: u64,
    /// What came since.
    fresh: u64,
    /// Below this nothing is due, whatever else is so.
    quiet_below: u64,
    /// Commands on their way to the loop, by their own count.
    commands: u64,
    /// Much is in use, and there are logs that can shrink.
    is_trimming: bool,
    /// How many events may still be evicted in this turn.
    trims_left: usize,
    /// When to count again, while nothing is left to shrink.
    short_until: Option<Instant>,
}

impl MemoryBudget {
    pub fn new(config: &Config, memory_auto: u64) -> MemoryBudget {
        MemoryBudget {
            limit: limit(config, memory_auto),
            counted: 0,
            fresh: 0,
            quiet_below: 0,
            commands: 0,
            is_trimming: false,
            trims_left: Topics::SWEEP_EVENTS_MAX,
            short_until: None,
        }
    }

    /// Follows another limit. The next count finds what is beyond it.
    pub fn reload(&mut self, config: &Config, memory_auto: u64) {
        self.limit = limit(config, memory_auto);
        self.quiet_below = 0;
        self.fresh = self.fresh.max(self.step());
    }

    pub fn begin_turn(&mut self) {
        self.trims_left = Topics::SWEEP_EVENTS_MAX;
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns how many bytes are kept of the memory of large messages, for the next ones.
    pub fn spare_max(&self) -> usize {
        usize::try_from(self.limit / 32).map_or(SPARE_BYTES_MAX, |most| most.min(SPARE_BYTES_MAX))
    }

    /// Returns how many bytes what clients have published lately may take.
    pub fn repeats_max(&self) -> usize {
        usize::try_from(self.limit / 64).unwrap_or(usize::MAX)
    }

    /// Returns how many connections may have a wide send buffer at once. The kernel holds twice the
    /// buffer at most.
    pub fn wide_max(&self) -> usize {
        usize::try_from(self.limit / 32).unwrap_or(usize::MAX) / (2 * WIDE_SEND_BUFFER_BYTES)
    }

    /// Takes note of bytes that now wait somewhere.
    pub fn add(&mut self, bytes: usize) {
        self.fresh = self.fresh.saturating_add(bytes as u64);
    }

    /// Returns whether too much is in use, and nothing is left to shrink: what adds to it is
    /// refused.
    pub fn is_short(&self) -> bool {
        self.short_until.is_some()
    }

    /// Returns whether logs are to shrink further in the next turn.
    pub fn is_trimming(&self) -> bool {
        self.is_trimming
    }

    /// Returns when to count again; `None` unless memory is short.
    pub fn next_at(&self) -> Option<Instant> {
        self.short_until
    }

    /// Notes how much may come before a count can be due, because each message asks for that.
    fn foresee(&mut self) {
        let room = self.high().saturating_sub(self.used()) / 2;
        let is_busy = self.is_trimming || self.is_short();
        self.quiet_below = if is_busy { 0 } else { room.max(self.step()) };
    }

    fn used(&self) -> u64 {
        self.counted.saturating_add(self.commands)
    }

    /// Much in use, in bytes: beyond it logs shrink, then publishers and connections are refused.
    fn high(&self) -> u64 {
        self.limit / 5 * 4
    }

    /// So many bytes that connections are ended. What comes until the next count still fits.
    fn full(&self) -> u64 {
        self.limit - 2 * self.step()
    }

    /// In bytes: a shortage ends when no more than this is in use.
    fn low(&self) -> u64 {
        self.limit / 4 * 3
    }

    /// How many bytes may come before the next count.
    fn step(&self) -> u64 {
        self.limit / 64
    }

    /// Buffers grow ahead of their content: they may hold twice the bytes that came.
    fn is_due(&self, now: Instant) -> bool {
        if self.fresh < self.quiet_below {
            return false;
        }
        self.short_until.is_some_and(|at| at <= now)
            || self.used().saturating_add(self.fresh.saturating_mul(2)) > self.high()
                && (self.fresh >= self.step() || self.is_trimming && self.trims_left > 0)
    }
}

fn limit(config: &Config, memory_auto: u64) -> u64 {
    config.limits.memory_bytes.unwrap_or(memory_auto)
}

impl Engine {
    /// Notes how many bytes of commands are on their way to the engine. Called once in a turn.
    pub fn note_commands(&mut self, bytes: usize) {
        self.budget.commands = bytes as u64;
        self.budget.foresee();
    }

    /// Returns how many bytes of memory may wait: `limits.memory_bytes`.
    pub fn memory_limit(&self) -> u64 {
        self.budget.limit
    }

    /// Counts what is in use, if that may be too much, and does what is to be done about it.
    pub(super) fn weigh(&mut self, now: Instant) {
        if !self.budget.is_due(now) {
            return;
        }
        // What is kept for use again goes first.
        self.spares.memory.free();
        let mut owners = Vec::new();
        let census = self.census_of(|id, own| owners.push((own, id)));
        self.budget.counted = self.waiting_bytes(&census);
        self.budget.fresh = 0;
        self.budget.quiet_below = 0;
        self.trim_logs();
        // While a log can shrink no client is refused, and no connection is ended.
        let is_at_most = match self.budget.is_short() {
            true => self.budget.low(),
            false => self.budget.high(),
        };
        if self.budget.used() <= is_at_most || self.budget.is_trimming {
            return self.end_shortage(now);
        }
        if !self.budget.is_short() {
            let (used, limit) = (self.budget.used(), self.budget.limit);
            warn!("memory short used={used} limit={limit}: refusing connections and publishers");
        }
        debug_assert!(!self.budget.is_trimming, "nobody is refused while a log can shrink");
        self.budget.short_until = Some(now + self.settings.config.tick);
        if self.budget.used() > self.budget.full() {
            self.shed_largest(now, BinaryHeap::from(owners));
        }
    }

    /// Keeps all logs together within half of the budget after `added` bytes were added. It evicts
    /// at most as many events as these bytes displace. If a lower limit has left more beyond the
    /// half, it evicts as many further events as the turn allows.
    pub(super) fn halve_logs(&mut self, added: usize) {
        let mut displaced = added.div_ceil(Log::EVENT_BYTES);
        while self.has_logs_to_trim() {
            let left = if displaced > 0 { &mut displaced } else { &mut self.budget.trims_left };
            if *left == 0 || self.topics.trim_oldest() == 0 {
                break;
            }
            *left -= 1;
            self.allowance.charge_trim();
        }
    }

    /// Returns whether all logs together exceed half of the budget.
    pub(super) fn has_logs_to_trim(&self) -> bool {
        self.topics.bytes() as u64 > self.budget.limit / 2
    }

    /// Evicts the oldest events while much is in use, as many as the turn allows.
    fn trim_logs(&mut self) {
        while self.budget.used() > self.budget.high() && self.budget.trims_left > 0 {
            self.budget.trims_left -= 1;
            match self.topics.trim_oldest() {
                0 => break,
                freed => self.budget.counted = self.budget.counted.saturating_sub(freed as u64),
            }
        }
        let is_high = self.budget.used() > self.budget.high();
        self.budget.is_trimming = is_high && self.topics.bytes() > 0;
    }

    /// Ends the shortage, if there is one: paused publishers are read from again.
    fn end_shortage(&mut self, now: Instant) {
        if self.budget.short_until.take().is_none() {
            return;
        }
        info!("memory suffices again used={} limit={}", self.budget.used(), self.budget.limit);
        let paused = self.connections.iter().filter(|(_, connection)| connection.is_paused());
        let paused: Vec<ConnectionId> = paused.map(|(_, connection)| connection.id).collect();
        for id in paused {
            self.update_pause(now, id);
            self.touch(id);
        }
    }

    /// Ends the shortage when the last connection has ended: there is nothing left to wake up for.
    pub(super) fn relax(&mut self, now: Instant) {
        if self.connections.is_empty() && self.budget.is_short() {
            self.budget.counted = self.log_bytes() as u64;
            self.end_shortage(now);
        }
    }

    /// Ends the connection that holds most memory of its own, then the next, until the rest fits.
    fn shed_largest(&mut self, now: Instant, mut owners: BinaryHeap<(OwnBytes, ConnectionId)>) {
        while self.budget.used() > self.budget.full()
            && let Some((own, id)) = owners.pop()
        {
            self.end_for_memory(now, id);
            // A shared frame is freed with the last connection it waits for. So this may be too
            // much: the next count corrects it, and no connection is ended in vain.
            let freed = if own.bytes > 0 { own.bytes } else { own.waiting };
            self.budget.counted = self.budget.counted.saturating_sub(freed);
        }
    }

    /// Ends a connection for want of memory and frees what it holds at once.
    fn end_for_memory(&mut self, now: Instant, id: ConnectionId) {
        let reason = CloseReason::Memory;
        self.forget_messages(id);
        let Some(connection) = self.get_mut(id) else { return };
        if let Some(inbox) = &mut connection.inbox {
            inbox.drop_rest();
        }
        let effect = connection.end_by_memory();
        self.act_on(now, id, effect);
        let Some(connection) = self.get_mut(id) else { return };
        connection.stop_assembling();
        // The peer could be told why only behind the rest of a frame that has begun.
        if connection.outbox.bytes() > FAREWELL_BYTES_MAX {
            self.finish(now, id, reason, End::Abort);
        }
    }

    /// Returns the memory of events: those retained, those on their way to subscribers, those that
    /// wait for a log which answers later, and what is known of those that may be sent again; and
    /// that of who is on topics.
    pub(super) fn log_bytes(&self) -> usize {
        let waiting = self.queues.followed.tickets().map_or(0, |tickets| tickets.bytes());
        let bytes =
            self.topics.bytes() + self.topics.waiting_only_bytes() + waiting + self.repeats.bytes();
        #[cfg(feature = "presence")]
        let bytes = bytes + self.presence_bytes();
        bytes
    }

    fn waiting_bytes(&self, census: &Census) -> u64 {
        let logs = self.log_bytes() + self.listeners.bytes();
        census.partial_bytes + census.inbox_bytes + census.queued_bytes + logs as u64
    }
}

/// The most bytes that are kept of the memory of large messages, however large the budget.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// In bytes: a close frame or a refusal, behind the rest of another control frame.
const FAREWELL_BYTES_MAX: usize = 4096;

const _: () = assert!(
    FAREWELL_BYTES_MAX > 2 * (125 + Frame::HEAD_BYTES_MAX),
    "a close frame fits behind another control frame"
);

/// What is said where the memory budget has no room.
pub(super) const SHORT_OF_MEMORY: &str = "the server is short of memory";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::engine::Setup;
    use crate::core::topics::Payload;

    // After a reload with a lower limit the next publish evicted everything beyond it at once.
    #[test]
    fn logs_beyond_a_lower_limit_go_a_share_at_a_time() {
        let mut config = Config::default();
        config.topics.retain_events = 100_000;
        config.limits.memory_bytes = Some(64 << 20);
        let setup = Setup {
            config: config.clone(),
            routes: Vec::new(),
            machine_name: String::new(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        };
        let mut engine = Engine::new(setup);
        let now = Instant::from_millis(1);
        let publish = |engine: &mut Engine| engine.publish(now, "a", Payload::text("x")).unwrap();
        (0..30_000).for_each(|_| _ = publish(&mut engine));
        config.limits.memory_bytes = Some(1 << 20);
        engine.budget.reload(&config, u64::MAX);
        let mut turns = 0;
        while engine.topics.bytes() > 512 << 10 {
            engine.begin_turn(1);
            let (before, budget) = (engine.topics.bytes(), engine.allowance.left());
            publish(&mut engine);
            publish(&mut engine);
            let gone = (before + 2 * (Log::EVENT_BYTES + 1) - engine.topics.bytes())
                / (Log::EVENT_BYTES + 1);
            assert!(gone <= Topics::SWEEP_EVENTS_MAX + 4, "{gone} in a turn");
            assert_eq!(engine.allowance.left(), budget - gone * 8, "it is charged");
            turns += 1;
        }
        assert!(turns > 10);
    }
}
