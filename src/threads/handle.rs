//! Commands from any thread: [`Handle`] for the server, [`Peer`] for one connection.
//!
//! The thread that gives a command decides its way. Commands of a handler go to a queue of its
//! call; the loop takes them when the call returns. On a worker, a queue that has grown leaves
//! earlier. Commands of every other thread go through one bounded channel; `Full` tells such a
//! thread that there is no room, instead of making it wait.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;
use tungstenite::Utf8Bytes;

use crate::core::config::Config;
use crate::core::contract::backbone::Logged;
use crate::core::contract::event::{Calls, Command, Done, Place, Report, TableReport};
use crate::core::ground::id::ConnectionId;
use crate::core::observe::stats::Vitals;
use crate::core::topics::{After, Payload};
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::system::descriptors;
#[cfg(feature = "tls")]
use crate::system::tls::{Acceptor, Slot};
use crate::system::token_file;

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
        let batch = SCOPES.with_borrow_mut(|scopes| {
            let scope = find_scope(scopes, &self.handle.shared)?;
            (scope.is_worker && !scope.commands.is_empty()).then(|| scope.take_batch())
        });
        if let Some(batch) = batch {
            self.handle.shared.send_from_worker(batch);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.id).finish()
    }
}

impl Handle {
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

    /// Returns a command to the loop and waits for the answer.
    fn ask<T>(&self, wait: Duration, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let is_on_loop = SCOPES.with_borrow_mut(|scopes| {
            find_scope(scopes, &self.shared).is_some_and(|scope| !scope.is_worker)
        });
        let (sender, answer) = bounded(1);
        if is_on_loop || self.shared.submit_from_elsewhere(command(sender)).is_err() {
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
        let submitted = SCOPES.with_borrow_mut(|scopes| match find_scope(scopes, &self.shared) {
            Some(scope) => scope.submit(command),
            None => Submitted::Elsewhere(command),
        });
        // Here the scopes are free again: dropping a payload may run the application's own code,
        // which may send.
        match submitted {
            Submitted::Kept => Ok(()),
            Submitted::Refused(_) => Err(SendError::Full),
            Submitted::Leaves(batch) => match self.shared.send_from_worker(batch) {
                true => Ok(()),
                false => Err(SendError::Ended),
            },
            Submitted::Elsewhere(command) => self.shared.submit_from_elsewhere(command),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// What becomes of a command that a thread gives.
enum Submitted {
    /// It leaves with the other commands of its call.
    Kept,
    /// The call has given too many bytes.
    Refused(#[expect(dead_code, reason = "dropped where that harms nothing")] Command),
    /// The commands of the call so far leave now.
    Leaves(Batch),
    /// The thread is in no call.
    Elsewhere(Command),
}

/// Commands on their way to the loop together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The connection whose handler gave the commands.
    pub from: Option<ConnectionId>,
    pub commands: Vec<Command>,
    bytes: usize,
}

/// What the loop and all other threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    commands: Sender<Batch>,
    waker: Waker,
    /// The loop waits, or is about to wait: it must be woken.
    is_asleep: AtomicBool,
    /// Bytes of the commands in the channel.
    bytes: AtomicUsize,
    /// How many bytes there may be; one batch always fits.
    bytes_max: AtomicUsize,
    /// The loop takes no more commands.
    has_ended: AtomicBool,
    /// Where a reload leaves certificates for the loop.
    #[cfg(feature = "tls")]
    pub tls: Arc<Slot>,
}

/// The loop's end of the channel.
#[derive(Debug)]
pub(crate) struct Inlet {
    shared: Arc<Shared>,
    commands: Receiver<Batch>,
}

impl Inlet {
    /// Makes the channel.
    pub fn new(waker: Waker) -> Inlet {
        let (sender, commands) = bounded(BATCHES_MAX);
        let shared = Shared {
            commands: sender,
            waker,
            is_asleep: AtomicBool::new(true),
            bytes: AtomicUsize::new(0),
            bytes_max: AtomicUsize::new(BYTES_MAX),
            has_ended: AtomicBool::new(false),
            #[cfg(feature = "tls")]
            tls: Arc::default(),
        };
        Inlet { shared: Arc::new(shared), commands }
    }

    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Takes the next commands.
    pub fn poll(&self) -> Option<Batch> {
        let batch = self.commands.try_recv().ok()?;
        self.shared.bytes.fetch_sub(batch.bytes, Ordering::AcqRel);
        Some(batch)
    }

    /// Notes that the loop is about to wait: from now on a thread that sends commands wakes it.
    /// Returns whether commands are there already.
    pub fn fall_asleep(&self) -> bool {
        self.shared.is_asleep.store(true, Ordering::SeqCst);
        !self.commands.is_empty()
    }

    /// Bounds the bytes of commands to a quarter of this memory.
    pub fn bound(&self, memory_bytes: u64) {
        let quarter = usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX);
        self.shared.bytes_max.store(quarter.min(BYTES_MAX), Ordering::Relaxed);
    }

    /// Returns the bytes of the commands that wait.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether commands wait.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Ends the channel: a thread that waits to send learns that the loop is gone.
    pub fn close(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        self.commands = crossbeam_channel::never();
    }

    /// Notes that the loop is awake and will look for commands by itself.
    pub fn wake_up(&self) {
        self.shared.is_asleep.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    /// Wakes the loop if it waits: one write for all commands until it has woken.
    pub fn wake(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // It fails twice only if the descriptor is closed: the loop is gone then.
            let _ = self.waker.wake().or_else(|_| self.waker.wake());
        }
    }

    /// Wakes the loop, whatever it does: for what it does not look for before it waits.
    #[cfg(feature = "tls")]
    pub fn wake_always(&self) {
        let _ = self.waker.wake().or_else(|_| self.waker.wake());
    }

    /// Sends a batch from a worker, waiting for room. Returns whether the loop is still there.
    pub fn send_from_worker(&self, batch: Batch) -> bool {
        // The loop always takes commands before it does anything else, so this wait ends.
        while self.bytes.load(Ordering::Acquire) > self.bytes_max() && !self.has_ended() {
            self.wake();
            thread::park_timeout(Duration::from_millis(1));
        }
        let bytes = batch.bytes;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let is_sent = match self.commands.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Disconnected(_)) => false,
            Err(TrySendError::Full(batch)) => {
                self.wake();
                self.commands.send(batch).is_ok()
            }
        };
        if !is_sent {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        self.wake();
        is_sent
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    fn submit_from_elsewhere(&self, command: Command) -> Result<(), SendError> {
        let bytes = command.bytes();
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let is_full = before > 0 && before.saturating_add(bytes) > self.bytes_max();
        let batch = Batch { from: None, commands: vec![command], bytes };
        let result = match is_full {
            true => Err(SendError::Full),
            false => self.commands.try_send(batch).map_err(|error| match error {
                TrySendError::Full(_) => SendError::Full,
                TrySendError::Disconnected(_) => SendError::Ended,
            }),
        };
        if result.is_err() {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        self.wake();
        result
    }
}

/// Finds the innermost handler call of this server that the thread is in.
fn find_scope<'a>(scopes: &'a mut [Scope], shared: &Arc<Shared>) -> Option<&'a mut Scope> {
    scopes.iter_mut().rfind(|scope| Arc::ptr_eq(&scope.shared, shared))
}

/// The handler call that a thread is in. A thread reuses one for all its calls.
#[derive(Debug)]
pub(crate) struct Scope {
    shared: Arc<Shared>,
    from: Option<ConnectionId>,
    is_worker: bool,
    commands: Vec<Command>,
    bytes: usize,
}

impl Scope {
    /// Makes a scope for a worker: commands leave through the channel.
    pub fn of_worker(shared: Arc<Shared>) -> Scope {
        Scope { shared, from: None, is_worker: true, commands: Vec::new(), bytes: 0 }
    }

