//! Room for an event that would overflow an outbox: which events give way, and which gaps are told
//! in their place.
//!
//! The oldest events of each subscription give way, so one gap stands for all of them, where the
//! first of them stood, or where an earlier gap did. A plan is made in one pass over the queue, or
//! two, and carried out in one more. The caller charges the entries that were looked at to its
//! turn.

use std::collections::HashMap;

use super::queue::{Body, Queue, QueueEntry};
use super::{Kind, Outbox};
use crate::core::ground::time::Instant;
use crate::core::topics::{EventId, SubscriptionKey};
use crate::core::wire::frame::Frame;

/// The event that has no room.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its subscription.
    pub subscription: SubscriptionKey,
    /// Its id.
    pub id: EventId,
    /// Its length in bytes.
    pub len: usize,
    /// How many bytes may wait, as [`Outbox::held_bytes`] counts them.
    pub limit: usize,
    /// Which events may give way to it.
    pub yielding: Yielding,
}

/// Which events give way to a newer one. None of them has begun to be written, or been made ready
/// to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yielding {
    /// All events, the oldest first.
    Oldest,
    /// Events of the same subscription, the oldest first; then all events that a newer one of their
    /// own subscription follows.
    Superseded,
}

/// Events that must give way.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether the new event has room then.
    pub is_enough: bool,
    /// How many give way.
    pub events: u64,
    /// Their bytes, and those of gaps that are told again.
    pub bytes: usize,
    /// By subscription, in the order of the queue.
    pub losses: Vec<Loss>,
    /// How many entries were looked at.
    pub looked_at: usize,
}

/// Events of one subscription that must give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Their subscription.
    pub subscription: SubscriptionKey,
    /// The next event of this subscription, if one waits or is the new event.
    pub next: Option<EventId>,
    /// A gap is told there already, and is told again.
    pub is_told: bool,
    /// Where the gap goes.
    place: usize,
    /// The last entry that goes, event or gap.
    last: usize,
}

impl Outbox {
    /// Returns which events must give way to one that has no room. `word_held` returns the most
    /// bytes of the limit that a gap of a subscription takes: 0 if its peer cannot be told of one.
    pub fn plan_room(&self, wanted: &Wanted, word_held: impl Fn(SubscriptionKey) -> usize) -> Plan {
        let Some(queue) = &self.0 else { return Plan { is_enough: true, ..Plan::default() } };
        let own = wanted.subscription;
        let mut planner = Planner::new(queue, wanted);
        match wanted.yielding {
            Yielding::Oldest => {
                planner.walk(queue, &word_held, |_| true, |_, _| true);
                // Gaps do not count as waiting: like an empty outbox, it takes any event.
                planner.is_enough |= planner.others == 0;
            }
            Yielding::Superseded => {
                planner.walk(queue, &word_held, |key| key == own, |_, _| true);
                if !planner.is_enough {
                    let last = last_events(queue);
                    planner.looked_at += queue.entries.len();
                    // The new event itself follows the lost events of its subscription.
                    planner.open = 0;
                    let is_followed = |place, key| last.get(&key).is_some_and(|last| place < *last);
                    planner.walk(queue, &word_held, |key| key != own, is_followed);
                }
            }
        }
        planner.into_plan(wanted)
    }

