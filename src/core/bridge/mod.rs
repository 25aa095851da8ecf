//! Bridges: topics of this server that go on to another server, or to a broker of MQTT, and topics
//! that come from there.
//!
//! ```text
//!   topics ─► reader ─► rules ─► far side          out: acknowledged, the reader's position moves
//!   topics ◄─ ticket ◄─ rules ◄─ far side          in: published here, then acknowledged
//! ```
//!
//! Going out, a bridge is a [reader](crate::core::topics::Reading) of the logs, and no queue.

mod incoming;
mod outgoing;
pub mod rules;

pub use incoming::{Coming, Incoming};
pub use outgoing::{Outgoing, Sending, gap};
pub use rules::{Far, Rules, Unnamed};
