//! Several servers with one log of topics, in Redis: what is said to Redis, and what follows from
//! its answers. Nothing here knows a socket or a thread.
//!
//! ```text
//!   Publication ──► script ──► XADD ──► the stream ──► XREAD ──► Follower ──► Logged
//!                   epoch,               one for all             one for each
//!                   repetitions          topics                  server
//! ```
//!
//! **Epochs.** The log has a number, its epoch, which is in each id. A new epoch begins with an
//! entry of its own in the stream. Whoever reads that entry tells all subscribers a gap. Each
//! event bears its epoch, and its count in that epoch: so a reader sees for itself that events
//! before it are missing. What a reader cannot see is that Redis has lost events which nobody has
//! read here: a replica that was promoted has another replication id than the epoch was begun
//! with, and whoever finds that first begins a new epoch ([`Findings::judge`]).
//!
//! **Publishing** is one script: it refuses a publication for another epoch, finds repetitions by
//! producer, number and hash, and appends. Repetitions are known among the last 64 publications of
//! each producer. A server has no more than 64 under way, so that none of its own, sent again when
//! a connection was lost, is in the log twice.

mod findings;
mod follower;
mod keys;
mod scripts;

pub use findings::{Findings, Verdict};
pub use follower::{Counts, Follower, Reason, Seen, read_place};
pub use keys::{Keys, RedisId};
#[cfg(feature = "presence")]
pub use scripts::DROP_TELLER;
pub use scripts::{
    BEGIN_EPOCH, CLAIM, JOIN, LOOK, NEXT_ID, Outcome, PUBLISH, Producer, REGISTER, RELEASE,
    hash_of, publish_parts, read_nodes, said_of,
};

/// How many publications may be under way: as many as Redis knows of each producer.
pub const UNDER_WAY_MAX: usize = 64;
