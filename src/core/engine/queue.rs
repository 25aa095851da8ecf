//! Lists of connections that wait for something, each once.
//!
//! A connection that bears the mark of a list waits in it: [`Queue::push`] sets the mark,
//! [`Queue::pop`] clears it. A connection that is served out of its turn has its mark cleared, and
//! is passed over. So is an ended one: the next one in its slot has another id.

use std::collections::VecDeque;

use slab::Slab;

use crate::core::connection::{Connection, Mark};
use crate::core::engine::find_mut;
use crate::core::engine::tickets::Followed;
use crate::core::ground::id::ConnectionId;
use crate::core::topics::Delivery;

/// The lists of what waits.
#[derive(Debug)]
pub(super) struct Queues {
    /// Connections to be read from.
    pub ready: Queue,
    /// Connections to be written to.
    pub dirty: Queue,
    /// Connections whose deadlines may have changed in this turn.
    pub touched: Queue,
    /// Connections whose replay, or long answer, goes on when the turn allows it.
    pub hungry: Queue,
    /// An event that waits for its subscriber's outbox to be flushed.
    pub held: Option<Delivery>,
    /// Publications that wait for a log which answers later; none without such a log.
    pub followed: Followed,
}

impl Default for Queues {
    fn default() -> Queues {
        Queues {
            ready: Queue::new(Mark::Ready),
            dirty: Queue::new(Mark::Dirty),
            touched: Queue::new(Mark::Touched),
            hungry: Queue::new(Mark::Hungry),
            held: None,
            followed: Followed::default(),
        }
    }
}

impl Queues {
    /// Returns whether the lists and the marks agree: for `debug_assert!`. Only a few connections
    /// are looked through.
    pub fn are_in_order(&self, connections: &Slab<Connection>) -> bool {
        let all = [&self.ready, &self.dirty, &self.touched, &self.hungry];
        if connections.len() > CHECKED_MAX {
            return true;
        }
        all.iter().all(|queue| queue.is_in_order(connections))
            && self.followed.tickets().is_none_or(|tickets| tickets.are_in_order(connections))
    }
}

/// Connections that wait, first in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    mark: Mark,
    ids: VecDeque<ConnectionId>,
}

impl Queue {
    fn new(mark: Mark) -> Queue {
        Queue { mark, ids: VecDeque::new() }
    }

    /// Puts a connection behind the others, unless it waits already.
    #[inline]
    pub fn push(&mut self, connection: &mut Connection) {
        if connection.marks.set(self.mark) {
            self.ids.push_back(connection.id);
        }
    }

    /// Returns whether each connection that bears the mark waits in this list.
    fn is_in_order(&self, connections: &Slab<Connection>) -> bool {
        let mut marked = connections.iter().filter(|(_, peer)| peer.marks.has(self.mark));
        marked.all(|(_, connection)| self.ids.contains(&connection.id))
    }

    /// Takes the next connection that still bears the mark; `None` if no connection does.
    #[inline]
    pub fn pop(&mut self, connections: &mut Slab<Connection>) -> Option<ConnectionId> {
        while let Some(id) = pop(&mut self.ids) {
            if let Some(connection) = find_mut(connections, id)
                && connection.marks.clear(self.mark)
            {
                return Some(id);
            }
        }
        None
    }

    /// Returns whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Takes the next entry of a queue. A queue that a burst has made large frees its memory when it is
/// empty: a block left at the end of the heap keeps all before it from the system.
pub(super) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if next.is_none() && queue.capacity() > QUEUE_KEPT_MAX {
        *queue = VecDeque::new();
    }
    next
}

/// Up to so many connections are looked through.
const CHECKED_MAX: usize = 64;
/// How many entries an empty queue keeps room for.
const QUEUE_KEPT_MAX: usize = 1024;
