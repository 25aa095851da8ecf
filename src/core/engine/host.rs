//! What a host may ask when it waits for the answer: the C boundary. A command gets no answer.

use crate::core::connection::Connection;
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::tickets::Unpublished;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, Name, Payload, SubscribeError};
use crate::core::wire::frame::Frame;

/// Why the engine did not do what a host asked for. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The peer is gone, or going.
    Gone,
    /// More would wait for the peer than `limits.outbox_bytes`.
    OutboxFull,
    /// More was published than was delivered, or than a log has answered.
    Flooded,
    /// No request could ever match this path, by this rule.
    Path(String, &'static str),
    /// There are as many routes as there may be.
    Routes,
    /// The topic is the server's own.
    Own,
    /// No topic can have this name, or the topic cannot be made or subscribed to.
    Topic(SubscribeError),
}

impl Engine {
    /// Adds a WebSocket route whose events the host pulls. A later one for the same path wins.
    ///
    /// # Errors
    ///
    /// [`Refused::Path`] and [`Refused::Routes`].
    pub fn add_pulled_route(&mut self, path: String) -> Result<(), Refused> {
        // It is placed with the workers: the host is the only one.
        let spec = RouteSpec { wants_drained: true, ..RouteSpec::new(path, RouteKind::WebSocket) };
        if let Err(rule) = spec.check_path() {
            return Err(Refused::Path(spec.path, rule));
        }
        if self.settings.routes.len() == RouteSpec::MAX {
            return Err(Refused::Routes);
        }
        self.settings.routes.push(spec);
        Ok(())
    }

    /// Makes the turn's allowance whole again: pulling events between turns is the host's own work
    /// and is charged to no turn.
    pub fn renew_allowance(&mut self) {
        self.allowance.renew(self.settings.config.turn.bytes);
    }

    /// Checks that a message of `len` bytes for a peer would be taken. `from` is the connection
    /// whose event the host handles: the answer to it may be as long as the event.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`], or [`Refused::OutboxFull`]: the peer's `Drained` event tells when there
    /// is room again.
    pub fn check_send(
        &self,
        from: Option<ConnectionId>,
        id: ConnectionId,
        len: usize,
    ) -> Result<(), Refused> {
        let limit = self.settings.config.limits.outbox_bytes;
        let len = len.saturating_add(Frame::HEAD_BYTES_MAX);
        let connection = self.get(id).filter(|connection| connection.takes_messages());
        let connection = connection.ok_or(Refused::Gone)?;
        match connection.overflows(from == Some(id), len, limit) {
            true => Err(Refused::OutboxFull),
            false => Ok(()),
        }
    }

    /// Checks that a peer is open: neither gone nor closing.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`].
    pub fn check_open(&self, id: ConnectionId) -> Result<(), Refused> {
        let is_open = self.get(id).is_some_and(Connection::is_open);
        if is_open { Ok(()) } else { Err(Refused::Gone) }
    }

    /// Publishes for the host.
    ///
    /// # Errors
    ///
    /// [`Refused::Flooded`] until turns have delivered what waits; [`Refused::Own`] and
    /// [`Refused::Topic`].
    pub fn publish_for_host(
        &mut self,
        now: Instant,
        topic: &str,
        payload: Payload,
    ) -> Result<(), Refused> {
        if Name::is_own(topic) {
            return Err(Refused::Own);
        }
        if self.is_flooded() {
            return Err(Refused::Flooded);
        }
        match self.publish(now, topic, payload) {
            Ok(_) => Ok(()),
            Err(Unpublished::Topic(error)) => {
                self.stats.publishes_refused += 1;
                Err(Refused::Topic(error.into()))
            }
            Err(Unpublished::Unavailable) => Err(Refused::Flooded),
        }
    }

    /// Sends a peer the events of a topic from now on.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`] and [`Refused::Topic`].
    pub fn subscribe_for_host(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
    ) -> Result<(), Refused> {
        self.check_open(id)?;
        self.subscribe_plain(now, id, topic, After::Now).map_err(Refused::Topic)
    }
}

#[cfg(all(test, feature = "backbone"))]
mod tests {
    use super::*;
    use crate::core::config::Config;
    use crate::core::contract::backbone::Logged;
    use crate::core::contract::event::Command;
    use crate::core::engine::Setup;
    use crate::core::topics::EventId;

    #[test]
    fn a_host_publishes_through_a_late_log_until_that_has_too_much() {
        let mut config = Config::default();
        config.limits.memory_bytes = Some(1 << 20);
        let mut engine = Engine::new(Setup {
            config,
            routes: Vec::new(),
            machine_name: String::new(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        });
        let now = Instant::from_millis(1);
        engine.follow_log(EventId::new(5, 7));
        let mut publish = |topic: &str| {
            let verdict = engine.publish_for_host(now, topic, Payload::text("x".repeat(100_000)));
            (verdict, engine.poll_publication())
        };
        assert_eq!(publish("$stats").0, Err(Refused::Own));
        assert_eq!(publish("no blanks").0, Err(Refused::Topic(SubscribeError::BadName)));
        let (verdict, first) = publish("a");
        assert_eq!((verdict, publish("a").0), (Ok(()), Ok(())));
        let (verdict, none) = publish("a");
        assert!(none.is_none());
        assert_eq!(verdict, Err(Refused::Flooded), "a quarter of the budget is taken");
        let first = first.expect("the log is given it");
        let logged = Box::new(Logged::Refused(first.ticket));
        engine.handle_command(now, None, Command::Logged(logged));
        assert_eq!(engine.publish_for_host(now, "a", Payload::text("x")), Ok(()));
        assert_eq!(engine.stats().publishes_unavailable, 2);
    }
}
