//! What connections cost in memory, counted by the allocator: the engine over sockets that exist
//! only here, and the server over real ones where its own parts matter. Each test counts the
//! allocations of its own thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use heartwheel::Payload;
use heartwheel::config::IDLE_CONNECTION_BYTES;
use heartwheel::core::contract::event::{
    Accept, Command, Done, Event, Job, Outcome, Session, Task,
};
use heartwheel::core::contract::route::{Face, RouteKind, RouteSpec};
use heartwheel::core::engine::pump;
use heartwheel::core::engine::{Action, Attempt, Engine, Setup};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::transport::{Got, Transport, Written};
use heartwheel::{Config, ConnectionId, Message, Peer, Placement, Server};

mod common;
use common::rng::Rng;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells that
// allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize, allocations: u64) {
    LIVE.set(LIVE.get() + bytes);
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

/// Bytes that this thread has allocated and nobody has freed.
fn live() -> isize {
    LIVE.get()
}

/// Allocations of this thread, those that only grow among them.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// A socket without a kernel: `input` waits to be read, `window` bytes can be written. It owns no
/// memory.
struct FakeSocket<'a> {
    input: &'a [u8],
    window: usize,
}

impl Read for FakeSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.is_empty() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.input.read(buffer),
        }
    }
}

impl FakeSocket<'_> {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = asked.min(self.window);
        self.window -= taken;
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

impl Transport for FakeSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = Read::read(self, buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        self.write_vectored(slices).map(Written::from)
    }

    fn finish(&mut self) {}

    fn has_room(&mut self) -> bool {
        self.window > 0
    }
}

/// An engine and its application, which sends every message back.
struct World {
    engine: Engine,
    now: Instant,
    shared: Vec<u8>,
}

impl World {
    fn new(config: Config) -> World {
        let route = |path: &str, authorizes| RouteSpec {
            path: path.into(),
            kind: RouteKind::WebSocket,
            placement: Placement::Inline,
            face: Face::Public,
            is_open: false,
            authorizes,
            wants_pongs: false,
            wants_drained: false,
            protocols: Vec::new(),
        };
        let topic = |kind| RouteSpec { kind, ..route("/topics/{topic}", false) };
        let [socket, stream] = [RouteKind::TopicSocket, RouteKind::TopicGet].map(topic);
        let routes = vec![route("/echo", false), route("/judged", true), socket, stream];
        let setup = Setup {
            config,
            routes,
            machine_name: "here".into(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        };
        let engine = Engine::new(setup);
        World { engine, now: Instant::from_millis(1000), shared: vec![0; 64 * 1024] }
    }

    fn accept(&mut self) -> ConnectionId {
        let peer = "127.0.0.1:9".parse().ok();
        let id = self.engine.accept(self.now, Face::Public, peer).expect("there is room");
        self.turn(id, b"", usize::MAX);
        id
    }

    fn open(&mut self) -> ConnectionId {
        let id = self.accept();
        self.turn(id, UPGRADE, usize::MAX);
        id
    }

    /// Turns until every live event is with all its subscribers. Gives how many it took.
    fn deliver_all(&mut self) -> u32 {
        let mut turns = 1;
        while self.engine.deliver(self.now).is_some() {}
        while self.engine.has_work_left() {
            self.engine.begin_turn(self.now.as_millis());
            while self.engine.deliver(self.now).is_some() {}
            self.engine.end_turn(self.now);
            turns += 1;
        }
        while self.engine.poll_dirty().is_some() {}
        turns
    }

    /// One turn in which `input` comes and the peer takes `window` bytes at the most. Gives how
    /// many it took.
    fn turn(&mut self, id: ConnectionId, input: &[u8], window: usize) -> usize {
        self.engine.begin_turn(self.now.as_millis());
        let mut socket = FakeSocket { input, window };
        if !input.is_empty() || window > 0 {
            self.engine.handle_readiness(key(id), !input.is_empty(), window > 0, false);
        }
        while let Some(ready) = self.engine.poll_ready() {
            assert_eq!(ready, id, "only one peer sends");
            pump::fill(&mut self.engine, self.now, ready, &mut socket, &mut self.shared);
            self.run_handlers();
        }
        let mut budget = 1000;
        while let Some(attempt) = self.engine.handle_timeout(self.now, &mut budget) {
            let (Attempt::Read(due) | Attempt::Write(due)) = attempt;
            self.engine.expire(self.now, due);
        }
        self.run_handlers();
        while let Some(dirty) = self.engine.poll_dirty() {
            pump::flush(&mut self.engine, self.now, dirty, &mut socket);
        }
        self.run_handlers();
        self.engine.end_turn(self.now);
        while let Some(
            Action::Shutdown(_) | Action::Upgraded(_) | Action::Close(_) | Action::Abort(_),
        ) = self.engine.poll_action()
        {}
        window - socket.window
    }

    /// Turns until all of `input` is taken: a turn has a budget.
    fn send(&mut self, id: ConnectionId, input: &[u8]) -> usize {
        input.chunks(16 * 1024).map(|piece| self.turn(id, piece, usize::MAX)).sum()
    }

    fn run_handlers(&mut self) {
        while let Some(Job { id, route, task }) = self.engine.poll_job(Placement::Inline) {
            let outcome = match task {
                Task::Authorize(request) => Outcome::Verdict(request, Ok(Accept::default())),
                Task::Events { session, events } => self.echo(id, session, events),
                Task::Answer(_) => panic!("there is no such route"),
            };
            let done = Command::Done(Done { id, route, outcome });
            self.engine.handle_command(self.now, Some(id), done);
        }
    }

    fn echo(
        &mut self,
        id: ConnectionId,
        session: Option<Session>,
        mut events: VecDeque<Event>,
    ) -> Outcome {
        let mut messages_handled = 0;
        let mut is_over = false;
        while let Some(event) = events.pop_front() {
            is_over |= matches!(event, Event::Closed(_));
            if let Event::Message(message) = event {
                messages_handled += 1;
                self.engine.handle_command(self.now, Some(id), Command::Send(id, message));
            }
        }
        let session = session.or_else(|| Some(Box::new(()))).filter(|_| !is_over);
        Outcome::Events { session, messages_handled, events }
    }

    fn abort(&mut self, id: ConnectionId) {
        self.engine.handle_error(self.now, id, &ErrorKind::ConnectionReset.into());
        self.run_handlers();
        while self.engine.poll_action().is_some() {}
    }
}

fn key(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}

const UPGRADE: &[u8] =
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, its first byte given; the mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len() as u64).as_slice(), payload].concat()
}

