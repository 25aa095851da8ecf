//! One connection: its phase, its moments, its outbox. What may happen next follows from the phase
//! alone.
//!
//! ```text
//!          head complete                answer begun           answer written, kept
//!   Head ───────────────► (Body ►) Deciding ─────────► Answering ─────────► KeepAlive ─► Head ...
//!                                     │ upgrade            │ answered and closed
//!                                     ▼                    ▼
//!                                    Open ───────────► Closing ─► gone
//! ```
//!
//! Each phase has a deadline, and `Connection::deadline` gives the earliest: there is no phase
//! without one.

pub mod heartbeat;
mod posted;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use tungstenite::Bytes;

use crate::core::admission::rates::Rates;
use crate::core::admission::tokens::TokenIndex;
use crate::core::config::{Config, IDLE_CONNECTION_BYTES, Limits, SOCKET_PLACE_BYTES};
use crate::core::connection::heartbeat::{Due, Heartbeat};
use crate::core::contract::event::{Event, Place, Session};
use crate::core::contract::route::Face;
use crate::core::ground::bucket::Bucket;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::{Instant, Moment, SPAN_MAX, SomeMoment, millis_up};
use crate::core::ground::wheel::Wheel;
use crate::core::observe::stats::{DeadlineKind, Transport};
use crate::core::outbox::Outbox;
use crate::core::topics::{EventId, FirstSubscription};
use crate::core::wire::envelope::Reading;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{BodyReader, Caching, Cors, HeadReader, Refusal, Request};
use crate::core::wire::ws::{Decoder, Violation};

pub(crate) use posted::Posted;

/// One connection, without its socket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: ConnectionId,
    /// What the listener that accepted it is for.
    pub face: Face,
    pub flags: Flags,
    /// The lists in which the connection waits.
    pub marks: Marks,
    pub phase: Phase,
    pub peer: Peer,
    pub opened_at: Instant,
    /// When the last byte was received.
    pub heard_at: Moment,
    /// When the phase, or the stage of closing, began. Of an event stream: when something was last
    /// queued for it. Of a WebSocket that is not read from (`flags.paused`): since when.
    pub phase_at: Moment,
    pub counters: Counters,
    /// The route, once a request has named one.
    pub route: Option<RouteIndex>,
    /// The token that the last request bore, if tokens are asked for.
    pub token: Option<TokenIndex>,
    pub session: Option<Session>,
    pub subscriptions: FirstSubscription,
    pub outbox: Outbox,
    pub inbox: Option<Box<Inbox>>,
    /// Made when a rate is first counted.
    pub rates: Option<Box<Rates>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// The socket may have bytes for us.
    pub readable: bool,
    /// The socket may take bytes.
    pub writable: bool,
    /// The peer has ended its side, or the socket failed: read on even after a short read.
    pub read_closed: bool,
    /// Nothing is read: the application is behind.
    pub paused: bool,
    /// A job is out.
    pub job: bool,
    /// The transport has something of its own to write.
    pub wants_write: bool,
    /// `Opened` was given to the handler.
    pub opened: bool,
    /// The drain has come to this connection.
    pub draining: bool,
    /// It was chosen to be shed: its turn comes, or has come.
    pub shed: bool,
    /// The wheel entry must be set anew even if the next deadline is later.
    pub relink: bool,
    /// The outbox was not empty when last looked at: `Drained` is due when it is.
    pub filled: bool,
    pub transport: Transport,
    /// The peer has ended its side: the read that gives nothing was made.
    pub eof: bool,
    /// A subscription may still replay.
    pub replays: bool,
    /// As the engine's, if it has followed the change that all connections follow.
    pub round_parity: bool,
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
    /// That wait for as many answers of a log as messages may wait for a handler. Such a connection
    /// has an inbox, and is not read from.
    Asking = 32,
}

/// The lists in which a connection waits: in each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// Sets a mark. Says whether it was not set before.
    pub fn set(&mut self, mark: Mark) -> bool {
        let before = self.0;
        self.0 |= mark as u8;
        self.0 != before
    }

    /// Clears a mark. Says whether it was set.
    pub fn clear(&mut self, mark: Mark) -> bool {
        let before = self.0;
        self.0 &= !(mark as u8);
        self.0 != before
    }

    /// Says whether a mark is set.
    pub fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }
}

/// A place in the table of routes, in two bytes also where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteIndex(NonZeroU16);

