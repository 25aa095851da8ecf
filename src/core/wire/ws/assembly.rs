//! A message of which only a part has come.
//!
//! Memory grows with what was received: it doubles at most, and never passes the end of a message
//! whose length is known. Instead of growing a large message moves into memory that an earlier one
//! has left, if there is some. What then comes of a binary message is read straight into its place.
//! A text is copied there, because only checked bytes can become text without being checked again.

use tungstenite::Utf8Bytes;

use super::Violation;
use crate::core::wire::message::Message;
use crate::core::wire::spare_memory::SpareMemory;

/// The part of a message that has come, unmasked.
#[derive(Debug)]
pub(super) enum Assembly {
    Text(Text),
    Binary(Binary),
}

impl Assembly {
    /// Returns how many bytes have come.
    pub fn len(&self) -> usize {
        match self {
            Assembly::Text(text) => text.len(),
            Assembly::Binary(binary) => binary.filled,
        }
    }

    /// Returns what is here of a text, up to its last whole character.
    pub fn text(&self) -> Option<&str> {
        match self {
            Assembly::Text(text) => Some(&text.checked),
            Assembly::Binary(_) => None,
        }
    }

    /// Returns what is here of a message, without the beginning of a character.
    #[cfg(feature = "deflate")]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Assembly::Text(text) => text.checked.as_bytes(),
            Assembly::Binary(binary) => &binary.bytes[..binary.filled],
        }
    }

    /// Returns how many bytes of memory are held.
    pub fn capacity(&self) -> usize {
        match self {
            Assembly::Text(text) => text.checked.capacity(),
            Assembly::Binary(binary) => binary.bytes.capacity(),
        }
    }

    /// Adds a piece of what is to come.
    pub fn push(
        &mut self,
        piece: &[u8],
        coming: Coming,
        memory: &mut SpareMemory,
    ) -> Result<(), Violation> {
        match self {
            Assembly::Text(text) => text.push(piece, coming, memory),
            Assembly::Binary(binary) => {
                binary.push(piece, coming, memory);
                Ok(())
            }
        }
    }

    /// Makes the message, when nothing is outstanding.
    pub fn finish(self) -> Result<Message, Violation> {
        Ok(match self {
            Assembly::Text(text) => Message::Text(text.finish()?),
            Assembly::Binary(Binary { mut bytes, filled }) => {
                bytes.truncate(filled);
                Message::Binary(bytes.into())
            }
        })
    }
}

/// How many bytes are still to come, a piece that is here included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// Of the frame.
    pub frame: usize,
    /// Of the message, at most.
    pub message: usize,
}

/// Bytes, and room behind them.
#[derive(Debug, Default)]
pub(super) struct Binary {
    /// Behind what has come stands what an earlier message has left there.
    bytes: Vec<u8>,
    /// How many bytes have come.
    filled: usize,
}

impl Binary {
    /// Lends room for what comes next, at most `most` bytes; none, unless the memory is one that an
    /// earlier message has left.
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        let end = self.bytes.len().min(self.filled.saturating_add(most));
        &mut self.bytes[self.filled..end]
    }

    /// Takes note that the first `len` bytes of the room have been filled.
    pub fn fill(&mut self, len: usize) {
        self.filled += len;
        debug_assert!(self.filled <= self.bytes.len(), "no more is filled than was lent");
    }

    fn push(&mut self, piece: &[u8], coming: Coming, memory: &mut SpareMemory) {
        let end = self.filled + piece.len();
        if end > self.bytes.capacity() {
            match memory.lend(end, self.filled + coming.frame) {
                Some(mut block) => {
                    let came = &self.bytes[..self.filled];
                    if block.len() < end {
                        block.clear();
                        block.extend_from_slice(came);
                    } else {
                        block[..self.filled].copy_from_slice(came);
                    }
                    self.bytes = block;
                }
                None => {
                    let capacity = self.bytes.capacity();
                    let grown = grown(self.filled, piece.len(), capacity, coming.message);
                    self.bytes.truncate(self.filled);
                    self.bytes.reserve_exact(grown - self.filled);
                }
            }
        }
        match self.bytes.get_mut(self.filled..end) {
            Some(room) => room.copy_from_slice(piece),
            None => {
                self.bytes.truncate(self.filled);
                self.bytes.extend_from_slice(piece);
            }
        }
        self.filled = end;
    }
}

