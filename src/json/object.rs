//! Objects on their way out.

use std::fmt::Write;

/// An object on its way out, member by member. Names are not escaped: they are the server's own.
///
/// ```
/// use heartwheel::json::Object;
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

    /// Ends the object and gives its text, which holds no more memory than it needs.
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
    out.reserve(value.len() + 2);
    out.push('"');
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
    {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte @ (b'"' | b'\\') => out.extend(['\\', char::from(byte)]),
            byte => write!(out, "\\u{byte:04x}").expect("a String takes all that is written"),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{string, value};

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
            assert_eq!(string(value(&raw).unwrap()).unwrap(), text);
        }
    }
}
