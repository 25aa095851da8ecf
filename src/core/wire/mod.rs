//! What goes over the wire: HTTP, WebSocket, event streams, the messages of `/ws` in JSON and CBOR.

pub mod cbor;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod encoded;
#[cfg(feature = "client")]
pub mod event_reader;
pub mod frame;
pub mod http;
pub mod hub;
pub mod hub_cbor;
pub mod message;
pub mod payload;
pub mod proxy_header;
#[cfg(feature = "cluster")]
pub mod resp;
pub mod spare_memory;
pub mod sse;
#[cfg(feature = "client")]
pub mod target;
#[cfg(feature = "tls")]
pub mod tls;
pub mod ws;
