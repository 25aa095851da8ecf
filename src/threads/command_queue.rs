//! How commands come to the loop: a bounded channel for all threads, and a queue for each handler
//! call, which the loop takes, or a worker sends, when the call returns.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;

use crate::core::config::Limits;
use crate::core::contract::event::{Calls, Command, Done};
use crate::core::contract::handlers::Said;
use crate::core::ground::id::ConnectionId;
use crate::core::wire::message::Message;
#[cfg(feature = "tls")]
use crate::system::tls::Slot;
use crate::threads::handle::{Handle, SendError};

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
    /// Timers of the server's own that are pending.
    pub timers: Arc<Quota>,
    /// Subscriptions of the application's own.
    pub subscriptions: Arc<Quota>,
    /// What it does when a drain begins.
    pub hooks: Arc<Quota>,
    /// Where a reload leaves certificates for the loop.
    #[cfg(feature = "tls")]
    pub tls: Arc<Slot>,
    /// Where clients are made that the loop has beside its server.
    #[cfg(feature = "client")]
    pub links: std::sync::OnceLock<Arc<crate::threads::link::LinkShared>>,
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
            timers: Arc::default(),
            subscriptions: Arc::default(),
            hooks: Arc::new(Quota { most: AtomicUsize::new(HOOKS_MAX), ..Quota::default() }),
            #[cfg(feature = "tls")]
            tls: Arc::default(),
            #[cfg(feature = "client")]
            links: std::sync::OnceLock::new(),
        };
        Inlet { shared: Arc::new(shared), commands }
    }

    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
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

    /// Bounds the bytes of commands to a quarter of this memory, and what the server has of its own
    /// as what a connection has.
    pub fn bound(&self, memory_bytes: u64, limits: &Limits) {
        self.shared.timers.most.store(limits.timers, Ordering::Relaxed);
        self.shared.subscriptions.most.store(limits.subscriptions, Ordering::Relaxed);
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

/// How many of a kind there are of the server's own, and may be.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    count: AtomicUsize,
    most: AtomicUsize,
    /// The number of the next one.
    next: AtomicU32,
}

impl Quota {
    /// Counts one more, and gives it a number. `None` if there are as many as there may be.
    pub fn begin(self: &Arc<Self>) -> Option<(u32, Pending)> {
        let most = self.most.load(Ordering::Relaxed);
        let more = |count: usize| (count < most).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some((self.next.fetch_add(1, Ordering::Relaxed), Pending(self.clone())))
    }
}

