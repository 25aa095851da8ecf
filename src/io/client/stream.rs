//! The sockets of clients.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::core::ground::time::{Instant, SPAN_MAX};
use crate::core::transport::Transport as _;
#[cfg(feature = "tls")]
use crate::io::client::tls::Tls;
use crate::io::memory::MemoryPeer;
use crate::io::transport::Plain;

/// A connection to a server, or to the proxy before it.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Memory(Box<MemoryPeer>),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Stream {
    /// Begins to connect. The socket is writable when that is done, or has failed.
    pub fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        user_timeout: Duration,
    ) -> io::Result<Stream> {
        let mut stream = TcpStream::connect(address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token, both)?;
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        // What the kernel has taken and not got acknowledged is given up, too (RFC 5482).
        let _ = socket.set_tcp_user_timeout(Some(user_timeout.min(SPAN_MAX)));
        Ok(Stream::Tcp(stream))
    }

    /// Returns whether a connection is made: `Ok(false)` while it is not known.
    pub fn is_connected(&self) -> io::Result<bool> {
        let Stream::Tcp(stream) = self else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the poller knows nothing of it.
    pub fn is_memory(&self) -> bool {
        matches!(self, Stream::Memory(_))
    }

    /// Returns whether reading or writing may do something now that failed before. Only of a
    /// stream of which the poller knows nothing.
    pub fn has_news(&self) -> bool {
        match self {
            Stream::Memory(peer) => peer.is_readable(),
            _ => false,
        }
    }

    /// Reads; 0 bytes are the end.
    pub fn read(&mut self, _now: Instant, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Memory(peer) => peer.read(buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.read(_now, buffer).map(|read| read.unwrap_or(0)),
        }
    }

    /// Has the kernel acknowledge at once what was read. A late acknowledgement holds up what the
    /// other side has ready (RFC 1122, 4.2.3.2 and 4.2.3.4). The kernel forgets it soon.
    #[cfg(feature = "mqtt")]
    pub fn acknowledge_at_once(&self) {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => SockRef::from(&tls.stream),
            Stream::Memory(_) => return,
        };
        let _ = socket.set_tcp_quickack(true);
    }

    /// Returns whether the end that was read may be that of a part: TLS says where it ends.
    pub fn is_cut(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => !tls.has_ended(),
            _ => false,
        }
    }

    /// Returns whether the stream has bytes of its own to write.
    pub fn wants_write(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.wants_write(),
            _ => false,
        }
    }

    /// Ends it in good order.
    pub fn say_last(&mut self) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(tls) = self {
            tls.say_last();
        }
    }

    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Plain(stream).write(slices).map(|written| written.taken),
            Stream::Memory(peer) => {
                let slice = slices.iter().find(|slice| !slice.is_empty());
                slice.map_or(Ok(0), |slice| peer.write(slice))
            }
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.write(slices),
        }
    }

    /// Has closing send a reset.
    pub fn set_abort(&mut self) {
        match self {
            Stream::Tcp(stream) => {
                let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Stream::Memory(peer) => peer.reset(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let _ = SockRef::from(&tls.stream).set_linger(Some(Duration::ZERO));
            }
        }
    }
}
