//! Handlers, the threads that they run on, and commands from any thread.

pub mod command_queue;
pub mod handle;
pub mod handler;
pub mod worker;
