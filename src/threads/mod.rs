//! Handlers, the threads that they run on, and commands from any thread.

pub mod handle;
pub mod handler;
pub mod worker;
