//! Listeners, and what becomes of a connection between the kernel's queue and the engine.

use std::io;
use std::time::Duration;

use log::{debug, info, warn};
use mio::Token;

use super::{EventLoop, LISTENER_TOKENS, REFUSAL_TOKENS};
use crate::bind::Adopted;
use crate::config::Address;
use crate::http::{Caching, Refusal, Response, Wire, date};
use crate::listener::{Accepted, Listener, LocalAddress};
use crate::memory::MemoryNetwork;
use crate::route::Face;
use crate::socket::Socket;
use crate::time::Instant;

impl EventLoop {
    /// Binds an address and gives the ones really bound.
    pub fn listen(&mut self, address: &Address, face: Face) -> io::Result<Vec<LocalAddress>> {
        let bound = Listener::bind(address, &self.engine.config().unix, face)?;
        bound.into_iter().map(|listener| self.add_bound(listener)).collect()
    }

    /// Takes over a listener and gives its address.
    pub fn adopt(&mut self, adopted: Adopted, face: Face) -> io::Result<LocalAddress> {
        self.add_bound(Listener::adopt(adopted, face)?)
    }

    /// Listens in memory, for all faces.
    pub fn listen_memory(&mut self, network: &MemoryNetwork) -> io::Result<()> {
        let exchange = network.listen(&self.shared)?;
        for face in [Face::Public, Face::Admin] {
            self.add_listener(Listener::in_memory(exchange.clone(), face))?;
        }
        self.memory = Some(exchange);
        Ok(())
    }

    fn add_bound(&mut self, listener: Listener) -> io::Result<LocalAddress> {
        let address = listener.local_address()?;
        self.add_listener(listener)?;
        Ok(address)
    }

    fn add_listener(&mut self, mut listener: Listener) -> io::Result<()> {
        let token = Token(LISTENER_TOKENS + self.listeners.len());
        listener.register(self.poll.registry(), token)?;
        self.listeners.push(Some(listener));
        Ok(())
    }

    pub(super) fn accept(&mut self, now: Instant) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
        }
        self.refusals.expire(now);
        let (mut left, mut failed) = (ACCEPTS_PER_TURN, 0);
        for index in 0..self.listeners.len() {
            while left > 0 && self.accept_at.is_none() {
                let Some(listener) = &mut self.listeners[index] else { break };
                if !listener.is_ready || !self.engine.may_accept(now, listener.face) {
                    break;
                }
                left -= 1;
                let face = listener.face;
                match listener.accept() {
                    Accepted::Socket(socket) => self.take_in(now, socket, face),
                    Accepted::Nobody => listener.is_ready = false,
                    Accepted::Failed(error) => {
                        self.engine.stats_mut().accept_errors += 1;
                        debug!("accept failed: {error}");
                        failed += 1;
                        if failed == ACCEPTS_PER_TURN {
                            // A turn of nothing else: the next would be the same.
                            self.pause_accepting(now, &error);
                        }
                    }
                    Accepted::Exhausted(error) => self.pause_accepting(now, &error),
                }
            }
        }
    }

    /// Descriptors or memory have run out, or nothing succeeds. Linux tells no edge when there is
    /// room again, so it is tried at each close and now and then.
    fn pause_accepting(&mut self, now: Instant, error: &io::Error) {
        self.accept_at = Some(now + ACCEPT_RETRY + Instant::RESOLUTION);
        let open = self.engine.len();
        let stats = self.engine.stats_mut();
        stats.accept_pauses += 1;
        if stats.accept_pauses.is_power_of_two() {
            warn!("accepting paused times={} open={}: {error}", stats.accept_pauses, open);
        }
    }

    fn take_in(&mut self, now: Instant, mut socket: Socket, face: Face) {
        let id = match self.engine.accept(now, face, socket.lend().peer()) {
            Ok(id) => id,
            Err(refusal) => return self.refuse(now, socket, refusal),
        };
        let token = Token(id.key());
        socket.lend().configure();
        socket.lend().set_user_timeout(self.user_timeout_http());
        let registered = socket.lend().register(self.poll.registry(), token);
        self.sockets.insert(id.key(), socket);
        if let Err(error) = registered {
            // It has failed before it was anything: the kernel has run out of room to watch it.
            self.engine.handle_error(now, id, &error);
            self.apply_actions();
        }
    }

    fn refuse(&mut self, now: Instant, socket: Socket, refusal: Refusal) {
        let date = date(self.clock.unix_ms());
        let wire = Wire { date: &date, keep_alive: None, head_only: false };
        let answer = Response::from(refusal).caching(Caching::NoStore).encode(&wire);
        let expires_at = now + self.engine.config().deadlines.close_ack;
        let registry = self.poll.registry();
        self.refusals.refuse(socket, &answer, expires_at, registry, REFUSAL_TOKENS);
    }

    /// Whoever had connected before was accepted just now: it is told, not left hanging.
    pub(super) fn close_listeners_when_draining(&mut self) {
        let is_public = |listener: &Listener| listener.face != Face::Admin;
        if !self.engine.is_draining() || !self.listeners.iter().flatten().any(is_public) {
            return;
        }
        let mut closed = 0;
        for slot in &mut self.listeners {
            if slot.as_ref().is_some_and(is_public) {
                *slot = None;
                closed += 1;
            }
        }
        info!("listeners closed count={closed} open={}", self.engine.len());
    }
}

const ACCEPTS_PER_TURN: usize = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(250);
