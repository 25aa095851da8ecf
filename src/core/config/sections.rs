//! The sections of a [`Config`](super::Config): the meaning of each value, its default and its
//! cost.
//!
//! Durations are from 1 ms to 24 days (see [`crate::core::ground::time`]); `None` is `off`.

use std::path::PathBuf;
use std::time::Duration;

use super::Networks;
use crate::core::admission::cohort::CohortKey;
#[cfg(feature = "presence")]
use crate::core::admission::patterns::Patterns;
use crate::core::ground::cohort::Cohort;
use crate::core::wire::http::{Forwarded, Hosts, Origins, Request};

/// Who may connect to a Unix socket: each user who may write to its file (unix(7)).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Unix {
    /// The permissions of its file. Default 600: only its owner; 660 lets a group in.
    pub mode: u32,
    /// Its owner and group, looked up when it is bound. Default: those of the process.
    pub owner: Option<Owner>,
}

impl Default for Unix {
    fn default() -> Unix {
        Unix { mode: 0o600, owner: None }
    }
}

/// A user, a group or both, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The user; `None` keeps the process's own.
    pub user: Option<String>,
    /// The group; `None` keeps the process's own.
    pub group: Option<String>,
}

/// How much one turn of the loop may do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// Readiness events taken per turn. Default 1024, 1 to 65536; each takes 12 bytes once.
    pub events: usize,
    /// Bytes read in one turn, plus 128 for each message decoded or delivered, plus the bytes of
    /// long texts that are encoded while they are written. Default 256 KiB.
    ///
    /// The rest is ready in the next turn, before new events. At least one read per turn is always
    /// done.
    pub bytes: usize,
}

/// What the program serves beside topics.
#[cfg(feature = "streams")]
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Serve {
    /// A folder whose files are served at `/`, without a token; the status page moves to `/status`.
    /// Default none. Only for the program; a library calls
    /// [`Builder::files`](crate::Builder::files).
    pub files: Option<PathBuf>,
}

/// How long each step of a connection may take.
///
/// `handshake`, `body`, `message`, `close_*`, `lifetime` and `drain` are absolute: bytes do not
/// extend them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Deadlines {
    pub(super) preset: Preset,
    /// From accept, or the first byte of a later request, to its complete head; and again from
    /// there to the beginning of the answer. A publication waits as long for a log that answers
    /// later. Default 5 s.
    pub handshake: Duration,
    /// From the head to the complete request body. A body that its handler takes in pieces must
    /// bring 16 KiB, or its end, within each such span in which it is read. Default 10 s.
    pub body: Duration,
    /// From the response to the first byte of the next request; empty lines do not count. Default
    /// 75 s, longer than balancers and pools keep a connection (60 s).
    ///
    /// Each answer tells it, in whole seconds: `Keep-Alive: timeout=75`.
    pub keep_alive: Duration,
    /// From the last byte received to the end, WebSocket only. Default 60 s.
    ///
    /// It must be longer than [`Heartbeat::interval`], and may be off only if heartbeats are on.
    pub read_idle: Option<Duration>,
    /// From the first byte of a WebSocket message to its last: a slow drip is not activity. Default
    /// 30 s.
    pub message: Duration,
    /// How long bytes may wait while the peer accepts none. Default 10 s. The oldest byte may wait
    /// three times as long, but at most 24 days.
    pub write_stall: Duration,
    /// How long an answer in pieces waits for the next piece while the peer waits, too. Default 30
    /// s. Event streams wait without end: they have `heartbeat.comment`.
    pub stream: Duration,
    /// From the decision to close to the close frame with the kernel. Default 5 s, by [`Preset`].
    pub close_send: Duration,
    /// From the close frame to the peer's; and again from there to its EOF. Default 3 s, by
    /// [`Preset`].
    pub close_ack: Duration,
    /// A handler call that runs longer is counted and logged as stuck; nothing is ended. Default 30
    /// s.
    pub handler: Option<Duration>,
    /// From open to a close with 1001, with the jitter of the heartbeat. Default off.
    pub lifetime: Option<Duration>,
    /// From the beginning of a drain to the drop of all connections still open. Default 30 s.
    pub drain: Duration,
}

