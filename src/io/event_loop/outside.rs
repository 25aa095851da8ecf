//! What surrounds the engine in production: the poller, the table of sockets, listeners, the
//! channel of commands, the workers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(feature = "client")]
use mio::Registry;
use mio::{Events, Poll, Token, Waker};

#[cfg(feature = "client")]
use super::asking::Service;
#[cfg(feature = "bridge")]
use super::bridging::Bridges;
use super::handlers::OnLoop;
use super::{LISTENER_TOKENS, REFUSAL_TOKENS, WAKER};
use crate::core::config::{Config, READ_BUFFER_BYTES};
use crate::core::contract::event::{Command, Done, Job};
use crate::core::contract::handlers::Handlers;
use crate::core::contract::route::Face;
use crate::core::engine::{self, Action, Engine, World};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
#[cfg(feature = "bridge")]
use crate::core::ground::time::sooner;
use crate::core::observe::figures::Surroundings;
use crate::core::transport::Transport;
use crate::core::wire::http::Refusal;
#[cfg(feature = "client")]
use crate::io::client::Clients;
use crate::io::clock::Clock;
use crate::io::listener::Listener;
use crate::io::memory::Exchange;
use crate::io::refusals::Refusals;
use crate::io::socket::{Readiness, Socket};
use crate::io::sockets::Sockets;
use crate::system::process::Gauges;
#[cfg(feature = "client")]
use crate::system::random_seed;
#[cfg(feature = "cluster")]
use crate::threads::cluster::Cluster;
use crate::threads::command_queue::{Inlet, Shared};
use crate::threads::handler::Endpoints;
#[cfg(feature = "client")]
use crate::threads::link::LinkInlet;
#[cfg(feature = "store")]
use crate::threads::store::Store;
use crate::threads::worker::{StartWorkers, Workers};

/// What the loop has beside the engine.
pub(super) struct Outside {
    pub poll: Poll,
    pub events: Events,
    /// How many readiness events a turn takes, from the poller and from memory each.
    events_max: usize,
    pub clock: Clock,
    pub sockets: Sockets,
    pub listeners: Vec<Option<Listener>>,
    /// Connections in memory, if there can be any.
    pub memory: Option<Exchange>,
    pub refusals: Refusals,
    pub inlet: Inlet,
    pub shared: Arc<Shared>,
    pub handlers: OnLoop,
    pub pool: Option<Box<dyn Workers>>,
    /// A job that the pool had no room for.
    pub parked: Option<Job>,
    pub shared_buffer: Box<[u8]>,
    /// When to try to accept again, after descriptors or memory ran out.
    pub accept_at: Option<Instant>,
    /// When to look for handlers that do not return.
    pub watch_at: Option<Instant>,
    pub process: Gauges,
    pub log_lines_dropped: Option<Arc<AtomicUsize>>,
    /// The clients beside the server.
    #[cfg(feature = "client")]
    pub clients: Clients,
    /// How the service of `admission.request` is asked.
    #[cfg(feature = "client")]
    pub service: Service,
    #[cfg(feature = "bridge")]
    pub bridges: Bridges,
    /// Where events of durable topics are kept.
    #[cfg(feature = "store")]
    pub store: Option<Store>,
    /// The log that is shared with other servers.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Cluster>,
    /// Who is on the topics of other servers.
    #[cfg(all(feature = "cluster", feature = "presence"))]
    pub people: Option<crate::threads::cluster::People>,
}

