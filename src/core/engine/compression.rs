//! Compressed messages: what is agreed on with a client, and what is compressed for it.
//!
//! A client keeps a window of what it has inflated last, and a message may refer to it. The server
//! keeps no such window, it borrows the topic's log: it remembers which event it sent compressed
//! last, by a serial of 27 bits. If that is the event before the next one in their topic, the next
//! one is compressed against it: once for all subscribers that are in step. On any doubt a message
//! is compressed by itself, which every client can read.

use tungstenite::Bytes;

use crate::core::config::{CompressionHistory, CompressionMode};
use crate::core::connection::allowance::Allowance;
use crate::core::engine::feed::{Behind, Form, encode};
use crate::core::engine::memory_budget::MemoryBudget;
use crate::core::engine::services::form;
use crate::core::engine::spares::Spares;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::outbox::{COMPRESSED_BYTES_MAX, Kind, Verdict};
use crate::core::topics::{EventId, SubscriptionKey, Topics};
use crate::core::wire::deflate::{self, ALONE_BYTES_MIN, Agreed, Want};
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{HeaderLines, Request};
use crate::core::wire::ws;

impl Engine {
    /// Agrees on compression with the client of an upgrade, if the client offers it and the route
    /// has it. Returns the header lines of the answer.
    pub(super) fn agree_on_compression(
        &mut self,
        id: ConnectionId,
        request: &Request,
        mut lines: HeaderLines,
    ) -> HeaderLines {
        let Some(connection) = find_mut(&mut self.connections, id) else { return lines };
        let rules = &self.settings.rules(connection).compression;
        if rules.mode == CompressionMode::Off {
            return lines;
        }
        if let Some(mut agreed) = deflate::choose(request.header_list("sec-websocket-extensions")) {
            agreed.keeps_window &= rules.history == CompressionHistory::Message;
            lines.push_extension(&agreed.answer());
            connection.flags.writing.agree_on_compression();
            self.spares.windows.open(id, agreed);
        }
        lines
    }

    /// Compresses what is about to leave, as far as the turn allows. Returns how many bytes may
    /// leave.
    #[inline]
    pub(super) fn make_ready(&mut self, now: Instant, id: ConnectionId) -> usize {
        match self.get(id) {
            Some(connection) if connection.flags.writing.is_compressed() => self.compress(now, id),
            _ => usize::MAX,
        }
    }

    fn compress(&mut self, now: Instant, id: ConnectionId) -> usize {
        self.spares.windows.forget_old(self.topics.events_published());
        let Some(connection) = find_mut(&mut self.connections, id) else { return 0 };
        if !connection.flags.writing.has_room() {
            return 0;
        }
        let rules = &self.settings.rules(connection).compression;
        let window = self.spares.windows.of(id);
        let mut press = Press {
            id,
            form: form(&self.settings.routes, connection),
            want: Want { level: rules.level, window_bits: window.bits() },
            least: rules.min_bytes,
            window,
            topics: &self.topics,
            spares: &mut self.spares,
            allowance: &mut self.allowance,
            budget: &mut self.budget,
            compressions: 0,
            plain_bytes: 0,
            wire_bytes: 0,
            is_late: false,
        };
        let made = connection
            .outbox
            .make_ready(|kind, opcode, payload| press.judge(kind, opcode, payload));
        let Press { window, compressions, plain_bytes, wire_bytes, is_late, .. } = press;
        self.spares.windows.set(id, window);
        self.stats.compressions += compressions;
        self.stats.deflated_plain_bytes += plain_bytes;
        self.stats.deflated_bytes += wire_bytes;
        self.stats.queued_bytes -= made.saved as u64;
        if is_late {
            // The rest is compressed in the next turn: the peer is not to blame for the wait.
            connection.outbox.excuse(now);
            self.queues.hungry.push(connection);
        }
        made.ready
    }
}

