//! Topics for the server's own code: [`Subscription`] hears them, [`Topic`] reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use crate::core::contract::event::{Command, Order};
use crate::core::contract::listener::Listener;
use crate::core::engine::Engine;
use crate::core::topics::log::Log;
use crate::core::topics::{After, Event, EventId, Gap};
use crate::threads::command_queue::Pending;
use crate::threads::handle::{Handle, SendError, topic_of};

pub use crate::core::contract::listener::Heard;

/// Hears the events of a topic: the receiver that [`Handle::subscribe`] returns.
///
/// Up to 256 events or 64 KiB wait here, or one larger event. If more are published before they are
/// received, the rest waits in the topic's log. What the log evicts meanwhile (`topics.retain_*`)
/// is missed, told as [`Heard::Gap`] in its place, and counted (`heartwheel_gaps_total`). The
/// server never waits for a subscription. What waits here counts in `limits.memory_bytes`.
///
/// To drop it ends the subscription.
///
/// ```no_run
/// # use heartwheel::{Handle, Heard, topics::After};
/// # fn write_to_database(_: &[u8]) {}
/// fn record(handle: &Handle) -> Result<(), heartwheel::SendError> {
///     let readings = handle.subscribe("readings", After::Now)?;
///     std::thread::spawn(move || {
///         for heard in &readings {
///             match heard {
///                 Heard::Event(event) => write_to_database(event.payload.as_bytes()),
///                 Heard::Gap(_) => log::warn!("some readings were missed"),
///                 _ => {}
///             }
///         }
///     });
///     Ok(())
/// }
/// ```
pub struct Subscription {
    topic: String,
    number: u32,
    handle: Handle,
    heard: Receiver<Heard>,
    shared: Arc<Mailbox>,
}

/// Why [`Subscription::try_receive`] and its like return nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing is there, or nothing came in time. Also where a caller may not wait: a handler on
    /// the loop thread (`workers = 0`, inline routes).
    Nothing,
    /// The server has ended, and everything that its log had was received.
    Ended,
    /// There is no such topic, and `limits.topics` others: it cannot be subscribed to.
    Topics,
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReceiveError::Nothing => "nothing has come",
            ReceiveError::Ended => "the server has ended",
            ReceiveError::Topics => "there are limits.topics already",
        })
    }
}

impl std::error::Error for ReceiveError {}

/// What a subscription and the loop share.
#[derive(Debug, Default)]
struct Mailbox {
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// More waits in the log: the loop is to be told when there is room.
    is_behind: AtomicBool,
    is_refused: AtomicBool,
}

impl Mailbox {
    /// Returns whether no more than the `share`th part is taken.
    fn is_within(&self, share: usize) -> bool {
        self.events.load(Ordering::SeqCst) < EVENTS_MAX / share
            && self.bytes.load(Ordering::SeqCst) < BYTES_MAX / share
    }
}

/// The loop's end of a subscription.
struct Outlet {
    heard: Sender<Heard>,
    shared: Arc<Mailbox>,
    /// It counts until the loop has forgotten it.
    _pending: Pending,
}

impl Listener for Outlet {
    fn has_room(&self) -> bool {
        self.shared.is_within(1)
    }

    fn await_room(&mut self) -> bool {
        self.shared.is_behind.store(true, Ordering::SeqCst);
        // The receiver may have taken all before it could see that.
        self.shared.is_within(2) && self.shared.is_behind.swap(false, Ordering::SeqCst)
    }

    fn take(&mut self, heard: Heard) -> bool {
        self.shared.events.fetch_add(1, Ordering::SeqCst);
        self.shared.bytes.fetch_add(bytes_of(&heard), Ordering::SeqCst);
        self.heard.send(heard).is_ok()
    }

    fn refuse(&mut self) {
        self.shared.is_refused.store(true, Ordering::SeqCst);
    }

    fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::SeqCst)
    }
}

impl Subscription {
    /// Returns the topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits for what comes next. In a handler on a worker it first sends the commands of the call,
    /// as [`Peer::flush`](crate::Peer::flush) does.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Ended`] or [`ReceiveError::Topics`]: nothing will come any more.
    /// [`ReceiveError::Nothing`] at once in a handler on the loop thread.
    pub fn receive(&self) -> Result<Heard, ReceiveError> {
        self.receive_until(None)
    }

