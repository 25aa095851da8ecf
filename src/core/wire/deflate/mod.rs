//! Compressed messages on WebSockets: permessage-deflate, RFC 7692.
//!
//! Everything here is pure: what is agreed on ([`Agreed`]), and bytes to bytes. A client must not
//! keep its window between messages, so nothing is kept for a peer: one compressor and one inflater
//! serve all connections ([`Coders`]). They are made when they are first needed and freed when
//! nothing has needed them for a while. A message that comes in many parts, or grows long while it
//! is inflated, borrows an inflater of its own until its end.

mod agreement;
mod coders;
mod compressor;
mod inflater;

pub use agreement::{Agreed, choose};
pub use coders::Coders;
pub use compressor::{Compressor, Want};
pub use inflater::{Corrupt, Inflater, Step};

/// What a message must end with before it is inflated, and what a flush of the compressor appends
/// (RFC 7692, 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
