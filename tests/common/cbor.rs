//! CBOR (RFC 8949) of definite lengths, written apart from the server's own.

use heartwheel::core::ground::json;

pub fn head(major: u8, number: usize) -> Vec<u8> {
    match number {
        0..24 => vec![major << 5 | number as u8],
        24..256 => vec![major << 5 | 24, number as u8],
        _ => [&[major << 5 | 25][..], &(number as u16).to_be_bytes()].concat(),
    }
}

pub fn text(text: &str) -> Vec<u8> {
    [&head(3, text.len())[..], text.as_bytes()].concat()
}

pub fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&head(2, bytes.len())[..], bytes].concat()
}

pub fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs = members.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    head(5, members.len()).into_iter().chain(pairs).collect()
}

/// Writes a flat JSON object of strings without escapes, whole numbers and nulls as a map; other
/// text as it is.
pub fn of_json(object: &str) -> Vec<u8> {
    let mut members = Vec::new();
    let read = json::members(object, |name, raw| {
        let string = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = match (string, raw) {
            (Some(string), _) => text(string),
            (None, "null") => vec![0xf6],
            (None, number) => head(0, number.parse().expect("a whole number")),
        };
        members.push((name.into_owned(), value));
    });
    match read {
        Ok(()) => {
            let members: Vec<_> = members.iter().map(|(name, v)| (&**name, v.clone())).collect();
            map(&members)
        }
        Err(_) => object.as_bytes().to_vec(),
    }
}

/// Reads a map of strings, whole numbers and nulls, and nothing behind it, as a JSON object. No
/// string has anything to escape.
pub fn to_json(bytes: &[u8]) -> String {
    let [first, rest @ ..] = bytes else { panic!("nothing has come") };
    assert_eq!(first & 0xe0, 0xa0, "a map");
    let (mut members, mut rest) = (Vec::new(), rest);
    for _ in 0..first & 31 {
        let (name, behind) = item(rest);
        let (value, behind) = item(behind);
        members.push(format!("{name}:{value}"));
        rest = behind;
    }
    assert!(rest.is_empty(), "one map is a message");
    format!("{{{}}}", members.join(","))
}

fn item(bytes: &[u8]) -> (String, &[u8]) {
    let (major, info) = (bytes[0] >> 5, bytes[0] & 31);
    let size = if info < 24 { 0 } else { 1 << (info - 24) };
    let number = bytes[1..1 + size].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let number = if info < 24 { usize::from(info) } else { number };
    let rest = &bytes[1 + size..];
    match major {
        0 => (number.to_string(), rest),
        3 => {
            let text = str::from_utf8(&rest[..number]).expect("text is UTF-8");
            assert!(!text.contains(['"', '\\']), "nothing to escape: {text}");
            (format!("\"{text}\""), &rest[number..])
        }
        7 if bytes[0] == 0xf6 => ("null".into(), rest),
        _ => panic!("no such item is sent: {bytes:x?}"),
    }
}
