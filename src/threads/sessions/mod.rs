//! Sessions that outlast connections: a handler's state, frozen, under a key of the request, in a
//! store that several servers may share.
//!
//! ```text
//!   upgrade ──► key ──► claim ──► thaw ──► 101, the handler goes on
//!                         ▲                        │ changed, every `sessions.save`
//!                       store ◄── save ◄── freeze ◄┤
//!                         ▲                        │ the connection ends
//!                         └── save, release ◄──────┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `key` | what names the session of a request |
//! | `store` | what a store does: a claim has a number, and a save bears it |
//! | `resume`, `typed` | what handlers write, also those whose messages are values, and what calls them |
//! | `listener` | what other servers tell by the store: a session is wanted, or free |
//! | `keeper`, `table` | who holds what, who waits, what is to be saved: one for each route |
//! | `memory` | the store of one process |
//! | `sqlite`, `redis` | stores that several servers share, with the features `sqlite` and `cluster` |
//! | `redis_ear` | a connection to Redis that waits to be told |

mod keeper;
mod key;
mod listener;
mod memory;
#[cfg(feature = "cluster")]
mod redis;
#[cfg(feature = "cluster")]
mod redis_ear;
mod resume;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod table;
mod typed;

pub(crate) use keeper::Keeper;
#[cfg(feature = "ffi")]
pub(crate) use keeper::{Hold, Opening};
pub use key::{SessionId, SessionKey};
pub use listener::Listener;
pub use memory::MemorySessions;
#[cfg(feature = "cluster")]
pub use redis::RedisSessions;
pub use resume::{BadSession, Resume, Unsaved};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSessions;
pub use store::{Claim, Claimed, Save, Saved, SessionStore, StoreError};
pub use typed::TypedResume;
