//! The C library: what `heartwheel::ffi` exports. Without the feature `ffi` there is nothing in it.

#[cfg(feature = "ffi")]
extern crate heartwheel as _;
