//! The loop around the engine: sockets, listeners, the poller, and the fixed order of a turn.
//!
//! 1. poll, read the clock;
//! 2. commands;
//! 3. readiness and accepts;
//! 4. ready peers are read from, their handlers run or are handed to the workers;
//! 5. deadlines, last: what bytes already waiting could prove wrong must not be judged before they
//!    are read;
//! 6. everything that waits is written, in one system call for each peer;
//! 7. ended sockets are closed.
//!
//! Each step is bounded; what is left over makes the next timeout zero.

mod accepting;
mod handlers;
#[cfg(feature = "ffi")]
mod host;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant as StdInstant};

use log::{info, warn};
use mio::{Events, Poll, Token, Waker};

use crate::clock::{Clock, Passed};
use crate::config::READ_BUFFER_BYTES;
use crate::engine::{Action, Attempt, Engine, Setup, Surroundings};
use crate::event::{Command, Job};
use crate::handle::{Handle, Inlet, Peer, Scope, Shared};
use crate::id::{ConnectionId, Generation};
use crate::listener::{Listener, LocalAddress};
use crate::memory::Exchange;
use crate::process::Gauges;
use crate::pump;
use crate::refusals::Refusals;
use crate::route::Face;
use crate::socket::Readiness;
use crate::sockets::Sockets;
use crate::time::{Instant, sooner};
use crate::tokens::Tokens;
use crate::worker::{Endpoints, Pool};

/// One server's loop.
pub(crate) struct EventLoop {
    poll: Poll,
    events: Events,
    clock: Clock,
    engine: Engine,
    sockets: Sockets,
    listeners: Vec<Option<Listener>>,
    /// Connections in memory, if there can be any.
    memory: Option<Exchange>,
    refusals: Refusals,
    inlet: Inlet,
    shared: Arc<Shared>,
    endpoints: Endpoints,
    pool: Option<Pool>,
    /// A job that the pool had no room for.
    parked: Option<Job>,
    /// What handlers on this thread are given, and what collects their commands.
    peer: Peer,
    scope: Option<Scope>,
    shared_buffer: Box<[u8]>,
    /// When the next turn was asked for.
    asked_at: Option<Instant>,
    /// When to try to accept again, after descriptors or memory ran out.
    accept_at: Option<Instant>,
    /// When to look for handlers that do not return.
    watch_at: Option<Instant>,
    was_shut_down: bool,
    process: Gauges,
    log_lines_dropped: Option<Arc<AtomicUsize>>,
}

impl EventLoop {
    /// Makes a loop that goes by `clock`; `endpoints` stand in the order of the setup's routes.
    pub fn new(setup: Setup, endpoints: Endpoints, clock: Clock) -> io::Result<EventLoop> {
        let poll = Poll::new()?;
        let inlet = Inlet::new(Waker::new(poll.registry(), WAKER)?);
        let shared = inlet.shared();
        let peer = Peer::new(ConnectionId::new(0, Generation::FIRST), inlet.handle());
        clock.wake(&shared);
        let engine = Engine::new(setup);
        inlet.bound(engine.memory_limit());
        let workers = engine.config().workers;
        let pool = match workers {
            0 => None,
            count => Some(Pool::new(count, &endpoints, &inlet.handle(), &shared)?),
        };
        Ok(EventLoop {
            events: Events::with_capacity(engine.config().turn.events),
            poll,
            clock,
            engine,
            sockets: Sockets::default(),
            memory: None,
            listeners: Vec::new(),
            refusals: Refusals::default(),
            inlet,
            shared,
            endpoints,
            pool,
            parked: None,
            peer,
            scope: None,
            shared_buffer: vec![0; READ_BUFFER_BYTES as usize].into_boxed_slice(),
            asked_at: None,
            accept_at: None,
            watch_at: None,
            was_shut_down: false,
            process: Gauges::new(),
            log_lines_dropped: None,
        })
    }

