//! Clients on a loop: the server's, or one of their own. The loop polls, reads the clock and calls
//! [`Clients::turn`]; here are the sockets, the wheel and the names.

mod entry;
mod names;
mod stream;
#[cfg(feature = "tls")]
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use slab::Slab;

use crate::core::client::{Common, Means, State};
use crate::core::ground::time::Instant;
#[cfg(feature = "deflate")]
use crate::core::ground::time::sooner;
use crate::core::ground::wheel::Wheel;
use crate::io::memory::MemoryNetwork;
#[cfg(any(feature = "ffi", feature = "bridge"))]
use crate::threads::link::Link;
#[cfg(feature = "ffi")]
use crate::threads::link::LinkEvent;
use crate::threads::link::{LinkInlet, LinkOrder, LinkShared, NewLink};

pub(crate) use entry::Entry;
use entry::{Around, TOKENS};
use names::Names;

/// The clients of one loop.
pub(crate) struct Clients {
    inlet: LinkInlet,
    entries: Slab<Entry>,
    /// Where each client is, by its number.
    places: BTreeMap<u64, usize>,
    wheel: Wheel,
    names: Names,
    registry: Registry,
    common: Common,
    /// Made when there is something to read.
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// Clients to which something has happened.
    due: VecDeque<usize>,
    /// Where clients connect instead of over the network.
    network: Option<MemoryNetwork>,
    /// Clients that no poller tells of.
    in_memory: usize,
    /// The client without a handler whose event was taken last.
    #[cfg(feature = "ffi")]
    pulled: usize,
}

impl Clients {
    /// Makes the clients of a loop that `inlet` and `wake` wake.
    pub fn new(
        inlet: LinkInlet,
        wake: impl Fn() + Send + Sync + 'static,
        registry: &Registry,
        tick: Duration,
        seed: u64,
    ) -> io::Result<Clients> {
        let mut common = Common::new(seed);
        common.memory.set_limit(SPARE_BYTES_MAX);
        Ok(Clients {
            inlet,
            entries: Slab::new(),
            places: BTreeMap::new(),
            wheel: Wheel::new(tick),
            names: Names::new(wake),
            registry: registry.try_clone()?,
            common,
            buffer: Vec::new(),
            scratch: Vec::new(),
            due: VecDeque::new(),
            network: None,
            in_memory: 0,
            #[cfg(feature = "ffi")]
            pulled: 0,
        })
    }

    /// Has clients that are made from now on connect within the process.
    pub fn set_network(&mut self, network: MemoryNetwork) {
        self.network = Some(network);
    }

    /// Returns what makes clients.
    pub fn shared(&self) -> &std::sync::Arc<LinkShared> {
        &self.inlet.shared
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether readiness with this token is for a client.
    pub fn owns(token: Token) -> bool {
        token.0 >= FIRST_TOKEN && token.0 < FIRST_TOKEN + CLIENTS_MAX * TOKENS
    }

    /// Takes note of the readiness of a socket.
    pub fn note_ready(&mut self, token: Token, readable: bool, writable: bool) {
        let index = token.0 - FIRST_TOKEN;
        let key = index / TOKENS;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.note_ready(index % TOKENS, readable, writable);
            self.mark(key);
        }
    }

    /// Returns whether a turn would find something to do at once.
    pub fn has_work_left(&self) -> bool {
        let has_news = |(_, entry): (usize, &Entry)| entry.is_in_memory() && entry.has_news();
        !self.due.is_empty()
            || self.inlet.has_orders()
            || self.names.has_found()
            || (self.in_memory > 0 && self.entries.iter().any(has_news))
    }

    /// Returns whether orders wait, which the loop must look for before it sleeps.
    pub fn has_orders(&self) -> bool {
        self.inlet.has_orders() || self.names.has_found()
    }

    /// Returns how long the loop may wait where no poller tells of clients in memory.
    pub fn patience(&self) -> Option<Duration> {
        (self.in_memory > 0).then_some(Duration::from_millis(1))
    }

    /// Returns when the next turn must come.
    pub fn next_deadline(&self) -> Option<Instant> {
        let at = self.wheel.next_deadline();
        #[cfg(feature = "deflate")]
        let at = sooner(at, self.common.coders.rests_at());
        at
    }

    /// Does what is due, and what sockets are ready for.
    pub fn turn(&mut self, now: Instant) {
        self.take_orders(now);
        while let Some(found) = self.names.poll() {
            let (number, asked) = found.asker;
            let Some(&key) = self.places.get(&number) else { continue };
            self.with(now, key, |entry, means| {
                entry.dialler.resolved(means, asked, found.addresses);
            });
        }
        if self.in_memory > 0 {
            let in_memory = self.entries.iter().filter(|(_, entry)| entry.is_in_memory());
            let keys: Vec<usize> = in_memory.map(|(key, _)| key).collect();
            keys.into_iter().for_each(|key| self.mark(key));
        }
        while let Some(key) = self.wheel.poll_expired(now) {
            self.with(now, key, |entry, means| entry.dialler.timeout(means));
        }
        for _ in 0..self.due.len() {
            let Some(key) = self.due.pop_front() else { break };
            self.drive(now, key);
        }
        self.take_orders(now);
        self.common.memory.rest(now);
        #[cfg(feature = "deflate")]
        self.common.coders.rest(now);
        if self.entries.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Takes note that time has jumped.
    pub fn handle_time_jump(&mut self, now: Instant) {
        let keys: Vec<usize> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(now, key, |entry, means| entry.dialler.handle_time_jump(means));
        }
    }

