//! Timers: those that handlers set for their connections, and the jobs of the server's own.
//!
//! A connection's timers hang on its wheel entry, so they cost no wake-up but their own. When one
//! falls due it becomes an event like any other: it waits in the inbox until the handler is free.
//! Until the handler is given it, it counts against `limits.timers` and can be moved or cancelled.
//! They last as long as the connection is open.

use std::time::Duration;

use crate::core::connection::{Connection, take_timer};
use crate::core::contract::event::{Call, Event, Job, Task};
use crate::core::engine::services::is_handled;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::time::Instant;

/// What there is of timers beside those of connections.
#[derive(Debug, Default)]
pub(super) struct ServerTimers {
    /// The server's own, in the order in which they were set.
    calls: Vec<Waiting>,
    /// Timers set in this turn. The time that the turn takes does not count.
    fresh: Vec<(ConnectionId, u64)>,
    /// When the turn began in which they were set.
    fresh_at: Instant,
    /// What a turn does for timers, once one has been set: a program that sets none does not carry
    /// it.
    hooks: Option<&'static Hooks>,
}

/// What a turn does for timers.
#[derive(Debug)]
struct Hooks {
    fire: fn(&mut Engine, Instant, ConnectionId) -> usize,
    fire_calls: fn(&mut Engine, Instant),
    postpone: fn(&mut Engine, Instant),
}

static HOOKS: Hooks = Hooks {
    fire: Engine::fire_timers_set,
    fire_calls: Engine::fire_calls_set,
    postpone: Engine::postpone_timers_set,
};

/// A call of the server's own, until it is due.
#[derive(Debug)]
struct Waiting {
    at: Instant,
    /// It was set in this turn.
    is_fresh: bool,
    call: Call,
}

impl ServerTimers {
    /// Returns when the first call of the server's own is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.calls.iter().map(|waiting| waiting.at).min()
    }

    /// Notes a timer that is set in a turn which began at `now`.
    fn note_fresh(&mut self, now: Instant, id: ConnectionId, token: u64) {
        self.begin_turn(now);
        self.fresh.push((id, token));
    }

    fn begin_turn(&mut self, now: Instant) {
        self.hooks = Some(&HOOKS);
        if self.fresh_at != now {
            self.fresh.clear();
            self.fresh_at = now;
        }
    }

    fn push(&mut self, now: Instant, span: Duration, call: Call) {
        self.begin_turn(now);
        self.calls.push(Waiting { at: now + span + Instant::RESOLUTION, is_fresh: true, call });
    }

    /// Takes out the call with this number, if it is not due.
    fn take(&mut self, number: u32) -> Option<Call> {
        let index = self.calls.iter().position(|waiting| waiting.call.number == number)?;
        Some(self.calls.remove(index).call)
    }

    /// Takes out the earliest call that is due.
    fn poll_due(&mut self, now: Instant) -> Option<Call> {
        let at = self.next_at().filter(|at| *at <= now)?;
        let index = self.calls.iter().position(|waiting| waiting.at == at)?;
        Some(self.calls.remove(index).call)
    }
}

/// What became of a timer that was to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// It is set.
    Set,
    /// The connection has no handler, or is not open any more.
    Gone,
    /// As many are pending as there may be.
    Full,
}