/// One of those that a quota counts.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Quota>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
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

    /// Sends a batch from a worker and wakes the loop. Returns whether the loop is still there.
    fn send_from_worker(&self, batch: Batch) -> bool {
        let is_sent = self.leave_from_worker(batch);
        self.wake();
        is_sent
    }

    /// Sends commands of a thread that may wait until there is room for them. Returns whether the
    /// loop is still there.
    #[cfg(any(feature = "store", feature = "cluster"))]
    pub fn send_patiently(&self, commands: Vec<Command>) -> bool {
        let bytes = commands.iter().map(Command::bytes).sum();
        self.send_from_worker(Batch { from: None, commands, bytes })
    }

    /// Leaves a batch of a worker for the loop, waiting for room: the loop must be woken for it.
    /// Returns whether the loop is still there.
    fn leave_from_worker(&self, batch: Batch) -> bool {
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
        is_sent
    }

    /// Takes a message for a peer, as [`Shared::submit`] takes it. In a call that the loop makes
    /// for this peer it is no command yet.
    #[inline]
    pub fn send(self: &Arc<Self>, id: ConnectionId, message: Message) -> Result<(), SendError> {
        let left = SCOPES.with_borrow_mut(|scopes| match find_scope(scopes, self) {
            Some(scope) => scope.answer(id, message),
            None => Some(message),
        });
        left.map_or(Ok(()), |message| self.submit(Command::Send(id, message)))
    }

    /// Takes a command of this thread: into the queue of the call that it is in, or into the
    /// channel.
    pub fn submit(self: &Arc<Self>, command: Command) -> Result<(), SendError> {
        let submitted = SCOPES.with_borrow_mut(|scopes| match find_scope(scopes, self) {
            Some(scope) => scope.submit(command),
            None => Submitted::Elsewhere(command),
        });
        // Here the scopes are free again: dropping a payload may run the application's own code,
        // which may send.
        match submitted {
            Submitted::Kept => Ok(()),
            Submitted::Refused(_) => Err(SendError::Full),
            Submitted::Leaves(batch) => match self.send_from_worker(batch) {
                true => Ok(()),
                false => Err(SendError::Ended),
            },
            Submitted::Elsewhere(command) => self.submit_from_elsewhere(command),
        }
    }

    /// Takes what the loop is to make of a hook's verdict: in a call, whatever its bytes are.
    pub fn decide(self: &Arc<Self>, command: Command) {
        let submitted = SCOPES.with_borrow_mut(|scopes| match find_scope(scopes, self) {
            Some(scope) => scope.keep(command),
            None => Submitted::Elsewhere(command),
        });
        debug_assert!(!matches!(submitted, Submitted::Elsewhere(_)), "hooks are called in calls");
        if let Submitted::Leaves(batch) = submitted {
            self.send_from_worker(batch);
        }
    }

    /// Sends what the call of this thread has given so far, if it is a worker's.
    pub fn flush_call(self: &Arc<Self>) {
        let batch = SCOPES.with_borrow_mut(|scopes| {
            let scope = find_scope(scopes, self)?;
            (scope.is_worker && !scope.said.commands.is_empty()).then(|| scope.take_batch())
        });
        if let Some(batch) = batch {
            self.send_from_worker(batch);
        }
    }

    /// Returns whether this thread is in a call that the loop makes: the loop answers nothing then.
    pub fn is_called_by_loop(self: &Arc<Self>) -> bool {
        SCOPES.with_borrow_mut(|scopes| {
            find_scope(scopes, self).is_some_and(|scope| !scope.is_worker)
        })
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Takes a command of a thread that is in no call; it never waits.
    pub fn submit_from_elsewhere(&self, command: Command) -> Result<(), SendError> {
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

/// Returns the connection whose handler this thread is in a call of, with what its server shares;
/// `None` in no call.
pub(crate) fn current_call() -> Option<(ConnectionId, Arc<Shared>)> {
    SCOPES.with_borrow(|scopes| {
        let scope = scopes.last()?;
        Some((scope.from?, scope.shared.clone()))
    })
}

/// Returns whether this thread is in a handler's call, of any server: what it waits for may need
/// the call to return.
#[cfg(feature = "streams")]
pub(crate) fn is_in_a_call() -> bool {
    SCOPES.with_borrow(|scopes| !scopes.is_empty())
}

/// The handler call that a thread is in. A thread reuses one for all its calls.
#[derive(Debug)]
pub(crate) struct Scope {
    shared: Arc<Shared>,
    from: Option<ConnectionId>,
    is_worker: bool,
    /// On a worker there are no answers: all are commands.
    said: Said,
    bytes: usize,
}

impl Scope {
    /// Makes a scope for a worker: commands leave through the channel.
    pub fn of_worker(shared: Arc<Shared>) -> Scope {
        Scope { shared, from: None, is_worker: true, said: Said::default(), bytes: 0 }
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

    /// Takes what was said so far in the call that was begun last; `said` is empty.
    pub fn take_into(said: &mut Said) {
        debug_assert!(said.answers.is_empty() && said.commands.is_empty(), "nothing is lost");
        SCOPES.with_borrow_mut(|scopes| {
            let scope = scopes.last_mut().expect("a call was begun");
            std::mem::swap(&mut scope.said, said);
            scope.bytes = 0;
        });
    }

    /// Takes the empty list of commands back, to be used again.
    pub fn keep_spare(&mut self, commands: Vec<Command>) {
        debug_assert!(commands.is_empty() && self.said.commands.is_empty(), "no command is lost");
        self.said.commands = commands;
    }

    /// Leaves the commands of a worker's call for the loop, with the times of its calls and its
    /// outcome: the loop must be woken for them. Returns whether the loop is still there.
    pub fn finish(&mut self, calls: Calls, done: Done) -> bool {
        self.said.commands.extend([Command::Took(calls), Command::Done(done)]);
        let batch = self.take_batch();
        self.shared.leave_from_worker(batch)
    }

    /// Takes a message for the peer whose handler is called on the loop, if nothing but such
    /// messages was said before; else returns it. It drops nothing: the scopes are in use.
    #[inline]
    fn answer(&mut self, id: ConnectionId, message: Message) -> Option<Message> {
        let bytes = self.bytes + size_of::<Command>() + message.len();
        let is_answer = !self.is_worker && self.from == Some(id) && self.said.commands.is_empty();
        // An answer that is too much is refused as a command is.
        if !is_answer || self.bytes > 0 && bytes > self.shared.bytes_max() {
            return Some(message);
        }
        self.bytes = bytes;
        self.said.answers.push(message);
        None
    }

    /// Takes a command. It drops nothing and waits for nothing: the scopes are in use.
    fn submit(&mut self, command: Command) -> Submitted {
        let bytes = command.bytes();
        let bytes_max = self.shared.bytes_max();
        let is_over = self.bytes > 0 && self.bytes.saturating_add(bytes) > bytes_max;
        if is_over && !self.is_worker {
            return Submitted::Refused(command);
        }
        self.keep(command)
    }

    /// Takes a command, however many bytes the call has given.
    fn keep(&mut self, command: Command) -> Submitted {
        self.bytes += command.bytes();
        let commands = &mut self.said.commands;
        commands.push(command);
        let is_much = self.bytes >= SCOPE_BYTES_MAX || commands.len() >= SCOPE_COMMANDS_MAX;
        match self.is_worker && is_much {
            true => Submitted::Leaves(self.take_batch()),
            false => Submitted::Kept,
        }
    }

    fn take_batch(&mut self) -> Batch {
        let commands = std::mem::take(&mut self.said.commands);
        let bytes = std::mem::take(&mut self.bytes);
        Batch { from: self.from, commands, bytes }
    }
}

thread_local! {
    /// Innermost last: a handler may turn another server.
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Hooks that wait for a drain.
const HOOKS_MAX: usize = 16;
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
    use crate::threads::peer::{Peer, Sent};

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
        let mut said = Said::default();
        Scope::take_into(&mut said);
        assert_eq!(said.answers.len(), 2, "the first, and what the second sent");
        Scope::leave();
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
