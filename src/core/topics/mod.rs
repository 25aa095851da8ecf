//! Topics: publish once, reach each subscriber, and let each come back to where it was.
//!
//! ```text
//!   publish ──► Issuer ──► Log of the topic ─────poll_replay──► who still reads the past
//!                 id         │   evict: count,
//!                            │   bytes, age, memory
//!                            └─► FanOut ─────────poll_delivery──► who is live
//! ```
//!
//! Replay is pulled, by the code that drains a subscriber's outbox; live events are pushed. The
//! border between the two is one number for each subscription, so that it has neither a hole nor a
//! duplicate. What a subscriber cannot be given is told as a gap.
//!
//! A caller encodes: here are ids, payloads and their subscribers. Nothing here knows a socket, a
//! thread or a clock, and no decision depends on the order of a hash.

mod audience;
mod error;
mod fan_out;
pub mod id;
#[cfg(feature = "store")]
mod kept;
pub mod log;
mod logged;
mod name;
mod payload;
#[cfg(feature = "presence")]
pub mod presence;
#[cfg(feature = "bridge")]
mod readers;
mod replay;
mod retention;
mod subscriptions;
mod table;

#[cfg(feature = "cluster")]
use std::collections::BTreeMap;
use std::fmt;

use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;

pub use audience::Change;
pub use error::{PublishError, SubscribeError};
pub use fan_out::{Delivery, TOGETHER_MAX};
pub use id::EventId;
#[cfg(feature = "store")]
pub use kept::{IsDurable, Kept, Past};
pub use name::{BadName, Name};
pub use payload::{Content, Event, Payload};
#[cfg(feature = "bridge")]
pub use readers::{ReaderKey, Reading, Wants, What};
pub use replay::{After, Gap, Replay};
pub use retention::Rules;
pub use subscriptions::{FirstSubscription, SubscriptionKey};

use audience::Audience;
use fan_out::FanOut;
use id::Issuer;
#[cfg(feature = "store")]
use kept::Keeping;
use log::Log;
#[cfg(feature = "bridge")]
use readers::Readers;
use subscriptions::{Ring, State, Subscription, Subscriptions};
use table::Table;

/// All topics of a server: their logs and their subscriptions.
// Invariants:
// - A subscription is in the ring of its connection; in that of its topic exactly if it is live.
// - The fan-out holds, in the order of ids, every event that a live subscription has yet to get.
// - In a topic's ring, a subscription needs no earlier event than the subscription before it.
//   Except: those before the fan-out's cursor are ahead by the events that go together, and the one
//   at the cursor by some of these.
pub struct Topics {
    rules: Rules,
    issuer: Issuer,
    table: Table,
    subscriptions: Subscriptions,
    fan_out: FanOut,
    published: u64,
    /// Before this position the log that is followed may have events that are not here.
    #[cfg(feature = "cluster")]
    floor: EventId,
    /// Subscribers who have come from another server that was ahead, and up to where they have all.
    #[cfg(feature = "cluster")]
    ahead: BTreeMap<SubscriptionKey, EventId>,
    /// Subscriptions looked at since [`Topics::take_looked_at`].
    looked_at: usize,
    /// What has become of topics' subscribers, if anybody is to be told.
    audience: Option<Box<Audience>>,
    /// What is given to a store, if there is one.
    #[cfg(feature = "store")]
    keeping: Option<Box<Keeping>>,
    /// What bridges read, if there are any.
    #[cfg(feature = "bridge")]
    readers: Option<Box<Readers>>,
}

impl Topics {
    /// Makes the topics of a process that drew the random number `process`; `unix_ms` is the wall
    /// clock, in milliseconds since 1970.
    pub fn new(rules: Rules, process: u16, unix_ms: u64) -> Topics {
        Topics {
            rules,
            issuer: Issuer::new(process, unix_ms),
            table: Table::default(),
            subscriptions: Subscriptions::default(),
            fan_out: FanOut::default(),
            published: 0,
            #[cfg(feature = "cluster")]
            floor: EventId::ZERO,
            #[cfg(feature = "cluster")]
            ahead: BTreeMap::new(),
            looked_at: 0,
            audience: None,
            #[cfg(feature = "store")]
            keeping: None,
            #[cfg(feature = "bridge")]
            readers: None,
        }
    }

