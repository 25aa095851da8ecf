//! One turn, in the one order that there is: the event loop, the simulation and the fuzz target
//! give a [`World`], and [`Engine::turn`] goes through it.
//!
//! 1. commands;
//! 2. readiness and accepts;
//! 3. ready peers are read from, their handlers run or are handed to the workers;
//! 4. events that were published go to their subscribers;
//! 5. deadlines act: bytes that wait already may move a deadline, so they are read first;
//! 6. everything that waits is written, in one system call for each peer;
//! 7. ended sockets are closed.
//!
//! Each step is bounded; what is left over makes the next timeout zero.

use std::io;
use std::net::SocketAddr;

use crate::core::connection::Mark;
use crate::core::contract::event::{Command, Done, Job};
use crate::core::contract::handlers::Handlers;
use crate::core::contract::route::{Face, Placement};
use crate::core::engine::pump;
use crate::core::engine::{Action, Attempt, Engine};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::figures::Surroundings;
use crate::core::transport::Transport;
use crate::core::wire::http::Refusal;

/// What surrounds the engine: a turn takes from it and gives to it. A world only answers; the turn
/// decides the order.
pub trait World {
    /// A connection from a listener that has no slot yet.
    type Incoming;

    /// Takes the next commands, with the connection whose handler gave them.
    fn poll_commands(&mut self) -> Option<(Option<ConnectionId>, Vec<Command>)>;

    /// Returns the bytes of the commands that wait.
    fn command_bytes(&self) -> usize;

    /// Tells `note` what has become of sockets since the last turn, by slot.
    fn tell_readiness(&mut self, note: impl FnMut(usize, Readiness));

    /// Takes the next connection from a listener that [`Engine::may_accept`] allows, its face and
    /// its peer's address. Each attempt, failed or not, takes one off `left`; at 0 no more are
    /// made.
    fn poll_incoming(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        left: &mut usize,
    ) -> Option<(Self::Incoming, Face, Option<SocketAddr>)>;

    /// Keeps a connection that has been given a slot.
    ///
    /// # Errors
    ///
    /// If the socket cannot be watched: the connection ends.
    fn admit(
        &mut self,
        engine: &Engine,
        id: ConnectionId,
        incoming: Self::Incoming,
    ) -> io::Result<()>;

    /// Answers a connection that was given no slot.
    fn refuse(&mut self, engine: &Engine, now: Instant, incoming: Self::Incoming, why: Refusal);

    /// Stops listening, except for the operator; `open` connections are left. Called in each turn
    /// of a drain.
    fn stop_listening(&mut self, open: usize);

    /// Lends the transport of the connection in a slot, the buffer that all share, and the handlers
    /// that run on this thread.
    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)>;

    /// Runs a job of a handler on this thread. Returns the commands of the handler, and the outcome
    /// of the job.
    fn run(&mut self, engine: &mut Engine, job: Job) -> (Vec<Command>, Done);

    /// Takes the list of commands back, empty.
    fn keep_spare(&mut self, _commands: Vec<Command>) {}

    /// Hands jobs to the workers until they have enough: those of [`Engine::poll_job`].
    fn dispatch(&mut self, engine: &mut Engine);

    /// Returns the figures that only the world knows.
    fn surroundings(&self) -> Surroundings;

    /// Does to a socket what is to be done: anything but [`Action::Shutdown`], which is for its
    /// transport.
    fn apply(&mut self, engine: &Engine, action: Action);

    /// Returns how many deadlines may act in one turn.
    fn expiries_max(&self) -> usize {
        EXPIRIES_PER_TURN
    }

    /// Hears what the turn does, step by step: for tests that check each step.
    #[inline]
    fn observe(&mut self, _engine: &Engine, _step: Step<'_>) {}
}

/// What has become of a socket.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The socket may have bytes.
    pub readable: bool,
    /// The socket may take bytes.
    pub writable: bool,
    /// The peer has ended its side, or the socket has failed.
    pub closed: bool,
    /// Why the socket has failed, if the kernel has said so.
    pub error: Option<io::Error>,
}

/// A step of a turn.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A command is to be taken.
    Command {
        /// The connection whose handler gave it.
        from: Option<ConnectionId>,
        /// The command.
        command: &'a Command,
    },
    /// A connection is to be read from.
    Filling(ConnectionId),
    /// The connection has been read from.
    Filled(ConnectionId),
    /// A connection is to be written to.
    Flushing(ConnectionId),
    /// The connection has been written to.
    Flushed(ConnectionId),
    /// A deadline is to be attempted.
    Attempt(Attempt),
    /// The deadline has acted, if it was still due.
    Expired(ConnectionId),
}

