//! The ring against power cuts, failing disks and bits that turn over. A history of a ring goes on
//! from crash to crash; after each one what is read is compared with what was written.
//!
//! `HEARTWHEEL_CUTS` says how many crashes there are: 20,000 if it is not set.

use std::collections::BTreeMap;

use heartwheel::core::store::{Found, Ring};
use heartwheel::core::topics::Kept;
use heartwheel::topics::{EventId, Payload};

use super::disk::Disk;
use crate::common::rng::Rng;

/// Small pages are read and written faster, and have more borders.
const PAGE_BYTES: usize = 160;

/// A ring, and all that is known of it.
struct History {
    rng: Rng,
    disk: Disk,
    slots: u64,
    ring: Ring,
    run: u16,
    /// All events that matter; of those that were synced, how many pages were written before them.
    published: BTreeMap<EventId, (Kept, Option<u64>)>,
    /// Published, and not told to be on flash.
    waiting: Vec<(EventId, u64)>,
    last: EventId,
    has_flips: bool,
    /// The positions of two readers that were set, oldest first, and which of them was committed
    /// last. The second one reads far topics.
    positions: [Vec<EventId>; 2],
    committed: [Option<usize>; 2],
    far: u64,
}

impl History {
    fn new(seed: u64) -> History {
        let mut rng = Rng::new(seed);
        let slots = 16 + rng.below(9);
        let first = EventId::new(1, 1);
        History {
            disk: Disk::new(slots as usize, PAGE_BYTES),
            slots,
            ring: Ring::begin(&Found::default(), PAGE_BYTES, slots, first),
            run: 1,
            published: BTreeMap::new(),
            waiting: Vec::new(),
            last: first,
            has_flips: rng.below(4) == 0,
            positions: Default::default(),
            committed: [None; 2],
            far: 0,
            rng,
        }
    }

    fn publish(&mut self) {
        let later = if self.rng.below(3) == 0 { self.rng.below(300) } else { 0 };
        let id = match later {
            0 => EventId::new(self.last.ms(), self.last.seq() + 65536),
            _ => EventId::new(self.last.ms() + later, self.run.into()),
        };
        let len = match self.rng.below(20) {
            0 => self.rng.below(900),
            1 => 0,
            _ => self.rng.below(60),
        } as usize;
        let byte = b'a' + self.rng.below(26) as u8;
        let payload = match self.rng.below(3) {
            0 => Payload::Binary(vec![byte; len].into()),
            1 => Payload::Json(String::from_utf8(vec![byte; len]).unwrap().into()),
            _ => Payload::text(String::from_utf8(vec![byte; len]).unwrap()),
        };
        let topic = format!("topic-{}", self.rng.below(5)).parse().unwrap();
        let event = Kept { id, topic, payload };
        self.last = id;
        self.published.insert(id, (event.clone(), None));
        let before = self.disk.writes;
        match self.ring.append(&mut self.disk, event) {
            Ok(true) => self.waiting.push((id, before)),
            Ok(false) => {}
            Err(_) => self.waiting.clear(),
        }
    }

    fn commit(&mut self) {
        let committed = self.ring.commit(&mut self.disk);
        self.note(committed.is_ok());
    }

    /// Both readers get on.
    fn get_on(&mut self) {
        self.far += 1;
        let [own, far] = [self.last, EventId::new(self.far, 9)];
        self.positions[0].push(own);
        self.positions[1].push(far);
        self.ring.set_positions(&[(READERS[0].into(), own), (READERS[1].into(), far)]);
    }

    /// What is found was set, and is no older than what was committed last.
    fn check_positions(&mut self, found: &Found, context: &str) {
        for (nth, name) in READERS.into_iter().enumerate() {
            let at = found.positions.iter().find(|(known, _)| known == name).map(|known| known.1);
            let all = &mut self.positions[nth];
            let place = at.and_then(|at| all.iter().rposition(|set| *set == at));
            assert_eq!(at.is_some(), place.is_some(), "{context}: {at:?} was never set");
            let is_newer = place >= self.committed[nth];
            assert!(is_newer || self.has_flips, "{context}: {at:?} of {name} is of the past");
            all.truncate(place.map_or(0, |place| place + 1));
            self.committed[nth] = place;
        }
    }

