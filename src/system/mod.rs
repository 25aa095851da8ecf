//! What the kernel and files report: limits, memory, the process, tokens.

pub mod descriptors;
pub mod machine;
pub mod process;
#[cfg(feature = "cluster")]
pub(crate) mod redis;
pub(crate) mod spawn;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token_file;

/// Returns a seed that differs between processes, from the standard library's own.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
