//! Bridges, as the loop has them: each with its reader of topics, and its far side, which is a
//! client of the loop.

mod bridge;
mod far;

use crate::core::config::Bridge as Settings;
use crate::core::engine::Engine;
use crate::core::ground::time::{Instant, sooner};
use crate::core::observe::bridges::BridgeFigures;
use crate::io::client::Clients;
use crate::io::event_loop::EventLoop;

use bridge::Bridge;

/// The bridges of a loop.
#[derive(Default)]
pub(super) struct Bridges {
    all: Vec<Bridge>,
}

impl EventLoop {
    /// Does what is due for bridges. Returns whether their far sides have been sent something.
    pub(super) fn turn_bridges(&mut self, now: Instant) {
        if self.engine.take_reloaded() {
            self.outside.bridges.follow(now, &mut self.engine, &mut self.outside.clients);
        }
        let bridges = &mut self.outside.bridges;
        if bridges.all.is_empty() {
            return;
        }
        for bridge in &mut bridges.all {
            bridge.turn(now, &mut self.engine, &mut self.outside.clients);
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
            if let Some(bridge) = Bridge::begin(now, settings, before, engine) {
                self.all.push(bridge);
            }
        }
        others.into_iter().for_each(|bridge| bridge.end(now, engine, clients));
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
