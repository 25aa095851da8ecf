//! Counters of one server: plain numbers that the loop owns.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::core::config::OverflowPolicy;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::wire::ws::Violation;

/// Everything that a server counts. Counters only grow, and do not overflow in practice.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that got a slot.
    pub accepted: u64,
    /// Connections that were answered 503 without a slot, because `limits.connections` were open.
    pub rejected_connections: u64,
    /// Connections that were answered 429 without a slot, because `limits.connections_per_ip` were
    /// open from their address.
    pub rejected_per_ip: u64,
    /// Connections refused because memory was short.
    pub rejected_memory: u64,
    /// Requests answered 401: without a token, with an unknown one, or with one that is not good.
    pub rejected_tokens: u64,
    /// Requests answered 503 because the wall clock was never set: no end can be judged by it.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub rejected_clock: u64,
    /// Tokens handed in on `/ws` that took the place of those before.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub tokens_renewed: u64,
    /// Tokens handed in on `/ws` that were refused.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub tokens_refused: u64,
    /// Publishes and subscriptions, by requests and on WebSockets, without the right to them.
    pub rejected_rights: u64,
    /// Ends, by [`Transport`] and [`CloseReason::index`].
    pub closed: Ends,
    /// Requests refused for their Host: 421.
    pub rejected_hosts: u64,
    /// Requests refused for their Origin: 403.
    pub rejected_origins: u64,
    /// Upgrades that the route's `authorize` refused.
    pub rejected_by_handlers: u64,
    /// How long connections took to become WebSockets or event streams, in milliseconds: from
    /// accept, or from the first byte of a later request, until the answer was queued.
    pub handshake: Histogram,
    /// Connections upgraded to WebSocket.
    pub upgraded: u64,
    /// HTTP requests, also refused ones, by the class of the answer's status (1xx to 5xx).
    pub answers: [u64; 5],
    /// Event streams begun.
    pub streams: u64,
    /// Bodies of requests that handlers have begun to take in pieces.
    pub uploads: u64,
    /// Those of `uploads` that ended with their connections before the handler was told the end of
    /// the body.
    pub uploads_cut: u64,
    /// Events and subscriptions of the application that were refused: a bad name, too many topics.
    pub publishes_refused: u64,
    /// Verdicts of hooks on what clients publish, by [`HookVerdict`].
    pub hook_verdicts: [u64; HookVerdict::COUNT],
    /// Publications that a log which answers later refused or did not answer in time, and those
    /// that it was not given because too many wait for it.
    pub publishes_unavailable: u64,
    /// Publications of clients of `/ws` that had been sent before, and were not published again.
    pub publishes_repeated: u64,
    /// Trace contexts that were none: they were ignored.
    pub traces_ignored: u64,
    /// Gaps told to subscribers, or counted if the subscriber cannot be told.
    pub gaps: u64,
    /// Subscriptions that began at a valid position: no event was missing.
    pub resumes_complete: u64,
    /// Subscriptions that began at a position after which events were missing.
    pub resumes_gap: u64,
    /// Breaches of RFC 6455 or of a limit on messages, by [`Violation`].
    pub violations: [u64; Violation::COUNT],
    /// Requests that could not be read: malformed, ambiguous or too large.
    pub bad_requests: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes handed to the kernel.
    pub sent_bytes: u64,
    /// WebSocket messages received. Each waits for its handler or is counted once among
    /// `messages_handled`, `messages_panicked` and `messages_cancelled`.
    pub messages_received: u64,
    /// Messages received and given to a handler that returned.
    pub messages_handled: u64,
    /// Messages received and lost to a panic: the one that the handler was given, and those that
    /// waited behind it in the same job.
    pub messages_panicked: u64,
    /// Messages received that no handler got, because the end of their connection came first.
    pub messages_cancelled: u64,
    /// Those of `messages_handled` that were no values for a [`Typed`](crate::Typed) handler, and
    /// those that came behind one: no handler saw them.
    pub messages_undecodable: u64,
    /// WebSocket messages and events queued for a peer. Each waits, was written whole, or is
    /// counted among `messages_discarded`.
    pub messages_sent: u64,
    /// Those of `messages_sent` that were queued for event streams.
    pub messages_streamed: u64,
    /// Bodies published by POST.
    pub messages_posted: u64,
    /// Messages and events queued for a peer that were discarded before they were written whole, by
    /// [`OverflowPolicy`]; `close` counts those that the end of a connection cut off.
    pub messages_discarded: [u64; OverflowPolicy::COUNT],
    /// Messages and events for a peer that were never queued, by [`OverflowPolicy`]; `close` counts
    /// also those for a peer that was gone.
    pub messages_refused: [u64; OverflowPolicy::COUNT],
    /// Messages that were compressed. One that many peers get is compressed once or twice.
    #[cfg(feature = "deflate")]
    pub compressions: u64,
    /// Bytes of messages that left compressed, before they were. One that many peers get counts for
    /// each.
    #[cfg(feature = "deflate")]
    pub deflated_plain_bytes: u64,
    /// What these were on the wire.
    #[cfg(feature = "deflate")]
    pub deflated_bytes: u64,
    /// Bytes of compressed messages that came, as they were on the wire.
    #[cfg(feature = "deflate")]
    pub inflated_bytes: u64,
    /// What came out of these.
    #[cfg(feature = "deflate")]
    pub inflated_plain_bytes: u64,
    /// Bytes queued for peers. Each waits, or is counted among `sent_bytes` or `discarded_bytes`.
    pub queued_bytes: u64,
    /// Bytes queued for peers and then discarded: an end cut them off, an event gave way, or a
    /// newer ping or pong replaced them.
    pub discarded_bytes: u64,
    /// Commands for connections that were gone.
    pub commands_stale: u64,
    /// Pings queued.
    pub pings_sent: u64,
    /// Pings that no byte answered in time.
    pub pings_missed: u64,
    /// Round trips of pings, in milliseconds.
    pub ping_rtt: Histogram,
    /// Connections that missed two pings in a row.
    pub suspects: u64,
    /// Deadlines that acted, by [`DeadlineKind`].
    pub deadlines_fired: [u64; DeadlineKind::COUNT],
    /// How late deadlines acted, in milliseconds.
    pub deadline_lateness: Histogram,
    /// How long handler calls took, in microseconds.
    pub handler_us: Histogram,
    /// Handler calls that panicked.
    pub handler_panics: u64,
    /// Handler calls that ran longer than `deadlines.handler`.
    pub handlers_stuck_total: u64,
    /// Gauge: handler calls that now run longer than `deadlines.handler`.
    pub handlers_stuck: u64,
    /// Timers that were set. Each is pending, or is counted once among `timers_due` and
    /// `timers_cancelled`.
    pub timers_set: u64,
    /// Timers that fell due.
    pub timers_due: u64,
    /// Timers that were cancelled, or whose connection ended first.
    pub timers_cancelled: u64,
    /// Timers that were not set: `limits.timers` were pending.
    pub timers_refused: u64,
    /// Times that the process had been stopped or suspended, so that peers were pinged instead of
    /// ended.
    pub time_jumps: u64,
    /// Times that accepting failed and the loop went on.
    pub accept_errors: u64,
    /// Times that accepting paused, because descriptors or memory had run out.
    pub accept_pauses: u64,
    /// Times that reading from a connection paused, because its peer had sent more than
    /// `limits.messages_per_second` or `limits.bytes_per_second` allow.
    pub read_pauses: u64,
    /// Times that messages began to wait for `limits.send_per_second`.
    pub send_pauses: u64,
    /// Times that accepting paused for `limits.handshakes_per_second`.
    pub handshake_pauses: u64,
    /// Alarms of the early warning: rates that have shifted.
    pub watch_alarms: u64,
    /// Persons of whom it was told that they joined a topic.
    #[cfg(feature = "presence")]
    pub presence_joins: u64,
    /// Persons of whom it was told that they left a topic: each had joined.
    #[cfg(feature = "presence")]
    pub presence_leaves: u64,
    /// Questions for members of topics that do not tell of them.
    #[cfg(feature = "presence")]
    pub presence_refused: u64,
    /// What came of asking the service of `admission.request`.
    #[cfg(feature = "client")]
    pub service: ServiceStats,
    /// Turns of the loop.
    pub turns: u64,
    /// How long turns took, in microseconds, without the wait.
    pub turn_us: Histogram,
    /// What is counted of the canary alone: the part of the canary in figures above.
    pub canary: CanaryStats,
}

