//! What a request bears of its session.

use std::any::Any;
use std::fmt;
use std::mem;

/// What a request bears of its session on the way to the handler of its route.
#[derive(Default)]
pub enum Borne {
    /// The session was not asked for.
    #[default]
    Unasked,
    /// The request has no session.
    Nothing,
    /// What the connection is opened with.
    Session(Box<dyn Any + Send>),
}

impl Borne {
    /// Returns whether the session was asked for.
    pub fn is_asked(&self) -> bool {
        !matches!(self, Borne::Unasked)
    }

    /// Takes the session, if there is one.
    pub fn take(&mut self) -> Option<Box<dyn Any + Send>> {
        match mem::replace(self, Borne::Nothing) {
            Borne::Session(session) => Some(session),
            Borne::Nothing | Borne::Unasked => None,
        }
    }
}

/// A session is borne once: a copy of its request has none.
impl Clone for Borne {
    fn clone(&self) -> Borne {
        match self {
            Borne::Unasked => Borne::Unasked,
            Borne::Nothing | Borne::Session(_) => Borne::Nothing,
        }
    }
}

impl fmt::Debug for Borne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Borne")
    }
}
