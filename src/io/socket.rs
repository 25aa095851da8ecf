//! Sockets of peers: TCP, Unix, and in memory.

#[cfg(feature = "tls")]
use std::io::ErrorKind;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::core::config::Address;
use crate::core::ground::time::SPAN_MAX;
use crate::core::transport::{
    Got, Handshake, SEND_BUFFER_BYTES, Transport, WIDE_SEND_BUFFER_BYTES, Written,
};
use crate::core::wire::proxy_header::Malformed;
#[cfg(feature = "tls")]
use crate::core::wire::tls::{Alert, Certificate, Sealed};
use crate::io::memory::MemorySocket;
use crate::io::transport::Plain;
use crate::io::transport::proxied::ProxiedMut;
#[cfg(feature = "tls")]
use crate::io::transport::tls::TlsMut;

/// The socket of one peer, as it is accepted.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(MemorySocket),
    /// To be spoken TLS over.
    #[cfg(feature = "tls")]
    Tls(Stream),
    /// From a proxy, which first says whom it connects for.
    Proxied {
        stream: Stream,
        speech: Speech,
    },
}

/// A socket of the kernel.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn lend(&mut self) -> SocketMut<'_> {
        match self {
            Stream::Tcp(stream) => SocketMut::Tcp(stream),
            Stream::Unix(stream) => SocketMut::Unix(stream),
        }
    }

    /// Watches the socket no longer.
    #[cfg(feature = "tls")]
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => registry.deregister(stream),
            Stream::Unix(stream) => registry.deregister(stream),
        }
    }
}

/// What is spoken at an address before HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speech {
    /// A PROXY header.
    pub is_proxy: bool,
    /// TLS, behind that.
    #[cfg(feature = "tls")]
    pub is_tls: bool,
}

impl Speech {
    /// Nothing.
    pub const PLAIN: Speech = Speech {
        is_proxy: false,
        #[cfg(feature = "tls")]
        is_tls: false,
    };
    /// A PROXY header.
    pub const PROXY: Speech = Speech {
        is_proxy: true,
        #[cfg(feature = "tls")]
        is_tls: false,
    };
    /// TLS.
    #[cfg(feature = "tls")]
    pub const TLS: Speech = Speech { is_proxy: false, is_tls: true };
    /// Both.
    #[cfg(feature = "tls")]
    pub const PROXY_TLS: Speech = Speech { is_proxy: true, is_tls: true };
}

impl From<&Address> for Speech {
    fn from(address: &Address) -> Speech {
        Speech {
            is_proxy: address.is_proxy(),
            #[cfg(feature = "tls")]
            is_tls: address.is_tls(),
        }
    }
}

impl Socket {
    /// Returns what a peer that gets no slot is told instead of a response, if it awaits none.
    ///
    /// A response inside TLS would cost a handshake, of which a server without room has nothing to
    /// give. An alert costs seven bytes, and tells the client that the address speaks TLS and that
    /// the fault is not its own (RFC 8446, 6.2).
    pub fn refusal(&self) -> Option<[u8; 7]> {
        match self {
            #[cfg(feature = "tls")]
            Socket::Tls(_) | Socket::Proxied { speech: Speech { is_tls: true, .. }, .. } => {
                Some(Alert::InternalError.in_plain_text())
            }
            Socket::Tcp(_) | Socket::Unix(_) | Socket::Memory(_) | Socket::Proxied { .. } => None,
        }
    }

    /// Returns whether its peer must be a proxy.
    pub fn is_proxied(&self) -> bool {
        matches!(self, Socket::Proxied { .. })
    }

    /// Has more be spoken over it than HTTP.
    pub fn speaking(self, speech: Speech) -> Socket {
        if speech == Speech::PLAIN {
            return self;
        }
        let stream = match self {
            Socket::Tcp(stream) => Stream::Tcp(stream),
            Socket::Unix(stream) => Stream::Unix(stream),
            other => return other,
        };
        #[cfg(feature = "tls")]
        if !speech.is_proxy {
            return Socket::Tls(stream);
        }
        Socket::Proxied { stream, speech }
    }

    /// Lends the socket for use; of TLS the socket below.
    pub fn lend(&mut self) -> SocketMut<'_> {
        match self {
            Socket::Tcp(stream) => SocketMut::Tcp(stream),
            Socket::Unix(stream) => SocketMut::Unix(stream),
            Socket::Memory(socket) => SocketMut::Memory(socket),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.lend(),
            Socket::Proxied { stream, .. } => stream.lend(),
        }
    }
}

