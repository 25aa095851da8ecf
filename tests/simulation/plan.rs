//! What a seed stands for: the configuration, who takes part, the faults, and how long they last.
//!
//! Swarm testing (Groce and others, 2012): each run leaves out half of the kinds of fault and of
//! peer, and some runs push one. With everything always a bit broken nothing deep would ever be
//! reached, and what one feature suppresses would never be seen.

use heartwheel::Config;
use heartwheel::config::RateAction;

use crate::common::rng::Rng;
use crate::script::Draw;
use crate::settings::draw_config;
use crate::{requests, sockets, topical};

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
    /// A handler publishes, subscribes and unsubscribes.
    pub publish: u64,
    /// A turn begins up to this late.
    pub lag_ms_max: u64,
    /// Time jumps: in a thousand steps.
    pub jump_per_mille: u64,
    /// The wall clock is set, by up to an hour: in a hundred turns.
    pub wall_step: u64,
    /// The same configuration is read again: in a thousand steps.
    pub reload_per_mille: u64,
}

impl Chaos {
    fn draw(rng: &mut Rng) -> Chaos {
        // In one run of eight nothing at all goes wrong, in another one much does.
        let (share, by) =
            pick(rng, &[(50, 1), (50, 1), (50, 1), (30, 1), (30, 2), (100, 1), (0, 1)]);
        let mut up_to =
            |most: u64| if rng.chance(share) { 1 + rng.below((most * by).min(90)) } else { 0 };
        let mut chaos = Chaos {
            short_read: up_to(50),
            late_bytes: up_to(30),
            short_write: up_to(50),
            blocked_write: up_to(20),
            spurious_readiness: up_to(20),
            delayed_readiness: up_to(50),
            reset_per_mille: up_to(2),
            slow_worker: up_to(60),
            panic: up_to(3),
            close: up_to(3),
            push: up_to(30),
            publish: up_to(20),
            jump_per_mille: up_to(3),
            wall_step: up_to(5),
            reload_per_mille: up_to(3),
            ..Chaos::default()
        };
        let mut up_to = |most: u64| if rng.chance(share) { 1 + rng.below(most) } else { 0 };
        chaos.blocked_ms_max = 1 + up_to(1500);
        chaos.slow_ms_max = 1 + up_to(4000);
        chaos.lag_ms_max = up_to(200);
        chaos
    }
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Mix {
    /// How many in a hundred are honest.
    pub honest: u64,
    /// What the others may be.
    pub kinds: Vec<Draw>,
    /// Subscribers and publishers are among them.
    pub topics: bool,
    /// How many in a hundred come over a Unix socket.
    pub unix: u64,
}

impl Mix {
    fn draw(rng: &mut Rng) -> Mix {
        let families: [&[Draw]; 4] =
            [&topical::SCRIPTS, &requests::SCRIPTS, &sockets::SCRIPTS, &requests::OPERATORS];
        let takes_part = families.map(|_| rng.chance(50));
        let chosen = families.into_iter().zip(takes_part).filter(|(_, takes_part)| *takes_part);
        let mut kinds: Vec<Draw> = chosen.flat_map(|(family, _)| family).copied().collect();
        // One kind alone, many times over.
        if rng.chance(10) && !kinds.is_empty() {
            kinds = vec![pick(rng, &kinds)];
        }
        let honest = if kinds.is_empty() { 100 } else { pick(rng, &[50, 50, 20, 0]) };
        Mix { honest, kinds, topics: takes_part[0], unix: pick(rng, &[0, 0, 30, 100]) }
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
    pub mix: Mix,
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
            mix: Mix::draw(rng),
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

    /// Says whether anybody may publish: then the engine has work of its own.
    pub fn has_topics(&self) -> bool {
        self.mix.topics || self.chaos.publish > 0
    }
}

pub fn pick<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize].clone()
}
