//! What a server counts, and how its figures are told.

pub mod figures;
pub mod metrics;
pub mod stats;
