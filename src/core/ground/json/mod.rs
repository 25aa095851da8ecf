//! JSON (RFC 8259), as little of it as the server needs: is this text JSON, where do the members of
//! an object lie, and objects on their way out.
//!
//! Values are checked, not built: what is to be passed on is a slice of the text it came in.
//! Reading does not recurse, looks at each byte once and can stop behind any of them: a long text
//! is read as it comes, and a hostile one costs little more than a good one of its length.
//!
//! - Arrays and objects nest at most [`DEPTH_MAX`] deep.
//! - The escape of half a surrogate pair (`\ud83c`) is taken: `JSON.stringify` writes it where a
//!   text was cut within a character. In the content of a string it stands for U+FFFD; in raw JSON
//!   it is passed on as it came.
//! - A byte order mark is not skipped (RFC 8259, 8.1).
//! - Numbers have no limit of their own: they are never read, only passed on.

use std::borrow::Cow;
use std::fmt;

mod content;
mod object;
mod scanner;

pub(crate) use content::Content;
use content::{unescape, unescape_name};
pub use object::{Object, write_string};
pub(crate) use object::{escape, escapes_len};
pub(crate) use scanner::{Member, Scanner};

/// Returns the value that a text consists of, without the blanks around it.
///
/// # Errors
///
/// If the text is not one JSON value, or is nested too deep.
pub fn value(text: &str) -> Result<&str, JsonError> {
    let mut scanner = Scanner::value();
    scanner.go_on(text.as_bytes(), &mut |_| ());
    scanner.end()?;
    Ok(text.trim_ascii())
}

/// Reads an object member by member; each is told as its name and its raw value, in their order.
///
/// A member that appears twice is told twice.
///
/// # Errors
///
/// If the text is not one JSON object, or is nested too deep. Members may have been told already.
pub fn members<'a>(
    text: &'a str,
    mut tell: impl FnMut(Cow<'a, str>, &'a str),
) -> Result<(), JsonError> {
    let mut scanner = Scanner::object();
    scanner.go_on(text.as_bytes(), &mut |Member { name, value, is_sound }| {
        if is_sound {
            tell(unescape(&text[name]), text[value].trim_ascii());
        }
    });
    scanner.end()
}

/// Returns the content of a raw value that is a string; `None` if it is of another type. Of a
/// string of more than 2 KiB it is the beginning: enough to see that the string is no name.
///
/// The value must have been scanned before. Copies only if the value has escapes or is that long.
pub(crate) fn name(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with('"').then(|| unescape_name(raw))
}

/// Returns the content of a raw value that is a string, however long; `None` if it is of another
/// type.
///
/// The value must have been scanned before.
#[cfg(any(feature = "client", feature = "jwt", feature = "presence"))]
pub(crate) fn string(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with('"').then(|| unescape(raw))
}

/// Returns the elements of a raw value that is an array, each raw; `None` if it is of another type.
///
/// The value must have been scanned before.
#[cfg(any(feature = "jwt", all(feature = "client", feature = "presence")))]
pub(crate) fn elements(raw: &str) -> Option<impl Iterator<Item = &str>> {
    let inner = raw.strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
    let (mut depth, mut is_string, mut is_escaped) = (0, false, false);
    let is_comma = move |c: char| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_string = !is_string,
            _ if is_string => {}
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' => return depth == 0,
            _ => {}
        }
        false
    };
    let elements = inner.split(is_comma).map(str::trim_ascii);
    Some(elements.filter(|element| !element.is_empty()))
}

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// It is not JSON, or not of the form asked for.
    Syntax,
    /// It is nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Syntax => f.write_str("not JSON"),
            JsonError::TooDeep => write!(f, "JSON nested deeper than {DEPTH_MAX} levels"),
        }
    }
}

impl std::error::Error for JsonError {}

