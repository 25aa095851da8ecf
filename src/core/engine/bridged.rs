//! What bridges ask of an engine: readers of its topics, and publications that come from their far
//! sides.

use std::collections::VecDeque;

use crate::core::engine::Engine;
use crate::core::engine::tickets::{Answer, Asker, Published, Unpublished};
use crate::core::ground::time::Instant;
use crate::core::observe::bridges::BridgeFigures;
use crate::core::topics::{Content, EventId, PublishError, ReaderKey, Reading, Topics, Wants};

/// What the loop has yet to be told, for its bridges.
#[derive(Debug)]
pub(super) struct Bridged {
    /// Publications of bridges that waited, and whether each was published.
    settled: VecDeque<(ReaderKey, u64, bool)>,
    /// The configuration may be another.
    is_reloaded: bool,
    /// What is told of bridges.
    figures: Vec<BridgeFigures>,
}

impl Default for Bridged {
    fn default() -> Bridged {
        Bridged { settled: VecDeque::new(), is_reloaded: true, figures: Vec::new() }
    }
}

impl Bridged {
    pub fn note_reload(&mut self) {
        self.is_reloaded = true;
    }

    pub fn figures(&self) -> &[BridgeFigures] {
        &self.figures
    }

    pub fn note_answer(&mut self, key: ReaderKey, number: u64, answer: &Answer) {
        let is_published = !matches!(answer, Answer::Refused(..));
        self.settled.push_back((key, number, is_published));
    }
}

/// What became of a publication from a far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenIn {
    /// The event has its id.
    Now,
    /// [`Engine::poll_taken_in`] will tell.
    Later,
    /// Not now: it is to be tried again.
    Full,
    /// No topic can have this name.
    Never,
}

impl Engine {
    /// Returns whether the bridges of the configuration may be others than at the last call; the
    /// first time they are.
    pub fn take_reloaded(&mut self) -> bool {
        std::mem::take(&mut self.bridged.is_reloaded)
    }

    /// Sets what is told of bridges.
    pub fn set_bridge_figures(&mut self, figures: Vec<BridgeFigures>) {
        self.bridged.figures = figures;
    }

    /// Adds a reader: see [`Topics::add_reader`].
    pub fn add_reader(&mut self, wants: Wants, after: EventId, window: usize) -> Option<ReaderKey> {
        self.topics.add_reader(wants, after, window)
    }

    /// Lends the topics for what concerns a reader alone.
    pub fn readers(&self) -> &Topics {
        &self.topics
    }

    /// Takes a reader away.
    pub fn remove_reader(&mut self, key: ReaderKey) {
        self.topics.remove_reader(key);
        self.bridged.settled.retain(|(of, _, _)| *of != key);
    }

    /// Returns what a reader is given next.
    pub fn poll_reader(&mut self, key: ReaderKey) -> Option<Reading> {
        self.topics.poll_reader(key)
    }

    /// Notes that a reader's far side has taken what bears this number.
    pub fn acknowledge(&mut self, key: ReaderKey, number: u64) {
        self.topics.acknowledge(key, number);
    }

    /// Publishes what came from the far side of a reader, which is not given it. The number names
    /// the publication if its answer comes later.
    pub fn publish_from_far(
        &mut self,
        now: Instant,
        key: ReaderKey,
        number: u64,
        topic: &str,
        content: Content,
    ) -> TakenIn {
        if !self.topics.may_take_from(key) {
            return TakenIn::Full;
        }
        self.topics.set_origin(Some(key));
        let published = self.publish(now, topic, content);
        self.topics.set_origin(None);
        match published {
            Ok(Published::Now(_)) => TakenIn::Now,
            Ok(Published::Later(ticket)) => {
                self.name_bridge(ticket, Asker::Bridge(key, number));
                TakenIn::Later
            }
            Err(Unpublished::Topic(PublishError::BadName)) => TakenIn::Never,
            Err(Unpublished::Topic(_) | Unpublished::Unavailable) => TakenIn::Full,
        }
    }

    /// Takes the next answer to a publication of a reader's far side: its number, and whether the
    /// event was published.
    pub fn poll_taken_in(&mut self, key: ReaderKey) -> Option<(u64, bool)> {
        let place = self.bridged.settled.iter().position(|(of, _, _)| *of == key)?;
        let (_, number, is_published) = self.bridged.settled.remove(place)?;
        Some((number, is_published))
    }

    /// Returns whether answers wait to be taken.
    pub fn has_taken_in(&self) -> bool {
        !self.bridged.settled.is_empty()
    }
}
