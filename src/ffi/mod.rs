//! The C boundary: `heartwheel.h`, whose functions are documented there and named here alone.
//!
//! ```text
//!   C host ──► entry ──► handle (who may, panics) ──► host (one server, its events pulled)
//! ```
//!
//! The host pulls events and is never called back but for log lines, so nothing re-enters and
//! nothing unwinds through C. It stands where a worker would: one job is out at a time, and what it
//! does not pull waits in the inboxes, whose limits pause the reading.
//!
//! Every entry checks its handle and its pointers, catches panics, and answers with a code. Unsafe
//! is what C hands over, and nothing else: pointers to handles, text, bytes and events.
#![allow(unsafe_code)]

mod entry;
mod event;
mod failure;
mod handle;
mod host;
mod input;
mod logger;