    pub fn handle(&self) -> Handle {
        self.inlet.handle()
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn set_tokens(&mut self, tokens: Option<Tokens>) {
        let now = self.clock.now();
        self.engine.set_tokens(now, tokens);
    }

    /// Gives all figures in the Prometheus text format.
    pub fn metrics(&self) -> String {
        self.engine.metrics(&self.surroundings())
    }

    /// Names where lines are counted that the host's logger drops.
    pub fn count_log_lines_dropped(&mut self, count: Arc<AtomicUsize>) {
        self.log_lines_dropped = Some(count);
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    /// Gives the addresses bound, with what they are for.
    pub fn local_addresses(&self) -> impl Iterator<Item = (LocalAddress, Face)> {
        let listeners = self.listeners.iter().flatten();
        listeners.filter_map(|listener| Some((listener.local_address().ok()?, listener.face)))
    }

    /// Says whether the drain, or the shutdown, has ended.
    pub fn is_over(&self) -> bool {
        self.was_shut_down || self.engine.is_drained()
    }

    /// Says whether it was told to end at once.
    pub fn was_shut_down(&self) -> bool {
        self.was_shut_down
    }

    /// Gives how long the loop may wait: zero if work is left, `None` if nothing is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.has_work_left() {
            return Some(Duration::ZERO);
        }
        self.next_deadline().map(|at| self.clock.until(at))
    }

    /// Gives how long to wait in the poller. By a clock that others move nothing comes due while
    /// waiting, and moving it wakes.
    pub fn next_wait(&self) -> Option<Duration> {
        self.next_timeout().filter(|wait| wait.is_zero() || self.clock.is_running())
    }

    /// Does one turn, waiting for at most `wait` for something to happen (`None`: for as long as it
    /// takes).
    pub fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let has_commands = self.inlet.fall_asleep();
        let wait = if has_commands { Some(Duration::ZERO) } else { wait };
        if let Err(error) = self.poll.poll(&mut self.events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.inlet.wake_up();
        let began = StdInstant::now();
        let now = self.resume();
        self.engine.begin_turn(self.clock.unix_ms());
        self.engine.note_commands(self.inlet.bytes());
        self.take_commands(now);
        self.note_readiness(now);
        self.accept(now);
        self.close_listeners_when_draining();
        self.serve_ready(now);
        self.answer_scrapes(now);
        while let Some(id) = self.engine.deliver(now) {
            self.flush_one(now, id);
        }
        self.act_on_deadlines(now);
        self.flush(now);
        self.engine.end_turn(now);
        self.apply_actions();
        self.dispatch_to_workers();
        self.inlet.fall_asleep();
        self.ask();
        let turn_us = began.elapsed().as_micros() as u64;
        self.engine.stats_mut().turn_us.record(turn_us);
        Ok(())
    }

    /// Reads the clock. A host may have been stopped since the loop asked for its next turn.
    fn resume(&mut self) -> Instant {
        let (now, passed) = self.clock.resume(self.asked_at);
        if let Passed::Jumped(jump) = passed {
            warn!("time jumped ms={}: pinging instead of judging", jump.as_millis());
            self.engine.handle_time_jump(now);
        }
        now
    }

    /// Notes when the next turn is asked for.
    fn ask(&mut self) {
        let now = self.clock.now();
        self.engine.arm_touched(now);
        self.asked_at = match self.has_work_left() {
            true => Some(now),
            // Time that the turn itself took is not time in which the process was stopped.
            false => self.next_deadline().map(|at| at.max(now)),
        };
    }

    fn has_work_left(&self) -> bool {
        let accepts = self.accept_at.is_none()
            && self
                .listeners
                .iter()
                .flatten()
                .any(|listener| listener.is_ready && self.engine.is_accepting(listener.face));
        let has_news = self.memory.as_ref().is_some_and(Exchange::has_news);
        self.engine.has_work_left()
            || self.engine.has_dirty()
            || accepts
            || has_news
            || self.inlet.has_commands()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = [self.accept_at, self.watch_at, self.refusals.next_at()];
        own.into_iter().fold(self.engine.poll_timeout(), sooner)
    }

