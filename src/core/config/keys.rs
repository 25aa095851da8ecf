//! The table of keys: one row for each, the only place with its name, its kind, its bounds and its
//! meaning.
//!
//! A key has the name of its field in [`Config`]. For a new key add a field with a default, and a
//! row here. Rows of one section stand together.

use std::time::Duration;

use log::LevelFilter;

#[cfg(feature = "tls")]
use super::ClientCertificates;
#[cfg(feature = "cluster")]
use super::Offline;
#[cfg(feature = "cluster")]
use super::cluster::{ClusterName, Redis};
#[cfg(feature = "client")]
use super::kinds::Proxy;
#[cfg(feature = "jwt")]
use super::kinds::Text;
use super::kinds::{
    Addresses, CohortKeys, Count, File, List, Mode, OneOf, OrAuto, OrOff, Ownership, Percent, Salt,
    Share, Shown, Size, Span, Switch, ValueKind,
};
#[cfg(feature = "client")]
use super::service::{HEADERS_RULE, ServiceUrl};
#[cfg(feature = "deflate")]
use super::{CompressionHistory, CompressionMode};
use super::{Config, OverflowPolicy, Preset, RateAction, Revoke, Takeover};
#[cfg(feature = "store")]
use super::{StoreAck, WhenSpent};
use crate::core::ground::time::SPAN_MAX;
use crate::core::wire::http::Forwarded;

/// One key of the configuration.
pub struct Key {
    /// Its name, as in `--set` and, split at the dot, in TOML: `deadlines.handshake`.
    pub name: &'static str,
    /// What it means, in a few words. Only the program shows it.
    #[cfg(feature = "program")]
    pub meaning: &'static str,
    pub(super) read: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) show: fn(&Config) -> Shown,
}

impl Key {
    /// Returns the key with this name; `None` if there is none.
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Returns the section of the key, empty for the keys before the first section.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// Returns whether a running server keeps its value of this key until a restart.
    pub fn takes_restart(&self) -> bool {
        matches!(self.section(), "unix" | "watch" | "serve" | "store" | "cluster" | "sessions")
            || matches!(self.name, "listen" | "admin_listen" | "workers" | "tick" | "turn.events")
    }

    /// Returns whether a route may have its own value of this key. The others hold before a route
    /// is known, or for all connections together.
    pub fn is_for_routes(&self) -> bool {
        match self.section() {
            "deadlines" => !matches!(
                self.name,
                "deadlines.preset"
                    | "deadlines.keep_alive"
                    | "deadlines.handler"
                    | "deadlines.drain"
            ),
            "heartbeat" | "overflow" | "compression" => true,
            "admission" => self.name == "admission.takeover",
            "limits" => matches!(
                self.name,
                "limits.message_bytes"
                    | "limits.fragments"
                    | "limits.inbox_messages"
                    | "limits.inbox_bytes"
                    | "limits.timers"
                    | "limits.outbox_bytes"
                    | "limits.messages_per_second"
                    | "limits.bytes_per_second"
                    | "limits.rate_action"
                    | "limits.send_per_second"
                    | "limits.pings_per_second"
            ),
            _ => false,
        }
    }

    /// Returns the value of this key as text, in the form that [`Config::set`] takes.
    pub fn value(&self, config: &Config) -> String {
        (self.show)(config).to_string()
    }
}

/// Makes a row of the table: a path to a field, its kind, its meaning.
macro_rules! key {
    ($field:ident $(. $inner:ident)?, $kind:expr, $meaning:literal) => {
        Key {
            name: concat!(stringify!($field) $(, ".", stringify!($inner))?),
            #[cfg(feature = "program")]
            meaning: $meaning,
            read: |config, text| $kind.read(text).map(|value| config.$field $(. $inner)? = value),
            show: |config| $kind.show(&config.$field $(. $inner)?),
        }
    };
}

