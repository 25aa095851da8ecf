//! What the benchmarks share that run the program in a process of its own.

// Each takes what it needs.
#![allow(dead_code)]

#[path = "../../tests/common/frame.rs"]
pub mod frame;
pub mod machine;
pub mod process;
pub mod program;
#[path = "../../tests/common/rng.rs"]
pub mod rng;
