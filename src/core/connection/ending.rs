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
//! | phase | drain | shed | auth | kick | memory | rate |
//! |---|---|---|---|---|---|---|
//! | head, nothing received | hang up | | | hang up | refuse | refuse |
//! | head, body | refuse | | | hang up | refuse | refuse |
//! | upload | ends behind its answer | | | hang up | refuse | refuse |
//! | deciding | ends behind its answer | | | hang up | refuse | refuse |
//! | answering | ends behind its answer | | | cut short, ends behind it | abort | refuse |
//! | keep-alive | hang up | | | hang up | abort | refuse |
//! | WebSocket | close when all is handled and written | retire | close | close | fail | fail |
//! | event stream | end the stream | end the stream | end the stream | end the stream | fail | fail |
//! | closing | | | | | abort | |

use crate::core::connection::Connection;
use crate::core::connection::effect::Effect;
use crate::core::connection::flags::Leaving;
use crate::core::connection::phase::Phase;
use crate::core::ground::reason::CloseReason;

impl Connection {
    /// Returns how a drain ends the connection, whose turn in the drain has come.
    pub fn end_by_drain(&mut self) -> Effect {
        debug_assert!(self.flags.leaving != Leaving::Draining, "its turn comes once");
        self.flags.leaving = Leaving::Draining;
        match &self.phase {
            phase if phase.is_silent() => Effect::HangUp(CloseReason::Drain),
            Phase::Head { .. } | Phase::Body(_) => Effect::Refuse(503, CloseReason::Drain),
            // Later events are for when the client has come back.
            Phase::Open(_) => Effect::Unsubscribe,
            Phase::Stream(_) => Effect::EndStream(CloseReason::Drain),
            Phase::Upload(_)
            | Phase::Deciding(_)
            | Phase::Answering(_)
            | Phase::KeepAlive { .. } => {
                self.end_behind_upload();
                self.end_behind_answer();
                Effect::None
            }
            Phase::Closing(_) => Effect::None,
        }
    }

    /// Returns how the connection is shed. Plain requests are left alone: they end by themselves.
    pub fn end_by_shed(&self) -> Effect {
        match &self.phase {
            Phase::Open(_) => Effect::Retire(CloseReason::Shed),
            Phase::Stream(_) => Effect::EndStream(CloseReason::Shed),
            _ => Effect::None,
        }
    }

    /// Returns how the connection ends in good order, now, for a reason that is not its own: the
    /// operator wants it, or its client has connected again.
    pub fn end_now(&mut self, reason: CloseReason) -> Effect {
        match &mut self.phase {
            Phase::Open(_) => Effect::Close(reason),
            Phase::Stream(_) => Effect::EndStream(reason),
            Phase::Answering(answering) => {
                (answering.keep, answering.reason, answering.more) = (false, reason, None);
                Effect::Advance
            }
            Phase::Closing(_) => Effect::None,
            Phase::Head { .. }
            | Phase::KeepAlive { .. }
            | Phase::Body(_)
            | Phase::Upload(_)
            | Phase::Deciding(_) => Effect::HangUp(reason),
        }
    }

    /// Returns how the connection ends when its token's time is over, or the token was taken away.
    /// Plain requests were judged when they came.
    pub fn end_by_auth(&self) -> Effect {
        match &self.phase {
            Phase::Open(_) => Effect::Close(CloseReason::Auth),
            Phase::Stream(_) => Effect::EndStream(CloseReason::Auth),
            _ => Effect::None,
        }
    }

    /// Returns how the connection ends for want of memory.
    pub fn end_by_memory(&self) -> Effect {
        let reason = CloseReason::Memory;
        match &self.phase {
            Phase::Open(_) | Phase::Stream(_) => Effect::Fail(reason),
            Phase::Head { .. } | Phase::Body(_) | Phase::Upload(_) | Phase::Deciding(_) => {
                Effect::Refuse(503, reason)
            }
            Phase::KeepAlive { .. } | Phase::Answering(_) | Phase::Closing(_) => {
                Effect::Abort(reason)
            }
        }
    }

    /// Returns how the connection ends when its peer has sent more than its rates allow.
    pub fn end_by_rate(&self) -> Effect {
        debug_assert!(!self.is_closing(), "what comes then is not counted");
        match self.is_live() {
            true => Effect::Fail(CloseReason::Rate),
            false => Effect::Refuse(429, CloseReason::Rate),
        }
    }

    /// Returns how the connection ends when its request, or the answer, takes too long.
    pub fn end_by_handshake(&self) -> Effect {
        match &self.phase {
            Phase::Head { reader, first: true } if reader.is_idle() => {
                Effect::HangUp(CloseReason::Handshake)
            }
            Phase::Head { .. } => Effect::Refuse(408, CloseReason::Handshake),
            // The request is complete, or its handler does not take it: the client is not to blame.
            _ => Effect::Refuse(503, CloseReason::Answer),
        }
    }

