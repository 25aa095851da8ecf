//! Connections that are made: [`Link`] for one of them, from any thread.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tungstenite::Utf8Bytes;

use crate::core::client::ask::Answer;
#[cfg(feature = "mqtt")]
use crate::core::client::broker::Heard;
use crate::core::client::topics::TopicEvent;
use crate::core::client::{State, Why};
use crate::core::topics::{After, Content, Name};
use crate::core::wire::event_reader::StreamEvent;
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::threads::dial::{Dial, DialError};
use crate::threads::handle::{Handle, SendError};
use crate::threads::request::{Answering, Taken};

/// A client: a connection that is made, and made again after each end, until it is stopped. What
/// is sent here goes out on the loop that has the client. Cloning is cheap; a `Link` may be used
/// from any thread, and outlive its client.
#[derive(Clone)]
pub struct Link {
    number: u64,
    shared: Arc<LinkShared>,
    own: Arc<OwnShared>,
}

/// What the handler of a client is told, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The client is in another state.
    State(StateChange),
    /// A message has come. Of a client with [topics](Dial::topics) they are told as `Topic`.
    Message(Message),
    /// The server has said something of topics.
    Topic(TopicEvent),
    /// An event has come: of a client of an [event stream](Dial::events).
    Event(StreamEvent),
    /// The answer to a plain request: what [`Handle::request`] and others hand on.
    #[doc(hidden)]
    Answer(Box<Answer>),
    /// A broker has said something, to a bridge.
    #[cfg(feature = "mqtt")]
    #[doc(hidden)]
    Broker(Heard),
    /// 40% of the tries of the last `client.window` have failed on the server's side.
    Degraded,
    /// Five tries in a row have failed: told once, until a connection has held.
    Alarm,
}

/// Where a client is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// The state.
    pub state: State,
    /// How long it lasts at most: in `Waiting` and `Broken`.
    pub wait: Option<Duration>,
    /// How many tries have failed in a row.
    pub failures: u32,
    /// Why the try or the connection before has ended: in `Waiting`, `Broken` and `Stopped`.
    pub why: Option<Why>,
}

/// Handles what happens to a client, on the thread of its loop: it must not block.
///
/// A closure `FnMut(&Link, LinkEvent)` is one.
pub trait LinkHandler: Send {
    /// Handles what has happened. A panic stops the client.
    fn on_event(&mut self, link: &Link, event: LinkEvent);
}

impl<F: FnMut(&Link, LinkEvent) + Send> LinkHandler for F {
    fn on_event(&mut self, link: &Link, event: LinkEvent) {
        self(link, event);
    }
}

/// What all clients of a loop share with other threads.
pub(crate) struct LinkShared {
    orders: Sender<(u64, LinkOrder)>,
    /// It does not wrap while the process lives, so no two clients of a loop have one number.
    next_number: Mutex<u64>,
    taken: Mutex<Taken>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// What one client shares with other threads.
#[derive(Debug, Default)]
pub(crate) struct OwnShared {
    /// Bytes of orders under way.
    bytes: AtomicUsize,
    next_reference: AtomicU32,
    /// The index of its state.
    state: AtomicU8,
    has_topics: bool,
}

/// The loop's end.
pub(crate) struct LinkInlet {
    pub shared: Arc<LinkShared>,
    orders: Receiver<(u64, LinkOrder)>,
}

/// What a client is to do.
pub(crate) enum LinkOrder {
    Connect(Box<NewLink>),
    /// Makes a client of a plain request, which has no other handler.
    Request(Box<NewLink>, Answering),
    Send(Message),
    Publish(u32, String, Content),
    Subscribe(String, After),
    #[cfg(feature = "presence")]
    SubscribeAs(String, After, String),
    #[cfg(feature = "presence")]
    Presence(u32, String),
    Unsubscribe(String),
    Close(u16, Utf8Bytes),
    Reconnect,
}

/// A client that is to be made.
pub(crate) struct NewLink {
    pub link: Link,
    pub dial: Dial,
    pub handler: Option<Box<dyn LinkHandler>>,
}

impl LinkOrder {
    fn bytes(&self) -> usize {
        let carried = match self {
            LinkOrder::Send(message) => message.len(),
            LinkOrder::Publish(_, topic, content) => topic.len() + content.payload.len(),
            LinkOrder::Subscribe(topic, _) | LinkOrder::Unsubscribe(topic) => topic.len(),
            #[cfg(feature = "presence")]
            LinkOrder::SubscribeAs(topic, _, info) => topic.len() + info.len(),
            #[cfg(feature = "presence")]
            LinkOrder::Presence(_, topic) => topic.len(),
            LinkOrder::Connect(_) | LinkOrder::Request(..) => return 0,
            LinkOrder::Close(..) | LinkOrder::Reconnect => return 0,
        };
        size_of::<LinkOrder>() + carried
    }
}

impl LinkInlet {
    /// Makes the channel of a loop that is woken by `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> LinkInlet {
        let (sender, orders) = unbounded();
        let shared = LinkShared {
            orders: sender,
            next_number: Mutex::new(0),
            taken: Mutex::default(),
            wake: Box::new(wake),
        };
        LinkInlet { shared: Arc::new(shared), orders }
    }

