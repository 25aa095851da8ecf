//! The seam between a socket and the pump: what a transport is, with or without encryption.
//!
//! # Add a transport
//!
//! A transport carries the bytes of a connection and knows nothing of HTTP and WebSocket; the
//! engine knows nothing of the transport. To add one:
//!
//! 1. Write a type in a file of its own beside `plain` and `memory`, and implement [`Transport`]
//!    for it: [`read`](Transport::read), [`write`](Transport::write), [`finish`](Transport::finish)
//!    and [`has_room`](Transport::has_room). A transport that has bytes of its own (a handshake, an
//!    alert) also implements [`handshake`](Transport::handshake),
//!    [`wants_write`](Transport::wants_write) and [`wants_read`](Transport::wants_read).
//! 2. Where the loop keeps its sockets (`socket`, `sockets`), add a variant for it. A descriptor
//!    takes four bytes there; what a transport keeps besides stands in a box.
//! 3. Do nothing in the pump, the engine and the phases of a connection: they need no change.
//! 4. Run it in the simulation. `tests/simulation/sealed.rs` is a transport that was added by these
//!    steps: it behaves as TLS does, and a quarter of all seeds goes over it.
//!
//! What a transport may do, and what it must do:
//!
//! - It may give fewer bytes than it has ([`Got::Bytes`] with `is_drained` false). The pump reads
//!   again, in a later turn if the budget of this one is spent. Only after `is_drained` does the
//!   engine wait for an edge of the poller.
//! - It may give nothing because it must first write. Then `read` fails with `WouldBlock` and
//!   [`wants_write`](Transport::wants_write) is true. The pump calls `write`, if need be without
//!   bytes, as soon as the poller tells of room. [`wants_read`](Transport::wants_read) may be true.
//! - It may take nothing because it must first read. Then `write` fails with `WouldBlock`,
//!   [`wants_read`](Transport::wants_read) is true, and after that read `wants_write`.
//! - It may seal (encrypt) bytes and find that the socket does not take them all. It keeps the
//!   sealed bytes, and it never seals the same bytes twice. **The last byte that it has sealed
//!   counts as taken only when all that is sealed is with the kernel.** That byte comes first in
//!   the next write, and the transport skips it. So the outbox knows that a frame is under way: it
//!   does not drop the frame, the deadlines for a stalled peer count, and an end waits for it.
//! - It may end in steps: [`finish`](Transport::finish) only begins. While
//!   [`wants_write`](Transport::wants_write) is true, the pump calls `write` without bytes; the FIN
//!   follows the transport's last byte.
//! - A step that takes long, such as a signature, does not run on the loop. The transport hands it
//!   to a worker and fails with `WouldBlock` both ways. When the step is done, the world reports
//!   the socket as readable and writable ([`Readiness`](crate::core::engine::Readiness)).
//! - Until [`handshake`](Transport::handshake) is [`Handshake::Done`], the server writes nothing in
//!   plain text to the peer: a connection that is refused before is closed without an answer.
//!
//! The deadlines of the connection cover all of it: `deadlines.handshake` covers the handshake of
//! the transport and the head of the first request together.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::core::wire::proxy_header::Malformed;
#[cfg(feature = "tls")]
use crate::core::wire::tls::{Certificate, Sealed};

/// The server's end of a connection: bytes in, bytes out.
pub trait Transport {
    /// Reads into `buffer`. The buffer is empty only if [`Transport::wants_read`] is true and the
    /// engine may read nothing: then the transport reads what is for itself.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing can be read now, `Interrupted` if the caller is to try again; every
    /// other error ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got>;

    /// Returns whether it can read into any memory. If not, all is read into the buffer that all
    /// connections share, which is as large as the transport needs.
    #[inline]
    fn reads_anywhere(&self) -> bool {
        true
    }

    /// Writes the slices, in order, until all is taken or the socket takes no more. Without slices
    /// the transport writes bytes of its own. It must not raise SIGPIPE.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel took nothing, `Interrupted` if the caller is to try again; every
    /// other error ends the connection.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written>;

