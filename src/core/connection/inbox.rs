//! What has been received and waits for the handler.

use std::collections::VecDeque;

use crate::core::config::Limits;
use crate::core::contract::event::Event;

/// What has been received and waits for the handler.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub events: VecDeque<Event>,
    /// How many of the events are messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes of one read that could not be decoded yet, from `rest_from` on.
    pub rest: Vec<u8>,
    pub rest_from: usize,
    /// Bytes that the handler of the job that is out may send beyond the outbox limit: as many as
    /// it was given.
    pub promised: usize,
    /// Messages in the job that is out.
    pub given: u64,
}

impl Inbox {
    /// Puts an event behind the others. Of what is only a state the newest counts: nothing piles up
    /// behind a blocked handler.
    #[inline]
    pub fn push(&mut self, event: Event) {
        debug_assert!(!matches!(event, Event::Closed(_)), "it is told when the connection is gone");
        if let Event::Message(message) = &event {
            self.messages += 1;
            self.bytes += message.len();
        }
        match self.events.back_mut() {
            Some(last) if last.is_superseded_by(&event) => *last = event,
            _ => self.events.push_back(event),
        }
    }

    /// Says whether the handler has enough waiting.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.messages >= limits.inbox_messages || self.bytes >= limits.inbox_bytes
    }

    /// Empties it. Its events keep their room.
    pub fn empty(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        *self = Inbox { events, ..Inbox::default() };
    }

    /// Says whether nothing is in it and no job is out: it can be given back.
    pub fn is_idle(&self) -> bool {
        self.events.is_empty() && self.rest.is_empty() && self.given == 0
    }
}
