//! The grammar of RFC 8259, without recursion: a place in a text and what is open there.

use std::borrow::Cow;

use super::{DEPTH_MAX, JsonError};

/// A place in a text.
///
/// What has been passed is ASCII or whole strings, so the place is always between characters.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// Passes a value and gives it raw.
    pub(super) fn value(&mut self) -> Result<&'a str, JsonError> {
        self.blanks();
        let start = self.at;
        let mut open = Nesting::default();
        loop {
            self.blanks();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push(Kind::Object)?;
                    if !self.skip(b'}') {
                        self.name()?;
                        continue;
                    }
                    open.pop();
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(Kind::Array)?;
                    if !self.skip(b']') {
                        continue;
                    }
                    open.pop();
                }
                _ => self.scalar()?,
            }
            self.close(&mut open)?;
            if open.depth == 0 {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Behind a value: passes the ends of what ends with it, and what leads to the next one.
    fn close(&mut self, open: &mut Nesting) -> Result<(), JsonError> {
        while let Some(kind) = open.innermost() {
            if self.skip(b',') {
                if kind == Kind::Object {
                    self.name()?;
                }
                return Ok(());
            }
            self.expect(if kind == Kind::Object { b'}' } else { b']' })?;
            open.pop();
        }
        Ok(())
    }

    /// Passes a member's name and its colon, and gives the name with its quotes.
    pub(super) fn name(&mut self) -> Result<&'a str, JsonError> {
        self.blanks();
        let start = self.at;
        self.string()?;
        let name = &self.text[start..self.at];
        self.expect(b':')?;
        Ok(name)
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let literal = ["true", "false", "null"].into_iter().find(|l| rest.starts_with(l));
                self.at += literal.ok_or(JsonError::Syntax)?.len();
                Ok(())
            }
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.take(b"-");
        if !self.take(b"0") {
            self.digits()?;
        }
        if self.take(b".") {
            self.digits()?;
        }
        if self.take(b"eE") {
            self.take(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Ok(()) } else { Err(JsonError::Syntax) }
    }

    fn string(&mut self) -> Result<(), JsonError> {
        if !self.take(b"\"") {
            return Err(JsonError::Syntax);
        }
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let is_plain = |byte: &&u8| !matches!(byte, ..b' ' | b'"' | b'\\');
            self.at += rest.iter().take_while(is_plain).count();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => drop(self.escape()?),
                _ => return Err(JsonError::Syntax),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Passes an escape and gives what it stands for.
    fn escape(&mut self) -> Result<char, JsonError> {
        let letter = self.text.as_bytes().get(self.at + 1).ok_or(JsonError::Syntax)?;
        self.at += 2;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(*letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return Err(JsonError::Syntax),
        })
    }

    /// Passes the digits of `\u`, of a second one too if it takes two to name a character. Half a
    /// pair without its other half stands for U+FFFD.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.unit()?;
        let behind = self.at;
        let is_half = (0xd800..0xdc00).contains(&first);
        let second = match is_half && self.take(b"\\") && self.take(b"u") {
            true => self.unit().ok(),
            false => None,
        };
        let mut characters = char::decode_utf16([first].into_iter().chain(second));
        let character = characters.next().and_then(Result::ok);
        Ok(character.unwrap_or_else(|| {
            self.at = behind; // what follows stands for itself
            char::REPLACEMENT_CHARACTER
        }))
    }

    fn unit(&mut self) -> Result<u16, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or(JsonError::Syntax)? as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    #[inline]
    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes blanks and then this byte, if it is there.
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// Passes blanks and then this byte, which must be there.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.skip(byte) { Ok(()) } else { Err(JsonError::Syntax) }
    }

    /// Passes blanks up to the end, which must be there.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(JsonError::Syntax) }
    }

    /// Passes one of these bytes, if it is there.
    #[inline]
    fn take(&mut self, any: &[u8]) -> bool {
        let is_there = self.peek().is_some_and(|byte| any.contains(&byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// The arrays and objects that are open: one bit each, the innermost lowest.
#[derive(Default)]
struct Nesting {
    depth: u32,
    objects: u128,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Object,
}

impl Nesting {
    fn push(&mut self, kind: Kind) -> Result<(), JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(kind == Kind::Object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn innermost(&self) -> Option<Kind> {
        let kind = if self.objects & 1 == 1 { Kind::Object } else { Kind::Array };
        (self.depth > 0).then_some(kind)
    }
}

/// Gives the content of a string that was scanned before, from the quotes on.
pub(super) fn unescape(string: &str) -> Cow<'_, str> {
    let inner = &string[1..string.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut content = String::with_capacity(inner.len());
    let mut scanner = Scanner::new(inner);
    while let Some(run) = inner[scanner.at..].find('\\') {
        content.push_str(&inner[scanner.at..][..run]);
        scanner.at += run;
        content.push(scanner.escape().expect("the string was scanned before"));
    }
    content.push_str(&inner[scanner.at..]);
    Cow::Owned(content)
}

const _: () = assert!(DEPTH_MAX <= u128::BITS, "one bit for each level");
