//! What a server counts, and how its figures are written.

#[cfg(feature = "bridge")]
pub mod bridges;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod figures;
pub mod metrics;
#[cfg(feature = "client")]
pub mod service;
#[cfg(feature = "sessions")]
pub mod sessions;
pub mod stats;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "tls")]
pub mod tls;
pub mod versions;
