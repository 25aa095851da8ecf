//! The short way of a message: from the decoder to a handler on this thread, and the answer into
//! the outbox, with no event, job or command queued in between.
//!
//! A message takes it if nothing of its connection waits in front, no job is out, and the outbox
//! has room for as long an answer. Every other message goes to the inbox. So the order is the same
//! on both ways. What the handler tells the engine beside answers to its own peer is left, with all
//! that comes behind: the engine does it when the decoder has let go of the connection.

use std::iter;

use crate::core::connection::Inbox;
use crate::core::connection::allowance::Allowance;
use crate::core::contract::event::Session;
use crate::core::contract::handlers::{Handlers, Said};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;
use crate::core::outbox::{Kind, Outbox, Spares};
use crate::core::wire::frame::Frame;
use crate::core::wire::message::Message;
use crate::core::wire::ws;

/// What the short way of one connection is made of, while its bytes are decoded.
pub(crate) struct ShortWay<'a> {
    pub now: Instant,
    pub id: ConnectionId,
    pub route: usize,
    pub identity: Option<Identity>,
    /// How many bytes may wait for the peer.
    pub outbox_bytes: usize,
    pub handlers: &'a mut dyn Handlers,
    pub said: &'a mut Said,
    pub spares: &'a mut Spares,
    pub tally: Tally,
}

/// What was done on the short way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub calls: u32,
    /// The last call has panicked.
    pub has_panicked: bool,
    /// Answers that were queued for the peer, and their bytes.
    pub answers: u32,
    pub answer_bytes: usize,
}

impl ShortWay<'_> {
    /// Has the handler take a message, unless it must wait for its turn: then it is returned.
    #[inline]
    pub fn take(
        &mut self,
        message: Message,
        inbox: &Option<Box<Inbox>>,
        session: &mut Option<Session>,
        outbox: &mut Outbox,
        allowance: &mut Allowance,
    ) -> Option<Message> {
        let is_next = inbox.as_ref().is_none_or(|inbox| inbox.events.is_empty());
        let answered = outbox.held_bytes() + message.len() + Frame::HEAD_BYTES_MAX;
        let Some(session) = session.as_mut().filter(|_| is_next && answered <= self.outbox_bytes)
        else {
            return Some(message);
        };
        if self.tally.calls == 0 {
            self.handlers.begin(self.id, self.route, self.identity.take());
        }
        self.tally.calls += 1;
        allowance.charge_message();
        let returned = self.handlers.call(session, message, self.said);
        self.tally.has_panicked = !returned;
        self.answer(outbox);
        None
    }

    /// Queues the answers to the peer, up to the first that has no room: from there on they are
    /// commands like others.
    #[inline]
    fn answer(&mut self, outbox: &mut Outbox) {
        let mut answers = self.said.answers.drain(..);
        while let Some(message) = answers.next() {
            let waiting = outbox.held_bytes();
            let len = message.len() + Frame::HEAD_BYTES_MAX;
            if waiting > 0 && waiting + len > self.outbox_bytes {
                let rest = iter::once(message).chain(answers).collect();
                self.said.answers = rest;
                self.said.spell_out(self.id);
                return;
            }
            let frame = ws::encoder::message(message);
            self.tally.answers += 1;
            self.tally.answer_bytes += frame.len();
            outbox.push(self.now, frame, Kind::Message, self.spares);
        }
    }

    /// Returns whether the engine must act before the next message is decoded.
    #[inline]
    pub fn must_end(&self) -> bool {
        self.tally.has_panicked || !self.said.commands.is_empty()
    }
}
