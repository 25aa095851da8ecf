//! What is on its way to the far side: from the reader, in its order, until it is acknowledged.

use std::collections::VecDeque;

use super::{Rules, Unnamed};
use crate::core::ground::json::Object;
use crate::core::ground::time::Instant;
use crate::core::topics::{Content, EventId, Payload, Reading, What};

/// Events and gaps that the far side has not acknowledged. The reader's window bounds them.
#[derive(Debug, Default)]
pub struct Outgoing {
    all: VecDeque<Sending>,
}

/// One of them.
#[derive(Debug)]
pub struct Sending {
    /// The reader's number.
    pub number: u64,
    /// The far topic.
    pub topic: String,
    /// What is published there.
    pub content: Content,
    /// The event's id here; `None` of a gap.
    pub id: Option<EventId>,
    /// The topic without what names a gap.
    mapped: String,
    /// It tells a gap.
    pub is_gap: bool,
    /// The far side's reference; `None` while it is still to be sent.
    reference: Option<u32>,
    sent_at: Option<Instant>,
}

impl Outgoing {
    /// Takes what a reader has given.
    ///
    /// # Errors
    ///
    /// Its topic has none on the far side. It is done with: the caller says so.
    pub fn take(&mut self, rules: &Rules, reading: Reading) -> Result<(), Unnamed> {
        let mapped = rules.outgoing(&reading.topic)?;
        let mut sending = Sending {
            number: reading.number,
            topic: String::new(),
            content: Payload::text("").into(),
            id: None,
            mapped,
            is_gap: false,
            reference: None,
            sent_at: None,
        };
        match reading.what {
            What::Event(event) => {
                sending.topic.clone_from(&sending.mapped);
                sending.id = Some(event.id);
                sending.content = event.payload.traced(event.trace);
            }
            What::Gap(gap) => sending.tell_gap(rules, &reading.topic, gap.first),
        }
        self.all.push_back(sending);
        Ok(())
    }

    /// Returns the next that is to be sent.
    pub fn unsent(&self) -> Option<&Sending> {
        self.all.iter().find(|sending| sending.reference.is_none())
    }

    /// Returns whether something is to be sent.
    pub fn has_unsent(&self) -> bool {
        self.unsent().is_some()
    }

    /// Notes that the next one was sent, by which reference.
    pub fn note_sent(&mut self, now: Instant, reference: u32) {
        let next = self.all.iter_mut().find(|sending| sending.reference.is_none());
        if let Some(sending) = next {
            (sending.reference, sending.sent_at) = (Some(reference), Some(now));
        }
    }

    /// Takes out what was sent by a reference.
    pub fn settle(&mut self, reference: u32) -> Option<Sending> {
        let is_it = |sending: &Sending| sending.reference == Some(reference);
        let place = self.all.iter().position(is_it)?;
        let settled = self.all.remove(place);
        if self.all.is_empty() {
            self.all = VecDeque::new();
        }
        settled
    }

    /// Takes out the next that is to be sent.
    pub fn settle_unsent(&mut self) -> Option<Sending> {
        let place = self.all.iter().position(|sending| sending.reference.is_none())?;
        self.all.remove(place)
    }

    /// Puts back what was taken out, at its place, to be sent again.
    pub fn put_back(&mut self, sending: Sending) {
        let place = self.all.partition_point(|other| other.number < sending.number);
        self.all.insert(place, Sending { reference: None, sent_at: None, ..sending });
    }

    /// Puts a gap in the place of what the far side does not take. `None` if that was a gap: it is
    /// done with.
    pub fn put_gap(&mut self, rules: &Rules, mut sending: Sending) -> Option<()> {
        if sending.is_gap {
            return None;
        }
        sending.tell_gap(rules, "", None);
        self.put_back(sending);
        Some(())
    }

    /// Has all be sent again: their references are of the past.
    pub fn forget_sent(&mut self) {
        for sending in &mut self.all {
            (sending.reference, sending.sent_at) = (None, None);
        }
    }

    /// Returns when the oldest without an acknowledgement was sent.
    pub fn waits_since(&self) -> Option<Instant> {
        self.all.iter().filter_map(|sending| sending.sent_at).min()
    }

    /// Has the wait for acknowledgements begin anew.
    pub fn wait_anew(&mut self, now: Instant) {
        for sending in &mut self.all {
            sending.sent_at = sending.sent_at.map(|_| now);
        }
    }

    /// Returns whether the same is on its way to this far topic, and since which reference.
    pub fn is_on_its_way(&self, topic: &str, content: &Content) -> bool {
        let is_same = |sending: &Sending| {
            sending.reference.is_some()
                && sending.topic == topic
                && sending.content.payload == content.payload
        };
        self.all.iter().any(is_same)
    }
}

impl Sending {
    /// Makes a gap of it.
    fn tell_gap(&mut self, rules: &Rules, topic: &str, first: Option<EventId>) {
        self.topic = rules.gap_topic(&self.mapped);
        let topic = if topic.is_empty() { &self.mapped } else { topic };
        self.content = gap(topic, first);
        self.id = None;
        self.is_gap = true;
    }
}

/// Returns what is published of a gap.
pub fn gap(topic: &str, first: Option<EventId>) -> Content {
    let object = Object::new().string("topic", topic);
    let object = match first {
        Some(first) => object.string("first", &first.to_string()),
        None => object.raw("first", "null"),
    };
    Payload::Json(object.end().into()).into()
}
