//! What remains to be done when handlers have been called while bytes were decoded: the short way
//! ([`ShortWay`](crate::core::connection::short_way::ShortWay)).

use std::time::Duration;

use crate::core::connection::Told;
use crate::core::connection::short_way::Tally;
use crate::core::contract::event::{Command, Done, Outcome};
use crate::core::contract::handlers::{Handlers, Said};
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::stats::DeadlineKind;
use crate::core::outbox::Outbox;

/// What calls on the short way have left.
#[derive(Debug, Default)]
pub(super) struct CallsLeft {
    /// What the handler has just said; empty between two reads.
    pub said: Said,
    /// Commands that wait until the transport of their connection is free.
    deferred: Vec<Command>,
}

impl CallsLeft {
    pub fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    pub fn take_deferred(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.deferred)
    }

    /// Takes the empty list back, to be used again.
    pub fn keep_spare(&mut self, commands: Vec<Command>) {
        debug_assert!(commands.is_empty() && self.deferred.is_empty(), "no command is lost");
        self.deferred = commands;
    }
}

impl Engine {
    /// Counts the calls that were made while bytes of a connection were decoded, and does what they
    /// have left.
    pub(super) fn settle_calls(
        &mut self,
        now: Instant,
        id: ConnectionId,
        handlers: &mut dyn Handlers,
        tally: Tally,
    ) {
        self.note_calls(handlers.end(), tally.calls);
        self.stats.messages_handled += u64::from(tally.calls) - u64::from(tally.has_panicked);
        if tally.answers > 0
            && let Some(connection) = find_mut(&mut self.connections, id)
        {
            let answers = u64::from(tally.answers);
            connection.counters.messages_out += answers;
            self.queues.dirty.push(connection);
            self.stats.messages_sent += answers;
            self.stats.queued_bytes += tally.answer_bytes as u64;
            let overhead = tally.answers as usize * Outbox::ENTRY_BYTES;
            self.budget.add(tally.answer_bytes + overhead);
        }
        if tally.has_panicked {
            self.leave_panic(id);
        }
        if !self.calls.said.commands.is_empty() {
            self.do_left(now, id);
        }
        self.weigh(now);
    }

    /// Counts calls of handlers on this thread, which took so long together.
    pub fn note_calls(&mut self, took: Duration, calls: u32) {
        // To time each of many small calls costs more than the calls.
        let each_us = took.as_micros() as u64 / u64::from(calls);
        self.stats.handler_us.record_times(each_us, calls);
        if self.settings.config.deadlines.handler.is_some_and(|limit| took >= limit) {
            self.count_stuck(1);
        }
    }

    /// Counts calls of handlers that do not return, or have not for too long.
    pub fn count_stuck(&mut self, calls: u64) {
        self.stats.handlers_stuck_total += calls;
        self.stats.deadlines_fired[DeadlineKind::Handler as usize] += calls;
    }

    /// Leaves a panic behind the commands that the call has given, as a job that comes back.
    fn leave_panic(&mut self, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        connection.flags.told = Told::Out;
        let session = connection.session.take();
        let route = connection.route.map_or(0, usize::from);
        self.jobs.note_out();
        let outcome = Outcome::Panicked { session, messages_handled: 0, messages_lost: 1 };
        self.calls.said.commands.push(Command::Done(Done { id, route, outcome }));
    }

    /// Does what the handler of a connection has told the engine, in its order. A command for which
    /// an outbox must be written first waits for the turn, with all behind it.
    fn do_left(&mut self, now: Instant, id: ConnectionId) {
        let mut left = std::mem::take(&mut self.calls.said.commands);
        for command in left.drain(..) {
            match self.calls.has_deferred() || self.wants_flush(Some(id), &command).is_some() {
                true => self.calls.deferred.push(command),
                false => self.handle_command(now, Some(id), command),
            }
        }
        self.calls.said.commands = left;
    }
}
