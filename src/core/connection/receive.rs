//! What the machines take bytes with, and what they make of them.

use tungstenite::Bytes;

use crate::core::config::Limits;
use crate::core::connection::Inbox;
use crate::core::connection::allowance::Allowance;
use crate::core::connection::short_way::ShortWay;
use crate::core::ground::time::Instant;
#[cfg(feature = "deflate")]
use crate::core::wire::deflate::Coders;
use crate::core::wire::http::{Head, HeadLimits, HeadReader, Refusal};
use crate::core::wire::spare_memory::SpareMemory;
use crate::core::wire::ws::{self, Decoder, Incoming, Role, Violation};

/// What is lent to a machine to take bytes with.
pub(crate) struct Context<'a, 'b> {
    pub now: Instant,
    pub limits: &'a Limits,
    pub head_limits: &'a HeadLimits,
    pub frame_limits: &'a ws::Limits,
    /// What is left of the turn.
    pub allowance: &'a mut Allowance,
    /// Inboxes to be used again.
    pub inboxes: &'a mut SpareInboxes,
    /// Memory for large messages.
    pub memory: &'a mut SpareMemory,
    /// What inflates, if compression was agreed on.
    #[cfg(feature = "deflate")]
    pub coders: Option<&'a mut Coders>,
    /// Messages are for a handler: the route has one, and no rate of messages applies.
    pub is_for_handler: bool,
    /// How messages come to the handler without the inbox, if they may.
    pub short_way: Option<&'a mut ShortWay<'b>>,
}

/// What has become of some bytes.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// How many bytes are used up.
    pub used: usize,
    /// How many messages came for the handler.
    pub messages: u64,
    /// What the engine is to act on.
    pub found: Option<Received>,
}

/// What was found in the bytes of a peer.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame, or a message.
    Frame(Incoming),
    /// Bytes that are no frame.
    Violation(Violation),
    /// The peer's answer to a close frame.
    CloseReply,
    /// The head of a request.
    Head(Box<Head>),
    /// The whole body of a request.
    Body(Bytes),
    /// Pieces of a body for its handler, or the end of that body.
    Pieces,
    /// Bytes that are no request. `is_for_head`: it is to HEAD, so the answer has no body.
    Refusal { refusal: Refusal, is_for_head: bool },
}

impl Context<'_, '_> {
    /// Decodes what stands at the front of a client's bytes, and charges what was inflated.
    #[inline]
    pub fn decode(
        &mut self,
        decoder: &mut Decoder,
        input: &mut [u8],
    ) -> Result<(usize, Option<Incoming>), Violation> {
        #[cfg(feature = "deflate")]
        if let Some(coders) = &mut self.coders {
            let Context { frame_limits, memory, allowance, .. } = self;
            let role = Role::Server;
            let found = decoder.decode_compressed(role, input, frame_limits, memory, coders, None);
            allowance.charge_bytes(coders.take_inflated());
            return found;
        }
        decoder.decode_into(Role::Server, input, self.frame_limits, self.memory)
    }
}

impl Decoded {
    #[inline]
    pub(super) fn nothing(used: usize) -> Decoded {
        Decoded { used, messages: 0, found: None }
    }

    pub(super) fn head(reader: &mut HeadReader, input: &[u8], limits: &HeadLimits) -> Decoded {
        let is_for_head = reader.is_for_head(input);
        match reader.read(input, limits) {
            Ok((used, head)) => {
                let found = head.map(|head| Received::Head(Box::new(head)));
                Decoded { used, messages: 0, found }
            }
            Err(refusal) => {
                let found = Some(Received::Refusal { refusal, is_for_head });
                Decoded { used: input.len(), messages: 0, found }
            }
        }
    }
}

/// Inboxes that were emptied, boxed as connections hold them.
#[derive(Debug, Default)]
#[expect(clippy::vec_box)]
pub(crate) struct SpareInboxes(Vec<Box<Inbox>>);

impl SpareInboxes {
    /// Returns an empty inbox.
    #[inline]
    pub fn take(&mut self) -> Box<Inbox> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps the memory of a few inboxes for the next messages. An idle connection owns none.
    pub fn keep(&mut self, mut inbox: Box<Inbox>) {
        if self.0.len() < INBOXES_MAX && inbox.events.capacity() <= EVENTS_MAX {
            inbox.empty();
            debug_assert!(inbox.is_idle() && inbox.bytes == 0, "nothing of it is left");
            self.0.push(inbox);
        }
    }
}

const INBOXES_MAX: usize = 16;
const EVENTS_MAX: usize = 64;
