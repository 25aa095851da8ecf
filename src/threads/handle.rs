//! Commands from any thread: [`Handle`] for the server, [`Peer`] for one connection (`peer.rs`).
//!
//! The thread that gives a command decides its way. Commands of a handler go to a queue of its
//! call; the loop takes them when the call returns. On a worker, a queue that has grown leaves
//! earlier. Commands of every other thread go through one bounded channel; `Full` tells such a
//! thread that there is no room, instead of making it wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::config::Config;
use crate::core::contract::backbone::Logged;
use crate::core::contract::event::{Call, Command, Order, Place, Run, TableReport};
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::Vitals;
use crate::core::topics::{Content, Name};
use crate::system::descriptors;
#[cfg(feature = "tls")]
use crate::system::tls::Acceptor;
use crate::system::token_file;
use crate::threads::answer::{Answerer, answer};
use crate::threads::command_queue::Shared;
use crate::threads::handler::run_call;
use crate::threads::peer::Peer;

/// Sends commands to a running server, from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

/// A timer of [`Handle::after`]. To drop it changes nothing.
#[derive(Clone, Debug)]
pub struct Timer {
    number: u32,
    handle: Handle,
}

impl Timer {
    /// Has the job run after `span` from now instead, unless it has begun.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn restart(&self, span: Duration) -> Result<(), SendError> {
        let number = self.number;
        self.handle.order(move |engine, now| engine.move_call(now, span, number))
    }

    /// Drops the job, unless it has begun.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn cancel(&self) -> Result<(), SendError> {
        let number = self.number;
        self.handle.order(move |engine, _| engine.cancel_call(number))
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// Too many commands are under way: try again later.
    Full,
    /// The server has ended.
    Ended,
    /// RFC 6455, 7.4 does not allow sending this close code.
    CloseCode,
    /// As many timers of the server's own are pending as `limits.timers` says.
    Timers,
    /// There are 16 hooks of [`Handle::on_drain`].
    Hooks,
    /// No topic can have this name: it takes 1 to 128 characters of `A-Z a-z 0-9 . _ - :`.
    Topic,
    /// No answer came in time, or the caller is a handler on the loop thread, which cannot answer
    /// meanwhile.
    Unanswered,
    /// The server's own code has as many subscriptions as `limits.subscriptions` says.
    Subscriptions,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full => "too many commands are under way",
            SendError::Ended => "the server has ended",
            SendError::CloseCode => "this close code must not be sent",
            SendError::Timers => "limits.timers are pending",
            SendError::Unanswered => "no answer came in time",
            SendError::Hooks => "there are 16 hooks for the drain",
            SendError::Topic => "no topic can have this name",
            SendError::Subscriptions => "limits.subscriptions are the server's own",
        })
    }
}

