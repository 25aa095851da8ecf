//! What a host asks of its server as a whole: figures, the table of connections, another
//! configuration, listeners that were bound elsewhere.

use std::ffi::{c_char, c_int, c_uint};
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use socket2::{Domain, SockRef, Type};

use super::event::HeartwheelEvent;
use super::failure::{Code, DONE, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::{Host, configure};
use super::input;
use crate::core::contract::event::{Command, Place};
use crate::core::contract::route::Face;
use crate::io::bind::Adopted;
use crate::io::listener::LocalAddress;
use crate::io::socket::Speech;

/// Shows all figures.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_metrics(
    handle: *mut Heartwheel,
    text: *mut *const c_char,
    len: *mut usize,
) -> c_int {
    // SAFETY: the host's handle and places.
    unsafe { with(handle, |host| lend(host, Host::metrics, text, len)) }
}

/// Shows the next slice of the table of connections.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_connections(
    handle: *mut Heartwheel,
    place: *mut u64,
    text: *mut *const c_char,
    len: *mut usize,
) -> c_int {
    let body = |host: &mut Host| {
        if place.is_null() || !place.is_aligned() {
            return Err(Failure::new(Code::Argument, c"place must point to a number"));
        }
        // SAFETY: it is not null and aligned, and the host says that it is a number.
        let number = unsafe { place.read() };
        if number == PLACE_AT_END {
            return Ok(DONE);
        }
        let mut next = None;
        let slice = |host: &mut Host| {
            let (text, more) = host.server.inner.table_slice(place_of(number));
            next = more;
            text
        };
        // SAFETY: the host's places.
        let code = unsafe { lend(host, slice, text, len) }?;
        // SAFETY: as above.
        unsafe { place.write(next.map_or(PLACE_AT_END, number_of)) };
        Ok(code)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Puts another configuration in force.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_reload(handle: *mut Heartwheel, toml: *const c_char) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text, if it is not null.
        let toml = (!toml.is_null()).then(|| unsafe { input::text(toml) }).transpose()?;
        let config = configure(toml)?;
        config.check().warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let level = config.log;
        let taken = host.server.handle().reload(config);
        taken.map_err(|faults| Failure::told(Code::Config, &faults.join("; ")))?;
        host.level = level;
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Tells a part of the clients to come back later.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_shed(handle: *mut Heartwheel, fraction: f64) -> c_int {
    let body = |host: &mut Host| {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Failure::new(Code::Argument, c"a fraction is from 0 to 1"));
        }
        host.server.inner.command(Command::Shed(fraction));
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Shows the newest event of a topic.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_latest(
    handle: *mut Heartwheel,
    topic: *const c_char,
    out: *mut HeartwheelEvent,
    position: *mut c_char,
    size: usize,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's event with its size set, and its text.
        let topic = unsafe {
            HeartwheelEvent::check_room(out)?;
            input::text(topic)?
        };
        let latest = host.server.inner.latest(topic)?;
        let none = Failure::new(Code::None, c"the topic has no event");
        let (id, payload) = latest.ok_or(none)?;
        // SAFETY: the host's place for text, and for the event, as above. The payload that the
        // event points to is kept until the next turn.
        let id_len = unsafe {
            let id_len = input::show(id.to_string().as_bytes(), position, size)?;
            HeartwheelEvent::of_payload(&payload).put(out);
            id_len
        };
        host.shown = Some(Box::new(payload));
        Ok(id_len)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Takes over a listener and returns its port.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_adopt_fd(
    handle: *mut Heartwheel,
    fd: c_int,
    flags: c_uint,
) -> c_int {
    // SAFETY: the host's handle, and its descriptor if it is one.
    unsafe { with(handle, |host| host.adopt(fd, flags)) }
}

impl Host {
    fn metrics(&mut self) -> String {
        self.server.metrics()
    }

    /// Serves on a duplicate of the descriptor and then closes it: after a failure the host has it
    /// as it was.
    unsafe fn adopt(&mut self, fd: RawFd, flags: c_uint) -> Result<c_int, Failure> {
        let is_known = flags & !(ADOPT_TLS | ADOPT_PROXY) == 0 || flags == ADOPT_OPERATOR;
        if !is_known {
            return Err(Failure::new(Code::Argument, c"there are no such flags"));
        }
        if fd < 0 {
            return Err(Failure::new(Code::Argument, c"it is no descriptor"));
        }
        // SAFETY: it is not negative. If it is not open, the kernel says so.
        let copy = listener_of(unsafe { BorrowedFd::borrow_raw(fd) })?;
        let face = if flags == ADOPT_OPERATOR { Face::Admin } else { Face::Public };
        let speech = Speech {
            is_proxy: flags & ADOPT_PROXY != 0,
            #[cfg(feature = "tls")]
            is_tls: flags & ADOPT_TLS != 0,
        };
        let address = match cfg!(feature = "tls") || flags & ADOPT_TLS == 0 {
            true => self.server.inner.adopt(copy, face, speech),
            false => Err(std::io::ErrorKind::Unsupported.into()),
        };
        let address = address.map_err(crate::server::Error::Io)?;
        // SAFETY: the host has handed it over, and it is open: it was copied.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(LocalAddress::as_tcp(&address).map_or(0, |address| address.port().into()))
    }
}

/// Copies the descriptor of a listener.
fn listener_of(fd: BorrowedFd<'_>) -> Result<Adopted, Failure> {
    let no_listener = || Failure::new(Code::Argument, c"it is no listening stream socket");
    let socket = SockRef::from(&fd);
    let is_listening = socket.is_listener().unwrap_or(false);
    if !is_listening || socket.r#type().ok() != Some(Type::STREAM) {
        return Err(no_listener());
    }
    let domain = socket.domain().map_err(|_| no_listener())?;
    let copy = fd.try_clone_to_owned().map_err(crate::server::Error::Io)?;
    match domain {
        Domain::IPV4 | Domain::IPV6 => Ok(TcpListener::from(copy).into()),
        Domain::UNIX => Ok(UnixListener::from(copy).into()),
        _ => Err(no_listener()),
    }
}

/// Lends the host a text until the next turn, or until it borrows another.
///
/// # Safety
///
/// `text` and `len` are null, or places of their types.
unsafe fn lend(
    host: &mut Host,
    make: impl FnOnce(&mut Host) -> String,
    text: *mut *const c_char,
    len: *mut usize,
) -> Result<c_int, Failure> {
    if text.is_null() || !text.is_aligned() || len.is_null() || !len.is_aligned() {
        return Err(Failure::new(Code::Argument, c"text and len must have a place"));
    }
    let mut made = make(host);
    let made_len = made.len();
    made.push('\0');
    let kept: Box<String> = Box::new(made);
    // SAFETY: neither is null or unaligned, and the host says that they are places.
    unsafe {
        text.write(kept.as_ptr().cast());
        len.write(made_len);
    }
    host.shown = Some(kept);
    Ok(OK)
}

fn place_of(number: u64) -> Place {
    Place { slot: number as u32, has_rows: number & HAS_ROWS != 0 }
}

fn number_of(place: Place) -> u64 {
    u64::from(place.slot) | if place.has_rows { HAS_ROWS } else { 0 }
}

const HAS_ROWS: u64 = 1 << 32;
const PLACE_AT_END: u64 = u64::MAX;

const ADOPT_OPERATOR: c_uint = 1;
const ADOPT_TLS: c_uint = 2;
const ADOPT_PROXY: c_uint = 4;
