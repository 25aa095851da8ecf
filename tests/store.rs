//! Durable topics: the ring under power cuts, and servers whose events outlast them.

mod common;

#[path = "store/cuts.rs"]
mod cuts;
#[path = "store/disk.rs"]
mod disk;
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
#[path = "store/disks.rs"]
mod disks;
#[path = "store/restart.rs"]
mod restart;
#[path = "store/writes.rs"]
mod writes;
