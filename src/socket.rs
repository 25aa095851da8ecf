//! Sockets of peers: TCP and Unix.

use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::pump::WriteVectored;

/// The socket of one peer.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Sets what a server for slow and vanishing peers needs.
    ///
    /// A peer that does not read otherwise costs the kernel two to four megabytes: SO_SNDBUF bounds
    /// that, and TCP_NOTSENT_LOWAT keeps what waits where it can still be dropped. LOWAT alone
    /// makes large messages slow: both, or neither.
    pub fn configure(&self) -> io::Result<()> {
        let Socket::Tcp(stream) = self else { return Ok(()) };
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        if socket.set_send_buffer_size(SEND_BUFFER_BYTES).is_ok() {
            // Unknown to kernels before 3.12: it saves memory, nothing depends on it.
            let _ = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX);
        }
        Ok(())
    }

    /// Sets how long the kernel goes on sending what is not acknowledged (RFC 5482). Linux only.
    pub fn set_user_timeout(&self, timeout: Duration) {
        if let Socket::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
        }
    }

    /// Sends FIN.
    pub fn shutdown(&self) {
        // It fails if the peer is gone: the next read says so.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }

    /// Makes closing send a reset and throw away what waits in the kernel.
    pub fn set_abort(&self) {
        if let Socket::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Gives the error that the kernel has noted, if there is one.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Socket::Tcp(stream) => stream.take_error().ok().flatten(),
            Socket::Unix(stream) => stream.take_error().ok().flatten(),
        }
    }

    /// Says whether the kernel would tell that there is room. It takes a little even where it would
    /// not, which is no sign that the peer reads.
    pub fn has_room(&self) -> bool {
        let socket = match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        };
        let mut watched = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
        // Interrupted, it says nothing: then there is none.
        let found = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        found.is_ok() && watched[0].revents().contains(PollFlags::OUT)
    }

    /// Watches for both directions from now on: never changed afterwards, so no epoll_ctl but this
    /// one.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(stream) => stream.register(registry, token, both),
            Socket::Unix(stream) => stream.register(registry, token, both),
        }
    }

    /// Gives the peer's address, `None` for Unix.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl WriteVectored for Socket {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = match self {
            Socket::Tcp(stream) => SockRef::from(&*stream),
            Socket::Unix(stream) => SockRef::from(&*stream),
        };
        match slices {
            // One slice: `send` is cheaper than `sendmsg`. Neither raises SIGPIPE, which would kill
            // a C host.
            [slice] => socket.send_with_flags(slice, NO_SIGNAL),
            slices => socket.send_vectored_with_flags(slices, NO_SIGNAL),
        }
    }
}

const SEND_BUFFER_BYTES: usize = 64 * 1024;
const NOT_SENT_BYTES_MAX: u32 = 16 * 1024;

/// MSG_NOSIGNAL, the same number on every Linux.
const NO_SIGNAL: i32 = 0x4000;

// One for each connection, beside its slab entry. Eight bytes, but for mio's debug assertions.
const _: () = assert!(size_of::<Option<Socket>>() <= 24);
