//! What a server makes of the entries of the stream, one after the other.

use super::RedisId;
use crate::core::contract::backbone::{Logged, Ticket};
use crate::core::ground::trace::Trace;
use crate::core::topics::{Name, Payload};
use crate::core::wire::resp::Value;

/// Why events may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server has just begun to follow the log.
    Joined,
    /// Events were trimmed before they were read here.
    Trimmed,
    /// The log was gone.
    Flushed,
    /// Another Redis is the master, or the same one after a restart.
    Failover,
    /// The log was behind what was read from it.
    Behind,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] =
        [Reason::Joined, Reason::Trimmed, Reason::Flushed, Reason::Failover, Reason::Behind];

    /// Returns its word, as in figures and in the stream.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Joined => "joined",
            Reason::Trimmed => "trimmed",
            Reason::Flushed => "flushed",
            Reason::Failover => "failover",
            Reason::Behind => "behind",
        }
    }

    fn of(word: Option<&str>) -> Reason {
        let reason = Reason::ALL.into_iter().find(|reason| Some(reason.label()) == word);
        reason.unwrap_or(Reason::Behind)
    }
}

/// How far a server has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last entry.
    pub id: RedisId,
    /// The epoch.
    pub epoch: u16,
    /// How many events the epoch had had then, if that is known.
    pub count: Option<u64>,
}

/// What a follower has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Gaps, in the order of [`Reason::ALL`].
    pub gaps: [usize; Reason::ALL.len()],
    /// Entries that are no events, or that could not be read.
    pub foreign: usize,
}

/// Follows the stream.
#[derive(Debug)]
pub struct Follower {
    process: String,
    seen: Option<Seen>,
    /// A gap has no id: its entry bears one that Redis does not give by its clock. It is told with
    /// the next event.
    owes_gap: bool,
    counts: Counts,
}

impl Follower {
    /// Makes the follower of this process, whose name its publications bear.
    pub fn new(process: &str) -> Follower {
        let (seen, counts) = (None, Counts::default());
        Follower { process: process.into(), seen, owes_gap: false, counts }
    }

    /// Returns how far it has come; `None` before it has begun.
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Returns what it has counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Begins, or goes on, behind an entry: what is before it is in a gap. With `count` it knows
    /// how many events the epoch has had up to there.
    pub fn go_to(
        &mut self,
        epoch: u16,
        id: RedisId,
        count: Option<u64>,
        reason: Reason,
    ) -> Option<Logged> {
        self.seen = Some(Seen { id, epoch, count });
        self.gap(id, epoch, reason)
    }

    /// Leaves an entry out that cannot be read. If it is an event, it is told as missing when the
    /// next one comes.
    pub fn skip(&mut self, id: RedisId) {
        self.counts.foreign += 1;
        self.seen = self.seen.map(|seen| Seen { id, ..seen });
    }

    fn gap(&mut self, id: RedisId, epoch: u16, reason: Reason) -> Option<Logged> {
        let place = Reason::ALL.iter().position(|one| *one == reason);
        if let Some(place) = place {
            self.counts.gaps[place] += 1;
        }
        let told = id.event(epoch).map(Logged::Renewed);
        self.owes_gap = told.is_none();
        told
    }

    /// Takes the next entry of the stream, and tells what follows from it.
    pub fn take(&mut self, entry: &Value, mut tell: impl FnMut(Logged)) {
        let Some((id, entry)) = Entry::read(entry) else {
            self.counts.foreign += 1;
            return;
        };
        let Some(seen) = self.seen.filter(|seen| id > seen.id) else { return };
        let place = entry.as_ref().and_then(|entry| entry.place);
        let (Some(entry), Some((epoch, count))) = (entry, place) else {
            // Whatever it is, it has no place among the events.
            self.counts.foreign += 1;
            self.seen = Some(Seen { id, ..seen });
            return;
        };
        let is_beginning = entry.begun.is_some();
        if is_beginning || epoch != seen.epoch {
            let first = if is_beginning { id } else { id.before() };
            let reason = entry.begun.map_or(Reason::Trimmed, |word| Reason::of(Some(word)));
            self.gap(first, epoch, reason).map(&mut tell);
        } else if self.owes_gap
            || seen.count.is_some_and(|before| before.checked_add(1) != Some(count))
        {
            let is_ahead = seen.count.is_some_and(|before| before < count);
            let reason = if is_ahead { Reason::Trimmed } else { Reason::Behind };
            self.gap(id.before(), epoch, reason).map(&mut tell);
        }
        self.seen = Some(Seen { id, epoch, count: Some(count) });
        if is_beginning {
            return;
        }
        match self.event(id, epoch, &entry) {
            Some(event) => tell(event),
            None => {
                // It is told as missing when the next event comes.
                self.counts.foreign += 1;
                self.seen = Some(Seen { id, epoch, count: Some(count.wrapping_sub(1)) });
            }
        }
    }

