//! The end of a connection: the close handshake of RFC 6455, section 7, and FIN before close.
//!
//! ```text
//!   clean   Handling ─► Sending ─► Awaiting ─► Lingering ─► gone
//!   peer    Handling ─► Sending ─────────────► Lingering ─► gone
//!   fault               Sending ─► Awaiting ─► Lingering ─► gone
//!   garbled Handling ─► Sending ─────────────► Lingering ─► gone
//!   request                                    Lingering ─► gone
//! ```

use crate::core::connection::Connection;
use crate::core::connection::deadline::{Spans, after};
use crate::core::connection::effect::Effect;
use crate::core::connection::receive::{Decoded, Received};
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::DeadlineKind;
use crate::core::wire::ws::{Decoder, Incoming, Role, Violation};

/// An ending connection.
#[derive(Debug)]
pub(crate) struct Closing {
    stage: Stage,
    pub reason: CloseReason,
    /// Reads on for the peer's close frame, as long as frames can be told apart.
    pub decoder: Option<Decoder>,
    /// What the peer did wrong, if that is the reason.
    pub violation: Option<Violation>,
    /// When the client is told to come back; `None` if it is not told.
    pub retry_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What was received before is being handled and answered; then the close frame is queued.
    /// Bounded by `close_send`.
    Handling,
    /// The close frame waits in the outbox. Bounded by `close_send`.
    Sending { then: After },
    /// The close frame is with the kernel, the peer's is awaited. Bounded by `close_ack`.
    Awaiting,
    /// FIN is sent; what still comes is discarded until the peer's FIN. Bounded by `close_ack`.
    Lingering,
}

/// What follows a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The peer's close frame is awaited.
    Await,
    /// FIN: the peer's close frame has come, or nothing can be read after the fault.
    Fin,
}

/// The close frame that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseFrame {
    pub code: u16,
    /// When the client is told to come back; `None` if it is not told.
    pub retry_ms: Option<u32>,
    /// Frames that wait before the close frame are dropped.
    pub is_for_fault: bool,
}

impl Closing {
    pub fn new(stage: Stage, reason: CloseReason) -> Closing {
        Closing { stage, reason, decoder: None, violation: None, retry_ms: None }
    }

    /// The end of a connection that is told nothing but FIN.
    pub fn lingering(reason: CloseReason) -> Closing {
        Closing::new(Stage::Lingering, reason)
    }

    /// Returns whether the peer ended the connection: its earlier messages are all handled.
    pub fn is_by_peer(&self) -> bool {
        matches!(self.reason, CloseReason::Peer(_) | CloseReason::Eof)
    }

    /// Returns whether the reason stays, whatever cuts the rest short: it is the peer's, or a
    /// fault, or the peer has been told.
    pub fn is_final(&self) -> bool {
        let is_with_kernel = matches!(self.stage, Stage::Awaiting | Stage::Lingering);
        is_with_kernel || self.is_by_peer() || !self.reason.is_clean()
    }

    /// Returns whether messages from before the end are still being handled.
    pub fn is_handling(&self) -> bool {
        self.stage == Stage::Handling
    }

