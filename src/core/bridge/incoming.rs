//! What has come from the far side, until it is published here.

use std::collections::{BTreeMap, VecDeque};

use super::Outgoing;
use crate::core::topics::{Content, EventId};

/// Events and gaps that came from the far side, in their order.
///
/// The position of a far topic is that of the newest event before which all others of that topic
/// are published here. Memory is bounded: no more is taken from the far side while
/// [`Incoming::has_room`] says so.
#[derive(Debug, Default)]
pub struct Incoming {
    waiting: VecDeque<Coming>,
    bytes: usize,
    /// Published, and not answered; or behind one that is not answered.
    asked: VecDeque<Asked>,
    /// Ids that the far side has given to what was sent to topics that come in, too.
    echoes: VecDeque<(String, EventId)>,
    positions: BTreeMap<String, EventId>,
    next_number: u64,
}

/// One that came.
#[derive(Clone, Debug)]
pub struct Coming {
    /// The far topic.
    pub topic: String,
    /// The far side's id; `None` for a gap, and where the far side has no ids.
    pub id: Option<EventId>,
    /// What was published there.
    pub content: Content,
    /// It tells a gap.
    pub is_gap: bool,
    /// What the far side is to be told when it is published here.
    pub receipt: u64,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    coming: Coming,
    is_done: bool,
}

impl Incoming {
    /// Returns whether more may be taken from the far side.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.bytes < BYTES_MAX && self.asked.len() < ASKED_MAX
    }

    /// Takes what has come.
    pub fn push(&mut self, coming: Coming) {
        self.bytes += coming.content.payload.len();
        self.waiting.push_back(coming);
    }

    /// Notes the id that the far side has given to what was sent there, to a topic that comes in.
    pub fn note_echo(&mut self, topic: &str, id: EventId) {
        if self.echoes.len() >= ECHOES_MAX {
            // It would come in as anything else does: a double.
            self.echoes.pop_front();
        }
        self.echoes.push_back((topic.to_owned(), id));
    }

    /// Returns what is to be published next, and its number. What was sent from here is passed
    /// over; while its id may still come, it waits.
    pub fn next(&mut self, outgoing: &Outgoing) -> Option<(u64, &Coming)> {
        loop {
            let coming = self.waiting.front()?;
            if self.is_echo(coming) {
                let number = self.ask()?;
                self.settle(number);
                continue;
            }
            // Behind what is full may be what is waited for.
            if self.has_room() && outgoing.is_on_its_way(&coming.topic, &coming.content) {
                return None;
            }
            return self.waiting.front().map(|coming| (self.next_number, coming));
        }
    }

    /// Notes that the next was published, or will not be: [`Incoming::settle`] is to follow.
    /// Returns its number.
    pub fn ask(&mut self) -> Option<u64> {
        let coming = self.waiting.pop_front()?;
        self.bytes -= coming.content.payload.len();
        let number = self.next_number;
        self.next_number += 1;
        self.asked.push_back(Asked { number, coming, is_done: false });
        Some(number)
    }

    /// Notes that one is done with.
    pub fn settle(&mut self, number: u64) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.number == number) {
            asked.is_done = true;
        }
    }

    /// Has one be published again, and those behind it after it.
    pub fn retry(&mut self, number: u64) {
        let place = self.asked.iter().position(|asked| asked.number == number);
        let Some(place) = place else { return };
        for asked in self.asked.split_off(place).into_iter().rev() {
            if !asked.is_done {
                self.bytes += asked.coming.content.payload.len();
                self.waiting.push_front(asked.coming);
            }
        }
    }

    /// Takes the next receipt that the far side is to be given: what it is for, and all before it,
    /// is published here.
    pub fn poll_receipt(&mut self) -> Option<u64> {
        self.asked.front().filter(|asked| asked.is_done)?;
        let asked = self.asked.pop_front()?;
        if let Some(id) = asked.coming.id {
            let topic = &asked.coming.topic;
            self.echoes.retain(|(of, echo)| of != topic || *echo > id);
            self.positions.insert(asked.coming.topic, id);
        }
        Some(asked.coming.receipt)
    }

    /// Forgets what is not published: it comes again.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.asked.clear();
        self.bytes = 0;
    }

    /// Returns from where on a far topic is to be asked for.
    pub fn position(&self, topic: &str) -> EventId {
        self.positions.get(topic).copied().unwrap_or(EventId::ZERO)
    }

    /// Returns the positions of all far topics.
    pub fn positions(&self) -> impl Iterator<Item = (&str, EventId)> {
        self.positions.iter().map(|(topic, id)| (&**topic, *id))
    }

    /// Sets the position of a far topic.
    pub fn set_position(&mut self, topic: &str, id: EventId) {
        self.positions.insert(topic.to_owned(), id);
    }

    /// Returns whether something waits to be published.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn is_echo(&self, coming: &Coming) -> bool {
        let is_it =
            |(topic, id): &(String, EventId)| *topic == coming.topic && coming.id == Some(*id);
        self.echoes.iter().any(is_it)
    }
}

/// How many may wait, and their bytes; one more is taken.
const WAITING_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;
/// How many may be published and not answered.
const ASKED_MAX: usize = 256;
/// How many ids of what was sent from here are remembered.
const ECHOES_MAX: usize = 256;
