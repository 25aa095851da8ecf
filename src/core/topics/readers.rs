//! Readers: each reads the logs of all topics that it wants as one, in the order of ids, from one
//! position on, and says what it has done with by acknowledgements.
//!
//! ```text
//!   append ──► unread: the next id of each topic      poll ──► in flight ──► acknowledge
//!              that has something for the reader       ▲  least id    │          │
//!                                                      └── rewind ◄───┘       position
//! ```
//!
//! A reader is no queue: what it has not been given is in the logs alone, and one id for each topic
//! says from where on. What a log has evicted before its turn is a gap of that topic, which comes
//! at its place and is acknowledged as an event is. The position is that before the oldest event or
//! gap without an acknowledgement: who begins there again misses nothing.
//!
//! A topic with something unread is not forgotten, so that its gap can be told by its name.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;

use super::log::Log;
use super::subscriptions::State;
use super::table::Table;
use super::{After, Event, EventId, Gap, Name, Topics};

/// Names a reader until it is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderKey(u8);

/// Which topics a reader wants, by their names.
pub type Wants = Box<dyn Fn(&str) -> bool + Send>;

/// What a reader is given next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Names it in its acknowledgement: 1 more with each that is new.
    pub number: u64,
    /// The topic.
    pub topic: Name,
    /// What there is.
    pub what: What,
}

/// An event, or that events are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The next event.
    Event(Event),
    /// Events of this topic are missing here.
    Gap(Gap),
}

/// All readers of a server.
#[derive(Default)]
pub(super) struct Readers {
    places: Vec<Option<Reader>>,
    /// The reader whose far side has published the event that is appended now.
    origin: Option<ReaderKey>,
}

/// In which readers a topic is: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InReaders {
    wanted: u32,
    unread: u32,
}

impl InReaders {
    /// Returns whether a reader has yet to be given something of the topic.
    pub fn is_unread(self) -> bool {
        self.unread != 0
    }
}

// Invariants:
// - `unread` has one place for each topic with something that is not in flight yet, and a topic has
//   the reader's bit exactly if it has a place.
// - The places in front of `sent` of `in_flight` are given; the first is not acknowledged.
struct Reader {
    wants: Wants,
    window: usize,
    unread: BTreeSet<Unread>,
    in_flight: VecDeque<InFlight>,
    /// How many of `in_flight` were given since the last rewind.
    sent: usize,
    /// The number of the first in flight.
    first: u64,
    /// The greatest id that was given, or the position that the reader began at.
    passed: EventId,
    /// Ids that came from the reader's own far side, and that it has not passed.
    skips: VecDeque<EventId>,
    /// How topics are judged that come into being later.
    newcomers: Option<Newcomers>,
}

/// Where a reader goes on in a topic. The least one is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unread {
    /// The id of the next event; or, if `is_gap`, an id that all that is to come is greater than.
    id: EventId,
    is_gap: bool,
    slot: u32,
}

struct InFlight {
    /// The position before it.
    before: EventId,
    /// `None` if it is acknowledged.
    reading: Option<(Name, What)>,
}

/// What a reader that began in the past knows of topics that do not exist any more, or not yet.
struct Newcomers {
    begun: EventId,
    /// The newest id that was evicted from topics that were forgotten before the reader began.
    forgotten: EventId,
    /// Topics that were judged. Beyond its bound they may be told a gap again.
    judged: HashSet<Name>,
}

impl Topics {
    /// Adds a reader that begins after a position, as a subscriber does who comes back with it: it
    /// is told gaps where events may be missing. At most `window` of what it is given may be
    /// without an acknowledgement. `None` if there are [`Topics::READERS_MAX`] readers.
    ///
    /// Takes time by the number of topics.
    pub fn add_reader(&mut self, wants: Wants, after: EventId, window: usize) -> Option<ReaderKey> {
        let readers = self.readers.get_or_insert_default();
        let free = readers.places.iter().position(Option::is_none);
        let place = free.unwrap_or(readers.places.len());
        if place >= Topics::READERS_MAX {
            return None;
        }
        let forgotten = self.table.forgotten();
        let is_of_past = after != EventId::ZERO;
        let newcomers = || Newcomers { begun: after, forgotten, judged: HashSet::new() };
        let reader = Reader {
            wants,
            window: window.max(1),
            unread: BTreeSet::new(),
            in_flight: VecDeque::new(),
            sent: 0,
            first: 1,
            passed: after,
            skips: VecDeque::new(),
            newcomers: is_of_past.then(newcomers),
        };
        if place == readers.places.len() {
            readers.places.push(None);
        }
        readers.places[place] = Some(reader);
        let key = ReaderKey(place as u8);
        for slot in self.table.slots().collect::<Vec<u32>>() {
            self.begin_reading(key, slot);
        }
        Some(key)
    }