    fn note(&mut self, is_synced: bool) {
        if is_synced {
            self.committed = [0, 1].map(|nth| self.positions[nth].len().checked_sub(1));
        }
        for (id, before) in std::mem::take(&mut self.waiting) {
            self.published.get_mut(&id).unwrap().1 = is_synced.then_some(before);
        }
    }

    /// Does one thing after the other, until the power is cut.
    fn live(&mut self) {
        for _ in 0..self.rng.below(40) {
            match self.rng.below(8) {
                0 | 1 => self.commit(),
                2 if self.rng.below(8) == 0 => {
                    self.disk.fails_after = Some(self.rng.below(6));
                }
                2 => self.disk.fails_after = None,
                4 if self.rng.below(2) == 0 => self.get_on(),
                3 if self.rng.below(10) == 0 => {
                    // Its queue was full.
                    self.last = EventId::new(self.last.ms() + 1, self.run.into());
                    let topic = "lost".parse().unwrap();
                    let event = Kept { id: self.last, topic, payload: "x".into() };
                    self.published.insert(self.last, (event, None));
                    self.ring.lose(self.last);
                }
                _ => self.publish(),
            }
        }
        if self.rng.below(6) == 0 {
            let closed = self.ring.close(&mut self.disk, self.last);
            self.note(closed.is_ok());
        }
    }

    fn cut(&mut self) {
        let kind = self.rng.below(4);
        let left = self.rng.below(1 + self.disk.unsynced() as u64);
        let (rng, mut nth) = (&mut self.rng, 0);
        self.disk.cut(|len| {
            nth += 1;
            match kind {
                // A prefix of the writes, and of the last of them.
                0 if nth <= left => len,
                0 if nth == left + 1 => rng.below(len as u64 + 1) as usize,
                0 => 0,
                // Any of them, in any order.
                1 => [0, len][rng.below(2) as usize],
                // Any part of any of them.
                2 => [0, len, rng.below(len as u64 + 1) as usize][rng.below(3) as usize],
                // All: only the process was killed.
                _ => len,
            }
        });
        if self.has_flips && self.rng.below(3) == 0 {
            self.disk.flip(&mut self.rng);
        }
    }

    /// Reads the ring, compares, and begins another run. The floor is the position before which a
    /// client is told that events may be missing.
    fn reopen(&mut self, context: &str) {
        let found = Found::read(&mut self.disk, PAGE_BYTES, usize::MAX);
        self.check_positions(&found, context);
        self.run += 1;
        self.last = EventId::new(self.last.ms() + 1 + self.rng.below(1000), self.run.into());
        let floor = if found.past.has_loss { self.last } else { found.past.floor };
        let ids: Vec<_> = found.past.events.iter().map(|event| event.id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{context}: {ids:?}");
        for event in &found.past.events {
            let published = self.published.get(&event.id).map(|(event, _)| event);
            assert_eq!(published, Some(event), "{context}: it was published so");
        }
        assert!(found.past.last < self.last, "{context}: no id is used twice");
        for (id, (event, before)) in &self.published {
            if ids.binary_search(id).is_ok() {
                continue;
            }
            assert!(*id <= floor, "{context}: no gap is told for {id}");
            let most = self.slots - self.slots / 4 - 2;
            let is_safe = before.is_some_and(|before| before + most > self.disk.writes);
            assert!(!is_safe || self.has_flips, "{context}: {id} was on flash: {event:?}");
        }
        // What is not on flash any more is of no more interest.
        let kept = ids.first().copied().unwrap_or(self.last);
        self.published.retain(|id, _| ids.binary_search(id).is_ok() || *id >= kept);
        self.waiting.clear();
        self.ring = Ring::begin(&found, PAGE_BYTES, self.slots, self.last);
        // No event is delivered before the disk knows of the new run.
        self.commit();
    }
}

const READERS: [&str; 2] = ["bridge", "bridge<far"];

#[test]
fn no_power_cut_loses_what_was_synced_or_leaves_a_gap_untold() {
    let cuts = std::env::var("HEARTWHEEL_CUTS").ok().and_then(|text| text.parse().ok());
    let cuts: u64 = cuts.unwrap_or(20_000);
    let mut done = 0;
    for seed in 0.. {
        let mut history = History::new(seed);
        for crash in 0..50 {
            history.live();
            history.cut();
            history.reopen(&format!("seed {seed} crash {crash}"));
            done += 1;
            if done == cuts {
                return;
            }
        }
    }
}
