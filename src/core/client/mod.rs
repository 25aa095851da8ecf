//! The client's end of a connection: to whom it is made, and all that happens until it is stopped.
//!
//! Like the engine it is pure. Time and bytes go in; actions for the socket and what the
//! application is told come out. It knows no socket, no thread, no name service and no clock.
//!
//! ```text
//!             ┌─────────────────────── retry, after the backoff ───────────────────────────┐
//!             ▼                                                                            │
//!  Waiting ─► Resolving ─► Connecting ─► Securing ─► Upgrading ─► Open ─► Closing ──► (end)┤
//!             ▲                                                                            │
//!             └── one probe ── Broken ◄── too many tries that reached the server failed ───┤
//!                              Stopped ◄── told to stop, or no use in another try ─────────┘
//! ```
//!
//! A [`Dialler`] is one client. Each of its phases has a deadline, but for `Stopped`, which has
//! nothing to end. From `Connecting` to `Closing` it has one socket; only while several addresses
//! are tried it has more.
//!
//! The connection may be an event stream instead of a WebSocket. A plain [request](ask) is a client
//! that is sent once, by one deadline, and stops behind its answer.

pub mod ask;
pub mod backoff;
pub mod breaker;
#[cfg(feature = "mqtt")]
pub mod broker;
#[cfg(feature = "deflate")]
mod compression;
mod connecting;
mod dialler;
mod exchange;
mod feed;
mod link;
pub mod rules;
pub mod told;
pub mod topics;
pub mod verdict;
pub mod why;

#[cfg(feature = "deflate")]
pub use compression::Compressing;
pub use dialler::{Action, Common, Dialler, Means, Purpose, SendRefused, Setup};
pub use feed::Resume;
pub use rules::Rules;
pub use told::{State, Told};
pub use verdict::Verdict;
pub use why::Why;
