//! System calls that fail: the program runs with `inject.c` in front of its C library, which makes
//! the n-th call of a kind fail as this file says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tungstenite::{Message, WebSocket};

use crate::common::client::{Client, End, is_timeout};
use crate::common::frame::{BINARY, TEXT, frame};
use crate::common::http::get_request;
use crate::common::preload;
use crate::common::program::Program;
use crate::common::rng::Rng;
use crate::common::timing::{alone, assert_took, assert_took_between, quiet, rounds_of};

/// The program, and the file that says which of its calls fail.
struct Injected {
    program: Program,
    plan: File,
    path: PathBuf,
}

impl Injected {
    fn start(settings: &[(&str, &str)]) -> Injected {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("plan-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut options = OpenOptions::new();
        let plan = options.read(true).write(true).create_new(true).open(&path);
        let plan = plan.expect("the folder is ours");
        plan.set_len(64).expect("the file is ours");
        let environment = [("LD_PRELOAD", library()), ("INJECT", path.as_path())];
        let own = [("log", "debug"), ("deadlines.close_ack", "300ms"), ("workers", "1")];
        let settings: Vec<_> = own.iter().chain(settings).copied().collect();
        Injected { program: Program::start_in(&environment, &settings), plan, path }
    }

    fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Makes calls of this kind fail: `times` of them from the `first` from now on, which is 1.
    fn fail(&self, call: &str, first: i32, times: i32, errno: Errno) {
        // Nothing matches while the numbers are being written.
        self.write(CALL_AT, &[0; 16]);
        let numbers = [first, times, errno.raw_os_error(), 0].map(i32::to_ne_bytes);
        self.write(CALL_AT + 16, numbers.as_flattened());
        self.write(CALL_AT, call.as_bytes());
    }

    /// Gives how many calls have failed since they were told to.
    fn failed(&self) -> i32 {
        let mut bytes = [0; 4];
        self.plan.read_exact_at(&mut bytes, FAILED_AT).expect("the file is long enough");
        i32::from_ne_bytes(bytes)
    }

    fn switch(&self, at: u64, is_on: bool) {
        self.write(at, &i32::from(is_on).to_ne_bytes());
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.plan.write_all_at(bytes, at).expect("the file is ours");
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

// The layout of `struct plan`.
const CALL_AT: u64 = 0;
const FAILED_AT: u64 = 28;
const TRICKLES_AT: u64 = 32;
const STEPS_CLOCK_AT: u64 = 36;

/// Gives the library that is loaded in front.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| preload::compile("tests/faults/inject.c"))
}

/// Connects with the patience of these tests.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A visit as it should be: a page, then on the same connection messages of two sizes, both ways,
/// and a close. An error says that the connection was cut.
///
/// # Panics
///
/// If nothing comes, neither an answer nor an end; or something else than what was sent.
fn visit(address: SocketAddr) -> io::Result<()> {
    let cut = |error| match error {
        tungstenite::Error::Io(error) if is_timeout(&error) => panic!("it hangs"),
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    };
    let mut stream = connect(address)?;
    stream.write_all(get_request("/", "").as_bytes())?;
    read_answer(&mut stream)?;
    let shaken = tungstenite::client("ws://localhost/echo", stream);
    let (mut socket, _) = match shaken {
        Ok(shaken) => shaken,
        Err(tungstenite::HandshakeError::Failure(error)) => return Err(cut(error)),
        Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("it hangs"),
    };
    for size in [10, 200_000, 1] {
        let message = Message::binary(vec![size as u8; size]);
        socket.send(message.clone()).map_err(cut)?;
        assert!(socket.read().map_err(cut)? == message, "another message of {size} bytes");
    }
    socket.close(None).map_err(cut)?;
    read_to_close(&mut socket).map_err(cut)
}

fn read_to_close(socket: &mut WebSocket<TcpStream>) -> tungstenite::Result<()> {
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads an answer with a length.
fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let (_, after) = text.split_once("content-length: ").expect("it has a length");
            let length: usize = after.lines().next().unwrap().parse().expect("a number");
            if bytes.len() >= head + length {
                return Ok(bytes.split_off(head));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
            Err(error) if is_timeout(&error) => panic!("it hangs"),
            Err(error) => return Err(error),
        }
    }
}

/// FAULTS 86. Each read and each write of a socket is interrupted, then refused, then takes one
/// byte; the edges that the kernel tells after a refusal are told. Every byte is the right one.
#[test]
fn one_byte_at_a_time_between_refusals_is_the_same_bytes() {
    let _alone = alone();
    let server = Injected::start(&[]);
    let mut client = Client::connect(server.address());
    let page = client.get("/heartwheel.js").body;
    drop(client);
    server.program.wait_logged("closed id=");
    server.switch(TRICKLES_AT, true);
    let mut client = Client::connect(server.address());
    let trickled = client.get("/heartwheel.js");
    assert_eq!((trickled.status, trickled.body == page), (200, true));
    client.upgrade("/echo");
    let mut rng = Rng::new(86);
    let payloads: Vec<Vec<u8>> = [0, 1, 125, 126, 3000]
        .into_iter()
        .chain((0..rounds_of(20, 1000)).map(|_| rng.below(300)))
        .map(|size| (0..size).map(|n| (n * 7 + size) as u8).collect())
        .collect();
    // Several at once, so that there are several slices to write, too.
    client.send(payloads.iter().flat_map(|bytes| frame(BINARY, bytes)).collect::<Vec<_>>());
    for (index, payload) in payloads.iter().enumerate() {
        let got = client.read_frame();
        assert_eq!((got.first, &got.payload), (BINARY, payload), "message {index}");
    }
    client.send(crate::common::frame::close(1000, ""));
    client.assert_closed(1000);
    server.program.wait_logged("reason=peer ");
    let line = &server.program.lines_with("reason=peer ")[0];
    println!("{line}");
    let sent: usize = payloads.iter().map(|bytes| frame(BINARY, bytes).len() - 4).sum();
    let answers = trickled.head.len() + page.len() + sent + 4;
    assert!(bytes_out(line) > answers, "{answers} and the 101 at least");
    assert_eq!(server.program.logged("closed id="), 2);
}

fn bytes_out(line: &str) -> usize {
    let (_, after) = line.split_once("bytes_out=").expect("it is told");
    after.split(' ').next().unwrap().parse().expect("a number")
}

/// FAULTS 89. An error that a connection of its own brought is passed over, as often as it comes.
#[test]
fn errors_of_single_connections_do_not_pause_accepting() {
    let _quiet = quiet();
    let server = Injected::start(&[]);
    let errors = [
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::PERM,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
    ];
    for errno in errors {
        server.fail("accept4", 1, 5, errno);
        let began = Instant::now();
        assert_eq!(Client::connect(server.address()).get("/").status, 200);
        assert_took_between(began, Duration::ZERO, Duration::from_millis(200));
        assert_eq!(server.failed(), 5, "{errno}");
    }
    // The close of the last one is logged behind its errors.
    server.program.wait_logged_times("closed id=", errors.len());
    let lines = server.program.logged("accept failed");
    assert_eq!((lines, server.program.logged("accepting paused")), (5 * errors.len(), 0));
}

/// FAULTS 89. Where the machine has run out of something, accepting pauses for a quarter of a
/// second, and is tried again without anybody's closing; who is connected does not notice.
#[test]
fn errors_of_the_machine_pause_accepting_for_a_while() {
    let _quiet = quiet();
    for errno in [Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::MFILE, Errno::INVAL] {
        let server = Injected::start(&[]);
        let mut peer = Client::open(server.address(), "/echo");
        server.fail("accept4", 1, 2, errno);
        let began = Instant::now();
        let mut waiting = Client::connect(server.address());
        waiting.send(get_request("/", ""));
        peer.assert_echo(TEXT, b"not disturbed");
        assert_took_between(began, Duration::ZERO, Duration::from_millis(200));
        assert_eq!(waiting.read_answer().status, 200);
        assert_took(began, Duration::from_millis(2 * 250));
        assert_eq!(server.failed(), 2, "{errno}");
        server.program.wait_logged("accepting paused times=2");
        assert_eq!(server.program.logged("accept failed"), 0);
    }
}

/// FAULTS 89: what is passed over must not keep the loop busy if it never ends.
#[test]
fn errors_of_every_connection_do_not_make_the_loop_spin() {
    let _alone = alone();
    let server = Injected::start(&[]);
    let mut peer = Client::open(server.address(), "/echo");
    server.fail("accept4", 1, i32::MAX, Errno::PERM);
    let mut waiting = Client::connect(server.address());
    waiting.send(get_request("/", ""));
    server.program.wait_logged("accepting paused");
    let (cpu, before) = (server.program.cpu(), server.failed());
    thread::sleep(Duration::from_secs(2));
    let (cpu, tries) = (server.program.cpu() - cpu, server.failed() - before);
    println!("{cpu:?} of CPU time and {tries} calls in two seconds");
    assert!(cpu <= Duration::from_millis(2000 * 5 / 100), "{cpu:?}");
    // One turn's budget each quarter of a second.
    assert!(tries <= 256 * 10, "{tries}");
    peer.assert_echo(TEXT, b"not disturbed");
    server.fail("none", 1, 0, Errno::PERM);
    assert_eq!(waiting.read_answer().status, 200);
}

/// FAULTS 93. The kernel has no room to watch a connection: it is dropped, and nothing is left of
/// it.
#[test]
fn connection_that_cannot_be_watched_is_dropped() {
    let _quiet = quiet();
    let server = Injected::start(&[("limits.connections", "2")]);
    let descriptors = server.program.descriptors_at_rest();
    // That of the request that it made.
    server.program.wait_logged("closed id=");
    let ends = server.program.logged("closed id=");
    let count = 50;
    for round in 0..count {
        let errno = if round % 2 == 0 { Errno::NOSPC } else { Errno::NOMEM };
        server.fail("epoll_ctl", 1, 1, errno);
        let mut client = Client::connect(server.address());
        assert_eq!(client.read_to_end(), (Vec::new(), End::Reset));
        assert_eq!(server.failed(), 1);
    }
    server.program.wait_descriptors(descriptors);
    server.program.wait_logged_times("closed id=", ends + count);
    let lines = server.program.lines_with("closed id=");
    assert!(lines[ends..].iter().all(|line| line.contains("reason=reset ")), "{lines:#?}");
    // All slots are there, and one that is refused for want of them needs no watch.
    let mut open: Vec<_> = (0..2).map(|_| Client::open(server.address(), "/echo")).collect();
    server.fail("epoll_ctl", 1, 1, Errno::NOSPC);
    assert_eq!(Client::connect(server.address()).read_answer().status, 503);
    open.iter_mut().for_each(|client| client.assert_echo(TEXT, b"still here"));
    drop(open);
    server.program.wait_descriptors(descriptors);
}

/// FAULTS 91. Each call of a visit fails once, in each way that fits it: the connection is cut, or
/// nothing is noticed, and the next visit is as it should be. Nothing hangs and nothing is lost.
#[test]
fn a_failure_of_any_one_call_cuts_one_connection_at_the_most() {
    let _alone = alone();
    let calls: [(&str, &[Errno]); 10] = [
        ("accept4", &[Errno::CONNABORTED, Errno::MFILE]),
        ("epoll_ctl", &[Errno::NOSPC]),
        ("epoll_wait", &[Errno::INTR]),
        ("recv", &[Errno::CONNRESET, Errno::NOMEM, Errno::INTR]),
        ("send", &[Errno::PIPE, Errno::NOBUFS, Errno::INTR]),
        ("sendmsg", &[Errno::PIPE, Errno::NOMEM, Errno::INTR]),
        ("setsockopt", &[Errno::INVAL, Errno::NOPROTOOPT]),
        ("getpeername", &[Errno::NOTCONN]),
        ("shutdown", &[Errno::NOTCONN]),
        // Wake-ups of the loop, and log lines.
        ("write", &[Errno::INTR, Errno::NOMEM]),
    ];
    let mut server = Injected::start(&[]);
    let descriptors = server.program.descriptors_at_rest();
    for (call, errnos) in calls {
        for errno in errnos {
            let (mut nth, mut cut) = (1, 0);
            loop {
                server.fail(call, nth, 1, *errno);
                let visited = visit(server.address());
                if server.failed() == 0 {
                    visited.expect("nothing failed");
                    break;
                }
                cut += usize::from(visited.is_err());
                server.fail("none", 1, 0, *errno);
                visit(server.address()).expect("the next visit is as it should be");
                nth += 1;
            }
            println!("{call} {errno:?}: {} calls failed, {cut} visits were cut", nth - 1);
            assert!(*errno != Errno::INTR || cut == 0, "an interrupted call is tried again");
            assert!(call != "setsockopt" || cut == 0, "no connection depends on an option");
            assert!(nth > 1 || call == "sendmsg", "{call} is called");
        }
    }
    server.program.wait_descriptors(descriptors);
    assert_eq!(server.program.exit_status(), None);
    let panics = server.program.lines_with("panicked");
    assert!(panics.iter().all(|line| line.contains("'heartwheel-log'")), "{panics:#?}");
}

/// FAULTS 91. Stderr takes nothing for a while: the lines are lost and counted, later ones are not.
#[test]
fn log_lines_that_cannot_be_written_are_counted_and_the_next_come_out() {
    let server = Injected::start(&[]);
    visit(server.address()).expect("nothing failed");
    server.program.wait_logged("closed id=");
    server.fail("write", 1, 1, Errno::NOSPC);
    // One line, and no handler whose reply would wake the loop by a write, too.
    drop(Client::connect(server.address()));
    server.program.wait_logged("log lines dropped count=1");
    assert_eq!((server.failed(), server.program.logged("closed id=")), (1, 1));
    drop(Client::connect(server.address()));
    server.program.wait_logged_times("closed id=", 2);
}

/// FAULTS 91. What the program cannot go on without ends it, with a line that says so: the poller
/// with status 1, memory by abort.
#[test]
fn a_failure_of_the_poller_or_of_memory_ends_the_program_with_a_line() {
    let _alone = alone();
    let mut server = Injected::start(&[]);
    server.fail("epoll_wait", 1, 1, Errno::INVAL);
    // Who is connected is reset, or not let in any more.
    let _ = visit(server.address());
    assert_eq!(ended(&mut server.program).code(), Some(1));
    server.program.wait_logged("exit status=1: ");

    let (mut nth, mut aborted) = (1, 0);
    loop {
        let mut server = Injected::start(&[]);
        visit(server.address()).expect("nothing failed");
        server.fail("memory", nth, 1, Errno::NOMEM);
        let visited = visit(server.address());
        if server.failed() == 0 || nth > rounds_of(25, 10_000) as i32 {
            break;
        }
        if visited.is_err() || server.program.exit_status().is_some() {
            let status = ended(&mut server.program);
            assert_eq!(status.signal(), Some(SIGABRT), "{status}");
            server.program.wait_logged("memory allocation of ");
            aborted += 1;
        } else {
            visit(server.address()).expect("the next visit is as it should be");
        }
        nth += 1;
    }
    println!("{} requests for memory failed, {aborted} of them ended the program", nth - 1);
    assert!(aborted > 0);
}

fn ended(program: &mut Program) -> ExitStatus {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = program.exit_status() {
            return status;
        }
        assert!(Instant::now() < patience, "it neither serves nor ends");
        thread::sleep(Duration::from_millis(5));
    }
}

