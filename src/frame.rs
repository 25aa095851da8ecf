//! Encoded bytes on their way to peers.

use tungstenite::Bytes;

/// What is written to a peer in one piece: a short head of its own and a payload shared with
/// everyone who gets it.
///
/// Encoding happens once; a clone costs a reference count. The head is a WebSocket frame header (2
/// to 10 bytes from a server), the size of a chunk (RFC 9112, 7.1), or empty, where the payload
/// already is what goes on the wire (an HTTP response).
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; Frame::HEAD_BYTES_MAX],
    head_len: u8,
    payload: Bytes,
}

impl Frame {
    /// The longest head: the size of a chunk of less than 64 GiB, and its CRLF.
    pub const HEAD_BYTES_MAX: usize = 11;

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

    /// Makes a chunk of a piece of a body. The end of the chunk goes with it, so that its reader
    /// need not wait for the next one.
    pub fn chunk(piece: Bytes) -> Frame {
        let size = format!("{:x}\r\n", piece.len());
        // Its memory is this piece's alone: nothing is copied unless it has to move.
        let mut payload = Vec::from(piece);
        payload.reserve_exact(CRLF.len());
        payload.extend_from_slice(CRLF);
        Frame::new(size.as_bytes(), payload.into())
    }

    /// Gives what is in a chunk, for a peer that knows no chunks. The bytes stay shared.
    pub fn without_chunk(&self) -> Frame {
        let is_joined = self.head_len == 0;
        let size_len = |payload: &[u8]| payload.windows(2).position(|two| two == CRLF);
        let start = if is_joined { size_len(&self.payload).map_or(0, |at| at + 2) } else { 0 };
        let end = self.payload.len().saturating_sub(CRLF.len()).max(start);
        Frame::raw(self.payload.slice(start..end))
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

const CRLF: &[u8] = b"\r\n";

/// A payload of that size is rather copied once than kept apart from its head.
const JOINED_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
}
