//! Commands from any thread: [`Handle`] for the server, [`Peer`] for one connection.
//!
//! The thread that gives a command decides its way. Commands of a handler go to a queue of its
//! call; the loop takes them when the call returns. On a worker, a queue that has grown leaves
//! earlier. Commands of every other thread go through one bounded channel; `Full` tells such a
//! thread that there is no room, instead of making it wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use tungstenite::Utf8Bytes;

use crate::core::config::Config;
use crate::core::contract::backbone::Logged;
use crate::core::contract::event::{Command, Place, Report, TableReport};
use crate::core::ground::id::ConnectionId;
use crate::core::observe::stats::Vitals;
use crate::core::topics::{After, Payload};
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::system::descriptors;
#[cfg(feature = "tls")]
use crate::system::tls::Acceptor;
use crate::system::token_file;
use crate::threads::command_queue::Shared;

/// Sends commands to a running server, from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Sends commands to one peer, from any thread. Cloning is cheap, and a `Peer` may outlive its
/// connection.
#[derive(Clone)]
pub struct Peer {
    id: ConnectionId,
    handle: Handle,
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
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full => "too many commands are under way",
            SendError::Ended => "the server has ended",
            SendError::CloseCode => "this close code must not be sent",
        })
    }
}

impl std::error::Error for SendError {}

impl Peer {
    pub(crate) fn new(id: ConnectionId, handle: Handle) -> Peer {
        Peer { id, handle }
    }

    /// Makes it stand for another peer of the same server.
    pub(crate) fn turn_to(&mut self, id: ConnectionId) {
        self.id = id;
    }

    /// Returns the connection's id.
    pub fn id(&self) -> ConnectionId {
        self.id
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
        match self.handle.submit(Command::Send(self.id, message.into())) {
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

    /// Subscribes the peer to a topic: from now on each payload reaches it as one message, as on a
    /// WebSocket of `/topics/{topic}`. A bad name of a topic, or one topic too many, is counted.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn subscribe(&self, topic: impl Into<String>) -> Result<(), SendError> {
        self.handle.submit(Command::Subscribe(self.id, topic.into(), After::Now))
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
        self.handle.submit(Command::Subscribe(self.id, topic.into(), after))
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
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.handle.publish(topic, payload)
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

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Returns the peer with this id, whether its connection is still open or not.
    pub fn peer(&self, id: ConnectionId) -> Peer {
        Peer { id, handle: self.clone() }
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
    /// retain. The change itself ends no connection. Limits hold for what comes; deadlines count
    /// from where they began; a connection keeps the lifetime under which it was opened. If
    /// heartbeats change, each peer is pinged within one new interval and not judged before. The
    /// file of tokens is read again: a connected client keeps its subscriptions, and may from now
    /// on publish and subscribe as its token may. Keys that take a restart
    /// ([`Key::takes_restart`](crate::core::config::Key::takes_restart)) keep their values; the log
    /// names them.
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
        let tokens = token_file::read(&config)?;
        #[cfg(feature = "tls")]
        let acceptor = self.load_tls(&config)?;
        let reload = Command::Reload(Box::new((config, tokens)));
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
        self.ask(wait, |sender| {
            // The caller may have given up.
            Command::Report(Report(Box::new(move |vitals| drop(sender.try_send(vitals)))))
        })
    }

    /// Asks the loop for the table of connections, the JSON array of `GET /connections` with a row
    /// on each line. `take` gets it in slices of about 16 KB; the loop goes on between two of them.
    /// Returns whether the table is complete: not if a slice did not come within `wait`, or where
    /// [`Handle::vitals`] returns `None`.
    pub fn connections(&self, wait: Duration, mut take: impl FnMut(&str)) -> bool {
        let mut next = Some(Place::default());
        while let Some(place) = next {
            let slice = self.ask(wait, |sender| {
                let report = move |text, place| drop(sender.try_send((text, place)));
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
        self.submit(Command::Alarms(count))
    }

    /// Gives a command to the loop and waits for the answer.
    fn ask<T>(&self, wait: Duration, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (sender, answer) = bounded(1);
        if self.shared.is_called_by_loop()
            || self.shared.submit_from_elsewhere(command(sender)).is_err()
        {
            return None;
        }
        answer.recv_timeout(wait).ok()
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

    /// Publishes to a topic: every subscriber gets the event, over WebSocket or an event stream. A
    /// bad name of a topic, or one topic too many, is counted.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.submit(Command::Publish(topic.into(), payload.into()))
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

    /// Makes the loop turn, as a command would.
    pub fn wake(&self) {
        self.shared.wake();
    }

    fn submit(&self, command: Command) -> Result<(), SendError> {
        self.shared.submit(command)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}
