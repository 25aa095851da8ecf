//! The retained events of one topic.
//!
//! Everything that a topic remembers is here: append, read after a position, the first and the last
//! id, and the newest id evicted. It decides nothing about when to evict and knows no subscriber.
//!
//! ```text
//!   ordinals   0 .. begin-1   begin ........... end-1   end
//!              evicted        retained, ids ascending   the next event
//! ```
//!
//! An *ordinal* counts the events of this topic since it was made: a place in the log that is found
//! without a search and stays what it is when events are evicted.

use std::collections::VecDeque;

use crate::core::ground::time::Instant;

use super::{Event, EventId, Payload};
use crate::core::ground::trace::Trace;

/// A ring of events in the order of their ids.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    begin: u64,
    evicted: EventId,
    payload_bytes: usize,
    /// Trace contexts stand apart: few events have one, and all others pay nothing for it.
    traces: Option<Box<Traces>>,
    /// The topic is durable.
    #[cfg(feature = "store")]
    is_kept: bool,
}

#[derive(Debug)]
struct Entry {
    id: EventId,
    payload: Payload,
    appended_at: Instant,
    /// Which event of all topics it is, counted from 1.
    #[cfg(feature = "deflate")]
    number: u64,
}

/// The trace contexts of retained events, in the order of their ids: never empty.
#[derive(Debug, Default)]
struct Traces(VecDeque<(EventId, [u8; Trace::BYTES])>);

impl Log {
    /// The memory that a retained event takes beside its payload, in bytes.
    pub const EVENT_BYTES: usize = size_of::<Entry>();

    /// The memory that its trace context takes, in bytes.
    pub const TRACE_BYTES: usize = size_of::<(EventId, [u8; Trace::BYTES])>();

    /// Makes an empty log of which nothing after `evicted` was ever lost.
    pub fn new(evicted: EventId) -> Log {
        Log {
            entries: VecDeque::new(),
            begin: 0,
            evicted,
            payload_bytes: 0,
            traces: None,
            #[cfg(feature = "store")]
            is_kept: false,
        }
    }

    /// Returns this log as that of a topic that is durable or not.
    #[cfg(feature = "store")]
    pub fn kept_if(self, is_kept: bool) -> Log {
        Log { is_kept, ..self }
    }

    /// Returns whether the topic is durable.
    #[cfg(feature = "store")]
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Appends an event, whose id is greater than all before. Returns its ordinal.
    pub fn append(&mut self, now: Instant, event: Event) -> u64 {
        let Event { id, payload, trace } = event;
        let newest = self.last_id().unwrap_or(self.evicted);
        debug_assert!(id > newest, "{id} after {newest}");
        let ordinal = self.end();
        self.payload_bytes += payload.len();
        self.entries.push_back(Entry {
            id,
            payload,
            appended_at: now,
            #[cfg(feature = "deflate")]
            number: 0,
        });
        if let Some(trace) = trace {
            self.traces.get_or_insert_default().0.push_back((id, trace.to_bytes()));
        }
        ordinal
    }

    /// Says which event of all topics the newest one is.
    #[cfg(feature = "deflate")]
    pub fn number_last(&mut self, number: u64) {
        if let Some(last) = self.entries.back_mut() {
            last.number = number;
        }
    }

    /// Returns the number of the event with this id, and the event before it with its own, as far
    /// as both are retained.
    #[cfg(feature = "deflate")]
    pub fn with_before(&self, id: EventId) -> Option<(u64, Option<(u64, Event)>)> {
        let place = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        let before = place.checked_sub(1).and_then(|before| self.entries.get(before));
        let before = before.map(|entry| (entry.number, self.share(entry)));
        Some((self.entries[place].number, before))
    }

    /// Evicts the first event. Returns whether there was one. Unused memory is given back.
    pub fn evict(&mut self) -> bool {
        let Some(Entry { id, payload, .. }) = self.entries.pop_front() else { return false };
        self.begin += 1;
        self.evicted = id;
        self.payload_bytes -= payload.len();
        self.traces.take_if(|traces| traces.forget(id));
        let len = self.entries.len();
        if len == 0 {
            self.entries = VecDeque::new();
        } else if len < self.entries.capacity() / 4 {
            self.entries.shrink_to(2 * len);
        }
        true
    }

    /// Returns the ordinal of the first event after `position`, as far as it is retained.
    pub fn after(&self, position: EventId) -> u64 {
        self.begin + self.entries.partition_point(|entry| entry.id <= position) as u64
    }

    /// Returns the event at `ordinal`, shared; `None` if it was evicted or is still to come.
    pub fn event(&self, ordinal: u64) -> Option<Event> {
        Some(self.share(self.entry(ordinal)?))
    }

    /// Returns the id of the event at `ordinal`; `None` if it was evicted or is still to come.
    pub fn id(&self, ordinal: u64) -> Option<EventId> {
        Some(self.entry(ordinal)?.id)
    }

    /// Returns the retained events from `ordinal` on, shared.
    pub fn events_from(&self, ordinal: u64) -> impl Iterator<Item = Event> {
        let skip = usize::try_from(ordinal.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).map(|entry| self.share(entry))
    }

    /// Returns the id of the oldest event retained; `None` if the log is empty.
    pub fn first_id(&self) -> Option<EventId> {
        self.entries.front().map(|entry| entry.id)
    }

