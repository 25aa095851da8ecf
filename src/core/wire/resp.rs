//! The protocol of Redis, version 2: commands out, answers in, whatever the pieces are.
//!
//! An answer takes the bytes that have come, and no more. What is longer than it may be is read to
//! its end and left out; an answer that would take too much in all is a fault, as everything is
//! that is no answer.

use std::collections::VecDeque;
use std::fmt;
use std::mem;

/// An answer, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    Nil,
    /// A word.
    Word(String),
    /// An error: its kind, which is its first word, and a sentence.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// So many bytes, which were more than may be kept.
    Huge(u64),
    /// Several.
    List(Vec<Value>),
}

impl Value {
    /// Returns the text of a word or of bytes.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Word(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Returns what a list has.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the sentence of an error.
    pub fn error(&self) -> Option<&str> {
        match self {
            Value::Error(text) => Some(text),
            _ => None,
        }
    }
}

/// What comes is no answer, or one that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no answer of Redis.
    Garbage,
    /// It takes more than an answer may.
    TooLarge,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Garbage => "what came is no answer of Redis",
            Fault::TooLarge => "an answer of Redis takes more than it may",
        })
    }
}

impl std::error::Error for Fault {}

/// Adds a command to what is to be sent.
pub fn write_command<'a>(out: &mut Vec<u8>, parts: impl IntoIterator<Item = &'a [u8]>) {
    let parts: Vec<&[u8]> = parts.into_iter().collect();
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads answers.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes of this length and less are kept.
    bytes_max: u64,
    /// What an answer may take.
    answer_max: usize,
    /// What the answer that is read takes.
    taken: usize,
    line: Vec<u8>,
    bytes: Option<Bytes>,
    /// The lists that are open, the outermost first.
    open: Vec<Open>,
    ready: VecDeque<Value>,
}

/// Bytes of which some are still to come, with the two that end them.
#[derive(Debug)]
struct Bytes {
    len: u64,
    left: u64,
    kept: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Open {
    left: usize,
    values: Vec<Value>,
}

impl Decoder {
    /// Makes a reader that keeps bytes of up to `bytes_max`, in answers of up to `answer_max`.
    pub fn new(bytes_max: u64, answer_max: usize) -> Decoder {
        Decoder {
            bytes_max,
            answer_max,
            taken: 0,
            line: Vec::new(),
            bytes: None,
            open: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Takes the next answer that is complete.
    pub fn poll(&mut self) -> Option<Value> {
        self.ready.pop_front()
    }

    /// Reads bytes that have come.
    ///
    /// # Errors
    ///
    /// A fault is final: what follows is not understood any more.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<(), Fault> {
        while !input.is_empty() {
            match self.bytes.take() {
                Some(bytes) => input = self.read_bytes(bytes, input)?,
                None => input = self.read_line(input)?,
            }
        }
        Ok(())
    }

    fn read_bytes<'a>(&mut self, mut bytes: Bytes, input: &'a [u8]) -> Result<&'a [u8], Fault> {
        let count = usize::try_from(bytes.left).map_or(input.len(), |left| left.min(input.len()));
        let (now, rest) = input.split_at(count);
        bytes.left -= count as u64;
        if let Some(kept) = &mut bytes.kept {
            kept.extend_from_slice(now);
        }
        if bytes.left > 0 {
            self.bytes = Some(bytes);
            return Ok(rest);
        }
        self.complete(match bytes.kept {
            None => Value::Huge(bytes.len),
            Some(mut kept) => {
                if !kept.ends_with(b"\r\n") {
                    return Err(Fault::Garbage);
                }
                kept.truncate(kept.len() - 2);
                Value::Bytes(kept)
            }
        })?;
        Ok(rest)
    }

    fn read_line<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Fault> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (now, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        self.line.extend_from_slice(now);
        if self.line.len() > LINE_MAX {
            return Err(Fault::Garbage);
        }
        if end.is_none() {
            return Ok(rest);
        }
        let mut line = mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
        let (kind, text) = text.and_then(|text| text.split_at_checked(1)).ok_or(Fault::Garbage)?;
        match kind {
            "+" => self.complete(Value::Word(text.into()))?,
            "-" => self.complete(Value::Error(text.into()))?,
            ":" => self.complete(Value::Number(text.parse().map_err(|_| Fault::Garbage)?))?,
            "$" => self.begin_bytes(text)?,
            "*" => self.begin_list(text)?,
            _ => return Err(Fault::Garbage),
        }
        line.clear();
        self.line = line;
        Ok(rest)
    }

    fn begin_bytes(&mut self, text: &str) -> Result<(), Fault> {
        if text == "-1" {
            return self.complete(Value::Nil);
        }
        let len = number(text)?;
        let is_kept = len <= self.bytes_max;
        if is_kept {
            self.take_room(len as usize)?;
        }
        let left = len.checked_add(2).ok_or(Fault::Garbage)?;
        // Room is made as the bytes come.
        self.bytes = Some(Bytes { len, left, kept: is_kept.then(Vec::new) });
        Ok(())
    }

