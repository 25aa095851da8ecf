//! The figures: all of them, readable by a real parser, and in balance at any time.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use heartwheel::{CloseReason, Event, Handler, Message, Peer as ServerPeer, Route, Server};

use super::common::client::{Client, Seen};
use super::common::frame::{PING, PONG, frame};
use super::common::http::upgrade_request;
use super::common::server::TestServer;
use super::common::timing::{PATIENCE, SetOnDrop, eventually, ms, rounds, within};
use super::common::topics::{Stream, fetch, publish, request};
use super::{Exposition, admin, dechunk, scrape, start};

type Pair = (&'static str, &'static str);

const fn open(transport: &'static str, subprotocol: &'static str) -> [Pair; 3] {
    [("transport", transport), ("phase", "open"), ("subprotocol", subprotocol)]
}

/// All that an open WebSocket may speak.
const SPOKEN: [[Pair; 3]; 4] = [
    open("websocket", "heartwheel.v1"),
    open("websocket", "heartwheel.v1.cbor"),
    open("websocket", "none"),
    open("websocket", "other"),
];

/// Each of these is there from the beginning, with these labels.
const NAMES: &[(&str, &[(&str, &str)])] = &[
    ("heartwheel_connections", &SPOKEN[0]),
    ("heartwheel_connections", &SPOKEN[1]),
    ("heartwheel_connections", &SPOKEN[2]),
    ("heartwheel_connections", &SPOKEN[3]),
    ("heartwheel_connections_accepted_total", &[]),
    ("heartwheel_connections_rejected_total", &[("reason", "connections")]),
    ("heartwheel_connections_rejected_total", &[("reason", "per_ip")]),
    ("heartwheel_connections_closed_total", &[("transport", "events"), ("reason", "shed")]),
    ("heartwheel_handshake_seconds_bucket", &[("le", "0.8")]),
    ("heartwheel_messages_received_total", &[("transport", "websocket")]),
    ("heartwheel_messages_sent_total", &[("transport", "events")]),
    ("heartwheel_received_bytes_total", &[]),
    ("heartwheel_sent_bytes_total", &[]),
    ("heartwheel_messages_dropped_total", &[("policy", "drop_oldest")]),
    ("heartwheel_outbox_bytes", &[]),
    ("heartwheel_deadlines_armed", &[]),
    ("heartwheel_deadlines_fired_total", &[("kind", "close_ack")]),
    ("heartwheel_deadlines_fired_total", &[("kind", "comment")]),
    ("heartwheel_deadline_lateness_seconds_bucket", &[("le", "+Inf")]),
    ("heartwheel_pings_sent_total", &[]),
    ("heartwheel_pings_missed_total", &[]),
    ("heartwheel_ping_rtt_seconds_count", &[]),
    ("heartwheel_turn_seconds_sum", &[]),
    ("heartwheel_worker_queue", &[]),
    ("heartwheel_handler_seconds_bucket", &[("le", "0.8")]),
    ("heartwheel_handlers_stuck", &[]),
    ("heartwheel_handler_panics_total", &[]),
    ("heartwheel_topics", &[]),
    ("heartwheel_events_published_total", &[]),
    ("heartwheel_resumes_total", &[("result", "complete")]),
    ("heartwheel_resumes_total", &[("result", "gap")]),
    ("heartwheel_protocol_errors_total", &[("kind", "unmasked")]),
    ("heartwheel_log_lines_dropped_total", &[]),
    ("heartwheel_memory_bytes", &[("kind", "partial")]),
    ("heartwheel_memory_bytes", &[("kind", "inbox")]),
    ("heartwheel_memory_bytes", &[("kind", "outbox")]),
    ("heartwheel_memory_bytes", &[("kind", "log")]),
    ("heartwheel_memory_bytes", &[("kind", "command")]),
    ("heartwheel_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
    ("process_cpu_seconds_total", &[]),
    ("process_open_fds", &[]),
    ("process_max_fds", &[]),
    ("process_virtual_memory_bytes", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_start_time_seconds", &[]),
];

#[test]
fn every_figure_is_there_from_the_beginning() {
    let server = start(&[]);
    let reply = fetch(admin(&server), "/metrics");
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!((reply.status, reply.header("Content-Type")), (200, Some(content_type)));
    let figures = Exposition::read(reply.text());
    for (name, labels) in NAMES {
        figures.value(name, labels);
    }
    for reason in CloseReason::ALL {
        let labels = [("transport", "http"), ("reason", reason.label())];
        figures.value("heartwheel_connections_closed_total", &labels);
    }
    let head = request(admin(&server), "HEAD /metrics", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

/// Panics for `panic`, sleeps for a number of milliseconds, sends everything else back.
struct Moody;

impl Handler for Moody {
    type Session = ();

    fn open(&self, _: &ServerPeer, _: heartwheel::http::Request) {}

    fn message(&self, _: &mut (), peer: &ServerPeer, message: Message) {
        let text = message.as_text().unwrap_or_default();
        assert_ne!(text, "panic", "as asked");
        if let Ok(span) = text.parse() {
            thread::sleep(ms(span));
        }
        peer.send(message);
    }
}

#[test]
fn figures_tell_what_has_happened() {
    let builder = heartwheel::app::routes(Server::builder())
        .websocket("/moody", Moody)
        .route(Route::websocket("/inline", |_: &ServerPeer, _: Event| {}).inline());
    let pairs = [
        ("admin_listen", "127.0.0.1:0"),
        ("heartbeat.interval", "300ms"),
        ("heartbeat.jitter", "0"),
        ("heartbeat.pong", "100ms"),
        ("deadlines.read_idle", "10s"),
        ("topics.retain_events", "1"),
    ];
    let server = TestServer::serve(&pairs, builder);
    let admin = admin(&server);
    let mut moody = Client::open(server.address, "/moody");
    moody.text("30");
    assert_eq!(moody.message(), "30");
    let slow = || scrape(admin).value("heartwheel_handler_seconds_sum", &[]);
    eventually("it took its 30 ms", || slow() >= 0.03);
    assert!(slow() < 3.0, "{}", slow());
    moody.text("panic");
    // Its peer answers pings until then: printing a backtrace may take longer than they wait.
    let panics = [("transport", "websocket"), ("reason", "panic")];
    within(6 * PATIENCE, "the panic ends its connection", || {
        if let Seen::Frame(PING, payload) = moody.see_within(ms(1)) {
            moody.send(frame(PONG, &payload));
        }
        scrape(admin).value("heartwheel_connections_closed_total", &panics) > 0.0
    });
    let mut broken = Client::open(server.address, "/inline");
    broken.send([0x81, 0x01, b'x']);
    let first = publish(server.address, "a", "1");
    publish(server.address, "a", "2");
    let mut stream = Stream::open_after(server.address, "/topics/a", Some(&first));
    stream.position();
    stream.piece();
    let _gap = Stream::open_after(server.address, "/topics/a", Some("garbage"));
    request(server.address, "GET /nowhere", "Origin: http://evil.example\r\n", b"");
    Client::connect(server.address).send(b"nonsense\r\n\r\n");
    let has_missed = || scrape(admin).value("heartwheel_pings_missed_total", &[]) > 0.0;
    let _deaf = Client::open(server.address, "/inline");
    eventually("a ping is missed", has_missed);
    // A handler that panicked has ended when its backtrace is printed, which may take its time.
    for (name, labels, least) in [
        ("heartwheel_handler_seconds_bucket", &[("le", "+Inf")][..], 3.0),
        ("heartwheel_handler_panics_total", &[], 1.0),
        ("heartwheel_protocol_errors_total", &[("kind", "unmasked")], 1.0),
        ("heartwheel_protocol_errors_total", &[("kind", "http")], 1.0),
        ("heartwheel_connections_rejected_total", &[("reason", "origin")], 1.0),
        ("heartwheel_resumes_total", &[("result", "complete")], 1.0),
        ("heartwheel_resumes_total", &[("result", "gap")], 1.0),
        ("heartwheel_messages_received_total", &[("transport", "websocket")], 2.0),
        ("heartwheel_messages_received_total", &[("transport", "http")], 2.0),
        ("heartwheel_messages_sent_total", &[("transport", "websocket")], 1.0),
        ("heartwheel_messages_sent_total", &[("transport", "events")], 1.0),
        ("heartwheel_handshake_seconds_count", &[], 5.0),
        ("heartwheel_events_published_total", &[], 2.0),
        ("heartwheel_topics", &[], 1.0),
        ("heartwheel_connections", &open("events", "none"), 2.0),
        ("heartwheel_deadlines_fired_total", &[("kind", "ping")], 1.0),
        ("heartwheel_memory_bytes", &[("kind", "log")], 1.0),
    ] {
        let what = format!("{name} {labels:?} is {least}");
        eventually(&what, || scrape(admin).value(name, labels) >= least);
    }
}

/// The books balance in every scrape, however much comes and goes meanwhile.
#[test]
fn accepted_is_open_and_closed_at_any_time() {
    let server = start(&[("deadlines.handshake", "50ms"), ("limits.connections", "40")]);
    let (address, admin) = (server.address, admin(&server));
    let is_over = AtomicBool::new(false);
    let scrapes = rounds(200);
    let mut most_open: f64 = 0.0;
    thread::scope(|scope| {
        let _ends_them = SetOnDrop(&is_over);
        for kind in 0..4 {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // Whoever comes when all slots are taken is refused, or reset.
                    let _ = std::panic::catch_unwind(|| churn(address, kind));
                }
            });
        }
        for _ in 0..scrapes {
            let figures = scrape(admin);
            let open = figures.sum("heartwheel_connections");
            let closed = figures.sum("heartwheel_connections_closed_total");
            let accepted = figures.value("heartwheel_connections_accepted_total", &[]);
            assert_eq!(accepted, open + closed, "open {open}, closed {closed}");
            assert_eq!(figures.value("heartwheel_deadlines_armed", &[]), open);
            most_open = most_open.max(open);
        }
    });
    let accepted = server.stats().accepted;
    println!("{scrapes} scrapes, {accepted} connections, at most {most_open} open in one");
    assert!(accepted > 2 * scrapes as u64 && most_open > 1.0);
}

fn churn(address: std::net::SocketAddr, kind: usize) {
    match kind {
        0 => {
            let mut peer = Client::open(address, "/echo");
            peer.text("x");
            assert_eq!(peer.message(), "x");
            peer.reset();
        }
        1 => drop(Stream::open(address, "/events?topic=a")),
        2 => assert_eq!(fetch(address, "/healthz").status, 200),
        _ => {
            let peer = Client::connect(address);
            thread::sleep(ms(5));
            drop(peer);
        }
    }
}

#[test]
fn a_host_may_serve_the_figures_itself() {
    let mut server = Server::builder().listen("127.0.0.1:0").expect("a port is free");
    server.turn().expect("it turns");
    let figures = Exposition::read(&server.metrics());
    assert_eq!(figures.value("heartwheel_connections_accepted_total", &[]), 0.0);
    assert_eq!(figures.value("heartwheel_turn_seconds_count", &[]), 1.0);
}

/// What others read it with: promtool, or the Python client's parser. `.ci` has the latter
/// installed.
#[test]
fn real_parsers_read_it() {
    let server = start(&[]);
    let _peer = Client::open(server.address, "/echo");
    let text = fetch(admin(&server), "/metrics").text().to_owned();
    let mut read = 0;
    if let Some(output) = run(Command::new("promtool").args(["check", "metrics"]), &text) {
        assert!(output.0, "promtool: {}", output.1);
        read += 1;
    }
    let script = "import sys\n\
        from prometheus_client.parser import text_string_to_metric_families as read\n\
        for family in read(sys.stdin.read()):\n\
        \x20 for sample in family.samples: print(sample.name, float(sample.value))\n";
    for python in pythons() {
        let is_there = run(Command::new(&python).args(["-c", "import prometheus_client"]), "");
        if is_there.is_none_or(|(success, _)| !success) {
            continue;
        }
        let (success, said) = run(Command::new(&python).args(["-c", script]), &text).unwrap();
        assert!(success, "prometheus_client: {said}");
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(said.lines().count(), samples, "each sample is read");
        assert!(said.contains("heartwheel_connections_accepted_total 2.0"), "{said}");
        read += 1;
        break;
    }
    if read == 0 {
        tell_loudly("NO REAL PARSER READ /metrics: neither promtool nor prometheus_client is here");
    }
}

/// Past what catches the output of tests that pass.
pub fn tell_loudly(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n== {text}");
}

pub fn pythons() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/prometheus/bin/python");
    let named = std::env::var_os("PROMETHEUS_PYTHON").map(PathBuf::from);
    named.into_iter().chain([own, PathBuf::from("python3")]).collect()
}

