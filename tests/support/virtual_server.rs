//! An engine in a time of the test's own, with sockets of its own: peers come from wherever the
//! test says, a minute passes at once, and each turn is counted. The turn is the engine's.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::core::contract::event::{Command, Done, Event, Job, Outcome, Task};
use heartwheel::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use heartwheel::core::engine::{Action, Engine, Readiness, Setup, World};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::observe::figures::Surroundings;
use heartwheel::core::transport::{Got, Transport, Written};
use heartwheel::http::{Refusal, Response};
use heartwheel::{Accept, Config, ConnectionId};

/// An engine and its peers. Handlers send every message back.
pub struct VirtualServer {
    pub engine: Engine,
    pub now_ms: u64,
    /// Turns so far.
    pub turns: u64,
    /// The CPU time that the longest of them took, and the most bytes written in one.
    pub longest_turn: Duration,
    pub most_written: u64,
    pub world: Wires,
}

/// What surrounds the engine.
pub struct Wires {
    /// Upgrades that wait for a verdict: those to `/asked`.
    pub undecided: Vec<Job>,
    /// By slot.
    sockets: BTreeMap<usize, Wire>,
    shared: Vec<u8>,
}

/// What lies between the engine and a peer.
#[derive(Debug, Default)]
struct Wire {
    to_server: VecDeque<u8>,
    /// Piece by piece: a list of bytes that grows would copy what it has, in the server's turn.
    to_peer: Vec<Vec<u8>>,
    /// The peer has ended its side.
    has_ended: bool,
    /// The server has ended its side, or the whole of it.
    is_over: bool,
    has_edge: bool,
    /// That it may be written to has not been told.
    has_room: bool,
    /// Bytes that the peer takes; then no more.
    window: usize,
}

impl VirtualServer {
    /// Each pair is a key of the configuration and its value.
    pub fn new(pairs: &[(&str, &str)]) -> VirtualServer {
        let mut config = Config::default();
        for (key, value) in [("tick", "10ms"), ("heartbeat.interval", "off")].iter().chain(pairs) {
            config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(config.check().faults, [""; 0]);
        let machine_name = "here".into();
        let setup = Setup {
            config,
            routes: routes(),
            machine_name,
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        };
        VirtualServer {
            engine: Engine::new(setup),
            now_ms: 1000,
            turns: 0,
            longest_turn: Duration::ZERO,
            most_written: 0,
            world: Wires {
                undecided: Vec::new(),
                sockets: BTreeMap::new(),
                shared: vec![0; 64 * 1024],
            },
        }
    }

    pub fn now(&self) -> Instant {
        Instant::from_millis(self.now_ms)
    }

    /// Lets a peer connect; one that is refused gets the status.
    pub fn connect(&mut self, address: &str) -> Result<ConnectionId, u16> {
        self.connect_to(Face::Public, Some(address))
    }

    pub fn connect_to(&mut self, face: Face, address: Option<&str>) -> Result<ConnectionId, u16> {
        let address: Option<SocketAddr> = address.map(|address| address.parse().expect("is one"));
        let accepted = self.engine.accept(self.now(), face, address);
        let id = accepted.map_err(|refusal: Refusal| refusal.status())?;
        let wire = Wire { has_edge: true, has_room: true, window: usize::MAX, ..Wire::default() };
        self.world.sockets.insert(key(id), wire);
        self.turn();
        Ok(id)
    }

    /// Opens a WebSocket.
    pub fn open(&mut self, path: &str) -> ConnectionId {
        let id = self.connect("127.0.0.1:9").expect("there is room");
        self.send(id, upgrade(path, ""));
        self.settle();
        let answer = self.received(id);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        id
    }

    /// Sends bytes to the server, which sees them in its next turn.
    pub fn send(&mut self, id: ConnectionId, bytes: impl AsRef<[u8]>) {
        let wire = self.world.sockets.get_mut(&key(id)).expect("it was accepted");
        wire.to_server.extend(bytes.as_ref());
        wire.has_edge = true;
    }

    /// Ends the peer's side.
    pub fn end(&mut self, id: ConnectionId) {
        let wire = self.world.sockets.get_mut(&key(id)).expect("it was accepted");
        wire.has_ended = true;
        wire.has_edge = true;
    }

    /// Lets the peer take so many bytes and then no more.
    pub fn narrow(&mut self, id: ConnectionId, window: usize) {
        let wire = self.world.sockets.get_mut(&key(id)).expect("it was accepted");
        wire.has_room = window > 0 && wire.window == 0;
        wire.window = window;
        wire.has_edge = true;
    }

    /// Gives what the peer has received since it was last asked.
    pub fn received(&mut self, id: ConnectionId) -> Vec<u8> {
        let wire = self.world.sockets.get_mut(&key(id)).expect("it was accepted");
        std::mem::take(&mut wire.to_peer).concat()
    }

    /// Gives the bytes that the server has not read yet.
    pub fn unread(&self, id: ConnectionId) -> usize {
        self.world.sockets[&key(id)].to_server.len()
    }

    /// Says whether the server has ended its side.
    pub fn is_over(&self, id: ConnectionId) -> bool {
        self.world.sockets[&key(id)].is_over
    }

    /// Tells the engine something.
    pub fn command(&mut self, command: Command) {
        self.engine.take_command(self.now(), &mut self.world, None, command);
    }

    /// Turns until nothing is left to do at this moment.
    pub fn settle(&mut self) {
        self.run_for(0);
    }

    /// Lets time pass, with a turn whenever the engine asks for one and none else.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        let mut turns_in_place = 0;
        self.turn();
        loop {
            let due = self.engine.poll_timeout().map_or(u64::MAX, Instant::as_millis);
            let has_edge = self.world.sockets.values().any(|wire| wire.has_edge);
            let next = match self.engine.has_work_left() || has_edge {
                true => self.now_ms,
                false => due.max(self.now_ms),
            };
            if next > until {
                break;
            }
            turns_in_place = if next == self.now_ms { turns_in_place + 1 } else { 0 };
            assert!(turns_in_place < 10_000, "the loop spins");
            self.now_ms = next;
            self.turn();
        }
        self.now_ms = until;
    }

