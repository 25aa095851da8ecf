//! Bridges: two servers in one process by a manual clock, and processes that are killed.

mod common;

#[path = "bridge/memory.rs"]
mod memory;
#[cfg(feature = "program")]
#[path = "bridge/real.rs"]
mod real;
