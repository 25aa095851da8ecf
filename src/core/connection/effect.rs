//! What a connection asks of the engine: the machines decide, the engine does.

use crate::core::ground::reason::CloseReason;

/// What follows for a connection. The ends stand in the order of how much the peer is still told:
/// see [`ending`](super::ending).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing, for now.
    None,
    /// The connection is looked at for what it is due.
    Advance,
    /// The next slice of the answer is made.
    ListOn,
    /// The next request may come.
    ReadOn,
    /// The close frame goes behind all that was handled and written, and says when to come back.
    CloseDrained,
    /// The connection's subscriptions end: later events are for when the client has come back.
    Unsubscribe,
    /// What was received before is handled and answered, then the close frame says when to come
    /// back.
    Retire(CloseReason),
    /// What was received before is handled and answered, then the close frame goes.
    CloseWhenHandled(CloseReason),
    /// The close frame goes behind what is queued; nothing more is handled.
    Close(CloseReason),
    /// The close frame of an end that has begun goes.
    SendClose,
    /// The last chunk and FIN go behind what is queued.
    EndStream(CloseReason),
    /// The frame in progress is finished, the rest is dropped; then as `Close` or `EndStream`.
    Fail(CloseReason),
    /// The request is refused with this status, then FIN.
    Refuse(u16, CloseReason),
    /// FIN goes now; what still comes is discarded.
    Linger,
    /// FIN behind what is queued; what still comes is discarded.
    HangUp(CloseReason),
    /// The socket is closed.
    Finish(CloseReason),
    /// The socket is closed with a reset.
    Abort(CloseReason),
}
