//! Clients of `/ws`: subscribers, of which each is told everything or a gap, and publishers, which
//! send again what was not answered, on whichever node they are.

use std::collections::HashMap;

use heartwheel::ConnectionId;
use heartwheel::core::topics::EventId;

use crate::common::frame::{TEXT, frame};
use crate::common::http::upgrade_request;
use crate::node::{Node, slot};
use crate::redis::Taken;

/// What the log has taken, of each topic in its order.
#[derive(Default)]
pub struct Truth {
    topics: Vec<Vec<EventId>>,
    /// Which event has a producer's number, by its first id.
    numbers: HashMap<(u32, u64), EventId>,
    ids: HashMap<EventId, (u32, u64)>,
    /// Events that a failover has lost.
    lost: Vec<EventId>,
    /// Publications that are in the log again since a failover had lost them.
    pub again: usize,
    pub events: usize,
}

impl Truth {
    pub fn new(topics: usize) -> Truth {
        Truth { topics: vec![Vec::new(); topics], ..Truth::default() }
    }

    pub fn take(&mut self, taken: &Taken) {
        let id = taken.id.event(taken.epoch).expect("Redis has issued it");
        let (producer, number) = read_data(&taken.data);
        if let Some(before) = self.numbers.insert((producer, number), id) {
            assert!(self.lost.contains(&before), "{producer}:{number} is there twice");
            self.again += 1;
        }
        self.ids.insert(id, (producer, number));
        let topic = &mut self.topics[topic_of(&taken.topic)];
        assert!(topic.last().is_none_or(|last| *last < id), "ids rise");
        topic.push(id);
        self.events += 1;
    }

    /// Has a failover lose what is not in the log behind this id.
    pub fn lose_after(&mut self, last: EventId) -> usize {
        let before = self.lost.len();
        self.lost.extend(self.topics.iter().flatten().filter(|id| **id > last));
        self.lost.len() - before
    }
}

/// A subscriber of one topic.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub home: usize,
    pub at: Option<(usize, ConnectionId)>,
    pub retry_at: u64,
    topic: usize,
    /// The next event of the topic that it is to get.
    next: usize,
    last: Option<EventId>,
    has_gap: bool,
    is_live: bool,
    partial: Vec<u8>,
    pub gaps: u32,
    pub events: u64,
}

/// A publisher, with one publication at a time.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub home: usize,
    pub at: Option<(usize, ConnectionId)>,
    pub retry_at: u64,
    number: u32,
    next: u64,
    /// What was sent and not answered.
    asked: Option<(u64, usize)>,
    /// Where the next one goes, if it was sent before: the same under the same number.
    again: Option<usize>,
    is_open: bool,
    say_at: u64,
    partial: Vec<u8>,
    pub acknowledged: Vec<(u64, EventId)>,
    pub refused: u64,
    pub unknown: u64,
}

impl Subscriber {
    pub fn new(home: usize, topic: usize) -> Subscriber {
        Subscriber {
            home,
            at: None,
            retry_at: 0,
            topic,
            next: 0,
            last: None,
            has_gap: false,
            is_live: false,
            partial: Vec::new(),
            gaps: 0,
            events: 0,
        }
    }

    pub fn is_live(&self) -> bool {
        self.is_live
    }

    pub fn connect(&mut self, now: u64, node: &mut Node) {
        (self.at, self.retry_at) = (call(now, node), now + 100);
        self.partial.clear();
    }

    pub fn lose(&mut self, retry_at: u64) {
        (self.at, self.is_live, self.retry_at) = (None, false, retry_at);
    }

