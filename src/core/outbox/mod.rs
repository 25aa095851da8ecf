//! Frames that wait for one peer.
//!
//! A queue of frames, shared or packed: small frames for this peer alone are copied together, so
//! that a thousand tiny replies cost their bytes and not a thousand entries. Pings and pongs go
//! ahead of other frames but never inside one. Until they can, one ping and a few pongs wait apart,
//! where the newest replaces the last, so that a flood of pings grows nothing. An empty outbox owns
//! no memory: it leaves a little to the next one, among the [`Spares`].

mod queue;
#[cfg(feature = "deflate")]
mod ready;
mod room;

use std::collections::HashSet;
use std::io::IoSlice;
use std::time::Duration;

use crate::core::ground::time::{Instant, Moment};
use crate::core::topics::{EventId, SubscriptionKey};
use crate::core::wire::encoded::{Coding, Cursor, Encoded};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::Pipe;
use crate::core::wire::spare_memory::SpareMemory;

#[cfg(feature = "deflate")]
pub use ready::{COMPRESSED_BYTES_MAX, Verdict};
pub use room::{Loss, Plan, Wanted, Yielding};

use queue::{Body, Queue, QueueEntry};

/// The frames that wait for one peer. Empty, it is one null pointer.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queue>>);

/// Memory that empty outboxes have left for the next ones: a few, none of them large.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "boxed as an outbox holds it")]
pub struct Spares(Vec<Box<Queue>>);

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WebSocket message.
    Message,
    /// An event, by its subscription: a WebSocket message, or a piece of a stream.
    Event(SubscriptionKey, EventId),
    /// A gap, in the place of dropped events of this subscription.
    Gap(SubscriptionKey),
    /// Bytes that are no message: an HTTP response.
    Response,
    /// A ping: the wait for its pong begins when its last byte is with the kernel.
    Ping,
    /// A pong.
    Pong,
    /// A close frame: nothing follows it.
    Close,
}

/// The special frames that left with the bytes that the kernel took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// A ping left whole.
    pub ping: bool,
    /// The close frame left whole.
    pub close: bool,
}

/// What was discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Messages that had not been written whole.
    pub messages: u64,
    /// Bytes that had not been written.
    pub bytes: u64,
}

/// The memory that an outbox takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxMemory {
    /// Frames that no other outbox has.
    pub own: usize,
    /// Frames that other outboxes have too.
    pub shared: usize,
    /// The queue itself.
    pub room: usize,
}

