//! The worst case: the memory that the limits allow if every connection takes its most at once.
//!
//! It is a ceiling, not a forecast: an idle connection costs only its slot. The kernel's socket
//! buffers and the memory of handlers are not in it.

use super::{Address, Config};
#[cfg(any(feature = "jwt", feature = "client"))]
use crate::core::admission::grant::Grant;
#[cfg(feature = "client")]
use crate::core::admission::grant::LapsingOpinion;
#[cfg(feature = "jwt")]
use crate::core::admission::jwt;
use crate::core::admission::rates::Rates;
#[cfg(any(feature = "jwt", feature = "client", feature = "presence"))]
use crate::core::ground::identity::Identity;
use crate::core::topics::log::Log;
#[cfg(feature = "presence")]
use crate::core::topics::presence::Presence;
use crate::core::wire::http::Forwarded;
#[cfg(feature = "presence")]
use crate::core::wire::hub;
use crate::core::wire::proxy_header::PROXY_HEADER_BYTES_MAX;

/// One part of the worst case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Term {
    /// What takes the memory.
    pub what: &'static str,
    /// How many of them there may be.
    pub count: u64,
    /// The most bytes that each takes.
    pub bytes: u64,
    /// Whether `limits.memory_bytes` bounds it, together with all other such parts.
    pub is_budgeted: bool,
}

impl Term {
    /// Returns the bytes of all of them, capped at `u64::MAX`.
    pub fn total(&self) -> u64 {
        self.count.saturating_mul(self.bytes)
    }
}

impl Config {
    /// Returns the parts of the worst case; their sum is the ceiling.
    pub fn worst_case(&self) -> Vec<Term> {
        let limits = &self.limits;
        let message = limits.message_bytes;
        // An empty queue takes any message, so a queue holds its limit or one message.
        let inbox = message.max(limits.inbox_bytes as u64);
        // Its entries count in the limit; a queue that has just grown takes a third more.
        let outbox = message.max((limits.outbox_bytes as u64).saturating_mul(4) / 3);
        // A connection is in one phase: either a head or a message is incomplete, not both.
        let partial = message.max(limits.head_bytes as u64);
        let connections = limits.connections as u64;
        let fixed = |what, count, bytes| Term { what, count, bytes, is_budgeted: false };
        let budgeted = |what, count, bytes| Term { what, count, bytes, is_budgeted: true };
        let mut terms = vec![
            // Slab entry and wheel entry.
            fixed("connection itself", connections, IDLE_CONNECTION_BYTES as u64),
            // The count of its address, if each had another address.
            fixed(
                "count of its address",
                connections,
                if limits.connections_per_ip == 0 { 0 } else { ADDRESS_BYTES },
            ),
            // Its buckets, if there is a rate.
            fixed("rates", connections, if self.has_rates() { RATES_BYTES } else { 0 }),
            // What its handler has set, if it sets as many as it may.
            fixed(
                "timers",
                connections,
                match limits.timers as u64 {
                    0 => 0,
                    timers => EXTRA_BYTES + 16 + timers * TIMER_BYTES,
                },
            ),
            // One buffer to read into, shared by all.
            fixed("shared buffer", 1, READ_BUFFER_BYTES),
            // Where poll puts its events: one epoll_event each.
            fixed("readiness event", self.turn.events as u64, 12),
            // The heads of the lists of deadlines.
            fixed("wheel slot", WHEEL_SLOTS, 4),
            // The part that has come of an incomplete head, body or message.
            budgeted("incomplete message", connections, partial),
            // The rest of one read, which waits because the inbox is full.
            budgeted("read but not decoded", connections, READ_BUFFER_BYTES),
            // Messages that wait for the handler.
            budgeted("inbox", connections, inbox),
            // Frames that wait for the peer, if none of them were shared.
            budgeted("outbox", connections, outbox),
            // A job takes an inbox along; the connection can fill another meanwhile.
            budgeted("job", self.jobs_max(), inbox),
            // What topics retain for clients that come back.
            budgeted(
                "topic log",
                limits.topics as u64,
                self.topics.retain_bytes as u64
                    + (self.topics.retain_events * Log::EVENT_BYTES) as u64,
            ),
            // Commands that the loop has not taken yet; one always fits.
            budgeted("commands", 1, message.max(COMMAND_BYTES)),
        ];
        #[cfg(feature = "presence")]
        if !self.topics.presence.is_empty() {
            let each = MEMBER_BYTES * limits.subscriptions as u64;
            terms.push(budgeted("member of topics", connections, each));
        }
        terms.extend(self.ahead_of_http());
        #[cfg(feature = "client")]
        terms.extend(self.opinions_term());
        terms.extend(self.log_terms());
        terms
    }

