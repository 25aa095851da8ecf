//! The header lines of a head that was read: the head's bytes, and an index into them.

use tungstenite::Bytes;

use super::syntax;

/// The header lines of a head, and the head itself.
///
/// Names are compared without regard to case. The parser has checked that names are tokens, and
/// that values have no control characters.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Headers {
    head: Bytes,
    lines: Box<[(Span, Span)]>,
}

impl Headers {
    /// Makes an index of the lines that were found in a head.
    pub fn new(head: &Bytes, lines: &[httparse::Header]) -> Headers {
        let spans = |line: &httparse::Header| {
            (Span::of(head, line.name.as_bytes()), Span::of(head, line.value))
        };
        Headers { head: head.clone(), lines: lines.iter().map(spans).collect() }
    }

    /// Returns the span of a part that was borrowed from the head.
    pub fn span(&self, part: &str) -> Span {
        Span::of(&self.head, part.as_bytes())
    }

    /// Returns a part of the head that is text.
    pub fn text(&self, span: Span) -> &str {
        str::from_utf8(span.within(&self.head)).expect("was text when the head was parsed")
    }

    /// Returns all lines in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|(name, value)| (self.text(*name), value.within(&self.head)))
    }

    /// Returns the first value of this name; `None` if it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| str::from_utf8(value).ok())
    }

    /// Returns the values of all lines with this name.
    pub fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the value of a header that must stand on exactly one line; `None` if it does not.
    pub fn only_value(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the elements of a comma-separated list, over all lines of this name.
    pub fn elements<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.values(name).flat_map(syntax::list)
    }

    /// Returns whether the list in all lines of this name has the token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.elements(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Where a part of the head lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Returns the span of a part that was borrowed from `whole`.
    fn of(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        let end = start + part.len();
        assert!(end <= whole.len() && whole.len() <= u32::MAX as usize, "borrowed from the head");
        Span { start: start as u32, end: end as u32 }
    }

    fn within(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}
