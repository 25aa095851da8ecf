//! A connection between two kernels: bytes under way in both directions, and the edges that the
//! server's poller sees.
//!
//! ```text
//!   client ──write──► up ──latency──► inbound ──read──► server
//!   client ◄──read── arrived ◄──latency── down ◄──write── server
//! ```
//!
//! Edges are as epoll's: bytes that arrive, room after there was none, FIN and RST each raise one;
//! nothing is told twice.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use crate::common::rng::Rng;
use crate::plan::Chaos;

/// What the poller says about a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    pub readable: bool,
    pub writable: bool,
    pub closed: bool,
    pub error: bool,
}

#[derive(Debug)]
pub enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Link {
    pub now: u64,
    pub latency_ms: u64,
    /// Bytes under way to the client or not read by it, at most.
    pub down_max: usize,
    /// The same for the server.
    pub up_max: usize,
    up: VecDeque<(u64, Segment)>,
    down: VecDeque<(u64, Segment)>,
    /// In the server's kernel.
    pub inbound: VecDeque<u8>,
    pub fin_arrived: bool,
    pub failed: bool,
    edge: Edge,
    edge_at: Option<u64>,
    /// The server was told that there is no room, since then.
    pub blocked_since: Option<u64>,
    pub unblocked_at: u64,
    /// Nothing was taken since chance last blocked it: not again, or a reader would look like one
    /// that does not read.
    pub was_blocked_by_chance: bool,
    pub blocked_until: u64,
    pub server_shut_at: Option<u64>,
    /// The server has begun to end its side.
    pub finish_at: Option<u64>,
    pub server_gone: bool,
    /// In the client's kernel.
    pub arrived: VecDeque<u8>,
    pub client_sees_end: bool,
    pub client_sees_reset: bool,
    client_ended: bool,
    client_gone: bool,
    /// The client has bytes that found no room, and is told when there is some.
    pub client_waits: bool,
    pub client_told_at: Option<u64>,
    pub was_reset: bool,
    /// The poller has told of FIN.
    pub fin_told_at: Option<u64>,
    /// The server has read the end.
    pub end_was_read: bool,
    pub last_read_at: u64,
    pub last_written_at: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// What the server has written and nobody has looked at yet.
    pub written: Vec<u8>,
}

impl Link {
    /// Gives when something happens here without anybody's doing.
    pub fn next_at(&self) -> Option<u64> {
        let front = |lane: &VecDeque<(u64, Segment)>| lane.front().map(|(at, _)| *at);
        let ends = [front(&self.up), front(&self.down), self.client_told_at];
        let is_blocked = self.blocked_since.is_some() && self.room() > 0;
        let unblocked = is_blocked.then_some(self.blocked_until.max(self.now));
        let server = [self.edge_at, unblocked].map(|at| at.filter(|_| !self.server_gone));
        ends.into_iter().chain(server).flatten().min()
    }

