//! Who is on a topic: the pure part by a model, and servers in memory by a clock of the test's own.

mod common;

#[cfg(feature = "cluster")]
#[path = "presence/cluster.rs"]
mod cluster;
#[path = "presence/engine.rs"]
mod engine;
#[path = "presence/model.rs"]
mod model;
