//! What does a fan-out cost where half of the subscribers of `/ws` speak JSON and half CBOR?
//!
//! An event is encoded once for each form, whoever is subscribed. The figure to beat: at most 1.05
//! times the mean of two crowds of the same size that speak one form each. A round is 200 events of
//! 1 KiB for 1,000 subscribers; the figures are the CPU of the server's thread for an event. Its
//! connections are in memory: the kernel would hide the difference. The crowds take turns, and the
//! ratio is taken within a round; the brackets are the least and the most of the rounds.

// By its path: a client's frames are no part of the library, and the tests have them already.
#[path = "../tests/common/frame.rs"]
mod frame;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use heartwheel::topics::Payload;
use heartwheel::{Handle, ManualClock, MemoryNetwork, MemoryPeer, Server, app};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    for (kind, payload) in [
        ("text", Payload::text("x".repeat(SIZE))),
        ("bytes", Payload::Binary(vec![7; SIZE].into())),
    ] {
        let mut crowds = [0, SUBSCRIBERS, SUBSCRIBERS / 2].map(Crowd::new);
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        for round in 0..ROUNDS + 1 {
            let mut costs = [0.0; 3];
            // No crowd is always the first one.
            for turn in 0..crowds.len() {
                let which = (turn + round) % crowds.len();
                costs[which] = crowds[which].publish(&payload);
            }
            rounds.push(costs);
        }
        // The first one warms up.
        let mut ratios: Vec<f64> =
            rounds[1..].iter().map(|[json, cbor, mixed]| mixed / ((json + cbor) / 2.0)).collect();
        ratios.sort_by(f64::total_cmp);
        let median = |which: usize| {
            let mut costs: Vec<f64> = rounds[1..].iter().map(|costs| costs[which]).collect();
            costs.sort_by(f64::total_cmp);
            costs[costs.len() / 2]
        };
        println!(
            "{kind}: JSON {:.0} us, CBOR {:.0} us, half of each {:.0} us: {:.3} [{:.3} {:.3}]",
            median(0),
            median(1),
            median(2),
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
        );
    }
}

/// A server without a kernel, and its subscribers.
struct Crowd {
    server: Server,
    handle: Handle,
    peers: Vec<MemoryPeer>,
}

impl Crowd {
    /// Subscribes, so many of them in CBOR.
    fn new(cbor: usize) -> Crowd {
        let network = MemoryNetwork::new();
        let builder = Server::builder().workers(0).seed(1).clock(ManualClock::new());
        let server = app::routes(builder).listen_memory(&network).expect("nothing is in the way");
        let handle = server.handle();
        let mut crowd = Crowd { server, handle, peers: Vec::new() };
        for number in 0..SUBSCRIBERS {
            // Among each other, as real ones would be.
            let is_cbor = number * cbor / SUBSCRIBERS != (number + 1) * cbor / SUBSCRIBERS;
            let (protocol, subscribe) = match is_cbor {
                true => {
                    let map = b"\xa2\x62op\x69subscribe\x65topic\x61a";
                    ("heartwheel.v1.cbor", frame::frame(frame::BINARY, map))
                }
                false => {
                    let text = br#"{"op":"subscribe","topic":"a"}"#;
                    ("heartwheel.v1", frame::frame(frame::TEXT, text))
                }
            };
            let mut peer = network.connect().expect("it listens");
            write!(peer, "{UPGRADE}Sec-WebSocket-Protocol: {protocol}\r\n\r\n").expect("room");
            peer.write_all(&subscribe).expect("there is room");
            crowd.peers.push(peer);
        }
        crowd.settle();
        let read = crowd.read_all();
        assert!(read > SUBSCRIBERS * 150, "answers, greetings, subscribed");
        crowd
    }

    /// Publishes a round of events, and gives the microseconds of CPU that the server took for one.
    fn publish(&mut self, payload: &Payload) -> f64 {
        let mut cpu = Duration::ZERO;
        for _ in 0..EVENTS {
            self.handle.publish("a", payload.clone()).expect("there is room");
            let before = cpu_of_thread();
            self.settle();
            cpu += cpu_of_thread() - before;
            assert!(self.read_all() > SUBSCRIBERS * SIZE);
        }
        cpu.as_secs_f64() * 1e6 / EVENTS as f64
    }

    fn settle(&mut self) {
        while self.server.next_timeout() == Some(Duration::ZERO) {
            self.server.turn().expect("nothing fails");
        }
    }

    fn read_all(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        let mut read = 0;
        for peer in &mut self.peers {
            loop {
                match peer.read(&mut buffer) {
                    Ok(len @ 1..) => read += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    end => panic!("it has ended: {end:?}"),
                }
            }
        }
        read
    }
}

fn cpu_of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const SUBSCRIBERS: usize = 1000;
const EVENTS: usize = 200;
const ROUNDS: usize = 15;
const SIZE: usize = 1024;
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
