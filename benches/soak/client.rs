//! One client on its way through its steps.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::frame::{self, frame};
use crate::inbound::Inbound;
use crate::script::{Kind, REQUEST, Step};
use crate::tally::{Outcome, Tally};

pub struct Client {
    pub stream: TcpStream,
    pub kind: Kind,
    steps: Rc<[Step]>,
    /// Between 0 and 1: so that clients that came together do not send together.
    offset: f64,
    /// The present step.
    at: usize,
    /// How many bytes, or messages, of the present step were sent.
    sent: u64,
    /// How many echoes of the present step came.
    echoed: u64,
    /// When the present step goes on.
    due: Option<Instant>,
    /// Bytes that the socket had no room for.
    unsent: Vec<u8>,
    inbound: Inbound,
}

/// What a client waits for.
pub enum Next {
    /// For its socket, or for this moment.
    Wait(Option<Instant>),
    /// For its next turn: there is more to do.
    Again,
    Over(Outcome),
}

impl Client {
    /// Begins to connect. One that will not read has as small a window as the kernel allows.
    pub fn connect(
        address: SocketAddr,
        kind: Kind,
        steps: Rc<[Step]>,
        offset: f64,
    ) -> io::Result<Client> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        if !kind.reads() {
            socket.set_recv_buffer_size(4096)?;
        }
        if let Err(error) = socket.connect(&address.into())
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        Ok(Client {
            stream: TcpStream::from_std(socket.into()),
            kind,
            steps,
            offset,
            at: 0,
            sent: 0,
            echoed: 0,
            due: None,
            unsent: Vec::new(),
            inbound: Inbound::default(),
        })
    }

    /// Reads what has come, and does what can be done now.
    pub fn go_on(&mut self, has_ended: bool, tally: &mut Tally) -> Next {
        if let Some(outcome) = self.read(has_ended, tally) {
            return Next::Over(outcome);
        }
        match self.step(tally) {
            Ok(next) => next,
            // The server has ended it: its last word may still be there.
            Err(_) => Next::Over(self.read(true, tally).unwrap_or(Outcome::Reset)),
        }
    }

    fn step(&mut self, tally: &mut Tally) -> io::Result<Next> {
        loop {
            if !self.flush()? {
                return Ok(Next::Wait(None));
            }
            let now = Instant::now();
            if let Some(due) = self.due
                && due > now
            {
                return Ok(Next::Wait(Some(due)));
            }
            let Some(step) = self.steps.get(self.at).cloned() else {
                return Ok(Next::Over(self.outcome(Outcome::Own)));
            };
            match step {
                Step::Upgrade if self.sent == 0 => {
                    self.sent = 1;
                    self.unsent.extend(REQUEST);
                }
                Step::Upgrade if self.inbound.is_upgraded() => self.next_step(),
                Step::Upgrade | Step::AwaitEnd => return Ok(Next::Wait(None)),
                Step::Send { bytes, .. } if self.sent == bytes.len() as u64 => self.next_step(),
                Step::Send { bytes, piece, pause } => {
                    let rest = &bytes[self.sent as usize..];
                    let piece = &rest[..piece.min(rest.len())];
                    self.sent += piece.len() as u64;
                    self.unsent.extend(piece);
                    if !pause.is_zero() {
                        self.due = Some(now + pause);
                    } else if !self.flush()? {
                        return Ok(Next::Wait(None));
                    } else {
                        return Ok(Next::Again);
                    }
                }
                Step::Echo { count, .. } if self.sent == count => {
                    if self.echoed < count {
                        return Ok(Next::Wait(None));
                    }
                    self.next_step();
                }
                Step::Echo { .. } if tally.is_over => return Ok(Next::Wait(None)),
                Step::Echo { every, .. } => {
                    let next = match self.due {
                        Some(due) => due + every,
                        None => now + every.mul_f64(self.offset),
                    };
                    self.due = Some(next);
                    self.sent += 1;
                    self.unsent.extend(frame(frame::BINARY, &tally.message()));
                }
                Step::Reset => {
                    SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(Next::Over(Outcome::Own));
                }
            }
        }
    }

    fn next_step(&mut self) {
        self.at += 1;
        self.sent = 0;
        self.echoed = 0;
        self.due = None;
    }

    /// Sends what waits. Says whether all of it is with the kernel.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if is_later(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads all there is; gives the outcome if the connection has ended.
    fn read(&mut self, has_ended: bool, tally: &mut Tally) -> Option<Outcome> {
        if !self.kind.reads() && !has_ended && self.inbound.is_upgraded() {
            return None;
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(self.outcome(Outcome::Fin)),
                Ok(length) => self.inbound.feed(&buffer[..length], |message| {
                    if self.kind.is_honest() {
                        self.echoed += 1;
                        tally.echo(message);
                    }
                }),
                Err(error) if is_later(&error) => return None,
                Err(_) => return Some(self.outcome(Outcome::Reset)),
            }
        }
    }

    /// Gives the server's last word, or else how it ended.
    fn outcome(&self, end: Outcome) -> Outcome {
        match (self.inbound.close_code, self.inbound.status) {
            (Some(code), _) => Outcome::Code(code),
            (None, Some(status)) if status != 101 => Outcome::Status(status),
            _ => end,
        }
    }
}

/// Says whether there is nothing to be had now, or no connection yet.
fn is_later(error: &io::Error) -> bool {
    let kinds = [ErrorKind::WouldBlock, ErrorKind::NotConnected, ErrorKind::Interrupted];
    kinds.contains(&error.kind())
}
