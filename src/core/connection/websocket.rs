//! An open WebSocket: its messages, its heartbeat, and its pauses of reading.

use std::time::Duration;

use crate::core::connection::flags::{Carrier, Leaving};
use crate::core::connection::heartbeat::Heartbeat;
use crate::core::connection::receive::{Context, Decoded, Received, SpareInboxes};
use crate::core::connection::{Connection, Inbox};
use crate::core::contract::event::{Event, Session};
use crate::core::ground::bucket::Bucket;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::ground::time::{Instant, SPAN_MAX, SomeMoment, millis_up};
use crate::core::observe::stats::Transport;
use crate::core::outbox::Outbox;
use crate::core::wire::message::Message;
use crate::core::wire::ws::{Decoder, Incoming};

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    pub(super) decoder: Decoder,
    pub(super) heartbeat: Heartbeat,
    /// For how long reading was paused since something was heard.
    pub(super) unread_ms: u32,
    /// When the connection's lifetime is over; `None` if it has no limit.
    pub(super) lifetime_at: Option<SomeMoment>,
    pings: Bucket,
}

impl WebSocket {
    pub fn new(heartbeat: Heartbeat, lifetime_at: Option<SomeMoment>) -> WebSocket {
        WebSocket {
            decoder: Decoder::default(),
            heartbeat,
            unread_ms: 0,
            lifetime_at,
            pings: Bucket::default(),
        }
    }

    /// Returns for how long reading was paused since something was heard.
    pub(super) fn unread_for(&self) -> Duration {
        Duration::from_millis(self.unread_ms.into())
    }

    /// Decodes messages for the handler, as many as there is room for: they come in masses. Each
    /// takes the short way, or goes to the inbox. Any other frame is for the engine, and ends the
    /// call.
    #[inline]
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        inbox: &mut Option<Box<Inbox>>,
        session: &mut Option<Session>,
        outbox: &mut Outbox,
        mut context: Context<'_, '_>,
    ) -> Decoded {
        let now = context.now;
        let mut begun_at = self.decoder.begun_at().unwrap_or(now.into());
        let (mut used, mut messages) = (0, 0);
        let found = loop {
            let rest = &mut input[used..];
            match context.decode(&mut self.decoder, rest) {
                Ok((len, Some(Incoming::Message(message)))) if context.is_for_handler => {
                    used += len;
                    messages += 1;
                    begun_at = now.into();
                    let must_end = deliver(message, inbox, session, outbox, &mut context);
                    if used == input.len() || context.allowance.is_spent() || must_end {
                        break None;
                    }
                }
                Ok((len, item)) => {
                    used += len;
                    if item.is_none() && used < input.len() {
                        context.allowance.charge_fragment();
                    }
                    break item.map(Received::Frame);
                }
                Err(violation) => {
                    used = input.len();
                    break Some(Received::Violation(violation));
                }
            }
        };
        debug_assert!(used <= input.len(), "no more is used than there is");
        self.decoder.set_begun_at(begun_at);
        Decoded { used, messages, found }
    }

    /// Takes `len` bytes that were read into the room that the message in progress has lent.
    pub(super) fn filled(
        &mut self,
        len: usize,
        inbox: &mut Option<Box<Inbox>>,
        session: &mut Option<Session>,
        outbox: &mut Outbox,
        mut context: Context<'_, '_>,
    ) -> Decoded {
        match self.decoder.filled(len) {
            Some(Incoming::Message(message)) if context.is_for_handler => {
                deliver(message, inbox, session, outbox, &mut context);
                Decoded { used: len, messages: 1, found: None }
            }
            item => Decoded { used: len, messages: 0, found: item.map(Received::Frame) },
        }
    }
}

/// Has a message for the handler take the short way, or go to the inbox. Returns whether the engine
/// must act, or the handler be called, before the next message is decoded.
#[inline]
fn deliver(
    message: Message,
    inbox: &mut Option<Box<Inbox>>,
    session: &mut Option<Session>,
    outbox: &mut Outbox,
    context: &mut Context<'_, '_>,
) -> bool {
    let Context { limits, allowance, inboxes, short_way, .. } = context;
    allowance.charge_message();
    let must_wait = match short_way {
        Some(way) => way.take(message, inbox, session, outbox, allowance),
        None => Some(message),
    };
    match must_wait {
        Some(message) => {
            let inbox = inbox.get_or_insert_with(|| inboxes.take());
            inbox.push(Event::Message(message));
            inbox.is_full(limits)
        }
        None => short_way.as_ref().is_some_and(|way| way.must_end()),
    }
}

impl Connection {
    /// Makes a WebSocket of a request whose 101 has been queued.
    pub fn upgrade(&mut self, now: Instant, websocket: WebSocket, subprotocol: Subprotocol) {
        debug_assert_eq!(self.flags.transport(), Transport::Http, "it is upgraded once");
        self.flags.carrier = Carrier::WebSocket(subprotocol);
        self.heard_at = now.into();
        self.enter(now, websocket);
        if let Some(rates) = self.rates_mut() {
            // The upgrade does not count as a message.
            rates.messages = Default::default();
        }
    }

