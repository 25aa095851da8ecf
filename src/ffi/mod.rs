//! The C boundary: `heartwheel.h` documents the functions, and only this module defines them.
//!
//! ```text
//!   C host ──► entry ──► handle (who may, panics) ──► host (one server, its events pulled)
//! ```
//!
//! The host pulls events and is called back only for log lines, and to freeze and thaw sessions
//! where it has asked for that; a handle is closed to all its calls meanwhile. So nothing
//! re-enters and nothing unwinds through C. The host stands where a worker would: one job is out at
//! a time, and events that it does not pull wait in the inboxes, whose limits pause the reading.
//!
//! Every entry checks its handle and its pointers, catches panics, and returns a code. Unsafe code
//! touches only what C hands over: pointers to handles, text, bytes, events and functions.
#![allow(unsafe_code)]

mod asked;
mod entry;
mod event;
mod failure;
mod handle;
mod host;
mod input;
mod links;
mod logger;
mod peers;
mod presence;
mod requests;
mod routes;
mod server;
mod sessions;
