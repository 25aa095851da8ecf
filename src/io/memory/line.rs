//! One connection between two ends in memory, with the behaviour of TCP.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use mio::Token;

use crate::io::socket::Readiness;

/// Bytes under way in both directions, and how each has ended.
#[derive(Debug)]
pub(super) struct Line {
    pub address: Option<SocketAddr>,
    to_server: Lane,
    to_client: Lane,
    is_reset: bool,
    client_is_gone: bool,
    server_is_gone: bool,
    /// The server found no room, and must be told when there is some.
    server_waits: bool,
    /// Readiness that the server's loop has not been told yet.
    pub news: Readiness,
    /// The line waits in the exchange's queue.
    pub is_queued: bool,
}

#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    has_ended: bool,
}

impl Lane {
    fn room(&self) -> usize {
        BUFFER_BYTES - self.bytes.len()
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..len]);
        len
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.bytes.read(buffer).unwrap_or(0);
        len + self.bytes.read(&mut buffer[len..]).unwrap_or(0)
    }
}

impl Line {
    pub fn new(address: Option<SocketAddr>) -> Line {
        Line {
            address,
            to_server: Lane::default(),
            to_client: Lane::default(),
            is_reset: false,
            client_is_gone: false,
            server_is_gone: false,
            server_waits: false,
            news: Readiness::of(UNREGISTERED),
            is_queued: false,
        }
    }

    /// Returns whether both ends have closed.
    pub fn is_over(&self) -> bool {
        self.client_is_gone && self.server_is_gone
    }