    /// Lends room, at most `most` bytes, for what comes next of a large message.
    #[inline]
    pub fn lend(&mut self, most: usize) -> Option<&mut [u8]> {
        self.websocket_mut()?.decoder.lend(most)
    }

    /// Returns the heartbeat of an open WebSocket.
    #[inline]
    pub fn heartbeat(&self) -> Option<&Heartbeat> {
        self.websocket().map(|open| &open.heartbeat)
    }

    /// Returns the heartbeat of an open WebSocket.
    #[inline]
    pub fn heartbeat_mut(&mut self) -> Option<&mut Heartbeat> {
        self.websocket_mut().map(|open| &mut open.heartbeat)
    }

    /// Takes note that bytes came: the peer lives.
    #[inline]
    pub fn note_heard(&mut self, now: Instant, len: usize) {
        self.counters.bytes_in += len as u64;
        self.heard_at = now.into();
        if let Some(open) = self.websocket_mut() {
            open.unread_ms = 0;
            let has_ended_wait = open.heartbeat.heard();
            self.flags.relink |= has_ended_wait;
        }
    }

    /// Reads what has come of an incomplete message of `/ws`. Returns how many bytes were read, and
    /// how many more are held.
    pub fn read_ahead(&mut self, inboxes: &mut SpareInboxes) -> Option<(usize, usize)> {
        let (open, inbox) = self.websocket_and_inbox()?;
        let text = open.decoder.text_in_progress()?;
        let inbox = inbox.get_or_insert_with(|| inboxes.take());
        let reading = inbox.reading.get_or_insert_default();
        let (at, held) = (reading.at(), reading.held_bytes());
        reading.go_on(text);
        debug_assert!(reading.at() >= at, "it reads on");
        Some((reading.at() - at, reading.held_bytes().saturating_sub(held)))
    }

    /// Takes note that the last byte of a ping went to the kernel: the wait for its pong begins.
    pub fn note_ping_sent(&mut self, now: Instant) {
        if let Some(heartbeat) = self.heartbeat_mut() {
            heartbeat.ping_sent(now);
            self.flags.relink = true;
        }
    }

    /// Counts a control frame that the peer sent of its own accord. Returns whether `rate` allows
    /// so many.
    pub fn spend_ping(&mut self, now: Instant, rate: u64) -> bool {
        self.websocket_mut().is_some_and(|open| open.pings.take(now, rate))
    }

    /// Begins the heartbeat anew, by `restart`: nothing that came before is judged.
    pub fn restart_heartbeat(&mut self, now: Instant, restart: impl FnOnce(&mut Heartbeat)) {
        let heard_at = self.heard_at.near(now).max(now);
        if let Some(open) = self.websocket_mut() {
            restart(&mut open.heartbeat);
            open.unread_ms = 0;
            self.heard_at = heard_at.into();
        }
    }

    /// Returns whether the connection is a WebSocket whose reading is paused.
    #[inline]
    pub fn is_paused(&self) -> bool {
        debug_assert!(
            self.paused_at.is_none() || self.is_open(),
            "a pause ends with the WebSocket"
        );
        self.paused_at.is_some()
    }

    /// Begins or ends a pause of reading a WebSocket. Its deadlines stand still meanwhile, and go
    /// on where they stood. Returns whether this is a change.
    #[inline]
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) -> bool {
        if self.is_paused() == is_paused || !self.is_open() {
            return false;
        }
        self.skip_pause(now);
        self.paused_at = is_paused.then(|| now.into());
        self.flags.relink = true;
        true
    }

    /// Moves the deadlines on by the time for which reading has been paused. The pause goes on, or
    /// ends, from `now`. When something was last heard does not change: pings go by that, however
    /// many pauses there are.
    pub fn skip_pause(&mut self, now: Instant) {
        let Some(paused_at) = self.paused_at else { return };
        let paused_at = paused_at.near(now);
        let heard_at = self.heard_at.near(now).max(now - SPAN_MAX / 2);
        let Some(open) = self.websocket_mut() else { return };
        let unread_ms = millis_up(now.since(paused_at)).min(u32::MAX.into()) as u32;
        open.unread_ms = open.unread_ms.saturating_add(unread_ms);
        if let Some(begun_at) = open.decoder.begun_at() {
            // What began before the pause has gone on for as long as it had then; nothing begins in
            // the future.
            let went_on_for = paused_at.since(begun_at.near(now));
            open.decoder.set_begun_at((now - went_on_for).into());
        }
        open.heartbeat.resume(paused_at, now);
        // However long the pause: moments stay near to now.
        self.heard_at = heard_at.into();
        self.paused_at = Some(now.into());
    }

    /// Returns whether the connection is an open WebSocket with nothing under way in either
    /// direction. Its deadlines can then only have moved away.
    #[inline]
    pub fn is_in_step(&self) -> bool {
        let Some(open) = self.websocket() else { return false };
        let is_leaving = self.flags.leaving == Leaving::Draining;
        let is_watched = self.flags.relink || is_leaving || self.rates().is_some();
        !is_watched && open.decoder.is_idle() && self.outbox.is_empty()
    }
}
