//! What clients ask to be published where a hook of the application decides.
//!
//! ```text
//!   POST, /ws, a WebSocket of a topic ──► Offered ──► the hook ──► Verdict
//!                                                                      │
//!                                             published, or refused ◄──┘
//! ```
//!
//! Those of a WebSocket wait in its inbox, as messages for a handler do: so they keep their order,
//! at most one job of a connection is out, and a client that publishes faster than the hook decides
//! is not read. What a client of `/ws` has published before and sends again is no offer: its answer
//! is known, and may overtake those to offers that are earlier on the connection.

use std::borrow::Cow;

use crate::core::ground::identity::Author;
use crate::core::ground::trace::Trace;
use crate::core::topics::{Name, Payload};
use crate::core::wire::http::Refusal;
use crate::core::wire::hub::ErrorCode;

/// What a client asks to be published: given to the hook of
/// [`Route::on_publish`](crate::Route::on_publish).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Offer {
    /// The topic. It has a good name and is none of the server's own, and the client may publish to
    /// it.
    pub topic: Name,
    /// What is to be published, as the client gave it.
    pub payload: Payload,
    /// The trace context that came with it. It goes on with what the hook makes of the offer.
    pub trace: Option<Trace>,
}

/// What a hook makes of an offer: what is to be published in its place, nothing because the hook
/// has taken it over, or a refusal.
pub type Verdict = Result<Option<Payload>, Refusal>;

/// An offer on its way to the hook.
#[derive(Clone, Debug)]
pub enum Offered {
    /// The hook decides.
    Open(Offer, Offerer),
    /// It was refused without the hook, which has still to decide on earlier ones of the same
    /// client of `/ws`: the answer waits for theirs.
    Refused(ErrorCode, Cow<'static, str>, Offerer),
}

/// How the client that made an offer is told the verdict.
#[derive(Clone, Debug)]
pub enum Offerer {
    /// By the answer to its request.
    Post,
    /// By a message of `/ws`.
    Hub(HubOfferer),
    /// Only of a refusal: its WebSocket ends.
    Plain,
}

/// A client of `/ws` that has made an offer.
#[derive(Clone, Debug)]
pub struct HubOfferer {
    /// Its `ref`: JSON, raw.
    pub reference: Option<Box<str>>,
    /// By what the offer is known if it is made again.
    pub(crate) known_by: Option<(Author, i64)>,
}

impl Offered {
    /// Returns the bytes of the payload.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Offered::Open(offer, _) => offer.payload.len(),
            Offered::Refused(..) => 0,
        }
    }
}
