//! Hashed timing wheel over slab keys.
//!
//! Time is cut into ticks. A deadline belongs to the first tick that does not begin before it, so a
//! key comes out up to one tick late and never early. The 4096 ticks from the cursor on have one
//! slot each. Deadlines past this horizon wait in the far list, which is looked through when its
//! earliest deadline comes up: a far deadline causes no wake-up before its time.
//!
//! ```text
//!  summary   one bit per word ─┐
//!  words     one bit per slot ─┴► next slot in use, empty ones are jumped over
//!  heads     slot 0 .. slot 4095, far list ──► key ⇄ key ⇄ key ⇄ (a ring, first in, first out)
//!  entries   by key, 16 bytes each: due tick and list, next key, previous key
//! ```
//!
//! The wheel reads no clock, has no callbacks and does not know what a key stands for.

use std::fmt;
use std::time::Duration;

use crate::core::ground::time::{Instant, millis_up};

/// Deadlines of many keys, at most one for each.
///
/// Arming, moving and disarming take constant time, about 10 ns, and allocate nothing unless the
/// key is larger than any before. Keys are small and dense, as a slab gives them: the wheel
/// keeps [`Wheel::ENTRY_BYTES`] for each key up to the largest, and about 17 KB of its own.
///
/// # Lazy re-arm
///
/// A caller whose deadline mostly moves *later*, as an idle timeout does with each byte received,
/// need not tell the wheel: it stores the new moment, lets the entry come out at the old one, sees
/// that it is early, and arms it again. Traffic then costs one store. A deadline that moves
/// *earlier* must be armed at once.
///
/// ```
/// use std::time::Duration;
/// use heartwheel::core::ground::time::Instant;
/// use heartwheel::core::ground::wheel::Wheel;
///
/// let ms = Instant::from_millis;
/// let mut wheel = Wheel::new(Duration::from_millis(50));
/// let mut idle_at = [ms(120), ms(130)]; // by key
/// for (key, at) in idle_at.into_iter().enumerate() {
///     wheel.arm(key, at);
/// }
/// assert_eq!(wheel.next_deadline(), Some(ms(150)));
///
/// idle_at[0] = ms(400); // Bytes came for key 0: its deadline moves later, the wheel is not told.
///
/// let mut closed = Vec::new();
/// while let Some(now) = wheel.next_deadline() {
///     // Here an event loop waits for sockets, until `now` at the latest.
///     while let Some(key) = wheel.poll_expired(now) {
///         if idle_at[key] > now {
///             wheel.arm(key, idle_at[key]);
///         } else {
///             closed.push((now.as_millis(), key));
///         }
///     }
/// }
/// assert_eq!(closed, [(150, 1), (400, 0)]);
/// ```
pub struct Wheel {
    tick_ms: u64,
    now: u64,
    cursor: u64,
    far_due: Option<u64>,
    occupied: Occupied,
    heads: Box<[u32; SLOTS + 1]>,
    entries: Vec<WheelEntry>,
    len: usize,
}

// Invariants, all in ticks:
// - `cursor <= now`, the tick of the last `poll_expired`; no entry is due before `cursor`.
// - An entry in slot `s` is due at the one tick in `cursor ..= cursor + 4095` that is `s` modulo
//   4096. So a slot never mixes ticks, and its head is due when the slot is.
// - The far list holds entries that were past the horizon when linked. `far_due` is none if it is
//   empty; else not before `cursor`, and not after its earliest entry (before it, if one has left).
// - A bit of `occupied` is set exactly if that slot has a head.
impl Wheel {
    /// The memory that each key up to the largest one takes, in bytes.
    pub const ENTRY_BYTES: usize = 16;

    /// The horizon: how many ticks from the cursor on have a slot of their own.
    pub const SLOTS: usize = SLOTS;

    /// Makes an empty wheel. A deadline acts up to `tick` late, the width of a slot.
    ///
    /// # Panics
    ///
    /// If `tick` is not a whole number of milliseconds, at least one.
    pub fn new(tick: Duration) -> Wheel {
        let tick_ms = millis_up(tick);
        assert!(tick_ms > 0, "a tick lasts at least a millisecond");
        assert_eq!(Duration::from_millis(tick_ms), tick, "a tick is whole milliseconds");
        Wheel {
            tick_ms,
            now: 0,
            cursor: 0,
            far_due: None,
            occupied: Occupied::NONE,
            heads: Box::new([NONE; SLOTS + 1]),
            entries: Vec::new(),
            len: 0,
        }
    }

