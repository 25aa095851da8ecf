//! The inside of an outbox: frames in the order in which they leave, shared or packed together.

use std::collections::VecDeque;

use super::{Kind, Outbox};
use crate::core::ground::time::{Instant, Moment};
use crate::core::wire::encoded::{Cursor, Encoded};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::Pipe;
use crate::core::wire::spare_memory::SpareMemory;

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub entries: VecDeque<QueueEntry>,
    /// Bytes of the first entry that are written already.
    pub begun: usize,
    /// The same place in the payload of a text that is encoded while it is written.
    pub cursor: Cursor,
    /// Bytes of all entries that are not written.
    pub bytes: usize,
    /// Pings and pongs that must go ahead, oldest first.
    pub ahead: Vec<QueueEntry>,
    /// The memory of a packed entry that was written, for the next.
    pub spare: Vec<u8>,
    /// When the kernel last took a byte, the queue stopped being empty, or messages were released.
    pub progress_at: Moment,
    /// How many of the bytes may leave, all frames whole; `None` if messages wait for no release.
    pub released: Option<usize>,
    /// When these bytes were released.
    pub released_at: Moment,
    /// All released bytes gave way to newer events, and the peer has taken nothing since.
    pub gave_way: bool,
}

#[derive(Debug)]
pub(super) struct QueueEntry {
    pub body: Body,
    pub kind: Kind,
    /// When its oldest byte was queued; once a part of it is written, when its newest was.
    pub queued_at: Moment,
    /// It leaves as it is, before all that is made ready later: the peer's inflater goes by that.
    #[cfg(feature = "deflate")]
    pub is_ready: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Shared(Frame),
    Packed(Vec<u8>),
    Piped(Pipe),
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.ahead.is_empty()
    }

    /// Returns the bytes that are not written, and the overhead of each entry.
    pub fn held_bytes(&self) -> usize {
        self.bytes + self.entries.len() * Outbox::ENTRY_BYTES
    }

    /// Returns whether a message waits to be released and nothing before it waits for the peer.
    pub fn is_held(&self) -> bool {
        self.released == Some(0) && self.ahead.is_empty() && !self.entries.is_empty()
    }

    /// A ping or pong ends a wait in which nothing waited for the peer.
    pub fn note_control(&mut self, now: Instant, kind: Kind) {
        if matches!(kind, Kind::Ping | Kind::Pong) && self.is_held() {
            self.progress_at = now.into();
        }
    }

    /// Returns how many of the first messages there are, at most `most`, and the bytes up to the
    /// end of the last and of the other frames behind it.
    pub fn prefix(&self, most: u64) -> (u64, usize) {
        let (mut messages, mut bytes) = (0, 0);
        let mut begun = self.begun;
        for entry in &self.entries {
            let left = usize::try_from(most - messages).unwrap_or(usize::MAX);
            let (count, len) = match (&entry.body, entry.kind) {
                (Body::Packed(packed), _) => {
                    // A frame in progress was released before the counting.
                    let is_whole = begun == 0 || frame_ends(packed).any(|end| end == begun);
                    let most = left.saturating_add(usize::from(!is_whole));
                    let ends = frame_ends(packed).filter(|end| *end > begun).take(most);
                    let (count, end) = ends.fold((0u64, begun), |(count, _), end| (count + 1, end));
                    (count.saturating_sub(u64::from(!is_whole)), end)
                }
                (Body::Shared(_), Kind::Message | Kind::Event(..)) if begun == 0 && left == 0 => {
                    (0, 0)
                }
                (Body::Shared(_), Kind::Message | Kind::Event(..)) => {
                    (u64::from(begun == 0), entry.len())
                }
                (Body::Shared(_) | Body::Piped(_), _) => (0, entry.len()),
            };
            messages += count;
            bytes += len - begun;
            if len < entry.len() {
                break;
            }
            begun = 0;
        }
        (messages, bytes)
    }

    pub fn push(&mut self, now: Instant, frame: Frame, kind: Kind) {
        self.bytes += frame.len();
        let packs = kind == Kind::Message && frame.len() <= PACKED_FRAME_BYTES_MAX;
        if packs && self.pack(now, &frame) {
            return;
        }
        let body = match packs {
            true => {
                let mut packed = std::mem::take(&mut self.spare);
                packed.reserve(frame.len());
                packed.extend_from_slice(frame.head());
                packed.extend_from_slice(frame.payload());
                Body::Packed(packed)
            }
            false => Body::Shared(frame),
        };
        self.place(now, body, kind);
    }

    /// Places an entry behind all others.
    #[inline(always)]
    pub fn place(&mut self, now: Instant, body: Body, kind: Kind) {
        if self.entries.len() == self.entries.capacity() {
            // Thousands of peers may each wait for one event, or for thousands.
            self.entries.reserve_exact(1 + self.entries.len() / 4);
        }
        self.entries.push_back(QueueEntry::new(now, body, kind));
    }

    /// Moves the cursor to the end of what is written of the first entry.
    pub fn advance_cursor(&mut self) {
        let Some(Body::Shared(frame)) = self.entries.front().map(|entry| &entry.body) else {
            return;
        };
        if let Some(text) = frame.text() {
            let before = frame.head().len() + text.head().len();
            let coded = self.begun.saturating_sub(before).min(text.coded_len());
            text.advance(&mut self.cursor, coded);
        }
    }

    /// Removes the first entry, which is written.
    pub fn pop(&mut self, memory: &mut SpareMemory) {
        self.cursor = Cursor::default();
        let Some(entry) = self.entries.pop_front() else { return };
        match entry.body {
            Body::Packed(mut packed) if packed.capacity() <= SPARE_PACKED_BYTES_MAX => {
                packed.clear();
                self.spare = packed;
            }
            Body::Shared(frame) if entry.kind == Kind::Message => {
                memory.keep(frame.into_payload());
            }
            Body::Piped(pipe) => pipe.emptied(),
            _ => {}
        }
    }

    pub fn bytes_ahead(&self) -> usize {
        self.ahead.iter().map(QueueEntry::len).sum()
    }

    /// Copies a small frame behind others of its kind, if the last entry takes it: one of about the
    /// same tenth of a second. The entry is as young as its newest byte, so that no peer is judged
    /// too early.
    pub fn pack(&mut self, now: Instant, frame: &Frame) -> bool {
        match self.entries.back_mut() {
            #[cfg(feature = "deflate")]
            Some(QueueEntry { is_ready: true, .. }) => false,
            Some(QueueEntry { body: Body::Packed(packed), queued_at, .. })
                if window(*queued_at) == window(now.into())
                    && packed.len() + frame.len() <= PACKED_BYTES_MAX =>
            {
                packed.extend_from_slice(frame.head());
                packed.extend_from_slice(frame.payload());
                *queued_at = now.into();
                true
            }
            _ => false,
        }
    }

    /// Moves pings and pongs to the front, behind a frame in progress, as soon as those that were
    /// moved before have left.
    pub fn stage(&mut self) {
        let is_control = |entry: &QueueEntry| matches!(entry.kind, Kind::Ping | Kind::Pong);
        if self.ahead.is_empty() || self.entries.iter().take(2).any(is_control) {
            return;
        }
        let at = self.first_place();
        // They stand behind a begun frame, which was released.
        self.released = self.released.map(|released| released + self.bytes_ahead());
        self.place_ahead(at);
    }

    /// Moves pings and pongs to the index `at`.
    pub fn place_ahead(&mut self, at: usize) {
        self.bytes += self.bytes_ahead();
        for (offset, entry) in std::mem::take(&mut self.ahead).into_iter().enumerate() {
            self.entries.insert(at + offset, entry);
        }
    }

    /// Returns the first index where a frame may go: behind an HTTP response, after which the peer
    /// understands frames, and behind the frame in progress.
    pub fn first_place(&mut self) -> usize {
        let is_response = |entry: &&QueueEntry| entry.kind == Kind::Response;
        let responses = self.entries.iter().take_while(is_response).count();
        responses.max(self.place_behind_begun())
    }

    /// Returns the index behind the frame in progress, cutting a packed entry there.
    pub fn place_behind_begun(&mut self) -> usize {
        let Some(first) = self.entries.front_mut() else { return 0 };
        if self.begun == 0 {
            return 0;
        }
        let Body::Packed(packed) = &mut first.body else { return 1 };
        let end = frame_ends(packed).find(|end| *end >= self.begun).unwrap_or(packed.len());
        if end == self.begun {
            packed.drain(..end);
            self.begun = 0;
            return 0;
        }
        if end < packed.len() {
            let body = Body::Packed(packed.split_off(end));
            let entry = QueueEntry {
                body,
                kind: first.kind,
                queued_at: first.queued_at,
                #[cfg(feature = "deflate")]
                is_ready: first.is_ready,
            };
            self.entries.insert(1, entry);
        }
        1
    }

    /// Counts the messages that are not written whole.
    pub fn messages(&self) -> u64 {
        let mut begun = self.begun;
        let mut count = 0;
        for entry in self.entries.iter() {
            count += match (&entry.body, entry.kind) {
                (Body::Packed(packed), _) => frame_ends(packed).filter(|end| *end > begun).count(),
                (Body::Shared(_), Kind::Message | Kind::Event(..)) => 1,
                (Body::Shared(_) | Body::Piped(_), _) => 0,
            } as u64;
            begun = 0;
        }
        count
    }
}

