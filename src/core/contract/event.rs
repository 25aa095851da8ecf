//! What passes between the engine and the application: events and jobs out, commands in.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tungstenite::{Bytes, Utf8Bytes};

use crate::core::contract::accept::Accept;
use crate::core::contract::backbone::Logged;
use crate::core::contract::offer::Offered;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::Histogram;
use crate::core::topics::{After, Content, Name};
use crate::core::wire::http::{AnySource, Next, Refusal, Request, Response};
use crate::core::wire::message::Message;

/// What happened on one WebSocket connection, in order: `Opened`, then any of the others, then
/// `Closed`. For a [`Typed`](crate::Typed) handler messages are values of its codec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<M = Message> {
    /// The connection is open; this request opened it.
    Opened(Box<Request>),
    /// A message came.
    Message(M),
    /// Two pings in a row went unanswered: the peer may be gone. Told once until it is heard again.
    Suspect,
    /// A pong came; this was the round trip.
    Pong(Duration),
    /// Everything queued for the peer is with the kernel, after it was not.
    Drained,
    /// The timer with this token fell due: see [`Peer::after`](crate::Peer::after).
    Timer(u64),
    /// The connection ended. Nothing follows.
    Closed(CloseReason),
    /// A job of [`Peer::run`](crate::Peer::run). No handler is given it.
    #[doc(hidden)]
    Visit(Visit),
    /// What a client asks to be published, for a hook. No handler is given it.
    #[doc(hidden)]
    Offered(Box<Offered>),
}

/// What another thread has done where the handler of a connection runs, with the handler's state.
pub struct Visit(Option<OnSession>);

type OnSession = Box<dyn FnOnce(&mut dyn Any) + Send>;

impl Visit {
    /// Makes a visit of what it does to the state.
    pub fn of(act: impl FnOnce(&mut dyn Any) + Send + 'static) -> Visit {
        Visit(Some(Box::new(act)))
    }

    /// Does it, once.
    pub fn pay(self, session: &mut dyn Any) {
        if let Some(act) = self.0 {
            act(session);
        }
    }
}

impl Clone for Visit {
    /// What is done once is not in the copy.
    fn clone(&self) -> Visit {
        Visit(None)
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visit")
    }
}

impl Event {
    /// Returns the bytes of a message, for a handler or for a hook; `None` for other events.
    #[inline]
    #[doc(hidden)]
    pub fn message_bytes(&self) -> Option<usize> {
        match self {
            Event::Message(message) => Some(message.len()),
            Event::Offered(offered) => Some(offered.payload_bytes()),
            _ => None,
        }
    }

    /// Returns whether `newer` makes this event obsolete, if it was not delivered yet.
    pub(crate) fn is_superseded_by(&self, newer: &Event) -> bool {
        matches!(
            (self, newer),
            (Event::Drained, Event::Drained)
                | (Event::Pong(_), Event::Pong(_))
                | (Event::Suspect, Event::Suspect)
        )
    }
}

/// The state that a handler keeps for one connection. It travels with the job, so it needs no lock.
pub type Session = Box<dyn Any + Send>;

/// What a handler does next for one connection. At most one job of a connection is out at a time.
#[derive(Debug)]
pub struct Job {
    /// The connection.
    pub id: ConnectionId,
    /// The route, by its index in the table.
    pub route: usize,
    /// Who is at the other end, if that is known.
    pub identity: Option<Identity>,
    /// What to do.
    pub task: Task,
}

/// The parts of a job.
#[derive(Debug)]
pub enum Task {
    /// Decide on a request.
    Authorize(Box<Request>),
    /// Answer a plain request.
    Answer(Box<Request>),
    /// Ask for the next piece of an answer: of about `http::PIECE_BYTES`.
    Pull(AnySource),
    /// Take the next step of a body in pieces, with the state that the handler keeps for it.
    Step(BodyState, BodyStep),
    /// Handle these events.
    Events {
        /// The handler's state of the connection, from `Opened` on.
        session: Option<Session>,
        /// The events, oldest first.
        events: VecDeque<Event>,
    },
    /// Have a hook decide on what a request publishes.
    Offer(Box<Offered>),
    /// Do this job of the server's own. Its id is of no connection.
    Call(Call),
}

/// A step of a body that a handler takes in pieces.
#[derive(Debug)]
pub enum BodyStep {
    /// Take these bytes.
    Piece(Bytes),
    /// Answer: the body is complete.
    End,
    /// Give up: the connection has ended for this reason.
    Cut(CloseReason),
}

/// The state that a handler keeps for a body in pieces. A build without the feature `streams` has
/// none, nor the code for it.
#[cfg(feature = "streams")]
pub type BodyState = Session;

/// The state that a handler keeps for a body in pieces. A build without the feature `streams` has
/// none, nor the code for it.
#[cfg(not(feature = "streams"))]
#[derive(Debug)]
pub enum BodyState {}

/// The result of a job.
#[derive(Debug)]
pub struct Done {
    /// The connection.
    pub id: ConnectionId,
    /// The route.
    pub route: usize,
    /// The outcome.
    pub outcome: Outcome,
}

/// How long the calls of a job took: mostly there is one.
#[derive(Clone, Debug, Default)]
pub enum Calls {
    /// There was none.
    #[default]
    None,
    /// One, in microseconds.
    One(u64),
    /// Several, in microseconds.
    Several(Box<Histogram>),
}

impl Calls {
    /// Counts a call.
    pub fn record(&mut self, took: Duration) {
        let took_us = took.as_micros() as u64;
        match self {
            Calls::None => *self = Calls::One(took_us),
            Calls::One(first_us) => {
                let mut histogram = Box::new(Histogram::default());
                histogram.record(*first_us);
                histogram.record(took_us);
                *self = Calls::Several(histogram);
            }
            Calls::Several(histogram) => histogram.record(took_us),
        }
    }

