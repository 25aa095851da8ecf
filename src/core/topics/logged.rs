//! Events of a log that issues the ids: [`backbone`](crate::core::contract::backbone).

use crate::core::ground::time::Instant;

use super::{Content, EventId, Payload, PublishError, Topics};

impl Topics {
    /// Follows a log that issues the ids; `last` is its last id. To be called before the first
    /// event is published. [`Topics::publish`] must not be called any more after it.
    pub fn follow_log(&mut self, last: EventId) {
        debug_assert_eq!(self.published, 0, "ids of this server would be in the way");
        self.issuer.follow(last);
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
}
