//! All lines of one server, and what its loop is told of them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mio::Token;
use slab::Slab;

use crate::core::contract::route::Face;
use crate::io::socket::Readiness;
use crate::threads::command_queue::Shared;

use super::line::{Line, UNREGISTERED};

/// The lines of one server. Its lock is held only while bytes are copied.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    state: Arc<Mutex<ExchangeState>>,
}

#[derive(Debug)]
struct ExchangeState {
    lines: Slab<Line>,
    /// Lines and doors of which the loop must be told.
    ready: VecDeque<Ready>,
    doors: Vec<Door>,
    server: Weak<Shared>,
}

#[derive(Debug)]
enum Ready {
    Line(usize),
    Door(Token),
}

/// Where connections for one face of the server come in.
#[derive(Debug)]
struct Door {
    face: Face,
    token: Token,
    /// Lines that wait to be accepted.
    waiting: VecDeque<usize>,
}

impl Exchange {
    /// Makes the exchange of a server, with no doors.
    pub fn new(server: &Arc<Shared>) -> Exchange {
        let state = ExchangeState {
            lines: Slab::new(),
            ready: VecDeque::new(),
            doors: Vec::new(),
            server: Arc::downgrade(server),
        };
        Exchange { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes the next readiness that the loop must be told.
    pub fn poll(&self) -> Option<Readiness> {
        let mut state = self.lock();
        while let Some(ready) = state.ready.pop_front() {
            match ready {
                Ready::Door(token) => {
                    return Some(Readiness { readable: true, ..Readiness::of(token) });
                }
                Ready::Line(key) => {
                    let Some(line) = state.lines.get_mut(key) else { continue };
                    line.is_queued = false;
                    let token = line.news.token;
                    let news = std::mem::replace(&mut line.news, Readiness::of(token));
                    if news.is_any() && token != UNREGISTERED {
                        return Some(news);
                    }
                }
            }
        }
        None
    }

    /// Returns whether the loop must be told something.
    pub fn has_news(&self) -> bool {
        !self.lock().ready.is_empty()
    }

    /// Opens the door of a face.
    pub fn open(&self, face: Face, token: Token) {
        self.lock().doors.push(Door { face, token, waiting: VecDeque::new() });
    }

    /// Closes a door. Connections that wait there are reset, as by a kernel.
    pub fn close(&self, face: Face) {
        let mut state = self.lock();
        let Some(index) = state.doors.iter().position(|door| door.face == face) else { return };
        for key in state.doors.remove(index).waiting {
            state.change(key, |line| line.server_close(true));
        }
    }

    pub fn has_doors(&self) -> bool {
        !self.lock().doors.is_empty()
    }

    /// Takes a line that waits at a door, if there is one.
    pub fn accept(&self, face: Face) -> Option<MemorySocket> {
        let mut state = self.lock();
        let door = state.doors.iter_mut().find(|door| door.face == face)?;
        let key = door.waiting.pop_front()?;
        Some(MemorySocket { exchange: self.clone(), key, aborts: false })
    }

    /// Makes a line that waits at a door.
    pub(super) fn connect(&self, face: Face, address: Option<SocketAddr>) -> io::Result<usize> {
        let mut state = self.lock();
        let state = &mut *state;
        let door = state.doors.iter_mut().find(|door| door.face == face);
        let door = door.ok_or(ErrorKind::ConnectionRefused)?;
        if door.waiting.len() >= BACKLOG {
            return Err(ErrorKind::WouldBlock.into());
        }
        let key = state.lines.insert(Line::new(address));
        door.waiting.push_back(key);
        if door.waiting.len() == 1 {
            state.ready.push_back(Ready::Door(door.token));
        }
        state.wake();
        Ok(key)
    }

    /// Changes a line, and tells the loop what has come of it.
    pub(super) fn change<T>(&self, key: usize, change: impl FnOnce(&mut Line) -> T) -> T {
        self.lock().change(key, change)
    }

    fn lock(&self) -> MutexGuard<'_, ExchangeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExchangeState {
    fn change<T>(&mut self, key: usize, change: impl FnOnce(&mut Line) -> T) -> T {
        let line = &mut self.lines[key];
        let outcome = change(line);
        let is_over = line.is_over();
        if line.news.is_any() && line.news.token != UNREGISTERED && !line.is_queued {
            line.is_queued = true;
            self.ready.push_back(Ready::Line(key));
            self.wake();
        }
        if is_over {
            self.lines.remove(key);
        }
        outcome
    }

    fn wake(&self) {
        if let Some(server) = self.server.upgrade() {
            server.wake();
        }
    }
}

/// The server's end of a line. Dropping it closes that end.
#[derive(Debug)]
pub(crate) struct MemorySocket {
    exchange: Exchange,
    key: usize,
    aborts: bool,
}

impl MemorySocket {
    pub fn register(&self, token: Token) {
        self.exchange.change(self.key, |line| line.register(token));
    }

    pub fn shutdown(&self) {
        self.exchange.change(self.key, Line::server_shut);
    }

    /// Makes closing send a reset.
    pub fn set_abort(&mut self) {
        self.aborts = true;
    }

    pub fn take_error(&self) -> Option<io::Error> {
        self.exchange.change(self.key, |line| line.server_error())
    }

    pub fn takes_bytes(&self) -> bool {
        self.exchange.change(self.key, |line| line.server_has_room())
    }

    #[inline]
    pub fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.exchange.change(self.key, |line| line.server_read(buffer))
    }

    #[inline]
    pub fn put(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.exchange.change(self.key, |line| line.server_write(slices))
    }

    /// Puts what a pipe has, as far as there is room.
    pub fn put_from(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.exchange.change(self.key, |line| line.server_splice(pipe, most))
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        self.exchange.change(self.key, |line| line.address)
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.exchange.change(self.key, |line| line.server_close(self.aborts));
    }
}

/// Connections that wait to be accepted at one door, as many as a kernel lets wait.
const BACKLOG: usize = 4096;
