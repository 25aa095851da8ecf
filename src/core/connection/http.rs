//! A request, from its first byte to the last of its answer.

use tungstenite::Bytes;

use crate::core::connection::allowance::Allowance;
use crate::core::connection::closing::Closing;
use crate::core::connection::effect::Effect;
use crate::core::connection::flags::{Flags, Leaving};
use crate::core::connection::phase::Phase;
use crate::core::connection::receive::{Decoded, Received};
use crate::core::connection::{Connection, Posted, RouteIndex};
use crate::core::contract::event::Place;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, Moment};
use crate::core::topics::EventId;
use crate::core::wire::http::{
    BodyReader, Caching, Cors, HeadReader, HeaderLines, Refusal, Request,
};

/// A request whose body is being received.
#[derive(Debug)]
pub(crate) struct Body {
    pub request: Request,
    pub reader: BodyReader,
    /// The payload to publish, which is taken from the reader as it comes.
    pub posted: Option<Box<Posted>>,
    pub pending: Pending,
}

impl Body {
    /// Reads as [`BodyReader::read`] does. What is published is checked, and none of it is left in
    /// the reader.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Bytes>), Refusal> {
        let (used, whole) = self.reader.read(input)?;
        let Some(posted) = &mut self.posted else { return Ok((used, whole)) };
        let piece = match &whole {
            Some(piece) => piece.clone(),
            None => self.reader.take().into(),
        };
        posted.push(&piece, self.reader.outstanding());
        Ok((used, whole))
    }

    /// Takes a part of the body, or its end.
    pub(super) fn receive(&mut self, input: &[u8], allowance: &mut Allowance) -> Decoded {
        if self.posted.is_some() {
            allowance.charge_checked(input.len());
        }
        match self.read(input) {
            Ok((used, bytes)) => {
                Decoded { found: bytes.map(Received::Body), ..Decoded::nothing(used) }
            }
            Err(refusal) => {
                let found = Some(Received::Refusal { refusal, is_for_head: false });
                Decoded { found, ..Decoded::nothing(input.len()) }
            }
        }
    }

    /// Returns the heap bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        let posted = self.posted.as_ref().map_or(0, |posted| posted.held_bytes());
        self.reader.held_bytes() + posted
    }
}

/// What is known of a request until it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// When the connection was accepted, or the first byte of this request came.
    pub began_at: Moment,
    pub is_http10: bool,
    pub route: usize,
    pub keep: bool,
    pub head_only: bool,
    /// What the answer owes to a page of another origin.
    pub cors: Cors,
    /// What caches may do with the answer.
    pub caching: Caching,
    /// The request, until a handler takes it.
    pub request: Option<Box<Request>>,
    /// The request waits for the opinion of a service, and no handler takes it.
    #[cfg(feature = "client")]
    pub is_asked: bool,
    /// The bytes of the body, when a handler has taken the request.
    pub given_bytes: usize,
    /// The accept key of an upgrade, and the first subprotocol that was offered and is configured.
    pub upgrade: Option<(String, Option<String>)>,
    /// The body of the request, if it is to be published.
    pub posted: Option<Box<Posted>>,
    /// `authorize` has let the request in.
    pub is_judged: bool,
    /// What `authorize` adds to the answer.
    pub lines: HeaderLines,
}

impl Pending {
    /// Returns the bytes of the request's body, also while its handler has it.
    pub fn request_bytes(&self) -> usize {
        let waiting = self.request.as_ref().map(|request| request.body().len());
        waiting.unwrap_or(self.given_bytes)
    }
}

/// An answer that is under way.
#[derive(Debug)]
pub(crate) struct Answering {
    /// The next request may come behind the answer.
    pub keep: bool,
    pub reason: CloseReason,
    /// What is still to be made of the answer.
    pub more: Option<Listing>,
}

impl Answering {
    /// The last answer of a connection.
    pub fn last(reason: CloseReason) -> Answering {
        Answering { keep: false, reason, more: None }
    }

    /// Returns whether another request may come behind the answer.
    pub fn is_kept(&self) -> bool {
        self.keep && self.more.is_none()
    }

    /// Returns what follows when all that was made of the answer is with the kernel: its next
    /// slice, the next request, or FIN.
    pub fn advance(&self, flags: Flags) -> Effect {
        if self.more.is_some() {
            Effect::ListOn
        } else if flags.reading.has_ended() {
            Effect::Finish(self.reason)
        } else if self.keep && flags.leaving != Leaving::Draining {
            Effect::ReadOn
        } else {
            Effect::HangUp(self.reason)
        }
    }
}