    /// Returns when the oldest event retained was appended; `None` if the log is empty.
    pub fn first_appended_at(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.appended_at)
    }

    /// Returns the newest event retained, shared; `None` if the log is empty.
    pub fn last(&self) -> Option<Event> {
        self.entries.back().map(|entry| self.share(entry))
    }

    /// Returns the id of the newest event retained; `None` if the log is empty.
    pub fn last_id(&self) -> Option<EventId> {
        self.entries.back().map(|entry| entry.id)
    }

    /// Returns the length of the newest payload retained; 0 if the log is empty.
    pub fn last_len(&self) -> usize {
        self.entries.back().map_or(0, |entry| entry.payload.len())
    }

    /// Returns the newest id that was evicted, `0-0` if none was. A position before it is a gap.
    pub fn evicted(&self) -> EventId {
        self.evicted
    }

    /// Returns the ordinal of the first event retained.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// Returns the ordinal that the next event will have.
    pub fn end(&self) -> u64 {
        self.begin + self.entries.len() as u64
    }

    /// Returns the number of events retained.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no event is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes of all payloads retained.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Returns the memory of all events retained, in bytes: payloads, [`Log::EVENT_BYTES`] each,
    /// and [`Log::TRACE_BYTES`] for each that has a trace context.
    pub fn bytes(&self) -> usize {
        let traces = self.traces.as_ref().map_or(0, |traces| traces.0.len());
        self.payload_bytes + self.entries.len() * Log::EVENT_BYTES + traces * Log::TRACE_BYTES
    }

    fn entry(&self, ordinal: u64) -> Option<&Entry> {
        let place = usize::try_from(ordinal.checked_sub(self.begin)?).ok()?;
        self.entries.get(place)
    }

    fn share(&self, entry: &Entry) -> Event {
        let trace = self.traces.as_ref().and_then(|traces| traces.find(entry.id));
        Event { id: entry.id, payload: entry.payload.clone(), trace }
    }
}

impl Traces {
    fn find(&self, id: EventId) -> Option<Trace> {
        let place = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(Trace::from_bytes(&self.0[place].1))
    }

    /// Forgets that of the oldest event. Returns whether there are no others.
    fn forget(&mut self, id: EventId) -> bool {
        if self.0.front().is_some_and(|(first, _)| *first == id) {
            self.0.pop_front();
        }
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len());
        }
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    /// Events with the ids 10, 20, .. of three bytes each, of which `evicted` are gone.
    fn log(appended: u64, evicted: u64) -> Log {
        let mut log = Log::new(EventId::ZERO);
        for n in 1..=appended {
            let event = Event { id: id(10 * n), payload: Payload::text("abc"), trace: None };
            assert_eq!(log.append(Instant::from_millis(n), event), n - 1);
        }
        for _ in 0..evicted {
            assert!(log.evict());
        }
        log
    }

    #[test]
    fn a_position_finds_the_first_event_after_it() {
        let log = log(5, 2); // 30, 40, 50
        let cases = [(0, 2), (20, 2), (29, 2), (30, 3), (35, 3), (49, 4), (50, 5), (99, 5)];
        for (position, ordinal) in cases {
            assert_eq!(log.after(id(position)), ordinal, "{position}");
        }
    }

    #[test]
    fn an_ordinal_names_the_same_event_for_good() {
        let mut log = log(5, 0);
        assert_eq!(log.event(3).unwrap().id, id(40));
        log.evict();
        log.evict();
        assert_eq!(log.event(3).unwrap().id, id(40));
        assert_eq!((log.event(1), log.event(5)), (None, None));
        let ids = |from| log.events_from(from).map(|event| event.id.ms()).collect::<Vec<_>>();
        assert_eq!(ids(0), [30, 40, 50]);
        assert_eq!(ids(4), [50]);
        assert!(ids(9).is_empty());
    }

    #[test]
    fn an_empty_log_remembers_what_it_evicted_and_owns_no_memory() {
        let mut log = log(1000, 1000);
        assert!(!log.evict());
        assert!(log.is_empty());
        assert_eq!((log.begin(), log.end(), log.evicted()), (1000, 1000, id(10_000)));
        assert_eq!((log.bytes(), log.entries.capacity()), (0, 0));
    }

    #[test]
    fn a_trace_context_stays_as_long_as_its_event_and_others_pay_nothing() {
        let mut log = Log::new(EventId::ZERO);
        let trace = |n: u8| Some(Trace::from_bytes(&[n; Trace::BYTES]));
        for n in 1..=200 {
            let trace = if n % 3 == 0 { trace(n as u8) } else { None };
            log.append(
                Instant::from_millis(n),
                Event { id: id(n), payload: Payload::text("abc"), trace },
            );
        }
        let traced = |log: &Log| log.traces.as_ref().map_or(0, |traces| traces.0.len());
        assert_eq!(traced(&log), 66);
        assert_eq!(log.bytes(), 200 * (3 + Log::EVENT_BYTES) + 66 * Log::TRACE_BYTES);
        const { assert!(Log::TRACE_BYTES <= 48) };
        for n in 1..=200 {
            let first = log.event(log.begin()).unwrap();
            assert_eq!(first.trace, if n % 3 == 0 { trace(n as u8) } else { None });
            assert!(log.evict());
        }
        assert!(log.traces.is_none(), "memory goes back");
        // An entry is an id, a payload and a moment, and with compression a number.
        let numbers = 1 + usize::from(cfg!(feature = "deflate"));
        let bytes = 16 + size_of::<Payload>() + 8 * numbers;
        assert_eq!(Log::EVENT_BYTES, bytes.next_multiple_of(align_of::<u64>()));
    }

    #[test]
    fn memory_follows_what_is_retained() {
        let log = log(1000, 990);
        assert_eq!(log.payload_bytes(), 30);
        assert_eq!(log.bytes(), 30 + 10 * Log::EVENT_BYTES);
        assert!(log.entries.capacity() <= 64, "{}", log.entries.capacity());
        assert_eq!(log.first_appended_at(), Some(Instant::from_millis(991)));
    }
}
