//! A server for long-lived connections in which no connection is ever without a deadline.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod app;
pub mod bucket;
mod clock;
pub mod config;
mod connection;
pub mod engine;
pub mod event;
mod event_loop;
pub mod frame;
mod handle;
mod handler;
pub mod heartbeat;
pub mod http;
pub mod id;
mod listener;
pub mod message;
pub mod outbox;
#[cfg(feature = "program")]
pub mod program;
pub mod pump;
pub mod random;
pub mod reason;
mod refusals;
pub mod route;
mod server;
mod socket;
pub mod stats;
pub mod time;
pub mod wheel;
mod worker;
pub mod ws;

pub use config::Config;
pub use event::{Accept, Event};
pub use handle::{Handle, Peer, SendError, Sent};
pub use handler::Handler;
pub use id::ConnectionId;
pub use listener::LocalAddress;
pub use message::Message;
pub use reason::CloseReason;
pub use route::Placement;
pub use server::{Builder, Ended, Error, Result, Route, Server};
pub use stats::Stats;
pub use tungstenite::{Bytes, Utf8Bytes};
