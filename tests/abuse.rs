//! What peers can do to fill the memory of a server, in a control group of 16 MiB: kind by kind,
//! since all together refuse much of each other, then all at once. The program survives, and honest
//! clients are served throughout.
//!
//! All at once takes 15 s, `ROUNDS` times as much, or ten minutes with `LONG=1`.

#![cfg(all(feature = "program", target_os = "linux"))]

mod common;

#[path = "abuse/honest.rs"]
mod honest;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, iter};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use common::frame::{BINARY, TEXT, frame, header};
use common::group::Group;
use common::http::{get_request, upgrade_request};
use common::program::Program;

const LIMIT: u64 = 16 << 20;

/// One kind of peer that does harm, and how many of it there are at a time.
struct Abuse {
    peers: usize,
    /// How long until another peer comes, and the oldest goes.
    every: Duration,
    /// What each begins with.
    begins: Vec<u8>,
    /// What each sends in every round thereafter.
    drips: Vec<u8>,
    /// Whether it reads what comes.
    reads: bool,
}

impl Abuse {
    fn new(peers: usize, every_ms: u64, begins: impl Into<Vec<u8>>) -> Abuse {
        let every = Duration::from_millis(every_ms);
        Abuse { peers, every, begins: begins.into(), drips: Vec::new(), reads: false }
    }

    fn dripping(self, drips: impl Into<Vec<u8>>) -> Abuse {
        Abuse { drips: drips.into(), ..self }
    }

    fn reading(self) -> Abuse {
        Abuse { reads: true, ..self }
    }

    /// Goes on until then.
    fn start(self, address: SocketAddr, until: Instant) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut peers: Vec<Peer> = Vec::new();
            let mut last_came = Instant::now();
            let mut buffer = vec![0; 64 << 10];
            while Instant::now() < until {
                if peers.len() < self.peers || last_came.elapsed() >= self.every {
                    last_came = Instant::now();
                    peers.truncate(self.peers - 1);
                    peers.splice(0..0, Peer::connect(address, &self.begins));
                }
                peers.retain_mut(|peer| {
                    (!self.reads || peer.reads(&mut buffer)) && peer.sends(&self.drips)
                });
                thread::sleep(ROUND);
            }
        })
    }
}

