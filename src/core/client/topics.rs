//! The topics of a server, as one client has them over `/ws`: what it subscribes to, from where it
//! goes on after a break, and what it has published without an answer.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::core::ground::base64;
use crate::core::ground::json::{self, Object};
use crate::core::ground::random::Random;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, Content, Event, EventId, Gap, Name, Payload};

/// What is subscribed to, and what waits for an answer. It outlives every connection.
#[derive(Debug)]
pub struct Topics {
    /// Drawn once: the server tells clients apart by it, so that what is sent again is published
    /// once.
    client: String,
    subscriptions: BTreeMap<String, Subscription>,
    /// Publications without an answer, in their order.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    pending_max: usize,
    /// Unsubscriptions without an answer: what comes of their topics until then is of the past.
    ignored: BTreeMap<String, u32>,
    /// The id of the last connection, as the server greeted.
    connection: Option<u64>,
    /// The server has greeted.
    is_ready: bool,
    /// The server has said that it goes: what is published waits for the next connection.
    is_leaving: bool,
    /// The server has said that the token soon expires.
    is_token_due: bool,
    /// The longest message that the server takes.
    message_max: u64,
    to_send: VecDeque<Utf8Bytes>,
}

#[derive(Debug)]
struct Subscription {
    after: After,
    /// Events were missing, and none has come since: a server whose clock is behind may go on with
    /// ids below the position.
    has_gap: bool,
}

#[derive(Debug)]
struct Pending {
    reference: u32,
    text: Utf8Bytes,
    /// When it was first sent.
    sent_at: Option<Instant>,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicEvent {
    /// The server has greeted: what was subscribed to and published is on its way.
    Ready,
    /// The events of a topic that were missed have come; those that follow are live.
    Subscribed {
        /// The topic.
        topic: String,
        /// From where on it is live.
        position: EventId,
    },
    /// An event.
    Event {
        /// The topic.
        topic: String,
        /// The event.
        event: Event,
    },
    /// Events of a topic are missing here.
    Gap {
        /// The topic.
        topic: String,
        /// Where it goes on.
        gap: Gap,
    },
    /// What was published has its id.
    Published {
        /// What the publication was given.
        reference: u32,
        /// The event's id.
        id: EventId,
    },
    /// What was published was taken over by the server's application: it is in no topic.
    Taken {
        /// What the publication was given.
        reference: u32,
    },
    /// What was published was refused, or its fate is not known.
    NotPublished {
        /// What the publication was given.
        reference: u32,
        /// The kind of refusal: `bad_request`, `forbidden`, `limit`, `unavailable`; `full` and
        /// `limit` also by the client itself. `unknown` if its fate is not known: the connection
        /// broke and came back too late to ask, or the client has stopped; `closed` if the client
        /// has stopped before it was sent.
        code: String,
        /// In words.
        sentence: String,
    },
    /// A subscription was refused.
    NotSubscribed {
        /// The topic.
        topic: String,
        /// The kind of refusal, as above.
        code: String,
        /// In words.
        sentence: String,
    },
    /// How full the server's outbox for this client is: 0 to 3.
    Pressure(u8),
    /// The server closes soon, and wants the client to stay away for so long.
    Goaway(Duration),
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRefused {
    /// No topic can have this name, or it is the server's own.
    Topic,
    /// More than `client.pending_bytes` wait for an answer.
    Full,
    /// The message would be longer than the server takes.
    TooLong,
    /// `/ws` in JSON bears no bytes: text or JSON alone.
    Binary,
}

impl std::fmt::Display for TopicRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TopicRefused::Topic => "no topic can have this name, or the client has no topics",
            TopicRefused::Full => "client.pending_bytes, or 64 publications, wait for an answer",
            TopicRefused::TooLong => "the server takes no message as long as this",
            TopicRefused::Binary => "/ws in JSON bears no bytes: text or JSON alone",
        })
    }
}

