//! The program as a service: loading the configuration again, and what its manager is told.
#![cfg(feature = "program")]

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use common::client::Client;
use common::frame::frame;
use common::program::Program;
use common::timing::{EPS, PATIENCE, ms};

/// A configuration file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let name = format!("heartwheel-{name}-{}.toml", std::process::id());
        let file = File(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("there is room for a file");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let name = format!("heartwheel-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("the name is short");
        let socket = UnixDatagram::bind_addr(&address).expect("the name is new");
        Manager { socket, name: format!("@{name}") }
    }

    /// Gives what comes within this time; empty if nothing does.
    fn told_within(&self, span: Duration) -> String {
        self.socket.set_read_timeout(Some(span)).unwrap();
        let mut buffer = [0; 1024];
        let len = self.socket.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[track_caller]
    fn expect(&self, state: &str) -> String {
        let told = self.told_within(PATIENCE);
        assert!(told.lines().any(|line| line == state), "{state}: {told:?}");
        told
    }
}

#[track_caller]
fn assert_alive(peer: &mut Client) {
    peer.text("alive");
    assert_eq!(peer.message(), "alive");
}

// FAULTS 163.
#[test]
fn a_reload_takes_a_good_file_and_refuses_a_bad_one() {
    let file = File::new("reload", "[limits]\nmessage_bytes = '1k'");
    let lab = Program::lab_with(&[], |command| {
        command.arg("-c").arg(&file.0);
    });
    let mut peer = Client::open(lab.address, "/echo");
    assert_alive(&mut peer);

    for bad in ["[limits]\nmessage_bytes = 'many'", "limits = [", "[limit]\nmessage_bytes = 1"] {
        file.write(bad);
        let before = lab.lines_with("the configuration stays as it was").len();
        lab.signal(Signal::HUP);
        common::timing::eventually("the refusal is told", || {
            lab.lines_with("the configuration stays as it was").len() > before
        });
        assert_alive(&mut peer);
    }
    assert_eq!(lab.lines_with("limits.message_bytes = many: must be").len(), 1);
    assert_eq!(lab.lines_with(" closed id=").len(), 0);

    file.write("workers = 3\n[limits]\nmessage_bytes = '4k'");
    lab.signal(Signal::HUP);
    assert!(lab.expect_line("reloaded changed=").contains("changed=limits.message_bytes"));
    assert!(lab.expect_line("takes a restart").contains("keys=workers"));
    assert_alive(&mut peer);
    peer.send(frame(0x82, &[7; 4000]));
    assert!(matches!(peer.see(), common::client::Seen::Frame(0x82, echo) if echo.len() == 4000));
    assert_eq!(lab.lines_with(" closed id=").len(), 0);
}

/// The peer is told the same, whatever it was: only the operator learns which tokens there are not.
#[test]
fn a_wrong_token_and_none_read_differently_in_the_log_and_not_in_the_answer() {
    let file = File::new("tokens", "secret publish=* subscribe=*\n");
    let lab = Program::lab(&[("admission.tokens", file.0.to_str().unwrap())]);
    let ask = |lines: &str| {
        let mut peer = Client::connect(lab.address);
        peer.send(format!("GET /topics/a HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").as_bytes());
        peer.read_answer()
    };
    let (none, wrong) = (ask(""), ask("Authorization: Bearer guessed\r\n"));
    assert_eq!((none.status, wrong.status), (401, 401));
    assert_eq!(none.body, wrong.body);
    assert!(lab.expect_line("token=none").contains("refused id="));
    assert!(lab.expect_line("token=unknown").contains("refused id="));
    assert_eq!(lab.lines_with("guessed").len(), 0, "no token is ever shown");
}

/// What is logged of a request, and of the end of its connection, bears the trace context of the
/// request; behind the next request it is that of the next.
#[test]
fn log_lines_bear_the_trace_context() {
    let file = File::new("trace", "secret publish=* subscribe=*\n");
    let lab = Program::lab(&[("admission.tokens", file.0.to_str().unwrap())]);
    let trace = |n: u8| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{n:02}-01");
    let ask = |lines: &[String]| {
        let mut peer = Client::connect(lab.address);
        for lines in lines {
            let head = format!("GET /topics/a HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
            peer.send(head.as_bytes());
            peer.read_answer();
        }
        peer.half_close();
        peer.expect_fin();
    };
    let line = |n| format!("traceparent: {}\r\n", trace(n));
    ask(&[line(1)]);
    let refused = lab.expect_line("token=none");
    assert!(refused.ends_with(&format!("token=none trace={}", trace(1))), "{refused}");
    let closed = lab.expect_line(" closed id=");
    assert!(closed.contains(&format!("messages_out=0 trace={}: ", trace(1))), "{closed}");
    ask(&[line(2), line(3)]);
    ask(&[line(4), String::new()]);
    common::timing::eventually("all have ended", || lab.lines_with(" closed id=").len() == 3);
    let closed = lab.lines_with(" closed id=");
    assert!(closed[1].contains(&format!("trace={}: ", trace(3))), "{closed:?}");
    assert!(!closed[2].contains("trace="), "{closed:?}");
}

#[test]
fn a_reload_changes_how_much_is_logged() {
    let file = File::new("log", "log = 'info'");
    let lab = Program::lab_with(&[], |command| {
        command.env_remove("HEARTWHEEL_LOG").arg("-c").arg(&file.0);
    });
    drop(Client::connect(lab.address));
    // What is answered behind it, twice, shows that its end has been seen to.
    let mut peer = Client::open(lab.address, "/echo");
    assert_alive(&mut peer);
    assert_alive(&mut peer);
    file.write("log = 'debug'");
    lab.signal(Signal::HUP);
    lab.expect_line("reloaded changed=log");
    assert_eq!(lab.lines_with(" closed id=").len(), 0, "a clean end is not worth a line at info");
    drop(Client::connect(lab.address));
    lab.expect_line(" closed id=");
}

#[test]
fn the_manager_is_told_of_each_stage() {
    let manager = Manager::new("stages");
    let mut lab = Program::lab_with(&[("deadlines.drain", "1s")], |command| {
        command.env("NOTIFY_SOCKET", &manager.name);
    });
    manager.expect("READY=1");
    lab.signal(Signal::HUP);
    let told = manager.expect("RELOADING=1");
    assert!(told.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{told}");
    manager.expect("READY=1");
    let mut peer = Client::open(lab.address, "/echo");
    assert_alive(&mut peer);
    lab.signal(Signal::TERM);
    manager.expect("STOPPING=1");
    assert_eq!(lab.exit_within(ms(2000) + EPS).code(), Some(0));
    // No watchdog was asked for.
    assert_eq!(manager.told_within(ms(1)), "");
}

#[test]
fn the_watchdog_is_fed_by_progress_alone() {
    let manager = Manager::new("watchdog");
    let start = |pairs: &[(&str, &str)]| {
        let lab = Program::lab_with(pairs, |command| {
            command.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "400000");
        });
        manager.expect("READY=1");
        manager.expect("WATCHDOG=1");
        manager.expect("WATCHDOG=1");
        lab
    };
    // The loop itself is held up by a handler.
    let lab = start(&[("workers", "0")]);
    let mut peer = Client::open(lab.address, "/sleep?ms=60000");
    peer.text("sleep");
    lab.expect_line("watchdog not fed: the loop does not turn");
    drop(lab);
    while !manager.told_within(ms(50)).is_empty() {}
    // The loop turns, and no worker is left.
    let lab = start(&[("workers", "1"), ("deadlines.handler", "200ms")]);
    let mut peer = Client::open(lab.address, "/sleep?ms=60000");
    peer.text("sleep");
    common::timing::eventually("it is not fed", || {
        !lab.lines_with("watchdog not fed handlers_stuck=1").is_empty()
    });
}

#[test]
fn the_first_user_signal_logs_the_table_and_the_second_sheds() {
    let lab = Program::lab(&[("deadlines.drain", "1s")]);
    let mut peers: Vec<_> = (0..120).map(|_| Client::open(lab.address, "/echo")).collect();
    lab.signal(Signal::USR1);
    lab.expect_line("connections logged=120 whole=true");
    let rows = lab.lines_with("connection row={\"id\":\"");
    assert_eq!(rows.len(), 120);
    assert!(rows.iter().all(|row| row.ends_with("\"suspect\":false}")), "{:?}", rows[0]);
    peers.iter_mut().for_each(assert_alive);
    lab.signal(Signal::USR2);
    lab.expect_line("shed begun connections=36 of=120");
    let is_shed = |seen| matches!(seen, common::client::Seen::Frame(0x88, _));
    let mut shed = 0;
    // Their turns are spread.
    common::timing::eventually("36 are told", || {
        shed += peers.extract_if(.., |peer| is_shed(peer.see_within(ms(2)))).count();
        shed >= 36
    });
    assert_eq!(shed, 36);
    peers.iter_mut().for_each(assert_alive);
}

/// The first seconds teach what is usual: nothing. Then connections come by the dozen.
#[test]
fn a_rate_that_shifts_is_an_alarm_with_a_snapshot() {
    let dir = std::env::temp_dir().join(format!("heartwheel-watch-{}", std::process::id()));
    let dir_text = dir.display().to_string();
    let lab = Program::lab(&[
        ("watch.interval", "1s"),
        ("watch.dir", &dir_text),
        ("watch.snapshots", "2"),
        ("watch.threshold", "4"),
    ]);
    let mut peers = vec![Client::open(lab.address, "/echo")];
    let quiet = std::time::Instant::now();
    while lab.lines_with("watch alarm signal=opens direction=up").is_empty() {
        assert!(quiet.elapsed() < ms(40_000), "no alarm: {:#?}", lab.lines().last());
        if quiet.elapsed() > ms(18_000) {
            peers.push(Client::open(lab.address, "/echo"));
        }
        std::thread::sleep(ms(20));
    }
    common::timing::eventually("the snapshot is told", || {
        !lab.lines_with("watch snapshot").is_empty()
    });
    let files: Vec<_> = fs::read_dir(&dir).expect("it was made").flatten().collect();
    assert!((1..=2).contains(&files.len()), "{files:?}");
    let text = fs::read_to_string(files[0].path()).unwrap();
    assert!(text.starts_with("watch alarm signal="), "{text}");
    assert!(text.contains("accepted: ") && text.contains("\"path\":\"/echo\""), "{text}");
    assert!(text.ends_with("whole=true\n"), "{text}");
    assert_alive(&mut peers[0]);
    fs::remove_dir_all(&dir).unwrap();
}
