//! Draining: by signal, seen from outside the process, and by handle, seen from inside.
#![cfg(feature = "program")]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartwheel::{Builder, Ended, Event, Handle, Message, Peer as Sender, Route, Server};
use rustix::process::Signal;

use common::client::{Client, Seen};
use common::frame::frame;
use common::honest::Crowd;
use common::http::{get_request, upgrade_request};
use common::program::{Program, lab_path};
use common::server::{config, echo};
use common::timing::{EPS, PATIENCE, Span, eventually, ms, within};

/// Asserts that nobody is let in any more: refused, not left hanging.
#[track_caller]
fn assert_refused(address: SocketAddr) {
    within(EPS, "connects are refused", || {
        let connected = TcpStream::connect_timeout(&address, ms(200));
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

fn status_of(address: SocketAddr, path: &str) -> u16 {
    let mut peer = Client::connect(address);
    peer.send(get_request(path, "").as_bytes());
    peer.read_answer().status
}

/// Gives MS of `retry=MS`.
#[track_caller]
fn retry_ms(text: &str) -> u64 {
    text.strip_prefix("retry=").expect("a time to come back").parse().expect("an integer")
}

fn assert_clean(status: ExitStatus) {
    assert_eq!(status.code(), Some(0), "{status}");
}

// FAULTS 107, 109, 110, 111.
#[test]
fn a_signal_ends_each_connection_in_its_own_way() {
    let mut lab = Program::lab(&[("deadlines.drain", "2s")]);
    let mut open = Client::open(lab.address, "/echo");
    let mut asleep = Client::open(lab.address, "/sleep?ms=300");
    asleep.text("one");
    asleep.text("two");
    let mut silent = Client::connect(lab.address);
    let mut half = Client::connect(lab.address);
    half.send(b"GET / HTTP/1.1\r\n");
    let mut kept = Client::connect(lab.address);
    kept.send(get_request("/", "").as_bytes());
    assert_eq!(kept.read_answer().status, 200);
    let stuck = Client::open_narrow(lab.address, "/flood?count=1&bytes=4000000");
    assert_eq!(status_of(lab.admin(), "/readyz"), 200);
    // The admin's own request, and what was accepted last, are seen to.
    thread::sleep(ms(50));

    let span = Span::begin();
    lab.signal(Signal::TERM);
    // Who connects before is one connection more.
    lab.expect_line("drain begun");
    assert_refused(lab.address);
    assert_eq!(status_of(lab.admin(), "/readyz"), 503);
    assert_eq!(status_of(lab.admin(), "/healthz"), 200);
    assert!(retry_ms(&open.expect_close(1001)) <= 1030, "three are told");
    open.close(1001);
    open.expect_fin();
    assert_eq!(half.read_answer().status, 503);
    half.expect_fin();
    kept.expect_fin();
    silent.expect_fin();
    assert!(span.elapsed() < ms(300) + span.stalled(), "nobody waited for the sleeper");
    assert_eq!(asleep.message(), "one");
    assert_eq!(asleep.message(), "two");
    asleep.expect_close(1001);
    asleep.close(1001);
    asleep.expect_fin();
    // Who does not wait for what comes behind its close is gone.
    drop((open, half, kept, silent, asleep));
    assert_eq!(status_of(lab.admin(), "/readyz"), 503, "until the end");
    eventually("the reset", || stuck.is_reset_unread());
    span.took("drain", ms(2000));
    assert_clean(lab.exit_within(ms(1000)));

    let begun = lab.expect_line("drain begun");
    assert!(begun.contains("connections=6 ") && begun.contains("window_ms=2000"), "{begun}");
    let closed = lab.expect_line("listeners closed");
    assert!(closed.contains("count=1 ") && closed.contains("open="), "{closed}");
    let ended = lab.expect_line("drain ended");
    assert!(ended.contains("connections=6 dropped=1 handlers_left=0 after_ms=2"), "{ended}");
    lab.expect_line("signal=15");
    lab.expect_line("exit status=0");
    assert_eq!(lab.lines_with("reason=drain").len(), 6, "{:#?}", lab.lines());
}

// FAULTS 107: with the ten thousand of that line where ROUNDS is 25 or more.
#[test]
fn starts_are_spread_and_so_are_the_times_to_come_back() {
    let clients = (400 * common::timing::rounds(1)).min(9500);
    // 500 a second: half the window is longer.
    let spread = ms(clients as u64 * 2);
    let drain_ms = 4000.max(3 * spread.as_millis() as u64);
    let drain = format!("{drain_ms}ms");
    let mut lab = Program::lab(&[("deadlines.drain", &drain), ("log", "info")]);
    let crowd = Crowd::open(lab.address, "/echo", clients);
    let began = Instant::now();
    lab.signal(Signal::INT);
    lab.expect_line("listeners closed");
    assert_refused(lab.address);
    assert_clean(lab.exit_within(spread + ms(1700)));
    let members = crowd.finish();
    let mut closed = Vec::new();
    let mut retries = Vec::new();
    for member in &members {
        closed.push(member.closed_at.expect("a close frame") - began);
        let payload = member.closed_with.as_ref().unwrap();
        assert_eq!(payload[..2], 1001u16.to_be_bytes());
        retries.push(retry_ms(std::str::from_utf8(&payload[2..]).unwrap()));
    }
    closed.sort_unstable();
    retries.sort_unstable();
    // The first at once, the last when all the others have begun.
    println!("closed after {:?} to {:?}", closed[0], closed[clients - 1]);
    assert!(closed[0] < EPS && closed[clients - 1] > spread * 7 / 8);
    assert!(closed[clients - 1] < spread + EPS);
    let half = closed[clients / 2];
    assert!(
        half > spread / 4 && half < spread * 3 / 4 + EPS,
        "not evenly: half of them after {half:?}"
    );
    println!("come back after {} to {} ms", retries[0], retries[clients - 1]);
    assert!(retries[clients - 1] <= drain_ms);
    assert!(
        retries[0] < drain_ms / 10 && retries[clients - 1] > drain_ms * 9 / 10,
        "not over the window: {retries:?}"
    );
}

// FAULTS 108.
#[test]
fn a_second_signal_ends_at_once_with_status_1() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let mut lab = Program::lab(&[]);
        let mut blocked = Client::open(lab.address, "/block");
        blocked.text("block");
        let stuck = Client::open_narrow(lab.address, "/flood?count=1&bytes=4000000");
        thread::sleep(ms(50));
        lab.signal(first);
        lab.expect_line("drain begun");
        thread::sleep(ms(200));
        let span = Span::begin();
        lab.signal(second);
        let status = lab.exit_within(PATIENCE);
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(span.elapsed() < ms(500) + span.stalled(), "{:?}", span.elapsed());
        eventually("the reset", || stuck.is_reset_unread());
        blocked.expect_reset();
        lab.expect_line("exit status=1");
        assert_eq!(lab.lines_with("reason=shutdown").len(), 2, "{:#?}", lab.lines());
    }
}

#[test]
fn a_handler_that_never_returns_does_not_outlive_the_drain() {
    let mut lab = Program::lab(&[("deadlines.drain", "400ms")]);
    let mut blocked = Client::open(lab.address, "/block");
    blocked.text("block");
    thread::sleep(ms(50));
    let span = Span::begin();
    lab.signal(Signal::TERM);
    assert_clean(lab.exit_within(ms(400 + 1000)));
    span.took_between("drain", ms(400), ms(400 + 750));
    blocked.expect_reset();
    let ended = lab.expect_line("drain ended");
    assert!(ended.contains("handlers_left=1"), "{ended}");
}

// FAULTS 113.
#[test]
fn a_restart_binds_at_once() {
    let mut lab = Program::lab(&[("deadlines.drain", "2s")]);
    let address = lab.address;
    // The server ends TCP first, so it is its port that has connections in TIME_WAIT.
    let crowd = Crowd::open(address, "/echo", 20);
    lab.signal(Signal::TERM);
    assert_clean(lab.exit_within(ms(1000)));
    crowd.finish();
    let again = Program::lab(&[("listen", &address.to_string())]);
    assert_eq!(again.address, address);
    assert_eq!(status_of(address, "/"), 200);
}

#[test]
fn a_port_in_use_is_a_clear_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(lab_path())
        .args(["--listen", &address, "--set", "admin_listen=off"])
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    println!("{stderr}");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let errors: Vec<_> = stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    let cause = std::io::Error::from(rustix::io::Errno::ADDRINUSE);
    assert!(errors[0].contains(&format!("listen = {address}: {cause}")), "{stderr}");
}

