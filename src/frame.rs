//! Encoded bytes on their way to peers.

use tungstenite::Bytes;

use crate::encoded::Encoded;

/// What is written to a peer in one piece: a short head of its own and a payload shared with
/// everyone who gets it.
///
/// A clone costs a reference count. The head is a WebSocket frame header (2 to 10 bytes from a
/// server) or empty, where the payload already is what goes on the wire (an HTTP response). A
/// payload that would grow large by being encoded is encoded as it is written.
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

/// A length in an enum, whose other values an entry of an outbox uses.
#[derive(Clone, Copy, Debug)]
#[rustfmt::skip]
enum HeadLen { L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10 }

impl Frame {
    /// The longest head: a server's frame header bears no mask.
    pub const HEAD_BYTES_MAX: usize = 10;

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

    /// Makes a frame of a head and a text around a payload: at once if it is small, else it is
    /// encoded as it is written.
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
        use HeadLen::{L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10};
        let head_len = [L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10][short.len()];
        let mut head = [0; Frame::HEAD_BYTES_MAX];
        head[..short.len()].copy_from_slice(short);
        Frame { head, head_len, body }
    }

    /// Gives a small frame as one piece: it is written with a cheaper system call.
    pub fn joined_if_small(self) -> Frame {
        match &self.body {
            Body::Whole(payload) if !self.head().is_empty() && self.len() <= JOINED_BYTES_MAX => {
                Frame::raw([self.head(), payload].concat())
            }
            _ => self,
        }
    }

    /// Gives the head.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len as usize]
    }

    /// Gives the payload; of one that is encoded as it is written, what it is encoded from.
    pub fn payload(&self) -> &Bytes {
        match &self.body {
            Body::Whole(payload) => payload,
            Body::Encoded(text) => text.payload(),
        }
    }

    /// Gives the text that is encoded as it is written, if it is one.
    pub fn text(&self) -> Option<&Encoded> {
        match &self.body {
            Body::Whole(_) => None,
            Body::Encoded(text) => Some(text),
        }
    }

    /// Gives the bytes on the wire.
    pub fn len(&self) -> usize {
        let body = match &self.body {
            Body::Whole(payload) => payload.len(),
            Body::Encoded(text) => text.len(),
        };
        self.head_len as usize + body
    }

    /// Gives the memory that making the frame took, if its payload was made for it.
    pub fn made_bytes(&self) -> usize {
        match &self.body {
            Body::Whole(payload) => payload.len(),
            Body::Encoded(text) => text.own_bytes(),
        }
    }

    /// Says whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A payload of that size is rather copied once than kept apart from its head.
const JOINED_BYTES_MAX: usize = 1024;

/// A text up to this long is encoded once, for all who get it. To encode a longer one for each of
/// them costs less than its memory.
const AT_ONCE_BYTES_MAX: usize = 32 * 1024;
