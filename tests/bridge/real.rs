//! Processes over TCP: boxes with a store and a hub, killed in every order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::program::Program;
use crate::common::timing::{PATIENCE, comes_within};
use crate::common::topics::{fetch, publish};

/// A box, which may be started again with what its flash has.
struct Node {
    name: &'static str,
    ring: PathBuf,
    program: Option<Program>,
    hub: SocketAddr,
}

impl Node {
    fn new(name: &'static str, hub: SocketAddr) -> Node {
        let file = format!("{}-{name}.ring", std::process::id());
        let ring = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        let _ = std::fs::remove_file(&ring);
        let mut node = Node { name, ring, program: None, hub };
        node.start();
        node
    }

    fn start(&mut self) {
        let url = format!("ws://{}/ws", self.hub);
        let out = format!("kept.* -> {}.{{topic}}", self.name);
        let back = format!("cmd.{} -> kept.cmd", self.name);
        let settings = [
            ("store.file", self.ring.to_str().unwrap()),
            ("store.topics", "kept.*"),
            ("store.ack", "flash"),
            ("store.sync", "10ms"),
            ("bridge.hub.url", &url),
            ("bridge.hub.out", &out),
            ("bridge.hub.in", &back),
            ("client.delay", "10ms"),
            ("client.delay_max", "100ms"),
        ];
        self.program = Some(Program::start(&settings));
    }

    fn kill(&mut self) {
        let mut program = self.program.take().expect("it runs");
        program.signal(Signal::KILL);
        program.wait_exit();
    }

    fn address(&self) -> SocketAddr {
        self.program.as_ref().expect("it runs").address
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for what in ["", ".new", ".damaged"] {
            let _ = std::fs::remove_file(format!("{}{what}", self.ring.display()));
        }
    }
}

fn hub(listen: &str) -> Program {
    let ring =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-hub.ring", std::process::id()));
    let ring = ring.to_str().unwrap().to_owned();
    let settings = [
        ("listen", listen),
        ("store.file", &*ring),
        ("store.topics", "*"),
        ("store.ack", "flash"),
        ("store.sync", "10ms"),
        ("topics.retain_events", "5000"),
    ];
    Program::start(&settings)
}

/// The texts of a topic's events, in their order.
fn texts(address: SocketAddr, topic: &str) -> Vec<String> {
    let answer = fetch(address, &format!("/topics/{topic}?after=0-0"));
    let text = answer.text().to_owned();
    let values = text.split("\"data\":\"").skip(1);
    values.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn counts(texts: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    texts.iter().for_each(|text| *counts.entry(text.as_str()).or_default() += 1);
    counts
}

/// FAULTS 231: three boxes and one hub. Whichever is killed, in every order and with events on
/// their way: the hub ends with all that the boxes have acknowledged from flash, and the boxes with
/// all of the hub.
#[test]
fn a_tree_of_boxes_ends_whole_whoever_is_killed() {
    let mut top = hub("127.0.0.1:0");
    let address = top.address;
    let listen = address.to_string();
    let mut boxes = ["one", "two", "three"].map(|name| Node::new(name, address));
    let (mut sent, mut ordered) = (0, 0);
    for round in 0..9 {
        for node in &boxes {
            for nth in 0..10 {
                publish(node.address(), "kept.a", &format!("{round}.{nth}"));
            }
        }
        sent += 10;
        match round % 3 {
            0 => {
                boxes[round / 3].kill();
                boxes[round / 3].start();
            }
            1 => {
                top.signal(Signal::KILL);
                top.wait_exit();
                for node in &boxes {
                    publish(node.address(), "kept.a", &format!("{round}.away"));
                }
                sent += 1;
                boxes[round / 3].kill();
                boxes[round / 3].start();
                top = hub(&listen);
            }
            _ => {
                for node in &boxes {
                    publish(address, &format!("cmd.{}", node.name), &format!("{round}.cmd"));
                }
                ordered += 1;
                boxes.iter_mut().for_each(Node::kill);
                boxes.iter_mut().for_each(Node::start);
            }
        }
    }
    for node in &boxes {
        let topic = format!("{}.kept.a", node.name);
        let is_there = comes_within(PATIENCE + Duration::from_secs(10), || {
            counts(&texts(address, &topic)).len() == sent
                && counts(&texts(node.address(), "kept.cmd")).len() == ordered
        });
        let (all, orders) = (texts(address, &topic), texts(node.address(), "kept.cmd"));
        assert!(is_there, "{topic}: {sent} {all:?} {ordered} {orders:?}");
        // No more than a window comes again with each kill of the box or of the hub.
        assert!(all.len() - sent <= 20 * 8, "{}", all.len());
        let first = |wanted: &&str| all.iter().position(|text| text == wanted);
        let firsts: Vec<&str> = counts(&all).into_keys().collect();
        assert!(firsts.is_sorted_by_key(|text| first(text).map(|_| text.to_owned())));
        // Behind a crash a box does not know of what it took last that it came from the hub.
        let back = texts(address, &format!("{}.kept.cmd", node.name));
        assert!(back.iter().all(|text| orders.contains(text)) && back.len() < 9, "{back:?}");
    }
}
