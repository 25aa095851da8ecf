//! An open connection: what comes, what is due, what is said.

use tungstenite::{Bytes, Utf8Bytes};

use super::{Dialler, Means, Phase};
use crate::core::client::link::{LinkDue, with_stall};
use crate::core::client::told::Told;
use crate::core::client::why::Why;
use crate::core::connection::heartbeat::Missed;
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::message::Message;
use crate::core::wire::ws::{CloseFrame, Incoming, Violation, encoder};

impl Dialler {
    /// Decodes what came, and returns how many bytes were used.
    pub(super) fn receive_open(&mut self, means: &mut Means<'_>, input: &mut [u8]) -> usize {
        let Phase::Open(link) = &mut self.phase else { return 0 };
        let now = means.now;
        link.heard_at = now.into();
        link.heartbeat.heard();
        let begun_at = link.decoder.begun_at().unwrap_or(now.into());
        let decoded = link.decode(means, input, &self.setup.rules.frames);
        #[cfg(feature = "deflate")]
        let inflated = means.coders.take_inflated();
        match decoded {
            Ok((used, item)) => {
                let begun_at = if item.is_some() { now.into() } else { begun_at };
                link.decoder.set_begun_at(begun_at);
                match item {
                    Some(Incoming::Message(message)) => self.tell_message(message),
                    Some(Incoming::Ping(payload)) => self.answer_ping(means, payload),
                    Some(Incoming::Pong(payload)) => {
                        link.heartbeat.pong(&self.setup.rules.rhythm, &payload, now);
                    }
                    Some(Incoming::Close(frame)) => self.answer_close(means, frame),
                    #[cfg(feature = "deflate")]
                    None => self.note_inflated(inflated),
                    #[cfg(not(feature = "deflate"))]
                    None => {}
                }
                used
            }
            Err(violation) => {
                self.end_for(means, violation);
                input.len()
            }
        }
    }

    pub(super) fn tell_message(&mut self, message: Message) {
        let news = self.news();
        news.told_bytes += message.len();
        news.told.push(Told::Message(message));
    }

    pub(super) fn answer_ping(&mut self, means: &mut Means<'_>, payload: Bytes) {
        let Phase::Open(link) = &mut self.phase else { return };
        // A server that pings without end is answered as often as is allowed, no more.
        if link.pings.take(means.now, self.setup.rules.pings_per_second) {
            self.queue(means, encoder::pong(payload), Kind::Pong);
        }
    }

    pub(super) fn answer_close(&mut self, means: &mut Means<'_>, frame: Option<CloseFrame>) {
        let (code, reason) =
            frame.map_or((1005, Utf8Bytes::default()), |frame| (frame.code, frame.reason));
        let answer = if code == 1005 { 1000 } else { code };
        let why = Why::Closed { code, reason };
        self.begin_closing(means, why, answer, "");
        if let Phase::Closing(closing) = &mut self.phase {
            closing.decoder = None;
        }
    }

    pub(super) fn end_for(&mut self, means: &mut Means<'_>, violation: Violation) {
        let code = violation.reason().code();
        self.begin_closing(means, Why::Violation(violation), code, violation.kind());
        if let Phase::Closing(closing) = &mut self.phase {
            // Frames cannot be told apart any more.
            closing.decoder = None;
        }
    }

    pub(super) fn timeout_open(&mut self, means: &mut Means<'_>) {
        let now = means.now;
        self.forget_tries(now);
        if self.finish_if_stalled(means) {
            return;
        }
        let rules = &self.setup.rules;
        let Phase::Open(link) = &mut self.phase else { return };
        let Some((_, due)) = link.due(rules, now).filter(|(at, _)| *at <= now) else { return };
        match due {
            LinkDue::Stable => {
                link.is_stable = true;
                self.note_held(now);
            }
            LinkDue::Ping => self.ping(means),
            LinkDue::Pong => match link.heartbeat.miss(&rules.rhythm) {
                Missed::GiveUp | Missed::Replaced => self.finish(means, Why::Silent, true),
                Missed::Again | Missed::Suspect => self.ping(means),
            },
            LinkDue::Greeting => {
                self.finish(means, Why::Answer("no greeting of /ws has come".into()), true);
            }
            LinkDue::ReadIdle => self.finish(means, Why::Silent, true),
            LinkDue::Message => {
                let code = Why::Message.code();
                self.begin_closing(means, Why::Message, code, "");
            }
        }
    }

    /// Ends a connection of which the server takes nothing. Returns whether it was one.
    pub(super) fn finish_if_stalled(&mut self, means: &mut Means<'_>) -> bool {
        let (rules, now) = (&self.setup.rules, means.now);
        let stalls_at = with_stall(None, self.outbox.waiting_since(true), rules, now);
        let is_stalled = stalls_at.is_some_and(|at| at <= now);
        if is_stalled {
            self.finish(means, Why::WriteStall, true);
        }
        is_stalled
    }

    pub(super) fn ping(&mut self, means: &mut Means<'_>) {
        let Phase::Open(link) = &mut self.phase else { return };
        let payload = link.heartbeat.ping(&self.setup.rules.rhythm, means.now, means.random);
        self.queue(means, encoder::ping(&payload), Kind::Ping);
    }

    /// Encodes a message of the application's.
    pub(super) fn encode(&self, _means: &mut Means<'_>, message: Message) -> Frame {
        #[cfg(feature = "deflate")]
        if let Phase::Open(link) = &self.phase
            && let Some(compression) = &link.compression
        {
            return compression.encode(_means.coders, message);
        }
        encoder::message(message)
    }

    /// Queues a frame, masked, or bytes as they are.
    pub(super) fn queue(&mut self, means: &mut Means<'_>, frame: Frame, kind: Kind) {
        let frame = match kind {
            Kind::Response => frame,
            _ => encoder::masked(&frame, means.random),
        };
        self.outbox.push(means.now, frame, kind, means.spares);
    }
}
