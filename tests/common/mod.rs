//! What several tests share.

pub mod client;
pub mod decoders;
pub mod frame;
#[cfg(all(feature = "program", target_os = "linux"))]
pub mod group;
pub mod lag;
#[cfg(feature = "program")]
pub mod program;
pub mod responses;
pub mod rng;
pub mod server;
pub mod timing;