/// An answer that is made in slices, as its connection takes it.
#[derive(Debug)]
pub(crate) struct Listing {
    pub rest: Rest,
    /// The answer goes in chunks (RFC 9112, 7.1); else it ends with the connection.
    pub is_chunked: bool,
}

/// What is left of an answer in slices.
#[derive(Debug)]
pub(crate) enum Rest {
    /// The table of connections, from this place on.
    Table(Place),
    /// The events of a topic.
    History(Box<History>),
    /// What a source gives: see [`Sourced`](super::Sourced).
    Source,
}

/// The events of a topic that are still to be sent, up to the one that was the newest when the
/// request came.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub topic: String,
    /// The id of the last event that was sent, or the position asked for.
    pub after: EventId,
    pub until: EventId,
    /// Some events were sent.
    pub has_rows: bool,
}

/// From one step of a request to the next.
impl Connection {
    /// Begins another request, with the deadline of its head.
    pub(super) fn begin_request(&mut self, now: Instant, reader: HeadReader) {
        self.route = None;
        self.enter(now, Phase::Head { reader, first: false });
    }

    /// Begins the body of a request whose head is complete.
    pub fn begin_body(&mut self, now: Instant, body: Body) {
        debug_assert!(self.route.is_none(), "a request is routed when it is complete");
        self.enter(now, Phase::Body(Box::new(body)));
    }

    /// Returns the route whose limits and deadlines hold now: a request has one from the end of its
    /// head to that of its answer.
    pub fn ruling_route(&self) -> Option<RouteIndex> {
        match &self.phase {
            Phase::Body(body) => RouteIndex::new(body.pending.route),
            Phase::KeepAlive { .. } => None,
            _ => self.route,
        }
    }