    fn take_commands(&mut self, now: Instant) {
        let mut left = COMMANDS_PER_TURN;
        // Where more is published than can be delivered, publishing threads wait for the channel.
        while left > 0
            && !self.engine.is_flooded()
            && let Some(batch) = self.inlet.poll()
        {
            left = left.saturating_sub(batch.commands.len());
            for command in batch.commands {
                self.take_command(now, batch.from, command);
            }
        }
    }

    fn take_command(&mut self, now: Instant, from: Option<ConnectionId>, command: Command) {
        if let Some(id) = self.engine.wants_flush(from, &command) {
            self.flush_one(now, id);
        }
        self.was_shut_down |= matches!(command, Command::Shutdown);
        let is_reload = matches!(command, Command::Reload(_));
        self.engine.handle_command(now, from, command);
        if is_reload {
            self.inlet.bound(self.engine.memory_limit());
        }
        self.apply_actions();
    }

    fn note_readiness(&mut self, now: Instant) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.note(now, event.into());
        }
        events.clear();
        self.events = events;
        for _ in 0..self.engine.config().turn.events {
            let Some(news) = self.memory.as_ref().and_then(Exchange::poll) else { break };
            self.note(now, news);
        }
        self.apply_actions();
    }

    fn note(&mut self, now: Instant, readiness: Readiness) {
        match readiness.token {
            WAKER => {}
            Token(token) if token >= LISTENER_TOKENS => {
                if let Some(Some(listener)) = self.listeners.get_mut(token - LISTENER_TOKENS) {
                    listener.is_ready = true;
                }
            }
            Token(token) if token >= REFUSAL_TOKENS => {
                let token = token - REFUSAL_TOKENS;
                self.refusals.handle_readable(token, &mut self.shared_buffer);
            }
            Token(key) => {
                let Readiness { readable, writable, read_closed, write_closed, error, .. } =
                    readiness;
                self.engine.handle_readiness(key, readable, writable, read_closed || error);
                if (error || write_closed)
                    && let Some(socket) = self.sockets.get_mut(key)
                    && let Some(error) = socket.take_error()
                    && let Some(id) = self.engine.id_of(key)
                {
                    self.engine.handle_error(now, id, &error);
                }
            }
        }
    }

    fn serve_ready(&mut self, now: Instant) {
        self.run_inline(now);
        while let Some(id) = self.engine.poll_ready() {
            self.fill_one(now, id);
            self.run_inline(now);
        }
        self.dispatch_to_workers();
    }

    fn answer_scrapes(&mut self, now: Instant) {
        while let Some(id) = self.engine.poll_scrape() {
            let around = self.surroundings();
            self.engine.answer_scrape(now, id, &around);
        }
    }

    fn surroundings(&self) -> Surroundings {
        let queued = self.pool.as_ref().map_or(0, Pool::len) + usize::from(self.parked.is_some());
        let dropped = self.log_lines_dropped.as_ref().map_or(0, |n| n.load(Ordering::Relaxed));
        Surroundings {
            jobs_queued: queued,
            command_bytes: self.inlet.bytes(),
            log_lines_dropped: dropped as u64,
            process: self.process.read(),
        }
    }

    fn fill_one(&mut self, now: Instant, id: ConnectionId) {
        if let Some(mut socket) = self.sockets.get_mut(id.key()) {
            pump::fill(&mut self.engine, now, id, &mut socket, &mut self.shared_buffer);
        }
        self.apply_actions();
    }

    fn flush_one(&mut self, now: Instant, id: ConnectionId) {
        if let Some(mut socket) = self.sockets.get_mut(id.key()) {
            pump::flush(&mut self.engine, now, id, &mut socket);
        }
        self.apply_actions();
    }

    fn act_on_deadlines(&mut self, now: Instant) {
        if self.watch_at.is_some_and(|at| at <= now) {
            self.watch_handlers(now);
        }
        let mut left = EXPIRIES_PER_TURN;
        while let Some(attempt) = self.engine.handle_timeout(now, &mut left) {
            let id = match attempt {
                Attempt::Read(id) => {
                    self.engine.mark_readable(id);
                    self.fill_one(now, id);
                    id
                }
                Attempt::Write(id) => {
                    if self.sockets.get_mut(id.key()).is_some_and(|socket| socket.has_room()) {
                        self.engine.mark_writable(id);
                        self.flush_one(now, id);
                    }
                    id
                }
            };
            self.engine.expire(now, id);
            self.run_inline(now);
        }
        self.apply_actions();
    }

    fn flush(&mut self, now: Instant) {
        for _ in 0..self.engine.config().turn.events {
            let Some(id) = self.engine.poll_dirty() else { break };
            self.flush_one(now, id);
        }
    }

    #[inline]
    fn apply_actions(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            self.apply(action);
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Shutdown(key) => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.shutdown();
                }
            }
            Action::Upgraded(key) => {
                let timeout = self.user_timeout_websocket();
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.set_user_timeout(timeout);
                }
            }
            Action::Close(key) => self.close(key),
            Action::Abort(key) => {
                if let Some(mut socket) = self.sockets.get_mut(key) {
                    socket.set_abort();
                }
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: usize) {
        self.sockets.close(key);
        // There is a descriptor again: whoever waits for one is served in the next turn.
        self.accept_at = None;
    }

    /// How long the kernel may go on sending to a WebSocket peer what is not acknowledged.
    fn user_timeout_websocket(&self) -> Duration {
        let config = self.engine.config();
        let deadlines = &config.deadlines;
        config.heartbeat.pong * config.heartbeat.max_missed
            + deadlines.close_send
            + deadlines.close_ack
            + Duration::from_secs(5)
    }

    fn user_timeout_http(&self) -> Duration {
        self.engine.config().deadlines.write_stall.saturating_mul(3)
    }
}

