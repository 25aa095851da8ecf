//! What a server counts, and how its figures are written.

pub mod figures;
pub mod metrics;
pub mod stats;
#[cfg(feature = "tls")]
pub mod tls;
