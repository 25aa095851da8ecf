//! What has been received and waits for the handler.

use std::collections::VecDeque;

use crate::core::config::Limits;
use crate::core::contract::event::Event;
use crate::core::wire::hub::Reading;

/// What has been received and waits for the handler.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub events: VecDeque<Event>,
    /// How many of the events are messages.
    pub messages: usize,
    /// The bytes of these messages.
    pub bytes: usize,
    /// How many of the events are of timers.
    pub timers: usize,
    /// Bytes of one read that could not be decoded yet, from `rest_from` on.
    rest: Vec<u8>,
    rest_from: usize,
    /// What has been read of an incomplete message of `/ws`, whose bytes the decoder holds.
    pub reading: Option<Box<Reading>>,
    /// Bytes that the handler of the job that is out may send beyond the outbox limit: as many as
    /// the job bears.
    pub promised: usize,
    /// Messages in the job that is out.
    pub given: u64,
}

impl Inbox {
    /// Puts an event behind the others. An event that only tells a state replaces the last such
    /// event, so that nothing piles up behind a blocked handler.
    #[inline]
    pub fn push(&mut self, event: Event) {
        debug_assert!(!matches!(event, Event::Closed(_)), "it is told when the connection is gone");
        if let Some(bytes) = event.message_bytes() {
            self.messages += 1;
            self.bytes += bytes;
        }
        self.timers += usize::from(matches!(event, Event::Timer(_)));
        match self.events.back_mut() {
            Some(last) if last.is_superseded_by(&event) => *last = event,
            _ => self.events.push_back(event),
        }
    }

    /// Takes out the event of the timer with this token, if the handler has not been given it.
    pub fn take_timer(&mut self, token: u64) -> bool {
        let taken = self.timers > 0 && take_timer(&mut self.events, token);
        self.timers -= usize::from(taken);
        taken
    }

    /// Keeps bytes that could not be decoded yet, from `from` on.
    pub fn keep_rest(&mut self, rest: Vec<u8>, from: usize) {
        debug_assert!(self.rest.is_empty(), "what was read before is decoded first");
        debug_assert!(from < rest.len(), "something is left");
        (self.rest, self.rest_from) = (rest, from);
    }

    /// Takes the bytes that could not be decoded yet.
    pub fn take_rest(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.rest), std::mem::take(&mut self.rest_from))
    }

    /// Drops the bytes that could not be decoded yet.
    pub fn drop_rest(&mut self) {
        self.rest = Vec::new();
        self.rest_from = 0;
    }

    /// Returns whether there are bytes that could not be decoded yet.
    #[inline]
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Returns the bytes of memory of what is not decoded yet, and of an incomplete message.
    pub fn partial_bytes(&self) -> usize {
        let reading = self.reading.as_ref().map_or(0, |reading| reading.held_bytes());
        self.rest.capacity() + reading
    }

    /// Returns whether as much waits for the handler as may wait.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.messages >= limits.inbox_messages || self.bytes >= limits.inbox_bytes
    }

    /// Empties the inbox. The list of events keeps its memory.
    pub fn empty(&mut self) {
        self.events.clear();
        self.messages = 0;
        self.bytes = 0;
        self.timers = 0;
        self.promised = 0;
        self.given = 0;
        self.drop_rest();
        self.reading = None;
    }

    /// Returns whether the inbox is empty and no job is out: then it can be given back.
    pub fn is_idle(&self) -> bool {
        let is_empty = self.events.is_empty() && self.rest.is_empty() && self.reading.is_none();
        is_empty && self.given == 0
    }

    /// Asserts what holds whatever came.
    pub(super) fn check(&self) {
        // Only a few events are looked through.
        if self.events.len() <= EVENTS_LOOKED_AT {
            let messages = self.events.iter().filter_map(Event::message_bytes);
            let (count, bytes) = messages.fold((0, 0), |(count, sum), len| (count + 1, sum + len));
            debug_assert_eq!((count, bytes), (self.messages, self.bytes), "as they were counted");
            let is_timer = |event: &&Event| matches!(event, Event::Timer(_));
            let timers = self.events.iter().filter(is_timer).count();
            debug_assert_eq!(timers, self.timers, "as they were counted");
        }
        debug_assert!(self.rest_from <= self.rest.len(), "no more was decoded than there was");
    }
}

/// Takes out the event of the timer with this token. Returns whether there was one.
pub(crate) fn take_timer(events: &mut VecDeque<Event>, token: u64) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Timer(other) if *other == token);
    let found = events.iter().position(is_it);
    found.is_some_and(|index| events.remove(index).is_some())
}

/// At most this many events are looked through, in a build that asserts.
const EVENTS_LOOKED_AT: usize = 64;
