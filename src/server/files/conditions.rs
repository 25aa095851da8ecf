//! Conditional requests (RFC 9110, 13).

use std::time::{Duration, SystemTime};

use httpdate::{fmt_http_date, parse_http_date};

use super::open::File;
use crate::core::wire::http::Request;

/// What tells one version of a file from another.
pub(super) struct Validators {
    /// Weak if the file was changed within the last two seconds: it might change again without
    /// another time.
    pub etag: String,
    pub last_modified: String,
    modified: SystemTime,
}

/// What follows from the conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// The file is sent, and a range would be of another version.
    Whole,
    /// The file is sent, or the range that is asked for.
    Ranges,
}

impl Validators {
    pub fn of(file: &File, now: SystemTime) -> Validators {
        let (seconds, nanos) = file.modified;
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LAST_SECOND));
        let modified = SystemTime::UNIX_EPOCH + since;
        let is_settled = now.duration_since(modified).is_ok_and(|age| age >= SETTLED_AFTER);
        let weak = if is_settled { "" } else { "W/" };
        let File { len, number, .. } = file;
        let etag = format!("{weak}\"{seconds:x}.{nanos:x}-{len:x}-{number:x}\"");
        Validators { etag, last_modified: fmt_http_date(modified), modified }
    }
}

/// Judges the conditions in the order of RFC 9110, 13.2.2.
pub(super) fn check(request: &Request, validators: &Validators) -> Verdict {
    let changed_since = |name| date(request, name).map(|date| validators.modified > date);
    if has(request, "if-match") {
        if !names(request, "if-match", |tag| is_strong_match(tag, &validators.etag)) {
            return Verdict::Failed;
        }
    } else if changed_since("if-unmodified-since") == Some(true) {
        return Verdict::Failed;
    }
    if has(request, "if-none-match") {
        if names(request, "if-none-match", |tag| opaque(tag) == opaque(&validators.etag)) {
            return Verdict::NotModified;
        }
    } else if changed_since("if-modified-since") == Some(false) {
        return Verdict::NotModified;
    }
    match request.header("if-range") {
        None => Verdict::Ranges,
        Some(tag) if tag.contains('"') && is_strong_match(tag, &validators.etag) => Verdict::Ranges,
        // A date is good only if it is the very one, and the file has not just been changed.
        Some(date) if date == validators.last_modified && !validators.etag.starts_with('W') => {
            Verdict::Ranges
        }
        Some(_) => Verdict::Whole,
    }
}

fn has(request: &Request, name: &str) -> bool {
    request.header_values(name).next().is_some()
}

/// Returns whether a list of tags has one that matches, or is `*`. No tag of ours has a comma.
fn names(request: &Request, name: &str, is_match: impl Fn(&str) -> bool) -> bool {
    let mut tags = request.header_list(name).filter_map(|tag| str::from_utf8(tag).ok());
    tags.any(|tag| tag == "*" || is_match(tag))
}

fn is_strong_match(one: &str, other: &str) -> bool {
    one == other && !one.starts_with("W/")
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn date(request: &Request, name: &str) -> Option<SystemTime> {
    parse_http_date(request.header(name)?).ok()
}

const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// The format of dates has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;
