//! One member of an object that is broken elsewhere.

use super::scanner::Scanner;

/// Finds the raw value of a member, by its name as it is written, in a text that was refused: cut
/// short, nested too deep, followed by something else, with a value that is none.
///
/// The text need not be more than an opening brace and brackets and strings as far as they can be
/// told apart. The value is one JSON value with a comma or a brace behind it, or it is not found:
/// a number that was cut short is not taken for another. Of several the last one counts, as in a
/// sound object. Takes time linear in the length of the text.
pub(crate) fn recover_member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let mut at = bytes.iter().position(|byte| !b" \t\r\n".contains(byte))?;
    if bytes[at] != b'{' {
        return None;
    }
    let (mut depth, mut found) = (0_usize, None);
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            b'"' => {
                at = string_end(bytes, at);
                // Deeper ones are names within a value, or text.
                if depth == 1 && text.get(start + 1..at - 1) == Some(name) {
                    found = value_behind_colon(&text[at..]).or(found);
                }
            }
            _ => {}
        }
    }
    found
}

/// Gives the place behind the closing quote of a string, or the end of the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        at += 1 + usize::from(*byte == b'\\');
        if *byte == b'"' {
            return at;
        }
    }
    bytes.len()
}

fn value_behind_colon(text: &str) -> Option<&str> {
    let mut scanner = Scanner::new(text);
    scanner.expect(b':').ok()?;
    let value = scanner.value().ok()?;
    (scanner.skip(b',') || scanner.skip(b'}')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::json::DEPTH_MAX;

    #[test]
    fn a_member_is_found_in_what_is_broken_elsewhere() {
        let deep = "[".repeat(DEPTH_MAX as usize + 1);
        let closed = deep.clone() + &"]".repeat(DEPTH_MAX as usize + 1);
        for (text, found) in [
            // Behind what is no value, before it, around it.
            (r#"{"data":NaN,"ref":7}"#.into(), Some("7")),
            (r#"{"ref":7,"data":NaN}"#.into(), Some("7")),
            (r#"{"data":'a',"ref":7}"#.into(), Some("7")),
            (r#"{"data":"\x","ref":7}"#.into(), Some("7")),
            (r#"{"data":"\ü\","ref":7}"#.into(), None),
            ("{\"data\":\"a\nb\",\"ref\":7}".into(), Some("7")),
            (r#"{"data":[1,,{]},"ref":{"a":[1]}}"#.into(), Some(r#"{"a":[1]}"#)),
            (format!(r#"{{"data":{closed},"ref":"a\"b"}}"#), Some(r#""a\"b""#)),
            (format!(r#"{{"ref":7,"data":{deep}"#), Some("7")),
            (format!(r#"{{"ref":{closed},"data":1}}"#), None),
            // Cut short.
            (r#" {"ref" : [ 1 ] ,"op":"#.into(), Some("[ 1 ]")),
            (r#"{"ref":1"#.into(), None),
            (r#"{"ref":"a"#.into(), None),
            (r#"{"ref":"#.into(), None),
            (r#"{"ref"#.into(), None),
            (r#"{""#.into(), None),
            ("{".into(), None),
            ("".into(), None),
            // Followed by something.
            (r#"{"ref":7}}"#.into(), Some("7")),
            (r#"{"ref":7} {"ref":8}"#.into(), Some("7")),
            (r#"{"ref":7;"op":"ping"}"#.into(), None),
            (r#"{"ref":07,"op":"ping"}"#.into(), None),
            // The last one counts; those inside of values are others.
            (r#"{"ref":1,"ref":2,"ref":x,"data":{"ref":3}]"#.into(), Some("2")),
            (r#"{"ref":"ref":8,"#.into(), Some("8")),
            (r#"{"data":"ref","op":["ref",1]}}"#.into(), None),
            (r#"[{"ref":7}}"#.into(), None),
            (r#""ref":7,"#.into(), None),
        ] {
            let text: String = text;
            assert_eq!(recover_member(&text, "ref"), found, "{text}");
        }
    }
}
