//! Events on their way to live subscribers, one delivery at a time.
//!
//! Publications wait in the order of their ids and each goes through its topic's ring of live
//! subscriptions, so that a publish to 10,000 subscribers can be spread over turns. Each
//! subscription remembers the ordinal that it needs next. Who went live after an event was
//! published stands behind those who were live before and needs a later one: there a publication
//! ends.
//!
//! ```text
//!   waiting   event 7 ─► event 8 ─► ...         ring    a ⇄ b ⇄ c ⇄ d   (d went live just now)
//!   the cursor is at b                          next    8   7   7   9
//! ```

use std::collections::VecDeque;

use crate::id::ConnectionId;

use super::subscriptions::{Ring, State};
use super::{Event, Name, SubscriptionKey, Topics};

/// An event for one live subscriber.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose it is.
    pub connection: ConnectionId,
    /// By which subscription.
    pub subscription: SubscriptionKey,
    /// The topic, shared.
    pub topic: Name,
    /// What was published, shared.
    pub event: Event,
    /// Events before this one were dropped ([`Topics::mark_lost`]): a gap is to be told first,
    /// with this event's id.
    pub gap: bool,
}

/// The publications that not every subscriber has been given.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    waiting: VecDeque<Publication>,
    /// To whom the first publication goes next; none if it has not begun.
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
    /// Takes out the next event for one live subscriber; none if everybody has everything.
    ///
    /// For each subscriber ids come in ascending order, over all its topics. Between calls anybody
    /// may publish, subscribe, unsubscribe or be marked: nobody is skipped, nobody is asked twice.
    /// A call takes constant time for each delivery and for each publication that ends.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        loop {
            let Publication { topic: slot, ordinal, ref event } = *self.fan_out.waiting.front()?;
            let topic = &self.table[slot];
            let key = self.fan_out.cursor.or(topic.live.key());
            let Some(key) = key.filter(|&key| self.subscriptions[key].next <= ordinal) else {
                self.finish_publication();
                continue;
            };
            let following = self.subscriptions.following(Ring::Topic, &topic.live, key);
            let subscription = &mut self.subscriptions[key];
            debug_assert_eq!(subscription.next, ordinal, "a live subscription misses nothing");
            subscription.next = ordinal + 1;
            let state = std::mem::replace(&mut subscription.state, State::Live);
            let delivery = Delivery {
                connection: subscription.connection,
                subscription: key,
                topic: topic.name.clone(),
                event: event.clone(),
                gap: state == State::Lost,
            };
            self.move_cursor(following);
            return Some(delivery);
        }
    }

    /// Says whether [`poll_delivery`](Topics::poll_delivery) has something to do.
    pub fn has_deliveries(&self) -> bool {
        !self.fan_out.waiting.is_empty()
    }

    /// Gives how many published events are still on their way to subscribers.
    pub fn waiting_events(&self) -> usize {
        self.fan_out.waiting.len()
    }

    /// Gives the payload bytes of the events still on their way. Most are retained too and then
    /// shared with the log.
    ///
    /// Nothing here bounds it: whoever publishes faster than the loop delivers must be held up.
    pub fn waiting_bytes(&self) -> usize {
        self.fan_out.payload_bytes
    }

    /// Sends an event that was appended at `ordinal` on its way, if anybody is live.
    pub(super) fn fan_out(&mut self, slot: u32, ordinal: u64, event: Event) {
        let topic = &mut self.table[slot];
        if topic.live.is_none() {
            return;
        }
        topic.on_their_way += 1;
        self.fan_out.payload_bytes += event.payload.len();
        self.fan_out.waiting.push_back(Publication { topic: slot, ordinal, event });
    }

    /// Takes a live subscription out of its topic's ring, also if the fan-out is just there.
    pub(super) fn leave_live(&mut self, key: SubscriptionKey) {
        let slot = self.subscriptions[key].topic;
        if self.fan_out.cursor == Some(key) {
            let live = &self.table[slot].live;
            self.move_cursor(self.subscriptions.following(Ring::Topic, live, key));
        }
        self.subscriptions.unlink(Ring::Topic, &mut self.table[slot].live, key);
    }

    /// Goes on with the next subscriber of the first publication; without one that is done.
    fn move_cursor(&mut self, following: Option<SubscriptionKey>) {
        match following {
            Some(key) => self.fan_out.cursor = Some(key),
            None => self.finish_publication(),
        }
    }

    fn finish_publication(&mut self) {
        let fan_out = &mut self.fan_out;
        fan_out.cursor = None;
        let done = fan_out.waiting.pop_front().expect("the first publication was under way");
        fan_out.payload_bytes -= done.event.payload.len();
        if fan_out.waiting.is_empty() {
            fan_out.waiting.shrink_to(KEPT_MAX);
        }
        self.table[done.topic].on_their_way -= 1;
        self.table.forget_if_unused(done.topic);
    }

    /// Holds each topic's ring and what is on its way against each other.
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
            let (_, ahead) = live.split_at(cursor.unwrap_or(0));
            assert!(ahead.is_sorted_by_key(|&key| self.subscriptions[key].next));
        }
    }
}

