//! Questions who is on a topic. One that is without an answer when the connection breaks is asked
//! again on the next one.

use std::collections::VecDeque;

use super::form::Order;
use super::said::Said;
use super::told::{TopicEvent, TopicRefused};
use super::{After, Name, Topics};

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
