//! Events that one connection is not to get, while they are on their way to subscribers.

use std::collections::VecDeque;

use crate::core::engine::Engine;
use crate::core::engine::tickets::Published;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::topics::{Delivery, EventId, Payload, TOGETHER_MAX};

/// Who does not get which event, oldest first.
#[derive(Debug, Default)]
pub(super) struct Excepted(VecDeque<(EventId, ConnectionId)>);

impl Excepted {
    /// Returns whether the subscriber is not to get the event.
    #[inline]
    pub fn has(&self, delivery: &Delivery) -> bool {
        !self.0.is_empty() && self.0.contains(&(delivery.event.id, delivery.connection))
    }

    /// Forgets all: no event is on its way.
    pub fn clear(&mut self) {
        if !self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    /// Notes who does not get an event; so many events are on their way, this one included. They
    /// go in order, a few together, so older entries are of no use any more.
    fn push(&mut self, event: EventId, id: ConnectionId, waiting: usize) {
        self.0.push_back((event, id));
        while self.0.len() > waiting + TOGETHER_MAX {
            self.0.pop_front();
        }
    }
}

impl Engine {
    /// Publishes to all subscribers of a topic but one connection.
    pub fn publish_except(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        payload: Payload,
    ) {
        match self.publish(now, topic, payload) {
            Ok(Published::Now(event)) => {
                let waiting = self.topics.waiting_events();
                if waiting > 0 {
                    self.excepted.push(event, id, waiting);
                }
            }
            Ok(Published::Later(_)) => {}
            Err(_) => self.stats.publishes_refused += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;

    #[test]
    fn there_are_no_more_entries_than_events_on_their_way() {
        let id = ConnectionId::new(0, Generation::FIRST);
        let mut excepted = Excepted::default();
        for nth in 1..1000 {
            excepted.push(EventId::new(1, nth), id, 5);
            assert!(excepted.0.len() <= 5 + TOGETHER_MAX);
            assert_eq!(excepted.0.back(), Some(&(EventId::new(1, nth), id)));
        }
    }
}
