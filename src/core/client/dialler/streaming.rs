//! An event stream: its answer, what comes, what is due.

use std::sync::Arc;

use super::{Dialler, Means, Phase, Purpose};
use crate::core::client::feed::{Feed, FeedDue};
use crate::core::client::told::Told;
use crate::core::client::why::Why;
use crate::core::wire::http::ResponseHead;

impl Dialler {
    /// Takes the head of the answer.
    pub(super) fn take_stream(&mut self, means: &mut Means<'_>, head: &ResponseHead) {
        let Purpose::Events(resume) = &self.setup.purpose else { return };
        match Feed::new(means.now, head, resume, &self.setup.rules) {
            Ok(feed) => {
                self.enter(Phase::Streaming(Box::new(feed)), means.now);
                // It may be empty, and over.
                self.receive_stream(means, &[]);
            }
            Err(why) => self.finish(means, why, true),
        }
    }

    /// Reads all of what came.
    pub(super) fn receive_stream(&mut self, means: &mut Means<'_>, input: &[u8]) {
        let Phase::Streaming(feed) = &mut self.phase else { return };
        let most = self.setup.rules.frames.message_bytes;
        let mut events = Vec::new();
        let received = feed.receive(means.now, input, most, &mut |event| events.push(event));
        for event in events {
            let news = self.news();
            news.told_bytes += event.data.len() + event.name.len() + event.id.len();
            news.told.push(Told::Event(event));
        }
        if let Err(why) = received {
            self.finish(means, why, false);
        }
    }

    pub(super) fn timeout_stream(&mut self, means: &mut Means<'_>) {
        let now = means.now;
        self.forget_tries(now);
        let Phase::Streaming(feed) = &mut self.phase else { return };
        let due = feed.due(&self.setup.rules).filter(|(at, _)| *at <= now);
        match due.map(|(_, due)| due) {
            Some(FeedDue::Stable) => {
                feed.is_stable = true;
                self.note_held(now);
            }
            Some(FeedDue::Silent) => self.finish(means, Why::Silent, true),
            Some(FeedDue::Event) => self.finish(means, Why::Message, true),
            None => {}
        }
    }

    /// Keeps where the stream goes on, in this client's own copy of what it was made with.
    pub(super) fn note_resume(&mut self) {
        if let (Phase::Streaming(feed), Purpose::Events(before)) =
            (&self.phase, &self.setup.purpose)
        {
            let resume = feed.resume(before);
            if resume != *before {
                Arc::make_mut(&mut self.setup).purpose = Purpose::Events(resume);
            }
        }
    }
}
