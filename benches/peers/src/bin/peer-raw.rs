//! Raw TCP on mio: what the machine itself costs, the yardstick.
//!
//! Whatever bytes come go back, or with `--fanout` to every other connection. It does what no
//! server can do without: one `epoll_wait` for all sockets that are ready, per socket one `recv`
//! into a buffer that all share and one `send` out of it per receiver. Sockets are watched once,
//! edge-triggered, for both directions; they have the options that heartwheel sets. After a short
//! read it does not read again to be told that there is nothing: later bytes raise an edge.
//!
//! Those options bound what a peer that does not read holds in the kernel, and large messages pay
//! for it: this is what the machine costs a server that sets them. One that does not, as the other
//! peers, can be below it where messages are far larger than the send buffer.
//!
//! It knows no messages, so neither masks, copies nor checks anything, and it has no limits, no
//! deadlines and no fairness: a socket is read until it is empty. Only what the kernel does not
//! take at once is copied, and waits for its connection; an echo is not read on meanwhile, a
//! fan-out is, so that a receiver which does not read costs memory until it is dropped
//! (`WAITING_BYTES_MAX`).

use std::io::{self, ErrorKind, Read, Write};

use heartwheel_peers::{Options, Task};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use socket2::SockRef;

fn main() -> io::Result<()> {
    let options = Options::parse(&[Task::Echo, Task::FanOut]);
    let mut listener = TcpListener::from_std(options.bind()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut server = Server {
        task: options.task,
        connections: Slab::new(),
        buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
    };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, poll.registry())?,
                Token(key) => server.serve(key, event),
            }
        }
    }
}

struct Server {
    task: Task,
    connections: Slab<Connection>,
    buffer: Box<[u8]>,
}

struct Connection {
    stream: TcpStream,
    /// What the kernel has not taken yet.
    waiting: Vec<u8>,
}

/// The connection has ended, in whichever way.
struct Ended;

impl Server {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let socket = SockRef::from(&stream);
            socket.set_tcp_nodelay(true)?;
            socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
            socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
            let entry = self.connections.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(entry.key()), both)?;
            entry.insert(Connection { stream, waiting: Vec::new() });
        }
    }

    /// Does what an edge calls for. A connection that has ended may have edges left in a turn.
    fn serve(&mut self, key: usize, event: &Event) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let was_waiting = !connection.waiting.is_empty();
        let mut ended = Ok(());
        if event.is_writable() && was_waiting {
            ended = connection.flush();
        }
        // Bytes may have come while an echo was not read; their edge is gone.
        let is_unread = was_waiting && self.task == Task::Echo;
        if ended.is_ok() && (event.is_readable() || is_unread) {
            ended = self.read(key, event.is_read_closed());
        }
        if let Err(Ended) = ended {
            self.connections.remove(key);
        }
    }

    /// Reads until the socket is empty, or the echo has to wait.
    fn read(&mut self, key: usize, is_read_closed: bool) -> Result<(), Ended> {
        loop {
            let connection = &mut self.connections[key];
            if self.task == Task::Echo && !connection.waiting.is_empty() {
                return Ok(());
            }
            let length = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(Ended),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Ended),
            };
            let bytes = &self.buffer[..length];
            match self.task {
                Task::Echo => connection.send(bytes)?,
                Task::FanOut => self.fan_out(key, length),
            }
            // An end that came with the bytes raises no edge of its own.
            if length < self.buffer.len() && !is_read_closed {
                return Ok(());
            }
        }
    }

    fn fan_out(&mut self, from: usize, length: usize) {
        let bytes = &self.buffer[..length];
        self.connections.retain(|key, connection| key == from || connection.send(bytes).is_ok());
    }
}

impl Connection {
    /// Sends as much as the kernel takes; the rest waits. A short `send` has filled it, so that an
    /// edge will tell when to go on.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let sent = if self.waiting.is_empty() { send(&mut self.stream, bytes)? } else { 0 };
        if sent < bytes.len() {
            self.waiting.extend_from_slice(&bytes[sent..]);
        }
        if self.waiting.len() > WAITING_BYTES_MAX { Err(Ended) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let sent = send(&mut self.stream, &self.waiting)?;
        self.waiting.drain(..sent);
        Ok(())
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Ended> {
    match stream.write(bytes) {
        Ok(sent) => Ok(sent),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(Ended),
    }
}

const LISTENER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const NOT_SENT_BYTES_MAX: u32 = 16 * 1024;
/// A little less than the kernel takes at once, which is twice the send buffer. With more, a part
/// of every full buffer would be left over and copied; with less, large messages are more calls.
/// Of the sizes between 16 KiB and 1 MiB that were tried, the cheapest for messages of 16 KiB and
/// of 1 MiB; for small ones it makes no difference.
const BUFFER_BYTES: usize = 120 * 1024;
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
