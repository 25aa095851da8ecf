//! Handlers that take the body of a request in pieces, as it comes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tungstenite::Bytes;

use crate::core::contract::event::{BodyState, BodyStep, Outcome, Task};
use crate::core::ground::reason::CloseReason;
use crate::core::wire::http::{Request, Response};
use crate::threads::handler::{Endpoint, answered, panicked};
use crate::threads::peer::Peer;

/// Takes the bodies of requests in pieces: for uploads beyond `limits.message_bytes`. See
/// [`Route::upload`](crate::Route::upload).
///
/// The calls for one request never overlap and come in order: `begin`, each piece, then `end` or
/// `cut`. They may block. While `limits.inbox_bytes` wait for the handler nothing more is read from
/// the client, so a body of any length costs no more memory, and a slow handler slows its client
/// down.
///
/// A response before `end` is sent at once, and the connection ends behind it; the state is
/// dropped. So it is after a panic, which is answered with 500.
///
/// ```
/// use heartwheel::http::{Method, Request, Response};
/// use heartwheel::{Bytes, Route, Upload};
///
/// struct Count;
///
/// impl Upload for Count {
///     type State = u64;
///
///     fn begin(&self, _: &Request) -> Result<u64, Response> {
///         Ok(0)
///     }
///
///     fn piece(&self, count: &mut u64, piece: Bytes) -> Result<(), Response> {
///         *count += piece.len() as u64;
///         Ok(())
///     }
///
///     fn end(&self, count: u64) -> Response {
///         Response::new(200).text(format!("{count} bytes\n"))
///     }
/// }
///
/// let route = Route::upload(Method::Put, "/files/{name}", 1 << 30, Count);
/// ```
pub trait Upload: Send + Sync + 'static {
    /// The state that is kept for one request. It travels with the calls, so it needs no lock.
    type State: Send + 'static;

    /// Called when the head has come; the request has no body yet. `100 Continue` is sent after it,
    /// to a client that waits for that.
    ///
    /// # Errors
    ///
    /// The answer, if the body is not wanted.
    fn begin(&self, request: &Request) -> Result<Self::State, Response>;

    /// Called with the next bytes of the body: at least one, at most `limits.inbox_bytes`.
    ///
    /// # Errors
    ///
    /// The answer, if no more of the body is wanted.
    fn piece(&self, state: &mut Self::State, piece: Bytes) -> Result<(), Response>;

    /// Called when the body is complete. It gives the answer.
    fn end(&self, state: Self::State) -> Response;

    /// Called instead of `end` when the connection has ended for this reason before the handler was
    /// told the end of the body. [`CloseReason::Done`] says that the server has refused the rest of
    /// the body: it is too long, or malformed.
    fn cut(&self, state: Self::State, reason: CloseReason) {
        let _ = (state, reason);
    }
}

/// The endpoint of a route with uploads.
pub(crate) struct UploadEndpoint<H>(pub H);

impl<H: Upload> Endpoint for UploadEndpoint<H> {
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        tick();
        let outcome = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Answer(request) => match self.0.begin(&request) {
                Ok(state) => Outcome::Kept(Box::new(state)),
                Err(response) => answered(response, peer),
            },
            Task::Step(state, step) => self.step(peer, state, step),
            _ => panicked(None, 0, 0),
        }));
        tick();
        outcome.unwrap_or_else(|_| panicked(None, 0, 0))
    }
}

impl<H: Upload> UploadEndpoint<H> {
    fn step(&self, peer: &Peer, state: BodyState, step: BodyStep) -> Outcome {
        let state = state.downcast::<H::State>();
        debug_assert!(state.is_ok(), "the state is as the handler made it");
        let Ok(mut state) = state else { return panicked(None, 0, 0) };
        match step {
            BodyStep::Piece(piece) => match self.0.piece(&mut state, piece) {
                Ok(()) => Outcome::Kept(state),
                Err(response) => answered(response, peer),
            },
            BodyStep::End => answered(self.0.end(*state), peer),
            BodyStep::Cut(reason) => {
                self.0.cut(*state, reason);
                Outcome::Called
            }
        }
    }
}
