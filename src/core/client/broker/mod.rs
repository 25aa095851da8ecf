//! An MQTT broker at the other end: what is published until the broker has acknowledged it, what
//! has come until it is acknowledged here, and the deadlines of both.
//!
//! ```text
//!   publish ──► Pending ──PUBLISH──► broker ──PUBACK──► Acked
//!                  ▲                   │ the connection ends
//!                  └── again, as DUP ◄─┘ and another begins
//! ```
//!
//! Packets are read and written by `mqtt-protocol-core`, one of its connections for each of ours.
//! Here is what outlasts a connection, and what the library leaves to its user: whole packets
//! whose memory grows with what has come, time, and both versions of the protocol as one.

mod echoes;
mod framer;
mod login;
mod packets;
mod session;

pub use login::{Login, Version};
pub use session::{Arrival, Heard, Publication, Receipt, Session};
