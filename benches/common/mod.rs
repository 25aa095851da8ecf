//! What the benchmarks share that run the program in a process of its own.

// Each takes what it needs.
#![allow(dead_code)]

// By their path: a client's frames and a generator of numbers are no part of the library, and the
// tests have them already.
#[path = "../../tests/common/frame.rs"]
pub mod frame;
pub mod machine;
pub mod process;
pub mod program;
#[path = "../../tests/common/rng.rs"]
pub mod rng;
