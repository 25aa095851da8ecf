//! The loop around the engine: sockets, listeners, the poller, the clock. The engine has the order
//! of a turn ([`Engine::turn`]). Before it the loop polls and reads the clock; after it the loop
//! notes when the next turn must come.

mod accepting;
#[cfg(feature = "client")]
mod asking;
#[cfg(feature = "bridge")]
mod bridging;
#[cfg(feature = "cluster")]
mod clustering;
mod handlers;
#[cfg(feature = "ffi")]
mod host;
mod outside;
#[cfg(feature = "tls")]
mod shaking;
#[cfg(feature = "store")]
mod storing;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant as StdInstant};

use log::{info, warn};
use mio::Token;

use crate::core::admission::credentials::Credentials;
use crate::core::contract::backbone::Publication;
use crate::core::contract::event::Command;
use crate::core::contract::route::Face;
use crate::core::engine::{AudienceHook, Engine, Setup, World as _};
use crate::core::ground::time::{Instant, sooner};
use crate::core::topics::Change;
#[cfg(feature = "backbone")]
use crate::core::topics::EventId;
use crate::io::clock::{Clock, Passed};
use crate::io::listener::LocalAddress;
use crate::io::refusals::Refusals;
#[cfg(feature = "tls")]
use crate::system::tls::Acceptor;
use crate::threads::handle::Handle;
use crate::threads::handler::Endpoints;
use crate::threads::worker::StartWorkers;

use outside::Outside;

/// One server's loop.
pub(crate) struct EventLoop {
    engine: Engine,
    outside: Outside,
    /// When the next turn is due.
    asked_at: Option<Instant>,
}

impl EventLoop {
    /// Makes a loop that reads `clock`; `endpoints` stand in the order of the setup's routes. The
    /// loop is on the heap: it takes 13 kB of each stack frame that would move it.
    pub fn new(
        setup: Setup,
        endpoints: Endpoints,
        clock: Clock,
        start_workers: Option<StartWorkers>,
    ) -> io::Result<Box<EventLoop>> {
        let outside = Outside::new(&setup.config, endpoints, clock, start_workers)?;
        let engine = Engine::new(setup);
        outside.inlet.bound(engine.memory_limit(), &engine.config().limits);
        #[cfg_attr(not(any(feature = "store", feature = "cluster")), allow(unused_mut))]
        let mut event_loop = Box::new(EventLoop { engine, outside, asked_at: None });
        #[cfg(feature = "store")]
        event_loop.begin_store();
        #[cfg(feature = "cluster")]
        event_loop.begin_cluster()?;
        Ok(event_loop)
    }