impl QueueEntry {
    #[inline(always)]
    pub fn new(now: Instant, body: Body, kind: Kind) -> QueueEntry {
        QueueEntry {
            body,
            kind,
            queued_at: now.into(),
            #[cfg(feature = "deflate")]
            is_ready: false,
        }
    }

    /// Returns whether this entry, the one at `place`, goes out whatever happens: `begun` bytes of
    /// the first one are written, or this one has been made ready.
    pub fn has_begun(&self, place: usize, begun: usize) -> bool {
        #[cfg(feature = "deflate")]
        if self.is_ready {
            return true;
        }
        place == 0 && begun > 0
    }

    /// Returns the text that is encoded while it is written, if it is one.
    pub fn text(&self) -> Option<&Encoded> {
        match &self.body {
            Body::Shared(frame) => frame.text(),
            Body::Packed(_) | Body::Piped(_) => None,
        }
    }

    /// Returns what it adds to the limited bytes while nothing of it is written.
    pub fn held_bytes(&self) -> usize {
        self.len() + Outbox::ENTRY_BYTES
    }

    pub fn len(&self) -> usize {
        match &self.body {
            Body::Shared(frame) => frame.len(),
            Body::Packed(bytes) => bytes.len(),
            Body::Piped(pipe) => pipe.bytes(),
        }
    }
}

/// Returns the end of each frame in `packed`, which has whole frames of a server (RFC 6455, 5.2).
pub(super) fn frame_ends(packed: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let short = *packed.get(at + 1)?;
        at += match short {
            126 => 4 + usize::from(u16::from_be_bytes([packed[at + 2], packed[at + 3]])),
            short => 2 + usize::from(short),
        };
        Some(at)
    })
}

/// Frames up to this many bytes are copied together. A copy of a kilobyte costs less than an entry
/// and a slice of its own.
const PACKED_FRAME_BYTES_MAX: usize = 1024;

/// The length at which a packed entry is full and another begins, so that written bytes are freed
/// step by step.
const PACKED_BYTES_MAX: usize = 16 * 1024;

const SPARE_PACKED_BYTES_MAX: usize = 2048;

/// Returns which tenth of a second, about, a moment lies in: small frames that come slowly share an
/// entry too.
fn window(at: Moment) -> u32 {
    at.bits() >> 7
}

const _: () = assert!(size_of::<QueueEntry>() <= 80);
