//! Events of a log that issues the ids: [`backbone`](crate::core::contract::backbone).

#[cfg(feature = "cluster")]
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;

#[cfg(feature = "cluster")]
use super::Name;
#[cfg(feature = "cluster")]
use super::subscriptions::State;
use super::{Content, EventId, Payload, PublishError, Topics};

impl Topics {
    /// Follows a log that issues the ids; `last` is its last id. To be called before the first
    /// event is published. [`Topics::publish`] must not be called any more after it.
    pub fn follow_log(&mut self, last: EventId) {
        debug_assert_eq!(self.published, 0, "ids of this server would be in the way");
        self.issuer.follow(last);
    }

    /// Goes on with the log behind `first`: what it had before may be incomplete. No position
    /// before `first` is good any more. Each subscriber is to be told a gap, and readers are told
    /// one for each topic that they read. What a subscriber had not been given before is in its
    /// gap.
    ///
    /// Events before stay only as the newest ones of their topics. Returns the connections whose
    /// replay has to go on, some of them several times. Takes time by the number of subscriptions.
    #[cfg(feature = "cluster")]
    pub fn renew_log(&mut self, first: EventId) -> Vec<ConnectionId> {
        self.floor = self.issuer.renew(first);
        // Who had events of this log from another server is not given them again.
        self.ahead.retain(|_, until| self.issuer.is_to_come(*until));
        let keys: Vec<_> = self.subscriptions.keys().collect();
        let mut told = Vec::with_capacity(keys.len());
        for key in keys {
            if Name::is_own(self.topic_of(key)) {
                continue;
            }
            if self.is_live(key) {
                self.leave_live(key);
            }
            let end = self.table[self.subscriptions[key].topic].log.end();
            let subscription = &mut self.subscriptions[key];
            (subscription.state, subscription.next) = (State::Gap, end);
            told.push(subscription.connection);
        }
        #[cfg(feature = "bridge")]
        self.renew_readers();
        told
    }

    /// Takes the next event of the log, as [`Topics::publish`] takes an event. Returns whether the
    /// event is the next one; if its id is not greater than all before, nothing changes.
    ///
    /// An event for which no topic can be made is left out. A client that subscribes to that topic
    /// later, from a position before the event, is told of a gap.
    pub fn take_logged(
        &mut self,
        now: Instant,
        id: EventId,
        topic: &str,
        content: Content,
    ) -> bool {
        if !self.issuer.take(id) {
            return false;
        }
        match self.find_or_make(topic) {
            Ok(slot) => self.append(now, slot, id, content),
            Err(_) => self.table.pass_over(id),
        }
        true
    }