impl RouteIndex {
    /// The builder takes no more routes than that.
    pub fn new(index: usize) -> Option<RouteIndex> {
        u16::try_from(index + 1).ok().and_then(NonZeroU16::new).map(RouteIndex)
    }
}

impl From<RouteIndex> for usize {
    fn from(route: RouteIndex) -> usize {
        usize::from(route.0.get()) - 1
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub messages_in: u64,
    pub messages_out: u64,
}

/// Where a connection stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// A request head is awaited or has begun.
    Head { reader: HeadReader, first: bool },
    /// An answer has been written; the next request has not begun. So many bytes of empty lines
    /// have come, which are forgiven and begin nothing.
    KeepAlive { blank: u8 },
    /// The head is complete, the body is not.
    Body(Box<Body>),
    /// The request is complete; the handler, or the verdict on the upgrade, is awaited.
    Deciding(Box<Pending>),
    /// The answer is in the outbox, or what has been made of it so far.
    Answering { keep: bool, reason: CloseReason, more: Option<Listing> },
    /// WebSocket.
    Open(Open),
    /// An event stream: nothing more is expected of the peer. It goes in chunks (RFC 9112, 7.1),
    /// or, to HTTP/1.0, ends with the connection.
    Stream { is_chunked: bool },
    /// Ending.
    Closing(Closing),
}

/// A request whose body is being received.
#[derive(Debug)]
pub(crate) struct Body {
    pub request: Request,
    pub reader: BodyReader,
    /// What is published, which is taken from the reader as it comes.
    pub posted: Option<Box<Posted>>,
    pub pending: Pending,
}

impl Body {
    /// Reads as [`BodyReader::read`] does. What is published is checked, and none of it is left in
    /// the reader.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Bytes>), Refusal> {
        let (used, whole) = self.reader.read(input)?;
        let Some(posted) = &mut self.posted else { return Ok((used, whole)) };
        let piece = match &whole {
            Some(piece) => piece.clone(),
            None => self.reader.take().into(),
        };
        posted.push(&piece, self.reader.outstanding());
        Ok((used, whole))
    }
}

/// What is known of a request until it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// When its connection was accepted, or its own first byte came.
    pub began_at: Moment,
    pub is_http10: bool,
    pub route: usize,
    pub keep: bool,
    pub head_only: bool,
    /// What the answer owes to a page of another origin.
    pub cors: Cors,
    /// What caches may do with the answer.
    pub caching: Caching,
    /// The request, until a handler takes it.
    pub request: Option<Box<Request>>,
    /// The body of the one that a handler has taken.
    pub given_bytes: usize,
    /// The accept key of an upgrade, and the first subprotocol that was offered and is configured.
    pub upgrade: Option<(String, Option<String>)>,
    /// Its body, if it is to be published.
    pub posted: Option<Box<Posted>>,
}

/// An answer that is made in slices, as its connection takes it.
#[derive(Debug)]
pub(crate) struct Listing {
    pub rest: Rest,
    /// It goes in chunks (RFC 9112, 7.1); else it ends with the connection.
    pub is_chunked: bool,
}

/// What is left of an answer in slices.
#[derive(Debug)]
pub(crate) enum Rest {
    /// The table of connections, from this place on.
    Table(Place),
    /// The events of a topic.
    History(Box<History>),
}

/// The events of a topic that have not been answered with, up to the one that was the newest when
/// they were asked for.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub topic: String,
    /// The last one that was.
    pub after: EventId,
    pub until: EventId,
    /// Some were.
    pub has_rows: bool,
}

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct Open {
    pub decoder: Decoder,
    pub heartbeat: Heartbeat,
    /// For how long, since something was heard, nothing has been read because the application was
    /// behind or the peer had sent too much.
    pub unread_ms: u32,
    /// When the connection has lived long enough, if there is such a limit.
    pub lifetime_at: Option<SomeMoment>,
    pub pings: Bucket,
}

/// An ending connection.
#[derive(Debug)]
pub(crate) struct Closing {
    pub stage: Stage,
    pub reason: CloseReason,
    /// Reads on for the peer's close frame, as long as frames can be told apart.
    pub decoder: Option<Decoder>,
    /// What the peer did wrong, if that is the reason.
    pub violation: Option<Violation>,
    /// When the client is told to come back, if it is told.
    pub retry_ms: Option<u32>,
}

impl Closing {
    pub fn new(stage: Stage, reason: CloseReason) -> Closing {
        Closing { stage, reason, decoder: None, violation: None, retry_ms: None }
    }

