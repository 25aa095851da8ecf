//! Running out: of slots, of descriptors, of patience with those who come and go.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::{CloseReason, Event, Peer, Route};

use crate::common::client::{Client, End};
use crate::common::frame::{PING, PONG, TEXT, frame};
use crate::common::http::get_request;
use crate::common::lag;
#[cfg(feature = "program")]
use crate::common::program::Program;
use crate::common::server::TestServer;
use crate::common::timing::{
    EPS, alone, assert_took, assert_took_between, percentile, quiet, rounds_of,
};

/// CONTRACT 2, `limits.connections`. Those who are refused have sent their request already, or
/// nothing, or too much: each reads the answer and FIN. Service goes on when there is room.
#[test]
fn connections_beyond_the_limit_are_answered_503_until_there_is_room() {
    let server = TestServer::start(&[("limits.connections", "4")]);
    let mut open: Vec<_> = (0..4).map(|_| Client::open(server.address, "/echo")).collect();
    for sent in ["".into(), get_request("/", ""), "x".repeat(100_000)] {
        let mut client = Client::connect(server.address);
        // A part may be sent only after the FIN: that is no fault of the client.
        let _ = client.try_send(sent);
        let response = client.assert_refused(503);
        let after: u32 =
            response.header("retry-after").expect("it is told").parse().expect("seconds");
        assert!(after > 0 && response.header("date").is_some(), "{response:?}");
    }
    for client in &mut open {
        client.assert_echo(TEXT, b"not disturbed");
    }
    let stats = server.wait_until(|seen| seen.stats.rejected_connections == 3).stats;
    assert_eq!((stats.accepted, stats.closed_total()), (4, 0), "no slot was given");
    drop(open.pop());
    server.wait_closed(CloseReason::Eof, 1);
    Client::open(server.address, "/echo").assert_echo(TEXT, b"there is room");
    assert_eq!(server.stop().rejected_connections, 3);
}

/// CONTRACT 2: who is refused and does not hang up is let go after `close_ack`; the ring that holds
/// them is small.
#[test]
fn refused_connections_that_stay_are_let_go_at_close_ack() {
    let _quiet = quiet();
    let settings = [("limits.connections", "1"), ("deadlines.close_ack", "500ms")];
    let server = TestServer::start(&settings);
    let mut open = Client::open(server.address, "/echo");
    let began = Instant::now();
    let mut refused: Vec<_> = (0..40).map(|_| Client::connect(server.address)).collect();
    for client in &mut refused {
        assert_eq!(client.read_answer().status, 503);
        assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    }
    // Who is held has discarded what it sends; for the others the kernel answers with a reset.
    assert!(refused[0].is_reset_by("pushed out by those behind"));
    assert!(!refused[39].is_reset_by("still held"));
    assert_took_between(began, Duration::ZERO, Duration::from_millis(500));
    thread::sleep(Duration::from_millis(500) + EPS);
    assert!(refused[39].is_reset_by("let go"));
    open.assert_echo(TEXT, b"not disturbed");
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.rejected_connections), (1, 40));
}

/// FAULTS 89, as far as a peer can cause it: connections that are reset while they wait to be
/// accepted, because the loop is busy. Injected errors need a seam in the listener.
#[test]
fn connections_reset_before_they_are_accepted_do_no_harm() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[], |builder| {
        let stall = |peer: &Peer, event: Event| {
            if let Event::Message(message) = event {
                thread::sleep(Duration::from_millis(100));
                peer.send(message);
            }
        };
        builder.route(Route::websocket("/stall", stall).inline())
    });
    let mut busy = Client::open(server.address, "/stall");
    let count = 200;
    busy.send(frame(TEXT, b"stall"));
    for index in 0..count {
        let mut client = Client::connect(server.address);
        if index % 2 == 0 {
            client.send(get_request("/", ""));
        }
        client.reset();
    }
    assert_eq!(busy.read_frame().payload, b"stall");
    let seen = server.wait_until(|seen| seen.stats.accepted == count + 1 && seen.connections == 1);
    assert_eq!(seen.stats.closed_by(CloseReason::Reset), count);
    assert_eq!((seen.stats.accept_errors, seen.stats.accept_pauses), (0, 0));
    busy.assert_echo(TEXT, b"still here");
    server.stop();
}

/// FAULTS 90. The kernel counts connections that found the backlog full, for all listeners here.
#[test]
fn burst_of_connections_overflows_no_backlog_and_delays_nobody() {
    let _alone = alone();
    let server = TestServer::start(&[("limits.pings_per_second", "100000")]);
    let mut peer = Client::open(server.address, "/echo");
    let overflows = listen_overflows();
    let address = server.address;
    let count = rounds_of(1000, 5000);
    let began = Instant::now();
    let burst = thread::spawn(move || {
        let connect = |index| {
            let due_at = began + Duration::from_micros(200) * index;
            thread::sleep(due_at.saturating_duration_since(Instant::now()));
            Client::connect(address)
        };
        (0..count as u32).map(connect).collect::<Vec<_>>()
    });
    let mut round_trips = Vec::new();
    while !burst.is_finished() {
        let began = Instant::now();
        peer.send(frame(PING, b"?"));
        assert_eq!(peer.read_frame().first, PONG);
        round_trips.push(began.elapsed());
    }
    let clients = burst.join().expect("every one is accepted");
    let took = began.elapsed();
    let p99 = percentile(&mut round_trips, 99);
    println!("{count} connections in {took:?}, p99 of {} pongs: {p99:?}", round_trips.len());
    assert!(p99 < Duration::from_millis(50) + lag::worst(), "{p99:?}");
    assert_eq!(listen_overflows(), overflows);
    server.wait_until(|seen| seen.connections == clients.len() + 1);
    server.stop();
}