    /// Drops the events of a plan, which was made just now, and puts gaps into their places, one
    /// for each loss that has one.
    pub fn drop_planned(&mut self, now: Instant, plan: &Plan, words: Vec<Option<Frame>>) {
        debug_assert_eq!(plan.losses.len(), words.len());
        let Some(queue) = self.0.as_mut() else { return };
        let Some(end) = plan.losses.iter().map(|loss| loss.last + 1).max() else { return };
        let goes: HashMap<_, _> =
            plan.losses.iter().map(|loss| (loss.subscription, loss.last)).collect();
        let mut words: HashMap<usize, QueueEntry> = plan
            .losses
            .iter()
            .zip(words)
            .filter_map(|(loss, word)| {
                let kind = Kind::Gap(loss.subscription);
                Some((loss.place, QueueEntry::new(now, Body::Shared(word?), kind)))
            })
            .collect();
        let released = queue.released.unwrap_or(0);
        let (mut before, mut still_released) = (0, released);
        let mut kept: Vec<QueueEntry> = Vec::new();
        // Gaps before a released entry are released, too: what is released is a prefix.
        let (mut word_bytes, mut released_word_bytes) = (0, 0);
        let begun = queue.begun;
        for place in 0..end {
            let Some(entry) = queue.entries.pop_front() else { break };
            let len = entry.len();
            let is_released = usize::saturating_sub(before, begun) < released;
            before += len;
            if let Some(word) = words.remove(&place) {
                queue.bytes += word.len();
                word_bytes += word.len();
                kept.push(word);
            }
            let whose = match entry.kind {
                Kind::Event(key, _) | Kind::Gap(key) if !entry.has_begun(place, begun) => {
                    goes.get(&key)
                }
                _ => None,
            };
            if whose.is_some_and(|last| place <= *last) {
                queue.bytes -= len;
                still_released -= if is_released { len } else { 0 };
                continue;
            }
            if is_released {
                released_word_bytes = word_bytes;
            }
            kept.push(entry);
        }
        if before.saturating_sub(begun) < released {
            released_word_bytes = word_bytes;
        }
        if let Some(released) = &mut queue.released {
            queue.gave_way |= *released > 0 && still_released + released_word_bytes == 0;
            *released = still_released + released_word_bytes;
        }
        kept.into_iter().rev().for_each(|entry| queue.entries.push_front(entry));
        // An empty queue stays for the event that pushed them out: the peer has taken nothing.
    }
}

/// What is known of one subscription's entries, front to back.
#[derive(Debug)]
struct Trail {
    subscription: SubscriptionKey,
    /// The first gap, the bytes of all gaps, and what they take of the limit.
    word: Option<usize>,
    word_bytes: usize,
    word_held: usize,
    dropped: Option<usize>,
    last: usize,
    /// The event that follows the dropped ones.
    next: Option<EventId>,
}

#[derive(Debug)]
struct Planner {
    room: usize,
    /// What would wait beside the event, as [`Outbox::held_bytes`] counts it.
    held: usize,
    is_enough: bool,
    trails: Vec<Trail>,
    by_key: HashMap<SubscriptionKey, usize>,
    /// How many subscriptions have dropped events and no following event yet.
    open: usize,
    events: u64,
    dropped_bytes: usize,
    /// Entries that are neither events that give way nor gaps.
    others: usize,
    looked_at: usize,
}

impl Planner {
    fn new(queue: &Queue, wanted: &Wanted) -> Planner {
        let (held, room) = (queue.held_bytes(), wanted.limit.saturating_sub(wanted.len));
        Planner {
            room,
            held,
            is_enough: fits(held, room),
            trails: Vec::new(),
            by_key: HashMap::new(),
            open: 0,
            events: 0,
            dropped_bytes: 0,
            others: 0,
            looked_at: 0,
        }
    }

