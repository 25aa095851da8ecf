//! Bridges, as the loop has them: each with its reader of topics, and its far side, which is a
//! client of the loop.

mod bridge;
mod far;

use crate::core::config::Bridge as Settings;
use crate::core::engine::Engine;
use crate::core::ground::time::{Instant, sooner};
use crate::core::observe::bridges::BridgeFigures;
use crate::core::topics::EventId;
use crate::io::client::Clients;
use crate::io::event_loop::EventLoop;

use bridge::Bridge;

/// The bridges of a loop.
#[derive(Default)]
pub(super) struct Bridges {
    all: Vec<Bridge>,
    /// The positions that a store has, or had at the beginning.
    #[cfg(feature = "store")]
    stored: Vec<(String, EventId)>,
    /// How much was done when they were given to the store.
    #[cfg(feature = "store")]
    done: u64,
}

impl EventLoop {
    /// Does what is due for bridges.
    pub(super) fn turn_bridges(&mut self, now: Instant) {
        if self.engine.take_reloaded() {
            self.outside.bridges.follow(now, &mut self.engine, &mut self.outside.clients);
            self.engine.set_bridge_figures(Vec::new());
        }
        let bridges = &mut self.outside.bridges;
        if bridges.all.is_empty() {
            return;
        }
        for bridge in &mut bridges.all {
            bridge.turn(now, &mut self.engine, &mut self.outside.clients);
        }
        if self.engine.tells_figures() {
            self.engine.set_bridge_figures(bridges.figures());
        }
        // What was sent goes out in this turn.
        if self.outside.clients.has_work_left() {
            self.outside.clients.turn(now);
        }
    }
}

impl Bridges {
    /// Begins and ends bridges as the configuration has them. Those that are in it unchanged go on.
    fn follow(&mut self, now: Instant, engine: &mut Engine, clients: &mut Clients) {
        let wanted = engine.config().bridges.clone();
        let is_wanted = |bridge: &Bridge| wanted.contains(bridge.settings());
        let (kept, others): (Vec<_>, Vec<_>) = self.all.drain(..).partition(is_wanted);
        self.all = kept;
        let is_kept =
            |settings: &&Settings| !self.all.iter().any(|one| one.settings() == *settings);
        let begun: Vec<&Settings> = wanted.iter().filter(is_kept).collect();
        for settings in begun {
            let before = others.iter().find(|other| other.settings().name() == settings.name());
            let positions: Vec<_> = match before {
                Some(before) => before.positions(engine).collect(),
                None => self.stored().to_vec(),
            };
            if let Some(bridge) = Bridge::begin(now, settings, before, &positions, engine) {
                self.all.push(bridge);
            }
        }
        others.into_iter().for_each(|bridge| bridge.end(now, engine, clients));
    }

    #[cfg(feature = "store")]
    fn stored(&self) -> &[(String, EventId)] {
        &self.stored
    }

    #[cfg(not(feature = "store"))]
    fn stored(&self) -> &[(String, EventId)] {
        &[]
    }

    /// Has bridges go on from positions that a store has.
    #[cfg(feature = "store")]
    pub fn resume(&mut self, positions: &[(String, EventId)]) {
        self.stored = positions.to_vec();
    }

    /// Returns the positions for the store, if they have changed, and whether more was done since.
    #[cfg(feature = "store")]
    pub fn poll_positions(&mut self, engine: &Engine) -> Option<(Vec<(String, EventId)>, bool)> {
        if self.all.is_empty() {
            return None;
        }
        let done = self.all.iter().map(|bridge| bridge.figures.sent + bridge.figures.received);
        let done = done.sum();
        let positions: Vec<_> = self.all.iter().flat_map(|one| one.positions(engine)).collect();
        if positions == self.stored {
            return None;
        }
        self.stored.clone_from(&positions);
        let is_news = std::mem::replace(&mut self.done, done) != done;
        Some((positions, is_news))
    }

    /// Returns whether a turn would find something to do at once.
    pub fn has_work_left(&self, engine: &Engine, clients: &Clients) -> bool {
        !self.all.is_empty()
            && (engine.has_taken_in() || self.all.iter().any(|one| one.is_due(engine, clients)))
    }

    /// Returns when the next turn must come.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().map(Bridge::next_deadline).fold(None, sooner)
    }

    /// Returns the figures of all.
    pub fn figures(&self) -> Vec<BridgeFigures> {
        self.all.iter().map(|bridge| bridge.figures.clone()).collect()
    }
}