    /// Returns whether the close frame waits in the outbox.
    pub fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Sending { .. })
    }

    /// Returns whether FIN has been sent.
    pub fn is_lingering(&self) -> bool {
        self.stage == Stage::Lingering
    }

    /// Returns whether nothing may be read, since messages from before are still being handled.
    pub(super) fn is_behind(&self) -> bool {
        self.is_handling() && self.decoder.is_some()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.decoder.as_ref().map_or(0, |decoder| decoder.held_bytes())
    }

    /// Looks for the peer's close frame in the bytes that come after the end has begun.
    pub(super) fn receive(&mut self, input: &mut [u8]) -> Decoded {
        let all = input.len();
        let Some(decoder) = &mut self.decoder else { return Decoded::nothing(all) };
        match decoder.discard(Role::Server, input) {
            Ok((used, Some(Incoming::Close(_)))) => {
                Decoded { found: Some(Received::CloseReply), ..Decoded::nothing(used) }
            }
            Ok((used, _)) => Decoded::nothing(used),
            Err(_) => {
                self.decoder = None;
                Decoded::nothing(all)
            }
        }
    }

    /// Returns the deadline of the stage, which began at `since`.
    pub(super) fn deadline(&self, since: Instant, spans: &Spans) -> (Instant, DeadlineKind) {
        match self.stage {
            // Half is left to send the close frame in, if it is not the peer that closed.
            Stage::Handling if !self.is_by_peer() => {
                (after(since, spans.close_send / 2), DeadlineKind::CloseSend)
            }
            Stage::Handling | Stage::Sending { .. } => {
                (after(since, spans.close_send), DeadlineKind::CloseSend)
            }
            Stage::Awaiting | Stage::Lingering => {
                (after(since, spans.close_ack), DeadlineKind::CloseAck)
            }
        }
    }

    pub(super) fn receive_eof(&self) -> Effect {
        match self.stage {
            Stage::Handling | Stage::Sending { .. } => Effect::None,
            Stage::Awaiting | Stage::Lingering => Effect::Finish(self.reason),
        }
    }

    /// Returns what follows when all messages from before the end have been handled.
    pub(super) fn advance(&self, is_written: bool, has_room: bool) -> Effect {
        debug_assert!(self.is_handling(), "all other stages wait for the socket or the peer");
        match self.reason {
            CloseReason::Eof if is_written => Effect::Finish(CloseReason::Eof),
            // Answers to messages from before a fault are sent first if the socket takes them.
            reason if !reason.is_clean() && !is_written && has_room => Effect::None,
            CloseReason::Eof => Effect::None,
            _ => Effect::SendClose,
        }
    }

    /// Asserts what holds in each stage.
    pub(super) fn check(&self) {
        let reads_on = self.decoder.is_some();
        match self.stage {
            Stage::Handling => debug_assert!(!reads_on || !self.is_by_peer(), "nothing follows it"),
            Stage::Sending { then } => {
                debug_assert!(!reads_on || then == After::Await, "for the peer's close frame");
            }
            Stage::Awaiting => debug_assert!(!self.is_by_peer(), "its close frame has come"),
            Stage::Lingering => debug_assert!(!reads_on, "what still comes is discarded"),
        }
        debug_assert!(self.violation.is_none() || !self.reason.is_clean(), "a fault");
    }

    /// Moves on to another stage.
    fn enter(&mut self, stage: Stage) {
        let is_next = match (self.stage, stage) {
            (Stage::Handling, Stage::Sending { .. }) => true,
            (Stage::Sending { then: After::Await }, Stage::Awaiting) => true,
            // The peer's close frame came while ours waited.
            (Stage::Sending { then: After::Await }, Stage::Sending { then: After::Fin }) => true,
            (Stage::Sending { then: After::Fin } | Stage::Awaiting, Stage::Lingering) => true,
            // An end without a close frame begins at Lingering.
            (Stage::Lingering, Stage::Lingering) => true,
            _ => false,
        };
        debug_assert!(is_next, "{stage:?} does not follow {:?}", self.stage);
        self.stage = stage;
    }
}

/// From one stage of the end to the next.
impl Connection {
    /// Begins the end of an open WebSocket. It is read on for the peer's close frame, unless the
    /// peer has ended its side. Returns whether it was an open WebSocket. A pause of reading ends.
    pub fn begin_closing(&mut self, now: Instant, reason: CloseReason, stage: Stage) -> bool {
        debug_assert!(matches!(stage, Stage::Handling | Stage::Sending { then: After::Await }));
        let Some(open) = self.websocket_mut() else { return false };
        let has_more = !matches!(reason, CloseReason::Peer(_) | CloseReason::Eof);
        let decoder = has_more.then(|| std::mem::take(&mut open.decoder));
        self.paused_at = None;
        self.enter(now, Closing { decoder, ..Closing::new(stage, reason) });
        true
    }

    /// Has the close frame of an end that has begun tell the client when to come back.
    pub fn promise_retry(&mut self, retry_ms: u32) {
        if let Some(closing) = self.closing_mut() {
            debug_assert!(closing.is_handling(), "the close frame has not been made");
            closing.retry_ms = Some(retry_ms);
        }
    }

