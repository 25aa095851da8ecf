//! What the server tells of itself, and when.

use std::collections::VecDeque;

use crate::core::engine::queue::pop;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
#[cfg(feature = "cluster")]
use crate::core::observe::cluster::ClusterFigures;
use crate::core::observe::versions::Versions;
use crate::core::wire::http;

/// The connections to be told the server's figures, and the time of the wall clock.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Connections that asked for the server's figures.
    scrapes: VecDeque<ConnectionId>,
    /// One of them was looked for in this turn.
    has_scraped: bool,
    /// When the server's own figures are published next, while they have subscribers.
    pub figures_at: Option<Instant>,
    /// Which clients of `/ws` have said who they are.
    pub versions: Versions,
    /// What is told of the cluster, if there is one.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Box<ClusterFigures>>,
    pub date: Date,
}

impl Reports {
    /// Begins a turn, with the wall clock's time.
    pub fn begin_turn(&mut self, unix_ms: u64) {
        self.has_scraped = false;
        self.date.unix_ms = unix_ms;
    }

    /// Has a connection wait for the server's figures.
    pub fn ask(&mut self, id: ConnectionId) {
        self.scrapes.push_back(id);
    }

    /// Returns whether a connection waits for the server's figures.
    pub fn has_asked(&self) -> bool {
        !self.scrapes.is_empty()
    }

    /// Takes the next waiting connection: one in a turn.
    pub fn poll_scrape(&mut self) -> Option<ConnectionId> {
        match std::mem::replace(&mut self.has_scraped, true) {
            false => pop(&mut self.scrapes),
            true => None,
        }
    }
}

/// The Date header's text, formatted once a second.
#[derive(Debug, Default)]
pub(super) struct Date {
    pub unix_ms: u64,
    second: u64,
    text: String,
}

impl Date {
    pub fn text(&mut self) -> &str {
        let second = self.unix_ms / 1000;
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = http::date(self.unix_ms);
        }
        &self.text
    }
}
