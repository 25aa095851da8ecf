//! What subscribers ask for and are told, entered into the ledger.

use crate::ledger::{Item, id};
use crate::peer::Kind;
use crate::topical::{Form, TOPICS, last_payload};
use crate::world::{Run, World};

/// Stands for a position that is none: nothing may follow it but a gap.
const NO_POSITION: (u64, u64) = (u64::MAX, u64::MAX);

impl Run {
    /// Publishes one more event to each topic, for all who are still there.
    pub fn publish_last(&mut self) {
        self.world.ledger.await_last();
        for topic in TOPICS {
            let payload = last_payload(topic).into();
            let refused = self.engine.stats().publishes_unavailable;
            self.command(heartwheel::core::contract::event::Command::Publish(
                topic.into(),
                payload,
            ));
            if self.engine.stats().publishes_unavailable > refused {
                // As much waits for the log as may wait: this one is counted, and not to come.
                self.world.ledger.forgo_last(topic);
            }
        }
    }

    /// Gives how many events have given way to others, or were not queued.
    pub fn events_dropped(&self) -> u64 {
        self.engine.stats().messages_dropped()
    }
}

impl World {
    /// Enters what a peer has just asked for.
    pub fn note_asked(&mut self, index: usize) {
        let Kind::Scripted(scripted) = &mut self.peers[index].kind else { return };
        let topics = scripted.script.topics.clone();
        self.ledger.now = self.now;
        scripted.said.drain(..).for_each(|payload| self.ledger.note_said(payload));
        for request in std::mem::take(&mut scripted.asked) {
            let markers = ["after=", "\"after\":\"", "Last-Event-ID: "];
            let after = |marker| request.split_once(marker).map(|(_, rest): (&str, &str)| rest);
            let Some(rest) = markers.into_iter().find_map(after) else { continue };
            let end = rest.find([' ', '"', '\r']).unwrap_or(rest.len());
            let asked = if rest[..end].contains('-') { id(&rest[..end]) } else { NO_POSITION };
            let named = text_member(&request, "topic");
            for topic in topics.iter().filter(|topic| named.is_none_or(|name| name == **topic)) {
                self.ledger.note(index, topic, Item::Asked(asked));
            }
        }
    }

    /// Begins the trace of a WebSocket of one topic: it is live with its 101.
    pub fn note_plain(&mut self, index: usize, gap: Option<String>) {
        let Kind::Scripted(scripted) = &self.peers[index].kind else { return };
        if scripted.script.form != Form::Plain {
            return;
        }
        let topic = scripted.script.topics[0].clone();
        if let Some(first) = gap {
            self.ledger.note(index, &topic, Item::Gap(some_id(&first)));
        }
        let is_mute = self.plan.config.overflow.policy != Default::default();
        let trace = self.ledger.trace(index, &topic);
        (trace.is_live, trace.is_mute) = (true, is_mute);
    }

    /// Enters a message that a topic, or `/ws`, sends. Says whether it counts as one.
    pub fn note_message(&mut self, index: usize, text: &str) -> bool {
        self.ledger.now = self.now;
        let topic = || text_member(text, "topic").expect("it names the topic").to_owned();
        match self.peers[index].form() {
            Form::Hub => {}
            Form::Plain => {
                let Kind::Scripted(scripted) = &self.peers[index].kind else { return true };
                let topic = scripted.script.topics[0].clone();
                self.ledger.note(index, &topic, Item::Plain(text.to_owned()));
                return true;
            }
            _ => return true,
        }
        match text_member(text, "op").expect("a message of /ws has an op") {
            "event" => {
                let id = id(text_member(text, "id").expect("an event has an id"));
                let payload = text_member(text, "data").expect("an event has data");
                self.ledger.note_event(&topic(), id, payload);
                self.ledger.note(index, &topic(), Item::Event(id));
            }
            "gap" => {
                let first = text_member(text, "first").and_then(some_id);
                self.ledger.note(index, &topic(), Item::Gap(first));
                return false;
            }
            "subscribed" => {
                let last = id(text_member(text, "last").expect("a position"));
                self.ledger.note(index, &topic(), Item::From(last));
                self.ledger.trace(index, &topic()).is_live = true;
            }
            "hello" | "pong" | "published" | "error" | "pressure" | "goaway" => {}
            other => panic!("nobody knows the op {other}"),
        }
        true
    }