    /// Takes the next order, with the number of its client.
    pub fn poll(&self) -> Option<(u64, LinkOrder)> {
        self.orders.try_recv().ok()
    }

    /// Returns whether orders wait.
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }
}

impl LinkShared {
    /// Orders a client to be made.
    pub fn connect(
        self: &Arc<Self>,
        dial: Dial,
        handler: Option<Box<dyn LinkHandler>>,
    ) -> Result<Link, SendError> {
        let link = self.link(&dial);
        let new = NewLink { link: link.clone(), dial, handler };
        link.order(LinkOrder::Connect(Box::new(new)))?;
        Ok(link)
    }

    /// Orders a client of a plain request to be made.
    pub fn ask(self: &Arc<Self>, dial: Dial, answering: Answering) -> Result<(), SendError> {
        let link = self.link(&dial);
        let new = NewLink { link: link.clone(), dial, handler: None };
        link.order(LinkOrder::Request(Box::new(new), answering))
    }

    /// Lends what plain requests take.
    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(self: &Arc<Self>, dial: &Dial) -> Link {
        let mut next_number = self.next_number.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *next_number;
        *next_number += 1;
        let own = OwnShared { has_topics: dial.has_topics, ..OwnShared::default() };
        Link { number, shared: self.clone(), own: Arc::new(own) }
    }
}

