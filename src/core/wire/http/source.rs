//! Where the body of an answer comes from, if it is not known when the answer begins.

#[cfg(feature = "streams")]
use std::fmt;

use tungstenite::Bytes;

/// Gives the body of an answer piece by piece. It is dropped as soon as nothing more is asked of
/// it: behind the last piece, or when the connection ends.
pub trait Source: Send + Sync {
    /// Takes note that the answer has begun: from now on about `room` bytes may wait in it.
    fn begin(&mut self, room: usize) {
        let _ = room;
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

    pub fn begin(&mut self, _: usize) {
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

/// What a source gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A piece; it has at least one byte.
    Piece(Bytes),
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
