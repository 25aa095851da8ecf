//! Handlers whose messages are values, and whose sessions outlast connections.

use super::{BadSession, Resume, Unsaved};
use crate::core::wire::http::Request;
use crate::threads::peer::Peer;
use crate::threads::typed::{Codec, Typed, TypedHandler, TypedPeer, TypedSession};

/// A [`TypedHandler`] whose sessions outlast connections: [`Resume`], with a [`Codec`] before it.
/// [`Typed`] of one is for [`Route::sessions`](crate::Route::sessions).
///
/// ```
/// use std::sync::Arc;
///
/// use heartwheel::http::Request;
/// use heartwheel::{
///     BadMessage, BadSession, Codec, MemorySessions, Message, Route, SessionKey, Typed,
///     TypedHandler, TypedPeer, TypedResume,
/// };
///
/// /// Decimal numbers, one in each message.
/// struct Decimal;
///
/// impl Codec for Decimal {
///     type Incoming = u32;
///     type Outgoing = u32;
///
///     fn decode(&self, message: Message) -> Result<u32, BadMessage> {
///         Ok(message.as_text().unwrap_or_default().parse()?)
///     }
///
///     fn encode(&self, number: &u32) -> Message {
///         Message::text(number.to_string())
///     }
/// }
///
/// /// Adds up the numbers of each client, over all its connections.
/// struct Sum;
///
/// impl TypedHandler<Decimal> for Sum {
///     type Session = u32;
///
///     fn open(&self, _: TypedPeer<'_, Decimal>, _: Request) -> u32 {
///         0
///     }
///
///     fn message(&self, sum: &mut u32, peer: TypedPeer<'_, Decimal>, number: u32) {
///         *sum = sum.wrapping_add(number);
///         peer.send(sum);
///     }
/// }
///
/// impl TypedResume<Decimal> for Sum {
///     fn freeze(&self, sum: &u32) -> Vec<u8> {
///         sum.to_be_bytes().into()
///     }
///
///     fn thaw(&self, frozen: &[u8]) -> Result<u32, BadSession> {
///         Ok(u32::from_be_bytes(frozen.try_into()?))
///     }
/// }
///
/// let (store, key) = (Arc::new(MemorySessions::default()), SessionKey::cookie("sid"));
/// let route = Route::sessions("/sum", Typed::new(Decimal, Sum), key, store);
/// ```
pub trait TypedResume<C: Codec>: TypedHandler<C> {
    /// As [`Resume::freeze`]. A message that was no value has changed nothing: the session is saved
    /// as it was before.
    fn freeze(&self, session: &Self::Session) -> Vec<u8>;

    /// As [`Resume::thaw`].
    ///
    /// # Errors
    ///
    /// The upgrade is refused with 500, and the bytes stay as they are.
    fn thaw(&self, frozen: &[u8]) -> Result<Self::Session, BadSession>;

    /// As [`Resume::resumed`].
    fn resumed(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>, request: Request) {
        let _ = (session, peer, request);
    }

    /// As [`Resume::unsaved`].
    fn unsaved(&self, session: &mut Self::Session, peer: TypedPeer<'_, C>, why: Unsaved) {
        let _ = (session, peer, why);
    }
}

impl<C: Codec, H: TypedResume<C>> Resume for Typed<C, H> {
    fn freeze(&self, typed: &TypedSession<H::Session>) -> Vec<u8> {
        self.handler().freeze(typed.session())
    }

    fn thaw(&self, frozen: &[u8]) -> Result<TypedSession<H::Session>, BadSession> {
        self.handler().thaw(frozen).map(TypedSession::new)
    }

    fn resumed(&self, typed: &mut TypedSession<H::Session>, peer: &Peer, request: Request) {
        self.handler().resumed(typed.session_mut(), self.typed(peer), request);
    }

    fn unsaved(&self, typed: &mut TypedSession<H::Session>, peer: &Peer, why: Unsaved) {
        self.handler().unsaved(typed.session_mut(), self.typed(peer), why);
    }
}