/// The socket of one peer, lent.
#[derive(Debug)]
pub(crate) enum SocketMut<'a> {
    Tcp(&'a mut TcpStream),
    Unix(&'a mut UnixStream),
    Memory(&'a mut MemorySocket),
    #[cfg(feature = "tls")]
    Tls(TlsMut<'a>),
    Proxied(ProxiedMut<'a>),
}

impl SocketMut<'_> {
    /// Sets the options that a server for slow and vanishing peers needs.
    ///
    /// Without them a peer that does not read costs the kernel two to four megabytes. SO_SNDBUF
    /// bounds that, and TCP_NOTSENT_LOWAT keeps waiting bytes where they can still be dropped.
    /// LOWAT alone makes large messages slow: both, or neither. If a kernel or an emulator does not
    /// know an option, that costs memory or time, and no connection.
    pub fn configure(&mut self) {
        let SocketMut::Tcp(stream) = self else { return };
        let socket = SockRef::from(&**stream);
        let _ = socket.set_tcp_nodelay(true);
        if socket.set_send_buffer_size(SEND_BUFFER_BYTES).is_ok() {
            // Unknown to kernels before 3.12.
            let _ = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX);
        }
    }

    /// Sets how long the kernel goes on sending unacknowledged bytes (RFC 5482). Linux only.
    pub fn set_user_timeout(&mut self, timeout: Duration) {
        match self {
            SocketMut::Tcp(stream) => {
                let _ = SockRef::from(&**stream).set_tcp_user_timeout(Some(timeout.min(SPAN_MAX)));
            }
            SocketMut::Unix(_) | SocketMut::Memory(_) => {}
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.stream().set_user_timeout(timeout),
            SocketMut::Proxied(proxied) => proxied.stream().set_user_timeout(timeout),
        }
    }

    /// Makes closing send a reset and discard the bytes that wait in the kernel.
    pub fn set_abort(&mut self) {
        match self {
            SocketMut::Tcp(stream) => {
                let _ = SockRef::from(&**stream).set_linger(Some(Duration::ZERO));
            }
            SocketMut::Unix(_) => {}
            SocketMut::Memory(socket) => socket.set_abort(),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.abort(),
            SocketMut::Proxied(proxied) => proxied.stream().set_abort(),
        }
    }

    /// Takes the error that the kernel has noted, if there is one.
    pub fn take_error(&mut self) -> Option<io::Error> {
        match self {
            SocketMut::Tcp(stream) => stream.take_error().ok().flatten(),
            SocketMut::Unix(stream) => stream.take_error().ok().flatten(),
            SocketMut::Memory(socket) => socket.take_error(),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.stream().take_error(),
            SocketMut::Proxied(proxied) => proxied.stream().take_error(),
        }
    }

    /// Watches both directions from now on. This never changes, so no other epoll_ctl follows.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            SocketMut::Tcp(stream) => stream.register(registry, token, both),
            SocketMut::Unix(stream) => stream.register(registry, token, both),
            SocketMut::Memory(socket) => {
                socket.register(token);
                Ok(())
            }
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.stream().register(registry, token),
            SocketMut::Proxied(proxied) => proxied.stream().register(registry, token),
        }
    }

    /// Returns the peer's address, if it has one.
    pub fn peer(&mut self) -> Option<SocketAddr> {
        match self {
            SocketMut::Tcp(stream) => stream.peer_addr().ok(),
            SocketMut::Unix(_) => None,
            SocketMut::Memory(socket) => socket.peer(),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.stream().peer(),
            SocketMut::Proxied(proxied) => proxied.stream().peer(),
        }
    }
}

