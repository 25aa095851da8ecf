//! One connection: its phase, its moments, its outbox. What may happen next follows from the phase
//! alone.
//!
//! ```text
//!                 ┌──────────────────────── the next request ─────────────────────────┐
//!                 ▼                                                                   │
//!   accepted ─► Head ─────────────┬──────────► Deciding ─────────┬─► Answering ─► KeepAlive
//!                 │ it has a body │ complete      │    │ events  │       │
//!                 └────► Body ────┘               │    └► Stream ┘       │ the last answer
//!                                                 │ 101   its last chunk │ has left
//!                                                 ▼                      │
//!                                               Open                     │
//!                         the peer closes, or     │     the server       │
//!                         a cause that can wait   │     closes           │
//!                            ┌────────────────────┴─────────┐            │
//!   Closing:                 ▼             close frame      ▼    FIN     ▼
//!                         Handling ──────────────────► Sending ──┬──► Lingering ─► gone
//!                                                           │    │
//!                                                           └► Awaiting
//! ```
//!
//! Not drawn: a body that its handler takes in pieces (`upload`: Deciding, Upload, Deciding); a
//! request is refused by an answer wherever it is (Head, Body, KeepAlive: Answering); a connection
//! that is told nothing goes to Lingering at once; and every phase may end at any time.
//! `Connection::enter` and `Closing::enter` assert the arrows, `ending` says what each cause does
//! in each phase.
//!
//! | file | what it holds |
//! |---|---|
//! | `phase` | the phases, what is asked of them, and what comes to them |
//! | `http`, `websocket`, `event_stream`, `closing` | a machine for each, and the arrows that lead to it |
//! | `ending` | how each phase is ended, by each cause |
//! | `effect`, `receive` | what a machine asks of the engine, and what it is lent |
//! | `short_way` | messages that a handler on this thread answers while they are decoded |
//! | `deadline` | when each phase must be looked at: there is none without a deadline |
//! | `flags`, `inbox`, `timers`, `peer_address`, `heartbeat`, `posted`, `sourced`, `upload`, `extra`, `allowance` | what the machines are made of |
//! | `check` | what is so between two steps, asserted |
//!
//! A machine knows no other connection and no topic, and calls nothing of the engine.

pub(crate) mod allowance;
mod check;
pub(crate) mod closing;
mod deadline;
pub(crate) mod effect;
pub(crate) mod ending;
mod event_stream;
mod extra;
mod flags;
pub mod heartbeat;
pub(crate) mod http;
mod inbox;
mod peer_address;
mod phase;
mod posted;
pub(crate) mod receive;
pub(crate) mod short_way;
mod sourced;
mod timers;
mod upload;
mod websocket;

use std::num::NonZeroU16;

use crate::core::admission::credentials::{Credentials, Pass};
#[cfg(feature = "jwt")]
use crate::core::admission::grant::ExpiringToken;
#[cfg(any(feature = "jwt", feature = "client"))]
use crate::core::admission::grant::Grant;
#[cfg(feature = "client")]
use crate::core::admission::grant::LapsingOpinion;
use crate::core::admission::rates::Rates;
use crate::core::admission::rights::{Right, Rights};
use crate::core::admission::tokens::TokenIndex;
use crate::core::config::{IDLE_CONNECTION_BYTES, SOCKET_PLACE_BYTES};
use crate::core::connection::phase::Phase;
use crate::core::contract::event::Session;
use crate::core::contract::route::Face;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::ground::time::{Instant, Moment, SomeMoment};
use crate::core::ground::trace::Trace;
use crate::core::ground::wheel::Wheel;
use crate::core::outbox::Outbox;
use crate::core::topics::FirstSubscription;

pub(crate) use deadline::Spans;
pub(crate) use extra::Extra;
pub(crate) use flags::{Asking, Flags, Leaving, Mark, Marks, Told};
pub(crate) use inbox::{Inbox, take_timer};
pub(crate) use peer_address::PeerAddress;
pub(crate) use posted::Posted;
pub(crate) use sourced::{Sourced, Turn};
pub(crate) use upload::{Remains, Upload};
pub(crate) use websocket::WebSocket;