/// Places in the queue that are kept while it is empty: 4 KiB.
const KEPT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::{Peer, check, publish, topics};
    use super::super::{After, EventId};
    use super::*;

    /// Takes out all deliveries: who got which id.
    fn deliveries(topics: &mut Topics) -> Vec<(u32, EventId)> {
        let all = std::iter::from_fn(|| {
            let delivery = topics.poll_delivery()?;
            check(topics);
            Some((delivery.connection.key() as u32, delivery.event.id))
        });
        all.collect()
    }

    #[test]
    fn each_live_subscriber_gets_each_event_once_in_order() {
        let mut topics = topics();
        let _peers: Vec<_> = (0..3).map(|n| Peer::live(&mut topics, n, "a")).collect();
        let first = publish(&mut topics, 1, "a", "x");
        let second = publish(&mut topics, 1, "a", "y");
        let expected = [(0, first), (1, first), (2, first), (0, second), (1, second), (2, second)];
        assert_eq!(deliveries(&mut topics), expected);
        assert_eq!((topics.waiting_events(), topics.waiting_bytes()), (0, 0));
    }

    // FAULTS 130: whoever leaves in the middle of a fan-out, nobody is skipped, nobody twice.
    #[test]
    fn leaving_inside_a_fan_out_skips_nobody() {
        for given in 0..4 {
            for leaver in 0..4 {
                let mut topics = topics();
                let mut peers: Vec<_> = (0..4).map(|n| Peer::live(&mut topics, n, "a")).collect();
                let first = publish(&mut topics, 1, "a", "x");
                let second = publish(&mut topics, 2, "a", "y");
                for _ in 0..given {
                    topics.poll_delivery().unwrap();
                }
                peers[leaver].leave(&mut topics);
                let stays = |&n: &u32| n as usize != leaver;
                let rest = (given as u32..4).filter(stays).map(|n| (n, first));
                let all = (0..4).filter(stays).map(|n| (n, second));
                assert_eq!(deliveries(&mut topics), rest.chain(all).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn joining_inside_a_fan_out_begins_with_the_next_event() {
        for given in 0..3 {
            let mut topics = topics();
            let _peers = [Peer::live(&mut topics, 0, "a"), Peer::live(&mut topics, 1, "a")];
            let first = publish(&mut topics, 1, "a", "x");
            let second = publish(&mut topics, 1, "a", "y");
            for _ in 0..given {
                topics.poll_delivery();
            }
            let _late = Peer::live(&mut topics, 2, "a");
            let third = publish(&mut topics, 1, "a", "z");
            let firsts = [(0, first), (1, first)].into_iter().skip(given);
            let rest = [(0, second), (1, second), (0, third), (1, third), (2, third)];
            assert_eq!(deliveries(&mut topics), firsts.chain(rest).collect::<Vec<_>>());
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
        let expected: Vec<_> = ids.iter().flat_map(|&id| [(0, id), (1, id)]).collect();
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