    /// Lets everything arrive that is due.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        self.client_told_at = self.client_told_at.filter(|at| *at > now);
        while self.up.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, segment)) = self.up.pop_front() else { break };
            self.arrive_at_server(segment);
        }
        while self.down.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, segment)) = self.down.pop_front() else { break };
            self.arrive_at_client(segment);
        }
        if self.blocked_since.is_some() && self.blocked_until <= now && self.room() > 0 {
            self.blocked_since = None;
            self.unblocked_at = self.now;
            self.raise(0, Edge { writable: true, ..Edge::default() });
        }
    }

    fn arrive_at_server(&mut self, segment: Segment) {
        match segment {
            // A kernel answers with a reset what comes for a socket that is closed.
            _ if self.server_gone => self.send_down(Segment::Reset),
            Segment::Bytes(bytes) => {
                self.inbound.extend(bytes);
                self.raise(0, Edge { readable: true, ..Edge::default() });
            }
            Segment::Fin => {
                self.fin_arrived = true;
                self.raise(0, Edge { readable: true, closed: true, ..Edge::default() });
            }
            Segment::Reset => {
                self.failed = true;
                self.was_reset = true;
                self.inbound.clear();
                let all = Edge { readable: true, writable: true, closed: true, error: true };
                self.raise(0, all);
            }
        }
    }

    fn arrive_at_client(&mut self, segment: Segment) {
        match segment {
            Segment::Bytes(_) | Segment::Fin if self.client_gone => self.send_up(Segment::Reset),
            Segment::Bytes(bytes) => self.arrived.extend(bytes),
            Segment::Fin => self.client_sees_end = true,
            Segment::Reset => self.client_sees_reset = true,
        }
    }

    pub fn raise(&mut self, delay_ms: u64, edge: Edge) {
        self.edge.readable |= edge.readable;
        self.edge.writable |= edge.writable;
        self.edge.closed |= edge.closed;
        self.edge.error |= edge.error;
        let at = self.now + delay_ms;
        self.edge_at = Some(self.edge_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Registers the socket: the poller tells what is so already.
    pub fn register(&mut self) {
        let readable = !self.inbound.is_empty() || self.fin_arrived || self.failed;
        let (closed, error) = (self.fin_arrived || self.failed, self.failed);
        self.raise(0, Edge { readable, writable: true, closed, error });
    }

    /// Takes what the poller has to say, or has it say so later.
    pub fn poll(&mut self, chaos: &Chaos, rng: &mut Rng) -> Option<Edge> {
        if self.edge_at.is_none_or(|at| at > self.now) {
            return None;
        }
        if rng.chance(chaos.delayed_readiness / 2) {
            let most = if rng.chance(10) { 400 } else { 50 };
            self.edge_at = Some(self.now + 1 + rng.below(most));
            return None;
        }
        self.edge_at = None;
        let mut edge = std::mem::take(&mut self.edge);
        if edge.closed {
            self.fin_told_at.get_or_insert(self.now);
        }
        // Anything may be said once too often, but for the end.
        edge.readable |= rng.chance(chaos.spurious_readiness);
        Some(edge)
    }

    /// Says whether the poller has something to say that it has not said yet.
    pub fn has_edge(&self) -> bool {
        self.edge_at.is_some()
    }

    /// Takes the error that the kernel has noted.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    pub fn room(&self) -> usize {
        let under_way = |(_, segment): &(u64, Segment)| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        let taken = self.down.iter().map(under_way).sum::<usize>() + self.arrived.len();
        self.down_max.saturating_sub(taken)
    }

    fn room_up(&self) -> usize {
        let under_way = |(_, segment): &(u64, Segment)| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        let taken = self.up.iter().map(under_way).sum::<usize>() + self.inbound.len();
        self.up_max.saturating_sub(taken)
    }

    fn send_up(&mut self, segment: Segment) {
        self.up.push_back((self.now + self.latency_ms, segment));
    }

    pub fn send_down(&mut self, segment: Segment) {
        self.down.push_back((self.now + self.latency_ms, segment));
    }

    /// The client ends its side.
    pub fn client_shut(&mut self) {
        if !std::mem::replace(&mut self.client_ended, true) {
            self.send_up(Segment::Fin);
        }
    }

    /// The client closes its socket: what comes from now on is answered with a reset.
    pub fn client_close(&mut self) {
        self.client_shut();
        self.client_gone = true;
        self.arrived.clear();
    }

    /// The client, or the network between, resets the connection.
    pub fn reset(&mut self) {
        self.was_reset = true;
        self.client_ended = true;
        self.client_gone = true;
        self.client_sees_reset = true;
        self.up.clear();
        self.send_up(Segment::Reset);
    }

    /// Says whether the client can still send.
    pub fn is_client_open(&self) -> bool {
        !self.client_ended && !self.client_sees_reset
    }

    /// The server sends FIN.
    pub fn server_shut(&mut self) {
        assert!(self.server_shut_at.is_none(), "FIN was sent twice");
        self.server_shut_at = Some(self.now);
        self.finish_at.get_or_insert(self.now);
        self.send_down(Segment::Fin);
    }

    /// The server closes its socket. With bytes unread a kernel resets, whatever was wanted.
    pub fn server_close(&mut self, aborts: bool) {
        self.server_gone = true;
        if aborts || !self.inbound.is_empty() {
            if aborts {
                self.down.clear();
            }
            self.send_down(Segment::Reset);
        } else if self.server_shut_at.is_none() {
            self.send_down(Segment::Fin);
        }
    }
}

/// The client's end reads and writes the link itself.
impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.arrived.len());
        take_front(&mut self.arrived, &mut buffer[..len]);
        match len {
            0 if self.client_sees_reset => Err(ErrorKind::ConnectionReset.into()),
            0 if self.client_sees_end => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_client_open() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(self.room_up());
        self.client_waits |= len < bytes.len();
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.send_up(Segment::Bytes(bytes[..len].to_vec()));
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn take_front(bytes: &mut VecDeque<u8>, buffer: &mut [u8]) {
    bytes.read_exact(buffer).expect("they are there");
}
