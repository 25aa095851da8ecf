//! Handlers whose messages are values of the application's own types.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::core::contract::event::Event;
use crate::core::ground::reason::CloseReason;
use crate::core::wire::http::Request;
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::threads::handler::Handler;
use crate::threads::peer::{Peer, Sent};

/// Makes values of messages, and messages of values. The library has no format of its own for
/// handlers: `examples/typed.rs` has JSON by serde.
///
/// ```
/// use heartwheel::{BadMessage, Codec, Message};
///
/// /// Decimal numbers, one in each message.
/// struct Decimal;
///
/// impl Codec for Decimal {
///     type Incoming = u32;
///     type Outgoing = u32;
///
///     fn decode(&self, message: Message) -> Result<u32, BadMessage> {
///         let text = message.as_text().ok_or_else(|| BadMessage::with_code(1003, "no text"))?;
///         Ok(text.parse()?)
///     }
///
///     fn encode(&self, number: &u32) -> Message {
///         Message::text(number.to_string())
///     }
/// }
/// ```
pub trait Codec: Send + Sync + 'static {
    /// What peers send.
    type Incoming;
    /// What peers are sent.
    type Outgoing: ?Sized;

    /// Makes a value of a message. To keep the payload costs no copy: [`Message::into_bytes`].
    ///
    /// # Errors
    ///
    /// [`BadMessage`] closes the connection. It is made of any error, with the code 1007.
    fn decode(&self, message: Message) -> Result<Self::Incoming, BadMessage>;

    /// Makes a message of a value.
    fn encode(&self, value: &Self::Outgoing) -> Message;
}

/// Why a message is not a value. The connection is closed with this code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage {
    code: u16,
    text: String,
}

impl BadMessage {
    /// Closes with 1007 (RFC 6455, 7.4.1: the data is not consistent with the type of the message).
    /// The peer is sent the text, cut at 123 bytes.
    pub fn new(text: impl Into<String>) -> BadMessage {
        let mut text = text.into();
        // An error may quote what the peer has sent, whatever its length.
        let fits = |end: &usize| text.is_char_boundary(*end);
        let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(fits).unwrap_or_default();
        text.truncate(end);
        BadMessage { code: 1007, text }
    }

    /// Closes with another code, such as 1003 (the endpoint takes no such type of data). A code
    /// that [`Peer::close`] does not take becomes 1007.
    pub fn with_code(code: u16, text: impl Into<String>) -> BadMessage {
        let code = if ws::is_allowed_close_code(code) { code } else { 1007 };
        BadMessage { code, ..BadMessage::new(text) }
    }
}

impl<E: std::error::Error> From<E> for BadMessage {
    fn from(error: E) -> BadMessage {
        BadMessage::new(error.to_string())
    }
}

/// Handles the events of WebSocket connections whose messages are values: [`Handler`], with a
/// [`Codec`] before it. All that is said there holds here.
///
/// A closure `Fn(TypedPeer<'_, C>, Event<C::Incoming>)` is such a handler without a session.
pub trait TypedHandler<C: Codec>: Send + Sync + 'static {
    /// The state that is kept for each connection.
    type Session: Send + 'static;

    /// Called for a connection that `request` has just opened.
    fn open(&self, peer: TypedPeer<'_, C>, request: Request) -> Self::Session;

    /// Called for each message that is a value.
    fn message(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>, value: C::Incoming);

    /// Called when a connection has ended: its last call, and there is always one. An end by
    /// [`BadMessage`] is [`CloseReason::Application`] with its code.
    fn closed(&self, session: Self::Session, peer: TypedPeer<'_, C>, reason: CloseReason) {
        let _ = (session, peer, reason);
    }

    /// As [`Handler::suspect`].
    fn suspect(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>) {
        let _ = (session, peer);
    }

    /// As [`Handler::pong`].
    fn pong(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>, rtt: Duration) {
        let _ = (session, peer, rtt);
    }

    /// As [`Handler::timer`].
    fn timer(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>, token: u64) {
        let _ = (session, peer, token);
    }

    /// As [`Handler::drained`].
    fn drained(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>) {
        let _ = (session, peer);
    }
}

impl<C, F> TypedHandler<C> for F
where
    C: Codec,
    F: Fn(TypedPeer<'_, C>, Event<C::Incoming>) + Send + Sync + 'static,
{
    type Session = ();

    fn open(&self, peer: TypedPeer<'_, C>, request: Request) {
        self(peer, Event::Opened(Box::new(request)));
    }

    fn message(&self, _: &mut (), peer: TypedPeer<'_, C>, value: C::Incoming) {
        self(peer, Event::Message(value));
    }

    fn closed(&self, _: (), peer: TypedPeer<'_, C>, reason: CloseReason) {
        self(peer, Event::Closed(reason));
    }

    fn suspect(&self, _: &mut (), peer: TypedPeer<'_, C>) {
        self(peer, Event::Suspect);
    }

    fn pong(&self, _: &mut (), peer: TypedPeer<'_, C>, rtt: Duration) {
        self(peer, Event::Pong(rtt));
    }

    fn timer(&self, _: &mut (), peer: TypedPeer<'_, C>, token: u64) {
        self(peer, Event::Timer(token));
    }

    fn drained(&self, _: &mut (), peer: TypedPeer<'_, C>) {
        self(peer, Event::Drained);
    }
}

/// A [`Peer`] that is sent values. It is one in all else: `peer.close(..)`, `peer.id()`. For
/// another thread, clone [`TypedPeer::peer`] and send it what [`Codec::encode`] makes.
pub struct TypedPeer<'a, C> {
    peer: &'a Peer,
    codec: &'a C,
}

