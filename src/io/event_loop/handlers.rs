//! Handlers, on this thread or on the workers, and handlers that do not return.

use std::time::Instant as StdInstant;

use log::warn;

use super::outside::Outside;
use crate::core::contract::event::{Command, Done, Job};
use crate::core::contract::route::Placement;
use crate::core::engine::Engine;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::DeadlineKind;
use crate::threads::command_queue::Scope;
use crate::threads::worker::Work;

impl Outside {
    /// Runs a job on the loop thread. Returns the commands of its handler, and the outcome.
    pub fn run_job(&mut self, engine: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        let Job { id, route, task } = job;
        self.peer.turn_to(id);
        let scope = self.scope.take().unwrap_or_else(|| Scope::of_loop(self.shared.clone()));
        scope.enter(id);
        let (began, mut ticks) = (StdInstant::now(), 0);
        let outcome = self.endpoints.run(route, &self.peer, task, &mut || ticks += 1);
        let took = began.elapsed();
        let mut scope = Scope::leave();
        let commands = scope.take();
        self.scope = Some(scope);
        // One tick is the end's. To time each of many small calls costs more than the calls.
        let calls = u32::max(ticks, 2) - 1;
        let each_us = (took / calls).as_micros() as u64;
        engine.stats_mut().handler_us.record_times(each_us, calls);
        if engine.config().deadlines.handler.is_some_and(|limit| took >= limit) {
            count_stuck(engine, 1);
        }
        (commands, Done { id, route, outcome })
    }

    /// Hands jobs to the workers until their queue is full.
    pub fn dispatch_to_workers(&mut self, engine: &mut Engine) {
        #[cfg(feature = "tls")]
        self.dispatch_steps(engine);
        let Some(pool) = &self.pool else { return };
        let mut sent = false;
        while let Some(job) = self.parked.take().or_else(|| engine.poll_job(Placement::Worker)) {
            match pool.try_send(Work::Job(job)) {
                Ok(()) => sent = true,
                Err(Work::Job(job)) => {
                    self.parked = Some(job);
                    break;
                }
                #[cfg(feature = "tls")]
                Err(Work::Step(_)) => unreachable!("a job was sent"),
            }
        }
        if sent && self.watch_at.is_none() {
            let limit = engine.config().deadlines.handler;
            self.watch_at = limit.map(|limit| self.clock.now() + limit);
        }
    }

    /// Counts and logs handlers on the workers that do not return, if it is time.
    pub fn watch_handlers(&mut self, engine: &mut Engine, now: Instant) {
        if self.watch_at.is_none_or(|at| at > now) {
            return;
        }
        let limit = engine.config().deadlines.handler;
        let (Some(pool), Some(limit)) = (&mut self.pool, limit) else { return };
        let stuck = pool.stuck(limit);
        let waiting = pool.len();
        // A worker may have taken a job without having begun the call.
        let is_busy = engine.jobs_out() > 0;
        self.watch_at = stuck.again_after.or(is_busy.then_some(limit)).map(|after| now + after);
        engine.stats_mut().handlers_stuck = stuck.now;
        if stuck.new > 0 {
            count_stuck(engine, stuck.new);
            warn!(
                "handlers stuck now={} longer_than_ms={} jobs_waiting={waiting}",
                stuck.now,
                limit.as_millis()
            );
        }
    }

    pub fn has_pool(&self) -> bool {
        self.pool.is_some()
    }

    /// Ends the workers, if there are any. Returns how many jobs no worker has begun.
    pub fn end_pool(&mut self) -> Option<usize> {
        self.pool.take().map(|pool| pool.shut_down().len())
    }
}

fn count_stuck(engine: &mut Engine, calls: u64) {
    let stats = engine.stats_mut();
    stats.handlers_stuck_total += calls;
    stats.deadlines_fired[DeadlineKind::Handler as usize] += calls;
}
