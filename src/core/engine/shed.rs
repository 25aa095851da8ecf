//! Telling a part of the connections to go elsewhere, and ending one by hand.

use log::info;

use crate::core::connection::{Connection, Leaving};
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::departures::Departures;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;

impl Engine {
    /// Tells a fraction of the clients of WebSockets and event streams to come back later, to
    /// another server if there is one. Their connections are chosen at random and end spread over
    /// time, as in a drain. Those left from an earlier shed are spread anew. Returns how many were
    /// chosen now.
    ///
    /// Plain requests are left alone: they end by themselves.
    pub(super) fn begin_shed(&mut self, now: Instant, fraction: f64) -> usize {
        if self.schedule.drain.is_some() {
            // All connections are ending already.
            return 0;
        }
        let is_candidate = |connection: &Connection| {
            let is_chosen = connection.flags.leaving != Leaving::No;
            connection.face != Face::Admin && connection.is_live() && !is_chosen
        };
        let mut ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_candidate(connection))
            .map(|(_, connection)| connection.id)
            .collect();
        let open = ids.len();
        let count = ((open as f64 * fraction).round() as usize).min(open);
        for place in 0..count {
            let other = self.random.between(place as u64, open as u64 - 1);
            ids.swap(place, other as usize);
        }
        ids.truncate(count);
        debug_assert!(ids.len() == count && count <= open, "each is chosen once");
        for id in &ids {
            if let Some(connection) = self.get_mut(*id) {
                connection.flags.leaving = Leaving::Shed;
            }
        }
        ids.extend(self.schedule.shed.take().into_iter().flat_map(Departures::into_waiting));
        let told = ids.len() as u64;
        let departures = Departures::new(now, ids, told, self.settings.config.deadlines.drain);
        info!("shed begun connections={count} of={open} spread_ms={}", departures.spread_ms());
        self.schedule.shed = Some(departures);
        count
    }

    /// Returns when the next connection is shed; `None` if none waits to be.
    pub(super) fn shed_at(&self) -> Option<Instant> {
        self.schedule.shed.as_ref().filter(|_| self.admission.public > 0)?.next_at()
    }

    /// Sheds the connections whose turn has come, as many as may act in this turn.
    pub(super) fn shed_on(&mut self, now: Instant, acts_left: &mut usize) {
        while *acts_left > 0
            && let Some(departures) = &mut self.schedule.shed
            && let Some(id) = departures.poll(now)
        {
            *acts_left -= 1;
            let Some(connection) = self.get(id) else { continue };
            let effect = connection.end_by_shed();
            self.act_on(now, id, effect);
        }
        self.schedule.shed.take_if(|departures| departures.next_at().is_none());
    }

    /// Ends one connection, whatever it is: a WebSocket by 1008, an event stream and an answer
    /// behind what is queued, anything else by FIN. Returns whether the id named a connection.
    pub(super) fn kick(&mut self, now: Instant, id: ConnectionId) -> bool {
        let is_there = self.get(id).is_some();
        self.end_now(now, id, CloseReason::Kicked);
        is_there
    }
}
