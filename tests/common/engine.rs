//! An engine below the sockets, in a time of the test's own: peers come from wherever the test says
//! and take as many bytes as it says, jobs of workers wait until it does them, a minute passes at
//! once, and each turn is counted. The turn is the engine's. What needs none of this is tested on a
//! server in memory, by a clock of the test's own (tests/virtual_time).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::core::contract::event::{Command, Done, Event, Job, Outcome, Session, Task};
use heartwheel::core::contract::handlers::{Handlers, Said};
use heartwheel::core::contract::route::{Face, Placement, RouteKind, RouteSpec};
use heartwheel::core::engine::{Action, Engine, Readiness, Served, Setup, World};
use heartwheel::core::ground::identity::Identity;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::observe::figures::Surroundings;
use heartwheel::core::transport::{Got, Transport, Written};
use heartwheel::http::{Refusal, Response};
use heartwheel::topics::Content;
use heartwheel::{Accept, Config, ConnectionId, Message};

use super::frame::{CLOSE, PING, PONG, frame};
use super::http::upgrade_request;

/// An engine and its peers. Handlers send every message back.
pub struct TestEngine {
    pub engine: Engine,
    pub now_ms: u64,
    /// Turns so far.
    pub turns: u64,
    /// Those of them that time alone has caused.
    pub wakes: usize,
    /// The CPU time that the longest of them took, and the most bytes written in one.
    pub longest_turn: Duration,
    pub most_written: u64,
    pub world: Wires,
}

/// What surrounds the engine. Tests count what they allocate, so that it has room for all its
/// connections from the beginning.
pub struct Wires {
    /// Jobs of workers, which wait until the test does them: upgrades to `/asked` for a verdict.
    pub undecided: Vec<Job>,
    /// What handlers were told, where that is asked for.
    pub told: Option<Vec<Event>>,
    /// Whether what peers receive is kept.
    pub keeps_received: bool,
    /// By slot.
    wires: Vec<Wire>,
    /// Slots of which the engine is to be told something, each once.
    edges: VecDeque<usize>,
    shared: Vec<u8>,
    now: Instant,
}

/// What lies between the engine and a peer.
#[derive(Debug, Default)]
struct Wire {
    to_server: VecDeque<u8>,
    /// Piece by piece: a list of bytes that grows would copy what it has, in the server's turn.
    to_peer: Vec<Vec<u8>>,
    /// The peer has ended its side.
    has_ended: bool,
    /// The peer has reset the connection, and the engine has not been told.
    is_reset: bool,
    /// The server has ended its side, or the whole of it.
    is_over: bool,
    has_edge: bool,
    /// That it may be written to has not been told.
    has_room: bool,
    /// Bytes that the peer takes; then no more.
    window: usize,
    /// Of a peer that answers pings, closes and FIN at once: what it has seen.
    heard: Option<Box<Heard>>,
}

/// What a peer that answers has seen.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub pinged_at: Vec<Instant>,
    pub closed_at: Option<Instant>,
    /// What the close frame said.
    pub close_text: String,
    pub ended_at: Option<Instant>,
}

impl TestEngine {
    /// Makes an engine with the usual routes; each pair is a key of the configuration and its
    /// value.
    pub fn new(pairs: &[(&str, &str)]) -> TestEngine {
        let mut config = Config::default();
        for (key, value) in [("tick", "10ms"), ("heartbeat.interval", "off")].iter().chain(pairs) {
            config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
        }
        TestEngine::with(config, routes())
    }

    /// Makes an engine with the usual routes and this configuration.
    pub fn of(config: Config) -> TestEngine {
        TestEngine::with(config, routes())
    }