    pub fn client_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.to_client.take(buffer);
        if len > 0 {
            self.news.writable |= std::mem::take(&mut self.server_waits);
        }
        self.was_read(len, buffer.len(), self.to_client.has_ended)
    }

    #[cfg(feature = "client")]
    pub fn client_is_readable(&self) -> bool {
        !self.to_client.bytes.is_empty() || self.to_client.has_ended || self.is_reset
    }

    pub fn client_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_reset || self.server_is_gone || self.to_server.has_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = self.to_server.put(bytes);
        self.news.readable |= len > 0;
        if len == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    /// The client sends FIN.
    pub fn client_shut(&mut self) {
        self.to_server.has_ended = true;
        self.news.readable = true;
        self.news.read_closed = true;
    }

    pub fn client_reset(&mut self) {
        self.is_reset = true;
        self.to_server.bytes.clear();
        self.news = Readiness {
            readable: true,
            writable: true,
            read_closed: true,
            write_closed: true,
            error: true,
            ..self.news
        };
    }

    /// The client closes. With bytes unread that is a reset.
    pub fn client_close(&mut self) {
        match self.to_client.bytes.is_empty() {
            true => self.client_shut(),
            false => self.client_reset(),
        }
        self.client_is_gone = true;
        self.to_client.bytes = VecDeque::new();
    }

    /// The server watches its end from now on, and is told what is ready already.
    pub fn register(&mut self, token: Token) {
        self.news.token = token;
        self.news.readable |= !self.to_server.bytes.is_empty();
        self.news.writable = true;
    }

    pub fn server_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.to_server.take(buffer);
        self.was_read(len, buffer.len(), self.to_server.has_ended)
    }

    pub fn server_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.client_is_gone {
            // The bytes are taken, and answered with a reset.
            self.client_reset();
            return Ok(asked);
        }
        let len = slices.iter().map(|slice| self.to_client.put(slice)).sum();
        self.server_waits |= len < asked;
        if len == 0 && asked > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    /// The server moves bytes out of a pipe.
    pub fn server_splice(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        if !self.server_has_room() {
            self.server_waits = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let room = if self.is_reset || self.client_is_gone { most } else { self.to_client.room() };
        let mut bytes = vec![0; most.min(room)];
        let len = rustix::io::read(pipe, &mut bytes)?;
        self.server_write(&[IoSlice::new(&bytes[..len])])
    }

    pub fn server_has_room(&self) -> bool {
        self.is_reset || self.to_client.room() > 0
    }

    /// Returns the error that the client has caused, if there is one.
    pub fn server_error(&self) -> Option<io::Error> {
        self.is_reset.then(|| ErrorKind::ConnectionReset.into())
    }

    /// The server sends FIN.
    pub fn server_shut(&mut self) {
        self.to_client.has_ended = true;
    }

    /// The server closes. With bytes unread that is a reset, too.
    pub fn server_close(&mut self, aborts: bool) {
        self.is_reset |= aborts || !self.to_server.bytes.is_empty();
        self.to_client.has_ended = true;
        self.server_is_gone = true;
        self.to_server.bytes = VecDeque::new();
        self.news.token = UNREGISTERED;
    }

    /// Returns the result of a read that found `len` bytes.
    fn was_read(&self, len: usize, asked: usize, has_ended: bool) -> io::Result<usize> {
        match len {
            0 if asked == 0 => Ok(0),
            0 if self.is_reset => Err(ErrorKind::ConnectionReset.into()),
            0 if has_ended => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

/// Bytes under way in one direction, as many as the kernel holds for a socket of ours.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// The token of a line that no server watches.
pub(super) const UNREGISTERED: Token = Token(usize::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let mut line = Line::new(None);
        line.register(Token(7));
        line.news = Readiness::of(Token(7));
        line
    }

    fn write(line: &mut Line, bytes: &[u8]) -> io::Result<usize> {
        line.server_write(&[IoSlice::new(bytes)])
    }

    fn kind(result: io::Result<usize>) -> ErrorKind {
        result.expect_err("it fails").kind()
    }

    #[test]
    fn bytes_go_both_ways() {
        let (mut line, mut buffer) = (line(), [0; 8]);
        assert_eq!(kind(line.server_read(&mut buffer)), ErrorKind::WouldBlock);
        assert_eq!(line.client_write(b"up").unwrap(), 2);
        assert!(line.news.readable && !line.news.writable);
        assert_eq!(line.server_read(&mut buffer).unwrap(), 2);
        let slices = [IoSlice::new(b"do"), IoSlice::new(b"wn")];
        assert_eq!(line.server_write(&slices).unwrap(), 4);
        assert_eq!(line.client_read(&mut buffer[..3]).unwrap(), 3);
        assert_eq!(line.client_read(&mut buffer).unwrap(), 1);
        assert_eq!(kind(line.client_read(&mut buffer)), ErrorKind::WouldBlock);
    }

    #[test]
    fn it_takes_no_more_than_its_bound_and_tells_of_room() {
        let (mut line, bytes) = (line(), vec![0; BUFFER_BYTES - 1]);
        assert_eq!(write(&mut line, &bytes).unwrap(), bytes.len());
        assert!(line.server_has_room());
        assert_eq!(write(&mut line, b"ab").unwrap(), 1);
        assert_eq!(kind(write(&mut line, b"b")), ErrorKind::WouldBlock);
        assert!(!line.server_has_room() && !line.news.writable);
        assert_eq!(line.client_read(&mut [0; 9]).unwrap(), 9);
        assert!(std::mem::take(&mut line.news.writable), "there is room");
        assert_eq!(line.client_read(&mut [0; 9]).unwrap(), 9);
        assert!(!line.news.writable, "nobody waits for it");
        assert_eq!(line.client_write(&bytes).unwrap(), bytes.len());
        assert_eq!(line.client_write(b"ab").unwrap(), 1);
        assert_eq!(kind(line.client_write(b"b")), ErrorKind::WouldBlock);
    }

    #[test]
    fn each_side_ends_by_itself() {
        let (mut line, mut buffer) = (line(), [0; 8]);
        line.client_write(b"last").unwrap();
        line.client_shut();
        assert!(line.news.read_closed && !line.news.error);
        assert_eq!(kind(line.client_write(b"more")), ErrorKind::BrokenPipe);
        assert_eq!(line.server_read(&mut buffer).unwrap(), 4);
        assert_eq!(line.server_read(&mut buffer).unwrap(), 0);
        write(&mut line, b"answer").unwrap();
        line.server_shut();
        line.server_close(false);
        assert_eq!(line.client_read(&mut buffer).unwrap(), 6);
        assert_eq!(line.client_read(&mut buffer).unwrap(), 0);
        line.client_close();
        assert!(line.is_over());
    }

    #[test]
    fn a_reset_comes_behind_what_had_arrived() {
        let (mut line, mut buffer) = (line(), [0; 8]);
        write(&mut line, b"before").unwrap();
        line.server_close(true);
        assert_eq!(line.client_read(&mut buffer).unwrap(), 6);
        assert_eq!(kind(line.client_read(&mut buffer)), ErrorKind::ConnectionReset);
        assert_eq!(kind(line.client_write(b"more")), ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_lets_go_with_bytes_unread_resets() {
        let mut left = line();
        left.client_write(b"unread").unwrap();
        left.server_close(false);
        assert_eq!(kind(left.client_read(&mut [0])), ErrorKind::ConnectionReset);
        let mut left = line();
        write(&mut left, b"unread").unwrap();
        left.client_close();
        assert!(left.news.error && left.server_error().is_some());
        assert_eq!(kind(left.server_read(&mut [0])), ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_comes_for_who_is_gone_is_answered_with_a_reset() {
        let mut line = line();
        line.client_close();
        assert!(line.server_error().is_none());
        assert_eq!(line.server_read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(write(&mut line, b"late").unwrap(), 4);
        assert!(line.news.error && line.server_error().is_some());
        assert_eq!(kind(write(&mut line, b"later")), ErrorKind::ConnectionReset);
    }
}
