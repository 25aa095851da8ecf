//! What a host asks of the loop between turns, on the loop's thread. The host pulls events as
//! workers take jobs; commands act at once and return what became of them. Only turns move bytes.
//!
//! One job is out at a time: the one whose events the host handles. All others stay in the engine,
//! in inboxes whose limits pause the reading. So a host that pulls no events costs what the limits
//! allow and no more.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;
use mio::event::Source;
use mio::unix::SourceFd;
use rustix::event::{EventfdFlags, eventfd};

use tungstenite::Utf8Bytes;

use crate::core::contract::event::{Command, Done, Job, Place, Session};
use crate::core::contract::route::Placement;
use crate::core::engine::{Refused, Served, Timed};
use crate::core::ground::id::ConnectionId;
#[cfg(feature = "client")]
use crate::core::ground::time::Instant;
use crate::core::topics::{After, EventId, Payload};
use crate::core::wire::message::Message;
#[cfg(feature = "client")]
use crate::io::client::Clients;
use crate::io::clock::Clock;
use crate::io::event_loop::{EventLoop, WAKER};
use crate::io::manual_clock::ManualClock;
use crate::io::sockets::Sockets;
use crate::threads::handler::Endpoint;

impl EventLoop {
    /// Makes a descriptor that wakes the loop. When a thread or a signal handler writes the eight
    /// bytes of a 1 to it, the loop's own descriptor is readable until the next turn.
    pub fn wake_descriptor(&self) -> io::Result<OwnedFd> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each write raises an edge, so it is never read.
        let number = descriptor.as_raw_fd();
        SourceFd(&number).register(self.outside.poll.registry(), WAKER, Interest::READABLE)?;
        Ok(descriptor)
    }

    /// Makes the loop follow a clock that the host moves. Returns whether that was possible: not
    /// after the first turn.
    pub fn follow(&mut self, clock: ManualClock) -> bool {
        let is_new = self.engine.stats().turns == 0;
        if is_new {
            self.outside.clock = Clock::new(Some(clock));
            self.outside.clock.wake(&self.outside.shared);
        }
        is_new
    }

    /// Adds routes that the engine answers, or whose jobs the host pulls: see
    /// [`Engine::add_routes`].
    pub fn add_routes(&mut self, specs: Vec<Served>) -> Result<(), Refused> {
        self.engine.add_routes(specs).map(|_| ())
    }

    /// Adds a route whose jobs the host pulls. Returns its number.
    #[cfg(feature = "sessions")]
    pub fn add_route(&mut self, spec: Served) -> Result<usize, Refused> {
        self.engine.add_routes(vec![spec])
    }

    /// Adds a route whose endpoint runs on this thread, within turns.
    pub fn add_endpoint(
        &mut self,
        spec: Served,
        endpoint: Arc<dyn Endpoint>,
    ) -> Result<(), Refused> {
        debug_assert!(spec.placement == Placement::Inline && !self.outside.has_pool());
        let route = self.engine.add_routes(vec![spec])?;
        self.outside.handlers.endpoints.put(route, endpoint);
        Ok(())
    }

    /// Answers requests for this path without a token. Returns whether it has a route.
    pub fn open_path(&mut self, path: &str) -> bool {
        self.engine.open_path(path)
    }

    /// Gives a key a value for this path alone. Returns whether it has a route.
    pub fn set_on(&mut self, path: &str, key: &str, value: &str) -> Result<bool, Vec<String>> {
        let now = self.resume();
        let is_set = self.engine.set_on(now, path, key, value);
        self.ask();
        is_set
    }

    /// Asks the host about each request for this path. Returns whether it has routes for that.
    pub fn ask_on(&mut self, path: &str) -> bool {
        self.engine.ask_on(path)
    }

    /// Takes the next events for the host. [`EventLoop::finish_job`] gives the job back; only then
    /// are there more events of the same connection.
    pub fn poll_job(&mut self) -> Option<Job> {
        self.engine.renew_allowance();
        self.engine.poll_job(Placement::Worker)
    }

    /// Takes back a job that the host has finished.
    pub fn finish_job(&mut self, done: Done) {
        let now = self.resume();
        self.engine.take_command(now, &mut self.outside, Some(done.id), Command::Done(done));
        self.ask();
    }

    /// Queues a message; it leaves in the next turn. `from` is the connection whose event the host
    /// handles. `make` copies the `len` bytes when it is known that the message is accepted.
    pub fn send(
        &mut self,
        from: Option<ConnectionId>,
        id: ConnectionId,
        len: usize,
        make: &dyn Fn() -> Option<Message>,
    ) -> Result<(), Refused> {
        let now = self.resume();
        let mut verdict = self.engine.check_send(from, id, len);
        if verdict == Err(Refused::OutboxFull) {
            // Bytes that the socket takes now do not count.
            self.engine.flush_one(now, &mut self.outside, id);
            verdict = self.engine.check_send(from, id, len);
        }
        if verdict.is_ok() {
            let message = make().ok_or(Refused::OutboxFull)?;
            self.engine.take_command(now, &mut self.outside, from, Command::Send(id, message));
        }
        self.ask();
        verdict
    }

    /// Closes a connection, behind the messages sent before. `cancelled` counts the messages of its
    /// job that the host will not see.
    pub fn close_for_host(
        &mut self,
        id: ConnectionId,
        code: u16,
        text: Utf8Bytes,
        cancelled: impl FnOnce() -> u64,
    ) -> Result<(), Refused> {
        self.engine.check_open(id)?;
        let now = self.resume();
        self.engine.stats_mut().messages_cancelled += cancelled();
        self.engine.take_command(now, &mut self.outside, None, Command::Close(id, code, text));
        self.ask();
        Ok(())
    }

    /// Publishes an event; it leaves to subscribers in the next turns.
    pub fn publish(&mut self, topic: &str, payload: Payload) -> Result<(), Refused> {
        let now = self.resume();
        let verdict = self.engine.publish_for_host(now, topic, payload);
        self.ask();
        verdict
    }

    /// Subscribes a peer to the events of a topic. Returns whether events after the position are
    /// missing.
    pub fn subscribe(
        &mut self,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<bool, Refused> {
        let now = self.resume();
        let verdict = self.engine.subscribe_for_host(now, id, topic, after);
        self.ask();
        verdict
    }

    /// Ends the subscription of a peer to a topic.
    pub fn unsubscribe(&mut self, id: ConnectionId, topic: &str) -> Result<(), Refused> {
        self.engine.check_open(id)?;
        let now = self.resume();
        self.engine.take_command(
            now,
            &mut self.outside,
            None,
            Command::Unsubscribe(id, topic.into()),
        );
        self.ask();
        Ok(())
    }

    /// Returns the newest event of a topic, if one is retained.
    pub fn latest(&mut self, topic: &str) -> Result<Option<(EventId, Payload)>, Refused> {
        let now = self.resume();
        let latest = self.engine.latest_for_host(now, topic);
        self.ask();
        latest
    }

    /// Ends a connection of any kind.
    pub fn kick(&mut self, id: ConnectionId) -> Result<(), Refused> {
        self.engine.check_there(id)?;
        self.command(Command::Kick(id));
        Ok(())
    }

    /// Takes a command that needs no answer.
    pub fn command(&mut self, command: Command) {
        let now = self.resume();
        self.engine.take_command(now, &mut self.outside, None, command);
        self.ask();
    }

    /// Sets a timer of a peer, or moves it: see [`Engine::set_timer`].
    pub fn set_timer(&mut self, id: ConnectionId, span: Duration, token: u64) -> Timed {
        let now = self.resume();
        let timed = self.engine.set_timer(now, id, span, token);
        self.ask();
        timed
    }

    /// Cancels a timer of a peer: see [`Engine::cancel_timer`].
    pub fn cancel_timer(&mut self, id: ConnectionId, token: u64) -> bool {
        self.resume();
        let was_there = self.engine.cancel_timer(id, token);
        self.ask();
        was_there
    }

    /// Returns a slice of the table of connections, and the place to go on from if there is more.
    pub fn table_slice(&mut self, place: Place) -> (String, Option<Place>) {
        let now = self.outside.clock.now();
        self.engine.table_slice(now, place)
    }

    /// Returns the place of the session of a connection: see [`Engine::session_of`].
    pub fn session_of(&mut self, id: ConnectionId) -> Option<&mut Option<Session>> {
        self.engine.session_of(id)
    }

    /// Lends the clients beside the server.
    #[cfg(feature = "client")]
    pub fn with_clients<T>(&mut self, act: impl FnOnce(&mut Clients, Instant) -> T) -> T {
        let now = self.resume();
        let acted = act(&mut self.outside.clients, now);
        self.ask();
        acted
    }

    /// Begins to drain: the listeners are closed at once.
    pub fn drain(&mut self) {
        let now = self.resume();
        self.engine.take_command(now, &mut self.outside, None, Command::Drain);
        self.outside.close_listeners(self.engine.len());
        self.ask();
    }

    /// Closes every socket and touches nothing else: after a panic the rest cannot be relied on.
    pub fn abandon(&mut self) {
        self.outside.listeners.clear();
        self.outside.sockets = Sockets::default();
    }
}