impl Topics {
    /// Makes the topics of one client; `pending_max` bounds the bytes that wait for an answer.
    pub fn new(pending_max: usize, random: &mut Random) -> Topics {
        Topics {
            client: draw_name(random),
            subscriptions: BTreeMap::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_max,
            ignored: BTreeMap::new(),
            connection: None,
            is_ready: false,
            is_leaving: false,
            is_token_due: false,
            message_max: u64::MAX,
            to_send: VecDeque::new(),
        }
    }

    /// Takes the next message for the server.
    pub fn poll_send(&mut self) -> Option<Utf8Bytes> {
        self.to_send.pop_front()
    }

    /// Puts back a message that could not be sent now.
    pub fn put_back(&mut self, text: Utf8Bytes) {
        self.to_send.push_front(text);
    }

    /// Takes note that there is no connection, or a new one: nothing is ready.
    pub fn reset(&mut self) {
        self.is_ready = false;
        self.is_leaving = false;
        self.is_token_due = false;
        self.ignored.clear();
        self.to_send.clear();
    }

    /// Takes the word that the token soon expires: another one is to be [handed
    /// in](Topics::hand_in).
    pub fn take_token_due(&mut self) -> bool {
        std::mem::take(&mut self.is_token_due)
    }

    /// Hands in another token in place of the one that the connection came with.
    pub fn hand_in(&mut self, token: &str) {
        // The answer is told by its `ref` from the server's own word. No publication has this one.
        let object = Object::new().string("op", "token").string("token", token).raw("ref", "true");
        self.to_send.push_back(object.end().into());
    }

    /// Gives up all that waits for an answer: the client has stopped, for this reason.
    pub fn give_up_all(&mut self, why: &str, tell: &mut impl FnMut(TopicEvent)) {
        while let Some(Pending { reference, sent_at, .. }) = self.pending.front() {
            let code = if sent_at.is_some() { "unknown" } else { "closed" };
            self.give_up(*reference, code, why, tell);
        }
    }

    /// Returns whether publications wait for an answer.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Subscribes to a topic, or begins anew from another position.
    ///
    /// # Errors
    ///
    /// [`TopicRefused::Topic`].
    pub fn subscribe(&mut self, topic: &str, after: After) -> Result<(), TopicRefused> {
        if !Name::is_valid(topic) {
            return Err(TopicRefused::Topic);
        }
        self.unsubscribe(topic);
        self.subscriptions.insert(topic.to_owned(), Subscription { after, has_gap: false });
        if self.is_ready {
            self.say_subscribe(topic);
        }
        Ok(())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, topic: &str) {
        if self.subscriptions.remove(topic).is_some() && self.is_ready {
            *self.ignored.entry(topic.to_owned()).or_default() += 1;
            let text = Object::new().string("op", "unsubscribe").string("topic", topic).end();
            self.to_send.push_back(text.into());
        }
    }

    /// Publishes: now, or when there is a connection. It is kept until it is answered, and sent
    /// again after a break. The caller gives the answer's reference, another for each publication.
    ///
    /// # Errors
    ///
    /// [`TopicRefused`].
    pub fn publish(
        &mut self,
        now: Instant,
        reference: u32,
        topic: &str,
        content: &Content,
    ) -> Result<(), TopicRefused> {
        if !Name::is_valid(topic) || Name::is_own(topic) {
            return Err(TopicRefused::Topic);
        }
        let object = Object::new().string("op", "publish").string("topic", topic);
        let object = object.number("ref", reference.into());
        let object = match &content.trace {
            Some(trace) => object.string("trace", &trace.to_string()),
            None => object,
        };
        let text = match &content.payload {
            Payload::Text(text) => object.string("data", text.as_str()),
            Payload::Json(json) => object.raw("data", json.as_str()),
            Payload::Binary(_) => return Err(TopicRefused::Binary),
        };
        let text: Utf8Bytes = text.end().into();
        let len = text.as_str().len();
        if len as u64 > self.message_max {
            return Err(TopicRefused::TooLong);
        }
        let held = self.pending_bytes.saturating_add(len);
        // An empty queue takes one of any length.
        if (held > self.pending_max && !self.pending.is_empty())
            || self.pending.len() >= PENDING_MAX
        {
            return Err(TopicRefused::Full);
        }
        self.pending_bytes = held;
        let is_sent = self.is_ready && !self.is_leaving;
        if is_sent {
            self.to_send.push_back(text.clone());
        }
        let sent_at = is_sent.then_some(now);
        self.pending.push_back(Pending { reference, text, sent_at });
        Ok(())
    }

