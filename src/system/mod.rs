//! What the kernel and files report: limits, memory, the process, tokens.

pub mod descriptors;
pub mod machine;
pub mod process;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token_file;
