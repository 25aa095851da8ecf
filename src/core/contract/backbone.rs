//! What the engine and a log that answers later tell each other. Such a log is on flash, or is
//! shared by several servers.
//!
//! ```text
//!   publish ─► ticket ──► Publication ──► the log ──► Logged ──► topics ─► subscribers
//!                                                        └─────► the answer to the ticket
//! ```
//!
//! Without such a log the server's own memory is the log. It answers at once, and there are no
//! tickets. With a store of durable topics memory is the log, too; but if `store.ack = flash`, the
//! events of these topics have tickets, which the store answers.
//!
//! **Order of ids.** The log issues the ids. Each id is greater than all ids before it, over all
//! topics, in the order in which the log takes the events. That may not be the order in which the
//! publishers asked. The server delivers events in the order of [`Logged::Event`]. It takes no
//! event whose id is not greater than all ids before it.
//!
//! **Order of answers.** A connection gets the answers to its publications in the order in which it
//! asked, whatever the order in which the log answers. An answer may wait for an earlier answer of
//! its connection; no event and no other connection waits for it. A `pong` does not wait.
//!
//! **Late answers.** A ticket waits for `deadlines.handshake`. Then its publisher is told that the
//! log is unavailable. The event may still be published: it is delivered when the log gives it. The
//! same holds if the publisher's connection has ended: only the answer is dropped.

use crate::core::ground::identity::Author;
#[cfg(feature = "cluster")]
use crate::core::ground::json::Object;
use crate::core::topics::{Content, EventId, Name};

/// Names one publication until it is answered. No two publications of a server have the same
/// ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket(0);

    pub(crate) fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }

    /// Returns the ticket as a number. The first ticket of a server is 1, and each next one is
    /// greater by 1.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the ticket that [`Ticket::as_u64`] gave this number for.
    #[cfg(feature = "cluster")]
    pub(crate) fn from_u64(number: u64) -> Ticket {
        Ticket(number)
    }
}

/// An event that the log is to take. From now on only the log holds the payload.
#[derive(Debug)]
pub struct Publication {
    /// The ticket that the log's answer names.
    pub ticket: Ticket,
    /// The topic. It is never one of the server's own.
    pub topic: Name,
    /// What was published.
    pub content: Content,
    /// What the publication is known by, if its client may send it again, perhaps to another
    /// server.
    pub(crate) known_by: Option<(Author, i64)>,
}

/// A message from the log. It may come at any time, or never.
#[derive(Debug)]
pub enum Logged {
    /// The next event in the order of the log. If its id is not greater than all ids before it, the
    /// event is a repetition: it is not delivered again, but its ticket is answered.
    Event {
        /// The ticket that this event answers, if the event was published on this server.
        ticket: Option<Ticket>,
        /// The id that the log has issued. The low 16 bits of its `SEQ` are the log's number, the
        /// same as in the id that [`Engine::follow_log`](crate::core::engine::Engine::follow_log)
        /// was called with.
        id: EventId,
        /// The topic.
        topic: Name,
        /// What was published.
        content: Content,
    },
    /// The log has not taken the event of this ticket, and will not take it.
    Refused(Ticket),
    /// The log has had this event before: its client has sent it again, to this server or to
    /// another. It bears this id.
    #[cfg(feature = "cluster")]
    Repeated(Ticket, EventId),
    /// Whether the log has taken the event of this ticket is not known, and will not be.
    #[cfg(feature = "cluster")]
    Unknown(Ticket),
    /// The log goes on behind this id, and what it had before may be incomplete. No position before
    /// the id is good any more, and each subscriber is told a gap. The low 16 bits of its `SEQ` are
    /// the log's number from now on.
    #[cfg(feature = "cluster")]
    Renewed(EventId),
    /// Whether the log can be reached. Until it is said the log counts as not reached.
    #[cfg(feature = "cluster")]
    Reached(bool),
    /// The servers that share the log.
    #[cfg(feature = "cluster")]
    Nodes(Box<[Node]>),
    /// The store has the event of this ticket on flash, which has been published with this id; or,
    /// without an id, it will not have it.
    #[cfg(feature = "store")]
    Kept(Ticket, Option<EventId>),
}

/// A server that shares the log.
#[cfg(feature = "cluster")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Names its process.
    pub instance: String,
    /// When its process began, in milliseconds since 1970, by its own clock.
    pub started_ms: u64,
    /// How many connections it has, the operator's among them.
    pub connections: u64,
    /// For how long it had not been at the end of the log.
    pub lag_ms: u64,
    /// It drains.
    pub is_draining: bool,
    /// The version of its program.
    pub version: String,
    /// Gaps that its subscribers were told since it had joined.
    pub gaps: u64,
    /// How long ago it has said so.
    pub seen_ms: u64,
}

#[cfg(feature = "cluster")]
impl Node {
    /// Returns it as JSON, `age_ms` after the log has told it.
    pub(crate) fn row(&self, age_ms: u64) -> String {
        Object::new()
            .string("node", &self.name)
            .string("instance", &self.instance)
            .number("started_at", self.started_ms / 1000)
            .number("connections", self.connections)
            .number("lag_ms", self.lag_ms)
            .raw("draining", if self.is_draining { "true" } else { "false" })
            .number("seen_ms", self.seen_ms + age_ms)
            .string("version", &self.version)
            .number("gaps", self.gaps)
            .end()
    }
}

impl Logged {
    /// Returns the bytes of topic and payload.
    pub fn len(&self) -> usize {
        match self {
            Logged::Event { topic, content, .. } => topic.len() + content.payload.len(),
            Logged::Refused(_) => 0,
            #[cfg(feature = "cluster")]
            Logged::Nodes(nodes) => size_of_val::<[Node]>(nodes),
            #[cfg(feature = "cluster")]
            Logged::Repeated(..) | Logged::Unknown(_) | Logged::Renewed(_) | Logged::Reached(_) => {
                0
            }
            #[cfg(feature = "store")]
            Logged::Kept(..) => 0,
        }
    }

    /// Returns whether there are no such bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
