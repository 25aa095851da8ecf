//! Header lines to be sent, checked when they are added.

use std::fmt;

use super::syntax::{is_field_value, is_token};

/// Header lines of a response or of a request, as they go on the wire.
///
/// A name is a token and a value has no CR, LF, NUL or other control character, so no line can end
/// early, and no other line can begin inside it (response splitting).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderLines(String);

impl HeaderLines {
    /// Makes none.
    pub const fn new() -> HeaderLines {
        HeaderLines(String::new())
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// If the name is no token, if the value has a control character, or if the server writes this
    /// header itself (see [`HeaderError::Reserved`]). Nothing is added then.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        self.push_unless(&RESERVED, name, value)
    }

    /// Adds a line as [`HeaderLines::push`] does, but with other reserved names.
    pub(super) fn push_unless(
        &mut self,
        reserved: &[&str],
        name: &str,
        value: &str,
    ) -> Result<(), HeaderError> {
        if !is_token(name.as_bytes()) {
            return Err(HeaderError::Name);
        }
        if !is_field_value(value.as_bytes()) {
            return Err(HeaderError::Value);
        }
        if reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
            return Err(HeaderError::Reserved);
        }
        self.push_own(name, value);
        Ok(())
    }

    /// Adds a line whose parts were checked before, or are the server's own.
    pub(super) fn push_own(&mut self, name: &str, value: &str) {
        debug_assert!(is_token(name.as_bytes()) && is_field_value(value.as_bytes()));
        for part in [name, ": ", value, "\r\n"] {
            self.0.push_str(part);
        }
    }

    /// Adds the line that names the extension that was agreed on (RFC 6455, 9.1).
    #[cfg(feature = "deflate")]
    pub(crate) fn push_extension(&mut self, agreed: &str) {
        self.push_own("Sec-WebSocket-Extensions", agreed);
    }

    /// Adds all lines of `other`.
    pub fn append(&mut self, other: &HeaderLines) {
        self.0.push_str(&other.0);
    }

    /// Sets a line of the server's own: it replaces all lines with this name.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.push_own(name, value);
    }

    /// Adds elements to a list on one line, behind the elements that are there already.
    pub(super) fn add_to_list(&mut self, name: &str, elements: &[&'static str]) {
        let found = self.values(name).flat_map(|value| value.split(','));
        let mut list: Vec<&str> = found.map(str::trim).filter(|one| !one.is_empty()).collect();
        for element in elements {
            if !list.iter().any(|one| one.eq_ignore_ascii_case(element)) {
                list.push(element);
            }
        }
        let value = list.join(", ");
        self.set(name, &value);
    }

    fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            let has_name = |line: &str| name_of(line).eq_ignore_ascii_case(name);
            self.0 = self.0.split_inclusive("\r\n").filter(|line| !has_name(line)).collect();
        }
    }

    fn values<'l>(&'l self, name: &str) -> impl Iterator<Item = &'l str> {
        let lines = self.0.split_terminator("\r\n").filter_map(|line| line.split_once(": "));
        lines.filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the value of the first line with this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Returns the lines as they go on the wire, each with its CRLF.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// Why a header line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The name is not a token of RFC 9110.
    Name,
    /// The value has CR, LF, NUL or another control character.
    Value,
    /// The server writes this header itself: it delimits the message or names its type.
    Reserved,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderError::Name => "a header name must be a token",
            HeaderError::Value => "a header value must not contain control characters",
            HeaderError::Reserved => "this header is written by the server itself",
        })
    }
}

impl std::error::Error for HeaderError {}

/// The encoder of a response writes these itself; a second line would contradict the first.
const RESERVED: [&str; 11] = [
    "Connection",
    "Content-Length",
    "Content-Type",
    "Date",
    "Keep-Alive",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Transfer-Encoding",
    "Upgrade",
    "X-Content-Type-Options",
];

#[cfg(test)]
mod tests {
    use super::*;

    // FAULTS 24: an error, and nothing on the wire.
    #[test]
    fn a_line_cannot_be_split() {
        for (name, value, error) in [
            ("A", "b\r\nEvil: 1", HeaderError::Value),
            ("A", "b\n", HeaderError::Value),
            ("A", "b\r", HeaderError::Value),
            ("A", "b\0", HeaderError::Value),
            ("A", "\u{7f}", HeaderError::Value),
            ("A\r\nEvil", "b", HeaderError::Name),
            ("A:", "b", HeaderError::Name),
            ("A B", "b", HeaderError::Name),
            ("", "b", HeaderError::Name),
            ("content-length", "0", HeaderError::Reserved),
            ("Transfer-Encoding", "chunked", HeaderError::Reserved),
        ] {
            let mut lines = HeaderLines::default();
            assert_eq!(lines.push(name, value), Err(error), "{name:?}: {value:?}");
            assert!(lines.is_empty());
        }
    }

    // FAULTS 168: whatever a handler has added, one line of each.
    #[test]
    fn what_the_server_adds_stands_once() {
        let mut lines = HeaderLines::default();
        for (name, value) in [("vary", "Accept-Language"), ("X", "1"), ("VARY", "origin,, A")] {
            lines.push(name, value).unwrap();
        }
        lines.add_to_list("Vary", &["Accept", "Origin"]);
        assert_eq!(lines.as_str(), "X: 1\r\nVary: Accept-Language, origin, A, Accept\r\n");
        lines.add_to_list("Vary", &["Accept", "Origin"]);
        lines.set("x", "2");
        assert_eq!(lines.as_str(), "Vary: Accept-Language, origin, A, Accept\r\nx: 2\r\n");
    }

    #[test]
    fn lines_are_found_again_in_any_case() {
        let mut lines = HeaderLines::default();
        lines.push("Event-Id", "1-2").unwrap();
        lines.push("X", "a: b").unwrap();
        assert_eq!(lines.as_str(), "Event-Id: 1-2\r\nX: a: b\r\n");
        assert_eq!(lines.get("event-id"), Some("1-2"));
        assert_eq!(lines.get("x"), Some("a: b"));
        assert_eq!(lines.get("event"), None);
    }
}
