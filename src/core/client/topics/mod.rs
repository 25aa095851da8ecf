//! The topics of a server, as one client has them over `/ws`: what it subscribes to, from where it
//! goes on after a break, and what it has published without an answer.
//!
//! The server greets first: the form of its greeting, JSON or CBOR, is that of the connection. What
//! outlives the connection is kept in no form.

#[cfg(feature = "cbor")]
mod cbor;
mod form;
mod json;
mod pending;
#[cfg(feature = "presence")]
mod presence;
mod said;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::ground::base64;
use crate::core::ground::random::Random;
use crate::core::ground::time::Instant;
use crate::core::topics::{After, Content, Event, Gap, Name};
use crate::core::wire::message::Message;

use form::{Form, Order};
use pending::{PENDING_MAX, Pending, REMEMBERED_FOR, is_same_server};
#[cfg(feature = "presence")]
pub use presence::Moves;
use said::{Reference, Said, id_of};
#[cfg(feature = "presence")]
pub use told::TopicMember;
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
    /// Questions who is on a topic, without an answer.
    #[cfg(feature = "presence")]
    asked: presence::Asked,
    /// Unsubscriptions without an answer: what comes of their topics until then is of the past.
    ignored: BTreeMap<String, u32>,
    /// The id of the last connection, as the server greeted.
    connection: Option<u64>,
    /// What the connection speaks, if the server has greeted.
    form: Option<Form>,
    /// The server has said that it goes: what is published waits for the next connection.
    is_leaving: bool,
    /// The server has said that the token soon expires.
    is_token_due: bool,
    /// The longest message that the server takes.
    message_max: u64,
    to_send: VecDeque<Message>,
}