/// FAULTS 59. Each look at the wall clock finds it an hour ahead, or an hour back. Deadlines act in
/// their time, pings go out as ever, and the ids of events increase.
#[test]
fn wall_clock_that_steps_moves_no_deadline() {
    let _quiet = quiet();
    let settings = [
        ("deadlines.handshake", "300ms"),
        ("deadlines.read_idle", "700ms"),
        ("heartbeat.interval", "200ms"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "10"),
        ("topics.retain_for", "1m"),
    ];
    let server = Injected::start(&settings);
    server.switch(STEPS_CLOCK_AT, true);
    let mut dates = Vec::new();
    let mut ids: Vec<(u64, u64)> = Vec::new();
    for nth in 0..20 {
        if nth % 2 == 1 {
            // Turns in between: an even number for each request would always find it the same.
            drop(Client::connect(server.address()));
            thread::sleep(Duration::from_millis(nth));
        }
        let mut client = Client::connect(server.address());
        let post = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
        client.send(post);
        let response = client.read_answer();
        dates.push(response.header("date").expect("it is told").to_owned());
        let (_, id) = response.text().split_once("\"id\":\"").expect("it has an id");
        let (ms, seq) = id.trim_end_matches(|c: char| !c.is_ascii_digit()).split_once('-').unwrap();
        ids.push((ms.parse().unwrap(), seq.parse().unwrap()));
    }
    dates.sort();
    dates.dedup();
    println!("{dates:?}");
    assert!(dates.len() > 1, "the clock steps");
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");

    let began = Instant::now();
    let mut silent = Client::connect(server.address());
    assert_eq!(silent.read_to_end(), (Vec::new(), End::Fin));
    assert_took(began, Duration::from_millis(300));
    let began = Instant::now();
    let mut idle = Client::open(server.address(), "/echo");
    let mut pings = 0;
    let close = loop {
        match idle.read_frame() {
            frame if frame.first == crate::common::frame::CLOSE => break frame,
            _ => pings += 1,
        }
    };
    assert_took(began, Duration::from_millis(700));
    assert_eq!(close.payload, 3008u16.to_be_bytes());
    assert!((3..=7).contains(&pings), "{pings} pings");
    let mut client = Client::connect(server.address());
    // HTTP/1.0 has no chunks.
    client.send("GET /topics/a?after=0-0 HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let (retained, _) = client.read_to_end();
    let retained = String::from_utf8_lossy(&retained);
    assert_eq!(retained.matches("\"id\"").count(), ids.len(), "none has grown old");
}

/// The same number on every Linux.
const SIGABRT: i32 = 6;
/// What does not come within this time never comes.
const PATIENCE: Duration = Duration::from_secs(5);
