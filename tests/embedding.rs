//! The server inside a loop that is somebody else's: `poll(2)` over its one descriptor and others,
//! turns in between.
//!
//! What a host relies on: it is woken for everything and by nothing else, each turn is bounded and
//! says whether work is left, no thread and no signal is touched, and several servers do not know
//! of each other.

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use heartwheel::{Builder, CloseReason, Error, Event, Message, Peer as Sender, Sent, Server};
use rustix::event::{PollFd, PollFlags, poll};

use common::client::{Client, Seen};
use common::frame::frame;
use common::http::{get_request, upgrade_request};
use common::process::threads;
use common::server::{config, echo, timespec, wait_for};
use common::timing::{EPS, PATIENCE, Span, lock, ms};

/// A host's loop around a server.
struct Host {
    server: Server,
    turns: usize,
}

impl Host {
    fn new(pairs: &[(&str, &str)], builder: Builder) -> Host {
        let pairs = [&[("workers", "0")], pairs].concat();
        let mut host = Host { server: builder.config(config(&pairs)).build().unwrap(), turns: 0 };
        host.settle();
        host
    }

    fn address(&self) -> std::net::SocketAddr {
        self.server.local_addresses()[0].as_tcp().unwrap()
    }

    fn turn(&mut self) {
        self.server.turn().unwrap();
        self.turns += 1;
    }

    /// Turns until nothing is ready and no work is left.
    fn settle(&mut self) {
        while self.server.next_timeout() == Some(Duration::ZERO) || self.is_ready_within(ms(20)) {
            self.turn();
        }
    }

    /// Says whether the descriptor becomes ready within `span`.
    fn is_ready_within(&self, span: Duration) -> bool {
        wait_for(&self.server, Some(span))
    }

    /// Runs the loop as a host would, until `condition` holds.
    #[track_caller]
    fn until(&mut self, what: &str, mut condition: impl FnMut(&Server) -> bool) {
        let began = Instant::now();
        while !condition(&self.server) {
            assert!(began.elapsed() < PATIENCE, "{what}");
            let wait = self.server.next_timeout().unwrap_or(PATIENCE).min(ms(100));
            wait_for(&self.server, Some(wait));
            self.turn();
        }
    }

    /// Runs the loop for `span` and gives how many turns that took.
    fn turns_in(&mut self, span: Duration) -> usize {
        let (began, before) = (Instant::now(), self.turns);
        while let Some(left) = span.checked_sub(began.elapsed()) {
            let wait = self.server.next_timeout().map_or(left, |wait| wait.min(left));
            wait_for(&self.server, Some(wait));
            self.turn();
        }
        self.turns - before
    }

    /// Opens a WebSocket, with the loop turning meanwhile.
    fn open(&mut self, peer: &mut Client, target: &str) {
        let upgraded = self.server.stats().upgraded;
        peer.send(upgrade_request(target, "").as_bytes());
        self.until("the upgrade", |server| server.stats().upgraded > upgraded);
        self.settle();
        assert_eq!(peer.read_answer().status, 101);
    }
}

/// Keeps its peers, and sends so many bytes for a message that is a number.
fn routes(peers: &Arc<Mutex<Vec<Sender>>>) -> Builder {
    let peers = peers.clone();
    let flood = move |peer: &Sender, event: Event| match event {
        Event::Opened(_) => lock(&peers).push(peer.clone()),
        Event::Message(message) => {
            let bytes = message.as_text().unwrap().parse().unwrap();
            peer.send(Message::binary(vec![b'x'; bytes]));
        }
        _ => {}
    };
    Server::builder().websocket("/echo", echo).websocket("/flood", flood)
}

