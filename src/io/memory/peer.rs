//! The client's side of connections in memory.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::contract::route::Face;
use crate::threads::command_queue::Shared;

use super::exchange::Exchange;
use super::line::{BUFFER_BYTES, Line};

/// A network within the process, for tests: one server listens on it
/// ([`Builder::listen_memory`](crate::Builder::listen_memory)), clients connect from any thread.
/// Cloning gives another handle of the same network.
///
/// Connections cost no descriptor and no system call, yet go through the same pump and the same
/// engine as those over TCP. Together with a [`ManualClock`](crate::ManualClock) everything about
/// them repeats exactly:
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use heartwheel::http::Response;
/// use heartwheel::{ManualClock, MemoryNetwork, Server};
///
/// let (network, clock) = (MemoryNetwork::new(), ManualClock::new());
/// let mut server = Server::builder()
///     .workers(0)
///     .clock(clock.clone())
///     .get("/", |_| Response::new(200).text("here\n"))
///     .listen_memory(&network)?;
/// let mut peer = network.connect()?;
/// peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
/// while server.next_timeout() == Some(Duration::ZERO) {
///     server.turn()?;
/// }
/// let mut answer = [0; 4096];
/// let len = peer.read(&mut answer)?;
/// assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer[..len].ends_with(b"here\n"));
///
/// clock.advance(Duration::from_secs(76)); // `deadlines.keep_alive`, and then some
/// while server.next_timeout() == Some(Duration::ZERO) {
///     server.turn()?;
/// }
/// assert_eq!(peer.read(&mut answer)?, 0, "FIN");
/// # Ok::<(), heartwheel::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    /// The server that listens, or listened last.
    server: Arc<Mutex<Option<Exchange>>>,
}

impl MemoryNetwork {
    /// Makes a network on which no server listens.
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::default()
    }

    /// Connects without an address, as over a Unix socket. The client can write at once; the server
    /// accepts the connection in its next turn.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if no server listens: none was built, or the server drains or is gone.
    /// `WouldBlock` if 4,096 connections wait to be accepted.
    pub fn connect(&self) -> io::Result<MemoryPeer> {
        self.connect_to(Face::Public, None)
    }

    /// Connects as over TCP from this address.
    ///
    /// # Errors
    ///
    /// As [`MemoryNetwork::connect`].
    pub fn connect_from(&self, address: SocketAddr) -> io::Result<MemoryPeer> {
        self.connect_to(Face::Public, Some(address))
    }

    /// Connects to the operator's routes.
    ///
    /// # Errors
    ///
    /// As [`MemoryNetwork::connect`].
    pub fn connect_admin(&self) -> io::Result<MemoryPeer> {
        self.connect_to(Face::Admin, None)
    }

    fn connect_to(&self, face: Face, address: Option<SocketAddr>) -> io::Result<MemoryPeer> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let exchange = server.ok_or(ErrorKind::ConnectionRefused)?;
        let key = exchange.connect(face, address)?;
        Ok(MemoryPeer { exchange, key })
    }

    /// Makes the exchange of a server that listens. The caller must open its doors at once.
    pub(crate) fn listen(&self, server: &Arc<Shared>) -> io::Result<Exchange> {
        let mut current = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(Exchange::has_doors) {
            return Err(ErrorKind::AddrInUse.into());
        }
        Ok(current.insert(Exchange::new(server)).clone())
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryNetwork")
    }
}

/// The client's end of a connection in memory.
///
/// It reads and writes without waiting, as a non-blocking socket does. Each direction holds
/// [`BUFFER_BYTES`](MemoryPeer::BUFFER_BYTES); `WouldBlock` means that there is nothing to read or
/// no room. A read of 0 bytes is the end of what the server sends, a reset is `ConnectionReset`,
/// and a write to a server that has closed is `BrokenPipe`.
///
/// Dropping it closes it: FIN, or a reset if bytes are unread.
pub struct MemoryPeer {
    exchange: Exchange,
    key: usize,
}

impl MemoryPeer {
    /// How many bytes can be under way in each direction.
    pub const BUFFER_BYTES: usize = BUFFER_BYTES;

    /// Ends what this side sends (FIN); reading goes on.
    pub fn shut_down(&mut self) {
        self.exchange.change(self.key, Line::client_shut);
    }

    /// Returns whether a read would give something: bytes, the end, or an error.
    #[cfg(feature = "client")]
    pub(crate) fn is_readable(&self) -> bool {
        self.exchange.change(self.key, |line| line.client_is_readable())
    }

    /// Resets the connection, as a network does that has lost its state.
    pub fn reset(&mut self) {
        self.exchange.change(self.key, Line::client_reset);
    }
}

impl Read for MemoryPeer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.exchange.change(self.key, |line| line.client_read(buffer))
    }
}

impl Write for MemoryPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.exchange.change(self.key, |line| line.client_write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for MemoryPeer {
    fn drop(&mut self) {
        self.exchange.change(self.key, Line::client_close);
    }
}

impl fmt::Debug for MemoryPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryPeer").field(&self.key).finish()
    }
}