/// Counts of ends, by [`Transport`] and [`CloseReason::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends([[u64; CloseReason::COUNT]; Transport::COUNT]);

impl Default for Ends {
    fn default() -> Ends {
        Ends([[0; CloseReason::COUNT]; Transport::COUNT])
    }
}

impl Deref for Ends {
    type Target = [[u64; CloseReason::COUNT]; Transport::COUNT];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Ends {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// What is counted of the clients of [`Canary`](crate::config::Canary). The rest is that of all
/// others.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CanaryStats {
    /// The part of the canary in [`Stats::closed`].
    pub closed: Ends,
    /// The part of the canary in [`Stats::handshake`].
    pub handshake: Histogram,
    /// The part of the canary in [`Stats::ping_rtt`].
    pub ping_rtt: Histogram,
}

/// What came of asking the service that `admission.request` names.
#[cfg(feature = "client")]
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ServiceStats {
    /// Questions that were sent to the service.
    pub asked: u64,
    /// Requests of clients that the service let in.
    pub allowed: u64,
    /// Requests of clients that the service refused: 401 and 403.
    pub refused: u64,
    /// Requests of clients that were answered 503, because the service had no opinion.
    pub failed: u64,
    /// How long the service took for each question, in milliseconds.
    pub took: Histogram,
}

impl Stats {
    /// Returns what became of timers, by name.
    pub(crate) fn timers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [self.timers_set, self.timers_due, self.timers_cancelled, self.timers_refused];
        ["set", "due", "cancelled", "refused"].into_iter().zip(counts)
    }

