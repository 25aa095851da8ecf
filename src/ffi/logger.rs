//! Log lines for a C host.
//!
//! The `log` facade is the process's: there can be one logger, and it does not know which server a
//! line is from. So one callback serves all servers; it is installed when a host first asks. Each
//! server has its own `log` level, which holds while a call is inside that server: only the thread
//! that is inside a server writes its lines, and a server has no other thread.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{OnceLock, PoisonError, RwLock};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::failure::c_text;

/// The C function that is called with each line.
pub(super) type Callback = unsafe extern "C" fn(*mut c_void, c_int, *const c_char);

struct Target {
    callback: Callback,
    user: *mut c_void,
}

// the header says that any thread inside a server calls the callback.
unsafe impl Send for Target {}
// as above; and several threads may call it at a time.
unsafe impl Sync for Target {}

struct Facade;

impl Log for Facade {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= LEVEL.get()
    }

    fn log(&self, record: &Record) {
        // A line that the callback itself causes has nowhere to go.
        if !self.enabled(record.metadata()) || IS_TELLING.replace(true) {
            return;
        }
        let line = c_text(&record.args().to_string());
        // Held while the callback runs: after `set` has replaced it, it is not called any more.
        let target = TARGET.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Target { callback, user }) = &*target {
            // SAFETY: the host gave both, and took them back in no other way than by `set`.
            unsafe { callback(*user, record.level() as c_int, line.as_ptr()) };
        }
        drop(target);
        IS_TELLING.set(false);
    }

    fn flush(&self) {}
}

/// Sends the lines of all servers of this process to a callback, or nowhere.
pub(super) fn set(callback: Option<Callback>, user: *mut c_void) {
    if IS_TELLING.get() {
        // From inside the callback: it cannot be replaced under itself.
        return;
    }
    let is_on = callback.is_some();
    let target = callback.map(|callback| Target { callback, user });
    *TARGET.write().unwrap_or_else(PoisonError::into_inner) = target;
    // A Rust program that links this may have its own logger: that one stays, with its level.
    if *IS_OURS.get_or_init(|| log::set_logger(&Facade).is_ok()) {
        log::set_max_level(if is_on { LevelFilter::Trace } else { LevelFilter::Off });
    }
}

/// Sets a server's level for this thread, until the guard is dropped.
pub(super) fn enter(level: LevelFilter) -> Inside {
    Inside(LEVEL.replace(level))
}

/// The guard of a call inside a server.
pub(super) struct Inside(LevelFilter);

impl Drop for Inside {
    fn drop(&mut self) {
        LEVEL.set(self.0);
    }
}

thread_local! {
    /// The level of the server that the thread is in.
    static LEVEL: Cell<LevelFilter> = const { Cell::new(LevelFilter::Off) };
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

static TARGET: RwLock<Option<Target>> = RwLock::new(None);
static IS_OURS: OnceLock<bool> = OnceLock::new();

// The header's numbers.
const _: () = assert!(Level::Error as c_int == 1 && Level::Trace as c_int == 5);
