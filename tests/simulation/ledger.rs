//! All events that anybody has seen, and what each subscriber has seen of them.
//!
//! Nobody knows from outside what was published when. But subscribers can be held against each
//! other: what one of them saw, each other that was subscribed then saw too, or was told of a gap.
//! Nothing is lost silently, nothing comes twice, ids rise, and one id is one event for everybody.

use std::collections::{BTreeMap, BTreeSet};

/// An event's id: milliseconds and sequence, in the order of time.
pub type Id = (u64, u64);

/// Reads an id.
pub fn id(text: &str) -> Id {
    let (ms, seq) = text.split_once('-').unwrap_or_else(|| panic!("no id: {text:?}"));
    (ms.parse().expect("a number"), seq.parse().expect("a number"))
}

/// One thing that a subscriber was told of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// It asked for what comes after this position.
    Asked(Id),
    /// It has everything up to this position.
    From(Id),
    Event(Id),
    /// An event without its id.
    Plain(String),
    /// Events are missing; the next one is this, if there is one yet.
    Gap(Option<Id>),
}

/// What one subscriber was told of one topic.
#[derive(Debug, Default)]
pub struct Trace {
    pub items: Vec<Item>,
    last: Option<Id>,
    /// It is to get all that is published from now on.
    pub is_live: bool,
    /// How many items it had when the last events were published, if it was live then.
    awaits_last: Option<usize>,
    /// Events may be lost without a word: there is none for it.
    pub is_mute: bool,
}

impl Trace {
    /// Says whether a gap that was told since the last events were published stands for this one,
    /// which nobody may have seen with its id.
    fn is_told_of(&self, missing: Option<Id>) -> bool {
        let since = &self.items[self.awaits_last.unwrap_or(self.items.len())..];
        let id_of = |item: &Item| match item {
            Item::Event(id) => Some(*id),
            _ => None,
        };
        (0..since.len()).filter(|index| matches!(since[*index], Item::Gap(_))).any(|index| {
            let before = since[..index].iter().rev().find_map(id_of);
            let next = since[index..].iter().find_map(id_of);
            missing.is_none_or(|id| {
                before.is_none_or(|before| before < id) && next.is_none_or(|next| id < next)
            })
        })
    }
}

/// For how long what a client sends again is known, at least.
const KNOWN_FOR_MS: u64 = 60_000;

#[derive(Default)]
struct Topic {
    events: BTreeMap<Id, String>,
    ids: BTreeMap<String, Id>,
}

#[derive(Default)]
pub struct Ledger {
    topics: BTreeMap<String, Topic>,
    traces: BTreeMap<(usize, String), Trace>,
    ids: BTreeSet<Id>,
    /// By peer: the last event of any topic.
    order: BTreeMap<usize, Id>,
    /// When what may be sent again was first sent, by its payload.
    said_at: BTreeMap<String, u64>,
    /// What was published anew, because it was sent again when it was not known any more.
    anew: BTreeSet<String>,
    /// What is known may have to make room at any time.
    forgets: bool,
    /// The time.
    pub now: u64,
}

impl Ledger {
    pub fn new(forgets: bool) -> Ledger {
        Ledger { forgets, ..Ledger::default() }
    }

    /// Takes note of an event that bears its id, whoever saw it.
    pub fn note_event(&mut self, topic: &str, id: Id, payload: &str) {
        let topic = self.topics.entry(topic.to_owned()).or_default();
        let known = topic.events.entry(id).or_insert_with(|| payload.to_owned());
        assert_eq!(known, payload, "one id is one event for everybody");
        self.ids.insert(id);
        if self.anew.contains(payload) {
            return;
        }
        let known = *topic.ids.entry(payload.to_owned()).or_insert(id);
        if known != id {
            assert!(self.may_be_anew(payload), "what is published once has one id: {payload}");
            // Where it stands among others is not known without its id.
            self.topics.values_mut().for_each(|topic| _ = topic.ids.remove(payload));
            self.anew.insert(payload.to_owned());
        }
    }

