//! Ending every connection in turn.

use std::time::Duration;

use log::info;

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
    ended: bool,
}

impl Drain {
    pub fn departures(&self) -> &Departures {
        &self.departures
    }
}

impl Engine {
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
        let tick_ms = self.settings.spans.tick_ms;
        let ends_ms = (now + window + Instant::RESOLUTION).as_millis().next_multiple_of(tick_ms);
        self.settings.spans.drain_ends_at = Some(Instant::from_millis(ends_ms));
        debug_assert!(departures.spread_ms() <= millis_up(window), "all are told before the end");
        self.schedule.drain = Some(Drain { departures, ended: false });
        self.begin_round(now, Change::default());
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
        self.settings.spans.drain_ends_at.map(|at| at + TELLING)
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
        let is_late = self.told_at().is_some_and(|at| at <= now);
        let is_over = self.admission.public == 0 && (self.is_told() || is_late);
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
