//! What several tests share.

pub mod rng;