/// Runs a program with this input, if there is such a program. Gives whether it was content, and
/// what it said.
pub fn run(command: &mut Command, input: &str) -> Option<(bool, String)> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    // It may say more than a pipe holds before it has read all.
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it can be waited for");
    let _ = writer.join();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// What nobody speaks any more is known by the figures: both they and the table tell what the 101
/// has named, and nothing else that a client has offered.
#[test]
fn what_connections_speak_is_told() {
    let chat = Route::websocket("/chat", |_: &ServerPeer, _: Event| {}).protocol("chat");
    let builder = heartwheel::app::routes(Server::builder()).route(chat);
    let server = TestServer::serve(&[("admin_listen", "127.0.0.1:0")], builder);
    let mut peers = Vec::new();
    for (path, offer) in [
        ("/ws", "heartwheel.v1"),
        ("/ws", "other, heartwheel.v1, heartwheel.bearer.abc"),
        ("/ws", "mine"),
        ("/chat", "heartwheel.v1"),
        ("/chat", "chat"),
        ("/echo", "heartwheel.v1"),
    ] {
        let mut peer = Client::connect(server.address);
        let lines = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        peer.send(upgrade_request(path, &lines).as_bytes());
        assert_eq!(peer.read_answer().status, 101);
        peers.push(peer);
    }
    let table = dechunk(&fetch(admin(&server), "/connections").body);
    let figures = scrape(admin(&server));
    for (spoken, count) in [("heartwheel.v1", 2), ("none", 3), ("other", 1)] {
        let open = open("websocket", spoken);
        assert_eq!(figures.value("heartwheel_connections", &open), count as f64, "{spoken}");
        let row = format!(r#""transport":"websocket","phase":"open","subprotocol":"{spoken}""#);
        assert_eq!(table.matches(&row).count(), count, "{spoken}: {table}");
    }
    let asking = r#""transport":"http","phase":"request","subprotocol":"none""#;
    assert_eq!(table.matches(asking).count(), 1, "{table}");
}

#[test]
fn the_table_and_the_figures_agree() {
    let server = start(&[]);
    let _peers: Vec<_> = (0..5).map(|_| Client::open(server.address, "/echo")).collect();
    let table = dechunk(&fetch(admin(&server), "/connections").body);
    let figures = scrape(admin(&server));
    assert_eq!(figures.value("heartwheel_connections", &open("websocket", "none")), 5.0);
    assert_eq!(table.matches("\"transport\":\"websocket\",\"phase\":\"open\"").count(), 5);
}