/// A client's header alone, with the mask.
fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(0x80 | len as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes
}

/// Gives the heap bytes that each of a hundred idle connections owns after `talk`, beside its
/// places in the tables: those before have made the tables, and what is kept to be used again, as
/// large as they get.
fn idle_bytes(talk: impl Fn(&mut World, ConnectionId)) -> isize {
    const COUNT: usize = 100;
    let mut world = World::new(Config::default());
    let mut ids = Vec::with_capacity(COUNT);
    let mut owned = 0;
    for _ in 0..3 {
        let before = live();
        for _ in 0..COUNT {
            let id = world.accept();
            talk(&mut world, id);
            ids.push(id);
        }
        owned = live() - before;
        ids.drain(..).for_each(|id| world.abort(id));
        assert!(world.engine.is_empty());
    }
    owned / COUNT as isize
}

/// As [`idle_bytes`], once the WebSocket is open.
fn idle_websocket_bytes(talk: impl Fn(&mut World, ConnectionId)) -> isize {
    idle_bytes(|world, id| {
        world.turn(id, UPGRADE, usize::MAX);
        talk(world, id);
    })
}

#[test]
fn an_idle_connection_owns_no_memory() {
    assert_eq!(idle_bytes(|_, _| {}), 0);
    assert_eq!(idle_websocket_bytes(|_, _| {}), 0);
}

#[test]
fn nor_does_one_after_a_large_message_each_way() {
    for first in [0x81, 0x82] {
        let message = frame(first, &[b'x'; 60_000]);
        let owned = idle_websocket_bytes(|world, id| {
            assert_eq!(world.send(id, &message), 60_004);
        });
        assert_eq!(owned, 0, "opcode {first:x}");
    }
}