/// The words that each end is logged with, and the level: debug where somebody wanted it, info for
/// a deadline or a limit, warn for a broken protocol.
#[test]
fn each_end_is_one_log_line_with_its_reason_and_level() {
    let pairs = [
        ("workers", "1"),
        ("deadlines.handshake", "200ms"),
        ("deadlines.message", "200ms"),
        ("deadlines.write_stall", "300ms"),
        ("deadlines.close_ack", "200ms"),
        ("heartbeat.interval", "700ms"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "2"),
        ("limits.outbox_bytes", "1k"),
    ];
    let lab = Program::lab(&pairs);
    let open = |path| Client::open(lab.address, path);
    let mut ends: Vec<(&str, &str, u16, Client)> = Vec::new();

    let mut peer = open("/echo");
    peer.close(1000);
    peer.expect_close(1000);
    peer.half_close();
    ends.push(("DEBUG", "peer", 1000, peer));
    let mut peer = Client::connect(lab.address);
    peer.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
    ends.push(("DEBUG", "done", 0, peer));
    let peer = open("/echo");
    peer.half_close();
    ends.push(("DEBUG", "eof", 1006, peer));
    ends.push(("INFO", "handshake", 0, Client::connect(lab.address)));
    let mut peer = open("/echo");
    peer.send(frame(0x01, b"and"));
    ends.push(("INFO", "message", 3008, peer));
    ends.push(("INFO", "heartbeat", 3008, open("/echo")));
    ends.push(("INFO", "write_stall", 1006, {
        Client::open_narrow(lab.address, "/flood?count=1&bytes=4000000")
    }));
    ends.push(("INFO", "overflow", 1013, {
        Client::open_narrow(lab.address, "/flood?count=4&bytes=4000000")
    }));
    for (bytes, label, code) in [
        (b"\x81\x00".to_vec(), "protocol", 1002),
        (frame(0x81, b"\xFF"), "utf8", 1007),
        (frame(0x89, b"").repeat(100), "rate", 1008),
        ([0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0].to_vec(), "too_big", 1009),
        (frame(0x00, b"").to_vec(), "protocol", 1002),
    ] {
        let mut peer = open("/echo");
        peer.send(&bytes);
        ends.push(("WARN", label, code, peer));
    }
    let mut peer = open("/panic");
    peer.text("panic");
    ends.push(("WARN", "panic", 1011, peer));

    eventually("all have ended", || lab.lines_with("closed id=").len() >= ends.len());
    for (level, label, code, _) in &ends {
        let lines = lab.lines_with(&format!("reason={label} "));
        let count = ends.iter().filter(|(_, other, ..)| other == label).count();
        assert_eq!(lines.len(), count, "{label}: {lines:#?}");
        for line in lines {
            println!("{line}");
            let (head, tail) = line.split_once("closed id=").unwrap();
            assert!(head.contains(level), "{line}");
            assert!(tail.contains(&format!("code={code} ")), "{line}");
            for word in ["transport=", "peer=127.0.0.1:", "age_ms=", "bytes_in=", "bytes_out="] {
                assert!(tail.contains(word), "{word}: {line}");
            }
        }
    }
    thread::sleep(ms(300));
    assert_eq!(lab.lines_with("closed id=").len(), ends.len(), "{:#?}", lab.lines());
}

