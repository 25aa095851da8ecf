//! What is kept for further use: memory of what has been emptied, and the encoded forms of the
//! newest events. All of it is bounded.

use crate::core::connection::receive::SpareInboxes;
use crate::core::engine::feed::FormCache;
use crate::core::outbox;
use crate::core::wire::spare_memory::SpareMemory;

/// What is kept to be used again.
#[derive(Debug, Default)]
pub(super) struct Spares {
    pub inboxes: SpareInboxes,
    pub queues: outbox::Spares,
    /// Memory of large messages that have been written, for those that come.
    pub memory: SpareMemory,
    /// The buffer for payloads that are encoded as they are written.
    pub scratch: Vec<u8>,
    pub forms: FormCache,
    /// The windows of the peers that have agreed on compression.
    #[cfg(feature = "deflate")]
    pub windows: super::compression::Windows,
    /// What compresses and inflates.
    #[cfg(feature = "deflate")]
    pub coders: crate::core::wire::deflate::Coders,
}
