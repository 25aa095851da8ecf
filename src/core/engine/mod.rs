//! The pure engine: every connection, the wheel, what is due. Bytes, time and commands go in;
//! events, bytes and the next deadline come out. It holds no socket, thread or channel, and reads
//! no clock: the time is an argument. Beside its arguments it has memory, a logger, and the key of
//! its hash tables, on whose order nothing depends; it calls the closures that commands bear.
//!
//! `handle_*` puts something in, `poll_*` takes something out, nothing else changes state.
//! [`Engine::turn`] does all of it in the one right order, through what surrounds the engine, a
//! [`World`]; between turns there is [`Engine::take_command`]. [`Engine::poll_timeout`] says when
//! the next turn must come at the latest.

mod admission;
#[cfg(feature = "client")]
mod asking;
mod audience;
#[cfg(feature = "bridge")]
mod bridged;
mod calls;
mod census;
mod closing;
mod commands;
#[cfg(feature = "deflate")]
mod compression;
mod deadlines;
mod departures;
mod drain;
mod effects;
mod excepted;
#[cfg(any(feature = "jwt", feature = "client"))]
mod expiry;
mod feed;
mod figures;
#[cfg(feature = "ffi")]
mod host;
mod input;
mod jobs;
mod listeners;
mod memory_budget;
mod metrics;
pub mod offers;
mod output;
mod proxied;
pub mod pump;
mod queue;
mod rates;
mod reload;
#[cfg(any(feature = "jwt", feature = "client"))]
mod renewal;
mod repeats;
mod reports;
mod requests;
mod rights;
mod rounds;
mod schedule;
#[cfg(feature = "tls")]
mod sealed;
mod services;
#[cfg(feature = "sessions")]
mod sessions;
mod settings;
mod shed;
mod slices;
mod sources;
mod spares;
mod table;
mod takeover;
mod tickets;
mod timers;
mod turn;
mod upgraded;
mod uploads;
mod visits;
mod watches;
mod widths;

use std::collections::VecDeque;

use slab::Slab;

use crate::core::config::Config;
use crate::core::connection::Connection;
use crate::core::connection::allowance::Allowance;
use crate::core::engine::admission::Admission;
#[cfg(feature = "client")]
use crate::core::engine::asking::Questions;
use crate::core::engine::audience::AudienceHooks;
use crate::core::engine::calls::CallsLeft;
use crate::core::engine::excepted::Excepted;
use crate::core::engine::jobs::Jobs;
use crate::core::engine::listeners::Listeners;
use crate::core::engine::memory_budget::MemoryBudget;
use crate::core::engine::queue::Queues;
use crate::core::engine::repeats::Repeats;
use crate::core::engine::reports::Reports;
use crate::core::engine::schedule::Schedule;
use crate::core::engine::settings::{Settings, topic_rules};
use crate::core::engine::spares::Spares;
use crate::core::engine::timers::ServerTimers;
use crate::core::engine::watches::Watches;
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::random::Random;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::ground::wheel::Wheel;
use crate::core::observe::stats::{DeadlineKind, Stats};
use crate::core::topics::Topics;
#[cfg(feature = "presence")]
use crate::core::topics::presence::Presence;

pub use audience::AudienceHook;
#[cfg(feature = "bridge")]
pub use bridged::TakenIn;
pub use deadlines::Attempt;
pub use figures::Waiting;
#[cfg(feature = "ffi")]
pub use host::Refused;
#[cfg(all(feature = "cluster", feature = "presence"))]
pub use services::MemberChange;
pub use services::Served;
pub use timers::Timed;
pub(crate) use turn::ACCEPTS_PER_TURN;
pub use turn::{Readiness, Step, World};
pub use watches::Watch;

/// What the engine is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The routes.
    pub routes: Vec<Served>,
    /// This machine's name, one of the Host names answered.
    pub machine_name: String,
    /// What `limits.memory_bytes = auto` stands for.
    pub memory_auto: u64,
    /// Seeds jitter and spread.
    pub seed: u64,
    /// The wall clock at the beginning, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// All connections of one server.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    connections: Slab<Connection>,
    /// One entry for each connection.
    wheel: Wheel,
    queues: Queues,
    admission: Admission,
    allowance: Allowance,
    budget: MemoryBudget,
    calls: CallsLeft,
    jobs: Jobs,
    actions: VecDeque<Action>,
    schedule: Schedule,
    topics: Topics,
    #[cfg(feature = "presence")]
    presence: Presence,
    /// What other servers have yet to be told of members, if there are others.
    #[cfg(all(feature = "cluster", feature = "presence"))]
    member_changes: Option<VecDeque<MemberChange>>,
    repeats: Repeats,
    listeners: Listeners,
    audience: AudienceHooks,
    reports: Reports,
    timers: ServerTimers,
    watches: Watches,
    excepted: Excepted,
    #[cfg(feature = "client")]
    questions: Questions,
    #[cfg(feature = "bridge")]
    bridged: bridged::Bridged,
    spares: Spares,
    /// How many connections have a wide send buffer.
    wide: usize,
    random: Random,
    stats: Stats,
}

/// What is to be done with a socket. The key is its connection's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send FIN: nothing more will be written.
    Shutdown(usize),
    /// The connection is WebSocket from now on: how long the kernel retries changes.
    Upgraded(usize),
    /// Close the socket. The slot may be used again.
    Close(usize),
    /// Close the socket with a reset. The slot may be used again.
    Abort(usize),
}

