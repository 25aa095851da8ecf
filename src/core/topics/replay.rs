//! From a position in the past to live: what a subscriber missed, pulled from the log step by step.
//!
//! ```text
//!   subscribe ──► Gap ──────► Replaying ─────────► Live ──► Lost
//!                  ▲  gap told    │ ▲ │  caught up    ▲        │
//!                  └──────────────┘ └─┘ event         └────────┘
//!                     evicted                      delivered with a gap
//! ```
//!
//! Whether a position is good is decided here and nowhere else. A position that is not good is told
//! as a gap: perhaps needlessly, but none is left out.

use super::log::Log;
use super::subscriptions::{Ring, State};
use super::{Event, EventId, FirstSubscription, SubscriptionKey, Topics};

/// Where a reader wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With the events published from now on.
    Now,
    /// After this position; `0-0` is the beginning.
    Position(EventId),
    /// With everything retained, after a gap: what the client sent is no position.
    Garbage,
}

impl After {
    /// Reads what a client gave as its last id.
    pub fn parse(text: &str) -> After {
        text.parse().map_or(After::Garbage, After::Position)
    }
}

/// Events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The id of the first event that follows; `None` if nothing is retained.
    pub first: Option<EventId>,
}

/// One step of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Events are missing here.
    Gap(Gap),
    /// The next event.
    Event(Event),
    /// Nothing is left: the subscriber is live from now on. The id is its position now, good for
    /// all topics that it has caught up with. Returned once.
    CaughtUp(EventId),
}

impl Topics {
    /// Returns the next step of a subscription's replay; `None` if the subscription is live.
    ///
    /// An event evicted before its turn is a gap, and replay goes on with the first that is
    /// retained. Takes constant time.
    pub fn poll_replay(&mut self, key: SubscriptionKey) -> Option<Replay> {
        self.pass_ahead(key);
        Some(match self.next_step(key)? {
            Step::Gap { first, next } => {
                self.pass_gap(key, next);
                Replay::Gap(Gap { first })
            }
            Step::Event(event) => {
                self.subscriptions[key].next += 1;
                Replay::Event(event)
            }
            Step::End => {
                self.go_live(key);
                Replay::CaughtUp(self.caught_up(key))
            }
        })
    }

    /// Passes over what a subscriber has been given by another server, which was ahead.
    #[inline]
    fn pass_ahead(&mut self, key: SubscriptionKey) {
        #[cfg(feature = "cluster")]
        if let Some(until) = self.ahead.get(&key) {
            let subscription = &mut self.subscriptions[key];
            if matches!(subscription.state, State::Replaying | State::Gap) {
                let after = self.table[subscription.topic].log.after(*until);
                subscription.next = subscription.next.max(after);
            }
        }
        #[cfg(not(feature = "cluster"))]
        let _ = key;
    }

    /// Returns the position of a subscriber that has caught up.
    #[inline]
    fn caught_up(&self, key: SubscriptionKey) -> EventId {
        let last = self.issuer.last();
        #[cfg(feature = "cluster")]
        let last = self.ahead.get(&key).map_or(last, |until| last.max(*until));
        #[cfg(not(feature = "cluster"))]
        let _ = key;
        last
    }

    /// Takes the gap that is a replay's next step, for a caller with another way to tell it. `None`
    /// if the next step is no gap. What is evicted after this is another gap.
    pub fn poll_gap(&mut self, key: SubscriptionKey) -> Option<Gap> {
        let Step::Gap { first, next } = self.next_step(key)? else { return None };
        self.pass_gap(key, next);
        Some(Gap { first })
    }

