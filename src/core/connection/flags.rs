//! What is known of a connection beside its phase, in as few bytes as it takes.

use crate::core::ground::cohort::Cohort;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::observe::stats::Transport;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    pub reading: Reading,
    pub writing: Writing,
    pub told: Told,
    pub leaving: Leaving,
    pub asking: Asking,
    pub feed: Feed,
    /// What the connection has become.
    pub carrier: Carrier,
    /// The wheel entry must be set anew even if the next deadline is later.
    pub relink: bool,
    /// Equal to the schedule's mark if the connection has followed the change of the round.
    pub round_parity: bool,
    /// The cohort of the client that asked last.
    pub cohort: Option<Cohort>,
    /// What TLS has agreed on, if the connection came over TLS.
    #[cfg(feature = "tls")]
    pub sealed: Option<crate::core::wire::tls::Sealed>,
}

impl Flags {
    /// Returns what the connection has become.
    #[inline]
    pub fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Http => Transport::Http,
            Carrier::EventStream => Transport::EventStream,
            Carrier::WebSocket(_) => Transport::WebSocket,
        }
    }

    /// Returns what the connection speaks, if it is a WebSocket.
    #[inline]
    pub fn subprotocol(&self) -> Subprotocol {
        match self.carrier {
            Carrier::WebSocket(subprotocol) => subprotocol,
            Carrier::Http | Carrier::EventStream => Subprotocol::None,
        }
    }
}

/// What carries the messages of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Carrier {
    /// Plain requests.
    #[default]
    Http,
    /// An event stream.
    EventStream,
    /// A WebSocket, which speaks this.
    WebSocket(Subprotocol),
}

/// What the socket may have for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    is_ready: bool,
    peer: PeerSide,
}

/// Whether the peer may still send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PeerSide {
    #[default]
    Open,
    /// Its end, or a failure of the socket, was announced: the socket is read on even after a short
    /// read, since the end raises no edge of its own.
    Ending,
    /// The read that returns nothing was made.
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

    /// Has the socket be read at the next chance, whatever is known of it.
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

    /// Returns whether the socket must be read until a read returns nothing.
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
pub(crate) struct Writing(u8);

impl Writing {
    const HAS_ROOM: u8 = 1;
    const IS_WANTED: u8 = 2;
    const IS_WIDE: u8 = 4;
    const IS_NARROWING: u8 = 8;
    #[cfg(feature = "deflate")]
    const IS_COMPRESSED: u8 = 16;

    /// Takes note of what the poller says. It is a hint.
    #[inline]
    pub fn note(&mut self, writable: bool) {
        self.set(Writing::HAS_ROOM, self.has_room() || writable);
    }

    /// Takes note that the socket takes no more for now.
    pub fn block(&mut self) {
        self.set(Writing::HAS_ROOM, false);
    }

    /// Takes note that the transport has something of its own to write.
    pub fn want(&mut self) {
        self.set(Writing::HAS_ROOM | Writing::IS_WANTED, true);
    }

    /// Notes whether the transport still has bytes of its own to write after an attempt.
    #[inline]
    pub fn set_wanted(&mut self, is_wanted: bool) {
        self.set(Writing::IS_WANTED, is_wanted);
    }

    /// Notes whether the kernel's send buffer is the wide one.
    pub fn set_wide(&mut self, is_wide: bool) {
        self.set(Writing::IS_WIDE, is_wide);
        self.set(Writing::IS_NARROWING, false);
    }

    /// Has a wide send buffer be narrow again, as soon as nothing waits.
    #[inline]
    pub fn narrow(&mut self) {
        self.set(Writing::IS_NARROWING, self.is_wide());
    }

    /// Returns whether the send buffer is to be narrow again, as soon as nothing waits.
    #[inline]
    pub fn is_narrowing(self) -> bool {
        self.0 & Writing::IS_NARROWING != 0
    }

    /// Takes note that compressed messages were agreed on, in both directions.
    #[cfg(feature = "deflate")]
    pub fn agree_on_compression(&mut self) {
        self.set(Writing::IS_COMPRESSED, true);
    }

    /// Returns whether compressed messages were agreed on.
    #[cfg(feature = "deflate")]
    #[inline]
    pub fn is_compressed(self) -> bool {
        self.0 & Writing::IS_COMPRESSED != 0
    }

    /// Returns whether the socket may take bytes.
    #[inline]
    pub fn has_room(self) -> bool {
        self.0 & Writing::HAS_ROOM != 0
    }

    /// Returns whether the transport has something of its own to write.
    #[inline]
    pub fn is_wanted(self) -> bool {
        self.0 & Writing::IS_WANTED != 0
    }

    /// Returns whether the kernel's send buffer is the wide one.
    #[inline]
    pub fn is_wide(self) -> bool {
        self.0 & Writing::IS_WIDE != 0
    }

    #[inline]
    fn set(&mut self, bits: u8, is_set: bool) {
        self.0 = if is_set { self.0 | bits } else { self.0 & !bits };
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
    /// The handler was told, and its session is here.
    Yes,
}

/// How the connection is to end, apart from what its phase says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leaving {
    #[default]
    No,
    /// The connection was chosen to be shed: its turn comes, or has come.
    Shed,
    /// The drain has come to the connection.
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

/// What is known of the events that the connection is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Feed {
    /// The outbox was not empty when last looked at: `Drained` is due when it is empty.
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

/// The lists in which a connection waits, at most once in each.
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
