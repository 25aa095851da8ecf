//! What the engine and the application tell each other.

pub mod accept;
pub mod backbone;
pub mod event;
pub mod handlers;
pub mod listener;
pub mod offer;
pub mod peer_info;
pub mod route;
#[cfg(feature = "sessions")]
pub mod sessions;
