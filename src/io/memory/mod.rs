//! Connections in memory: no address, no descriptor, no kernel.
//!
//! ```text
//!   MemoryNetwork::connect                          Listener::accept
//!          │                                               │
//!          ▼                                               ▼
//!     MemoryPeer ──write──► Line ──readiness──► Exchange ──► the loop, as from the poller
//!                ◄──read───      ◄──read, write─────────── MemorySocket
//! ```
//!
//! A [`Line`](line::Line) is one connection: bytes in both directions, within bounds, and their
//! ends. An [`Exchange`] has all the lines of one server, and reports edges of each to its loop, as
//! a poller does. From there on a line is like any other socket, the pump included.

mod exchange;
mod line;
mod peer;

pub(crate) use exchange::{Exchange, MemorySocket};
pub use peer::{MemoryNetwork, MemoryPeer};
