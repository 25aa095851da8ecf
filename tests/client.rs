//! Clients of ours: the state machine against a model, in memory and by a manual clock, and over
//! real sockets.

mod common;

#[cfg(feature = "cbor")]
#[path = "client/cbor.rs"]
mod cbor;
#[cfg(feature = "deflate")]
#[path = "client/compressed.rs"]
mod compressed;
// Streams that know what they are to be read as are for another test.
#[allow(dead_code)]
#[path = "common/event_stream.rs"]
mod event_stream;
#[path = "client/hostile.rs"]
mod hostile;
#[path = "client/many.rs"]
mod many;
#[path = "client/memory.rs"]
mod memory;
#[path = "client/model.rs"]
mod model;
#[cfg(all(feature = "cbor", feature = "presence"))]
#[path = "client/presence.rs"]
mod presence;
#[cfg(feature = "program")]
#[path = "client/program.rs"]
mod program;
#[path = "client/real.rs"]
mod real;
#[path = "client/requests.rs"]
mod requests;
#[path = "client/rig.rs"]
mod rig;
#[cfg(feature = "tls")]
#[path = "client/secure.rs"]
mod secure;
#[path = "client/streams.rs"]
mod streams;
#[cfg(feature = "program")]
#[path = "client/verdict.rs"]
mod verdict;