    /// Returns what comes next, if it is there.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; with `Nothing` a later call may succeed.
    pub fn try_receive(&self) -> Result<Heard, ReceiveError> {
        match self.heard.try_recv() {
            Ok(heard) => Ok(self.take(heard)),
            Err(TryRecvError::Empty) => {
                self.ask_for_more();
                Err(ReceiveError::Nothing)
            }
            Err(TryRecvError::Disconnected) => Err(self.end()),
        }
    }

    /// As [`Subscription::receive`], for at most `wait`.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; with `Nothing` a later call may succeed.
    pub fn receive_timeout(&self, wait: Duration) -> Result<Heard, ReceiveError> {
        // So late that nobody lives to see it is never.
        self.receive_until(StdInstant::now().checked_add(wait))
    }

    /// Returns what comes, until nothing will come any more.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self)
    }

    fn receive_until(&self, until: Option<StdInstant>) -> Result<Heard, ReceiveError> {
        if self.handle.shared.is_called_by_loop() {
            return self.try_receive();
        }
        self.handle.shared.flush_call();
        loop {
            let is_asked = self.ask_for_more();
            // While the loop cannot be asked, it is asked again and again.
            let again = (!is_asked).then(|| StdInstant::now() + ASK_AGAIN);
            let received = match until.into_iter().chain(again).min() {
                Some(at) => self.heard.recv_deadline(at),
                None => self.heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(heard) => return Ok(self.take(heard)),
                Err(RecvTimeoutError::Disconnected) => return Err(self.end()),
                Err(RecvTimeoutError::Timeout) => {
                    if until.is_some_and(|until| until <= StdInstant::now()) {
                        return Err(ReceiveError::Nothing);
                    }
                }
            }
        }
    }

    fn take(&self, heard: Heard) -> Heard {
        self.shared.events.fetch_sub(1, Ordering::SeqCst);
        self.shared.bytes.fetch_sub(bytes_of(&heard), Ordering::SeqCst);
        self.ask_for_more();
        heard
    }

    /// Tells the loop that there is room, if more waits. Returns `false` if the loop could not be
    /// told.
    fn ask_for_more(&self) -> bool {
        let is_behind = &self.shared.is_behind;
        if !is_behind.load(Ordering::SeqCst)
            || !self.shared.is_within(2)
            || !is_behind.swap(false, Ordering::SeqCst)
        {
            return true;
        }
        let number = self.number;
        let order = Order::of(move |engine: &mut Engine, now| engine.feed_listener(now, number));
        let order = Command::Order(order.unbounded());
        let is_full = self.handle.shared.submit_from_elsewhere(order) == Err(SendError::Full);
        if is_full {
            is_behind.store(true, Ordering::SeqCst);
        }
        !is_full
    }

    fn end(&self) -> ReceiveError {
        match self.shared.is_refused.load(Ordering::SeqCst) {
            true => ReceiveError::Topics,
            false => ReceiveError::Ended,
        }
    }
}

impl<'s> IntoIterator for &'s Subscription {
    type Item = Heard;
    type IntoIter = Iter<'s>;

    fn into_iter(self) -> Iter<'s> {
        self.iter()
    }
}

/// What comes, until nothing will come any more: see [`Subscription::iter`].
#[derive(Debug)]
pub struct Iter<'s>(&'s Subscription);

impl Iterator for Iter<'_> {
    type Item = Heard;

    fn next(&mut self) -> Option<Heard> {
        self.0.receive().ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let number = self.number;
        let order = Order::of(move |engine: &mut Engine, _| engine.unlisten(number));
        // If it is not taken, the loop finds out at the next event.
        let _ = self.handle.submit(Command::Order(order.unbounded()));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Reads a topic: what [`Handle::topic`] returns.
#[derive(Clone, Debug)]
pub struct Topic {
    name: String,
    handle: Handle,
}

/// A part of what is retained of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// Events are missing before the first one.
    pub gap: Option<Gap>,
    /// The events, in the order of their ids.
    pub events: Vec<Event>,
    /// The position behind the last of them: where to read on, or to
    /// [subscribe](Handle::subscribe) from.
    pub position: EventId,
    /// More is retained behind that position.
    pub has_more: bool,
}

