//! What an open WebSocket receives, and whether its application keeps up.

use std::time::Duration;

use crate::core::connection::heartbeat::Heartbeat;
use crate::core::connection::{Connection, Mark, Open, Phase, Stage};
use crate::core::contract::event::Event;
use crate::core::contract::route::{RouteKind, RouteSpec};
use crate::core::engine::feed::{Form, form};
use crate::core::engine::{Engine, MESSAGE_COST, Setup, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, SomeMoment};
use crate::core::observe::stats::Transport;
use crate::core::outbox::Kind;
use crate::core::wire::http::Request;
use crate::core::wire::ws::{self, Incoming};

impl Engine {
    /// Makes a WebSocket of a connection whose 101 has been queued.
    pub(super) fn open(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let config = &self.setup.config;
        let heartbeat = Heartbeat::new(&self.rules.heartbeat, &mut self.random);
        let lifetime_at = config.deadlines.lifetime.map(|lifetime| {
            let most = lifetime.as_millis() as u64;
            let least = (most as f64 * (1.0 - config.heartbeat.jitter)) as u64;
            let lived_ms = self.random.between(least.min(most), most);
            SomeMoment::from(now + Duration::from_millis(lived_ms) + Instant::RESOLUTION)
        });
        let open = Open {
            decoder: ws::Decoder::default(),
            heartbeat,
            unread_ms: 0,
            lifetime_at,
            pings: Default::default(),
        };
        let Some(connection) = self.get_mut(id) else { return };
        connection.flags.transport = Transport::WebSocket;
        connection.heard_at = now.into();
        connection.enter(now, Phase::Open(open));
        if let Some(rates) = &mut connection.rates {
            // The upgrade is no message.
            rates.messages = Default::default();
        }
        self.stats.upgraded += 1;
        self.actions.push_back(crate::core::engine::Action::Upgraded(id.key()));
        match self.has_handler(id) {
            true => self.push_event(id, Event::Opened(request)),
            false => self.begin_feed(now, id),
        }
        self.mark_ready(id);
    }

    pub(super) fn handle_incoming(&mut self, now: Instant, id: ConnectionId, item: Incoming) {
        match item {
            Incoming::Message(_) if !self.spend_message(now, id) => {
                self.fail(now, id, CloseReason::Rate);
            }
            Incoming::Message(message) => {
                self.turn_left = self.turn_left.saturating_sub(MESSAGE_COST);
                self.stats.messages_received += 1;
                if let Some(connection) = self.get_mut(id) {
                    connection.counters.messages_in += 1;
                }
                if let Some(message) = self.take_published(now, id, message) {
                    self.push_event(id, Event::Message(message));
                }
            }
            Incoming::Ping(ping) => {
                self.turn_left = self.turn_left.saturating_sub(MESSAGE_COST);
                if self.spend_ping(now, id) {
                    self.push_frame(now, id, ws::encoder::pong(ping), Kind::Pong);
                }
            }
            Incoming::Pong(pong) => {
                self.turn_left = self.turn_left.saturating_sub(MESSAGE_COST);
                self.handle_pong(now, id, &pong);
            }
            Incoming::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code);
                self.close_when_handled(now, id, CloseReason::Peer(code));
            }
        }
    }

    fn handle_pong(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        let rules = self.rules.heartbeat;
        let Some(connection) = self.get_mut(id) else { return };
        let route = connection.route.map_or(0, usize::from);
        let Phase::Open(open) = &mut connection.phase else { return };
        let Some(rtt) = open.heartbeat.pong(&rules, payload, now) else {
            // Nobody asked for this one, or it comes too late to be measured.
            self.spend_ping(now, id);
            return;
        };
        self.stats.ping_rtt.record_ms(rtt);
        if self.setup.routes[route].wants_pongs {
            self.push_event(id, Event::Pong(rtt));
        }
    }

    /// Counts a control frame that the peer sent of its own accord; too many end the connection.
    fn spend_ping(&mut self, now: Instant, id: ConnectionId) -> bool {
        let rate = self.setup.config.limits.pings_per_second;
        let Some(connection) = self.get_mut(id) else { return false };
        let Phase::Open(open) = &mut connection.phase else { return false };
        let fits = open.pings.take(now, rate.into());
        if !fits {
            self.fail(now, id, CloseReason::Rate);
        }
        fits
    }

    /// Says whether nothing may be decoded now: the application is behind, a request is in
    /// progress, or the peer has sent too much.
    pub(super) fn is_behind(&self, connection: &Connection) -> bool {
        is_behind(&self.setup, connection)
    }

    /// Says whether the route of a connection has a handler; the others are the engine's own.
    pub(super) fn has_handler(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| is_handled(&self.setup.routes, connection))
    }

    /// Lets the deadlines of a connection that is not read from stand still, and go on where they
    /// stood when it is read again. Says whether it may be read.
    pub(super) fn update_pause(&mut self, now: Instant, id: ConnectionId) -> bool {
        let is_short = self.budget.is_short();
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let is_behind = is_behind(&self.setup, connection)
            || is_short && is_publisher(&self.setup.routes, connection);
        let was_paused = connection.flags.paused;
        if matches!(connection.phase, Phase::Open(_)) && was_paused != is_behind {
            connection.flags.paused = is_behind;
            connection.flags.relink = true;
            match is_behind {
                true => connection.phase_at = now.into(),
                false => connection.skip_pause(now),
            }
            // What stood still is nearer than what the wheel was told.
            self.touch(id);
        }
        if was_paused && !is_behind {
            self.mark_ready(id);
        }
        !is_behind
    }
}

fn is_behind(setup: &Setup, connection: &Connection) -> bool {
    if connection.reads_at().is_some() {
        return true;
    }
    let limits = &setup.config.limits;
    match &connection.phase {
        Phase::Head { .. } | Phase::KeepAlive { .. } | Phase::Body(_) | Phase::Stream { .. } => {
            false
        }
        Phase::Deciding(_) | Phase::Answering { .. } => true,
        Phase::Open(_) => {
            connection.flags.draining
                || connection.inbox.as_ref().is_some_and(|inbox| {
                    inbox.is_full(limits) || connection.marks.has(Mark::Asking)
                })
                || is_deaf(setup, connection)
        }
        Phase::Closing(closing) => closing.stage == Stage::Handling && closing.decoder.is_some(),
    }
}

/// Says whether a client of `/ws` leaves unread what it is answered: it may not ask for more.
fn is_deaf(setup: &Setup, connection: &Connection) -> bool {
    connection.outbox.held_bytes() > setup.config.limits.outbox_bytes / 2
        && form(&setup.routes, connection) == Some(Form::Envelope)
}

/// Says whether a WebSocket of a topic has published: it has no word for a refusal, so it waits
/// while memory is short. One that only listens is read on, and stays alive by its pongs; and what
/// was read of it is decoded, or shortage might be kept up by nothing but those who wait.
fn is_publisher(routes: &[RouteSpec], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    let has_rest = connection.inbox.as_ref().is_some_and(|inbox| !inbox.rest.is_empty());
    let is_open = matches!(connection.phase, Phase::Open(_));
    kind == Some(RouteKind::TopicSocket)
        && is_open
        && connection.counters.messages_in > 0
        && !has_rest
}

/// Says whether the route of a connection has a handler; the others are the engine's own.
pub(super) fn is_handled(routes: &[RouteSpec], connection: &Connection) -> bool {
    let kind = connection.route.map(|route| routes[usize::from(route)].kind);
    kind == Some(RouteKind::WebSocket)
}
