//! What a reader is given, by hand and by a model.

use std::collections::BTreeMap;

use super::*;
use crate::core::ground::random::Random;
use crate::core::topics::tests::{check, publish, topics};

fn reader(topics: &mut Topics, after: EventId, window: usize) -> ReaderKey {
    let wants = Box::new(|topic: &str| topic.starts_with('a'));
    topics.add_reader(wants, after, window).unwrap()
}

fn event(reading: Option<Reading>) -> (u64, EventId) {
    match reading {
        Some(Reading { number, what: What::Event(event), .. }) => (number, event.id),
        other => panic!("{other:?}"),
    }
}

fn gap(reading: Option<Reading>) -> (u64, String, Option<EventId>) {
    match reading {
        Some(Reading { number, topic, what: What::Gap(gap) }) => {
            (number, topic.to_string(), gap.first)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn topics_are_read_as_one_and_the_position_is_before_the_oldest_in_flight() {
    let mut topics = topics();
    let before = publish(&mut topics, 1, "a1", "x");
    let key = reader(&mut topics, EventId::ZERO, 3);
    let _unwanted = publish(&mut topics, 2, "b", "x");
    let second = publish(&mut topics, 3, "a2", "x");
    let third = publish(&mut topics, 4, "a1", "x");
    let fourth = publish(&mut topics, 5, "a3", "x");
    assert_eq!((topics.reader_position(key), topics.reader_lag(key)), (EventId::ZERO, 4));
    for (number, id) in [(1, before), (2, second), (3, third)] {
        assert_eq!(event(topics.poll_reader(key)), (number, id));
    }
    assert!(topics.poll_reader(key).is_none() && !topics.has_reading(key), "the window");
    assert!(topics.acknowledge(key, 2));
    assert!(!topics.acknowledge(key, 2) && !topics.acknowledge(key, 9));
    assert_eq!((topics.reader_position(key), topics.reader_lag(key)), (EventId::ZERO, 3));
    assert!(topics.poll_reader(key).is_none(), "its place is still taken");
    assert!(topics.acknowledge(key, 1));
    assert_eq!(topics.reader_position(key), second);
    assert_eq!(event(topics.poll_reader(key)), (4, fourth));
    assert!(topics.acknowledge(key, 3) && topics.acknowledge(key, 4));
    publish(&mut topics, 6, "b", "x");
    assert_eq!(topics.reader_position(key), topics.position(), "nothing is left");
    assert_eq!((topics.reader_lag(key), topics.has_reading(key)), (0, false));
    check(&topics);
}

#[test]
fn what_is_in_flight_is_given_again_though_it_was_evicted() {
    let mut topics = topics();
    let key = reader(&mut topics, EventId::ZERO, 9);
    let ids: Vec<_> = (0..4).map(|n| publish(&mut topics, n, "a", "x")).collect();
    (0..3).for_each(|_| _ = topics.poll_reader(key));
    topics.acknowledge(key, 2);
    (0..4).for_each(|_| _ = topics.trim_oldest());
    topics.rewind_reader(key);
    assert_eq!(event(topics.poll_reader(key)), (1, ids[0]));
    topics.acknowledge(key, 1);
    assert_eq!(event(topics.poll_reader(key)), (3, ids[2]));
    assert_eq!(gap(topics.poll_reader(key)), (4, "a".into(), None));
    assert_eq!(topics.len(), 0, "with its gap the topic goes");
    assert!(topics.acknowledge(key, 3) && topics.acknowledge(key, 4));
    check(&topics);
}

#[test]
fn a_topic_stays_until_its_gap_is_told() {
    let mut topics = topics();
    let key = reader(&mut topics, EventId::ZERO, 9);
    publish(&mut topics, 0, "a", "x");
    topics.trim_oldest();
    assert_eq!(topics.len(), 1);
    let first = publish(&mut topics, 1, "a", "x");
    assert_eq!(gap(topics.poll_reader(key)), (1, "a".into(), Some(first)));
    assert_eq!(event(topics.poll_reader(key)), (2, first));
    topics.trim_oldest();
    assert_eq!(topics.len(), 0);
    publish(&mut topics, 2, "a", "x");
    topics.trim_oldest();
    topics.remove_reader(key);
    assert_eq!(topics.len(), 0, "the reader has held it");
    check(&topics);
}

#[test]
fn what_came_from_the_own_far_side_is_not_given() {
    let mut topics = topics();
    let key = reader(&mut topics, EventId::ZERO, 9);
    let other = reader(&mut topics, EventId::ZERO, 99);
    let from_far = |topics: &mut Topics, topic| {
        topics.set_origin(Some(key));
        let id = publish(topics, 0, topic, "x");
        topics.set_origin(None);
        id
    };
    let echo = from_far(&mut topics, "a");
    assert!(!topics.has_reading(key), "nothing is remembered of one with nothing before it");
    assert_eq!(event(topics.poll_reader(other)).1, echo);
    let first = publish(&mut topics, 0, "a", "x");
    from_far(&mut topics, "a");
    from_far(&mut topics, "a");
    let last = publish(&mut topics, 0, "a", "x");
    assert_eq!(event(topics.poll_reader(key)).1, first);
    assert_eq!(event(topics.poll_reader(key)).1, last);
    assert!(topics.poll_reader(key).is_none());
    publish(&mut topics, 0, "a", "x");
    for _ in 0..SKIPS_MAX {
        assert!(topics.may_take_from(key));
        from_far(&mut topics, "a");
    }
    assert!(!topics.may_take_from(key), "it is to pass some first");
    while topics.poll_reader(key).is_some() {}
    assert!(topics.may_take_from(key));
}

#[test]
fn who_begins_in_the_past_is_told_what_may_be_missing_of_each_topic_once() {
    let mut topics = topics();
    let first = publish(&mut topics, 0, "a1", "x");
    publish(&mut topics, 0, "a2", "x");
    let third = publish(&mut topics, 0, "a1", "x");
    topics.trim_oldest();
    topics.trim_oldest(); // a2 is forgotten
    let key = reader(&mut topics, EventId::ZERO, 9);
    assert_eq!(gap(topics.poll_reader(key)), (1, "a1".into(), Some(third)));
    topics.remove_reader(key);
    let key = reader(&mut topics, first, 9);
    assert_eq!(event(topics.poll_reader(key)), (1, third));
    let id = publish(&mut topics, 1, "a2", "x");
    assert_eq!(gap(topics.poll_reader(key)), (2, "a2".into(), Some(id)));
    assert_eq!(event(topics.poll_reader(key)), (3, id));
    while topics.trim_oldest() > 0 {}
    let id = publish(&mut topics, 1, "a2", "x");
    assert_eq!(event(topics.poll_reader(key)), (4, id));
    topics.remove_reader(key);
    while topics.trim_oldest() > 0 {}
    // A position of a process that is not known.
    let elsewhere = EventId::new(1 << 50, 9);
    let id = publish(&mut topics, 2, "a1", "x");
    let key = reader(&mut topics, elsewhere, 9);
    assert_eq!(gap(topics.poll_reader(key)), (1, "a1".into(), Some(id)));
    assert_eq!(event(topics.poll_reader(key)), (2, id));
    topics.acknowledge(key, 1);
    topics.acknowledge(key, 2);
    assert_eq!(topics.reader_position(key), id);
}

#[test]
fn readers_are_few_and_leave_nothing_behind() {
    let mut topics = topics();
    publish(&mut topics, 0, "a", "x");
    let wants = || Box::new(|_: &str| true) as Wants;
    let keys: Vec<_> =
        std::iter::from_fn(|| topics.add_reader(wants(), EventId::ZERO, 1)).collect();
    assert_eq!(keys.len(), Topics::READERS_MAX);
    keys.into_iter().for_each(|key| topics.remove_reader(key));
    assert!(topics.readers.is_none());
    publish(&mut topics, 0, "$stats", "x");
    let key = topics.add_reader(wants(), EventId::ZERO, 9).unwrap();
    event(topics.poll_reader(key));
    assert_eq!(topics.poll_reader(key), None, "the server's own topics are not read");
}

/// What a far side has, and what it was told.
#[derive(Default)]
struct FarSide {
    events: BTreeSet<EventId>,
    /// The topic, the first event that follows, and what was published last then.
    gaps: Vec<(String, Option<EventId>, EventId)>,
}

impl FarSide {
    fn take(&mut self, last: EventId, reading: &Reading) -> bool {
        match &reading.what {
            What::Event(event) => self.events.insert(event.id),
            What::Gap(gap) => {
                self.gaps.push((reading.topic.to_string(), gap.first, last));
                true
            }
        }
    }

    fn knows_of(&self, topic: &str, id: EventId) -> bool {
        let covers = |(gap, first, last): &(String, Option<EventId>, EventId)| {
            gap == topic && first.is_none_or(|first| id < first) && id <= *last
        };
        self.events.contains(&id) || self.gaps.iter().any(covers)
    }
}

/// Random publications, evictions, acknowledgements, reconnects, and readers that begin anew at
/// their position. What the far side has acknowledged, and what the position has passed, is
/// there or behind a gap that was told; at the end this holds for every event. `HEARTWHEEL_RUNS`
/// sets how many runs.
#[test]
fn every_event_is_acknowledged_or_behind_a_gap() {
    let runs = std::env::var("HEARTWHEEL_RUNS").ok().and_then(|text| text.parse().ok());
    (0..runs.unwrap_or(RUNS)).for_each(run);
}

const RUNS: u64 = 2_000;
const NAMES: [&str; 4] = ["a1", "a2", "a3", "b"];

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut below = |n: u64| random.next_u64() % n;
    let mut topics = topics();
    topics.rules.retain_events = 1 + below(5) as usize;
    let has_restarts = below(2) == 0;
    let window = 1 + below(5) as usize;
    let mut key = reader(&mut topics, EventId::ZERO, window);
    let mut published: BTreeMap<EventId, &str> = BTreeMap::new();
    let (mut far, mut acknowledged) = (FarSide::default(), FarSide::default());
    let mut given: VecDeque<(EventId, Reading)> = VecDeque::new();
    let mut last_new = EventId::ZERO;
    for step in 0..40 {
        match below(16) {
            0..5 => {
                let name = NAMES[below(4) as usize];
                let is_echo = below(4) == 0;
                topics.set_origin(is_echo.then_some(key));
                let id = publish(&mut topics, step, name, "x");
                topics.set_origin(None);
                if !is_echo && name != "b" {
                    published.insert(id, name);
                }
            }
            5..10 => {
                if let Some(reading) = topics.poll_reader(key) {
                    let is_new = far.take(topics.position(), &reading);
                    if let What::Event(event) = &reading.what {
                        assert!(published.contains_key(&event.id), "{seed}: it came from there");
                        let is_ordered = has_restarts || !is_new || event.id > last_new;
                        assert!(is_ordered, "{seed}: the order");
                        last_new = last_new.max(event.id);
                    }
                    given.push_back((topics.position(), reading));
                }
            }
            10..13 if !given.is_empty() => {
                let place = below(given.len() as u64) as usize;
                let (then, reading) = given.remove(place).unwrap();
                topics.acknowledge(key, reading.number);
                acknowledged.take(then, &reading);
            }
            13 => _ = topics.trim_oldest(),
            14 => {
                // What was acknowledged there may not be known here.
                given.clear();
                topics.rewind_reader(key);
            }
            // What is in flight of a topic that is gone is told when the topic is back.
            15 if has_restarts && in_flight_exists(&topics, key) && below(4) == 0 => {
                let position = topics.reader_position(key);
                let before = std::mem::replace(&mut key, reader(&mut topics, position, window));
                topics.remove_reader(before);
                given.clear();
                // Only what came from there may come again, as another's.
                published.extend(echoes(&topics, position));
            }
            _ => {}
        }
        for (&id, name) in published.range(..=topics.reader_position(key)) {
            assert!(acknowledged.knows_of(name, id), "{seed}: {id} of {name}");
        }
        check(&topics);
    }
    acknowledge_all(&mut topics, key, &mut acknowledged);
    for (&id, name) in &published {
        assert!(acknowledged.knows_of(name, id), "{seed}: {id} of {name}");
    }
}

fn acknowledge_all(topics: &mut Topics, key: ReaderKey, acknowledged: &mut FarSide) {
    topics.rewind_reader(key);
    while let Some(reading) = topics.poll_reader(key) {
        acknowledged.take(topics.position(), &reading);
        topics.acknowledge(key, reading.number);
    }
    assert_eq!((topics.reader_lag(key), topics.reader_position(key)), (0, topics.position()));
}

fn in_flight_exists(topics: &Topics, key: ReaderKey) -> bool {
    let reader = topics.readers.as_ref().and_then(|readers| readers.get(key)).unwrap();
    let names = reader.in_flight.iter().filter_map(|one| one.reading.as_ref());
    names.map(|(name, _)| name).all(|name| topics.table.find(name).is_some())
}

/// Returns the retained events behind a position: a reader that begins there does not know
/// which of them came from its far side.
fn echoes(topics: &Topics, position: EventId) -> Vec<(EventId, &'static str)> {
    let of = |name: &'static str| {
        crate::core::topics::tests::ids(topics, name).into_iter().map(move |id| (id, name))
    };
    let all = NAMES[..3].iter().flat_map(|name| of(name));
    all.filter(|(id, _)| *id > position).collect()
}
