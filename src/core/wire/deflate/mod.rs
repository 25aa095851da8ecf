//! Compressed messages on WebSockets: permessage-deflate, RFC 7692.
//!
//! Everything here is pure: what is agreed on ([`Agreed`], `Offer`), and bytes to bytes. One
//! compressor and one inflater serve all connections of a loop ([`Coders`]). They are made when
//! they are first needed and freed when nothing has needed them for a while. A message that comes
//! in many parts, or grows long while it is inflated, borrows an inflater of its own until its end.
//!
//! A client must not refer to its messages before, so a server keeps nothing for a client. A server
//! may refer to them, so a client keeps the last bytes that have come out ([`History`]).

mod agreement;
mod coders;
mod compressor;
mod history;
mod inflater;
#[cfg(feature = "client")]
mod offer;

pub use agreement::{Agreed, choose};
pub use coders::Coders;
pub use compressor::{Compressor, Want};
pub use history::History;
pub use inflater::{Corrupt, Inflater, Step};
#[cfg(feature = "client")]
pub use offer::{Answered, Offer};

/// A shorter message hardly shrinks by itself.
pub const ALONE_BYTES_MIN: usize = 512;

/// What a message must end with before it is inflated, and what a flush of the compressor appends
/// (RFC 7692, 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