/// A server that runs on a thread until it has ended by itself.
struct Run {
    address: SocketAddr,
    handle: Handle,
    ended: mpsc::Receiver<Ended>,
    thread: JoinHandle<()>,
}

impl Run {
    fn start(pairs: &[(&str, &str)], builder: Builder) -> Run {
        let server = builder.config(config(pairs)).build().unwrap();
        let address = server.local_addresses()[0].as_tcp().unwrap();
        let handle = server.handle();
        let (sender, ended) = mpsc::channel();
        let thread = thread::spawn(move || sender.send(server.run().unwrap()).unwrap());
        Run { address, handle, ended, thread }
    }

    #[track_caller]
    fn ended_within(self, span: Duration) -> Ended {
        let ended = self.ended.recv_timeout(span).expect("run returns in time");
        self.thread.join().unwrap();
        ended
    }
}

fn sleep_and_echo(peer: &Sender, event: Event) {
    if let Event::Message(message) = event {
        thread::sleep(ms(message.as_text().unwrap().parse().unwrap()));
        peer.send(message);
    }
}

#[test]
fn a_server_without_connections_is_drained_at_once() {
    let run = Run::start(&[("deadlines.drain", "5s")], Server::builder());
    run.handle.drain().unwrap();
    assert_eq!(run.ended_within(EPS), Ended::Drained);
}