    /// Makes a scope for the loop thread: commands stay here until the loop takes them.
    pub fn of_loop(shared: Arc<Shared>) -> Scope {
        Scope { is_worker: false, ..Scope::of_worker(shared) }
    }

    /// Begins a call.
    pub fn enter(mut self, from: ConnectionId) {
        self.from = Some(from);
        SCOPES.with_borrow_mut(|scopes| scopes.push(self));
    }

    /// Ends the call that was begun last.
    pub fn leave() -> Scope {
        SCOPES.with_borrow_mut(Vec::pop).expect("a call was begun")
    }

    /// Takes out the commands of a call.
    pub fn take(&mut self) -> Vec<Command> {
        self.bytes = 0;
        std::mem::take(&mut self.commands)
    }

    /// Takes the empty list of commands back, to be used again.
    pub fn keep_spare(&mut self, commands: Vec<Command>) {
        debug_assert!(commands.is_empty() && self.commands.is_empty(), "no command is lost");
        self.commands = commands;
    }

    /// Sends the commands of a worker's call, with the times of its calls and its outcome. Returns
    /// whether the loop is still there.
    pub fn finish(&mut self, calls: Calls, done: Done) -> bool {
        self.commands.extend([Command::Took(calls), Command::Done(done)]);
        let batch = self.take_batch();
        self.shared.send_from_worker(batch)
    }