impl Link {
    /// Returns where the client is.
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.own.state.load(Ordering::Relaxed)) % State::ALL.len()]
    }

    /// Sends a message. It is dropped where there is no open connection when the loop takes it, and
    /// where more would wait than `limits.outbox_bytes`: both are counted in the log alone.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while 256 KiB are under way to the loop; [`SendError::Ended`] if the
    /// client has stopped, or the loop is gone.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.order(LinkOrder::Send(message.into()))
    }

    /// Publishes to a topic of the server: now, or when there is a connection. It is kept until the
    /// server answers, and sent again after a break; [`TopicEvent::Published`] or
    /// [`TopicEvent::NotPublished`] bear the number that is returned.
    ///
    /// # Errors
    ///
    /// As [`Link::send`]; [`SendError::Topic`] if no topic can have this name, or the client has no
    /// [topics](Dial::topics).
    pub fn publish(
        &self,
        topic: impl Into<String>,
        content: impl Into<Content>,
    ) -> Result<u32, SendError> {
        let topic = topic.into();
        if !self.own.has_topics || !Name::is_valid(&topic) || Name::is_own(&topic) {
            return Err(SendError::Topic);
        }
        let content = content.into();
        self.reserve(size_of::<LinkOrder>() + topic.len() + content.payload.len())?;
        // Only one that is taken gets a number: none is left out.
        let reference = self.next_reference();
        let order = LinkOrder::Publish(reference, topic, content);
        self.submit(order)?;
        Ok(reference)
    }

    /// Subscribes to a topic of the server, and again after each break, from where it was.
    ///
    /// # Errors
    ///
    /// As [`Link::publish`].
    pub fn subscribe(&self, topic: impl Into<String>, after: After) -> Result<(), SendError> {
        let topic = topic.into();
        if !self.own.has_topics || !Name::is_valid(&topic) {
            return Err(SendError::Topic);
        }
        self.order(LinkOrder::Subscribe(topic, after))
    }

    /// Subscribes as [`Link::subscribe`] does, and says something of this client to those who ask
    /// who is there: at most 256 bytes of text without control characters, or the server refuses.
    ///
    /// # Errors
    ///
    /// As [`Link::publish`].
    #[cfg(feature = "presence")]
    pub fn subscribe_as(
        &self,
        topic: impl Into<String>,
        after: After,
        info: impl Into<String>,
    ) -> Result<(), SendError> {
        let topic = topic.into();
        if !self.own.has_topics || !Name::is_valid(&topic) {
            return Err(SendError::Topic);
        }
        self.order(LinkOrder::SubscribeAs(topic, after, info.into()))
    }

    /// Asks who is on a topic of the server: now, or when there is a connection, and again if that
    /// breaks before the answer. [`TopicEvent::Presence`] or [`TopicEvent::NoPresence`] bears the
    /// number that is returned. Who joins and leaves is told as events of `$presence.TOPIC`.
    ///
    /// # Errors
    ///
    /// As [`Link::publish`].
    #[cfg(feature = "presence")]
    pub fn presence(&self, topic: impl Into<String>) -> Result<u32, SendError> {
        let topic = topic.into();
        if !self.own.has_topics || !Name::is_valid(&topic) {
            return Err(SendError::Topic);
        }
        let reference = self.next_reference();
        self.order(LinkOrder::Presence(reference, topic))?;
        Ok(reference)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    ///
    /// As [`Link::send`].
    pub fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), SendError> {
        self.order(LinkOrder::Unsubscribe(topic.into()))
    }

    /// Stops the client: an open connection is closed with 1000, behind what was sent before.
    ///
    /// # Errors
    ///
    /// [`SendError::Ended`] if the client has stopped, or the loop is gone.
    pub fn close(&self) -> Result<(), SendError> {
        self.order(LinkOrder::Close(1000, Utf8Bytes::default()))
    }

    /// Stops the client, as [`Link::close`] does, with this code and reason.
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCode`] if RFC 6455, 7.4 does not allow the code; as [`Link::close`].
    pub fn close_with(&self, code: u16, reason: impl Into<String>) -> Result<(), SendError> {
        if !ws::is_allowed_close_code(code) {
            return Err(SendError::CloseCode);
        }
        self.order(LinkOrder::Close(code, reason.into().into()))
    }

    /// Ends an open connection and makes another, as after any other end.
    ///
    /// # Errors
    ///
    /// As [`Link::close`].
    pub fn reconnect(&self) -> Result<(), SendError> {
        self.order(LinkOrder::Reconnect)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn next_reference(&self) -> u32 {
        self.own.next_reference.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes where the client is.
    pub(crate) fn note_state(&self, state: State) {
        let index = State::ALL.iter().position(|other| *other == state).unwrap_or(0);
        self.own.state.store(index as u8, Ordering::Relaxed);
    }

    /// Takes note that the loop has taken an order.
    pub(crate) fn note_taken(&self, order: &LinkOrder) {
        self.own.bytes.fetch_sub(order.bytes(), Ordering::AcqRel);
    }

    fn order(&self, order: LinkOrder) -> Result<(), SendError> {
        self.reserve(order.bytes())?;
        self.submit(order)
    }

    /// Takes room for an order on its way to the loop.
    fn reserve(&self, bytes: usize) -> Result<(), SendError> {
        if self.state() == State::Stopped {
            return Err(SendError::Ended);
        }
        let most = |under_way: usize| {
            let sum = under_way.checked_add(bytes)?;
            (bytes == 0 || under_way == 0 || sum <= ORDER_BYTES_MAX).then_some(sum)
        };
        let counted = self.own.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, most);
        counted.map(drop).map_err(|_| SendError::Full)
    }

    /// Sends an order for which room was taken.
    fn submit(&self, order: LinkOrder) -> Result<(), SendError> {
        if let Err(unsent) = self.shared.orders.send((self.number, order)) {
            if let (_, LinkOrder::Request(_, answering)) = unsent.into_inner() {
                answering.forget();
            }
            return Err(SendError::Ended);
        }
        (self.shared.wake)();
        Ok(())
    }
}

impl Handle {
    /// Makes a client on the server's loop: it connects, and connects again after each end, until
    /// it is stopped. The handler is called on the loop's thread.
    ///
    /// # Errors
    ///
    /// [`DialError::Request`] if no upgrade can be made of `dial`; [`DialError::Ended`] if the
    /// server has ended.
    pub fn connect(
        &self,
        dial: Dial,
        handler: impl LinkHandler + 'static,
    ) -> Result<Link, DialError> {
        dial.check()?;
        let links = self.shared.links.get().ok_or(DialError::Ended)?;
        links.connect(dial, Some(Box::new(handler))).map_err(|_| DialError::Ended)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("number", &self.number).field("state", &self.state()).finish()
    }
}

impl fmt::Debug for LinkShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkShared")
    }
}

/// How many bytes of orders to one client may be under way, and how many of plain requests to a
/// loop; one order may be larger.
pub(crate) const ORDER_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_come_again() {
        let inlet = LinkInlet::new(|| {});
        let dial = Dial::to("ws://localhost").unwrap();
        let first = inlet.shared.link(&dial);
        *inlet.shared.next_number.lock().unwrap() += u64::from(u32::MAX);
        assert_ne!(inlet.shared.link(&dial).number(), first.number());
    }
}