/// All keys, in the order in which they are printed.
pub const KEYS: &[Key] = &[
    key!(listen, Addresses, "where to listen: host:port, [v6]:port, *:port, unix:/path"),
    key!(admin_listen, Addresses, "the operator's listener"),
    key!(workers, Count(0..=256), "worker threads; 0: handlers run on the loop thread"),
    key!(log, OneOf(LEVELS), "how much is logged"),
    key!(tick, Span(MILLISECOND..=SECOND), "how late a deadline may act"),
    key!(unix.mode, Mode, "permissions of a Unix socket's file"),
    key!(unix.owner, OrOff(Ownership), "its owner, where not the process: USER:GROUP"),
    key!(turn.events, Count(1..=65_536), "readiness events in one turn"),
    key!(turn.bytes, Size(1..=GIBIBYTE), "bytes read in one turn"),
    PRESET,
    key!(deadlines.handshake, ALWAYS, "accept -> complete head; and again -> answer begun"),
    key!(deadlines.body, ALWAYS, "head -> complete request body"),
    key!(deadlines.keep_alive, ALWAYS, "response -> first byte of the next request"),
    key!(deadlines.read_idle, OrOff(ALWAYS), "last byte received -> closed"),
    key!(deadlines.message, ALWAYS, "first byte of a message -> its last"),
    key!(deadlines.write_stall, ALWAYS, "bytes waiting and none accepted -> dropped"),
    key!(deadlines.stream, ALWAYS, "answer in pieces: last piece written -> next piece"),
    key!(deadlines.close_send, ALWAYS, "close begun -> close frame sent"),
    key!(deadlines.close_ack, ALWAYS, "close frame sent -> the peer's; and again -> its EOF"),
    key!(deadlines.handler, OrOff(ALWAYS), "a longer handler call is logged as stuck"),
    key!(deadlines.lifetime, OrOff(ALWAYS), "open -> closed with 1001"),
    key!(deadlines.drain, ALWAYS, "drain begun -> everything dropped"),
    key!(heartbeat.interval, OrOff(ALWAYS), "nothing received for this long -> ping"),
    key!(heartbeat.jitter, Share, "how much of an interval is left to chance"),
    key!(heartbeat.pong, ALWAYS, "ping sent -> missed"),
    key!(heartbeat.max_missed, Count(1..=100), "missed in a row -> closed"),
    key!(heartbeat.adaptive, Switch, "pong wait and interval follow the round trip"),
    key!(heartbeat.min, ALWAYS, "shortest interval where adaptive"),
    key!(heartbeat.max, ALWAYS, "longest interval where adaptive"),
    key!(heartbeat.comment, ALWAYS, "silent event stream -> comment line"),
    key!(limits.connections, Count(1..=10_000_000), "connections at once; beyond it 503"),
    key!(limits.connections_per_ip, Count(0..=10_000_000), "from one address; beyond it 429"),
    key!(limits.handshakes_per_second, PER_SECOND, "connections accepted; beyond it they wait"),
    #[cfg(feature = "tls")]
    key!(limits.handshaking, Count(1..=65_536), "TLS handshakes at once; more wait"),
    key!(limits.head_bytes, Size(1..=MEBIBYTE), "request head; beyond it 431"),
    key!(limits.headers, Count(1..=1024), "header lines; beyond it 431"),
    key!(limits.message_bytes, Size(1..=GIBIBYTE), "message or body; beyond it 1009 or 413"),
    key!(limits.fragments, Count(1..=1_000_000), "fragments of a message; beyond it 1008"),
    key!(limits.inbox_messages, Count(1..=65_536), "messages waiting for the handler"),
    key!(limits.inbox_bytes, Size(1..=GIBIBYTE), "bytes waiting for the handler"),
    key!(limits.timers, Count(0..=256), "timers of a connection; no more are set"),
    key!(limits.outbox_bytes, Size(1..=GIBIBYTE), "bytes waiting for a peer"),
    key!(limits.memory_bytes, OrAuto(Size(MEBIBYTE..=TEBIBYTE)), "what waits, in all"),
    key!(limits.messages_per_second, PER_SECOND, "messages or requests of a peer"),
    key!(limits.bytes_per_second, Size(0..=GIBIBYTE), "bytes of a peer"),
    key!(limits.rate_action, OneOf(RATE_ACTIONS), "what more than these does to a peer"),
    key!(limits.send_per_second, PER_SECOND, "messages to a peer; the rest waits"),
    key!(limits.pings_per_second, Count(1..=1_000_000), "pings of a peer; beyond it 1008"),
    key!(limits.topics, Count(1..=1_000_000), "topics; beyond it 503"),
    key!(limits.subscriptions, Count(1..=65_536), "subscriptions of one connection"),
    key!(overflow.policy, OneOf(POLICIES), "who gives way when an outbox is full"),
    #[cfg(feature = "deflate")]
    key!(compression.mode, OneOf(COMPRESSION_MODES), "permessage-deflate on WebSockets"),
    #[cfg(feature = "deflate")]
    key!(compression.history, OneOf(HISTORIES), "what an event is compressed against"),
    #[cfg(feature = "deflate")]
    key!(compression.level, Count(1..=9), "how hard to look for what is repeated"),
    #[cfg(feature = "deflate")]
    key!(compression.min_bytes, Size(1..=GIBIBYTE), "messages that are compressed"),
    key!(
        proxy.trusted,
        List("must be a list of networks, such as 10.0.0.0/8, and unix, or off"),
        "proxies that are believed whom they connect for"
    ),
    key!(proxy.forwarded, OneOf(FORWARDED), "header lines in which they say so"),
    key!(admission.origins, List("must be same, * or a list of origins"), "origins admitted"),
    key!(admission.hosts, List("must be auto, * or a list of host names"), "hosts answered"),
    key!(
        admission.admin_hosts,
        List("must be auto, * or a list of host names"),
        "hosts answered on the operator's listener"
    ),
    key!(admission.tokens, OrOff(File), "file of tokens and their rights"),
    #[cfg(feature = "client")]
    key!(admission.request, OrOff(ServiceUrl), "URL of a service that decides who is let in"),
    #[cfg(feature = "client")]
    key!(admission.request_headers, List(HEADERS_RULE), "header lines passed to it"),
    #[cfg(feature = "client")]
    key!(admission.request_cache, OrOff(ALWAYS), "how long what it says counts"),
    key!(
        admission.takeover,
        OneOf(TAKEOVERS),
        "what becomes of a connection when its identity connects again"
    ),
    #[cfg(feature = "jwt")]
    key!(admission.jwt, OrOff(File), "file of the keys of tokens that expire"),
    #[cfg(feature = "jwt")]
    key!(admission.jwt_issuer, OrOff(Text), "what `iss` of these must be"),
    #[cfg(feature = "jwt")]
    key!(admission.jwt_audience, OrOff(Text), "what must be in their `aud`"),
    key!(admission.revoke, OneOf(REVOKES), "connections whose token a reload has removed"),
    key!(topics.retain_events, Count(1..=1_000_000), "events of a topic kept for resume"),
    key!(topics.retain_bytes, Size(1..=GIBIBYTE), "their bytes"),
    key!(topics.retain_for, ALWAYS, "their age"),
    #[cfg(feature = "presence")]
    key!(topics.presence, List(PATTERNS_RULE), "topics that tell who is on them, by patterns"),
    #[cfg(feature = "presence")]
    key!(topics.presence_members, Count(1..=10_000), "members named; of more, their number"),
    #[cfg(feature = "store")]
    key!(store.file, OrOff(File), "file that keeps the events of durable topics"),
    #[cfg(feature = "store")]
    key!(store.bytes, Size(65_536..=GIBIBYTE), "its size; the oldest events make room"),
    #[cfg(feature = "store")]
    key!(store.topics, List(PATTERNS_RULE), "topics kept in it, by patterns"),
    #[cfg(feature = "store")]
    key!(store.sync, Span(TEN_MILLISECONDS..=HOUR), "what a power cut may cost at most"),
    #[cfg(feature = "store")]
    key!(store.ack, OneOf(ACKS), "where an event is when its publisher is answered"),
    #[cfg(feature = "store")]
    key!(store.budget, OrOff(Size(MEBIBYTE..=64 * GIBIBYTE)), "bytes written in a day"),
    #[cfg(feature = "store")]
    key!(store.when_spent, OneOf(WHEN_SPENT), "beyond it: events wait, or stay in memory alone"),
    #[cfg(feature = "cluster")]
    key!(cluster.redis, OrOff(Redis), "the Redis by which several servers share their topics"),
    #[cfg(feature = "cluster")]
    key!(cluster.name, ClusterName, "the name that these servers have in common"),
    #[cfg(feature = "cluster")]
    key!(cluster.node, OrAuto(ClusterName), "the name of this server alone"),
    #[cfg(feature = "cluster")]
    key!(cluster.retain_events, Count(100..=100_000_000), "events kept in Redis, about"),
    #[cfg(feature = "cluster")]
    key!(cluster.offline, OneOf(OFFLINES), "publications while Redis is away"),
    #[cfg(feature = "cluster")]
    key!(cluster.grace, ALWAYS, "Redis away for longer: /readyz answers 503"),
    #[cfg(feature = "sessions")]
    key!(sessions.save, Span(SECOND..=HOUR), "open session changed -> saved"),
    #[cfg(feature = "sessions")]
    key!(sessions.ttl, ALWAYS, "session saved last -> gone"),
    #[cfg(feature = "sessions")]
    key!(sessions.bytes, Size(1..=MEBIBYTE), "a session, frozen; a longer one is not saved"),
    #[cfg(feature = "streams")]
    key!(serve.files, OrOff(File), "folder whose files are served at /"),
    key!(watch.interval, OrOff(Span(SECOND..=HOUR)), "how often to look for shifts of rates"),
    key!(watch.drift, Share, "what a sample may be off, in standard deviations"),
    key!(watch.threshold, Count(1..=1000), "the sum beyond it that is an alarm"),
    key!(watch.dir, OrOff(File), "where a snapshot is written at an alarm"),
    key!(watch.snapshots, Count(1..=1000), "how many snapshots are kept"),
    key!(canary.percent, Percent, "the share of the clients that is counted apart"),
    key!(canary.key, CohortKeys, "what names a client: header:NAME, query:NAME, identity, ip"),
    key!(canary.salt, Salt, "what is hashed before it: another one draws other clients"),
    #[cfg(feature = "client")]
    key!(client.resolve, ALWAYS, "a host's name looked up"),
    #[cfg(feature = "client")]
    key!(client.connect, ALWAYS, "an address connected to"),
    #[cfg(feature = "client")]
    key!(client.secure, ALWAYS, "TLS handshake"),
    #[cfg(feature = "client")]
    key!(client.upgrade, ALWAYS, "upgrade sent -> answered"),
    #[cfg(feature = "client")]
    key!(client.delay, ALWAYS, "longest wait before the first retry; each doubles it"),
    #[cfg(feature = "client")]
    key!(client.delay_max, ALWAYS, "longest wait before any retry"),
    #[cfg(feature = "client")]
    key!(client.stable, ALWAYS, "open for so long: a connection that held"),
    #[cfg(feature = "client")]
    key!(client.window, ALWAYS, "over how long failed tries are counted"),
    #[cfg(feature = "client")]
    key!(client.broken_for, ALWAYS, "70% of them failed -> no try for so long"),
    #[cfg(feature = "client")]
    key!(client.pending_bytes, Size(1..=GIBIBYTE), "publications without an answer"),
    #[cfg(all(feature = "client", feature = "deflate"))]
    key!(client.history_bytes, Size(512..=32_768), "compressed messages kept for later ones"),
    #[cfg(feature = "client")]
    key!(client.proxy, OrOff(Proxy), "http://HOST:PORT, through which to connect"),
    #[cfg(feature = "tls")]
    key!(tls.certificate, OrOff(File), "PEM: the chain of the server's certificate"),
    #[cfg(feature = "tls")]
    key!(tls.key, OrOff(File), "PEM: its key"),
    #[cfg(feature = "tls")]
    key!(tls.sni, OrOff(File), "folder of NAME.crt, NAME.key, NAME.ocsp, by the name asked for"),
    #[cfg(feature = "tls")]
    key!(tls.client, OneOf(CLIENT_CERTIFICATES), "whether clients show a certificate"),
    #[cfg(feature = "tls")]
    key!(tls.client_ca, OrOff(File), "PEM: who signs certificates of clients"),
    #[cfg(feature = "tls")]
    key!(tls.client_crl, OrOff(File), "PEM: which of them are revoked"),
    #[cfg(feature = "tls")]
    key!(tls.ciphers, List("must be auto or a list of suites of TLS 1.3"), "suites, best first"),
    #[cfg(feature = "tls")]
    key!(tls.tickets, Count(0..=8), "tickets for resumption that a client gets"),
    #[cfg(feature = "tls")]
    key!(tls.ticket_keys, OrOff(File), "80 random bytes that several servers share"),
    #[cfg(feature = "tls")]
    key!(tls.ocsp, OrOff(File), "DER: the answer of OCSP to staple"),
];

