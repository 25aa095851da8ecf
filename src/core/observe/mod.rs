//! What a server counts, and how its figures are written.

#[cfg(feature = "bridge")]
pub mod bridges;
pub mod figures;
pub mod metrics;
#[cfg(feature = "client")]
pub mod service;
pub mod stats;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "tls")]
pub mod tls;
pub mod versions;