    /// Goes through the queue until there is room and the event after each loss is known.
    fn walk(
        &mut self,
        queue: &Queue,
        word_held: impl Fn(SubscriptionKey) -> usize,
        is_wanted: impl Fn(SubscriptionKey) -> bool,
        gives_way: impl Fn(usize, SubscriptionKey) -> bool,
    ) {
        let mut trail_at = usize::MAX;
        for (place, entry) in queue.entries.iter().enumerate() {
            if self.is_enough && self.open == 0 {
                return;
            }
            self.looked_at += 1;
            let key = match entry.kind {
                Kind::Event(key, _) | Kind::Gap(key)
                    if is_wanted(key) && !entry.has_begun(place, queue.begun) =>
                {
                    key
                }
                _ => {
                    self.others += 1;
                    continue;
                }
            };
            if self.trails.get(trail_at).is_none_or(|trail| trail.subscription != key) {
                trail_at = self.trail_of(key);
            }
            let trail = &mut self.trails[trail_at];
            match entry.kind {
                _ if trail.next.is_some() => self.others += 1,
                Kind::Event(..) if !self.is_enough && gives_way(place, key) => {
                    self.events += 1;
                    self.dropped_bytes += entry.len();
                    self.held -= entry.held_bytes();
                    trail.last = place;
                    if trail.dropped.replace(trail.dropped.unwrap_or(place)).is_none() {
                        self.open += 1;
                        self.held = self.held + word_held(key) - trail.word_held;
                    }
                    self.is_enough = fits(self.held, self.room);
                }
                Kind::Event(_, id) => {
                    self.others += 1;
                    trail.next = Some(id);
                    self.open -= usize::from(trail.dropped.is_some());
                }
                _ => {
                    trail.word.get_or_insert(place);
                    trail.word_bytes += entry.len();
                    trail.word_held += entry.held_bytes();
                    if trail.dropped.is_some() {
                        trail.last = place;
                        self.held -= entry.held_bytes();
                        self.is_enough |= fits(self.held, self.room);
                    }
                }
            }
        }
    }

    fn trail_of(&mut self, subscription: SubscriptionKey) -> usize {
        *self.by_key.entry(subscription).or_insert_with(|| {
            let (word, dropped, next) = (None, None, None);
            let (word_bytes, word_held, last) = (0, 0, 0);
            let trail = Trail { subscription, word, word_bytes, word_held, dropped, last, next };
            self.trails.push(trail);
            self.trails.len() - 1
        })
    }

    fn into_plan(self, wanted: &Wanted) -> Plan {
        let own = |key| (key == wanted.subscription).then_some(wanted.id);
        let losses = self.trails.iter().filter_map(|trail| {
            let first = trail.dropped?;
            Some(Loss {
                subscription: trail.subscription,
                next: trail.next.or(own(trail.subscription)),
                is_told: trail.word.is_some(),
                place: trail.word.map_or(first, |word| word.min(first)),
                last: trail.last,
            })
        });
        let losses: Vec<_> = losses.collect();
        let is_lossy = |trail: &&Trail| trail.dropped.is_some();
        let words = self.trails.iter().filter(is_lossy).map(|trail| trail.word_bytes);
        Plan {
            is_enough: self.is_enough,
            events: self.events,
            bytes: self.dropped_bytes + words.sum::<usize>(),
            losses,
            looked_at: self.looked_at,
        }
    }
}

fn fits(held: usize, room: usize) -> bool {
    held == 0 || held <= room
}

