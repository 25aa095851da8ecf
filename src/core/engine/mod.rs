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
mod budget;
mod census;
mod closing;
mod commands;
mod deadlines;
mod drain;
mod feed;
mod figures;
#[cfg(feature = "ffi")]
mod host;
mod hub;
mod input;
mod jobs;
mod metrics;
mod operator;
mod output;
mod publish;
pub mod pump;
mod queue;
mod rates;
mod reload;
mod requests;
mod rights;
mod rounds;
mod shed;
mod slices;
mod table;
mod tickets;
mod turn;
mod turns;
mod upgraded;

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use crate::core::admission::tokens::Tokens;
use crate::core::config::Config;
use crate::core::connection::{Connection, Inbox, Mark, Rules};
use crate::core::contract::route::RouteSpec;
use crate::core::engine::queue::Queue;
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::random::Random;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::ground::wheel::Wheel;
use crate::core::observe::stats::{DeadlineKind, Stats};
use crate::core::outbox;
use crate::core::topics::{Delivery, Topics};
use crate::core::wire::http;
use crate::core::wire::ws;

pub use deadlines::Attempt;
pub use figures::Waiting;
#[cfg(feature = "ffi")]
pub use host::Refused;
pub(crate) use turn::ACCEPTS_PER_TURN;
pub use turn::{Readiness, Step, World};

/// What the engine follows, told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The routes.
    pub routes: Vec<RouteSpec>,
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
    setup: Setup,
    rules: Rules,
    frame_limits: ws::Limits,
    head_limits: http::HeadLimits,
    connections: Slab<Connection>,
    /// How many connections came through listeners that are not the operator's.
    public: usize,
    budget: budget::Budget,
    by_address: admission::ByAddress,
    handshakes: admission::Handshakes,
    /// What requests must bear, if they must.
    tokens: Option<Tokens>,
    generation: Generation,
    wheel: Wheel,
    random: Random,
    stats: Stats,
    date: Date,
    /// What is left of `turn.bytes`.
    turn_left: usize,
    /// No connection has been read from in this turn.
    first_read: bool,
    /// Nothing is read in this turn: its budget is for events that were left over.
    deliver_first: bool,
    /// An event that waits for its subscriber's outbox to be flushed.
    held: Option<Delivery>,
    ready: Queue,
    /// Connections whose deadlines may have changed in this turn.
    touched: Queue,
    dirty: Queue,
    jobs: jobs::Queues,
    /// Connections that ended while a job was out.
    orphans: HashMap<ConnectionId, jobs::Orphan>,
    actions: VecDeque<Action>,
    drain: Option<drain::Drain>,
    shed: Option<turns::Turns>,
    /// What is being done to every connection.
    round: Option<rounds::Round>,
    /// What those bear that have followed it.
    round_parity: bool,
    /// Told to end at once.
    was_shut_down: bool,
    /// Connections that asked for the server's figures.
    scrapes: VecDeque<ConnectionId>,
    /// One of them was looked for in this turn.
    has_scraped: bool,
    /// Inboxes to be used again, boxed as connections hold them.
    #[expect(clippy::vec_box)]
    spare_inboxes: Vec<Box<Inbox>>,
    topics: Topics,
    /// Connections whose replay goes on when there is budget for it.
    hungry: Queue,
    forms: feed::FormCache,
    /// When the server's own figures are published next, while somebody subscribes to them.
    figures_at: Option<Instant>,
    spare_queues: outbox::Spares,
    /// Where what is encoded as it is written is encoded.
    scratch: Vec<u8>,
    /// What waits for the log, if it is one that answers later.
    tickets: Option<Box<tickets::Tickets>>,
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

/// The Date header's text, formatted once a second.
#[derive(Debug, Default)]
struct Date {
    unix_ms: u64,
    second: u64,
    text: String,
}

impl Engine {
    /// Makes an engine without connections.
    pub fn new(setup: Setup) -> Engine {
        let config = &setup.config;
        let mut random = Random::new(setup.seed);
        let topics =
            Topics::new(reload::topic_rules(config), random.next_u64() as u16, setup.unix_ms);
        Engine {
            topics,
            hungry: Queue::new(Mark::Hungry),
            forms: feed::FormCache::default(),
            figures_at: None,
            rules: config.into(),
            frame_limits: reload::frame_limits(config),
            head_limits: reload::head_limits(config),
            connections: Slab::new(),
            public: 0,
            budget: budget::Budget::new(config, setup.memory_auto),
            by_address: admission::ByAddress::default(),
            handshakes: admission::Handshakes::default(),
            tokens: None,
            // Anywhere, so that an id of another server of this process is nobody here.
            generation: Generation::from_bits(random.next_u64()),
            wheel: Wheel::new(config.tick),
            random,
            stats: Stats::default(),
            date: Date::default(),
            turn_left: config.turn.bytes,
            first_read: true,
            deliver_first: false,
            held: None,
            ready: Queue::new(Mark::Ready),
            touched: Queue::new(Mark::Touched),
            dirty: Queue::new(Mark::Dirty),
            jobs: jobs::Queues::default(),
            orphans: HashMap::new(),
            actions: VecDeque::new(),
            drain: None,
            shed: None,
            round: None,
            round_parity: false,
            was_shut_down: false,
            scrapes: VecDeque::new(),
            has_scraped: false,
            spare_inboxes: Vec::new(),
            spare_queues: outbox::Spares::default(),
            scratch: Vec::new(),
            tickets: None,
            setup,
        }
    }