    /// Returns the next step of all replays of a connection as one, in the order of ids, and its
    /// subscription; `None` if all are live. A gap comes as soon as it is known.
    ///
    /// For a stream on which one id is the position in all its topics. They go live together, which
    /// is told once, for one of them. Otherwise an event of a live topic would overtake older
    /// events of a topic still in replay. So subscribe to all topics before the first call, and do
    /// not call [`poll_replay`](Topics::poll_replay) beside it. Takes time by the number of
    /// subscriptions.
    pub fn poll_replay_merged(
        &mut self,
        list: &FirstSubscription,
    ) -> Option<(SubscriptionKey, Replay)> {
        #[cfg(feature = "cluster")]
        self.pass_all_ahead(list);
        let mut looked_at = 0;
        let steps = self.subscriptions.iter(Ring::Connection, list);
        let steps = steps.inspect(|_| looked_at += 1);
        let steps = steps.filter_map(|key| Some((self.rank(key)?, key)));
        let foremost = steps.min_by_key(|&(rank, _)| rank);
        self.looked_at += looked_at;
        let (rank, foremost) = foremost?;
        if rank != Rank::End {
            return Some((foremost, self.poll_replay(foremost)?));
        }
        let mut following = Some(foremost);
        while let Some(key) = following {
            if !self.is_live(key) {
                self.go_live(key);
            }
            following = self.subscriptions.following(Ring::Connection, list, key);
        }
        Some((foremost, Replay::CaughtUp(self.caught_up(foremost))))
    }

    #[cfg(feature = "cluster")]
    fn pass_all_ahead(&mut self, list: &FirstSubscription) {
        if !self.ahead.is_empty() {
            let keys: Vec<_> = self.subscriptions.iter(Ring::Connection, list).collect();
            keys.into_iter().for_each(|key| self.pass_ahead(key));
        }
    }

    /// Returns the next step of a connection's first subscription that has not caught up, and that
    /// subscription; `None` if all are live. Takes time by the number of subscriptions before it.
    pub fn poll_replay_next(
        &mut self,
        list: &FirstSubscription,
    ) -> Option<(SubscriptionKey, Replay)> {
        let key = self.find_of(list, |subscription| !subscription.state.is_live())?;
        Some((key, self.poll_replay(key)?))
    }

    /// Returns whether a subscription's replay goes on with a gap.
    pub fn has_gap(&self, key: SubscriptionKey) -> bool {
        matches!(self.next_step(key), Some(Step::Gap { .. }))
    }

    /// Returns whether a subscription has caught up: its events are pushed.
    pub fn is_live(&self, key: SubscriptionKey) -> bool {
        self.subscriptions[key].state.is_live()
    }

    /// Returns how reading a log begins: with a gap or not, and at which ordinal.
    pub(super) fn begin(&self, log: &Log, after: After) -> (State, u64) {
        let (state, from) = self.begin_in(log, after);
        // What is behind a gap comes behind all that may be missing.
        #[cfg(feature = "cluster")]
        let from = if state == State::Gap { from.max(log.after(self.floor)) } else { from };
        (state, from)
    }

    fn begin_in(&self, log: &Log, after: After) -> (State, u64) {
        match after {
            After::Now => (State::Replaying, log.end()),
            After::Position(position) if self.is_good(log, position) => {
                (State::Replaying, log.after(position))
            }
            // What was evicted, or lost with a process before, is told; what is there follows.
            After::Position(position) if self.is_known(log, position) => {
                (State::Gap, log.after(position))
            }
            After::Position(_) | After::Garbage => (State::Gap, log.begin()),
        }
    }

    /// Returns whether everything in this log that was published after `position` is still there.
    fn is_good(&self, log: &Log, position: EventId) -> bool {
        let evicted = log.evicted();
        #[cfg(feature = "store")]
        let evicted = evicted.max(self.floor(log));
        let evicted = self.begun_at(evicted);
        self.is_known(log, position) && evicted <= position
    }

    /// Returns a position from which on nothing is missing, at or behind one that a log is complete
    /// from.
    #[inline]
    pub(super) fn begun_at(&self, position: EventId) -> EventId {
        #[cfg(feature = "cluster")]
        let position = position.max(self.floor);
        position
    }

    /// Returns the position that is told of what is read: not one before that of a client which is
    /// ahead.
    #[inline]
    pub(super) fn read_from(&self, after: After, position: EventId) -> EventId {
        #[cfg(feature = "cluster")]
        if let After::Position(ahead) = after
            && self.is_ahead(ahead)
        {
            return ahead;
        }
        let _ = after;
        position
    }

    /// Returns whether a position is one that another server has come to, and this one has not yet:
    /// of a log that servers share.
    #[cfg(feature = "cluster")]
    fn is_ahead(&self, position: EventId) -> bool {
        self.floor > EventId::ZERO && self.issuer.is_to_come(position)
    }