/// The preset is no plain field: choosing it also moves the closing deadlines.
const PRESET: Key = Key {
    name: "deadlines.preset",
    #[cfg(feature = "program")]
    meaning: "close_send and close_ack in one word",
    read: |config, text| OneOf(PRESETS).read(text).map(|preset| config.choose(preset)),
    show: |config| OneOf(PRESETS).show(&config.deadlines.preset),
};

const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

const PRESETS: &[(&str, Preset)] =
    &[("relaxed", Preset::Relaxed), ("balanced", Preset::Balanced), ("strict", Preset::Strict)];

const POLICIES: &[(&str, OverflowPolicy)] = &[
    (OverflowPolicy::Close.label(), OverflowPolicy::Close),
    (OverflowPolicy::DropNewest.label(), OverflowPolicy::DropNewest),
    (OverflowPolicy::DropOldest.label(), OverflowPolicy::DropOldest),
    (OverflowPolicy::Latest.label(), OverflowPolicy::Latest),
];

#[cfg(feature = "deflate")]
const COMPRESSION_MODES: &[(&str, CompressionMode)] =
    &[("off", CompressionMode::Off), ("on", CompressionMode::On)];

#[cfg(feature = "deflate")]
const HISTORIES: &[(&str, CompressionHistory)] =
    &[("message", CompressionHistory::Message), ("off", CompressionHistory::Off)];

