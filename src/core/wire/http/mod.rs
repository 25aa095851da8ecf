//! HTTP/1.1 (RFC 9110, RFC 9112): requests in, responses out, and the step to a WebSocket; and for
//! clients the other way round.
//!
//! It is pure: bytes in, values out; no socket and no clock. A connection uses it in this order:
//!
//! ```text
//! bytes ──► HeadReader ──► Head ──► BodyReader ──► Request ──► Hosts, Origins ──► upgrade ──► 101
//!                │                      │                           │                │
//!                └──────────────────────┴──── Refusal ──► Response ◄┴────────────────┘
//! ```
//!
//! ```text
//! OutgoingRequest ──► bytes ──► ResponseReader ──► ResponseHead ──► BodyReader, or check_switch
//! ```
//!
//! The readers take pieces of any size, and their verdict does not depend on how the bytes were
//! cut. They look at each byte once and hold no more than they received. After a [`Refusal`] of a
//! reader nothing more can be read on the connection. Where senders and readers have disagreed in
//! the past, and requests were smuggled between them, the readers do not guess: they answer 400.
//!
//! Left out: routes, HTTP/2, content codings, WebSocket extensions (the answer names none, which
//! declines them, unless `deflate` has agreed on one).

mod accept;
mod accept_key;
mod authority;
mod bearer;
mod body;
#[cfg(feature = "sessions")]
mod borne;
mod buffer;
mod chunks;
mod cors;
mod forwarded;
mod framing;
mod head;
mod header_lines;
mod headers;
mod hosts;
mod method;
mod origins;
mod outgoing;
pub(crate) mod path;
mod percent;
mod refusal;
mod request;
mod response;
mod response_head;
mod scan;
mod source;
mod switch;
mod syntax;
mod target;
mod upgrade;

pub use accept::{Wanted, wanted};
#[cfg(feature = "client")]
pub(crate) use authority::Authority;
pub use bearer::bearer;
pub use body::BodyReader;
#[cfg(feature = "sessions")]
pub(crate) use borne::Borne;
pub use cors::{Cors, is_preflight, preflight};
pub use forwarded::Forwarded;
pub use framing::{Asked, BodyLength, Version, check_encoding};
#[cfg(test)]
pub(crate) use head::tests::request as test_request;
pub use head::{Head, HeadReader};
pub use header_lines::{HeaderError, HeaderLines};
pub use hosts::{Hosts, HostsError};
pub use method::Method;
pub use origins::{Admitted, Origins, OriginsError};
pub use outgoing::{OutgoingRequest, RequestError};
pub use percent::percent_decode;
pub use refusal::Refusal;
pub use request::Request;
pub(crate) use response::Shape;
pub use response::{CONTINUE, Caching, Response, Wire, chunk, date};
pub use response_head::{ResponseError, ResponseHead, ResponseReader};
pub use scan::HeadLimits;
pub use source::{AnySource, Next, PIECE_BYTES, Pipe, Piped, Source, Waker};
#[cfg(feature = "client")]
pub(crate) use switch::check_switch_with;
pub use switch::{SwitchError, UpgradeKey, check_switch};
#[cfg(any(feature = "ffi", feature = "client"))]
pub(crate) use syntax::is_field_value;
pub(crate) use syntax::is_token;
pub use upgrade::{
    Accepted, choose_protocol, may_name, offers_websocket, switching_protocols, upgrade,
    wants_websocket,
};