    /// Publishes: appends to the topic's log, evicts what that pushes out, and sends the event on
    /// its way to live subscribers ([`poll_delivery`](Topics::poll_delivery)).
    ///
    /// The server's own topics are not refused here ([`Name::is_own`]).
    pub fn publish(
        &mut self,
        now: Instant,
        unix_ms: u64,
        topic: &str,
        content: impl Into<Content>,
    ) -> Result<EventId, PublishError> {
        let slot = self.find_or_make(topic)?;
        let (id, content) = (self.issuer.next(unix_ms), content.into());
        #[cfg(feature = "store")]
        self.give_to_store(slot, id, &content.payload);
        self.append(now, slot, id, content);
        Ok(id)
    }

    /// Appends an event to the log of its topic and sends it on its way. Its id is greater than all
    /// before.
    #[inline]
    fn append(&mut self, now: Instant, slot: u32, id: EventId, content: Content) {
        let Content { payload, trace } = content;
        let event = Event { id, payload, trace };
        let ordinal = self.table.change_log(slot, |log| {
            let ordinal = log.append(now, event.clone());
            #[cfg(feature = "deflate")]
            log.number_last(self.published + 1);
            self.rules.trim(now, log);
            ordinal
        });
        self.published += 1;
        #[cfg(feature = "bridge")]
        self.note_appended(slot, id);
        self.fan_out(slot, ordinal, event);
        self.table.forget_if_unused(slot);
    }

    /// Returns the newest event of a topic; `None` if none is retained.
    pub fn latest(&mut self, now: Instant, topic: &str) -> Option<Event> {
        let slot = self.find_trimmed(now, topic)?;
        self.table[slot].log.last()
    }

