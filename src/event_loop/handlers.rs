//! Handlers, on this thread or on the workers, and those that do not return.

use std::time::Instant as StdInstant;

use log::warn;

use super::EventLoop;
use crate::event::{Command, Done, Job};
use crate::handle::Scope;
use crate::route::Placement;
use crate::stats::DeadlineKind;
use crate::time::Instant;

impl EventLoop {
    /// Runs handlers on the loop thread, as long as the turn's budget lasts.
    pub(super) fn run_inline(&mut self, now: Instant) {
        while let Some(job) = self.engine.poll_job(Placement::Inline) {
            self.run_job(now, job);
            if self.engine.is_turn_spent() {
                break;
            }
        }
    }

    fn run_job(&mut self, now: Instant, Job { id, route, task }: Job) {
        self.peer.turn_to(id);
        let scope = self.scope.take().unwrap_or_else(|| Scope::of_loop(self.shared.clone()));
        scope.enter(id);
        let (began, mut ticks) = (StdInstant::now(), 0);
        let outcome = self.endpoints[route].run(&self.peer, task, &mut || ticks += 1);
        let took = began.elapsed();
        let mut scope = Scope::leave();
        for command in scope.drain() {
            self.take_command(now, Some(id), command);
        }
        self.scope = Some(scope);
        // One tick is that of the end. To time each call of many small ones costs more than they.
        let calls = u32::max(ticks, 2) - 1;
        let each_us = (took / calls).as_micros() as u64;
        self.engine.stats_mut().handler_us.record_times(each_us, calls);
        if self.engine.config().deadlines.handler.is_some_and(|limit| took >= limit) {
            self.count_stuck(1);
        }
        self.take_command(now, Some(id), Command::Done(Done { id, route, outcome }));
    }

    /// Hands jobs to the workers until they have enough.
    pub(super) fn dispatch_to_workers(&mut self) {
        let Some(pool) = &self.pool else { return };
        let mut sent = false;
        while let Some(job) = self.parked.take().or_else(|| self.engine.poll_job(Placement::Worker))
        {
            match pool.try_send(job) {
                Ok(()) => sent = true,
                Err(job) => {
                    self.parked = Some(job);
                    break;
                }
            }
        }
        if sent && self.watch_at.is_none() {
            let limit = self.engine.config().deadlines.handler;
            self.watch_at = limit.map(|limit| self.clock.now() + limit);
        }
    }

    pub(super) fn watch_handlers(&mut self, now: Instant) {
        let limit = self.engine.config().deadlines.handler;
        let (Some(pool), Some(limit)) = (&mut self.pool, limit) else { return };
        let stuck = pool.stuck(limit);
        let waiting = pool.len();
        // A worker may have taken a job and not begun its call.
        let is_busy = self.engine.jobs_out() > 0;
        self.watch_at = stuck.again_after.or(is_busy.then_some(limit)).map(|after| now + after);
        self.engine.stats_mut().handlers_stuck = stuck.now;
        if stuck.new > 0 {
            self.count_stuck(stuck.new);
            warn!(
                "handlers stuck now={} longer_than_ms={} jobs_waiting={waiting}",
                stuck.now,
                limit.as_millis()
            );
        }
    }

    fn count_stuck(&mut self, calls: u64) {
        let stats = self.engine.stats_mut();
        stats.handlers_stuck_total += calls;
        stats.deadlines_fired[DeadlineKind::Handler as usize] += calls;
    }
}