    /// Publishes an event of one of the server's own topics, which are in no log. Returns `None` if
    /// there is no id for it ([`Issuer::beside`](super::id::Issuer::beside)).
    ///
    /// # Errors
    ///
    /// As [`Topics::publish`].
    pub fn publish_beside_log(
        &mut self,
        now: Instant,
        topic: &str,
        payload: Payload,
    ) -> Result<Option<EventId>, PublishError> {
        let slot = self.find_or_make(topic)?;
        let id = self.issuer.beside();
        match id {
            Some(id) => self.append(now, slot, id, payload.into()),
            None => self.table.forget_if_unused(slot),
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, check, topics};
    use super::super::{After, FirstSubscription, Gap, Rules};
    use super::*;
    use crate::core::ground::id::{ConnectionId, Generation};

    const NUMBER: u64 = 9;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, NUMBER)
    }

    fn following() -> Topics {
        let mut topics = topics();
        topics.follow_log(id(5000));
        topics
    }

    fn text() -> Content {
        Payload::text("x").into()
    }

    #[test]
    fn the_log_issues_the_ids_and_what_it_repeats_is_not_taken_again() {
        let mut topics = following();
        assert_eq!(topics.position(), id(5000));
        for (ms, is_next) in [(6000, true), (6000, false), (5500, false), (7000, true)] {
            assert_eq!(topics.take_logged(NOW, id(ms), "a", text()), is_next, "{ms}");
        }
        let read = topics.read_after(NOW, "a", After::Position(id(5000)));
        assert_eq!(read.gap, None, "the log's last position is good");
        assert_eq!(read.events().map(|event| event.id).collect::<Vec<_>>(), [id(6000), id(7000)]);
        assert_eq!(topics.events_published(), 2);
    }

    #[test]
    fn events_beside_the_log_come_between_its_own() {
        let mut topics = following();
        let mut list = FirstSubscription::default();
        let connection = ConnectionId::new(0, Generation::FIRST);
        for topic in ["$stats", "a"] {
            let key = topics.subscribe(NOW, connection, &mut list, topic, After::Now).unwrap();
            assert!(topics.poll_replay(key).is_some(), "it is live");
        }
        topics.take_logged(NOW, id(6000), "a", text());
        let beside = topics.publish_beside_log(NOW, "$stats", text().payload).unwrap().unwrap();
        assert!(topics.take_logged(NOW, EventId::new(6000, NUMBER + 65536), "a", text()));
        assert!(id(6000) < beside && beside < topics.position());
        check(&topics);
        let delivered = std::iter::from_fn(|| topics.poll_delivery()).count();
        assert_eq!(delivered, 3);
    }

    #[test]
    fn an_event_without_room_for_its_topic_is_a_gap_for_who_comes_from_before() {
        let rules = Rules { topics_max: 1, ..Rules::default() };
        let mut topics = Topics::new(rules, 7, 1000);
        topics.follow_log(id(5000));
        topics.take_logged(NOW, id(6000), "a", text());
        assert!(topics.has_room_for("a") && !topics.has_room_for("b"));
        assert!(topics.take_logged(NOW, id(7000), "b", text()), "the position goes on");
        let read = topics.read_after(NOW, "b", After::Position(id(6000)));
        assert_eq!(read.gap, Some(Gap { first: None }));
        assert_eq!(topics.read_after(NOW, "b", After::Position(id(7000))).gap, None);
    }

    // FAULTS 280, 281: nothing that may be missing is left untold.
    #[cfg(feature = "cluster")]
    #[test]
    fn a_log_that_begins_anew_is_a_gap_for_everyone() {
        use super::super::Replay;
        use super::super::tests::Peer;

        let mut topics = following();
        topics.take_logged(NOW, id(6000), "a", text());
        let mut live = Peer::live(&mut topics, 0, "a");
        let mut late = Peer::new(1);
        let late_key = late.subscribe(&mut topics, "a", After::Position(EventId::ZERO));
        let _own = Peer::live(&mut topics, 2, "$stats");
        let (number, first) = (NUMBER + 1, EventId::new(6500, NUMBER + 1));
        let told = topics.renew_log(first);
        assert_eq!(told, [live.id, late.id]);
        check(&topics);
        assert_eq!(topics.position(), first);
        for position in [EventId::ZERO, id(5000), id(6000)] {
            for topic in ["a", "unknown"] {
                let read = topics.read_after(NOW, topic, After::Position(position));
                assert_eq!(read.gap, Some(Gap { first: None }), "{position} {topic}");
                assert_eq!((read.events().count(), read.position()), (0, first));
            }
        }
        assert_eq!(topics.read_after(NOW, "a", After::Position(first)).gap, None);
        assert_eq!(topics.latest(NOW, "a").map(|event| event.id), Some(id(6000)));
        let next = EventId::new(7000, number);
        assert!(topics.take_logged(NOW, next, "a", text()));
        for key in [live.list.key().unwrap(), late_key] {
            let gap = Gap { first: Some(next) };
            assert_eq!(topics.poll_replay(key), Some(Replay::Gap(gap)));
            assert!(
                matches!(topics.poll_replay(key), Some(Replay::Event(event)) if event.id == next)
            );
            assert_eq!(topics.poll_replay(key), Some(Replay::CaughtUp(next)));
        }
        assert!(topics.take_logged(NOW, EventId::new(7001, number), "a", text()));
        assert_eq!(std::iter::from_fn(|| topics.poll_delivery()).count(), 2);
        check(&topics);
        live.leave(&mut topics);
        late.leave(&mut topics);
    }

    // Also in the middle of a fan-out: what was on its way is in the gap.
    #[cfg(feature = "cluster")]
    #[test]
    fn a_log_may_begin_anew_while_events_are_on_their_way() {
        use super::super::tests::Peer;

        for given in 0..5 {
            let mut topics = following();
            let peers = [0, 1].map(|n| Peer::live(&mut topics, n, "a"));
            for ms in [6000, 6001] {
                topics.take_logged(NOW, id(ms), "a", text());
            }
            for _ in 0..given {
                assert!(given == 4 || topics.poll_delivery().is_some());
            }
            topics.renew_log(EventId::new(6500, NUMBER + 1));
            check(&topics);
            assert!(topics.poll_delivery().is_none());
            for peer in &peers {
                let key = peer.list.key().unwrap();
                assert!(topics.has_gap(key), "{given}");
            }
            check(&topics);
        }
    }

    // FAULTS 287: it was told a gap, and given again what it had.
    #[cfg(feature = "cluster")]
    #[test]
    fn who_comes_from_a_server_that_is_ahead_gets_what_follows_and_nothing_twice() {
        use super::super::Replay;
        use super::super::tests::Peer;

        for live_after in 0..4 {
            let mut topics = following();
            assert!(topics.read_after(NOW, "a", After::Position(id(7002))).gap.is_some(), "alone");
            topics.renew_log(id(6500));
            topics.take_logged(NOW, id(7000), "a", text());
            let read = topics.read_after(NOW, "a", After::Position(id(7002)));
            assert_eq!((read.gap, read.position(), read.last()), (None, id(7002), id(7002)));
            let mut peer = Peer::new(0);
            let key = peer.subscribe(&mut topics, "a", After::Position(id(7002)));
            let mut got = Vec::new();
            for ms in 7001..7006 {
                if ms - 7001 == live_after {
                    while let Some(step) = topics.poll_replay(key) {
                        match step {
                            Replay::Event(event) => got.push(event.id),
                            Replay::CaughtUp(last) => assert!(last >= id(7002), "{last}"),
                            Replay::Gap(gap) => panic!("{gap:?}"),
                        }
                    }
                }
                topics.take_logged(NOW, id(ms), "a", text());
                got.extend(std::iter::from_fn(|| topics.poll_delivery()).map(|one| one.event.id));
                check(&topics);
            }
            assert_eq!(got, [id(7003), id(7004), id(7005)], "{live_after}");
            assert!(topics.ahead.is_empty() || live_after > 2);
            let foreign = EventId::new(8000, NUMBER + 1);
            assert!(topics.read_after(NOW, "a", After::Position(foreign)).gap.is_some());
            peer.leave(&mut topics);
            assert!(topics.ahead.is_empty());
        }
    }

    // FAULTS 289: it was told a gap, and given again what it had.
    #[cfg(feature = "cluster")]
    #[test]
    fn who_comes_to_a_server_that_has_yet_to_reach_the_log_gets_nothing_twice() {
        use super::super::Replay;
        use super::super::tests::Peer;

        let first = |topics: &mut Topics, key| {
            topics.renew_log(id(6500));
            for ms in 7000..7005 {
                topics.take_logged(NOW, id(ms), "a", text());
            }
            std::iter::from_fn(|| topics.poll_replay(key)).find_map(|step| match step {
                Replay::Gap(gap) => gap.first,
                _ => None,
            })
        };
        let mut topics = topics();
        topics.follow_log(EventId::new(0, 1));
        let mut peer = Peer::new(0);
        let key = peer.subscribe(&mut topics, "a", After::Position(id(7002)));
        assert_eq!(topics.poll_replay(key), Some(Replay::Gap(Gap { first: None })));
        assert_eq!(first(&mut topics, key), Some(id(7003)), "what it had is not in the way");
        // The same where the log was trimmed past a server that was behind.
        let mut topics = following();
        topics.renew_log(id(6000));
        let mut peer = Peer::new(0);
        let key = peer.subscribe(&mut topics, "a", After::Position(id(7002)));
        assert!(matches!(topics.poll_replay(key), Some(Replay::CaughtUp(_))));
        assert_eq!(first(&mut topics, key), Some(id(7003)));
        // What another log has issued, or this one has not, says nothing.
        for foreign in [EventId::new(8000, NUMBER + 1), id(6400)] {
            let mut topics = super::super::tests::topics();
            topics.follow_log(EventId::new(0, 1));
            let mut peer = Peer::new(0);
            let key = peer.subscribe(&mut topics, "a", After::Position(foreign));
            assert_eq!(first(&mut topics, key), Some(id(7000)));
        }
    }

    #[cfg(all(feature = "cluster", feature = "bridge"))]
    #[test]
    fn readers_are_told_a_gap_where_the_log_begins_anew() {
        use super::super::What;

        let mut topics = following();
        topics.take_logged(NOW, id(6000), "a", text());
        let reader = topics.add_reader(Box::new(|_| true), id(5000), 10).unwrap();
        topics.renew_log(EventId::new(6500, NUMBER + 1));
        let next = EventId::new(7000, NUMBER + 1);
        topics.take_logged(NOW, next, "a", text());
        let what: Vec<_> =
            std::iter::from_fn(|| topics.poll_reader(reader)).map(|read| read.what).collect();
        assert_eq!(what[0], What::Gap(Gap { first: Some(next) }));
        assert!(matches!(&what[1..], [What::Event(event)] if event.id == next));
        let again = topics.add_reader(Box::new(|_| true), id(6000), 10).unwrap();
        let read = topics.poll_reader(again).unwrap();
        assert_eq!(read.what, What::Gap(Gap { first: Some(next) }));
        let read = topics.poll_reader(again).unwrap();
        assert!(matches!(read.what, What::Event(event) if event.id == next));
    }
}