/// What compresses the messages of one connection.
struct Press<'a> {
    id: ConnectionId,
    /// How the connection gets events.
    form: Option<Form>,
    want: Want,
    /// The shortest event that is compressed where there is a history.
    least: usize,
    window: Window,
    topics: &'a Topics,
    spares: &'a mut Spares,
    allowance: &'a mut Allowance,
    budget: &'a mut MemoryBudget,
    compressions: u64,
    /// Bytes of messages that go compressed, before and after.
    plain_bytes: u64,
    wire_bytes: u64,
    /// A message has to wait for the next turn.
    is_late: bool,
}

impl Press<'_> {
    /// Says what becomes of a message that is about to leave, and remembers what the peer has then.
    fn judge(&mut self, kind: Kind, opcode: u8, payload: &[u8]) -> Verdict {
        let event = match (kind, self.form) {
            (Kind::Event(key, event), Some(form)) => Some((key, event, form)),
            _ => None,
        };
        let least = match event {
            Some(_) if self.window.is_kept() => self.least,
            _ => self.least.max(ALONE_BYTES_MIN),
        };
        if !(least..=COMPRESSED_BYTES_MAX).contains(&payload.len()) {
            return Verdict::Plain;
        }
        let found = match event {
            Some((key, event, form)) => self.compress_event(key, event, form, opcode, payload),
            None => self.compress(opcode, b"", payload).map(|frame| (frame, NO_SERIAL)),
        };
        match found {
            None => {
                self.is_late = true;
                Verdict::Later
            }
            // Nothing has come into the peer's window.
            Some((None, _)) => Verdict::Plain,
            Some((Some(frame), serial)) => {
                self.plain_bytes += payload.len() as u64;
                self.wire_bytes += ws::encoder::payload_len(&frame) as u64;
                self.window = self.window.with(serial);
                Verdict::Compressed(frame)
            }
        }
    }

    /// Compresses an event, or takes the form that was made for another peer. Returns the form,
    /// none if the event does not shrink, and the serial of the event; `None` if it has to wait.
    fn compress_event(
        &mut self,
        key: SubscriptionKey,
        event: EventId,
        form: Form,
        opcode: u8,
        payload: &[u8],
    ) -> Option<(Option<Frame>, Serial)> {
        let (serial, is_next) = self.place(key, event);
        let last = self.window.serial();
        if is_next {
            let forms = self.spares.forms.compressed(event, form);
            let made = forms.and_then(|forms| forms.behind.as_ref());
            if let Some(behind) =
                made.filter(|behind| behind.last == last && self.want.shares(behind.bytes))
            {
                return Some((behind.frame.clone(), serial));
            }
            let history = self.history(key, event, form);
            let bytes = history.len() + payload.len();
            if (1..=HISTORY_BYTES_MAX).contains(&history.len()) && self.want.shares(bytes) {
                let frame = self.compress(opcode, &history, payload)?;
                if let Some(forms) = self.spares.forms.compressed(event, form) {
                    forms.behind = Some(Behind { last, bytes, frame: frame.clone() });
                }
                return Some((frame, serial));
            }
        }
        let is_shared = self.want.shares(payload.len());
        let forms = self.spares.forms.compressed(event, form).filter(|_| is_shared);
        if let Some(frame) = forms.and_then(|forms| forms.alone.clone()) {
            return Some((frame, serial));
        }
        let frame = self.compress(opcode, b"", payload)?;
        let forms = self.spares.forms.compressed(event, form).filter(|_| is_shared);
        if let Some(forms) = forms {
            forms.alone = Some(frame.clone());
        }
        Some((frame, serial))
    }

    /// Returns the serial of an event, and whether the peer has got the event before it in its
    /// topic, and nothing compressed since.
    fn place(&self, key: SubscriptionKey, event: EventId) -> (Serial, bool) {
        if !self.window.is_kept() {
            return (NO_SERIAL, false);
        }
        let published = self.topics.events_published();
        let Some((number, before)) = self.topics.with_before(self.id, key, event) else {
            return (NO_SERIAL, false);
        };
        let before = before.map_or(NO_SERIAL, |(number, _)| serial_of(number, published));
        (serial_of(number, published), before != NO_SERIAL && before == self.window.serial())
    }

    /// Returns the event before one in its topic, as the peer has seen it; empty if it is not
    /// retained.
    fn history(&self, key: SubscriptionKey, event: EventId, form: Form) -> Vec<u8> {
        let before = self.topics.with_before(self.id, key, event).and_then(|(_, before)| before);
        let topic = self.topics.topic_for(self.id, key);
        // In JSON it may become six times as long.
        let before = before.filter(|(_, before)| before.payload.len() <= HISTORY_BYTES_MAX);
        let Some((topic, (_, before))) = topic.zip(before) else { return Vec::new() };
        let frame = encode(form, topic, &before);
        match (frame.text(), ws::encoder::parts(&frame)) {
            (Some(text), _) => text.to_bytes().to_vec(),
            (None, parts) => parts.map_or(&[][..], |(_, payload)| payload).to_vec(),
        }
    }

    /// Compresses a message. Returns its frame, or none if it does not shrink; `None` if the turn
    /// has nothing left.
    fn compress(&mut self, opcode: u8, history: &[u8], payload: &[u8]) -> Option<Option<Frame>> {
        if self.allowance.is_spent() {
            return None;
        }
        self.allowance.charge_compressed(history.len() / 4 + payload.len());
        self.compressions += 1;
        let bytes = self.spares.coders.compress(self.want, history, payload);
        let frame = bytes.map(|bytes| {
            ws::encoder::compressed(opcode, Bytes::copy_from_slice(bytes)).joined_if_small()
        });
        self.budget.add(frame.as_ref().map_or(0, Frame::made_bytes));
        Some(frame)
    }
}