#[test]
fn each_step_of_a_drain_is_one_log_line_in_order() {
    let mut lab = Program::lab(&[]);
    lab.signal(Signal::TERM);
    assert_clean(lab.exit_within(ms(1000)));
    let lines = lab.lines();
    let steps = ["signal=15", "drain begun", "listeners closed", "drain ended", "exit status=0"];
    let place = |step: &&str| lines.iter().position(|line| line.contains(*step)).unwrap();
    let places: Vec<usize> = steps.iter().map(place).collect();
    assert!(places.is_sorted(), "{lines:#?}");
    steps.iter().for_each(|step| assert_eq!(lab.lines_with(step).len(), 1, "{lines:#?}"));
}

// FAULTS 112.
#[test]
fn draining_twice_is_draining_once() {
    let pairs = [("deadlines.drain", "1s"), ("deadlines.close_ack", "5s")];
    let drain = |peer: &Sender, event: Event| match event {
        Event::Opened(_) | Event::Suspect => {}
        _ => assert!(matches!(peer.handle().drain(), Ok(()))),
    };
    let routes = Server::builder().route(Route::websocket("/drain", drain).inline());
    let run = Run::start(&pairs, routes.websocket("/echo", echo));
    let mut peer = Client::open(run.address, "/echo");
    let mut drainer = Client::open(run.address, "/drain");
    let span = Span::begin();
    drainer.text("drain");
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let handle = run.handle.clone();
            thread::spawn(move || (0..50).for_each(|_| handle.drain().unwrap()))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    peer.expect_close(1001);
    drainer.expect_close(1001);
    thread::sleep(ms(500));
    let _ = run.handle.drain();
    drop(drainer);
    // The one that does not answer is dropped when the first drain says so.
    peer.expect_reset();
    span.took("drain", ms(1000));
    assert_eq!(run.ended_within(EPS), Ended::Drained);
}

#[test]
fn a_shutdown_from_a_callback_ends_the_server() {
    for placement in ["inline", "worker"] {
        let end = |peer: &Sender, event: Event| {
            if matches!(event, Event::Message(_)) {
                peer.handle().shut_down().unwrap();
                peer.handle().shut_down().unwrap();
            }
        };
        let route = Route::websocket("/end", end);
        let route = if placement == "inline" { route.inline() } else { route };
        let run = Run::start(&[], Server::builder().route(route));
        let handle = run.handle.clone();
        let mut peer = Client::open(run.address, "/end");
        peer.text("now");
        peer.expect_reset();
        assert_eq!(run.ended_within(ms(1000)), Ended::ShutDown);
        assert_eq!(handle.drain(), Err(heartwheel::SendError::Ended));
    }
}