impl Engine {
    /// Does one turn. `unix_ms` is the wall clock, for the Date header, the ids of events, and
    /// tokens that expire.
    pub fn turn(&mut self, now: Instant, unix_ms: u64, world: &mut impl World) {
        self.begin_turn(unix_ms);
        #[cfg(any(feature = "jwt", feature = "client"))]
        self.follow_wall(now, unix_ms);
        self.note_commands(world.command_bytes());
        self.take_commands(now, world);
        self.take_readiness(now, world);
        self.take_in(now, world);
        if self.is_draining() {
            // Clients that connected before were accepted just now: they are told of the drain.
            world.stop_listening(self.len());
        }
        self.serve_ready(now, world);
        self.answer_scrapes(now, world);
        while let Some(id) = self.deliver(now) {
            self.flush_one(now, world, id);
        }
        self.act_on_deadlines(now, world);
        self.flush(now, world);
        self.end_turn(now);
        self.apply_actions(world);
        world.dispatch(self);
        self.check_turn();
    }

    /// Does what is left to do when all connections have ended: handlers are told.
    pub(crate) fn turn_goodbye(&mut self, now: Instant, world: &mut impl World) {
        self.begin_turn(0);
        // What was published has no subscriber left, and while it waits no command is taken.
        while self.deliver(now).is_some() {}
        self.take_commands(now, world);
        self.run_inline(now, world);
        world.dispatch(self);
    }

    /// Takes a command. An outbox that the command would overflow is written first.
    #[inline(always)]
    pub fn take_command(
        &mut self,
        now: Instant,
        world: &mut impl World,
        from: Option<ConnectionId>,
        command: Command,
    ) {
        world.observe(self, Step::Command { from, command: &command });
        self.do_command(now, world, from, command);
    }

    #[inline(always)]
    fn do_command(
        &mut self,
        now: Instant,
        world: &mut impl World,
        from: Option<ConnectionId>,
        command: Command,
    ) {
        if let Some(id) = self.wants_flush(from, &command) {
            self.flush_one(now, world, id);
        }
        self.handle_command(now, from, command);
        self.apply_actions(world);
    }

    /// Takes the commands that the handler of a connection gave while its bytes were decoded, and
    /// that had to wait until the connection's transport was free.
    fn take_deferred(&mut self, now: Instant, world: &mut impl World, id: ConnectionId) {
        let mut commands = self.calls.take_deferred();
        for command in commands.drain(..) {
            self.do_command(now, world, Some(id), command);
        }
        self.calls.keep_spare(commands);
    }

    /// Writes to a connection what waits for it.
    #[inline]
    pub(crate) fn flush_one(&mut self, now: Instant, world: &mut impl World, id: ConnectionId) {
        debug_assert!(self.contains(id), "a connection that is gone is not written to");
        world.observe(self, Step::Flushing(id));
        if let Some((mut transport, ..)) = world.lend(id.key()) {
            pump::flush(self, now, id, &mut transport);
        }
        world.observe(self, Step::Flushed(id));
        self.apply_actions(world);
        debug_assert!(self.check_connection(now, id));
    }

    #[inline]
    fn fill_one(&mut self, now: Instant, world: &mut impl World, id: ConnectionId) {
        debug_assert!(self.contains(id), "a connection that is gone is not read from");
        world.observe(self, Step::Filling(id));
        if let Some((mut transport, shared, mut handlers)) = world.lend(id.key()) {
            pump::fill(self, now, id, &mut transport, shared, &mut handlers);
        }
        world.observe(self, Step::Filled(id));
        self.apply_actions(world);
        if self.calls.has_deferred() {
            self.take_deferred(now, world, id);
        }
        debug_assert!(self.check_connection(now, id));
    }

    fn take_commands(&mut self, now: Instant, world: &mut impl World) {
        let mut left = COMMANDS_PER_TURN;
        // Where more is published than can be delivered, publishing threads wait for the channel.
        while left > 0
            && !self.is_flooded()
            && let Some((from, commands)) = world.poll_commands()
        {
            left = left.saturating_sub(commands.len());
            for command in commands {
                self.take_command(now, world, from, command);
            }
        }
    }

    fn take_readiness(&mut self, now: Instant, world: &mut impl World) {
        world.tell_readiness(
            #[inline(always)]
            |key, Readiness { readable, writable, closed, error }| {
                self.handle_readiness(key, readable, writable, closed);
                if let Some(error) = error
                    && let Some(id) = self.id_of(key)
                {
                    self.handle_error(now, id, &error);
                }
            },
        );
        self.apply_actions(world);
    }

    fn take_in(&mut self, now: Instant, world: &mut impl World) {
        let mut left = ACCEPTS_PER_TURN;
        while let Some((incoming, face, peer)) = world.poll_incoming(self, now, &mut left) {
            match self.accept(now, face, peer) {
                Err(refusal) => world.refuse(self, now, incoming, refusal),
                Ok(id) => {
                    if let Err(error) = world.admit(self, id, incoming) {
                        // The connection fails before it has begun: the kernel has no room to watch
                        // it.
                        self.handle_error(now, id, &error);
                        self.apply_actions(world);
                    }
                    let lent = world.lend(id.key());
                    if lent.is_some_and(|(transport, ..)| transport.awaits_client()) {
                        self.check_proxy(now, id);
                    }
                }
            }
        }
    }