impl Outbox {
    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.is_empty())
    }

    /// Returns the bytes that wait, without pings and pongs that must go ahead.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Returns what `limits.outbox_bytes` bounds: the bytes that wait, and the overhead of each
    /// entry. Zero exactly if no bytes wait.
    pub fn held_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.held_bytes())
    }

    /// Returns the memory in use. A frame in several outboxes counts only for the first of them;
    /// `seen` has the payloads counted before. A payload that is retained in its topic's log counts
    /// there as well: to exclude it would need a look at all logs.
    pub fn memory(&self, seen: &mut HashSet<*const u8>) -> OutboxMemory {
        let Some(queue) = &self.0 else { return OutboxMemory::default() };
        let entries = queue.entries.capacity() + queue.ahead.capacity();
        let room = size_of::<Queue>() + entries * size_of::<QueueEntry>() + queue.spare.capacity();
        let mut memory = OutboxMemory { room, ..OutboxMemory::default() };
        for entry in queue.entries.iter().chain(&queue.ahead) {
            match &entry.body {
                Body::Packed(bytes) => memory.own += bytes.capacity(),
                // The kernel has them.
                Body::Piped(_) => {}
                Body::Shared(frame) => {
                    let payload = frame.payload();
                    memory.own += frame.text().map_or(0, Encoded::own_bytes);
                    if payload.is_unique() {
                        memory.own += payload.len();
                    } else if seen.insert(payload.as_ptr()) {
                        memory.shared += payload.len();
                    }
                }
            }
        }
        memory
    }

    /// The bytes of an entry beside its frame, with the allocator's overhead for a small frame.
    pub const ENTRY_BYTES: usize = 128;

    /// Queues a frame: behind all others, but a ping or a pong ahead of them. Returns the bytes of
    /// the frame that it replaces: of pings only the newest waits, of pongs the newest few (RFC
    /// 6455, 5.5.3 allows answering only the newest ping).
    pub fn push(&mut self, now: Instant, frame: Frame, kind: Kind, spares: &mut Spares) -> usize {
        let queue = self.0.get_or_insert_with(|| spares.take(now));
        queue.note_control(now, kind);
        let most = match kind {
            Kind::Ping => 1,
            Kind::Pong => PONGS_MAX,
            Kind::Message | Kind::Event(..) | Kind::Gap(_) | Kind::Response => {
                queue.push(now, frame, kind);
                return 0;
            }
            Kind::Close => {
                // RFC 6455, 5.5.1: nothing follows it, so pings and pongs must go now.
                queue.stage();
                queue.place_ahead(queue.entries.len());
                queue.push(now, frame, kind);
                return 0;
            }
        };
        let entry = QueueEntry::new(now, Body::Shared(frame), kind);
        let same = queue.ahead.iter().filter(|other| other.kind == kind).count();
        let newest = queue.ahead.iter_mut().rfind(|other| other.kind == kind);
        match newest.filter(|_| same == most) {
            Some(newest) => std::mem::replace(newest, entry).len(),
            None => {
                queue.ahead.push(entry);
                0
            }
        }
    }

    /// Queues bytes in a pipe behind all others: a part of an answer.
    pub fn push_pipe(&mut self, now: Instant, pipe: Pipe, spares: &mut Spares) {
        let queue = self.0.get_or_insert_with(|| spares.take(now));
        queue.bytes += pipe.bytes();
        queue.place(now, Body::Piped(pipe), Kind::Response);
    }

    /// Lends the pipe whose bytes are to be written next, and their number; `None` if other bytes
    /// are.
    pub fn next_pipe(&self) -> Option<(&Pipe, usize)> {
        let queue = self.0.as_ref()?;
        match &queue.entries.front()?.body {
            Body::Piped(pipe) => Some((pipe, pipe.bytes() - queue.begun)),
            _ => None,
        }
    }

    /// Lends the bytes to write next, in order, as at most `slices.len()` slices. Returns how many
    /// were filled, and how many bytes were encoded.
    ///
    /// A text that is encoded while it is written comes last: about `room` bytes of it are encoded
    /// into `scratch`, none if there is no room. Bytes in a pipe are none of them. No more than
    /// `most` bytes are lent.
    pub fn gather<'a>(
        &'a mut self,
        most: usize,
        slices: &mut [IoSlice<'a>],
        scratch: &'a mut Vec<u8>,
        room: usize,
    ) -> (usize, usize) {
        let Some(queue) = self.0.as_mut() else { return (0, 0) };
        queue.stage();
        let mut encoded = 0;
        let left = queue.released.unwrap_or(usize::MAX).min(most);
        let mut gathered = Gathered { slices, count: 0, skip: queue.begun, left };
        for entry in &queue.entries {
            let has_more = match &entry.body {
                Body::Packed(bytes) => gathered.add(bytes),
                Body::Piped(_) => break,
                Body::Shared(frame) => match frame.text() {
                    None => gathered.add(frame.head()) && gathered.add(frame.payload()),
                    Some(text) if text.coding() == Coding::Plain => {
                        let parts = [frame.head(), text.head(), text.payload(), text.tail()];
                        parts.into_iter().all(|part| gathered.add(part))
                    }
                    Some(text) => {
                        let parts = [frame.head(), text.head()];
                        if parts.into_iter().all(|part| gathered.add(part)) {
                            encoded = gathered.add_text(text, queue.cursor, scratch, room);
                        }
                        break;
                    }
                },
            };
            if !has_more {
                break;
            }
        }
        (gathered.count, encoded)
    }

    /// Returns whether the next frame is encoded while it is written.
    pub fn is_encoding(&self) -> bool {
        let first = self.0.as_ref().and_then(|queue| queue.entries.front());
        first.and_then(QueueEntry::text).is_some()
    }

    /// Returns whether a frame is partly written, and its last bytes were taken within `span`.
    pub fn flows(&self, now: Instant, span: Duration) -> bool {
        let begun = self.0.as_ref().filter(|queue| queue.begun > 0);
        begun.is_some_and(|queue| now.since(queue.progress_at.near(now)) <= span)
    }

    /// Notes that the peer is not to blame for the wait until now.
    pub fn excuse(&mut self, now: Instant) {
        if let Some(queue) = &mut self.0 {
            queue.progress_at = now.into();
        }
    }

    /// Removes `len` bytes that the kernel took; 0 if it only took bytes that the transport still
    /// counts as its own. An outbox that is empty then gives its memory back, and the memory of
    /// large messages goes to `memory`.
    pub fn written(
        &mut self,
        now: Instant,
        len: usize,
        spares: &mut Spares,
        memory: &mut SpareMemory,
    ) -> Left {
        let mut left = Left::default();
        let Some(queue) = self.0.as_mut() else { return left };
        queue.progress_at = now.into();
        queue.gave_way = false;
        queue.bytes -= len;
        queue.begun += len;
        queue.released = queue.released.map(|released| released - len);
        while let Some(first) = queue.entries.front() {
            if queue.begun < first.len() {
                break;
            }
            queue.begun -= first.len();
            left.ping |= first.kind == Kind::Ping;
            left.close |= first.kind == Kind::Close;
            queue.pop(memory);
        }
        queue.advance_cursor();
        debug_assert!(!queue.entries.is_empty() || (queue.begun == 0 && queue.bytes == 0));
        if let Some(queue) = self.0.take_if(|queue| queue.is_empty()) {
            spares.keep(queue);
        }
        left
    }

    /// Discards everything but the frame in progress, which must be finished so that the peer can
    /// read on.
    pub fn discard_waiting(&mut self) -> Discarded {
        let Some(queue) = self.0.as_mut() else { return Discarded::default() };
        let messages_before = queue.messages();
        let bytes_before = queue.bytes + queue.bytes_ahead();
        queue.ahead.clear();
        let kept = queue.first_place();
        queue.entries.truncate(kept);
        queue.bytes = queue.entries.iter().map(QueueEntry::len).sum::<usize>() - queue.begun;
        queue.released = queue.released.map(|released| released.min(queue.bytes));
        let discarded = Discarded {
            messages: messages_before - queue.messages(),
            bytes: (bytes_before - queue.bytes) as u64,
        };
        if queue.is_empty() {
            self.0 = None;
        }
        discarded
    }

    /// Releases up to `most` messages, if all released before have left, and all other frames
    /// before the next message. From then on messages wait until they are released. Returns how
    /// many were released.
    pub fn release(&mut self, now: Instant, most: u64) -> u64 {
        let Some(queue) = self.0.as_mut() else { return 0 };
        if queue.released.is_some_and(|released| released > 0) {
            return 0;
        }
        let (messages, bytes) = queue.prefix(most);
        if bytes > 0 && !queue.gave_way {
            // Until now the server held them back, so the peer is not to blame.
            queue.progress_at = now.into();
        }
        queue.released = Some(bytes);
        queue.released_at = now.into();
        messages
    }

    /// Releases everything.
    pub fn release_all(&mut self, now: Instant) {
        if let Some(queue) = self.0.as_mut()
            && queue.released.take() == Some(0)
        {
            queue.progress_at = now.into();
        }
    }

    /// Returns whether the next message waits for release and nothing before it waits for the peer.
    pub fn is_held(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.is_held())
    }

    /// Discards everything: the connection is gone.
    pub fn discard(&mut self) -> Discarded {
        let discarded = self.waiting();
        self.0 = None;
        discarded
    }

    /// Returns all that waits: what an end would discard now. It looks at every frame.
    pub fn waiting(&self) -> Discarded {
        self.0.as_ref().map_or(Discarded::default(), |queue| Discarded {
            messages: queue.messages(),
            bytes: (queue.bytes + queue.bytes_ahead()) as u64,
        })
    }

    /// Returns the moments that judge a peer that does not read: when it last took a byte, and
    /// since when the oldest byte waits. `None` if nothing waits for the peer.
    ///
    /// While the peer's socket is blocked, unreleased messages count as waiting too: released ones
    /// gave way to newer events.
    pub fn waiting_since(&self, is_blocked: bool) -> Option<(Moment, Moment)> {
        let queue = self.0.as_ref().filter(|queue| !queue.is_empty())?;
        if queue.is_held() && !is_blocked {
            return None;
        }
        let oldest_at = match (queue.released, queue.entries.front()) {
            (Some(0), _) | (_, None) => queue.progress_at,
            (Some(_), _) => queue.released_at,
            (None, Some(entry)) => entry.queued_at,
        };
        Some((queue.progress_at, oldest_at))
    }
}