// FAULTS 110: what was accepted is written before the close, also where it is much and the reader
// takes its time.
#[test]
fn what_waits_for_a_reader_is_written_before_the_close() {
    const BYTES: usize = 3_000_000;
    let flood = |peer: &Sender, event: Event| {
        if matches!(event, Event::Message(_)) {
            peer.send(Message::binary(vec![b'x'; BYTES]));
        }
    };
    let run = Run::start(&[("deadlines.drain", "5s")], Server::builder().websocket("/f", flood));
    let mut peer = Client::open_narrow(run.address, "/f");
    peer.text("go");
    thread::sleep(ms(100));
    run.handle.drain().unwrap();
    thread::sleep(ms(100));
    match peer.see() {
        Seen::Frame(0x82, payload) => assert_eq!(payload.len(), BYTES),
        other => panic!("{other:?}"),
    }
    peer.expect_close(1001);
    peer.close(1001);
    peer.expect_fin();
    drop(peer);
    assert_eq!(run.ended_within(EPS), Ended::Drained);
}

// The last end may come with the last write of a turn, when deadlines have acted already.
#[test]
fn a_drain_ends_with_its_last_connection_however_that_ends() {
    for with_close in [true, false] {
        let pairs = [("deadlines.drain", "5s"), ("workers", "1")];
        let run = Run::start(&pairs, Server::builder().websocket("/sleep", sleep_and_echo));
        let mut peer = Client::open(run.address, "/sleep");
        peer.text("200");
        if with_close {
            peer.close(1000);
        }
        peer.half_close();
        thread::sleep(ms(50));
        run.handle.drain().unwrap();
        assert_eq!(peer.message(), "200");
        if with_close {
            peer.expect_close(1000);
        }
        peer.expect_fin();
        assert_eq!(run.ended_within(ms(500)), Ended::Drained, "with a close: {with_close}");
    }
}

