//! Many nodes on a model of Redis, in a time of the test's own: the real engine, the real follower
//! and the real codec, whose threads are steps of the test. Nodes die and return, Redis is away,
//! the log is trimmed past a node, and a stale replica becomes the master. What subscribers get is
//! held against what the log has taken: each event once, in one order, and what is missing behind a
//! gap.
//!
//! Prints what a node costs. `LONG=1` has 10 nodes with 10,000 connections each, `ROUNDS` and
//! `SEED` are as elsewhere.

mod common;

#[path = "nodes/clients.rs"]
mod clients;
#[path = "nodes/memory.rs"]
mod memory;
#[path = "nodes/node.rs"]
mod node;
#[path = "nodes/redis.rs"]
mod redis;
#[path = "nodes/run.rs"]
mod run;
#[path = "nodes/wires.rs"]
mod wires;

use std::env;
use std::time::{Duration, Instant};

use common::rng::Rng;
use node::Cost;
use run::{Run, Sizes, per};

const SMALL: Sizes =
    Sizes { nodes: 3, connections: 12, topics: 4, publishers: 2, every: 40, retain: 150 };

const LARGE: Sizes =
    Sizes { nodes: 10, connections: 10_000, topics: 100, publishers: 10, every: 95, retain: 3000 };

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

// FAULTS 280, 281, 282, 283, 285: in any order, and some together.
#[test]
fn nothing_is_missing_untold_and_nothing_comes_twice_whatever_happens_to_the_nodes() {
    let first = number("SEED", 1);
    let (mut gaps, mut lost, mut again, mut repeated, mut events) = (0, 0, 0, 0, 0);
    let rounds = number("ROUNDS", 4);
    for seed in first..first + rounds {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed ^ 0x0de5);
        let mut run = Run::new(seed, SMALL);
        run.until("all are live", 20_000, Run::are_all_live);
        run.says = |_, _| true;
        run.cuts = rng.below(3) * 10;
        run.pass(1000);
        for number in 0..4 {
            let index = rng.below(SMALL.nodes as u64) as usize;
            match rng.below(5) {
                0 => run.node_dies(index),
                1 => run.redis_is_away(500 + rng.below(10_000)),
                2 => drop(run.trimmed(index, 6000)),
                3 => lost += run.stale_replica(1 + rng.below(1500), &format!("replica-{number}")),
                _ => {
                    // While Redis is away a node dies, and another one reads nothing for long.
                    run.is_reachable = false;
                    run.pass(rng.below(500));
                    run.node_dies((index + 1) % SMALL.nodes);
                    run.is_reachable = true;
                    run.pass(500);
                    run.trimmed(index, 6000);
                }
            }
        }
        run.settle();
        (gaps, again) = (gaps + run.gaps(), again + run.truth.again);
        events += run.truth.events;
        repeated += run.costs().iter().map(|cost| cost.repeated).sum::<u64>();
    }
    println!(
        "{rounds} runs: {events} events, {gaps} gaps told, {lost} events lost by failovers, \
         {repeated} repetitions known, {again} published again after a loss"
    );
}

#[test]
fn each_fault_is_told_where_it_happened_and_nowhere_else() {
    let mut run = Run::new(7, SMALL);
    faults(&mut run);
}

/// Each fault alone, and what it may tell.
fn faults(run: &mut Run) {
    run.until("all are live", 60_000, Run::are_all_live);
    run.says = |_, _| true;
    run.pass(1000);
    assert_eq!(run.gaps(), 0, "nothing has happened");
    let (began, before) = (run.now, run.delivered());
    run.node_dies(1);
    let span = run.now - began;
    let events = run.delivered() - before;
    println!("a node died and came back: {events} events came in {span} ms, {} gaps", run.gaps());
    assert_eq!(run.gaps(), 0, "its clients went on where they were");
    run.redis_is_away(10_000);
    println!("Redis was away for 10 s: {} gaps", run.gaps());
    assert_eq!(run.gaps(), 0);
    let told = run.trimmed(2, 6000);
    let there = run.subscribers.iter().filter(|one| one.home == 2 && one.gaps > 0).count();
    let elsewhere = run.subscribers.iter().filter(|one| one.home != 2 && one.gaps > 0).count();
    println!(
        "trimmed past a node {told} times: {there} clients of it were told, {elsewhere} others"
    );
    assert!(told > 0 && elsewhere == 0);
    assert_eq!(there, run.sizes.connections);
    let before = run.gaps();
    let lost = run.stale_replica(400, "stale");
    let told = run.gaps() - before;
    println!("a stale replica lost {lost} events: {told} clients were told");
    assert!(lost > 0);
    assert_eq!(told, (run.sizes.nodes * run.sizes.connections) as u64);
    run.settle();
}

