//! What a client of topics is told, and why it takes something not.

use std::time::Duration;

use crate::core::topics::{Event, EventId, Gap};

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
    /// Who is on a topic.
    #[cfg(feature = "presence")]
    Presence {
        /// What the question was given.
        reference: u32,
        /// The topic.
        topic: String,
        /// How many members it has.
        count: u64,
        /// The members; `None` if there are more than the server names.
        members: Option<Vec<TopicMember>>,
    },
    /// Who is on a topic is not told.
    #[cfg(feature = "presence")]
    NoPresence {
        /// What the question was given.
        reference: u32,
        /// The topic.
        topic: String,
        /// The kind of refusal: `bad_request` where the topic does not tell, `forbidden`; `full` if
        /// 64 questions wait; `closed` if the client has stopped before the answer.
        code: String,
        /// In words.
        sentence: String,
    },
    /// How full the server's outbox for this client is: 0 to 3.
    Pressure(u8),
    /// The server closes soon, and wants the client to stay away for so long.
    Goaway(Duration),
}

/// A member of a topic, as the server tells it.
#[cfg(feature = "presence")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicMember {
    /// Who it is; `None` if the server does not know.
    pub identity: Option<String>,
    /// The id of its connection.
    pub connection: String,
    /// What it said of itself when it subscribed.
    pub info: Option<String>,
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

impl TopicEvent {
    pub(super) fn not_published(reference: u32, code: &str, sentence: &str) -> TopicEvent {
        let (code, sentence) = (code.to_owned(), sentence.to_owned());
        TopicEvent::NotPublished { reference, code, sentence }
    }
}

impl TopicRefused {
    /// Returns what is told of a publication that was refused, as the server would.
    pub fn of(self, reference: u32) -> TopicEvent {
        let code = match self {
            TopicRefused::Topic | TopicRefused::Binary => "bad_request",
            TopicRefused::Full => "full",
            TopicRefused::TooLong => "limit",
        };
        TopicEvent::not_published(reference, code, &self.to_string())
    }
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
