//! Events as C sees them.

use std::mem::{offset_of, size_of};
use std::ptr;

use super::failure::{Code, Failure};
use crate::core::contract::event::Event;
use crate::core::ground::id::ConnectionId;
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
}

const OPENED: u32 = 1;
const TEXT: u32 = 2;
const BINARY: u32 = 3;
const CLOSED: u32 = 4;
const SUSPECT: u32 = 5;
const DRAINED: u32 = 6;

impl HeartwheelEvent {
    /// Describes an event. The data that it points to lives as long as `event`.
    pub(super) fn new(id: ConnectionId, event: &Event) -> HeartwheelEvent {
        let (kind, close_code, data): (u32, u16, &[u8]) = match event {
            Event::Opened(request) => (OPENED, 0, request.path().as_bytes()),
            Event::Message(message @ Message::Text(_)) => (TEXT, 0, message.as_bytes()),
            Event::Message(message @ Message::Binary(_)) => (BINARY, 0, message.as_bytes()),
            Event::Closed(reason) => (CLOSED, reason.code(), reason.label().as_bytes()),
            Event::Suspect => (SUSPECT, 0, b""),
            // Routes of a host do not ask for pongs.
            Event::Drained | Event::Pong(_) => (DRAINED, 0, b""),
        };
        HeartwheelEvent {
            struct_size: size_of::<HeartwheelEvent>(),
            kind,
            close_code,
            reserved: 0,
            peer: id.as_u64(),
            data: if data.is_empty() { NOTHING.as_ptr() } else { data.as_ptr() },
            len: data.len(),
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
            SIZE..=SIZE_MAX => Ok(()),
            _ => Err(Failure::new(Code::Argument, c"struct_size must be sizeof(heartwheel_event)")),
        }
    }

    /// Writes an event to the host's place. If a later header made the struct larger, only the
    /// members known here are written.
    ///
    /// # Safety
    ///
    /// [`HeartwheelEvent::check_room`] has accepted `out`, and its size is true.
    pub(super) unsafe fn put(self, out: *mut HeartwheelEvent) {
        // SAFETY: there is room for all members, as the caller says; the size stays the host's.
        unsafe {
            let struct_size = ptr::read(&raw const (*out).struct_size);
            ptr::write(out, HeartwheelEvent { struct_size, ..self });
        }
    }
}

/// What an event without data points to: it may be read, but has no meaning.
static NOTHING: [u8; 1] = [0];

const SIZE: usize = size_of::<HeartwheelEvent>();
/// No header makes the struct this large: such a size was not set by the host.
const SIZE_MAX: usize = 256;

// The layout is the header's.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<HeartwheelEvent>() == 40);
const _: () = assert!(
    offset_of!(HeartwheelEvent, kind) == size_of::<usize>()
        && offset_of!(HeartwheelEvent, close_code) == offset_of!(HeartwheelEvent, kind) + 4
        && offset_of!(HeartwheelEvent, reserved) == offset_of!(HeartwheelEvent, kind) + 6
        && offset_of!(HeartwheelEvent, data) == offset_of!(HeartwheelEvent, peer) + 8
);