#[test]
fn the_descriptor_wakes_for_everything_and_each_time_once() {
    let peers = Arc::default();
    let mut host = Host::new(&[("deadlines.read_idle", "500ms")], routes(&peers));
    assert_eq!(host.server.next_timeout(), None, "nothing is due without a connection");
    let woken = |host: &mut Host, cause: &str| {
        assert!(host.is_ready_within(EPS), "{cause}");
        host.settle();
        assert!(!host.is_ready_within(ms(30)), "{cause}: it is asked for once");
        assert!(host.server.next_timeout().is_none_or(|wait| wait > Duration::ZERO), "{cause}");
    };
    // A connection, its bytes, and the answer's way out.
    let mut peer = Client::connect(host.address());
    woken(&mut host, "a connection");
    assert_eq!(host.server.connections(), 1);
    peer.send(upgrade_request("/flood", "").as_bytes());
    woken(&mut host, "bytes");
    assert_eq!(peer.read_answer().status, 101);
    // Commands from other threads.
    let sender = lock(&peers)[0].clone();
    let from = sender.clone();
    thread::spawn(move || assert_eq!(from.send("from afar"), Sent::Taken)).join().unwrap();
    woken(&mut host, "a command");
    assert_eq!(peer.message(), "from afar");
    let handle = host.server.handle();
    thread::spawn(move || handle.wake()).join().unwrap();
    woken(&mut host, "a wake");
    // A deadline is nobody's readiness: the timeout says when.
    let span = Span::begin();
    peer.text("10");
    woken(&mut host, "a message");
    assert_eq!(peer.message(), "x".repeat(10));
    let sent = host.server.stats().sent_bytes;
    let wait = host.server.next_timeout().expect("a connection has a deadline");
    assert!(wait <= ms(500 + 20), "{wait:?}");
    // What is asked for may be an earlier deadline that has moved on since; nothing but time wakes
    // the host.
    while host.server.stats().closed_total() == 0 && host.server.stats().sent_bytes == sent {
        let wait = host.server.next_timeout().unwrap();
        assert!(!host.is_ready_within(wait), "it is the timeout that wakes");
        host.turn();
    }
    span.took("read_idle", ms(500));
    peer.expect_close(3008);
    drop(peer);
    woken(&mut host, "an end");
    assert_eq!(host.server.stats().closed_by(CloseReason::ReadIdle), 1);
    assert_eq!((host.server.connections(), host.server.next_timeout()), (0, None));
}

#[test]
fn the_descriptor_wakes_for_room_to_write() {
    let mut host = Host::new(&[], routes(&Arc::default()));
    let mut peer = Client::connect_narrow(host.address());
    host.open(&mut peer, "/flood");
    peer.text("1000000");
    host.until("the kernel is full", |server| server.stats().sent_bytes > 10_000);
    host.settle();
    let sent = host.server.stats().sent_bytes;
    assert!(sent < 1_000_000, "{sent}");
    assert!(!host.is_ready_within(ms(50)), "there is no room");
    let reading = thread::spawn(move || peer.message().len());
    assert!(host.is_ready_within(EPS), "there is room");
    host.until("all of it is sent", |server| server.stats().sent_bytes > 1_000_000);
    assert_eq!(reading.join().unwrap(), 1_000_000);
}

