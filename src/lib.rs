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
//! | configure or run the program | [`guide::configuration`], [`guide::operating`], [`guide::proxies`] |
//! | write a client | [`guide::protocol`] |
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
//! | turn, budget | one pass of the loop; how much one turn may do |
//! | deadline | when a connection must be looked at again |
//!
//! An event of a topic is something else: what was published, with its id.
//!
//! # The code map
//!
//! Arrows go down only. The pure part holds no socket, thread or channel, and reads no clock: time
//! is an argument. Beside its arguments it has memory, a logger, and a key for its hash tables that
//! is drawn once; no decision depends on their order. It calls the closures that commands bear, for
//! vitals and for the table of connections: what these send on is theirs.
//!
//! | part | module | holds |
//! |---|---|---|
//! | pages | [`guide`] | what people read |
//! | faces | [`program`], [`app`] | options, configuration file, signals, log lines; what the program serves |
//! | | `ffi` | the C interface, behind the feature of that name: `src/ffi/heartwheel.h` |
//! | own threads | `server` | builder, run, turn, the descriptor for another loop |
//! | | `handle` | commands from any thread |
//! | | `handler`, `worker` | what applications write, and the threads it runs on |
//! | own I/O | `event_loop`, `clock`, `manual_clock` | poll, the order of a turn, the time, also by hand |
//! | | `bind`, `listener`, `refusals` | bind, accept, 503 without a slot |
//! | | `socket`, `sockets` | socket options, the table of sockets |
//! | | `descriptors`, `token_file` | how many connections there is room for; the file of tokens |
//! | | `memory` | connections without a kernel |
//! | | [`pump`], [`transport`] | bytes between a socket and the engine; what carries them, and how to add another |
//! | | `process`, `machine` | what the kernel tells of the process; how much memory it may use |
//! | pure | [`engine`], `connection` | all connections; `handle_*` in, `poll_*` out |
//! | | [`heartbeat`], [`outbox`], [`bucket`], `rates`, [`route`], [`stats`], [`event`] | what a connection consists of |
//! | | [`tokens`] | who may publish, and who may subscribe, to what |
//! | | [`topics`] | logs of retained events, subscriptions, replay, fan-out |
//! | | [`http`], [`ws`] | heads, bodies, responses, upgrades; frames and close |
//! | | [`sse`], [`envelope`] | event streams; the JSON messages of `/ws` |
//! | | [`json`], [`payload`] | checking and writing JSON; what an event bears |
//! | | [`figures`], [`metrics`] | every figure, declared once; the Prometheus text format |
//! | | [`encoded`] | payloads inside of a text, encoded at once or as a socket takes them |
//! | | [`wheel`], [`time`], [`random`], [`id`], [`reason`], [`frame`], [`message`], [`config`] | the ground |
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

pub mod app;
mod bind;
pub mod bucket;
mod clock;
pub mod config;
mod connection;
mod descriptors;
pub mod encoded;
pub mod engine;
pub mod envelope;
pub mod event;
mod event_loop;
#[cfg(feature = "ffi")]
pub mod ffi;
pub mod figures;
pub mod frame;
pub mod guide;
mod handle;
mod handler;
pub mod heartbeat;
pub mod http;
pub mod id;
pub mod json;
mod listener;
mod machine;
mod manual_clock;
mod memory;
pub mod message;
pub mod metrics;
pub mod outbox;
pub mod payload;
mod process;
#[cfg(feature = "program")]
pub mod program;
pub mod pump;
pub mod random;
mod rates;
pub mod reason;
mod refusals;
pub mod route;
mod server;
mod socket;
mod sockets;
pub mod sse;
pub mod stats;
pub mod time;
mod token_file;
pub mod tokens;
pub mod topics;
pub mod transport;
pub mod wheel;
mod worker;
pub mod ws;

/// What the README prints of Rust is compiled with the examples of the docs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bind::Adopted;
pub use config::Config;
pub use event::{Accept, Event};
pub use handle::{Handle, Peer, SendError, Sent};
pub use handler::Handler;
pub use id::ConnectionId;
pub use listener::LocalAddress;
pub use manual_clock::ManualClock;
pub use memory::{MemoryNetwork, MemoryPeer};
pub use message::Message;
pub use reason::CloseReason;
pub use route::Placement;
pub use server::{Builder, Ended, Error, Result, Route, Server};
pub use stats::Stats;
pub use topics::Payload;
pub use tungstenite::{Bytes, Utf8Bytes};
