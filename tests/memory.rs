//! What connections cost in memory, counted by the allocator: the engine over sockets that exist
//! only here, and the server over real ones where its own parts matter. Each test counts the
//! allocations of its own thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use heartwheel::Payload;
use heartwheel::config::IDLE_CONNECTION_BYTES;
use heartwheel::core::contract::event::{Command, Event};
use heartwheel::core::contract::route::Face;
use heartwheel::{Config, ConnectionId, Message, Peer, Server};

mod common;
use common::engine::TestEngine;
use common::frame::{self, BINARY, CONTINUATION, FIN, MASK, PING, PONG, TEXT, frame};
use common::http::{get_request, upgrade_request};
use common::rng::Rng;

#[cfg(feature = "jwt")]
#[allow(dead_code)]
#[path = "jwt/maker.rs"]
mod maker;

#[cfg(feature = "deflate")]
#[path = "deflate/memory.rs"]
mod compressed;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
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
    PEAK.set(PEAK.get().max(LIVE.get()));
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

/// Bytes that this thread has allocated and nobody has freed.
fn live() -> isize {
    LIVE.get()
}

/// The most bytes that [`live`] would have given at any moment of `work`.
#[cfg(feature = "deflate")]
fn peak_of(work: impl FnOnce()) -> isize {
    PEAK.set(LIVE.get());
    work();
    PEAK.get()
}

/// Allocations of this thread, those that only grow among them.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// An engine whose peers keep nothing of what they receive.
struct World(TestEngine);

impl World {
    fn new(config: Config) -> World {
        let mut engine = TestEngine::of(config);
        engine.world.keeps_received = false;
        World(engine)
    }

    fn accept(&mut self) -> ConnectionId {
        self.0.connect("127.0.0.1:9").expect("there is room")
    }

    fn open(&mut self, path: &str) -> ConnectionId {
        let id = self.accept();
        self.turn(id, upgrade_request(path, "").as_bytes(), usize::MAX);
        id
    }

    /// One turn in which `input` comes and the peer takes `window` bytes at the most. Gives how
    /// many it took. What was not read is lost.
    fn turn(&mut self, id: ConnectionId, input: &[u8], window: usize) -> usize {
        self.0.narrow(id, window);
        self.0.send(id, input);
        self.0.turn();
        self.0.lose_unread(id);
        window - self.0.window(id)
    }

    /// Turns until all of `input` is taken: a turn has a budget.
    fn send(&mut self, id: ConnectionId, input: &[u8]) -> usize {
        input.chunks(16 * 1024).map(|piece| self.turn(id, piece, usize::MAX)).sum()
    }

    /// Lets the peer take nothing more, and has the engine know.
    fn block(&mut self, id: ConnectionId) {
        self.0.narrow(id, 0);
        self.0.engine.handle_blocked(id);
    }

    fn publish(&mut self, payload: Payload) {
        self.0.command(Command::Publish("news".into(), payload.into()));
    }
}

/// Gives the header of a frame of this length.
fn header(first: u8, len: u64) -> Vec<u8> {
    frame::header(MASK, first, len)
}

/// Gives the heap bytes that each of a hundred idle connections owns after `talk`, beside its
/// places in the tables: those before have made the tables, and what is kept to be used again, as
/// large as they get.
fn idle_bytes(talk: impl Fn(&mut World, ConnectionId)) -> isize {
    idle_bytes_from(|_| {}, talk)
}

/// As [`idle_bytes`], in a world that `begin` has begun.
fn idle_bytes_from(begin: impl Fn(&mut World), talk: impl Fn(&mut World, ConnectionId)) -> isize {
    const COUNT: usize = 100;
    let mut world = World::new(Config::default());
    begin(&mut world);
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
        ids.drain(..).for_each(|id| world.0.reset(id));
        assert!(world.0.engine.is_empty());
    }
    owned / COUNT as isize
}

