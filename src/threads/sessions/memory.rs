//! Sessions in the memory of one process.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use super::{Claim, Claimed, Listener, Save, Saved, SessionId, SessionStore, StoreError};

/// A [`SessionStore`] in memory: for one process, whose end is the end of all sessions. Servers of
/// the same process may share it: each is told at once what the others want.
///
/// It holds 10,000 sessions and 16 MiB, each session counted with its name and 256 bytes, unless
/// [`MemorySessions::bounded`] says otherwise. Where one more does not fit, those that no
/// connection holds make room, first those that would be gone first: they are counted
/// (`heartwheel_sessions_evicted_total`). Where all are held, a claim fails (503), and a save that
/// has become too long fails and is tried again. A session that was never saved takes no room when
/// its connection has ended. What is too old is dropped when others come, without a thread.
pub struct MemorySessions {
    kept: Mutex<Kept>,
    listeners: Mutex<Vec<Listener>>,
    sessions_max: usize,
    bytes_max: usize,
    clock: Clock,
}

/// Returns the milliseconds since some moment.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

#[derive(Default)]
struct Kept {
    sessions: HashMap<SessionId, Entry>,
    /// All of them, by when they are gone. The number tells those of one moment apart.
    by_end: BTreeSet<(u64, u64, SessionId)>,
    bytes: usize,
    last_number: u64,
    evicted: u64,
}

struct Entry {
    number: u64,
    frozen: Option<Box<[u8]>>,
    ends_ms: u64,
    /// 0 if nobody holds it.
    held_until_ms: u64,
    /// Somebody has asked for it in vain.
    is_wanted: bool,
}

impl Default for MemorySessions {
    fn default() -> MemorySessions {
        MemorySessions::bounded(10_000, 16 << 20)
    }
}

impl MemorySessions {
    /// Makes a store of at most so many sessions, which together have at most so many bytes.
    pub fn bounded(sessions_max: usize, bytes_max: usize) -> MemorySessions {
        let began = StdInstant::now();
        MemorySessions {
            kept: Mutex::default(),
            listeners: Mutex::default(),
            sessions_max,
            bytes_max,
            clock: Box::new(move || began.elapsed().as_millis() as u64),
        }
    }

    /// Reads the time, in milliseconds since some moment, from elsewhere: for tests.
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> MemorySessions {
        MemorySessions { clock: Box::new(clock), ..self }
    }

    /// Returns how many sessions there are; some may be too old.
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all servers, while nothing is locked: they may call.
    fn tell(&self, what: impl Fn(&Listener)) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners.iter().for_each(what);
    }

    /// Gives a session to the one who claims it.
    fn take(
        &self,
        kept: &mut Kept,
        now_ms: u64,
        id: &SessionId,
        claim: &Claim,
    ) -> Result<Claimed, StoreError> {
        let frozen = kept.remove(id).and_then(|entry| entry.frozen);
        kept.last_number += 1;
        let number = kept.last_number;
        let saved = frozen.as_ref().map(|frozen| frozen.to_vec());
        let is_new = frozen.is_none();
        let (ends_ms, held_until_ms) = (after(now_ms, claim.ttl), after(now_ms, claim.lease));
        kept.insert(id, Entry { number, frozen, ends_ms, held_until_ms, is_wanted: false });
        let fits = self.fit(kept, now_ms, id);
        if fits.is_err() && is_new {
            kept.remove(id);
        }
        fits.map(|()| Claimed::Taken { number, frozen: saved })
    }

    /// Puts back a session that was taken out to be saved.
    fn put(
        &self,
        kept: &mut Kept,
        now_ms: u64,
        id: &SessionId,
        mut entry: Entry,
        save: &Save<'_>,
    ) -> Result<Saved, StoreError> {
        let before = save.frozen.map(|frozen| entry.frozen.replace(frozen.into()));
        if save.end && entry.frozen.is_none() {
            // The next claim finds as much without it.
            return Ok(Saved::Taken);
        }
        entry.ends_ms = after(now_ms, save.ttl);
        entry.held_until_ms = if save.end { 0 } else { after(now_ms, save.lease) };
        kept.insert(id, entry);
        let fits = self.fit(kept, now_ms, id);
        if fits.is_err()
            && let Some(before) = before
            && let Some(entry) = kept.remove(id)
        {
            let held_until_ms = after(now_ms, save.lease);
            kept.insert(id, Entry { frozen: before, held_until_ms, ..entry });
        }
        fits.map(|()| Saved::Taken)
    }

    fn fit(&self, kept: &mut Kept, now_ms: u64, id: &SessionId) -> Result<(), StoreError> {
        while kept.sessions.len() > self.sessions_max || kept.bytes > self.bytes_max {
            let looked = kept.by_end.iter().take(LOOKS_MAX);
            let is_free = |(_, _, other): &&(u64, u64, SessionId)| {
                other != id && kept.sessions[other].held_until_ms <= now_ms
            };
            let free = looked.clone().find(is_free).map(|(_, _, id)| id.clone());
            let Some(free) = free else {
                return Err(StoreError::new("the memory for sessions is full"));
            };
            kept.remove(&free);
            kept.evicted += 1;
        }
        Ok(())
    }
}