impl Outside {
    pub fn new(
        config: &Config,
        endpoints: Endpoints,
        clock: Clock,
        start_workers: Option<StartWorkers>,
    ) -> io::Result<Outside> {
        let poll = Poll::new()?;
        let inlet = Inlet::new(Waker::new(poll.registry(), WAKER)?);
        let shared = inlet.shared();
        clock.wake(&shared);
        #[cfg(feature = "client")]
        let clients = Outside::make_clients(&shared, poll.registry(), config)?;
        let pool = match (config.workers, start_workers) {
            (0, _) | (_, None) => None,
            (count, Some(start)) => Some(start(count, &endpoints, &inlet.handle(), &shared)?),
        };
        Ok(Outside {
            events: Events::with_capacity(config.turn.events),
            events_max: config.turn.events,
            poll,
            clock,
            sockets: Sockets::default(),
            memory: None,
            listeners: Vec::new(),
            refusals: Refusals::default(),
            handlers: OnLoop::new(endpoints, &inlet),
            inlet,
            shared,
            pool,
            parked: None,
            shared_buffer: vec![0; READ_BUFFER_BYTES as usize].into_boxed_slice(),
            accept_at: None,
            watch_at: None,
            process: Gauges::new(),
            log_lines_dropped: None,
            #[cfg(feature = "client")]
            clients,
            #[cfg(feature = "client")]
            service: Service::default(),
            #[cfg(feature = "bridge")]
            bridges: Bridges::default(),
            #[cfg(feature = "store")]
            store: None,
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(all(feature = "cluster", feature = "presence"))]
            people: None,
        })
    }

    #[cfg(feature = "client")]
    fn make_clients(
        shared: &Arc<Shared>,
        registry: &Registry,
        config: &Config,
    ) -> io::Result<Clients> {
        // A channel that owned its loop would keep the loop for ever.
        let waking = Arc::downgrade(shared);
        let wake = move || {
            if let Some(shared) = waking.upgrade() {
                shared.wake();
            }
        };
        let inlet = LinkInlet::new(wake.clone());
        let _ = shared.links.set(inlet.shared.clone());
        Clients::new(inlet, wake, registry, config.tick, random_seed())
    }

    /// Waits for events, for at most `wait`.
    pub fn poll(&mut self, wait: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns whether a turn would find something to do at once.
    pub fn has_work_left(&self, engine: &Engine) -> bool {
        let mut listeners = self.listeners.iter().flatten();
        let accepts = self.accept_at.is_none()
            && listeners.any(|listener| listener.is_ready && engine.is_accepting(listener.face));
        let has_news = self.memory.as_ref().is_some_and(Exchange::has_news);
        let is_left = accepts || has_news || self.inlet.has_commands();
        #[cfg(feature = "tls")]
        let is_left = is_left
            || self.sockets.desk.as_ref().is_some_and(|desk| desk.has_work_left(self.has_room()));
        #[cfg(feature = "client")]
        let is_left = is_left || self.clients.has_work_left() || self.service.has_answers();
        #[cfg(feature = "bridge")]
        let is_left = is_left || self.bridges.has_work_left(engine, &self.clients);
        is_left
    }

    /// Returns the moments at which a turn must come.
    pub fn next_deadlines(&self) -> [Option<Instant>; 6] {
        #[cfg(feature = "tls")]
        let room_at = self.sockets.desk.as_ref().and_then(|desk| desk.next_at());
        #[cfg(not(feature = "tls"))]
        let room_at = None;
        #[cfg(feature = "client")]
        let client_at = self.clients.next_deadline();
        #[cfg(feature = "bridge")]
        let client_at = sooner(client_at, self.bridges.next_deadline());
        #[cfg(not(feature = "client"))]
        let client_at = None;
        #[cfg(feature = "store")]
        let look_at = self.store.as_ref().and_then(Store::look_at);
        #[cfg(not(feature = "store"))]
        let look_at = None;
        [self.accept_at, self.watch_at, self.refusals.next_at(), room_at, client_at, look_at]
    }

    /// Returns the slot that a readiness is for, with the state of its socket. Readiness of
    /// listeners and refused peers is handled here, and gives `None`.
    #[inline(always)]
    fn sort(&mut self, readiness: Readiness) -> Option<(usize, engine::Readiness)> {
        let Readiness { readable, writable, read_closed, write_closed, error, .. } = readiness;
        #[cfg(feature = "client")]
        if Clients::owns(readiness.token) {
            let (reads, writes) = (readable || read_closed, writable || error);
            self.clients.note_ready(readiness.token, reads, writes);
            return None;
        }
        match readiness.token {
            Token(key) if key < REFUSAL_TOKENS => {
                let closed = read_closed || error;
                let error = match error || write_closed {
                    true => self.sockets.get_mut(key).and_then(|mut socket| socket.take_error()),
                    false => None,
                };
                return Some((key, engine::Readiness { readable, writable, closed, error }));
            }
            Token(token) if token < LISTENER_TOKENS => {
                let token = token - REFUSAL_TOKENS;
                self.refusals.handle_readable(token, &mut self.shared_buffer);
            }
            WAKER => {}
            Token(token) => {
                if let Some(Some(listener)) = self.listeners.get_mut(token - LISTENER_TOKENS) {
                    listener.is_ready = true;
                }
            }
        }
        None
    }

    fn close(&mut self, key: usize) {
        self.sockets.close(key);
        #[cfg(feature = "tls")]
        self.linger();
        // A descriptor is free again: the next turn accepts a connection that waits for one.
        self.accept_at = None;
    }
}

