//! Questions who is on a topic. One that is without an answer when the connection breaks is asked
//! again on the next one.

use std::collections::VecDeque;

use super::form::Order;
use super::json::members_of;
use super::said::Said;
use super::told::{TopicEvent, TopicMember, TopicRefused};
use super::{After, Name, Topics};
use crate::core::ground::json;
use crate::core::topics::{Event, Payload, presence};

/// Who has joined and left, as an event of `$presence.TOPIC` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Who has joined; `None` if there are more members than the server names.
    pub joined: Option<Vec<TopicMember>>,
    /// Who has left.
    pub left: Option<Vec<TopicMember>>,
    /// How many members there are now.
    pub count: u64,
}

impl Moves {
    /// Reads an event; `None` if it is of another topic, or none of those that servers publish
    /// there.
    pub fn of(topic: &str, event: &Event) -> Option<Moves> {
        topic.strip_prefix(presence::OWN)?;
        let Payload::Json(text) = &event.payload else { return None };
        let (mut moves, mut count) = (Moves::default(), None);
        json::members(text.as_str(), |name, raw| match &*name {
            "joined" => moves.joined = members_of(raw),
            "left" => moves.left = members_of(raw),
            "count" => count = raw.parse().ok(),
            _ => {}
        })
        .ok()?;
        Some(Moves { count: count?, ..moves })
    }
}

/// Questions without an answer, in their order: what each was given, and the topic.
#[derive(Debug, Default)]
pub(super) struct Asked(VecDeque<(u32, Box<str>)>);

impl Asked {
    fn take(&mut self, reference: u32) -> Option<String> {
        let index = self.0.iter().position(|(other, _)| *other == reference)?;
        self.0.remove(index).map(|(_, topic)| topic.into())
    }
}

impl Topics {
    /// Subscribes as [`Topics::subscribe`] does, and has the client say something of itself to
    /// those who ask who is there.
    ///
    /// # Errors
    ///
    /// [`TopicRefused::Topic`].
    pub fn subscribe_as(
        &mut self,
        topic: &str,
        after: After,
        info: &str,
    ) -> Result<(), TopicRefused> {
        self.begin(topic, after, Some(info.into()))
    }

    /// Asks who is on a topic: now, or when there is a connection. The caller gives the answer's
    /// reference, which no other question and no publication has.
    ///
    /// # Errors
    ///
    /// [`TopicRefused::Topic`], or [`TopicRefused::Full`] while 64 questions wait.
    pub fn ask_presence(&mut self, reference: u32, topic: &str) -> Result<(), TopicRefused> {
        if !Name::is_valid(topic) {
            return Err(TopicRefused::Topic);
        }
        if self.asked.0.len() >= ASKED_MAX {
            return Err(TopicRefused::Full);
        }
        self.asked.0.push_back((reference, topic.into()));
        self.say(&Order::Presence { topic, reference });
        Ok(())
    }

    /// Asks a server that has greeted what was not answered before.
    pub(super) fn ask_presence_again(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        for (reference, topic) in &asked.0 {
            self.say(&Order::Presence { topic, reference: *reference });
        }
        self.asked = asked;
    }

    pub(super) fn take_presence(
        &mut self,
        reference: u32,
        said: Said<'_>,
        tell: &mut impl FnMut(TopicEvent),
    ) {
        if let (Some(topic), Some(count)) = (self.asked.take(reference), said.count) {
            tell(TopicEvent::Presence { reference, topic, count, members: said.members });
        }
    }

    /// Takes a refusal, if it is that of a question.
    pub(super) fn take_no_presence(
        &mut self,
        reference: u32,
        code: &str,
        sentence: &str,
        tell: &mut impl FnMut(TopicEvent),
    ) {
        if let Some(topic) = self.asked.take(reference) {
            let (code, sentence) = (code.to_owned(), sentence.to_owned());
            tell(TopicEvent::NoPresence { reference, topic, code, sentence });
        }
    }

    /// Gives up all questions: the client has stopped, for this reason.
    pub(super) fn give_up_questions(&mut self, why: &str, tell: &mut impl FnMut(TopicEvent)) {
        while let Some((reference, _)) = self.asked.0.front() {
            self.take_no_presence(*reference, "closed", why, tell);
        }
    }
}

/// How many questions wait at most.
const ASKED_MAX: usize = 64;