    /// Takes note of what may be sent again, when it is sent.
    pub fn note_said(&mut self, payload: String) {
        self.said_at.entry(payload).or_insert(self.now);
    }

    /// Says whether something may be published once more. That it is seen only now says nothing;
    /// but if it was first sent less than a minute ago, it was not taken longer ago.
    fn may_be_anew(&self, payload: &str) -> bool {
        let said_at = self.said_at.get(payload);
        said_at.is_some_and(|at| self.forgets || self.now - at >= KNOWN_FOR_MS)
    }

    /// Takes note of what a subscriber was told.
    pub fn note(&mut self, peer: usize, topic: &str, item: Item) {
        let may_be_anew = match &item {
            Item::Plain(payload) => self.may_be_anew(payload),
            _ => false,
        };
        let trace = self.traces.entry((peer, topic.to_owned())).or_default();
        if let Item::From(id) | Item::Event(id) = item {
            let rises = trace.last.is_none_or(|last| match item {
                Item::Event(_) => last < id,
                _ => last <= id,
            });
            assert!(rises, "ids rise: {id:?} after {:?}", trace.items);
            trace.last = Some(id);
        }
        if let Item::Plain(payload) = &item
            && trace.items.contains(&item)
        {
            assert!(may_be_anew, "an event comes once: {item:?}");
            self.topics.values_mut().for_each(|topic| _ = topic.ids.remove(payload));
            self.anew.insert(payload.clone());
        }
        trace.items.push(item);
    }

    /// Takes note of an event in the order of all topics of a stream: ids rise over all of them.
    pub fn note_order(&mut self, peer: usize, id: Id) {
        let last = self.order.insert(peer, id);
        assert!(last.is_none_or(|last| last < id), "over all topics {id:?} follows {last:?}");
    }

    pub fn trace(&mut self, peer: usize, topic: &str) -> &mut Trace {
        self.traces.entry((peer, topic.to_owned())).or_default()
    }

    /// The peer gets nothing more.
    pub fn end(&mut self, peer: usize) {
        let own = (peer, String::new())..(peer + 1, String::new());
        self.traces.range_mut(own).for_each(|(_, trace)| trace.is_live = false);
    }

    /// Gives an id that somebody has seen, by a number that chance has drawn.
    pub fn any_id(&self, draw: u64) -> Option<Id> {
        let nth = draw.checked_rem(self.ids.len() as u64)?;
        self.ids.iter().nth(nth as usize).copied()
    }

    /// The last events are published: who is live awaits them.
    pub fn await_last(&mut self) {
        for trace in self.traces.values_mut() {
            trace.awaits_last = trace.is_live.then_some(trace.items.len());
        }
    }

    /// The last event of a topic was refused: nobody awaits it.
    pub fn forgo_last(&mut self, topic: &str) {
        let own = self.traces.iter_mut().filter(|((_, name), _)| name == topic);
        own.for_each(|(_, trace)| trace.awaits_last = None);
    }

    /// Gives a subscriber that is live and lacks what is known to others, without having been told
    /// that something is missing.
    pub fn untold(&self) -> Option<(usize, &str)> {
        let lacks = |((_, name), trace): &(&(usize, String), &Trace)| {
            let Some(topic) = self.topics.get(name) else { return false };
            let mut last: Option<Id> = None;
            // Word of a gap stands for all that is missing before the next event whose id is known.
            let mut is_told = false;
            for item in &trace.items {
                let id = match item {
                    // A stream whose other topics have gaps begins with 0-0, and yet has what it
                    // said.
                    Item::Asked(id) => {
                        last = self.ids.contains(id).then_some(*id);
                        continue;
                    }
                    Item::From(id) => {
                        last = last.max(Some(*id));
                        continue;
                    }
                    Item::Event(id) => Some(*id),
                    Item::Plain(payload) if self.anew.contains(payload) => {
                        is_told = true;
                        continue;
                    }
                    Item::Plain(payload) => topic.ids.get(payload).copied(),
                    Item::Gap(_) => {
                        is_told = true;
                        continue;
                    }
                };
                if id.is_some() {
                    (last, is_told) = (id, false);
                }
            }
            let newest = topic.events.keys().next_back();
            let is_behind = last.is_some() && newest.copied() > last;
            trace.is_live && !trace.is_mute && !is_told && is_behind
        };
        self.traces.iter().find(lacks).map(|((peer, name), _)| (*peer, name.as_str()))
    }

