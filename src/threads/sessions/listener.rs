//! What other servers tell the connections of a route, by the store that they share.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use super::SessionId;
use super::keeper::Keeper;

/// Tells the connections of one route on one server what other servers have done in the store: see
/// [`SessionStore::listen`](super::SessionStore::listen).
///
/// What is told may come late, twice or never: claims have their numbers, and an upgrade that waits
/// asks again.
/// Each call is short, may be made on any thread, and may call the store: not while it is locked.
#[derive(Clone)]
pub struct Listener(Weak<Keeper>);

impl Listener {
    pub(super) fn new(keeper: Weak<Keeper>) -> Listener {
        Listener(keeper)
    }

    /// Tells that a newer connection elsewhere wants a session, or has taken it, whose claim here
    /// has this number. The connection that holds it here is ended with 4409, and what its handler
    /// has is saved, behind the call that the handler is in. Another number tells nothing.
    pub fn wanted(&self, id: &SessionId, number: u64) {
        if let Some(keeper) = self.0.upgrade() {
            keeper.hear_wanted(id, number);
        }
    }

    /// Tells that a session was let go of elsewhere: an upgrade that waits for it here claims it at
    /// once.
    pub fn free(&self, id: &SessionId) {
        if let Some(keeper) = self.0.upgrade() {
            keeper.hear_free(id);
        }
    }

    /// Waits for so long, and on until a connection here holds a session, or waits for one: for
    /// stores that look again and again. Returns whether the server still runs.
    pub fn wait(&self, span: Duration) -> bool {
        self.0.upgrade().is_some_and(|keeper| keeper.wait_until_busy(span))
    }

    /// Returns whether the server has ended: there is nobody to be told any more.
    pub fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|keeper| keeper.is_over())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
