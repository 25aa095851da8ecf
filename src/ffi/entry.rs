//! The functions of `heartwheel.h` that every host needs, in its order. The header says what they
//! promise.
//!
//! Each checks what C gives and passes it on: to [`with`] if there is a handle, so that no panic
//! and no second caller gets further than that.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use log::LevelFilter;

use super::event::HeartwheelEvent;
use super::failure::{Code, DONE, OK, describe};
use super::handle::{self, Heartwheel, caught, with};
use super::host::Host;
use super::{input, logger};
use crate::core::contract::route::Face;
use crate::core::topics::{After, Payload};
use crate::{Bytes, Message};

/// Makes a server from a configuration.
///
/// # Safety
///
/// As the header says of `toml` and `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_new(toml: *const c_char, out: *mut *mut Heartwheel) -> c_int {
    if out.is_null() {
        return Code::Argument as c_int;
    }
    // SAFETY: it is not null, and the host says that a handle can be put there.
    unsafe { out.write(ptr::null_mut()) };
    caught(|| {
        let _level = logger::enter(LevelFilter::Info);
        // SAFETY: the host's text, if it is not null.
        let text = (!toml.is_null()).then(|| unsafe { input::text(toml) }).transpose();
        let built = text.and_then(Host::new);
        let code = built.as_ref().err().map_or(OK, |failure| failure.code as c_int);
        let handle = Box::into_raw(Heartwheel::new(built));
        // SAFETY: as above.
        unsafe { out.write(handle) };
        code
    })
}

/// Binds an address and returns its port.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_listen(
    handle: *mut Heartwheel,
    address: *const c_char,
) -> c_int {
    // SAFETY: the host's handle and text.
    unsafe { with(handle, |host| Ok(host.listen(input::text(address)?, Face::Public)?.into())) }
}

/// Returns the descriptor to poll.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_fd(handle: *const Heartwheel) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| Ok(host.descriptor())) }
}

/// Returns the milliseconds until the next turn.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_next_timeout_ms(handle: *const Heartwheel) -> i64 {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| Ok(host.next_timeout_ms())) }
}

/// Does a turn.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_turn(handle: *mut Heartwheel) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| Ok(if host.turn()? { DONE } else { OK })) }
}

/// Pulls an event.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_next_event(
    handle: *mut Heartwheel,
    out: *mut HeartwheelEvent,
) -> c_int {
    // SAFETY: the host's handle, and its event with the size set.
    unsafe {
        with(handle, |host| {
            HeartwheelEvent::check_room(out)?;
            let Some(event) = host.next_event() else { return Ok(DONE) };
            event.put(out);
            Ok(OK)
        })
    }
}

/// Sends text.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_send_text(
    handle: *mut Heartwheel,
    peer: u64,
    text: *const c_char,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's bytes.
        let (peer, text) = (input::peer(peer)?, unsafe { input::utf8(text, len) }?);
        host.send(peer, len, &|| input::copy_text(text).map(Message::text))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Sends bytes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_send_binary(
    handle: *mut Heartwheel,
    peer: u64,
    data: *const c_void,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's bytes.
        let (peer, data) = (input::peer(peer)?, unsafe { input::bytes(data.cast(), len) }?);
        host.send(peer, len, &|| input::copy(data).map(Message::binary))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Publishes text.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_publish_text(
    handle: *mut Heartwheel,
    topic: *const c_char,
    text: *const c_char,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let (topic, text) = unsafe { (input::text(topic)?, input::utf8(text, len)?) };
        host.publish(topic, Payload::Text(text.into()))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Publishes bytes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_publish_binary(
    handle: *mut Heartwheel,
    topic: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text and bytes.
        let (topic, data) = unsafe { (input::text(topic)?, input::bytes(data.cast(), len)?) };
        host.publish(topic, Payload::Binary(Bytes::copy_from_slice(data)))?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Subscribes a peer to a topic.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_subscribe(
    handle: *mut Heartwheel,
    peer: u64,
    topic: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text.
        host.subscribe(input::peer(peer)?, unsafe { input::text(topic) }?, After::Now)?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Ends a peer's subscription to a topic.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_unsubscribe(
    handle: *mut Heartwheel,
    peer: u64,
    topic: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text.
        host.unsubscribe(input::peer(peer)?, unsafe { input::text(topic) }?)?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Closes a connection.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_close(handle: *mut Heartwheel, peer: u64, code: u16) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| host.close(input::peer(peer)?, code, "").map(|()| OK)) }
}

/// Begins to drain.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_drain(handle: *mut Heartwheel) -> c_int {
    let body = |host: &mut Host| {
        host.drain();
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Makes the descriptor readable, from any thread and from signal handlers.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_wake(handle: *const Heartwheel) -> c_int {
    // SAFETY: the host's handle, which is not freed meanwhile.
    unsafe { Heartwheel::find(handle) }.map_or(Code::Argument as c_int, Heartwheel::wake)
}

/// Moves the clock of the server.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_set_clock(handle: *mut Heartwheel, ms: u64) -> c_int {
    // SAFETY: the host's handle.
    unsafe { with(handle, |host| host.set_clock(ms).map(|()| OK)) }
}

/// Sends log lines to a callback.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_set_log(callback: Option<logger::Callback>, user: *mut c_void) {
    caught(|| {
        logger::set(callback, user);
        OK
    });
}

/// Returns the sentence of the last failure.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_last_error(handle: *const Heartwheel) -> *const c_char {
    // SAFETY: the host's handle.
    unsafe { handle::last_error(handle) }
}

/// Returns what a code means.
#[unsafe(no_mangle)]
pub extern "C" fn heartwheel_error_string(code: c_int) -> *const c_char {
    describe(code).as_ptr()
}

/// Returns the version.
#[unsafe(no_mangle)]
pub extern "C" fn heartwheel_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Ends a server.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_free(handle: *mut Heartwheel) {
    // SAFETY: the host's handle.
    unsafe { Heartwheel::free(handle) }
}

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("no NUL is in a version"),
    };