impl Topic {
    /// Returns the topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the loop for the newest event, and waits for the answer. `Ok(None)`: nothing is
    /// retained.
    ///
    /// # Errors
    ///
    /// As [`Topic::read`].
    pub fn newest(&self, wait: Duration) -> Result<Option<Event>, SendError> {
        let name = self.name.clone();
        self.ask(wait, move |engine, now| engine.newest_event(now, &name))
    }

    /// Asks the loop for the first retained events after a position, up to 256 of them or about 64
    /// KiB, and waits for the answer. Payloads are shared with the log.
    ///
    /// # Errors
    ///
    /// [`SendError::Unanswered`] if no answer came within `wait`, or if the caller is a handler on
    /// the loop thread, which cannot answer meanwhile; [`SendError::Full`] or [`SendError::Ended`]
    /// if the loop could not be asked.
    pub fn read(&self, after: After, wait: Duration) -> Result<Retained, SendError> {
        let name = self.name.clone();
        self.ask(wait, move |engine, now| {
            let read = engine.read_events(now, &name, after);
            let (mut events, mut bytes, mut has_more) = (Vec::new(), 0, false);
            for event in read.events() {
                bytes += event.payload.len() + Log::EVENT_BYTES;
                if !events.is_empty() && (events.len() >= EVENTS_MAX || bytes > BYTES_MAX) {
                    has_more = true;
                    break;
                }
                events.push(event);
            }
            let position = events.last().map_or(read.position(), |event| event.id);
            Retained { gap: read.gap, events, position, has_more }
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        wait: Duration,
        read: impl FnOnce(&mut Engine, crate::core::ground::time::Instant) -> T + Send + 'static,
    ) -> Result<T, SendError> {
        // What this call has published comes first.
        self.handle.shared.flush_call();
        self.handle.ask_for(wait, |answerer| {
            let answer = move |engine: &mut Engine, now| answerer.tell(read(engine, now));
            Command::Order(Order::of(answer).unbounded())
        })
    }
}

impl Handle {
    /// Subscribes to a topic: first come the retained events `after` a position, then what is
    /// published from now on, by clients, by handlers or by this handle. The subscription ends
    /// with the server, or when it is dropped. It keeps the topic alive, as that of a client does.
    ///
    /// Use it on a thread of its own: a worker that waits for events is free for nothing else.
    ///
    /// # Errors
    ///
    /// [`SendError::Topic`] if no topic can have this name; [`SendError::Subscriptions`] if the
    /// server's own code has `limits.subscriptions` already; [`SendError::Full`] or
    /// [`SendError::Ended`] if the command was not taken.
    pub fn subscribe(
        &self,
        topic: impl Into<String>,
        after: After,
    ) -> Result<Subscription, SendError> {
        let topic = topic_of(topic)?;
        let quota = &self.shared.subscriptions;
        let (number, pending) = quota.begin().ok_or(SendError::Subscriptions)?;
        let (sender, heard) = unbounded();
        let shared = Arc::new(Mailbox::default());
        let outlet = Outlet { heard: sender, shared: shared.clone(), _pending: pending };
        let name = topic.clone();
        self.order(move |engine, now| {
            engine.listen(now, number, &name, after, Box::new(outlet));
        })?;
        Ok(Subscription { topic, number, handle: self.clone(), heard, shared })
    }

    /// Returns what reads a topic's newest and retained events.
    ///
    /// # Errors
    ///
    /// [`SendError::Topic`] if no topic can have this name.
    pub fn topic(&self, name: impl Into<String>) -> Result<Topic, SendError> {
        Ok(Topic { name: topic_of(name)?, handle: self.clone() })
    }
}

fn bytes_of(heard: &Heard) -> usize {
    match heard {
        Heard::Event(event) => Log::EVENT_BYTES + event.payload.len(),
        _ => Log::EVENT_BYTES,
    }
}

/// How many events wait in a subscription, or are read at once.
const EVENTS_MAX: usize = 256;
/// And how many bytes: one more event is taken.
const BYTES_MAX: usize = 64 << 10;
/// How long to wait until a loop that was too busy is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);
