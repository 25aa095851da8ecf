//! What the engine and a log that answers later tell each other: a log on flash, or one that
//! several servers share.
//!
//! ```text
//!   publish ─► ticket ──► Publication ──► the log ──► Logged ──► topics ─► subscribers
//!                                                        └─────► the answer to the ticket
//! ```
//!
//! Without such a log the server's own memory is the log, and it answers at once: then there are no
//! tickets.
//!
//! **Order of ids.** The log issues the ids. Each is greater than all that it issued before, over
//! all topics, in the order in which the log has taken the events. That is not the order in which
//! they were asked for. The server delivers events in the order of [`Logged::Event`], and takes
//! none whose id is not greater than those before.
//!
//! **Order of answers.** A connection gets the answers to what it published in the order in which
//! it asked, in whatever order the log answers. An answer that waits for an earlier one of its
//! connection holds up no event and no other connection. A `pong` does not wait.
//!
//! **What comes late.** A ticket waits for `deadlines.handshake`. Then its publisher is told that
//! the log is unavailable. The event may have been published all the same: it is delivered when the
//! log gives it. The same holds if the publisher's connection has ended: only the answer is
//! dropped.

use crate::core::topics::{EventId, Name, Payload};

/// Stands for the answer to one publication. No two publications of a server have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket(0);

    pub(crate) fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }

    /// Gives the ticket as a number: how many were given until this one.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// What the log is to take. Its payload is shared with nobody: the log holds it from now on.
#[derive(Debug)]
pub struct Publication {
    /// Whose answer it is.
    pub ticket: Ticket,
    /// The topic, never one of the server's own.
    pub topic: Name,
    /// What was published.
    pub payload: Payload,
}

/// What the log says. It may say it at any time, and need not say it at all.
#[derive(Debug)]
pub enum Logged {
    /// The next event in the order of the log. An event whose id is not greater than those before
    /// has been given before: it is not delivered again, and its ticket is answered.
    Event {
        /// The ticket that this answers, if the event was published here.
        ticket: Option<Ticket>,
        /// The id that the log has issued.
        id: EventId,
        /// The topic.
        topic: Name,
        /// What was published.
        payload: Payload,
    },
    /// The log has not taken what this ticket stands for, and will not.
    Refused(Ticket),
}

impl Logged {
    /// Gives the bytes of the event.
    pub fn len(&self) -> usize {
        match self {
            Logged::Event { topic, payload, .. } => topic.len() + payload.len(),
            Logged::Refused(_) => 0,
        }
    }

    /// Says whether it bears no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
