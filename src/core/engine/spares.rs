//! What is kept so that it need not be made again: memory of what has been emptied, and the encoded
//! forms of the newest events. All of it is bounded.

use crate::core::connection::Inbox;
use crate::core::engine::feed::FormCache;
use crate::core::outbox;

/// What is kept to be used again.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// Boxed as connections hold them.
    #[expect(clippy::vec_box)]
    inboxes: Vec<Box<Inbox>>,
    pub queues: outbox::Spares,
    /// Where what is encoded as it is written is encoded.
    pub scratch: Vec<u8>,
    pub forms: FormCache,
}

impl Spares {
    /// Gives an empty inbox.
    #[inline]
    pub fn inbox(&mut self) -> Box<Inbox> {
        self.inboxes.pop().unwrap_or_default()
    }

    /// Keeps the memory of a few inboxes for the next messages. An idle connection owns none.
    pub fn keep_inbox(&mut self, mut inbox: Box<Inbox>) {
        if self.inboxes.len() < INBOXES_MAX && inbox.events.capacity() <= EVENTS_MAX {
            inbox.empty();
            debug_assert!(inbox.is_idle() && inbox.bytes == 0, "nothing of it is left");
            self.inboxes.push(inbox);
        }
    }
}

const INBOXES_MAX: usize = 16;
const EVENTS_MAX: usize = 64;