    /// Reads the retained events of a topic. A topic that does not exist is read as an empty one.
    pub fn read_after(&mut self, now: Instant, topic: &str, after: After) -> Read<'_> {
        let Some(slot) = self.find_trimmed(now, topic) else {
            let (state, _) = self.begin(&self.empty_log(topic), after);
            let gap = (state == State::Gap).then_some(Gap { first: None });
            let position = self.begun_at(self.table.forgotten());
            let position = self.read_from(after, position);
            return Read { gap, position, rest: None };
        };
        let log = &self.table[slot].log;
        let (state, from) = self.begin(log, after);
        let first = log.id(from);
        let gap = (state == State::Gap).then_some(Gap { first });
        let before = from.checked_sub(1).and_then(|ordinal| log.id(ordinal));
        let position = self.begun_at(before.unwrap_or(log.evicted()));
        let position = self.read_from(after, position);
        Read { gap, position, rest: Some((log, from)) }
    }

    /// Returns the position, in every topic, of a client that has seen everything published so far.
    pub fn position(&self) -> EventId {
        self.issuer.last()
    }

    /// Subscribes a connection to a topic; `list` is where it keeps its subscriptions.
    ///
    /// First comes a replay, [`poll_replay`](Topics::poll_replay), also with [`After::Now`]: it
    /// ends with `CaughtUp`. A connection that is subscribed already begins again from `after`,
    /// under the same key: what was on its way is not delivered, what replay finds comes again.
    /// With [`After::Now`] a loss that was not told yet is told as a gap.
    pub fn subscribe(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        list: &mut FirstSubscription,
        topic: &str,
        after: After,
    ) -> Result<SubscriptionKey, SubscribeError> {
        let found = self.find_subscription(list, topic);
        let count = self.subscriptions_of(list).count();
        self.looked_at += count;
        if let Some(key) = found {
            if self.is_live(key) {
                self.leave_live(key);
            }
            let slot = self.subscriptions[key].topic;
            let (mut state, next) = self.begin_trimmed(now, slot, after);
            let subscription = &mut self.subscriptions[key];
            let is_untold = matches!(subscription.state, State::Lost | State::Gap);
            if after == After::Now && is_untold {
                state = State::Gap;
            }
            (subscription.state, subscription.next) = (state, next);
            #[cfg(feature = "cluster")]
            self.note_ahead(key, after);
            return Ok(key);
        }
        if count >= self.rules.subscriptions_max {
            return Err(SubscribeError::SubscriptionsFull);
        }
        let untold = self.audience.as_ref().map_or(0, |audience| audience.len());
        if untold >= self.rules.topics_max && self.table.find(topic).is_none() {
            return Err(SubscribeError::TopicsFull);
        }
        let slot = self.find_or_make(topic)?;
        self.table[slot].subscribers += 1;
        if self.table[slot].subscribers == 1 {
            self.note_change(slot, Change::First);
        }
        let (state, next) = self.begin_trimmed(now, slot, after);
        let key = self.subscriptions.insert(Subscription::new(connection, slot, state, next));
        self.subscriptions.link(Ring::Connection, list, key);
        #[cfg(feature = "cluster")]
        self.note_ahead(key, after);
        Ok(key)
    }

    /// Ends a subscription: nothing more is delivered for it. Takes constant time.
    ///
    /// # Panics
    ///
    /// If `key` names no subscription. It must be one of `list`.
    pub fn unsubscribe(&mut self, list: &mut FirstSubscription, key: SubscriptionKey) {
        if self.is_live(key) {
            self.leave_live(key);
        }
        self.subscriptions.unlink(Ring::Connection, list, key);
        #[cfg(feature = "cluster")]
        self.ahead.remove(&key);
        let Subscription { topic: slot, .. } = self.subscriptions.remove(key);
        self.table[slot].subscribers -= 1;
        if self.table[slot].subscribers == 0 {
            self.note_change(slot, Change::Last);
        }
        self.table.forget_if_unused(slot);
    }

    /// Ends all subscriptions of a connection.
    pub fn unsubscribe_all(&mut self, list: &mut FirstSubscription) {
        while let Some(key) = list.key() {
            self.unsubscribe(list, key);
        }
    }

    /// Returns a connection's subscription to a topic; `None` if there is none. Takes time by the
    /// number of its subscriptions.
    pub fn find_subscription(
        &mut self,
        list: &FirstSubscription,
        topic: &str,
    ) -> Option<SubscriptionKey> {
        let slot = self.table.find(topic)?;
        self.find_of(list, |subscription| subscription.topic == slot)
    }

    /// Returns how many subscriptions were looked at since the last call: the caller charges them
    /// to the turn. Calls that take time by a connection's number of subscriptions count here.
    pub fn take_looked_at(&mut self) -> usize {
        std::mem::take(&mut self.looked_at)
    }

    fn find_of(
        &mut self,
        list: &FirstSubscription,
        is_wanted: impl Fn(&Subscription) -> bool,
    ) -> Option<SubscriptionKey> {
        let mut looked_at = 0;
        let found = self.subscriptions_of(list).find(|&key| {
            looked_at += 1;
            is_wanted(&self.subscriptions[key])
        });
        self.looked_at += looked_at;
        found
    }

    /// Returns a connection's subscriptions, in their order.
    pub fn subscriptions_of(
        &self,
        list: &FirstSubscription,
    ) -> impl Iterator<Item = SubscriptionKey> {
        self.subscriptions.iter(Ring::Connection, list)
    }

    /// Returns whether each of a connection's subscriptions is live, and has lost nothing.
    pub fn are_all_given(&self, list: &FirstSubscription) -> bool {
        self.subscriptions_of(list).all(|key| self.subscriptions[key].state == State::Live)
    }

    /// Returns the topic of a subscription.
    ///
    /// # Panics
    ///
    /// If `key` names no subscription.
    pub fn topic_of(&self, key: SubscriptionKey) -> &Name {
        &self.table[self.subscriptions[key].topic].name
    }

    /// Notes that an event given for this subscription was not sent: its next event comes with a
    /// gap. Does nothing if the subscription has ended.
    pub fn mark_lost(&mut self, connection: ConnectionId, key: SubscriptionKey) {
        let subscription = self.subscriptions.get(key);
        if subscription.is_some_and(|subscription| subscription.connection == connection) {
            let state = &mut self.subscriptions[key].state;
            *state = if state.is_live() { State::Lost } else { State::Gap };
        }
    }

    /// Takes out a connection's next live subscription that has lost events, `behind` the one that
    /// was returned last. Its gap can be told at once; what follows the gap is not known yet.
    ///
    /// For a connection that has been given everything else and may get nothing more. Also before
    /// each event of a stream on which one id is the position in all topics: a client that comes
    /// back with that id does not ask for older events. All calls for one connection together take
    /// time by the number of its subscriptions.
    pub fn poll_lost(
        &mut self,
        list: &FirstSubscription,
        behind: Option<SubscriptionKey>,
    ) -> Option<SubscriptionKey> {
        let mut next = match behind {
            None => list.key(),
            Some(key) => self.subscriptions.following(Ring::Connection, list, key),
        };
        while let Some(key) = next {
            self.looked_at += 1;
            let state = &mut self.subscriptions[key].state;
            if *state == State::Lost {
                *state = State::Live;
                return Some(key);
            }
            next = self.subscriptions.following(Ring::Connection, list, key);
        }
        None
    }

    /// Returns the topic of a subscription; `None` if it is not this connection's. Once it has
    /// ended, another subscription may bear the same key.
    pub fn topic_for(&self, connection: ConnectionId, key: SubscriptionKey) -> Option<&Name> {
        let subscription = self.subscriptions.get(key)?;
        let is_own = subscription.connection == connection;
        is_own.then(|| &self.table[subscription.topic].name)
    }

    /// Returns which event of all topics an event of a subscription is, counted from 1, and the
    /// event before it in its topic with the same of that; `None` if the subscription has ended or
    /// the event is not retained.
    #[cfg(feature = "deflate")]
    pub fn with_before(
        &self,
        connection: ConnectionId,
        key: SubscriptionKey,
        event: EventId,
    ) -> Option<(u64, Option<(u64, Event)>)> {
        let subscription = self.subscriptions.get(key)?;
        let is_own = subscription.connection == connection;
        is_own.then(|| self.table[subscription.topic].log.with_before(event)).flatten()
    }

    /// Returns whether a topic has subscriptions, live or in replay.
    pub fn has_subscribers(&self, topic: &str) -> bool {
        self.table.find(topic).is_some_and(|slot| self.table[slot].subscribers > 0)
    }

    /// Takes note from now on of topics that get their first subscriber or lose their last one, for
    /// [`Topics::poll_change`]. Until a change has been told its topic counts against the number of
    /// topics for those that come.
    pub fn watch_audience(&mut self) {
        self.audience.get_or_insert_default();
    }

    /// Returns whether changes are noted.
    #[inline]
    pub fn is_audience_watched(&self) -> bool {
        self.audience.is_some()
    }

    /// Takes the next change to tell. The next one of the same topic waits for
    /// [`Topics::note_change_told`].
    pub fn poll_change(&mut self) -> Option<(Name, Change)> {
        self.audience.as_mut()?.poll()
    }

    /// Notes that the change of a topic has been told.
    pub fn note_change_told(&mut self, topic: &Name) {
        if let Some(audience) = &mut self.audience {
            audience.note_told(topic);
        }
    }

    fn note_change(&mut self, slot: u32, change: Change) {
        if let Some(audience) = &mut self.audience {
            audience.note(&self.table[slot].name, change);
        }
    }

    /// Returns the number of topics.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there is no topic.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of subscriptions of all connections.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Returns how many events were ever published.
    pub fn events_published(&self) -> u64 {
        self.published
    }

    /// Returns the memory of all events retained: payloads, and [`Log::EVENT_BYTES`] for each.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Returns whether an event of this topic can be kept: the topic exists, or one more topic may
    /// be made.
    pub fn has_room_for(&self, topic: &str) -> bool {
        self.table.find(topic).is_some() || self.table.len() < self.rules.topics_max
    }

    fn find_or_make(&mut self, topic: &str) -> Result<u32, PublishError> {
        if let Some(slot) = self.table.find(topic) {
            return Ok(slot);
        }
        let name = topic.parse().map_err(|BadName| PublishError::BadName)?;
        if self.table.len() >= self.rules.topics_max {
            return Err(PublishError::TopicsFull);
        }
        let log = self.empty_log(topic);
        let slot = self.table.insert(name, log);
        #[cfg(feature = "bridge")]
        self.note_topic_made(slot);
        Ok(slot)
    }

    /// Returns the log of a topic that does not exist. It may be a forgotten one, so positions
    /// before the forgotten topics' newest evicted id are gaps.
    fn empty_log(&self, topic: &str) -> Log {
        let log = Log::new(self.table.forgotten());
        #[cfg(feature = "store")]
        let log = log.kept_if(self.keeps(topic));
        #[cfg(not(feature = "store"))]
        let _ = topic;
        log
    }

    /// Finds a topic and evicts what is older than the rules allow. `None` if the topic does not
    /// exist, or is forgotten by that.
    fn find_trimmed(&mut self, now: Instant, topic: &str) -> Option<u32> {
        let slot = self.table.find(topic)?;
        self.table.change_log(slot, |log| self.rules.trim(now, log));
        self.table.forget_if_unused(slot);
        self.table.find(topic)
    }

    fn begin_trimmed(&mut self, now: Instant, slot: u32, after: After) -> (State, u64) {
        self.table.change_log(slot, |log| self.rules.trim(now, log));
        self.begin(&self.table[slot].log, after)
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("topics", &self.len())
            .field("subscriptions", &self.subscriptions())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// What is retained of a topic after a position.
#[derive(Debug)]
pub struct Read<'a> {
    /// Events are missing before the first one.
    pub gap: Option<Gap>,
    position: EventId,
    rest: Option<(&'a Log, u64)>,
}

impl<'a> Read<'a> {
    /// Returns the events, in the order of their ids.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<'a> {
        self.rest.into_iter().flat_map(|(log, from)| log.events_from(from))
    }

    /// Returns the position, good for this topic, after which the events come.
    pub fn position(&self) -> EventId {
        self.position
    }

    /// Returns the id of the last event, or, if there is none, the position.
    pub fn last(&self) -> EventId {
        let last = self.rest.and_then(|(log, _)| log.last_id());
        last.map_or(self.position, |last| last.max(self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;

    pub(in crate::core::topics) const NOW: Instant = Instant::from_millis(1000);
    pub(in crate::core::topics) const PROCESS: u16 = 7;

    pub(in crate::core::topics) fn topics() -> Topics {
        Topics::new(Rules::default(), PROCESS, 1000)
    }

    /// Publishes at `ms` after the beginning.
    pub(in crate::core::topics) fn publish(
        topics: &mut Topics,
        ms: u64,
        topic: &str,
        text: &str,
    ) -> EventId {
        let now = Instant::from_millis(ms);
        topics.publish(now, 1000 + ms, topic, Payload::text(text)).unwrap()
    }

    /// The ids that are retained of a topic.
    pub(in crate::core::topics) fn ids(topics: &Topics, topic: &str) -> Vec<EventId> {
        let log = topics.table.find(topic).map(|slot| &topics.table[slot].log);
        log.into_iter().flat_map(|log| log.events_from(0)).map(|event| event.id).collect()
    }

    /// Checks the invariants of all topics.
    pub(in crate::core::topics) fn check(topics: &Topics) {
        topics.table.check();
        topics.check_fan_out();
    }

    /// A connection, as far as topics know it.
    pub(in crate::core::topics) struct Peer {
        pub id: ConnectionId,
        pub list: FirstSubscription,
    }

    impl Peer {
        pub fn new(key: usize) -> Peer {
            Peer { id: ConnectionId::new(key, Generation::FIRST), list: FirstSubscription::NONE }
        }

        pub fn live(topics: &mut Topics, key: usize, topic: &str) -> Peer {
            let mut peer = Peer::new(key);
            let key = peer.subscribe(topics, topic, After::Now);
            assert!(peer.replay(topics, key).is_empty());
            peer
        }

        pub fn subscribe(
            &mut self,
            topics: &mut Topics,
            topic: &str,
            after: After,
        ) -> SubscriptionKey {
            topics.subscribe(NOW, self.id, &mut self.list, topic, after).unwrap()
        }

        /// Replays to the end, without a gap.
        pub fn replay(&self, topics: &mut Topics, key: SubscriptionKey) -> Vec<EventId> {
            let mut ids = Vec::new();
            while let Some(step) = topics.poll_replay(key) {
                match step {
                    Replay::Gap(gap) => panic!("{gap:?}"),
                    Replay::Event(event) => ids.push(event.id),
                    Replay::CaughtUp(last) => assert_eq!(last, topics.position()),
                }
            }
            ids
        }

        pub fn leave(&mut self, topics: &mut Topics) {
            topics.unsubscribe_all(&mut self.list);
        }
    }

    // FAULTS 132: a client that subscribes to a million topics is capped, and its memory returns.
    #[test]
    fn what_a_client_takes_is_capped_and_returns() {
        let mut topics = topics();
        topics.rules.topics_max = 100;
        let mut greedy = Peer::new(0);
        let mut others: Vec<_> = (1..=3).map(Peer::new).collect();
        let try_all = |topics: &mut Topics, peer: &mut Peer, from: u32, error| {
            let subscribed = (from..from + 1000).filter(|n| {
                let name = format!("t{n}");
                let result = topics.subscribe(NOW, peer.id, &mut peer.list, &name, After::Now);
                assert!(result.is_ok() || result == Err(error), "{result:?}");
                result.is_ok()
            });
            subscribed.count()
        };
        let full = SubscribeError::SubscriptionsFull;
        assert_eq!(try_all(&mut topics, &mut greedy, 0, full), 64);
        assert_eq!(topics.len(), 64);
        let full = SubscribeError::TopicsFull;
        assert_eq!(try_all(&mut topics, &mut others[0], 5000, full), 36);
        let error = topics.publish(NOW, 0, "one-more", Payload::text("x"));
        assert_eq!(error, Err(PublishError::TopicsFull));
        assert_eq!((topics.len(), topics.subscriptions()), (100, 100));
        greedy.leave(&mut topics);
        assert_eq!((topics.len(), topics.subscriptions()), (36, 36));
        others[0].leave(&mut topics);
        assert_eq!((topics.len(), topics.subscriptions()), (0, 0));
        check(&topics);
    }

    #[test]
    fn a_bad_name_makes_no_topic() {
        let mut topics = topics();
        let mut peer = Peer::new(0);
        for name in ["", "a b", "*"] {
            let error = topics.publish(NOW, 0, name, Payload::text("x"));
            assert_eq!(error, Err(PublishError::BadName));
            let error = topics.subscribe(NOW, peer.id, &mut peer.list, name, After::Now);
            assert_eq!(error, Err(SubscribeError::BadName));
            assert!(topics.latest(NOW, name).is_none());
        }
        assert_eq!((topics.len(), topics.events_published()), (0, 0));
    }

    #[test]
    fn a_topic_exists_while_it_is_retained_or_subscribed_to() {
        let mut topics = topics();
        let mut peer = Peer::new(0);
        peer.subscribe(&mut topics, "$stats", After::Now);
        assert!(topics.has_subscribers("$stats"));
        let id = publish(&mut topics, 0, "$stats", "x");
        peer.leave(&mut topics);
        assert!(!topics.has_subscribers("$stats"));
        assert_eq!(topics.latest(NOW, "$stats").unwrap().id, id);
        let much_later = Instant::from_millis(10_000_000);
        assert!(topics.latest(much_later, "$stats").is_none());
        assert_eq!((topics.len(), topics.position()), (0, id));
    }

    #[test]
    fn one_subscription_among_many_ends() {
        let mut topics = topics();
        let mut peer = Peer::new(0);
        let [a, b, c] = ["a", "b", "c"].map(|name| {
            let key = peer.subscribe(&mut topics, name, After::Now);
            assert!(peer.replay(&mut topics, key).is_empty());
            key
        });
        topics.unsubscribe(&mut peer.list, b);
        assert_eq!(topics.subscriptions_of(&peer.list).collect::<Vec<_>>(), [a, c]);
        assert_eq!(topics.find_subscription(&peer.list, "b"), None);
        assert_eq!(topics.find_subscription(&peer.list, "c"), Some(c));
        assert_eq!(topics.topic_of(c).as_str(), "c");
        topics.mark_lost(peer.id, b);
        for name in ["a", "b", "c"] {
            publish(&mut topics, 1, name, "x");
        }
        let delivered: Vec<_> = std::iter::from_fn(|| topics.poll_delivery()).collect();
        let names: Vec<_> =
            delivered.iter().map(|one| topics.topic_of(one.subscription).as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(delivered.iter().all(|delivery| !delivery.gap));
    }

    #[test]
    fn a_stale_key_marks_nobody_else() {
        let mut topics = topics();
        let mut gone = Peer::live(&mut topics, 0, "a");
        let key = gone.list.key().unwrap();
        gone.leave(&mut topics);
        let next = Peer::live(&mut topics, 1, "a");
        assert_eq!(next.list.key(), Some(key), "the slot is used again");
        topics.mark_lost(gone.id, key);
        publish(&mut topics, 1, "a", "x");
        assert!(!topics.poll_delivery().unwrap().gap);
    }

    #[test]
    fn a_loss_during_replay_is_a_gap_of_the_replay() {
        let mut topics = topics();
        let ids = [0, 1].map(|ms| publish(&mut topics, ms, "a", "x"));
        let mut peer = Peer::new(0);
        let key = peer.subscribe(&mut topics, "a", After::Position(EventId::ZERO));
        assert!(matches!(topics.poll_replay(key), Some(Replay::Event(_))));
        topics.mark_lost(peer.id, key);
        assert_eq!(topics.poll_replay(key), Some(Replay::Gap(Gap { first: Some(ids[1]) })));
        assert_eq!(peer.replay(&mut topics, key), [ids[1]]);
        assert!(topics.is_live(key));
    }

    // No look was charged: a turn took time by the number of a client's subscriptions.
    #[test]
    fn what_takes_time_by_the_number_of_subscriptions_is_counted() {
        const COUNT: usize = 50;
        let mut topics = topics();
        let mut peer = Peer::new(0);
        for n in 0..COUNT {
            peer.subscribe(&mut topics, &format!("t{n}"), After::Position(EventId::ZERO));
            let looked_at = topics.take_looked_at();
            assert!((n..=2 * n).contains(&looked_at), "{n}: {looked_at}");
        }
        publish(&mut topics, 1, "t7", "x");
        assert!(matches!(topics.poll_replay_merged(&peer.list), Some((_, Replay::Event(_)))));
        assert_eq!(topics.take_looked_at(), COUNT);
        assert!(matches!(topics.poll_replay_next(&peer.list), Some((_, Replay::CaughtUp(_)))));
        assert_eq!(topics.take_looked_at(), 1);
        let key = topics.find_subscription(&peer.list, "t30").unwrap();
        assert_eq!(topics.take_looked_at(), 31);
        while topics.poll_replay_next(&peer.list).is_some() {}
        topics.take_looked_at();
        topics.mark_lost(peer.id, key);
        assert_eq!(topics.poll_lost(&peer.list, None), Some(key));
        assert_eq!(topics.take_looked_at(), 31);
        publish(&mut topics, 2, "t7", "x");
        assert!(topics.poll_delivery().is_some());
        assert_eq!(topics.take_looked_at(), 0, "a delivery takes constant time");
    }

    #[test]
    fn losses_of_a_connection_are_asked_for_one_by_one() {
        let mut topics = topics();
        let mut peer = Peer::new(0);
        let keys = ["a", "b", "c"].map(|name| {
            let key = peer.subscribe(&mut topics, name, After::Now);
            peer.replay(&mut topics, key);
            key
        });
        topics.mark_lost(peer.id, keys[0]);
        topics.mark_lost(peer.id, keys[2]);
        let mut behind = None;
        let lost = std::iter::from_fn(|| {
            behind = topics.poll_lost(&peer.list, behind);
            behind
        });
        assert_eq!(lost.collect::<Vec<_>>(), [keys[0], keys[2]]);
        assert_eq!(topics.poll_lost(&peer.list, None), None, "each is told once");
    }
}