/// What a node costs: `LONG=1 cargo test --release --features cluster --test nodes cost --
/// --nocapture`.
#[test]
fn what_a_node_costs_is_told() {
    let is_long = number("LONG", 0) > 0;
    let sizes = if is_long { LARGE } else { Sizes { connections: 100, ..SMALL } };
    let began = Instant::now();
    let mut run = Run::new(1, Sizes { retain: 100_000, ..sizes });
    let Sizes { nodes, connections, topics, publishers, .. } = sizes;
    println!(
        "{nodes} nodes, each with {connections} subscribers of {topics} topics and {publishers} \
         publishers"
    );
    let empty: Vec<isize> = (0..nodes).map(|index| memory::live(index + 1)).collect();
    run.until("all are live", 120_000, Run::are_all_live);
    run.pass(1000);
    let full: Vec<isize> = (0..nodes).map(|index| memory::live(index + 1)).collect();
    let of_one = (full[1] - empty[1]) / run.node(1).connections() as isize;
    println!(
        "memory: a node without connections {} kB, with {} of them {} kB: {of_one} bytes each",
        empty[1] / 1000,
        run.node(1).connections(),
        full[1] / 1000
    );

    // One node publishes, to a topic that nobody reads: others read it all the same.
    run.topics = topics..topics + 1;
    let span = if is_long { 5000 } else { 1000 };
    let (read, publish) = reading(&mut run, span);
    println!(
        "CPU: {read:.1} us for an event that a node reads, {publish:.1} us more where it is \
         published"
    );
    // The same to topics with subscribers.
    run.topics = 0..topics;
    let deliver = delivering(&mut run, span, read);
    println!("CPU: {deliver:.2} us for an event that a node delivers to one subscriber");
    // All publish.
    run.says = |_, _| true;
    let (before, began_at) = (run.costs(), run.now);
    let delivered = run.delivered();
    run.pass(4 * span);
    let seconds = (run.now - began_at) as f64 / 1000.0;
    let of = |field: fn(&Cost) -> u64| {
        let sum = |costs: &[Cost]| costs.iter().map(field).sum::<u64>();
        (sum(&run.costs()) - sum(&before)) as f64 / seconds / nodes as f64
    };
    let cpu: Duration =
        run.costs().iter().zip(&before).map(|(now, before)| now.cpu - before.cpu).sum();
    println!(
        "all publish: {:.0} events a second, {:.0} deliveries a second on each node, \
         {:.0}% of a core",
        of(|cost| cost.published) * nodes as f64,
        (run.delivered() - delivered) as f64 / seconds / nodes as f64,
        cpu.as_secs_f64() / seconds / nodes as f64 * 100.0
    );
    println!(
        "Redis, for each node: {:.0} commands a second, {:.0} kB to it, {:.0} kB from it",
        of(|cost| cost.commands),
        of(|cost| cost.to_redis) / 1000.0,
        of(|cost| cost.from_redis) / 1000.0
    );
    let kept: Vec<isize> = (0..nodes).map(|index| memory::live(index + 1)).collect();
    println!("memory: {} kB of a node with the events that it retains", kept[1] / 1000);
    println!("Redis keeps {} entries", run.redis.entries());
    assert_eq!(run.gaps(), 0);
    run.settle();
    println!("{:?}", began.elapsed());
    if is_long {
        let mut run = Run::new(1, sizes);
        faults(&mut run);
        println!("with all faults {:?}", began.elapsed());
    }
    assert!(of_one < 4000, "{of_one} bytes for a connection");
}

/// Has node 0 alone publish. Returns what an event costs a node that only reads it, and what it
/// costs more where it is published, in microseconds.
fn reading(run: &mut Run, ms: u64) -> (f64, f64) {
    run.says = |run, place| run.publishers[place].home == 0;
    let before = run.costs();
    run.pass(ms);
    run.says = |_, _| false;
    run.pass(200);
    let after = run.costs();
    let cost = |index: usize| {
        let (now, before): (&Cost, &Cost) = (&after[index], &before[index]);
        per(now.cpu - before.cpu, now.read - before.read)
    };
    let read = (1..after.len()).map(cost).sum::<f64>() / (after.len() - 1) as f64;
    (read, cost(0) - read)
}

/// The same with subscribers. Returns what each delivery costs a node that only reads.
fn delivering(run: &mut Run, ms: u64, read: f64) -> f64 {
    run.says = |run, place| run.publishers[place].home == 0;
    let (before, delivered) = (run.costs(), run.delivered());
    run.pass(ms);
    run.says = |_, _| false;
    run.pass(200);
    let after = run.costs();
    let others = (after.len() - 1) as f64;
    let cpu: f64 = (1..after.len())
        .map(|index| (after[index].cpu - before[index].cpu).as_secs_f64() * 1e6)
        .sum();
    let events: u64 = (1..after.len()).map(|index| after[index].read - before[index].read).sum();
    let deliveries = (run.delivered() - delivered) as f64 * others / after.len() as f64;
    (cpu - events as f64 * read) / deliveries
}