impl Spares {
    fn take(&mut self, now: Instant) -> Box<Queue> {
        let mut queue = self.0.pop().unwrap_or_default();
        queue.progress_at = now.into();
        queue.released = None;
        queue
    }

    fn keep(&mut self, queue: Box<Queue>) {
        if self.0.len() < SPARES_MAX && queue.entries.capacity() <= SPARE_ENTRIES_MAX {
            self.0.push(queue);
        }
    }
}

/// The bytes to write next, as far as there are slices for them.
struct Gathered<'s, 'a> {
    slices: &'s mut [IoSlice<'a>],
    count: usize,
    /// Bytes that are written already.
    skip: usize,
    /// Bytes that were released.
    left: usize,
}

impl<'a> Gathered<'_, 'a> {
    /// Adds a part. Returns whether there is room for another.
    fn add(&mut self, part: &'a [u8]) -> bool {
        let (gone, part) = part.split_at(self.skip.min(part.len()));
        self.skip -= gone.len();
        let part = &part[..part.len().min(self.left)];
        self.left -= part.len();
        if part.is_empty() {
            return true;
        }
        if let Some(slice) = self.slices.get_mut(self.count) {
            *slice = IoSlice::new(part);
            self.count += 1;
        }
        self.count < self.slices.len()
    }

    /// Adds a piece of an encoded payload, and the tail behind the payload at its end. Returns how
    /// many bytes were encoded.
    fn add_text(
        &mut self,
        text: &'a Encoded,
        cursor: Cursor,
        scratch: &'a mut Vec<u8>,
        room: usize,
    ) -> usize {
        let from = self.skip.min(text.coded_len());
        self.skip -= from;
        let room = room.min(PIECE_BYTES).min(self.left);
        let is_written = from == text.coded_len();
        if !is_written && room == 0 {
            return 0;
        }
        let piece = if is_written { &[] } else { text.piece(cursor, from, room, scratch) };
        if self.add(piece) && from + piece.len() == text.coded_len() {
            self.add(text.tail());
        }
        piece.len()
    }
}

