//! The configuration and the routes of a run.

use std::time::Duration;

use heartwheel::Config;
use heartwheel::config::{KEYS, Key, OverflowPolicy, RateAction};
use heartwheel::core::contract::route::{Face, Placement, RouteKind, RouteSpec};

use crate::application::TIMERS;
use crate::common::rng::Rng;
use crate::plan::pick;

/// The routes, of which those of topics have hooks; where the hooks run.
pub fn hooked_routes(placement: Placement) -> Vec<RouteSpec> {
    let mut routes = routes();
    for route in &mut routes {
        if matches!(route.kind, RouteKind::TopicSocket | RouteKind::TopicPost | RouteKind::Hub) {
            (route.has_hook, route.placement) = (true, placement);
        }
    }
    routes
}

/// Where everything is to be found.
pub fn routes() -> Vec<RouteSpec> {
    let route = |path: &str, kind, placement, authorizes| RouteSpec {
        path: path.into(),
        kind,
        placement,
        face: Face::Public,
        is_open: false,
        authorizes,
        wants_pongs: path == "/inline",
        wants_drained: path == "/inline",
        protocols: match kind {
            RouteKind::Hub => RouteSpec::hub(path).protocols,
            _ => Vec::new(),
        },
        piecewise: None,
        has_hook: false,
        changes: Vec::new(),
    };
    vec![
        route("/inline", RouteKind::WebSocket, Placement::Inline, false),
        route("/worker", RouteKind::WebSocket, Placement::Worker, false),
        route("/asked", RouteKind::WebSocket, Placement::Worker, true),
        route("/plain", RouteKind::Get, Placement::Inline, false),
        route("/slow", RouteKind::Get, Placement::Worker, false),
        route("/post", RouteKind::Post, Placement::Worker, false),
        RouteSpec {
            face: Face::Admin,
            ..route("/operator", RouteKind::Get, Placement::Inline, false)
        },
        RouteSpec {
            face: Face::Both,
            ..route("/healthz", RouteKind::Health, Placement::Inline, false)
        },
        RouteSpec {
            face: Face::Both,
            ..route("/readyz", RouteKind::Ready, Placement::Inline, false)
        },
        route("/topics/{topic}", RouteKind::TopicSocket, Placement::Inline, false),
        route("/topics/{topic}", RouteKind::TopicGet, Placement::Inline, false),
        route("/topics/{topic}", RouteKind::TopicPost, Placement::Inline, false),
        route("/ws", RouteKind::Hub, Placement::Inline, false),
        route("/events", RouteKind::EventStream, Placement::Inline, false),
    ]
}

/// Gives what holds for open connections to the routes, and leaves the rest to the configuration:
/// nothing is to change by that.
pub fn give_to_routes(config: &mut Config, routes: &mut [RouteSpec]) {
    let is_for_open = |key: &&Key| match key.section() {
        "heartbeat" | "overflow" => true,
        _ => key.is_for_routes() && FOR_OPEN.contains(&key.name),
    };
    // Some runs have values that users cannot set.
    if !config.check().faults.is_empty() {
        return;
    }
    let default = Config::default();
    let keys: Vec<_> = KEYS.iter().filter(is_for_open).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.name.into(), key.value(config))).collect();
    routes.iter_mut().for_each(|route| route.changes = changes.clone());
    for key in keys {
        config.set(key.name, &key.value(&default)).expect("what is shown can be read");
    }
}

/// What holds only when there is a route, beside heartbeats and the overflow policy.
const FOR_OPEN: [&str; 10] = [
    "deadlines.read_idle",
    "deadlines.message",
    "deadlines.lifetime",
    "limits.message_bytes",
    "limits.fragments",
    "limits.inbox_messages",
    "limits.inbox_bytes",
    "limits.timers",
    "limits.outbox_bytes",
    "limits.send_per_second",
];

/// The paths of the routes that upgrade.
pub const WEBSOCKETS: [&str; 3] = ["/inline", "/worker", "/asked"];
/// The paths of those that answer GET.
pub const GETS: [&str; 2] = ["/plain", "/slow"];

