//! Many connections on one edge-triggered poller, served by one thread with one read buffer.
//!
//! After a short read a socket is not read again: a later arrival raises an event of its own. What
//! all messages of one event ask for leaves in one write, unless each is to have its own. The clock
//! is read once before the messages of a read are counted, and once before a write.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slab::Slab;

use super::connection::{Connection, Endpoint, Phase, source};
use super::errors::Errors;
use super::reader::{Framing, Piece};
use super::ring::Ring;

pub struct Herd {
    poll: Poll,
    events: Events,
    pub connections: Slab<Connection>,
    ring: Ring,
    framing: Framing,
    size: u64,
    buffer: Box<[u8]>,
    began: Instant,
    /// Whether every byte is compared with what was sent.
    pub verifies: bool,
    /// Whether each message goes out in a write of its own.
    pub is_singly: bool,
    /// Whether connections begin at different messages; or all at the same, as they must where all
    /// receive what one sends.
    pub begin_apart: bool,
    pub errors: Errors,
}

/// What a connection has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is connected and, if that was asked for, upgraded, at `now`.
    Opened {
        now: u64,
    },
    /// A message came, at `now`. `stamp` is that of the oldest message of ours without an echo.
    Message {
        stamp: Option<u64>,
        now: u64,
    },
    Ping,
    /// It is gone, and was never open.
    Refused,
    /// It is gone.
    Ended,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// Send this many messages.
    Send(usize),
    /// Send a close frame, or end the sending half.
    Leave,
}

impl Herd {
    /// Makes a herd without connections, whose messages have `size` bytes.
    pub fn new(ring: Ring, framing: Framing, size: usize) -> Herd {
        Herd {
            poll: Poll::new().expect("a poller can be had"),
            events: Events::with_capacity(1024),
            connections: Slab::new(),
            ring,
            framing,
            size: size as u64,
            buffer: vec![0; READ_BYTES].into(),
            began: Instant::now(),
            verifies: false,
            is_singly: false,
            begin_apart: true,
            errors: Errors::default(),
        }
    }

