//! The server's end of a connection whose peer is the input: what it reads is what the input sends,
//! what it writes is held against the grammar.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};

use heartwheel::core::transport::{Got, Transport, Written};

use super::said::Said;

/// What the poller has to tell of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    pub readable: bool,
    pub writable: bool,
    pub closed: bool,
}

#[derive(Debug)]
pub struct Socket {
    inbound: VecDeque<u8>,
    fin: bool,
    failed: bool,
    /// How many bytes the kernel still takes.
    room: usize,
    is_blocked: bool,
    /// The most that one read gives.
    piece_max: usize,
    edge: Edge,
    has_shut: bool,
    said: Said,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl Socket {
    pub fn new() -> Socket {
        Socket {
            inbound: VecDeque::new(),
            fin: false,
            failed: false,
            room: usize::MAX,
            is_blocked: false,
            piece_max: usize::MAX,
            edge: Edge { writable: true, ..Edge::default() },
            has_shut: false,
            said: Said::default(),
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    /// Lets bytes of the peer arrive.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.fin && !self.failed {
            self.said.hear(bytes);
            self.inbound.extend(bytes);
            self.edge.readable = true;
        }
    }

    /// The peer ends its side.
    pub fn end(&mut self) {
        self.fin = true;
        self.edge.readable = true;
        self.edge.closed = true;
    }

    /// The peer resets the connection.
    pub fn reset(&mut self) {
        self.failed = true;
        self.inbound.clear();
        self.edge = Edge { readable: true, writable: true, closed: true };
    }

    /// Says how much the kernel takes from now on.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        self.edge.writable |= room > 0 && std::mem::take(&mut self.is_blocked);
    }

    /// The peer is gone without a word: what has not been read is lost, and nothing is taken.
    pub fn vanish(&mut self) {
        self.inbound.clear();
        self.room = 0;
    }

    pub fn set_piece_max(&mut self, piece_max: usize) {
        self.piece_max = piece_max;
    }

    /// Tells of nothing that has happened.
    pub fn raise(&mut self, edge: Edge) {
        self.edge.readable |= edge.readable;
        self.edge.writable |= edge.writable;
    }

    pub fn take_edge(&mut self) -> Option<Edge> {
        let edge = std::mem::take(&mut self.edge);
        (edge != Edge::default()).then_some(edge)
    }

    pub fn has_edge(&self) -> bool {
        self.edge != Edge::default()
    }

    /// The server sends FIN.
    fn shut(&mut self) {
        assert!(!std::mem::replace(&mut self.has_shut, true), "FIN is sent once");
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read has somewhere to read to");
        if self.failed {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if self.inbound.is_empty() {
            return if self.fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let len = buffer.len().min(self.piece_max).min(self.inbound.len());
        for (to, from) in buffer.iter_mut().zip(self.inbound.drain(..len)) {
            *to = from;
        }
        // What arrives behind a short read raises an edge.
        self.edge.readable |= len < buffer.len() && !self.inbound.is_empty();
        self.read_bytes += len as u64;
        Ok(len)
    }
}

impl Transport for &mut Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = (**self).read(buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        self.write_vectored(slices).map(Written::from)
    }

    fn finish(&mut self) {
        self.shut();
    }

    fn has_room(&mut self) -> bool {
        self.failed || self.room > 0
    }
}

impl Socket {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.has_shut, "bytes were written behind FIN");
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(asked > 0, "nothing was written");
        if self.failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut left = asked.min(self.room);
        self.is_blocked |= left < asked;
        if left == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = left;
        for slice in slices {
            let piece = &slice[..slice.len().min(left)];
            self.said.take(piece);
            left -= piece.len();
        }
        if self.room != usize::MAX {
            self.room -= len;
        }
        self.written_bytes += len as u64;
        Ok(len)
    }
}
