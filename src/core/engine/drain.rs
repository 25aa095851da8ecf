//! Ending every connection in turn.

use std::time::Duration;

use log::info;

use crate::core::contract::event::{Call, Outcome};
use crate::core::contract::route::Face;
use crate::core::engine::departures::Departures;
use crate::core::engine::rounds::Change;
use crate::core::engine::{End, Engine};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, millis_up};

/// A drain in progress.
#[derive(Debug)]
pub(super) struct Drain {
    departures: Departures,
    /// No connection is left but the operator's.
    is_empty: bool,
    ended: bool,
}

impl Drain {
    pub fn departures(&self) -> &Departures {
        &self.departures
    }
}

/// What the application does when a drain begins.
#[derive(Debug, Default)]
pub(super) struct DrainHooks {
    waiting: Vec<Call>,
    /// Begins with them, once there is one: a program that has none does not carry it.
    begin: Option<fn(&mut Engine)>,
}

impl Engine {
    /// Has a call run when a drain begins; at once if it has begun.
    pub fn on_drain(&mut self, call: Call) {
        self.schedule.drain_hooks.waiting.push(call);
        self.schedule.drain_hooks.begin = Some(Engine::begin_drain_hooks);
        if self.is_draining() {
            self.begin_drain_hooks();
        }
    }

    /// Runs the hooks, one after the other, so that the other workers are left to the handlers. The
    /// drain waits for them as for any job.
    fn begin_drain_hooks(&mut self) {
        let hooks = std::mem::take(&mut self.schedule.drain_hooks.waiting);
        info!("drain hooks begun count={}", hooks.len());
        let run = move |tick: &mut dyn FnMut()| {
            let mut outcome = Outcome::Called;
            for hook in hooks {
                // One panic is counted for all.
                match (hook.run)(tick) {
                    Outcome::Called => {}
                    panicked => outcome = panicked,
                }
            }
            info!("drain hooks ended");
            outcome
        };
        self.queue_call(Call { number: 0, run: Box::new(run) });
    }

    /// Begins to drain; a second call changes nothing. The listeners are for the loop to close.
    pub(super) fn begin_drain(&mut self, now: Instant) {
        if self.schedule.drain.is_some() {
            return;
        }
        let mut told = 0;
        let mut waiting: Vec<ConnectionId> = Vec::with_capacity(self.admission.public);
        for (_, connection) in &self.connections {
            if connection.face != Face::Admin {
                waiting.push(connection.id);
                told += u64::from(connection.is_live());
            }
        }
        let window = self.settings.config.deadlines.drain;
        let departures = Departures::new(now, waiting, told, window);
        info!(
            "drain begun connections={} spread_ms={} window_ms={}",
            departures.total(),
            departures.spread_ms(),
            millis_up(window)
        );
        // In whole ticks, as the wheel acts: the loop does not wait for it awake.
        let tick_ms = self.settings.common_spans().tick_ms;
        let ends_ms = (now + window + Instant::RESOLUTION).as_millis().next_multiple_of(tick_ms);
        self.settings.end_at(Instant::from_millis(ends_ms));
        debug_assert!(departures.spread_ms() <= millis_up(window), "all are told before the end");
        self.schedule.drain = Some(Drain { departures, is_empty: false, ended: false });
        self.begin_round(now, Change::default());
        if let Some(begin) = self.schedule.drain_hooks.begin {
            begin(self);
        }
    }

    /// Returns when the drain goes on: at the turn of the next connection. When no connection is
    /// left, that is at once if all handlers have been told, else when the drain's time is over.
    /// `None` while the deadlines of connections see to the rest.
    pub(super) fn drain_at(&self) -> Option<Instant> {
        let drain = self.schedule.drain.as_ref().filter(|drain| !drain.ended)?;
        match drain.departures.next_at() {
            None if self.admission.public > 0 => None,
            None if self.is_told() => Some(drain.departures.began_at()),
            None => self.told_at(),
            next_at => next_at,
        }
    }

    /// Returns when the time is over in which handlers are told of the ends: handlers of
    /// connections dropped at the deadline are only told after it.
    fn told_at(&self) -> Option<Instant> {
        self.settings.common_spans().drain_ends_at.map(|at| at + TELLING)
    }

    /// Drains the connections whose turn has come, as many as may act in this turn of the loop: if
    /// the loop was held up, thousands may be due.
    pub(super) fn drain_on(&mut self, now: Instant, acts_left: &mut usize) {
        while *acts_left > 0
            && let Some(drain) = &mut self.schedule.drain
            && let Some(id) = drain.departures.poll(now)
        {
            *acts_left -= 1;
            self.drain_one(now, id);
        }
        self.end_drain(now);
    }

    fn drain_one(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        let effect = connection.end_by_drain();
        self.act_on(now, id, effect);
        self.advance(now, id);
    }

    /// Ends the drain when no connection is left but the operator's and every handler has been
    /// told, or when its time is over.
    fn end_drain(&mut self, now: Instant) {
        let is_empty = self.admission.public == 0;
        if let Some(drain) = &mut self.schedule.drain
            && is_empty
            && !std::mem::replace(&mut drain.is_empty, true)
        {
            let (total, began_at) = (drain.departures.total(), drain.departures.began_at());
            let after_ms = millis_up(now.since(began_at));
            info!("drain connections ended connections={total} after_ms={after_ms}");
        }
        let is_late = self.told_at().is_some_and(|at| at <= now);
        let is_over = is_empty && (self.is_told() || is_late);
        if let Some(drain) = &mut self.schedule.drain
            && is_over
            && !std::mem::replace(&mut drain.ended, true)
        {
            let dropped = self.stats.deadlines_fired
                [crate::core::observe::stats::DeadlineKind::Drain as usize];
            info!(
                "drain ended connections={} dropped={dropped} handlers_left={} after_ms={}",
                drain.departures.total(),
                self.jobs.out(),
                millis_up(now.since(drain.departures.began_at()))
            );
        }
    }

    /// Ends a turn: a drain may have come to its end, and what the flush has queued may be too
    /// much. [`Engine::poll_action`] follows.
    pub fn end_turn(&mut self, now: Instant) {
        self.weigh(now);
        self.arm_touched(now);
        self.spares.memory.rest(now);
        #[cfg(feature = "deflate")]
        self.spares.coders.rest(now);
        self.end_drain(now);
    }

    /// Returns whether every handler has been told of all its events.
    pub fn is_told(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Returns the number of jobs that were taken and have not come back.
    pub fn jobs_out(&self) -> usize {
        self.jobs.out()
    }

    /// Returns the number of jobs that have come back.
    pub fn jobs_returned(&self) -> u64 {
        self.jobs.returned()
    }

    /// Returns whether a drain was begun.
    pub fn is_draining(&self) -> bool {
        self.schedule.drain.is_some()
    }

    /// Returns whether a drain has come to its end: no connection is left but the operator's.
    pub fn is_drained(&self) -> bool {
        self.schedule.drain.as_ref().is_some_and(|drain| drain.ended)
    }

    /// Ends every connection at once: with a reset, or, behind a drain that has come to its end,
    /// so that the operator's answers still arrive.
    pub fn shut_down(&mut self, now: Instant) {
        let end = if self.is_drained() { End::Close } else { End::Abort };
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(id) = self.id_of(key) {
                self.finish(now, id, CloseReason::Shutdown, end);
            }
        }
    }
}

/// How long a drain goes on behind its deadline if handlers have not been told of every end.
const TELLING: Duration = Duration::from_millis(250);
