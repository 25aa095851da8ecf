//! Everything around the engine: its peers, its application, and time; and both together.

use std::collections::VecDeque;

use heartwheel::Config;
use heartwheel::ConnectionId;
use heartwheel::core::contract::event::{Command, Job};
use heartwheel::core::contract::route::{Face, Placement, RouteSpec};
use heartwheel::core::engine::{Action, Attempt, Engine, Setup};
use heartwheel::core::ground::time::Instant;

use crate::application::Application;
use crate::client_end;
use crate::common::rng::Rng;
use crate::journal;
use crate::late_log::LateLog;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::number;
use crate::peer::{Honest, Kind, Peer, Seen};
use crate::plan::{Chaos, Plan, pick};
use crate::script::Script;
use crate::scripted::Scripted;
use crate::sealed::Sealing;
use crate::settings::{give_to_routes, hooked_routes, routes};
use crate::witness::Witness;

/// One thing that was done, for the story of a failure.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub enum Step {
    Turn { at: u64 },
    Accept { peer: usize, name: &'static str, id: Option<ConnectionId> },
    Edge { peer: usize, edge: crate::link::Edge },
    Fill { id: ConnectionId },
    Flush { id: ConnectionId },
    Attempt(Attempt),
    Command { from: Option<ConnectionId>, what: &'static str },
    Ran { id: ConnectionId },
    Said { peer: usize, what: crate::witness::Gist },
    Action(Action),
    Ended(String),
    Reset { peer: usize },
    Jump,
    Calm,
}

/// A run: the engine, and all that surrounds it.
pub struct Run {
    pub engine: Engine,
    pub world: World,
}

/// What a run has beside what its seed stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Plain,
    /// The events are kept by a log that answers late, out of step, or never.
    LateLog,
    /// Hooks decide on what clients publish, in every second run before such a log.
    Hooks,
}

impl Variant {
    fn has_late_log(self, seed: u64) -> bool {
        self == Variant::LateLog || self == Variant::Hooks && seed % 2 == 1
    }

    fn routes(self, seed: u64) -> Vec<RouteSpec> {
        match self {
            Variant::Hooks if seed % 4 < 2 => hooked_routes(Placement::Worker),
            Variant::Hooks => hooked_routes(Placement::Inline),
            _ => routes(),
        }
    }
}

/// All that surrounds the engine.
pub struct World {
    pub plan: Plan,
    /// What of the plan's configuration the engine is given: its routes may have the rest.
    pub config: Config,
    pub chaos: Chaos,
    pub now: u64,
    pub began: u64,
    pub rng: Rng,
    pub peers: Vec<Peer>,
    /// By slot: which peer.
    pub slots: Vec<Option<usize>>,
    pub application: Application,
    pub ledger: Ledger,
    /// What keeps the events, if it is not the engine itself.
    pub log: Option<LateLog>,
    pub parked: Option<Job>,
    pub shared: Box<[u8]>,
    steps: VecDeque<Step>,
    steps_kept: usize,
    pub jumped_at: Option<u64>,
    pub drain_at: Option<u64>,
    /// The operator has shed or kicked connections.
    pub told_to_go: bool,
    pub shut_down_at: Option<u64>,
    pub upheaval_at: u64,
    pub turns_in_place: u32,
    pub frames_written: u64,
    /// Messages in jobs that the engine gave out.
    pub messages_given: u64,
    /// Those of them that came back, handled or not.
    pub messages_returned: u64,
    /// Peers that the engine turned away.
    pub rejected: u64,
    /// How far the wall clock is off, in milliseconds.
    pub wall_off_ms: i64,
    /// Lines that tell of ends, and wait for the sockets to be closed.
    pub ends: VecDeque<String>,
    /// How often silence had been judged when a deadline had last acted.
    pub judged: u64,
    /// What the operator does in this turn has been drawn.
    pub has_drawn: bool,
    /// Nobody but the operator is listened to any more.
    pub has_stopped: bool,
    /// Nothing happens: a turn without a cause.
    pub is_at_rest: bool,
    /// A running hash of everything that was done.
    pub digest: u64,
}