/// Names the event that a peer got compressed last, among all that are near to it.
pub(super) type Serial = u32;

/// No event, or one that cannot be named.
const NO_SERIAL: Serial = 0;

/// Returns the serial of the event that was the `number`th, of `published` now. Events of the same
/// serial are so far apart that one of them has none.
fn serial_of(number: u64, published: u64) -> Serial {
    match published - number <= AGE_MAX {
        true => (number % (1 << SERIAL_BITS)) as Serial,
        false => NO_SERIAL,
    }
}

/// What is known of the inflater of a peer, in four bytes: from below four bits of the size of its
/// window, one that says whether it keeps the window, and the serial of the last event in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window(u32);

impl Window {
    fn new(agreed: Agreed) -> Window {
        Window(u32::from(agreed.window_bits) | u32::from(agreed.keeps_window) << 4)
    }

    fn bits(self) -> u8 {
        (self.0 & 0xf) as u8
    }

    fn is_kept(self) -> bool {
        self.0 & 0x10 != 0
    }

    fn serial(self) -> Serial {
        self.0 >> 5
    }

    fn with(self, serial: Serial) -> Window {
        Window(self.0 & 0x1f | serial << 5)
    }
}

/// The windows of all peers, by the slots of their connections.
#[derive(Debug, Default)]
pub(super) struct Windows {
    windows: Vec<Window>,
    /// How many events had been published when all serials were forgotten last, in units of
    /// [`AGE_MAX`].
    age: u64,
}

impl Windows {
    fn open(&mut self, id: ConnectionId, agreed: Agreed) {
        if self.windows.len() <= id.key() {
            self.windows.resize(id.key() + 1, Window::default());
        }
        self.set(id, Window::new(agreed));
    }

    /// Returns the window of a peer that has agreed on compression.
    fn of(&self, id: ConnectionId) -> Window {
        self.windows[id.key()]
    }

    fn set(&mut self, id: ConnectionId, window: Window) {
        self.windows[id.key()] = window;
    }

    /// Forgets all serials when so many events were published that they may soon come again.
    fn forget_old(&mut self, published: u64) {
        let age = published / AGE_MAX;
        if std::mem::replace(&mut self.age, age) != age {
            self.windows.iter_mut().for_each(|window| *window = window.with(NO_SERIAL));
        }
    }
}

const SERIAL_BITS: u32 = 27;

/// An event before which many more events were published than this has no serial any more, and what
/// was remembered so long ago is forgotten: two events with the same serial are twice as far apart.
const AGE_MAX: u64 = 1 << (SERIAL_BITS - 1);

/// A longer history is of little use: what it is of shrinks by itself.
const HISTORY_BYTES_MAX: usize = 16 * 1024;
