//! What C hands over: text and bytes, checked before anything is made of them.

use std::ffi::{CStr, c_char};
use std::num::NonZeroU64;
use std::slice;

use super::failure::{Code, Failure};
use crate::core::ground::id::ConnectionId;

/// Gives the peer of a number.
pub(super) fn peer(number: u64) -> Result<ConnectionId, Failure> {
    let number = NonZeroU64::new(number);
    number.map(ConnectionId::from_u64).ok_or(Failure::new(Code::Argument, c"0 is never a peer"))
}

/// Gives a C string as text.
///
/// # Safety
///
/// `text` is null, or ends with a NUL and is not changed while `'a` lasts.
pub(super) unsafe fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(Code::Argument, c"the text is NULL"));
    }
    // SAFETY: it is not null and, as the caller says, ends with a NUL.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(Code::Argument, c"the text is not UTF-8"))
}

/// Gives `len` bytes; none may be at no address.
///
/// # Safety
///
/// `data` is null, or there are `len` bytes that are not changed while `'a` lasts.
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

/// Gives bytes that are to be text.
///
/// # Safety
///
/// As [`bytes`].
pub(super) unsafe fn utf8<'a>(data: *const c_char, len: usize) -> Result<&'a str, Failure> {
    // SAFETY: the caller keeps to the same.
    let bytes = unsafe { bytes(data.cast(), len) }?;
    str::from_utf8(bytes).map_err(|_| Failure::new(Code::Argument, c"the text is not UTF-8"))
}

/// Copies bytes, or gives nothing if there is no memory for them.
pub(super) fn copy(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// As [`copy`], of text.
pub(super) fn copy_text(text: &str) -> Option<String> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).ok()?;
    copy.push_str(text);
    Some(copy)
}

/// Messages are counted in 31 bits where pointers have 32, and nobody sends longer ones.
const LEN_MAX: usize = i32::MAX as usize;