/// One connection, without its socket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: ConnectionId,
    /// What the listener that accepted the connection is for.
    pub face: Face,
    pub flags: Flags,
    /// The lists in which the connection waits.
    pub marks: Marks,
    phase: Phase,
    pub peer: PeerAddress,
    pub opened_at: Instant,
    /// When the last byte was received.
    pub heard_at: Moment,
    /// When the phase, or the stage of closing, began; less the time in which nothing was read of a
    /// request.
    phase_at: Moment,
    /// Since when nothing is read of a WebSocket, because the application is behind or the peer has
    /// sent too much. (It stands here because `WebSocket` has no room left.)
    paused_at: Option<SomeMoment>,
    pub counters: Counters,
    /// The route, once a request has named one.
    pub route: Option<RouteIndex>,
    /// The token that the last request bore, if tokens are asked for.
    pub token: Option<TokenIndex>,
    pub session: Option<Session>,
    pub subscriptions: FirstSubscription,
    pub outbox: Outbox,
    pub inbox: Option<Box<Inbox>>,
    /// Made when something of it is first needed.
    pub extra: Option<Box<Extra>>,
}

/// A place in the table of routes. An `Option` of it takes two bytes, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Connection {
    pub fn new(id: ConnectionId, face: Face, peer: PeerAddress, now: Instant) -> Connection {
        Connection {
            id,
            face,
            flags: Flags { relink: true, ..Flags::default() },
            marks: Marks::default(),
            phase: Phase::first(),
            peer,
            opened_at: now,
            heard_at: now.into(),
            phase_at: now.into(),
            paused_at: None,
            counters: Counters::default(),
            route: None,
            token: None,
            session: None,
            subscriptions: FirstSubscription::default(),
            outbox: Outbox::default(),
            inbox: None,
            extra: None,
        }
    }

    /// Returns the buckets of its rates, if a rate was counted.
    #[inline]
    pub fn rates(&self) -> Option<&Rates> {
        self.extra.as_ref()?.rates.as_deref()
    }

    /// Returns the buckets of its rates, if a rate was counted.
    pub fn rates_mut(&mut self) -> Option<&mut Rates> {
        self.extra.as_mut()?.rates.as_deref_mut()
    }

    /// Returns who is at the other end, if that is known.
    #[inline]
    pub fn identity(&self) -> Option<&Identity> {
        let extra = self.extra.as_ref()?;
        let identity = extra.identity.as_ref();
        #[cfg(feature = "jwt")]
        let identity = identity.or_else(|| extra.grant.as_ref()?.token.as_ref()?.subject.as_ref());
        identity
    }

    /// Takes note of what the last request was let in by, and of who that says is there: what was
    /// known before holds no longer.
    pub fn admit(&mut self, pass: Pass, identity: Option<Identity>) {
        self.token = pass.line();
        self.identify(identity, None);
        #[cfg(any(feature = "jwt", feature = "client"))]
        match (pass, &mut self.extra) {
            #[cfg(feature = "jwt")]
            (Pass::Grant(grant), extra) => extra.get_or_insert_default().grant = Some(grant),
            (_, Some(extra)) => extra.grant = None,
            (_, None) => {}
        }
    }

    /// Returns whether the messages of `/ws` are CBOR here.
    #[inline]
    pub fn speaks_cbor(&self) -> bool {
        cfg!(feature = "cbor") && self.flags.subprotocol() == Subprotocol::Cbor
    }

    /// Takes note of the trace context of the last request: what was known before holds no longer.
    pub fn note_trace(&mut self, trace: Option<Trace>) {
        if self.extra.is_some() || trace.is_some() {
            self.extra.get_or_insert_default().trace = trace;
        }
    }

    /// Returns the trace context of the last request, if it bore one.
    pub fn trace(&self) -> Option<&Trace> {
        self.extra.as_ref()?.trace.as_ref()
    }

    /// Returns whether the token that the connection came with is still good for something.
    pub fn has_pass(&self) -> bool {
        let has_pass = self.token.is_some();
        #[cfg(feature = "jwt")]
        let has_pass = has_pass || self.expiring_token().is_some_and(|token| token.key.is_some());
        has_pass
    }

    /// Returns whether the connection came with the token of this name, which has this line.
    pub fn came_with(&self, line: Option<TokenIndex>, _name: [u8; 8]) -> bool {
        #[cfg(feature = "jwt")]
        if let Some(token) = self.expiring_token() {
            return token.name == _name;
        }
        line.is_some() && self.token == line
    }

    /// Returns whether the token that the connection came with gives it a right.
    pub fn may(&self, credentials: &Credentials, right: Right, topic: &str) -> bool {
        #[cfg(feature = "jwt")]
        if let Some(token) = self.expiring_token() {
            return token.may(right, topic);
        }
        credentials.may(self.token, right, topic)
    }

    /// Finds the token that the connection came with where it stands now.
    pub fn follow_credentials(&mut self, before: &Credentials, now: &Credentials) {
        self.token = match (&before.tokens, &now.tokens, self.token) {
            (Some(before), Some(now), Some(token)) => now.find_again(before, token),
            _ => None,
        };
        #[cfg(feature = "jwt")]
        if let Some(token) = self.grant_mut().and_then(|grant| grant.token.as_mut()) {
            token.key = match (&before.keys, &now.keys, token.key) {
                (Some(before), Some(now), Some(key)) => now.find_again(before, key),
                _ => None,
            };
        }
    }

    /// Returns the token that the connection came with, if that expires.
    #[cfg(feature = "jwt")]
    fn expiring_token(&self) -> Option<&ExpiringToken> {
        self.grant()?.token.as_ref()
    }

    /// Returns until when the connection is let in, if that has an end.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub fn grant(&self) -> Option<&Grant> {
        self.extra.as_ref()?.grant.as_deref()
    }

    /// Returns until when the connection is let in, if that has an end.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub fn grant_mut(&mut self) -> Option<&mut Grant> {
        self.extra.as_mut()?.grant.as_deref_mut()
    }

    /// Takes note of until when the service lets the last request in.
    #[cfg(feature = "client")]
    pub fn lapse(&mut self, opinion: LapsingOpinion, now: Instant, unix_ms: u64) {
        let extra = self.extra.get_or_insert_default();
        let grant = extra.grant.get_or_insert_with(|| Box::new(Grant::endless(now)));
        grant.opinion = Some(Box::new(opinion));
        grant.follow(now, unix_ms);
    }

    /// Returns what the service has said, if that has an end.
    #[cfg(feature = "client")]
    pub fn lapsing_opinion_mut(&mut self) -> Option<&mut LapsingOpinion> {
        self.grant_mut()?.opinion.as_deref_mut()
    }

    /// Returns whether it waits for what the service says, about its request or about a token.
    #[cfg(feature = "client")]
    pub fn awaits_opinion(&self) -> bool {
        let opinion = self.grant().and_then(|grant| grant.opinion.as_ref());
        self.is_asked() || opinion.is_some_and(|opinion| opinion.renewal.is_some())
    }

    /// Takes note of who asks, and with which rights beside those of the token: what was known
    /// before holds no longer.
    pub fn identify(&mut self, identity: Option<Identity>, rights: Option<Box<Rights>>) {
        if self.extra.is_none() && identity.is_none() && rights.is_none() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        extra.identity = identity;
        extra.rights = rights;
    }

    /// Takes what its request was given so far, beside the rights of a token.
    #[cfg(feature = "client")]
    pub fn take_rights(&mut self) -> Option<Box<Rights>> {
        self.extra.as_mut()?.rights.take()
    }

    /// Returns what `authorize` lets the connection do; `None` if it takes no right away.
    pub fn rights(&self) -> Option<&Rights> {
        self.extra.as_ref()?.rights.as_deref()
    }

    /// Drops the timers of a connection that is not open any more. Returns how many there were.
    pub fn drop_timers(&mut self) -> u64 {
        let timers = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.timers));
        timers.map_or(0, |timers| timers.len() as u64)
    }

    /// Returns until when nothing is read, because the peer has sent too much; `None` if it has
    /// not.
    pub fn reads_at(&self) -> Option<Instant> {
        self.rates()?.read_at
    }

    /// Returns whether a frame is more than may wait for the peer. An empty outbox takes any frame.
    /// The connection's own handler may answer with as many bytes as it was given.
    pub fn overflows(&self, is_own: bool, len: usize, limit: usize) -> bool {
        let waiting = self.outbox.held_bytes();
        let promised = || self.inbox.as_ref().map_or(0, |inbox| inbox.promised);
        let is_more = waiting > 0 && waiting.saturating_add(len) > limit;
        is_more && !(is_own && len <= promised())
    }

    /// Returns whether nothing waits for the handler, none of its jobs is out, and no publication
    /// waits for the answer of a log.
    pub fn is_handled(&self) -> bool {
        self.flags.told != Told::Out
            && self.flags.asking == Asking::No
            && self.inbox.as_ref().is_none_or(|inbox| inbox.events.is_empty())
    }

    /// Returns the inbox, made if there is none.
    pub fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }

    /// Returns when the phase began.
    pub fn phase_at(&self) -> Moment {
        self.phase_at
    }
}

// The slab entry of a connection, with a tag, and its wheel entry.
const _: () = assert!(
    size_of::<Connection>() + size_of::<u64>() + Wheel::ENTRY_BYTES
        <= IDLE_CONNECTION_BYTES - SOCKET_PLACE_BYTES,
    "an idle connection costs more than IDLE_CONNECTION_BYTES"
);
