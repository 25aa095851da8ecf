//! Events on their way to live subscribers, one delivery at a time.
//!
//! Publications wait in the order of their ids and go through their topic's ring of live
//! subscriptions, so that a publish to 10,000 subscribers can be spread over turns. Adjacent
//! publications of one topic go together: each subscriber is given all of them before the next
//! subscriber is looked at, and can be sent them at once. Each subscription remembers the ordinal
//! that it needs next. A subscription that went live after an event was published needs a later
//! one, and stands behind the earlier ones: there the publication ends.
//!
//! ```text
//!   waiting   event 7 ─► event 8 ─► ...         ring    a ⇄ b ⇄ c ⇄ d   (d went live just now)
//!   the cursor is at b                          next    9   8   7   9
//! ```

use std::collections::VecDeque;

use crate::core::ground::id::ConnectionId;

use super::subscriptions::{Ring, State};
use super::{Event, SubscriptionKey, Topics};

/// An event for one live subscriber.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The connection of the subscriber.
    pub connection: ConnectionId,
    /// The subscription.
    pub subscription: SubscriptionKey,
    /// What was published, shared.
    pub event: Event,
    /// No later event waits for this subscriber.
    pub is_last: bool,
    /// Events before this one were dropped ([`Topics::mark_lost`]): a gap is to be told first,
    /// with this event's id.
    pub gap: bool,
}

/// The publications that not every subscriber has been given.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    waiting: VecDeque<Publication>,
    /// How many of the first publications go together; none if they have not begun.
    together: usize,
    /// The subscription that they go to next.
    cursor: Option<SubscriptionKey>,
    payload_bytes: usize,
}

#[derive(Debug)]
struct Publication {
    topic: u32,
    ordinal: u64,
    event: Event,
}