    /// Enters lines of an event stream. Says whether they are an event.
    pub fn note_block(&mut self, index: usize, lines: &str) -> bool {
        self.ledger.now = self.now;
        let Kind::Scripted(scripted) = &self.peers[index].kind else { panic!("nobody asked") };
        let topics = scripted.script.topics.clone();
        let value = |name: &str| {
            let value =
                |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
            lines.lines().find_map(value)
        };
        let data = value("data");
        match (value("event").as_deref(), value("id"), data) {
            (Some("gap"), None, Some(data)) => {
                let named = text_member(&data, "topic").map(str::to_owned);
                let first = match &named {
                    Some(_) => text_member(&data, "first").and_then(some_id),
                    None => some_id(&data),
                };
                let topic = named.unwrap_or_else(|| topics[0].clone());
                self.ledger.note(index, &topic, Item::Gap(first));
                false
            }
            (name, Some(number), Some(payload)) => {
                let topic = name.unwrap_or(&topics[0]);
                assert!(topics.iter().any(|wanted| wanted == topic), "nobody asked for {topic}");
                self.ledger.note_event(topic, id(&number), &payload);
                self.ledger.note(index, topic, Item::Event(id(&number)));
                self.ledger.note_order(index, id(&number));
                true
            }
            (None, Some(number), None) => {
                for topic in topics {
                    self.ledger.note(index, &topic, Item::From(id(&number)));
                    self.ledger.trace(index, &topic).is_live = true;
                }
                false
            }
            _ => {
                let is_known = lines == ":\n\n" || lines.starts_with("retry: ");
                assert!(is_known, "a strange block: {lines:?}");
                false
            }
        }
    }

    /// Enters what a request to a topic was answered.
    pub fn note_answer(&mut self, index: usize, nth: usize, body: &[u8]) {
        self.ledger.now = self.now;
        let Kind::Scripted(scripted) = &self.peers[index].kind else { return };
        let text = std::str::from_utf8(body).expect("all payloads are text");
        let (topic, posted) = &scripted.script.posts[nth];
        match text.strip_prefix('[') {
            // Rows of what is retained.
            Some(rows) => {
                for row in rows.split('{').skip(1) {
                    let number = id(text_member(row, "id").expect("a row has an id"));
                    let payload = text_member(row, "data").expect("a row has data");
                    self.ledger.note_event(topic, number, payload);
                }
            }
            None if !posted.is_empty() => {
                let number = id(text_member(text, "id").expect("it was published"));
                self.ledger.note_event(topic, number, posted);
            }
            None => {}
        }
    }

    /// Gives a subscriber that ought to have that event, or word of its loss, and has neither;
    /// `has_dropped` says whether events have been dropped since.
    pub fn unserved_subscriber(&self, has_dropped: bool) -> Option<String> {
        let (peer, topic) = self.ledger.unserved(last_payload, has_dropped)?;
        Some(format!("{peer} {} of {topic}", self.peers[peer].name()))
    }

    /// Gives a subscriber that lost events of which it has not been told.
    pub fn untold_subscriber(&self) -> Option<String> {
        let (peer, topic) = self.ledger.untold()?;
        Some(format!("{peer} {} of {topic}", self.peers[peer].name()))
    }
}

fn some_id(text: &str) -> Option<(u64, u64)> {
    (!text.is_empty()).then(|| id(text))
}

/// Gives a member of a JSON object that is a string without escapes.
fn text_member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