pub fn draw_config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    let mut span =
        |least: u64, most: u64| Duration::from_millis(least + rng.below(most - least + 1));
    let deadlines = &mut config.deadlines;
    deadlines.handshake = span(1500, 5000);
    deadlines.body = span(2000, 6000);
    deadlines.keep_alive = span(2000, 6000);
    deadlines.message = span(5000, 9000);
    deadlines.write_stall = span(4000, 8000);
    deadlines.close_send = span(2000, 4000);
    deadlines.close_ack = span(1200, 3000);
    deadlines.drain = span(1000, 10_000);
    config.tick = span(10, 100);
    let heartbeat = &mut config.heartbeat;
    let interval = span(2000, 10_000);
    heartbeat.pong = span(1500, 4000);
    let slack = span(2000, 8000);
    let lifetime = span(8000, 30_000);
    heartbeat.max_missed = 1 + rng.below(3) as u32;
    heartbeat.jitter = pick(rng, &[0.0, 0.3, 0.5]);
    heartbeat.interval = (!rng.chance(15)).then_some(interval);
    let judged_after = heartbeat.pong * if rng.chance(30) { 0 } else { heartbeat.max_missed };
    deadlines.read_idle = match heartbeat.interval {
        Some(_) if rng.chance(30) => None,
        Some(interval) => Some(interval + judged_after + slack),
        None => Some(Duration::from_secs(10) + slack),
    };
    deadlines.lifetime = rng.chance(15).then_some(lifetime);
    config.heartbeat.adaptive = config.heartbeat.interval.is_some() && rng.chance(30);
    config.heartbeat.min = interval.min(Duration::from_millis(1000 + rng.below(2000)));
    config.heartbeat.max = interval + Duration::from_millis(rng.below(20_000));
    config.heartbeat.comment = Duration::from_millis(1000 + rng.below(9000));
    config.turn.bytes = pick(rng, &[256 << 10, 256 << 10, 4096, 200]);
    let limits = &mut config.limits;
    limits.message_bytes = MESSAGE_BYTES_MAX;
    limits.fragments = FRAGMENTS_MAX;
    limits.inbox_messages = pick(rng, &[64, 4, 1]);
    limits.timers = TIMERS;
    limits.inbox_bytes = pick(rng, &[256 << 10, 2048]);
    limits.outbox_bytes = pick(rng, &[256 << 10, 4096, 300]);
    limits.connections = pick(rng, &[10_000, 10_000, 10_000, 4]);
    // No draw of its own: what a seed stands for stays as it is.
    limits.memory_bytes = match (limits.inbox_messages, limits.inbox_bytes) {
        (4, 2048) => Some(20_000),
        (1, 2048) => Some(6000),
        _ => None,
    };
    if rng.chance(25) {
        limits.messages_per_second = pick(rng, &[0, 0, 2, 50]);
        limits.bytes_per_second = pick(rng, &[0, 20_000]);
        limits.send_per_second = pick(rng, &[0, 5, 100]);
        limits.rate_action = pick(rng, &[RateAction::Pause, RateAction::Pause, RateAction::Close]);
        limits.connections_per_ip = pick(rng, &[0, 0, 2]);
    }
    limits.topics = pick(rng, &[1024, 1024, 2]);
    limits.subscriptions = pick(rng, &[64, 64, 2]);
    config.topics.retain_events = pick(rng, &[256, 256, 5, 0]);
    config.topics.retain_bytes = pick(rng, &[1 << 20, 1 << 20, 1000]);
    config.topics.retain_for = Duration::from_millis(pick(rng, &[600_000, 600_000, 3000]));
    config.overflow.policy = pick(rng, &OverflowPolicy::ALL);
    #[cfg(feature = "presence")]
    if config.tick.as_millis().is_multiple_of(3) {
        config.topics.presence = "a,b".parse().expect("they are patterns");
        config.topics.presence_members = if config.tick.as_millis() > 50 { 2 } else { 1000 };
    }
    // No draw of its own: what a seed stands for stays as it is.
    #[cfg(feature = "deflate")]
    if config.tick.as_millis().is_multiple_of(2) {
        use heartwheel::config::CompressionHistory::{Message, Off};
        config.compression.mode = heartwheel::config::CompressionMode::On;
        let is_by_itself = config.tick.as_millis().is_multiple_of(8);
        config.compression.history = if is_by_itself { Off } else { Message };
    }
    config
}

pub const MESSAGE_BYTES_MAX: u64 = 100_000;
pub const FRAGMENTS_MAX: u32 = 16;