    /// Gives up waiting for an answer. Returns whether one was still awaited.
    pub fn forget(&mut self, reference: u32) -> bool {
        self.settle(reference).is_some()
    }

    /// Takes a message of the server. What is no message of `/ws` says nothing.
    pub fn receive(&mut self, now: Instant, text: &str, tell: &mut impl FnMut(TopicEvent)) {
        let Some(message) = Said::read(text) else { return };
        match &*message.op {
            "hello" => self.take_hello(now, &message, tell),
            "subscribed" => {
                let Some((topic, subscription)) = self.subscription(&message.topic) else { return };
                let Some(position) = id_of(&message.last) else { return };
                subscription.after = After::Position(position);
                subscription.has_gap = false;
                tell(TopicEvent::Subscribed { topic, position });
            }
            "unsubscribed" => {
                if let Some(left) = self.ignored.get_mut(&*message.topic) {
                    *left -= 1;
                    if *left == 0 {
                        self.ignored.remove(&*message.topic);
                    }
                }
            }
            "event" => self.take_event(message, tell),
            "gap" => {
                let Some((topic, subscription)) = self.subscription(&message.topic) else { return };
                subscription.has_gap = true;
                let gap = Gap { first: id_of(&message.first) };
                tell(TopicEvent::Gap { topic, gap });
            }
            "published" => {
                let Ok(reference) = message.reference.parse() else { return };
                match id_of(&message.id) {
                    Some(id) if self.forget(reference) => {
                        tell(TopicEvent::Published { reference, id });
                    }
                    None if message.id.is_empty() && self.forget(reference) => {
                        tell(TopicEvent::Taken { reference });
                    }
                    None if self.is_pending(reference) => {
                        self.give_up(reference, "unknown", "the server gave a bad id", tell);
                    }
                    _ => {}
                }
            }
            "error" => self.take_error(&message, tell),
            "token" => self.is_token_due |= message.reference.is_empty(),
            "pressure" => {
                if let Ok(level) = message.level.parse() {
                    tell(TopicEvent::Pressure(level));
                }
            }
            "goaway" => {
                self.is_leaving = true;
                let ms: u32 = message.retry_ms.parse().unwrap_or(0);
                tell(TopicEvent::Goaway(Duration::from_millis(ms.into())));
            }
            _ => {}
        }
    }

    fn take_hello(&mut self, now: Instant, message: &Said, tell: &mut impl FnMut(TopicEvent)) {
        if self.is_ready {
            return;
        }
        self.is_ready = true;
        self.message_max = message.message_bytes.parse().unwrap_or(u64::MAX);
        let hello = Object::new().string("op", "hello").string("client", &self.client);
        let hello = hello.string("version", concat!("heartwheel-", env!("CARGO_PKG_VERSION")));
        self.to_send.push_back(hello.end().into());
        let topics: Vec<String> = self.subscriptions.keys().cloned().collect();
        topics.iter().for_each(|topic| self.say_subscribe(topic));
        tell(TopicEvent::Ready);
        let connection = json::string(message.connection).and_then(|id| id.parse().ok());
        let is_same = is_same_server(self.connection, connection);
        self.connection = connection;
        let is_too_old = |pending: &Pending| {
            pending.sent_at.is_some_and(|at| !is_same || now.since(at) >= REMEMBERED_FOR)
        };
        let old = self.pending.iter().filter(|one| is_too_old(one)).map(|one| one.reference);
        for reference in old.collect::<Vec<u32>>() {
            self.give_up(reference, "unknown", "the connection broke before the answer", tell);
        }
        // The server would end the connection for one that is longer than it takes.
        let is_long = |pending: &&Pending| pending.text.as_str().len() as u64 > self.message_max;
        let long = self.pending.iter().filter(is_long).map(|one| one.reference);
        for reference in long.collect::<Vec<u32>>() {
            self.give_up(reference, "limit", "the server takes no message as long as this", tell);
        }
        for pending in &mut self.pending {
            pending.sent_at.get_or_insert(now);
            self.to_send.push_back(pending.text.clone());
        }
    }

