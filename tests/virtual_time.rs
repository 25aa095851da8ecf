//! A server by a clock that is moved by hand, with connections in memory: what embedders test
//! theirs with, and what only such a clock can show. Nothing here sleeps; days pass.

mod common;

#[path = "virtual_time/deadlines.rs"]
mod deadlines;
#[path = "virtual_time/long.rs"]
mod long;
#[path = "virtual_time/network.rs"]
mod network;
#[path = "virtual_time/threads.rs"]
mod threads;
