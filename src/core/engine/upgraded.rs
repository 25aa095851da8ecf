//! What an open WebSocket receives, and whether its application keeps up.

use std::time::Duration;

use crate::core::connection::heartbeat::Heartbeat;
use crate::core::connection::{Connection, WebSocket};
use crate::core::contract::event::Event;
use crate::core::engine::feed::Form;
use crate::core::engine::services::{form, is_publisher};
use crate::core::engine::settings::Settings;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::cohort::Cohort;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::ground::time::{Instant, SomeMoment};
use crate::core::outbox::Kind;
use crate::core::wire::http::Request;
use crate::core::wire::ws::{self, Incoming};

impl Engine {
    /// Makes a WebSocket of a connection whose 101 has been queued.
    pub(super) fn open(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: Box<Request>,
        subprotocol: Subprotocol,
    ) {
        let Some(connection) = self.get(id) else { return };
        let rules = self.settings.rules(connection);
        let rhythm = &rules.spans.heartbeat;
        let heartbeat = Heartbeat::new(rhythm, &mut self.random);
        let lifetime_at = rules.lifetime.map(|lifetime| {
            let most = lifetime.as_millis() as u64;
            let least = (most as f64 * (1.0 - rhythm.jitter)) as u64;
            let lived_ms = self.random.between(least.min(most), most);
            SomeMoment::from(now + Duration::from_millis(lived_ms) + Instant::RESOLUTION)
        });
        let Some(connection) = self.get_mut(id) else { return };
        connection.upgrade(now, WebSocket::new(heartbeat, lifetime_at), subprotocol);
        // It stands for this client to its end.
        self.admission.forget_hop(id);
        self.stats.upgraded += 1;
        self.actions.push_back(crate::core::engine::Action::Upgraded(id.key()));
        self.take_over(now, id);
        self.serve_opened(now, id, request);
        self.mark_ready(id);
    }

    pub(super) fn handle_incoming(&mut self, now: Instant, id: ConnectionId, item: Incoming) {
        match item {
            Incoming::Message(_) if !self.spend_message(now, id) => {
                self.fail(now, id, CloseReason::Rate);
            }
            Incoming::Message(message) => {
                self.allowance.charge_message();
                self.stats.messages_received += 1;
                if let Some(connection) = self.get_mut(id) {
                    connection.counters.messages_in += 1;
                }
                self.serve_message(now, id, message);
            }
            Incoming::Ping(ping) => {
                self.allowance.charge_message();
                if self.spend_ping(now, id) {
                    self.push_frame(now, id, ws::encoder::pong(ping), Kind::Pong);
                }
            }
            Incoming::Pong(pong) => {
                self.allowance.charge_message();
                self.handle_pong(now, id, &pong);
            }
            Incoming::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code);
                self.close_when_handled(now, id, CloseReason::Peer(code));
            }
        }
    }

    fn handle_pong(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let rhythm = self.settings.spans(connection).heartbeat;
        let route = connection.route.map_or(0, usize::from);
        let is_canary = connection.flags.cohort == Some(Cohort::Canary);
        let Some(heartbeat) = connection.heartbeat_mut() else { return };
        let Some(rtt) = heartbeat.pong(&rhythm, payload, now) else {
            // No ping asked for this pong, or it comes too late to be measured.
            self.spend_ping(now, id);
            return;
        };
        self.note_ponged(id);
        self.stats.ping_rtt.record_ms(rtt);
        if is_canary {
            self.stats.canary.ping_rtt.record_ms(rtt);
        }
        if self.settings.routes[route].wants_pongs {
            self.push_event(id, Event::Pong(rtt));
        }
    }

    /// Counts a control frame that the peer sent of its own accord; too many end the connection.
    fn spend_ping(&mut self, now: Instant, id: ConnectionId) -> bool {
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let rate = self.settings.rules(connection).limits.pings_per_second;
        if !connection.is_open() {
            return false;
        }
        let fits = connection.spend_ping(now, rate.into());
        if !fits {
            self.fail(now, id, CloseReason::Rate);
        }
        fits
    }

    /// Returns whether nothing may be decoded now: the application is behind, a request is in
    /// progress, or the peer has sent too much.
    pub(super) fn is_behind(&self, connection: &Connection) -> bool {
        is_behind(&self.settings, connection)
    }

    /// Lets the deadlines of a connection that is not read from stand still, and go on where they
    /// stood when it is read again. Returns whether the connection may be read.
    pub(super) fn update_pause(&mut self, now: Instant, id: ConnectionId) -> bool {
        let is_short = self.budget.is_short();
        let Some(connection) = find_mut(&mut self.connections, id) else { return false };
        let is_behind = is_behind(&self.settings, connection)
            || is_short && is_publisher(&self.settings.routes, connection);
        if connection.set_paused(now, is_behind) {
            // The deadline that stood still is nearer than the one that the wheel was told.
            self.touch(id);
            if !is_behind {
                self.mark_ready(id);
            }
        }
        !is_behind
    }
}

fn is_behind(settings: &Settings, connection: &Connection) -> bool {
    let limits = &settings.rules(connection).limits;
    // A client of `/ws` that leaves so many answers unread may not ask for more.
    let is_deaf = || {
        connection.outbox.held_bytes() > limits.outbox_bytes / 2
            && form(&settings.routes, connection).is_some_and(Form::is_hub)
    };
    connection.is_behind(limits) || is_deaf()
}