    /// Forgets a publication that cannot be sent any more.
    fn give_up(
        &mut self,
        reference: u32,
        code: &str,
        sentence: &str,
        tell: &mut impl FnMut(TopicEvent),
    ) {
        self.forget(reference);
        let (code, sentence) = (code.to_owned(), sentence.to_owned());
        tell(TopicEvent::NotPublished { reference, code, sentence });
    }

    fn take_event(&mut self, message: Said, tell: &mut impl FnMut(TopicEvent)) {
        let Some((topic, subscription)) = self.subscription(&message.topic) else { return };
        let Some(id) = id_of(&message.id) else { return };
        let is_old = match subscription.after {
            After::Position(last) if id <= last => {
                !subscription.has_gap || id.process() == last.process()
            }
            _ => false,
        };
        if is_old {
            return;
        }
        let payload = match (message.data, message.base64) {
            (Some(data), _) => match json::string(data) {
                Some(text) => Payload::Text(text.into_owned().into()),
                None => Payload::Json(data.into()),
            },
            (None, Some(code)) => match json::string(code).and_then(|code| base64::decode(&code)) {
                Some(bytes) => Payload::Binary(bytes.into()),
                None => return,
            },
            (None, None) => return,
        };
        subscription.after = After::Position(id);
        subscription.has_gap = false;
        let trace = message.trace.parse().ok();
        tell(TopicEvent::Event { topic, event: Event { id, payload, trace } });
    }

    fn take_error(&mut self, message: &Said, tell: &mut impl FnMut(TopicEvent)) {
        let [code, sentence] = [&message.code, &message.sentence].map(|text| text.to_string());
        if let Ok(reference) = message.reference.parse() {
            if self.forget(reference) {
                tell(TopicEvent::NotPublished { reference, code, sentence });
            }
        } else if let Some(topic) = json::string(message.reference)
            && self.subscriptions.remove(&*topic).is_some()
        {
            tell(TopicEvent::NotSubscribed { topic: topic.into_owned(), code, sentence });
        }
    }

    /// Finds a subscription that is not one of the past.
    fn subscription(&mut self, topic: &str) -> Option<(String, &mut Subscription)> {
        if self.ignored.contains_key(topic) {
            return None;
        }
        let subscription = self.subscriptions.get_mut(topic)?;
        Some((topic.to_owned(), subscription))
    }

    fn say_subscribe(&mut self, topic: &str) {
        let Some(subscription) = self.subscriptions.get(topic) else { return };
        let object = Object::new().string("op", "subscribe").string("topic", topic);
        let object = match subscription.after {
            After::Now => object,
            After::Position(id) => object.string("after", &id.to_string()),
            After::Garbage => object.string("after", "-"),
        };
        self.to_send.push_back(object.string("ref", topic).end().into());
    }

    fn is_pending(&self, reference: u32) -> bool {
        self.pending.iter().any(|pending| pending.reference == reference)
    }

    fn settle(&mut self, reference: u32) -> Option<Pending> {
        let index = self.pending.iter().position(|pending| pending.reference == reference)?;
        let settled = self.pending.remove(index)?;
        self.pending_bytes -= settled.text.as_str().len();
        Some(settled)
    }
}

