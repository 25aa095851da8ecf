//! What the operator's questions cost the loop, measured from outside on the program: CPU time of
//! its thread, and how long others wait meanwhile.
//!
//! `CONNECTIONS=10000 cargo test --release --test operator cost -- --nocapture` prints the figures;
//! by default there are fewer. As many connections are opened as the descriptors allow.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::common::client::Client;
use super::common::program::Program;
use super::common::timing::{SetOnDrop, Span};
use super::common::topics::fetch;
use super::{Exposition, dechunk};

#[test]
fn figures_and_the_table_cost_the_loop_little() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let wanted = std::env::var("CONNECTIONS").ok().and_then(|text| text.parse().ok());
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(200);
    let count = wanted.unwrap_or(300).min(room as usize);
    let lab = Program::lab(&[
        ("log", "info"),
        ("deadlines.read_idle", "off"),
        ("workers", "0"),
        ("heartbeat.interval", "10m"),
        ("limits.connections", "11000"),
    ]);
    let mut peers: Vec<_> = (0..count).map(|_| Client::open(lab.address, "/echo")).collect();
    std::thread::sleep(Duration::from_millis(300));

    let rounds = 50;
    let text = fetch(lab.admin(), "/metrics").text().to_owned();
    let each = cpu_of_each(&lab, rounds, || {
        fetch(lab.admin(), "/metrics");
    });
    let idle = cpu_of_each(&lab, rounds, || {
        fetch(lab.admin(), "/healthz");
    });
    println!(
        "/metrics with {count} connections: {each:?} of the loop ({idle:?} of it for any request), \
         {} bytes",
        text.len()
    );
    let most = if cfg!(debug_assertions) { 10 } else { 2 };
    assert!(each < Duration::from_millis(most), "{each:?}");

    let slow = Exposition::read(&text);
    let mut bytes = 0;
    let each = cpu_of_each(&lab, rounds / 5, || {
        let reply = fetch(lab.admin(), "/connections");
        bytes = reply.body.len();
        assert_eq!(dechunk(&reply.body).matches("\"id\":").count(), count + 1);
    });
    let after = Exposition::read(fetch(lab.admin(), "/metrics").text());
    let longest = longest_turn(&slow, &after);
    println!(
        "/connections with {count} connections: {each:?} of the loop, {bytes} bytes, every turn \
         within {longest} s"
    );

    // Somebody else talks while the table is asked for again and again.
    let is_over = AtomicBool::new(false);
    let mut trips = Vec::new();
    let span = Span::begin();
    std::thread::scope(|scope| {
        let _ends_it = SetOnDrop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fetch(lab.admin(), "/connections");
            }
        });
        for _ in 0..500 {
            let began = Instant::now();
            peers[0].text("x");
            assert_eq!(peers[0].message(), "x");
            trips.push(began.elapsed());
        }
    });
    trips.sort();
    println!(
        "an echo meanwhile: median {:?}, 99 of 100 within {:?}, the longest {:?}",
        trips[250], trips[495], trips[499]
    );
    assert!(trips[250] < Duration::from_millis(50) + span.stalled(), "{:?}", trips[250]);
}

/// Gives the CPU time of the loop's thread, for one of so many.
fn cpu_of_each(lab: &Program, rounds: u32, mut act: impl FnMut()) -> Duration {
    let cpu = || {
        // The loop runs on the main thread; nanoseconds on the CPU come first.
        let path = format!("/proc/{0}/task/{0}/schedstat", lab.id());
        let stat = fs::read_to_string(path).expect("the lab runs");
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().expect("a number"))
    };
    act();
    let before = cpu();
    (0..rounds).for_each(|_| act());
    (cpu() - before) / rounds
}

/// Gives the bound of the highest bucket of turns that has grown.
fn longest_turn(before: &Exposition, after: &Exposition) -> String {
    let name = "heartwheel_turn_seconds_bucket";
    let family = &after.families["heartwheel_turn_seconds"];
    let mut bounds: Vec<_> = family
        .samples
        .keys()
        .filter(|(own, _)| own == name)
        .map(|(_, labels)| labels[0].1.clone())
        .collect();
    bounds.sort_by(|a, b| {
        let number = |bound: &str| bound.parse::<f64>().unwrap_or(f64::INFINITY);
        number(a).total_cmp(&number(b))
    });
    let grown =
        |bound: &str| after.value(name, &[("le", bound)]) - before.value(name, &[("le", bound)]);
    let all = grown("+Inf");
    bounds.into_iter().find(|bound| grown(bound) == all).expect("the last holds all")
}