    /// Returns how many connections ended for this reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed.iter().map(|ends| ends[reason.index()]).sum()
    }

    /// Returns how many connections ended.
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().flatten().sum()
    }

    /// Returns the refusals of connections and of requests, each with its label. The first two are
    /// of connections that got no slot.
    pub fn rejected(
        &self,
    ) -> [(&'static str, u64); 8 + cfg!(any(feature = "jwt", feature = "client")) as usize] {
        [
            ("connections", self.rejected_connections),
            ("per_ip", self.rejected_per_ip),
            ("memory", self.rejected_memory),
            ("host", self.rejected_hosts),
            ("origin", self.rejected_origins),
            ("token", self.rejected_tokens),
            ("right", self.rejected_rights),
            ("handler", self.rejected_by_handlers),
            #[cfg(any(feature = "jwt", feature = "client"))]
            ("clock", self.rejected_clock),
        ]
    }

    /// Returns how many messages and events were lost under a policy, in both directions: received
    /// messages that were not handled count under `close`, as all that an end cuts off.
    pub fn dropped_by(&self, policy: OverflowPolicy) -> u64 {
        let received = match policy {
            OverflowPolicy::Close => self.messages_panicked + self.messages_cancelled,
            _ => 0,
        };
        let policy = policy as usize;
        received + self.messages_discarded[policy] + self.messages_refused[policy]
    }

    /// Returns how many messages and events were lost, in both directions.
    pub fn messages_dropped(&self) -> u64 {
        OverflowPolicy::ALL.into_iter().map(|policy| self.dropped_by(policy)).sum()
    }

    /// Returns how often deadlines of this kind acted.
    pub fn fired(&self, kind: DeadlineKind) -> u64 {
        self.deadlines_fired[kind as usize]
    }
}

/// The state of a loop, as it reports itself ([`Handle::vitals`](crate::Handle::vitals)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Vitals {
    /// The counters.
    pub stats: Stats,
    /// Connections open.
    pub connections: usize,
    /// Handler calls that were requested and have not returned.
    pub jobs: usize,
    /// How late the earliest deadline is.
    pub wheel_late: Duration,
    /// Whether a drain has begun.
    pub is_draining: bool,
}

/// What a hook has made of what a client publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookVerdict {
    /// It is published, perhaps changed.
    Publish,
    /// It is refused.
    Refuse,
    /// The hook has taken it over.
    Take,
    /// The verdict on a POST came when its client had been answered 503, or had gone: nothing was
    /// published.
    Late,
}

impl HookVerdict {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All verdicts.
    pub const ALL: [HookVerdict; HookVerdict::COUNT] =
        [HookVerdict::Publish, HookVerdict::Refuse, HookVerdict::Take, HookVerdict::Late];

    /// Returns its label in `/metrics`.
    pub const fn label(self) -> &'static str {
        match self {
            HookVerdict::Publish => "publish",
            HookVerdict::Refuse => "refuse",
            HookVerdict::Take => "take",
            HookVerdict::Late => "late",
        }
    }
}

