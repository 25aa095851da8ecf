//! Commands to one connection, from any thread. They go the ways that `handle.rs` tells of.

use std::fmt;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::core::contract::event::{Command, Order};
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::topics::{After, Content};
use crate::core::wire::http::Waker;
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::threads::handle::{Handle, SendError, topic_of};

/// Sends commands to one peer, from any thread. Cloning is cheap, and a `Peer` may outlive its
/// connection.
#[derive(Clone)]
pub struct Peer {
    id: ConnectionId,
    handle: Handle,
    identity: Option<Identity>,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The loop will queue the message, if the connection is still open then.
    Taken,
    /// Too many commands are under way: the message was not taken, try again later.
    Full,
    /// The server has ended: the message was not taken.
    Ended,
}

impl Peer {
    pub(crate) fn new(id: ConnectionId, handle: Handle) -> Peer {
        Peer { id, handle, identity: None }
    }

    /// Makes what tells the loop that an answer to this peer has more.
    pub(crate) fn waker(&self) -> Waker {
        let (id, shared) = (self.id, self.handle.shared.clone());
        Box::new(move || shared.submit_from_elsewhere(Command::More(id)).is_ok())
    }

    /// Makes it stand for another peer of the same server.
    pub(crate) fn turn_to(&mut self, id: ConnectionId, identity: Option<Identity>) {
        self.id = id;
        // Mostly neither has one: nothing is to be dropped then.
        if self.identity.is_some() || identity.is_some() {
            self.identity = identity;
        }
    }

    /// Returns the connection's id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns who is at the other end, as [`Request::identity`](crate::http::Request::identity)
    /// did when the connection was opened. `None` without an identity, and for a peer of
    /// [`Handle::peer`].
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(Identity::as_str)
    }

    /// Returns the handle of the peer's server.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Sends a message. If the connection has ended when the loop takes the message, it is counted
    /// and dropped.
    ///
    /// A message from a handler leaves when the call returns; see [`Peer::flush`]. A handler on a
    /// worker waits for room instead of getting [`Sent::Full`].
    pub fn send(&self, message: impl Into<Message>) -> Sent {
        match self.handle.shared.send(self.id, message.into()) {
            Ok(()) => Sent::Taken,
            Err(SendError::Ended) => Sent::Ended,
            Err(_) => Sent::Full,
        }
    }

    /// Closes the connection with this code and text (cut at 123 bytes), behind the messages sent
    /// before.
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCode`] if the code is not 1000 to 1003, 1007 to 1014 or 3000 to 4999;
    /// [`SendError::Full`] or [`SendError::Ended`] if the command was not taken.
    pub fn close(&self, code: u16, text: impl Into<Utf8Bytes>) -> Result<(), SendError> {
        if !ws::is_allowed_close_code(code) {
            return Err(SendError::CloseCode);
        }
        self.handle.submit(Command::Close(self.id, code, text.into()))
    }

    /// Closes the connection for messages that were no values.
    #[cold]
    pub(crate) fn refuse_messages(
        &self,
        count: u64,
        code: u16,
        text: String,
    ) -> Result<(), SendError> {
        let id = self.id;
        let order = Order::of(move |engine: &mut Engine, now| {
            engine.refuse_messages(now, id, count, code, &text);
        });
        self.handle.submit(Command::Order(order))
    }

    /// Subscribes the peer to a topic: from now on each payload reaches it as one message, as on a
    /// WebSocket of `/topics/{topic}`. One topic too many is counted
    /// (`heartwheel_publishes_refused_total`).
    ///
    /// # Errors
    ///
    /// [`SendError::Topic`] if no topic can have this name; [`SendError::Full`] or
    /// [`SendError::Ended`] if the command was not taken.
    pub fn subscribe(&self, topic: impl Into<String>) -> Result<(), SendError> {
        self.handle.submit(Command::Subscribe(self.id, topic_of(topic)?, After::Now))
    }

    /// As [`Peer::subscribe`], but first come the retained events after `position`, which the
    /// client gave. If some of them are missing, the peer cannot be told: that is counted.
    ///
    /// # Errors
    ///
    /// As [`Peer::subscribe`].
    pub fn subscribe_after(
        &self,
        topic: impl Into<String>,
        position: &str,
    ) -> Result<(), SendError> {
        let after = After::parse(position);
        self.handle.submit(Command::Subscribe(self.id, topic_of(topic)?, after))
    }

    /// Ends the peer's subscription to a topic.
    ///
    /// # Errors
    ///
    /// As [`Peer::subscribe`].
    pub fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), SendError> {
        self.handle.submit(Command::Unsubscribe(self.id, topic.into()))
    }

    /// Publishes to a topic, as [`Handle::publish`].
    ///
    /// # Errors
    ///
    /// As [`Handle::publish`].
    pub fn publish(
        &self,
        topic: impl Into<String>,
        content: impl Into<Content>,
    ) -> Result<(), SendError> {
        self.handle.publish(topic, content)
    }

    /// Sets a timer: after `span` the connection's handler is called with `token`
    /// ([`Event::Timer`](crate::Event::Timer), [`Handler::timer`](crate::Handler::timer)). If a
    /// timer with this token is pending, it is moved.
    ///
    /// The span counts from when the loop takes the command, which for a handler is when its call
    /// has returned. The timer never falls due early, and at most one `tick` and the turn in
    /// progress late; it then waits behind the messages that have come before, as they do. After
    /// the process had been stopped, it falls due at once, and once. Timers last as long as the
    /// connection is open: when its end begins, also by a drain, those that are not due are
    /// dropped. So none comes after `Closed`.
    ///
    /// Of one connection `limits.timers` are pending at most, those included that wait for the
    /// handler. One more is not set, and counted (`heartwheel_timers_total{event="refused"}`). A
    /// timer of a connection that is not open, or that has no handler, is dropped and counted
    /// among the stale commands.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn after(&self, span: Duration, token: u64) -> Result<(), SendError> {
        let id = self.id;
        self.handle.order(move |engine, now| _ = engine.set_timer(now, id, span, token))
    }

    /// Cancels the timer with this token, if there is one. A handler that cancels a timer is not
    /// given its token in a later call, even if the timer was due already.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn cancel(&self, token: u64) -> Result<(), SendError> {
        let id = self.id;
        self.handle.order(move |engine, _| _ = engine.cancel_timer(id, token))
    }

    /// Sends the commands of this handler call so far now: for a handler that goes on to block. On
    /// the loop thread (`workers = 0`, inline routes) it does nothing, because nothing can leave
    /// before the call returns.
    pub fn flush(&self) {
        self.handle.shared.flush_call();
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.id).finish()
    }
}