    pub fn with(config: Config, routes: Vec<RouteSpec>) -> TestEngine {
        assert_eq!(config.check().faults, [""; 0]);
        let machine_name = "here".into();
        let memory_auto = u64::MAX;
        let routes = routes.into_iter().map(Served::from).collect();
        let setup = Setup { config, routes, machine_name, memory_auto, seed: 1, unix_ms: 1 };
        let world = Wires {
            undecided: Vec::new(),
            told: None,
            keeps_received: true,
            wires: Vec::with_capacity(CONNECTIONS_MAX),
            edges: VecDeque::with_capacity(CONNECTIONS_MAX),
            shared: vec![0; 64 * 1024],
            now: Instant::from_millis(1000),
        };
        TestEngine {
            engine: Engine::new(setup),
            now_ms: 1000,
            turns: 0,
            wakes: 0,
            longest_turn: Duration::ZERO,
            most_written: 0,
            world,
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
        let wires = &mut self.world.wires;
        wires.resize_with(wires.len().max(key(id) + 1), Wire::default);
        wires[key(id)] = Wire { has_room: true, window: usize::MAX, ..Wire::default() };
        self.world.raise(key(id));
        self.turn();
        Ok(id)
    }

    /// Opens a WebSocket.
    pub fn open(&mut self, path: &str) -> ConnectionId {
        let id = self.connect("127.0.0.1:9").expect("there is room");
        self.send(id, upgrade_request(path, ""));
        self.settle();
        let answer = self.received(id);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        id
    }

    /// Lets a peer connect that keeps nothing, and answers pings, closes and FIN at once.
    pub fn connect_polite(&mut self) -> ConnectionId {
        let id = self.connect_to(Face::Public, None).expect("there is room");
        self.wire(id).heard = Some(Box::default());
        id
    }

    /// Gives what a peer that answers has seen; its connection may have ended.
    pub fn heard(&self, id: ConnectionId) -> &Heard {
        self.world.wires[key(id)].heard.as_ref().expect("it answers")
    }

    fn wire(&mut self, id: ConnectionId) -> &mut Wire {
        &mut self.world.wires[key(id)]
    }

    /// Sends bytes to the server, which sees them in its next turn.
    pub fn send(&mut self, id: ConnectionId, bytes: impl AsRef<[u8]>) {
        self.wire(id).to_server.extend(bytes.as_ref());
        self.world.raise(key(id));
    }

    /// Ends the peer's side.
    pub fn end(&mut self, id: ConnectionId) {
        self.wire(id).has_ended = true;
        self.world.raise(key(id));
    }

    /// Lets the peer reset the connection, which the server sees in a turn at once.
    pub fn reset(&mut self, id: ConnectionId) {
        self.wire(id).is_reset = true;
        self.world.raise(key(id));
        self.turn();
    }

    /// Lets the peer take so many bytes and then no more.
    pub fn narrow(&mut self, id: ConnectionId, window: usize) {
        let wire = self.wire(id);
        wire.has_room = window > 0 && wire.window == 0;
        wire.window = window;
        self.world.raise(key(id));
    }

    /// Gives how many bytes the peer still takes.
    pub fn window(&self, id: ConnectionId) -> usize {
        self.world.wires[key(id)].window
    }

    /// Gives what the peer has received since it was last asked.
    pub fn received(&mut self, id: ConnectionId) -> Vec<u8> {
        std::mem::take(&mut self.wire(id).to_peer).concat()
    }

    /// Gives the bytes that the server has not read yet.
    pub fn unread(&self, id: ConnectionId) -> usize {
        self.world.wires[key(id)].to_server.len()
    }

    /// Loses what the server has not read yet.
    pub fn lose_unread(&mut self, id: ConnectionId) {
        self.wire(id).to_server = VecDeque::new();
    }

    /// Says whether the server has ended its side.
    pub fn is_over(&self, id: ConnectionId) -> bool {
        self.world.wires[key(id)].is_over
    }

    /// Gives a figure by its name and labels.
    #[track_caller]
    pub fn figure(&self, name: &str) -> usize {
        let text = self.engine.metrics(&Surroundings::default());
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Gives the bytes of one kind that are counted in the memory budget.
    pub fn memory(&self, kind: &str) -> usize {
        self.figure(&format!("heartwheel_memory_bytes{{kind=\"{kind}\"}}"))
    }

    /// Gives all bytes that are counted in the memory budget.
    pub fn memory_in_use(&self) -> usize {
        ["partial", "inbox", "outbox", "log"].into_iter().map(|kind| self.memory(kind)).sum()
    }

    /// Publishes an event, and turns until all have it who take it.
    pub fn publish(&mut self, topic: &str, content: impl Into<Content>) {
        self.command(Command::Publish(topic.into(), content.into()));
        self.settle();
    }

    /// Tells the engine something.
    pub fn command(&mut self, command: Command) {
        self.world.now = self.now();
        self.engine.take_command(self.world.now, &mut self.world, None, command);
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
            let next = match self.has_work_left() {
                true => self.now_ms,
                false => due.max(self.now_ms),
            };
            if next > until {
                break;
            }
            turns_in_place = if next == self.now_ms { turns_in_place + 1 } else { 0 };
            assert!(turns_in_place < 10_000, "the loop spins");
            self.wakes += usize::from(next > self.now_ms);
            self.now_ms = next;
            self.turn();
        }
        self.now_ms = until;
    }

    /// Says whether a turn is wanted at once.
    pub fn has_work_left(&self) -> bool {
        self.engine.has_work_left() || !self.world.edges.is_empty()
    }

    /// Does one turn.
    pub fn turn(&mut self) {
        let (cpu, written) = (cpu_time(), self.engine.stats().sent_bytes);
        self.do_turn();
        self.longest_turn = self.longest_turn.max(cpu_time() - cpu);
        self.most_written = self.most_written.max(self.engine.stats().sent_bytes - written);
    }

    fn do_turn(&mut self) {
        self.turns += 1;
        self.world.now = self.now();
        self.engine.turn(self.world.now, self.now_ms, &mut self.world);
        let stats = self.engine.stats();
        assert_eq!(stats.accepted, self.engine.len() as u64 + stats.closed_total());
        assert_eq!(self.engine.deadlines_armed(), self.engine.len());
    }
}

impl Wires {
    /// Has the engine told of a slot in its next turn.
    fn raise(&mut self, key: usize) {
        if !std::mem::replace(&mut self.wires[key].has_edge, true) {
            self.edges.push_back(key);
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
        while let Some(key) = self.edges.pop_front() {
            let wire = &mut self.wires[key];
            wire.has_edge = false;
            let readable = !wire.to_server.is_empty() || wire.has_ended;
            let writable = std::mem::take(&mut wire.has_room);
            let reset = std::mem::take(&mut wire.is_reset);
            let error = reset.then(|| ErrorKind::ConnectionReset.into());
            note(key, Readiness { readable, writable, closed: wire.has_ended, error });
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

    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)> {
        let Wires { wires, edges, shared, now, keeps_received, told, .. } = self;
        let wire = &mut wires[key];
        let line = Line { wire, edges, key, now: *now, keeps: *keeps_received };
        Some((line, shared, Echoes { told: told.as_mut() }))
    }

    fn run(&mut self, _: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        let Job { id, route, task, .. } = job;
        let mut commands = Vec::new();
        let outcome = match task {
            Task::Authorize(request) => Outcome::Verdict(request, Ok(Accept::default())),
            Task::Call(_) => unreachable!("no timer of the server's own was set"),
            Task::Answer(request) => {
                let text = request.query().unwrap_or("answered").to_owned();
                Outcome::Answer(Response::new(200).text(text))
            }
            Task::Pull(_) | Task::Step(..) | Task::Offer(_) => panic!("no route here is for it"),
            Task::Events { session, mut events } => {
                let mut messages_handled = 0;
                let mut is_told = false;
                while let Some(event) = events.pop_front() {
                    is_told |= matches!(event, Event::Closed(_));
                    if let Event::Message(message) = &event {
                        messages_handled += 1;
                        commands.push(Command::Send(id, message.clone()));
                    }
                    self.told.iter_mut().for_each(|told| told.push(event.clone()));
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
        if let Action::Close(key) | Action::Abort(key) = action {
            let wire = &mut self.wires[key];
            wire.is_over = true;
            wire.heard.iter_mut().for_each(|heard| heard.ended_at = Some(self.now));
        }
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Handlers that send every message back at once.
struct Echoes<'a> {
    told: Option<&'a mut Vec<Event>>,
}

impl Handlers for Echoes<'_> {
    fn begin(&mut self, _: ConnectionId, _: usize, _: Option<Identity>) {}

    fn call(&mut self, _: &mut Session, message: Message, said: &mut Said) -> bool {
        self.told.iter_mut().for_each(|told| told.push(Event::Message(message.clone())));
        said.answers.push(message);
        true
    }

    fn end(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// A wire, lent to the engine.
struct Line<'a> {
    wire: &'a mut Wire,
    edges: &'a mut VecDeque<usize>,
    key: usize,
    now: Instant,
    keeps: bool,
}

impl Transport for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let wire = &mut *self.wire;
        if wire.to_server.is_empty() {
            return if wire.has_ended {
                Ok(Got::from_socket(0, buffer.len()))
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let len = wire.to_server.read(buffer)?;
        if wire.to_server.is_empty() {
            // It is to own no memory while nothing is under way.
            wire.to_server = VecDeque::new();
        }
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let len = asked.min(self.wire.window);
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.wire.window -= len;
        if self.keeps || self.wire.heard.is_some() {
            let mut piece = Vec::with_capacity(len);
            for slice in slices {
                piece.extend_from_slice(&slice[..slice.len().min(len - piece.len())]);
            }
            match self.wire.heard {
                Some(_) => self.hear(&piece),
                None => self.wire.to_peer.push(piece),
            }
        }
        Ok(len.into())
    }

    fn finish(&mut self) {
        self.wire.is_over = true;
        if self.wire.heard.is_some() {
            self.wire.has_ended = true;
            self.raise();
        }
    }

    fn has_room(&mut self) -> bool {
        self.wire.window > 0
    }
}

impl Line<'_> {
    fn raise(&mut self) {
        if !std::mem::replace(&mut self.wire.has_edge, true) {
            self.edges.push_back(self.key);
        }
    }

    /// Looks at the frames that came, which are short, and answers pings and a close.
    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if rest.starts_with(b"HTTP/1.1 101 ") {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
            rest = &rest[end.expect("heads are written whole") + 4..];
        }
        let heard = self.wire.heard.as_mut().expect("it answers");
        while let [first @ (PING | CLOSE), len, tail @ ..] = rest {
            let (payload, tail) = tail.split_at(usize::from(*len));
            rest = tail;
            if *first == PING {
                heard.pinged_at.push(self.now);
                self.wire.to_server.extend(frame(PONG, payload));
            } else {
                heard.closed_at = Some(self.now);
                let text = payload.get(2..).unwrap_or_default();
                heard.close_text = String::from_utf8_lossy(text).into_owned();
                self.wire.to_server.extend(frame(CLOSE, payload));
            }
        }
        if !self.wire.to_server.is_empty() {
            self.raise();
        }
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
        authorizes: ["/asked", "/judged"].contains(&path),
        wants_pongs: false,
        wants_drained: false,
        protocols: if kind == RouteKind::Hub { vec!["heartwheel.v1".into()] } else { Vec::new() },
        piecewise: None,
        has_hook: false,
        changes: Vec::new(),
    };
    vec![
        route("/echo", RouteKind::WebSocket),
        route("/asked", RouteKind::WebSocket),
        route("/judged", RouteKind::WebSocket),
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

fn key(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}

/// Peers that a test may have at a time.
const CONNECTIONS_MAX: usize = 16_384;