/// The purpose of a deadline. Of several due in one tick, the first in this order is the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadlineKind {
    /// `deadlines.handshake`.
    Handshake,
    /// `deadlines.body`.
    Body,
    /// `deadlines.keep_alive`.
    KeepAlive,
    /// `heartbeat.interval`: a ping is due.
    Ping,
    /// `heartbeat.pong`: a pong is overdue.
    Pong,
    /// `deadlines.read_idle`.
    ReadIdle,
    /// `deadlines.message`.
    Message,
    /// `deadlines.write_stall`.
    WriteStall,
    /// `deadlines.close_send`.
    CloseSend,
    /// `deadlines.close_ack`.
    CloseAck,
    /// `deadlines.handler`.
    Handler,
    /// `heartbeat.comment`: a silent event stream gets a comment.
    Comment,
    /// `deadlines.lifetime`.
    Lifetime,
    /// `deadlines.drain`.
    Drain,
    /// `deadlines.stream`.
    Stream,
    /// The end of the connection's token, or of what a service has said.
    #[cfg(any(feature = "jwt", feature = "client"))]
    Auth,
}

impl DeadlineKind {
    /// How many kinds there are.
    pub const COUNT: usize = 15 + cfg!(any(feature = "jwt", feature = "client")) as usize;

    /// All kinds.
    pub const ALL: [DeadlineKind; DeadlineKind::COUNT] = [
        DeadlineKind::Handshake,
        DeadlineKind::Body,
        DeadlineKind::KeepAlive,
        DeadlineKind::Ping,
        DeadlineKind::Pong,
        DeadlineKind::ReadIdle,
        DeadlineKind::Message,
        DeadlineKind::WriteStall,
        DeadlineKind::CloseSend,
        DeadlineKind::CloseAck,
        DeadlineKind::Handler,
        DeadlineKind::Comment,
        DeadlineKind::Lifetime,
        DeadlineKind::Drain,
        DeadlineKind::Stream,
        #[cfg(any(feature = "jwt", feature = "client"))]
        DeadlineKind::Auth,
    ];

    /// Returns the label: the key's name, without its section.
    pub const fn label(self) -> &'static str {
        match self {
            DeadlineKind::Handshake => "handshake",
            DeadlineKind::Body => "body",
            DeadlineKind::KeepAlive => "keep_alive",
            DeadlineKind::Ping => "ping",
            DeadlineKind::Pong => "pong",
            DeadlineKind::ReadIdle => "read_idle",
            DeadlineKind::Message => "message",
            DeadlineKind::WriteStall => "write_stall",
            DeadlineKind::CloseSend => "close_send",
            DeadlineKind::CloseAck => "close_ack",
            DeadlineKind::Handler => "handler",
            DeadlineKind::Comment => "comment",
            DeadlineKind::Lifetime => "lifetime",
            DeadlineKind::Drain => "drain",
            DeadlineKind::Stream => "stream",
            #[cfg(any(feature = "jwt", feature = "client"))]
            DeadlineKind::Auth => "auth",
        }
    }

    /// Returns whether bytes that wait in the socket could move this deadline: one attempt is made
    /// before it acts.
    pub(crate) const fn is_inactivity(self) -> bool {
        matches!(
            self,
            DeadlineKind::ReadIdle
                | DeadlineKind::Pong
                | DeadlineKind::KeepAlive
                | DeadlineKind::WriteStall
                | DeadlineKind::CloseAck
        )
    }
}

/// What a connection has become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// An event stream.
    EventStream,
    /// Plain requests.
    #[default]
    Http,
}

impl Transport {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// All of them.
    pub const ALL: [Transport; Transport::COUNT] =
        [Transport::WebSocket, Transport::EventStream, Transport::Http];

    /// Returns what connections of this transport may have agreed to speak.
    pub const fn subprotocols(self) -> &'static [Subprotocol] {
        match self {
            Transport::WebSocket => &Subprotocol::ALL,
            Transport::EventStream | Transport::Http => &[Subprotocol::None],
        }
    }

    /// Returns the label for log lines and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Transport::Http => "http",
            Transport::WebSocket => "websocket",
            Transport::EventStream => "events",
        }
    }
}

/// Numbers of connections, by [`Transport`], [`PhaseName`] and [`Subprotocol`].
pub type Crowd = [[[u64; Subprotocol::COUNT]; PhaseName::COUNT]; Transport::COUNT];

/// How far a connection has come, in an operator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseName {
    /// The server waits for the first request.
    Handshake,
    /// A request is received, authorized or answered, or the next one is awaited.
    Request,
    /// A WebSocket or an event stream.
    Open,
    /// Its end has begun.
    Closing,
}