impl SessionStore for MemorySessions {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        let now_ms = (self.clock)();
        let mut kept = self.lock();
        kept.forget(now_ms, id);
        let older = kept.sessions.get_mut(id).filter(|entry| entry.held_until_ms > now_ms);
        let older = older.map(|entry| {
            entry.is_wanted = true;
            entry.number
        });
        let claimed = match older {
            Some(number) if claim.force != Some(number) => Ok(Claimed::Held { number }),
            _ => self.take(&mut kept, now_ms, id, claim),
        };
        drop(kept);
        if let (Some(number), Ok(_)) = (older, &claimed) {
            self.tell(|listener| listener.wanted(id, number));
        }
        claimed
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        let now_ms = (self.clock)();
        let mut kept = self.lock();
        kept.forget(now_ms, id);
        if kept.sessions.get(id).is_none_or(|entry| entry.number != save.number) {
            return Ok(Saved::Fenced);
        }
        let Some(entry) = kept.remove(id) else { return Ok(Saved::Fenced) };
        let is_awaited = save.end && entry.is_wanted;
        let saved = self.put(&mut kept, now_ms, id, entry, save);
        drop(kept);
        if is_awaited && saved.is_ok() {
            self.tell(|listener| listener.free(id));
        }
        saved
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_over());
        listeners.push(listener);
        Box::new(())
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn evicted(&self) -> u64 {
        self.lock().evicted
    }
}

impl Kept {
    fn insert(&mut self, id: &SessionId, entry: Entry) {
        self.bytes += bytes_of(id, &entry);
        self.by_end.insert((entry.ends_ms, entry.number, id.clone()));
        let before = self.sessions.insert(id.clone(), entry);
        debug_assert!(before.is_none(), "it was taken out");
    }

    fn remove(&mut self, id: &SessionId) -> Option<Entry> {
        let entry = self.sessions.remove(id)?;
        self.bytes -= bytes_of(id, &entry);
        let was_there = self.by_end.remove(&(entry.ends_ms, entry.number, id.clone()));
        debug_assert!(was_there, "each session has an end");
        Some(entry)
    }

    /// Forgets this session if it is too old, and some others that are.
    fn forget(&mut self, now_ms: u64, id: &SessionId) {
        if self.sessions.get(id).is_some_and(|entry| entry.ends_ms <= now_ms) {
            self.remove(id);
        }
        for _ in 0..LOOKS_MAX {
            let Some((ends_ms, _, id)) = self.by_end.first() else { return };
            if *ends_ms > now_ms {
                return;
            }
            let id = id.clone();
            self.remove(&id);
        }
    }
}

impl fmt::Debug for MemorySessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySessions").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn after(now_ms: u64, span: Duration) -> u64 {
    now_ms.saturating_add(span.as_millis() as u64)
}

fn bytes_of(id: &SessionId, entry: &Entry) -> usize {
    // The name stands in both tables.
    2 * id.as_str().len() + entry.frozen.as_ref().map_or(0, |frozen| frozen.len()) + ENTRY_BYTES
}

/// What a session takes beside its name and its bytes.
const ENTRY_BYTES: usize = 256;
/// How many sessions are looked at for one that nobody holds, or that is too old.
const LOOKS_MAX: usize = 64;

/// A store that many share is one.
impl<S: SessionStore> SessionStore for Arc<S> {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        (**self).claim(id, claim)
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        (**self).save(id, save)
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        (**self).listen(listener)
    }

    fn is_immediate(&self) -> bool {
        (**self).is_immediate()
    }

    fn evicted(&self) -> u64 {
        (**self).evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn id(key: &str) -> SessionId {
        SessionId::new("/a", key).unwrap()
    }

    fn claim(store: &MemorySessions, key: &str) -> Result<Claimed, StoreError> {
        store.claim(&id(key), &Claim::new(TTL, TTL))
    }

    fn keep(store: &MemorySessions, key: &str, bytes: usize) -> Result<Saved, StoreError> {
        let Claimed::Taken { number, .. } = claim(store, key)? else { panic!("it is free") };
        store.save(&id(key), &Save::new(number, TTL, TTL).with(&vec![7; bytes]).ending())
    }

    // FAULTS 265.
    #[test]
    fn what_nobody_holds_makes_room_and_is_counted() {
        let store = MemorySessions::bounded(3, 4096);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(keep(&store, key, 1), Ok(Saved::Taken));
        }
        assert_eq!((store.len(), store.evicted()), (3, 1));
        assert!(matches!(claim(&store, "a"), Ok(Claimed::Taken { frozen: None, .. })));
        for key in ["c", "d"] {
            assert!(matches!(claim(&store, key), Ok(Claimed::Taken { frozen: Some(_), .. })));
        }
        assert!(claim(&store, "e").is_err(), "all are held");
        assert_eq!((store.len(), store.evicted()), (3, 2));
    }

    #[test]
    fn a_save_that_does_not_fit_leaves_what_was_saved() {
        let store = MemorySessions::bounded(3, 1024);
        assert_eq!(keep(&store, "a", 100), Ok(Saved::Taken));
        assert!(keep(&store, "a", 2000).is_err());
        let Ok(Claimed::Held { number }) = claim(&store, "a") else { panic!() };
        let claimed = store.claim(&id("a"), &Claim::new(TTL, TTL).forced(number));
        assert!(
            matches!(claimed, Ok(Claimed::Taken { frozen: Some(bytes), .. }) if bytes.len() == 100)
        );
    }

    #[test]
    fn a_session_that_was_never_saved_leaves_nothing() {
        let store = MemorySessions::default();
        let Ok(Claimed::Taken { number, frozen: None }) = claim(&store, "a") else { panic!() };
        assert_eq!(claim(&store, "a"), Ok(Claimed::Held { number }));
        store.save(&id("a"), &Save::new(number, TTL, TTL).ending()).unwrap();
        assert!(store.is_empty() && store.lock().by_end.is_empty() && store.lock().bytes == 0);
    }
}