impl Deadlines {
    /// Returns the preset that was chosen last.
    ///
    /// Choose one by `config.set("deadlines.preset", "strict")`.
    pub fn preset(&self) -> Preset {
        self.preset
    }
}

/// A choice of closing deadlines in one word; a key that is set on its own wins over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// `close_send` 10 s, `close_ack` 10 s: slow or distant peers.
    Relaxed,
    /// `close_send` 5 s, `close_ack` 3 s.
    #[default]
    Balanced,
    /// `close_send` 2 s, `close_ack` 1 s: peers nearby, slots are scarce.
    Strict,
}

impl Preset {
    pub(super) const fn close_send(self) -> Duration {
        Duration::from_secs(match self {
            Preset::Relaxed => 10,
            Preset::Balanced => 5,
            Preset::Strict => 2,
        })
    }

    pub(super) const fn close_ack(self) -> Duration {
        Duration::from_secs(match self {
            Preset::Relaxed => 10,
            Preset::Balanced => 3,
            Preset::Strict => 1,
        })
    }
}

/// When to ping a silent peer, and when to give it up.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Nothing received for this long: ping. Default 30 s; `None` sends none.
    pub interval: Option<Duration>,
    /// Each interval is random, from `interval` x (1 - jitter .. 1). Default 0.3, 0 to 1.
    ///
    /// With less jitter, connections that came together are pinged together.
    pub jitter: f64,
    /// From the ping with the kernel to any byte received; else the ping is missed. Default 10 s.
    pub pong: Duration,
    /// This many pings missed in a row: closed. Default 3, 1 to 100.
    pub max_missed: u32,
    /// Takes the pong wait from the measured round trip, and lengthens the interval while all pings
    /// are answered. Default false.
    pub adaptive: bool,
    /// The shortest interval if `adaptive`. Default 5 s.
    pub min: Duration,
    /// The longest interval if `adaptive`. Default 5 min.
    pub max: Duration,
    /// An event stream silent for this long gets a comment line. Default 15 s.
    pub comment: Duration,
}

