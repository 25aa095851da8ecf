//! Disks that are slow, stuck, full or broken: the server goes on, and says so. The program runs
//! with `disk.c` in front of its C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use super::restart::{Ring, after, metrics, read};
use crate::common::preload;
use crate::common::program::Program;
use crate::common::timing::{PATIENCE, comes_within};
use crate::common::topics::{post, publish};

/// Gives the library that is loaded in front.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| preload::compile("tests/store/disk.c"))
}

/// The program on such a disk. While `switch` is there, the disk is as the environment says.
struct Bad {
    program: Program,
    ring: Ring,
    switch: PathBuf,
}

impl Bad {
    fn start(name: &str, environment: &[(&str, &str)], settings: &[(&str, &str)]) -> Bad {
        let ring = Ring::new(name);
        let switch = ring.0.with_extension("switch");
        let path = switch.as_path();
        let own = [("LD_PRELOAD", library()), ("DISK_FAILS", path), ("DISK_SLOW", path)];
        let environment = environment.iter().map(|(name, text)| (*name, Path::new(*text)));
        let environment: Vec<_> = own.into_iter().chain(environment).collect();
        let own = [
            ("store.file", ring.path()),
            ("store.topics", "kept"),
            ("store.sync", "10ms"),
            ("admin_listen", "127.0.0.1:0"),
        ];
        let program = Program::start_in(&environment, &[own.as_slice(), settings].concat());
        Bad { program, ring, switch }
    }

    fn switch(&self, is_on: bool) {
        match is_on {
            true => fs::write(&self.switch, "").unwrap(),
            false => fs::remove_file(&self.switch).unwrap(),
        }
    }

    #[track_caller]
    fn figure(&self, name: &str) -> u64 {
        read(&metrics(&self.program), name)
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.switch);
    }
}

#[test]
fn no_turn_waits_for_a_disk_that_takes_half_a_second() {
    let bad = Bad::start("slow", &[("DISK_SYNC_MS", "500")], &[]);
    bad.switch(true);
    for nth in 0..300 {
        publish(bad.program.address, "kept", &format!("{nth}"));
    }
    let commits = || bad.figure("heartwheel_store_commits_total");
    assert!(comes_within(PATIENCE, || commits() >= 3), "{}", commits());
    let all = metrics(&bad.program);
    let below = |what: &str, bound: &str| {
        read(&all, &format!("heartwheel_{what}_seconds_bucket{{le=\"{bound}\"}}"))
    };
    assert_eq!(below("turn", "0.4"), below("turn", "+Inf"), "none took as long as a commit");
    assert!(below("store_commit", "0.4") <= 1, "but for the first one");
    assert_eq!(bad.figure("heartwheel_store_lost_total"), 0);
}

#[test]
fn a_queue_that_is_full_leaves_events_in_memory_and_tells_publishers_and_readers() {
    let settings = [("store.ack", "flash"), ("deadlines.handshake", "2s")];
    let bad = Bad::start("stuck", &[("DISK_SYNC_MS", "1500")], &settings);
    let first = publish(bad.program.address, "kept", "first");
    bad.switch(true);
    let address = bad.program.address;
    let waiting: Vec<_> = (0..12)
        .map(|nth| {
            let text = format!("{nth}{}", "x".repeat(50_000));
            thread::sleep(Duration::from_millis(20));
            thread::spawn(move || post(address, "kept", "text/plain", text.as_bytes()))
        })
        .collect();
    let answers: Vec<_> = waiting.into_iter().map(|post| post.join().unwrap()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    let lost = bad.figure("heartwheel_store_lost_total");
    assert!(lost > 0, "{statuses:?}");
    assert_eq!(after(&bad.program, "kept", &first).1.len(), 12, "all are in memory");
    bad.switch(false);
    let last = publish(bad.program.address, "kept", "last");
    let Bad { program, ring, .. } = &bad;
    program.signal(Signal::KILL);
    let again = ring.start(&[]);
    let (is_gap, ids) = after(&again, "kept", &first);
    assert!(is_gap && ids.contains(&last) && ids.len() < 13, "{ids:?}");
}

#[test]
fn a_disk_that_fails_is_told_and_tried_again() {
    let cases = [
        ("DISK_SYNC_ERRNO", Errno::IO),
        ("DISK_WRITE_ERRNO", Errno::NOSPC),
        ("DISK_WRITE_ERRNO", Errno::ROFS),
    ];
    for (nth, (call, errno)) in cases.into_iter().enumerate() {
        let number = errno.raw_os_error().to_string();
        let settings = [("store.ack", "flash")];
        let bad = Bad::start(&format!("fails-{nth}"), &[(call, &number)], &settings);
        let address = bad.program.address;
        let first = publish(address, "kept", "first");
        bad.switch(true);
        let answer = post(address, "kept", "text/plain", b"second");
        assert_eq!(answer.status, 503, "{errno}");
        bad.program.wait_logged("store failing");
        assert_eq!(post(address, "kept", "text/plain", b"third").status, 503, "{errno}");
        assert_eq!(bad.figure("heartwheel_store_stuck"), 1);
        assert_eq!(bad.figure("heartwheel_store_lost_total"), 2);
        assert_eq!(after(&bad.program, "kept", &first).1.len(), 2, "they are in memory");
        bad.switch(false);
        let works = || bad.program.logged("store works again") == 1;
        assert!(comes_within(Duration::from_secs(20), works), "{:#?}", bad.program.lines());
        let fourth = publish(address, "kept", "fourth");
        assert_eq!(bad.figure("heartwheel_store_stuck"), 0);
        bad.program.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(500));
        let again = bad.ring.start(&[]);
        // It was closed as it should be, and still the gap is told.
        assert_eq!(after(&again, "kept", &first), (true, vec![fourth.clone()]), "{errno}");
        assert_eq!(after(&again, "kept", &fourth), (false, vec![]), "{errno}");
    }
}

