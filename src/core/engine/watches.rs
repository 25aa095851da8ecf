//! What waits to learn that a connection ends.
//!
//! A watch stands here until its connection is of no more use to its handler, and is then dropped:
//! that tells. All are looked through when a turn ends: as many as there are threads that have
//! asked, so none in most servers.

use std::fmt;

use crate::core::connection::Connection;
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;

/// A thread that wants to learn of an end. To drop it tells the thread.
pub trait Watch: Send {
    /// Returns whether the thread still wants to learn of this end.
    fn is_wanted(&self) -> bool;
}

/// All that are watched.
#[derive(Default)]
pub(super) struct Watches(Vec<(ConnectionId, Box<dyn Watch>)>);

impl Watches {
    fn keep(&mut self, id: ConnectionId, watch: Box<dyn Watch>) {
        self.0.retain(|(_, watch)| watch.is_wanted());
        self.0.push((id, watch));
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watches").field(&self.0.len()).finish()
    }
}

impl Engine {
    /// Returns whether a connection is of use to its handler: what the handler says may reach the
    /// client, and the server has not begun to end the connection.
    pub fn is_of_use(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(Connection::is_of_use)
    }

    /// Keeps a watch until the connection is of no more use. Those that are not wanted any more are
    /// dropped.
    pub fn watch(&mut self, id: ConnectionId, watch: Box<dyn Watch>) {
        self.watches.keep(id, watch);
    }

    /// Tells of the connections that have come to be of no use.
    #[inline]
    pub(super) fn tell_watches(&mut self) {
        if !self.watches.0.is_empty() {
            self.look_through_watches();
        }
    }

    #[cold]
    fn look_through_watches(&mut self) {
        let mut watches = std::mem::take(&mut self.watches.0);
        watches.retain(|(id, _)| self.is_of_use(*id));
        self.watches.0 = watches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;

    struct Asked(bool);

    impl Watch for Asked {
        fn is_wanted(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn there_are_no_more_watches_than_are_wanted_and_one() {
        let mut watches = Watches::default();
        for key in 0..100 {
            let id = ConnectionId::new(key % 3, Generation::FIRST);
            watches.keep(id, Box::new(Asked(key % 10 == 0)));
            assert!(watches.0.len() <= key / 10 + 2, "{key}");
        }
    }
}