    /// Takes a command. It drops nothing and waits for nothing: the scopes are in use.
    fn submit(&mut self, command: Command) -> Submitted {
        let bytes = command.bytes();
        let bytes_max = self.shared.bytes_max();
        let is_over = self.bytes > 0 && self.bytes.saturating_add(bytes) > bytes_max;
        if is_over && !self.is_worker {
            return Submitted::Refused(command);
        }
        self.bytes += bytes;
        self.commands.push(command);
        let is_much = self.bytes >= SCOPE_BYTES_MAX || self.commands.len() >= SCOPE_COMMANDS_MAX;
        match self.is_worker && is_much {
            true => Submitted::Leaves(self.take_batch()),
            false => Submitted::Kept,
        }
    }

    fn take_batch(&mut self) -> Batch {
        let commands = std::mem::take(&mut self.commands);
        let bytes = std::mem::take(&mut self.bytes);
        Batch { from: self.from, commands, bytes }
    }
}

thread_local! {
    /// Innermost last: a handler may turn another server.
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Batches in the channel.
const BATCHES_MAX: usize = 1024;
/// Bytes in the channel, unless a quarter of the memory is less.
const BYTES_MAX: usize = 4 << 20;
/// A worker's handler call that has sent this many bytes lets them go before it returns.
const SCOPE_BYTES_MAX: usize = 64 << 10;
const SCOPE_COMMANDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use mio::{Poll, Token};
    use tungstenite::Bytes;

    use super::*;
    use crate::core::ground::id::Generation;

    /// A payload that sends when it is dropped.
    struct Parting(Peer, Arc<AtomicU32>, Vec<u8>);

    impl AsRef<[u8]> for Parting {
        fn as_ref(&self) -> &[u8] {
            &self.2
        }
    }

    impl Drop for Parting {
        fn drop(&mut self) {
            let sent = self.0.send("parting");
            self.1.fetch_add(u32::from(sent != Sent::Ended), Ordering::Relaxed);
        }
    }

    fn id() -> ConnectionId {
        ConnectionId::new(0, Generation::FIRST)
    }

    fn parting(peer: &Peer, dropped: &Arc<AtomicU32>) -> Message {
        let bytes = vec![0; BYTES_MAX / 2 + 1];
        Message::Binary(Bytes::from_owner(Parting(peer.clone(), dropped.clone(), bytes)))
    }

    // It was dropped while the scopes were borrowed: what its payload sent then panicked.
    #[test]
    fn a_refused_command_may_send_when_it_is_dropped() {
        let poll = Poll::new().unwrap();
        let inlet = Inlet::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let peer = Peer::new(id(), inlet.handle());
        let dropped = Arc::new(AtomicU32::new(0));
        Scope::of_loop(inlet.shared()).enter(id());
        assert_eq!(peer.send(parting(&peer, &dropped)), Sent::Taken);
        assert_eq!(peer.send(parting(&peer, &dropped)), Sent::Full);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        let mut scope = Scope::leave();
        assert_eq!(scope.take().len(), 2, "the first, and what the second sent");
    }

    #[test]
    fn what_leaves_a_worker_too_late_may_send_when_it_is_dropped() {
        let poll = Poll::new().unwrap();
        let mut inlet = Inlet::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let peer = Peer::new(id(), inlet.handle());
        let dropped = Arc::new(AtomicU32::new(0));
        inlet.close();
        Scope::of_worker(inlet.shared()).enter(id());
        assert_eq!(peer.send(parting(&peer, &dropped)), Sent::Ended);
        assert_eq!(peer.send("small"), Sent::Taken);
        peer.flush();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        Scope::leave();
    }
}