    /// Says whether the peer ended its side: what it sent before is handled in its own time.
    pub fn is_by_peer(&self) -> bool {
        matches!(self.reason, CloseReason::Peer(_) | CloseReason::Eof)
    }

    /// Says whether the reason stands, whatever cuts the rest short: it is the peer's, or a fault,
    /// or the peer has been told.
    pub fn is_settled(&self) -> bool {
        let is_with_kernel = matches!(self.stage, Stage::Awaiting | Stage::Lingering);
        is_with_kernel || self.is_by_peer() || !self.reason.is_clean()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What was received before is being handled and answered; then the close frame is queued.
    /// Bounded by `close_send`.
    Handling,
    /// The close frame waits in the outbox. Bounded by `close_send`.
    Sending { then: After },
    /// The close frame is with the kernel, the peer's is awaited. Bounded by `close_ack`.
    Awaiting,
    /// FIN is sent; what still comes is discarded until the peer's FIN. Bounded by `close_ack`.
    Lingering,
}

/// What follows a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The peer's close frame is awaited.
    Await,
    /// FIN: the peer's close frame came already, or nothing after the fault can be read.
    Fin,
}

/// What has been received and waits for the handler.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub events: VecDeque<Event>,
    /// How many of the events are messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Bytes of one read that could not be decoded yet, from `rest_from` on.
    pub rest: Vec<u8>,
    pub rest_from: usize,
    /// What has been read of a message of `/ws` of which the decoder has a part.
    pub reading: Option<Box<Reading>>,
    /// Bytes that the handler of the job that is out may send beyond the outbox limit: as many as
    /// it was given.
    pub promised: usize,
    /// Messages in the job that is out.
    pub given: u64,
}

impl Inbox {
    /// Puts an event behind the others. Of what is only a state the newest counts: nothing piles up
    /// behind a blocked handler.
    pub fn push(&mut self, event: Event) {
        if let Event::Message(message) = &event {
            self.messages += 1;
            self.bytes += message.len();
        }
        match self.events.back_mut() {
            Some(last) if last.is_superseded_by(&event) => *last = event,
            _ => self.events.push_back(event),
        }
    }

    /// Says whether the handler has enough waiting.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.messages >= limits.inbox_messages || self.bytes >= limits.inbox_bytes
    }

    /// Says whether nothing is in it and no job is out: it can be given back.
    pub fn is_idle(&self) -> bool {
        let is_empty = self.events.is_empty() && self.rest.is_empty() && self.reading.is_none();
        is_empty && self.given == 0
    }
}

/// The peer's address in 18 bytes: an IPv4 address as IPv6 maps it, and of a Unix socket the
/// address that stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    ip: [u8; 16],
    port: u16,
}

impl Peer {
    pub fn new(address: Option<SocketAddr>) -> Peer {
        let ip = match address.map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
            Some(IpAddr::V6(ip)) => ip,
            None => Ipv6Addr::UNSPECIFIED,
        };
        Peer { ip: ip.octets(), port: address.map_or(0, |address| address.port()) }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(self.ip);
        (!ip.is_unspecified()).then(|| SocketAddr::from((ip.to_canonical(), self.port)))
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// The spans that bound a connection, and what heartbeats follow: the configuration, parsed once.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub tick_ms: u64,
    pub handshake: Duration,
    pub body: Duration,
    pub keep_alive: Duration,
    pub read_idle: Option<Duration>,
    pub message: Duration,
    pub write_stall: Duration,
    pub close_send: Duration,
    pub close_ack: Duration,
    pub heartbeat: heartbeat::Rules,
    pub comment: Duration,
    /// When the drain in progress ends.
    pub drain_ends_at: Option<Instant>,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let deadlines = &config.deadlines;
        Rules {
            tick_ms: millis_up(config.tick).max(1),
            handshake: deadlines.handshake,
            body: deadlines.body,
            keep_alive: deadlines.keep_alive,
            read_idle: deadlines.read_idle,
            message: deadlines.message,
            write_stall: deadlines.write_stall,
            close_send: deadlines.close_send,
            close_ack: deadlines.close_ack,
            heartbeat: config.into(),
            comment: config.heartbeat.comment,
            drain_ends_at: None,
        }
    }
}

/// The earliest of the deadlines offered; of those in one tick the one whose kind comes first.
struct Earliest {
    tick_ms: u64,
    found: Option<(Instant, DeadlineKind)>,
}