    /// Takes what came.
    pub fn hear(&mut self, bytes: &[u8], truth: &Truth, node: &mut Node) {
        let mut partial = std::mem::take(&mut self.partial);
        each_message(&mut partial, bytes, |message| match message {
            Heard::Open => {
                let after = self.last.map_or(String::new(), |id| format!(r#","after":"{id}""#));
                let topic = self.topic;
                let word = format!(r#"{{"op":"subscribe","topic":"t{topic}"{after}}}"#);
                let slot = slot(self.at.expect("it is connected").1);
                node.wires.send(slot, &frame(TEXT, word.as_bytes()));
            }
            Heard::Text(text) => self.take(text, truth),
        });
        self.partial = partial;
    }

    fn take(&mut self, text: &str, truth: &Truth) {
        let events = &truth.topics[self.topic];
        if let Some(rest) = text.strip_prefix(r#"{"op":"event","topic":"#) {
            let id = member(rest, r#""id":""#).parse().expect("an id");
            assert!(self.last.is_none_or(|last| last < id), "{id} came twice, or too late");
            self.last = Some(id);
            self.events += 1;
            if events.get(self.next) != Some(&id) {
                let place = events.binary_search(&id).unwrap_or_else(|_| {
                    panic!("{id} is in no log");
                });
                assert!(place > self.next, "{id} is an older one");
                assert!(
                    self.has_gap,
                    "{} of t{} are missing untold",
                    place - self.next,
                    self.topic
                );
                self.next = place;
            }
            self.next += 1;
            self.has_gap = false;
            let told = member(rest, r#""data":""#);
            assert_eq!(truth.ids[&id], read_data(told), "one id, one event");
        } else if text.starts_with(r#"{"op":"gap""#) {
            self.has_gap = true;
            self.gaps += 1;
        } else if text.starts_with(r#"{"op":"subscribed""#) {
            let last: EventId = member(text, r#""last":""#).parse().expect("an id");
            self.is_live = true;
            if self.last.is_none() {
                // It begins here.
                self.next = events.partition_point(|id| *id <= last);
            }
            self.last = self.last.max(Some(last));
        } else {
            assert!(text.starts_with(r#"{"op":"hello""#), "{text}");
        }
    }

    /// Says whether it has all there is, or was told that it may not.
    pub fn is_complete(&self, truth: &Truth) -> bool {
        self.is_live && self.next == truth.topics[self.topic].len()
    }
}

impl Publisher {
    pub fn new(number: u32, home: usize) -> Publisher {
        Publisher {
            home,
            at: None,
            retry_at: 0,
            number,
            next: 1,
            asked: None,
            again: None,
            is_open: false,
            say_at: 0,
            partial: Vec::new(),
            acknowledged: Vec::new(),
            refused: 0,
            unknown: 0,
        }
    }

    pub fn connect(&mut self, now: u64, node: &mut Node) {
        (self.at, self.retry_at) = (call(now, node), now + 100);
        self.partial.clear();
    }

    pub fn lose(&mut self, retry_at: u64) {
        (self.at, self.is_open, self.retry_at) = (None, false, retry_at);
    }

    /// Publishes the next one, if it is time.
    pub fn say(&mut self, now: u64, topic: usize, node: &mut Node) {
        let Some((_, id)) = self.at.filter(|_| self.is_open && self.asked.is_none()) else {
            return;
        };
        if now < self.say_at {
            return;
        }
        let topic = *self.again.get_or_insert(topic);
        let word = self.message(self.next, topic);
        self.asked = Some((self.next, topic));
        node.wires.send(slot(id), &word);
    }

    /// Takes what came.
    pub fn hear(&mut self, now: u64, every: u64, bytes: &[u8], node: &mut Node) {
        let mut partial = std::mem::take(&mut self.partial);
        let slot = slot(self.at.expect("it is connected").1);
        each_message(&mut partial, bytes, |message| match message {
            Heard::Open => {
                let number = self.number;
                let word =
                    format!(r#"{{"op":"hello","client":"publisher-{number:08}","version":"1"}}"#);
                node.wires.send(slot, &frame(TEXT, word.as_bytes()));
                self.is_open = true;
                // What the other node has not answered is sent again.
                if let Some((next, topic)) = self.asked {
                    node.wires.send(slot, &self.message(next, topic));
                }
            }
            Heard::Text(text) => self.take(now, every, text),
        });
        self.partial = partial;
    }

    fn take(&mut self, now: u64, every: u64, text: &str) {
        if text.starts_with(r#"{"op":"published""#) {
            let id = member(text, r#""id":""#).parse().expect("an id");
            self.acknowledged.push((self.next, id));
            (self.asked, self.again) = (None, None);
            self.next += 1;
            self.say_at = now + every;
        } else if text.starts_with(r#"{"op":"error","code":"unavailable""#) {
            self.asked = None;
            self.say_at = now + 200;
            match text.contains("may be published all the same") {
                // It is left: after a failover nobody would know it again.
                true => {
                    (self.next, self.again) = (self.next + 1, None);
                    self.unknown += 1;
                }
                false => self.refused += 1,
            }
        } else {
            assert!(text.starts_with(r#"{"op":"hello""#), "{text}");
        }
    }

    fn message(&self, next: u64, topic: usize) -> Vec<u8> {
        let (number, padding) = (self.number, "x".repeat(64));
        let data = format!("{number}:{next}:{padding}");
        let head = format!(r#""op":"publish","topic":"t{topic}""#);
        let word = format!(r#"{{{head},"data":"{data}","ref":{next}}}"#);
        frame(TEXT, word.as_bytes())
    }

    /// Checks that what was acknowledged is in the log with the id that it was told.
    pub fn check(&self, truth: &Truth) {
        for (next, id) in &self.acknowledged {
            assert_eq!(truth.ids.get(id), Some(&(self.number, *next)), "{}:{next}", self.number);
        }
    }
}

enum Heard<'a> {
    /// The WebSocket is open.
    Open,
    Text(&'a str),
}

/// Connects to a node, if it takes connections.
fn call(now: u64, node: &mut Node) -> Option<(usize, ConnectionId)> {
    let id = node.accept(now)?;
    node.wires.send(slot(id), upgrade_request("/ws", "").as_bytes());
    Some((node.index, id))
}

/// Takes bytes apart; a message that is not whole waits for the rest of it.
fn each_message(partial: &mut Vec<u8>, bytes: &[u8], mut take: impl FnMut(Heard<'_>)) {
    let joined;
    let mut rest = match partial.is_empty() {
        true => bytes,
        false => {
            joined = [std::mem::take(partial), bytes.to_vec()].concat();
            &joined
        }
    };
    while !rest.is_empty() {
        let Some((len, body)) = frame_at(rest) else { break };
        match rest[0] {
            b'H' => {
                assert!(rest.starts_with(b"HTTP/1.1 101 "), "{}", rest.escape_ascii());
                take(Heard::Open);
            }
            TEXT => take(Heard::Text(str::from_utf8(&rest[body..len]).expect("it is text"))),
            other => panic!("a frame of {other:#x}"),
        }
        rest = &rest[len..];
    }
    *partial = rest.to_vec();
}

/// Finds the length of a head or of a frame, and where its payload begins.
fn frame_at(bytes: &[u8]) -> Option<(usize, usize)> {
    if bytes[0] == b'H' {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        return Some((end, end));
    }
    let (body, len) = match *bytes.get(1)? {
        126 => (4, usize::from(*bytes.get(2)?) << 8 | usize::from(*bytes.get(3)?)),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= body + len).then_some((body + len, body))
}

/// Gives what stands behind this up to the next quotation mark.
fn member<'a>(text: &'a str, before: &str) -> &'a str {
    let rest = text.split_once(before).expect("it is there").1;
    rest.split('"').next().expect("it ends")
}

fn read_data(data: &str) -> (u32, u64) {
    let mut words = data.split(':');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    (number() as u32, number())
}

fn topic_of(name: &str) -> usize {
    name[1..].parse().expect("a number")
}
