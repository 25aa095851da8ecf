//! What the application tells the engine.

use crate::core::config::OverflowPolicy;
use crate::core::connection::Connection;
use crate::core::connection::effect::Effect;
use crate::core::contract::event::{Command, TableReport};
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::outbox::Kind;
use crate::core::topics::{After, SubscribeError};
use crate::core::wire::frame::Frame;
use crate::core::wire::message::Message;
use crate::core::wire::ws;

impl Engine {
    /// Returns the connection to flush before a command is taken, so that only bytes count that
    /// really wait for the peer. `None` unless its outbox would overflow and its socket may take
    /// bytes.
    pub fn wants_flush(
        &self,
        from: Option<ConnectionId>,
        command: &Command,
    ) -> Option<ConnectionId> {
        let Command::Send(id, message) = command else { return None };
        let connection = self.get(*id)?;
        let limit = self.settings.rules(connection).limits.outbox_bytes;
        let len = message.len() + Frame::HEAD_BYTES_MAX;
        let overflows = connection.overflows(from == Some(*id), len, limit);
        (overflows && connection.flags.writing.has_room()).then_some(*id)
    }

    /// Takes a command; `from` is the connection whose handler gave it.
    pub fn handle_command(&mut self, now: Instant, from: Option<ConnectionId>, command: Command) {
        match command {
            Command::Send(id, message) => self.send(now, from, id, message),
            Command::Close(id, code, text) => self.close_by_handler(now, id, code, &text),
            Command::Publish(topic, content) => {
                if self.publish(now, &topic, content).is_err() {
                    self.stats.publishes_refused += 1;
                }
            }
            Command::Subscribe(id, topic, after) => {
                if self.subscribe_plain(now, id, &topic, after).is_err() {
                    self.stats.publishes_refused += 1;
                }
            }
            Command::Unsubscribe(id, topic) => self.unsubscribe(now, id, &topic),
            Command::Logged(logged) => self.handle_logged(now, *logged),
            Command::More(id) => self.handle_more(now, id),
            Command::Done(done) => self.handle_done(now, done),
            Command::Took(calls) => calls.add_to(&mut self.stats.handler_us),
            Command::Kick(id) => {
                if !self.kick(now, id) {
                    self.stats.commands_stale += 1;
                }
            }
            Command::Shed(fraction) => {
                self.begin_shed(now, fraction);
            }
            Command::Order(order) => (order.act)(self, now),
            Command::Table(place, TableReport(report)) => {
                let (text, place) = self.table_slice(now, place);
                report(text, place);
            }
            Command::Drain => self.begin_drain(now),
            Command::Shutdown => {
                self.schedule.was_shut_down = true;
                self.shut_down(now);
            }
        }
        self.weigh(now);
    }

    fn send(
        &mut self,
        now: Instant,
        from: Option<ConnectionId>,
        id: ConnectionId,
        message: Message,
    ) {
        let connection = find_mut(&mut self.connections, id);
        let Some(connection) = connection.filter(|connection| connection.takes_messages()) else {
            self.stats.commands_stale += 1;
            self.count_refused(OverflowPolicy::Close);
            return;
        };
        let is_own = from == Some(id);
        let limit = self.settings.rules(connection).limits.outbox_bytes;
        let frame = ws::encoder::message(message);
        if connection.overflows(is_own, frame.len(), limit) {
            self.count_refused(OverflowPolicy::Close);
            self.fail(now, id, CloseReason::Overflow);
            // If the connection is closing already, the handler's next messages would leave a gap:
            // none is taken.
            let effect = self.get(id).map_or(Effect::None, Connection::end_handling);
            return self.act_on(now, id, effect);
        }
        if is_own && let Some(inbox) = &mut connection.inbox {
            inbox.promised = inbox.promised.saturating_sub(frame.len());
        }
        self.push_frame(now, id, frame, Kind::Message);
    }

    /// Sends a plain WebSocket the events of a topic. No message tells a gap there: it is counted.
    /// Returns whether there is one.
    pub(super) fn subscribe_plain(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<bool, SubscribeError> {
        let key = self.subscribe(now, id, topic, after)?;
        let gap = key.and_then(|key| self.topics.poll_gap(key));
        self.stats.gaps += u64::from(gap.is_some());
        self.feed(now, id);
        Ok(gap.is_some())
    }

    /// Counts messages that were no values, and closes for their handler.
    pub fn refuse_messages(
        &mut self,
        now: Instant,
        id: ConnectionId,
        count: u64,
        code: u16,
        text: &str,
    ) {
        self.stats.messages_undecodable += count;
        // Mostly those behind the first one: the end has begun.
        if self.get(id).is_some_and(Connection::is_open) {
            self.close_by_handler(now, id, code, text);
        }
    }

    /// Closes for the handler. Messages that still wait for the handler are dropped.
    fn close_by_handler(&mut self, now: Instant, id: ConnectionId, code: u16, text: &str) {
        let Some(connection) = self.get(id) else {
            self.stats.commands_stale += 1;
            return;
        };
        if !connection.is_open() {
            return;
        }
        self.forget_messages(id);
        self.close(now, id, CloseReason::Application(code), text);
    }
}
