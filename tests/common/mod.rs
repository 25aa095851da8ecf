//! What several tests share.

pub mod client;
pub mod decoders;
pub mod frame;
pub mod lag;
#[cfg(feature = "program")]
pub mod program;
pub mod responses;
pub mod rng;
pub mod server;
pub mod timing;
