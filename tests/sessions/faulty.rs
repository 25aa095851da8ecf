//! A store in memory that fails, or does not return, when it is told to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use heartwheel::{
    Claim, Claimed, Handle, MemorySessions, Save, Saved, SessionId, SessionStore, StoreError,
};

#[derive(Debug, Default)]
pub struct Faulty {
    pub inner: MemorySessions,
    /// It never waits: it has no thread.
    pub is_immediate: bool,
    pub fails: AtomicBool,
    /// Claims work all the same.
    pub fails_to_save: AtomicBool,
    pub panics: AtomicBool,
    pub hangs: AtomicBool,
    /// The server whose queue of commands is full when a save returns.
    pub fills: OnceLock<Handle>,
    pub saves: AtomicUsize,
}

impl Faulty {
    pub fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::SeqCst);
    }

    fn begin(&self) -> Result<(), StoreError> {
        while self.hangs.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!self.panics.load(Ordering::SeqCst), "as asked");
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::new("as asked")),
            false => Ok(()),
        }
    }
}

impl SessionStore for Faulty {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        self.begin()?;
        self.inner.claim(id, claim)
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        self.begin()?;
        self.saves.fetch_add(1, Ordering::SeqCst);
        if let Some(handle) = self.fills.get() {
            let fill = || while handle.publish("t", vec![0; 1000]).is_ok() {};
            thread::scope(|scope| drop(scope.spawn(fill).join()));
        }
        if self.fails_to_save.load(Ordering::SeqCst) {
            return Err(StoreError::new("as asked"));
        }
        self.inner.save(id, save)
    }

    fn is_immediate(&self) -> bool {
        self.is_immediate
    }
}