    /// Begins a turn: the budget is whole again. `unix_ms` is the wall clock, for the Date header
    /// alone.
    pub fn begin_turn(&mut self, unix_ms: u64) {
        self.turn_left = self.setup.config.turn.bytes;
        self.first_read = true;
        self.has_scraped = false;
        self.budget.begin_turn();
        self.deliver_first = self.is_delivery_first();
        self.date.unix_ms = unix_ms;
        self.stats.turns += 1;
    }

    /// Gives the counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Lets the loop around the engine count what only it sees.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Gives the configuration.
    pub fn config(&self) -> &Config {
        &self.setup.config
    }

    /// Gives the number of open connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Says whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Gives the number of entries on the wheel: one for each connection.
    pub fn deadlines_armed(&self) -> usize {
        self.wheel.len()
    }

    /// Says whether the connection is there.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    /// Gives the id of the connection in a slot.
    pub fn id_of(&self, key: usize) -> Option<ConnectionId> {
        self.connections.get(key).map(|c| c.id)
    }

    /// Takes the next thing to be done with a socket. To be called until it gives `None` before the
    /// next [`Engine::accept`], which may use a slot again.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes the next connection with bytes to write: at the end of a turn.
    pub fn poll_dirty(&mut self) -> Option<ConnectionId> {
        // One that has been flushed meanwhile is not dirty any more.
        self.dirty.pop(&mut self.connections)
    }

    /// Says whether bytes wait to be written to a connection.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(id.key());
        connection.filter(|connection| connection.id == id)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        find_mut(&mut self.connections, id)
    }

    /// Sets the wheel entry: at once if the next deadline has come nearer, or if the phase has
    /// changed. A deadline that has only moved away leaves the entry: it comes due too early and is
    /// set anew then.
    fn rearm(&mut self, now: Instant, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let at = connection.next_at(&self.rules, now);
        let relink = std::mem::take(&mut connection.flags.relink);
        if relink || self.wheel.armed_at(key).is_none_or(|armed_at| at < armed_at) {
            self.wheel.arm(key, at);
        }
    }

    /// Has the wheel entry looked at when the turn ends, however much happens until then.
    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.touched.push(connection);
        }
    }

    /// Sets the wheel entries of the connections that something has happened to: at the end of a
    /// turn, and after what is asked for between turns.
    pub fn arm_touched(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop(&mut self.connections) {
            self.rearm(now, id.key());
        }
    }

    fn mark_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.ready.push(connection);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.dirty.push(connection);
        }
    }

    fn date(&mut self) -> &str {
        let second = self.date.unix_ms / 1000;
        if second != self.date.second || self.date.text.is_empty() {
            self.date.second = second;
            self.date.text = http::date(self.date.unix_ms);
        }
        &self.date.text
    }

    fn fired(&mut self, now: Instant, at: Instant, kind: DeadlineKind) {
        self.stats.deadlines_fired[kind as usize] += 1;
        self.stats.deadline_lateness.record_ms(now.since(at));
    }
}

/// Finds a connection, as long as it is the one that bore this id.
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

/// Gives the reason under which a connection that ends now is counted: the first fault. A clean
/// cause gives way to a deadline that it runs into, and to nothing else.
fn first_fault(so_far: Option<CloseReason>, now: CloseReason) -> CloseReason {
    use CloseReason::{CloseAck, CloseSend, WriteStall};
    match so_far {
        Some(clean) if clean.is_clean() && matches!(now, CloseSend | CloseAck | WriteStall) => now,
        Some(reason) => reason,
        None => now,
    }
}

/// What a message costs of `turn.bytes`, beside its bytes, when it is decoded and when it is
/// delivered; a fragment costs as much.
const MESSAGE_COST: usize = 128;

/// What a byte costs of it that is written for another, as an escape or a line.
const ENCODE_COST: usize = 4;

/// What a byte costs of it that is checked when it has been read: to be JSON, or text.
const CHECK_COST: usize = 3;

/// What a look at one of many costs of it: an entry of an outbox, a subscription.
const LOOK_COST: usize = 4;

/// What it costs of it to evict an event from a log.
const TRIM_COST: usize = 8;