impl Run {
    pub fn new(seed: u64, variant: Variant) -> Run {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let (mut config, mut routes) = (plan.config.clone(), variant.routes(seed));
        // No draw of its own: what a seed stands for stays as it is.
        if seed % 5 == 2 {
            give_to_routes(&mut config, &mut routes);
        }
        let setup = Setup {
            config: config.clone(),
            routes: routes.into_iter().map(Into::into).collect(),
            machine_name: "here".into(),
            memory_auto: u64::MAX,
            seed: rng.next_u64(),
            unix_ms: UNIX_MS + plan.begins_ms,
        };
        let now = plan.begins_ms;
        let forgets = plan.config.limits.memory_bytes.is_some();
        let mut peers: Vec<_> = (0..plan.peers).map(|_| draw_peer(&mut rng, &plan)).collect();
        // No draw of its own: what a seed stands for stays as it is.
        if seed % 4 == 3 {
            peers.iter_mut().for_each(|peer| peer.sealing = Some(Sealing::default()));
        }
        journal::begin();
        let log = variant.has_late_log(seed).then(|| LateLog::new(seed, setup.unix_ms));
        let mut engine = Engine::new(setup);
        if let Some(log) = &log {
            engine.follow_log(log.last());
        }
        let world = World {
            chaos: plan.chaos.clone(),
            config,
            now,
            began: now,
            peers,
            slots: Vec::new(),
            application: Application::new(Rng::new(rng.next_u64()), plan.workers, plan.queue_max),
            ledger: Ledger::new(forgets),
            log,
            parked: None,
            shared: vec![0; plan.buffer_bytes].into(),
            steps: VecDeque::new(),
            steps_kept: number("STEPS").map_or(60, |steps| steps as usize),
            jumped_at: None,
            drain_at: None,
            told_to_go: false,
            shut_down_at: None,
            upheaval_at: now + plan.faults_ms / 3 + rng.below(plan.faults_ms / 2),
            turns_in_place: 0,
            frames_written: 0,
            messages_given: 0,
            messages_returned: 0,
            rejected: 0,
            wall_off_ms: 0,
            ends: VecDeque::new(),
            judged: 0,
            has_drawn: false,
            has_stopped: false,
            is_at_rest: false,
            digest: seed,
            rng,
            plan,
        };
        Run { engine, world }
    }

    /// Gives a command that no handler has given.
    pub fn command(&mut self, command: Command) {
        let now = self.world.at();
        self.engine.take_command(now, &mut self.world, None, command);
    }

    /// Says whether the engine wants a turn at once.
    pub fn has_work_left(&self) -> bool {
        self.engine.has_work_left() || self.engine.has_dirty()
    }

    /// Goes to the next moment at which something can happen, at most to `until`, and does a turn.
    pub fn step(&mut self, until: u64) {
        let engine_at = self.engine.poll_timeout().map(|at| at.as_millis());
        let has_work_left = self.has_work_left();
        self.world.step(until, engine_at, has_work_left);
        self.turn();
    }

    pub fn is_idle(&self) -> bool {
        let is_told = self.world.application.is_idle() && !self.world.has_parked();
        self.engine.is_empty() && is_told && !self.engine.has_work_left()
    }

    pub fn turns(&self) -> u64 {
        self.engine.stats().turns
    }
}

impl World {
    /// Ends the faults.
    pub fn calm_down(&mut self) {
        self.note(Step::Calm);
        self.chaos = Chaos { blocked_ms_max: 1, slow_ms_max: 1, ..Chaos::default() };
        self.upheaval_at = u64::MAX;
        if let Some(log) = &mut self.log {
            log.calm_down();
        }
    }