    /// Takes a reader away. One that is to go on in its place, from its position, is added before:
    /// so topics stay whose gaps are to be told.
    pub fn remove_reader(&mut self, key: ReaderKey) {
        let Some(readers) = &mut self.readers else { return };
        if let Some(place) = readers.places.get_mut(usize::from(key.0)) {
            *place = None;
        }
        while readers.places.pop_if(|place| place.is_none()).is_some() {}
        if readers.places.is_empty() {
            self.readers = None;
        }
        for slot in self.table.slots().collect::<Vec<u32>>() {
            let within = &mut self.table[slot].readers;
            within.wanted &= !key.bit();
            within.unread &= !key.bit();
            self.table.forget_if_unused(slot);
        }
    }

    /// Returns what a reader is given next: what [`Topics::rewind_reader`] has taken back, then
    /// what is least in the logs; `None` if there is nothing, or the window is full.
    ///
    /// Takes time by the logarithm of what there is, and by the events that are
    /// [skipped](Topics::set_origin).
    pub fn poll_reader(&mut self, key: ReaderKey) -> Option<Reading> {
        let Topics { readers, table, .. } = self;
        let reader = readers.as_mut()?.get_mut(key)?;
        if let Some(reading) = reader.poll_again() {
            return Some(reading);
        }
        while reader.in_flight.len() < reader.window {
            let unread = reader.unread.pop_first()?;
            let slot = unread.slot;
            let next = reader.step(key, unread, table);
            let name = next.is_some().then(|| table[slot].name.clone());
            table.forget_if_unused(slot);
            if let (Some(what), Some(name)) = (next, name) {
                return Some(reader.give(name, what));
            }
        }
        None
    }

    /// Notes that what was given with this number has been done with. Returns whether it was in
    /// flight.
    pub fn acknowledge(&mut self, key: ReaderKey, number: u64) -> bool {
        let reader = self.readers.as_mut().and_then(|readers| readers.get_mut(key));
        reader.is_some_and(|reader| reader.acknowledge(number))
    }

    /// Has a reader be given again what is in flight, with the same numbers: its far side may not
    /// have it.
    pub fn rewind_reader(&mut self, key: ReaderKey) {
        if let Some(reader) = self.readers.as_mut().and_then(|readers| readers.get_mut(key)) {
            reader.sent = 0;
        }
    }

    /// Returns the position of a reader: all before it is acknowledged.
    pub fn reader_position(&self, key: ReaderKey) -> EventId {
        let last = self.issuer.last();
        let reader = self.readers.as_ref().and_then(|readers| readers.get(key));
        reader.map_or(EventId::ZERO, |reader| match reader.in_flight.front() {
            Some(oldest) => oldest.before,
            None if reader.unread.is_empty() && self.issuer.issued(last) => last,
            None => reader.passed,
        })
    }

    /// Returns how many events and gaps a reader has in flight, and how many events are before it.
    /// Takes time by the number of topics with something unread.
    pub fn reader_lag(&self, key: ReaderKey) -> u64 {
        let Some(reader) = self.readers.as_ref().and_then(|readers| readers.get(key)) else {
            return 0;
        };
        let in_flight = reader.in_flight.iter().filter(|one| one.reading.is_some()).count() as u64;
        let unread = reader.unread.iter().map(|unread| {
            let log = &self.table[unread.slot].log;
            log.end() - unread.ordinal(log)
        });
        in_flight + unread.sum::<u64>()
    }

    /// Returns whether a reader has something to be given, and room for it.
    pub fn has_reading(&self, key: ReaderKey) -> bool {
        let reader = self.readers.as_ref().and_then(|readers| readers.get(key));
        reader.is_some_and(|reader| {
            reader.sent < reader.in_flight.len()
                || (reader.in_flight.len() < reader.window && !reader.unread.is_empty())
        })
    }

