//! What the tests share, a file for each role. The fuzz targets and the benches take files of this
//! folder by their path: those that name no other file here but `rng`.

// Each test takes what it needs.
#![allow(dead_code)]

pub mod cbor;
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
#[cfg(feature = "tls")]
pub mod link;
pub mod preload;
pub mod process;
#[cfg(feature = "program")]
pub mod program;
pub mod recorder;
pub mod responses;
pub mod rng;
pub mod server;
pub mod temp_file;
pub mod timing;
pub mod topics;
pub mod window;
pub mod world;