    /// Adds the calls to a histogram.
    pub fn add_to(&self, histogram: &mut Histogram) {
        match self {
            Calls::None => {}
            Calls::One(took_us) => histogram.record(*took_us),
            Calls::Several(calls) => histogram.add(calls),
        }
    }
}

/// The outcome of a job.
#[derive(Debug)]
pub enum Outcome {
    /// The verdict on a request, with the request.
    Verdict(Box<Request>, Result<Accept, Refusal>),
    /// The answer to a plain request.
    Answer(Response),
    /// The handler takes a body in pieces and has made this state, or has taken a piece.
    Kept(BodyState),
    /// What a source gave.
    Pulled(AnySource, Next),
    /// The events were handled.
    Events {
        /// The handler's state of the connection.
        session: Option<Session>,
        /// How many of them were messages.
        messages_handled: u64,
        /// The empty memory of the events, to be used again.
        events: VecDeque<Event>,
    },
    /// The job of the server's own is done, or the hook has given its verdict in a command.
    Called,
    /// Hooks were told what has become of a topic's subscribers.
    Told {
        /// The topic.
        topic: Name,
        /// How many of the hooks panicked.
        panics: u64,
    },
    /// The handler panicked. Its state comes back, if the panic left it.
    Panicked {
        /// The handler's state of the connection.
        session: Option<Session>,
        /// How many messages the handler had taken before.
        messages_handled: u64,
        /// How many messages it had not taken, with the one at which it panicked.
        messages_lost: u64,
    },
}

/// What the application tells the engine.
#[derive(Debug)]
pub enum Command {
    /// Queue a message for a peer.
    Send(ConnectionId, Message),
    /// Close a connection with this code and text, behind what is queued.
    Close(ConnectionId, u16, Utf8Bytes),
    /// Publish to a topic.
    Publish(String, Content),
    /// Subscribe a WebSocket to a topic; first send it the events after a position.
    Subscribe(ConnectionId, String, After),
    /// Unsubscribe it.
    Unsubscribe(ConnectionId, String),
    /// Take a message of the log that answers later.
    Logged(Box<Logged>),
    /// The source of a connection's answer has more.
    More(ConnectionId),
    /// A job came back.
    Done(Done),
    /// How long the calls of a job took.
    Took(Calls),
    /// End a connection, as the operator asks.
    Kick(ConnectionId),
    /// Tell this fraction of the connections to come back later.
    Shed(f64),
    /// Return a slice of the table of connections, from this place on.
    Table(Place, TableReport),
    /// Do what few applications ask for.
    Order(Order),
    /// Close the listeners and end every connection in turn.
    Drain,
    /// End at once.
    Shutdown,
}

/// Takes a slice of the table of connections to the thread that asked for it, with the place to go
/// on from if there is more. It must not block.
pub struct TableReport(pub Box<dyn FnOnce(String, Option<Place>) + Send>);

impl fmt::Debug for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableReport")
    }
}

/// A command that few applications give. Its giver brings along how the engine does it, so that a
/// program which gives none does not carry the code.
pub struct Order {
    /// The bytes that it carries, for the bound on commands in flight.
    pub bytes: usize,
    /// Does it, given the engine. It must not block.
    pub act: Act,
}

/// What an order does, given the engine.
pub type Act = Box<dyn FnOnce(&mut dyn Any, Instant) + Send>;

impl Order {
    /// Makes an order of what it does to an engine, `E`.
    pub fn of<E: 'static>(act: impl FnOnce(&mut E, Instant) + Send + 'static) -> Order {
        let bytes = size_of::<Command>() + size_of_val(&act);
        let act = move |engine: &mut dyn Any, now: Instant| match engine.downcast_mut() {
            Some(engine) => act(engine, now),
            None => debug_assert!(false, "orders are for the engine"),
        };
        Order { bytes, act: Box::new(act) }
    }

    /// Has it count as no bytes: for orders that nobody can give in great number.
    pub fn unbounded(self) -> Order {
        Order { bytes: 0, ..self }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order")
    }
}

/// A job of a timer of the server's own.
pub struct Call {
    /// Names it among those of the server.
    pub number: u32,
    /// Does it, and gives `Called` or `Panicked`. Calls its argument as an endpoint does.
    pub run: Run,
}

/// What a job of the server's own does.
pub type Run = Box<dyn FnOnce(&mut dyn FnMut()) -> Outcome + Send>;

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.number).finish()
    }
}

/// How far a reader of the table of connections has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The slot to go on with.
    pub(crate) slot: u32,
    /// Rows have been written.
    pub(crate) has_rows: bool,
}

impl Command {
    /// Returns the bytes that the command takes, for the bound on commands in flight; 0 for a
    /// command that is not bounded.
    pub fn bytes(&self) -> usize {
        let carried = match self {
            Command::Send(_, message) => message.len(),
            Command::Close(_, _, reason) => reason.as_str().len(),
            Command::Publish(topic, content) => topic.len() + content.payload.len(),
            Command::Subscribe(_, topic, _) | Command::Unsubscribe(_, topic) => topic.len(),
            Command::Logged(logged) => size_of::<Logged>() + logged.len(),
            Command::Order(order) => order.bytes,
            Command::More(_)
            | Command::Done(_)
            | Command::Took(_)
            | Command::Kick(_)
            | Command::Shed(_)
            | Command::Table(..)
            | Command::Drain
            | Command::Shutdown => return 0,
        };
        size_of::<Command>() + carried
    }
}