    /// Gives a subscriber that is live, awaits the last event and has not been told of it: neither
    /// given it, nor told that something is missing. One that has no word for that is let off where
    /// events were dropped.
    pub fn unserved(
        &self,
        payload: impl Fn(&str) -> String,
        has_dropped: bool,
    ) -> Option<(usize, &str)> {
        let lacks = |((_, name), trace): &(&(usize, String), &Trace)| {
            let payload = payload(name);
            let id = self.topics.get(name).and_then(|topic| topic.ids.get(&payload));
            let has_it = |item: &Item| match item {
                Item::Event(event) => id == Some(event),
                Item::Plain(text) => *text == payload,
                Item::Asked(_) | Item::From(_) | Item::Gap(_) => false,
            };
            let is_let_off = trace.is_mute && has_dropped || trace.is_told_of(id.copied());
            let waits = trace.is_live && trace.awaits_last.is_some() && !is_let_off;
            waits && !trace.items.iter().rev().any(has_it)
        };
        self.traces.iter().find(lacks).map(|((peer, name), _)| (*peer, name.as_str()))
    }

    /// Holds all subscribers against each other.
    pub fn check(&self) {
        for ((peer, name), trace) in &self.traces {
            let Some(topic) = self.topics.get(name) else { continue };
            check_trace(topic, trace, &format!("peer {peer}, topic {name}"));
        }
    }
}

/// Between what follows each other there is nothing that anybody else has seen.
fn check_trace(topic: &Topic, trace: &Trace, context: &str) {
    let mut from: Option<Id> = None;
    let mut gap: Option<Option<Id>> = None;
    for item in &trace.items {
        let id = match item {
            Item::Asked(id) => {
                from = Some(*id);
                continue;
            }
            Item::From(id) => {
                if let Some(from) = from.filter(|from| from < id && gap.is_none()) {
                    let missing = topic.events.range(from..=*id).find(|(other, _)| **other != from);
                    assert_eq!(missing, None, "{context}: not caught up to {id:?}, {trace:?}");
                }
                from = from.max(Some(*id));
                continue;
            }
            Item::Gap(first) => {
                from = None;
                gap = Some(*first);
                continue;
            }
            Item::Event(id) => *id,
            Item::Plain(payload) => match topic.ids.get(payload) {
                Some(id) => *id,
                None => {
                    // Nobody else has seen it: where it stands is not known.
                    (from, gap) = (None, None);
                    continue;
                }
            },
        };
        if let Some(from) = from {
            assert!(from < id, "{context}: {id:?} comes after {from:?}: {:?}", trace.items);
        }
        match (gap.take(), from) {
            // What has gone meanwhile is lost to one that can be told of no other gap.
            (Some(Some(first)), _) if trace.is_mute => {
                assert!(first <= id, "{context}: a gap names what comes before {id:?}, {trace:?}");
            }
            (Some(Some(first)), _) => {
                assert_eq!(first, id, "{context}: a gap names the event that follows, {trace:?}");
            }
            (None, Some(from)) if !trace.is_mute => {
                let missing = topic.events.range(from..id).find(|(other, _)| **other != from);
                assert_eq!(missing, None, "{context}: lost silently before {id:?}, {trace:?}");
            }
            _ => {}
        }
        from = Some(id);
    }
}
