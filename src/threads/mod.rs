//! Handlers, the threads that they run on, and commands from any thread.

mod answer;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod command_queue;
#[cfg(feature = "client")]
pub mod dial;
pub mod handle;
pub mod handler;
pub mod hooks;
mod job_queue;
#[cfg(feature = "client")]
pub mod link;
pub mod peer;
pub mod peers;
#[cfg(feature = "streams")]
pub mod record;
#[cfg(feature = "client")]
mod request;
#[cfg(feature = "sessions")]
pub mod sessions;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "streams")]
pub mod stream;
pub mod subscription;
pub mod typed;
#[cfg(feature = "streams")]
pub mod upload;
pub mod watch;
pub mod worker;
