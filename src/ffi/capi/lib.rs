//! The C library: what `heartwheel::ffi` exports. Without the feature `ffi` it is empty.

#[cfg(feature = "ffi")]
extern crate heartwheel as _;