impl Earliest {
    fn offer(&mut self, at: Instant, kind: DeadlineKind) {
        let Some((found_at, found_kind)) = self.found else {
            self.found = Some((at, kind));
            return;
        };
        // Most are far apart: then they are in different ticks, and nothing has to be divided.
        let apart = at.as_millis().abs_diff(found_at.as_millis());
        let tick = |at: Instant| at.as_millis().div_ceil(self.tick_ms);
        let is_earlier = match apart >= self.tick_ms {
            true => at < found_at,
            false => (tick(at), kind) < (tick(found_at), found_kind),
        };
        if is_earlier {
            self.found = Some((at, kind));
        }
    }
}

impl Connection {
    pub fn new(id: ConnectionId, face: Face, peer: Peer, now: Instant) -> Connection {
        Connection {
            id,
            face,
            flags: Flags { relink: true, ..Flags::default() },
            marks: Marks::default(),
            phase: Phase::Head { reader: HeadReader::default(), first: true },
            peer,
            opened_at: now,
            heard_at: now.into(),
            phase_at: now.into(),
            counters: Counters::default(),
            route: None,
            token: None,
            session: None,
            subscriptions: FirstSubscription::default(),
            outbox: Outbox::default(),
            inbox: None,
            rates: None,
        }
    }

    /// Gives a frame as this connection is sent it. Pieces of event streams are encoded once, as
    /// chunks; a peer that speaks HTTP/1.0 knows none and gets what is in them.
    pub fn framed(&self, frame: Frame) -> Frame {
        match self.phase {
            Phase::Stream { is_chunked: false } => frame.without_chunk(),
            _ => frame,
        }
    }

