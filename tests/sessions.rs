//! Sessions that outlast connections: the stores against one model of what a store does, and routes
//! with sessions, by a clock of the test's own and over sockets.

mod common;

#[path = "sessions/conformance.rs"]
mod conformance;
#[path = "sessions/faulty.rs"]
mod faulty;
#[path = "sessions/interleavings.rs"]
mod interleavings;
#[path = "sessions/keys.rs"]
mod keys;
#[path = "sessions/nodes.rs"]
mod nodes;
#[path = "sessions/shared.rs"]
mod shared;
#[path = "sessions/takeover.rs"]
mod takeover;
#[path = "sessions/tally.rs"]
mod tally;
#[path = "sessions/typed.rs"]
mod typed;
#[path = "sessions/virtual_time.rs"]
mod virtual_time;
