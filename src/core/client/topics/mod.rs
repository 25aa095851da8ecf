//! The topics of a server, as one client has them over `/ws`: what it subscribes to, from where it
//! goes on after a break, and what it has published without an answer.

mod pending;
mod said;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::core::ground::base64;
use crate::core::ground::json::{self, Object};
use crate::core::ground::random::Random;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, Content, Event, Gap, Name, Payload};

use pending::{PENDING_MAX, Pending, REMEMBERED_FOR, is_same_server};
use said::{Said, id_of};
pub use told::{TopicEvent, TopicRefused};

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

/// Draws a name of 22 characters: 128 bits in base64url.
fn draw_name(random: &mut Random) -> String {
    let bits = [random.next_u64(), random.next_u64()].map(u64::to_ne_bytes).concat();
    let name = base64::encode(&bits).replace('+', "-").replace('/', "_");
    name.trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests;