    /// Moves on to another phase; its deadline counts from `now`.
    pub fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.phase_at = now.into();
        self.flags.relink = true;
        if let Some(rates) = &mut self.rates {
            // What is read from now on is judged anew.
            rates.read_at = None;
        }
    }

    /// Gives until when nothing is read, because the peer has sent too much.
    pub fn reads_at(&self) -> Option<Instant> {
        self.rates.as_ref()?.read_at
    }

    /// Says whether the peer may begin something now, a request or a message, but has not.
    pub fn is_between_messages(&self) -> bool {
        match &self.phase {
            Phase::Head { reader, .. } => reader.is_idle(),
            Phase::KeepAlive { .. } => true,
            Phase::Open(open) => open.decoder.is_idle(),
            _ => false,
        }
    }

    /// Gives the moment at which the connection must be looked at: at its deadline, or when a wait
    /// for a rate is over.
    pub fn next_at(&self, rules: &Rules, now: Instant) -> Instant {
        let (at, _) = self.deadline(rules, now);
        let wait_at = self.rates.as_ref().and_then(|rates| rates.next_at());
        wait_at.map_or(at, |wait_at| at.min(wait_at))
    }

    /// Gives the earliest deadline. There is always one.
    pub fn deadline(&self, rules: &Rules, now: Instant) -> (Instant, DeadlineKind) {
        let mut earliest = Earliest { tick_ms: rules.tick_ms, found: None };
        let phase_at = self.phase_at.near(now);
        // Time in which the server did not read is not the peer's: looked at again and again, what
        // waits for its bytes is never due.
        let read_since = phase_at + self.unread_for(now);
        match &self.phase {
            Phase::Head { .. } => {
                earliest.offer(after(read_since, rules.handshake), DeadlineKind::Handshake);
            }
            Phase::Deciding(_) => {
                earliest.offer(after(phase_at, rules.handshake), DeadlineKind::Handshake);
            }
            Phase::KeepAlive { .. } => {
                earliest.offer(after(read_since, rules.keep_alive), DeadlineKind::KeepAlive);
            }
            Phase::Body(_) => earliest.offer(after(read_since, rules.body), DeadlineKind::Body),
            Phase::Answering { more: Some(_), .. } if self.outbox.is_empty() => {
                // It waits for the next turn's budget, not for the peer.
                earliest.offer(after(phase_at, rules.write_stall), DeadlineKind::WriteStall);
            }
            Phase::Answering { .. } => {}
            Phase::Stream { .. } => {
                let due = after(phase_at, rules.comment);
                let due = if rules.comment > GRID_AHEAD { due.floor(GRID) } else { due };
                earliest.offer(due, DeadlineKind::Comment);
            }
            Phase::Open(open) => self.deadline_open(open, rules, now, &mut earliest),
            Phase::Closing(closing) => match closing.stage {
                // Half is left to send the close frame in, if it is not the peer that closed.
                Stage::Handling if !closing.is_by_peer() => {
                    earliest.offer(after(phase_at, rules.close_send / 2), DeadlineKind::CloseSend);
                }
                Stage::Handling | Stage::Sending { .. } => {
                    earliest.offer(after(phase_at, rules.close_send), DeadlineKind::CloseSend);
                }
                Stage::Awaiting | Stage::Lingering => {
                    earliest.offer(after(phase_at, rules.close_ack), DeadlineKind::CloseAck);
                }
            },
        }
        if let Some((progress_at, oldest_at)) = self.outbox.waiting_since(!self.flags.writable) {
            let stalled_at = after(progress_at.near(now), rules.write_stall);
            // Beyond that two moments cannot be told apart.
            let oldest_for = rules.write_stall.saturating_mul(3).min(SPAN_MAX);
            let too_old_at = after(oldest_at.near(now), oldest_for);
            earliest.offer(stalled_at.min(too_old_at), DeadlineKind::WriteStall);
        }
        // The operator is answered until the process exits.
        if let Some(at) = rules.drain_ends_at.filter(|_| self.face != Face::Admin) {
            earliest.offer(at, DeadlineKind::Drain);
        }
        debug_assert!(earliest.found.is_some(), "a phase without a deadline: {:?}", self.phase);
        earliest.found.unwrap_or((now + rules.close_ack, DeadlineKind::CloseAck))
    }

    fn deadline_open(&self, open: &Open, rules: &Rules, now: Instant, earliest: &mut Earliest) {
        let heard_at = self.heard_at.near(now);
        match open.heartbeat.due(&rules.heartbeat, heard_at, self.flags.paused, now) {
            Due::Ping(at) => earliest.offer(at, DeadlineKind::Ping),
            Due::Pong(at) => earliest.offer(at, DeadlineKind::Pong),
            Due::Nothing => {}
        }
        if let Some(at) = open.lifetime_at {
            earliest.offer(at.near(now), DeadlineKind::Lifetime);
        }
        if let Some(read_idle) = rules.read_idle {
            // While reading is paused this stands still: looked at again and again, it is never
            // due.
            let unread = Duration::from_millis(open.unread_ms.into());
            let since = if self.flags.paused { now } else { heard_at + unread };
            earliest.offer(after(since, read_idle), DeadlineKind::ReadIdle);
        }
        if self.flags.paused {
            return;
        }
        if let Some(begun_at) = open.decoder.begun_at() {
            earliest.offer(after(begun_at.near(now), rules.message), DeadlineKind::Message);
        }
    }

    /// Gives for how long nothing has been read of a request, because the peer has sent too much.
    fn unread_for(&self, now: Instant) -> Duration {
        match &self.rates {
            Some(rates) if rates.read_at.is_some() => now.since(rates.unread_since.near(now)),
            _ => Duration::ZERO,
        }
    }

    /// Reads on after a wait; the time is taken out of what waits for the bytes of a request. What
    /// a WebSocket is judged by is taken care of by [`Connection::skip_pause`].
    pub fn read_on(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Head { .. } | Phase::KeepAlive { .. } | Phase::Body(_)) {
            self.phase_at = (self.phase_at.near(now) + self.unread_for(now)).into();
        }
        if let Some(rates) = &mut self.rates {
            rates.read_at = None;
        }
        self.flags.relink = true;
    }

    /// Says whether something waits for the handler.
    pub fn has_job(&self) -> bool {
        match &self.phase {
            Phase::Deciding(pending) => pending.request.is_some(),
            _ => self.inbox.as_ref().is_some_and(|inbox| !inbox.events.is_empty()),
        }
    }

    /// Takes the time for which reading has been paused out of what is judged by it; the pause goes
    /// on, or ends, from `now`. When something was last heard stays what it was: pings go by that,
    /// however many pauses there are.
    pub fn skip_pause(&mut self, now: Instant) {
        let paused_at = self.phase_at.near(now);
        let heard_at = self.heard_at.near(now).max(now - SPAN_MAX / 2);
        // However long the pause: moments stay near to now.
        self.heard_at = heard_at.into();
        if let Phase::Open(open) = &mut self.phase {
            let unread_ms = millis_up(now.since(paused_at)).min(u32::MAX.into()) as u32;
            open.unread_ms = open.unread_ms.saturating_add(unread_ms);
            if let Some(begun_at) = open.decoder.begun_at() {
                // What began before the pause has gone on for as long as it had then; nothing
                // begins in the future.
                let went_on_for = paused_at.since(begun_at.near(now));
                open.decoder.set_begun_at((now - went_on_for).into());
            }
            open.heartbeat.resume(paused_at, now);
        }
        self.phase_at = now.into();
    }

    /// Says whether it is an open WebSocket of which nothing is under way, either way: all that can
    /// have happened to its deadlines is that they have moved away.
    pub fn is_in_step(&self) -> bool {
        let Phase::Open(open) = &self.phase else { return false };
        let is_watched = self.flags.relink || self.flags.draining || self.rates.is_some();
        !is_watched && open.decoder.is_idle() && self.outbox.is_empty()
    }

    /// Says whether messages for the peer are still queued.
    pub fn takes_messages(&self) -> bool {
        match &self.phase {
            Phase::Open(_) => true,
            Phase::Closing(closing) => closing.stage == Stage::Handling,
            _ => false,
        }
    }

    /// Says whether a frame is more than may wait for the peer. An empty outbox takes any; its own
    /// handler may answer as many bytes as it was given.
    pub fn overflows(&self, is_own: bool, len: usize, limit: usize) -> bool {
        let waiting = self.outbox.held_bytes();
        let promised = || self.inbox.as_ref().map_or(0, |inbox| inbox.promised);
        let is_more = waiting > 0 && waiting.saturating_add(len) > limit;
        is_more && !(is_own && len <= promised())
    }

    /// Says whether nothing waits for the handler and none of its jobs is out.
    pub fn is_handled(&self) -> bool {
        !self.flags.job && self.inbox.as_ref().is_none_or(|inbox| inbox.events.is_empty())
    }

    /// Begins a request, with the deadline of its head.
    pub fn begin_request(&mut self, now: Instant, reader: HeadReader) {
        self.route = None;
        self.enter(now, Phase::Head { reader, first: false });
    }

    /// Gives the inbox, made if there is none.
    pub fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }
}

