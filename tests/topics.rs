//! Topics on real sockets: what each way of asking for a topic answers, and that nobody misses an
//! event without being told, whatever way it comes, whoever is slow, and whoever goes and comes
//! back.

mod common;

#[cfg(feature = "cbor")]
#[path = "topics/cbor.rs"]
mod cbor;
#[path = "topics/events.rs"]
mod events;
#[path = "topics/hub.rs"]
mod hub;
#[path = "topics/library.rs"]
mod library;
#[path = "topics/plain.rs"]
mod plain;
#[path = "topics/protocol.rs"]
mod protocol;
#[path = "topics/repeats.rs"]
mod repeats;
#[path = "topics/resume.rs"]
mod resume;
#[path = "topics/slow.rs"]
mod slow;
#[path = "topics/socket.rs"]
mod socket;
#[path = "topics/stream.rs"]
mod stream;