    pub fn handle(&self) -> Handle {
        self.outside.inlet.handle()
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    #[cfg(feature = "backbone")]
    pub fn follow_log(&mut self, last: EventId) {
        self.engine.follow_log(last);
    }

    pub fn poll_publication(&mut self) -> Option<Publication> {
        self.engine.poll_publication()
    }

    pub fn set_credentials(&mut self, credentials: Credentials) {
        let now = self.outside.clock.now();
        self.engine.set_credentials(now, credentials);
    }

    /// Has a hook be told of changes of topics' subscribers.
    pub fn hook_audience(&mut self, change: Change, hook: AudienceHook) {
        self.engine.hook_audience(change, hook);
    }

    /// Has new handshakes of TLS follow these certificates.
    #[cfg(feature = "tls")]
    pub fn set_tls(&mut self, acceptor: Arc<Acceptor>) {
        self.outside.shared.tls.put(acceptor);
        self.outside.open_desk(&self.engine);
    }

    /// Returns all figures in the Prometheus text format.
    pub fn metrics(&self) -> String {
        self.engine.metrics(&self.outside.surroundings())
    }

    /// Sets the counter of log lines that the host's logger drops.
    pub fn count_log_lines_dropped(&mut self, count: Arc<AtomicUsize>) {
        self.outside.log_lines_dropped = Some(count);
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.outside.poll.registry().as_fd()
    }

    /// Returns the bound addresses, each with the face it is for.
    pub fn local_addresses(&self) -> impl Iterator<Item = (LocalAddress, Face)> {
        let listeners = self.outside.listeners.iter().flatten();
        listeners.filter_map(|listener| Some((listener.local_address().ok()?, listener.face)))
    }

    /// Returns whether the drain, or the shutdown, has ended.
    pub fn is_over(&self) -> bool {
        self.engine.was_shut_down() || self.engine.is_drained()
    }

    /// Returns whether the server was told to end at once.
    pub fn was_shut_down(&self) -> bool {
        self.engine.was_shut_down()
    }

    /// Returns how long the loop may wait: zero if work is left, `None` if nothing is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.has_work_left() {
            return Some(Duration::ZERO);
        }
        self.next_deadline().map(|at| self.outside.clock.until(at))
    }

    /// Returns how long to wait in the poller. By a manual clock nothing comes due while the loop
    /// waits: moving the clock wakes the loop.
    pub fn next_wait(&self) -> Option<Duration> {
        let wait = self.next_timeout();
        let wait = wait.filter(|wait| wait.is_zero() || self.outside.clock.is_running());
        // No poller tells of clients in memory.
        #[cfg(feature = "client")]
        let wait = wait.into_iter().chain(self.outside.clients.patience()).min();
        wait
    }

    /// Does one turn. Before it waits for something to happen, for at most `wait` (`None`: for as
    /// long as it takes).
    pub fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let has_commands = self.outside.inlet.fall_asleep();
        #[cfg(feature = "client")]
        let has_commands = has_commands || self.outside.clients.has_orders();
        let wait = if has_commands { Some(Duration::ZERO) } else { wait };
        self.outside.poll(wait)?;
        self.outside.inlet.wake_up();
        let began = StdInstant::now();
        let now = self.resume();
        let unix_ms = self.outside.clock.unix_ms();
        self.engine.turn(now, unix_ms, &mut self.outside);
        #[cfg(feature = "client")]
        self.turn_clients(now);
        #[cfg(feature = "bridge")]
        self.turn_bridges(now);
        self.outside.watch_handlers(&mut self.engine, now);
        // A reload may have changed it.
        self.outside.inlet.bound(self.engine.memory_limit(), &self.engine.config().limits);
        self.outside.inlet.fall_asleep();
        self.ask();
        let turn_us = began.elapsed().as_micros() as u64;
        self.engine.stats_mut().turn_us.record(turn_us);
        Ok(())
    }

    /// Reads the clock. The process may have been stopped since the loop asked for its next turn.
    fn resume(&mut self) -> Instant {
        let (now, passed) = self.outside.clock.resume(self.asked_at);
        #[cfg(feature = "tls")]
        self.outside.set_now(now);
        if let Passed::Jumped(jump) = passed {
            warn!("time jumped ms={}: pinging instead of judging", jump.as_millis() as u64);
            self.engine.handle_time_jump(now);
            #[cfg(feature = "client")]
            self.outside.clients.handle_time_jump(now);
        }
        now
    }

    /// Notes when the next turn is due.
    fn ask(&mut self) {
        let now = self.outside.clock.now();
        #[cfg(feature = "store")]
        self.give_to_store(now);
        #[cfg(feature = "cluster")]
        self.give_to_cluster();
        self.engine.postpone_timers(now);
        self.engine.arm_touched(now);
        self.asked_at = match self.has_work_left() {
            true => Some(now),
            // Time that the turn itself took is not time in which the process was stopped.
            false => self.next_deadline().map(|at| at.max(now)),
        };
    }

    fn has_work_left(&self) -> bool {
        self.engine.has_work_left()
            || self.engine.has_dirty()
            || self.outside.has_work_left(&self.engine)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.outside.next_deadlines().into_iter().fold(self.engine.poll_timeout(), sooner)
    }
}

/// Tells every handler of the end: on the loop at once, on the workers until none has returned a
/// job for 100 ms.
impl Drop for EventLoop {
    fn drop(&mut self) {
        let now = self.outside.clock.now();
        self.engine.begin_turn(0);
        let shutdown = Command::Shutdown;
        self.engine.take_command(now, &mut self.outside, None, shutdown);
        let (mut returned, mut returned_at) = (0, StdInstant::now());
        loop {
            self.engine.turn_goodbye(now, &mut self.outside);
            if std::mem::replace(&mut returned, self.engine.jobs_returned()) != returned {
                returned_at = StdInstant::now();
            }
            let is_left_to_host = !self.outside.has_pool() && !self.engine.has_inline_jobs();
            let is_blocked = returned_at.elapsed() >= GOODBYE_MAX;
            if self.engine.is_told() || is_left_to_host || is_blocked {
                break;
            }
            let has_commands = self.outside.inlet.fall_asleep();
            let wait = if has_commands { Duration::ZERO } else { GOODBYE_MAX / 10 };
            if self.outside.poll(Some(wait)).is_err() {
                break;
            }
        }
        self.engine.end_listeners(now);
        #[cfg(feature = "store")]
        self.end_store(now);
        #[cfg(feature = "client")]
        self.outside.clients.end(now);
        #[cfg(feature = "cluster")]
        self.give_to_cluster();
        self.outside.inlet.close();
        #[cfg(feature = "cluster")]
        self.end_cluster();
        let cancelled = self.outside.end_pool();
        #[cfg(feature = "sessions")]
        self.engine.end_sessions();
        let Some(cancelled) = cancelled else { return };
        if !self.engine.is_told() {
            info!("handlers left running={} cancelled={cancelled}", self.engine.jobs_out());
        }
    }
}

const WAKER: Token = Token(usize::MAX);
const LISTENER_TOKENS: usize = usize::MAX - 1024;
const REFUSAL_TOKENS: usize = LISTENER_TOKENS - Refusals::TOKENS;

/// How long the end waits for the workers while no job returns.
const GOODBYE_MAX: Duration = Duration::from_millis(100);
