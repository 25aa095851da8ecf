//! All subscriptions: a slab of small entries, each in the ring of its connection and, once live,
//! in the ring of its topic.
//!
//! ```text
//!   connection  first ──► a ⇄ b ⇄ c     (a ring: its subscriptions in their order)
//!   topic       first ──► b ⇄ x ⇄ y     (a ring: its live subscriptions, as they went live)
//! ```

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::core::ground::id::ConnectionId;

/// Names a subscription until it ends; another may bear the same key then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey(u32);

/// Where a ring of subscriptions begins. A connection keeps one: 4 bytes, and nothing else for each
/// topic.
#[derive(Debug, PartialEq, Eq)]
pub struct FirstSubscription(u32);

impl FirstSubscription {
    /// The ring without subscriptions.
    pub const NONE: FirstSubscription = FirstSubscription(NONE);

    /// Returns whether the ring has no subscription.
    pub fn is_none(&self) -> bool {
        self.0 == NONE
    }

    pub(super) fn key(&self) -> Option<SubscriptionKey> {
        (self.0 != NONE).then_some(SubscriptionKey(self.0))
    }
}

impl Default for FirstSubscription {
    fn default() -> FirstSubscription {
        FirstSubscription::NONE
    }
}

/// What one connection gets of one topic.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The ordinal, in the topic's log, of the next event to give.
    pub next: u64,
    pub connection: ConnectionId,
    pub topic: u32,
    pub state: State,
    links: [Links; 2],
}

impl Subscription {
    pub fn new(connection: ConnectionId, topic: u32, state: State, next: u64) -> Subscription {
        Subscription { next, connection, topic, state, links: [Links::NONE; 2] }
    }
}

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Replay, and first a gap is to be told.
    Gap,
    /// Replay: events are pulled from the log.
    Replaying,
    /// Events are pushed as they are published.
    Live,
    /// Live, and events were dropped: the next one tells a gap.
    Lost,
}

impl State {
    pub fn is_live(self) -> bool {
        matches!(self, State::Live | State::Lost)
    }
}

/// A list that a subscription may be in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ring {
    Connection,
    Topic,
}

/// All subscriptions of a server.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Slab<Subscription>);

impl Subscriptions {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.0.get(key.0 as usize)
    }

    /// Returns all subscriptions.
    #[cfg(feature = "cluster")]
    pub fn keys(&self) -> impl Iterator<Item = SubscriptionKey> {
        self.0.iter().map(|(key, _)| SubscriptionKey(key as u32))
    }

    /// Adds a subscription, which is in no ring yet.
    pub fn insert(&mut self, subscription: Subscription) -> SubscriptionKey {
        let key = self.0.insert(subscription);
        assert!(key < NONE as usize, "a subscription takes 40 bytes: memory is full before");
        SubscriptionKey(key as u32)
    }

    /// Removes a subscription, which must be in no ring. Removing the last one frees the memory.
    pub fn remove(&mut self, key: SubscriptionKey) -> Subscription {
        let subscription = self.0.remove(key.0 as usize);
        debug_assert!(subscription.links.iter().all(|links| links.next == NONE));
        if self.0.is_empty() {
            self.0 = Slab::new();
        }
        subscription
    }

    /// Puts a subscription to the end of a ring.
    pub fn link(&mut self, ring: Ring, first: &mut FirstSubscription, key: SubscriptionKey) {
        debug_assert_eq!(self.links(ring, key.0).next, NONE);
        let links = if first.0 == NONE {
            first.0 = key.0;
            Links { next: key.0, prev: key.0 }
        } else {
            let last = std::mem::replace(&mut self.links(ring, first.0).prev, key.0);
            self.links(ring, last).next = key.0;
            Links { next: first.0, prev: last }
        };
        *self.links(ring, key.0) = links;
    }

    /// Takes a subscription out of a ring.
    pub fn unlink(&mut self, ring: Ring, first: &mut FirstSubscription, key: SubscriptionKey) {
        let Links { next, prev } = std::mem::replace(self.links(ring, key.0), Links::NONE);
        debug_assert!(next != NONE && first.0 != NONE);
        if next == key.0 {
            first.0 = NONE;
            return;
        }
        self.links(ring, prev).next = next;
        self.links(ring, next).prev = prev;
        if first.0 == key.0 {
            first.0 = next;
        }
    }

    /// Returns the subscription that follows `key`; `None` if `key` is the last.
    pub fn following(
        &self,
        ring: Ring,
        first: &FirstSubscription,
        key: SubscriptionKey,
    ) -> Option<SubscriptionKey> {
        let next = self[key].links[ring as usize].next;
        (next != first.0).then_some(SubscriptionKey(next))
    }

    /// Returns the subscriptions in a ring.
    pub fn iter(
        &self,
        ring: Ring,
        first: &FirstSubscription,
    ) -> impl Iterator<Item = SubscriptionKey> {
        std::iter::successors(first.key(), move |&key| self.following(ring, first, key))
    }

    fn links(&mut self, ring: Ring, key: u32) -> &mut Links {
        &mut self.0[key as usize].links[ring as usize]
    }
}

impl Index<SubscriptionKey> for Subscriptions {
    type Output = Subscription;

    fn index(&self, key: SubscriptionKey) -> &Subscription {
        &self.0[key.0 as usize]
    }
}

impl IndexMut<SubscriptionKey> for Subscriptions {
    fn index_mut(&mut self, key: SubscriptionKey) -> &mut Subscription {
        &mut self.0[key.0 as usize]
    }
}

/// The neighbours in a ring, by key.
#[derive(Clone, Copy, Debug)]
struct Links {
    next: u32,
    prev: u32,
}

impl Links {
    const NONE: Links = Links { next: NONE, prev: NONE };
}

const NONE: u32 = u32::MAX;

// 10,000 connections with the default of 64 subscriptions each: 25 MB.
const _: () = assert!(size_of::<Subscription>() == 40);
const _: () = assert!(size_of::<Option<Subscription>>() == 40, "a free slot needs no tag");

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn rings_keep_their_order_whoever_leaves() {
        let connection = ConnectionId::from_u64(NonZeroU64::new(1 << 32).unwrap());
        for leaver in 0..4 {
            for ring in [Ring::Connection, Ring::Topic] {
                let mut subscriptions = Subscriptions::default();
                let mut first = FirstSubscription::NONE;
                let mut keys: Vec<_> = (0..4)
                    .map(|_| Subscription::new(connection, 0, State::Replaying, 0))
                    .map(|subscription| subscriptions.insert(subscription))
                    .collect();
                for &key in &keys {
                    subscriptions.link(ring, &mut first, key);
                }
                let gone = keys.remove(leaver);
                subscriptions.unlink(ring, &mut first, gone);
                assert_eq!(subscriptions.iter(ring, &first).collect::<Vec<_>>(), keys);
                subscriptions.link(ring, &mut first, gone);
                keys.push(gone);
                assert_eq!(subscriptions.iter(ring, &first).collect::<Vec<_>>(), keys);
                for key in keys {
                    subscriptions.unlink(ring, &mut first, key);
                    subscriptions.remove(key);
                }
                assert!(first.is_none() && subscriptions.0.capacity() == 0);
            }
        }
    }
}
