//! Faults and abuse over real sockets, each named after the fault: what the peer gets, and what is
//! counted. Where a parser's verdicts are tested one by one beside it, one of each kind is tried
//! here from end to end.
//!
//! `ROUNDS=100 cargo test --test faults` repeats a hundred times what is repeated.

mod common;

#[path = "faults/exhaustion.rs"]
mod exhaustion;
#[path = "faults/framing.rs"]
mod framing;
#[path = "faults/handshake.rs"]
mod handshake;
#[path = "faults/http.rs"]
mod http;
#[cfg(all(feature = "program", target_env = "gnu", target_pointer_width = "64"))]
#[path = "faults/injection.rs"]
mod injection;
#[path = "faults/messages.rs"]
mod messages;
#[path = "faults/virtual_clock.rs"]
mod virtual_clock;
