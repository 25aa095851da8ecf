//! A server for long-lived connections in which no connection is ever without a deadline.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod config;
pub mod frame;
pub mod http;
pub mod message;
#[cfg(feature = "program")]
pub mod program;
pub mod reason;
pub mod time;
pub mod wheel;
pub mod ws;

pub use config::Config;
pub use message::Message;
pub use reason::CloseReason;
pub use tungstenite::{Bytes, Utf8Bytes};