    /// Takes a request whose body is complete; it is to be decided on.
    pub fn take_body(&mut self, bytes: Bytes) -> Option<(Request, Pending)> {
        // The phase of a request without a body: such a request is decided on at once.
        let complete = Phase::Head { reader: HeadReader::default(), first: false };
        match std::mem::replace(&mut self.phase, complete) {
            Phase::Body(body) => {
                let Body { mut request, posted, mut pending, .. } = *body;
                pending.posted = posted;
                request.set_body(bytes);
                Some((request, pending))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Has a complete request wait for its answer.
    pub fn begin_deciding(&mut self, now: Instant, pending: Pending) {
        debug_assert!(pending.request.is_none(), "what is asked is given it then");
        self.route = RouteIndex::new(pending.route);
        self.enter(now, Phase::Deciding(Box::new(pending)));
    }

    /// Keeps a request for the handler that is to decide on it.
    pub fn keep_request(&mut self, request: Box<Request>) {
        debug_assert!(!self.has_job(), "one request at a time");
        if let Some(pending) = self.pending_mut() {
            pending.request = Some(request);
        }
    }

    /// Has a request wait for the opinion of a service.
    #[cfg(feature = "client")]
    pub fn await_opinion(&mut self, request: Box<Request>) {
        if let Some(pending) = self.pending_mut() {
            pending.is_asked = true;
            pending.request = Some(request);
        }
    }

    /// Returns whether its request waits for the opinion of a service.
    #[cfg(feature = "client")]
    pub fn is_asked(&self) -> bool {
        matches!(&self.phase, Phase::Deciding(pending) if pending.is_asked)
    }

    /// Takes the request that waits for the opinion of a service.
    #[cfg(feature = "client")]
    pub fn take_asked(&mut self) -> Option<Box<Request>> {
        let pending = self.pending_mut().filter(|pending| pending.is_asked)?;
        pending.is_asked = false;
        pending.request.take()
    }

    /// Returns the bytes of the request that its handler was given.
    pub fn given_bytes(&self) -> usize {
        let uploaded = self.upload_given_bytes();
        match &self.phase {
            Phase::Deciding(pending) => pending.given_bytes + uploaded,
            _ => uploaded,
        }
    }

    /// Takes the request that waits for a handler, with what is known of it.
    pub fn take_request(&mut self) -> Option<(Box<Request>, &Pending)> {
        let pending = self.pending_mut()?;
        let request = pending.request.take()?;
        pending.given_bytes = request.body().len();
        Some((request, pending))
    }

    /// Takes what is known of the request that is decided on: its answer follows.
    pub fn take_pending(&mut self) -> Option<Pending> {
        self.pending_mut().map(std::mem::take)
    }

    /// Goes on with a request that was let in.
    pub fn go_on(&mut self, pending: Pending) {
        debug_assert!(pending.request.is_none(), "what was asked has given it back");
        if let Some(place) = self.pending_mut() {
            *place = pending;
        }
    }

    /// Has a request that publishes wait for the answer of a log.
    pub fn await_log(&mut self, pending: Pending) {
        debug_assert!(pending.posted.is_none(), "what it publishes is with the log");
        if let Some(place) = self.pending_mut() {
            *place = pending;
        }
    }

    /// Takes what is known of the refused request. An answer to HEAD has no body, whatever its
    /// headers say. The connection ends behind the answer.
    pub fn give_up_request(&mut self) -> Pending {
        let pending = match &mut self.phase {
            Phase::Body(body) => std::mem::take(&mut body.pending),
            Phase::Upload(pending) | Phase::Deciding(pending) => std::mem::take(&mut **pending),
            Phase::Head { reader, .. } => {
                Pending { head_only: reader.is_for_head(&[]), ..Pending::default() }
            }
            _ => Pending::default(),
        };
        Pending { keep: false, ..pending }
    }

    /// Has the connection end behind the answer to its present request, if it has one.
    pub fn end_behind_answer(&mut self) -> bool {
        match &mut self.phase {
            Phase::Deciding(pending) => pending.keep = false,
            Phase::Answering(answering) => answering.keep = false,
            _ => return false,
        }
        true
    }

    /// Returns whether a request waits for its handler, or is with its handler.
    pub fn is_deciding(&self) -> bool {
        matches!(self.phase, Phase::Deciding(_))
    }

    /// Has a refused upgrade end the connection.
    pub fn end_behind_upgrade(&mut self) {
        if let Some(pending) = self.pending_mut() {
            pending.keep &= pending.upgrade.is_none();
        }
    }

    /// Takes note that an answer, or the beginning of one, has been queued.
    pub fn begin_answer(&mut self, now: Instant, answering: Answering) {
        debug_assert!(answering.reason == CloseReason::Done || !answering.keep, "kept or ended");
        self.enter(now, answering);
    }

    /// Names the fault for which the answer is a refusal.
    pub fn blame(&mut self, reason: CloseReason) {
        if let Some(answering) = self.answering_mut() {
            debug_assert!(!answering.keep, "a request that is at fault is the last one");
            answering.reason = reason;
        }
    }

    /// Returns what is still to be made of an answer; `None` if nothing is.
    pub fn listing_mut(&mut self) -> Option<&mut Listing> {
        self.answering_mut()?.more.as_mut()
    }

    /// Returns whether the answer under way goes in chunks.
    pub fn is_chunked(&self) -> bool {
        match &self.phase {
            Phase::Answering(answering) => {
                answering.more.as_ref().is_some_and(|listing| listing.is_chunked)
            }
            _ => self.ends_by_chunk(),
        }
    }

    /// Takes note that the next slice of an answer is being made, or waits for the turn's
    /// allowance: not for the peer.
    pub fn note_listing(&mut self, now: Instant) {
        debug_assert!(self.is_listing(), "there is an answer in slices");
        self.phase_at = now.into();
    }

    /// Takes note of what is still to be made of an answer behind a slice.
    pub fn list_on(&mut self, rest: Option<Rest>) {
        if let Some(answering) = self.answering_mut() {
            debug_assert!(answering.more.is_some(), "a slice is of an answer that has more");
            answering.more =
                answering.more.take().zip(rest).map(|(listing, rest)| Listing { rest, ..listing });
        }
    }

    /// Returns whether the answer to the connection's request has more to come.
    pub fn is_listing(&self) -> bool {
        match &self.phase {
            Phase::Answering(answering) => answering.more.is_some(),
            _ => self.sourced().is_some(),
        }
    }

    /// Waits for the next request.
    pub fn keep_alive(&mut self, now: Instant) {
        debug_assert!(self.outbox.is_empty(), "the answer has left");
        self.forget_upload();
        self.enter(now, Phase::KeepAlive { blank: 0 });
    }

    /// Returns whether the next bytes are a request's.
    pub(super) fn is_requesting(&self) -> bool {
        use Phase::{Body, Head, KeepAlive, Upload};
        matches!(self.phase, Head { .. } | KeepAlive { .. } | Body(_) | Upload(_))
    }

    /// Begins to end a connection that has nothing more to say, with FIN. Returns false if
    /// something still waits (`100 Continue`): then FIN goes behind that.
    pub fn hang_up(&mut self, now: Instant, reason: CloseReason) -> bool {
        let is_silent = self.outbox.is_empty();
        match is_silent {
            true => self.enter(now, Closing::lingering(reason)),
            false => self.enter(now, Answering::last(reason)),
        }
        is_silent
    }
}