const FORWARDED: &[(&str, Forwarded)] = &[
    ("off", Forwarded::Off),
    ("x-forwarded-for", Forwarded::XForwardedFor),
    ("forwarded", Forwarded::Forwarded),
];

const TAKEOVERS: &[(&str, Takeover)] =
    &[("off", Takeover::Off), ("probe", Takeover::Probe), ("newest", Takeover::Newest)];
const RATE_ACTIONS: &[(&str, RateAction)] =
    &[("pause", RateAction::Pause), ("close", RateAction::Close)];

const REVOKES: &[(&str, Revoke)] = &[("keep", Revoke::Keep), ("close", Revoke::Close)];

#[cfg(feature = "cluster")]
const OFFLINES: &[(&str, Offline)] = &[("refuse", Offline::Refuse), ("queue", Offline::Queue)];

#[cfg(feature = "store")]
const ACKS: &[(&str, StoreAck)] = &[("memory", StoreAck::Memory), ("flash", StoreAck::Flash)];
#[cfg(feature = "store")]
const WHEN_SPENT: &[(&str, WhenSpent)] =
    &[("slow", WhenSpent::Slow), ("memory", WhenSpent::Memory)];
#[cfg(any(feature = "presence", feature = "store"))]
const PATTERNS_RULE: &str = "must be a list of topics, in which * means one character or more";
#[cfg(feature = "store")]
const TEN_MILLISECONDS: Duration = Duration::from_millis(10);