impl World for Outside {
    type Incoming = Socket;

    fn poll_commands(&mut self) -> Option<(Option<ConnectionId>, Vec<Command>)> {
        self.inlet.poll().map(|batch| (batch.from, batch.commands))
    }

    fn command_bytes(&self) -> usize {
        #[cfg(feature = "tls")]
        let sealed = self.sockets.desk.as_ref().map_or(0, |desk| desk.held_bytes);
        #[cfg(not(feature = "tls"))]
        let sealed = 0;
        // Parts of records wait as commands do, and count as they do.
        self.inlet.bytes() + sealed
    }

    fn tell_readiness(&mut self, mut note: impl FnMut(usize, engine::Readiness)) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if let Some((key, readiness)) = self.sort(event.into()) {
                note(key, readiness);
            }
        }
        events.clear();
        self.events = events;
        #[cfg(feature = "tls")]
        self.take_steps(&mut note);
        for _ in 0..self.events_max {
            let Some(news) = self.memory.as_ref().and_then(Exchange::poll) else { break };
            if let Some((key, readiness)) = self.sort(news) {
                note(key, readiness);
            }
        }
    }

    fn poll_incoming(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        left: &mut usize,
    ) -> Option<(Socket, Face, Option<SocketAddr>)> {
        self.accept(engine, now, left)
    }

    fn admit(&mut self, engine: &Engine, id: ConnectionId, mut socket: Socket) -> io::Result<()> {
        socket.lend().configure();
        socket.lend().set_user_timeout(engine.config().deadlines.write_stall.saturating_mul(3));
        let registered = socket.lend().register(self.poll.registry(), Token(id.key()));
        debug_assert!(self.sockets.get_mut(id.key()).is_none(), "the slot is free");
        self.sockets.insert(id.key(), socket);
        registered
    }

    fn refuse(&mut self, engine: &Engine, now: Instant, socket: Socket, why: Refusal) {
        self.answer_refused(engine, now, socket, why);
    }

    fn stop_listening(&mut self, open: usize) {
        self.close_listeners(open);
    }

    #[inline]
    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)> {
        let socket = self.sockets.get_mut(key)?;
        Some((socket, &mut *self.shared_buffer, &mut self.handlers))
    }

    #[inline]
    fn run(&mut self, engine: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        self.handlers.run_job(engine, job)
    }

    #[inline]
    fn keep_spare(&mut self, commands: Vec<Command>) {
        self.handlers.keep_spare(commands);
    }

    fn dispatch(&mut self, engine: &mut Engine) {
        self.dispatch_to_workers(engine);
    }

    fn surroundings(&self) -> Surroundings {
        let waiting = self.pool.as_ref().map_or(0, |pool| pool.queued());
        let dropped = self.log_lines_dropped.as_ref().map_or(0, |n| n.load(Ordering::Relaxed));
        Surroundings {
            jobs_queued: waiting + usize::from(self.parked.is_some()),
            command_bytes: self.inlet.bytes(),
            log_lines_dropped: dropped as u64,
            process: self.process.read(),
            #[cfg(feature = "tls")]
            tls: self.tls_figures(),
            #[cfg(feature = "store")]
            store: self.store.as_ref().map(|store| Box::new(store.figures())),
            #[cfg(feature = "cluster")]
            cluster: self.cluster.as_ref().map(|cluster| Box::new(cluster.figures())),
            #[cfg(feature = "bridge")]
            bridges: self.bridges.figures(),
        }
    }

    fn apply(&mut self, engine: &Engine, action: Action) {
        match action {
            // The transport does it.
            Action::Shutdown(_) => {}
            Action::Upgraded(key) => {
                if let Some(mut socket) = self.sockets.get_mut(key) {
                    socket.set_user_timeout(user_timeout_websocket(engine.config()));
                }
            }
            Action::Close(key) => {
                debug_assert!(engine.id_of(key).is_none(), "its connection has ended");
                self.close(key);
            }
            Action::Abort(key) => {
                if let Some(mut socket) = self.sockets.get_mut(key) {
                    socket.set_abort();
                }
                self.close(key);
            }
        }
    }
}

/// How long the kernel may go on sending unacknowledged bytes to a WebSocket peer.
fn user_timeout_websocket(config: &Config) -> Duration {
    let deadlines = &config.deadlines;
    config.heartbeat.pong * config.heartbeat.max_missed
        + deadlines.close_send
        + deadlines.close_ack
        + Duration::from_secs(5)
}
