//! Bridges: topics of this server that go on to another server, or to a broker of MQTT, and topics
//! that come from there.
//!
//! ```text
//!   topics ─► reader ─► rules ─► far side          out: acknowledged, the reader's position moves
//!   topics ◄─ ticket ◄─ rules ◄─ far side          in: published here, then acknowledged
//! ```
//!
//! A bridge going out is a [reader](crate::core::topics::Reading) of the topics' logs, and no queue.

pub mod rules;

pub use rules::{Far, Rules};