    /// Says that what is published from now on came from the far side of this reader, which is not
    /// given it; `None`: from anyone else.
    pub fn set_origin(&mut self, origin: Option<ReaderKey>) {
        if let Some(readers) = &mut self.readers {
            readers.origin = origin;
        }
    }

    /// Returns whether more may be published that came from the far side of this reader: it has
    /// passed enough of what came before.
    pub fn may_take_from(&self, key: ReaderKey) -> bool {
        let reader = self.readers.as_ref().and_then(|readers| readers.get(key));
        reader.is_none_or(|reader| reader.skips.len() < SKIPS_MAX)
    }

    /// Takes note of a topic that has come into being.
    pub(super) fn note_topic_made(&mut self, slot: u32) {
        let count = self.readers.as_ref().map_or(0, |readers| readers.places.len());
        (0..count).for_each(|place| self.begin_reading(ReaderKey(place as u8), slot));
    }

    /// Takes note of an event that was appended to a topic's log.
    #[inline]
    pub(super) fn note_appended(&mut self, slot: u32, id: EventId) {
        if let Some(readers) = &mut self.readers {
            readers.note_appended(slot, id, &mut self.table[slot].readers);
        }
    }

    /// Has each reader be given a gap in each topic that it reads, in the place of what it has not
    /// been given: the log has begun anew.
    #[cfg(feature = "cluster")]
    pub(super) fn renew_readers(&mut self) {
        let Some(readers) = &mut self.readers else { return };
        for (place, reader) in readers.places.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            let bit = ReaderKey(place as u8).bit();
            reader.unread.clear();
            for slot in self.table.slots().collect::<Vec<u32>>() {
                let within = &mut self.table[slot].readers;
                if within.wanted & bit != 0 {
                    within.unread |= bit;
                    reader.unread.insert(Unread { id: self.floor, is_gap: true, slot });
                }
            }
        }
    }

    /// Begins to read a topic, if it is wanted.
    fn begin_reading(&mut self, key: ReaderKey, slot: u32) {
        let Some(reader) = self.readers.as_ref().and_then(|readers| readers.get(key)) else {
            return;
        };
        let topic = &self.table[slot];
        if Name::is_own(&topic.name) || !(reader.wants)(&topic.name) {
            return;
        }
        let passed = reader.passed;
        let begins = match (&reader.newcomers, topic.log.end()) {
            // What has just come into being has no event yet.
            (None, 0) => None,
            (Some(newcomers), 0) if newcomers.judged.contains(&topic.name) => None,
            (Some(newcomers), 0) => {
                let log = Log::new(newcomers.forgotten);
                #[cfg(feature = "store")]
                let log = log.kept_if(topic.log.is_kept());
                self.unread_of(&log, newcomers.begun, slot).filter(|unread| unread.is_gap)
            }
            _ => self.unread_of(&topic.log, passed, slot),
        };
        let topic = &mut self.table[slot];
        topic.readers.wanted |= key.bit();
        let name = topic.name.clone();
        let Some(reader) = self.readers.as_mut().and_then(|readers| readers.get_mut(key)) else {
            return;
        };
        if let Some(newcomers) = &mut reader.newcomers
            && newcomers.judged.len() < JUDGED_MAX
        {
            newcomers.judged.insert(name);
        }
        if let Some(unread) = begins {
            self.table[slot].readers.unread |= key.bit();
            reader.unread.insert(unread);
        }
    }

    /// Returns where reading a log begins after a position; `None` if there is nothing to read.
    fn unread_of(&self, log: &Log, position: EventId, slot: u32) -> Option<Unread> {
        match self.begin(log, After::Position(position)) {
            (State::Gap, from) => {
                // All that is read is greater than the position, if that is known at all.
                let is_known = from == log.after(position);
                let id = if is_known { position } else { self.begun_at(EventId::ZERO) };
                Some(Unread { id, is_gap: true, slot })
            }
            (_, from) => log.id(from).map(|id| Unread { id, is_gap: false, slot }),
        }
    }

    /// How many readers there may be.
    pub const READERS_MAX: usize = 32;
}