    /// Returns what waits for a log that is not in memory.
    fn log_terms(&self) -> Vec<Term> {
        let terms = Vec::new();
        #[cfg(feature = "store")]
        let terms: Vec<Term> = terms.into_iter().chain(self.store_term()).collect();
        #[cfg(feature = "cluster")]
        let terms: Vec<Term> = terms.into_iter().chain(self.cluster_terms()).collect();
        terms
    }

    /// Returns what is kept of what comes before HTTP, and of who is in front.
    fn ahead_of_http(&self) -> Vec<Term> {
        let limits = &self.limits;
        let has =
            |is_so: fn(&Address) -> bool| self.listen.iter().chain(&self.admin_listen).any(is_so);
        let fixed = |what, count: usize, bytes| Term {
            what,
            count: count as u64,
            bytes,
            is_budgeted: false,
        };
        let mut terms = Vec::new();
        if has(Address::is_proxy) {
            terms.push(fixed("PROXY header", limits.connections, PROXY_HEADER_BYTES_MAX as u64));
        }
        if self.proxy.forwarded != Forwarded::Off {
            terms.push(fixed("its proxy", limits.connections, ADDRESS_BYTES));
        }
        #[cfg(feature = "jwt")]
        if self.admission.jwt.is_some() {
            terms.push(fixed("token that expires", limits.connections, GRANT_BYTES));
        }
        #[cfg(feature = "client")]
        if self.admission.request.is_some() {
            let what = "end that the service has named";
            let question = limits.head_bytes as u64 + QUESTION_OWN_BYTES;
            terms.push(fixed(what, limits.connections, LAPSE_BYTES + question));
        }
        #[cfg(feature = "tls")]
        if has(Address::is_tls) {
            terms.push(fixed("its keys of TLS", limits.connections, TLS_CONNECTION_BYTES));
            terms.push(fixed("TLS handshake", limits.handshaking, HANDSHAKE_BYTES));
        }
        terms
    }

    /// Returns what the answers of the service of `admission.request` take, if they are kept.
    #[cfg(feature = "client")]
    fn opinions_term(&self) -> Option<Term> {
        self.admission.request.as_ref().and(self.admission.request_cache)?;
        let bytes = OPINION_BYTES_MAX as u64;
        Some(Term { what: "answers of the service", count: 1, bytes, is_budgeted: false })
    }

    fn has_rates(&self) -> bool {
        let limits = &self.limits;
        limits.messages_per_second > 0 || limits.bytes_per_second > 0 || limits.send_per_second > 0
    }

    /// Returns the most jobs that can be under way: the queue and one with each worker; one on the
    /// loop thread.
    fn jobs_max(&self) -> u64 {
        let jobs = if self.workers == 0 { 1 } else { JOBS_QUEUED_MAX + self.workers as u64 };
        jobs.min(self.limits.connections as u64)
    }
}

/// The most bytes that an idle connection costs: its slab entry, its wheel entry and the place of
/// its socket. It owns no heap. The compiler checks all three against this.
pub const IDLE_CONNECTION_BYTES: usize = 240;

/// The bytes of the socket's place in it: eight, but more with mio's debug assertions.
pub(crate) const SOCKET_PLACE_BYTES: usize = 24;

/// An entry of a hash table that has just grown: 16 bytes and a tag, less than half full.
const ADDRESS_BYTES: u64 = 40;