/// How large things may grow.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; more get 503 at accept. Default 10000, 1 to 10 million; each costs
    /// [`IDLE_CONNECTION_BYTES`](super::IDLE_CONNECTION_BYTES) at most when idle.
    pub connections: usize,
    /// Connections from one address at once; more get 429 at accept. Default 0, which is off; at
    /// most 10 million. An IPv6 network of 64 bits counts as one address; loopback, Unix sockets
    /// and the operator's listeners do not count.
    pub connections_per_ip: u32,
    /// Connections accepted in a second, twice as many at once; the others wait to be accepted.
    /// Default 0, which is off; at most a million. The operator's do not count.
    pub handshakes_per_second: u32,
    /// TLS handshakes that hold state at once, each about 8 kB. Default 256, 1 to 65536. Beyond
    /// it complete hellos wait, of which the newest is next, and a handshake that waits for its
    /// peer makes room: in half of the places after 50 to 250 ms, the sooner the more hellos come
    /// and stall; in the others after 2 s. Accepting goes on.
    #[cfg(feature = "tls")]
    pub handshaking: usize,
    /// Bytes of a request head; more get 431. Default 8 KiB, at most 1 MiB; held only while a head
    /// is incomplete. A trailer section behind a body may be as long.
    pub head_bytes: usize,
    /// Header lines of a request, and lines of a trailer section; more get 431. Default 64, 1 to
    /// 1024.
    pub headers: usize,
    /// Bytes of one WebSocket message or request body; more get 1009 or 413. Default 1 MiB, at most
    /// 1 GiB.
    ///
    /// Each connection may hold this much of an incomplete message: what was received, not what was
    /// announced.
    pub message_bytes: u64,
    /// Fragments of one message, with empty ones; more get 1008. Default 1024, 1 to a million.
    pub fragments: u32,
    /// Decoded messages of one connection that wait for its handler; with more, reading pauses.
    /// Default 64, 1 to 65536.
    pub inbox_messages: usize,
    /// Bytes of the messages that wait for the handler; one always fits. Default 256 KiB, at most 1
    /// GiB.
    pub inbox_bytes: usize,
    /// Timers of one connection that are pending, those included that wait for its handler; and
    /// timers of the server's own. Default 16, at most 256.
    pub timers: usize,
    /// Bytes that wait for one peer, and 128 for each entry (a message or an event, or many small
    /// messages together). An empty outbox takes one message of any size; for more see
    /// [`Overflow`]. Default 256 KiB, at most 1 GiB.
    pub outbox_bytes: usize,
    /// Bytes of incomplete messages, inboxes, outboxes, commands and topic logs together; a frame
    /// that waits for many peers counts once. 1 MiB to 1 TiB. Default `None`, in text `auto`: a
    /// quarter of the least of the machine's memory, the control group's, and what `RLIMIT_AS` and
    /// `RLIMIT_DATA` leave free at the start, without the part of the worker threads.
    ///
    /// Logs keep within half of it. Beyond 80% they shrink further, down to nothing. If that does
    /// not help, new connections and POSTs are refused with 503 and publishers are not read. Beyond
    /// all of it the connection with most bytes of its own is closed, with 1013.
    pub memory_bytes: Option<u64>,
    /// WebSocket messages, or requests, of one peer in a second, twice as many at once; for more
    /// see [`Limits::rate_action`]. Default 0, which is off; at most a million. The operator's
    /// connections have no rates.
    pub messages_per_second: u32,
    /// Bytes of one peer in a second, twice as many at once; for more see [`Limits::rate_action`].
    /// Default 0, which is off; at most 1 GiB.
    pub bytes_per_second: u64,
    /// What happens to a peer that sends more. Default [`RateAction::Pause`].
    pub rate_action: RateAction,
    /// Messages and events to one peer in a second, twice as many at once; the others wait in its
    /// outbox. Default 0, which is off; at most a million.
    pub send_per_second: u32,
    /// Pings from one peer in a second; more get 1008. Default 10, 1 to a million.
    pub pings_per_second: u32,
    /// Topics; more get 503 or an `error` message. Default 1024, 1 to a million.
    pub topics: usize,
    /// Subscriptions of one connection. Default 64, 1 to 65536.
    pub subscriptions: usize,
}

/// What happens to a peer that sends more than it may in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateAction {
    /// The server does not read from the peer until it may send again. Deadlines that wait for its
    /// bytes are paused meanwhile.
    #[default]
    Pause,
    /// Its connection ends: 1008, or 429 to a request.
    Close,
}

/// What topics retain, so that a client that was away can resume.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Topics {
    /// Events of one topic. Default 256, at most a million.
    pub retain_events: usize,
    /// Bytes of their payloads. Default 1 MiB, at most 1 GiB.
    pub retain_bytes: usize,
    /// Their age. Default 10 min.
    pub retain_for: Duration,
    /// The topics whose members are known, and told to those who ask. Default none. The server's
    /// own topics have none.
    #[cfg(feature = "presence")]
    pub presence: Patterns,
    /// How many members of a topic are named; of more, only their number is told. Default 1000, at
    /// most 10000.
    #[cfg(feature = "presence")]
    pub presence_members: usize,
}

impl Default for Topics {
    fn default() -> Topics {
        Topics {
            retain_events: 256,
            retain_bytes: 1 << 20,
            retain_for: Duration::from_secs(600),
            #[cfg(feature = "presence")]
            presence: Patterns::default(),
            #[cfg(feature = "presence")]
            presence_members: 1000,
        }
    }
}

