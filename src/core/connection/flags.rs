//! What is known of a connection beside its phase, in as few bytes as it takes.

use crate::core::observe::stats::Transport;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    pub reading: Reading,
    pub writing: Writing,
    pub told: Told,
    pub leaving: Leaving,
    pub asking: Asking,
    pub feed: Feed,
    /// What it has become.
    pub transport: Transport,
    /// The wheel entry must be set anew even if the next deadline is later.
    pub relink: bool,
    /// As the schedule's, if it has followed the change that all connections follow.
    pub round_parity: bool,
    /// What TLS has agreed on, over which it came.
    #[cfg(feature = "tls")]
    pub sealed: Option<crate::core::wire::tls::Sealed>,
}

/// What the socket may have for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    is_ready: bool,
    peer: PeerSide,
}

/// How far the peer has come with what it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PeerSide {
    #[default]
    Open,
    /// Its end, or a failure of the socket, was announced: the socket is read on even after a short
    /// read, for that raises no edge of its own.
    Ending,
    /// The read that gives nothing was made.
    Ended,
}

impl Reading {
    /// Takes note of what the poller says. It is a hint.
    #[inline]
    pub fn note(&mut self, readable: bool, closed: bool) {
        self.is_ready |= readable || closed;
        if closed && self.peer == PeerSide::Open {
            self.peer = PeerSide::Ending;
        }
        debug_assert!(self.is_ready || self.peer != PeerSide::Ending, "an end is read up to");
    }

    /// Has the socket be read, whatever is known of it.
    #[inline]
    pub fn attempt(&mut self) {
        self.is_ready = true;
    }

    /// Takes note that the last read gave all that there was.
    #[inline]
    pub fn drain(&mut self) {
        self.is_ready = self.peer == PeerSide::Ending;
    }

    /// Takes note that the peer has ended its side.
    pub fn end(&mut self) {
        *self = Reading { is_ready: false, peer: PeerSide::Ended };
    }

    /// Returns whether the socket may have bytes, or the end.
    #[inline]
    pub fn is_ready(self) -> bool {
        self.is_ready
    }

    /// Returns whether the socket must be read until it gives nothing.
    #[inline]
    pub fn is_ending(self) -> bool {
        self.peer != PeerSide::Open
    }

    /// Returns whether the peer has ended its side.
    pub fn has_ended(self) -> bool {
        self.peer == PeerSide::Ended
    }
}

/// What the socket may take of us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writing {
    has_room: bool,
    is_wanted: bool,
}

impl Writing {
    /// Takes note of what the poller says. It is a hint.
    #[inline]
    pub fn note(&mut self, writable: bool) {
        self.has_room |= writable;
    }

    /// Takes note that the socket takes no more for now.
    pub fn block(&mut self) {
        self.has_room = false;
    }

    /// Takes note that the transport has something of its own to write.
    pub fn want(&mut self) {
        *self = Writing { has_room: true, is_wanted: true };
    }

    /// Takes note of what the transport still has to write of its own, after all was tried.
    #[inline]
    pub fn set_wanted(&mut self, is_wanted: bool) {
        self.is_wanted = is_wanted;
    }

    /// Returns whether the socket may take bytes.
    #[inline]
    pub fn has_room(self) -> bool {
        self.has_room
    }

    /// Returns whether the transport has something of its own to write.
    #[inline]
    pub fn is_wanted(self) -> bool {
        self.is_wanted
    }
}

/// What the handler knows of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: `Opened` was not given to it, or it panicked over that.
    #[default]
    Not,
    /// A job is out, with the session.
    Out,
    /// It was told, and its session is here.
    Yes,
}

/// How the connection is to go, apart from what its phase says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leaving {
    #[default]
    No,
    /// It was chosen to be shed: its turn comes, or has come.
    Shed,
    /// The drain has come to it.
    Draining,
}

/// Whether a log that answers later has publications of the connection to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asking {
    #[default]
    No,
    /// Some: what waits for the peer to be answered includes them.
    Some,
    /// As many as may wait: nothing is read until the peer has been told an answer.
    Enough,
}

/// What is known of what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Feed {
    /// The outbox was not empty when last looked at: `Drained` is due when it is.
    pub filled: bool,
    /// A subscription may still replay.
    pub replays: bool,
    /// A subscription may have lost events, and its client has not been told.
    pub has_lost: bool,
    /// The pressure that the client was last told of, 0 to 3.
    pub pressure: u8,
}

/// A list of connections that wait for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// With events for a job.
    Runnable = 1,
    /// To be read from.
    Ready = 2,
    /// To be written to.
    Dirty = 4,
    /// Whose wheel entry is looked at when the turn ends.
    Touched = 8,
    /// Whose replay, or long answer, goes on.
    Hungry = 16,
}

/// The lists in which a connection waits: in each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// Sets a mark. Returns whether it was not set before.
    #[inline]
    pub fn set(&mut self, mark: Mark) -> bool {
        let before = self.0;
        self.0 |= mark as u8;
        self.0 != before
    }

    /// Clears a mark. Returns whether it was set.
    #[inline]
    pub fn clear(&mut self, mark: Mark) -> bool {
        let before = self.0;
        self.0 &= !(mark as u8);
        self.0 != before
    }

    /// Returns whether a mark is set.
    #[inline]
    pub fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }
}

const _: () = assert!(size_of::<Flags>() <= 16, "each connection has them");
