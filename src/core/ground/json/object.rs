//! Objects on their way out.

use std::fmt::Write;

/// An object on its way out, member by member. Names are not escaped: they are the server's own.
///
/// ```
/// use heartwheel::core::ground::json::Object;
///
/// let text = Object::new().string("op", "pong").number("n", 1).raw("ref", "[1]").end();
/// assert_eq!(text, r#"{"op":"pong","n":1,"ref":[1]}"#);
/// ```
#[derive(Clone, Debug)]
pub struct Object(String);

impl Object {
    /// Begins an object.
    #[expect(clippy::new_without_default, reason = "an object is begun to be ended")]
    pub fn new() -> Object {
        Object("{".into())
    }

    /// Adds a string.
    pub fn string(mut self, name: &str, value: &str) -> Object {
        self.name(name);
        write_string(&mut self.0, value);
        self
    }

    /// Adds a number.
    pub fn number(mut self, name: &str, value: u64) -> Object {
        self.name(name);
        write!(self.0, "{value}").expect("a String takes all that is written");
        self
    }

    /// Adds a value that is JSON already.
    pub fn raw(mut self, name: &str, value: &str) -> Object {
        self.name(name);
        self.0.push_str(value);
        self
    }

    /// Begins a member whose value, and the end of the object, follow. Returns the text so far.
    pub(crate) fn begin(mut self, name: &str) -> String {
        self.name(name);
        self.0
    }

    /// Ends the object. Returns its text, which holds no more memory than it needs.
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0.shrink_to_fit();
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        for part in ["\"", name, "\":"] {
            self.0.push_str(part);
        }
    }
}

/// Appends a string with its quotes. At worst, with control characters, it is six times as long.
pub fn write_string(out: &mut String, value: &str) {
    out.reserve(value.len() + escapes_len(value.as_bytes()) + 2);
    out.push('"');
    let mut rest = value;
    while let Some((at, escape)) =
        rest.bytes().enumerate().find_map(|(at, byte)| Some((at, escape(byte)?)))
    {
        out.push_str(&rest[..at]);
        out.extend(escape.bytes().iter().map(|byte| char::from(*byte)));
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// What stands for a byte that may not stand in a string as it is (RFC 8259, 7).
pub(crate) struct Escape([u8; 6], usize);

impl Escape {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// Returns the escape of a byte; `None` if the byte may stand in a string as it is.
#[inline]
pub(crate) fn escape(byte: u8) -> Option<Escape> {
    let letter = match byte {
        b'"' | b'\\' => byte,
        b' '.. => return None,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let digits = b"0123456789abcdef";
            let [high, low] = [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]);
            return Some(Escape([b'\\', b'u', b'0', b'0', high, low], 6));
        }
    };
    Some(Escape([b'\\', letter, 0, 0, 0, 0], 2))
}

/// Returns how many bytes longer a text becomes by its escapes.
pub(crate) fn escapes_len(text: &[u8]) -> usize {
    // In parts whose sums fit a byte, so that many bytes are looked at by one instruction.
    let more = |byte: &u8| {
        let is_short = matches!(byte, b'\n' | b'\r' | b'\t' | b'"' | b'\\');
        u8::from(is_short) + 5 * u8::from(*byte < b' ' && !is_short)
    };
    text.chunks(51).map(|part| usize::from(part.iter().map(more).sum::<u8>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::json::{name, value};

    #[test]
    fn strings_are_escaped_where_they_must_be() {
        let written = |text: &str| {
            let mut out = String::new();
            write_string(&mut out, text);
            out
        };
        assert_eq!(written(""), r#""""#);
        assert_eq!(written("a\"b\\/ü😀\u{7f}"), "\"a\\\"b\\\\/ü😀\u{7f}\"");
        assert_eq!(written("\0\u{1f}\n\r\t"), r#""\u0000\u001f\n\r\t""#);
        for character in ('\0'..='\u{ff}').chain(['\u{2028}', '\u{feff}', '😀']) {
            let text = format!("{character}{character}x{character}");
            let raw = written(&text);
            assert_eq!(name(value(&raw).unwrap()).unwrap(), text);
        }
    }
}
