//! A log that answers later, out of step, or never: publishers over POST, `/ws`, a WebSocket of a
//! topic and the handle. The log here is the test: it takes what was published and answers when it
//! is told to, in whatever order.

mod common;

#[path = "late_log/kinds.rs"]
mod kinds;
#[path = "late_log/limits.rs"]
mod limits;
#[path = "late_log/log.rs"]
mod log;
#[path = "late_log/never.rs"]
mod never;
#[path = "late_log/order.rs"]
mod order;
#[cfg(feature = "cluster")]
#[path = "late_log/renewed.rs"]
mod renewed;
#[path = "late_log/repeats.rs"]
mod repeats;
