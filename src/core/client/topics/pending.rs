//! What was published and waits for an answer.

use std::time::Duration;

use super::form::Order;
use crate::core::ground::time::Instant;
use crate::core::topics::Content;

/// A publication. It is kept in no form: the next connection may speak another one.
#[derive(Debug)]
pub(super) struct Pending {
    pub reference: u32,
    pub topic: Box<str>,
    pub content: Content,
    /// When it was first sent.
    pub sent_at: Option<Instant>,
}

impl Pending {
    pub fn order(&self) -> Order<'_> {
        let Pending { reference, topic, content, .. } = self;
        Order::Publish { topic, reference: *reference, content }
    }

    pub fn bytes(&self) -> usize {
        self.topic.len() + self.content.payload.len()
    }
}

/// Returns whether two connections are of one server, which knows what it published for the first:
/// ids count a server's connections from a random start (guide/protocol.md, "Publishing again").
pub(super) fn is_same_server(before: Option<u64>, now: Option<u64>) -> bool {
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

/// A server remembers so many of the newest references of a client: no more may be sent again.
pub(super) const PENDING_MAX: usize = 64;

/// For how long a server surely remembers a reference, less what an answer may take.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(50);