    /// Sets the deadline of `key`, or moves it.
    ///
    /// The deadline is rounded up to a tick: the key never comes out early. A moment in the past is
    /// due at the next [`poll_expired`](Wheel::poll_expired), behind all else that is due then: a
    /// key that is armed like this again and again starves no other.
    ///
    /// # Panics
    ///
    /// If `key` is not below `u32::MAX`.
    pub fn arm(&mut self, key: usize, at: Instant) {
        assert!(key < NONE as usize, "keys are below u32::MAX");
        if key >= self.entries.len() {
            self.entries.resize(key + 1, WheelEntry::UNARMED);
        }
        self.disarm(key);
        self.len += 1;
        let due = at.as_millis().div_ceil(self.tick_ms).min(TICK_MAX).max(self.now);
        self.link(key as u32, due);
    }

    /// Removes the deadline of `key`; returns whether it had one.
    pub fn disarm(&mut self, key: usize) -> bool {
        let armed = self.entries.get(key).is_some_and(|entry| entry.is_armed());
        if armed {
            self.len -= 1;
            self.unlink(key as u32);
        }
        armed
    }

    /// Returns the moment from which `key` may come out, rounded up to a tick; `None` if unarmed.
    ///
    /// For a deadline that was past when armed, the tick of the last `poll_expired` before that.
    pub fn armed_at(&self, key: usize) -> Option<Instant> {
        let entry = self.entries.get(key).filter(|entry| entry.is_armed())?;
        Some(self.instant(entry.due()))
    }

