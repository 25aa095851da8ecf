//! What a host asks of the loop between turns, on the loop's thread. The host pulls events as
//! workers take jobs; commands act at once and return what became of them. Only turns move bytes.
//!
//! One job is out at a time: the one whose events the host handles. All others stay in the engine,
//! in inboxes whose limits pause the reading. So a host that pulls no events costs what the limits
//! allow and no more.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::Interest;
use mio::event::Source;
use mio::unix::SourceFd;
use rustix::event::{EventfdFlags, eventfd};

use crate::core::contract::event::{Command, Done, Job};
use crate::core::contract::route::Placement;
use crate::core::engine::Refused;
use crate::core::ground::id::ConnectionId;
use crate::core::topics::Payload;
use crate::core::wire::message::Message;
use crate::io::clock::Clock;
use crate::io::event_loop::{EventLoop, WAKER};
use crate::io::manual_clock::ManualClock;
use crate::io::sockets::Sockets;

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

    /// Adds a WebSocket route whose events the host pulls.
    pub fn add_pulled_route(&mut self, path: String) -> Result<(), Refused> {
        // The route has no endpoint: only the host takes its jobs.
        self.engine.add_pulled_route(path)
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
        make: impl FnOnce() -> Option<Message>,
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
        cancelled: impl FnOnce() -> u64,
    ) -> Result<(), Refused> {
        self.engine.check_open(id)?;
        let now = self.resume();
        self.engine.stats_mut().messages_cancelled += cancelled();
        self.engine.take_command(now, &mut self.outside, None, Command::Close(id, code, "".into()));
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

    /// Subscribes a peer to the events of a topic from now on.
    pub fn subscribe(&mut self, id: ConnectionId, topic: &str) -> Result<(), Refused> {
        let now = self.resume();
        let verdict = self.engine.subscribe_for_host(now, id, topic);
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