#[test]
fn a_loop_over_several_descriptors_serves_all_of_them() {
    let mut host = Host::new(&[], routes(&Arc::default()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let address = host.address();
    let client = thread::spawn(move || {
        let mut peer = Client::open(address, "/echo");
        for nth in 0..50 {
            peer.text(&nth.to_string());
            assert_eq!(peer.message(), nth.to_string());
            ours.write_all(b"u").unwrap();
        }
        peer.close(1000);
        peer.expect_close(1000);
        peer.expect_fin();
    });
    let (mut bytes, began) = (0, Instant::now());
    while bytes < 50 || host.server.stats().closed_total() == 0 {
        assert!(began.elapsed() < PATIENCE);
        let wait = timespec(host.server.next_timeout().unwrap_or(ms(500)).min(ms(500)));
        let mut watched = [
            PollFd::from_borrowed_fd(host.server.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(theirs.as_fd(), PollFlags::IN),
        ];
        poll(&mut watched, Some(&wait)).unwrap();
        let has_byte = watched[1].revents().contains(PollFlags::IN);
        host.turn();
        if has_byte {
            bytes += std::io::Read::read(&mut &theirs, &mut [0; 64]).unwrap_or(0);
        }
    }
    client.join().unwrap();
}

#[test]
fn a_loop_with_nothing_to_do_does_not_spin() {
    let pairs = [("limits.inbox_messages", "1"), ("limits.outbox_bytes", "1k")];
    let mut host = Host::new(&pairs, routes(&Arc::default()));
    let mut states: Vec<(&str, Client)> = Vec::new();
    states.push(("silent", Client::connect(host.address())));
    let mut peer = Client::connect(host.address());
    peer.send(b"GET / HT");
    states.push(("half a head", peer));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    peer.send(&frame(0x81, b"half a message")[..9]);
    states.push(("half a message", peer));
    let mut peer = Client::connect(host.address());
    peer.send(get_request("/nowhere", "").as_bytes());
    states.push(("kept alive", peer));
    // Its answers are not read, so its further messages are not read either.
    let mut peer = Client::connect_narrow(host.address());
    host.open(&mut peer, "/flood");
    (0..20).for_each(|_| peer.text("1000000"));
    states.push(("not reading", peer));
    let mut peer = Client::connect_narrow(host.address());
    host.open(&mut peer, "/flood");
    peer.text("1000000");
    peer.half_close();
    states.push(("not reading, its side ended", peer));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    peer.close(1000);
    states.push(("closed but for its FIN", peer));
    host.turns_in(ms(100));
    assert_eq!(host.server.connections(), states.len());
    let turns = host.turns_in(ms(1000));
    println!("{turns} turns in a second, with {} connections", states.len());
    assert!(turns <= 5, "{turns}");
    assert_eq!(host.server.connections(), states.len());
    drop(states);
    host.until("all have ended", |server| server.connections() == 0);
    assert_eq!(host.server.next_timeout(), None);
}

#[test]
fn a_turn_is_bounded_and_says_that_work_is_left() {
    const MESSAGES: usize = 500;
    let pairs = [("turn.bytes", "1k"), ("turn.events", "1")];
    let mut host = Host::new(&pairs, routes(&Arc::default()));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    peer.send(frame(0x81, b"one of many").repeat(MESSAGES));
    assert!(host.is_ready_within(EPS));
    let mut most = 0;
    let began = Instant::now();
    while host.server.stats().messages_handled < MESSAGES as u64 {
        assert!(began.elapsed() < PATIENCE);
        let before = host.server.stats().messages_handled;
        host.turn();
        most = most.max(host.server.stats().messages_handled - before);
        if host.server.stats().messages_handled < MESSAGES as u64 {
            assert_eq!(host.server.next_timeout(), Some(Duration::ZERO), "work is left");
        }
    }
    println!("{MESSAGES} messages in {} turns, {most} in one at the most", host.turns);
    // 128 bytes for each that is decoded, and for each that is delivered.
    assert!(most <= 10, "{most}");
    host.settle();
    (0..MESSAGES).for_each(|_| assert_eq!(peer.message(), "one of many"));
}

#[test]
fn turns_that_come_early_are_harmless() {
    let mut host = Host::new(&[("deadlines.read_idle", "300ms")], routes(&Arc::default()));
    let fd = std::os::fd::AsRawFd::as_raw_fd(&host.server.as_fd());
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    let span = Span::begin();
    peer.text("once");
    while host.server.stats().deadlines_fired.iter().sum::<u64>() == 0 {
        host.turn();
        assert!(span.elapsed() < PATIENCE);
    }
    span.took("read_idle", ms(300));
    assert_eq!(peer.message(), "once");
    peer.expect_close(3008);
    assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&host.server.as_fd()), fd);
}

#[test]
fn a_host_drains_like_anybody_else() {
    let mut host = Host::new(&[("deadlines.drain", "5s")], routes(&Arc::default()));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    host.server.handle().drain().unwrap();
    host.settle();
    assert!(!host.server.is_over());
    peer.expect_close(1001);
    peer.close(1001);
    host.settle();
    peer.expect_fin();
    drop(peer);
    host.until("the drain is over", Server::is_over);
}

#[test]
fn two_servers_in_one_process_do_not_mix() {
    let peers = Arc::default();
    let mut left = Host::new(&[], routes(&peers));
    // A handler of one server speaks to a peer of the other.
    let relay = {
        let peers = Arc::clone(&peers);
        move |peer: &Sender, event: Event| {
            if let Event::Message(message) = event {
                assert_eq!(lock(&peers)[0].send(message.clone()), Sent::Taken);
                peer.send(message);
            }
        }
    };
    let mut right = Host::new(&[], Server::builder().websocket("/relay", relay));
    let mut one = Client::connect(left.address());
    left.open(&mut one, "/flood");
    let mut other = Client::connect(right.address());
    right.open(&mut other, "/relay");
    other.text("to both");
    right.settle();
    assert_eq!(other.message(), "to both");
    assert!(left.is_ready_within(EPS), "the other server is woken");
    left.settle();
    assert_eq!(one.message(), "to both");
    drop(right);
    other.expect_reset();
    one.text("3");
    left.settle();
    assert_eq!(one.message(), "xxx");
}

// FAULTS 159.
#[test]
fn a_peer_of_another_server_is_nobody_here() {
    let (here, there) = (Arc::default(), Arc::default());
    let mut left = Host::new(&[], routes(&here));
    let mut right = Host::new(&[], routes(&there));
    let mut one = Client::connect(left.address());
    left.open(&mut one, "/flood");
    let mut other = Client::connect(right.address());
    right.open(&mut other, "/flood");
    // Both are the first connections of their servers, in the same slot.
    let (id, foreign) = (lock(&here)[0].id(), lock(&there)[0].id());
    assert_ne!(id, foreign);
    let nobody = left.server.handle().peer(foreign);
    assert_eq!(nobody.send("for whom?"), Sent::Taken);
    assert_eq!(nobody.close(4000, "whom?"), Ok(()));
    left.settle();
    assert_eq!(left.server.stats().commands_stale, 2);
    assert_eq!(one.see_within(ms(50)), Seen::Nothing);
    // Of its own it knows who is gone.
    let gone = lock(&here)[0].clone();
    drop(one);
    left.until("the end", |server| server.connections() == 0);
    let mut next = Client::connect(left.address());
    left.open(&mut next, "/flood");
    gone.send("for whom?");
    left.settle();
    assert_eq!(left.server.stats().commands_stale, 3);
    assert_eq!(next.see_within(ms(50)), Seen::Nothing);
}

#[test]
fn a_seed_makes_ids_that_repeat() {
    let ids = || {
        let peers = Arc::default();
        let mut host = Host::new(&[], routes(&peers).seed(7));
        let mut peer = Client::connect(host.address());
        host.open(&mut peer, "/flood");
        lock(&peers)[0].id()
    };
    assert_eq!(ids(), ids());
}

/// Runs one of the functions below in a process of its own.
fn in_a_child(test: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("IN_A_CHILD", "yes")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn is_child() -> bool {
    env::var_os("IN_A_CHILD").is_some()
}

#[track_caller]
fn assert_lived(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {stdout}", output.status);
    assert!(stdout.contains("1 passed"), "{stdout}");
    println!("{}: {stdout}", output.status);
}

/// Gives the masks of signals that this process catches and ignores.
fn signal_masks() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let masks =
        status.lines().filter(|line| line.starts_with("SigCgt") || line.starts_with("SigIgn"));
    masks.map(str::to_owned).collect()
}

// FAULTS 157.
#[test]
fn a_server_without_workers_has_no_thread_and_no_signal_handler() {
    if !is_child() {
        return assert_lived(&in_a_child(
            "a_server_without_workers_has_no_thread_and_no_signal_handler",
        ));
    }
    let pid = std::process::id();
    // The thread by which tests know for how long the machine stood still.
    common::timing::Span::begin();
    let (before, masks) = (threads(pid), signal_masks());
    let mut host = Host::new(&[], routes(&Arc::default()));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    peer.text("hello");
    host.settle();
    assert_eq!(peer.message(), "hello");
    assert_eq!(threads(pid), before);
    assert_eq!(signal_masks(), masks);
    // With workers there are as many, and they end with the server.
    let server = routes(&Arc::default()).config(config(&[("workers", "3")])).build().unwrap();
    assert_eq!(threads(pid).len(), before.len() + 3);
    assert_eq!(signal_masks(), masks);
    drop(server);
    common::timing::eventually("the workers have ended", || threads(pid) == before);
}

// FAULTS 157: the way that `workers` recommends.
#[test]
fn workers_block_signals_and_their_host_does_not() {
    if !is_child() {
        return assert_lived(&in_a_child("workers_block_signals_and_their_host_does_not"));
    }
    let own = blocked("/proc/thread-self/status");
    let pairs = [("workers", "3")];
    let server = routes(&Arc::default()).config(config(&pairs)).build().unwrap();
    // A thread has its name once it runs.
    let masks = || -> Vec<u64> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_worker = |path: &PathBuf| {
            let name = fs::read_to_string(path.join("comm"));
            name.is_ok_and(|name| name.starts_with("heartwheel-"))
        };
        let workers = tasks.map(|task| task.path()).filter(is_worker);
        workers.map(|path| blocked(path.join("status"))).collect()
    };
    // SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD; and SIGILL, SIGTRAP,
    // SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
    let bits = |signals: &[u32]| signals.iter().map(|signal| 1 << (signal - 1)).sum::<u64>();
    let others = bits(&[1, 2, 10, 12, 13, 14, 15, 17]);
    let faults = bits(&[4, 5, 7, 8, 11, 31]);
    common::timing::eventually("three workers run with all of them blocked", || {
        let masks = masks();
        masks.len() == 3 && masks.iter().all(|mask| mask & (others | faults) == others)
    });
    assert_eq!(blocked("/proc/thread-self/status"), own, "as it was");
    drop(server);
}

