//! What carries the bytes of a connection: a socket of the kernel, or memory.

mod memory;
mod plain;
pub(crate) mod proxied;
#[cfg(feature = "tls")]
pub(crate) mod tls;

pub(crate) use plain::Plain;