    fn event(&self, id: RedisId, epoch: u16, entry: &Entry<'_>) -> Option<Logged> {
        let topic: Name = entry.topic?.parse().ok().filter(|name: &Name| !Name::is_own(name))?;
        let Value::Bytes(data) = entry.data? else { return None };
        let text = || String::from_utf8(data.clone()).ok();
        let payload = match entry.kind? {
            "t" => Payload::Text(text()?.into()),
            "j" => Payload::Json(text()?.into()),
            "b" => Payload::Binary(data.clone().into()),
            _ => return None,
        };
        let trace = entry.trace.and_then(|bytes| <&[u8; Trace::BYTES]>::try_from(bytes).ok());
        let origin = entry.origin.and_then(|origin| origin.split_once(':'));
        let ticket = origin.filter(|(process, _)| *process == self.process);
        let ticket = ticket.and_then(|(_, number)| number.parse().ok()).map(Ticket::from_u64);
        let content = payload.traced(trace.map(Trace::from_bytes));
        Some(Logged::Event { ticket, id: id.event(epoch)?, topic, content })
    }
}

/// The fields of an entry.
#[derive(Debug, Default)]
struct Entry<'a> {
    /// The epoch, and which of its events it is.
    place: Option<(u16, u64)>,
    /// An epoch begins with it, for this reason.
    begun: Option<&'a str>,
    origin: Option<&'a str>,
    topic: Option<&'a str>,
    kind: Option<&'a str>,
    data: Option<&'a Value>,
    trace: Option<&'a [u8]>,
}

