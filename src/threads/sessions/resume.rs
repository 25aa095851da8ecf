//! Handlers whose sessions outlast connections, and what calls them.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::keeper::{Hold, Opening};
use crate::core::ground::reason::CloseReason;
use crate::core::wire::http::Request;
use crate::core::wire::message::Message;
use crate::threads::handler::Handler;
use crate::threads::peer::Peer;

/// A handler whose sessions outlast connections: they are frozen to bytes and thawed again, on this
/// server or another one. For [`Route::sessions`](crate::Route::sessions). Where messages are
/// values: [`TypedResume`](super::TypedResume).
///
/// ```
/// use std::sync::Arc;
///
/// use heartwheel::http::Request;
/// use heartwheel::{
///     BadSession, Handler, MemorySessions, Message, Peer, Resume, Route, SessionKey,
/// };
///
/// /// Counts the messages of each client, over all its connections.
/// struct Counter;
///
/// impl Handler for Counter {
///     type Session = u32;
///
///     fn open(&self, _: &Peer, _: Request) -> u32 {
///         0
///     }
///
///     fn message(&self, count: &mut u32, peer: &Peer, _: Message) {
///         *count += 1;
///         peer.send(count.to_string());
///     }
/// }
///
/// impl Resume for Counter {
///     fn freeze(&self, count: &u32) -> Vec<u8> {
///         count.to_string().into()
///     }
///
///     fn thaw(&self, frozen: &[u8]) -> Result<u32, BadSession> {
///         Ok(str::from_utf8(frozen)?.parse()?)
///     }
/// }
///
/// let store = Arc::new(MemorySessions::default());
/// let route = Route::sessions("/count", Counter, SessionKey::cookie("sid").required(), store);
/// ```
pub trait Resume: Handler {
    /// Makes bytes of a session: at most `sessions.bytes` of them, or it is not saved.
    ///
    /// It is called where the handler is, at most once in `sessions.save`, if the handler was
    /// called since, and when the connection ends, before [`Handler::closed`]. It is not called
    /// after a panic of the handler: what was saved before stays. Bytes of an older version of the
    /// program may still be in the store: begin them with a version.
    fn freeze(&self, session: &Self::Session) -> Vec<u8>;

    /// Makes a session of bytes, before the upgrade is answered, on any thread: it must not block.
    ///
    /// # Errors
    ///
    /// The upgrade is refused with 500, and the bytes stay as they are.
    fn thaw(&self, frozen: &[u8]) -> Result<Self::Session, BadSession>;

    /// Called with a session that was thawed, in place of [`Handler::open`].
    fn resumed(&self, session: &mut Self::Session, peer: &Peer, request: Request) {
        let _ = (session, peer, request);
    }

    /// Called when a session could not be saved: once, until it can. It is tried again as long as
    /// the connection is open, and afterwards for `sessions.ttl`.
    fn unsaved(&self, session: &mut Self::Session, peer: &Peer, why: Unsaved) {
        let _ = (session, peer, why);
    }
}

/// Why a session was not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsaved {
    /// The store has failed: the log says how.
    Store,
    /// It is longer than `sessions.bytes`.
    TooBig,
}

/// Why bytes are no session. The log shows the text: it should not quote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSession(String);

impl BadSession {
    /// Makes it of a sentence.
    pub fn new(text: impl Into<String>) -> BadSession {
        BadSession(text.into())
    }
}

impl fmt::Display for BadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for BadSession {
    fn from(error: E) -> BadSession {
        BadSession(error.to_string())
    }
}

/// Calls a handler whose sessions outlast connections.
pub(crate) struct Resuming<H>(pub Arc<H>);

/// The session of a handler, and its claim.
pub(crate) struct Resumed<H: Handler> {
    state: H::Session,
    /// `None` if it is not kept, or no longer.
    hold: Option<Hold>,
    /// The handler has not returned: it panicked.
    is_in_call: bool,
    handler: Arc<H>,
    peer: Peer,
}

impl<H: Resume> Resumed<H> {
    /// Calls the handler: what it does may change the session.
    fn call<T>(&mut self, call: impl FnOnce(&H, &mut H::Session) -> T) -> T {
        self.is_in_call = true;
        let result = call(&self.handler, &mut self.state);
        self.is_in_call = false;
        if let Some(hold) = &self.hold {
            hold.note_changed();
        }
        result
    }

    /// Does what the keeper asks for at a visit. Another's visit may change the session.
    fn follow_keeper(&mut self) {
        let Some(hold) = &mut self.hold else { return };
        if let Some(why) = hold.take_unsaved() {
            self.handler.unsaved(&mut self.state, &self.peer, why);
        }
        let is_due = hold.take_due();
        if hold.is_wanted() {
            self.let_go();
        } else if is_due {
            hold.save(self.handler.freeze(&self.state));
        } else {
            hold.note_changed();
        }
    }

    /// Saves the session for the last time, unless its handler has panicked.
    fn let_go(&mut self) {
        let Some(mut hold) = self.hold.take() else { return };
        if !self.is_in_call && !hold.is_fenced() {
            hold.end_with(self.handler.freeze(&self.state));
        }
    }
}

impl<H: Resume> Handler for Resuming<H> {
    type Session = Resumed<H>;

    fn open(&self, peer: &Peer, mut request: Request) -> Resumed<H> {
        let opening = request.borne().take().and_then(|borne| borne.downcast::<Opening>().ok());
        let Opening { thawed, hold } = opening.map(|opening| *opening).unwrap_or_default();
        let thawed = thawed.and_then(|state| state.downcast::<H::Session>().ok());
        let state = match thawed {
            None => self.0.open(peer, request),
            Some(mut state) => {
                self.0.resumed(&mut state, peer, request);
                *state
            }
        };
        if let Some(hold) = &hold {
            hold.note_changed();
        }
        Resumed { state, hold, is_in_call: false, handler: self.0.clone(), peer: peer.clone() }
    }

    fn message(&self, session: &mut Resumed<H>, peer: &Peer, message: Message) {
        session.call(|handler, state| handler.message(state, peer, message));
    }

    fn closed(&self, mut session: Resumed<H>, peer: &Peer, reason: CloseReason) {
        let frozen = catch_unwind(AssertUnwindSafe(|| session.let_go()));
        self.0.closed(session.state, peer, reason);
        if let Err(panic) = frozen {
            resume_unwind(panic);
        }
    }

    fn suspect(&self, session: &mut Resumed<H>, peer: &Peer) {
        session.call(|handler, state| handler.suspect(state, peer));
    }

    fn pong(&self, session: &mut Resumed<H>, peer: &Peer, rtt: Duration) {
        session.call(|handler, state| handler.pong(state, peer, rtt));
    }

    fn timer(&self, session: &mut Resumed<H>, peer: &Peer, token: u64) {
        session.call(|handler, state| handler.timer(state, peer, token));
    }

    /// The keeper's visits do nothing by themselves: they come to have this called.
    fn visited(session: &mut Resumed<H>) -> &mut dyn Any {
        session.follow_keeper();
        H::visited(&mut session.state)
    }

    fn drained(&self, session: &mut Resumed<H>, peer: &Peer) {
        session.call(|handler, state| handler.drained(state, peer));
    }
}
