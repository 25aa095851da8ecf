//! Encoded bytes on their way to peers.

use tungstenite::Bytes;

use crate::core::wire::encoded::Encoded;

/// The bytes that are written to a peer in one piece: a short head of its own, and a payload that
/// all receivers share.
///
/// A clone costs a reference count. The head is a WebSocket frame header (2 to 10 bytes from a
/// server), the size of a chunk (RFC 9112, 7.1), or empty, if the payload is already the bytes on
/// the wire (an HTTP response). A payload that encoding would make large is encoded while it is
/// written.
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; Frame::HEAD_BYTES_MAX],
    head_len: HeadLen,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Whole(Bytes),
    Encoded(Box<Encoded>),
}

/// A length as an enum: an entry of an outbox uses its spare values.
#[derive(Clone, Copy, Debug)]
#[rustfmt::skip]
enum HeadLen { L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11 }

impl Frame {
    /// The longest head: the size of a chunk of less than 64 GiB, and its CRLF.
    pub const HEAD_BYTES_MAX: usize = 11;

    /// Makes a frame of a head and a payload.
    ///
    /// # Panics
    ///
    /// If the head is longer than [`Frame::HEAD_BYTES_MAX`].
    pub fn new(head: &[u8], payload: Bytes) -> Frame {
        Frame::with_body(head, Body::Whole(payload))
    }

    /// Makes a frame of bytes that are complete in themselves.
    pub fn raw(payload: impl Into<Bytes>) -> Frame {
        Frame::new(&[], payload.into())
    }

    /// Makes a chunk of a piece of a body. The frame includes the chunk's end, so that its reader
    /// need not wait for the next chunk.
    pub fn chunk(piece: Bytes) -> Frame {
        let size = format!("{:x}\r\n", piece.len());
        // Only this piece owns the memory: nothing is copied unless it must move.
        let mut payload = Vec::from(piece);
        payload.reserve_exact(CRLF.len());
        payload.extend_from_slice(CRLF);
        Frame::new(size.as_bytes(), payload.into())
    }

    /// Returns the content of a chunk, for a peer that knows no chunks. The bytes stay shared.
    pub fn without_chunk(&self) -> Frame {
        let payload = match &self.body {
            Body::Whole(payload) => payload,
            Body::Encoded(text) => {
                return Frame::with_body(&[], Body::Encoded(Box::new(text.without_chunk())));
            }
        };
        let is_joined = self.head().is_empty();
        let start = if is_joined { size_len(payload) } else { 0 };
        let end = payload.len().saturating_sub(CRLF.len()).max(start);
        Frame::raw(payload.slice(start..end))
    }

    /// Makes a frame of a head and a text around a payload. A small text is encoded at once, a
    /// larger one while it is written.
    ///
    /// # Panics
    ///
    /// If the head is longer than [`Frame::HEAD_BYTES_MAX`].
    pub fn encoded(head: &[u8], text: Encoded) -> Frame {
        match text.len() <= AT_ONCE_BYTES_MAX {
            true => Frame::new(head, text.to_bytes()),
            false => Frame::with_body(head, Body::Encoded(Box::new(text))),
        }
    }

    fn with_body(short: &[u8], body: Body) -> Frame {
        use HeadLen::{L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11};
        let head_len = [L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11][short.len()];
        let mut head = [0; Frame::HEAD_BYTES_MAX];
        head[..short.len()].copy_from_slice(short);
        Frame { head, head_len, body }
    }

    /// Returns a small frame as one piece, which is written with a cheaper system call.
    pub fn joined_if_small(self) -> Frame {
        match &self.body {
            Body::Whole(payload) if !self.head().is_empty() && self.len() <= JOINED_BYTES_MAX => {
                Frame::raw([self.head(), payload].concat())
            }
            _ => self,
        }
    }

    /// Returns the head.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len as usize]
    }

    /// Returns the payload; before encoding, if it is encoded while it is written.
    pub fn payload(&self) -> &Bytes {
        match &self.body {
            Body::Whole(payload) => payload,
            Body::Encoded(text) => text.payload(),
        }
    }

    /// Returns the payload, as [`Frame::payload`] does.
    #[inline]
    pub fn into_payload(self) -> Bytes {
        match self.body {
            Body::Whole(payload) => payload,
            Body::Encoded(text) => text.payload().clone(),
        }
    }

    /// Returns the text that is encoded while it is written, if it is one.
    pub fn text(&self) -> Option<&Encoded> {
        match &self.body {
            Body::Whole(_) => None,
            Body::Encoded(text) => Some(text),
        }
    }

    /// Appends the bytes on the wire, encoded at once.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head());
        self.write_body(out);
    }

    /// Appends what stands behind the head, encoded at once.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        match &self.body {
            Body::Whole(payload) => out.extend_from_slice(payload),
            Body::Encoded(text) => text.write(out),
        }
    }

    /// Returns the length on the wire, in bytes.
    pub fn len(&self) -> usize {
        let body = match &self.body {
            Body::Whole(payload) => payload.len(),
            Body::Encoded(text) => text.len(),
        };
        self.head_len as usize + body
    }

    /// Returns the memory that the frame took, in bytes, if its payload was made for it.
    pub fn made_bytes(&self) -> usize {
        match &self.body {
            Body::Whole(payload) => payload.len(),
            Body::Encoded(text) => text.own_bytes(),
        }
    }

    /// Returns whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns the length of a chunk's size line, with its CRLF.
pub(crate) fn size_len(chunk: &[u8]) -> usize {
    chunk.windows(2).position(|two| two == CRLF).map_or(0, |at| at + CRLF.len())
}

const CRLF: &[u8] = b"\r\n";

/// A payload up to this many bytes is copied behind its head rather than kept apart.
const JOINED_BYTES_MAX: usize = 1024;

/// A text up to this many bytes is encoded once, for all receivers. To encode a longer one for each
/// costs less than its memory.
const AT_ONCE_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::encoded::{Around, Coding};

    #[test]
    fn a_chunk_bears_its_size_and_its_end() {
        for (len, size) in [(1, "1"), (26, "1a"), (2000, "7d0")] {
            let piece = Bytes::from("\r\n".repeat(len).into_bytes()).slice(..len);
            for frame in
                [Frame::chunk(piece.clone()), Frame::chunk(piece.clone()).joined_if_small()]
            {
                let bytes = [frame.head(), frame.payload()].concat();
                let expected = [format!("{size}\r\n").as_bytes(), &piece, b"\r\n"].concat();
                assert_eq!(bytes, expected);
                let bare = frame.without_chunk();
                assert_eq!((bare.head(), bare.payload()), (&b""[..], &piece));
                let shared = frame.payload().as_ptr_range();
                assert!(shared.contains(&bare.payload().as_ptr()), "nothing is copied");
            }
        }
    }

    #[test]
    fn a_text_leaves_its_chunk_as_it_entered_it_be_it_encoded_or_not() {
        for len in [0, 10, 1000, AT_ONCE_BYTES_MAX] {
            for byte in [b'a', b'\n'] {
                let around = Around { head: "data: ".into(), coding: Coding::Lines, tail: "\n\n" };
                let text = Encoded::new(around, vec![byte; len].into());
                let chunk = Frame::encoded(&[], text.clone().into_chunk(false));
                assert_eq!(chunk.text().is_some(), text.len() > AT_ONCE_BYTES_MAX - 10);
                let bare = chunk.without_chunk();
                let mut bytes = Vec::new();
                bare.write(&mut bytes);
                assert_eq!((bytes.len(), bare.len()), (text.len(), text.len()));
                assert_eq!(bytes, text.to_bytes());
            }
        }
    }
}
