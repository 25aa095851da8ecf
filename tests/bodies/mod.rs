//! What is fuzzed: one function for each target, which takes any bytes and panics if something does
//! not hold. `tests/fuzz.rs` runs them over random inputs, `tests/fuzz/` with coverage guidance.

// Each target takes what it needs.
#![allow(dead_code)]

pub mod cbor;
#[cfg(feature = "toml")]
pub mod config;
pub mod decoder;
pub mod engine;
pub mod events;
#[cfg(feature = "cluster")]
pub mod follower;
pub mod head;
pub mod hub;
#[cfg(feature = "deflate")]
pub mod inflate;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod proxy;
#[cfg(feature = "client")]
pub mod reader;
#[cfg(feature = "tls")]
pub mod record;
#[cfg(feature = "cluster")]
pub mod resp;
pub mod response;
mod source;
#[cfg(feature = "client")]
pub mod topics;

#[path = "../common/chunked.rs"]
mod chunked;
#[path = "../common/decoders.rs"]
mod decoders;
#[path = "../common/event_stream.rs"]
mod event_stream;
#[path = "../common/frame.rs"]
mod frame;
#[path = "../common/responses.rs"]
mod responses;
#[path = "../common/rng.rs"]
pub mod rng;
#[path = "../common/window.rs"]
mod window;
#[path = "../simulation/witness.rs"]
mod witness;
