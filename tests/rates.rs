//! Rates: what a peer may send and be sent in a second, and what becomes of more. In virtual time,
//! where a minute is exact and each turn is counted, and over real sockets.

mod common;

#[path = "rates/handshakes.rs"]
mod handshakes;
#[path = "rates/receiving.rs"]
mod receiving;
#[path = "rates/sending.rs"]
mod sending;
#[path = "rates/sockets.rs"]
mod sockets;
