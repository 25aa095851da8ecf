//! The phase of a connection, and the machine that takes its turn in each. Only this module and its
//! neighbours here name a phase. The engine asks, tells, and does what a connection asks for
//! ([`Effect`](super::effect::Effect)).

use crate::core::config::Limits;
use crate::core::connection::closing::Closing;
use crate::core::connection::effect::Effect;
use crate::core::connection::event_stream::EventStream;
use crate::core::connection::flags::{Asking, Leaving};
use crate::core::connection::http::{Answering, Body, Listing, Pending, Rest};
use crate::core::connection::receive::{Context, Decoded};
use crate::core::connection::websocket::WebSocket;
use crate::core::connection::{Connection, Inbox, Turn};
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::PhaseName;
use crate::core::wire::http::HeadReader;

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// A request head is awaited or has begun.
    Head { reader: HeadReader, first: bool },
    /// An answer has been written; the next request has not begun. The number counts bytes of empty
    /// lines that have come: they are ignored and begin no request.
    KeepAlive { blank: u8 },
    /// The head is complete, the body is not.
    Body(Box<Body>),
    /// The body is received, and handed to the handler in pieces.
    Upload(Box<Pending>),
    /// The request is complete; the handler, or the verdict on the upgrade, is awaited.
    Deciding(Box<Pending>),
    /// The answer is in the outbox, or what has been made of it so far.
    Answering(Answering),
    /// WebSocket.
    Open(WebSocket),
    /// An event stream: nothing more is expected of the peer.
    Stream(EventStream),
    /// Ending.
    Closing(Closing),
}

impl Phase {
    /// The phase in which a connection begins.
    pub fn first() -> Phase {
        Phase::Head { reader: HeadReader::default(), first: true }
    }

    /// Returns whether no byte of a request has come since the connection, or its last answer.
    pub fn is_silent(&self) -> bool {
        match self {
            Phase::Head { reader, .. } => reader.is_idle(),
            Phase::KeepAlive { .. } => true,
            _ => false,
        }
    }
}

impl From<Answering> for Phase {
    fn from(answering: Answering) -> Phase {
        Phase::Answering(answering)
    }
}

impl From<WebSocket> for Phase {
    fn from(websocket: WebSocket) -> Phase {
        Phase::Open(websocket)
    }
}

impl From<EventStream> for Phase {
    fn from(stream: EventStream) -> Phase {
        Phase::Stream(stream)
    }
}

impl From<Closing> for Phase {
    fn from(closing: Closing) -> Phase {
        Phase::Closing(closing)
    }
}

/// The machine of a connection; `None` in another phase. For the machines themselves.
impl Connection {
    pub(super) fn pending_mut(&mut self) -> Option<&mut Pending> {
        match &mut self.phase {
            Phase::Deciding(pending) => Some(pending),
            _ => None,
        }
    }