/// The members of a message that mean something. Numbers and references are raw.
#[derive(Default)]
struct Said<'a> {
    op: Cow<'a, str>,
    topic: Cow<'a, str>,
    id: Cow<'a, str>,
    last: Cow<'a, str>,
    first: Cow<'a, str>,
    code: Cow<'a, str>,
    sentence: Cow<'a, str>,
    trace: Cow<'a, str>,
    reference: &'a str,
    level: &'a str,
    retry_ms: &'a str,
    message_bytes: &'a str,
    connection: &'a str,
    data: Option<&'a str>,
    base64: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Option<Said<'a>> {
        let mut said = Said::default();
        let string = |raw| json::string(raw).unwrap_or_default();
        json::members(text, |name, raw| match &*name {
            "op" => said.op = string(raw),
            "topic" => said.topic = string(raw),
            "id" => said.id = string(raw),
            "last" => said.last = string(raw),
            "first" => said.first = string(raw),
            "code" => said.code = string(raw),
            "message" => said.sentence = string(raw),
            "trace" => said.trace = string(raw),
            "ref" => said.reference = raw,
            "level" => said.level = raw,
            "retry_ms" => said.retry_ms = raw,
            "message_bytes" => said.message_bytes = raw,
            "connection" => said.connection = raw,
            "data" => said.data = Some(raw),
            "base64" => said.base64 = Some(raw),
            _ => {}
        })
        .ok()?;
        Some(said)
    }
}

/// Returns whether two connections are of one server, which knows what it published for the first:
/// ids count a server's connections from a random start (guide/protocol.md, "Publishing again").
fn is_same_server(before: Option<u64>, now: Option<u64>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            let risen = ((now >> 24).wrapping_sub(before >> 24)) & ((1 << 40) - 1);
            (1..1 << 24).contains(&risen)
        }
        // Nothing was sent before; or it is a server of another make, which says no id.
        (None, _) => true,
        (Some(_), None) => false,
    }
}

fn id_of(text: &str) -> Option<EventId> {
    text.parse().ok()
}

/// Draws a name of 22 characters: 128 bits in base64url.
fn draw_name(random: &mut Random) -> String {
    let bits = [random.next_u64(), random.next_u64()].map(u64::to_ne_bytes).concat();
    let name = base64::encode(&bits).replace('+', "-").replace('/', "_");
    name.trim_end_matches('=').to_owned()
}

/// A server remembers so many of the newest references of a client: no more may be sent again.
const PENDING_MAX: usize = 64;

