//! The stream of a cluster as a follower reads it. Any answers do no harm. Of entries in any order,
//! with any fields: ids rise, an event is told directly behind the one before it or behind a gap,
//! each event that can be read is told once, and no position of before a gap is good.

use std::collections::BTreeSet;

use heartwheel::core::cluster::{
    Findings, Follower, Outcome, Reason, RedisId, Seen, read_nodes, read_place,
};
use heartwheel::core::contract::backbone::Logged;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::topics::{After, EventId, Rules, Topics};
use heartwheel::core::wire::resp::{Decoder, Value};

use super::source::Source;

const NOW: Instant = Instant::from_millis(1000);
const PROCESS: &str = "me";

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    match source.chance(64) {
        true => any_answers(source.rest()),
        false => any_entries(source),
    }
}

/// What is no answer to what was asked does no harm, wherever it comes.
fn any_answers(input: &[u8]) {
    let mut decoder = Decoder::new(1 << 16, 1 << 20);
    let _ = decoder.feed(input);
    let mut follower = Follower::new(PROCESS);
    follower.go_to(7, RedisId { ms: 10, n: 0 }, Some(0), Reason::Joined);
    let mut log = Log::new();
    while let Some(answer) = decoder.poll() {
        let _ = (Outcome::read(&answer), read_nodes(&answer));
        if let Ok(found) = Findings::read(&answer) {
            let seen = follower.seen().copied();
            for is_stuck in [false, true] {
                let _ = (found.judge(seen.as_ref(), is_stuck), found.judge(None, is_stuck));
            }
            let _ = seen.map(|seen| found.has_more_than(&seen));
        }
        answer.text().map(read_place);
        let entries = std::slice::from_ref(&answer);
        for entry in entries.iter().chain(answer.list().unwrap_or_default()) {
            follower.take(entry, |logged| log.take(logged));
        }
    }
}

/// The topics behind a follower, and what they have been told.
struct Log {
    topics: Topics,
    last: EventId,
    /// Behind the last gap.
    told: BTreeSet<EventId>,
    /// Before it.
    before: BTreeSet<EventId>,
    has_gap: bool,
    events: usize,
}

impl Log {
    fn new() -> Log {
        let mut topics = Topics::new(Rules::default(), 7, 1000);
        topics.follow_log(EventId::new(10, 7));
        let (told, before) = (BTreeSet::new(), BTreeSet::new());
        Log { topics, last: EventId::ZERO, told, before, has_gap: false, events: 0 }
    }

    fn take(&mut self, logged: Logged) {
        match logged {
            Logged::Renewed(first) => {
                self.topics.renew_log(first);
                self.has_gap = true;
                // An epoch of a lesser number in the place of the last entry begins there.
                let first = self.topics.position();
                self.before.append(&mut self.told);
                self.before.retain(|id| *id < first);
            }
            Logged::Event { id, topic, content, .. } => {
                assert!(id > self.last, "{id} behind {}", self.last);
                self.last = id;
                self.told.insert(id);
                self.events += 1;
                self.topics.take_logged(NOW, id, &topic, content);
            }
            other => panic!("{other:?}"),
        }
        for id in self.before.iter().rev().take(3) {
            let read = self.topics.read_after(NOW, "a", After::Position(*id));
            assert!(read.gap.is_some(), "{id} is from before a gap");
        }
    }
}

/// An entry, as it is made here.
struct Made {
    value: Value,
    id: RedisId,
    /// Its place, if it can be read.
    place: Option<(u16, u64)>,
    begins: bool,
    is_event: bool,
}

fn any_entries(mut source: Source) {
    let mut follower = Follower::new(PROCESS);
    let mut log = Log::new();
    let begun = follower.go_to(7, RedisId { ms: 10, n: 0 }, Some(0), Reason::Joined);
    begun.into_iter().for_each(|logged| log.take(logged));
    let (mut seen, mut place) = (RedisId { ms: 10, n: 0 }, Some((7, 0)));
    while !source.is_empty() {
        if source.chance(8) {
            // The connection breaks, and the log is looked at.
            skip(&mut source, &mut follower, &mut log, &mut seen, &mut place);
            continue;
        }
        let made = entry(&mut source, seen, place);
        let (events, is_new) = (log.events, made.id > seen);
        log.has_gap = false;
        follower.take(&made.value, |logged| log.take(logged));
        let is_told = log.events > events;
        if !is_new {
            assert!(!is_told && !log.has_gap, "it was read before");
            continue;
        }
        seen = made.id;
        let Some(now) = made.place else {
            assert!(!is_told && !log.has_gap, "it has no place among events");
            continue;
        };
        let follows = !made.begins
            && place.is_some_and(|(epoch, count): (u16, u64)| {
                (epoch, count.checked_add(1)) == (now.0, Some(now.1))
            });
        if is_told {
            assert!(follows || log.has_gap, "something is missing before {:?}", made.id);
        }
        let has_id = made.id.event(now.0).is_some();
        assert_eq!(is_told, made.is_event && !made.begins && has_id, "{:?}", made.value);
        // What is an event and cannot be read leaves a hole, which the next one shows, unless it
        // has the same place: then the other one was none.
        let hole = (now.0, now.1.wrapping_sub(1));
        place = match made.begins {
            true => log.has_gap.then_some(now),
            false => Some(if is_told { now } else { hole }),
        };
        let Seen { id, epoch, .. } = *follower.seen().expect("it has begun");
        assert_eq!((id, epoch), (made.id, now.0));
    }
}