impl Topics {
    /// Takes out the next event for one live subscriber; `None` if each subscriber has all events.
    ///
    /// For each subscriber ids come in ascending order, over all its topics. Between calls the
    /// caller may publish, subscribe, unsubscribe and mark losses: no subscriber is skipped or
    /// given an event twice. A call takes constant time for each delivery and for each publication
    /// that ends.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        loop {
            if self.fan_out.together == 0 {
                self.begin_publications()?;
            }
            let FanOut { waiting, together, cursor, .. } = &self.fan_out;
            let last = &waiting[together - 1];
            let is_needed = |key: &SubscriptionKey| self.subscriptions[*key].next <= last.ordinal;
            let Some(key) = cursor.filter(is_needed) else {
                self.finish_publications();
                continue;
            };
            let is_last_for_all = *together == waiting.len();
            let last = last.ordinal;
            let next = self.subscriptions[key].next;
            let publication = waiting.iter().take(*together).find(|one| one.ordinal >= next);
            let Publication { ordinal, event, .. } = publication.expect("the last one is needed");
            let (ordinal, event) = (*ordinal, event.clone());
            let following = self.following(key);
            let is_given = self.has_been_given(key, event.id);
            let subscription = &mut self.subscriptions[key];
            debug_assert_eq!(subscription.next, ordinal, "a live subscription misses nothing");
            subscription.next = ordinal + 1;
            let state = subscription.state;
            if !is_given {
                subscription.state = State::Live;
            }
            let delivery = Delivery {
                connection: subscription.connection,
                subscription: key,
                event,
                is_last: is_last_for_all && ordinal == last,
                gap: state == State::Lost,
            };
            if ordinal == last {
                self.move_cursor(following);
            }
            if is_given {
                continue;
            }
            return Some(delivery);
        }
    }

    /// Returns whether [`poll_delivery`](Topics::poll_delivery) has something to do.
    pub fn has_deliveries(&self) -> bool {
        !self.fan_out.waiting.is_empty()
    }

    /// Returns how many published events are still on their way to subscribers.
    pub fn waiting_events(&self) -> usize {
        self.fan_out.waiting.len()
    }

    /// Returns the payload bytes of the events still on their way. Most are retained too and then
    /// shared with the log.
    ///
    /// Nothing here bounds it: a publisher that is faster than the loop delivers must be held up.
    pub fn waiting_bytes(&self) -> usize {
        self.fan_out.payload_bytes
    }

    /// Returns the payload bytes of events on their way that no log retains. They are freed when
    /// each subscriber has the event. Takes time by the number of events on their way.
    pub fn waiting_only_bytes(&self) -> usize {
        let is_gone = |one: &&Publication| self.table[one.topic].log.id(one.ordinal).is_none();
        let gone = self.fan_out.waiting.iter().filter(is_gone);
        gone.map(|publication| publication.event.payload.len()).sum()
    }

    /// Sends an event that was appended at `ordinal` on its way, if its topic has live subscribers.
    pub(super) fn fan_out(&mut self, slot: u32, ordinal: u64, event: Event) {
        let topic = &mut self.table[slot];
        if topic.live.is_none() {
            return;
        }
        topic.on_their_way += 1;
        self.fan_out.payload_bytes += event.payload.len();
        self.fan_out.waiting.push_back(Publication { topic: slot, ordinal, event });
    }

    /// Takes a live subscription out of its topic's ring, also if the fan-out's cursor is at it.
    pub(super) fn leave_live(&mut self, key: SubscriptionKey) {
        let slot = self.subscriptions[key].topic;
        if self.fan_out.cursor == Some(key) {
            self.move_cursor(self.following(key));
        }
        self.subscriptions.unlink(Ring::Topic, &mut self.table[slot].live, key);
    }

    fn following(&self, key: SubscriptionKey) -> Option<SubscriptionKey> {
        let live = &self.table[self.subscriptions[key].topic].live;
        self.subscriptions.following(Ring::Topic, live, key)
    }

    /// Begins with the first publications of one topic, as many as go together. `None` if no
    /// publication waits.
    fn begin_publications(&mut self) -> Option<()> {
        let fan_out = &mut self.fan_out;
        let slot = fan_out.waiting.front()?.topic;
        let mut bytes = 0;
        let go_along = |one: &&Publication| {
            let is_first = bytes == 0;
            bytes += one.event.payload.len() + 1;
            one.topic == slot && (is_first || bytes <= TOGETHER_BYTES_MAX)
        };
        fan_out.together = fan_out.waiting.iter().take(TOGETHER_MAX).take_while(go_along).count();
        fan_out.cursor = self.table[slot].live.key();
        Some(())
    }

    /// Goes on with the next subscriber; if there is none, the first publications are done.
    fn move_cursor(&mut self, following: Option<SubscriptionKey>) {
        match following {
            Some(key) => self.fan_out.cursor = Some(key),
            None => self.finish_publications(),
        }
    }

    fn finish_publications(&mut self) {
        self.fan_out.cursor = None;
        for _ in 0..std::mem::take(&mut self.fan_out.together) {
            let done = self.fan_out.waiting.pop_front().expect("it was under way");
            self.fan_out.payload_bytes -= done.event.payload.len();
            self.table[done.topic].on_their_way -= 1;
            self.table.forget_if_unused(done.topic);
        }
        if self.fan_out.waiting.is_empty() {
            self.fan_out.waiting.shrink_to(KEPT_MAX);
        }
    }

    /// Checks each topic's ring against the events on their way.
    #[cfg(test)]
    pub(super) fn check_fan_out(&self) {
        let waiting = &self.fan_out.waiting;
        assert!(waiting.iter().is_sorted_by(|one, other| one.event.id < other.event.id));
        for (slot, topic) in self.table.iter() {
            let on_their_way = waiting.iter().filter(|publication| publication.topic == slot);
            let ordinals: Vec<u64> = on_their_way.map(|publication| publication.ordinal).collect();
            assert_eq!(ordinals.len(), topic.on_their_way as usize);
            let live: Vec<_> = self.subscriptions.iter(Ring::Topic, &topic.live).collect();
            for &key in &live {
                let subscription = &self.subscriptions[key];
                assert!(subscription.state.is_live() && subscription.topic == slot);
                let end = topic.log.end();
                let missing = ordinals.iter().filter(|&&ordinal| ordinal >= subscription.next);
                assert!(missing.copied().eq(subscription.next..end), "what it needs is on its way");
            }
            let cursor = live.iter().position(|&key| Some(key) == self.fan_out.cursor);
            // The subscriber at the cursor may have some of the events that go together.
            let (_, ahead) = live.split_at(cursor.map_or(0, |cursor| cursor + 1));
            assert!(ahead.is_sorted_by_key(|&key| self.subscriptions[key].next));
        }
    }
}