/// For how long a server surely remembers a reference, less what an answer may take.
const REMEMBERED_FOR: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new(1000, &mut Random::new(7))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn said(topics: &mut Topics) -> Vec<String> {
        std::iter::from_fn(|| topics.poll_send()).map(|text| text.as_str().to_owned()).collect()
    }

    fn heard(topics: &mut Topics, now: Instant, text: &str) -> Vec<TopicEvent> {
        let mut all = Vec::new();
        topics.receive(now, text, &mut |heard| all.push(heard));
        all
    }

    fn greeted(topics: &mut Topics, now: Instant) -> Vec<TopicEvent> {
        greeted_by(topics, now, topics.connection.map_or(9 << 24, |id| id + (1 << 24)))
    }

    fn greeted_by(topics: &mut Topics, now: Instant, id: u64) -> Vec<TopicEvent> {
        topics.reset();
        let hello = format!(r#"{{"op":"hello","connection":"{id}","message_bytes":500}}"#);
        let told = heard(topics, now, &hello);
        assert_eq!(told[0], TopicEvent::Ready);
        told
    }

    #[test]
    fn it_greets_and_goes_on_where_it_was() {
        let mut topics = topics();
        topics.subscribe("b", After::Now).unwrap();
        topics.subscribe("a", After::Position(EventId::new(5, 0))).unwrap();
        assert_eq!(said(&mut topics), [""; 0], "not before the server");
        greeted(&mut topics, at(0));
        let first = said(&mut topics);
        let client = topics.client.clone();
        assert_eq!(client.len(), 22);
        assert_eq!(
            first,
            [
                format!(r#"{{"op":"hello","client":"{client}","version":"heartwheel-0.1.0"}}"#),
                r#"{"op":"subscribe","topic":"a","after":"5-0","ref":"a"}"#.into(),
                r#"{"op":"subscribe","topic":"b","ref":"b"}"#.into(),
            ]
        );
        let event = r#"{"op":"event","topic":"a","id":"6-0","data":"x\ny"}"#;
        let told = heard(&mut topics, at(1), event);
        let text = Event { id: EventId::new(6, 0), payload: Payload::text("x\ny"), trace: None };
        assert_eq!(told, [TopicEvent::Event { topic: "a".into(), event: text }]);
        assert_eq!(heard(&mut topics, at(1), event), [], "it has that one");
        let told = heard(&mut topics, at(1), r#"{"op":"subscribed","topic":"b","last":"7-0"}"#);
        let position = EventId::new(7, 0);
        assert_eq!(told, [TopicEvent::Subscribed { topic: "b".into(), position }]);
        greeted(&mut topics, at(2));
        let again = said(&mut topics);
        assert!(again[1].contains(r#""after":"6-0""#) && again[2].contains(r#""after":"7-0""#));
        assert!(again[0].contains(&client), "it is the same client");
    }

    #[test]
    fn payloads_of_all_kinds_come_as_they_were_published() {
        let mut topics = topics();
        topics.subscribe("a", After::Now).unwrap();
        greeted(&mut topics, at(0));
        for (number, (member, payload)) in [
            (r#""data":"\u00fc""#, Payload::text("ü")),
            (r#""data":{"b":[1.50]}"#, Payload::Json(r#"{"b":[1.50]}"#.into())),
            (r#""data":null"#, Payload::Json("null".into())),
            (r#""base64":"AP8=""#, Payload::Binary(vec![0, 255].into())),
        ]
        .into_iter()
        .enumerate()
        {
            let id = EventId::new(number as u64 + 1, 0);
            let text = format!(r#"{{"op":"event","topic":"a","id":"{id}",{member}}}"#);
            let told = heard(&mut topics, at(0), &text);
            let event = Event { id, payload, trace: None };
            assert_eq!(told, [TopicEvent::Event { topic: "a".into(), event }], "{text}");
        }
    }

    #[test]
    fn publications_are_kept_until_answered_and_sent_again() {
        let mut topics = topics();
        assert_eq!(topics.publish(at(0), 0, "a", &"one".into()), Ok(()));
        greeted(&mut topics, at(0));
        let one = r#"{"op":"publish","topic":"a","ref":0,"data":"one"}"#;
        assert_eq!(said(&mut topics)[1..], [one]);
        assert_eq!(topics.publish(at(1), 1, "a", &Payload::Json("[2]".into()).into()), Ok(()));
        let two = r#"{"op":"publish","topic":"a","ref":1,"data":[2]}"#;
        assert_eq!(said(&mut topics), [two]);
        let told = heard(&mut topics, at(1), r#"{"op":"published","ref":0,"id":"9-0"}"#);
        assert_eq!(told, [TopicEvent::Published { reference: 0, id: EventId::new(9, 0) }]);
        assert_eq!(heard(&mut topics, at(1), r#"{"op":"published","ref":0,"id":"9-0"}"#), []);
        greeted(&mut topics, at(20));
        assert_eq!(said(&mut topics)[1..], [two]);
        let told = greeted(&mut topics, at(60));
        assert!(matches!(
            &told[1],
            TopicEvent::NotPublished { reference: 1, code, .. } if code == "unknown"
        ));
        assert!(!topics.has_pending() && topics.pending_bytes == 0);
    }

    #[test]
    fn what_waits_is_bounded_and_what_cannot_go_is_refused() {
        use TopicRefused::{Binary, Full, TooLong, Topic};
        let mut topics = topics();
        for topic in ["", "a b", "$clients", "ä"] {
            assert_eq!(topics.publish(at(0), 0, topic, &"x".into()), Err(Topic), "{topic:?}");
        }
        assert_eq!(topics.subscribe("a b", After::Now), Err(Topic));
        assert_eq!(topics.publish(at(0), 0, "a", &vec![0].into()), Err(Binary));
        let text = Payload::text("x".repeat(400)).into();
        let taken = (0..9).take_while(|n| topics.publish(at(0), *n, "a", &text).is_ok()).count();
        assert_eq!((taken, topics.publish(at(0), 9, "a", &text)), (2, Err(Full)));
        topics.forget(0);
        assert!(topics.publish(at(0), 9, "a", &text).is_ok());
        greeted(&mut topics, at(0));
        let long = Payload::text("x".repeat(500)).into();
        assert_eq!(topics.publish(at(0), 10, "a", &long), Err(TooLong));
        let mut topics = Topics::new(1 << 20, &mut Random::new(7));
        let taken = (0..99).take_while(|n| topics.publish(at(0), *n, "a", &"x".into()).is_ok());
        assert_eq!(taken.count(), PENDING_MAX);
    }

    #[test]
    fn what_was_published_before_the_server_said_how_much_it_takes_is_refused_then() {
        let mut topics = topics();
        topics.publish(at(0), 0, "a", &Payload::text("x".repeat(500)).into()).unwrap();
        topics.publish(at(0), 1, "a", &"short".into()).unwrap();
        let told = greeted(&mut topics, at(0));
        assert!(matches!(
            &told[1..],
            [TopicEvent::NotPublished { reference: 0, code, .. }] if code == "limit"
        ));
        assert_eq!(said(&mut topics).len(), 2, "the greeting, and what is short enough");
    }

    #[test]
    fn a_topic_that_was_left_says_nothing_more() {
        let mut topics = topics();
        topics.subscribe("a", After::Now).unwrap();
        greeted(&mut topics, at(0));
        topics.subscribe("a", After::Now).unwrap();
        let event = r#"{"op":"event","topic":"a","id":"6-0","data":1}"#;
        assert_eq!(heard(&mut topics, at(0), event), [], "of the first subscription");
        assert_eq!(heard(&mut topics, at(0), r#"{"op":"unsubscribed","topic":"a"}"#), []);
        assert_eq!(heard(&mut topics, at(0), event).len(), 1);
        topics.unsubscribe("a");
        assert_eq!(heard(&mut topics, at(0), r#"{"op":"unsubscribed","topic":"a"}"#), []);
        assert_eq!(heard(&mut topics, at(0), event), []);
    }

    #[test]
    fn refusals_gaps_and_leave_takings_are_told() {
        let mut topics = topics();
        topics.subscribe("a", After::Now).unwrap();
        topics.subscribe("b", After::Now).unwrap();
        topics.publish(at(0), 0, "a", &"x".into()).unwrap();
        greeted(&mut topics, at(0));
        let gap = heard(&mut topics, at(0), r#"{"op":"gap","topic":"a","first":null}"#);
        assert_eq!(gap, [TopicEvent::Gap { topic: "a".into(), gap: Gap { first: None } }]);
        let error = r#"{"op":"error","code":"forbidden","message":"no","ref":0}"#;
        assert!(matches!(
            &heard(&mut topics, at(0), error)[..],
            [TopicEvent::NotPublished { reference: 0, code, sentence }]
                if code == "forbidden" && sentence == "no"
        ));
        let error = r#"{"op":"error","code":"limit","message":"no","ref":"b"}"#;
        assert!(matches!(
            &heard(&mut topics, at(0), error)[..],
            [TopicEvent::NotSubscribed { .. }]
        ));
        let goaway = heard(&mut topics, at(0), r#"{"op":"goaway","retry_ms":70}"#);
        assert_eq!(goaway, [TopicEvent::Goaway(Duration::from_millis(70))]);
        said(&mut topics);
        topics.publish(at(0), 1, "a", &"x".into()).unwrap();
        assert_eq!(said(&mut topics), [""; 0], "it waits for the next connection");
        assert_eq!(
            heard(&mut topics, at(0), r#"{"op":"pressure","level":2}"#),
            [TopicEvent::Pressure(2)]
        );
    }

    #[test]
    fn what_is_no_message_says_nothing() {
        let mut topics = topics();
        topics.subscribe("a", After::Now).unwrap();
        greeted(&mut topics, at(0));
        for text in [
            "",
            "[]",
            "{",
            "{}",
            r#"{"op":1}"#,
            r#"{"op":"event"}"#,
            r#"{"op":"event","topic":"a","id":"x","data":1}"#,
            r#"{"op":"event","topic":"a","id":"7-0"}"#,
            r#"{"op":"event","topic":"a","id":"7-0","base64":"?"}"#,
            r#"{"op":"event","topic":"other","id":"7-0","data":1}"#,
            r#"{"op":"published","ref":5,"id":"1-0"}"#,
            r#"{"op":"published","ref":{},"id":"1-0"}"#,
            r#"{"op":"unsubscribed","topic":"a"}"#,
            r#"{"op":"pressure","level":-1}"#,
        ] {
            assert_eq!(heard(&mut topics, at(0), text), [], "{text}");
        }
    }

    // It has forgotten what it published: it would publish that again.
    #[test]
    fn what_another_server_may_have_published_is_not_sent_again() {
        for (before, now, is_same) in [
            (5, 6, true),
            (5, 5 + 0xff_ffff, true),
            ((1 << 40) - 1, 0, true),
            (5, 5, false),
            (6, 5, false),
            (5, 5 + 0x100_0000, false),
        ] {
            let mut topics = topics();
            greeted_by(&mut topics, at(0), before << 24);
            topics.publish(at(0), 0, "a", &"sent".into()).unwrap();
            said(&mut topics);
            topics.reset();
            topics.publish(at(0), 1, "a", &"not sent".into()).unwrap();
            let told = greeted_by(&mut topics, at(1), now << 24);
            let unknown = told.iter().any(|one| {
                let TopicEvent::NotPublished { reference, code, .. } = one else { return false };
                *reference == 0 && code == "unknown"
            });
            assert_eq!(unknown, !is_same, "{before} {now}");
            let again = said(&mut topics);
            assert_eq!(
                again.iter().filter(|text| text.contains("publish")).count(),
                if is_same { 2 } else { 1 }
            );
        }
    }

    // A device without a clock of its own restarts, and its ids begin lower than they were.
    #[test]
    fn after_a_gap_a_server_whose_clock_is_behind_is_heard() {
        let mut topics = topics();
        topics.subscribe("a", After::Position(EventId::new(900, 7))).unwrap();
        greeted(&mut topics, at(0));
        let event = |ms: u64, process: u64| {
            format!(r#"{{"op":"event","topic":"a","id":"{ms}-{process}","data":1}}"#)
        };
        assert_eq!(heard(&mut topics, at(0), &event(100, 8)), [], "without a gap it is old");
        heard(&mut topics, at(0), r#"{"op":"gap","topic":"a","first":"100-8"}"#);
        assert_eq!(heard(&mut topics, at(0), &event(800, 7)), [], "the same server's are old");
        assert_eq!(heard(&mut topics, at(0), &event(100, 8)).len(), 1);
        assert_eq!(heard(&mut topics, at(0), &event(100, 8)), [], "it has that one");
        assert_eq!(heard(&mut topics, at(0), &event(101, 8)).len(), 1);
    }

    #[test]
    fn nothing_waits_for_an_answer_when_the_client_has_stopped() {
        let mut topics = topics();
        greeted(&mut topics, at(0));
        topics.publish(at(0), 0, "a", &"sent".into()).unwrap();
        topics.reset();
        topics.publish(at(0), 1, "a", &"not sent".into()).unwrap();
        let mut all = Vec::new();
        topics.give_up_all("stopped", &mut |heard| all.push(heard));
        let codes = all.iter().map(|heard| match heard {
            TopicEvent::NotPublished { reference, code, .. } => (*reference, code.as_str()),
            other => panic!("{other:?}"),
        });
        assert!(codes.eq([(0, "unknown"), (1, "closed")]));
        assert!(!topics.has_pending() && topics.pending_bytes == 0);
    }

    #[test]
    fn what_a_server_takes_over_has_no_id_and_a_bad_id_is_none() {
        let mut topics = topics();
        greeted(&mut topics, at(0));
        (0..2).for_each(|n| topics.publish(at(0), n, "a", &"x".into()).unwrap());
        let taken = heard(&mut topics, at(0), r#"{"op":"published","ref":0,"id":null}"#);
        assert_eq!(taken, [TopicEvent::Taken { reference: 0 }]);
        let bad = heard(&mut topics, at(0), r#"{"op":"published","ref":1,"id":"x"}"#);
        assert!(matches!(&bad[..], [TopicEvent::NotPublished { reference: 1, .. }]), "{bad:?}");
        assert!(!topics.has_pending());
    }
}
