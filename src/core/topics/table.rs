//! The topics by name, and in the order of their oldest events.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::log::Log;
#[cfg(feature = "bridge")]
use super::readers::InReaders;
use super::{EventId, FirstSubscription, Name};

/// One topic. It is forgotten as soon as it has no retained event, no subscription, no event on its
/// way and nothing that a reader has yet to be given.
#[derive(Debug)]
pub(super) struct Topic {
    pub name: Name,
    pub log: Log,
    /// The live subscriptions, in the order in which they went live.
    pub live: FirstSubscription,
    /// All subscriptions, those in replay too.
    pub subscribers: u32,
    /// Events that the fan-out still holds.
    pub on_their_way: u32,
    #[cfg(feature = "bridge")]
    pub readers: InReaders,
}

impl Topic {
    /// Returns whether nothing would be lost with the topic.
    fn is_unused(&self) -> bool {
        let is_unused = self.log.is_empty() && self.subscribers == 0 && self.on_their_way == 0;
        #[cfg(feature = "bridge")]
        let is_unused = is_unused && !self.readers.is_unread();
        is_unused
    }
}

/// All topics of a server. A slot names a topic as long as it is not forgotten.
// Invariants:
// - `by_name` holds exactly the slots of `topics`. It is only ever asked for one name.
// - `oldest` holds the first id of each log that is not empty, and nothing else.
// - `bytes` is the sum over all logs.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_name: HashMap<Name, u32>,
    topics: Slab<Topic>,
    oldest: BTreeSet<(EventId, u32)>,
    forgotten: EventId,
    bytes: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns the memory of all events retained.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the newest id that was evicted from a forgotten topic.
    pub fn forgotten(&self) -> EventId {
        self.forgotten
    }

    /// Notes an event that is not kept, because no topic can be made for it. A client that
    /// subscribes to a topic made later, from a position before this id, is told of a gap.
    pub fn pass_over(&mut self, id: EventId) {
        self.forgotten = self.forgotten.max(id);
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Makes a topic that does not exist, with this empty log.
    pub fn insert(&mut self, name: Name, log: Log) -> u32 {
        let slot = self.topics.insert(Topic {
            name: name.clone(),
            log,
            live: FirstSubscription::NONE,
            subscribers: 0,
            on_their_way: 0,
            #[cfg(feature = "bridge")]
            readers: InReaders::default(),
        }) as u32;
        let replaced = self.by_name.insert(name, slot);
        debug_assert_eq!(replaced, None);
        slot
    }

    /// Changes a log. This is the only way to do so, so that order and memory stay true.
    pub fn change_log<T>(&mut self, slot: u32, change: impl FnOnce(&mut Log) -> T) -> T {
        let log = &mut self.topics[slot as usize].log;
        let (first, bytes) = (first_id(log), log.bytes());
        let changed = change(log);
        self.bytes = self.bytes - bytes + log.bytes();
        let now_first = first_id(log);
        if now_first != first {
            if let Some(id) = first {
                self.oldest.remove(&(id, slot));
            }
            if let Some(id) = now_first {
                self.oldest.insert((id, slot));
            }
        }
        changed
    }

    /// Returns the topic with the oldest event of all; `None` if nothing is retained.
    pub fn oldest(&self) -> Option<u32> {
        self.oldest.first().map(|&(_, slot)| slot)
    }

    /// Forgets a topic that is empty and unused.
    pub fn forget_if_unused(&mut self, slot: u32) {
        let topic = &self.topics[slot as usize];
        if !topic.is_unused() {
            return;
        }
        debug_assert!(topic.live.is_none());
        let topic = self.topics.remove(slot as usize);
        self.forgotten = self.forgotten.max(topic.log.evicted());
        self.by_name.remove(&topic.name);
        if self.topics.is_empty() {
            self.topics = Slab::new();
            self.by_name.shrink_to_fit();
        }
    }

    /// Returns the slots of all topics.
    #[cfg(feature = "bridge")]
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.topics.iter().map(|(slot, _)| slot as u32)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Topic)> {
        self.topics.iter().map(|(slot, topic)| (slot as u32, topic))
    }

    /// Checks the invariants of the table.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.by_name.len(), self.topics.len());
        let mut bytes = 0;
        let mut oldest = BTreeSet::new();
        for (slot, topic) in &self.topics {
            assert_eq!(self.by_name[&topic.name], slot as u32);
            assert!(!topic.is_unused(), "{} is to be forgotten", topic.name);
            bytes += topic.log.bytes();
            oldest.extend(first_id(&topic.log).map(|id| (id, slot as u32)));
        }
        assert_eq!((self.bytes, &self.oldest), (bytes, &oldest));
    }
}

impl Index<u32> for Table {
    type Output = Topic;

    fn index(&self, slot: u32) -> &Topic {
        &self.topics[slot as usize]
    }
}

impl IndexMut<u32> for Table {
    fn index_mut(&mut self, slot: u32) -> &mut Topic {
        &mut self.topics[slot as usize]
    }
}

fn first_id(log: &Log) -> Option<EventId> {
    log.first_id()
}
