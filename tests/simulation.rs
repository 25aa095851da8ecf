//! The whole engine in a world made of a seed: no thread, no socket, no clock.
//!
//! The turn is production's own ([`heartwheel::core::engine::Engine::turn`]), and so is the pump;
//! the sockets, the listeners, the workers and the time are made here. Every fourth seed goes over
//! a transport that behaves as TLS does. Honest peers are real tungstenite clients (with the
//! feature `client` every second one is a client of ours; with the feature `deflate` compression is
//! on in every second seed, and most WebSockets offer it; with the feature `cbor` every second
//! peer of `/ws` speaks CBOR), dishonest ones follow scripts, the application is slow, closes,
//! panics and talks to peers that are gone. First faults fall on everything, and nothing wrong may
//! happen; then they stop, and everything right must happen in time.
//!
//! `SEED=7` runs one seed and tells its story (`STEPS=1000`: so much of it), `ROUNDS=20000` runs
//! many, `FROM=2000` others than the first, `THREADS=4` so many at a time. `DIGEST=1` prints a hash
//! of every turn of each seed: a change that is to change no behaviour leaves all of them equal.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;

mod common;

#[path = "simulation/application.rs"]
mod application;
#[path = "simulation/chunking.rs"]
mod chunking;
#[path = "simulation/client_end.rs"]
mod client_end;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/hooks.rs"]
mod hooks;
#[path = "simulation/invariants.rs"]
mod invariants;
#[path = "simulation/journal.rs"]
mod journal;
#[path = "simulation/late_log.rs"]
mod late_log;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/link.rs"]
mod link;
#[cfg(feature = "client")]
#[path = "simulation/ours.rs"]
mod ours;
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
#[path = "simulation/sealed.rs"]
mod sealed;
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

use common::{chunked, window};
use plan::Upheaval;
use world::{Run, Variant};

#[test]
fn no_fault_makes_it_break_its_word() {
    run_all(Variant::Plain, 2000);
}

/// The events are kept by a log that answers late, out of step, or never.
#[test]
fn no_fault_makes_it_break_its_word_with_a_late_log() {
    run_all(Variant::LateLog, 500);
}

/// Hooks of the application decide on what is published.
#[test]
fn no_fault_makes_it_break_its_word_with_hooks() {
    run_all(Variant::Hooks, 500);
}

fn run_all(variant: Variant, rounds: u64) {
    if let Some(seed) = number("SEED") {
        run(seed, variant);
        return;
    }
    let from = number("FROM").unwrap_or(0);
    let seeds = from..from + number("ROUNDS").unwrap_or(rounds);
    let next = Mutex::new(seeds.clone());
    let broken = Mutex::new(Vec::new());
    let prints = number("DIGEST").is_some() && variant == Variant::Plain;
    let runs = || {
        while let Some(seed) = next.lock().unwrap().next() {
            match catch_unwind(|| run(seed, variant)) {
                Ok(digest) if prints => println!("digest seed={seed} {digest:016x}"),
                Ok(_) => {}
                Err(_) => broken.lock().unwrap().push(seed),
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
        let variant = [Variant::Plain, Variant::LateLog, Variant::Hooks][seed as usize % 3];
        assert_eq!(run(seed, variant), run(seed, variant), "SEED={seed}");
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
fn run(seed: u64, variant: Variant) -> u64 {
    let mut run = Run::new(seed, variant);
    let result = catch_unwind(AssertUnwindSafe(|| {
        suffer(&mut run);
        recover(&mut run);
        end(&mut run);
    }));
    let world = &run.world;
    if let Err(panic) = result {
        eprintln!("{}SEED={seed} t={} {:?}", world.story(), world.now - world.began, world.plan);
        resume_unwind(panic);
    }
    world.digest
}

/// Safety: faults fall, and nothing wrong happens.
fn suffer(run: &mut Run) {
    let until = run.world.began + run.world.plan.faults_ms;
    while run.world.now < until {
        run.step(until);
        run.check();
        if run.turns().is_multiple_of(50) {
            run.check_rest();
        }
    }
}

/// Liveness: the faults have stopped, and each honest peer is served, in bounded time.
fn recover(run: &mut Run) {
    run.world.calm_down();
    run.world.expect_exchanges();
    step_until(run, |run| run.world.has_exchanged());
    assert!(run.world.has_exchanged(), "an honest peer is not served: {}", run.world.unserved());
    if !run.world.plan.has_topics() {
        return;
    }
    // FAULTS 179: nothing more is published, and yet each loss is told when the outbox has drained.
    step_until(run, |run| run.world.untold_subscriber().is_none());
    let untold = run.world.untold_subscriber();
    assert!(untold.is_none(), "a subscriber is not told of its loss: {untold:?}");
    if run.world.log.is_some() {
        // What the log has swallowed is given up, so that there is room for the last.
        let until = run.world.now + run.world.give_up_ms();
        step_until(run, |run| run.world.now >= until);
    }
    let dropped = run.events_dropped();
    run.publish_last();
    let unserved = |run: &Run| run.world.unserved_subscriber(run.events_dropped() > dropped);
    step_until(run, |run| unserved(run).is_none());
    let unserved = unserved(run);
    assert!(unserved.is_none(), "a subscriber does not hear: {unserved:?}");
}

/// Everything ends: the honest say goodbye, the others have had their time.
fn end(run: &mut Run) {
    run.world.say_goodbye();
    step_until(run, Run::is_idle);
    assert!(run.is_idle(), "connections outlive their deadlines: {}", run.world.survivors());
    if run.world.plan.upheaval == Upheaval::Drain {
        run.step(run.world.now + run.world.patience_ms());
    }
    run.check_end();
}

/// Goes on until something is so, for as long as it may take at the most.
fn step_until(run: &mut Run, is_so: impl Fn(&Run) -> bool) {
    let until = run.world.now + run.world.patience_ms();
    while run.world.now < until && !is_so(run) {
        run.step(until);
        run.check();
    }
}