    fn turn(&mut self) {
        let (cpu, written) = (cpu_time(), self.engine.stats().sent_bytes);
        self.do_turn();
        self.longest_turn = self.longest_turn.max(cpu_time() - cpu);
        self.most_written = self.most_written.max(self.engine.stats().sent_bytes - written);
    }

    fn do_turn(&mut self) {
        self.turns += 1;
        self.engine.turn(self.now(), self.now_ms, &mut self.world);
        let stats = self.engine.stats();
        assert_eq!(stats.accepted, self.engine.len() as u64 + stats.closed_total());
        assert_eq!(self.engine.deadlines_armed(), self.engine.len());
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
        for (key, wire) in &mut self.sockets {
            if std::mem::take(&mut wire.has_edge) {
                let readable = !wire.to_server.is_empty() || wire.has_ended;
                let writable = std::mem::take(&mut wire.has_room);
                note(*key, Readiness { readable, writable, closed: wire.has_ended, error: None });
            }
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

    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8])> {
        Some((self.sockets.get_mut(&key)?, &mut self.shared))
    }

    fn run(&mut self, _: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        let Job { id, route, task } = job;
        let mut commands = Vec::new();
        let outcome = match task {
            Task::Authorize(request) => Outcome::Verdict(request, Ok(Accept::default())),
            Task::Answer(_) => Outcome::Answer(Response::new(200).text("answered")),
            Task::Events { session, mut events } => {
                let mut messages_handled = 0;
                let mut is_told = false;
                while let Some(event) = events.pop_front() {
                    is_told |= matches!(event, Event::Closed(_));
                    if let Event::Message(message) = event {
                        messages_handled += 1;
                        commands.push(Command::Send(id, message));
                    }
                }
                let session = session.or_else(|| Some(Box::new(()))).filter(|_| !is_told);
                Outcome::Events { session, messages_handled, events }
            }
        };
        (commands, Done { id, route, outcome })
    }

    /// The workers give verdicts alone: when the test says so.
    fn dispatch(&mut self, engine: &mut Engine) {
        self.undecided.extend(std::iter::from_fn(|| engine.poll_job(Placement::Worker)));
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::default()
    }

    fn apply(&mut self, _: &Engine, action: Action) {
        if let Action::Close(key) | Action::Abort(key) = action
            && let Some(wire) = self.sockets.get_mut(&key)
        {
            wire.is_over = true;
        }
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.to_server.is_empty() {
            true if self.has_ended => Ok(0),
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.to_server.read(buffer),
        }
    }
}

impl Wire {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut piece = Vec::new();
        for slice in slices {
            let len = slice.len().min(self.window);
            piece.extend_from_slice(&slice[..len]);
            self.window -= len;
        }
        let len = piece.len();
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.to_peer.push(piece);
        Ok(len)
    }
}

impl Transport for &mut Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = (**self).read(buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        self.write_vectored(slices).map(Written::from)
    }

    fn finish(&mut self) {
        self.is_over = true;
    }

    fn has_room(&mut self) -> bool {
        self.window > 0
    }
}

/// What the program serves, and a POST with a handler.
fn routes() -> Vec<RouteSpec> {
    let is_probe = |kind| matches!(kind, RouteKind::Health | RouteKind::Ready);
    let route = |path: &str, kind| RouteSpec {
        path: path.into(),
        kind,
        placement: if path == "/asked" { Placement::Worker } else { Placement::Inline },
        face: if is_probe(kind) { Face::Both } else { Face::Public },
        is_open: is_probe(kind),
        authorizes: path == "/asked",
        wants_pongs: false,
        wants_drained: false,
        protocols: if kind == RouteKind::Hub { vec!["heartwheel.v1".into()] } else { Vec::new() },
    };
    vec![
        route("/echo", RouteKind::WebSocket),
        route("/asked", RouteKind::WebSocket),
        route("/post", RouteKind::Post),
        RouteSpec { placement: Placement::Worker, ..route("/busy", RouteKind::WebSocket) },
        RouteSpec { placement: Placement::Worker, ..route("/busy/post", RouteKind::Post) },
        route("/topics/{topic}", RouteKind::TopicSocket),
        route("/topics/{topic}", RouteKind::TopicGet),
        route("/topics/{topic}", RouteKind::TopicPost),
        route("/ws", RouteKind::Hub),
        route("/events", RouteKind::EventStream),
        route("/healthz", RouteKind::Health),
        route("/readyz", RouteKind::Ready),
    ]
}

/// Gives the request for a WebSocket; `lines` are header lines more.
pub fn upgrade(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

fn key(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}