impl Transport for SocketMut<'_> {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        match self {
            SocketMut::Tcp(stream) => Plain(*stream).read(buffer),
            SocketMut::Unix(stream) => Plain(*stream).read(buffer),
            SocketMut::Memory(socket) => socket.read(buffer),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.read(buffer),
            SocketMut::Proxied(proxied) => proxied.read(buffer),
        }
    }

    #[inline(always)]
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match self {
            SocketMut::Tcp(stream) => Plain(*stream).write(slices),
            SocketMut::Unix(stream) => Plain(*stream).write(slices),
            SocketMut::Memory(socket) => socket.write(slices),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.write(slices),
            SocketMut::Proxied(proxied) => proxied.write(slices),
        }
    }

    fn splice(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        match self {
            SocketMut::Tcp(stream) => Plain(*stream).splice(pipe, most),
            SocketMut::Unix(stream) => Plain(*stream).splice(pipe, most),
            SocketMut::Memory(socket) => socket.splice(pipe, most),
            #[cfg(feature = "tls")]
            SocketMut::Tls(_) => Err(ErrorKind::Unsupported.into()),
            SocketMut::Proxied(proxied) => proxied.splice(pipe, most),
        }
    }

    fn finish(&mut self) {
        match self {
            SocketMut::Tcp(stream) => Plain(*stream).finish(),
            SocketMut::Unix(stream) => Plain(*stream).finish(),
            SocketMut::Memory(socket) => socket.finish(),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.finish(),
            SocketMut::Proxied(proxied) => proxied.finish(),
        }
    }

    fn has_room(&mut self) -> bool {
        match self {
            SocketMut::Tcp(stream) => Plain(*stream).has_room(),
            SocketMut::Unix(stream) => Plain(*stream).has_room(),
            SocketMut::Memory(socket) => socket.has_room(),
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.has_room(),
            SocketMut::Proxied(proxied) => proxied.stream().has_room(),
        }
    }

    #[cfg(feature = "tls")]
    #[inline]
    fn reads_anywhere(&self) -> bool {
        !matches!(self, SocketMut::Tls(_))
    }

    fn set_wide(&mut self, is_wide: bool) {
        let bytes = if is_wide { WIDE_SEND_BUFFER_BYTES } else { SEND_BUFFER_BYTES };
        match self {
            SocketMut::Tcp(stream) => {
                let _ = SockRef::from(&**stream).set_send_buffer_size(bytes);
            }
            SocketMut::Unix(_) | SocketMut::Memory(_) => {}
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.tls.stream().set_wide(is_wide),
            SocketMut::Proxied(proxied) => proxied.stream().set_wide(is_wide),
        }
    }

    #[cfg(feature = "tls")]
    #[inline]
    fn wants_write(&self) -> bool {
        matches!(self, SocketMut::Tls(tls) if tls.wants_write())
    }

    #[inline]
    fn handshake(&self) -> Handshake {
        match self {
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.handshake(),
            SocketMut::Proxied(proxied) => proxied.handshake(),
            _ => Handshake::Done,
        }
    }

    #[inline]
    fn awaits_client(&self) -> bool {
        matches!(self, SocketMut::Proxied(proxied) if proxied.awaits_client())
    }

    #[inline]
    fn take_client(&mut self) -> Option<Result<Option<SocketAddr>, Malformed>> {
        match self {
            SocketMut::Proxied(proxied) => proxied.take_client(),
            _ => None,
        }
    }

    #[cfg(feature = "tls")]
    #[inline]
    fn sealed(&self) -> Option<Sealed> {
        match self {
            SocketMut::Tls(tls) => tls.sealed(),
            _ => None,
        }
    }

    #[cfg(feature = "tls")]
    fn take_certificate(&mut self) -> Option<Box<Certificate>> {
        match self {
            SocketMut::Tls(tls) => tls.take_certificate(),
            _ => None,
        }
    }

    #[inline]
    fn overhead(&mut self) -> usize {
        match self {
            #[cfg(feature = "tls")]
            SocketMut::Tls(tls) => tls.overhead(),
            SocketMut::Proxied(proxied) => proxied.overhead(),
            _ => 0,
        }
    }
}

/// The state of a socket or a listener: from the poller, or from a connection in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
    pub error: bool,
}

impl Readiness {
    /// Makes a readiness that reports nothing.
    pub fn of(token: Token) -> Readiness {
        Readiness {
            token,
            readable: false,
            writable: false,
            read_closed: false,
            write_closed: false,
            error: false,
        }
    }

    /// Returns whether it reports anything.
    pub fn is_any(&self) -> bool {
        self.readable || self.writable || self.read_closed || self.write_closed || self.error
    }
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Readiness {
        Readiness {
            token: event.token(),
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            write_closed: event.is_write_closed(),
            error: event.is_error(),
        }
    }
}

const NOT_SENT_BYTES_MAX: u32 = 16 * 1024;
