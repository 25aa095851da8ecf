//! How many instructions do the parts take that every message goes through? A gate for changes:
//! unlike times, instructions are the same on a busy machine.
//!
//! `benches/instructions/run BASE` counts them here and in the commit BASE, by valgrind. It fails
//! where one has risen by more than 3 %. Without it the cases can still be run: `cargo bench
//! --bench instructions -- CASE ROUNDS` does nothing but the work of that many rounds.
//!
//! | case | a round is |
//! |---|---|
//! | `wheel` | 1,000 deadlines moved, 1,000 that come due and are set anew |
//! | `decoder` | 500 messages of 125 bytes out of 64 KiB |
//! | `encoder` | 500 messages of 125 bytes encoded, queued and written |
//! | `echo` | one message of each of 64 connections echoed, in one turn |
//! | `echo_deep` | sixteen of each |
//! | `publish` | an event for 1,000 subscribers |
//! | `handoff` | one message of each of 64 connections echoed by a worker |
//!
//! The last four go through the whole server, but for the kernel: its connections are in memory.
//! What two threads do depends a little on which of them runs first: `handoff` may rise by 10 %.

// By its path: a client's frames are no part of the library, and the tests have them already.
#[path = "../../tests/common/frame.rs"]
mod frame;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use heartwheel::core::ground::time::Instant;
use heartwheel::core::ground::wheel::Wheel;
use heartwheel::core::outbox::{Kind, Outbox, Spares};
use heartwheel::core::wire::spare_memory::SpareMemory;
use heartwheel::core::wire::ws::{Decoder, Incoming, Limits, Role, encoder};
use heartwheel::{Handle, ManualClock, MemoryNetwork, MemoryPeer, Message, Server, app};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Does the work of so many rounds.
type Run = fn(u64);

/// What can be counted.
const CASES: [(&str, Run); 7] = [
    ("wheel", wheel),
    ("decoder", decoder),
    ("encoder", encoder),
    ("echo", |rounds| echo(rounds, 1)),
    ("echo_deep", |rounds| echo(rounds, 16)),
    ("publish", publish),
    ("handoff", handoff),
];