    pub(super) fn answering_mut(&mut self) -> Option<&mut Answering> {
        match &mut self.phase {
            Phase::Answering(answering) => Some(answering),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn websocket(&self) -> Option<&WebSocket> {
        match &self.phase {
            Phase::Open(websocket) => Some(websocket),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn websocket_mut(&mut self) -> Option<&mut WebSocket> {
        match &mut self.phase {
            Phase::Open(websocket) => Some(websocket),
            _ => None,
        }
    }

    /// Lends an open WebSocket beside the inbox.
    pub(super) fn websocket_and_inbox(&mut self) -> Option<(&WebSocket, &mut Option<Box<Inbox>>)> {
        match &self.phase {
            Phase::Open(websocket) => Some((websocket, &mut self.inbox)),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn stream(&self) -> Option<&EventStream> {
        match &self.phase {
            Phase::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn stream_mut(&mut self) -> Option<&mut EventStream> {
        match &mut self.phase {
            Phase::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn closing(&self) -> Option<&Closing> {
        match &self.phase {
            Phase::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    pub(super) fn closing_mut(&mut self) -> Option<&mut Closing> {
        match &mut self.phase {
            Phase::Closing(closing) => Some(closing),
            _ => None,
        }
    }
}

/// What is asked of a connection in every phase.
impl Connection {
    /// Returns whether the connection is a WebSocket whose end has not begun.
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Returns whether the connection is an event stream whose end has not begun.
    #[inline]
    pub fn is_stream(&self) -> bool {
        matches!(self.phase, Phase::Stream(_))
    }

    /// Returns whether the connection is a WebSocket or an event stream whose end has not begun.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.is_open() || self.is_stream()
    }

    /// Returns whether what the handler says may reach the client, and no end has begun: neither
    /// has the client ended its side, nor is the connection being ended. An answer that a drain
    /// waits for is of use.
    pub fn is_of_use(&self) -> bool {
        let is_ended = match &self.phase {
            Phase::Closing(_) => true,
            Phase::Open(_) => self.flags.leaving == Leaving::Draining,
            // Its handler is not asked any more: a deadline, or another cause, was faster.
            Phase::Answering(answering) => !answering.keep && answering.reason != CloseReason::Done,
            _ => false,
        };
        // Mostly nothing is read of a request's connection until it is answered: an end that is
        // only announced counts.
        !is_ended && !self.flags.reading.is_ending()
    }

    /// Returns whether the answer under way is made of pieces from a source, if it has one.
    pub(super) fn takes_pieces(&self) -> bool {
        match &self.phase {
            Phase::Answering(answering) => {
                matches!(answering.more, Some(Listing { rest: Rest::Source, .. }))
            }
            phase => matches!(phase, Phase::Stream(_)),
        }
    }

    /// Returns whether the body of a request comes in pieces for its handler.
    pub fn is_uploading(&self) -> bool {
        matches!(self.phase, Phase::Upload(_))
    }

    /// Returns whether the close handshake, or what stands for it, has begun.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Returns the phase, in the words of an operator.
    pub fn name_of_phase(&self) -> PhaseName {
        match &self.phase {
            Phase::Head { first: true, .. } => PhaseName::Handshake,
            Phase::Head { .. }
            | Phase::KeepAlive { .. }
            | Phase::Body(_)
            | Phase::Upload(_)
            | Phase::Deciding(_)
            | Phase::Answering(_) => PhaseName::Request,
            Phase::Open(_) | Phase::Stream(_) => PhaseName::Open,
            Phase::Closing(_) => PhaseName::Closing,
        }
    }

    /// Returns whether the peer may begin something now, a request or a message, but has not.
    pub fn is_between_messages(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.decoder.is_idle(),
            phase => phase.is_silent(),
        }
    }

    /// Returns whether nothing may be decoded now: the application is behind, a request is in
    /// progress, or the peer has sent too much.
    #[inline]
    pub fn is_behind(&self, limits: &Limits) -> bool {
        if self.reads_at().is_some() {
            return true;
        }
        match &self.phase {
            Phase::Head { .. } | Phase::KeepAlive { .. } | Phase::Body(_) | Phase::Stream(_) => {
                false
            }
            Phase::Upload(_) => self.is_upload_held(limits),
            Phase::Deciding(_) | Phase::Answering(_) => true,
            Phase::Open(_) => {
                self.flags.leaving == Leaving::Draining
                    || self.flags.asking == Asking::Enough
                    || self.inbox.as_ref().is_some_and(|inbox| inbox.is_full(limits))
            }
            Phase::Closing(closing) => closing.is_behind(),
        }
    }

    /// Returns whether messages for the peer are still queued.
    #[inline]
    pub fn takes_messages(&self) -> bool {
        match &self.phase {
            Phase::Open(_) => true,
            Phase::Closing(closing) => closing.is_handling(),
            _ => false,
        }
    }

    /// Returns whether something waits for the handler.
    pub fn has_job(&self) -> bool {
        match &self.phase {
            #[cfg(feature = "client")]
            Phase::Deciding(pending) if pending.is_asked => false,
            Phase::Deciding(pending) => pending.request.is_some() || self.has_step(),
            Phase::Upload(_) => self.has_step(),
            Phase::Answering(_) | Phase::Stream(_) => {
                self.sourced().is_some_and(|sourced| sourced.turn == Turn::Queued)
            }
            _ => self.inbox.as_ref().is_some_and(|inbox| !inbox.events.is_empty()),
        }
    }

    /// Returns the bytes of a head, a body or a message that has not come as a whole.
    pub fn partial_bytes(&self) -> usize {
        let uploaded = self.upload_held_bytes();
        uploaded
            + match &self.phase {
                Phase::Head { reader, .. } => reader.held_bytes(),
                Phase::Body(body) => body.held_bytes(),
                Phase::Open(open) => open.decoder.held_bytes(),
                Phase::Closing(closing) => closing.held_bytes(),
                Phase::KeepAlive { .. }
                | Phase::Upload(_)
                | Phase::Deciding(_)
                | Phase::Answering(_)
                | Phase::Stream(_) => 0,
            }
    }

    /// Returns the bytes of the request that is decided on.
    pub fn request_bytes(&self) -> usize {
        let given = self.upload_given_bytes();
        match &self.phase {
            Phase::Deciding(pending) => pending.request_bytes() + given,
            _ => given,
        }
    }
}

/// What a connection takes from its peer.
impl Connection {
    /// Takes bytes of the peer: one head, body or frame, or a part of it. Of messages for a handler
    /// it takes as many as there is room for, since they come in masses.
    #[inline]
    pub fn receive(&mut self, input: &mut [u8], context: Context<'_, '_>) -> Decoded {
        match &mut self.phase {
            Phase::Open(open) => {
                let Connection { inbox, session, outbox, .. } = self;
                let taken = open.receive(input, inbox, session, outbox, context);
                self.counters.messages_in += taken.messages;
                taken
            }
            Phase::KeepAlive { blank } => {
                let used = HeadReader::blank_bytes(*blank, input);
                *blank += used as u8;
                if used < input.len() {
                    let reader = HeadReader::behind_blank(*blank, context.head_limits);
                    self.begin_request(context.now, reader);
                }
                Decoded::nothing(used)
            }
            Phase::Head { reader, .. } => Decoded::head(reader, input, context.head_limits),
            Phase::Body(body) => body.receive(input, context.allowance),
            Phase::Upload(_) => self.receive_upload(context.now, input, context.limits),
            Phase::Closing(closing) => closing.receive(input),
            // A request pipelined behind the last answer is never answered.
            Phase::Stream(_) => Decoded::nothing(input.len()),
            Phase::Deciding(_) | Phase::Answering(_) => Decoded::nothing(0),
        }
    }

    /// Takes `len` bytes that were read into the room that [`Connection::lend`] lent.
    pub fn receive_lent(&mut self, len: usize, context: Context<'_, '_>) -> Decoded {
        let Phase::Open(open) = &mut self.phase else { return Decoded::nothing(len) };
        let Connection { inbox, session, outbox, .. } = self;
        let taken = open.filled(len, inbox, session, outbox, context);
        self.counters.messages_in += taken.messages;
        taken
    }

    /// Takes the end of what the peer sends.
    pub fn receive_eof(&mut self) -> Effect {
        self.flags.reading.end();
        match &self.phase {
            Phase::Head { .. } | Phase::Body(_) | Phase::Stream(_) => {
                Effect::Finish(CloseReason::Eof)
            }
            Phase::KeepAlive { .. } => Effect::Finish(CloseReason::Done),
            Phase::Upload(_) => self.advance(),
            // A client may end its side and still want the answer.
            Phase::Deciding(_) | Phase::Answering(_) => Effect::None,
            Phase::Open(_) => Effect::CloseWhenHandled(CloseReason::Eof),
            Phase::Closing(closing) => closing.receive_eof(),
        }
    }

    /// Returns what follows for the connection without new input: behind an answer that has been
    /// sent, or for a close that nothing holds up.
    pub fn advance(&self) -> Effect {
        let is_written = self.outbox.is_empty();
        match &self.phase {
            Phase::Answering(answering) if is_written => answering.advance(self.flags),
            Phase::Stream(_) if is_written && self.wants_piece() => Effect::ListOn,
            Phase::Upload(_) if self.is_upload_cut() => Effect::Finish(CloseReason::Eof),
            Phase::Open(_) if self.flags.leaving == Leaving::Draining => {
                match is_written && self.is_handled() {
                    true => Effect::CloseDrained,
                    false => Effect::None,
                }
            }
            Phase::Closing(closing) if closing.is_handling() && self.is_handled() => {
                closing.advance(is_written, self.flags.writing.has_room())
            }
            _ => Effect::None,
        }
    }

    /// Returns the reason that stays when the connection ends, whatever cuts the rest short; `None`
    /// if none does.
    pub fn reason_so_far(&self) -> Option<CloseReason> {
        match &self.phase {
            // A clean reason of the server that the peer was not told gives way to what cuts it
            // short.
            Phase::Closing(closing) => closing.is_final().then_some(closing.reason),
            Phase::Answering(answering) => {
                Some(answering.reason).filter(|reason| *reason != CloseReason::Done)
            }
            _ => None,
        }
    }

    /// Moves on to another phase; its deadline counts from `now`.
    pub(super) fn enter(&mut self, now: Instant, phase: impl Into<Phase>) {
        let phase = phase.into();
        debug_assert!(self.may_enter(&phase), "{:?} does not follow {:?}", phase, self.phase);
        self.phase = phase;
        self.phase_at = now.into();
        self.flags.relink = true;
        self.drop_source();
        if let Some(rates) = self.rates_mut() {
            // Rates judge what is read from now on anew.
            rates.read_at = None;
        }
    }

    /// Returns whether a phase may follow the one that the connection is in: the arrows of the
    /// graph.
    fn may_enter(&self, next: &Phase) -> bool {
        match (&self.phase, next) {
            (Phase::KeepAlive { .. }, Phase::Head { first, .. }) => !first,
            (Phase::Head { .. }, Phase::Body(_) | Phase::Deciding(_)) => true,
            (Phase::Answering(answering), Phase::KeepAlive { .. }) => answering.is_kept(),
            (Phase::Deciding(_), Phase::Open(_) | Phase::Stream(_) | Phase::Upload(_)) => true,
            (Phase::Upload(_), Phase::Deciding(_)) => true,
            // An answer or a refusal, also a refusal where no request has come.
            (Phase::Open(_) | Phase::Closing(_), Phase::Answering(_)) => false,
            (_, Phase::Answering(_)) => true,
            // The peers in all other phases are told by FIN alone.
            (Phase::Open(_), Phase::Closing(closing)) => !closing.is_lingering(),
            (Phase::Closing(_) | Phase::Stream(_), Phase::Closing(_)) => false,
            (_, Phase::Closing(closing)) => closing.is_lingering(),
            _ => false,
        }
    }
}
