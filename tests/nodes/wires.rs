//! What lies between the engine of a node and its clients. What the node writes is put into one
//! list for all, which the test reads behind each turn.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::core::contract::event::{Command, Done, Job, Session};
use heartwheel::core::contract::handlers::{Handlers, Said};
use heartwheel::core::contract::route::Face;
use heartwheel::core::engine::{Action, Engine, Readiness, World};
use heartwheel::core::ground::identity::Identity;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::observe::figures::Surroundings;
use heartwheel::core::transport::{Got, Transport, Written};
use heartwheel::http::Refusal;
use heartwheel::{ConnectionId, Message};

use crate::memory;

#[derive(Default)]
pub struct Wires {
    /// By slot.
    wires: Vec<Wire>,
    /// Slots of which the engine is to be told something, each once.
    edges: VecDeque<usize>,
    /// What clients received in this turn: by slot, as ranges of the bytes.
    pub received: Vec<u8>,
    pub pieces: Vec<(usize, usize, usize)>,
    /// Slots whose connection the node has ended.
    pub ended: Vec<usize>,
    shared: Vec<u8>,
}

#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    has_ended: bool,
    is_over: bool,
    has_edge: bool,
    /// That it may be written to has not been told.
    has_room: bool,
}

impl Wires {
    pub fn new(connections: usize) -> Wires {
        Wires {
            wires: Vec::with_capacity(connections),
            edges: VecDeque::with_capacity(connections),
            shared: vec![0; 64 * 1024],
            ..Wires::default()
        }
    }

    pub fn begin(&mut self, slot: usize) {
        self.wires.resize_with(self.wires.len().max(slot + 1), Wire::default);
        self.wires[slot] = Wire { has_room: true, ..Wire::default() };
        self.raise(slot);
    }

    pub fn send(&mut self, slot: usize, bytes: &[u8]) {
        self.wires[slot].to_server.extend(bytes);
        self.raise(slot);
    }

    /// Ends the client's side.
    pub fn end(&mut self, slot: usize) {
        self.wires[slot].has_ended = true;
        self.raise(slot);
    }

    pub fn has_work(&self) -> bool {
        !self.edges.is_empty()
    }

    fn raise(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.wires[slot].has_edge, true) {
            self.edges.push_back(slot);
        }
    }
}

impl World for Wires {
    type Incoming = ();

    fn poll_commands(&mut self) -> Option<(Option<ConnectionId>, Vec<Command>)> {
        None
    }

    fn command_bytes(&self) -> usize {
        0
    }

    fn tell_readiness(&mut self, mut note: impl FnMut(usize, Readiness)) {
        while let Some(slot) = self.edges.pop_front() {
            let wire = &mut self.wires[slot];
            wire.has_edge = false;
            let readable = !wire.to_server.is_empty() || wire.has_ended;
            let writable = std::mem::take(&mut wire.has_room);
            note(slot, Readiness { readable, writable, closed: wire.has_ended, error: None });
        }
    }

    fn poll_incoming(
        &mut self,
        _: &mut Engine,
        _: Instant,
        _: &mut usize,
    ) -> Option<((), Face, Option<SocketAddr>)> {
        None
    }

    fn admit(&mut self, _: &Engine, _: ConnectionId, _: ()) -> io::Result<()> {
        Ok(())
    }

    fn refuse(&mut self, _: &Engine, _: Instant, _: (), _: Refusal) {}

    fn stop_listening(&mut self, _: usize) {}

    fn lend(&mut self, slot: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)> {
        let Wires { wires, edges, received, pieces, shared, .. } = self;
        let line = Line { wire: &mut wires[slot], edges, received, pieces, slot };
        Some((line, shared, Nobody))
    }

    fn run(&mut self, _: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        panic!("no route has a handler: {job:?}")
    }

    fn dispatch(&mut self, _: &mut Engine) {}

    fn surroundings(&self) -> Surroundings {
        Surroundings::default()
    }

    fn apply(&mut self, _: &Engine, action: Action) {
        if let Action::Close(slot) | Action::Abort(slot) = action {
            self.wires[slot].is_over = true;
            memory::within(0, || self.ended.push(slot));
        }
    }
}

struct Nobody;

impl Handlers for Nobody {
    fn begin(&mut self, _: ConnectionId, _: usize, _: Option<Identity>) {}

    fn call(&mut self, _: &mut Session, _: Message, _: &mut Said) -> bool {
        true
    }

    fn end(&mut self) -> Duration {
        Duration::ZERO
    }
}

struct Line<'a> {
    wire: &'a mut Wire,
    edges: &'a mut VecDeque<usize>,
    received: &'a mut Vec<u8>,
    pieces: &'a mut Vec<(usize, usize, usize)>,
    slot: usize,
}

impl Transport for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        if self.wire.to_server.is_empty() {
            return match self.wire.has_ended {
                true => Ok(Got::from_socket(0, buffer.len())),
                false => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let len = self.wire.to_server.read(buffer)?;
        if self.wire.to_server.is_empty() {
            memory::within(0, || self.wire.to_server = VecDeque::new());
        }
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let start = self.received.len();
        memory::within(0, || {
            for slice in slices {
                self.received.extend_from_slice(slice);
            }
            self.pieces.push((self.slot, start, self.received.len()));
        });
        Ok((self.received.len() - start).into())
    }

    fn finish(&mut self) {
        self.wire.has_ended = true;
        if !std::mem::replace(&mut self.wire.has_edge, true) {
            self.edges.push_back(self.slot);
        }
    }

    fn has_room(&mut self) -> bool {
        true
    }
}
