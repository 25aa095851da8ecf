//! What carries the bytes of a connection: a socket of the kernel, or memory.

mod memory;
mod plain;

pub(crate) use plain::Plain;
