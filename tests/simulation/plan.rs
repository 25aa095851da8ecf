//! What a seed stands for: the configuration, the faults, and how long they last.
//!
//! Swarm testing: half of the kinds of fault are switched off in each run. With everything always a
//! bit broken nothing deep would ever be reached.

use std::time::Duration;

use heartwheel::Config;
use heartwheel::config::RateAction;
use heartwheel::route::{Face, Placement, RouteKind, RouteSpec};

use crate::common::rng::Rng;

/// The faults of one run: chances in percent unless the name says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Chaos {
    pub short_read: u64,
    /// Bytes are there but seen only a moment later.
    pub late_bytes: u64,
    pub short_write: u64,
    /// The socket takes nothing for a while.
    pub blocked_write: u64,
    pub blocked_ms_max: u64,
    pub spurious_readiness: u64,
    pub delayed_readiness: u64,
    /// The network resets a connection: in a thousand steps.
    pub reset_per_mille: u64,
    pub slow_worker: u64,
    pub slow_ms_max: u64,
    pub panic: u64,
    pub close: u64,
    pub push: u64,
    /// A turn begins up to this late.
    pub lag_ms_max: u64,
    /// Time jumps: in a thousand steps.
    pub jump_per_mille: u64,
}

impl Chaos {
    fn draw(rng: &mut Rng) -> Chaos {
        let mut up_to = |most: u64| if rng.chance(50) { 0 } else { 1 + rng.below(most) };
        Chaos {
            short_read: up_to(50),
            late_bytes: up_to(30),
            short_write: up_to(50),
            blocked_write: up_to(20),
            blocked_ms_max: 1 + up_to(1500),
            spurious_readiness: up_to(20),
            delayed_readiness: up_to(50),
            reset_per_mille: up_to(2),
            slow_worker: up_to(60),
            slow_ms_max: 1 + up_to(4000),
            panic: up_to(3),
            close: up_to(3),
            push: up_to(30),
            lag_ms_max: up_to(200),
            jump_per_mille: up_to(3),
        }
    }
}

/// What happens to all in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upheaval {
    Nothing,
    Drain,
    Shutdown,
    DrainThenShutdown,
    /// Half of the connections are told to go elsewhere, and then half of those that are left.
    Shed,
    /// The operator ends all that are there.
    Kick,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub config: Config,
    pub chaos: Chaos,
    pub peers: u64,
    /// When the loop began, as it counts; near the wrap of 32 bits in some runs.
    pub begins_ms: u64,
    /// How long the faults last.
    pub faults_ms: u64,
    /// Peers come within this time.
    pub arrivals_ms: u64,
    pub upheaval: Upheaval,
    pub workers: usize,
    /// Jobs that wait for a worker.
    pub queue_max: usize,
    /// The buffer that all connections share.
    pub buffer_bytes: usize,
    /// Deadlines that act in one turn.
    pub expiries_per_turn: usize,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Plan {
        let faults_ms = 10_000 + rng.below(20_000);
        Plan {
            config: draw_config(rng),
            chaos: Chaos::draw(rng),
            peers: 3 + rng.below(12),
            begins_ms: pick(rng, &[0, 12_345, (1 << 32) - 8_000, (1 << 33) - 20_000]),
            faults_ms,
            arrivals_ms: pick(rng, &[1, 200, faults_ms / 2]),
            upheaval: pick(
                rng,
                &[
                    Upheaval::Nothing,
                    Upheaval::Nothing,
                    Upheaval::Nothing,
                    Upheaval::Drain,
                    Upheaval::Drain,
                    Upheaval::Shutdown,
                    Upheaval::DrainThenShutdown,
                    Upheaval::Shed,
                    Upheaval::Kick,
                ],
            ),
            workers: pick(rng, &[1, 2, 4]),
            queue_max: pick(rng, &[1, 3, 256]),
            buffer_bytes: pick(rng, &[64 << 10, 4000]),
            expiries_per_turn: pick(rng, &[1, 2, 1024]),
        }
    }
}

impl Plan {
    /// Says whether there is a rate for what a peer sends, and what becomes of one that sends more.
    pub fn rate_action(&self) -> Option<RateAction> {
        let limits = &self.config.limits;
        let has_rate = limits.messages_per_second > 0 || limits.bytes_per_second > 0;
        has_rate.then_some(limits.rate_action)
    }
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
        protocols: Vec::new(),
    };
    vec![
        route("/inline", RouteKind::WebSocket, Placement::Inline, false),
        route("/worker", RouteKind::WebSocket, Placement::Worker, false),
        route("/asked", RouteKind::WebSocket, Placement::Worker, true),
        route("/plain", RouteKind::Get, Placement::Inline, false),
        route("/slow", RouteKind::Get, Placement::Worker, false),
        route("/post", RouteKind::Post, Placement::Worker, false),
    ]
}

/// The paths of the routes that upgrade.
pub const WEBSOCKETS: [&str; 3] = ["/inline", "/worker", "/asked"];
/// The paths of those that answer GET.
pub const GETS: [&str; 2] = ["/plain", "/slow"];

fn draw_config(rng: &mut Rng) -> Config {
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
    config.turn.bytes = pick(rng, &[256 << 10, 256 << 10, 4096, 200]);
    let limits = &mut config.limits;
    limits.message_bytes = MESSAGE_BYTES_MAX;
    limits.fragments = FRAGMENTS_MAX;
    limits.inbox_messages = pick(rng, &[64, 4, 1]);
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
    config
}

pub fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize].clone()
}

pub const MESSAGE_BYTES_MAX: u64 = 100_000;
pub const FRAGMENTS_MAX: u32 = 16;
