//! A server in memory, by a clock of the test's own, and peers that say what the test says and
//! nothing else.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use heartwheel::{Config, Handle, MemoryPeer, Server, Stats};

use super::http::upgrade_request;
use super::timing::ms;
use super::world::{World, routes};

/// A server and its peers, each known by its place. Whatever the server sends is read at once.
pub struct Lines {
    world: World,
    lines: Vec<Line>,
}

struct Line {
    peer: MemoryPeer,
    /// What there was no room for yet.
    unsent: VecDeque<u8>,
    received: Vec<u8>,
    is_over: bool,
}

impl Lines {
    /// Each pair is a key of the configuration and its value.
    pub fn new(pairs: &[(&str, &str)]) -> Lines {
        let base = [("tick", "10ms"), ("heartbeat.interval", "off")];
        Lines { world: World::new(&[&base, pairs].concat(), routes()), lines: Vec::new() }
    }

    pub fn server(&self) -> &Server {
        &self.world.server
    }

    /// Gives the configuration that the server began with.
    pub fn config(&self) -> Config {
        self.world.config.clone()
    }

    pub fn handle(&self) -> Handle {
        self.world.server.handle()
    }

    pub fn stats(&self) -> &Stats {
        self.world.server.stats()
    }

    /// Lets a peer connect, which the server sees with its next turn.
    pub fn connect(&mut self) -> usize {
        self.add(self.world.network.connect().expect("the server listens"))
    }

    /// Lets the operator connect.
    pub fn connect_admin(&mut self) -> usize {
        self.add(self.world.network.connect_admin().expect("the server listens"))
    }

    fn add(&mut self, peer: MemoryPeer) -> usize {
        let (unsent, received) = (VecDeque::new(), Vec::new());
        self.lines.push(Line { peer, unsent, received, is_over: false });
        self.lines.len() - 1
    }

    /// Opens a WebSocket.
    #[track_caller]
    pub fn open(&mut self, path: &str) -> usize {
        let line = self.connect();
        self.send(line, upgrade_request(path, ""));
        self.settle();
        let answer = self.received(line);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        line
    }

    /// Sends bytes to the server, which sees them with its next turn.
    pub fn send(&mut self, line: usize, bytes: impl AsRef<[u8]>) {
        self.lines[line].unsent.extend(bytes.as_ref());
        self.lines[line].attend();
    }

    /// Ends the peer's side.
    pub fn end(&mut self, line: usize) {
        self.lines[line].peer.shut_down();
    }

    pub fn reset(&mut self, line: usize) {
        self.lines[line].peer.reset();
    }

    /// Publishes so many events of one byte to the topic `a`.
    pub fn publish(&self, count: usize) {
        (0..count).for_each(|_| self.handle().publish("a", "x").expect("there is room"));
    }

    /// Gives what the peer has received since it was last asked.
    pub fn received(&mut self, line: usize) -> Vec<u8> {
        std::mem::take(&mut self.lines[line].received)
    }

    /// Says whether the server has ended its side.
    pub fn is_over(&self, line: usize) -> bool {
        self.lines[line].is_over
    }

    /// Lets server and peers speak until neither has anything to say at this time.
    #[track_caller]
    pub fn settle(&mut self) {
        loop {
            self.world.settle();
            let moved =
                self.lines.iter_mut().filter_map(|line| line.attend().then_some(())).count();
            if moved == 0 && self.world.server.next_timeout() != Some(Duration::ZERO) {
                return;
            }
        }
    }

    /// Lets time pass, with a turn whenever the server asks for one and none else.
    #[track_caller]
    pub fn run_for(&mut self, span_ms: u64) {
        let end = self.world.clock.elapsed() + ms(span_ms);
        loop {
            self.settle();
            let left = end - self.world.clock.elapsed();
            if left.is_zero() {
                return;
            }
            let wait = self.world.server.next_timeout();
            self.world.clock.advance(wait.map_or(left, |wait| wait.min(left)));
        }
    }
}

impl Line {
    /// Writes what waits, and reads what has come. Says whether anything went through.
    fn attend(&mut self) -> bool {
        let mut has_moved = false;
        while !self.unsent.is_empty() {
            match self.peer.write(self.unsent.as_slices().0) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.unsent.clear(),
            }
            has_moved = true;
        }
        let mut buffer = [0; 16 * 1024];
        while !self.is_over {
            match self.peer.read(&mut buffer) {
                Ok(len @ 1..) => self.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => self.is_over = true,
            }
            has_moved = true;
        }
        has_moved
    }
}