/// Comments share wake-ups as pings do.
const GRID: Duration = Duration::from_secs(1);
const GRID_AHEAD: Duration = Duration::from_secs(5);

/// Gives the first moment at which `span` has surely passed since `at`.
fn after(at: Instant, span: Duration) -> Instant {
    at + span + Instant::RESOLUTION
}

// Its slab entry, with a tag, and its wheel entry.
const _: () = assert!(
    size_of::<Connection>() + size_of::<u64>() + Wheel::ENTRY_BYTES
        <= IDLE_CONNECTION_BYTES - SOCKET_PLACE_BYTES,
    "an idle connection costs more than IDLE_CONNECTION_BYTES"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;
    use crate::core::outbox::{Kind, Spares};
    use crate::core::wire::frame::Frame;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    // From 8.3 days on, three times as long was more than moments can be apart: no byte was ever
    // too old.
    #[test]
    fn a_byte_is_too_old_after_three_times_the_stall_and_24_days_at_the_most() {
        for (stall_days, too_old_days) in [(1, 3), (8, 24), (10, 24), (24, 24)] {
            let mut config = Config::default();
            config.deadlines.write_stall = Duration::from_millis(stall_days * DAY_MS);
            let rules = Rules::from(&config);
            let at = |days| Instant::from_millis((1 << 31) + days * DAY_MS);
            let id = ConnectionId::new(0, Generation::FIRST);
            let mut connection = Connection::new(id, Face::Public, Peer::new(None), at(0));
            let reason = CloseReason::Done;
            connection.enter(at(0), Phase::Answering { keep: false, reason, more: None });
            let spares = &mut Spares::default();
            connection.outbox.push(at(0), Frame::raw(vec![0; 100]), Kind::Response, spares);
            let ended = (0..100).find(|&day| {
                // The peer takes a byte every now and then.
                if day < too_old_days {
                    connection.outbox.written(at(day), 1, spares);
                }
                let (due_at, kind) = connection.deadline(&rules, at(day) + Instant::RESOLUTION);
                assert_eq!(kind, DeadlineKind::WriteStall);
                due_at <= at(day) + Instant::RESOLUTION
            });
            assert_eq!(ended, Some(too_old_days), "{stall_days}");
        }
    }
}