impl std::error::Error for SendError {}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Returns the peer with this id, whether its connection is still open or not.
    pub fn peer(&self, id: ConnectionId) -> Peer {
        Peer::new(id, self.clone())
    }

    /// Begins to drain: the listeners close, every connection is ended in turn, the rest is dropped
    /// after `deadlines.drain`. A second call changes nothing.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn drain(&self) -> Result<(), SendError> {
        self.submit(Command::Drain)
    }

    /// Puts another configuration in force: limits, deadlines, heartbeats, admission, what topics
    /// retain. The change itself ends no connection, but where `admission.revoke` says so. Limits
    /// hold for what comes; deadlines count from where they began; a connection keeps the lifetime
    /// under which it was opened. If heartbeats change, each peer is pinged within one new interval
    /// and not judged before. The file of tokens is read again: a connected client keeps its
    /// subscriptions, and may from now on publish and subscribe as its token may. Keys that take a
    /// restart ([`Key::takes_restart`](crate::core::config::Key::takes_restart)) keep their values;
    /// the log names them.
    ///
    /// # Errors
    ///
    /// The faults of the configuration, a line each; nothing changes then.
    pub fn reload(&self, mut config: Config) -> Result<(), Vec<String>> {
        let faults = config.check().faults;
        if !faults.is_empty() {
            return Err(faults);
        }
        descriptors::fit(&mut config).map_err(|fault| vec![fault])?;
        let credentials = token_file::load(&config)?;
        #[cfg(feature = "client")]
        crate::threads::dial::Dial::check_all(&config)?;
        #[cfg(feature = "tls")]
        let acceptor = self.load_tls(&config)?;
        let reload = Engine::reload_command(config, credentials);
        self.submit(reload).map_err(|error| vec![error.to_string()])?;
        #[cfg(feature = "tls")]
        if let Some(acceptor) = acceptor {
            self.shared.tls.put(acceptor);
        }
        Ok(())
    }

    /// Reads the files of TLS, and tells what is doubtful of them.
    #[cfg(feature = "tls")]
    fn load_tls(&self, config: &Config) -> Result<Option<Arc<Acceptor>>, Vec<String>> {
        match Acceptor::load(config) {
            Ok(acceptor) => {
                let doubts = acceptor.iter().flat_map(|acceptor| &acceptor.doubts);
                doubts.for_each(|doubt| log::warn!("{doubt}"));
                Ok(acceptor)
            }
            Err(faults) => {
                self.shared.tls.count_fault();
                Err(faults)
            }
        }
    }

    /// Reads the files of TLS again: new handshakes follow them. Connections stay as they are.
    ///
    /// # Errors
    ///
    /// What is wrong with them, a line each; nothing changes then.
    #[cfg(all(feature = "tls", feature = "program"))]
    pub(crate) fn reload_tls(&self, config: &Config) -> Result<(), Vec<String>> {
        if let Some(acceptor) = self.load_tls(config)? {
            self.shared.tls.put(acceptor);
        }
        Ok(())
    }

    /// Asks the loop for its vitals and waits for the answer, which shows that the loop turns.
    /// `None` if none came within `wait`, or if the caller is a handler on the loop thread.
    pub fn vitals(&self, wait: Duration) -> Option<Vitals> {
        self.ask(wait, |answerer| {
            let answer = move |engine: &mut Engine, now| answerer.tell(engine.vitals(now));
            Command::Order(Order::of(answer).unbounded())
        })
    }

    /// Asks the loop for the table of connections, the JSON array of `GET /connections` with a row
    /// on each line. `take` gets it in slices of about 16 KB; the loop goes on between two of them.
    /// Returns whether the table is complete: not if a slice did not come within `wait`, or where
    /// [`Handle::vitals`] returns `None`.
    pub fn connections(&self, wait: Duration, mut take: impl FnMut(&str)) -> bool {
        let mut next = Some(Place::default());
        while let Some(place) = next {
            let slice = self.ask(wait, |answerer| {
                let report = move |text, place| answerer.tell((text, place));
                Command::Table(place, TableReport(Box::new(report)))
            });
            let Some((text, place)) = slice else { return false };
            take(&text);
            next = place;
        }
        true
    }

    /// Counts alarms of the thread that watches the figures.
    #[cfg(feature = "program")]
    pub(crate) fn count_alarms(&self, count: u64) -> Result<(), SendError> {
        self.order(move |engine, _| engine.stats_mut().watch_alarms += count)
    }

    /// Gives a command to the loop and waits for the answer, if it comes.
    pub(super) fn ask<T>(
        &self,
        wait: Duration,
        command: impl FnOnce(Answerer<T>) -> Command,
    ) -> Option<T> {
        self.ask_for(wait, command).ok()
    }

    /// Gives a command to the loop and waits for the answer.
    pub(super) fn ask_for<T>(
        &self,
        wait: Duration,
        command: impl FnOnce(Answerer<T>) -> Command,
    ) -> Result<T, SendError> {
        if self.shared.is_called_by_loop() {
            return Err(SendError::Unanswered);
        }
        let (answerer, awaited) = answer();
        self.shared.submit_from_elsewhere(command(answerer))?;
        awaited.wait(wait)
    }

    /// Ends one connection, of any kind; a WebSocket by 1008 `kicked`, behind what is queued. An id
    /// whose connection has ended is counted.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn kick(&self, id: ConnectionId) -> Result<(), SendError> {
        self.submit(Command::Kick(id))
    }

    /// Tells a fraction of the WebSockets and event streams, chosen at random, to come back later:
    /// 1012 `retry=MS`, spread over the smaller of half of `deadlines.drain` and two milliseconds
    /// for each of them. More than 1 means all of them. A server that drains ignores it.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn shed(&self, fraction: f64) -> Result<(), SendError> {
        self.submit(Command::Shed(fraction))
    }

    /// Ends the server at once: every connection is dropped.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn shut_down(&self) -> Result<(), SendError> {
        self.submit(Command::Shutdown)
    }

    /// Publishes to a topic: every subscriber gets the event, over WebSocket, an event stream or
    /// [`Handle::subscribe`]. One topic too many is counted
    /// (`heartwheel_publishes_refused_total`). No hook of [`Route::on_publish`] is asked.
    ///
    /// [`Route::on_publish`]: crate::Route::on_publish
    ///
    /// # Errors
    ///
    /// [`SendError::Topic`] if no topic can have this name; [`SendError::Full`] or
    /// [`SendError::Ended`] if the command was not taken.
    pub fn publish(
        &self,
        topic: impl Into<String>,
        content: impl Into<Content>,
    ) -> Result<(), SendError> {
        self.submit(Command::Publish(topic_of(topic)?, content.into()))
    }

    /// Gives the server a message of the log that it follows: see [`Server::follow_log`].
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: it was not taken.
    ///
    /// [`Server::follow_log`]: crate::Server::follow_log
    #[doc(hidden)]
    pub fn logged(&self, logged: Logged) -> Result<(), SendError> {
        self.submit(Command::Logged(Box::new(logged)))
    }

    /// Gives the server messages of the log that it follows, and waits until there is room for
    /// them. Returns whether the server is still there.
    #[cfg(any(feature = "store", feature = "cluster"))]
    pub(crate) fn logged_patiently(&self, logged: Vec<Logged>) -> bool {
        let commands = logged.into_iter().map(|one| Command::Logged(Box::new(one)));
        self.shared.send_patiently(commands.collect())
    }

    /// Gives the server a command, and waits until there is room for it.
    #[cfg(all(feature = "cluster", feature = "presence"))]
    pub(crate) fn order_patiently(&self, command: Command) -> bool {
        self.shared.send_patiently(vec![command])
    }

    /// Runs a job after `span`, on a worker, where it may block; with `workers = 0` on the loop
    /// thread, where it must not. A handler that is stuck counts as one of `deadlines.handler`. A
    /// job that panics is counted as a handler that does.
    ///
    /// The span counts from when the loop takes the command. The job is never early, and at most
    /// one `tick` and the turn in progress late, if a worker is free. Timers go on during a drain;
    /// when the server ends, the jobs that are not due are dropped.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn flush_readings() {}
    /// fn every_minute(handle: &heartwheel::Handle) {
    ///     let again = handle.clone();
    ///     let job = move || {
    ///         flush_readings();
    ///         every_minute(&again);
    ///     };
    ///     if let Err(error) = handle.after(Duration::from_secs(60), job) {
    ///         log::warn!("no more readings are flushed: {error}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::Timers`] if `limits.timers` jobs are pending; [`SendError::Full`] or
    /// [`SendError::Ended`] if the command was not taken.
    pub fn after(
        &self,
        span: Duration,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<Timer, SendError> {
        let (number, pending) = self.shared.timers.begin().ok_or(SendError::Timers)?;
        let run: Run = Box::new(move |tick| {
            // From here on another may be pending; this job may set it.
            drop(pending);
            run_call(job, tick)
        });
        let call = Call { number, run };
        self.order(move |engine, now| engine.call_after(now, span, call))?;
        Ok(Timer { number, handle: self.clone() })
    }

    /// Has a hook run when a drain begins, beside the ends of the connections: to tell a registry,
    /// or to flush a database. If a drain has begun, it runs at once.
    ///
    /// Hooks run one after the other, in the order in which they were given, on one worker, where
    /// they may block; with `workers = 0` on the loop thread, where they must not. The drain does
    /// not end before they have returned, or before its time is over, `deadlines.drain` and a
    /// quarter of a second: then it ends without them, and the log names what is left
    /// (`handlers_left`). One that panics is counted as a handler that does; the next one runs all
    /// the same. One that is stuck counts as one of `deadlines.handler`. Each stage of a drain is
    /// a line of the log: begun, hooks begun and ended, connections ended, ended.
    ///
    /// What is to be done behind the last connection comes after [`Server::run`].
    ///
    /// # Errors
    ///
    /// [`SendError::Hooks`] if there are 16 hooks; [`SendError::Full`] or [`SendError::Ended`] if
    /// the command was not taken.
    ///
    /// [`Server::run`]: crate::Server::run
    pub fn on_drain(&self, hook: impl FnOnce() + Send + 'static) -> Result<(), SendError> {
        let (number, counted) = self.shared.hooks.begin().ok_or(SendError::Hooks)?;
        let run: Run = Box::new(move |tick| {
            drop(counted);
            run_call(hook, tick)
        });
        self.order(move |engine, _| engine.on_drain(Call { number, run }))
    }

    /// Makes the loop turn, as a command would.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// Has the engine do what few applications ask for.
    pub(super) fn order(
        &self,
        act: impl FnOnce(&mut Engine, Instant) + Send + 'static,
    ) -> Result<(), SendError> {
        self.submit(Command::Order(Order::of(act)))
    }

    /// Has the loop follow the verdict of the hook that this thread has called.
    pub(super) fn decide(&self, command: Command) {
        self.shared.decide(command);
    }

    pub(super) fn submit(&self, command: Command) -> Result<(), SendError> {
        self.shared.submit(command)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Returns the name of a topic.
pub(super) fn topic_of(name: impl Into<String>) -> Result<String, SendError> {
    let name = name.into();
    if Name::is_valid(&name) { Ok(name) } else { Err(SendError::Topic) }
}