/// What happens to a message for a full outbox.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Overflow {
    /// What gives way. Default [`OverflowPolicy::Close`].
    pub policy: OverflowPolicy,
}

/// Which messages of WebSockets are compressed (permessage-deflate, RFC 7692).
#[cfg(feature = "deflate")]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Compression {
    /// Whether compression is agreed on with clients that offer it. Default off.
    pub mode: CompressionMode,
    /// What an event is compressed against. Default the event that its client got last.
    pub history: CompressionHistory,
    /// How hard the compressor looks for what is repeated. Default 6, 1 (fast) to 9.
    pub level: u8,
    /// The shortest event that is compressed, in bytes, where there is a history. Default 64, 1 to
    /// 1 GiB. All else that is compressed has at least 512 bytes, whatever this says: by itself a
    /// shorter message would hardly shrink.
    pub min_bytes: usize,
}

#[cfg(feature = "deflate")]
impl Default for Compression {
    fn default() -> Compression {
        Compression {
            mode: CompressionMode::Off,
            history: CompressionHistory::Message,
            level: 6,
            min_bytes: 64,
        }
    }
}

/// Whether messages are compressed.
#[cfg(feature = "deflate")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionMode {
    /// Every offer of a client is declined.
    #[default]
    Off,
    /// An offer is accepted.
    On,
}

/// What an event is compressed against.
#[cfg(feature = "deflate")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionHistory {
    /// Nothing: each message is compressed by itself.
    Off,
    /// The event before it in its topic, if that is the compressed message that the client got
    /// last: it is in the window that the client keeps anyway. Not with a client that asks for
    /// `server_no_context_takeover`.
    #[default]
    Message,
}

/// What gives way when an outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverflowPolicy {
    /// The connection: it is closed with 1013.
    #[default]
    Close,
    /// The new event: it is not queued. The peer is told of a gap before its next event, or when
    /// the outbox has drained. Messages of handlers still close the connection.
    DropNewest,
    /// The oldest event that waits and has not begun; a gap is told in its place.
    DropOldest,
    /// All but the newest event of each topic; gaps are told in their places.
    Latest,
}

impl OverflowPolicy {
    /// How many policies there are.
    pub const COUNT: usize = 4;

    /// All policies.
    pub const ALL: [OverflowPolicy; OverflowPolicy::COUNT] = [
        OverflowPolicy::Close,
        OverflowPolicy::DropNewest,
        OverflowPolicy::DropOldest,
        OverflowPolicy::Latest,
    ];

    /// Returns the word for it in the configuration and in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            OverflowPolicy::Close => "close",
            OverflowPolicy::DropNewest => "drop_newest",
            OverflowPolicy::DropOldest => "drop_oldest",
            OverflowPolicy::Latest => "latest",
        }
    }
}

/// Whom proxies in front are believed to connect for.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Proxy {
    /// Whose PROXY headers and forwarded lines are believed. Addresses that begin with `proxy:` or
    /// `proxy+tls:` need it. Default none.
    pub trusted: Networks,
    /// The header lines in which they name the client of each request. Default none.
    pub forwarded: Forwarded,
}

