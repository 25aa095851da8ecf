//! The handle that C holds: who may use it now, and what happens after a panic.
//!
//! One thread at a time is inside. A second thread, and a call from inside the log callback, are
//! refused instead of meeting a half-done turn. The wake descriptor stands beside the state, so
//! that waking needs nothing of the state.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::failure::{Code, Failure, OK};
use super::host::Host;
use super::logger;

/// `heartwheel` of the header: opaque there.
pub struct Heartwheel {
    /// Memory that is no handle, or was freed, hardly has this word.
    magic: AtomicU32,
    is_entered: AtomicBool,
    wake: Option<OwnedFd>,
    state: UnsafeCell<HandleState>,
}

/// What only the thread that is inside may touch.
struct HandleState {
    serving: Serving,
    last_error: Cow<'static, CStr>,
}

enum Serving {
    Host(Box<Host>),
    /// The server could not be built, or it panicked: each call returns this code.
    Failed(Code),
}

impl Heartwheel {
    /// Makes a handle from a server, or from the failure to build it.
    pub fn new(built: Result<(Host, OwnedFd), Failure>) -> Box<Heartwheel> {
        let (serving, wake, last_error) = match built {
            Ok((host, wake)) => (Serving::Host(Box::new(host)), Some(wake), c"".into()),
            Err(failure) => (Serving::Failed(failure.code), None, failure.text),
        };
        Box::new(Heartwheel {
            magic: AtomicU32::new(MAGIC),
            is_entered: AtomicBool::new(false),
            wake,
            state: UnsafeCell::new(HandleState { serving, last_error }),
        })
    }

    /// Checks a pointer that C says is a handle; `None` if it is not usable.
    ///
    /// # Safety
    ///
    /// It is null, or points to memory of the size of a handle. A freed handle is the host's
    /// mistake: it is noticed if the memory still shows it.
    pub unsafe fn find<'a>(handle: *const Heartwheel) -> Option<&'a Heartwheel> {
        if handle.is_null() || !handle.is_aligned() {
            return None;
        }
        // SAFETY: not null, aligned, and memory as the caller says. Only the atomics and the
        // descriptor are looked at through this reference; the state has a cell around it.
        let handle = unsafe { &*handle };
        (handle.magic.load(Ordering::Relaxed) == MAGIC).then_some(handle)
    }

    /// Makes the loop's descriptor readable. It uses nothing but the wake descriptor, and does
    /// nothing that a signal handler must not do.
    pub fn wake(&self) -> c_int {
        let Some(wake) = &self.wake else { return Code::Config as c_int };
        match rustix::io::write(wake.as_fd(), &1u64.to_ne_bytes()) {
            // So many wakes wait that no other is needed.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => OK,
            Err(_) => Code::Io as c_int,
        }
    }

    /// Takes the handle's memory back from C.
    ///
    /// # Safety
    ///
    /// `handle` came from [`Box::into_raw`], once, and no other code uses it from now on.
    pub unsafe fn free(handle: *mut Heartwheel) {
        // as the caller says; memory without our word is left alone.
        let Some(found) = (unsafe { Heartwheel::find(handle) }) else { return };
        if found.is_entered.swap(true, Ordering::Acquire) {
            // A call from inside the log callback, or another thread inside: the handle is in use.
            return;
        }
        found.magic.store(FREED, Ordering::Relaxed);
        // it was a handle until now, and only one call comes this far.
        let handle = unsafe { Box::from_raw(handle) };
        let level = handle.state.into_inner().into_host();
        // A panic of a broken server at its end must not reach C.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if let Some(host) = level {
                let _level = logger::enter(host.log_level());
                drop(host);
            }
        }));
    }
}

impl HandleState {
    fn into_host(self) -> Option<Box<Host>> {
        match self.serving {
            Serving::Host(host) => Some(host),
            Serving::Failed(_) => None,
        }
    }
}

