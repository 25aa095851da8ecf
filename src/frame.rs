//! Encoded bytes on their way to peers.

use tungstenite::Bytes;

/// What is written to a peer in one piece: a short head of its own and a payload shared with
/// everyone who gets it.
///
/// Encoding happens once; a clone costs a reference count. The head is a WebSocket frame header (2
/// to 10 bytes from a server) or empty, where the payload already is what goes on the wire (an HTTP
/// response).
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; Frame::HEAD_BYTES_MAX],
    head_len: u8,
    payload: Bytes,
}

impl Frame {
    /// The longest head: a server's frame header bears no mask.
    pub const HEAD_BYTES_MAX: usize = 10;

    /// Makes a frame of a head and a payload.
    ///
    /// # Panics
    ///
    /// If the head is longer than [`Frame::HEAD_BYTES_MAX`].
    pub fn new(head: &[u8], payload: Bytes) -> Frame {
        let mut frame =
            Frame { head: [0; Frame::HEAD_BYTES_MAX], head_len: head.len() as u8, payload };
        frame.head[..head.len()].copy_from_slice(head);
        frame
    }

    /// Makes a frame of bytes that are complete in themselves.
    pub fn raw(payload: impl Into<Bytes>) -> Frame {
        Frame::new(&[], payload.into())
    }

    /// Gives a small frame as one piece: it is written with a cheaper system call.
    pub fn joined_if_small(self) -> Frame {
        match self.head_len > 0 && self.len() <= JOINED_BYTES_MAX {
            true => Frame::raw([self.head(), &self.payload].concat()),
            false => self,
        }
    }

    /// Gives the head.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Gives the payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Gives the bytes on the wire.
    pub fn len(&self) -> usize {
        usize::from(self.head_len) + self.payload.len()
    }

    /// Says whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A payload of that size is rather copied once than kept apart from its head.
const JOINED_BYTES_MAX: usize = 1024;