/// How many publications go together at most. `TOGETHER_BYTES_MAX` bounds their bytes, but not
/// those of a single one.
pub const TOGETHER_MAX: usize = 8;
const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// Places in the queue that are kept while it is empty: 4 KiB.
const KEPT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::{Peer, check, publish, topics};
    use super::super::{After, EventId};
    use super::*;

    /// Takes out all deliveries: which connection got which id.
    fn deliveries(topics: &mut Topics) -> Vec<(u32, EventId)> {
        let all = std::iter::from_fn(|| {
            let delivery = topics.poll_delivery()?;
            check(topics);
            Some((delivery.connection.key() as u32, delivery.event.id))
        });
        all.collect()
    }

    /// Returns the deliveries behind the first `given`, without those of a peer that leaves.
    fn rest(all: &[(u32, EventId)], given: usize, leaver: u32) -> Vec<(u32, EventId)> {
        all[given..].iter().filter(|(n, _)| *n != leaver).copied().collect()
    }

    #[test]
    fn each_live_subscriber_gets_each_event_once_in_order() {
        let mut topics = topics();
        let _peers: Vec<_> = (0..3).map(|n| Peer::live(&mut topics, n, "a")).collect();
        let _other = Peer::live(&mut topics, 9, "b");
        let ids = ["a", "a", "b", "a"].map(|topic| publish(&mut topics, 1, topic, "x"));
        let [first, second, other, third] = ids;
        // Those of one topic that stand together go together.
        let together = (0..3).flat_map(|n| [(n, first), (n, second)]);
        let all = together.chain([(9, other)]).chain((0..3).map(|n| (n, third)));
        assert_eq!(deliveries(&mut topics), all.collect::<Vec<_>>());
        assert_eq!((topics.waiting_events(), topics.waiting_bytes()), (0, 0));
    }

    #[test]
    fn what_goes_together_is_bounded_and_the_last_of_all_is_told() {
        let mut topics = topics();
        let _peers: Vec<_> = (0..2).map(|n| Peer::live(&mut topics, n, "a")).collect();
        let count = TOGETHER_MAX + 1;
        (0..count).for_each(|_| _ = publish(&mut topics, 1, "a", "x"));
        let got: Vec<_> = std::iter::from_fn(|| topics.poll_delivery()).collect();
        let whose = got.iter().map(|delivery| delivery.connection.key());
        let expected = [[0; TOGETHER_MAX], [1; TOGETHER_MAX]].concat().into_iter().chain([0, 1]);
        assert!(whose.eq(expected));
        let are_last = got.iter().map(|delivery| delivery.is_last);
        assert!(are_last.eq((0..2 * count).map(|n| n >= 2 * TOGETHER_MAX)));
        let large = "x".repeat(TOGETHER_BYTES_MAX);
        (0..2).for_each(|_| _ = publish(&mut topics, 2, "a", &large));
        let whose: Vec<_> = deliveries(&mut topics).into_iter().map(|(n, _)| n).collect();
        assert_eq!(whose, [0, 1, 0, 1]);
    }

    // FAULTS 130: a subscriber may leave during a fan-out; no other is skipped or served twice.
    #[test]
    fn leaving_inside_a_fan_out_skips_nobody() {
        for given in 0..8 {
            for leaver in 0..4 {
                let mut topics = topics();
                let mut peers: Vec<_> = (0..4).map(|n| Peer::live(&mut topics, n, "a")).collect();
                let ids = [1, 2].map(|ms| publish(&mut topics, ms, "a", "x"));
                for _ in 0..given {
                    topics.poll_delivery().unwrap();
                }
                peers[leaver].leave(&mut topics);
                let all: Vec<_> = (0..4).flat_map(|n| ids.map(|id| (n, id))).collect();
                assert_eq!(deliveries(&mut topics), rest(&all, given, leaver as u32));
            }
        }
    }

    #[test]
    fn joining_inside_a_fan_out_begins_with_the_next_event() {
        for given in 1..4 {
            let mut topics = topics();
            let _peers = [Peer::live(&mut topics, 0, "a"), Peer::live(&mut topics, 1, "a")];
            let ids = ["x", "y"].map(|text| publish(&mut topics, 1, "a", text));
            for _ in 0..given {
                topics.poll_delivery();
            }
            let _late = Peer::live(&mut topics, 2, "a");
            let third = publish(&mut topics, 1, "a", "z");
            let all: Vec<_> = (0..2).flat_map(|n| ids.map(|id| (n, id))).collect();
            let then = (0..3).map(|n| (n, third));
            let expected: Vec<_> = all.into_iter().skip(given).chain(then).collect();
            assert_eq!(deliveries(&mut topics), expected);
        }
    }

    #[test]
    fn beginning_again_inside_a_fan_out_gives_each_event_once() {
        for given in 0..3 {
            let mut topics = topics();
            let mut peers = [Peer::live(&mut topics, 0, "a"), Peer::live(&mut topics, 1, "a")];
            let first = publish(&mut topics, 1, "a", "x");
            for _ in 0..given {
                topics.poll_delivery();
            }
            let key = peers[0].subscribe(&mut topics, "a", After::Position(EventId::ZERO));
            assert_eq!(peers[0].replay(&mut topics, key), [first]);
            let rest = [(0, first), (1, first)].into_iter().skip(given.max(1));
            assert_eq!(deliveries(&mut topics), rest.collect::<Vec<_>>());
        }
    }

    // FAULTS 129: after an unsubscribe nothing is delivered, nor what is still on its way.
    #[test]
    fn after_an_unsubscribe_nothing_is_delivered_and_the_topic_goes() {
        let mut topics = topics();
        topics.rules.retain_events = 0;
        let mut peer = Peer::live(&mut topics, 0, "a");
        let id = publish(&mut topics, 1, "a", "x");
        peer.leave(&mut topics);
        assert_eq!(topics.len(), 1, "an event is on its way");
        assert!(topics.poll_delivery().is_none());
        assert_eq!((topics.len(), topics.table.forgotten()), (0, id));
        check(&topics);
    }

    #[test]
    fn retention_takes_nothing_from_live_subscribers() {
        let mut topics = topics();
        topics.rules.retain_events = 1;
        let _peers = [Peer::live(&mut topics, 0, "a"), Peer::live(&mut topics, 1, "a")];
        let ids: Vec<_> = (0..5).map(|n| publish(&mut topics, n, "a", "x")).collect();
        while topics.trim_oldest() > 0 {}
        let expected: Vec<_> = (0..2).flat_map(|n| ids.iter().map(move |&id| (n, id))).collect();
        assert_eq!(deliveries(&mut topics), expected);
    }

    #[test]
    fn what_was_lost_is_told_with_the_next_event_once() {
        let mut topics = topics();
        let peer = Peer::live(&mut topics, 0, "a");
        let key = peer.list.key().unwrap();
        topics.mark_lost(peer.id, key);
        for gap in [true, false, false] {
            publish(&mut topics, 1, "a", "x");
            assert_eq!(topics.poll_delivery().unwrap().gap, gap);
        }
    }
}