impl Engine {
    /// Sets a timer of a connection, or moves the timer with this token. One that fell due and
    /// waits for the handler is taken back.
    pub fn set_timer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        span: Duration,
        token: u64,
    ) -> Timed {
        self.take_back_timer(id, token);
        let connection = find_mut(&mut self.connections, id);
        let is_handled = |connection: &&mut Connection| {
            connection.is_open() && is_handled(&self.settings.routes, connection)
        };
        let Some(connection) = connection.filter(is_handled) else {
            self.stats.commands_stale += 1;
            return Timed::Gone;
        };
        let waiting = connection.inbox.as_ref().map_or(0, |inbox| inbox.timers);
        let most = self.settings.rules(connection).limits.timers;
        let timers = &mut connection.extra.get_or_insert_default().timers;
        let moved = timers.cancel(token);
        if timers.len() + waiting >= most {
            self.stats.timers_refused += 1;
            return Timed::Full;
        }
        timers.set(token, now + span + Instant::RESOLUTION);
        connection.flags.relink = true;
        self.stats.timers_set += u64::from(!moved);
        self.timers.note_fresh(now, id, token);
        self.touch(id);
        Timed::Set
    }

    /// Cancels a timer of a connection, also one that fell due and waits for the handler. Returns
    /// whether there was one.
    pub fn cancel_timer(&mut self, id: ConnectionId, token: u64) -> bool {
        let was_due = self.take_back_timer(id, token);
        let Some(connection) = self.get_mut(id) else { return was_due };
        let pending = connection.extra.as_mut().is_some_and(|extra| extra.timers.cancel(token));
        if pending {
            connection.flags.relink = true;
            self.stats.timers_cancelled += 1;
            self.touch(id);
        }
        was_due || pending
    }

    /// Takes back the event of a timer that is due, if the handler has not been given it; also of a
    /// connection that has ended while its handler was busy.
    fn take_back_timer(&mut self, id: ConnectionId, token: u64) -> bool {
        if let Some(orphan) = self.jobs.orphans.get_mut(&id) {
            return take_timer(&mut orphan.events, token);
        }
        let connection = find_mut(&mut self.connections, id);
        let inbox = connection.and_then(|connection| connection.inbox.as_mut());
        inbox.is_some_and(|inbox| inbox.take_timer(token))
    }

    /// Makes events of the timers of a connection that are due. Returns how many there were.
    #[inline]
    pub(super) fn fire_timers(&mut self, now: Instant, id: ConnectionId) -> usize {
        self.timers.hooks.map_or(0, |hooks| (hooks.fire)(self, now, id))
    }

    /// Makes jobs of the server's own timers that are due.
    #[inline]
    pub(super) fn fire_calls(&mut self, now: Instant) {
        if let Some(hooks) = self.timers.hooks {
            (hooks.fire_calls)(self, now);
        }
    }

    /// Has the timers set in this turn count from its end: a handler on the loop may have taken
    /// long before it set them, and none is to be early.
    #[inline]
    pub fn postpone_timers(&mut self, now: Instant) {
        if let Some(hooks) = self.timers.hooks {
            (hooks.postpone)(self, now);
        }
    }

    fn fire_timers_set(&mut self, now: Instant, id: ConnectionId) -> usize {
        let mut fired = 0;
        while let Some(extra) = self.get_mut(id).and_then(|connection| connection.extra.as_mut())
            && let Some(token) = extra.timers.poll_due(now)
        {
            self.push_event(id, Event::Timer(token));
            fired += 1;
        }
        self.stats.timers_due += fired as u64;
        fired
    }

    fn postpone_timers_set(&mut self, now: Instant) {
        if self.timers.fresh.is_empty() && self.timers.calls.is_empty() {
            return;
        }
        let by = now.since(self.timers.fresh_at);
        for waiting in &mut self.timers.calls {
            if std::mem::take(&mut waiting.is_fresh) {
                waiting.at = waiting.at + by;
            }
        }
        for (id, token) in std::mem::take(&mut self.timers.fresh) {
            if !by.is_zero()
                && let Some(connection) = find_mut(&mut self.connections, id)
                && let Some(extra) = &mut connection.extra
            {
                extra.timers.postpone(token, by);
                connection.flags.relink = true;
                self.queues.touched.push(connection);
            }
        }
    }

    /// Sets a timer of the server's own. The caller keeps within `limits.timers`.
    pub fn call_after(&mut self, now: Instant, span: Duration, call: Call) {
        self.stats.timers_set += 1;
        self.timers.push(now, span, call);
    }

    /// Moves a timer of the server's own, unless it was due.
    pub fn move_call(&mut self, now: Instant, span: Duration, number: u32) {
        if let Some(call) = self.timers.take(number) {
            self.timers.push(now, span, call);
        }
    }

    /// Cancels a timer of the server's own, unless it was due.
    pub fn cancel_call(&mut self, number: u32) {
        self.stats.timers_cancelled += u64::from(self.timers.take(number).is_some());
    }

    fn fire_calls_set(&mut self, now: Instant) {
        while let Some(call) = self.timers.poll_due(now) {
            self.stats.timers_due += 1;
            self.queue_call(call);
        }
    }

    /// Has a job of the server's own done.
    pub(super) fn queue_call(&mut self, call: Call) {
        // No server has as many connections: it is the id of none.
        let id = ConnectionId::new(ConnectionId::SLOTS_MAX - 1, Generation::FIRST);
        self.queue_job(Job { id, route: 0, identity: None, task: Task::Call(call) });
    }

    /// Returns how many timers are pending: each that was set is, or was due, or was cancelled.
    pub fn timers_pending(&self) -> usize {
        let extras = self.connections.iter().filter_map(|(_, c)| c.extra.as_ref());
        self.timers.calls.len() + extras.map(|extra| extra.timers.len()).sum::<usize>()
    }
}