    fn begin_list(&mut self, text: &str) -> Result<(), Fault> {
        if text == "-1" {
            return self.complete(Value::Nil);
        }
        let left = usize::try_from(number(text)?).map_err(|_| Fault::TooLarge)?;
        if left == 0 {
            return self.complete(Value::List(Vec::new()));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::Garbage);
        }
        // A list of one value has room for four.
        self.take_room(4 * size_of::<Value>())?;
        self.open.push(Open { left, values: Vec::new() });
        Ok(())
    }

    /// Puts a value where it belongs, and closes the lists that end with it.
    fn complete(&mut self, mut value: Value) -> Result<(), Fault> {
        self.take_room(size_of::<Value>())?;
        while let Some(open) = self.open.last_mut() {
            open.values.push(value);
            open.left -= 1;
            if open.left > 0 {
                return Ok(());
            }
            value = Value::List(self.open.pop().map(|open| open.values).unwrap_or_default());
        }
        self.taken = 0;
        self.ready.push_back(value);
        Ok(())
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), Fault> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.answer_max { Err(Fault::TooLarge) } else { Ok(()) }
    }
}

fn number(text: &str) -> Result<u64, Fault> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits).ok_or(Fault::Garbage)
}

/// The longest line, which may be an error.
const LINE_MAX: usize = 16 * 1024;

/// An answer of XREAD has lists five deep.
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::random::Random;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    /// Reads in pieces of so many bytes.
    fn read(input: &[u8], piece: usize) -> Result<Vec<Value>, Fault> {
        let mut decoder = Decoder::new(64, 4096);
        let mut values = Vec::new();
        for piece in input.chunks(piece) {
            decoder.feed(piece)?;
            values.extend(std::iter::from_fn(|| decoder.poll()));
        }
        Ok(values)
    }

    #[test]
    fn answers_are_read_whatever_the_pieces_are() {
        let input = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$2\r\n\r\n\r\n*-1\r\n*0\r\n*00\r\n\
            *2\r\n*1\r\n$1\r\na\r\n*2\r\n:1\r\n$0\r\n\r\n";
        let expected = [
            Value::Word("OK".into()),
            Value::Error("ERR no".into()),
            Value::Number(-7),
            Value::Nil,
            bytes("\r\n"),
            Value::Nil,
            Value::List(vec![]),
            Value::List(vec![]),
            Value::List(vec![
                Value::List(vec![bytes("a")]),
                Value::List(vec![Value::Number(1), bytes("")]),
            ]),
        ];
        for piece in 1..=input.len() {
            assert_eq!(read(input, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_and_what_follows_is_read() {
        let long = "x".repeat(65);
        let input = format!("*2\r\n$65\r\n{long}\r\n:1\r\n+OK\r\n");
        for piece in [1, 7, 1000] {
            let read = read(input.as_bytes(), piece).unwrap();
            let list = Value::List(vec![Value::Huge(65), Value::Number(1)]);
            assert_eq!(read, [list, Value::Word("OK".into())]);
        }
    }

    #[test]
    fn an_answer_takes_no_more_than_it_may() {
        let many = format!("*1000000\r\n{}", ":1\r\n".repeat(1000));
        assert_eq!(read(many.as_bytes(), 100), Err(Fault::TooLarge));
        let lists = format!("*100\r\n{}", "*1\r\n*0\r\n".repeat(100));
        assert_eq!(read(lists.as_bytes(), 100), Err(Fault::TooLarge));
        let long = format!("*100\r\n{}", format!("$60\r\n{}\r\n", "x".repeat(60)).repeat(100));
        assert_eq!(read(long.as_bytes(), 100), Err(Fault::TooLarge));
        // Without the bytes, what is claimed takes nothing.
        let mut decoder = Decoder::new(u64::MAX, usize::MAX);
        decoder.feed(b"*1000000000\r\n$1000000000000\r\n").unwrap();
        assert!(decoder.poll().is_none());
    }

    #[test]
    fn what_is_no_answer_is_a_fault() {
        for text in [
            "hello\r\n",
            "\r\n",
            "+OK\n",
            ":1x\r\n",
            "$+1\r\na\r\n",
            "$-2\r\n",
            "*x\r\n",
            "$1\r\nabc",
            "$18446744073709551615\r\n",
        ] {
            assert_eq!(read(text.as_bytes(), 3), Err(Fault::Garbage), "{text:?}");
        }
        assert_eq!(read("*1\r\n".repeat(9).as_bytes(), 3), Err(Fault::Garbage));
        assert_eq!(read("+".repeat(20_000).as_bytes(), 999), Err(Fault::Garbage));
    }

    #[test]
    fn any_bytes_at_all_do_no_harm() {
        let mut random = Random::new(7);
        let alphabet = b"+-:$*0123\r\n\r\nab";
        for _ in 0..20_000 {
            let len = random.between(1, 60);
            let input: Vec<u8> = (0..len)
                .map(|_| alphabet[random.between(0, alphabet.len() as u64 - 1) as usize])
                .collect();
            assert_eq!(read(&input, 1).is_ok(), read(&input, 1000).is_ok(), "{input:?}");
        }
    }

    #[test]
    fn commands_are_lists_of_bytes() {
        let mut out = Vec::new();
        write_command(&mut out, [b"GET".as_slice(), b"a\r\n"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
        assert_eq!(read(&out, 1).unwrap(), [Value::List(vec![bytes("GET"), bytes("a\r\n")])]);
    }
}
