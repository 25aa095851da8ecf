//! Every store against one model of what a store does: the same calls, of several owners, in any
//! order, with time between them; each answer is compared.
//!
//! The model is what makes owners safe: of a session that was claimed again no older claim is ever
//! saved, and a session is gone when its time is over, to the millisecond, whatever else happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(feature = "sqlite")]
use heartwheel::SqliteSessions;
use heartwheel::{Claim, Claimed, MemorySessions, Save, Saved, SessionId, SessionStore};

use crate::common::rng::Rng;

/// Milliseconds, moved by the test.
#[derive(Clone, Debug)]
pub struct Time {
    ms: Arc<AtomicU32>,
    moves: bool,
}

impl Time {
    fn new(moves: bool) -> Time {
        Time { ms: Arc::new(AtomicU32::new(1)), moves }
    }

    fn pass(&self, ms: u32) {
        self.ms.fetch_add(if self.moves { ms } else { 0 }, Ordering::SeqCst);
    }

    pub fn now_ms(&self) -> u64 {
        self.ms.load(Ordering::SeqCst).into()
    }
}

/// A session as the model has it.
#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    frozen: Option<Vec<u8>>,
    ends_ms: u64,
    held_until_ms: u64,
}

/// Claims a session, from whatever connection holds it.
pub fn take(store: &impl SessionStore, id: &SessionId, claim: Claim) -> (u64, Option<Vec<u8>>) {
    let claimed = match store.claim(id, &claim).expect("it works") {
        Claimed::Held { number } => store.claim(id, &claim.forced(number)).expect("it works"),
        claimed => claimed,
    };
    match claimed {
        Claimed::Taken { number, frozen } => (number, frozen),
        held => panic!("a forced claim is taken: {held:?}"),
    }
}

/// One run: some owners, some sessions, so many calls.
fn run(seed: u64, store: &impl SessionStore, time: &Time) {
    let mut rng = Rng::new(seed);
    let ids: Vec<SessionId> =
        (0..3).map(|n| SessionId::new("/a", &format!("{seed}-{n}")).unwrap()).collect();
    let mut model: HashMap<SessionId, Entry> = HashMap::new();
    // The claims that owners take for theirs: those of the dead never come back, others late.
    let mut claims: Vec<(SessionId, u64)> = Vec::new();
    let mut last_number = 0;
    for step in 0..30 {
        time.pass([0, 0, 0, 1, 99, 100, 299, 300, 301][rng.below(9) as usize]);
        let now_ms = time.now_ms();
        model.retain(|_, entry| entry.ends_ms > now_ms);
        // Of a store that has a clock of its own time is not moved: nothing ends then.
        let (ttl, lease) = spans(time);
        if claims.is_empty() || rng.chance(40) {
            let id = &ids[rng.below(3) as usize];
            let mut claim = Claim::new(ttl, lease);
            let before = model.get(id);
            if rng.chance(50) {
                // Of another one, which had it before perhaps, it takes nothing.
                let right = before.filter(|_| rng.chance(60)).map(|entry| entry.number);
                claim = claim.forced(right.unwrap_or_else(|| rng.below(last_number + 2)));
            }
            let held = before.filter(|entry| entry.held_until_ms > now_ms);
            let claimed = store.claim(id, &claim).expect("it works");
            if let Some(number) = held.map(|entry| entry.number)
                && claim.force != Some(number)
            {
                assert_eq!(claimed, Claimed::Held { number }, "{seed}, {step}");
                continue;
            }
            let expected = before.and_then(|entry| entry.frozen.clone());
            let Claimed::Taken { number, frozen } = claimed else { panic!("{seed}, {step}: held") };
            assert_eq!(frozen, expected, "{seed}, {step}");
            assert!(number > last_number, "{seed}, {step}: numbers rise");
            last_number = number;
            let (ends_ms, held_until_ms) = (now_ms + 300, now_ms + 100);
            model.insert(id.clone(), Entry { number, frozen, ends_ms, held_until_ms });
            claims.push((id.clone(), number));
        } else {
            let (id, number) = claims[rng.below(claims.len() as u64) as usize].clone();
            let bytes = rng.next_u64().to_le_bytes();
            let mut save = Save::new(number, ttl, lease);
            if rng.chance(60) {
                save = save.with(&bytes);
            }
            if rng.chance(30) {
                save = save.ending();
            }
            let saved = store.save(&id, &save).expect("it works");
            let Some(entry) = model.get_mut(&id).filter(|entry| entry.number == number) else {
                assert_eq!(saved, Saved::Fenced, "{seed}, {step}: an old owner");
                continue;
            };
            assert_eq!(saved, Saved::Taken, "{seed}, {step}");
            entry.frozen = save.frozen.map(Into::into).or(entry.frozen.take());
            entry.ends_ms = now_ms + 300;
            entry.held_until_ms = if save.end { 0 } else { now_ms + 100 };
            if save.end && entry.frozen.is_none() {
                model.remove(&id);
            }
        }
    }
    // What is left ends when its time is over, and not a millisecond before.
    let longest = model.values().map(|entry| entry.ends_ms).max().unwrap_or_default();
    for (id, entry) in model {
        if time.moves && entry.ends_ms == longest && longest > time.now_ms() {
            let left = (longest - time.now_ms()) as u32;
            time.pass(left - u32::from(seed.is_multiple_of(2)));
            let claim = Claim::new(Duration::from_millis(300), Duration::from_millis(100));
            let (_, frozen) = take(store, &id, claim);
            assert_eq!(
                frozen,
                entry.frozen.filter(|_| seed.is_multiple_of(2)),
                "{seed}: at its end"
            );
            return;
        }
    }
}

/// How long a session lasts, and how long a claim holds.
fn spans(time: &Time) -> (Duration, Duration) {
    let unit = Duration::from_millis(if time.moves { 1 } else { 100_000 });
    (300 * unit, 100 * unit)
}

/// Runs the model: with `ROUNDS=50` 100,000 times for the store in memory.
pub fn conforms<S: SessionStore>(runs: u64, moves: bool, make: impl Fn(&Time) -> S) {
    let runs = runs * std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for first in (0..runs).step_by(100) {
        let time = Time::new(moves);
        let store = make(&time);
        (first..runs.min(first + 100)).for_each(|seed| run(seed, &store, &time));
    }
}

#[test]
fn the_store_in_memory_does_what_a_store_does() {
    conforms(2000, true, |time| {
        let time = time.clone();
        MemorySessions::default().with_clock(move || time.now_ms())
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn the_store_in_sqlite_does_what_a_store_does() {
    conforms(500, true, |time| {
        let time = time.clone();
        SqliteSessions::open(":memory:").unwrap().with_clock(move || time.now_ms())
    });
}
