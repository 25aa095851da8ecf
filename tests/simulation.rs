//! The whole engine in a world made of a seed: no thread, no socket, no clock.
//!
//! The production [`heartwheel::pump`] moves bytes between the engine and fake sockets; a fake loop
//! drives it in the order of the real one. Honest peers are real tungstenite clients, dishonest
//! ones follow scripts, the application is slow, closes, panics and talks to peers that are gone.
//! First faults fall on everything, and nothing wrong may happen; then they stop, and everything
//! right must happen in time.
//!
//! `SEED=7` runs one seed and tells its story (`STEPS=1000`: so much of it), `ROUNDS=20000` runs
//! many, `FROM=2000` others than the first, `THREADS=4` so many at a time.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;

mod common;

#[path = "simulation/application.rs"]
mod application;
#[path = "support/chunked.rs"]
mod chunked;
#[path = "simulation/chunking.rs"]
mod chunking;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/invariants.rs"]
mod invariants;
#[path = "simulation/journal.rs"]
mod journal;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/requests.rs"]
mod requests;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/scripted.rs"]
mod scripted;
#[path = "simulation/server_end.rs"]
mod server_end;
#[path = "simulation/settings.rs"]
mod settings;
#[path = "simulation/sockets.rs"]
mod sockets;
#[path = "simulation/telling.rs"]
mod telling;
#[path = "simulation/topical.rs"]
mod topical;
#[path = "simulation/turn.rs"]
mod turn;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/witness.rs"]
mod witness;
#[path = "simulation/world.rs"]
mod world;

use plan::Upheaval;
use world::World;

#[test]
fn no_fault_makes_it_break_its_word() {
    if let Some(seed) = number("SEED") {
        run(seed);
        return;
    }
    let from = number("FROM").unwrap_or(0);
    let seeds = from..from + number("ROUNDS").unwrap_or(2000);
    let next = Mutex::new(seeds.clone());
    let broken = Mutex::new(Vec::new());
    let runs = || {
        while let Some(seed) = next.lock().unwrap().next() {
            if catch_unwind(|| run(seed)).is_err() {
                broken.lock().unwrap().push(seed);
            }
            if broken.lock().unwrap().len() >= BROKEN_MAX {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..number("THREADS").unwrap_or(2) {
            scope.spawn(runs);
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "of {seeds:?} these break: {broken:?}");
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "SEED={seed}");
    }
}

#[test]
fn however_the_bytes_are_cut_the_events_are_the_same() {
    for seed in 0..300 {
        chunking::compare(seed);
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// After so many broken seeds the others are left.
const BROKEN_MAX: usize = 10;

/// Runs one seed; gives a hash of all that was done.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        suffer(&mut world);
        recover(&mut world);
        end(&mut world);
    }));
    if let Err(panic) = result {
        eprintln!("{}SEED={seed} t={} {:?}", world.story(), world.now - world.began, world.plan);
        resume_unwind(panic);
    }
    world.digest
}

/// Safety: faults fall, and nothing wrong happens.
fn suffer(world: &mut World) {
    let until = world.began + world.plan.faults_ms;
    while world.now < until {
        world.step(until);
        world.check();
        if world.turns().is_multiple_of(50) {
            world.check_rest();
        }
    }
}

/// Liveness: the faults have stopped, and each honest peer is served, in bounded time.
fn recover(world: &mut World) {
    world.calm_down();
    world.expect_exchanges();
    step_until(world, World::has_exchanged);
    assert!(world.has_exchanged(), "an honest peer is not served: {}", world.unserved());
    if !world.plan.has_topics() {
        return;
    }
    // FAULTS 179: nothing more is published, and yet each loss is told when the outbox has drained.
    step_until(world, |world| world.untold_subscriber().is_none());
    let untold = world.untold_subscriber();
    assert!(untold.is_none(), "a subscriber is not told of its loss: {untold:?}");
    let dropped = world.events_dropped();
    world.publish_last();
    step_until(world, |world| world.unserved_subscriber(dropped).is_none());
    let unserved = world.unserved_subscriber(dropped);
    assert!(unserved.is_none(), "a subscriber does not hear: {unserved:?}");
}

/// Everything ends: the honest say goodbye, the others have had their time.
fn end(world: &mut World) {
    world.say_goodbye();
    step_until(world, World::is_idle);
    assert!(world.is_idle(), "connections outlive their deadlines: {}", world.survivors());
    if world.plan.upheaval == Upheaval::Drain {
        world.step(world.now + world.patience_ms());
    }
    world.check_end();
}

/// Goes on until something is so, for as long as it may take at the most.
fn step_until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    let until = world.now + world.patience_ms();
    while world.now < until && !is_so(world) {
        world.step(until);
        world.check();
    }
}