/// Gives how many connections found a full backlog, on the whole machine.
fn listen_overflows() -> Option<u64> {
    let netstat = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let mut pairs = lines.next()?.split(' ').zip(lines.next()?.split(' '));
    pairs.find(|(name, _)| *name == "ListenOverflows")?.1.parse().ok()
}

/// FAULTS 81. The kernel is asked how much of its own memory each socket's unsent bytes take.
#[test]
fn what_peers_that_never_read_hold_in_the_kernel_is_bounded() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[], |builder| {
        let flood = |peer: &Peer, event: Event| {
            if matches!(event, Event::Opened(_)) {
                peer.send(heartwheel::Message::binary(vec![7; 1 << 20]));
            }
        };
        builder.route(Route::websocket("/flood", flood).inline())
    });
    let count = 100;
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect_narrow(server.address)).collect();
    for client in &mut clients {
        client.send(crate::common::http::upgrade_request("/flood", ""));
    }
    server.wait_until(|seen| seen.stats.queued_bytes > count << 20);
    let mut sent = 0;
    while std::mem::replace(&mut sent, server.snapshot().stats.sent_bytes) != sent {
        thread::sleep(Duration::from_millis(100));
    }
    let held = kernel_send_memory(server.address);
    let (total, most) = (held.iter().sum::<u64>(), held.iter().max().unwrap());
    println!("{total} bytes of kernel memory for {} sockets, {most} at the most", held.len());
    assert_eq!(held.len(), clients.len());
    assert!(sent > 0 && total > 0);
    assert!(total <= count * 2 * (64 << 10), "{total} bytes");
    server.stop();
}

/// FAULTS 81. A peer that has read is given more of the kernel's memory, and may then stop reading.
#[test]
fn what_peers_that_read_no_more_hold_in_the_kernel_is_bounded() {
    let _quiet = quiet();
    let server = TestServer::start_with(&[("limits.outbox_bytes", "4m")], |builder| {
        let flood = |peer: &Peer, event: Event| {
            if matches!(event, Event::Opened(_) | Event::Message(_)) {
                peer.send(heartwheel::Message::binary(vec![7; 1 << 20]));
            }
        };
        builder.route(Route::websocket("/flood", flood).inline())
    });
    let count = 10;
    let mut clients: Vec<_> = (0..count).map(|_| Client::open(server.address, "/flood")).collect();
    for client in &mut clients {
        assert_eq!(client.read_frame().payload.len(), 1 << 20);
        client.text("another");
        client.text("and another");
    }
    server.wait_until(|seen| seen.stats.queued_bytes > (3 * count) << 20);
    let mut sent = 0;
    while std::mem::replace(&mut sent, server.snapshot().stats.sent_bytes) != sent {
        thread::sleep(Duration::from_millis(100));
    }
    let held = kernel_send_memory(server.address);
    let (total, most) = (held.iter().sum::<u64>(), held.iter().max().unwrap());
    println!("{total} bytes of kernel memory for {} sockets, {most} at the most", held.len());
    assert_eq!(held.len(), clients.len());
    assert!(*most <= 2 * (256 << 10), "{most} bytes");
    server.stop();
}

/// Gives the memory that the kernel holds for the unsent bytes of each connection that this process
/// has accepted at `address`.
fn kernel_send_memory(address: std::net::SocketAddr) -> Vec<u64> {
    unsafe extern "C" {
        fn getsockopt(fd: i32, level: i32, name: i32, value: *mut u32, len: *mut u32) -> i32;
    }
    const SOL_SOCKET: i32 = 1;
    const SO_MEMINFO: i32 = 55;
    // The place of SK_MEMINFO_WMEM_QUEUED in linux/sock_diag.h.
    const WMEM_QUEUED: usize = 5;
    let numbers = fs::read_dir("/proc/self/fd").expect("there is /proc");
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let memory = |fd: i32| {
        let name = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        if !name.to_str()?.starts_with("socket:") {
            return None;
        }
        // SAFETY: the descriptor is only asked for its names; one that was closed meanwhile says
        // so.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let socket = socket2::SockRef::from(&borrowed);
        socket.peer_addr().ok()?;
        if socket.local_addr().ok()?.as_socket()? != address {
            return None;
        }
        let (mut values, mut len) = ([0u32; 9], 36);
        // SAFETY: the kernel writes at most `len` bytes, which is the size of `values`.
        let got = unsafe { getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values.as_mut_ptr(), &mut len) };
        (got == 0).then(|| u64::from(values[WMEM_QUEUED]))
    };
    numbers.filter_map(memory).collect()
}

