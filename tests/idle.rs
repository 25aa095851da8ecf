//! What idle connections cost the program itself: memory, and threads that wake up. Measured from
//! outside, on the process, over real sockets.
//!
//! `CONNECTIONS=9000 SECONDS=10 cargo test --release --test idle -- --nocapture` prints the figures
//! of the contract; by default there are fewer, over a shorter time, and the bound on memory is
//! wider: pages are coarse.
#![cfg(all(feature = "program", target_os = "linux"))]

mod common;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::{Resource, getrlimit, setrlimit};

use common::client::{Client, Seen};
use common::frame::{BINARY, PING, frame};
use common::program::Program;

/// Gives the bytes of memory that the process has of its own.
fn memory(program: &Program) -> i64 {
    // What has just been done may still be in progress.
    thread::sleep(Duration::from_millis(200));
    program.memory() as i64
}

/// Gives how often each thread has waited, by its number and name.
fn waits(program: &Program) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.id()));
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
fn wake_ups(program: &Program, span: Duration) -> BTreeMap<String, u64> {
    thread::sleep(Duration::from_millis(500));
    let before = waits(program);
    thread::sleep(span);
    let since = |(name, count): (String, u64)| {
        let new = count - before.get(&name).expect("no thread is new");
        (name, new)
    };
    waits(program).into_iter().map(since).collect()
}

/// Reads one message, and over pings, which are not answered.
fn read_message(client: &mut Client) {
    loop {
        match client.see() {
            Seen::Frame(PING, _) => {}
            Seen::Frame(BINARY, payload) => return assert_eq!(payload.len(), MESSAGE_BYTES),
            other => panic!("a message was expected: {other:?}"),
        }
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

/// Sixteen connections have a megabyte echoed again and again. What the allocator keeps of it goes
/// back when the server rests.
#[test]
fn memory_goes_back_after_a_flood() {
    for workers in ["0", "2"] {
        let program = Program::start_plain(&[
            ("workers", workers),
            ("admin_listen", "off"),
            ("limits.outbox_bytes", "4m"),
        ]);
        let base = memory(&program);
        let flood = |_| {
            let message = frame(BINARY, &vec![b'x'; 1_000_000]);
            let mut client = Client::open(program.address, "/echo");
            for _ in 0..8 {
                client.send(&message);
                loop {
                    match client.see() {
                        Seen::Frame(PING, _) => {}
                        Seen::Frame(BINARY, payload) => break assert_eq!(payload.len(), 1_000_000),
                        other => panic!("a message was expected: {other:?}"),
                    }
                }
            }
        };
        thread::scope(|scope| {
            (0..16).for_each(|number| drop(scope.spawn(move || flood(number))));
        });
        println!("right after, {workers} workers: {} KiB", (memory(&program) - base) / 1024);
        thread::sleep(Duration::from_millis(2500));
        let kept = memory(&program) - base;
        println!("at rest, {workers} workers: {} KiB more than before", kept / 1024);
        assert!(kept < 3 << 19, "{kept} bytes are kept");
    }
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
    let program = Program::start_plain(&[
        ("workers", &workers.to_string()),
        ("admin_listen", "off"),
        ("deadlines.handshake", "60s"),
        ("deadlines.read_idle", "off"),
        ("heartbeat.pong", "10m"),
        ("deadlines.write_stall", "60s"),
    ]);

    let woken = wake_ups(&program, span);
    println!("no connections, {span:?}: wake-ups {woken:?}");
    assert!(woken.values().all(|count| *count == 0), "{woken:?}");

    let message = frame(BINARY, &[b'x'; MESSAGE_BYTES]);
    let mut first = Client::open(program.address, "/echo");
    first.send(&message);
    read_message(&mut first);
    drop(first);
    let base = memory(&program);
    println!("base: {} KiB", base / 1024);
    let check = |what: &str| {
        let each = (memory(&program) - base) / count as i64;
        println!("{what}: {each} bytes for each of {count} connections");
        assert!(each <= bytes_max, "{what}: {each} bytes each");
    };

    let mut streams: Vec<_> = (0..count).map(|_| Client::connect(program.address)).collect();
    let began = Instant::now();
    drop(Client::open(program.address, "/echo"));
    let took = began.elapsed();
    println!("a handshake beside {count} silent connections: {took:?}");
    assert!(took <= Duration::from_millis(500), "{took:?}");
    check("silent");
    streams.iter_mut().for_each(|stream| drop(stream.upgrade("/echo")));
    check("upgraded");

    // First pings that fall into the next five seconds are not on the grid of whole seconds.
    thread::sleep(Duration::from_secs(5));
    check("with the first pings unanswered");
    let woken = wake_ups(&program, span);
    println!("{count} idle connections, {span:?}: wake-ups {woken:?}");
    let most = (span.as_secs_f64() * 1.2).ceil() as u64;
    assert!(woken.values().sum::<u64>() <= most, "{woken:?}");

    for stream in &mut streams {
        stream.send(&message);
        read_message(stream);
    }
    check("after a message each way, one after the other");
    for streams in streams.chunks_mut(250) {
        for stream in &mut *streams {
            stream.send(&message);
        }
        streams.iter_mut().for_each(read_message);
    }
    if workers == 0 {
        check("after a message each way, many at once");
    } else {
        let each = (memory(&program) - base) / count as i64;
        println!("after a message each way, many at once: {each} bytes each, not judged");
    }
}

const MESSAGE_BYTES: usize = 60_000;