#[derive(Debug)]
struct Subscription {
    after: After,
    /// Events were missing, and none has come since: a server whose clock is behind may go on with
    /// ids below the position.
    has_gap: bool,
    /// What the client says of itself there.
    #[cfg(feature = "presence")]
    info: Option<Box<str>>,
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
            #[cfg(feature = "presence")]
            asked: presence::Asked::default(),
            ignored: BTreeMap::new(),
            connection: None,
            form: None,
            is_leaving: false,
            is_token_due: false,
            message_max: u64::MAX,
            to_send: VecDeque::new(),
        }
    }

    /// Takes the next message for the server.
    pub fn poll_send(&mut self) -> Option<Message> {
        self.to_send.pop_front()
    }

    /// Puts back a message that could not be sent now.
    pub fn put_back(&mut self, message: Message) {
        self.to_send.push_front(message);
    }

    /// Takes note that there is no connection, or a new one: nothing is ready.
    pub fn reset(&mut self) {
        self.form = None;
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
        self.say(&Order::Token { token });
    }

    /// Gives up all that waits for an answer: the client has stopped, for this reason.
    pub fn give_up_all(&mut self, why: &str, tell: &mut impl FnMut(TopicEvent)) {
        while let Some(Pending { reference, sent_at, .. }) = self.pending.front() {
            let code = if sent_at.is_some() { "unknown" } else { "closed" };
            self.give_up(*reference, code, why, tell);
        }
        #[cfg(feature = "presence")]
        self.give_up_questions(why, tell);
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
        self.begin(topic, after, None)
    }

    fn begin(
        &mut self,
        topic: &str,
        after: After,
        _info: Option<Box<str>>,
    ) -> Result<(), TopicRefused> {
        if !Name::is_valid(topic) {
            return Err(TopicRefused::Topic);
        }
        self.unsubscribe(topic);
        let subscription = Subscription {
            after,
            has_gap: false,
            #[cfg(feature = "presence")]
            info: _info,
        };
        self.subscriptions.insert(topic.to_owned(), subscription);
        self.say_subscribe(topic);
        Ok(())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, topic: &str) {
        if self.subscriptions.remove(topic).is_some() && self.form.is_some() {
            *self.ignored.entry(topic.to_owned()).or_default() += 1;
            self.say(&Order::Unsubscribe { topic });
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
        let (topic, content) = (topic.into(), content.clone());
        let mut pending = Pending { reference, topic, content, sent_at: None };
        // Which form the next connection will speak is known where the build has one alone.
        let form = self.form.or((!cfg!(feature = "cbor")).then_some(Form::Json));
        let message = form.map(|form| self.write(form, &pending)).transpose()?;
        let held = self.pending_bytes.saturating_add(pending.bytes());
        // An empty queue takes one of any length.
        if (held > self.pending_max && !self.pending.is_empty())
            || self.pending.len() >= PENDING_MAX
        {
            return Err(TopicRefused::Full);
        }
        if self.form.is_some() && !self.is_leaving {
            pending.sent_at = Some(now);
            self.to_send.extend(message);
        }
        self.pending_bytes = held;
        self.pending.push_back(pending);
        Ok(())
    }

    /// Gives up waiting for an answer. Returns whether one was still awaited.
    pub fn forget(&mut self, reference: u32) -> bool {
        self.settle(reference).is_some()
    }

    /// Returns whether a message is in the form that the connection speaks: for
    /// [`Topics::receive`].
    pub fn reads(&self, message: &Message) -> bool {
        let form = Form::of(message);
        form.is_some() && self.form.is_none_or(|own| form == Some(own))
    }

    /// Takes a message of the server. What is no message of `/ws` says nothing.
    pub fn receive(&mut self, now: Instant, message: &Message, tell: &mut impl FnMut(TopicEvent)) {
        let (Some(form), Some(message)) = (Form::of(message), Said::read(message)) else { return };
        match &*message.op {
            "hello" => self.take_hello(now, form, &message, tell),
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
                let Reference::Number(reference) = message.reference else { return };
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
            #[cfg(feature = "presence")]
            "presence" => {
                if let Reference::Number(reference) = message.reference {
                    self.take_presence(reference, message, tell);
                }
            }
            "token" => self.is_token_due |= message.reference == Reference::None,
            "pressure" => {
                if let Some(level) = message.level {
                    tell(TopicEvent::Pressure(level));
                }
            }
            "goaway" => {
                self.is_leaving = true;
                let ms = message.retry_ms.unwrap_or(0);
                tell(TopicEvent::Goaway(Duration::from_millis(ms.into())));
            }
            _ => {}
        }
    }

    fn take_hello(
        &mut self,
        now: Instant,
        form: Form,
        message: &Said,
        tell: &mut impl FnMut(TopicEvent),
    ) {
        if self.form.is_some() {
            return;
        }
        self.form = Some(form);
        self.message_max = message.message_bytes.unwrap_or(u64::MAX);
        self.to_send.extend(form.write(&Order::Hello { client: &self.client }));
        let topics: Vec<String> = self.subscriptions.keys().cloned().collect();
        topics.iter().for_each(|topic| self.say_subscribe(topic));
        #[cfg(feature = "presence")]
        self.ask_presence_again();
        tell(TopicEvent::Ready);
        let connection = message.connection.parse().ok();
        let is_same = is_same_server(self.connection, connection);
        self.connection = connection;
        self.publish_again(now, form, is_same, tell);
    }

    /// Sends what waits for an answer, in the form of this connection.
    fn publish_again(
        &mut self,
        now: Instant,
        form: Form,
        is_same: bool,
        tell: &mut impl FnMut(TopicEvent),
    ) {
        let is_remembered = |at| is_same && now.since(at) < REMEMBERED_FOR;
        self.pending_bytes = 0;
        for mut pending in std::mem::take(&mut self.pending) {
            match self.write(form, &pending) {
                Ok(message) if pending.sent_at.is_none_or(is_remembered) => {
                    pending.sent_at.get_or_insert(now);
                    self.to_send.push_back(message);
                    self.pending_bytes += pending.bytes();
                    self.pending.push_back(pending);
                }
                Err(refused) if pending.sent_at.is_none() => tell(refused.of(pending.reference)),
                // It may be published, and the server cannot be asked.
                _ => {
                    let sentence = "the connection broke before the answer";
                    tell(TopicEvent::not_published(pending.reference, "unknown", sentence));
                }
            }
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
        tell(TopicEvent::not_published(reference, code, sentence));
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
        let Some(payload) = message.payload else { return };
        subscription.after = After::Position(id);
        subscription.has_gap = false;
        let trace = message.trace.parse().ok();
        tell(TopicEvent::Event { topic, event: Event { id, payload, trace } });
    }

    fn take_error(&mut self, message: &Said, tell: &mut impl FnMut(TopicEvent)) {
        let [code, sentence] = [&message.code, &message.sentence].map(|text| text.to_string());
        match &message.reference {
            Reference::Number(reference) if self.forget(*reference) => {
                tell(TopicEvent::NotPublished { reference: *reference, code, sentence });
            }
            #[cfg(feature = "presence")]
            Reference::Number(reference) => {
                self.take_no_presence(*reference, &code, &sentence, tell);
            }
            Reference::Text(topic) if self.subscriptions.remove(&**topic).is_some() => {
                tell(TopicEvent::NotSubscribed { topic: topic.to_string(), code, sentence });
            }
            _ => {}
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
        let Some(form) = self.form else { return };
        if let Some(subscription) = self.subscriptions.get(topic) {
            let order = Order::Subscribe {
                topic,
                after: subscription.after,
                #[cfg(feature = "presence")]
                info: subscription.info.as_deref(),
            };
            self.to_send.extend(form.write(&order));
        }
    }

    /// Says something to a server that has greeted.
    fn say(&mut self, order: &Order<'_>) {
        self.to_send.extend(self.form.and_then(|form| form.write(order)));
    }

    /// Writes a publication, if the server takes it in this form.
    fn write(&self, form: Form, pending: &Pending) -> Result<Message, TopicRefused> {
        let message = form.write(&pending.order()).ok_or(TopicRefused::Binary)?;
        match message.len() as u64 > self.message_max {
            true => Err(TopicRefused::TooLong),
            false => Ok(message),
        }
    }

    fn is_pending(&self, reference: u32) -> bool {
        self.pending.iter().any(|pending| pending.reference == reference)
    }

    fn settle(&mut self, reference: u32) -> Option<Pending> {
        let index = self.pending.iter().position(|pending| pending.reference == reference)?;
        let settled = self.pending.remove(index)?;
        self.pending_bytes -= settled.bytes();
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
