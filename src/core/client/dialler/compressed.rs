//! Compressed messages on an open connection.
//!
//! A few bytes may become a thousand times as many. So they are not all decoded at once: when much
//! has come out of them the rest is left unread until the application was told.

use super::{Dialler, Means, Phase};
use crate::core::client::compression::Compression;

impl Dialler {
    /// Leaves bytes unread, if much waits to be told that was inflated.
    pub(super) fn leaves_unread(&mut self, rest: &[u8]) -> bool {
        let wants_read = self.wants_read();
        let Some(compression) = self.compression().filter(|_| !wants_read) else { return false };
        debug_assert!(compression.unread.is_empty(), "what was left is decoded first");
        compression.unread.extend_from_slice(rest);
        true
    }

    /// Goes on with bytes that were left unread, as far as may be. Returns whether there were some.
    /// To be called before more is read of the connection.
    pub fn receive_unread(&mut self, means: &mut Means<'_>) -> bool {
        let unread = self.compression().map(|compression| std::mem::take(&mut compression.unread));
        let mut unread = unread.unwrap_or_default();
        self.receive(means, &mut unread);
        !unread.is_empty()
    }

    /// Takes note of bytes of a message that is not complete.
    pub(super) fn note_inflated(&mut self, bytes: usize) {
        if bytes > 0 {
            self.news().told_bytes += bytes;
        }
    }

    fn compression(&mut self) -> Option<&mut Compression> {
        match &mut self.phase {
            Phase::Open(link) => link.compression.as_deref_mut(),
            _ => None,
        }
    }
}
