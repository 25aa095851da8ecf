//! The pure part: it holds no socket, thread or channel, and reads no clock. Time is an argument.
//!
//! Modules stand in floors: a module uses those below it and beside it, never one above.
//!
//! | floor | modules |
//! |---|---|
//! | all connections of a server | [`engine`] |
//! | the other end: what a client does | `client` (with the feature of that name) |
//! | what servers of a cluster tell each other | `cluster` (with the feature of that name) |
//! | what carries bytes | [`transport`] |
//! | one connection | [`connection`], [`outbox`] |
//! | what the engine and the application tell each other | [`contract`] |
//! | figures | [`observe`] |
//! | settings | [`config`] |
//! | what bridges carry, and how it is named | `bridge` (with the feature of that name) |
//! | who may do what | [`admission`] |
//! | events on flash | `store` (with the feature of that name) |
//! | logs of events, subscriptions | [`topics`] |
//! | encodings | [`wire`] |
//! | values | [`ground`] |

pub mod admission;
#[cfg(feature = "bridge")]
pub mod bridge;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod connection;
pub mod contract;
pub mod engine;
pub mod ground;
pub mod observe;
pub mod outbox;
#[cfg(feature = "store")]
pub mod store;
pub mod topics;
pub mod transport;
pub mod wire;
