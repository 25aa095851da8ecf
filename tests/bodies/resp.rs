//! Answers of Redis: any bytes are answers, the first part of one, or a fault; the pieces make no
//! difference, what is kept stays within its bounds, and a reader that has all at once and no
//! bounds reads the same.

use heartwheel::core::wire::resp::{Decoder, Fault, Value, write_command};

const BYTES_MAX: u64 = 64;
const ANSWER_MAX: usize = 2048;
const LINE_MAX: usize = 16 * 1024;
const DEPTH_MAX: usize = 8;

pub fn run(input: &[u8]) {
    let whole = read(input, input.len().max(1));
    for piece in [1, 2, 7, 64] {
        assert_eq!(read(input, piece), whole, "in pieces of {piece}");
    }
    let (values, fault) = &whole;
    for value in values {
        assert!(kept(value) <= ANSWER_MAX, "an answer takes more than it may");
    }
    let (expected, end) = reference(input);
    let seen = values.len().min(expected.len());
    assert_eq!(values[..seen], expected[..seen]);
    match (fault, end) {
        // What is too large is so for the one that has bounds alone.
        (Some(Fault::TooLarge), _) => assert!(values.len() <= expected.len()),
        (Some(Fault::Garbage), end) => assert_eq!(end, End::Garbage),
        (None, end) => {
            assert_eq!(values.len(), expected.len());
            assert_ne!(end, End::Garbage);
        }
    }
    // What was read reads back to itself, and so does a command.
    let mut written = Vec::new();
    for value in values {
        write(&mut written, value);
    }
    if !values.iter().any(has_huge) {
        assert_eq!(read(&written, 5), (values.clone(), None));
    }
    let parts: Vec<&[u8]> = input.chunks(17).take(9).collect();
    let mut command = Vec::new();
    write_command(&mut command, parts.iter().copied());
    let as_values = parts.iter().map(|part| Value::Bytes(part.to_vec())).collect();
    assert_eq!(read(&command, 3), (vec![Value::List(as_values)], None));
}

/// Reads in pieces of so many bytes, up to the first fault.
fn read(input: &[u8], piece: usize) -> (Vec<Value>, Option<Fault>) {
    let mut decoder = Decoder::new(BYTES_MAX, ANSWER_MAX);
    let mut values = Vec::new();
    for piece in input.chunks(piece) {
        let fed = decoder.feed(piece);
        values.extend(std::iter::from_fn(|| decoder.poll()));
        if let Err(fault) = fed {
            return (values, Some(fault));
        }
    }
    (values, None)
}

/// What a value takes beside its place.
fn kept(value: &Value) -> usize {
    let inner = match value {
        Value::Bytes(bytes) => {
            assert!(bytes.len() as u64 <= BYTES_MAX);
            bytes.len()
        }
        Value::List(values) => values.iter().map(kept).sum(),
        _ => 0,
    };
    inner + size_of::<Value>()
}

fn has_huge(value: &Value) -> bool {
    match value {
        Value::Huge(_) => true,
        Value::List(values) => values.iter().any(has_huge),
        _ => false,
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend_from_slice(b"$-1\r\n"),
        Value::Word(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
        Value::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
        Value::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Value::Bytes(bytes) => {
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Huge(_) => {}
        Value::List(values) => {
            out.extend_from_slice(format!("*{}\r\n", values.len()).as_bytes());
            values.iter().for_each(|value| write(out, value));
        }
    }
}

/// How the bytes end for the other reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With an answer, or within one.
    Open,
    Garbage,
}

/// A reader without bounds, that has all bytes at once: one function for a value, which calls
/// itself for those within.
fn reference(input: &[u8]) -> (Vec<Value>, End) {
    let (mut values, mut at) = (Vec::new(), 0);
    while at < input.len() {
        match one(input, at, 0) {
            Ok((value, next)) => {
                values.push(value);
                at = next;
            }
            Err(end) => return (values, end),
        }
    }
    (values, End::Open)
}

fn one(input: &[u8], at: usize, depth: usize) -> Result<(Value, usize), End> {
    let rest = &input[at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Err(if rest.len() > LINE_MAX { End::Garbage } else { End::Open });
    };
    let line = rest[..=end].strip_suffix(b"\r\n").filter(|_| end < LINE_MAX).ok_or(End::Garbage)?;
    let line = std::str::from_utf8(line).map_err(|_| End::Garbage)?;
    let next = at + end + 1;
    let text = line.get(1..).ok_or(End::Garbage)?;
    let count = || {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number).ok_or(End::Garbage)
    };
    match &line[..1] {
        "+" => Ok((Value::Word(text.into()), next)),
        "-" => Ok((Value::Error(text.into()), next)),
        ":" => Ok((Value::Number(text.parse().map_err(|_| End::Garbage)?), next)),
        "$" | "*" if text == "-1" => Ok((Value::Nil, next)),
        "$" => {
            let len = count()?;
            if len > u64::MAX - 2 {
                return Err(End::Garbage);
            }
            let left = (input.len() - next) as u64;
            if left < len + 2 {
                return Err(End::Open);
            }
            let bytes = &input[next..][..len as usize];
            let after = next + len as usize + 2;
            if len > BYTES_MAX {
                return Ok((Value::Huge(len), after));
            }
            let is_ended = &input[after - 2..after] == b"\r\n";
            if is_ended { Ok((Value::Bytes(bytes.to_vec()), after)) } else { Err(End::Garbage) }
        }
        "*" => {
            let count = count()?;
            if count > 0 && depth >= DEPTH_MAX {
                return Err(End::Garbage);
            }
            let (mut values, mut at) = (Vec::new(), next);
            for _ in 0..count {
                if at >= input.len() {
                    return Err(End::Open);
                }
                let (value, next) = one(input, at, depth + 1)?;
                values.push(value);
                at = next;
            }
            Ok((Value::List(values), at))
        }
        _ => Err(End::Garbage),
    }
}