    /// Takes note whether a subscriber has been given by another server what is still to come here.
    #[cfg(feature = "cluster")]
    pub(super) fn note_ahead(&mut self, key: SubscriptionKey, after: After) {
        match after {
            // Before the log is reached nobody knows what is to come from it.
            After::Position(position)
                if self.is_ahead(position) || self.issuer.is_to_be_renewed() =>
            {
                self.ahead.insert(key, position);
            }
            _ => _ = self.ahead.remove(&key),
        }
    }

    /// Returns whether a live subscriber has been given an event by another server.
    #[inline]
    pub(super) fn has_been_given(&mut self, key: SubscriptionKey, event: EventId) -> bool {
        #[cfg(feature = "cluster")]
        if !self.ahead.is_empty()
            && let Some(until) = self.ahead.get(&key)
        {
            let is_given = event <= *until;
            if event >= *until {
                self.ahead.remove(&key);
            }
            return is_given;
        }
        let _ = (key, event);
        false
    }

    /// Returns whether it is known what was published after a position: after the beginning, after
    /// this process's own positions and, in durable topics, those of the processes before.
    fn is_known(&self, log: &Log, position: EventId) -> bool {
        let is_known = position == EventId::ZERO || self.issuer.issued(position);
        #[cfg(feature = "cluster")]
        let is_known = is_known || self.is_ahead(position);
        #[cfg(feature = "store")]
        let is_known = is_known || self.was_issued_before(log, position);
        #[cfg(not(feature = "store"))]
        let _ = log;
        is_known
    }

    fn next_step(&self, key: SubscriptionKey) -> Option<Step> {
        let subscription = &self.subscriptions[key];
        if subscription.state.is_live() {
            return None;
        }
        let log = &self.table[subscription.topic].log;
        let next = subscription.next.max(log.begin());
        if subscription.state == State::Gap || next > subscription.next {
            return Some(Step::Gap { first: log.id(next), next });
        }
        Some(log.event(next).map_or(Step::End, Step::Event))
    }

    /// Returns the rank of a replay's next step among those of others; `None` if it is live.
    fn rank(&self, key: SubscriptionKey) -> Option<Rank> {
        let subscription = &self.subscriptions[key];
        if subscription.state.is_live() {
            return None;
        }
        let log = &self.table[subscription.topic].log;
        let next = subscription.next.max(log.begin());
        Some(match log.id(next) {
            _ if subscription.state == State::Gap || next > subscription.next => Rank::Gap,
            Some(id) => Rank::Event(id),
            None => Rank::End,
        })
    }

    fn pass_gap(&mut self, key: SubscriptionKey, next: u64) {
        let subscription = &mut self.subscriptions[key];
        (subscription.state, subscription.next) = (State::Replaying, next);
    }

    /// Makes a subscription live when its replay has given the whole log: the fan-out gives it
    /// later events. Older events that the fan-out still holds are skipped, by their ordinals.
    fn go_live(&mut self, key: SubscriptionKey) {
        let subscription = &mut self.subscriptions[key];
        let topic = &mut self.table[subscription.topic];
        debug_assert_eq!(subscription.next, topic.log.end());
        subscription.state = State::Live;
        self.subscriptions.link(Ring::Topic, &mut topic.live, key);
    }
}

enum Step {
    Gap { first: Option<EventId>, next: u64 },
    Event(Event),
    End,
}