/// Gives the signals that a thread blocks, by its status.
fn blocked(status: impl AsRef<Path>) -> u64 {
    let status = fs::read_to_string(status).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

unsafe extern "C" {
    fn signal(signal: i32, handler: usize) -> usize;
}

#[test]
fn a_write_to_who_is_gone_does_not_raise_sigpipe() {
    if !is_child() {
        return assert_lived(&in_a_child("a_write_to_who_is_gone_does_not_raise_sigpipe"));
    }
    const SIGPIPE: i32 = 13;
    const SIG_DFL: usize = 0;
    // SAFETY: the disposition of a signal is set, to what it was when the process began; no handler
    // is installed.
    unsafe { signal(SIGPIPE, SIG_DFL) };
    let folder = env::temp_dir().join(format!("heartwheel-{}.sock", std::process::id()));
    let unix = format!("unix:{}", folder.display());
    for listen in ["127.0.0.1:0", &unix] {
        // Small answers are one slice, and many or large ones a vector.
        for (asked, count) in [("10", 1), ("10", 50), ("200000", 5)] {
            let mut host = Host::new(
                &[("listen", listen), ("deadlines.close_send", "200ms")],
                routes(&Arc::default()),
            );
            let script: Vec<u8> = [upgrade_request("/flood", "").into_bytes()]
                .into_iter()
                .chain((0..count).map(|_| frame(0x81, asked.as_bytes())))
                .flatten()
                .collect();
            if listen == unix {
                let mut stream = UnixStream::connect(&folder).unwrap();
                stream.write_all(&script).unwrap();
                drop(stream);
            } else {
                let mut peer = Client::connect(host.address());
                peer.send(&script);
                // The kernel answers with a reset to what comes, and a second write is told.
                drop(peer);
            }
            host.until("the end", |server| server.stats().closed_total() == 1);
        }
    }
}

// FAULTS 156.
#[test]
fn a_child_process_inherits_no_descriptor() {
    let mut host = Host::new(&[], routes(&Arc::default()));
    let mut peer = Client::connect(host.address());
    host.open(&mut peer, "/echo");
    let listed = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    println!("{listed}");
    for word in ["socket:", "eventpoll", "eventfd"] {
        assert!(!listed.contains(word), "{listed}");
    }
}

#[test]
fn a_path_that_can_never_match_is_refused_when_the_server_is_built() {
    let build = |builder: Builder| builder.listen("127.0.0.1:0").map(drop);
    for path in ["", "echo", "/a/{b}c", "/a/*", "/a?b"] {
        let error = build(Server::builder().websocket(path, |_: &Sender, _| {})).unwrap_err();
        assert!(matches!(&error, Error::Route { path: told, .. } if told == path), "{error}");
        assert!(error.to_string().contains(&format!("{path:?}: ")), "{error}");
    }
    assert!(build(Server::builder().topics("/topics")).is_err());
    assert!(build(Server::builder().topics("/topics/{topic}").hub("/ws").health()).is_ok());
}

#[test]
fn one_route_too_many_is_refused_when_the_server_is_built() {
    for (count, is_built) in [(4096, true), (4097, false)] {
        let builder = (0..count).fold(Server::builder().workers(0), |builder, nth| {
            builder.get(format!("/{nth}"), |_| heartwheel::http::Response::new(200))
        });
        let built = builder.listen("127.0.0.1:0").map(drop);
        let is_named = |error: &Error| error.to_string().contains("\"/4096\": there must be");
        assert!(built.as_ref().err().is_none_or(is_named), "{built:?}");
        assert_eq!(built.is_ok(), is_built);
    }
}
