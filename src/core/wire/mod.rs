//! What goes over the wire: HTTP, WebSocket, event streams, the JSON messages of `/ws`.

pub mod encoded;
pub mod frame;
pub mod http;
pub mod hub;
pub mod message;
pub mod payload;
pub mod sse;
#[cfg(feature = "tls")]
pub mod tls;
pub mod ws;
