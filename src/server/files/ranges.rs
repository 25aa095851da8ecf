//! Which bytes of a file are asked for (RFC 9110, 14).
//!
//! One range is answered by 206. Several at once are answered by the whole file, as 14.2 allows: a
//! list of ranges is mostly an attack. So is a range that cannot be read, and one of another unit.

use crate::core::wire::http::Request;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// At least one byte.
    Part {
        from: u64,
        count: u64,
    },
    /// Bytes that the file does not have.
    Nothing,
}

/// Reads the Range header of a GET for a file of `len` bytes.
pub(super) fn wanted(request: &Request, len: u64) -> Wanted {
    let mut lines = request.header_values("range");
    match (request.method(), lines.next(), lines.next()) {
        ("GET", Some(range), None) => parse(range, len).unwrap_or(Wanted::Whole),
        _ => Wanted::Whole,
    }
}

/// `None` if it is no single range of bytes.
fn parse(range: &[u8], len: u64) -> Option<Wanted> {
    let (unit, set) = str::from_utf8(range).ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    let (from, end) = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(count)) => (len.saturating_sub(count), len),
        (Some(from), None) => (from, len),
        (Some(from), Some(last)) if last < from => return None,
        (Some(from), Some(last)) => (from, last.saturating_add(1).min(len)),
    };
    Some(match end.checked_sub(from) {
        None | Some(0) => Wanted::Nothing,
        Some(count) => Wanted::Part { from, count },
    })
}

/// Reads a number, or nothing; `None` if it is neither. A number too large is larger than any file.
fn number(digits: &str) -> Option<Option<u64>> {
    match digits {
        "" => Some(None),
        _ if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_range_is_read_and_all_else_is_the_whole() {
        let part = |from, count| Some(Wanted::Part { from, count });
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("BYTES= 10-", part(10, 90)),
            ("bytes=10-500", part(10, 90)),
            ("bytes=-1", part(99, 1)),
            ("bytes=-500", part(0, 100)),
            ("bytes=99-99999999999999999999999", part(99, 1)),
            ("bytes=100-", Some(Wanted::Nothing)),
            ("bytes=-0", Some(Wanted::Nothing)),
            ("bytes=99999999999999999999999-", Some(Wanted::Nothing)),
            ("bytes=0-1,5-6", None),
            ("bytes=5-4", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes=+1-2", None),
            ("bytes=a-b", None),
            ("bytes=1--2", None),
            ("bytes 1-2", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(parse(range.as_bytes(), 100), expected, "{range}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Some(Wanted::Nothing));
        assert_eq!(parse(b"\xff", 100), None);
    }
}