/// A connection that never waits.
struct Peer {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Peer {
    /// Connects with a receive buffer as small as the kernel allows.
    fn connect(address: SocketAddr, begins: &[u8]) -> Option<Peer> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
        socket.set_recv_buffer_size(4096).ok()?;
        socket.connect_timeout(&address.into(), Duration::from_millis(200)).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Peer { stream: socket.into(), unsent: begins.into() })
    }

    /// Sends what is left, then this. Says whether the connection lives.
    fn sends(&mut self, bytes: &[u8]) -> bool {
        if self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
        }
        match self.stream.write(&self.unsent) {
            Ok(len) => self.unsent.drain(..len).count() == len,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Reads what is there. Says whether the connection lives.
    fn reads(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            Ok(len) => len > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

type Kind = (&'static str, fn() -> Vec<Abuse>);

const KINDS: &[Kind] = &[
    ("control characters", || {
        // They are six times as long in JSON.
        let subscribe = frame(TEXT, br#"{"op":"subscribe","topic":"control","after":"0-0"}"#);
        vec![
            Abuse::new(2, 200, post("control", &[1; 64 << 10])),
            Abuse::new(8, 100, get_request("/topics/control?after=0-0", "")),
            Abuse::new(4, 100, get_request("/topics/control?after=0-0", "")).reading(),
            Abuse::new(30, 200, upgraded("/ws", &subscribe)),
            Abuse::new(10, 200, stream("/events?topic=control&after=0-0")),
        ]
    }),
    ("line feeds", || {
        // They are seven times as long in an event stream.
        vec![
            Abuse::new(2, 300, post("lines", &megabyte(b'\n'))),
            Abuse::new(10, 500, stream("/events?topic=lines")),
            Abuse::new(4, 500, stream("/topics/lines")),
        ]
    }),
    ("large events", || {
        vec![
            Abuse::new(1, 1000, post("large", &megabyte(b'l'))),
            Abuse::new(50, 50, get_request("/topics/large", "")),
            Abuse::new(10, 500, upgraded("/topics/large?after=0-0", b"")),
        ]
    }),
    ("large messages and bodies", || {
        let half_message = [&header([0; 4], BINARY, 1_000_000)[..], &[b'x'; 60_000]].concat();
        vec![
            Abuse::new(100, 50, upgraded("/echo", &half_message)),
            Abuse::new(4, 100, post("posts", &megabyte(b'p'))),
            Abuse::new(20, 200, post_of("posts", 1 << 20, &[b'h'; 600_000])),
        ]
    }),
    ("drips", || {
        let header = header([0; 4], TEXT, 100_000);
        vec![
            Abuse::new(50, 200, "GET /").dripping("x"),
            Abuse::new(50, 200, post_of("posts", 1 << 20, b"")).dripping("x"),
            Abuse::new(50, 200, upgraded("/echo", &header)).dripping("x"),
        ]
    }),
    ("tiny events", || {
        let tiny: Vec<u8> = iter::repeat_n(frame(TEXT, b"abc"), 100).flatten().collect();
        let topics: Vec<String> = (0..60).map(|number| format!("topic=many.{number}")).collect();
        let many = format!("/events?{}&topic=tiny&topic=lines", topics.join("&"));
        vec![
            Abuse::new(1, 5000, upgraded("/topics/tiny", b"")).dripping(tiny).reading(),
            Abuse::new(20, 500, stream("/events?topic=tiny")),
            Abuse::new(20, 500, upgraded("/topics/tiny", b"")),
            Abuse::new(30, 200, stream(&many)),
            Abuse::new(50, 50, stream("/events?topic=tiny").replacen("GET", "HEAD", 1)),
        ]
    }),
    ("unread answers", || {
        vec![
            Abuse::new(20, 100, get_request("/", "")).dripping(get_request("/heartwheel.js", "")),
            Abuse::new(20, 100, upgraded("/echo", b"")).dripping(frame(TEXT, &[b'e'; 8000])),
        ]
    }),
];

#[test]
fn in_16_mib_it_survives_every_abuse_at_once_and_serves_honest_clients() {
    let Some(group) = Group::new(LIMIT) else {
        eprintln!("\n== NOT TESTED: NO CONTROL GROUP CAN BE MADE HERE, WHICH TAKES ROOT\n");
        return;
    };
    // A slow machine is not to end who came and was not yet heard.
    let mut program = group.start(&[("deadlines.handshake", "20s")]);
    for kind in KINDS {
        endure(&mut program, &group, kind.0, SPAN_OF_A_KIND, kind.1());
    }
    let all = KINDS.iter().flat_map(|kind| kind.1()).collect();
    endure(&mut program, &group, "all at once", span(), all);
    program.signal(Signal::TERM);
    assert!(program.wait_exit().success());
}

/// Lets peers do harm for so long, and checks how honest clients are served meanwhile and after it.
fn endure(program: &mut Program, group: &Group, what: &str, span: Duration, abuses: Vec<Abuse>) {
    let (address, until) = (program.address, Instant::now() + span);
    let honest = honest::start(address, program.id(), until);
    let abuses: Vec<_> = abuses.into_iter().map(|abuse| abuse.start(address, until)).collect();
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        assert!(program.exit_status().is_none(), "{what}: it died {left:?} before the end");
        thread::sleep(Duration::from_millis(50));
    }
    abuses.into_iter().for_each(|abuse| abuse.join().expect("it does not panic"));
    let services: Vec<_> =
        honest.into_iter().map(|client| client.join().expect("nor it")).collect();
    assert!(program.exit_status().is_none(), "{what}: it died at the end");
    println!(
        "{what}: {} KiB of {} at most, {} resident, {} shed so far",
        group.peak() >> 10,
        LIMIT >> 10,
        program.resident_peak() >> 10,
        program.logged("reason=memory"),
    );
    for service in &services {
        println!("    {service}");
    }
    for service in &services {
        assert!(service.untold.is_empty(), "{what}: {service}");
        assert!(service.served > 0, "{what}: {service}");
        assert!(service.worst < BOUND, "{what}: {service}");
    }
    // All peers have gone: there is room.
    let patience = Instant::now() + Duration::from_secs(10);
    while !honest::is_served(address) {
        assert!(Instant::now() < patience, "{what}: it does not recover");
        thread::sleep(Duration::from_millis(20));
    }
}

fn span() -> Duration {
    let rounds = env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    match env::var_os("LONG") {
        Some(_) => Duration::from_secs(600),
        None => Duration::from_secs(15) * rounds,
    }
}

fn megabyte(byte: u8) -> Vec<u8> {
    vec![byte; 1 << 20]
}

fn stream(path: &str) -> String {
    get_request(path, "Accept: text/event-stream\r\n")
}

fn upgraded(path: &str, bytes: &[u8]) -> Vec<u8> {
    [upgrade_request(path, "").as_bytes(), bytes].concat()
}

fn post(topic: &str, body: &[u8]) -> Vec<u8> {
    post_of(topic, body.len(), body)
}

/// Publishes a body that is as long as it says, or shorter.
fn post_of(topic: &str, len: usize, body: &[u8]) -> Vec<u8> {
    let line = format!("Content-Length: {len}\r\n");
    let head = get_request(&format!("/topics/{topic}"), &line).replacen("GET", "POST", 1);
    [head.as_bytes(), body].concat()
}

const SPAN_OF_A_KIND: Duration = Duration::from_millis(2500);
/// Between two rounds of a kind of peers.
const ROUND: Duration = Duration::from_millis(20);
/// How long an honest client may wait for what it asked for. A turn takes milliseconds; here is a
/// debug build, and two processors for it and for all its peers.
const BOUND: Duration = Duration::from_secs(2);
