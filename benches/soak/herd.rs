//! Many clients on one poller.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::SockRef;

use crate::client::{Client, Next};
use crate::common::rng::Rng;
use crate::script::{Kind, Scripts};
use crate::tally::{Outcome, Tally};

pub struct Herd {
    poll: Poll,
    events: Events,
    clients: Slab<(u64, Client)>,
    /// Tells a client from one that had its place before.
    serial: u64,
    /// When which client goes on.
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    /// Clients with something to do, and whether their connection has ended.
    ready: VecDeque<(usize, u64, bool)>,
}

impl Herd {
    pub fn new() -> Herd {
        Herd {
            poll: Poll::new().expect("a poller can be had"),
            events: Events::with_capacity(256),
            clients: Slab::new(),
            serial: 0,
            timers: BinaryHeap::new(),
            ready: VecDeque::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    /// Says whether a client has something to do at once.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives when the next client goes on by itself.
    pub fn next_at(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn connect(
        &mut self,
        address: SocketAddr,
        kind: Kind,
        scripts: &Scripts,
        rng: &mut Rng,
        tally: &mut Tally,
    ) {
        let offset = rng.below(1000) as f64 / 1000.0;
        let connected = Client::connect(address, kind, scripts.draw(kind, rng), offset);
        let Ok(client) = connected else { return tally.end(kind, Outcome::Failed) };
        tally.connected += 1;
        self.serial += 1;
        let key = self.clients.insert((self.serial, client));
        let stream = &mut self.clients[key].1.stream;
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(stream, Token(key), both);
        registered.expect("a socket can be watched");
        if kind == Kind::Reset {
            // At once: the server is to accept what is gone already.
            self.ready.push_back((key, self.serial, false));
        }
    }

    /// Finds out who has something to do.
    pub fn gather(&mut self) {
        // Interrupted, it gives nothing: then there is nothing.
        let _ = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        for event in &self.events {
            let key = event.token().0;
            if let Some((serial, _)) = self.clients.get(key) {
                let has_ended = event.is_error() || event.is_read_closed();
                self.ready.push_back((key, *serial, has_ended));
            }
        }
        let now = Instant::now();
        while let Some(Reverse((at, key, serial))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            self.ready.push_back((key, serial, false));
        }
    }

    /// Lets one client go on. Says whether there was one.
    pub fn serve_one(&mut self, tally: &mut Tally) -> bool {
        let Some((key, serial, has_ended)) = self.ready.pop_front() else { return false };
        let Some((own, client)) = self.clients.get_mut(key) else { return true };
        if *own != serial {
            return true;
        }
        match client.go_on(has_ended, tally) {
            Next::Wait(None) => {}
            Next::Wait(Some(at)) => self.timers.push(Reverse((at, key, serial))),
            Next::Again => self.ready.push_back((key, serial, false)),
            Next::Over(outcome) => {
                let (_, client) = self.clients.remove(key);
                tally.end(client.kind, outcome);
            }
        }
        true
    }

    /// Resets all clients.
    pub fn drop_all(&mut self, tally: &mut Tally) {
        for (_, client) in self.clients.drain() {
            // Its peer may be gone.
            let _ = SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
            tally.end(client.kind, Outcome::Own);
        }
        self.ready.clear();
        self.timers.clear();
    }
}