fn skip(
    source: &mut Source,
    follower: &mut Follower,
    log: &mut Log,
    seen: &mut RedisId,
    place: &mut Option<(u16, u64)>,
) {
    if source.chance(128) {
        *seen = RedisId { ms: seen.ms.saturating_add(1), n: 0 };
        follower.skip(*seen);
    } else {
        let (epoch, count) = place.unwrap_or((7, 0));
        *seen = RedisId { ms: seen.ms.saturating_add(u64::from(source.byte())), n: seen.n };
        let told = follower.go_to(epoch, *seen, Some(count), Reason::Trimmed);
        // One for which there is no id is owed.
        *place = told.is_some().then_some((epoch, count));
        told.into_iter().for_each(|logged| log.take(logged));
    }
}

fn bytes(text: impl AsRef<[u8]>) -> Value {
    Value::Bytes(text.as_ref().to_vec())
}

/// Makes the next entry: mostly as the nodes write it, with a few fields that they do not.
fn entry(source: &mut Source, seen: RedisId, place: Option<(u16, u64)>) -> Made {
    let id = match source.below(8) {
        0 => RedisId { ms: source.pick(&[0, 1 << 52, (1 << 52) + 1, u64::MAX]), n: seen.n },
        1 => RedisId { ms: seen.ms, n: source.pick(&[0, u64::from(u32::MAX), u64::MAX]) },
        2 => RedisId { ms: seen.ms.saturating_sub(1), n: seen.n },
        3 => RedisId { ms: seen.ms, n: seen.n.saturating_add(1) },
        _ => RedisId { ms: seen.ms.saturating_add(1), n: 0 },
    };
    let (epoch, count) = place.unwrap_or((7, 0));
    let next = (epoch, count.wrapping_add(1));
    let (text, place) = match source.below(10) {
        0 => (format!("{epoch}-{}", u64::MAX), Some((epoch, u64::MAX))),
        1 => (format!("{epoch}-0"), Some((epoch, 0))),
        2 => {
            let other = source.pick(&[0, epoch.wrapping_add(1), u16::MAX]);
            (format!("{other}-{count}"), Some((other, count)))
        }
        3 => (source.pick(&["", "7", "-", "70000-1", "7-x", "7--1"]).to_owned(), None),
        4 => {
            let ahead = count.saturating_add(5);
            (format!("{epoch}-{ahead}"), Some((epoch, ahead)))
        }
        _ => (format!("{}-{}", next.0, next.1), Some(next)),
    };
    let topic = source.pick(&["a", "a", "a", "b", "$own", "a b", ""]);
    let kind = source.pick(&["t", "t", "t", "j", "b", "x"]);
    let data = source.pick(&[b"x".as_slice(), b"x", b"{}", b"", b"\xff"]);
    let mut is_event = ["a", "b"].contains(&topic) && kind != "x";
    is_event &= kind == "b" || data != b"\xff";
    let mut fields = vec![bytes("s"), bytes(&text), bytes("t"), bytes(topic)];
    fields.extend([bytes("k"), bytes(kind)]);
    let data = match source.chance(10) {
        true => {
            is_event = false;
            Value::Huge(u64::MAX)
        }
        false => bytes(data),
    };
    fields.extend([bytes("d"), data]);
    if source.chance(40) {
        let origin = source.pick(&["me:4", "it:4", "me:", "me", ":", "me:99999999999999999999"]);
        fields.extend([bytes("o"), bytes(origin)]);
    }
    if source.chance(20) {
        let len = source.pick(&[0, 25, 26, 27]);
        fields.extend([bytes("w"), bytes(vec![7; len])]);
    }
    let begins = source.chance(20);
    if begins {
        fields.extend([bytes("b"), bytes(source.pick(&["failover", "x", ""]))]);
    }
    if source.chance(10) {
        fields.push(Value::Nil);
    }
    let id_text = bytes(id.to_string());
    if source.chance(8) {
        // It was deleted.
        let value = Value::List(vec![id_text, Value::Nil]);
        return Made { value, id, place: None, begins: false, is_event: false };
    }
    let value = Value::List(vec![id_text, Value::List(fields)]);
    Made { value, id, place, begins, is_event }
}
