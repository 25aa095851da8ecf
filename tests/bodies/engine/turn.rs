//! One turn in the order of the event loop, every loop in it bounded, and what holds behind it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::Message;
use heartwheel::core::contract::event::Session;
use heartwheel::core::contract::handlers::{Handlers, Said};
use heartwheel::core::ground::identity::Identity;
use heartwheel::http::Refusal;

use super::*;

impl World {
    pub fn turn(&mut self, source: &mut Source) {
        self.has_news = false;
        self.outside.steps_left = STEPS_PER_TURN_MAX;
        let unix_ms = UNIX_MS + self.now;
        self.with(source, |engine, now, world| engine.turn(now, unix_ms, world));
        self.check();
    }

    /// Gives a command that no handler has given.
    pub fn give(&mut self, command: Command, source: &mut Source) {
        self.outside.steps_left = STEPS_PER_TURN_MAX;
        self.with(source, |engine, now, world| engine.take_command(now, world, None, command));
    }

    /// Does something with the engine and what surrounds it.
    pub fn with(
        &mut self,
        source: &mut Source,
        does: impl FnOnce(&mut Engine, Instant, &mut Surrounding),
    ) {
        let now = self.at();
        does(&mut self.engine, now, &mut Surrounding { outside: &mut self.outside, source });
    }

    /// Turns without time passing until none is wanted; one more changes nothing.
    pub fn rest(&mut self, source: &mut Source) {
        let mut left = TURNS_IN_PLACE_MAX;
        while !self.is_at_rest() {
            count_down(&mut left, "turns in place");
            self.turn(source);
        }
        let (before, timeout) = (self.picture(), self.engine.poll_timeout());
        self.turn(source);
        assert_eq!(self.picture(), before, "a turn without cause has changed something");
        // It may find that something is not due after all.
        let later = self.engine.poll_timeout();
        assert!(
            later.is_none() || later >= timeout,
            "a turn without cause: {later:?} < {timeout:?}"
        );
    }

    fn is_at_rest(&self) -> bool {
        let is_due = self.engine.poll_timeout().is_some_and(|at| at <= self.at());
        let has_edge = self.outside.sockets.iter().flatten().any(Socket::has_edge);
        !(is_due || has_edge || self.has_news || self.engine.has_work_left())
    }

    /// Everything that counts what was done.
    fn picture(&self) -> [u64; 12] {
        let stats = self.engine.stats();
        [
            self.engine.len() as u64,
            self.outside.jobs.len() as u64,
            stats.closed_total(),
            stats.received_bytes,
            stats.queued_bytes,
            stats.sent_bytes,
            stats.discarded_bytes,
            stats.messages_received,
            stats.messages_sent,
            stats.messages_dropped(),
            stats.gaps,
            stats.deadlines_fired.iter().sum(),
        ]
    }

    fn check(&self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert_eq!(engine.deadlines_armed(), engine.len(), "one deadline for each connection");
        assert_eq!(
            self.outside.sockets.iter().flatten().count(),
            engine.len(),
            "a socket for each"
        );
        assert_eq!(stats.accepted, engine.len() as u64 + stats.closed_total(), "none is lost");
        let timeout = engine.poll_timeout().map(|at| at.as_millis());
        assert!(timeout.is_some() || engine.is_empty(), "a connection without a deadline");
        let far = self.now + FARTHEST_MS;
        assert!(timeout.is_none_or(|at| at <= far), "a wake-up far away: {timeout:?} > {far}");
        let (read, written) = (|s: &Socket| s.read_bytes, |s: &Socket| s.written_bytes);
        let open = self.outside.sockets.iter().flatten();
        assert_eq!(
            stats.received_bytes,
            self.outside.read_bytes + open.clone().map(read).sum::<u64>()
        );
        assert_eq!(stats.sent_bytes, self.outside.written_bytes + open.map(written).sum::<u64>());
        assert!(stats.queued_bytes >= stats.sent_bytes + stats.discarded_bytes);
        let settled = stats.messages_handled + stats.messages_panicked + stats.messages_cancelled;
        assert!(stats.messages_received >= settled, "no message is counted twice");
    }

    pub fn check_end(&self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert!(engine.is_empty() && engine.deadlines_armed() == 0 && !engine.has_work_left());
        assert!(engine.is_drained() || !engine.is_draining(), "the drain has ended");
        assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes, "bytes balance");
        let settled = stats.messages_handled + stats.messages_panicked + stats.messages_cancelled;
        assert_eq!(stats.messages_received, settled, "messages balance");
        self.outside.application.check_end();
    }
}

/// What surrounds the engine, and the input that decides what handlers do.
pub struct Surrounding<'a, 'b> {
    outside: &'a mut Outside,
    source: &'a mut Source<'b>,
}