impl Readers {
    fn get(&self, key: ReaderKey) -> Option<&Reader> {
        self.places.get(usize::from(key.0))?.as_ref()
    }

    fn get_mut(&mut self, key: ReaderKey) -> Option<&mut Reader> {
        self.places.get_mut(usize::from(key.0))?.as_mut()
    }

    fn note_appended(&mut self, slot: u32, id: EventId, within: &mut InReaders) {
        let mut wanted = within.wanted;
        while wanted != 0 {
            let key = ReaderKey(wanted.trailing_zeros() as u8);
            wanted &= wanted - 1;
            let Some(reader) = self.places[usize::from(key.0)].as_mut() else { continue };
            let is_unread = within.unread & key.bit() != 0;
            if self.origin == Some(key) {
                // With nothing unread in front, the topic has nothing for this reader still.
                if is_unread {
                    reader.skips.push_back(id);
                }
            } else if !is_unread {
                within.unread |= key.bit();
                reader.unread.insert(Unread { id, is_gap: false, slot });
            }
        }
    }
}

impl Reader {
    /// Gives again what was taken back.
    fn poll_again(&mut self) -> Option<Reading> {
        while let Some(in_flight) = self.in_flight.get(self.sent) {
            let number = self.first + self.sent as u64;
            self.sent += 1;
            if let Some((topic, what)) = in_flight.reading.clone() {
                return Some(Reading { number, topic, what });
            }
        }
        None
    }

    /// Takes the next step in a topic, which has no place in `unread` now, and gives it the place
    /// behind that step. `None` if the event came from the reader's own far side, or nothing was
    /// there.
    fn step(&mut self, key: ReaderKey, unread: Unread, table: &mut Table) -> Option<What> {
        let topic = &mut table[unread.slot];
        let from = unread.ordinal(&topic.log);
        let event = topic.log.event(from);
        let is_missing = unread.is_gap || event.as_ref().is_none_or(|event| event.id != unread.id);
        let next = if is_missing { from } else { from + 1 };
        match topic.log.id(next) {
            Some(id) => _ = self.unread.insert(Unread { id, is_gap: false, slot: unread.slot }),
            None => topic.readers.unread &= !key.bit(),
        }
        // Those before it were evicted, or are in gaps.
        while self.skips.front().is_some_and(|id| *id < unread.id) {
            self.skips.pop_front();
        }
        if is_missing {
            return Some(What::Gap(Gap { first: topic.log.id(from) }));
        }
        if self.skips.front() == Some(&unread.id) {
            self.skips.pop_front();
            return None;
        }
        event.map(What::Event)
    }

    fn give(&mut self, topic: Name, what: What) -> Reading {
        let number = self.first + self.in_flight.len() as u64;
        let before = self.passed;
        if let What::Event(event) = &what {
            self.passed = event.id;
        }
        self.in_flight.push_back(InFlight { before, reading: Some((topic.clone(), what.clone())) });
        self.sent = self.in_flight.len();
        Reading { number, topic, what }
    }

    fn acknowledge(&mut self, number: u64) -> bool {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let in_flight = place.and_then(|place| self.in_flight.get_mut(place));
        let was_awaited = in_flight.is_some_and(|in_flight| in_flight.reading.take().is_some());
        while self.in_flight.front().is_some_and(|oldest| oldest.reading.is_none()) {
            self.in_flight.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
        if self.in_flight.is_empty() {
            // A bridge at rest owns nothing.
            self.in_flight = VecDeque::new();
        }
        was_awaited
    }
}

impl Unread {
    /// Returns the ordinal, in the topic's log, of the first event to give.
    fn ordinal(self, log: &Log) -> u64 {
        let from = log.after(self.id);
        match from.checked_sub(1).and_then(|before| log.id(before)) {
            Some(id) if id == self.id && !self.is_gap => from - 1,
            _ => from,
        }
    }
}

impl ReaderKey {
    fn bit(self) -> u32 {
        1 << self.0
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.places.iter().flatten().count();
        f.debug_struct("Readers").field("count", &count).finish_non_exhaustive()
    }
}

/// How many ids of the own far side a reader remembers: 16 kB.
const SKIPS_MAX: usize = 1024;
/// How many names of topics a reader remembers that began in the past.
const JUDGED_MAX: usize = 1024;

#[cfg(test)]
mod tests;