#[test]
fn every_handler_is_told_the_end_before_a_drain_is_over() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let handler = move |_: &Sender, event: Event| {
        if let Event::Closed(_) = event {
            thread::sleep(ms(30));
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let pairs = [("deadlines.drain", "5s"), ("workers", "1")];
    let run = Run::start(&pairs, Server::builder().websocket("/told", handler));
    let crowd = Crowd::open(run.address, "/told", 10);
    run.handle.drain().unwrap();
    assert_eq!(run.ended_within(ms(1000)), Ended::Drained);
    assert_eq!(told.load(Ordering::Relaxed), 10);
    crowd.finish();
}

#[test]
fn handlers_of_connections_dropped_at_the_end_are_told_too() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let handler = move |peer: &Sender, event: Event| match event {
        Event::Message(_) => drop(peer.send(Message::binary(vec![b'x'; 4_000_000]))),
        Event::Closed(reason) => {
            // No close frame could be sent to it.
            assert_eq!((reason.label(), reason.code()), ("drain", 1006));
            thread::sleep(ms(10));
            count.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    };
    let pairs = [("deadlines.drain", "400ms"), ("workers", "1")];
    let run = Run::start(&pairs, Server::builder().websocket("/flood", handler));
    let stuck: Vec<Client> = (0..5)
        .map(|_| {
            let mut peer = Client::open_narrow(run.address, "/flood");
            peer.text("go");
            peer
        })
        .collect();
    thread::sleep(ms(50));
    let span = Span::begin();
    run.handle.drain().unwrap();
    for peer in &stuck {
        eventually("the reset", || peer.is_reset_unread());
    }
    span.took("drain", ms(400));
    assert_eq!(run.ended_within(ms(750)), Ended::Drained);
    assert_eq!(told.load(Ordering::Relaxed), 5);
}

#[test]
fn a_handler_hears_of_a_second_signal_that_no_code_was_exchanged() {
    let (tell, told) = std::sync::mpsc::channel();
    let handler = move |peer: &Sender, event: Event| match event {
        Event::Message(_) => drop(peer.send(Message::binary(vec![b'x'; 4_000_000]))),
        Event::Closed(reason) => tell.send((reason.label(), reason.code())).unwrap(),
        _ => {}
    };
    let run =
        Run::start(&[], Server::builder().route(Route::websocket("/flood", handler).inline()));
    let mut stuck = Client::open_narrow(run.address, "/flood");
    stuck.text("go");
    thread::sleep(ms(50));
    run.handle.drain().unwrap();
    thread::sleep(ms(50));
    run.handle.shut_down().unwrap();
    assert_eq!(told.recv_timeout(ms(10_000)), Ok(("shutdown", 1006)));
    eventually("the reset", || stuck.is_reset_unread());
}

// FAULTS 106.
#[test]
fn a_handler_longer_than_the_drain_does_not_hold_it_up() {
    for (span_ms, is_told) in [("300", true), ("3000", false)] {
        let closed = Arc::new(AtomicBool::new(false));
        let note = closed.clone();
        let handler = move |peer: &Sender, event: Event| {
            note.fetch_or(matches!(event, Event::Closed(_)), Ordering::Relaxed);
            sleep_and_echo(peer, event);
        };
        let pairs = [("deadlines.drain", "700ms"), ("workers", "2")];
        let run = Run::start(&pairs, Server::builder().websocket("/sleep", handler));
        let mut peer = Client::open(run.address, "/sleep");
        peer.text(span_ms);
        thread::sleep(ms(50));
        let span = Span::begin();
        run.handle.drain().unwrap();
        if is_told {
            assert_eq!(peer.message(), span_ms);
            peer.expect_close(1001);
            peer.close(1001);
            peer.expect_fin();
            drop(peer);
        } else {
            peer.expect_reset();
        }
        assert_eq!(run.ended_within(ms(700 + 1000)), Ended::Drained);
        println!("{span_ms} ms in the handler: run returned after {:?}", span.elapsed());
        assert_eq!(closed.load(Ordering::Relaxed), is_told);
    }
}

// FAULTS 115.
#[test]
fn a_drain_under_load_is_on_time() {
    let pairs = [("deadlines.drain", "1s"), ("deadlines.close_ack", "300ms")];
    let run = Run::start(&pairs, Server::builder().websocket("/echo", echo));
    let address = run.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let talkers: Vec<_> = (0..4)
        .map(|_| {
            let mut peer = Client::open(address, "/echo");
            thread::spawn(move || {
                let burst = frame(0x81, b"more and more").repeat(20);
                while peer.try_send(&burst).is_ok() {
                    match peer.see() {
                        Seen::Frame(0x81 | 0x89, _) => {}
                        other => return other,
                    }
                }
                Seen::Reset
            })
        })
        .collect();
    let stop = is_over.clone();
    let connects = thread::spawn(move || {
        let (mut let_in, mut refused) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            match TcpStream::connect_timeout(&address, ms(500)) {
                Ok(stream) => {
                    let_in += 1;
                    use std::io::Write;
                    let _ = (&stream).write_all(upgrade_request("/echo", "").as_bytes());
                }
                Err(_) => refused += 1,
            }
            thread::sleep(ms(1));
        }
        (let_in, refused)
    });
    thread::sleep(ms(300));
    let span = Span::begin();
    run.handle.drain().unwrap();
    assert_eq!(run.ended_within(ms(1000) + EPS), Ended::Drained);
    println!("drained after {:?}", span.elapsed());
    is_over.store(true, Ordering::Relaxed);
    let (let_in, refused) = connects.join().unwrap();
    println!("{let_in} let in, {refused} refused");
    assert!(let_in > 10 && refused > 10);
    for talker in talkers {
        let seen = talker.join().unwrap();
        println!("a talker saw {seen:?}");
    }
}

#[test]
fn who_is_still_in_the_backlog_when_a_drain_begins_is_told() {
    let pairs = [("deadlines.drain", "5s"), ("deadlines.handshake", "1s"), ("workers", "0")];
    let run = Run::start(&pairs, Server::builder().websocket("/sleep", sleep_and_echo));
    let mut blocker = Client::open(run.address, "/sleep");
    blocker.text("300");
    thread::sleep(ms(50));
    run.handle.drain().unwrap();
    // The loop sleeps: these are accepted after the drain has begun.
    let mut asking = Client::connect(run.address);
    asking.send(upgrade_request("/sleep", "").as_bytes());
    let mut silent = Client::connect(run.address);
    assert_eq!(asking.read_answer().status, 503);
    asking.expect_fin();
    silent.expect_fin();
    assert_eq!(blocker.message(), "300");
    blocker.expect_close(1001);
    drop((asking, silent, blocker));
    assert_eq!(run.ended_within(PATIENCE), Ended::Drained);
}
