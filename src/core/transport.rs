//! The seam between a socket and the pump: what a transport is, whether it seals its bytes or not.
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
//! 3. Do nothing in the pump, in the engine and in the phases of a connection: they need no word
//!    about it.
//! 4. Run it in the simulation. `tests/simulation/sealed.rs` is a transport that was added by these
//!    steps: it behaves as TLS does, and a quarter of all seeds goes over it.
//!
//! What a transport may do, and what it must do:
//!
//! - It may give fewer bytes than it has ([`Got::Bytes`] with `is_drained` false): it is read from
//!   again, in a later turn if the budget of this one is spent. Only `is_drained` lets the engine
//!   wait for an edge of the poller.
//! - It may give nothing because it must first write: it gives `WouldBlock` and says
//!   [`wants_write`](Transport::wants_write). It is then written to, be it with nothing, as soon as
//!   the poller tells of room, and it may say [`wants_read`](Transport::wants_read) then.
//! - It may take nothing because it must first read. Then it gives `WouldBlock`, says
//!   [`wants_read`](Transport::wants_read), and after that read `wants_write`.
//! - It may seal bytes and find that the socket does not take them all. It keeps the sealed bytes,
//!   and it never seals the same bytes twice. **The last byte that it has sealed counts as taken
//!   only when all that is sealed is with the kernel.** That byte comes first in the next write,
//!   and is left out there. So the outbox knows without another word that a frame is under way: the
//!   frame is not dropped, the deadlines for a stalled peer count, and an end waits for it.
//! - It ends in steps if it must: [`finish`](Transport::finish) only begins. While
//!   [`wants_write`](Transport::wants_write) holds it is written to, with nothing; the FIN follows
//!   the last of its bytes.
//! - A step that takes long, such as a signature, does not run on the loop. The transport hands it
//!   to a worker and gives `WouldBlock` both ways; when the step is done the world tells of the
//!   socket that it is readable and writable ([`Readiness`](crate::core::engine::Readiness)).
//! - Until [`handshake`](Transport::handshake) says [`Handshake::Done`] nothing that is meant for
//!   the peer is written in plain text: a connection that is refused then is ended without words.
//!
//! All of it stands under the deadlines that each connection has: a handshake of the transport and
//! the head of the first request together under `deadlines.handshake`.

use std::io::{self, IoSlice};

/// The server's end of a connection: bytes in, bytes out.
pub trait Transport {
    /// Reads into `buffer`. It is empty only if [`Transport::wants_read`] says so and nothing may
    /// be read for the engine: then what is for the transport itself is read.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing can be read now, `Interrupted` to be asked again; everything else
    /// ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got>;

    /// Writes the slices, in order, until all is taken or the socket takes no more. Without slices
    /// it goes on with bytes of its own. Must not raise SIGPIPE.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the kernel took nothing, `Interrupted` to be asked again; everything else
    /// ends the connection.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written>;

    /// Ends this side: the peer is told that nothing follows. It may take several steps.
    fn finish(&mut self);

    /// Says whether the kernel would tell that there is room. It takes a little even where it would
    /// not, which is no sign that the peer reads.
    fn has_room(&mut self) -> bool;

    /// Says whether it has something of its own to write, or can go on with a write that had to
    /// wait for a read.
    #[inline]
    fn wants_write(&self) -> bool {
        false
    }

    /// Says whether a read may give something of which no edge will tell.
    #[inline]
    fn wants_read(&self) -> bool {
        false
    }

    /// Says how far its handshake has come.
    #[inline]
    fn handshake(&self) -> Handshake {
        Handshake::Done
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// Bytes.
    Bytes {
        /// How many: none if the transport has kept them for itself.
        len: usize,
        /// There is no more: what comes later raises an edge.
        is_drained: bool,
    },
    /// The peer has ended its side.
    End,
}

impl Got {
    /// Gives what a read of a stream socket means that was asked for `asked` bytes: nothing is the
    /// end, and after a short read the socket is empty.
    #[inline]
    pub fn from_socket(len: usize, asked: usize) -> Got {
        match len {
            0 => Got::End,
            len => Got::Bytes { len, is_drained: len < asked },
        }
    }
}

/// What became of a write. The socket takes no more for now if fewer bytes were taken than there
/// were, or if some are in flight.
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
    /// It goes on: the peer can be told nothing yet.
    Going,
    /// It is done, or there is none.
    Done,
}