#[test]
fn nor_does_one_after_fragments() {
    let fragments =
        [frame(0x01, b"frag"), frame(0x00, b""), frame(0x89, b"between"), frame(0x80, b"ments")];
    let owned = idle_websocket_bytes(|world, id| {
        for byte in fragments.concat().chunks(1) {
            world.turn(id, byte, usize::MAX);
        }
        assert_eq!(world.engine.stats().messages_handled, world.engine.stats().messages_received);
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_after_pings_and_pongs() {
    let owned = idle_websocket_bytes(|world, id| {
        assert_eq!(world.send(id, &frame(0x89, b"are you there?")), 16);
        world.send(id, &frame(0x8a, b"I am"));
    });
    assert_eq!(owned, 0);
    let mut world = World::new(Config::default());
    let id = world.open();
    world.now = world.now + Duration::from_secs(30);
    world.turn(id, b"", 1);
    let before = live();
    world.turn(id, b"", usize::MAX);
    assert_eq!(world.engine.stats().pings_sent, 1);
    assert!(live() < before, "a ping that has left leaves nothing");
}

/// What comes behind an upgrade that is judged first waits in memory of the connection's own.
#[test]
fn nor_does_one_that_sent_more_with_its_upgrade() {
    for path in ["/echo", "/judged"] {
        for more in [frame(0x89, b"ping"), frame(0x82, b"message"), frame(0x82, &[7; 30_000])] {
            let upgrade = str::from_utf8(UPGRADE).expect("it is text").replace("/echo", path);
            let input = [upgrade.as_bytes(), &more].concat();
            let owned = idle_bytes(|world, id| {
                world.turn(id, &input, usize::MAX);
                world.turn(id, b"", usize::MAX);
            });
            assert_eq!(owned, 0, "{path}, {} bytes", more.len());
        }
    }
}

/// Not a WebSocket: an answer, then the wait for the next request.
#[test]
fn nor_does_one_that_is_kept_alive() {
    let request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let owned = idle_bytes(|world, id| {
        for input in [&request[..], &request.repeat(5)] {
            for piece in input.chunks(50) {
                world.turn(id, piece, usize::MAX);
            }
            while world.turn(id, b"", usize::MAX) > 0 {}
        }
        assert_eq!(world.engine.stats().answers[3] % 6, 0);
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_whose_message_was_refused() {
    let owned = idle_websocket_bytes(|world, id| {
        world.turn(id, &header(0x82, u64::MAX >> 1), usize::MAX);
        world.turn(id, &[0; 1000], usize::MAX);
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_whose_reader_was_slow() {
    let message = frame(0x82, &[1; 500]);
    let owned = idle_websocket_bytes(|world, id| {
        for _ in 0..50 {
            world.turn(id, &message, 100);
        }
        while world.turn(id, b"", 1000) > 0 {}
    });
    assert_eq!(owned, 0);
}

/// FAULTS 46: memory follows what was received, not what was claimed.
#[test]
fn a_claim_costs_little() {
    for (claim, sent, most) in [(1 << 20, 0, 200), (64 << 10, 1, 200), (64 << 10, 1000, 1200)] {
        let mut world = World::new(Config::default());
        let ids: Vec<_> = (0..1000).map(|_| world.open()).collect();
        let input = [header(0x82, claim), vec![0; sent]].concat();
        let before = live();
        ids.iter().for_each(|&id| {
            world.turn(id, &input, usize::MAX);
        });
        let each = (live() - before) / 1000;
        assert!((1..most).contains(&each), "{each} bytes each for {sent} of {claim}");
    }
}

/// FAULTS 3: who says nothing costs next to nothing.
#[test]
fn silent_connections_cost_their_places_in_the_tables() {
    const COUNT: usize = 5000;
    let mut world = World::new(Config::default());
    let before = live();
    for _ in 0..COUNT {
        world.accept();
    }
    let each = (live() - before) / COUNT as isize;
    // The tables double: a little more than half of them may be in use.
    assert!(each <= 2 * IDLE_CONNECTION_BYTES as isize, "{each} bytes each");
}

/// Small frames are packed, whether they come in one turn or dribble in.
#[test]
fn an_outbox_of_tiny_frames_costs_about_its_bytes() {
    const COUNT: usize = 20_000;
    for step_ms in [0, 1] {
        let mut world = World::new(Config::default());
        let id = world.open();
        world.turn(id, &frame(0x82, &[0; 5000]), 0);
        let before = live();
        for _ in 0..COUNT {
            world.now = world.now + Duration::from_millis(step_ms);
            let message = Message::from(&b"x"[..]);
            world.engine.handle_command(world.now, None, Command::Send(id, message));
        }
        assert!(world.engine.contains(id));
        assert_eq!(world.engine.stats().messages_sent, 1 + COUNT as u64);
        let owned = live() - before;
        assert!(owned <= 4 * 3 * COUNT as isize, "{owned} bytes, one each {step_ms} ms");
    }
}

/// The newest pong wins; the others are gone.
#[test]
fn a_ping_flood_before_a_closed_window_grows_nothing() {
    let mut config = Config::default();
    config.limits.pings_per_second = 1_000_000;
    let mut world = World::new(config);
    let id = world.open();
    world.turn(id, &frame(0x82, &[0; 5000]), 0);
    let pings = frame(0x89, &[7; 125]).repeat(100);
    world.turn(id, &pings, 0);
    let before = live();
    for _ in 0..1000 {
        world.turn(id, &pings, 0);
    }
    assert!(world.engine.contains(id));
    assert_eq!(live(), before);
}

/// What goes together stays encoded until all have it, in each form, however long it became: a line
/// break is seven bytes of an event stream.
#[test]
fn events_that_grow_by_being_encoded_are_held_once_in_each_form() {
    const COUNT: usize = 300;
    let mut world = World::new(Config::default());
    let socket = String::from_utf8_lossy(UPGRADE).replace("/echo", "/topics/news");
    let stream = "GET /topics/news HTTP/1.1\r\nHost: localhost\r\n\
        Accept: text/event-stream\r\n\r\n";
    for request in [&*socket, stream] {
        for _ in 0..COUNT {
            let id = world.accept();
            world.turn(id, request.as_bytes(), usize::MAX);
            world.engine.handle_blocked(id);
        }
    }
    let before = live();
    world.engine.begin_turn(world.now.as_millis());
    for _ in 0..8 {
        let payload = Payload::from("\n".repeat(4200));
        world.engine.handle_command(world.now, None, Command::Publish("news".into(), payload));
    }
    world.deliver_all();
    let (grown, queued) = (live() - before, world.engine.stats().queued_bytes);
    println!("8 events for 2 times {COUNT}: {grown} bytes of {queued} that wait");
    let encoded = 8 * (4200 + 7 * 4200);
    assert!(queued > (COUNT * encoded) as u64, "all of them have them: {queued}");
    assert!(grown < 2 * encoded as isize + 2 * 1024 * COUNT as isize, "{grown}");
}

/// FAULTS 87: an event is encoded once, and waits once for all who do not read.
#[test]
fn an_event_for_ten_thousand_who_do_not_read_is_held_once() {
    const COUNT: usize = 10_000;
    let mut world = World::new(Config::default());
    let upgrade = String::from_utf8_lossy(UPGRADE).replace("/echo", "/topics/news");
    for _ in 0..COUNT {
        let id = world.accept();
        world.turn(id, upgrade.as_bytes(), usize::MAX);
        // Its window is closed from now on.
        world.engine.handle_blocked(id);
    }
    let before = live();
    let payload = Payload::from(vec![b'x'; 64 * 1024]);
    let publish = Command::Publish("news".into(), payload);
    world.engine.begin_turn(world.now.as_millis());
    world.engine.handle_command(world.now, None, publish);
    let turns = world.deliver_all();
    let grown = live() - before;
    println!("64 KiB for {COUNT} who do not read: {grown} bytes, in {turns} turns");
    // The payload, its frame and the topic's log share it; a queue for each.
    assert!(grown < 2 * 64 * 1024 + 256 * COUNT as isize, "{grown}");
    let queued = world.engine.stats().queued_bytes;
    assert!(queued > COUNT as u64 * 64 * 1024, "all of them have it: {queued}");
}

/// `limits.memory_bytes` goes by a count: it is what the allocator says, in a mixture of half
/// messages, half heads, answers and events that nobody reads, and a log.
#[test]
fn what_the_budget_counts_is_what_is_allocated() {
    const COUNT: usize = 200;
    let mut rng = Rng::new(83);
    let mut world = World::new(Config::default());
    let subscribe = String::from_utf8_lossy(UPGRADE).replace("/echo", "/topics/news");
    let mut open = |path: &str| {
        let id = world.accept();
        let request = String::from_utf8_lossy(UPGRADE).replace("/echo", path);
        world.turn(id, request.as_bytes(), usize::MAX);
        id
    };
    let talkers: Vec<_> = (0..COUNT).map(|_| open("/echo")).collect();
    let subscribers: Vec<_> = (0..COUNT).map(|_| open("/topics/news")).collect();
    let newcomers: Vec<_> = (0..COUNT).map(|_| world.accept()).collect();
    let (counted_before, before) = (counted(&world), live());
    for id in talkers {
        match rng.below(3) {
            0 => {
                let half = vec![1; 1000 + rng.below(14_000) as usize];
                world.turn(id, &[header(0x82, 100_000).as_slice(), &half].concat(), usize::MAX);
            }
            1 => {
                world.engine.handle_blocked(id);
                for _ in 0..1 + rng.below(3) {
                    let message = frame(0x82, &vec![1; 2000 + rng.below(8000) as usize]);
                    world.turn(id, &message, 0);
                }
            }
            _ => {}
        }
    }
    for id in newcomers {
        world.turn(id, &subscribe.as_bytes()[..40 + rng.below(60) as usize], usize::MAX);
    }
    subscribers.into_iter().for_each(|id| world.engine.handle_blocked(id));
    for _ in 0..20 {
        let payload = Payload::from(vec![b'x'; 1000 + rng.below(9000) as usize]);
        world.engine.begin_turn(world.now.as_millis());
        world.engine.handle_command(world.now, None, Command::Publish("news".into(), payload));
        while world.engine.deliver(world.now).is_some() || world.engine.has_work_left() {
            world.engine.end_turn(world.now);
            world.engine.begin_turn(world.now.as_millis());
        }
    }
    while world.engine.poll_dirty().is_some() {}
    let held = live() - before;
    let counted = counted(&world) - counted_before;
    println!("counted {counted} of {held}");
    // Events that are retained and wait count twice, and what all share is not counted.
    assert!((0.95..1.10).contains(&(counted as f64 / held as f64)), "{counted} of {held}");
}

/// Gives the sum of `heartwheel_memory_bytes`.
fn counted(world: &World) -> isize {
    let text = world.engine.metrics(&Default::default());
    let lines = text.lines().filter(|line| line.starts_with("heartwheel_memory_bytes{"));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<isize>().ok());
    values.sum()
}

/// FAULTS 96.
#[test]
fn filling_and_emptying_again_and_again_grows_nothing() {
    const COUNT: usize = 500;
    let mut rng = Rng::new(96);
    let mut config = Config::default();
    config.limits.connections = COUNT;
    let mut world = World::new(config);
    let message = frame(0x82, &[1; 300]);
    let mut settled = 0;
    for cycle in 0..50 {
        let mut ids: Vec<_> = (0..COUNT).map(|_| world.open()).collect();
        assert!(world.engine.accept(world.now, Face::Public, None).is_err());
        while !ids.is_empty() {
            let id = ids.swap_remove(rng.below(ids.len() as u64) as usize);
            world.turn(id, &message, if rng.chance(50) { usize::MAX } else { 0 });
            world.abort(id);
        }
        drop(ids);
        world.now = world.now + Duration::from_secs(1);
        match cycle {
            // A few spares are kept once they have been needed.
            0..10 => settled = settled.max(live()),
            _ => assert!(live() <= settled, "cycle {cycle}: {} bytes more", live() - settled),
        }
    }
    assert_eq!(world.engine.deadlines_armed(), 0);
}

/// The whole way of a message on the loop thread: socket, decoder, handler, outbox, socket.
#[test]
fn an_echo_allocates_at_most_twice() {
    for (len, depth) in [(20, 1), (20, 16), (125, 1), (125, 16), (1000, 4), (16_384, 1)] {
        let mut server = Server::builder()
            .workers(0)
            .websocket("/echo", |peer: &Peer, event: Event| {
                if let Event::Message(message) = event {
                    peer.send(message);
                }
            })
            .listen("127.0.0.1:0")
            .expect("a port is free");
        let address = server.local_addresses()[0].as_tcp().expect("it listens on TCP");
        let mut client = TcpStream::connect(address).expect("the server listens");
        client.set_nonblocking(true).expect("a socket can be made non-blocking");
        let mut buffer = vec![0; 1 << 20];
        exchange(&mut server, &mut client, UPGRADE, 1, &mut buffer);
        let input = frame(0x82, &vec![0; len]).repeat(depth);
        let expected = (len + if len < 126 { 2 } else { 4 }) * depth;
        for _ in 0..20 {
            exchange(&mut server, &mut client, &input, expected, &mut buffer);
        }
        let before = allocations();
        const ROUNDS: usize = 100;
        for _ in 0..ROUNDS {
            exchange(&mut server, &mut client, &input, expected, &mut buffer);
        }
        let each = (allocations() - before) as f64 / (ROUNDS * depth) as f64;
        println!("{len} bytes, depth {depth}: {each} allocations");
        assert!(each <= 2.0, "{each} allocations for {len} bytes at depth {depth}");
    }
}

/// Sends `input` and turns the server until at least `expected` bytes came back.
fn exchange(
    server: &mut Server,
    client: &mut TcpStream,
    mut input: &[u8],
    expected: usize,
    buffer: &mut [u8],
) {
    let mut received = 0;
    for _ in 0..100_000 {
        if !input.is_empty() {
            match client.write(input) {
                Ok(written) => input = &input[written..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        server.turn().expect("the poller works");
        match client.read(buffer) {
            Ok(0) => panic!("the server hung up"),
            Ok(read) => received += read,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if input.is_empty() && received >= expected {
            return;
        }
    }
    panic!("{received} of {expected} bytes came back");
}