/// FAULTS 94.
#[cfg(feature = "program")]
#[test]
fn connections_that_are_reset_at_once_leave_nothing_behind() {
    let _alone = alone();
    let server = Program::start(&[]);
    let descriptors = server.descriptors_at_rest();
    let reset = |count| {
        for _ in 0..count {
            Client::connect(server.address).reset();
        }
        server.wait_descriptors(descriptors);
    };
    assert_not_growing(&server, rounds_of(10, 300), |_| reset(1000));
    assert_eq!(Client::connect(server.address).get("/").status, 200);
}

/// FAULTS 96. Filled to the limit, emptied, filled in another order: slots are used again.
#[cfg(feature = "program")]
#[test]
fn filling_and_emptying_in_turns_does_not_grow() {
    let _alone = alone();
    let server = Program::start(&[("limits.connections", "200")]);
    let descriptors = server.descriptors_at_rest();
    let cycle = |turn: usize| {
        let mut clients: Vec<_> = (0..200).map(|_| Client::open(server.address, "/echo")).collect();
        Client::connect(server.address).assert_refused(503);
        for (index, client) in clients.iter_mut().enumerate() {
            client.assert_echo(TEXT, &vec![b'x'; index * 100]);
        }
        while !clients.is_empty() {
            clients.swap_remove(turn * 31 % clients.len());
        }
        server.wait_descriptors(descriptors);
    };
    assert_not_growing(&server, rounds_of(40, 100), cycle);
}

/// Asserts that the program's memory stands still over these turns once it has warmed up. A step of
/// the allocator's may come in any of them, so the median is judged: what is lost with each
/// connection, a few bytes, grows by a page in most.
#[cfg(feature = "program")]
fn assert_not_growing(server: &Program, turns: usize, turn: impl Fn(usize)) {
    (0..10).for_each(&turn);
    let mut seen = vec![server.memory()];
    for number in 0..turns {
        turn(number);
        seen.push(server.memory());
    }
    println!("{seen:?} bytes after each turn");
    let steps = seen.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(steps <= turns / 2, "it grew in {steps} of {turns} turns: {seen:?}");
}

/// TESTING 4.6. The limit is lowered under the running program, so that accept itself fails: it
/// pauses instead of spinning, who is connected is served, and who waits is served within a second
/// once there is room.
#[cfg(feature = "program")]
#[test]
fn without_descriptors_accepting_pauses_and_peers_are_served() {
    let _alone = alone();
    let server = Program::start(&[]);
    let descriptors = server.descriptors_at_rest();
    let mut peer = Client::open(server.address, "/echo");
    server.wait_descriptors(descriptors + 1);
    server.leave_descriptors(8);
    let mut served: Vec<_> = (0..8).map(|_| Client::connect(server.address)).collect();
    for client in &mut served {
        assert_eq!(client.get("/").status, 200);
    }
    let mut waiting: Vec<_> = (0..8).map(|_| Client::connect(server.address)).collect();
    for client in &mut waiting {
        client.send(get_request("/", ""));
    }
    server.wait_logged("accepting paused");
    let (began, cpu) = (Instant::now(), server.cpu());
    while began.elapsed() < Duration::from_secs(2) {
        peer.assert_echo(TEXT, b"still served");
        thread::sleep(Duration::from_millis(50));
    }
    let cpu = server.cpu() - cpu;
    println!("{cpu:?} of CPU time in two seconds without descriptors");
    assert!(cpu * 20 < began.elapsed(), "5 %: {cpu:?}");
    assert!(waiting.iter_mut().all(|client| !client.has_ended()), "nobody was served yet");

    let began = Instant::now();
    drop(served);
    for client in &mut waiting {
        assert_eq!(client.read_answer().status, 200);
    }
    assert_took_between(began, Duration::ZERO, Duration::from_secs(1));

    // And where nobody leaves, but the limit is raised.
    let mut more: Vec<_> = (0..8).map(|_| Client::connect(server.address)).collect();
    thread::sleep(Duration::from_millis(50));
    server.leave_descriptors(100);
    let began = Instant::now();
    for client in &mut more {
        assert_eq!(client.get("/").status, 200);
    }
    assert_took_between(began, Duration::ZERO, Duration::from_secs(1));
    peer.assert_echo(TEXT, b"still served");
}

/// CONTRACT 2, `close_ack`: a peer that was closed and neither answers nor hangs up is dropped.
/// FAULTS 70 has the rest.
#[test]
fn slot_of_a_peer_that_never_hangs_up_is_free_after_close_ack() {
    let _quiet = quiet();
    let settings = [("limits.connections", "1"), ("deadlines.close_ack", "300ms")];
    let server = TestServer::start(&settings);
    let mut client = Client::open(server.address, "/echo");
    let began = Instant::now();
    client.send(crate::common::frame::close(1000, ""));
    client.read_close(1000);
    assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    server.wait_closed(CloseReason::CloseAck, 1);
    assert_took(began, Duration::from_millis(300));
    Client::open(server.address, "/echo").assert_echo(TEXT, b"there is room");
    server.stop();
}
