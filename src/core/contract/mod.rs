//! What the engine and the application tell each other.

pub mod backbone;
pub mod event;
pub mod route;
