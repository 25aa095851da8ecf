//! What the tests share, a file for each role. Files of the fuzz targets and of the benches are
//! taken in by their path: what names no other file of this folder.

// Each test takes what it needs.
#![allow(dead_code)]

pub mod chunked;
pub mod client;
pub mod decoders;
pub mod engine;
pub mod frame;
#[cfg(all(feature = "program", target_os = "linux"))]
pub mod group;
pub mod honest;
pub mod http;
pub mod lag;
pub mod lines;
pub mod process;
#[cfg(feature = "program")]
pub mod program;
pub mod recorder;
pub mod responses;
pub mod rng;
pub mod server;
pub mod timing;
pub mod topics;
pub mod world;
