//! What a host asks of peers, beside sending to them.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use super::asked::Kept;
use super::failure::{Code, Failure, GAP, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::input;
use crate::core::engine::{Refused, Timed};
use crate::core::ground::id::ConnectionId;
use crate::core::topics::After;

/// A pointer that C gets, or NULL after a failure.
struct Pointer(*mut c_void);

impl From<c_int> for Pointer {
    fn from(_: c_int) -> Pointer {
        Pointer(ptr::null_mut())
    }
}

/// Keeps a pointer of the host's with a peer.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_set_user(
    handle: *mut Heartwheel,
    peer: u64,
    user: *mut c_void,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        match host.asked_of(id) {
            Some(asked) => asked.user = user,
            None => {
                let kept = Kept::of(host.session_of(id)?);
                kept.user = user;
                #[cfg(feature = "sessions")]
                kept.note_changed();
            }
        }
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Returns the pointer of a peer.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_user(handle: *mut Heartwheel, peer: u64) -> *mut c_void {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        if let Some(asked) = host.asked_of(id) {
            return Ok(Pointer(asked.user));
        }
        let session = host.session_of(id)?.as_ref();
        let kept = session.and_then(|session| session.downcast_ref::<Kept>());
        Ok(Pointer(kept.map_or(ptr::null_mut(), |kept| kept.user)))
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }.0
}

/// Writes the address of a peer.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_address(
    handle: *mut Heartwheel,
    peer: u64,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let body = |host: &mut Host| {
        let address = host.server.inner.engine().address_of(input::peer(peer)?);
        // SAFETY: the host's place.
        unsafe { input::show(address.ok_or(Refused::Gone)?.as_bytes(), text, size) }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Closes a connection and says why.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_close_text(
    handle: *mut Heartwheel,
    peer: u64,
    code: u16,
    text: *const c_char,
    len: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's bytes.
        let (peer, text) = (input::peer(peer)?, unsafe { input::utf8(text, len) }?);
        if text.len() > CLOSE_TEXT_MAX {
            return Err(Failure::new(Code::Argument, c"the text of a close has at most 123 bytes"));
        }
        host.close(peer, code, text).map(|()| OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Ends a connection, as the operator does.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_kick(handle: *mut Heartwheel, peer: u64) -> c_int {
    let body = |host: &mut Host| {
        host.server.inner.kick(input::peer(peer)?)?;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Lists open peers.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_peers(
    handle: *mut Heartwheel,
    after: u64,
    peers: *mut u64,
    count: usize,
) -> c_int {
    let body = |host: &mut Host| {
        let has_room = count <= ConnectionId::SLOTS_MAX && !peers.is_null() && peers.is_aligned();
        if count > 0 && !has_room {
            return Err(Failure::new(Code::Argument, c"peers must have room for count of them"));
        }
        let mut slot = input::peer(after).map_or(0, |after| after.key() + 1);
        let mut listed = 0;
        while listed < count {
            let Some(id) = host.server.inner.engine().open_from(slot) else { break };
            // SAFETY: it is not null and aligned, and the host says that there is room for all.
            unsafe { peers.add(listed).write(id.as_u64()) };
            slot = id.key() + 1;
            listed += 1;
        }
        Ok(listed as c_int)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Subscribes a peer after a position.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_subscribe_after(
    handle: *mut Heartwheel,
    peer: u64,
    topic: *const c_char,
    position: *const c_char,
) -> c_int {
    let body = |host: &mut Host| {
        let peer: ConnectionId = input::peer(peer)?;
        // SAFETY: the host's texts.
        let (topic, position) = unsafe { (input::text(topic)?, input::text(position)?) };
        let is_gap = host.subscribe(peer, topic, After::parse(position))?;
        Ok(if is_gap { GAP } else { OK })
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Sets a timer of a peer, or moves it.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_after(
    handle: *mut Heartwheel,
    peer: u64,
    ms: u64,
    token: u64,
) -> c_int {
    let body = |host: &mut Host| match host.server.inner.set_timer(
        input::peer(peer)?,
        Duration::from_millis(ms),
        token,
    ) {
        Timed::Set => Ok(OK),
        Timed::Gone => Err(Refused::Gone.into()),
        Timed::Full => {
            Err(Failure::new(Code::Full, c"more timers would be pending than limits.timers"))
        }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Cancels a timer of a peer.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_cancel(
    handle: *mut Heartwheel,
    peer: u64,
    token: u64,
) -> c_int {
    let body = |host: &mut Host| {
        let id = input::peer(peer)?;
        let is_in_hand = host.cancel_in_hand(id, token);
        match host.server.inner.cancel_timer(id, token) || is_in_hand {
            true => Ok(OK),
            false => Err(Failure::new(Code::None, c"there is no such timer")),
        }
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// RFC 6455, 5.5: a control frame has 125 bytes, of which the code takes two.
const CLOSE_TEXT_MAX: usize = 123;
