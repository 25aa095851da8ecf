//! The load generator: what it computes by itself, and short runs of the whole of it.
#![cfg(all(feature = "program", target_os = "linux"))]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use tinyjson::JsonValue;

// Its `main` is not called here.
#[allow(dead_code)]
#[path = "../benches/load/main.rs"]
mod load;

/// Runs it; gives its failures, and its runs as JSON.
fn run(name: &str, words: &[&str]) -> (Vec<String>, Vec<JsonValue>) {
    let file = format!("{}/{name}.json", env!("CARGO_TARGET_TMPDIR"));
    let short = ["--no-pin", "--seconds", "0.3", "--warmup", "0.1", "--rounds", "1"];
    let words = [&short, words, &["--json", &file]].concat();
    let failures = load::run(words.iter().map(Into::into)).expect("it runs");
    let json: JsonValue = fs::read_to_string(file).unwrap().parse().expect("it is JSON");
    (failures, json["runs"].get::<Vec<_>>().expect("it is a list").clone())
}

fn figure(run: &JsonValue, name: &str) -> f64 {
    *run[name].get().unwrap_or_else(|| panic!("{name} is no number"))
}

/// Sends every byte back, but for those after `most`: there it ends the connection. What `alter`
/// does with the bytes, it does first; it is told the time since the first connection.
fn echo_of_bytes(most: usize, alter: fn(&mut [u8], Duration)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut began = None;
        for stream in listener.incoming().map_while(Result::ok) {
            let began = *began.get_or_insert_with(Instant::now);
            thread::spawn(move || {
                let (mut stream, mut left) = (stream, most);
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let length = length.min(left);
                    left -= length;
                    alter(&mut buffer[..length], began.elapsed());
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
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
    let url = echo_of_bytes(usize::MAX, |_, _| ());
    let words = ["rate", "--url", &url, "--rate", "1000", "--conns", "7", "--verify"];
    let (failures, runs) = run("rate", &[&words[..], &["--fail-if", "errors>0"]].concat());
    assert_eq!(failures, [""; 0]);
    // A machine that is busy elsewhere makes them late, not fewer; some are late for the window.
    assert!((100.0..1100.0).contains(&figure(&runs[0], "rate")), "{:?}", runs[0]);
}

/// Two thirds of the time that is measured the server stands still: whatever should have been sent
/// then waits for the rest of it. Who waits for answers before sending sees a few long ones.
#[test]
fn messages_by_the_clock_are_charged_for_a_server_that_stands_still() {
    let url = echo_of_bytes(usize::MAX, |_, elapsed| {
        if elapsed > Duration::from_millis(200) {
            thread::sleep(Duration::from_millis(400).saturating_sub(elapsed));
        }
    });
    let (_, runs) = run("still", &["rate", "--url", &url, "--rate", "1000", "--conns", "5"]);
    assert!(figure(&runs[0], "p50") > 20_000.0, "{:?}", runs[0]);
    assert!(figure(&runs[0], "p90") > 100_000.0, "{:?}", runs[0]);
}

#[test]
fn what_was_not_sent_is_noticed_if_it_is_looked_at() {
    let url = echo_of_bytes(usize::MAX, |bytes, _| bytes.rotate_left(1));
    let words = ["echo", "--url", &url, "--conns", "2"];
    let (_, runs) = run("unverified", &words);
    assert_eq!(figure(&runs[0], "errors"), 0.0);
    let (_, runs) = run("verified", &[&words[..], &["--verify"]].concat());
    assert!(figure(&runs[0], "wrong") > 0.0, "{:?}", runs[0]);
}

#[test]
fn a_connection_that_is_lost_is_an_error_and_a_failure() {
    let url = echo_of_bytes(10_000, |_, _| ());
    let words = ["echo", "--url", &url, "--conns", "3", "--fail-if", "errors>0"];
    let (failures, runs) = run("lost", &words);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(figure(&runs[0], "lost"), 3.0);
    assert!(figure(&runs[0], "unanswered") >= 1.0);
}

#[test]
fn every_other_mode_finds_the_server_well() {
    for (mode, conns, figures) in [
        ("fanout", "20", &["p50", "cpu_us", "pair"][..]),
        ("churn", "4", &["p50", "cpu_us", "rate"]),
        ("idle", "50", &["start_us", "idle_bytes", "wakes"]),
    ] {
        let words = [mode, "--conns", conns, "--workers", "0", "--verify"];
        let (failures, runs) = run(mode, &[&words[..], &["--fail-if", "errors>0"]].concat());
        assert_eq!(failures, [""; 0]);
        for run in &runs {
            figures.iter().for_each(|name| assert!(figure(run, name).is_finite(), "{name}"));
        }
    }
}

#[test]
fn deadlines_are_seen_and_none_is_early() {
    let words = ["deadlines", "--workers", "0"];
    let limits = ["--seconds", "3", "--fail-if", "early>0", "--fail-if", "errors>0"];
    let words = [&words[..], &limits].concat();
    // The observer says what it has seen late itself. Where the machine stood still for longer than
    // deadlines may be off by, nothing can be judged: it is looked at again.
    let stood_still = |run: &&JsonValue| {
        run["server"].get::<String>().unwrap() == "itself" && figure(run, "max") > 100_000.0
    };
    let (mut failures, mut runs) = run("deadlines", &words);
    for _ in 0..2 {
        if failures.is_empty() || runs.iter().find(stood_still).is_none() {
            break;
        }
        (failures, runs) = run("deadlines", &words);
    }
    assert_eq!(failures, [""; 0]);
    for run in runs.iter().filter(|run| run["server"].get::<String>().unwrap() == "heartwheel") {
        let load: &String = run["load"].get().unwrap();
        // These take longer than this test may.
        let is_slow = ["ping", "pong", "lifetime"].iter().any(|kind| load.starts_with(kind));
        assert!(is_slow || figure(run, "count") > 0.0, "{load}");
    }
}

#[test]
fn the_page_stands_alone() {
    let file = format!("{}/page.html", env!("CARGO_TARGET_TMPDIR"));
    let words = ["echo", "--conns", "2", "--workers", "0", "--html", &file];
    run("page", &words);
    let page = fs::read_to_string(file).unwrap();
    assert!(page.contains("<svg") && page.contains("heartwheel"));
    for word in ["http://", "https://", "src=", "href=", "NaN", "inf"] {
        let found = page.find(word).map(|at| &page[at.saturating_sub(60)..at + 20]);
        assert_eq!(found, None, "{word}");
    }
}