/// Calls `body` with the server behind a handle, and returns the outcome for C.
///
/// # Safety
///
/// As [`Heartwheel::find`].
pub(super) unsafe fn with<T: From<c_int>>(
    handle: *const Heartwheel,
    body: impl FnOnce(&mut Host) -> Result<T, Failure>,
) -> T {
    let (mut body, mut value) = (Some(body), None);
    let mut call = |host: &mut Host| {
        value = body.take().map(|body| body(host)).transpose()?;
        Ok(())
    };
    // the caller promises the same.
    let code = unsafe { enter_with(handle, &mut call) };
    value.unwrap_or_else(|| T::from(code))
}

/// Calls `body` with the server behind a handle, and returns the code. It is there once, and not
/// once for each function of the header.
///
/// # Safety
///
/// As [`Heartwheel::find`].
unsafe fn enter_with(
    handle: *const Heartwheel,
    body: &mut dyn FnMut(&mut Host) -> Result<(), Failure>,
) -> c_int {
    // the caller promises the same.
    let found = unsafe { Heartwheel::find(handle) };
    let Some(inside) = found.and_then(Inside::enter) else {
        return Code::Argument as c_int;
    };
    let state = inside.state();
    let host = match &mut state.serving {
        Serving::Host(host) => host,
        Serving::Failed(code) => return *code as c_int,
    };
    let _level = logger::enter(host.log_level());
    let failure = match catch_unwind(AssertUnwindSafe(|| body(host))) {
        Ok(Ok(())) => return OK,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            // It stopped in the middle of something: its sockets are closed, and nothing else of it
            // is used again, not even its destructor.
            let _ = catch_unwind(AssertUnwindSafe(|| host.abandon()));
            let broken = std::mem::replace(&mut state.serving, Serving::Failed(Code::Panic));
            std::mem::forget(broken);
            Failure::told(Code::Panic, &format!("the library panicked: {}", words(&*panic)))
        }
    };
    let code = failure.code;
    state.last_error = failure.text;
    code as c_int
}

/// Returns the sentence of the last failure, valid until the next call.
///
/// # Safety
///
/// As [`Heartwheel::find`].
pub(super) unsafe fn last_error(handle: *const Heartwheel) -> *const std::ffi::c_char {
    // the caller promises the same.
    match unsafe { Heartwheel::find(handle) } {
        None => c"this is not a handle".as_ptr(),
        Some(found) => match Inside::enter(found) {
            None => c"the handle is in use".as_ptr(),
            Some(inside) => inside.state().last_error.as_ptr(),
        },
    }
}

/// Runs a call without a handle; of a panic C gets only the code.
pub(super) fn caught(body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Code::Panic as c_int)
}

/// The right to be inside a handle.
struct Inside<'a>(&'a Heartwheel);

impl<'a> Inside<'a> {
    /// Enters the handle; `None` if another call is inside.
    fn enter(handle: &'a Heartwheel) -> Option<Inside<'a>> {
        let is_entered = handle.is_entered.swap(true, Ordering::Acquire);
        (!is_entered).then(|| Inside(handle))
    }

    #[expect(clippy::mut_from_ref)]
    fn state(&self) -> &mut HandleState {
        // only one call is inside at a time, and it asks once.
        unsafe { &mut *self.0.state.get() }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.is_entered.store(false, Ordering::Release);
    }
}

/// Returns the message of a panic.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no word")
}

const MAGIC: u32 = 0x6877_6865;
const FREED: u32 = 0x6672_6565;

// One thread after the other may use a handle.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<HandleState>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::contract::route::Face;

    // FAULTS 150.
    #[test]
    fn a_panic_is_a_code_and_ends_the_server() {
        let mut host = Host::new(None).unwrap();
        let port = host.0.listen("127.0.0.1:0", Face::Public).unwrap();
        let handle = Box::into_raw(Heartwheel::new(Ok(host)));
        // SAFETY: it is a handle until it is freed, and no other code has it.
        unsafe {
            let code: c_int = with(handle, |_| panic!("for a test"));
            assert_eq!(code, Code::Panic as c_int);
            let text = CStr::from_ptr(last_error(handle)).to_str().unwrap();
            assert_eq!(text, "the library panicked: for a test");
            let code: i64 = with(handle, |_| unreachable!("nothing of it is used again"));
            assert_eq!(code, Code::Panic as i64);
            assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it is closed");
            Heartwheel::free(handle);
        }
    }
}
