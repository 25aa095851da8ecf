//! What does an event to a thousand subscribers cost the server's CPU, compressed against not?
//!
//! A thousand subscribers get each event of one topic as it is, a thousand those of another one
//! compressed against the event before, and a thousand those of a third one compressed by itself.
//! All are in step. The topics take turns, a block of events each; a round is a block of each
//! topic. What is printed is the CPU time of the loop's thread for an event, the median of the
//! rounds, and the median of its ratio to that of the plain topic in the same round. The figure to
//! beat is 1.1 for the history. Beside it stand the bytes of a payload on the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use heartwheel::{Config, Handle, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

const SUBSCRIBERS: usize = 1000;
const ROUNDS: usize = 9;
const EVENTS: usize = 40;
const OFFERS: [(&str, &str); 3] = [
    ("plain", ""),
    ("history", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ("alone", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"),
];

fn main() {
    for len in [146, 1024] {
        measure(len);
    }
}

fn measure(len: usize) {
    let mut config = Config::default();
    // Subscribers that say nothing are not pinged meanwhile.
    for (key, value) in [
        ("compression.mode", "on"),
        ("limits.connections", "4000"),
        ("heartbeat.interval", "off"),
        ("deadlines.read_idle", "1h"),
    ] {
        config.set(key, value).expect("there is such a key");
    }
    let builder = Server::builder().config(config).topics("/topics/{topic}");
    let server = builder.listen("127.0.0.1:0").expect("there is a port");
    let address = server.local_addresses()[0].as_tcp().expect("it is one of TCP");
    let handle = server.handle();
    let loop_cpu = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let (cpu, over) = (loop_cpu.clone(), is_over.clone());
    let serving = thread::spawn(move || serve(server, &cpu, &over));
    let mut topics: Vec<_> =
        OFFERS.into_iter().map(|(name, offer)| Topic::open(address, name, offer)).collect();
    let mut number = 0;
    for round in 0..=ROUNDS {
        for topic in &mut topics {
            let before = loop_cpu.load(Ordering::Acquire);
            for _ in 0..EVENTS {
                number += 1;
                topic.publish(&handle, &reading(number, len));
            }
            // The turn of the last event has told what it took, too.
            thread::sleep(Duration::from_millis(20));
            let took = loop_cpu.load(Ordering::Acquire) - before;
            // The first round warms up.
            if round > 0 {
                topic.took_us.push(took as f64 / EVENTS as f64 / 1000.0);
            }
        }
    }
    let plain = topics[0].took_us.clone();
    for Topic { name, took_us, bytes, .. } in &topics {
        let ratios = took_us.iter().zip(&plain).map(|(took, plain)| took / plain).collect();
        let (took, [least, ratio, most]) = (spread(took_us.clone())[1], spread(ratios));
        let wire = *bytes as f64 / (SUBSCRIBERS * (ROUNDS + 1) * EVENTS) as f64;
        println!(
            "{len:>5} bytes to {SUBSCRIBERS}, {name:<7}: {took:>6.0} us an event, \
             x {ratio:.2} ({least:.2}-{most:.2}), {wire:.0} bytes on the wire"
        );
    }
    is_over.store(true, Ordering::Release);
    serving.join().expect("the loop ends");
}

/// Turns as an embedding host does, and tells the CPU time of the thread after each turn.
fn serve(mut server: Server, cpu: &AtomicU64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        let most = Duration::from_millis(10);
        let wait = server.next_timeout().unwrap_or(most).min(most);
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut watched = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)];
        let _ = poll(&mut watched, Some(&wait));
        server.turn().expect("the poller works");
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        cpu.store(nanos, Ordering::Release);
    }
}

/// A topic, and its subscribers.
struct Topic {
    name: &'static str,
    subscribers: Vec<TcpStream>,
    took_us: Vec<f64>,
    /// Payloads, as they came.
    bytes: u64,
}

impl Topic {
    fn open(address: SocketAddr, name: &'static str, offer: &str) -> Topic {
        let request = format!(
            "GET /topics/{name} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        let open = |_| {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(request.as_bytes()).expect("it reads");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("it answers");
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            assert_eq!(head.contains("permessage-deflate"), !offer.is_empty(), "{head}");
            stream
        };
        let subscribers = (0..SUBSCRIBERS).map(open).collect();
        Topic { name, subscribers, took_us: Vec::new(), bytes: 0 }
    }

    /// Publishes an event, and waits until all have it.
    fn publish(&mut self, handle: &Handle, event: &str) {
        handle.publish(self.name, event).expect("it is published");
        for stream in &mut self.subscribers {
            let mut head = [0; 2];
            stream.read_exact(&mut head).expect("an event comes");
            assert!(matches!(head[0] & 0x3f, 1), "it is a text: {head:x?}");
            let mut length = [0; 2];
            let len = match head[1] {
                126 => {
                    stream.read_exact(&mut length).expect("its length comes");
                    u16::from_be_bytes(length).into()
                }
                len => usize::from(len),
            };
            let mut payload = [0; 2048];
            stream.read_exact(&mut payload[..len]).expect("its payload comes");
            self.bytes += len as u64;
        }
    }
}

/// JSON of so many bytes, as a device sends it.
fn reading(number: usize, len: usize) -> String {
    let mut text = format!("{{\"device\":\"gw-17\",\"n\":{number},\"celsius\":{}", number % 90);
    while text.len() < len - 16 {
        let (key, value) = (text.len() % 89, (number * 7919 + text.len()) % 1000);
        text += &format!(",\"k{key}\":{value}");
    }
    text + "}"
}

/// Gives the least, the median and the most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}
