//! WebSocket, RFC 6455, from either side: bytes to messages, messages to frames, and how both end.
//!
//! Everything here is pure: it knows no socket, thread, channel or clock. The handshake is HTTP's,
//! not here.
//!
//! ```text
//!   bytes ──► header ──► mask ──► assembly ──► Incoming        Message ──► encoder ──► Frame
//!             └────────── Decoder ─────────┘
//! ```
//!
//! A [`Decoder`] at rest is one null pointer. It owns memory only while a part of a header, of a
//! control frame or of a message is outstanding. That memory grows with what was received, never
//! with what was announced. An error of the peer is a [`Violation`], reported at the first byte
//! that makes it certain.
//!
//! Only two things depend on the [`Role`] of our side: which frames must be masked, and that a
//! client masks what it sends ([`encoder::masked`]).

mod assembly;
mod close;
mod control;
mod decoder;
pub mod encoder;
mod header;
#[cfg(feature = "deflate")]
mod inflating;
mod mask;
mod partial;
mod role;
mod violation;

pub use close::{CloseFrame, is_allowed as is_allowed_close_code};
use control::Control;
pub use decoder::{Decoder, Incoming, Limits};
pub use role::Role;
pub use violation::Violation;
