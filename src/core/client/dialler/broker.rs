//! A connection to an MQTT broker, from its first packet to its last.

use super::{Dialler, Held, Means, Phase};
use crate::core::client::broker::{Heard, Publication, Receipt, Session};
use crate::core::client::link::{Closing, Stage, after, with_stall};
use crate::core::client::told::{State, Told};
use crate::core::client::why::Why;
use crate::core::ground::time::{Instant, sooner};
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;

impl Dialler {
    /// Asks the broker for a connection.
    pub(super) fn begin_broker(&mut self, means: &mut Means<'_>) {
        let Some(session) = &mut self.broker else { return };
        if let Err(why) = session.begin(means.now) {
            return self.finish(means, why, true);
        }
        let held = Held { opened_at: means.now, is_stable: false };
        let until = after(means.now, self.setup.rules.upgrade);
        self.enter(Phase::Broker(Box::new(held)), until);
        self.flush_broker(means);
    }

    /// Returns how many more publications are taken; 0 of a client that has no broker.
    pub fn broker_room(&self) -> usize {
        self.broker.as_ref().map_or(0, |session| session.room())
    }

    /// Returns whether publications wait for the broker's acknowledgement.
    pub fn awaits_broker(&self) -> bool {
        self.broker.as_ref().is_some_and(|session| session.has_pending())
    }

    /// Publishes, now or when there is a connection. Each is told of once.
    ///
    /// # Errors
    ///
    /// The publication, where there is no room.
    pub fn publish_to_broker(
        &mut self,
        means: &mut Means<'_>,
        publication: Publication,
    ) -> Result<(), Publication> {
        self.with_broker(means, |session, now, tell| match session {
            Some(session) => session.publish(now, publication, tell),
            None => Err(publication),
        })
    }

    /// Acknowledges what has come.
    pub fn acknowledge_to_broker(&mut self, means: &mut Means<'_>, receipt: Receipt) {
        self.with_broker(means, |session, now, _| {
            if let Some(session) = session {
                session.acknowledge(now, receipt);
            }
        });
    }

    pub(super) fn broker_state(&self) -> State {
        match &self.broker {
            Some(session) if session.is_up() => State::Open,
            _ => State::Upgrading,
        }
    }

    pub(super) fn receive_broker(&mut self, means: &mut Means<'_>, input: &[u8]) {
        let was_up = self.state() == State::Open;
        let received = self.with_broker(means, |session, now, tell| {
            session.map_or(Ok(()), |session| session.receive(now, input, tell))
        });
        if !was_up
            && self.state() == State::Open
            && let Phase::Broker(held) = &mut self.phase
        {
            held.opened_at = means.now;
            self.tell(None, None);
        }
        if let Err(why) = received {
            self.finish(means, why, true);
        }
    }

    pub(super) fn broker_due(&self, held: &Held, now: Instant) -> Instant {
        let rules = &self.setup.rules;
        let at = match self.state() {
            State::Open => self.broker.as_ref().and_then(|session| session.due_at(rules.message)),
            _ => Some(self.until),
        };
        let is_held = held.is_stable || self.state() != State::Open;
        let stable_at = (!is_held).then(|| held.opened_at + rules.stable);
        let at = sooner(at, stable_at);
        let at = with_stall(at, self.outbox.waiting_since(true), rules, now);
        at.unwrap_or(now + super::LOOK_EVERY)
    }

    pub(super) fn timeout_broker(&mut self, means: &mut Means<'_>) {
        let now = means.now;
        self.forget_tries(now);
        if self.finish_if_stalled(means) {
            return;
        }
        if self.state() != State::Open {
            if self.until <= now {
                self.finish(means, Why::TimedOut(State::Upgrading), true);
            }
            return;
        }
        let Phase::Broker(held) = &mut self.phase else { return };
        if !held.is_stable && held.opened_at + self.setup.rules.stable <= now {
            held.is_stable = true;
            self.note_held(now);
        }
        let message = self.setup.rules.message;
        let done = self.with_broker(means, |session, now, _| {
            session.map_or(Ok(()), |session| session.timeout(now, message))
        });
        if let Err(why) = done {
            self.finish(means, why, true);
        }
    }

    /// Ends the connection in good order.
    pub(super) fn leave_broker(&mut self, means: &mut Means<'_>, why: Why) {
        if self.state() != State::Open {
            return self.finish(means, why, true);
        }
        let has_held = self.note_age(means.now);
        let Some(session) = &mut self.broker else { return };
        session.disconnect();
        let last = session.take_out(means.now).unwrap_or_default();
        self.outbox.push(means.now, Frame::raw(last), Kind::Close, means.spares);
        let closing = Closing { why, decoder: None, stage: Stage::Sending, has_held };
        let until = after(means.now, self.setup.rules.close_send);
        self.enter(Phase::Closing(Box::new(closing)), until);
    }

    pub(super) fn pause_broker(&mut self, now: Instant, is_paused: bool) {
        if let Some(session) = &mut self.broker {
            session.set_paused(now, is_paused);
        }
    }

    pub(super) fn spare_broker(&mut self, now: Instant) {
        if let Some(session) = &mut self.broker {
            session.spare(now);
        }
    }

    /// Has the session do something, tells what comes of that, and sends what it has to say.
    fn with_broker<T>(
        &mut self,
        means: &mut Means<'_>,
        act: impl FnOnce(Option<&mut Session>, Instant, &mut dyn FnMut(Heard)) -> T,
    ) -> T {
        let mut heard = Vec::new();
        let session = self.broker.as_deref_mut();
        let done = act(session, means.now, &mut |one| heard.push(one));
        for one in heard {
            let news = self.news();
            if let Heard::Came(arrival) = &one {
                news.told_bytes += arrival.topic.len() + arrival.payload.len();
            }
            news.told.push(Told::Broker(one));
        }
        self.flush_broker(means);
        done
    }

    fn flush_broker(&mut self, means: &mut Means<'_>) {
        if let Phase::Broker(_) = &self.phase
            && let Some(session) = &mut self.broker
            && let Some(out) = session.take_out(means.now)
        {
            self.outbox.push(means.now, Frame::raw(out), Kind::Message, means.spares);
        }
    }
}
