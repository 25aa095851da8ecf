//! What C hands over: text and bytes, checked before use.

use std::ffi::{CStr, c_char, c_int};
use std::num::NonZeroU64;
use std::{ptr, slice};

use super::failure::{Code, Failure};
use crate::core::ground::id::ConnectionId;

/// Returns the id of a peer's number; a failure for 0.
pub(super) fn peer(number: u64) -> Result<ConnectionId, Failure> {
    let number = NonZeroU64::new(number);
    number.map(ConnectionId::from_u64).ok_or(Failure::new(Code::Argument, c"0 is never a peer"))
}

/// Returns a C string as text.
///
/// # Safety
///
/// `text` is null, or ends with a NUL and does not change during `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(Code::Argument, c"the text is NULL"));
    }
    // it is not null, and the caller says that it ends with a NUL.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(Code::Argument, c"the text is not UTF-8"))
}

/// As [`text`]; `None` for null.
///
/// # Safety
///
/// As [`text`].
pub(super) unsafe fn optional_text<'a>(given: *const c_char) -> Result<Option<&'a str>, Failure> {
    // the caller promises the same.
    (!given.is_null()).then(|| unsafe { text(given) }).transpose()
}

/// Returns `len` bytes; if `len` is 0, `data` may be null.
///
/// # Safety
///
/// `data` is null, or has `len` bytes that do not change during `'a`.
pub(super) unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    match len {
        0 => Ok(&[]),
        _ if data.is_null() => {
            Err(Failure::new(Code::Argument, c"the data is NULL, the length not 0"))
        }
        // SAFETY: it is not null, no longer than an allocation can be, and the caller says that the
        // bytes are there.
        1..=LEN_MAX => Ok(unsafe { slice::from_raw_parts(data, len) }),
        _ => Err(Failure::new(Code::Argument, c"no data is that long")),
    }
}

/// Returns bytes as text; a failure if they are not UTF-8.
///
/// # Safety
///
/// As [`bytes`].
pub(super) unsafe fn utf8<'a>(data: *const c_char, len: usize) -> Result<&'a str, Failure> {
    // the caller promises the same.
    let bytes = unsafe { bytes(data.cast(), len) }?;
    str::from_utf8(bytes).map_err(|_| Failure::new(Code::Argument, c"the text is not UTF-8"))
}

/// Writes text to the host's place, cut to its size, with a NUL behind it. Returns the whole
/// length.
///
/// # Safety
///
/// `out` is null, or has room for `size` bytes.
pub(super) unsafe fn show(text: &[u8], out: *mut c_char, size: usize) -> Result<c_int, Failure> {
    if out.is_null() && size > 0 {
        return Err(Failure::new(Code::Argument, c"the text has no place"));
    }
    if let Some(room) = size.checked_sub(1) {
        let len = text.len().min(room);
        // SAFETY: it is not null, since the size is not 0, and `len + 1` is at most the size.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), out.cast(), len);
            out.add(len).write(0);
        }
    }
    Ok(c_int::try_from(text.len()).unwrap_or(c_int::MAX))
}

/// Copies bytes; `None` if there is no memory for them.
pub(super) fn copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// As [`copy`], for text.
pub(super) fn copy_text(text: &str) -> Option<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).ok()?;
    copy.push_str(text);
    Some(copy)
}

/// 32-bit targets count messages in 31 bits, and longer ones are of no use.
const LEN_MAX: usize = i32::MAX as usize;