    /// Gives the nanoseconds since the herd began.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Begins a connection, the one after `index` others.
    pub fn connect(
        &mut self,
        endpoint: &Endpoint,
        source: Option<IpAddr>,
        index: usize,
    ) -> io::Result<usize> {
        let first = if self.begin_apart { index } else { 0 };
        let connection = Connection::begin(endpoint, source, &self.ring, self.framing, first)?;
        let key = self.connections.insert(connection);
        let stream = self.connections[key].stream.socket_mut();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(key), both)?;
        Ok(key)
    }

    /// Opens this many connections, a few at a time, from several addresses if there are many.
    /// Gives how many are open at last; the others are errors.
    pub fn open(&mut self, endpoint: &Endpoint, count: usize) -> usize {
        let patience = Instant::now() + OPEN_MAX;
        let is_many = count > SOURCE_CONNECTIONS_MAX;
        let (mut begun, mut opened, mut refused) = (0, 0, 0);
        while opened + refused < count && Instant::now() < patience {
            while begun < count && begun < opened + refused + OPENING_MAX {
                let source = source(endpoint, begun).filter(|_| is_many);
                if let Err(error) = self.connect(endpoint, source, begun) {
                    self.errors.refuse(&format!("connect: {error}"));
                    refused += 1;
                }
                begun += 1;
            }
            self.turn(Some(Instant::now() + OPEN_STEP), |_, told| {
                match told {
                    Told::Opened { .. } => opened += 1,
                    Told::Refused => refused += 1,
                    _ => {}
                }
                Act::Nothing
            });
        }
        for _ in opened + refused..count {
            self.errors.refuse("a handshake took too long");
        }
        opened
    }

    /// Sends messages on a connection, in one write.
    pub fn send(&mut self, key: usize, count: usize, stamp: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.send(count, stamp, &self.ring);
        self.flush(key, &mut |_, _| Act::Nothing);
    }

    /// Waits for events until a moment, or for ever, and serves them.
    pub fn turn(&mut self, until: Option<Instant>, mut told: impl FnMut(usize, Told) -> Act) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.wait(&mut events, until);
        for event in &events {
            let key = event.token().0;
            let has_ended = event.is_read_closed() || event.is_error();
            if event.is_writable() && !has_ended {
                self.open_bare(key, &mut told);
            }
            if event.is_readable() || has_ended {
                self.receive(key, has_ended, &mut told);
            }
            self.flush(key, &mut told);
        }
        self.events = events;
    }

    /// Sends nothing more, and waits until what was sent has come back. What has not is an error.
    pub fn catch_up(&mut self, mut told: impl FnMut(Told)) {
        let patience = Instant::now() + CATCH_UP_MAX;
        let waits = |herd: &Herd| herd.connections.iter().any(|(_, one)| !one.stamps.is_empty());
        while waits(self) && Instant::now() < patience {
            self.turn(Some(Instant::now() + OPEN_STEP), |_, what| {
                told(what);
                Act::Nothing
            });
        }
        let missing: usize = self.connections.iter().map(|(_, one)| one.stamps.len()).sum();
        if missing > 0 {
            self.errors.unanswered += missing as u64;
            self.errors.note(format!("{missing} messages came back never"));
        }
    }

    /// Ends all connections without ceremony.
    pub fn drop_all(&mut self) {
        self.connections.iter().for_each(|(_, connection)| connection.reset_at_end());
        self.connections.clear();
    }

    /// epoll counts in milliseconds: for a shorter time it is the poller that is waited for.
    fn wait(&mut self, events: &mut Events, until: Option<Instant>) {
        let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Interrupted, it gives nothing: then there is nothing.
        match rest {
            Some(rest) if rest < FINE => {
                let _ = self.poll.poll(events, Some(Duration::ZERO));
                if events.is_empty() && !rest.is_zero() {
                    let rest = Timespec { tv_sec: 0, tv_nsec: rest.subsec_nanos().into() };
                    let poller = self.poll.registry().as_fd();
                    let poller = PollFd::from_borrowed_fd(poller, PollFlags::IN);
                    let _ = poll(&mut [poller], Some(&rest));
                    let _ = self.poll.poll(events, Some(Duration::ZERO));
                }
            }
            rest => drop(self.poll.poll(events, rest)),
        }
    }

    /// Where no upgrade is asked for, a connection is open when it can be written to.
    fn open_bare(&mut self, key: usize, told: &mut impl FnMut(usize, Told) -> Act) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if self.framing != Framing::WebSocket && matches!(connection.phase, Phase::Opening(_)) {
            connection.phase = Phase::Open;
            let act = told(key, Told::Opened { now });
            self.act(key, act);
        }
    }

    fn receive(&mut self, key: usize, has_ended: bool, told: &mut impl FnMut(usize, Told) -> Act) {
        let mut again = 0;
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            // Over TLS a record is read, not all that there is.
            let is_plain = connection.stream.is_plain();
            match connection.read(&mut self.buffer) {
                Ok(None) => break,
                Ok(Some(0)) => return self.end(key, "it ended", told),
                Ok(Some(length)) => {
                    match self.understand(key, length, told) {
                        Ok(asked) => again += asked,
                        Err(what) => return self.end(key, &what, told),
                    }
                    if length < READ_BYTES && is_plain && !has_ended {
                        break;
                    }
                }
                Err(error) => return self.end(key, &error.to_string(), told),
            }
        }
        self.act(key, Act::Send(again));
    }

    /// Takes what was read. Gives how many messages are to be sent in return.
    fn understand(
        &mut self,
        key: usize,
        length: usize,
        told: &mut impl FnMut(usize, Told) -> Act,
    ) -> Result<usize, String> {
        let now = self.now();
        let Herd { connections, buffer, ring, errors, size, verifies, is_singly, began, .. } = self;
        let connection = &mut connections[key];
        let mut bytes = &buffer[..length];
        let mut again = 0;
        let mut act = Act::Nothing;
        if matches!(connection.phase, Phase::Opening(_)) {
            if !connection.read_answer(&mut bytes)? {
                return Ok(0);
            }
            match told(key, Told::Opened { now }) {
                Act::Send(count) => again = count,
                other => act = other,
            }
        }
        while let Some(piece) = connection.reader.next(&mut bytes).map_err(|violation| {
            errors.wrong += 1;
            violation.to_string()
        })? {
            let asked = match piece {
                Piece::Part { bytes, at, is_last } => {
                    if *verifies && !connection.is_echo(ring, bytes, at) {
                        errors.wrong("bytes that were not sent");
                    }
                    if !is_last {
                        continue;
                    }
                    if at + bytes.len() as u64 != *size {
                        errors.wrong("a message of another length");
                    }
                    connection.received += 1;
                    told(key, Told::Message { stamp: connection.stamps.pop_front(), now })
                }
                Piece::Ping(payload) => {
                    if connection.answers_pings {
                        connection.pong(&payload);
                    }
                    told(key, Told::Ping)
                }
                Piece::Close(code) if connection.phase == Phase::Open => {
                    connection.close();
                    errors.lose(&format!("closed by the server with {code}"));
                    Act::Nothing
                }
                Piece::Close(_) | Piece::Pong => Act::Nothing,
            };
            match asked {
                Act::Send(count) if *is_singly => {
                    connection.send(count, began.elapsed().as_nanos() as u64, ring);
                    connection.flush(ring).map_err(|error| error.to_string())?;
                }
                Act::Send(count) => again += count,
                Act::Leave => act = Act::Leave,
                Act::Nothing => {}
            }
        }
        self.act(key, act);
        Ok(again)
    }

    fn act(&mut self, key: usize, act: Act) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(key) else { return };
        match (act, self.framing) {
            (Act::Nothing | Act::Send(0), _) => {}
            (Act::Send(count), _) => connection.send(count, now, &self.ring),
            (Act::Leave, Framing::WebSocket) => connection.close(),
            // It may be gone by itself: its end will be told.
            (Act::Leave, Framing::Bytes(_)) => drop(connection.shut_down()),
        }
    }

    fn flush(&mut self, key: usize, told: &mut impl FnMut(usize, Told) -> Act) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Err(error) = connection.flush(&self.ring) {
            self.end(key, &error.to_string(), told);
        }
    }

    fn end(&mut self, key: usize, what: &str, told: &mut impl FnMut(usize, Told) -> Act) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        match connection.phase {
            Phase::Opening(_) => {
                self.errors.refuse(what);
                told(key, Told::Refused);
            }
            Phase::Open => {
                self.errors.lose(what);
                self.errors.unanswered += connection.stamps.len() as u64;
                told(key, Told::Ended);
            }
            Phase::Leaving => drop(told(key, Told::Ended)),
        }
    }
}

const READ_BYTES: usize = 256 * 1024;
/// Handshakes under way at once.
const OPENING_MAX: usize = 128;
const OPEN_MAX: Duration = Duration::from_secs(30);
const OPEN_STEP: Duration = Duration::from_millis(20);
/// How long the last echoes may take.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// From here on several addresses are connected from.
const SOURCE_CONNECTIONS_MAX: usize = 2000;
/// Waits shorter than this are not rounded to milliseconds.
const FINE: Duration = Duration::from_millis(100);
