//! A server for long-lived connections in which **no connection is ever without a deadline**.
//!
//! Long-lived connections die silently: phones sleep, NATs forget, peers stop reading, handshakes
//! drip. Here every connection has a deadline in every phase, every end has a reason, nothing is
//! lost silently, and an idle connection costs almost nothing: no buffer, no thread, no wake-up.
//! It serves WebSockets (RFC 6455) and event streams over HTTP/1.1 on one event loop. Handlers run
//! on worker threads or on the loop. It is a program, a library, and fits into a main loop of your
//! own.
//!
//! ```no_run
//! use heartwheel::{Event, Peer, Server};
//!
//! fn main() -> heartwheel::Result<()> {
//!     Server::builder()
//!         .websocket("/echo", |peer: &Peer, event: Event| {
//!             if let Event::Message(message) = event {
//!                 peer.send(message);
//!             }
//!         })
//!         .listen("127.0.0.1:8765")?
//!         .run()?;
//!     Ok(())
//! }
//! ```
//!
//! A handler with state for each connection implements [`Handler`]; [`Route`] says where it runs
//! and who may connect; [`Config`] bounds everything; [`Server::turn`] serves from another loop.
//!
//! # What to read next
//!
//! | you | read |
//! |---|---|
//! | begin | [`guide::start`]: a first program, with a handler, a topic and a test |
//! | embed it in a main loop of your own | [`guide::embedding`], in Rust and in C |
//! | configure or run the program | [`guide::configuration`], [`guide::operating`], [`guide::tls`], [`guide::proxies`], [`guide::bridges`] |
//! | answer over time, serve files, take uploads | [`guide::answers`] |
//! | keep events or sessions, or run several servers | [`guide::store`], [`guide::sessions`], [`guide::cluster`] |
//! | connect to a server | the guide's page `client`, with the feature of that name |
//! | write a client of your own | [`guide::protocol`] |
//! | choose | [`guide::performance`], [`guide::promises`], [`guide::small_machines`] |
//! | change the code | [`guide::architecture`], then the code map below |
//!
//! Of the API the first to know are [`Server`], [`Route`], [`Handler`], [`Peer`] and [`Event`]; for
//! tests [`ManualClock`] and [`MemoryNetwork`].
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | message, frame | what applications exchange; its encoded form |
//! | event, command | what the engine tells the application; what the application tells the engine |
//! | job | what a handler does next for one connection |
//! | turn, allowance | one pass of the loop; how much one turn may do |
//! | deadline | when a connection must be looked at again |
//! | service, hub | what a path serves; the service whose connections have many topics each: `/ws` |
//!
//! An event of a topic is something else: what was published, with its id.
//!
//! # The code map
//!
//! Arrows go down only; `tests/tidy.rs` checks it. The pure part, `core`, holds no socket, thread
//! or channel, and reads no clock: time is an argument. Beside its arguments it has memory, a
//! logger, and a key for its hash tables that is drawn once; no decision depends on their order. It
//! calls the closures that commands bear, for vitals and for the table of connections: what these
//! send on is theirs.
//!
//! | folder | module | holds |
//! |---|---|---|
//! | `guide` | | the pages that people read |
//! | `program`, `app` | | options, configuration file, signals, log lines; what the program serves |
//! | `ffi` | | the C interface, behind the feature of that name: `src/ffi/heartwheel.h` |
//! | `client` | | loops of clients, and one that waits, behind the feature of that name |
//! | `server` | | builder, routes, files of a folder, run, turn, the descriptor for another loop |
//! | `io` | `event_loop`, `clock`, `manual_clock` | poll, the order of a turn, the time, also by hand |
//! | | `bind`, `listener`, `refusals` | bind, accept, 503 without a slot |
//! | | `socket`, `sockets`, `transport` | socket options, the table of sockets, what carries the bytes |
//! | | `memory` | connections without a kernel |
//! | | `client` | sockets of clients, names, the wheel of their deadlines |
//! | `threads` | `handle`, `peers`, `subscription`, `watch` | commands from any thread, what is asked of peers, topics for the server's own code, and who waits for an end |
//! | | `handler`, `typed`, `stream`, `upload` | what applications write |
//! | | `dial`, `link`, `request` | to whom a client connects; what it is told and may ask; plain requests |
//! | | `sessions` | sessions that outlast connections, behind the feature of that name |
//! | | `store` | the thread that writes events of durable topics, behind the feature of that name |
//! | | `cluster` | the threads that write to Redis and read from it, behind the feature of that name |
//! | | `worker`, `job_queue` | the threads that it runs on, and who wakes them |
//! | `system` | | descriptors, memory, the process, the file of tokens, the file of the store |
//! | `core` | `engine` | all connections; `handle_*` in, `poll_*` out; the order of a turn; what each path serves |
//! | | `client` | the other end, behind the feature of that name: from the first try to the last, topics over `/ws`, event streams, plain requests |
//! | | `cluster` | the log that several servers share, behind the feature of that name: what Redis is told, and what follows from its answers |
//! | | `transport` | bytes between a socket and the engine, and how to add another kind |
//! | | `connection`, `outbox` | one connection: a machine for each protocol, its deadlines and ends; what waits to be sent |
//! | | `contract` | events, routes: what engine and application tell each other; what a log that answers later is told |
//! | | `observe` | every figure, declared once; the Prometheus text format |
//! | | `config` | the configuration: the table of keys, reading, checking, printing |
//! | | `admission` | tokens: who may publish and subscribe to what; rates |
//! | | `store` | the ring of pages that keeps events of durable topics, behind the feature of that name |
//! | | `bridge` | what a bridge has on its way in both directions, and how topics are named on the other side, behind the feature of that name |
//! | | `topics` | logs of retained events, subscriptions, replay, fan-out, readers of all topics |
//! | | `wire` | HTTP heads, bodies, responses, upgrades; WebSocket frames; event streams; messages of `/ws` |
//! | | `ground` | time, the wheel, chance, ids, reasons, JSON, numbers and bytes in text |
//!
//! # Invariants
//!
//! Each has a test that breaks when it does.
//!
//! 1. No connection without a deadline: exactly one wheel entry each, never later than the
//!    earliest.
//! 2. A deadline acts never early, and at most one tick plus the turn in progress late.
//! 3. The loop thread blocks in poll and nowhere else.
//! 4. Nothing to do, no wake-up.
//! 5. At most one job in flight for each connection, so its events come in order and its session
//!    needs no lock.
//! 6. A stale id never meets a new peer.
//! 7. Everything that grows has a limit, and grows by bytes received, never by bytes claimed.
//! 8. An idle connection owns no buffer.
//! 9. A payload is never copied for each recipient, unless it is smaller than what sharing costs. A
//!    frame is encoded once, or, if it is large, piece by piece from the payload that all share.
//! 10. Work in a turn is bounded; what is left makes the next timeout zero.
//! 11. The clock is read at the start of a turn, when a timeout is asked for, and when a C host
//!     asks for something between turns, nowhere else.
//! 12. Events of one connection are `Opened`, messages, `Closed`, each end told once with its
//!     reason.
//! 13. Nothing is lost silently: what is dropped is counted.
//!
//! The library installs no logger, no signal handler and no panic hook, starts no thread it was not
//! asked for (`workers`), and never ends the process.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[doc(hidden)]
pub mod app;
#[cfg(feature = "client")]
mod client;
#[doc(hidden)]
pub mod core;
#[cfg(feature = "ffi")]
#[doc(hidden)]
pub mod ffi;
pub mod guide;
mod io;
#[cfg(feature = "program")]
pub mod program;
mod server;
mod system;
mod threads;

