//! Why something could not be published or subscribed to.

use std::fmt;

use super::BadName;

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// No topic can have this name.
    BadName,
    /// `limits.topics` exist.
    TopicsFull,
}

impl PublishError {
    /// Returns it in words.
    pub fn sentence(self) -> &'static str {
        match self {
            PublishError::BadName => BadName::SENTENCE,
            PublishError::TopicsFull => "there are as many topics as there may be",
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for PublishError {}

/// Why a connection was not subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// No topic can have this name.
    BadName,
    /// `limits.topics` exist.
    TopicsFull,
    /// The connection has `limits.subscriptions`.
    SubscriptionsFull,
}

impl From<PublishError> for SubscribeError {
    fn from(error: PublishError) -> SubscribeError {
        match error {
            PublishError::BadName => SubscribeError::BadName,
            PublishError::TopicsFull => SubscribeError::TopicsFull,
        }
    }
}

impl SubscribeError {
    /// Returns it in words.
    pub fn sentence(self) -> &'static str {
        match self {
            SubscribeError::BadName => PublishError::BadName.sentence(),
            SubscribeError::TopicsFull => PublishError::TopicsFull.sentence(),
            SubscribeError::SubscriptionsFull => {
                "the connection has as many subscriptions as it may have"
            }
        }
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for SubscribeError {}
