//! Events as C sees them.

use std::mem::{offset_of, size_of};
use std::ptr;

use super::failure::{Code, Failure};
use crate::core::contract::event::Event;
use crate::core::ground::id::ConnectionId;
use crate::core::topics::Payload;
use crate::core::wire::http::Request;
use crate::core::wire::message::Message;

/// `heartwheel_event` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeartwheelEvent {
    struct_size: usize,
    kind: u32,
    close_code: u16,
    reserved: u16,
    peer: u64,
    data: *const u8,
    len: usize,
    /// The first header did not have it: an older struct ends before it.
    token: u64,
}

const OPENED: u32 = 1;
const TEXT: u32 = 2;
const BINARY: u32 = 3;
const CLOSED: u32 = 4;
const SUSPECT: u32 = 5;
const DRAINED: u32 = 6;
const REQUEST: u32 = 7;
const UPGRADE: u32 = 8;
const ABANDONED: u32 = 9;
const TIMER: u32 = 10;
#[cfg(feature = "sessions")]
const UNSAVED: u32 = 22;

impl HeartwheelEvent {
    /// Describes an event. The data that it points to lives as long as `event`.
    pub(super) fn new(id: ConnectionId, event: &Event) -> HeartwheelEvent {
        let (kind, close_code, data): (u32, u16, &[u8]) = match event {
            Event::Opened(request) => (OPENED, 0, request.path().as_bytes()),
            Event::Message(message @ Message::Text(_)) => (TEXT, 0, message.as_bytes()),
            Event::Message(message @ Message::Binary(_)) => (BINARY, 0, message.as_bytes()),
            Event::Closed(reason) => (CLOSED, reason.code(), reason.label().as_bytes()),
            Event::Suspect => (SUSPECT, 0, b""),
            Event::Timer(_) => (TIMER, 0, b""),
            // Routes of a host ask for no pongs and have no hooks; a visit is of the library's own.
            Event::Drained | Event::Pong(_) | Event::Visit(_) | Event::Offered(_) => {
                (DRAINED, 0, b"")
            }
        };
        let token = if let Event::Timer(token) = event { *token } else { 0 };
        HeartwheelEvent { token, ..HeartwheelEvent::made(kind, close_code, id.as_u64(), data) }
    }

    /// Describes an event of a topic, which is of no peer. The data that it points to lives as long
    /// as `payload`.
    pub(super) fn of_payload(payload: &Payload) -> HeartwheelEvent {
        match payload {
            Payload::Text(text) | Payload::Json(text) => {
                HeartwheelEvent::made(TEXT, 0, 0, text.as_bytes())
            }
            Payload::Binary(bytes) => HeartwheelEvent::made(BINARY, 0, 0, bytes),
        }
    }

    /// Describes a request that the host is to answer, or to let in.
    pub(super) fn of_request(
        id: ConnectionId,
        request: &Request,
        is_judged: bool,
    ) -> HeartwheelEvent {
        let kind = if is_judged { UPGRADE } else { REQUEST };
        HeartwheelEvent::made(kind, 0, id.as_u64(), request.path().as_bytes())
    }

    /// Describes the end of such a request without an answer.
    pub(super) fn of_end(id: ConnectionId) -> HeartwheelEvent {
        HeartwheelEvent::made(ABANDONED, 0, id.as_u64(), b"")
    }

    /// Describes a session that was not saved.
    #[cfg(feature = "sessions")]
    pub(super) fn of_unsaved(id: ConnectionId, why: &'static [u8]) -> HeartwheelEvent {
        HeartwheelEvent::made(UNSAVED, 0, id.as_u64(), why)
    }

    /// Describes a message that a client was sent.
    #[cfg(feature = "client")]
    pub(super) fn of_message(id: ConnectionId, message: &Message) -> HeartwheelEvent {
        let kind = match message {
            Message::Text(_) => TEXT,
            Message::Binary(_) => BINARY,
        };
        HeartwheelEvent::made(kind, 0, id.as_u64(), message.as_bytes())
    }

    #[cfg(feature = "client")]
    pub(super) fn with_token(self, token: u64) -> HeartwheelEvent {
        HeartwheelEvent { token, ..self }
    }

    pub(super) fn made(kind: u32, close_code: u16, peer: u64, data: &[u8]) -> HeartwheelEvent {
        HeartwheelEvent {
            struct_size: size_of::<HeartwheelEvent>(),
            kind,
            close_code,
            reserved: 0,
            peer,
            data: pointer_to(data),
            len: data.len(),
            token: 0,
        }
    }

    /// Checks the place for an event.
    ///
    /// # Safety
    ///
    /// `out` is null, or points to at least a `size_t` that tells how much room there is.
    pub(super) unsafe fn check_room(out: *const HeartwheelEvent) -> Result<(), Failure> {
        if out.is_null() || !out.is_aligned() {
            return Err(Failure::new(Code::Argument, c"out must point to an event"));
        }
        // it is not null and aligned; the caller says that the first member can be read.
        let size = unsafe { ptr::read(&raw const (*out).struct_size) };
        match size {
            SIZE_MIN..=SIZE_MAX => Ok(()),
            _ => Err(Failure::new(Code::Argument, c"struct_size must be sizeof(heartwheel_event)")),
        }
    }

    /// Writes an event to the host's place: the members that there is room for. An older header had
    /// fewer, a later one may have more.
    ///
    /// # Safety
    ///
    /// [`HeartwheelEvent::check_room`] has accepted `out`, and its size is true.
    pub(super) unsafe fn put(self, out: *mut HeartwheelEvent) {
        // SAFETY: there is room for as many bytes as the size says, as the caller says; the first
        // member is the host's and stays.
        unsafe {
            let struct_size = ptr::read(&raw const (*out).struct_size);
            let known = HeartwheelEvent { struct_size, ..self };
            let len = if struct_size >= SIZE { SIZE } else { SIZE_MIN };
            ptr::copy_nonoverlapping((&raw const known).cast::<u8>(), out.cast::<u8>(), len);
        }
    }
}

/// Returns where C finds the bytes: never null.
pub(super) fn pointer_to(data: &[u8]) -> *const u8 {
    if data.is_empty() { NOTHING.as_ptr() } else { data.as_ptr() }
}

/// What an event without data points to: it may be read, but has no meaning.
static NOTHING: [u8; 1] = [0];

const SIZE: usize = size_of::<HeartwheelEvent>();
/// What the first header had: all members before the token.
const SIZE_MIN: usize = offset_of!(HeartwheelEvent, token);
/// No header makes the struct this large: such a size was not set by the host.
const SIZE_MAX: usize = 256;

// The layout is the header's.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(SIZE_MIN == 40 && SIZE == 48);
const _: () = assert!(
    offset_of!(HeartwheelEvent, kind) == size_of::<usize>()
        && offset_of!(HeartwheelEvent, close_code) == offset_of!(HeartwheelEvent, kind) + 4
        && offset_of!(HeartwheelEvent, reserved) == offset_of!(HeartwheelEvent, kind) + 6
        && offset_of!(HeartwheelEvent, data) == offset_of!(HeartwheelEvent, peer) + 8
);