/// In which order the steps of several replays are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Gap,
    Event(EventId),
    End,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, PROCESS, Peer, check, publish, topics};
    use super::*;

    const GAP_NONE: Replay = Replay::Gap(Gap { first: None });

    fn gap(first: EventId) -> Replay {
        Replay::Gap(Gap { first: Some(first) })
    }

    #[test]
    fn a_position_is_good_only_if_nothing_after_it_can_be_missing() {
        let mut topics = topics();
        topics.rules.retain_events = 2;
        let born = topics.position();
        let id: Vec<_> = (1..=4).map(|n| publish(&mut topics, 10 * n, "a", "x")).collect();
        let elsewhere = publish(&mut topics, 50, "b", "x");
        let foreign = EventId::new(id[2].ms(), id[2].seq() + 1);
        let future = EventId::new(elsewhere.ms() + 1, elsewhere.seq());
        let between = EventId::new(id[2].ms() + 3, u64::from(PROCESS));
        let earlier = EventId::new(born.ms() - 1, born.seq());
        let cases = [
            (After::Now, "a", None, 0),
            (After::Garbage, "a", Some(Some(id[2])), 2),
            (After::Position(EventId::ZERO), "a", Some(Some(id[2])), 2),
            (After::Position(earlier), "a", Some(Some(id[2])), 2),
            (After::Position(born), "a", Some(Some(id[2])), 2),
            (After::Position(id[0]), "a", Some(Some(id[2])), 2),
            (After::Position(id[1]), "a", None, 2),
            (After::Position(id[2]), "a", None, 1),
            (After::Position(between), "a", None, 1),
            (After::Position(id[3]), "a", None, 0),
            (After::Position(elsewhere), "a", None, 0),
            (After::Position(foreign), "a", Some(Some(id[2])), 2),
            (After::Position(future), "a", Some(Some(id[2])), 2),
            (After::Position(EventId::ZERO), "b", None, 1),
            (After::Position(born), "b", None, 1),
            (After::Position(earlier), "b", Some(Some(elsewhere)), 1),
            (After::Position(EventId::ZERO), "unknown", None, 0),
            (After::Position(id[0]), "unknown", None, 0),
            (After::Position(future), "unknown", Some(None), 0),
            (After::Garbage, "unknown", Some(None), 0),
        ];
        for (after, topic, gap_first, events) in cases {
            let read = topics.read_after(NOW, topic, after);
            assert_eq!(read.gap.map(|gap| gap.first), gap_first, "{after:?} {topic}");
            assert_eq!(read.events().count(), events, "{after:?} {topic}");
            // A subscription says the same.
            let mut peer = Peer::new(0);
            let key = peer.subscribe(&mut topics, topic, after);
            let steps: Vec<_> = std::iter::from_fn(|| topics.poll_replay(key)).collect();
            let gaps = usize::from(gap_first.is_some());
            assert_eq!(steps.len(), gaps + events + 1, "{after:?} {topic}");
            assert_eq!(steps.last(), Some(&Replay::CaughtUp(elsewhere)));
            assert_eq!(steps[0] == Replay::Gap(Gap { first: gap_first.flatten() }), gaps == 1);
            peer.leave(&mut topics);
            check(&topics);
        }
    }

    #[test]
    fn a_forgotten_topic_is_a_gap_for_whom_it_may_have_had_events() {
        let mut topics = topics();
        let before = publish(&mut topics, 1, "other", "x");
        let forgotten = publish(&mut topics, 2, "a", "x");
        let later = publish(&mut topics, 3, "other", "x");
        let key_of_a = topics.table.find("a").unwrap();
        topics.table.change_log(key_of_a, Log::evict);
        topics.table.forget_if_unused(key_of_a);
        let cases = [(EventId::ZERO, true), (before, true), (forgotten, false), (later, false)];
        for round in ["forgotten", "made again"] {
            for (position, is_gap) in cases {
                let read = topics.read_after(NOW, "a", After::Position(position));
                assert_eq!(read.gap.is_some(), is_gap, "{position}, {round}");
            }
            publish(&mut topics, 4, "a", "x");
        }
    }

    #[test]
    fn replay_goes_live_without_hole_or_duplicate_while_others_publish() {
        for late in 0..4 {
            let mut topics = topics();
            let mut published: Vec<_> = (0..3).map(|n| publish(&mut topics, n, "a", "x")).collect();
            let mut peer = Peer::new(0);
            let key = peer.subscribe(&mut topics, "a", After::Position(EventId::ZERO));
            let _other = Peer::live(&mut topics, 1, "a");
            let mut got = Vec::new();
            for step in 0.. {
                if step >= late && step < late + 3 {
                    published.push(publish(&mut topics, 5, "a", "x"));
                }
                match topics.poll_replay(key) {
                    Some(Replay::Event(event)) => got.push(event.id),
                    Some(Replay::CaughtUp(last)) => assert_eq!(Some(&last), published.last()),
                    Some(Replay::Gap(_)) => panic!("nothing was evicted"),
                    None if step >= late + 3 => break,
                    None => {}
                }
            }
            while let Some(delivery) = topics.poll_delivery() {
                if delivery.connection == peer.id {
                    got.push(delivery.event.id);
                }
            }
            assert_eq!(got, published, "{late}");
        }
    }

    #[test]
    fn what_is_evicted_during_replay_is_a_gap() {
        let mut topics = topics();
        let ids: Vec<_> = (0..4).map(|n| publish(&mut topics, n, "a", "x")).collect();
        let mut peer = Peer::new(0);
        let key = peer.subscribe(&mut topics, "a", After::Position(EventId::ZERO));
        let step = |topics: &mut Topics| topics.poll_replay(key).unwrap();
        assert!(matches!(step(&mut topics), Replay::Event(event) if event.id == ids[0]));
        topics.trim_oldest();
        assert!(matches!(step(&mut topics), Replay::Event(event) if event.id == ids[1]));
        topics.trim_oldest();
        topics.trim_oldest();
        assert_eq!(step(&mut topics), gap(ids[3]));
        topics.trim_oldest();
        assert_eq!(step(&mut topics), GAP_NONE);
        assert_eq!(step(&mut topics), Replay::CaughtUp(ids[3]));
        assert_eq!(topics.poll_replay(key), None);
    }

    #[test]
    fn an_old_position_is_not_of_the_next_process() {
        let old = topics();
        let mut new = Topics::new(old.rules.clone(), PROCESS + 1, 5000);
        publish(&mut new, 1, "a", "x");
        // Nothing was published when the client asked the old process for its position.
        let read = new.read_after(NOW, "a", After::Position(old.position()));
        assert!(read.gap.is_some());
    }

    #[test]
    fn merged_replays_come_by_id_and_go_live_together() {
        let mut topics = topics();
        let names = ["a", "b", "c", "b", "a"];
        let mut published: Vec<_> =
            (0..5).map(|n| publish(&mut topics, n, names[n as usize], "x")).collect();
        let mut peer = Peer::new(0);
        for name in ["c", "b", "a"] {
            peer.subscribe(&mut topics, name, After::Position(EventId::ZERO));
        }
        let mut got = Vec::new();
        for step in 0.. {
            match topics.poll_replay_merged(&peer.list) {
                Some((_, Replay::Event(event))) => got.push(event.id),
                Some((_, Replay::CaughtUp(last))) => assert_eq!(Some(&last), published.last()),
                Some((_, Replay::Gap(_))) => panic!("nothing was evicted"),
                None => break,
            }
            // This replay is at its end before the others: it must wait for them.
            if step % 2 == 0 && step < 12 {
                published.push(publish(&mut topics, 9, names[step % 3], "x"));
            }
            while let Some(delivery) = topics.poll_delivery() {
                got.push(delivery.event.id);
            }
        }
        assert_eq!(got, published);
        check(&topics);
    }

    #[test]
    fn merged_replays_tell_gaps_of_each_topic() {
        let mut topics = topics();
        topics.rules.retain_events = 1;
        let ids: Vec<_> =
            (0..4).map(|n| publish(&mut topics, n, ["a", "b"][n as usize % 2], "x")).collect();
        let mut peer = Peer::new(0);
        let a = peer.subscribe(&mut topics, "a", After::Position(ids[1]));
        let b = peer.subscribe(&mut topics, "b", After::Garbage);
        let expected = [
            (b, gap(ids[3])),
            (
                a,
                Replay::Event(Event {
                    id: ids[2],
                    payload: super::super::Payload::text("x"),
                    trace: None,
                }),
            ),
            (
                b,
                Replay::Event(Event {
                    id: ids[3],
                    payload: super::super::Payload::text("x"),
                    trace: None,
                }),
            ),
            (a, Replay::CaughtUp(ids[3])),
        ];
        let steps: Vec<_> = std::iter::from_fn(|| topics.poll_replay_merged(&peer.list)).collect();
        assert_eq!(steps, expected);
    }
}
