//! Where the body of an answer comes from, if it is not known when the answer begins.

#[cfg(feature = "streams")]
use std::fmt;
use std::os::fd::BorrowedFd;

use tungstenite::Bytes;

/// Gives the body of an answer piece by piece. It is dropped as soon as nothing more is asked of
/// it: behind the last piece, or when the connection ends.
pub trait Source: Send + Sync {
    /// Takes note that the answer has begun: from now on about `room` bytes may wait in it.
    /// `takes_pipes` says whether [`Next::Piped`] may come of it.
    fn begin(&mut self, room: usize, takes_pipes: bool) {
        let _ = (room, takes_pipes);
    }

    /// Lets the source make what wakes the loop when there is more after [`Next::Waiting`].
    fn attach(&mut self, waker: &mut dyn FnMut() -> Waker) {
        let _ = waker;
    }

    /// Returns the next piece: at most about `most` bytes, unless less cannot be had.
    fn next(&mut self, most: usize) -> Next;

    /// Returns whether [`Source::next`] returns at once: it is called on the loop thread then. Else
    /// it is called where the route's handler runs.
    fn is_quick(&self) -> bool;

    /// Returns the bytes that wait in it.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// A source on its way through the engine. A build without the feature `streams` has none, nor the
/// code for it.
#[cfg(feature = "streams")]
pub type AnySource = Box<dyn Source>;

/// A source on its way through the engine. A build without the feature `streams` has none, nor the
/// code for it.
#[cfg(not(feature = "streams"))]
#[derive(Debug)]
pub enum AnySource {}

#[cfg(not(feature = "streams"))]
#[expect(missing_docs, reason = "there is no such value")]
impl AnySource {
    pub fn attach(&mut self, _: &mut dyn FnMut() -> Waker) {
        match *self {}
    }

    pub fn begin(&mut self, _: usize, _: bool) {
        match *self {}
    }

    pub fn next(&mut self, _: usize) -> Next {
        match *self {}
    }

    pub fn is_quick(&self) -> bool {
        match *self {}
    }

    pub fn held_bytes(&self) -> usize {
        match *self {}
    }
}

/// Tells the loop that there is more. It returns at once; false if it could not be told.
pub type Waker = Box<dyn Fn() -> bool + Send + Sync>;

/// Bytes of a file in a pipe of the kernel, which moves them to a socket without a copy.
pub trait Piped: Send + Sync {
    /// Returns how many bytes were put in.
    fn bytes(&self) -> usize;

    /// Returns the end of the pipe that is read.
    fn end(&self) -> BorrowedFd<'_>;

    /// Takes note that all bytes have been read, so that the pipe can be used again.
    fn emptied(self: Box<Self>);
}

/// A pipe on its way through the engine. A build without the feature `streams` has none.
#[cfg(feature = "streams")]
pub struct Pipe(pub Box<dyn Piped>);

/// A pipe on its way through the engine. A build without the feature `streams` has none.
#[cfg(not(feature = "streams"))]
#[derive(Debug, PartialEq)]
pub enum Pipe {}

#[cfg(feature = "streams")]
impl Pipe {
    /// Returns how many bytes were put in.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Returns the end of the pipe that is read.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.0.end()
    }

    /// Takes note that all bytes have been read.
    pub fn emptied(self) {
        self.0.emptied();
    }
}

#[cfg(not(feature = "streams"))]
#[expect(missing_docs, reason = "there is no such value")]
impl Pipe {
    pub fn bytes(&self) -> usize {
        match *self {}
    }

    pub fn end(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub fn emptied(self) {
        match self {}
    }
}

#[cfg(feature = "streams")]
impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipe({})", self.bytes())
    }
}

#[cfg(feature = "streams")]
impl PartialEq for Pipe {
    /// No two have the same bytes.
    fn eq(&self, _: &Pipe) -> bool {
        false
    }
}

/// What a source gives.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// A piece; it has at least one byte.
    Piece(Bytes),
    /// A piece in a pipe; it has at least one byte. Only a source whose length was promised gives
    /// it, and only if pipes are taken.
    Piped(Pipe),
    /// Nothing for now: the loop is told when there is more.
    Waiting,
    /// The body is complete.
    End,
    /// The body cannot be completed.
    Broken,
    /// The source panicked.
    Panicked,
}

/// How many bytes a source is asked for.
pub const PIECE_BYTES: usize = 64 * 1024;

#[cfg(feature = "streams")]
impl fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}