    /// Returns when [`poll_expired`](Wheel::poll_expired) next has something to do, `None` if no
    /// key is armed. The moment lies in the past while keys that are due have not been taken out.
    ///
    /// Waking earlier is harmless, later makes deadlines late. The moment is exact, except that a
    /// far deadline which was disarmed or moved may still be waited for; such idle wake-ups are
    /// at least [`Wheel::SLOTS`] ticks apart.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_tick().map(|tick| self.instant(tick))
    }

    /// Takes out one key whose deadline has come, and disarms it; `None` if none is due at `now`.
    ///
    /// Keys come out in the order of their ticks however far `now` jumps, and within a tick about
    /// in the order of arming. The caller decides how many come out in one turn; the others come
    /// out at the next call. Between calls any key may be armed or disarmed. A loop that arms each
    /// key it gets for `now` or before needs a budget of its own to end.
    ///
    /// A `now` before that of an earlier call counts as no progress.
    ///
    /// A call takes constant time. When the earliest far deadline has come up, the call also goes
    /// once through the far deadlines, at most every [`Wheel::SLOTS`] ticks; twice if that deadline
    /// was disarmed or moved and `now` has jumped by more. The length of a jump does not matter.
    pub fn poll_expired(&mut self, now: Instant) -> Option<usize> {
        self.now = self.now.max((now.as_millis() / self.tick_ms).min(TICK_MAX));
        while let Some(tick) = self.next_tick().filter(|&tick| tick <= self.now) {
            self.cursor = tick;
            if self.far_due == Some(tick) {
                self.relink_far();
            }
            let key = self.heads[slot(tick)];
            if key != NONE {
                self.disarm(key as usize);
                return Some(key as usize);
            }
        }
        self.cursor = self.now;
        None
    }

    /// Returns the number of armed keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no key is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn next_tick(&self) -> Option<u64> {
        let near = self.occupied.ahead_of(slot(self.cursor)).map(|ahead| self.cursor + ahead);
        match (near, self.far_due) {
            (Some(near), Some(far)) => Some(near.min(far)),
            (near, far) => near.or(far),
        }
    }

    /// Links all far entries again: into slots, now that they are within reach, or to the far list.
    fn relink_far(&mut self) {
        let first = std::mem::replace(&mut self.heads[FAR], NONE);
        self.far_due = None;
        let mut key = first;
        loop {
            let WheelEntry { next, .. } = self.entries[key as usize];
            self.link(key, self.entries[key as usize].due());
            if next == first {
                return;
            }
            key = next;
        }
    }

    /// Puts an entry that is in no list to the end of the one where `due` belongs.
    fn link(&mut self, key: u32, due: u64) {
        debug_assert!(self.cursor <= due && due <= TICK_MAX);
        let list = if due - self.cursor < SLOTS as u64 {
            self.occupied.set(slot(due));
            slot(due)
        } else {
            self.far_due = Some(self.far_due.map_or(due, |far_due| far_due.min(due)));
            FAR
        };
        let head = self.heads[list];
        let (next, prev) = if head == NONE {
            self.heads[list] = key;
            (key, key)
        } else {
            let last = std::mem::replace(&mut self.entries[head as usize].prev, key);
            self.entries[last as usize].next = key;
            (head, last)
        };
        self.entries[key as usize] = WheelEntry { place: due << 16 | list as u64, next, prev };
    }

    fn unlink(&mut self, key: u32) {
        let entry = std::mem::replace(&mut self.entries[key as usize], WheelEntry::UNARMED);
        let list = entry.list();
        if entry.next != key {
            self.entries[entry.prev as usize].next = entry.next;
            self.entries[entry.next as usize].prev = entry.prev;
            if self.heads[list] == key {
                self.heads[list] = entry.next;
            }
            return;
        }
        self.heads[list] = NONE;
        if list == FAR {
            self.far_due = None;
        } else {
            self.occupied.clear(list);
        }
    }

    fn instant(&self, tick: u64) -> Instant {
        Instant::from_millis(tick.saturating_mul(self.tick_ms))
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("tick_ms", &self.tick_ms)
            .field("len", &self.len)
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

/// A key's deadline and its neighbours in the ring of its list.
#[derive(Clone, Copy)]
struct WheelEntry {
    /// The due tick in the upper 48 bits: it does not wrap within 8,900 years of milliseconds,
    /// however long a wheel stood still. The list in the lower 16: a slot, or `FAR`.
    place: u64,
    next: u32,
    prev: u32,
}

impl WheelEntry {
    const UNARMED: WheelEntry = WheelEntry { place: u64::MAX, next: NONE, prev: NONE };

    fn is_armed(self) -> bool {
        self.next != NONE
    }

    fn due(self) -> u64 {
        self.place >> 16
    }

    fn list(self) -> usize {
        usize::from(self.place as u16)
    }
}

/// Which slots hold entries: a bit for each slot, and one for each word that is not zero.
struct Occupied {
    words: [u64; 64],
    summary: u64,
}

impl Occupied {
    const NONE: Occupied = Occupied { words: [0; 64], summary: 0 };

    fn set(&mut self, slot: usize) {
        self.words[slot / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    fn clear(&mut self, slot: usize) {
        let word = &mut self.words[slot / 64];
        *word &= !(1 << (slot % 64));
        if *word == 0 {
            self.summary &= !(1 << (slot / 64));
        }
    }

    /// Returns the distance from `slot` to the next slot in use, round the end; 0 for itself.
    fn ahead_of(&self, slot: usize) -> Option<u64> {
        let (word, bit) = (slot / 64, slot % 64);
        let rest = self.words[word] >> bit;
        if rest != 0 {
            return Some(u64::from(rest.trailing_zeros()));
        }
        if self.summary == 0 {
            return None;
        }
        // The last of the 64 words looked at is this one again, for the slots before `slot`.
        let skip = self.summary.rotate_right(word as u32 + 1).trailing_zeros() as usize;
        let found = self.words[(word + 1 + skip) % 64].trailing_zeros() as usize;
        Some((64 - bit + 64 * skip + found) as u64)
    }
}

fn slot(tick: u64) -> usize {
    tick as usize % SLOTS
}

const SLOTS: usize = 4096;
/// The far list's place among the heads, behind the slots.
const FAR: usize = SLOTS;
/// No key: an empty list's head.
const NONE: u32 = u32::MAX;
const TICK_MAX: u64 = u64::MAX >> 16;

const _: () = assert!(size_of::<WheelEntry>() == Wheel::ENTRY_BYTES);
const _: () = assert!(SLOTS == 64 * 64, "one summary word covers all slots");
const _: () = assert!(FAR <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    /// No key.
    const NO_KEY: [usize; 0] = [];

    const TICK_MS: u64 = 50;
    const HORIZON: u64 = SLOTS as u64;

    fn wheel() -> Wheel {
        Wheel::new(Duration::from_millis(TICK_MS))
    }

    fn at(ticks: u64) -> Instant {
        Instant::from_millis(ticks * TICK_MS)
    }

    fn expired(wheel: &mut Wheel, now: Instant) -> Vec<usize> {
        let keys = std::iter::from_fn(|| wheel.poll_expired(now)).collect();
        check(wheel);
        keys
    }

    /// Holds a wheel against the invariants stated above its impl.
    fn check(wheel: &Wheel) {
        let mut len = 0;
        for list in 0..=FAR {
            let head = wheel.heads[list];
            if list != FAR {
                let bit = wheel.occupied.words[list / 64] >> (list % 64) & 1;
                assert_eq!(bit == 1, head != NONE);
            }
            let mut key = head;
            while key != NONE {
                let entry = wheel.entries[key as usize];
                assert_eq!(entry.list(), list);
                assert_eq!(wheel.entries[entry.next as usize].prev, key);
                assert!(entry.due() >= wheel.cursor);
                if list == FAR {
                    assert!(wheel.far_due.unwrap() <= entry.due());
                } else {
                    assert_eq!(slot(entry.due()), list);
                    assert!(entry.due() - wheel.cursor < HORIZON);
                }
                len += 1;
                assert!(len <= wheel.entries.len(), "a ring that does not close");
                key = if entry.next == head { NONE } else { entry.next };
            }
        }
        for (index, word) in wheel.occupied.words.iter().enumerate() {
            assert_eq!(wheel.occupied.summary >> index & 1 == 1, *word != 0);
        }
        assert_eq!(wheel.far_due.is_none(), wheel.heads[FAR] == NONE);
        assert_eq!(wheel.len(), len);
        assert!(wheel.cursor <= wheel.now);
    }

    #[test]
    fn deadlines_are_rounded_up_to_a_tick() {
        for (at_ms, armed_ms) in [(0, 0), (1, 50), (49, 50), (50, 50), (51, 100)] {
            let mut wheel = wheel();
            wheel.arm(3, Instant::from_millis(at_ms));
            let armed_at = Instant::from_millis(armed_ms);
            assert_eq!(wheel.armed_at(3), Some(armed_at));
            assert_eq!(wheel.next_deadline(), Some(armed_at));
            if armed_ms > 0 {
                assert_eq!(wheel.poll_expired(Instant::from_millis(armed_ms - 1)), None);
            }
            assert_eq!(expired(&mut wheel, armed_at), [3]);
            assert_eq!((wheel.armed_at(3), wheel.next_deadline()), (None, None));
        }
    }

    #[test]
    fn one_tick_gives_its_keys_in_the_order_of_arming() {
        let mut wheel = wheel();
        for key in [4, 1, 3, 0] {
            wheel.arm(key, at(7));
        }
        wheel.arm(4, at(7));
        assert!(wheel.disarm(3));
        assert!(!wheel.disarm(3));
        assert!(!wheel.disarm(99));
        assert_eq!(wheel.len(), 3);
        assert_eq!(expired(&mut wheel, at(7)), [1, 0, 4]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn one_round_later_is_not_now() {
        let mut wheel = wheel();
        wheel.arm(0, at(5 + HORIZON));
        wheel.arm(1, at(5));
        wheel.arm(2, at(4 + HORIZON));
        assert_eq!(expired(&mut wheel, at(5)), [1]);
        assert_eq!(expired(&mut wheel, at(3 + HORIZON)), NO_KEY);
        assert_eq!(expired(&mut wheel, at(4 + HORIZON)), [2]);
        assert_eq!(expired(&mut wheel, at(5 + HORIZON)), [0]);
    }

    #[test]
    fn a_key_rearmed_into_the_past_starves_no_other() {
        let mut wheel = wheel();
        for key in 0..3 {
            wheel.arm(key, at(1 + key as u64));
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let key = wheel.poll_expired(at(10)).unwrap();
            wheel.arm(key, at(0));
            assert!(wheel.next_deadline().unwrap() <= at(10));
            order.push(key);
            check(&wheel);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn keys_may_be_moved_while_others_expire() {
        let mut wheel = wheel();
        for key in 0..4 {
            wheel.arm(key, at(1));
        }
        assert_eq!(wheel.poll_expired(at(1)), Some(0));
        wheel.arm(0, at(2));
        wheel.arm(1, at(HORIZON * 3));
        wheel.disarm(2);
        assert_eq!(expired(&mut wheel, at(1)), [3]);
        assert_eq!(expired(&mut wheel, at(2)), [0]);
        assert_eq!(expired(&mut wheel, at(HORIZON * 3)), [1]);
    }

    #[test]
    fn far_deadlines_are_exact_and_wake_nobody_before() {
        let mut wheel = wheel();
        wheel.arm(0, at(HORIZON * 5 + 3));
        assert_eq!(wheel.armed_at(0), Some(at(HORIZON * 5 + 3)));
        assert_eq!(wheel.next_deadline(), Some(at(HORIZON * 5 + 3)));
        assert_eq!(expired(&mut wheel, at(HORIZON * 5 + 2)), NO_KEY);
        assert_eq!(expired(&mut wheel, at(HORIZON * 5 + 3)), [0]);
    }

    #[test]
    fn a_wheel_that_stood_idle_has_its_horizon_ahead() {
        let mut wheel = wheel();
        assert_eq!(expired(&mut wheel, at(HORIZON * 3)), NO_KEY);
        wheel.arm(0, at(HORIZON * 3 + 1));
        wheel.arm(1, at(HORIZON * 4 - 1));
        wheel.disarm(0);
        assert_eq!(wheel.next_deadline(), Some(at(HORIZON * 4 - 1)));
    }

    #[test]
    fn a_far_deadline_taken_away_costs_one_idle_wake_up() {
        let mut wheel = wheel();
        wheel.arm(0, at(HORIZON));
        wheel.arm(1, at(HORIZON * 7));
        wheel.disarm(0);
        assert_eq!(wheel.next_deadline(), Some(at(HORIZON)));
        assert_eq!(expired(&mut wheel, at(HORIZON)), NO_KEY);
        assert_eq!(wheel.next_deadline(), Some(at(HORIZON * 7)));
        wheel.disarm(1);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_long_jump_gives_everything_due_in_tick_order() {
        let mut wheel = wheel();
        let due = [HORIZON * 900, 3, HORIZON - 1, HORIZON * 2 + 3, HORIZON, HORIZON * 900 - 1];
        for (key, ticks) in due.into_iter().enumerate() {
            wheel.arm(key, at(ticks));
        }
        assert_eq!(expired(&mut wheel, at(HORIZON * 900 - 1)), [1, 2, 4, 3, 5]);
        assert_eq!(wheel.next_deadline(), Some(at(HORIZON * 900)));
        wheel.arm(1, at(HORIZON * 900 + 1));
        assert_eq!(expired(&mut wheel, at(HORIZON * 901)), [0, 1]);
    }

    #[test]
    fn thirty_two_bits_of_ticks_are_no_border() {
        let wrap = 1 << 32;
        let mut wheel = wheel();
        // As after a night without connections: armed before the first poll that knows the time.
        wheel.arm(0, at(wrap + 5));
        assert_eq!(expired(&mut wheel, at(wrap - 2)), NO_KEY);
        for (key, ticks) in [(1, wrap - 1), (2, wrap), (3, wrap + 1), (4, wrap * 2)] {
            wheel.arm(key, at(ticks));
        }
        assert_eq!(expired(&mut wheel, at(wrap - 1)), [1]);
        assert_eq!(expired(&mut wheel, at(wrap)), [2]);
        assert_eq!(expired(&mut wheel, at(wrap * 2 - 1)), [3, 0]);
        assert_eq!(expired(&mut wheel, at(wrap * 2)), [4]);
    }

    #[test]
    fn the_end_of_time_is_a_moment_like_others() {
        let mut wheel = Wheel::new(Duration::from_millis(1));
        let end = Instant::from_millis(u64::MAX);
        wheel.arm(0, end);
        assert_eq!(expired(&mut wheel, at(1 << 40)), NO_KEY);
        assert_eq!(expired(&mut wheel, end), [0]);
        wheel.arm(0, end);
        assert_eq!(expired(&mut wheel, end), [0]);
    }

    #[test]
    fn time_that_goes_back_is_no_progress() {
        let mut wheel = wheel();
        assert_eq!(wheel.poll_expired(at(100)), None);
        wheel.arm(0, at(20));
        wheel.arm(1, at(101));
        assert_eq!(expired(&mut wheel, at(10)), [0]);
        assert_eq!(expired(&mut wheel, at(101)), [1]);
    }

    #[test]
    fn the_next_slot_in_use_is_found_from_every_slot() {
        for used in [0, 1, 63, 64, 2000, SLOTS - 1] {
            let mut occupied = Occupied::NONE;
            occupied.set(used);
            for slot in 0..SLOTS {
                let ahead = (used + SLOTS - slot) % SLOTS;
                assert_eq!(occupied.ahead_of(slot), Some(ahead as u64));
            }
            occupied.clear(used);
            assert_eq!(occupied.ahead_of(used), None);
        }
    }

    #[test]
    #[should_panic(expected = "whole milliseconds")]
    fn a_tick_of_fractions_is_refused() {
        Wheel::new(Duration::from_micros(1500));
    }
}