impl<'a, C: Codec> TypedPeer<'a, C> {
    /// Sends a value, as [`Peer::send`] sends a message.
    pub fn send(&self, value: &C::Outgoing) -> Sent {
        self.peer.send(self.codec.encode(value))
    }

    /// Returns the peer, for messages that are no values.
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Returns the codec.
    pub fn codec(&self) -> &'a C {
        self.codec
    }
}

impl<C> Clone for TypedPeer<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for TypedPeer<'_, C> {}

impl<C> Deref for TypedPeer<'_, C> {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        self.peer
    }
}

impl<C> fmt::Debug for TypedPeer<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

/// A [`Handler`] made of a [`Codec`] and a [`TypedHandler`].
///
/// A message that is not a value closes the connection as its [`BadMessage`] says. The handler gets
/// none of the messages behind it; these and the message itself are counted
/// (`heartwheel_messages_undecodable_total`). A codec that panics closes it with 1011, as a handler
/// does.
///
/// ```
/// # use heartwheel::{BadMessage, Codec, Message};
/// # struct Decimal;
/// # impl Codec for Decimal {
/// #     type Incoming = u32;
/// #     type Outgoing = u32;
/// #     fn decode(&self, message: Message) -> Result<u32, BadMessage> {
/// #         Ok(message.as_text().unwrap_or_default().parse()?)
/// #     }
/// #     fn encode(&self, number: &u32) -> Message {
/// #         Message::text(number.to_string())
/// #     }
/// # }
/// use heartwheel::{Event, Server, Typed, TypedPeer};
///
/// let double = |peer: TypedPeer<'_, Decimal>, event: Event<u32>| {
///     if let Event::Message(number) = event {
///         peer.send(&number.wrapping_mul(2));
///     }
/// };
/// let builder = Server::builder().websocket("/double", Typed::new(Decimal, double));
/// ```
#[derive(Clone, Debug)]
pub struct Typed<C, H> {
    codec: C,
    handler: H,
}

impl<C: Codec, H: TypedHandler<C>> Typed<C, H> {
    /// Puts a codec before a handler.
    pub fn new(codec: C, handler: H) -> Typed<C, H> {
        Typed { codec, handler }
    }

    pub(in crate::threads) fn typed<'a>(&'a self, peer: &'a Peer) -> TypedPeer<'a, C> {
        TypedPeer { peer, codec: &self.codec }
    }

    #[cfg(feature = "sessions")]
    pub(in crate::threads) fn handler(&self) -> &H {
        &self.handler
    }
}

/// What [`Typed`] keeps for each connection.
#[derive(Debug)]
pub struct TypedSession<S> {
    session: S,
    refusal: Option<Box<Refusal>>,
}

impl<S> TypedSession<S> {
    pub(in crate::threads) fn new(session: S) -> TypedSession<S> {
        TypedSession { session, refusal: None }
    }

    #[cfg(feature = "sessions")]
    pub(in crate::threads) fn session(&self) -> &S {
        &self.session
    }

    #[cfg(feature = "sessions")]
    pub(in crate::threads) fn session_mut(&mut self) -> &mut S {
        &mut self.session
    }
}

/// A message was no value.
#[derive(Debug)]
struct Refusal {
    bad: BadMessage,
    /// Messages that the loop has not been told of.
    untold: u64,
}

impl Refusal {
    /// Has the loop close the connection. If there is no memory for the command, the next message
    /// asks again.
    fn tell(&mut self, peer: &Peer) {
        let BadMessage { code, text } = self.bad.clone();
        if peer.refuse_messages(self.untold, code, text).is_ok() {
            self.untold = 0;
        }
    }
}

impl<C: Codec, H: TypedHandler<C>> Handler for Typed<C, H> {
    type Session = TypedSession<H::Session>;

    fn open(&self, peer: &Peer, request: Request) -> Self::Session {
        TypedSession::new(self.handler.open(self.typed(peer), request))
    }

    fn message(&self, typed: &mut Self::Session, peer: &Peer, message: Message) {
        if let Some(refusal) = &mut typed.refusal {
            refusal.untold += 1;
            return refusal.tell(peer);
        }
        match self.codec.decode(message) {
            Ok(value) => self.handler.message(&mut typed.session, self.typed(peer), value),
            Err(bad) => typed.refusal.insert(Box::new(Refusal { bad, untold: 1 })).tell(peer),
        }
    }

    fn closed(&self, typed: Self::Session, peer: &Peer, reason: CloseReason) {
        if let Some(mut refusal) = typed.refusal.filter(|refusal| refusal.untold > 0) {
            refusal.tell(peer);
        }
        self.handler.closed(typed.session, self.typed(peer), reason);
    }

    fn suspect(&self, typed: &mut Self::Session, peer: &Peer) {
        self.handler.suspect(&mut typed.session, self.typed(peer));
    }

    fn pong(&self, typed: &mut Self::Session, peer: &Peer, rtt: Duration) {
        self.handler.pong(&mut typed.session, self.typed(peer), rtt);
    }

    fn timer(&self, typed: &mut Self::Session, peer: &Peer, token: u64) {
        self.handler.timer(&mut typed.session, self.typed(peer), token);
    }

    fn visited(typed: &mut Self::Session) -> &mut dyn Any {
        &mut typed.session
    }

    fn drained(&self, typed: &mut Self::Session, peer: &Peer) {
        self.handler.drained(&mut typed.session, self.typed(peer));
    }
}

/// As much text as a close frame has room for.
const TEXT_BYTES_MAX: usize = 123;
