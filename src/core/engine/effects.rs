//! What the engine does for its connections: it moves them on, and does what they ask for. A
//! connection decides by itself ([`Connection::advance`]); here is all that an [`Effect`] becomes.

use crate::core::connection::effect::Effect;
use crate::core::connection::{Connection, Inbox, Leaving, Mark};
use crate::core::engine::{End, Engine};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;

impl Engine {
    /// Moves a connection on as far as it goes without new input: an answer that has left, a close
    /// that nothing holds up.
    pub(super) fn advance(&mut self, now: Instant, id: ConnectionId) {
        self.release_inbox(id);
        let Some(connection) = self.get(id) else { return };
        if self.advances_later(connection) {
            if !connection.marks.has(Mark::Dirty) && !connection.is_in_step() {
                self.touch(id);
            }
            return;
        }
        self.update_pause(now, id);
        let Some(connection) = self.get(id) else { return };
        if connection.is_in_step() {
            return;
        }
        let effect = connection.advance();
        self.act_on(now, id, effect);
        self.touch(id);
        debug_assert!(self.check_connection(now, id));
    }

    /// Does what a connection asks for.
    pub(super) fn act_on(&mut self, now: Instant, id: ConnectionId, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Advance => self.advance(now, id),
            Effect::ListOn => self.list_on(now, id),
            Effect::ReadOn => self.keep_alive(now, id),
            Effect::CloseDrained => self.close_drained(now, id),
            Effect::Unsubscribe => {
                self.unsubscribe_all(now, id);
                // Nothing is held back any more.
                self.mark_dirty(id);
            }
            Effect::Retire(reason) => self.retire(now, id, reason),
            Effect::CloseWhenHandled(reason) => self.close_when_handled(now, id, reason),
            Effect::Close(reason) => {
                self.forget_messages(id);
                self.close(now, id, reason, reason.label());
            }
            Effect::SendClose => self.send_close_frame(now, id),
            Effect::EndStream(reason) => self.end_stream(now, id, reason),
            Effect::Fail(reason) => self.fail(now, id, reason),
            Effect::Refuse(status, reason) => self.refuse_late(now, id, status, reason),
            Effect::Linger => self.linger(now, id),
            Effect::HangUp(reason) => self.hang_up(now, id, reason),
            Effect::Finish(reason) => self.finish(now, id, reason, End::Close),
            Effect::Abort(reason) => self.finish(now, id, reason, End::Abort),
        }
    }

    /// Returns whether an open WebSocket is settled later: when it has been written to at the end
    /// of the turn, or when its handler has taken what waits.
    fn advances_later(&self, connection: &Connection) -> bool {
        let limits = &self.settings.rules(connection).limits;
        let is_taken =
            |inbox: &Inbox| connection.marks.has(Mark::Runnable) && !inbox.is_full(limits);
        connection.is_open()
            && connection.flags.leaving != Leaving::Draining
            && (connection.marks.has(Mark::Dirty)
                || connection.inbox.as_deref().is_some_and(is_taken))
    }
}