impl Entry<'_> {
    /// Reads an entry, with its id; `None` if it has none. An entry that was deleted has no fields.
    fn read(value: &Value) -> Option<(RedisId, Option<Entry<'_>>)> {
        let [id, fields] = value.list()? else { return None };
        let id = id.text()?.parse().ok()?;
        let Some(fields) = fields.list() else { return Some((id, None)) };
        let mut entry = Entry::default();
        for pair in fields.chunks_exact(2) {
            let value = &pair[1];
            match pair[0].text() {
                Some("s") => entry.place = value.text().and_then(read_place),
                Some("b") => entry.begun = value.text(),
                Some("o") => entry.origin = value.text(),
                Some("t") => entry.topic = value.text(),
                Some("k") => entry.kind = value.text(),
                Some("d") => entry.data = Some(value),
                Some("w") => {
                    entry.trace = match value {
                        Value::Bytes(bytes) => Some(bytes),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        Some((id, Some(entry)))
    }
}

/// Reads `EPOCH-COUNT`: the place of an event.
pub fn read_place(text: &str) -> Option<(u16, u64)> {
    let place: RedisId = text.parse().ok()?;
    Some((u16::try_from(place.ms).ok()?, place.n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::random::Random;
    use crate::core::topics::{Content, EventId};

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[(&str, &str)]) -> Value {
        let fields = fields.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]);
        Value::List(vec![bytes(id), Value::List(fields.collect())])
    }

    fn event(id: &str, place: &str) -> Value {
        entry(id, &[("s", place), ("o", "me:4"), ("t", "a"), ("k", "t"), ("d", "x")])
    }

    fn follower() -> Follower {
        let mut follower = Follower::new("me");
        let begun = follower.go_to(7, RedisId { ms: 10, n: 0 }, Some(0), Reason::Joined);
        assert!(matches!(begun, Some(Logged::Renewed(id)) if id == EventId::new(10, 7)));
        follower
    }

    /// Says in short what a follower tells.
    fn told(follower: &mut Follower, entry: &Value) -> Vec<String> {
        let mut told = Vec::new();
        follower.take(entry, |logged| {
            told.push(match logged {
                Logged::Event { ticket, id, topic, .. } => {
                    let ticket = ticket.map_or(0, Ticket::as_u64);
                    format!("{topic} {id} {ticket}")
                }
                Logged::Renewed(id) => format!("gap {id}"),
                other => format!("{other:?}"),
            });
        });
        told
    }

    #[test]
    fn events_come_with_their_ids_and_the_tickets_of_this_process() {
        let mut follower = follower();
        assert_eq!(told(&mut follower, &event("11-0", "7-1")), ["a 11-7 4"]);
        let other =
            entry("11-1", &[("s", "7-2"), ("o", "it:4"), ("t", "b"), ("k", "b"), ("d", "")]);
        assert_eq!(told(&mut follower, &other), ["b 11-65543 0"]);
        assert_eq!(told(&mut follower, &event("11-1", "7-2")), [""; 0], "it was read before");
        assert_eq!(follower.counts().gaps, [1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_was_trimmed_before_it_was_read_is_a_gap() {
        let mut follower = follower();
        assert_eq!(told(&mut follower, &event("11-5", "7-4")), ["gap 11-262151", "a 11-327687 4"]);
        assert_eq!(told(&mut follower, &event("12-0", "7-5")), ["a 12-7 4"]);
        assert_eq!(follower.counts().gaps, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn what_claims_the_greatest_of_all_places_is_a_gap_and_no_end() {
        let mut follower = follower();
        let greatest = event("11-0", "7-18446744073709551615");
        assert_eq!(told(&mut follower, &greatest).len(), 2);
        let next = told(&mut follower, &event("12-0", "7-1"));
        assert_eq!(next, ["gap 11-281474976645127", "a 12-7 4"]);
    }

    #[test]
    fn an_event_without_a_place_that_cannot_be_read_is_told_as_missing() {
        let mut follower = follower();
        let odd = entry("11-0", &[("s", "7-0"), ("t", "a"), ("k", "x"), ("d", "x")]);
        assert_eq!(told(&mut follower, &odd), ["gap 10-281474976645127"]);
        let next = told(&mut follower, &event("12-0", "7-1"));
        assert_eq!(next, ["gap 11-281474976645127", "a 12-7 4"]);
    }

    #[test]
    fn a_gap_for_which_there_is_no_id_is_told_with_the_next_event() {
        let mut follower = follower();
        let begun = entry("11-4294967296", &[("s", "8-0"), ("b", "failover")]);
        assert_eq!(told(&mut follower, &begun), [""; 0]);
        let next = told(&mut follower, &event("12-0", "8-1"));
        assert_eq!(next, ["gap 11-281474976645128", "a 12-8 4"]);
        assert_eq!(told(&mut follower, &event("13-0", "8-2")), ["a 13-8 4"]);
    }

    #[test]
    fn an_epoch_begins_with_a_gap_also_where_its_first_entry_was_trimmed() {
        let mut follower = follower();
        let begun = entry("12-0", &[("s", "8-0"), ("b", "failover")]);
        assert_eq!(told(&mut follower, &begun), ["gap 12-8"]);
        assert_eq!(told(&mut follower, &event("12-1", "8-1")), ["a 12-65544 4"]);
        let trimmed = told(&mut follower, &event("13-0", "9-17"));
        assert_eq!(trimmed, ["gap 12-281474976645129", "a 13-9 4"]);
        assert_eq!(follower.counts().gaps, [1, 1, 0, 1, 0]);
    }

    #[test]
    fn entries_of_another_form_are_skipped_and_counted() {
        let mut follower = follower();
        for odd in [
            entry("11-0", &[("temperature", "7")]),
            entry("11-1", &[("s", "x")]),
            entry("11-2", &[("s", "70000-1")]),
            Value::List(vec![bytes("11-3"), Value::Nil]),
            Value::Nil,
            Value::List(vec![bytes("x"), Value::List(vec![])]),
        ] {
            assert_eq!(told(&mut follower, &odd), [""; 0], "{odd:?}");
        }
        assert_eq!(follower.counts().foreign, 6);
        assert_eq!(told(&mut follower, &event("12-0", "7-1")), ["a 12-7 4"], "nothing is missing");
    }

    #[test]
    fn an_event_that_cannot_be_read_is_told_as_missing() {
        for (name, value) in [("t", "no topic"), ("t", "$own"), ("k", "x"), ("d", "\u{0}")] {
            let mut follower = follower();
            let mut fields = vec![("s", "7-1"), ("t", "a"), ("k", "t"), ("d", "x")];
            fields.retain(|(field, _)| *field != name);
            if name != "d" {
                fields.push((name, value));
            }
            assert_eq!(told(&mut follower, &entry("11-0", &fields)), [""; 0]);
            let next = told(&mut follower, &event("12-0", "7-2"));
            assert_eq!(next, ["gap 11-281474976645127", "a 12-7 4"], "{name}");
        }
    }

    /// Any order of trims, epochs, repetitions and foreign entries: each event is delivered, or is
    /// behind a gap, and ids rise.
    #[test]
    fn whatever_the_stream_has_nothing_is_missing_untold() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let mut follower = follower();
            let (mut epoch, mut count) = (7_u16, 0_u64);
            let (mut last, mut is_complete) = (EventId::new(10, 7), true);
            for ms in 11..60 {
                let id = format!("{ms}-0");
                let is_read = random.between(0, 3) > 0;
                let value = match random.between(0, 9) {
                    0 => {
                        (epoch, count) = (epoch.wrapping_add(1), 0);
                        entry(&id, &[("s", &format!("{epoch}-0")), ("b", "failover")])
                    }
                    1 => entry(&id, &[("other", "x")]),
                    _ => {
                        count += 1;
                        is_complete &= is_read;
                        event(&id, &format!("{epoch}-{count}"))
                    }
                };
                if !is_read {
                    continue;
                }
                follower.take(&value, |logged| match logged {
                    Logged::Renewed(first) => {
                        assert!(first >= last, "{first} behind {last}");
                        (last, is_complete) = (first, true);
                    }
                    Logged::Event { id, content: Content { .. }, .. } => {
                        assert!(id > last && is_complete, "seed {seed}: {id}");
                        last = id;
                    }
                    other => panic!("{other:?}"),
                });
            }
        }
    }
}
