//! What idle connections cost the program itself: memory, and threads that wake up. Measured from
//! outside, on the process, over real sockets.
//!
//! `CONNECTIONS=9000 SECONDS=10 cargo test --release --test idle -- --nocapture` prints the figures
//! of the contract; by default there are fewer, over a shorter time, and the bound on memory is
//! wider: pages are coarse.
#![cfg(all(feature = "program", target_os = "linux"))]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Resource, getrlimit, setrlimit};

/// The program, which ends with the test.
struct Program {
    child: Child,
    address: SocketAddr,
    // The program would lose its log if nobody held the other end.
    _log: BufReader<ChildStderr>,
}

impl Program {
    fn start(settings: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0", "--log", "info"]);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        #[expect(clippy::zombie_processes, reason = "it is waited for when it is dropped")]
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("the log is text") > 0, "it ended");
            if let Some((_, address)) = line.trim_end().split_once("listening address=") {
                let address = address.parse().expect("it listens on TCP");
                return Program { child, address, _log: log };
            }
        }
    }

    /// Gives the bytes of memory that the process has of its own.
    fn memory(&self) -> i64 {
        // What has just been done may still be in progress.
        thread::sleep(Duration::from_millis(200));
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path).expect("the process lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.and_then(|number| number.parse::<i64>().ok()).expect("Linux says so") * 1024
    }

    /// Gives how often each thread has waited, by its number and name.
    fn waits(&self) -> BTreeMap<String, u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let wait = |task: std::io::Result<fs::DirEntry>| {
            let task = task.expect("the process lives");
            let text = fs::read_to_string(task.path().join("status")).expect("the thread lives");
            let field = |name| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.expect("Linux says so").trim().to_owned()
            };
            let count = field("voluntary_ctxt_switches:").parse().expect("it is a number");
            (format!("{} {}", task.file_name().to_string_lossy(), field("Name:")), count)
        };
        tasks.expect("the process lives").map(wait).collect()
    }

    /// Gives how often each thread wakes up while nothing comes.
    fn wake_ups(&self, span: Duration) -> BTreeMap<String, u64> {
        thread::sleep(Duration::from_millis(500));
        let before = self.waits();
        thread::sleep(span);
        let since = |(name, count): (String, u64)| {
            let new = count - before.get(&name).expect("no thread is new");
            (name, new)
        };
        self.waits().into_iter().map(since).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the program accepts");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("sockets have time limits");
    stream.set_nodelay(true).expect("TCP can send at once");
    stream
}

fn upgrade(stream: &mut TcpStream) {
    let request = "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the program reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the program answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
}

/// A client's message; the mask is zero.
fn message() -> Vec<u8> {
    let len = MESSAGE_BYTES as u16;
    [&[0x82, 0xfe], &len.to_be_bytes()[..], &[0; 4], &[b'x'; MESSAGE_BYTES]].concat()
}

/// Reads one message, and over pings, which are not answered.
fn read_message(stream: &mut TcpStream) {
    let mut payload = [0; MESSAGE_BYTES];
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("the program answers");
        if head[0] == 0x89 {
            stream.read_exact(&mut payload[..usize::from(head[1])]).expect("a ping is whole");
            continue;
        }
        assert_eq!(head, [0x82, 126]);
        stream.read_exact(&mut head).expect("the frame is whole");
        assert_eq!(usize::from(u16::from_be_bytes(head)), MESSAGE_BYTES);
        return stream.read_exact(&mut payload).expect("the frame is whole");
    }
}

/// Gives the number in an environment variable.
fn number(name: &str, default: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("the variable is a number"))
}

/// FAULTS 3, 64.
#[test]
fn idle_connections_cost_little_memory_and_wake_nobody() {
    let count = number("CONNECTIONS", 500) as usize;
    measure(count, 0, if count >= 5000 { 256 } else { 1024 });
}

/// What waits for the workers at once stretches the heap, and the system's allocator does not
/// always give it back: the bound is wider, and what many messages at once leave is only printed.
#[test]
fn nor_with_workers() {
    measure(number("CONNECTIONS", 500) as usize, 2, 1024);
}

/// Nothing answers the pings: what wakes the loop is its timer alone.
fn measure(count: usize, workers: usize, bytes_max: i64) {
    // One program at a time: there are only so many descriptors.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let span = Duration::from_secs(number("SECONDS", 1));
    println!("with {workers} workers");
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })
        .expect("the limit can be raised to its maximum");
    let program = Program::start(&[
        &format!("workers={workers}"),
        "admin_listen=off",
        "deadlines.handshake=60s",
        "deadlines.read_idle=off",
        "heartbeat.pong=10m",
        "deadlines.write_stall=60s",
    ]);

    let woken = program.wake_ups(span);
    println!("no connections, {span:?}: wake-ups {woken:?}");
    assert!(woken.values().all(|count| *count == 0), "{woken:?}");

    let message = message();
    let mut first = connect(program.address);
    upgrade(&mut first);
    first.write_all(&message).expect("the program reads");
    read_message(&mut first);
    drop(first);
    let base = program.memory();
    println!("base: {} KiB", base / 1024);
    let check = |what: &str| {
        let each = (program.memory() - base) / count as i64;
        println!("{what}: {each} bytes for each of {count} connections");
        assert!(each <= bytes_max, "{what}: {each} bytes each");
    };

    let mut streams: Vec<_> = (0..count).map(|_| connect(program.address)).collect();
    let began = Instant::now();
    upgrade(&mut connect(program.address));
    let took = began.elapsed();
    println!("a handshake beside {count} silent connections: {took:?}");
    assert!(took <= Duration::from_millis(500), "{took:?}");
    check("silent");
    streams.iter_mut().for_each(upgrade);
    check("upgraded");

    // First pings that fall into the next five seconds are not on the grid of whole seconds.
    thread::sleep(Duration::from_secs(5));
    let woken = program.wake_ups(span);
    println!("{count} idle connections, {span:?}: wake-ups {woken:?}");
    let most = (span.as_secs_f64() * 1.2).ceil() as u64;
    assert!(woken.values().sum::<u64>() <= most, "{woken:?}");

    for stream in &mut streams {
        stream.write_all(&message).expect("the program reads");
        read_message(stream);
    }
    check("after a message each way, one after the other");
    for streams in streams.chunks_mut(250) {
        for stream in &mut *streams {
            stream.write_all(&message).expect("the program reads");
        }
        streams.iter_mut().for_each(read_message);
    }
    if workers == 0 {
        check("after a message each way, many at once");
    } else {
        let each = (program.memory() - base) / count as i64;
        println!("after a message each way, many at once: {each} bytes each, not judged");
    }
}

const MESSAGE_BYTES: usize = 60_000;