/// What the README prints of Rust is compiled with the examples of the docs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(feature = "client", feature = "presence"))]
pub use crate::client::TopicMember;
#[cfg(feature = "client")]
pub use crate::client::{
    Answer, Ask, Client, ClientError, Events as TopicEvents, Links, State, TopicEvent, Why,
};
pub use crate::core::config::{self, Config};
pub use crate::core::contract::accept::{Accept, AcceptError};
pub use crate::core::contract::event::Event;
pub use crate::core::contract::offer::Offer;
pub use crate::core::contract::peer_info::PeerInfo;
pub use crate::core::contract::route::Placement;
pub use crate::core::ground::cohort::Cohort;
pub use crate::core::ground::id::ConnectionId;
pub use crate::core::ground::reason::CloseReason;
pub use crate::core::ground::trace::Trace;
pub use crate::core::observe::stats::{self, Stats};
pub use crate::core::topics::{self, Payload};
#[cfg(feature = "client")]
pub use crate::core::wire::event_reader::StreamEvent;
pub use crate::core::wire::http;
pub use crate::core::wire::message::Message;
pub use crate::io::bind::Adopted;
pub use crate::io::listener::LocalAddress;
pub use crate::io::manual_clock::ManualClock;
pub use crate::io::memory::{MemoryNetwork, MemoryPeer};
pub use crate::server::{Builder, Ended, Error, Result, Route, Server};
#[cfg(feature = "client")]
pub use crate::threads::dial::{Dial, DialError};
pub use crate::threads::handle::{Handle, SendError, Timer};
pub use crate::threads::handler::Handler;
#[cfg(feature = "client")]
pub use crate::threads::link::{Link, LinkEvent, LinkHandler, StateChange};
pub use crate::threads::peer::{Peer, Sent};
#[cfg(feature = "streams")]
pub use crate::threads::record::Record;
#[cfg(all(feature = "sessions", feature = "cluster"))]
pub use crate::threads::sessions::RedisSessions;
#[cfg(all(feature = "sessions", feature = "sqlite"))]
pub use crate::threads::sessions::SqliteSessions;
#[cfg(feature = "sessions")]
pub use crate::threads::sessions::{
    BadSession, Claim, Claimed, Listener, MemorySessions, Resume, Save, Saved, SessionId,
    SessionKey, SessionStore, StoreError, TypedResume, Unsaved,
};
#[cfg(feature = "streams")]
pub use crate::threads::stream::{Body, Events, StreamError};
pub use crate::threads::subscription::{Heard, ReceiveError, Retained, Subscription, Topic};
pub use crate::threads::typed::{BadMessage, Codec, Typed, TypedHandler, TypedPeer};
#[cfg(feature = "streams")]
pub use crate::threads::upload::Upload;
pub use tungstenite::{Bytes, Utf8Bytes};