/// As [`idle_bytes`], once the WebSocket is open.
fn idle_websocket_bytes(talk: impl Fn(&mut World, ConnectionId)) -> isize {
    idle_bytes(|world, id| {
        world.turn(id, upgrade_request("/echo", "").as_bytes(), usize::MAX);
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
    for first in [TEXT, BINARY] {
        let message = frame(first, &[b'x'; 60_000]);
        let owned = idle_websocket_bytes(|world, id| {
            assert_eq!(world.send(id, &message), 60_004);
        });
        assert_eq!(owned, 0, "opcode {first:x}");
    }
}

#[test]
fn nor_does_one_after_fragments() {
    let fragments = [
        frame(TEXT & !FIN, b"frag"),
        frame(CONTINUATION & !FIN, b""),
        frame(PING, b"between"),
        frame(CONTINUATION, b"ments"),
    ];
    let owned = idle_websocket_bytes(|world, id| {
        for byte in fragments.concat().chunks(1) {
            world.turn(id, byte, usize::MAX);
        }
        assert_eq!(
            world.0.engine.stats().messages_handled,
            world.0.engine.stats().messages_received
        );
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_after_pings_and_pongs() {
    let owned = idle_websocket_bytes(|world, id| {
        assert_eq!(world.send(id, &frame(PING, b"are you there?")), 16);
        world.send(id, &frame(PONG, b"I am"));
    });
    assert_eq!(owned, 0);
    let mut world = World::new(Config::default());
    let id = world.open("/echo");
    world.0.now_ms += 30_000;
    world.turn(id, b"", 1);
    let before = live();
    world.turn(id, b"", usize::MAX);
    assert_eq!(world.0.engine.stats().pings_sent, 1);
    assert!(live() < before, "a ping that has left leaves nothing");
}

/// What comes behind an upgrade that is judged first waits in memory of the connection's own.
#[test]
fn nor_does_one_that_sent_more_with_its_upgrade() {
    for path in ["/echo", "/judged"] {
        for more in [frame(PING, b"ping"), frame(BINARY, b"message"), frame(BINARY, &[7; 30_000])] {
            let input = [upgrade_request(path, "").as_bytes(), &more].concat();
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
    let request = get_request("/nothing", "");
    let owned = idle_bytes(|world, id| {
        for input in [request.clone(), request.repeat(5)] {
            for piece in input.as_bytes().chunks(50) {
                world.turn(id, piece, usize::MAX);
            }
            while world.turn(id, b"", usize::MAX) > 0 {}
        }
        assert_eq!(world.0.engine.stats().answers[3] % 6, 0);
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_whose_message_was_refused() {
    let owned = idle_websocket_bytes(|world, id| {
        world.turn(id, &header(BINARY, u64::MAX >> 1), usize::MAX);
        world.turn(id, &[0; 1000], usize::MAX);
    });
    assert_eq!(owned, 0);
}

#[test]
fn nor_does_one_whose_reader_was_slow() {
    let message = frame(BINARY, &[1; 500]);
    let owned = idle_websocket_bytes(|world, id| {
        for _ in 0..50 {
            world.turn(id, &message, 100);
        }
        while world.turn(id, b"", 1000) > 0 {}
    });
    assert_eq!(owned, 0);
}

/// A connection whose token expires owns what it is to know of it, in two blocks: who is there, the
/// rights, the token's name, and 16 bytes for its end. Others own nothing for that.
#[cfg(feature = "jwt")]
#[test]
fn an_idle_connection_whose_token_expires_owns_what_is_to_be_known_of_it() {
    use heartwheel::core::admission::credentials::Credentials;
    use heartwheel::core::admission::jwt::Keys;
    let maker = maker::Maker::secret();
    let keys = Keys::parse(&maker.line()).unwrap();
    let owned = |lines: &str, is_asked: bool| {
        let keys = is_asked.then(|| keys.clone());
        let begin = |world: &mut World| {
            if world.0.now_ms < maker::NOW {
                world.0.now_ms = maker::NOW * 1000;
                let now = world.0.now();
                let credentials = Credentials { tokens: None, keys: keys.clone() };
                world.0.engine.set_credentials(now, credentials);
            }
        };
        idle_bytes_from(begin, |world, id| {
            world.turn(id, upgrade_request("/echo", lines).as_bytes(), usize::MAX);
            assert_eq!(world.0.engine.stats().rejected_tokens, 0);
        })
    };
    let token = maker.token_for(600.0, r#","sub":"device 7","subscribe":["commands.7"]"#);
    let lines = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(owned("", false), 0);
    assert_eq!(owned(&lines, false), 0, "nobody asked for it");
    let with_rights = owned(&lines, true);
    let bare = maker.token_for(600.0, "");
    let bare = owned(&format!("Authorization: Bearer {bare}\r\n"), true);
    println!("a token that expires takes {bare} bytes, and {with_rights} with a name and a right");
    // The text of the name and its two counts, and the pattern.
    assert_eq!(with_rights - bare, ("device 7".len() + 16 + "commands.7".len()) as isize);
    assert!(bare <= 240, "{bare}");
}

/// FAULTS 46: memory follows what was received, not what was claimed.
#[test]
fn a_claim_costs_little() {
    for (claim, sent, most) in [(1 << 20, 0, 200), (64 << 10, 1, 200), (64 << 10, 1000, 1200)] {
        let mut world = World::new(Config::default());
        let ids: Vec<_> = (0..1000).map(|_| world.open("/echo")).collect();
        let input = [header(BINARY, claim), vec![0; sent]].concat();
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
        let id = world.open("/echo");
        world.turn(id, &frame(BINARY, &[0; 5000]), 0);
        let before = live();
        for _ in 0..COUNT {
            world.0.now_ms += step_ms;
            world.0.command(Command::Send(id, Message::from(&b"x"[..])));
        }
        assert!(world.0.engine.contains(id));
        assert_eq!(world.0.engine.stats().messages_sent, 1 + COUNT as u64);
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
    let id = world.open("/echo");
    world.turn(id, &frame(BINARY, &[0; 5000]), 0);
    let pings = frame(PING, &[7; 125]).repeat(100);
    world.turn(id, &pings, 0);
    let before = live();
    for _ in 0..1000 {
        world.turn(id, &pings, 0);
    }
    assert!(world.0.engine.contains(id));
    assert_eq!(live(), before);
}

/// What goes together stays encoded until all have it, in each form, however long it became: a line
/// break is seven bytes of an event stream.
#[test]
fn events_that_grow_by_being_encoded_are_held_once_in_each_form() {
    const COUNT: usize = 300;
    let mut world = World::new(Config::default());
    let socket = upgrade_request("/topics/news", "");
    let stream = get_request("/topics/news", "Accept: text/event-stream\r\n");
    for request in [socket, stream] {
        for _ in 0..COUNT {
            let id = world.accept();
            world.turn(id, request.as_bytes(), usize::MAX);
            world.block(id);
        }
    }
    world.0.settle();
    let before = live();
    (0..8).for_each(|_| world.publish(Payload::from("\n".repeat(4200))));
    world.0.settle();
    let (grown, queued) = (live() - before, world.0.engine.stats().queued_bytes);
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
    for _ in 0..COUNT {
        let id = world.open("/topics/news");
        world.block(id);
    }
    world.0.settle();
    let (before, turns) = (live(), world.0.turns);
    world.publish(Payload::from(vec![b'x'; 64 * 1024]));
    world.0.settle();
    let (grown, turns) = (live() - before, world.0.turns - turns);
    println!("64 KiB for {COUNT} who do not read: {grown} bytes, in {turns} turns");
    // The payload, its frame and the topic's log share it; a queue for each.
    assert!(grown < 2 * 64 * 1024 + 256 * COUNT as isize, "{grown}");
    let queued = world.0.engine.stats().queued_bytes;
    assert!(queued > COUNT as u64 * 64 * 1024, "all of them have it: {queued}");
}

/// `limits.memory_bytes` goes by a count: it is what the allocator says, in a mixture of half
/// messages, half heads, answers and events that nobody reads, and a log.
#[test]
fn what_the_budget_counts_is_what_is_allocated() {
    const COUNT: usize = 200;
    let mut rng = Rng::new(83);
    let mut world = World::new(Config::default());
    let subscribe = upgrade_request("/topics/news", "");
    let talkers: Vec<_> = (0..COUNT).map(|_| world.open("/echo")).collect();
    let subscribers: Vec<_> = (0..COUNT).map(|_| world.open("/topics/news")).collect();
    let newcomers: Vec<_> = (0..COUNT).map(|_| world.accept()).collect();
    let (counted_before, before) = (counted(&world), live());
    for id in talkers {
        match rng.below(3) {
            0 => {
                let half = vec![1; 1000 + rng.below(14_000) as usize];
                world.turn(id, &[header(BINARY, 100_000).as_slice(), &half].concat(), usize::MAX);
            }
            1 => {
                world.block(id);
                for _ in 0..1 + rng.below(3) {
                    let message = frame(BINARY, &vec![1; 2000 + rng.below(8000) as usize]);
                    world.turn(id, &message, 0);
                }
            }
            _ => {}
        }
    }
    for id in newcomers {
        world.turn(id, &subscribe.as_bytes()[..40 + rng.below(60) as usize], usize::MAX);
    }
    subscribers.into_iter().for_each(|id| world.block(id));
    for _ in 0..20 {
        let payload = Payload::from(vec![b'x'; 1000 + rng.below(9000) as usize]);
        world.publish(payload);
        world.0.settle();
    }
    let held = live() - before;
    let counted = counted(&world) - counted_before;
    println!("counted {counted} of {held}");
    // Events that are retained and wait count twice, and what all share is not counted.
    assert!((0.95..1.10).contains(&(counted as f64 / held as f64)), "{counted} of {held}");
}

fn hello(client: usize) -> Vec<u8> {
    let text = format!(r#"{{"op":"hello","client":"client-{client:09}","version":"1"}}"#);
    frame(TEXT, text.as_bytes())
}

#[test]
fn a_client_that_says_who_it_is_owns_a_small_box_and_the_name() {
    let owned = idle_bytes(|world, id| {
        world.turn(id, upgrade_request("/ws", "").as_bytes(), usize::MAX);
        world.turn(id, &hello(1), usize::MAX);
    });
    println!("{owned} bytes");
    assert!((1..=176).contains(&owned), "{owned} bytes");
    let owned = idle_bytes(|world, id| {
        world.turn(id, upgrade_request("/ws", "").as_bytes(), usize::MAX);
        world.turn(id, &frame(TEXT, br#"{"op":"ping"}"#), usize::MAX);
    });
    assert_eq!(owned, 0, "one that does not owns nothing");
}

/// FAULTS 197: what is known of the publications of clients that come and go is bounded, and
/// counted as it is.
#[test]
fn what_is_known_of_publications_has_a_bound_and_is_counted() {
    const LIMIT: u64 = 16 << 20;
    let mut config = Config::default();
    config.limits.memory_bytes = Some(LIMIT);
    config.topics.retain_events = 1;
    let mut world = World::new(config);
    let mut client = 0;
    let mut meet = |world: &mut World| {
        let id = world.open("/ws");
        let publish =
            |number| format!(r#"{{"op":"publish","topic":"news","data":1,"ref":{number}}}"#);
        let said = (0..3).flat_map(|number| frame(TEXT, publish(number).as_bytes()));
        world.turn(id, &[hello(client), said.collect()].concat(), usize::MAX);
        world.0.reset(id);
        client += 1;
    };
    (0..10).for_each(|_| meet(&mut world));
    let (counted_before, before) = (counted(&world), live());
    let mut most = 0;
    for _ in 0..1600 {
        meet(&mut world);
        most = most.max(counted(&world) - counted_before);
    }
    let (counted_after, held) = (counted(&world) - counted_before, live() - before);
    println!("counted {counted_after}, {most} at most, of {held}");
    assert!((200_000..=LIMIT as isize / 64).contains(&most), "{most}");
    assert!(
        (0.6..1.5).contains(&(counted_after as f64 / held as f64)),
        "{counted_after} of {held}"
    );
    // A minute later the next one finds them too old; those are gone that it looks at.
    world.0.now_ms += 60_000;
    (0..200).for_each(|_| meet(&mut world));
    let left = counted(&world) - counted_before;
    assert!(left < 200 * 600, "{left}");
}

/// Gives the sum of `heartwheel_memory_bytes`.
fn counted(world: &World) -> isize {
    let text = world.0.engine.metrics(&Default::default());
    let lines = text.lines().filter(|line| line.starts_with("heartwheel_memory_bytes{"));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<isize>().ok());
    values.sum()
}

/// FAULTS 96.
/// Names that come in ascending order leave trees half full.
#[cfg(feature = "presence")]
#[test]
fn a_member_of_a_topic_costs_what_is_counted() {
    use heartwheel::core::ground::identity::Identity;
    use heartwheel::core::ground::time::Instant;
    use heartwheel::core::topics::presence::Presence;
    use std::num::NonZeroU64;

    let topic: heartwheel::topics::Name = "room".parse().unwrap();
    for (count, is_named, step) in
        [(1000, true, 1), (1000, true, 7), (1000, false, 1), (1000, false, 7), (9999, true, 1)]
    {
        let identities: Vec<_> =
            (0..count).map(|n| Identity::new(&format!("device-{n:05}")).unwrap()).collect();
        let begin = live();
        let mut presence = Presence::default();
        for n in 0..count {
            let n = n * step % count;
            let id = ConnectionId::from_u64(NonZeroU64::new((n as u64 + 1) << 24).unwrap());
            let identity = is_named.then(|| identities[n].clone());
            presence.enter(Instant::from_millis(1), &topic, id, identity);
        }
        let untold = live() - begin;
        assert!(presence.bytes() as isize >= untold, "{untold} of {}", presence.bytes());
        while presence.poll_told(Instant::from_millis(5000)).is_some() {}
        let held = live() - begin;
        assert!(held <= (Presence::MEMBER_BYTES * count) as isize, "{held} for {count}");
        assert!(presence.bytes() as isize >= held);
        drop(presence);
        // The first table of a thread leaves its key.
        assert!(live() - begin < 64, "{}", live() - begin);
        println!("{count} members, named {is_named}, step {step}: {held} bytes, {untold} untold");
    }
}

#[test]
fn filling_and_emptying_again_and_again_grows_nothing() {
    const COUNT: usize = 500;
    let mut rng = Rng::new(96);
    let mut config = Config::default();
    config.limits.connections = COUNT;
    let mut world = World::new(config);
    let message = frame(BINARY, &[1; 300]);
    let mut settled = 0;
    for cycle in 0..50 {
        let mut ids: Vec<_> = (0..COUNT).map(|_| world.open("/echo")).collect();
        assert!(world.0.connect_to(Face::Public, None).is_err());
        while !ids.is_empty() {
            let id = ids.swap_remove(rng.below(ids.len() as u64) as usize);
            world.turn(id, &message, if rng.chance(50) { usize::MAX } else { 0 });
            world.0.reset(id);
        }
        drop(ids);
        world.0.now_ms += 1000;
        match cycle {
            // A few spares are kept once they have been needed.
            0..10 => settled = settled.max(live()),
            _ => assert!(live() <= settled, "cycle {cycle}: {} bytes more", live() - settled),
        }
    }
    assert_eq!(world.0.engine.deadlines_armed(), 0);
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
        let upgrade = upgrade_request("/echo", "");
        exchange(&mut server, &mut client, upgrade.as_bytes(), 1, &mut buffer);
        let input = frame(BINARY, &vec![0; len]).repeat(depth);
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

/// Whom a proxy connects for stands in the place of the peer's address.
#[test]
fn an_idle_connection_from_a_proxy_costs_no_more_than_another() {
    let each = |speech: &str, forwarded: &str, header: &str, lines: &str| {
        const COUNT: usize = 200;
        let mut config = Config::default();
        let listen = format!("{speech}127.0.0.1:0");
        for (name, text) in [
            ("listen", &*listen),
            ("admin_listen", "off"),
            ("workers", "0"),
            ("proxy.trusted", "127.0.0.1"),
            ("proxy.forwarded", forwarded),
        ] {
            config.set(name, text).unwrap();
        }
        let builder = Server::builder().config(config);
        let builder = builder.websocket("/echo", heartwheel::app::echo);
        let mut server = builder.build().unwrap();
        let address = server.local_addresses()[0].as_tcp().unwrap();
        let bytes = format!("{header}{}", upgrade_request("/echo", lines));
        let mut buffer = vec![0; 1 << 16];
        let mut open = |server: &mut Server, clients: &mut Vec<TcpStream>| {
            let mut client = TcpStream::connect(address).expect("the server listens");
            client.set_nonblocking(true).unwrap();
            // A header that is cut is kept, for as long as it is.
            client.write_all(&bytes.as_bytes()[..20]).unwrap();
            (0..3).for_each(|_| server.turn().unwrap());
            exchange(server, &mut client, &bytes.as_bytes()[20..], 1, &mut buffer);
            clients.push(client);
        };
        let mut clients = Vec::with_capacity(2 * COUNT);
        // Tables have grown by then as far as they must.
        (0..COUNT).for_each(|_| open(&mut server, &mut clients));
        clients.clear();
        (0..10).for_each(|_| server.turn().unwrap());
        let before = live();
        (0..COUNT / 2).for_each(|_| open(&mut server, &mut clients));
        assert_eq!(server.connections(), COUNT / 2);
        (live() - before) / (COUNT / 2) as isize
    };
    let plain = each("", "off", "", "");
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
    assert_eq!(each("proxy:", "off", header, ""), plain);
    assert_eq!(each("", "x-forwarded-for", "", "X-Forwarded-For: 192.0.2.1\r\n"), plain);
}

/// A large message is read into the memory that the one before it has left, and that memory is
/// given back when no more come.
#[test]
fn large_messages_share_memory_and_give_it_back() {
    const LEN: usize = 900_000;
    let mut config = Config::default();
    config.limits.memory_bytes = Some(256 << 20);
    let mut world = World::new(config);
    let id = world.open("/echo");
    let input = frame(BINARY, &vec![7; LEN]);
    world.send(id, &input);
    let settled = live();
    for _ in 0..10 {
        assert_eq!(world.send(id, &input), LEN + 10);
        assert_eq!(live(), settled, "the memory is used again");
    }
    let kept = live();
    world.0.now_ms += 1000;
    world.0.turn();
    world.0.now_ms += 1000;
    world.0.turn();
    let freed = kept - live();
    assert!(freed >= LEN as isize, "{freed} bytes were freed at rest");
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

/// What an open WebSocket over TLS takes in all, its places in the tables and the name of its
/// certificate included, after a message of 64 KiB each way: the promise is 450 bytes. AES-256 has
/// longer keys, and the name comes on top there.
#[cfg(feature = "tls")]
#[test]
fn an_idle_connection_over_tls_keeps_keys_and_a_name_alone() {
    for (suite, most) in [
        ("TLS_AES_128_GCM_SHA256", 450),
        ("TLS_CHACHA20_POLY1305_SHA256", 450),
        ("TLS_AES_256_GCM_SHA384", 450 + size_of::<Box<str>>() + "device-7".len()),
    ] {
        let each = idle_bytes_over_tls(suite);
        println!("an idle wss connection takes {each} bytes: {suite}");
        // Tables that have just grown, and debug assertions of mio, which keeps more then.
        let slack = if cfg!(debug_assertions) { 32 } else { 0 };
        assert!(each <= most + slack, "{each}");
    }
}

#[cfg(feature = "tls")]
fn idle_bytes_over_tls(suite: &str) -> usize {
    const COUNT: usize = 256;
    let mut config = Config::default();
    for (name, text) in tls::client::settings(&[
        ("admin_listen", "off".into()),
        ("workers", "0".into()),
        ("heartbeat.interval", "off".into()),
        ("tls.ciphers", suite.into()),
        ("tls.client", "required".into()),
        ("tls.client_ca", tls::client::file("ca.crt")),
    ]) {
        config.set(name, &text).unwrap();
    }
    let builder = Server::builder().config(config);
    let mut server = builder.websocket("/echo", heartwheel::app::echo).build().unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let mut turn_until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            std::thread::sleep(server.next_timeout().unwrap_or_default().min(POLL));
            server.turn().unwrap();
        }
        for _ in 0..10 {
            server.turn().unwrap();
        }
        live()
    };
    // Clients live on threads of their own: their memory is not counted.
    let open = |count| {
        std::thread::spawn(move || {
            let config = std::sync::Arc::new(tls::client::config(Some("client")));
            let connect = |_| {
                let mut client =
                    tls::client::TlsClient::connect_with(address, &config, "localhost");
                client.upgrade("/echo");
                client.assert_echo(&vec![7; 64 << 10]);
                client
            };
            (0..count).map(connect).collect::<Vec<_>>()
        })
    };
    let first = open(1);
    let before = turn_until(&|| first.is_finished());
    let rest = open(COUNT - 1);
    let after = turn_until(&|| rest.is_finished());
    drop((first.join(), rest.join()));
    (after - before) as usize / (COUNT - 1)
}

/// What a handshake holds that waits for its peer, whose next flight counts elsewhere: 12 kB are
/// promised for each of `limits.handshaking`.
#[cfg(feature = "tls")]
#[test]
fn a_handshake_that_waits_holds_little() {
    const COUNT: usize = 64;
    let mut config = Config::default();
    for (name, text) in tls::client::settings(&[
        ("admin_listen", "off".into()),
        ("workers", "0".into()),
        ("tls.client", "required".into()),
        ("tls.client_ca", tls::client::file("ca.crt")),
    ]) {
        config.set(name, &text).unwrap();
    }
    let mut server = Server::builder().config(config).build().unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let mut turn_until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            std::thread::sleep(POLL);
            server.turn().unwrap();
        }
        for _ in 0..2 * COUNT {
            server.turn().unwrap();
        }
        live()
    };
    let begin = |count| {
        std::thread::spawn(move || {
            let config = std::sync::Arc::new(tls::client::config(None));
            let connect = |_| {
                let name = "localhost".try_into().unwrap();
                let mut client = rustls::ClientConnection::new(config.clone(), name).unwrap();
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                client.write_tls(&mut stream).unwrap();
                // The server's flight has come.
                assert!(client.read_tls(&mut stream).unwrap() > 0);
                stream
            };
            (0..count).map(connect).collect::<Vec<_>>()
        })
    };
    let first = begin(1);
    let before = turn_until(&|| first.is_finished());
    let rest = begin(COUNT);
    let each = (turn_until(&|| rest.is_finished()) - before) as usize / COUNT;
    println!("a handshake that waits for its peer takes {each} bytes");
    assert!(each <= 12_000, "{each}");
    drop((first.join(), rest.join()));
}

#[cfg(feature = "tls")]
const POLL: std::time::Duration = std::time::Duration::from_millis(1);

#[cfg(feature = "tls")]
mod tls {
    pub mod client;
}

/// What a client costs that rests in an open connection, a minute after it has talked: its state,
/// its socket, its handler, its place in the loop's tables. The loop and its buffers are shared,
/// and the server is another thread's.
#[cfg(feature = "client")]
#[test]
fn an_idle_client_costs_at_most_400_bytes_beside_tls() {
    let each = idle_client_bytes(&heartwheel::Config::default());
    println!("an idle client: {each:.0} bytes");
    // Beside it come what TLS needs, the rules by which a client would dial, whether compression
    // was agreed on, and a place for the session with a broker.
    let (tls, deflate) = (cfg!(feature = "tls"), cfg!(feature = "deflate"));
    let words = usize::from(deflate) + usize::from(cfg!(feature = "mqtt"));
    let most = 400 + 16 * usize::from(tls) + 8 * words;
    assert!(each <= most as f64, "{each:.0} bytes");
}

/// A client keeps what came out of its server's compressed messages, and a few bytes beside it. The
/// compressor and the inflater of its loop are given back.
#[cfg(all(feature = "client", feature = "deflate"))]
#[test]
fn an_idle_client_with_compression_keeps_its_history_and_little_more() {
    let mut config = heartwheel::Config::default();
    let plain = idle_client_bytes(&config);
    config.set("compression.mode", "on").unwrap();
    let more = idle_client_bytes(&config) - plain;
    println!("a history of one message of 3,000 bytes: {more:.0} bytes more");
    assert!(more >= 3000.0, "it is kept");
    assert!(more <= 3112.0, "{more:.0} bytes");
}

/// Gives what each of many clients owns a minute after an echo.
#[cfg(feature = "client")]
fn idle_client_bytes(config: &heartwheel::Config) -> f64 {
    use heartwheel::{Dial, Link, LinkEvent, Links, ManualClock, State};
    use std::thread;
    use std::time::Duration;
    const COUNT: usize = 1000;
    common::process::raise_descriptors();
    let echo = |peer: &Peer, event: heartwheel::Event| {
        if let heartwheel::Event::Message(message) = event {
            peer.send(message);
        }
    };
    let builder = Server::builder().config(config.clone()).websocket("/echo", echo);
    let server = builder.listen("127.0.0.1:0").unwrap();
    let (handle, address) = (server.handle(), server.local_addresses()[0].as_tcp().unwrap());
    let serving = thread::spawn(move || server.run().unwrap());
    let dial = Dial::to(&format!("ws://{address}/echo")).unwrap().token("secret");
    let dial = dial.config(config).unwrap();
    let clock = ManualClock::new();
    let mut links = Links::by_clock(clock.clone(), 7).unwrap();
    let mut all: Vec<Link> = Vec::with_capacity(COUNT);
    let mut bytes_of = |count: usize| {
        let (before, began) = (live(), all.len());
        for _ in 0..count {
            all.push(links.connect(dial.clone(), |_: &Link, _: LinkEvent| {}).unwrap());
            links.turn().unwrap();
        }
        let turn = |links: &mut Links| {
            links.turn().unwrap();
            thread::sleep(Duration::from_millis(1));
        };
        let own = &all[began..];
        for _ in 0..60_000 {
            turn(&mut links);
            if own.iter().all(|link| link.state() == State::Open) {
                break;
            }
        }
        own.iter().for_each(|link| link.send(vec![7; 3000]).unwrap());
        (0..500).for_each(|_| turn(&mut links));
        // Pings and their pongs, until no try is remembered. The server has the time of 250 turns
        // for each five seconds: it may be away for a while.
        for _ in 0..24 {
            clock.advance(Duration::from_secs(5));
            (0..250).for_each(|_| turn(&mut links));
        }
        assert!(own.iter().all(|link| link.state() == State::Open), "they have stayed");
        live() - before
    };
    // What all clients of a loop share.
    bytes_of(1);
    let each = bytes_of(COUNT - 1) as f64 / (COUNT - 1) as f64;
    handle.shut_down().unwrap();
    serving.join().unwrap();
    each
}