    /// Returns how the connection ends when its close frame was not sent in time.
    pub fn end_by_close_send(&self) -> Effect {
        match self.closing() {
            // The handler has had its time: the peer's close is answered all the same.
            Some(closing) if closing.is_handling() => self.end_handling(),
            Some(closing) if closing.is_sending() => Effect::Abort(CloseReason::CloseSend),
            _ => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::Config;
    use crate::core::connection::closing::{After, Stage};
    use crate::core::connection::heartbeat::{Heartbeat, Rhythm};
    use crate::core::connection::http::{Answering, Pending};
    use crate::core::connection::{PeerAddress, WebSocket};
    use crate::core::contract::route::Face;
    use crate::core::ground::id::{ConnectionId, Generation};
    use crate::core::ground::random::Random;
    use crate::core::ground::subprotocol::Subprotocol;
    use crate::core::ground::time::Instant;

    const NOW: Instant = Instant::from_millis(1000);

    fn accepted() -> Connection {
        let id = ConnectionId::new(0, Generation::FIRST);
        Connection::new(id, Face::Public, PeerAddress::new(None), NOW)
    }

    fn deciding() -> Connection {
        let mut connection = accepted();
        connection.begin_deciding(NOW, Pending { keep: true, ..Pending::default() });
        connection
    }

    fn answering() -> Connection {
        let mut connection = deciding();
        let reason = CloseReason::Done;
        connection.begin_answer(NOW, Answering { keep: true, reason, more: None });
        connection
    }

    fn keep_alive() -> Connection {
        let mut connection = answering();
        connection.keep_alive(NOW);
        connection
    }

    fn open() -> Connection {
        let mut connection = deciding();
        let rhythm = Rhythm::from(&Config::default());
        let heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        connection.upgrade(NOW, WebSocket::new(heartbeat, None), Subprotocol::None);
        connection
    }

    fn stream() -> Connection {
        let mut connection = deciding();
        connection.begin_stream(NOW, true);
        connection
    }

    fn closing() -> Connection {
        let mut connection = open();
        let stage = Stage::Sending { then: After::Await };
        connection.begin_closing(NOW, CloseReason::Application(1000), stage);
        connection
    }

    /// The table at the top of this file: by drain, shed, auth, kick, memory and rate.
    #[test]
    fn each_cause_ends_each_phase_as_the_table_says() {
        use CloseReason::{Auth, Drain, Kicked, Memory, Rate, Shed};
        use Effect::{Abort, Close, EndStream, Fail, HangUp, None, Refuse, Retire};
        let refuse = (Refuse(503, Memory), Some(Refuse(429, Rate)));
        let abort = (Abort(Memory), Some(Refuse(429, Rate)));
        let fail = (Fail(Memory), Some(Fail(Rate)));
        let table = [
            (accepted as fn() -> Connection, HangUp(Drain), None, HangUp(Kicked), refuse),
            (deciding, None, None, HangUp(Kicked), refuse),
            (answering, None, None, Effect::Advance, abort),
            (keep_alive, HangUp(Drain), None, HangUp(Kicked), abort),
            (open, Effect::Unsubscribe, Retire(Shed), Close(Kicked), fail),
            (stream, EndStream(Drain), EndStream(Shed), EndStream(Kicked), fail),
            (closing, None, None, None, (Abort(Memory), Option::None)),
        ];
        for (made, drain, shed, kick, (memory, rate)) in table {
            let phase = format!("{:?}", made().phase);
            assert_eq!(made().end_by_drain(), drain, "{phase}");
            assert_eq!(made().end_by_shed(), shed, "{phase}");
            let auth = match shed {
                Retire(_) => Close(Auth),
                EndStream(_) => EndStream(Auth),
                _ => None,
            };
            assert_eq!(made().end_by_auth(), auth, "{phase}");
            assert_eq!(made().end_now(Kicked), kick, "{phase}");
            assert_eq!(made().end_by_memory(), memory, "{phase}");
            if let Some(rate) = rate {
                assert_eq!(made().end_by_rate(), rate, "{phase}");
            }
        }
    }

    #[test]
    fn an_answer_under_way_is_the_last_one_when_a_drain_comes_or_the_operator_kicks() {
        for end in [Connection::end_by_drain, |connection: &mut Connection| {
            connection.end_now(CloseReason::Kicked)
        }] {
            let mut connection = answering();
            assert_eq!(connection.advance(), Effect::ReadOn);
            end(&mut connection);
            assert!(matches!(connection.advance(), Effect::HangUp(_)));
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "does not follow")]
    fn an_arrow_that_is_not_in_the_graph_is_caught() {
        closing().begin_answer(NOW, Answering::last(CloseReason::Done));
    }
}