/// Returns the index of each subscription's newest event.
fn last_events(queue: &Queue) -> HashMap<SubscriptionKey, usize> {
    let events = queue.entries.iter().enumerate().filter_map(|(place, entry)| match entry.kind {
        Kind::Event(key, _) => Some((key, place)),
        _ => None,
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tungstenite::Bytes;

    use super::*;
    use crate::core::ground::random::Random;
    use crate::core::outbox::Spares;
    use crate::core::topics::{After, FirstSubscription, Topics};
    use crate::core::wire::spare_memory::SpareMemory;

    const NOW: Instant = Instant::from_millis(5);

    fn subscriptions(count: usize) -> Vec<SubscriptionKey> {
        let mut topics = Topics::new(Default::default(), 7, 1);
        let mut list = FirstSubscription::default();
        let connection = crate::core::ground::id::ConnectionId::new(
            0,
            crate::core::ground::id::Generation::FIRST,
        );
        let subscribe = |n| {
            let topic = format!("t{n}");
            topics.subscribe(NOW, connection, &mut list, &topic, After::Now).unwrap()
        };
        (0..count).map(subscribe).collect()
    }

    /// An entry of the model.
    type Plain = (Kind, Vec<u8>);

    /// Drops one entry after the other, in order: an event while there is no room, and a gap behind
    /// dropped events, up to the next event of the same subscription.
    struct Model {
        entries: Vec<Plain>,
        begun: usize,
        is_enough: bool,
        events: u64,
        lossy: Vec<SubscriptionKey>,
    }

    impl Model {
        fn event(&self, place: usize) -> Option<SubscriptionKey> {
            match self.entries[place].0 {
                Kind::Event(key, _) => Some(key),
                _ => None,
            }
        }

        fn look(&mut self, wanted: &Wanted) {
            let bytes: usize = self.entries.iter().map(|(_, bytes)| bytes.len()).sum();
            let held = bytes - self.begun + self.entries.len() * Outbox::ENTRY_BYTES;
            let is_word = |(kind, _): &Plain| matches!(kind, Kind::Gap(_));
            let is_idle = self.begun == 0 && self.entries.iter().all(is_word);
            self.is_enough = bytes == self.begun
                || held + wanted.len <= wanted.limit
                || is_idle && wanted.yielding == Yielding::Oldest;
        }

        fn make_room(&mut self, wanted: &Wanted, word_len: usize) {
            self.look(wanted);
            let own = wanted.subscription;
            if wanted.yielding == Yielding::Superseded {
                self.pass(wanted, word_len, |_, _, key| key == own);
            }
            self.pass(wanted, word_len, |model, place, key| match wanted.yielding {
                Yielding::Oldest => true,
                Yielding::Superseded => {
                    let mut rest = place + 1..model.entries.len();
                    key != own && rest.any(|other| model.event(other) == Some(key))
                }
            });
        }

        fn pass(
            &mut self,
            wanted: &Wanted,
            word_len: usize,
            gives_way: impl Fn(&Model, usize, SubscriptionKey) -> bool,
        ) {
            self.lossy.clear();
            let mut place = usize::from(self.begun > 0);
            while place < self.entries.len() {
                match self.entries[place].0 {
                    Kind::Event(key, _) if !self.is_enough && gives_way(self, place, key) => {
                        place = self.drop_at(place, key, word_len);
                        self.look(wanted);
                    }
                    Kind::Gap(key) if self.is_behind_loss(place, key) => {
                        self.entries.remove(place);
                        self.look(wanted);
                    }
                    _ => place += 1,
                }
            }
        }

        /// Puts a gap into the place of the first gap, or of the event. Returns where to go on.
        fn drop_at(&mut self, place: usize, key: SubscriptionKey, word_len: usize) -> usize {
            self.events += 1;
            self.entries.remove(place);
            let (mut first, mut at) = (place, place);
            for before in (usize::from(self.begun > 0)..place).rev() {
                if self.entries[before].0 == Kind::Gap(key) {
                    self.entries.remove(before);
                    (first, at) = (before, at - 1);
                }
            }
            self.entries.insert(first, (Kind::Gap(key), vec![b'?'; word_len]));
            self.lossy.push(key);
            at + 1
        }

        fn is_behind_loss(&self, place: usize, key: SubscriptionKey) -> bool {
            let mut before = usize::from(self.begun > 0)..place;
            self.lossy.contains(&key) && !before.any(|at| self.event(at) == Some(key))
        }
    }

    /// Returns a random queue, in both forms.
    fn draw(random: &mut Random, keys: &[SubscriptionKey]) -> (Outbox, Model) {
        let mut outbox = Outbox::default();
        let mut entries = Vec::new();
        for n in 0..random.between(0, 30) {
            let key = keys[random.between(0, keys.len() as u64 - 1) as usize];
            // No message: small ones are packed.
            let kind = match random.between(0, 9) {
                0 => Kind::Response,
                1 => Kind::Gap(key),
                _ => Kind::Event(key, EventId::new(n + 1, 0)),
            };
            let bytes = vec![b'a' + (n % 26) as u8; random.between(1, 9) as usize];
            let frame = Frame::raw(Bytes::from(bytes.clone()));
            outbox.push(NOW, frame, kind, &mut Spares::default());
            entries.push((kind, bytes));
        }
        let begun = match entries.first() {
            Some((_, bytes)) => random.between(0, bytes.len() as u64 - 1) as usize,
            None => 0,
        };
        outbox.written(NOW, begun, &mut Spares::default(), &mut SpareMemory::none());
        (outbox, Model { entries, begun, is_enough: false, events: 0, lossy: Vec::new() })
    }

    fn wire(outbox: &mut Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 128];
        let mut scratch = Vec::new();
        let (count, _) = outbox.gather(usize::MAX, &mut slices, &mut scratch, usize::MAX);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn one_pass_drops_what_one_after_the_other_would() {
        let keys = subscriptions(4);
        let mut random = Random::new(1);
        let (mut enough, mut short) = (0, 0);
        for round in 0..4000 {
            let (mut outbox, mut model) = draw(&mut random, &keys);
            let yielding = [Yielding::Oldest, Yielding::Superseded][round % 2];
            let wanted = Wanted {
                subscription: keys[random.between(0, 3) as usize],
                id: EventId::new(1000, 0),
                len: random.between(1, 60) as usize,
                limit: random.between(20, 4000) as usize,
                yielding,
            };
            let word_len = random.between(0, 6) as usize;
            let released = random.between(0, 9);
            if released < 8 {
                outbox.release(NOW, released);
            }
            let before = outbox.bytes();
            let waited = outbox.0.as_ref().map_or(0, |queue| queue.entries.len());
            let plan = outbox.plan_room(&wanted, |_| word_len + Outbox::ENTRY_BYTES);
            assert!(plan.looked_at <= 3 * waited, "{round}");
            model.make_room(&wanted, word_len);
            assert_eq!((plan.is_enough, plan.events), (model.is_enough, model.events), "{round}");
            let word = Frame::raw(Bytes::from(vec![b'?'; word_len]));
            outbox.drop_planned(NOW, &plan, vec![Some(word); plan.losses.len()]);
            let words = plan.losses.len() * word_len;
            assert_eq!(outbox.bytes(), before - plan.bytes + words, "{round}");
            let left: Vec<u8> = model.entries.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let released = wire(&mut outbox);
            assert!(left[model.begun..].starts_with(&released), "{round}");
            let mut end = 0;
            let mut ends = model.entries.iter().map(|(_, bytes)| {
                end += bytes.len();
                end
            });
            let is_whole = released.is_empty() || ends.any(|at| at == model.begun + released.len());
            assert!(is_whole, "{round}: what was let go are whole frames");
            outbox.release_all(NOW);
            // Gaps without a new loss keep their text, in both.
            assert_eq!(wire(&mut outbox), left[model.begun..], "{round} {wanted:?}");
            match plan.is_enough {
                true => enough += 1,
                false => short += 1,
            }
        }
        assert!(enough > 200 && short > 200, "{enough} {short}");
    }

    // FAULTS 182: as many passes as events were dropped took minutes.
    #[test]
    fn a_large_event_makes_room_among_many_small_ones_in_one_pass() {
        const COUNT: u64 = 50_000;
        let keys = subscriptions(2);
        for (yielding, passes) in [(Yielding::Oldest, 1), (Yielding::Superseded, 1)] {
            let mut outbox = Outbox::default();
            let spares = &mut Spares::default();
            for n in 0..COUNT {
                let kind = Kind::Event(keys[0], EventId::new(n + 1, 0));
                outbox.push(NOW, Frame::raw(&b"\x81\x03abc"[..]), kind, spares);
            }
            let (id, limit) = (EventId::new(COUNT + 1, 0), 1_500_000);
            let wanted = Wanted { subscription: keys[0], id, len: 200_000, limit, yielding };
            let plan = outbox.plan_room(&wanted, |_| 60 + Outbox::ENTRY_BYTES);
            assert!(plan.is_enough && plan.events >= 40_000 && plan.losses.len() == 1);
            assert!(plan.looked_at as u64 <= passes * COUNT, "{}", plan.looked_at);
            let word = Some(Frame::raw(&b"a gap"[..]));
            outbox.drop_planned(NOW, &plan, vec![word]);
            assert!(outbox.held_bytes() + wanted.len <= wanted.limit);
        }
    }
}
