//! The publications that wait for a log, in the order of their tickets.

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::{Answer, Asker};
use crate::core::config::Limits;
use crate::core::connection::{Asking, Connection, Spans};
#[cfg(feature = "cluster")]
use crate::core::contract::backbone::Node;
use crate::core::contract::backbone::{Publication, Ticket};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Author;
use crate::core::ground::time::Instant;
use crate::core::topics::{Content, Name};

/// A publication without an answer, or whose answer waits for an earlier one of its connection.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) asked_at: Instant,
    pub(super) asker: Asker,
    pub(super) bytes: usize,
    pub(super) answer: Option<Answer>,
    /// What the publication is known by, if its client may send it again.
    pub(super) known_by: Option<(Author, i64)>,
    /// The ticket of the same publication, sent again: it has the same answer.
    pub(super) joined: Option<Ticket>,
}

/// Where an answer goes.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) connection: Option<ConnectionId>,
    pub(super) known_by: Option<(Author, i64)>,
    pub(super) joined: Option<Ticket>,
}

/// The tickets of one connection.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Oldest first.
    pub(super) tickets: VecDeque<Ticket>,
    pub(super) bytes: usize,
}

impl Own {
    /// Returns whether as much waits as may wait for a handler: then the connection is not read.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.tickets.len() >= limits.inbox_messages || self.bytes >= limits.inbox_bytes
    }
}

/// All publications that wait.
// Invariants:
// - `by_connection` holds exactly the tickets of `asked` that name a connection, and no empty list.
// - The first ticket of each list has no answer yet. Nor has the first of `asked`: so its time is
//   over first.
#[derive(Debug, Default)]
pub(in crate::core::engine) struct Tickets {
    pub(super) last: Ticket,
    /// In the order of asking, which is that of the tickets. At most [`TICKETS_MAX`] publications,
    /// and of each connection that waits for one a few answers behind it.
    pub(super) asked: VecDeque<(Ticket, Asked)>,
    pub(super) by_connection: HashMap<ConnectionId, Own>,
    /// The memory of `asked`, and of the payloads that the log has been given for it.
    pub(super) bytes: usize,
    /// The publications that the log has still to be given.
    pub(super) outgoing: VecDeque<Publication>,
    /// Since when the log has not been reached.
    #[cfg(feature = "cluster")]
    pub(super) away_since: Option<Instant>,
    /// The servers that share the log, and when the log has told them.
    #[cfg(feature = "cluster")]
    pub(super) nodes: Option<(Instant, Box<[Node]>)>,
    /// The tickets of the events that the store has still to be given.
    #[cfg(feature = "store")]
    pub(super) kept: VecDeque<Ticket>,
}

impl Tickets {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether one more publication, of so many bytes, may wait.
    pub(super) fn has_room_for(&self, bytes: usize, memory_limit: u64) -> bool {
        let together = self.bytes as u64 + bytes as u64;
        self.asked.len() < TICKETS_MAX && together <= memory_limit / 4
    }

    pub(super) fn ask(&mut self, now: Instant, topic: Name, content: Content) -> Ticket {
        let ticket = self.insert(now, topic.len() + content.payload.len());
        self.outgoing.push_back(Publication { ticket, topic, content, known_by: None });
        ticket
    }

    pub(super) fn insert(&mut self, now: Instant, carried: usize) -> Ticket {
        self.last = self.last.next();
        let bytes = carried + TICKET_BYTES;
        let asked = Asked {
            asked_at: now,
            asker: Asker::Application,
            bytes,
            answer: None,
            known_by: None,
            joined: None,
        };
        self.asked.push_back((self.last, asked));
        self.bytes += bytes;
        self.last
    }

    pub(super) fn find(&mut self, ticket: Ticket) -> Option<&mut Asked> {
        let index = self.asked.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        Some(&mut self.asked[index].1)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Asked> {
        let index = self.asked.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, asked) = self.asked.remove(index)?;
        if self.asked.is_empty() {
            // A burst may have made it large.
            self.asked.shrink_to(ASKED_KEPT_MAX);
        }
        self.bytes -= asked.bytes;
        Some(asked)
    }

    /// Names the connection that is to be told the answer.
    pub(super) fn name_asker(&mut self, id: ConnectionId, ticket: Ticket, asker: Asker) {
        let Some(asked) = self.find(ticket) else { return };
        let reference = match &asker {
            Asker::Hub(_, Some(reference)) => reference.len(),
            _ => 0,
        };
        asked.bytes += reference;
        asked.asker = asker;
        let bytes = asked.bytes;
        self.bytes += reference;
        let own = self.by_connection.entry(id).or_default();
        own.tickets.push_back(ticket);
        own.bytes += bytes;
    }