    /// Moves at most `most` bytes out of a pipe that has so many, without a copy where that can be.
    /// It must not raise SIGPIPE.
    ///
    /// # Errors
    ///
    /// As [`Transport::write`]. A transport that seals is given no pipe.
    fn splice(&mut self, _pipe: BorrowedFd<'_>, _most: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Ends this side: tells the peer that nothing follows. It may take several steps.
    fn finish(&mut self);

    /// Returns whether the kernel would report room. Even without it a write may take a few bytes,
    /// which is no sign that the peer reads.
    fn has_room(&mut self) -> bool;

    /// Widens the kernel's send buffer, or makes it as narrow again as it was at first.
    fn set_wide(&mut self, _is_wide: bool) {}

    /// Returns whether the transport has bytes of its own to write, or can go on with a write that
    /// had to wait for a read.
    #[inline]
    fn wants_write(&self) -> bool {
        false
    }

    /// Returns whether a read may give something that no edge will report.
    #[inline]
    fn wants_read(&self) -> bool {
        false
    }

    /// Returns what reading has cost beside the bytes that it gave, since it was last asked for:
    /// bytes that were read for the transport itself. They count in the turn's budget.
    #[inline]
    fn overhead(&mut self) -> usize {
        0
    }

    /// Returns what TLS has agreed on, if it is TLS and behind its handshake.
    #[cfg(feature = "tls")]
    #[inline]
    fn sealed(&self) -> Option<Sealed> {
        None
    }

    /// Takes the certificate that the peer has shown, if it has shown one: once.
    #[cfg(feature = "tls")]
    #[inline]
    fn take_certificate(&mut self) -> Option<Box<Certificate>> {
        None
    }

    /// Returns whether the peer must be a proxy that first says whom it connects for.
    #[inline]
    fn awaits_client(&self) -> bool {
        false
    }

    /// Takes what the proxy has said, once: the client's address, or `None` if that of the
    /// connection stands. Asked after a read that gave no bytes; the next read gives what came
    /// behind.
    #[inline]
    fn take_client(&mut self) -> Option<Result<Option<SocketAddr>, Malformed>> {
        None
    }

    /// Returns how far the handshake has come.
    #[inline]
    fn handshake(&self) -> Handshake {
        Handshake::Done
    }
}

/// The kernel's send buffer of each peer, in bytes: what one that does not read may hold there.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// The send buffer of a peer that reads and for which much waits. A larger one is slower: the
/// kernel takes fresh pages for it.
pub const WIDE_SEND_BUFFER_BYTES: usize = 4 * SEND_BUFFER_BYTES;

/// What a read returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Bytes.
    Bytes {
        /// How many: 0 if the transport has kept them for itself.
        len: usize,
        /// No more bytes are there: later ones raise an edge.
        is_drained: bool,
    },
    /// The peer has ended its side.
    End,
}

impl Got {
    /// Returns what a read of `len` bytes from a stream socket means, if `asked` were wanted: none
    /// is the end, and after a short read the socket is empty.
    #[inline]
    pub fn from_socket(len: usize, asked: usize) -> Got {
        match len {
            0 => Got::End,
            len => Got::Bytes { len, is_drained: len < asked },
        }
    }
}

/// What became of a write. The socket takes no more for now if `taken` is less than was given, or
/// if bytes are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes that the outbox may forget.
    pub taken: usize,
    /// Bytes that the transport still keeps, sealed: they are not with the kernel.
    pub in_flight: usize,
}

impl From<usize> for Written {
    /// All that was taken is with the kernel.
    #[inline]
    fn from(taken: usize) -> Written {
        Written { taken, in_flight: 0 }
    }
}

/// How far the handshake of a transport has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It goes on: nothing can be sent to the peer yet.
    Going,
    /// It is done, or there is none.
    Done,
}