/// The most bytes of a payload that are encoded for one write.
const PIECE_BYTES: usize = 64 * 1024;

/// The most pongs that wait apart until they can go ahead.
const PONGS_MAX: usize = 16;

/// How many outboxes' memory is kept: as many as are often in use in one turn.
const SPARES_MAX: usize = 64;
const SPARE_ENTRIES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::Bytes;

    fn frame(payload: &'static [u8]) -> Frame {
        Frame::new(&[0x82, payload.len() as u8], Bytes::from_static(payload))
    }

    fn wire(payload: &[u8]) -> Vec<u8> {
        [&[0x82, payload.len() as u8], payload].concat()
    }

    fn ping() -> Frame {
        Frame::new(&[0x89, 0], Bytes::new())
    }

    fn now() -> Instant {
        Instant::from_millis(5)
    }

    /// Writes `len` bytes, or all if fewer wait.
    fn write(outbox: &mut Outbox, len: usize) -> (Vec<u8>, Left) {
        let mut slices = [IoSlice::new(&[]); 64];
        let mut scratch = Vec::new();
        let (count, _) = outbox.gather(usize::MAX, &mut slices, &mut scratch, usize::MAX);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(len);
        let left = match bytes.len() {
            0 => Left::default(),
            len => outbox.written(now(), len, &mut Spares::default(), &mut SpareMemory::none()),
        };
        (bytes, left)
    }

    #[test]
    fn frames_leave_in_order_however_the_writes_are_cut() {
        let long: &'static [u8] = Box::leak(vec![7; 3000].into_boxed_slice());
        for step in 1..40 {
            let mut outbox = Outbox::default();
            outbox.push(now(), frame(b"one"), Kind::Message, &mut Spares::default());
            outbox.push(now(), frame(b""), Kind::Message, &mut Spares::default());
            outbox.push(now(), Frame::raw(long), Kind::Response, &mut Spares::default());
            outbox.push(now(), frame(b"two"), Kind::Message, &mut Spares::default());
            let expected = [wire(b"one"), wire(b""), long.to_vec(), wire(b"two")].concat();
            assert_eq!(outbox.bytes(), expected.len());
            let mut got = Vec::new();
            while !outbox.is_empty() {
                got.extend(write(&mut outbox, step).0);
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_ping_goes_ahead_but_never_inside_a_frame() {
        for begun in 0..=wire(b"first").len() {
            let mut outbox = Outbox::default();
            outbox.push(now(), frame(b"first"), Kind::Message, &mut Spares::default());
            outbox.push(now(), frame(b"second"), Kind::Message, &mut Spares::default());
            let (mut got, _) = write(&mut outbox, begun);
            outbox.push(now(), ping(), Kind::Ping, &mut Spares::default());
            let (rest, left) = write(&mut outbox, usize::MAX);
            got.extend(rest);
            let expected = match begun {
                0 => [vec![0x89, 0], wire(b"first"), wire(b"second")],
                _ => [wire(b"first"), vec![0x89, 0], wire(b"second")],
            };
            assert_eq!(got, expected.concat(), "after {begun} bytes");
            assert!(left.ping && outbox.is_empty());
        }
    }

    #[test]
    fn a_flood_of_pongs_keeps_a_few_in_order_and_the_newest() {
        let mut outbox = Outbox::default();
        outbox.push(now(), frame(b"blocked"), Kind::Message, &mut Spares::default());
        for number in 0..100 {
            let pong = Frame::new(&[0x8a, 1], Bytes::copy_from_slice(&[number]));
            let replaced = outbox.push(now(), pong, Kind::Pong, &mut Spares::default());
            assert_eq!(replaced, if usize::from(number) < PONGS_MAX { 0 } else { 3 });
        }
        let (bytes, _) = write(&mut outbox, usize::MAX);
        let pongs: Vec<u8> = bytes.chunks(3).take(PONGS_MAX).map(|pong| pong[2]).collect();
        let expected: Vec<u8> = (0..PONGS_MAX as u8 - 1).chain([99]).collect();
        assert_eq!(pongs, expected);
        assert!(bytes.ends_with(&wire(b"blocked")));
    }

    #[test]
    fn discarding_finishes_the_frame_in_progress() {
        for begun in 0..=wire(b"first").len() {
            let mut outbox = Outbox::default();
            outbox.push(now(), frame(b"first"), Kind::Message, &mut Spares::default());
            outbox.push(now(), frame(b"second"), Kind::Message, &mut Spares::default());
            let total = outbox.bytes();
            let (mut got, _) = write(&mut outbox, begun);
            let discarded = outbox.discard_waiting();
            let waiting = outbox.bytes();
            got.extend(write(&mut outbox, usize::MAX).0);
            let finished = begun > 0;
            assert_eq!(got, if finished { wire(b"first") } else { vec![] }, "after {begun} bytes");
            assert_eq!(discarded.messages, if finished { 1 } else { 2 });
            assert_eq!(discarded.bytes as usize, total - begun - waiting);
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn the_close_frame_is_told_when_it_has_left() {
        let mut outbox = Outbox::default();
        outbox.push(now(), frame(b"data"), Kind::Message, &mut Spares::default());
        outbox.push(
            now(),
            Frame::new(&[0x88, 0], Bytes::new()),
            Kind::Close,
            &mut Spares::default(),
        );
        assert!(!write(&mut outbox, 7).1.close);
        assert!(write(&mut outbox, 1).1.close);
    }

    #[test]
    fn no_byte_is_older_than_it_is() {
        let mut outbox = Outbox::default();
        let at = Instant::from_millis;
        for ms in [1000, 1100, 1101] {
            outbox.push(at(ms), frame(b"x"), Kind::Message, &mut Spares::default());
        }
        let oldest_at =
            |outbox: &Outbox| outbox.waiting_since(false).map(|(_, oldest_at)| oldest_at);
        assert_eq!(oldest_at(&outbox), Some(at(1000).into()));
        // The other two share an entry: it is as young as the younger.
        outbox.written(at(2000), 3, &mut Spares::default(), &mut SpareMemory::none());
        assert_eq!(oldest_at(&outbox), Some(at(1101).into()));
        outbox.written(at(2000), 3, &mut Spares::default(), &mut SpareMemory::none());
        outbox.push(at(2000), frame(b"y"), Kind::Message, &mut Spares::default());
        outbox.written(at(2000), 3, &mut Spares::default(), &mut SpareMemory::none());
        assert_eq!(oldest_at(&outbox), Some(at(2000).into()));
    }

    fn subscriptions() -> [SubscriptionKey; 2] {
        let mut topics = crate::core::topics::Topics::new(Default::default(), 7, 1);
        let mut list = crate::core::topics::FirstSubscription::default();
        let connection = crate::core::ground::id::ConnectionId::new(
            0,
            crate::core::ground::id::Generation::FIRST,
        );
        ["a", "b"].map(|topic| {
            let after = crate::core::topics::After::Now;
            topics.subscribe(now(), connection, &mut list, topic, after).unwrap()
        })
    }

    /// Makes events give way to one of this subscription, with this id, until only so many entries
    /// and bytes wait, and puts this text in the place of each loss.
    fn drop_for(
        outbox: &mut Outbox,
        yielding: Yielding,
        (subscription, ms): (SubscriptionKey, u64),
        (entries, bytes): (usize, usize),
        word: Option<Frame>,
    ) -> Plan {
        let id = EventId::new(ms, 0);
        let limit = 100 + entries * Outbox::ENTRY_BYTES + bytes;
        let wanted = Wanted { subscription, id, len: 100, limit, yielding };
        let word_held = word.as_ref().map_or(0, |_| Outbox::ENTRY_BYTES);
        let plan = outbox.plan_room(&wanted, |_| word_held);
        outbox.drop_planned(now(), &plan, vec![word; plan.losses.len()]);
        plan
    }

    #[test]
    fn events_are_dropped_from_the_middle_and_a_gap_stands_in_their_place() {
        let [a, b] = subscriptions();
        let mut spares = Spares::default();
        let mut outbox = Outbox::default();
        for (key, ms, payload) in [(a, 1, &b"a1"[..]), (b, 2, b"b2"), (a, 3, b"a3"), (a, 4, b"a4")]
        {
            let kind = Kind::Event(key, EventId::new(ms, 0));
            outbox.push(now(), Frame::raw(payload), kind, &mut spares);
        }
        write(&mut outbox, 1);
        // The first one is begun.
        let word = |text: &'static [u8]| Some(Frame::raw(text));
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 5), (4, 5), word(b"(4)"));
        assert_eq!((plan.events, plan.bytes), (1, 2));
        assert_eq!(plan.losses[0].next, Some(EventId::new(4, 0)));
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 5), (4, 6), word(b"(5)"));
        assert_eq!((plan.events, plan.bytes), (1, 2 + 3));
        assert_eq!(plan.losses[0].next, Some(EventId::new(5, 0)));
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 5), (0, 1), None);
        assert!(plan.events == 0 && !plan.is_enough, "each topic's newest stays");
        let last = Kind::Event(b, EventId::new(6, 0));
        outbox.push(now(), Frame::raw(&b"b6"[..]), last, &mut spares);
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 7), (4, 6), None);
        assert_eq!((plan.losses[0].subscription, plan.events), (b, 1));
        assert_eq!(outbox.bytes(), 1 + 3 + 2);
        assert_eq!(write(&mut outbox, usize::MAX).0, b"1(5)b6");
    }

    #[test]
    fn of_two_words_of_a_gap_before_one_event_the_first_stays() {
        let [a, b] = subscriptions();
        let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
        let event = |key, ms| Kind::Event(key, EventId::new(ms, 0));
        let kinds = [event(a, 1), event(b, 2), Kind::Gap(a), event(a, 3)];
        for (kind, payload) in kinds.into_iter().zip([&b"a1"[..], b"b2", b"(3)", b"a3"]) {
            outbox.push(now(), Frame::raw(payload), kind, &mut spares);
        }
        let word = |text: &'static [u8]| Some(Frame::raw(text));
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 4), (4, 7), word(b"(3)"));
        assert_eq!((plan.events, plan.bytes), (1, 2 + 3));
        let plan = drop_for(&mut outbox, Yielding::Superseded, (a, 4), (3, 6), word(b"(4)"));
        assert_eq!((plan.events, plan.bytes), (1, 2 + 3));
        assert_eq!(outbox.bytes(), 3 + 2);
        assert_eq!(write(&mut outbox, usize::MAX).0, b"(4)b2");
    }

    #[test]
    fn nothing_follows_the_close_frame() {
        let pong = |payload| Frame::new(&[0x8a, 1, payload], Bytes::new());
        let mut outbox = Outbox::default();
        let mut spares = Spares::default();
        outbox.push(now(), pong(b'a'), Kind::Pong, &mut spares);
        outbox.gather(usize::MAX, &mut [IoSlice::new(&[])], &mut Vec::new(), 0);
        outbox.push(now(), pong(b'b'), Kind::Pong, &mut spares);
        outbox.push(now(), Frame::new(&[0x88, 0], Bytes::new()), Kind::Close, &mut spares);
        let (bytes, left) = write(&mut outbox, usize::MAX);
        assert_eq!(bytes, [0x8a, 1, b'a', 0x8a, 1, b'b', 0x88, 0]);
        assert!(left.close && outbox.is_empty());
    }

    #[test]
    fn nothing_goes_ahead_of_a_response_and_nothing_discards_it() {
        for is_discarded in [false, true] {
            let mut outbox = Outbox::default();
            let response = Frame::raw(&b"HTTP/1.1 101"[..]);
            outbox.push(now(), response, Kind::Response, &mut Spares::default());
            outbox.push(now(), frame(b"data"), Kind::Message, &mut Spares::default());
            outbox.push(now(), ping(), Kind::Ping, &mut Spares::default());
            if is_discarded {
                outbox.discard_waiting();
            }
            let (bytes, _) = write(&mut outbox, usize::MAX);
            let rest = if is_discarded { vec![] } else { [vec![0x89, 0], wire(b"data")].concat() };
            assert_eq!(bytes, [b"HTTP/1.1 101".to_vec(), rest].concat());
        }
    }

    /// Releases messages one by one; returns what leaves each time.
    fn release_one_by_one(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        while !outbox.is_empty() {
            assert_eq!(outbox.release(now(), 0), 0);
            pieces.push(write(outbox, usize::MAX).0);
            assert!(outbox.is_held() || outbox.is_empty());
            assert_eq!(
                outbox.waiting_since(false),
                None,
                "what is held does not wait for the peer"
            );
            outbox.release(now(), 1);
            pieces.push(write(outbox, usize::MAX).0);
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    #[test]
    fn messages_wait_to_be_let_go_and_nothing_else_does() {
        let mut outbox = Outbox::default();
        let spares = &mut Spares::default();
        let long: &'static [u8] = Box::leak(vec![7; 2000].into_boxed_slice());
        outbox.push(now(), Frame::raw(&b"HTTP"[..]), Kind::Response, spares);
        // Two are packed together, one is not.
        outbox.push(now(), frame(b"one"), Kind::Message, spares);
        outbox.push(now(), frame(b"two"), Kind::Message, spares);
        outbox.push(now(), Frame::raw(long), Kind::Message, spares);
        outbox.push(now(), frame(b"four"), Kind::Message, spares);
        outbox.push(now(), Frame::new(&[0x88, 0], Bytes::new()), Kind::Close, spares);
        let close = vec![0x88, 0];
        let last = [wire(b"four"), close].concat();
        let expected = [b"HTTP".to_vec(), wire(b"one"), wire(b"two"), long.to_vec(), last];
        assert_eq!(release_one_by_one(&mut outbox), expected);
    }

    #[test]
    fn a_ping_leaves_while_messages_are_held() {
        for written in [0, 1, wire(b"one").len()] {
            let mut outbox = Outbox::default();
            let spares = &mut Spares::default();
            for text in [b"one", b"two"] {
                outbox.push(now(), frame(text), Kind::Message, spares);
            }
            assert_eq!(outbox.release(now(), 1), 1);
            let mut got = write(&mut outbox, written).0;
            outbox.push(now(), ping(), Kind::Ping, spares);
            assert!(outbox.waiting_since(false).is_some(), "the ping waits for the peer");
            outbox.release(now(), 0);
            let (rest, left) = write(&mut outbox, usize::MAX);
            got.extend(rest);
            let order = if written == 0 {
                [ping_wire(), wire(b"one")]
            } else {
                [wire(b"one"), ping_wire()]
            };
            assert_eq!(got, order.concat(), "after {written}");
            assert!(left.ping && outbox.is_held());
            outbox.release(now(), 1);
            assert_eq!(write(&mut outbox, usize::MAX).0, wire(b"two"));
        }
    }

    fn ping_wire() -> Vec<u8> {
        vec![0x89, 0]
    }

    #[test]
    fn more_is_let_go_only_when_what_was_has_left() {
        let mut outbox = Outbox::default();
        let spares = &mut Spares::default();
        for _ in 0..5 {
            outbox.push(now(), frame(b"x"), Kind::Message, spares);
        }
        assert_eq!(outbox.release(now(), 2), 2);
        write(&mut outbox, 4);
        assert_eq!(outbox.release(now(), 9), 0, "two bytes are left");
        assert!(!outbox.is_held());
        write(&mut outbox, 2);
        assert!(outbox.is_held());
        outbox.release_all(now());
        assert_eq!(write(&mut outbox, usize::MAX).0.len(), 9);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_peer_is_judged_from_when_messages_were_let_go() {
        let mut outbox = Outbox::default();
        outbox.push(now(), frame(b"x"), Kind::Message, &mut Spares::default());
        outbox.release(now(), 0);
        let later = Instant::from_millis(70_000);
        outbox.release(later, 1);
        assert_eq!(outbox.waiting_since(false), Some((later.into(), later.into())));
        // A pong alone needs no release.
        let mut outbox = Outbox::default();
        outbox.push(later, ping(), Kind::Pong, &mut Spares::default());
        outbox.release(later, 0);
        write(&mut outbox, 0);
        assert_eq!(outbox.waiting_since(false), Some((later.into(), later.into())));
    }

    /// Events that give way to newer ones are no progress of the peer.
    #[test]
    fn a_peer_is_judged_however_many_events_give_way() {
        let [subscription, _] = subscriptions();
        let event = |n: u64| Kind::Event(subscription, EventId::new(n, 0));
        let later = Instant::from_millis(70_000);
        for is_rated in [false, true] {
            let mut outbox = Outbox::default();
            let spares = &mut Spares::default();
            outbox.push(now(), frame(b"a"), event(1), spares);
            if is_rated {
                assert_eq!(outbox.release(now(), 1), 1);
            }
            drop_for(&mut outbox, Yielding::Oldest, (subscription, 2), (0, 0), None);
            assert!(outbox.is_empty() && outbox.waiting_since(true).is_none());
            outbox.push(later, frame(b"b"), event(2), spares);
            let progress_at = outbox.waiting_since(true).map(|(progress_at, _)| progress_at);
            assert_eq!(progress_at, Some(now().into()), "{is_rated}");
            assert_eq!(outbox.waiting_since(false).is_none(), is_rated, "held by the server");
            if is_rated {
                // The attempt to write, before the peer is judged, releases the newer one.
                outbox.release(later, 1);
                let progress_at = outbox.waiting_since(true).map(|(progress_at, _)| progress_at);
                assert_eq!(progress_at, Some(now().into()));
            }
        }
    }

    #[test]
    fn dropping_an_event_keeps_the_count_of_what_was_let_go() {
        let [subscription, _] = subscriptions();
        let event = |n: u64| Kind::Event(subscription, EventId::new(n, 0));
        for (released, gone) in [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1)] {
            let mut outbox = Outbox::default();
            let spares = &mut Spares::default();
            for (n, text) in [(1, b"a"), (2, b"b"), (3, b"c")] {
                outbox.push(now(), frame(text), event(n), spares);
            }
            assert_eq!(outbox.release(now(), released), released);
            write(&mut outbox, gone);
            let word = Some(frame(b"gap"));
            drop_for(&mut outbox, Yielding::Oldest, (subscription, 4), (3, 6 - gone), word);
            let mut got = write(&mut outbox, usize::MAX).0.len();
            while !outbox.is_empty() {
                outbox.release(now(), 1);
                got += write(&mut outbox, usize::MAX).0.len();
            }
            assert_eq!(got + gone, 3 + 3 + 5, "{released} {gone}");
        }
    }

    #[test]
    fn an_empty_outbox_is_a_null_pointer() {
        assert_eq!(size_of::<Outbox>(), size_of::<usize>());
    }
}