    fn serve_ready(&mut self, now: Instant, world: &mut impl World) {
        self.run_inline(now, world);
        while let Some(id) = self.poll_ready() {
            self.fill_one(now, world, id);
            if self.has_inline_jobs() {
                self.run_inline(now, world);
            }
            if self.writes_early(id) {
                self.flush_one(now, world, id);
            }
        }
        world.dispatch(self);
    }

    /// Runs handlers on this thread, as long as the turn's allowance lasts.
    fn run_inline(&mut self, now: Instant, world: &mut impl World) {
        while let Some(job) = self.poll_job(Placement::Inline) {
            let from = Some(job.id);
            let (mut commands, done) = world.run(self, job);
            for command in commands.drain(..) {
                self.take_command(now, world, from, command);
            }
            world.keep_spare(commands);
            self.take_command(now, world, from, Command::Done(done));
            if self.is_turn_spent() {
                break;
            }
        }
    }

    fn answer_scrapes(&mut self, now: Instant, world: &mut impl World) {
        while let Some(id) = self.poll_scrape() {
            self.answer_scrape(now, id, &world.surroundings());
        }
    }

    fn act_on_deadlines(&mut self, now: Instant, world: &mut impl World) {
        let mut left = world.expiries_max();
        while let Some(attempt) = self.handle_timeout(now, &mut left) {
            world.observe(self, Step::Attempt(attempt));
            let id = match attempt {
                Attempt::Read(id) => {
                    self.mark_readable(id);
                    self.fill_one(now, world, id);
                    id
                }
                Attempt::Write(id) => {
                    let has_room =
                        world.lend(id.key()).is_some_and(|(mut socket, ..)| socket.has_room());
                    if has_room {
                        self.mark_writable(id);
                        self.flush_one(now, world, id);
                    }
                    id
                }
            };
            self.expire(now, id);
            world.observe(self, Step::Expired(id));
            debug_assert!(self.check_connection(now, id));
            self.run_inline(now, world);
        }
        self.apply_actions(world);
    }

    fn flush(&mut self, now: Instant, world: &mut impl World) {
        for _ in 0..self.config().turn.events {
            let Some(id) = self.poll_dirty() else { break };
            self.flush_one(now, world, id);
        }
    }

    #[inline]
    fn apply_actions(&mut self, world: &mut impl World) {
        while let Some(action) = self.poll_action() {
            match action {
                Action::Shutdown(key) => {
                    if let Some((mut transport, ..)) = world.lend(key) {
                        pump::finish(self, key, &mut transport);
                    }
                }
                Action::Upgraded(_) | Action::Close(_) | Action::Abort(_) => {
                    world.apply(self, action);
                }
            }
        }
    }

    /// Returns whether a connection is as a step must leave it, or has ended. The wheel comes to it
    /// by its deadline, or what is still to be done in this turn sees to that.
    pub(super) fn check_connection(&self, now: Instant, id: ConnectionId) -> bool {
        let Some(connection) = self.get(id) else { return true };
        debug_assert!(connection.is_in_order());
        let armed_at = self.wheel.armed_at(id.key()).expect("each connection has its deadline");
        let latest = connection.next_at(self.settings.spans(connection), now).max(now)
            + self.settings.config.tick;
        let marks = [Mark::Touched, Mark::Dirty, Mark::Runnable];
        let is_marked = marks.iter().any(|mark| connection.marks.has(*mark));
        // A change that all connections follow, a drain perhaps, comes to each in its round.
        is_marked || self.schedule.round.is_some() || armed_at <= latest
    }

    /// Returns whether the engine was told to end at once.
    pub fn was_shut_down(&self) -> bool {
        self.schedule.was_shut_down
    }

    /// Asserts the state in which a turn must leave the engine.
    fn check_turn(&self) {
        debug_assert_eq!(self.wheel.len(), self.connections.len(), "one deadline for each");
        debug_assert!(self.actions.is_empty(), "all that was to be done to sockets is done");
        debug_assert!(self.queues.touched.is_empty(), "each changed deadline is on the wheel");
        debug_assert!(self.admission.public <= self.connections.len(), "some are the operator's");
        debug_assert!(self.queues.are_in_order(&self.connections));
        debug_assert!(
            self.connections.len() > CHECKED_MAX
                || self.connections.iter().all(|(_, connection)| connection.is_in_order())
        );
    }
}

/// Up to this many connections, each is checked after each turn in a build that asserts.
const CHECKED_MAX: usize = 64;

const COMMANDS_PER_TURN: usize = 4096;
/// Attempts to accept.
pub(crate) const ACCEPTS_PER_TURN: usize = 256;
const EXPIRIES_PER_TURN: usize = 1024;

const _: () = assert!(
    ACCEPTS_PER_TURN <= EXPIRIES_PER_TURN,
    "no more connections come in a turn than may go in it"
);
