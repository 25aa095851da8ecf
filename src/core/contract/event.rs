//! What passes between the engine and the application: events and jobs out, commands in.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::core::admission::tokens::Tokens;
use crate::core::config::Config;
use crate::core::contract::backbone::Logged;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::observe::stats::{Histogram, Vitals};
use crate::core::topics::{After, Payload};
use crate::core::wire::http::{self, HeaderError, Refusal, Request, Response};
use crate::core::wire::message::Message;

/// What happened on one WebSocket connection, in order: `Opened`, then any of the others, then
/// `Closed`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection is open; this request opened it.
    Opened(Box<Request>),
    /// A message came.
    Message(Message),
    /// Two pings in a row went unanswered: the peer may be gone. Told once until it is heard again.
    Suspect,
    /// A pong came; this was the round trip.
    Pong(Duration),
    /// Everything queued for the peer is with the kernel, after it was not.
    Drained,
    /// The connection ended. Nothing follows.
    Closed(CloseReason),
}

impl Event {
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
    /// What to do.
    pub task: Task,
}

/// The parts of a job.
#[derive(Debug)]
pub enum Task {
    /// Decide on an upgrade.
    Authorize(Box<Request>),
    /// Answer a plain request.
    Answer(Box<Request>),
    /// Handle these events.
    Events {
        /// The handler's state of the connection, from `Opened` on.
        session: Option<Session>,
        /// The events, oldest first.
        events: VecDeque<Event>,
    },
}

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
    /// The verdict on an upgrade, with the request.
    Verdict(Box<Request>, Result<Accept, Refusal>),
    /// The answer to a plain request.
    Answer(Response),
    /// The events were handled.
    Events {
        /// The handler's state of the connection.
        session: Option<Session>,
        /// How many of them were messages.
        messages_handled: u64,
        /// The empty memory of the events, to be used again.
        events: VecDeque<Event>,
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

/// How an upgrade is accepted. Default: with the first offered subprotocol that the route has.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    protocol: Option<String>,
}

impl Accept {
    /// Accepts with this subprotocol, which the client must have offered (RFC 6455, 4.2.2).
    ///
    /// # Errors
    ///
    /// If the name is not a token; it cannot go on the wire then.
    pub fn with_protocol(name: impl Into<String>) -> Result<Accept, HeaderError> {
        let name = name.into();
        match http::is_token(name.as_bytes()) {
            true => Ok(Accept { protocol: Some(name) }),
            false => Err(HeaderError::Value),
        }
    }

    pub(crate) fn into_protocol(self) -> Option<String> {
        self.protocol
    }
}

/// What the application tells the engine.
#[derive(Debug)]
pub enum Command {
    /// Queue a message for a peer.
    Send(ConnectionId, Message),
    /// Close a connection with this code and text, behind what is queued.
    Close(ConnectionId, u16, Utf8Bytes),
    /// Publish to a topic.
    Publish(String, Payload),
    /// Subscribe a WebSocket to a topic; first send it the events after a position.
    Subscribe(ConnectionId, String, After),
    /// Unsubscribe it.
    Unsubscribe(ConnectionId, String),
    /// Take a message of the log that answers later.
    Logged(Box<Logged>),
    /// A job came back.
    Done(Done),
    /// How long the calls of a job took.
    Took(Calls),
    /// End a connection, as the operator asks.
    Kick(ConnectionId),
    /// Tell this fraction of the connections to come back later.
    Shed(f64),
    /// Put a configuration without faults in force, with the tokens of its file.
    Reload(Box<(Config, Option<Tokens>)>),
    /// Report the state of the loop.
    Report(Report),
    /// Return a slice of the table of connections, from this place on.
    Table(Place, TableReport),
    /// Count alarms of the thread that watches the figures.
    Alarms(u64),
    /// Close the listeners and end every connection in turn.
    Drain,
    /// End at once.
    Shutdown,
}

/// Takes a report to the thread that asked for it. It must not block.
pub struct Report(pub Box<dyn FnOnce(Vitals) + Send>);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// Takes a slice of the table of connections to the thread that asked for it, with the place to go
/// on from if there is more. It must not block.
pub struct TableReport(pub Box<dyn FnOnce(String, Option<Place>) + Send>);

impl fmt::Debug for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableReport")
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
            Command::Publish(topic, payload) => topic.len() + payload.len(),
            Command::Subscribe(_, topic, _) | Command::Unsubscribe(_, topic) => topic.len(),
            Command::Logged(logged) => size_of::<Logged>() + logged.len(),
            Command::Done(_)
            | Command::Took(_)
            | Command::Kick(_)
            | Command::Shed(_)
            | Command::Reload(_)
            | Command::Report(_)
            | Command::Table(..)
            | Command::Alarms(_)
            | Command::Drain
            | Command::Shutdown => return 0,
        };
        size_of::<Command>() + carried
    }
}
