//! Halves of surrogate pairs in JSON, for a parser that refuses them.

/// Writes each escape of half a surrogate pair as the one that heartwheel takes it for, U+FFFD.
pub fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended += before;
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => 0,
            // The escaped character belongs to its backslash: it may be one, too.
            _ => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        mended += if length == 0 { r"\ufffd" } else { &escape[..length] };
        rest = &escape[if length == 0 { 6 } else { length }..];
    }
    mended + rest
}

/// Gives the UTF-16 unit of an escape that a text begins with.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(r"\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).expect("these are four digits"))
}