/// Who may connect.
#[cfg_attr(not(feature = "client"), derive(Default))]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Admission {
    /// The origins admitted; else 403. Default `same`.
    pub origins: Origins,
    /// The host names answered on the public listeners; else 421. Default `auto`. `/healthz` and
    /// `/readyz` answer to every name, here and on the operator's listener.
    pub hosts: Hosts,
    /// The host names answered on the operator's listener; else 421. Default `auto`.
    pub admin_hosts: Hosts,
    /// The file of tokens and their rights, as
    /// [`Tokens::parse`](crate::core::admission::tokens::Tokens::parse) reads it; with it the
    /// public routes need a token. Default none.
    pub tokens: Option<PathBuf>,
    /// The URL of a service that is asked before each request that would need a token. Default
    /// none.
    #[cfg(feature = "client")]
    pub request: Option<String>,
    /// The header lines that are passed to it. Default `Authorization`, `Cookie`, `Origin`.
    #[cfg(feature = "client")]
    pub request_headers: super::PassedHeaders,
    /// How long what it says counts for requests that are the same in all that was passed; `None`
    /// for each alone. Default 10 s. At most 4,096 answers are kept, and 2 MiB of them.
    #[cfg(feature = "client")]
    pub request_cache: Option<Duration>,
    /// What becomes of a connection whose identity connects again. Default [`Takeover::Off`].
    pub takeover: Takeover,
    /// The file of the keys by which tokens are signed that expire, as
    /// [`Keys::parse`](crate::core::admission::jwt::Keys::parse) reads it; with it the public
    /// routes need a token. Default none. Where `tokens` is set, too, either will do.
    #[cfg(feature = "jwt")]
    pub jwt: Option<PathBuf>,
    /// What `iss` of such a token must be. Default none: anything, or nothing, will do.
    #[cfg(feature = "jwt")]
    pub jwt_issuer: Option<String>,
    /// What must be in `aud` of such a token. Default none: a token with `aud` is refused.
    #[cfg(feature = "jwt")]
    pub jwt_audience: Option<String>,
    /// What becomes of connections whose token a reload has removed. Default [`Revoke::Keep`].
    pub revoke: Revoke,
}

#[cfg(feature = "client")]
impl Default for Admission {
    fn default() -> Admission {
        Admission {
            origins: Origins::default(),
            hosts: Hosts::default(),
            admin_hosts: Hosts::default(),
            tokens: None,
            takeover: Takeover::Off,
            request: None,
            request_headers: super::PassedHeaders::default(),
            request_cache: Some(Duration::from_secs(10)),
            #[cfg(feature = "jwt")]
            jwt: None,
            #[cfg(feature = "jwt")]
            jwt_issuer: None,
            #[cfg(feature = "jwt")]
            jwt_audience: None,
            revoke: Revoke::default(),
        }
    }
}

/// What becomes of a connection whose token a reload has removed, or the key of its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revoke {
    /// The connection stays, and what it is subscribed to. It has no right to more.
    #[default]
    Keep,
    /// A WebSocket or an event stream ends: 3000.
    Close,
}

/// Early warning, in the program: rates that shift for no reason that the server knows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Watch {
    /// How often the figures are read, one wake-up each; `None`, the default, never.
    pub interval: Option<Duration>,
    /// The part of each sample's distance from the usual that is not summed up, in standard
    /// deviations. Default 0.5, 0 to 1.
    pub drift: f64,
    /// The sum that makes an alarm, in standard deviations. Default 8, 1 to 1000.
    pub threshold: u32,
    /// The directory for a snapshot of figures and connections at an alarm. Default none.
    pub dir: Option<PathBuf>,
    /// How many snapshots are kept, the newest. Default 8, 1 to 1000.
    pub snapshots: usize,
}

/// What becomes of an open WebSocket or event stream when its identity connects again to the same
/// route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// Both stay.
    #[default]
    Off,
    /// A WebSocket is pinged, and ends if no byte comes within `heartbeat.pong`; an event stream,
    /// whose client cannot answer, ends at once.
    Probe,
    /// It ends at once.
    Newest,
}

/// Which share of the clients is the canary, whose ends, handshakes and round trips are counted
/// apart.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Canary {
    /// How much of a hundred, with two decimals. Default 0: there are no cohorts.
    pub percent: f64,
    /// What names a client. Default `header:X-Device-Id`.
    pub key: CohortKey,
    /// What stands before the key in the hash, at most 64 bytes: another one draws other clients.
    /// Default empty.
    pub salt: String,
}