#[test]
fn a_disk_without_room_leaves_the_server_without_the_ring() {
    let ring = Ring::new("no-room");
    let switch = ring.0.with_extension("switch");
    fs::write(&switch, "").unwrap();
    let environment = [
        ("LD_PRELOAD", library()),
        ("DISK_FAILS", switch.as_path()),
        ("DISK_WRITE_ERRNO", Path::new("28")),
    ];
    let settings = [("store.file", ring.path()), ("store.topics", "kept")];
    let program = Program::start_in(&environment, &settings);
    program.wait_logged("durable topics are in memory alone");
    publish(program.address, "kept", "one");
    program.signal(Signal::KILL);
    fs::remove_file(&switch).unwrap();
    let again = ring.start(&[]);
    assert_eq!(after(&again, "kept", "0-0"), (true, vec![]));
    assert!(!Path::new(&format!("{}.damaged", ring.path())).exists(), "it was blank");
}

#[test]
fn a_budget_that_is_spent_has_events_wait_or_stay_in_memory() {
    for (when_spent, sync) in [("slow", "10ms"), ("memory", "10ms")] {
        let settings =
            [("store.budget", "1m"), ("store.when_spent", when_spent), ("store.sync", sync)];
        let bad = Bad::start(&format!("budget-{when_spent}"), &[], &settings);
        for nth in 0..60 {
            publish(bad.program.address, "kept", &format!("{nth}"));
            thread::sleep(Duration::from_millis(15));
        }
        bad.program.wait_logged("store.budget spent");
        let written = bad.figure("heartwheel_store_bytes_written_total");
        // What was saved up at the beginning is 64 KiB.
        assert!((60_000..=80_000).contains(&written), "{when_spent}: {written}");
        let lost = bad.figure("heartwheel_store_lost_total");
        assert_eq!(lost > 0, when_spent == "memory", "{when_spent}: {lost}");
        assert_eq!(after(&bad.program, "kept", "0-0").1.len(), 60, "{when_spent}");
        // The end has all the budget that it needs.
        bad.program.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(700));
        let again = bad.ring.start(&[]);
        let (is_gap, ids) = after(&again, "kept", "0-0");
        assert_eq!((is_gap, ids.len() as u64), (lost > 0, 60 - lost), "{when_spent}");
    }
}

#[test]
fn a_disk_that_does_not_return_is_told_as_stuck() {
    let bad = Bad::start("stuck-long", &[("DISK_SYNC_MS", "14000")], &[]);
    bad.switch(true);
    publish(bad.program.address, "kept", "one");
    let is_told = || bad.program.logged("store stuck") == 1;
    assert!(comes_within(Duration::from_secs(13), is_told), "{:#?}", bad.program.lines());
    assert_eq!(bad.figure("heartwheel_store_stuck"), 1);
    publish(bad.program.address, "kept", "two");
    bad.switch(false);
    let goes_on = || bad.program.logged("store goes on") == 1;
    assert!(comes_within(PATIENCE, goes_on), "{:#?}", bad.program.lines());
    assert_eq!(bad.figure("heartwheel_store_stuck"), 0);
}