    /// Returns whether a connection has tickets, and whether it has as many as it may have.
    pub(super) fn asking(&self, id: ConnectionId, limits: &Limits) -> Asking {
        match self.by_connection.get(&id) {
            None => Asking::No,
            Some(own) if own.is_full(limits) => Asking::Enough,
            Some(_) => Asking::Some,
        }
    }

    /// Returns whether each connection knows if it has tickets: for `debug_assert!`.
    pub fn are_in_order(&self, connections: &Slab<Connection>) -> bool {
        connections.iter().all(|(_, connection)| {
            let is_asking = connection.flags.asking != Asking::No;
            is_asking == self.by_connection.contains_key(&connection.id)
        })
    }

    /// Notes an answer. Returns where it goes; `None` if the ticket was answered before.
    pub(super) fn note_answer(&mut self, ticket: Ticket, answer: Answer) -> Option<Noted> {
        let asked = self.find(ticket).filter(|asked| asked.answer.is_none())?;
        asked.answer = Some(answer);
        Some(Noted {
            connection: asked.asker.connection(),
            known_by: asked.known_by.take(),
            joined: asked.joined.take(),
        })
    }

    /// Makes a ticket that has the same answer as another, which must have none yet.
    pub(super) fn join(&mut self, now: Instant, first: Ticket) -> Option<Ticket> {
        self.find(first).filter(|asked| asked.answer.is_none())?;
        let ticket = self.insert(now, 0);
        let before = self.find(first)?.joined.replace(ticket);
        self.find(ticket)?.joined = before;
        Some(ticket)
    }

    /// Takes the next answer of a connection, if its oldest ticket has one.
    pub(super) fn poll_answer(&mut self, id: ConnectionId) -> Option<(Asker, Answer)> {
        let ticket = *self.by_connection.get(&id)?.tickets.front()?;
        let answer = self.find(ticket)?.answer.take()?;
        let asked = self.remove(ticket)?;
        let own = self.by_connection.get_mut(&id)?;
        own.tickets.pop_front();
        own.bytes -= asked.bytes;
        if own.tickets.is_empty() {
            self.by_connection.remove(&id);
        }
        if self.by_connection.is_empty() {
            // A burst may have made the table large.
            self.by_connection.shrink_to(CONNECTIONS_KEPT_MAX);
        }
        Some((asked.asker, answer))
    }

    pub(super) fn oldest(&self) -> Option<(Ticket, Instant)> {
        let (ticket, asked) = self.asked.front()?;
        debug_assert!(asked.answer.is_none(), "no earlier ticket holds its answer up");
        Some((*ticket, asked.asked_at))
    }

    /// Returns the moment at which the oldest publication has waited long enough, in whole ticks.
    pub(super) fn due_at(&self, spans: &Spans) -> Option<Instant> {
        let (_, asked_at) = self.oldest()?;
        let due_at = asked_at + spans.handshake + Instant::RESOLUTION;
        Some(Instant::from_millis(due_at.as_millis().next_multiple_of(spans.tick_ms)))
    }
}

impl Default for Ticket {
    fn default() -> Ticket {
        Ticket::NONE
    }
}

/// The tickets of an engine that follows a log. Without the feature `backbone` no engine does, and
/// what it would take of the program is left out.
#[derive(Debug, Default)]
pub struct Followed(#[cfg(feature = "backbone")] Option<Box<Tickets>>);

#[cfg(feature = "backbone")]
impl Followed {
    pub(super) fn follow(&mut self) {
        self.0 = Some(Box::default());
    }

    #[inline]
    pub fn tickets(&self) -> Option<&Tickets> {
        self.0.as_deref()
    }

    #[inline]
    pub fn tickets_mut(&mut self) -> Option<&mut Tickets> {
        self.0.as_deref_mut()
    }
}

#[cfg(not(feature = "backbone"))]
impl Followed {
    pub fn tickets(&self) -> Option<&Tickets> {
        None
    }

    pub fn tickets_mut(&mut self) -> Option<&mut Tickets> {
        None
    }
}

/// For so many there is room even while none waits.
const ASKED_KEPT_MAX: usize = 16;

/// How many publications may wait; their bytes take a quarter of `limits.memory_bytes` at most.
const TICKETS_MAX: usize = 4096;

/// Places for connections that are kept while none waits.
const CONNECTIONS_KEPT_MAX: usize = 64;

/// What a publication takes beside its topic, its payload and its `ref`: its places in the lists of
/// those that wait, of its connection's, and of those that the log is to be given.
pub(super) const TICKET_BYTES: usize = size_of::<(Ticket, Asked)>()
    + size_of::<(ConnectionId, Own)>()
    + 4 * size_of::<Ticket>()
    + size_of::<Publication>();
