//! The content of strings.

use std::borrow::Cow;

/// The content of a string in a text that has been scanned, made as far as the text goes.
///
/// As long as `made` is empty, the content is what stands in the text from `start` to `at`.
#[derive(Debug, Default)]
pub(crate) struct Content {
    start: usize,
    at: usize,
    made: String,
}

impl Content {
    /// Begins with the string that has its opening quote just before `start`.
    pub fn new(start: usize) -> Content {
        Content { start, at: start, made: String::new() }
    }

    /// Returns where the string begins, behind its quote.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Goes on to `end`, up to which the text has been scanned. An escape that may be incomplete
    /// waits.
    pub fn go_on(&mut self, text: &str, end: usize) {
        self.make(text, end, ESCAPE_LEN_MAX);
    }

    /// Returns the content of the whole string, whose closing quote is at `end`. Copies only if
    /// there are escapes in it.
    pub fn finish(mut self, text: &str, end: usize) -> Cow<'_, str> {
        self.make(text, end, 1);
        match self.made.is_empty() {
            true => Cow::Borrowed(&text[self.start..end]),
            false => Cow::Owned(self.made),
        }
    }

    /// Returns the heap bytes held.
    pub fn held_bytes(&self) -> usize {
        self.made.capacity()
    }

    /// Makes what stands before `end`, up to an escape with fewer bytes than `least`.
    fn make(&mut self, text: &str, end: usize, least: usize) {
        while let Some(run) = text[self.at..end].find('\\') {
            let from = if self.made.is_empty() { self.start } else { self.at };
            let behind = self.at + run;
            if end - behind < least {
                // Without a copy nothing is to be done, and little is looked at again.
                if !self.made.is_empty() {
                    self.made.push_str(&text[from..behind]);
                    self.at = behind;
                }
                return;
            }
            if self.made.is_empty() {
                self.made.reserve(end - self.start);
            }
            let (character, len) = escape(&text.as_bytes()[behind..end]);
            self.made.push_str(&text[from..behind]);
            self.made.push(character);
            self.at = behind + len;
        }
        if !self.made.is_empty() {
            self.made.push_str(&text[self.at..end]);
        }
        self.at = end;
    }
}

/// Returns the content of a string that was scanned before, from its quotes on.
pub(super) fn unescape(string: &str) -> Cow<'_, str> {
    Content::new(1).finish(string, string.len() - 1)
}

/// Returns the content of a string as [`unescape`] does, or of a long one its beginning.
pub(super) fn unescape_name(string: &str) -> Cow<'_, str> {
    if string.len() <= NAME_LEN_MAX {
        return unescape(string);
    }
    let end = (1..=NAME_LEN_MAX).rev().find(|at| string.is_char_boundary(*at)).unwrap_or(1);
    let mut content = Content::new(1);
    content.go_on(string, end);
    Cow::Owned(content.made)
}

/// Returns what an escape at the beginning of a text stands for, and its length. Half a surrogate
/// pair without its other half stands for U+FFFD.
fn escape(text: &[u8]) -> (char, usize) {
    let letter = match text[1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let second = text.get(6..ESCAPE_LEN_MAX).filter(|text| text.starts_with(b"\\u"));
            let units = [Some(unit(text)), second.map(unit)];
            return match char::decode_utf16(units.into_iter().flatten()).next() {
                Some(Ok(character)) => (character, 6 * character.len_utf16()),
                _ => (char::REPLACEMENT_CHARACTER, 6),
            };
        }
        letter => char::from(letter),
    };
    (letter, 2)
}

fn unit(escape: &[u8]) -> u16 {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default() as u16;
    escape[2..6].iter().fold(0, |unit, byte| unit << 4 | digit(byte))
}

/// In bytes: no name that has a meaning is longer, even if all of it is escaped.
const NAME_LEN_MAX: usize = 2048;

/// Two escapes that name one character.
const ESCAPE_LEN_MAX: usize = 12;
