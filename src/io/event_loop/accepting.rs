//! Listeners, and the way of a connection from the kernel's queue to the engine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};
use mio::Token;

use super::outside::Outside;
use super::{EventLoop, LISTENER_TOKENS, REFUSAL_TOKENS};
use crate::core::config::{Address, NEEDS_TRUSTED};
use crate::core::contract::route::Face;
use crate::core::engine::{ACCEPTS_PER_TURN, Engine};
use crate::core::ground::time::Instant;
use crate::core::wire::http::{Caching, Refusal, Response, Wire, date};
use crate::io::bind::Adopted;
use crate::io::listener::{Accepted, Listener, LocalAddress};
use crate::io::memory::MemoryNetwork;
use crate::io::socket::{Socket, Speech};

impl EventLoop {
    /// Binds an address and returns the addresses really bound.
    pub fn listen(&mut self, address: &Address, face: Face) -> io::Result<Vec<LocalAddress>> {
        let speech = address.into();
        self.check_speech(speech)?;
        let bound = Listener::bind(address, &self.engine.config().unix, face, speech)?;
        bound.into_iter().map(|listener| self.add_bound(listener)).collect()
    }

    /// Takes over a listener and returns its address.
    pub fn adopt(
        &mut self,
        adopted: Adopted,
        face: Face,
        speech: Speech,
    ) -> io::Result<LocalAddress> {
        self.check_speech(speech)?;
        self.add_bound(Listener::adopt(adopted, face, speech)?)
    }

    /// Without a certificate there is no address of TLS, and none for proxies without some that are
    /// trusted.
    fn check_speech(&self, speech: Speech) -> io::Result<()> {
        let needs = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        #[cfg(feature = "tls")]
        if speech.is_tls && self.outside.sockets.desk.is_none() {
            return needs("needs tls.certificate and tls.key");
        }
        match speech.is_proxy && self.engine.config().proxy.trusted.is_empty() {
            true => needs(NEEDS_TRUSTED),
            false => Ok(()),
        }
    }

    /// Listens in memory, for the public and the operator.
    pub fn listen_memory(&mut self, network: &MemoryNetwork) -> io::Result<()> {
        let exchange = network.listen(&self.outside.shared)?;
        for face in [Face::Public, Face::Admin] {
            self.add_listener(Listener::in_memory(exchange.clone(), face))?;
        }
        self.outside.memory = Some(exchange);
        Ok(())
    }

    fn add_bound(&mut self, listener: Listener) -> io::Result<LocalAddress> {
        let address = listener.local_address()?;
        self.add_listener(listener)?;
        Ok(address)
    }

    fn add_listener(&mut self, mut listener: Listener) -> io::Result<()> {
        let token = Token(LISTENER_TOKENS + self.outside.listeners.len());
        listener.register(self.outside.poll.registry(), token)?;
        self.outside.listeners.push(Some(listener));
        Ok(())
    }
}

impl Outside {
    /// Accepts the next connection of a listener, unless this turn has accepted enough.
    pub fn accept(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        left: &mut usize,
    ) -> Option<(Socket, Face, Option<SocketAddr>)> {
        self.accept_at.take_if(|at| *at <= now);
        self.refusals.expire(now);
        let mut failed = 0;
        for index in 0..self.listeners.len() {
            while *left > 0 && self.accept_at.is_none() {
                let Some(listener) = &mut self.listeners[index] else { break };
                if !listener.is_ready || !engine.may_accept(now, listener.face) {
                    break;
                }
                *left -= 1;
                match listener.accept() {
                    Accepted::Socket(mut socket) => {
                        let peer = socket.lend().peer();
                        return Some((socket, listener.face, peer));
                    }
                    Accepted::Nobody => listener.is_ready = false,
                    Accepted::Failed(error) => {
                        engine.stats_mut().accept_errors += 1;
                        debug!("accept failed: {error}");
                        failed += 1;
                        if failed == ACCEPTS_PER_TURN {
                            // Every attempt of this turn failed: the next would be the same.
                            self.pause_accepting(engine, now, &error);
                        }
                    }
                    Accepted::Exhausted(error) => self.pause_accepting(engine, now, &error),
                }
            }
        }
        None
    }

    /// Pauses accepting: descriptors or memory have run out, or nothing succeeds. Linux raises no
    /// edge when there is room again, so the loop tries at each close and every 250 ms.
    fn pause_accepting(&mut self, engine: &mut Engine, now: Instant, error: &io::Error) {
        self.accept_at = Some(now + ACCEPT_RETRY + Instant::RESOLUTION);
        let open = engine.len();
        let stats = engine.stats_mut();
        stats.accept_pauses += 1;
        if stats.accept_pauses.is_power_of_two() {
            warn!("accepting paused times={} open={}: {error}", stats.accept_pauses, open);
        }
    }

    /// Answers a connection that gets no slot; not a byte goes to who may not connect there.
    pub fn answer_refused(
        &mut self,
        engine: &Engine,
        now: Instant,
        mut socket: Socket,
        why: Refusal,
    ) {
        let expires_at = now + engine.config().deadlines.close_ack;
        let registry = self.poll.registry();
        if socket.is_proxied() && !engine.trusts(socket.lend().peer()) {
            return self.refusals.linger(socket, expires_at, registry, REFUSAL_TOKENS);
        }
        let date = date(self.clock.unix_ms());
        let wire = Wire { date: &date, keep_alive: None, head_only: false };
        let answer = Response::from(why).caching(Caching::NoStore).encode(&wire);
        self.refusals.refuse(socket, &answer, expires_at, registry, REFUSAL_TOKENS);
    }

    /// Closes all listeners except the operator's.
    pub fn close_listeners(&mut self, open: usize) {
        let is_public = |listener: &Listener| listener.face != Face::Admin;
        if !self.listeners.iter().flatten().any(is_public) {
            return;
        }
        let mut closed = 0;
        for slot in &mut self.listeners {
            if slot.as_ref().is_some_and(is_public) {
                *slot = None;
                closed += 1;
            }
        }
        info!("listeners closed count={closed} open={open}");
    }
}

const ACCEPT_RETRY: Duration = Duration::from_millis(250);
