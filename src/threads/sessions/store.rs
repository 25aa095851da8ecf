//! What a store of sessions does.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::{Listener, SessionId};

/// Keeps sessions. Several servers may share one, each with its own value of this type.
///
/// A claim gives a session to one connection, under a number that is greater than all before it in
/// this store, whatever the store has lost meanwhile. A save bears the number of its claim, and is
/// refused if the session has another number, or is gone: so of two connections that both take
/// themselves for the owner the older cannot overwrite what the newer has saved. Each call must be
/// atomic.
///
/// Calls block. They are made by a thread of the route's own, one after the other, so a store that
/// does not answer holds up nothing but sessions; those that wait are refused with 503 when
/// `deadlines.handshake` is over. A store that never waits for anything says so by
/// [`SessionStore::is_immediate`]. A panic is a failure.
pub trait SessionStore: Send + Sync + 'static {
    /// Claims a session. If another connection has claimed it, has not ended it, and has renewed
    /// its claim within the lease, it is [`Claimed::Held`], unless the claim is forced and names
    /// the number of that claim.
    ///
    /// # Errors
    ///
    /// The store has failed: the upgrade is refused with 503.
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError>;

    /// Saves a session, or renews its claim, and has it last for another `ttl`.
    ///
    /// A store whose calls may take effect after they have failed, because a network has what was
    /// sent, leaves a save out whose turn is not greater than that of the last one under this
    /// number, as if it were taken: what came after it is newer.
    ///
    /// # Errors
    ///
    /// The store has failed: it is tried again.
    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError>;

    /// Has the store tell a route of this server, from now on, what other servers do: that they
    /// want a session which a connection of the route holds, and that one is free which an upgrade
    /// of the route waits for. It is called once for each route, when the server begins, and must
    /// not block: a store that waits for what is told has a thread for that. What it returns is
    /// dropped when the server ends, and ends the thread.
    ///
    /// By default nothing is told. Then a connection whose session was taken learns of it by its
    /// next save, and an upgrade that wants a session which another server holds has it after a
    /// second, as it was saved last. It is so, too, when what is told gets lost.
    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        let _ = listener;
        Box::new(())
    }

    /// Returns whether the store never waits, for a disk or a network: then it is called on any
    /// thread, that of the loop too, and has no thread. Default no.
    fn is_immediate(&self) -> bool {
        false
    }

    /// Returns how many sessions it has dropped for want of room. Default none.
    fn evicted(&self) -> u64 {
        0
    }
}

/// How a session is claimed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// Take it from the connection that holds it under this number: that had its time to let go. A
    /// claim that comes late takes it from no other one.
    pub force: Option<u64>,
    /// How long the session lasts if it is not saved: `sessions.ttl`.
    pub ttl: Duration,
    /// How long the claim holds if it is not renewed: three times `sessions.save`.
    pub lease: Duration,
}

impl Claim {
    /// Makes a claim that takes the session from nobody.
    pub fn new(ttl: Duration, lease: Duration) -> Claim {
        Claim { force: None, ttl, lease }
    }

    /// Has it take the session from the connection that holds it under this number.
    pub fn forced(self, number: u64) -> Claim {
        Claim { force: Some(number), ..self }
    }
}

/// What has come of a claim.
#[derive(Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The session is claimed.
    Taken {
        /// The number of the claim.
        number: u64,
        /// What was saved last; `None` if there was no session.
        frozen: Option<Vec<u8>>,
    },
    /// Another connection holds it.
    Held {
        /// The number of its claim.
        number: u64,
    },
}

/// A session is not shown: it is the application's.
impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claimed::Held { number } => write!(f, "Held {{ number: {number} }}"),
            Claimed::Taken { number, frozen } => {
                let bytes = frozen.as_ref().map(Vec::len);
                write!(f, "Taken {{ number: {number}, bytes: {bytes:?} }}")
            }
        }
    }
}

/// What is saved.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Save<'a> {
    /// The number of the claim.
    pub number: u64,
    /// Which save of the claim it is, from 1 on; 0 is none of a row.
    pub turn: u64,
    /// The session; `None` leaves it as it is.
    pub frozen: Option<&'a [u8]>,
    /// The connection has ended: the next claim need not wait.
    pub end: bool,
    /// How long the session lasts: `sessions.ttl`.
    pub ttl: Duration,
    /// How long the claim holds: three times `sessions.save`.
    pub lease: Duration,
}

impl<'a> Save<'a> {
    /// Makes a save under the number of a claim, which leaves the session as it is.
    pub fn new(number: u64, ttl: Duration, lease: Duration) -> Save<'a> {
        Save { number, turn: 0, frozen: None, end: false, ttl, lease }
    }

    /// Has it be this one of the saves of its claim.
    pub fn in_turn(self, turn: u64) -> Save<'a> {
        Save { turn, ..self }
    }

    /// Has it save this.
    pub fn with(self, frozen: &'a [u8]) -> Save<'a> {
        Save { frozen: Some(frozen), ..self }
    }

    /// Has it end the claim.
    pub fn ending(self) -> Save<'a> {
        Save { end: true, ..self }
    }
}

/// What has come of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The store has it.
    Taken,
    /// The session has another number, or is gone: nothing was changed.
    Fenced,
}

/// Why a store has failed. The log shows the text: it must bear no key and nothing of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(String);

impl StoreError {
    /// Makes it of a sentence.
    pub fn new(text: impl Into<String>) -> StoreError {
        StoreError(text.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError(error.to_string())
    }
}