/// Text, checked once: while it comes.
#[derive(Debug, Default)]
pub(super) struct Text {
    checked: String,
    /// The beginning of a character whose other bytes must follow; the rest is zero.
    tail: [u8; 4],
    tail_len: usize,
}

impl Text {
    fn len(&self) -> usize {
        self.checked.len() + self.tail_len
    }

    fn push(
        &mut self,
        mut piece: &[u8],
        coming: Coming,
        memory: &mut SpareMemory,
    ) -> Result<(), Violation> {
        let spare = self.checked.capacity() - self.checked.len();
        if spare < self.tail_len + piece.len() {
            self.grow(piece.len(), coming, memory);
        }
        while self.tail_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.push_tail(byte)?;
        }
        let (whole, tail) = piece.split_at(piece.len() - unfinished(piece));
        self.checked.push_str(str::from_utf8(whole).map_err(|_| Violation::Utf8)?);
        self.tail[..tail.len()].copy_from_slice(tail);
        self.tail_len = tail.len();
        Ok(())
    }

    /// Makes room for `more` bytes.
    fn grow(&mut self, more: usize, coming: Coming, memory: &mut SpareMemory) {
        let len = self.len();
        if let Some(mut block) = memory.lend(len + more, len + coming.frame) {
            block.clear();
            let mut moved = String::from_utf8(block).unwrap_or_default();
            moved.push_str(&self.checked);
            self.checked = moved;
        } else {
            let capacity = grown(len, more, self.checked.capacity(), coming.message);
            self.checked.reserve_exact(capacity - self.checked.len());
        }
    }

    /// Adds a byte to the unfinished character.
    fn push_tail(&mut self, byte: u8) -> Result<(), Violation> {
        self.tail[self.tail_len] = byte;
        self.tail_len += 1;
        match str::from_utf8(&self.tail[..self.tail_len]) {
            Ok(character) => {
                self.checked.push_str(character);
                self.tail_len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Violation::Utf8),
        }
    }

    fn finish(self) -> Result<Utf8Bytes, Violation> {
        if self.tail_len > 0 { Err(Violation::Utf8) } else { Ok(self.checked.into()) }
    }
}

/// Returns the new capacity for `len` bytes and `more`, if it was `capacity` and at most
/// `outstanding` bytes can still come.
fn grown(len: usize, more: usize, capacity: usize, outstanding: usize) -> usize {
    (2 * capacity).min(len.saturating_add(outstanding)).max(len + more)
}

/// Returns how many bytes at the end begin a character without finishing it.
fn unfinished(text: &[u8]) -> usize {
    let begins_character = |&length: &usize| {
        let tail = &text[text.len() - length..];
        str::from_utf8(tail)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=text.len().min(3)).find(begins_character).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_doubles_up_to_what_can_come() {
        assert_eq!(grown(0, 10, 0, 1 << 24), 10);
        assert_eq!(grown(10, 1, 10, 1 << 24), 20);
        assert_eq!(grown(10, 90, 10, 1 << 24), 100);
        assert_eq!(grown(10, 1, 10, 5), 15);
        assert_eq!(grown(10, 1, 10, usize::MAX), 20);
    }

    #[test]
    fn a_message_of_known_length_ends_in_memory_of_its_length() {
        let text = "aß水😀".repeat(100);
        for size in 1..100 {
            let mut assembly = Assembly::Text(Text::default());
            let mut outstanding = text.len();
            for piece in text.as_bytes().chunks(size) {
                let coming = Coming { frame: outstanding, message: outstanding };
                assembly.push(piece, coming, &mut SpareMemory::none()).unwrap();
                outstanding -= piece.len();
            }
            assert_eq!(assembly.capacity(), text.len(), "pieces of {size}");
            assert_eq!(assembly.finish().unwrap(), Message::text(text.as_str()));
        }
    }

    #[test]
    fn unfinished_characters_are_found() {
        let cases: [(&[u8], usize); 12] = [
            (b"", 0),
            (b"a", 0),
            (b"\xc3", 1),
            (b"\xc3\xa4", 0),
            (b"a\xe6\xb0", 2),
            (b"\xe6\xb0\xb4", 0),
            (b"\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            // Wrong already, so not merely unfinished.
            (b"\xe0\x80", 0),
            (b"\xed\xa0", 0),
            (b"\xf4\x90", 0),
            (b"\xff", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(unfinished(text), expected, "{text:x?}");
        }
    }
}
