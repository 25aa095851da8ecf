//! A compressed message that comes.
//!
//! Until a few kilobytes of it have come they are kept as they are, because an inflater is larger.
//! Then, or when its last byte is here, it is inflated piece by piece, into the message of which it
//! is the compressed form. So what is held grows with what has come, and with what has come out of
//! it, and never beyond the limit of a message and an inflater.

use super::Violation;
use super::assembly::{Assembly, Coming};
use super::decoder::Limits;
use super::header::Header;
use super::partial::Span;
use crate::core::wire::deflate::{Coders, Corrupt, History, Inflater};
use crate::core::wire::spare_memory::SpareMemory;

/// How a message is inflated.
#[derive(Debug, Default)]
pub(super) struct Inflating {
    /// What has come and is not inflated.
    kept: Vec<u8>,
    /// Works on this message, once there is enough of it.
    inflater: Option<Box<Inflater>>,
    /// The compressed bytes that have come.
    came: u64,
}

/// What inflates.
pub(super) struct Means<'a> {
    pub coders: &'a mut Coders,
    /// What a message may refer to, if the peer keeps that.
    pub history: Option<&'a mut History>,
}

/// Where a message goes that is inflated.
pub(super) struct Output<'a> {
    pub message: &'a mut Assembly,
    /// The most bytes that the message may have.
    pub limit: u64,
    pub memory: &'a mut SpareMemory,
}

impl Inflating {
    /// Takes the next piece of a payload, or less if much comes out of that. Returns whether the
    /// message is complete.
    pub fn take(
        &mut self,
        span: &mut Span,
        input: &mut &mut [u8],
        out: &mut Output<'_>,
        means: &mut Means<'_>,
    ) -> Result<bool, Violation> {
        let Means { coders, history } = means;
        let ends = span.is_final && span.outstanding <= input.len() as u64;
        let room = KEPT_BYTES_MAX - self.kept.len();
        if !ends && self.inflater.is_none() && input.len() <= room {
            let piece = span.take(input);
            self.came += piece.len() as u64;
            self.kept.reserve_exact(piece.len());
            self.kept.extend_from_slice(piece);
            return Ok(false);
        }
        let before = history.as_deref().map_or(&[][..], History::as_bytes);
        let inflater = self.inflater.get_or_insert_with(|| coders.take_inflater(before));
        inflate(inflater, &std::mem::take(&mut self.kept), out, coders)?;
        while span.outstanding > 0 && !input.is_empty() && !coders.has_inflated_much() {
            let piece = span.take_some(PIECE_BYTES, input);
            self.came += piece.len() as u64;
            inflate(inflater, piece, out, coders)?;
        }
        if span.outstanding > 0 || !span.is_final {
            return Ok(false);
        }
        // Some clients compress an empty message to nothing.
        if self.came > 0 {
            inflater.finish().map_err(|Corrupt| Violation::Deflate)?;
        }
        self.inflater.take().into_iter().for_each(|inflater| coders.keep_inflater(inflater));
        if let Some(history) = history {
            history.push(out.message.as_bytes());
        }
        Ok(true)
    }

    /// Returns how many bytes of memory are held.
    pub fn held_bytes(&self) -> usize {
        let inflater = self.inflater.as_ref().map_or(0, |_| Inflater::BYTES);
        size_of::<Inflating>() + self.kept.capacity() + inflater
    }
}

/// Checks the header of a frame of a compressed message. What comes out is bounded by the limit of
/// a message; what goes in, because data need not make anything, by a little more than that.
pub(super) fn check_compressed(
    header: &Header,
    inflating: Option<&Inflating>,
    limits: &Limits,
) -> Result<u64, Violation> {
    let most = limits.message_bytes.saturating_add(limits.message_bytes / 8 + PIECE_BYTES as u64);
    let came = inflating.map_or(0, |inflating| inflating.came);
    match came.saturating_add(header.length) <= most {
        true => Ok(0),
        false => Err(Violation::TooBig),
    }
}

/// Inflates a piece of a message.
fn inflate(
    inflater: &mut Inflater,
    mut piece: &[u8],
    out: &mut Output<'_>,
    coders: &mut Coders,
) -> Result<(), Violation> {
    let mut room = [0; STEP_BYTES];
    let mut may_have_more = !piece.is_empty();
    while may_have_more {
        let step = inflater.step(piece, &mut room).map_err(|Corrupt| Violation::Deflate)?;
        piece = &piece[step.used..];
        // What follows the end of the data is left to the next step, which judges that.
        may_have_more = step.made == room.len() || !piece.is_empty();
        debug_assert!(!may_have_more || step.used + step.made > 0, "each step goes on");
        coders.note_inflated(step.used, step.made);
        out.push(&room[..step.made])?;
    }
    Ok(())
}

impl Output<'_> {
    fn push(&mut self, made: &[u8]) -> Result<(), Violation> {
        let most = self.limit.min(isize::MAX as u64);
        let left = most.saturating_sub(self.message.len() as u64);
        if made.len() as u64 > left {
            return Err(Violation::TooBig);
        }
        let coming = Coming { frame: made.len(), message: left as usize };
        self.message.push(made, coming, self.memory)
    }
}

/// So many compressed bytes are kept before an inflater is taken for a message that is not here as
/// a whole.
const KEPT_BYTES_MAX: usize = 4096;

/// How many compressed bytes are inflated before it is asked how much has come out: at most about a
/// thousand times as many.
const PIECE_BYTES: usize = 256;

/// How much comes out before the limit is looked at.
const STEP_BYTES: usize = 4096;
