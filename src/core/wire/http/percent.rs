//! Percent-encoding (RFC 3986, 2.1), and its form in queries, where `+` is a blank.

use std::borrow::Cow;

/// Decodes a part of a path.
///
/// Returns `None` if a `%` has no two hexadecimal digits behind it, or if the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut pieces = text.as_bytes().split(|byte| *byte == b'%');
    pieces.next();
    if !pieces.all(|piece| escaped(piece).is_some()) {
        return None;
    }
    String::from_utf8(unescape(text, Plus::Literal)).ok().map(Cow::Owned)
}

/// Decodes a name or a value of a query as browsers encode them: a stray `%` stays, and bytes that
/// are not UTF-8 become U+FFFD.
pub(super) fn query_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = unescape(text, Plus::Blank);
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a `+` means.
#[derive(Clone, Copy, PartialEq)]
enum Plus {
    Literal,
    Blank,
}

fn unescape(text: &str, plus: Plus) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, escaped(after)) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            (b'+', _) if plus == Plus::Blank => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
    }
    decoded
}

/// Returns the byte of the two hexadecimal digits at the front.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*text.get(index)?).to_digit(16);
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_strictly() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("a%3Ab%3a", Some("a:b:")),
            ("%C3%A4", Some("\u{e4}")),
            ("a+b", Some("a+b")),
            ("%25%32", Some("%2")),
            ("%", None),
            ("%4", None),
            ("%%41", None),
            ("%+4", None),
            ("%zz", None),
            ("%ff", None),
            ("%c3", None),
            ("%\u{e4}1", None),
        ] {
            assert_eq!(percent_decode(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_query_is_decoded_leniently() {
        for (text, expected) in
            [("a+b%2B", "a b+"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%ff", "\u{fffd}")]
        {
            assert_eq!(query_decode(text), expected, "{text:?}");
        }
    }
}