/// What is known of a token that expires: its box, that of what few connections have, the longest
/// name, and patterns as long as the longest token can bear.
#[cfg(feature = "jwt")]
const GRANT_BYTES: u64 = EXTRA_BYTES
    + size_of::<Grant>() as u64
    + 16
    + 2 * 16
    + Identity::BYTES_MAX as u64
    + jwt::BYTES_MAX as u64 / 4 * 3;

/// What is known of an end that the service has named, without what was asked: its boxes, and the
/// longest name.
#[cfg(feature = "client")]
const LAPSE_BYTES: u64 = EXTRA_BYTES
    + size_of::<Grant>() as u64
    + size_of::<LapsingOpinion>() as u64
    + 3 * 16
    + Identity::BYTES_MAX as u64;

/// What is asked of the service beside the lines of the request: its URL, and the names of lines.
#[cfg(feature = "client")]
const QUESTION_OWN_BYTES: u64 = 512;

/// The box of a connection over TLS, with what the allocator adds.
#[cfg(feature = "tls")]
const TLS_CONNECTION_BYTES: u64 = 240;

/// What is kept of answers of the service of `admission.request`, with what was asked.
#[cfg(feature = "client")]
pub(crate) const OPINION_BYTES_MAX: usize = 2 << 20;

/// A member of a topic, with the longest name, the longest that it may say of itself, and what is
/// untold of it.
#[cfg(feature = "presence")]
const MEMBER_BYTES: u64 =
    (Presence::MEMBER_BYTES + Presence::UNTOLD_BYTES + Identity::BYTES_MAX + hub::INFO_BYTES_MAX)
        as u64;

/// A handshake at its widest: rustls's state, and a flight of either side.
#[cfg(feature = "tls")]
const HANDSHAKE_BYTES: u64 = 12 << 10;

/// The buckets of one connection, with the overhead of the allocator.
const RATES_BYTES: u64 = 80 + EXTRA_BYTES;

const _: () = assert!(size_of::<Rates>() as u64 + 16 <= RATES_BYTES - EXTRA_BYTES);

/// The box of what few connections have; with room for the overhead of the allocator.
pub(crate) const EXTRA_BYTES: u64 = 128;

/// A pending timer of a connection.
pub(crate) const TIMER_BYTES: u64 = 16;

/// The loop's read buffer, and the most that one connection keeps of a read. Messages of 1 MiB cost
/// a tenth less with it than with 64 KiB; with more than 127 KiB bare bytes cost more.
pub(crate) const READ_BUFFER_BYTES: u64 = 120 << 10;

/// The most bytes of commands under way.
const COMMAND_BYTES: u64 = 4 << 20;

/// The most jobs that wait for a worker.
pub(crate) const JOBS_QUEUED_MAX: u64 = 256;

/// The slots of the timing wheel.
const WHEEL_SLOTS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_what_every_connection_may_take_at_once() {
        let mut config = Config::default();
        config.limits.connections = 10;
        config.limits.message_bytes = 1000;
        config.limits.head_bytes = 2000;
        config.limits.inbox_bytes = 3000;
        config.limits.outbox_bytes = 500;
        config.workers = 0;
        config.limits.timers = 2;
        let timers = EXTRA_BYTES + 16 + 2 * TIMER_BYTES;
        let connection = IDLE_CONNECTION_BYTES as u64 + 2000 + 122_880 + 3000 + 1000 + timers;
        let connections = 10 * connection;
        let shared = 3000 + (4 << 20) + 122_880 + 1024 * 12 + 4096 * 4;
        config.limits.topics = 2;
        config.topics.retain_bytes = 5000;
        config.topics.retain_events = 0;
        let shared = shared + 2 * 5000;
        let total: u64 = config.worst_case().iter().map(Term::total).sum();
        assert_eq!(total, connections + shared);
    }

    #[test]
    fn no_more_jobs_than_connections() {
        let mut config = Config::default();
        assert_eq!(config.jobs_max(), 258);
        config.limits.connections = 5;
        assert_eq!(config.jobs_max(), 5);
    }
}