    /// Ends all clients, since the loop ends: open connections are told so, as far as one write
    /// goes, and each handler is told of the end of its client.
    pub fn end(&mut self, now: Instant) {
        let keys: Vec<usize> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(now, key, |entry, means| entry.stop(means, 1001, ""));
            self.drive(now, key);
            self.with(now, key, Entry::end);
        }
    }

    /// Returns whether a client without a handler has been told something.
    #[cfg(feature = "bridge")]
    pub fn has_inbox(&self, number: u64) -> bool {
        self.places.get(&number).is_some_and(|&key| self.entries[key].has_inbox())
    }

    /// Lends a client, for a caller on the loop's thread; `None` if it is gone.
    pub fn ask<T>(
        &mut self,
        now: Instant,
        number: u64,
        ask: impl FnOnce(&mut Entry, &mut Means<'_>) -> T,
    ) -> Option<T> {
        let key = *self.places.get(&number)?;
        self.with(now, key, ask)
    }

    /// Makes a client without a handler, at once.
    #[cfg(any(feature = "ffi", feature = "bridge"))]
    pub fn connect(&mut self, now: Instant, dial: crate::threads::dial::Dial) -> Link {
        let link = self.inlet.shared.connect(dial, None).expect("the loop is here");
        self.take_orders(now);
        link
    }

    /// Takes the next event of a client without a handler, with the client's number.
    #[cfg(feature = "ffi")]
    pub fn poll_inbox(&mut self, now: Instant) -> Option<(u64, LinkEvent)> {
        // In turn: one that is told much holds up no other.
        let told = |(key, entry): (usize, &Entry)| entry.has_inbox().then_some(key);
        let behind = |key: &usize| *key > self.pulled;
        let mut keys = self.entries.iter().filter_map(told);
        let key = keys.clone().find(behind).or_else(|| keys.next())?;
        self.pulled = key;
        let number = self.entries[key].link.number();
        let event = self.with(now, key, |entry, _| entry.pop_inbox())??;
        Some((number, event))
    }

    /// Forgets a client without a handler that has stopped.
    #[cfg(feature = "ffi")]
    pub fn forget(&mut self, number: u64) {
        if let Some(&key) = self.places.get(&number) {
            self.remove(key);
        }
    }

    fn take_orders(&mut self, now: Instant) {
        // Those that are given meanwhile wait for the next turn.
        for _ in 0..ORDERS_PER_TURN {
            let Some((number, order)) = self.inlet.poll() else { break };
            match order {
                LinkOrder::Connect(new) => self.add(now, *new),
                LinkOrder::Request(new, mut answering) => {
                    answering.note_taken();
                    self.add(now, NewLink { handler: Some(Box::new(answering)), ..*new });
                }
                order => {
                    let Some(&key) = self.places.get(&number) else { continue };
                    self.with(now, key, |entry, means| {
                        entry.link.note_taken(&order);
                        entry.take_order(means, order);
                    });
                }
            }
        }
    }

    fn add(&mut self, now: Instant, new: NewLink) {
        let NewLink { link, dial, handler } = new;
        if self.entries.len() >= CLIENTS_MAX {
            log::error!("there are {CLIENTS_MAX} clients: no more is made");
            link.note_state(State::Stopped);
            return;
        }
        let number = link.number();
        let network = self.network.clone();
        self.in_memory += usize::from(network.is_some());
        let entry = Entry::new(link, dial, handler, network, &mut self.common.means(now));
        let key = self.entries.insert(entry);
        self.places.insert(number, key);
        self.with(now, key, |entry, means| entry.dialler.timeout(means));
    }

    fn with<T>(
        &mut self,
        now: Instant,
        key: usize,
        act: impl FnOnce(&mut Entry, &mut Means<'_>) -> T,
    ) -> Option<T> {
        let acted = act(self.entries.get_mut(key)?, &mut self.common.means(now));
        self.mark(key);
        Some(acted)
    }

    fn mark(&mut self, key: usize) {
        if let Some(entry) = self.entries.get_mut(key)
            && !std::mem::replace(&mut entry.is_due, true)
        {
            self.due.push_back(key);
        }
    }

    fn drive(&mut self, now: Instant, key: usize) {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.is_due = false;
        let mut means = self.common.means(now);
        let mut around = Around {
            registry: &self.registry,
            names: &self.names,
            token: FIRST_TOKEN + key * TOKENS,
            buffer: &mut self.buffer,
            scratch: &mut self.scratch,
        };
        let has_more = entry.drive(&mut means, &mut around);
        // What is left of a turn's work may be what the application is to be told.
        if entry.is_over() && !has_more {
            return self.remove(key);
        }
        match entry.dialler.poll_timeout(now) {
            Some(at) => self.wheel.arm(key, at),
            None => drop(self.wheel.disarm(key)),
        }
        if has_more {
            self.mark(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let entry = self.entries.remove(key);
        self.in_memory -= usize::from(entry.is_in_memory());
        self.places.remove(&entry.link.number());
        self.wheel.disarm(key);
    }
}

/// Above the slots of connections, below all else that the loop registers.
const FIRST_TOKEN: usize = 1 << 28;
const CLIENTS_MAX: usize = 1 << 20;

/// Two records of TLS fit.
const BUFFER_BYTES: usize = 40 << 10;

/// How many orders of applications are taken at once.
const ORDERS_PER_TURN: usize = 1024;

/// What is kept of the memory of large messages.
const SPARE_BYTES_MAX: usize = 1 << 20;
