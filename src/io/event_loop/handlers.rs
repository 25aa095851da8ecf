//! Handlers, on this thread or on the workers, and handlers that do not return.

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use log::warn;

use super::outside::Outside;
use crate::core::contract::event::{Command, Done, Job, Session};
use crate::core::contract::handlers::{Handlers, Said};
use crate::core::contract::route::Placement;
use crate::core::engine::Engine;
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;
use crate::core::wire::message::Message;
use crate::threads::command_queue::{Inlet, Scope, Shared};
use crate::threads::handler::Endpoints;
use crate::threads::peer::Peer;
use crate::threads::worker::Work;

/// The handlers that run on the loop thread, in jobs and on the short way.
pub(super) struct OnLoop {
    pub endpoints: Endpoints,
    /// The peer that handlers on this thread get.
    peer: Peer,
    /// What collects their commands: here between calls.
    scope: Option<Scope>,
    shared: Arc<Shared>,
    /// The route whose handler is called, and since when.
    route: usize,
    began: StdInstant,
}

impl OnLoop {
    pub fn new(endpoints: Endpoints, inlet: &Inlet) -> OnLoop {
        OnLoop {
            endpoints,
            peer: Peer::new(ConnectionId::new(0, Generation::FIRST), inlet.handle()),
            scope: None,
            shared: inlet.shared(),
            route: 0,
            began: StdInstant::now(),
        }
    }

    /// Runs a job. Returns the commands of its handler, and the outcome.
    pub fn run_job(&mut self, engine: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        let Job { id, route, identity, task } = job;
        self.begin(id, route, identity);
        let mut ticks = 0;
        let outcome = self.endpoints.run(route, &self.peer, task, &mut || ticks += 1);
        let mut said = Said::default();
        Scope::take_into(&mut said);
        said.spell_out(id);
        // One tick is the end's.
        engine.note_calls(self.end(), u32::max(ticks, 2) - 1);
        (said.commands, Done { id, route, outcome })
    }

    /// Takes the empty list of commands of a job back.
    pub fn keep_spare(&mut self, commands: Vec<Command>) {
        if let Some(scope) = &mut self.scope {
            scope.keep_spare(commands);
        }
    }
}

impl Handlers for OnLoop {
    fn begin(&mut self, id: ConnectionId, route: usize, identity: Option<Identity>) {
        self.peer.turn_to(id, identity);
        self.route = route;
        let scope = self.scope.take().unwrap_or_else(|| Scope::of_loop(self.shared.clone()));
        scope.enter(id);
        self.began = StdInstant::now();
    }

    fn call(&mut self, session: &mut Session, message: Message, said: &mut Said) -> bool {
        let returned = self.endpoints.message(self.route, &self.peer, session, message);
        Scope::take_into(said);
        returned
    }

    fn end(&mut self) -> Duration {
        self.scope = Some(Scope::leave());
        self.began.elapsed()
    }
}

impl Outside {
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
                Err(Work::Errand(_)) => unreachable!("a job was sent"),
            }
        }
        if pool.queued() > 0 {
            pool.wake();
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
        let waiting = pool.queued();
        // A worker may have taken a job without having begun the call.
        let is_busy = engine.jobs_out() > 0;
        self.watch_at = stuck.again_after.or(is_busy.then_some(limit)).map(|after| now + after);
        engine.stats_mut().handlers_stuck = stuck.now;
        if stuck.new > 0 {
            engine.count_stuck(stuck.new);
            warn!(
                "handlers stuck now={} longer_than_ms={} jobs_waiting={waiting}",
                stuck.now,
                limit.as_millis() as u64
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
