//! The smallest words of the HTTP grammar (RFC 9110, 5.6).

/// Returns whether a byte may stand in a token: a method, a header name, a subprotocol.
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether the text is one token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_tchar(*byte))
}

/// Returns whether a header line may have this value: no CR, LF, NUL or other control.
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Returns the elements of a comma-separated list, without blanks around them; empty ones are
/// skipped (RFC 9110, 5.6.1.2).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Removes blanks and tabs from both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_no_empty_elements() {
        let elements: Vec<_> = list(b" ,a, b\t,,c d ,").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"c d"]);
    }

    #[test]
    fn a_token_has_no_delimiters() {
        for (text, expected) in [("GET", true), ("v1.a+b", true), ("", false), ("a b", false)] {
            assert_eq!(is_token(text.as_bytes()), expected, "{text:?}");
        }
        for text in ["a/b", "a:b", "a\r", "\u{e4}", "a\0"] {
            assert!(!is_token(text.as_bytes()), "{text:?}");
        }
    }
}