fn main() -> ExitCode {
    // Cargo says --bench.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let case = |name: &str| CASES.iter().find(|(known, _)| *known == name);
    match &words[..] {
        [] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [name, rounds] => match (case(name), rounds.parse()) {
            (Some((_, run)), Ok(rounds)) => run(rounds),
            _ => return ExitCode::from(2),
        },
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn wheel(rounds: u64) {
    const COUNT: u64 = 1000;
    let span = |key: u64| Duration::from_millis(1000 + key * 7 % 30_000);
    let mut wheel = Wheel::new(Duration::from_millis(50));
    let mut now = Instant::from_millis(0);
    (0..COUNT).for_each(|key| wheel.arm(key as usize, now + span(key)));
    for _ in 0..rounds {
        for key in 0..COUNT {
            wheel.arm(key as usize, now + span(key));
        }
        for _ in 0..COUNT {
            now = wheel.next_deadline().expect("deadlines are set").max(now);
            if let Some(key) = wheel.poll_expired(now) {
                wheel.arm(key, now + span(key as u64));
            }
        }
    }
}

fn decoder(rounds: u64) {
    let bytes = frames(500);
    let limits = Limits { message_bytes: 1 << 20, fragments: 1024 };
    let mut decoder = Decoder::default();
    let mut buffer = bytes.clone();
    for _ in 0..rounds {
        buffer.copy_from_slice(&bytes);
        let mut rest = &mut buffer[..];
        let mut count = 0;
        while !rest.is_empty() {
            let (used, item) =
                decoder.decode(Role::Server, rest, &limits).expect("the frames are right");
            count += u64::from(matches!(item, Some(Incoming::Message(_))));
            rest = &mut rest[used..];
        }
        assert_eq!(count, 500);
    }
}

fn encoder(rounds: u64) {
    let now = Instant::from_millis(1);
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    let mut memory = SpareMemory::none();
    for _ in 0..rounds {
        for _ in 0..500 {
            let frame = encoder::message(Message::binary(vec![7; SIZE]));
            outbox.push(now, frame, Kind::Message, &mut spares);
        }
        while !outbox.is_empty() {
            let (mut slices, mut scratch) = ([IoSlice::new(&[]); 64], Vec::new());
            let (count, _) = outbox.gather(usize::MAX, &mut slices, &mut scratch, usize::MAX);
            let len = slices[..count].iter().map(|slice| slice.len()).sum();
            outbox.written(now, len, &mut spares, &mut memory);
        }
    }
}

fn echo(rounds: u64, depth: usize) {
    let mut world = World::new(64, "/echo", 0);
    let messages = frames(depth);
    for _ in 0..rounds {
        for peer in &mut world.peers {
            peer.write_all(&messages).expect("there is room");
        }
        world.settle();
        world.read_all(depth * (SIZE + 2));
    }
}

fn publish(rounds: u64) {
    let mut world = World::new(1000, "/topics/a", 0);
    let handle: Handle = world.server.handle();
    for _ in 0..rounds {
        handle.publish("a", vec![7; SIZE]).expect("there is room");
        world.settle();
        world.read_all(SIZE + 2);
    }
}

fn handoff(rounds: u64) {
    let mut world = World::new(64, "/echo", 1);
    let message = frames(1);
    for _ in 0..rounds {
        for peer in &mut world.peers {
            peer.write_all(&message).expect("there is room");
        }
        world.settle();
        world.read_from_workers(SIZE + 2);
    }
}

/// A server without a kernel, and clients that are connected to it.
struct World {
    server: Server,
    peers: Vec<MemoryPeer>,
}

impl World {
    /// Opens so many WebSockets.
    fn new(count: usize, path: &str, workers: usize) -> World {
        let network = MemoryNetwork::new();
        let builder = Server::builder().workers(workers).seed(1).clock(ManualClock::new());
        let server = app::routes(builder).listen_memory(&network).expect("nothing is in the way");
        let mut world = World { server, peers: Vec::new() };
        for _ in 0..count {
            let mut peer = network.connect().expect("it listens");
            write!(peer, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n").expect("room");
            world.peers.push(peer);
        }
        world.settle();
        let mut answer = [0; 1024];
        for peer in &mut world.peers {
            let len = peer.read(&mut answer).expect("it was answered");
            assert!(answer[..len].starts_with(b"HTTP/1.1 101 "));
        }
        world
    }

    fn settle(&mut self) {
        while self.server.next_timeout() == Some(Duration::ZERO) {
            self.server.turn().expect("nothing fails");
        }
    }

    /// Waits for the workers until each peer has read so much.
    fn read_from_workers(&mut self, bytes: usize) {
        let mut buffer = [0; 1024];
        let mut missing: Vec<usize> = vec![bytes; self.peers.len()];
        while missing.iter().any(|missing| *missing > 0) {
            for (peer, missing) in self.peers.iter_mut().zip(&mut missing) {
                match peer.read(&mut buffer) {
                    Ok(len @ 1..) => *missing -= len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    end => panic!("it has ended: {end:?}"),
                }
            }
            let woken = &mut [PollFd::from_borrowed_fd(self.server.as_fd(), PollFlags::IN)];
            let patience = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            poll(woken, Some(&patience)).expect("it can be waited for");
            self.server.turn().expect("nothing fails");
            self.settle();
        }
    }

    /// Reads from each peer, which is to have so much.
    fn read_all(&mut self, bytes: usize) {
        let mut buffer = [0; 16 * 1024];
        for peer in &mut self.peers {
            let mut read = 0;
            loop {
                match peer.read(&mut buffer) {
                    Ok(len @ 1..) => read += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    end => panic!("it has ended: {end:?}"),
                }
            }
            assert_eq!(read, bytes);
        }
    }
}

/// Gives so many binary messages as a client sends them.
fn frames(count: usize) -> Vec<u8> {
    frame::frame(frame::BINARY, &[7; SIZE]).repeat(count)
}

const SIZE: usize = 125;
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