impl Surrounding<'_, '_> {
    /// Has a job come back that was with the workers.
    pub fn take_back(&mut self, engine: &mut Engine, now: Instant, job: Job) {
        self.outside.steps_left = STEPS_PER_TURN_MAX;
        let from = Some(job.id);
        let (commands, done) = self.outside.application.run(job, self.source);
        for command in commands.into_iter().chain([Command::Done(done)]) {
            engine.take_command(now, self, from, command);
        }
    }
}

impl heartwheel::core::engine::World for Surrounding<'_, '_> {
    type Incoming = ();

    fn poll_commands(&mut self) -> Option<(Option<ConnectionId>, Vec<Command>)> {
        None
    }

    fn command_bytes(&self) -> usize {
        0
    }

    fn tell_readiness(&mut self, mut note: impl FnMut(usize, Readiness)) {
        for (key, socket) in self.outside.sockets.iter_mut().enumerate() {
            let edge = socket.as_mut().and_then(Socket::take_edge);
            if let Some(Edge { readable, writable, closed }) = edge {
                note(key, Readiness { readable, writable, closed, error: None });
            }
        }
    }

    fn poll_incoming(
        &mut self,
        _: &mut Engine,
        _: Instant,
        _: &mut usize,
    ) -> Option<((), Face, Option<SocketAddr>)> {
        None
    }

    fn admit(&mut self, _: &Engine, _: ConnectionId, _: ()) -> io::Result<()> {
        Ok(())
    }

    fn refuse(&mut self, _: &Engine, _: Instant, _: (), _: Refusal) {}

    fn stop_listening(&mut self, _: usize) {}

    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)> {
        let Outside { sockets, shared, application, .. } = &mut *self.outside;
        let socket = sockets[key].as_mut().expect("who is served is there");
        Some((socket, &mut **shared, OnTheLoop { application, source: self.source, id: None }))
    }

    fn run(&mut self, _: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        self.outside.application.take(&job);
        self.outside.application.run(job, self.source)
    }

    /// Gives the workers what they have room for.
    fn dispatch(&mut self, engine: &mut Engine) {
        while self.outside.jobs.len() < JOBS_MAX
            && let Some(job) = engine.poll_job(Placement::Worker)
        {
            self.outside.application.take(&job);
            self.outside.jobs.push_back(job);
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::default()
    }

    fn apply(&mut self, _: &Engine, action: Action) {
        let (Action::Shutdown(key)
        | Action::Upgraded(key)
        | Action::Close(key)
        | Action::Abort(key)) = action;
        let socket = &mut self.outside.sockets[key];
        match action {
            Action::Shutdown(_) => unreachable!("it is done by the transport"),
            Action::Upgraded(_) => assert!(socket.is_some(), "a socket to set up"),
            Action::Close(_) | Action::Abort(_) => {
                let socket = socket.take().expect("a socket to close");
                self.outside.read_bytes += socket.read_bytes;
                self.outside.written_bytes += socket.written_bytes;
            }
        }
    }

    fn expiries_max(&self) -> usize {
        self.outside.expiries_per_turn
    }

    fn observe(&mut self, _: &Engine, step: Step<'_>) {
        let left = &mut self.outside.steps_left;
        *left = left.checked_sub(1).unwrap_or_else(|| panic!("no end of a turn: {step:?}"));
    }
}

/// Handlers that hear messages while they are decoded.
struct OnTheLoop<'a, 'b> {
    application: &'a Application,
    source: &'a mut Source<'b>,
    id: Option<ConnectionId>,
}

impl Handlers for OnTheLoop<'_, '_> {
    fn begin(&mut self, id: ConnectionId, _: usize, _: Option<Identity>) {
        assert_eq!(self.id.replace(id), None, "begun once before it ends");
    }

    fn call(&mut self, session: &mut Session, message: Message, said: &mut Said) -> bool {
        let id = self.id.expect("begun first");
        self.application.hear(id, session, message, self.source, said)
    }

    fn end(&mut self) -> Duration {
        assert!(self.id.take().is_some(), "what was begun ends");
        Duration::ZERO
    }
}

fn count_down(left: &mut usize, of_what: &str) {
    *left = left.checked_sub(1).unwrap_or_else(|| panic!("no end of {of_what}"));
}

/// A turn has no more of them.
const STEPS_PER_TURN_MAX: usize = 100_000;
const TURNS_IN_PLACE_MAX: usize = 20_000;
/// Jobs that the workers take before they return one.
const JOBS_MAX: usize = 3;
/// The longest span that any configuration here names, and a tick of a second.
const FARTHEST_MS: u64 = 77_000;
