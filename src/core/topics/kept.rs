//! Durable topics: their events are given to a store, and are back after a restart, with their ids.
//!
//! Positions of the processes before are good in durable topics, and in no other. If a process did
//! not end well, its last events may not be there: a client with an earlier position is told of a
//! gap before it gets the events after its position.

use std::collections::VecDeque;
use std::fmt;

use crate::core::ground::time::Instant;

use super::log::Log;
use super::{Event, EventId, Name, Payload, Topics};

/// An event of a durable topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: EventId,
    /// The topic.
    pub topic: Name,
    /// What was published.
    pub payload: Payload,
}

/// What a store has of the processes before.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The events, in the order of their ids.
    pub events: VecDeque<Kept>,
    /// Positions before this id may be followed by events that are not there.
    pub floor: EventId,
    /// No id of the processes before that is known is greater than this one.
    pub last: EventId,
    /// The numbers of the processes before, and the last position of each.
    pub spans: Vec<(u16, EventId)>,
    /// What the last process published last may not be there.
    pub has_loss: bool,
}

/// Which topics are durable, by their names.
pub type IsDurable = Box<dyn Fn(&str) -> bool + Send>;

/// What is durable, and what the store has still to be given.
pub(super) struct Keeping {
    is_durable: IsDurable,
    floor: EventId,
    spans: Vec<(u16, EventId)>,
    outgoing: VecDeque<Kept>,
}

impl Topics {
    /// Keeps the events of durable topics, from now on, and takes those that a store has of the
    /// processes before, as if they were published now. To be called before the first event is
    /// published. Returns the first position of this process. It is greater than all ids before.
    pub fn keep(
        &mut self,
        now: Instant,
        unix_ms: u64,
        past: Past,
        is_durable: IsDurable,
    ) -> EventId {
        debug_assert_eq!(self.published, 0, "ids of this process would be in the way");
        let Past { events, floor, last, spans, has_loss } = past;
        let mut number = self.issuer.last().process();
        while spans.iter().any(|(other, _)| *other == number) {
            number = number.wrapping_add(1);
        }
        let first = self.issuer.begin_behind(last, number, unix_ms);
        let floor = if has_loss { first } else { floor };
        let outgoing = VecDeque::new();
        self.keeping = Some(Box::new(Keeping { is_durable, floor, spans, outgoing }));
        for Kept { id, topic, payload } in events {
            if !self.keeps(&topic) {
                continue;
            }
            let Ok(slot) = self.find_or_make(&topic) else {
                self.table.pass_over(id);
                continue;
            };
            self.table.change_log(slot, |log| {
                log.append(now, Event { id, payload, trace: None });
                self.rules.trim(now, log);
            });
            self.table.forget_if_unused(slot);
        }
        first
    }

    /// Returns whether there is a store.
    pub fn is_keeping(&self) -> bool {
        self.keeping.is_some()
    }

    /// Returns whether this topic is durable.
    pub fn keeps(&self, topic: &str) -> bool {
        let is_durable = |keeping: &Keeping| !Name::is_own(topic) && (keeping.is_durable)(topic);
        self.keeping.as_deref().is_some_and(is_durable)
    }

    /// Takes the next event for the store, in the order of ids.
    pub fn poll_kept(&mut self) -> Option<Kept> {
        self.keeping.as_mut()?.outgoing.pop_front()
    }

    /// Gives an event of a durable topic to the store. Its trace context stays in memory.
    pub(super) fn give_to_store(&mut self, slot: u32, id: EventId, payload: &Payload) {
        let topic = &self.table[slot];
        if topic.log.is_kept()
            && let Some(keeping) = &mut self.keeping
        {
            let payload = payload.clone();
            keeping.outgoing.push_back(Kept { id, topic: topic.name.clone(), payload });
        }
    }

    /// Returns the position before which events of this log may be missing though it has evicted
    /// none.
    pub(super) fn floor(&self, log: &Log) -> EventId {
        match &self.keeping {
            Some(keeping) if log.is_kept() => keeping.floor,
            _ => EventId::ZERO,
        }
    }

    /// Returns whether a position is one of a process before, and this log is of a durable topic.
    pub(super) fn was_issued_before(&self, log: &Log, position: EventId) -> bool {
        let is_of =
            |(number, last): &(u16, EventId)| position.process() == *number && position <= *last;
        let keeping = self.keeping.as_ref().filter(|_| log.is_kept());
        keeping.is_some_and(|keeping| keeping.spans.iter().any(is_of))
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("floor", &self.floor).finish_non_exhaustive()
    }
}
