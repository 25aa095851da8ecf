//! The load generator: what it computes by itself, and short runs of the whole of it.
#![cfg(all(feature = "program", target_os = "linux"))]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use tinyjson::JsonValue;

#[path = "../benches/load/main.rs"]
mod load;

/// Runs it; gives its failures, and its runs as JSON.
fn run(name: &str, words: &[&str]) -> (Vec<String>, Vec<JsonValue>) {
    let file = format!("{}/{name}.json", env!("CARGO_TARGET_TMPDIR"));
    let short = ["--no-pin", "--seconds", "0.3", "--warmup", "0.1", "--rounds", "1"];
    let words = [words, &short, &["--json", &file]].concat();
    let failures = load::run(words.iter().map(Into::into)).expect("it runs");
    let json: JsonValue = fs::read_to_string(file).unwrap().parse().expect("it is JSON");
    (failures, json["runs"].get::<Vec<_>>().expect("it is a list").clone())
}

fn figure(run: &JsonValue, name: &str) -> f64 {
    *run[name].get().unwrap_or_else(|| panic!("{name} is no number"))
}

/// Sends every byte back, but for those after `most`: there it ends the connection.
fn echo_of_bytes(most: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let (mut stream, mut left) = (stream, most);
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let length = length.min(left);
                    left -= length;
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn echoes_of_the_program_are_measured() {
    let words = ["echo", "--conns", "8", "--size", "200", "--depth", "3", "--verify"];
    let (failures, runs) = run("echo", &[&words[..], &["--fail-if", "errors>0"]].concat());
    assert_eq!(failures, [""; 0]);
    let servers: Vec<&String> = runs.iter().map(|run| run["server"].get().unwrap()).collect();
    assert_eq!(servers, ["heartwheel", "heartwheel-workers"]);
    for run in &runs {
        assert!(figure(run, "count") > 50.0 && figure(run, "cpu_us") > 0.1);
        assert!(figure(run, "p50") <= figure(run, "p99"));
        assert_eq!(figure(run, "errors"), 0.0);
    }
}

#[test]
fn messages_by_the_clock_are_as_many_as_were_asked_for() {
    let url = format!("tcp://{}", echo_of_bytes(usize::MAX));
    let words = ["rate", "--url", &url, "--rate", "1000", "--conns", "7", "--verify"];
    let (failures, runs) = run("rate", &[&words[..], &["--fail-if", "errors>0"]].concat());
    assert_eq!(failures, [""; 0]);
    // A machine that is busy elsewhere makes them late, not fewer; some are late for the window.
    assert!((100.0..1100.0).contains(&figure(&runs[0], "rate")), "{:?}", runs[0]);
}

#[test]
fn a_connection_that_is_lost_is_an_error_and_a_failure() {
    let url = format!("tcp://{}", echo_of_bytes(10_000));
    let words = ["echo", "--url", &url, "--conns", "3", "--fail-if", "errors>0"];
    let (failures, runs) = run("lost", &words);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(figure(&runs[0], "lost"), 3.0);
    assert!(figure(&runs[0], "unanswered") >= 1.0);
}
