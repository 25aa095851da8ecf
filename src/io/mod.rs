//! Sockets, listeners, the clock and the event loop: everything that the pure part must not know.

pub mod bind;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
pub mod event_loop;
pub mod listener;
pub mod manual_clock;
pub mod memory;
pub mod refusals;
pub mod socket;
pub mod sockets;
pub mod transport;
