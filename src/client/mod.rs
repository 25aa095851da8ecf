//! The other end: clients on a loop of their own, and one that waits for its answers.
//!
//! A client in a server's loop is made by [`Handle::connect`](crate::Handle::connect).

mod links;
mod waiting;

pub use links::Links;
pub use waiting::{Client, ClientError, Events};

pub use crate::core::client::ask::{Answer, Ask};
pub use crate::core::client::topics::TopicEvent;
#[cfg(feature = "presence")]
pub use crate::core::client::topics::TopicMember;
pub use crate::core::client::{State, Why};