impl PhaseName {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All of them.
    pub const ALL: [PhaseName; PhaseName::COUNT] =
        [PhaseName::Handshake, PhaseName::Request, PhaseName::Open, PhaseName::Closing];

    /// Returns the label for metrics and `/connections`.
    pub const fn label(self) -> &'static str {
        match self {
            PhaseName::Handshake => "handshake",
            PhaseName::Request => "request",
            PhaseName::Open => "open",
            PhaseName::Closing => "closing",
        }
    }
}

/// Counts values in buckets with the bounds 1, 2, 4, 8, 20, 40, 80, 200, ... and one bucket for all
/// above the last. There are three to a power of ten, so that 800 ms is a bound in milliseconds and
/// in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Histogram {
    buckets: [u64; Histogram::BUCKETS],
    sum: u64,
    max: u64,
}

impl Histogram {
    /// The greatest value of each bucket but the last, which counts all above.
    pub const BOUNDS: [u64; Histogram::BUCKETS - 1] = bounds();

    /// How many buckets there are.
    pub const BUCKETS: usize = 26;

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_times(value, 1);
    }

    /// Counts a value `times` times.
    pub fn record_times(&mut self, value: u64, times: u32) {
        let times = times.into();
        self.buckets[Histogram::BOUNDS.partition_point(|bound| *bound < value)] += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
        self.max = self.max.max(value);
    }

    /// Makes a histogram of counts by bucket, and of the sum of all values.
    #[cfg(feature = "store")]
    pub fn of(buckets: [u64; Histogram::BUCKETS], sum: u64) -> Histogram {
        Histogram { buckets, sum, max: 0 }
    }

    /// Returns the bucket that counts a value.
    #[cfg(feature = "store")]
    pub fn bucket_of(value: u64) -> usize {
        Histogram::BOUNDS.partition_point(|bound| *bound < value)
    }

    /// Counts a span in milliseconds.
    pub fn record_ms(&mut self, span: Duration) {
        self.record(span.as_millis() as u64);
    }

    /// Adds all values that another histogram has counted.
    pub fn add(&mut self, other: &Histogram) {
        for (bucket, count) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += count;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Returns what is left without the values of another histogram, all of which are in this one.
    /// The greatest value stays.
    pub fn without(&self, other: &Histogram) -> Histogram {
        let mut rest = *self;
        for (bucket, count) in rest.buckets.iter_mut().zip(other.buckets) {
            *bucket -= count;
        }
        rest.sum = rest.sum.saturating_sub(other.sum);
        rest
    }

    /// Returns the counts; bucket `n` counts values up to `BOUNDS[n]` that are above the bound of
    /// the bucket before.
    pub fn buckets(&self) -> &[u64; Histogram::BUCKETS] {
        &self.buckets
    }

    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the greatest value; 0 without values.
    pub fn max(&self) -> u64 {
        self.max
    }
}

const fn bounds() -> [u64; Histogram::BUCKETS - 1] {
    let mut bounds = [1; Histogram::BUCKETS - 1];
    let mut index = 1;
    while index < bounds.len() {
        let digit = [2, 4, 8][(index - 1) % 3];
        bounds[index] = digit * 10u64.pow((index as u32 - 1) / 3);
        index += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_values_up_to_its_bound() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.buckets()[..4], [2, 1, 2, 1]);
        assert_eq!(histogram.buckets()[Histogram::BUCKETS - 1], 1);
        assert_eq!((histogram.count(), histogram.max()), (7, u64::MAX));
    }

    #[test]
    fn the_bounds_of_alerts_are_bounds_of_buckets() {
        assert_eq!(Histogram::BOUNDS[..8], [1, 2, 4, 8, 20, 40, 80, 200]);
        assert!(Histogram::BOUNDS.is_sorted());
        assert!(Histogram::BOUNDS.contains(&800) && Histogram::BOUNDS.contains(&800_000));
        assert_eq!(Histogram::BOUNDS.last(), Some(&80_000_000));
    }

    #[test]
    fn adding_counts_all_of_the_other() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        [1, 5].into_iter().for_each(|value| one.record(value));
        [5, 100].into_iter().for_each(|value| other.record(value));
        one.add(&other);
        assert_eq!((one.count(), one.sum(), one.max(), one.buckets()[3]), (4, 111, 100, 2));
    }
}