impl Engine {
    /// Makes an engine without connections.
    pub fn new(setup: Setup) -> Engine {
        let config = &setup.config;
        let mut random = Random::new(setup.seed);
        let epoch = random.next_u64() as u16;
        // A random start, so that an id of another server of this process names no connection here.
        let generation = Generation::from_bits(random.next_u64());
        let budget = MemoryBudget::new(config, setup.memory_auto);
        let mut spares = Spares::default();
        spares.memory.set_limit(budget.spare_max());
        Engine {
            connections: Slab::new(),
            wheel: Wheel::new(config.tick),
            queues: Queues::default(),
            admission: Admission::new(generation),
            allowance: Allowance::new(config.turn.bytes),
            budget,
            calls: CallsLeft::default(),
            jobs: Jobs::default(),
            actions: VecDeque::new(),
            schedule: Schedule::default(),
            topics: Topics::new(topic_rules(config), epoch, setup.unix_ms),
            #[cfg(feature = "presence")]
            presence: Presence::default(),
            #[cfg(all(feature = "cluster", feature = "presence"))]
            member_changes: None,
            repeats: Repeats::default(),
            listeners: Listeners::default(),
            audience: AudienceHooks::default(),
            reports: Reports::default(),
            timers: ServerTimers::default(),
            watches: Watches::default(),
            excepted: Excepted::default(),
            #[cfg(feature = "client")]
            questions: Questions::default(),
            #[cfg(feature = "bridge")]
            bridged: bridged::Bridged::default(),
            spares,
            wide: 0,
            random,
            stats: Stats::default(),
            settings: Settings::new(setup),
        }
    }

    /// Begins a turn: its allowance is whole. `unix_ms` is the wall clock, for the Date header and
    /// for tokens that expire.
    pub fn begin_turn(&mut self, unix_ms: u64) {
        let is_for_delivery = self.is_delivery_first();
        self.allowance.begin_turn(self.settings.config.turn.bytes, is_for_delivery);
        self.budget.begin_turn();
        self.reports.begin_turn(unix_ms);
        self.stats.turns += 1;
    }

    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Lets the loop around the engine count what only it sees.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.settings.config
    }

    /// Returns the number of open connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Returns the number of entries on the wheel: one for each connection.
    pub fn deadlines_armed(&self) -> usize {
        self.wheel.len()
    }

    /// Returns whether the connection has not ended.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    /// Returns the id of the connection in a slot; `None` if the slot is free.
    pub fn id_of(&self, key: usize) -> Option<ConnectionId> {
        self.connections.get(key).map(|c| c.id)
    }

    /// Takes the next thing to be done with a socket. To be called until it returns `None` before
    /// the next [`Engine::accept`], which may use a slot again.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes the next connection with bytes to write: at the end of a turn.
    pub fn poll_dirty(&mut self) -> Option<ConnectionId> {
        // A connection that has been flushed meanwhile is not dirty any more.
        self.queues.dirty.pop(&mut self.connections)
    }

    /// Returns whether bytes wait to be written to a connection.
    pub fn has_dirty(&self) -> bool {
        !self.queues.dirty.is_empty()
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(id.key());
        connection.filter(|connection| connection.id == id)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        find_mut(&mut self.connections, id)
    }

    /// Sets the wheel entry: at once if the next deadline has come nearer, or if the phase has
    /// changed. If the deadline has only moved away, the entry stays: it comes due too early, and
    /// is then set anew.
    fn rearm(&mut self, now: Instant, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let at = connection.next_at(self.settings.spans(connection), now);
        let relink = std::mem::take(&mut connection.flags.relink);
        if relink || self.wheel.armed_at(key).is_none_or(|armed_at| at < armed_at) {
            self.wheel.arm(key, at);
        }
    }

    /// Has the wheel entry looked at when the turn ends, however much happens until then.
    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.queues.touched.push(connection);
        }
    }

    /// Sets the wheel entries of the connections that something has happened to, and tells of those
    /// that end: at the end of a turn, and after what is asked for between turns.
    pub fn arm_touched(&mut self, now: Instant) {
        self.tell_watches();
        while let Some(id) = self.queues.touched.pop(&mut self.connections) {
            self.rearm(now, id.key());
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.queues.ready.push(connection);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.queues.dirty.push(connection);
        }
    }

    fn fired(&mut self, now: Instant, at: Instant, kind: DeadlineKind) {
        self.stats.deadlines_fired[kind as usize] += 1;
        self.stats.deadline_lateness.record_ms(now.since(at));
    }
}

/// Finds a connection by its id. `None` if it has ended, also if its slot is in use again.
fn find_mut(connections: &mut Slab<Connection>, id: ConnectionId) -> Option<&mut Connection> {
    connections.get_mut(id.key()).filter(|connection| connection.id == id)
}

/// How an end is done to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// FIN, or nothing if one was sent.
    Close,
    /// A reset.
    Abort,
}

/// Returns the reason under which a connection that ends now is counted: the first fault. A clean
/// cause gives way to a deadline that it runs into, and to nothing else.
fn first_fault(so_far: Option<CloseReason>, now: CloseReason) -> CloseReason {
    use CloseReason::{CloseAck, CloseSend, WriteStall};
    match so_far {
        Some(clean) if clean.is_clean() && matches!(now, CloseSend | CloseAck | WriteStall) => now,
        Some(reason) => reason,
        None => now,
    }
}