    /// Notes what the peer did wrong. Frames cannot be told apart any more, so what still comes is
    /// discarded unread.
    pub fn note_violation(&mut self, violation: Violation) {
        if let Some(closing) = self.closing_mut() {
            debug_assert!(!closing.reason.is_clean(), "the end is for the violation");
            closing.decoder = None;
            closing.violation = Some(violation);
        }
    }

    /// Returns what the peer did wrong; `None` unless the connection ends for that.
    pub fn violation(&self) -> Option<Violation> {
        self.closing()?.violation
    }

    /// Returns how the end goes on without the handler, if it waits for the handler's answers.
    pub fn end_handling(&self) -> Effect {
        match self.closing() {
            Some(closing) if !closing.is_handling() => Effect::None,
            Some(Closing { reason: CloseReason::Eof, .. }) => Effect::Abort(CloseReason::Eof),
            Some(_) => Effect::SendClose,
            None => Effect::None,
        }
    }

    /// Takes note that the close frame is made: it answers the peer's, or it says that the server
    /// closes. If the peer closed, `close_send` counts from now; else from the beginning of the
    /// end.
    pub fn begin_sending(&mut self, now: Instant) -> Option<CloseFrame> {
        let closing = self.closing_mut()?;
        let code = match closing.reason {
            // RFC 6455, 7.4.1: 1005 stands for no code and is never sent.
            CloseReason::Peer(1005) => 1000,
            reason => reason.code(),
        };
        let is_for_fault = !closing.reason.is_clean();
        let frame = CloseFrame { code, retry_ms: closing.retry_ms, is_for_fault };
        let then = if closing.decoder.is_some() { After::Await } else { After::Fin };
        closing.enter(Stage::Sending { then });
        let is_by_peer = closing.is_by_peer();
        if is_by_peer {
            self.phase_at = now.into();
        }
        self.flags.relink = true;
        Some(frame)
    }

    /// Takes note that the close frame is with the kernel.
    pub fn close_frame_sent(&mut self, now: Instant) -> Effect {
        let has_ended = self.flags.reading.has_ended();
        let Some(closing) = self.closing_mut() else { return Effect::None };
        debug_assert!(matches!(closing.stage, Stage::Sending { .. }), "it was on its way");
        match closing.stage {
            Stage::Sending { .. } if has_ended => Effect::Finish(closing.reason),
            Stage::Sending { then: After::Fin } => Effect::Linger,
            Stage::Sending { then: After::Await } => {
                closing.enter(Stage::Awaiting);
                self.phase_at = now.into();
                self.flags.relink = true;
                Effect::None
            }
            Stage::Handling | Stage::Awaiting | Stage::Lingering => Effect::None,
        }
    }

    /// Takes the peer's answer to our close frame. A close frame that crossed ours is an answer
    /// too.
    pub fn take_close_reply(&mut self) -> Effect {
        let Some(closing) = self.closing_mut() else { return Effect::None };
        debug_assert!(!closing.is_handling(), "nothing is read meanwhile");
        closing.decoder = None;
        match closing.stage {
            Stage::Sending { .. } => {
                closing.enter(Stage::Sending { then: After::Fin });
                Effect::None
            }
            Stage::Awaiting => Effect::Linger,
            Stage::Handling | Stage::Lingering => Effect::None,
        }
    }

    /// Takes note that FIN is sent: what still comes is discarded. Returns whether the connection
    /// is ending.
    pub fn linger(&mut self, now: Instant) -> bool {
        let Some(closing) = self.closing_mut() else { return false };
        closing.enter(Stage::Lingering);
        closing.decoder = None;
        self.phase_at = now.into();
        self.flags.relink = true;
        if let Some(inbox) = &mut self.inbox {
            inbox.drop_rest();
            inbox.reading = None;
        }
        debug_assert!(self.outbox.is_empty(), "nothing is written behind FIN");
        true
    }

    /// Frees what has come of a message that will not be completed. The peer's close frame is no
    /// longer looked for behind that message.
    pub fn stop_assembling(&mut self) {
        if let Some(decoder) = self.closing_mut().and_then(|closing| closing.decoder.as_mut()) {
            // An empty input holds no close frame.
            let _ = decoder.discard(Role::Server, &mut []);
        }
    }
}
