//! Servers that come back: what was published is there, with its ids, and what may be missing is
//! told.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::http::Answer;
use crate::common::program::Program;
use crate::common::rng::Rng;
use crate::common::topics::{fetch, post, publish, publish_bytes};

/// A ring in a file of its own, which is gone at the end of the test.
pub struct Ring(pub PathBuf);

impl Ring {
    pub fn new(name: &str) -> Ring {
        let name = format!("{}-{name}.ring", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_file(&path);
        Ring(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the target directory is text")
    }

    /// Starts the program with this ring.
    #[track_caller]
    pub fn start(&self, settings: &[(&str, &str)]) -> Program {
        let own = [("store.file", self.path()), ("store.topics", "kept,kept.*")];
        Program::start(&[own.as_slice(), settings].concat())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for what in ["", ".new", ".damaged"] {
            let _ = fs::remove_file(format!("{}{what}", self.path()));
        }
    }
}

fn end(mut program: Program) {
    // It minds signals when it serves.
    assert_eq!(fetch(program.address, "/healthz").status, 200);
    program.signal(Signal::TERM);
    assert!(program.wait_exit().success());
}

fn kill(mut program: Program) {
    program.signal(Signal::KILL);
    program.wait_exit();
}

/// Gives whether a gap is told, and the ids of what follows a position.
#[track_caller]
pub fn after(program: &Program, topic: &str, position: &str) -> (bool, Vec<String>) {
    let answer: Answer = fetch(program.address, &format!("/topics/{topic}?after={position}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let ids = text.split("\"id\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().into());
    (answer.header("Event-Gap").is_some(), ids.collect())
}

/// Gives all figures of the operator's listener.
pub fn metrics(program: &Program) -> String {
    let line = program.expect_line("for=admin");
    let (_, address) = line.split_once("listening address=").expect("it tells where");
    let address = address.split(' ').next().expect("a text has a first part");
    fetch(address.parse().expect("it is TCP"), "/metrics").text().to_owned()
}

/// Gives one of these figures.
#[track_caller]
pub fn read(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no figure {name}")).parse().expect("a number")
}

#[test]
fn after_a_clean_end_events_and_positions_are_as_they_were() {
    let ring = Ring::new("clean");
    let program = ring.start(&[]);
    let first = publish(program.address, "kept.a", "one");
    let other = publish(program.address, "kept.b", "two");
    let bytes = publish_bytes(program.address, "kept.a", &[0, 159, 146, 150]);
    let json = post(program.address, "kept.a", "application/json", br#"{"a":[1]}"#);
    assert_eq!(json.status, 200);
    let volatile = publish(program.address, "volatile", "gone");
    end(program);
    for round in 0..3 {
        let program = ring.start(&[]);
        let (is_gap, ids) = after(&program, "kept.a", "0-0");
        assert_eq!((is_gap, ids.len(), &ids[0], &ids[1]), (false, 3 + round, &first, &bytes));
        assert_eq!(after(&program, "kept.a", &first), (false, ids[1..].to_vec()));
        assert_eq!(after(&program, "kept.a", &volatile), (false, ids[3..].to_vec()));
        assert_eq!(after(&program, "kept.b", &first), (false, vec![other.clone()]));
        assert_eq!(after(&program, "kept.never", &volatile), (false, vec![]));
        assert_eq!(after(&program, "volatile", &volatile), (true, vec![]), "it is not kept");
        let text = fetch(program.address, &format!("/topics/kept.a?after={first}"));
        assert!(
            text.text().contains(r#""json":{"a":[1]}"#) || text.text().contains(r#"{"a":[1]}"#)
        );
        let next = publish(program.address, "kept.a", "again");
        let last = ids.last().unwrap();
        assert!(position(last) < position(&next), "{last} {next}");
        end(program);
    }
}

fn position(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

#[test]
fn after_a_kill_what_was_acknowledged_from_flash_is_there_and_a_gap_is_told() {
    let runs = std::env::var("HEARTWHEEL_KILLS").ok().and_then(|text| text.parse().ok());
    let runs: u64 = runs.unwrap_or(24);
    let ring = Ring::new("kill");
    let settings = [("store.ack", "flash"), ("store.sync", "10ms")];
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for run in 0..runs {
        let program = ring.start(&settings);
        let newest = acknowledged.iter().rev().take(100).rev();
        let position = newest.clone().next().map_or("0-0", |(id, _)| id.as_str()).to_owned();
        let (is_gap, ids) = after(&program, "kept", &position);
        assert_eq!(is_gap, run > 0, "run {run}: the last one was killed");
        for (id, text) in newest.skip(1) {
            assert!(ids.contains(id), "run {run}: {id} {text} of {ids:?}");
        }
        let address = program.address;
        let publisher = thread::spawn(move || {
            let mut answered = Vec::new();
            for nth in 0.. {
                let text = format!("{run}.{nth} {}", "x".repeat(nth % 700));
                let Some(id) = try_publish(address, &text) else { return answered };
                answered.push((id, text));
            }
            unreachable!()
        });
        thread::sleep(Duration::from_millis(40 + Rng::new(run).below(120)));
        kill(program);
        acknowledged.extend(publisher.join().unwrap());
    }
    assert!(acknowledged.len() as u64 > runs, "{}", acknowledged.len());
}

/// Publishes, or finds the program dead.
fn try_publish(address: std::net::SocketAddr, text: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /topics/kept HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, rest) = answer.split_once("{\"id\":\"")?;
    Some(rest.split('"').next()?.to_owned())
}

#[test]
fn after_a_kill_a_client_gets_a_gap_and_then_what_it_has_not_seen() {
    let ring = Ring::new("gap");
    let program = ring.start(&[("store.sync", "10ms")]);
    let first = publish(program.address, "kept", "one");
    let second = publish(program.address, "kept", "two");
    thread::sleep(Duration::from_millis(300));
    kill(program);
    let program = ring.start(&[]);
    assert_eq!(after(&program, "kept", &first), (true, vec![second.clone()]));
    assert_eq!(after(&program, "kept", &second), (true, vec![]));
    let third = publish(program.address, "kept", "three");
    assert_eq!(after(&program, "kept", &third), (false, vec![]));
    end(program);
    // The gap is told for good.
    let program = ring.start(&[]);
    assert_eq!(after(&program, "kept", &second), (true, vec![third.clone()]));
    assert_eq!(after(&program, "kept", &third), (false, vec![]));
    end(program);
}

#[test]
fn a_file_of_rubbish_is_put_aside_and_a_damaged_one_is_read_as_far_as_it_is_good() {
    let ring = Ring::new("rubbish");
    fs::write(&ring.0, "a poem, not a ring").unwrap();
    let program = ring.start(&[]);
    assert_eq!(after(&program, "kept", "0-0"), (true, vec![]));
    let aside = format!("{}.damaged", ring.path());
    assert_eq!(fs::read(aside).unwrap(), b"a poem, not a ring");
    let ids: Vec<_> = (0..40)
        .map(|nth| publish(program.address, "kept", &format!("{nth}{}", "x".repeat(1000))))
        .collect();
    end(program);
    let mut bytes = fs::read(&ring.0).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    bytes[4 * 4096 + 100] ^= 1;
    fs::write(&ring.0, bytes).unwrap();
    let program = ring.start(&[]);
    program.wait_logged("pages damaged=1");
    let (is_gap, there) = after(&program, "kept", &ids[0]);
    assert!(is_gap && there.len() < 39 && there.len() > 30, "{}", there.len());
    let last = &ids[39];
    assert_eq!(after(&program, "kept", &ids[38]), (false, vec![last.clone()]));
    end(program);
}

#[test]
fn a_ring_of_another_size_takes_along_what_fits() {
    let ring = Ring::new("size");
    let program = ring.start(&[]);
    let ids: Vec<_> = (0..40)
        .map(|nth| publish(program.address, "kept", &format!("{nth}{}", "x".repeat(3000))))
        .collect();
    end(program);
    end(ring.start(&[("store.bytes", "64k")]));
    let program = ring.start(&[("store.bytes", "64k")]);
    let (is_gap, there) = after(&program, "kept", &ids[0]);
    assert!(is_gap && (10..30).contains(&there.len()), "{}", there.len());
    assert_eq!(there.last(), ids.last());
    end(program);
    assert_eq!(fs::metadata(&ring.0).unwrap().len(), 65_536);
    let program = ring.start(&[]);
    assert_eq!(after(&program, "kept", &ids[38]), (false, vec![ids[39].clone()]));
    end(program);
    assert_eq!(fs::metadata(&ring.0).unwrap().len(), 1 << 20);
}

#[test]
fn a_file_that_cannot_be_had_leaves_a_server_without_it() {
    let ring = Ring::new("busy");
    let program = ring.start(&[]);
    let settings = [("store.ack", "flash"), ("store.sync", "10ms")];
    for path in [ring.path(), "/nowhere/ring", "/dev/null", "/"] {
        let own = [("store.file", path), ("store.topics", "kept,kept.*")];
        let second = Program::start(&[own.as_slice(), &settings].concat());
        second.wait_logged("durable topics are in memory alone");
        let answer = post(second.address, "kept", "text/plain", b"one");
        assert_eq!(answer.status, 503, "{path}: it is not on flash");
        assert!(answer.text().contains("in memory alone"), "{answer:?}");
        publish(second.address, "other", "one");
        assert_eq!(after(&second, "kept", "0-0").1.len(), 1, "{path}: but it is there");
        end(second);
    }
    end(program);
}

#[test]
fn flash_is_measured_by_a_file_that_must_not_exist() {
    let ring = Ring::new("flash");
    let check = |path: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        let output = command.env_clear().args(["check", "--flash", path]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, told, _) = check(ring.path());
    assert_eq!(status, Some(0), "{told}");
    for words in ["a commit of one page", "the device writes", "337.5 MiB", "years, if each of"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!ring.0.exists(), "the file is gone");
    fs::write(&ring.0, "precious").unwrap();
    let (status, told, fault) = check(ring.path());
    assert_eq!(status, Some(2), "{told}");
    assert!(fault.contains("exists"), "{fault}");
    assert_eq!(fs::read(&ring.0).unwrap(), b"precious");
}
