//! What a host may ask when it waits for the answer: the C boundary. A command gets no answer.

use crate::core::connection::{Connection, Told};
use crate::core::contract::event::Session;
use crate::core::contract::route::{Placement, RouteSpec};
use crate::core::engine::Engine;
use crate::core::engine::Served;
use crate::core::engine::rounds::{Beats, Change};
use crate::core::engine::tickets::Unpublished;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, EventId, Name, Payload, SubscribeError};
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
    /// Adds routes while the server runs: all of them or none. A later one for the same path and
    /// method wins. Returns the number of the first.
    ///
    /// # Errors
    ///
    /// [`Refused::Path`] and [`Refused::Routes`].
    pub fn add_routes(&mut self, specs: Vec<Served>) -> Result<usize, Refused> {
        for spec in &specs {
            spec.check().map_err(|rule| Refused::Path(spec.path.clone(), rule))?;
        }
        if specs.len() > RouteSpec::MAX - self.settings.routes.len() {
            return Err(Refused::Routes);
        }
        Ok(self.settings.add(specs))
    }

    /// Answers requests for this path without a token, by the routes that it has now. Returns
    /// whether it has one.
    pub fn open_path(&mut self, path: &str) -> bool {
        let mut routes = self.settings.routes.iter_mut().filter(|route| route.path == path);
        let mut is_found = false;
        routes.by_ref().for_each(|route| (route.spec.is_open, is_found) = (true, true));
        is_found
    }

    /// Gives a key of the configuration a value for this path, on the routes that it has now. For
    /// connections that is as a reload of this key. Returns whether the path has a route.
    ///
    /// # Errors
    ///
    /// The faults of the key, or what contradicts the configuration then; nothing has changed.
    pub fn set_on(
        &mut self,
        now: Instant,
        path: &str,
        key: &str,
        value: &str,
    ) -> Result<bool, Vec<String>> {
        let routes = 0..self.settings.routes.len();
        let own: Vec<_> = routes.filter(|&at| self.settings.routes[at].path == path).collect();
        let changed = |&at: &usize| Ok((at, self.settings.changed(at, key, value)?));
        let changed = own.iter().map(changed).collect::<Result<Vec<_>, Vec<String>>>()?;
        let is_found = !changed.is_empty();
        changed.into_iter().for_each(|(at, changes)| self.settings.change(at, changes));
        if is_found {
            self.begin_round(now, Change { credentials: None, beats: Beats::after([key]) });
        }
        Ok(is_found)
    }

    /// Has the host judge each request for this path, by the routes that it has now. Returns
    /// whether it has any; an endpoint on the loop's thread is no host, and judges nothing.
    pub fn ask_on(&mut self, path: &str) -> bool {
        let is_own = |route: &&mut Served| {
            route.path == path
                && !(route.kind.has_handler() && route.placement == Placement::Inline)
        };
        let mut is_found = false;
        for route in self.settings.routes.iter_mut().filter(is_own) {
            route.judged();
            route.spec.placement = Placement::Worker;
            is_found = true;
        }
        is_found
    }

    /// Returns who is at the other end of a connection, if that is known.
    pub fn identity_of_peer(&self, id: ConnectionId) -> Option<Identity> {
        self.admission.identity(self.get(id)?)
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
        let len = len.saturating_add(Frame::HEAD_BYTES_MAX);
        let connection = self.get(id).filter(|connection| connection.takes_messages());
        let connection = connection.ok_or(Refused::Gone)?;
        let limit = self.settings.rules(connection).limits.outbox_bytes;
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

    /// Sends a peer the events of a topic, from now on or after a position. Returns whether events
    /// after that position are missing.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`] and [`Refused::Topic`].
    pub fn subscribe_for_host(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<bool, Refused> {
        self.check_open(id)?;
        self.subscribe_plain(now, id, topic, after).map_err(Refused::Topic)
    }

    /// Returns the newest event of a topic, if one is retained.
    ///
    /// # Errors
    ///
    /// [`Refused::Topic`] for a bad name.
    pub fn latest_for_host(
        &mut self,
        now: Instant,
        topic: &str,
    ) -> Result<Option<(EventId, Payload)>, Refused> {
        if !Name::is_valid(topic) {
            return Err(Refused::Topic(SubscribeError::BadName));
        }
        let latest = self.topics.latest(now, topic);
        Ok(latest.map(|event| (event.id, event.payload)))
    }

    /// Checks that there is a connection of this id, in whatever phase.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`].
    pub fn check_there(&self, id: ConnectionId) -> Result<(), Refused> {
        if self.contains(id) { Ok(()) } else { Err(Refused::Gone) }
    }

    /// Returns whether a request of a connection is with the host, and its answer is waited for.
    pub fn is_asking(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(Connection::is_deciding)
    }

    /// Returns the address of a connection's peer, as the log has it.
    pub fn address_of(&self, id: ConnectionId) -> Option<String> {
        Some(self.get(id)?.peer.to_string())
    }

    /// Returns the place of the session of a connection that the host was told of, unless the host
    /// has the session with a job.
    pub fn session_of(&mut self, id: ConnectionId) -> Option<&mut Option<Session>> {
        let connection = self.get_mut(id).filter(|connection| connection.flags.told == Told::Yes);
        Some(&mut connection?.session)
    }

    /// Finds the next open connection that the host was told of, in the order of slots, from this
    /// slot on.
    pub fn open_from(&self, slot: usize) -> Option<ConnectionId> {
        let mut connections =
            (slot..self.connections.capacity()).filter_map(|slot| self.connections.get(slot));
        let connection = connections
            .find(|connection| connection.is_open() && connection.flags.told != Told::Not)?;
        Some(connection.id)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::core::config::Config;
    #[cfg(feature = "backbone")]
    use crate::core::contract::backbone::Logged;
    #[cfg(feature = "backbone")]
    use crate::core::contract::event::Command;
    use crate::core::contract::route::RouteKind;
    use crate::core::engine::Setup;

    fn engine(config: Config, routes: &[RouteSpec]) -> Engine {
        Engine::new(Setup {
            config,
            routes: routes.iter().cloned().map(Served::from).collect(),
            machine_name: String::new(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        })
    }

    #[test]
    fn a_path_has_a_value_on_all_its_routes_or_on_none() {
        let route = |kind| RouteSpec::new("/a", kind);
        let mut engine = engine(Config::default(), &[route(RouteKind::WebSocket)]);
        let now = Instant::from_millis(1);
        let set = |engine: &mut Engine, path, key, value| engine.set_on(now, path, key, value);
        assert_eq!(set(&mut engine, "/b", "limits.fragments", "2"), Ok(false));
        for value in ["5m", "10m", "10m"] {
            assert_eq!(set(&mut engine, "/a", "deadlines.read_idle", value), Ok(true));
        }
        let ten = ("deadlines.read_idle".to_owned(), "10m".to_owned());
        assert_eq!(*engine.settings.routes[0].changes, *slice::from_ref(&ten), "the last counts");
        // The second route would end a connection before its first ping.
        engine.add_routes(vec![route(RouteKind::Get).into()]).unwrap();
        assert!(set(&mut engine, "/a", "heartbeat.interval", "4m").is_err());
        assert_eq!(engine.settings.routes[0].changes, [ten]);
        assert!(engine.settings.routes[1].changes.is_empty());
    }

    #[cfg(feature = "backbone")]
    #[test]
    fn a_host_publishes_through_a_late_log_until_that_has_too_much() {
        let mut config = Config::default();
        config.limits.memory_bytes = Some(1 << 20);
        let mut engine = engine(config, &[]);
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