/// How deep arrays and objects may nest in a value. With an object around the value, that is within
/// the 127 levels that common readers take.
pub const DEPTH_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn all_members(text: &str) -> Result<Vec<(String, &str)>, JsonError> {
        let mut told = Vec::new();
        members(text, |name, value| told.push((name.into_owned(), value)))?;
        Ok(told)
    }

    #[test]
    fn values_are_given_raw() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-12.50e+007",
            "1E400",
            "123456789012345678901234567890",
            r#""""#,
            r#""a\"\\\/\b\f\n\r\tz""#,
            "\"ü\u{7f}\u{2028}\u{feff}😀\"",
            r#""\u0000\u00fC\uD83D\uDe00\ud800\udc00\udbff\udfff\ud7ff\ue000""#,
            "[]",
            "{}",
            "[ ]",
            "{\t}",
            "[1,[2 , {\"a\":[]}],\r\n\"b\"]",
            r#"{"a":{"a":{}},"a":[{}],"":0}"#,
        ] {
            assert_eq!(value(text), Ok(text));
            assert_eq!(value(&format!(" \t\r\n{text}\n ")), Ok(text));
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let words = concat!(
            "nul nulll True NaN Infinity undefined 1, , ] } : +1 01 -01 00 - -a 1. .5 1.e5 1e 1e+ ",
            "0x10 1_0 ٣ \" \"\\ \"\\\" 'a' \"\\x41\" \"\\ü\" \"\\u\" \"\\u12\" \"\\u12g4\" ",
            "\"\\u+123\" \"\\u00üü\" ",
            "[ [1 [1, [,] [1,] [1:2] [1} [[] []] 1// /**/1 { {1:2} {a:1} {,} {[]} {]} {\"a\":[}] ",
            "{\"a\" {\"a\": {\"a\":} {\"a\":1 {\"a\":1, {\"a\":1,} {\"a\",1} {\"a\":1] {\"a\":1}} ",
            "\"\n\" \"\t\" \"\0\" \"\u{1f}\" \u{feff}1 \u{a0}1 1\u{c} \u{b}1",
        );
        for text in words.split(' ').chain(["", " ", "1 2", "[1 2]", "{\"a\" 1}", "- 1", "1 .5"]) {
            assert_eq!(value(text), Err(JsonError::Syntax), "{text}");
            if !text.starts_with('{') {
                continue;
            }
            assert_eq!(all_members(text), Err(JsonError::Syntax), "{text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_stands_for_the_replacement_character() {
        for (escapes, content) in [
            (r"\ud800", "\u{fffd}"),
            (r"\udbff!", "\u{fffd}!"),
            (r"\udc00", "\u{fffd}"),
            (r"\udfff", "\u{fffd}"),
            (r"\ud800\n", "\u{fffd}\n"),
            (r"\ud800\u0041", "\u{fffd}A"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\ud83d\\u0041", "\u{fffd}\\u0041"),
            (r"\ud800\ud800", "\u{fffd}\u{fffd}"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (r"\ud83d\ude00\ude00", "😀\u{fffd}"),
        ] {
            let raw = format!("\"{escapes}\"");
            assert_eq!(value(&raw), Ok(&*raw));
            assert_eq!(name(&raw).as_deref(), Some(content), "{escapes}");
            let object = format!("{{\"{escapes}\":{raw}}}");
            assert_eq!(all_members(&object), Ok(vec![(content.into(), &*raw)]));
        }
        for broken in [r"\ud83d\", r"\ud83d\u", r"\ud83d\ude0", r"\ud83d\x", r"\ud83"] {
            assert_eq!(value(&format!("\"{broken}\"")), Err(JsonError::Syntax), "{broken}");
        }
    }

    #[test]
    fn values_nest_as_deep_as_may_be() {
        let nested = |open: &str, middle: &str, close: &str, depth: usize| {
            open.repeat(depth) + middle + &close.repeat(depth)
        };
        let limit = DEPTH_MAX as usize;
        for (open, middle, close) in [("[", "", "]"), ("{\"a\":", "1", "}"), ("[ 1 , ", "{}", "]")]
        {
            let around = usize::from(middle == "{}");
            let deepest = nested(open, middle, close, limit - around);
            assert_eq!(value(&deepest), Ok(&*deepest));
            let object = format!("{{\"a\":{deepest}}}");
            assert_eq!(all_members(&object), Ok(vec![("a".into(), &*deepest)]));
            let deeper = nested(open, middle, close, limit + 1 - around);
            assert_eq!(value(&deeper), Err(JsonError::TooDeep));
        }
    }

    /// What is open is remembered over siblings: each closing bracket must match its opening one.
    #[test]
    fn arrays_and_objects_end_as_they_began() {
        let good = r#"[{"a":[[{}],{"b":[]}],"c":{}},[],{"d":[{"e":1}]}]"#;
        assert_eq!(value(good), Ok(good));
        for (at, byte) in good.bytes().enumerate() {
            let wrong = match byte {
                b']' => "}",
                b'}' => "]",
                b'[' => "{",
                b'{' => "[",
                _ => continue,
            };
            let bad = format!("{}{wrong}{}", &good[..at], &good[at + 1..]);
            assert_eq!(value(&bad), Err(JsonError::Syntax), "{bad}");
        }
    }

    #[test]
    fn a_text_cut_short_is_refused() {
        let text = r#"{"a":[1,{"b":"\ud83d\ude00ü\n"},true],"c":null}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(value(&text[..end]), Err(JsonError::Syntax));
            assert_eq!(all_members(&text[..end]), Err(JsonError::Syntax));
        }
    }

    #[test]
    fn members_are_told_in_their_order() {
        assert_eq!(all_members(" { } "), Ok(vec![]));
        assert_eq!(
            all_members(r#"{ "a" : [1, 2] ,"\u0061":"b" , "ü\n":{"a":3}}"#),
            Ok(vec![("a".into(), "[1, 2]"), ("a".into(), "\"b\""), ("ü\n".into(), r#"{"a":3}"#)])
        );
        for text in ["", "[]", "null", "\"a\"", "{}{}", "{} x", "[{}]"] {
            assert_eq!(all_members(text), Err(JsonError::Syntax), "{text}");
        }
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn elements_of_an_array_are_given_raw() {
        let all = |raw| elements(raw).map(|all| all.collect::<Vec<_>>());
        assert_eq!(all("[]"), Some(vec![]));
        assert_eq!(all("[ ]"), Some(vec![]));
        let raw = r#"[1 , "a,\"],b\\",[2,{"c":[3,","]}] ,{"d":[]},"ü"]"#;
        let parts = ["1", r#""a,\"],b\\""#, r#"[2,{"c":[3,","]}]"#, r#"{"d":[]}"#, "\"ü\""];
        assert_eq!(all(value(raw).unwrap()), Some(parts.to_vec()));
        for raw in ["{}", "1", "\"[]\"", "null"] {
            assert_eq!(all(raw), None);
        }
    }

    #[test]
    fn a_string_is_copied_only_if_it_bears_escapes() {
        assert!(matches!(name(r#""aü""#), Some(Cow::Borrowed("aü"))));
        let unescaped = name(r#""\\\"\/\b\f\n\r\t\u0000ü\u00fc\ud83d\ude00\udbff\udfff.""#);
        assert_eq!(unescaped.as_deref(), Some("\\\"/\u{8}\u{c}\n\r\t\0üü😀\u{10ffff}."));
        for raw in ["1", "null", "[\"a\"]", "{}"] {
            assert_eq!(name(raw), None);
        }
    }
}