impl Canary {
    /// Returns the cohort of a request's client, if there are cohorts.
    pub(crate) fn cohort(&self, request: &Request) -> Option<Cohort> {
        let hundredths = (self.percent * 100.0).round() as u32;
        (hundredths > 0).then(|| self.key.cohort(request, hundredths, &self.salt))
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { interval: None, drift: 0.5, threshold: 8, dir: None, snapshots: 8 }
    }
}

impl Default for Turn {
    fn default() -> Turn {
        Turn { events: 1024, bytes: 256 << 10 }
    }
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        let preset = Preset::default();
        Deadlines {
            preset,
            handshake: Duration::from_secs(5),
            body: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            read_idle: Some(Duration::from_secs(60)),
            message: Duration::from_secs(30),
            write_stall: Duration::from_secs(10),
            stream: Duration::from_secs(30),
            close_send: preset.close_send(),
            close_ack: preset.close_ack(),
            handler: Some(Duration::from_secs(30)),
            lifetime: None,
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            interval: Some(Duration::from_secs(30)),
            jitter: 0.3,
            pong: Duration::from_secs(10),
            max_missed: 3,
            adaptive: false,
            min: Duration::from_secs(5),
            max: Duration::from_secs(5 * 60),
            comment: Duration::from_secs(15),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            connections_per_ip: 0,
            handshakes_per_second: 0,
            #[cfg(feature = "tls")]
            handshaking: 256,
            head_bytes: 8 << 10,
            headers: 64,
            message_bytes: 1 << 20,
            fragments: 1024,
            inbox_messages: 64,
            timers: 16,
            inbox_bytes: 256 << 10,
            outbox_bytes: 256 << 10,
            memory_bytes: None,
            messages_per_second: 0,
            bytes_per_second: 0,
            rate_action: RateAction::Pause,
            send_per_second: 0,
            pings_per_second: 10,
            topics: 1024,
            subscriptions: 64,
        }
    }
}

/// How connections are made: see [`Link`](crate::Link).
#[cfg(feature = "client")]
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Client {
    /// For the host's name to be looked up. Default 5 s.
    pub resolve: Duration,
    /// For one of the host's addresses to be connected to, and for a proxy's answer. Default 5 s.
    pub connect: Duration,
    /// For the TLS handshake. Default 5 s.
    pub secure: Duration,
    /// For the answer to the upgrade. Default 5 s.
    pub upgrade: Duration,
    /// The longest wait before the first retry; each retry doubles it. Default 1 s.
    pub delay: Duration,
    /// The longest wait before any retry. Default 30 s.
    pub delay_max: Duration,
    /// From then on a connection counts as one that held, and the waits begin anew. Default 10 s.
    pub stable: Duration,
    /// Over how long failed tries are counted: 40% of at least five are told, 70% open the breaker.
    /// Default 60 s.
    pub window: Duration,
    /// How long the breaker stays open the first time; each failed probe doubles it, up to 30
    /// minutes. Default 5 min.
    pub broken_for: Duration,
    /// Bytes of publications that wait for their answer. Default 64 KiB.
    pub pending_bytes: usize,
    /// What a client keeps of the compressed messages of its server, for later ones to refer to, in
    /// bytes; of other numbers the next lower power of two. Default 32 KiB, the most; 512 at least.
    #[cfg(feature = "deflate")]
    pub history_bytes: usize,
    /// An HTTP proxy, `http://HOST:PORT`, through which connections are made by CONNECT (RFC 9110,
    /// 9.3.6). Default none.
    pub proxy: Option<String>,
}

#[cfg(feature = "client")]
impl Default for Client {
    fn default() -> Client {
        let [phase, minute] = [Duration::from_secs(5), Duration::from_secs(60)];
        Client {
            resolve: phase,
            connect: phase,
            secure: phase,
            upgrade: phase,
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(30),
            stable: Duration::from_secs(10),
            window: minute,
            broken_for: 5 * minute,
            pending_bytes: 64 << 10,
            #[cfg(feature = "deflate")]
            history_bytes: 32 << 10,
            proxy: None,
        }
    }
}