#[cfg(feature = "tls")]
const CLIENT_CERTIFICATES: &[(&str, ClientCertificates)] = &[
    ("off", ClientCertificates::Off),
    ("optional", ClientCertificates::Optional),
    ("required", ClientCertificates::Required),
];

/// Zero is off.
const PER_SECOND: Count = Count(0..=1_000_000);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MEBIBYTE: u64 = 1 << 20;
const TEBIBYTE: u64 = 1 << 40;

/// Sizes fit a 32-bit `usize` with room for a sum of two.
const GIBIBYTE: u64 = 1 << 30;

/// No connection without a deadline: neither zero nor, unless [`OrOff`] allows it, off.
const ALWAYS: Span = Span(MILLISECOND..=SPAN_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_own_names_and_stand_by_section() {
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        for (index, section) in sections.iter().enumerate() {
            assert!(!sections[..index].contains(section), "{section} stands in two places");
        }
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn each_default_reads_back_as_it_is_shown() {
        let default = Config::default();
        for key in KEYS {
            let mut config = Config::default();
            let shown = key.value(&default);
            (key.read)(&mut config, &shown).unwrap_or_else(|rule| panic!("{}: {rule}", key.name));
            assert_eq!(config, default, "{}", key.name);
        }
    }

    /// The defaults are part of the contract with users.
    #[test]
    fn defaults_are_those_promised() {
        let expected = "listen=127.0.0.1:8765 admin_listen=127.0.0.1:8766 workers=2 log=info \
            tick=50ms unix.mode=600 unix.owner=off turn.events=1024 turn.bytes=256k \
            deadlines.preset=balanced deadlines.handshake=5s deadlines.body=10s \
            deadlines.keep_alive=75s \
            deadlines.read_idle=1m deadlines.message=30s deadlines.write_stall=10s \
            deadlines.stream=30s \
            deadlines.close_send=5s deadlines.close_ack=3s deadlines.handler=30s \
            deadlines.lifetime=off deadlines.drain=30s heartbeat.interval=30s \
            heartbeat.jitter=0.3 heartbeat.pong=10s heartbeat.max_missed=3 \
            heartbeat.adaptive=false heartbeat.min=5s heartbeat.max=5m heartbeat.comment=15s \
            limits.connections=10000 limits.connections_per_ip=0 \
            limits.handshakes_per_second=0 limits.head_bytes=8k \
            limits.headers=64 \
            limits.message_bytes=1m limits.fragments=1024 limits.inbox_messages=64 \
            limits.inbox_bytes=256k limits.timers=16 limits.outbox_bytes=256k \
            limits.memory_bytes=auto \
            limits.messages_per_second=0 limits.bytes_per_second=0 limits.rate_action=pause \
            limits.send_per_second=0 limits.pings_per_second=10 \
            limits.topics=1024 limits.subscriptions=64 \
            overflow.policy=close proxy.trusted=off proxy.forwarded=off \
            admission.origins=same admission.hosts=auto \
            admission.admin_hosts=auto admission.tokens=off admission.takeover=off \
            admission.revoke=keep \
            topics.retain_events=256 topics.retain_bytes=1m topics.retain_for=10m \
            serve.files=off \
            watch.interval=off watch.drift=0.5 watch.threshold=8 watch.dir=off watch.snapshots=8 \
            canary.percent=0 canary.key=header:X-Device-Id canary.salt=";
        #[cfg(feature = "client")]
        let expected = expected.replace("admission.tokens=off", ADMISSION_DEFAULTS);
        #[cfg(feature = "client")]
        let expected = format!("{expected} {CLIENT_DEFAULTS}");
        #[cfg(all(feature = "client", feature = "deflate"))]
        let expected = expected.replace("client.proxy", "client.history_bytes=32k client.proxy");
        #[cfg(feature = "client")]
        let expected = expected.as_str();
        #[cfg(feature = "deflate")]
        let expected = &*expected.replace("proxy.trusted", DEFLATE_DEFAULTS);
        #[cfg(feature = "jwt")]
        let expected = &*expected.replace("admission.revoke", JWT_DEFAULTS);
        #[cfg(feature = "tls")]
        let expected = expected
            .replace("limits.head_bytes", "limits.handshaking=256 limits.head_bytes")
            + " tls.certificate=off tls.key=off tls.sni=off tls.client=off tls.client_ca=off \
            tls.client_crl=off tls.ciphers=auto tls.tickets=2 tls.ticket_keys=off tls.ocsp=off";
        #[cfg(feature = "store")]
        let expected = &*expected.replace("serve.files", STORE_DEFAULTS);
        #[cfg(feature = "presence")]
        let expected = &*expected.replace("topics.retain_for=10m", PRESENCE_DEFAULTS);
        #[cfg(feature = "cluster")]
        let expected = &*expected.replace("serve.files", CLUSTER_DEFAULTS);
        #[cfg(feature = "sessions")]
        let expected = &*expected.replace("serve.files", SESSIONS_DEFAULTS);
        let config = Config::default();
        let shown: Vec<_> =
            KEYS.iter().map(|key| format!("{}={}", key.name, key.value(&config))).collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[cfg(feature = "deflate")]
    const DEFLATE_DEFAULTS: &str = "compression.mode=off compression.history=message \
        compression.level=6 compression.min_bytes=64 proxy.trusted";

    #[cfg(feature = "jwt")]
    const JWT_DEFAULTS: &str =
        "admission.jwt=off admission.jwt_issuer=off admission.jwt_audience=off admission.revoke";

    #[cfg(feature = "presence")]
    const PRESENCE_DEFAULTS: &str =
        "topics.retain_for=10m topics.presence=off topics.presence_members=1000";

    #[cfg(feature = "store")]
    const STORE_DEFAULTS: &str = "store.file=off store.bytes=1m store.topics=off store.sync=1s \
        store.ack=memory store.budget=off store.when_spent=slow serve.files";

    #[cfg(feature = "cluster")]
    const CLUSTER_DEFAULTS: &str = "cluster.redis=off cluster.name=heartwheel cluster.node=auto \
        cluster.retain_events=100000 cluster.offline=refuse cluster.grace=10s serve.files";

    #[cfg(feature = "sessions")]
    const SESSIONS_DEFAULTS: &str =
        "sessions.save=10s sessions.ttl=30m sessions.bytes=64k serve.files";

    #[cfg(feature = "client")]
    const ADMISSION_DEFAULTS: &str = "admission.tokens=off admission.request=off \
        admission.request_headers=Authorization,Cookie,Origin admission.request_cache=10s";

    #[cfg(feature = "client")]
    const CLIENT_DEFAULTS: &str = "client.resolve=5s client.connect=5s client.secure=5s \
        client.upgrade=5s client.delay=1s client.delay_max=30s client.stable=10s \
        client.window=1m client.broken_for=5m client.pending_bytes=64k client.proxy=off";
}
