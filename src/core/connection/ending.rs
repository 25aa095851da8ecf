//! How a connection is ended: one ladder of verbs, and what each cause does in each phase.
//!
//! From the most that a peer is told to the least:
//!
//! | verb | what the peer gets | what was received before | what waits for the peer |
//! |---|---|---|---|
//! | retire | close frame with the time to come back | is handled and answered | leaves |
//! | close when handled | close frame | is handled and answered | leaves |
//! | close | close frame | is not answered | leaves |
//! | end the stream | last chunk, FIN | | leaves |
//! | fail | close frame, or last chunk and FIN | is not answered | all but the frame in progress is dropped |
//! | refuse | answer with a status, FIN | | leaves |
//! | hang up | FIN | | leaves |
//! | finish | the socket is closed | | is dropped |
//! | abort | a reset | | is dropped |
//!
//! Each is an [`Effect`], and the engine's method of that name does it. Whatever comes first, every
//! connection goes through *finish*, once: there its end is counted, logged and told.
//!
//! | phase | drain | shed | kick | memory | rate |
//! |---|---|---|---|---|---|
//! | head, nothing received | hang up | | hang up | refuse | refuse |
//! | head, body | refuse | | hang up | refuse | refuse |
//! | deciding | ends behind its answer | | hang up | refuse | refuse |
//! | answering | ends behind its answer | | cut short, ends behind it | abort | refuse |
//! | keep-alive | hang up | | hang up | abort | refuse |
//! | WebSocket | close when all is handled and written | retire | close | fail | fail |
//! | event stream | end the stream | end the stream | end the stream | fail | fail |
//! | closing | | | | abort | |

use crate::core::connection::Connection;
use crate::core::connection::effect::Effect;
use crate::core::connection::flags::Leaving;
use crate::core::connection::phase::Phase;
use crate::core::ground::reason::CloseReason;

impl Connection {
    /// Says how a drain ends it, whose turn has come to it.
    pub fn end_by_drain(&mut self) -> Effect {
        debug_assert!(self.flags.leaving != Leaving::Draining, "its turn comes once");
        self.flags.leaving = Leaving::Draining;
        match &self.phase {
            phase if phase.is_silent() => Effect::HangUp(CloseReason::Drain),
            Phase::Head { .. } | Phase::Body(_) => Effect::Refuse(503, CloseReason::Drain),
            // What is published from now on is for when it has come back.
            Phase::Open(_) => Effect::Unsubscribe,
            Phase::Stream(_) => Effect::EndStream(CloseReason::Drain),
            Phase::Deciding(_) | Phase::Answering(_) | Phase::KeepAlive { .. } => {
                self.end_behind_answer();
                Effect::None
            }
            Phase::Closing(_) => Effect::None,
        }
    }

    /// Says how it is shed. Plain requests are left alone: they end by themselves.
    pub fn end_by_shed(&self) -> Effect {
        match &self.phase {
            Phase::Open(_) => Effect::Retire(CloseReason::Shed),
            Phase::Stream(_) => Effect::EndStream(CloseReason::Shed),
            _ => Effect::None,
        }
    }

    /// Says how the operator ends it.
    pub fn end_by_kick(&mut self) -> Effect {
        let reason = CloseReason::Kicked;
        match &mut self.phase {
            Phase::Open(_) => Effect::Close(reason),
            Phase::Stream(_) => Effect::EndStream(reason),
            Phase::Answering(answering) => {
                (answering.keep, answering.reason, answering.more) = (false, reason, None);
                Effect::Settle
            }
            Phase::Closing(_) => Effect::None,
            Phase::Head { .. } | Phase::KeepAlive { .. } | Phase::Body(_) | Phase::Deciding(_) => {
                Effect::HangUp(reason)
            }
        }
    }

    /// Says how it ends for want of memory.
    pub fn end_by_memory(&self) -> Effect {
        let reason = CloseReason::Memory;
        match &self.phase {
            Phase::Open(_) | Phase::Stream(_) => Effect::Fail(reason),
            Phase::Head { .. } | Phase::Body(_) | Phase::Deciding(_) => Effect::Refuse(503, reason),
            Phase::KeepAlive { .. } | Phase::Answering(_) | Phase::Closing(_) => {
                Effect::Abort(reason)
            }
        }
    }

    /// Says how it ends when its peer has sent more than it may.
    pub fn end_by_rate(&self) -> Effect {
        debug_assert!(!self.is_closing(), "what comes then is not counted");
        match self.is_live() {
            true => Effect::Fail(CloseReason::Rate),
            false => Effect::Refuse(429, CloseReason::Rate),
        }
    }

    /// Says how it ends when its request, or the answer to it, takes too long.
    pub fn end_by_handshake(&self) -> Effect {
        match &self.phase {
            Phase::Head { reader, first: true } if reader.is_idle() => {
                Effect::HangUp(CloseReason::Handshake)
            }
            Phase::Head { .. } => Effect::Refuse(408, CloseReason::Handshake),
            // The request is complete: the client is not to blame.
            _ => Effect::Refuse(503, CloseReason::Answer),
        }
    }

    /// Says how it ends when its close frame was not sent in time.
    pub fn end_by_close_send(&self) -> Effect {
        match self.closing() {
            // The handler has had its time: the peer's close is answered all the same.
            Some(closing) if closing.is_handling() => self.end_handling(),
            Some(closing) if closing.is_sending() => Effect::Abort(CloseReason::CloseSend),
            _ => Effect::None,
        }
    }
}