/// Every handler is told of the end: on the loop at once, on the workers for as long as they are
/// not blocked.
impl Drop for EventLoop {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.engine.begin_turn(0);
        self.engine.shut_down(now);
        self.apply_actions();
        let (mut returned, mut returned_at) = (0, StdInstant::now());
        loop {
            self.engine.begin_turn(0);
            // What was published is for nobody any more, and while it waits no command is taken.
            while self.engine.deliver(now).is_some() {}
            self.take_commands(now);
            self.run_inline(now);
            self.dispatch_to_workers();
            if std::mem::replace(&mut returned, self.engine.jobs_returned()) != returned {
                returned_at = StdInstant::now();
            }
            let is_left_to_host = self.pool.is_none() && !self.engine.has_inline_jobs();
            let is_blocked = returned_at.elapsed() >= GOODBYE_MAX;
            if self.engine.is_told() || is_left_to_host || is_blocked {
                break;
            }
            let has_commands = self.inlet.fall_asleep();
            let wait = if has_commands { Duration::ZERO } else { GOODBYE_MAX / 10 };
            if self.poll.poll(&mut self.events, Some(wait)).is_err() {
                break;
            }
        }
        self.inlet.close();
        let Some(pool) = self.pool.take() else { return };
        let cancelled = pool.shut_down().len();
        if !self.engine.is_told() {
            info!("handlers left running={} cancelled={cancelled}", self.engine.jobs_out());
        }
    }
}

const WAKER: Token = Token(usize::MAX);
const LISTENER_TOKENS: usize = usize::MAX - 1024;
const REFUSAL_TOKENS: usize = LISTENER_TOKENS - Refusals::TOKENS;

const COMMANDS_PER_TURN: usize = 4096;
const EXPIRIES_PER_TURN: usize = 1024;

/// How long the end waits for handlers on the workers, none of which returns.
const GOODBYE_MAX: Duration = Duration::from_millis(100);
