//! An answer whose body comes from a source: one piece at a time, when the one before is with the
//! kernel. So a slow reader holds one piece, however long the body is.

use crate::core::connection::Connection;
use crate::core::ground::time::Instant;
use crate::core::wire::http::AnySource;

/// The body of the answer that is under way.
#[derive(Debug)]
pub(crate) struct Sourced {
    /// `None` while a job has it.
    pub source: Option<AnySource>,
    pub turn: Turn,
    /// How many bytes the source still owes, if their number was promised.
    pub left: Option<u64>,
}

impl Sourced {
    /// Counts the bytes of a piece. Returns whether none are owed any more; `None` if more came
    /// than were promised, or none, which would be the end of a body in chunks.
    pub fn count(&mut self, len: usize) -> Option<bool> {
        debug_assert!(len > 0, "an empty chunk would be the end");
        let left = match self.left {
            Some(left) => Some(left.checked_sub(len as u64)?),
            None => None,
        };
        self.left = left;
        (len > 0).then_some(left == Some(0))
    }
}

/// Who is to do something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The engine asks when the last piece has left.
    Engine,
    /// The source says when it has more.
    Source,
    /// A job waits to be handed out.
    Queued,
    /// A job is out.
    Out,
}

impl Connection {
    /// Has the body of the answer that has been begun come from a source.
    pub fn begin_pulling(&mut self, source: AnySource, left: Option<u64>) {
        debug_assert!(self.takes_pieces(), "the answer was begun for it");
        let sourced = Sourced { source: Some(source), turn: Turn::Engine, left };
        self.extra.get_or_insert_default().source = Some(sourced);
    }

    /// Lends the body of the answer under way, if it comes from a source.
    pub fn sourced(&self) -> Option<&Sourced> {
        let extra = self.extra.as_ref().filter(|_| cfg!(feature = "streams"))?;
        extra.source.as_ref().filter(|_| self.takes_pieces())
    }

    /// As [`Connection::sourced`].
    pub fn sourced_mut(&mut self) -> Option<&mut Sourced> {
        let takes_pieces = self.takes_pieces();
        let extra = self.extra.as_mut().filter(|_| cfg!(feature = "streams"))?;
        extra.source.as_mut().filter(|_| takes_pieces)
    }

    /// Returns whether the source is to be asked for the next piece.
    pub fn wants_piece(&self) -> bool {
        self.sourced().is_some_and(|sourced| sourced.turn == Turn::Engine)
    }

    /// Takes note that the source is asked: from now on it is waited for.
    pub fn note_pull(&mut self, now: Instant) {
        if !self.is_stream() {
            self.phase_at = now.into();
        }
    }

    /// Has the source be asked again, because it has more. Returns whether it was waited for.
    pub fn wake_source(&mut self) -> bool {
        let sourced = self.sourced_mut().filter(|sourced| sourced.turn == Turn::Source);
        sourced.map(|sourced| sourced.turn = Turn::Engine).is_some()
    }

    /// Gives up the source, from which nothing more comes.
    pub fn drop_source(&mut self) {
        if cfg!(feature = "streams")
            && let Some(extra) = &mut self.extra
        {
            extra.source = None;
        }
    }

    /// Returns the bytes that wait in the source.
    pub fn source_bytes(&self) -> usize {
        let extra = self.extra.as_ref().filter(|_| cfg!(feature = "streams"));
        let source = extra.and_then(|extra| extra.source.as_ref()?.source.as_ref());
        source.map_or(0, |source| source.held_bytes())
    }
}