    pub fn note(&mut self, step: Step) {
        if self.steps.len() >= self.steps_kept {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub fn story(&self) -> String {
        self.steps.iter().map(|step| format!("  {step:?}\n")).collect()
    }

    pub fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// Goes to the next moment at which something can happen, at most to `until`.
    fn step(&mut self, until: u64, engine_at: Option<u64>, has_work_left: bool) {
        let peers = self.peers.iter().filter_map(|peer| peer.next_at(self.now)).min();
        let upheaval = (self.upheaval_at != u64::MAX).then_some(self.upheaval_at);
        let log = self.log.as_ref().and_then(LateLog::next_at);
        let times = [engine_at, peers, self.application.next_at(), upheaval, log, Some(until)];
        let mut next = times.into_iter().flatten().min().unwrap_or(until).max(self.now);
        if has_work_left {
            next = self.now;
        } else {
            next += self.rng.below(self.chaos.lag_ms_max + 1);
        }
        self.turns_in_place = if next == self.now { self.turns_in_place + 1 } else { 0 };
        assert!(
            self.turns_in_place < TURNS_IN_PLACE_MAX,
            "the loop spins: engine {engine_at:?}, work {}, peers {:?}",
            has_work_left,
            self.peers.iter().map(|peer| peer.next_at(self.now)).collect::<Vec<_>>()
        );
        self.now = next;
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            peer.link.borrow_mut().advance(next);
            peer.act(next, &mut self.rng, &self.ledger);
            // What has no way to go arrives at once.
            peer.link.borrow_mut().advance(next);
            if peer.id.is_some() && self.rng.below(5000) < self.chaos.reset_per_mille {
                peer.link.borrow_mut().reset();
                self.note(Step::Reset { peer: index });
            }
            self.note_asked(index);
        }
    }

    /// Gives the wall clock.
    pub fn unix_ms(&self) -> u64 {
        (UNIX_MS + self.now).checked_add_signed(self.wall_off_ms).expect("it is long after 1970")
    }

    pub fn has_parked(&self) -> bool {
        self.parked.is_some()
    }
}

fn draw_peer(rng: &mut Rng, plan: &Plan) -> Peer {
    let starts_at = plan.begins_ms + rng.below(plan.arrivals_ms);
    let is_honest = rng.chance(plan.mix.honest);
    let mut link = Link::default();
    link.latency_ms = pick(rng, &[0, 1, 20, 50]);
    // An honest peer is not so slow that it is taken for a dishonest one.
    link.down_max = if is_honest { 256 << 10 } else { pick(rng, &[100, 2000, 64 << 10]) };
    link.up_max = if is_honest { 64 << 10 } else { pick(rng, &[2000, 16 << 10, 256 << 10]) };
    let kind = match is_honest {
        true => Kind::Honest(Box::new(Honest::draw(rng, starts_at))),
        false => {
            let mut script = Script::draw(rng, &plan.mix.kinds);
            script.offer(client_end::offer(starts_at));
            Kind::Scripted(Box::new(Scripted::new(script, starts_at)))
        }
    };
    let starts_at = match &kind {
        Kind::Honest(_) => starts_at,
        Kind::Scripted(scripted) => starts_at + scripted.script.comes_after_ms,
    };
    let (sent, face, witness) = match &kind {
        Kind::Honest(_) => (Vec::new(), Face::Public, Witness::default()),
        Kind::Scripted(scripted) => {
            let script = &scripted.script;
            (script.messages.clone(), script.face, Witness::new(&script.heads))
        }
    };
    Peer {
        starts_at,
        link: std::rc::Rc::new(std::cell::RefCell::new(link)),
        sealing: None,
        kind,
        id: None,
        accepted_at: 0,
        face,
        is_unix: rng.chance(plan.mix.unix),
        was_rejected: false,
        witness,
        sent,
        seen: Seen::default(),
    }
}

/// The wall clock when the loop began.
const UNIX_MS: u64 = 1_700_000_000_000;
/// With little budget in each turn a large message takes many.
const TURNS_IN_PLACE_MAX: u32 = 20_000;
