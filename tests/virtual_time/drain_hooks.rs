//! What the application does when a drain begins: within the drain's time, in order, and never
//! longer.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use heartwheel::{Ended, ManualClock, MemoryNetwork, SendError};

use crate::common::server::config;
use crate::common::timing::eventually;
use crate::common::world::*;

#[test]
fn hooks_run_in_order_when_the_drain_begins_and_one_that_panics_is_counted() {
    let (outlet, inlet) = mpsc::channel();
    let noted = outlet.clone();
    let builder = routes().with_handle(move |handle| {
        handle.on_drain(move || noted.send("first").unwrap()).unwrap();
        handle.on_drain(|| panic!("the second")).unwrap();
    });
    let mut world = World::new(&[], builder);
    let handle = world.server.handle();
    let noted = outlet.clone();
    handle.on_drain(move || noted.send("third").unwrap()).unwrap();
    world.settle();
    assert!(inlet.try_recv().is_err(), "no drain has begun");
    handle.drain().unwrap();
    world.settle();
    assert_eq!(inlet.try_iter().collect::<Vec<_>>(), ["first", "third"]);
    assert_eq!(world.server.stats().handler_panics, 1);
    assert!(world.server.is_over());
}

#[test]
fn a_hook_of_a_drain_that_has_begun_runs_at_once_and_there_are_sixteen_at_most() {
    let mut world = World::new(&[], routes());
    let mut client = [world.open("/echo")];
    let handle = world.server.handle();
    for _ in 0..16 {
        handle.on_drain(|| {}).unwrap();
    }
    assert_eq!(handle.on_drain(|| unreachable!()).unwrap_err(), SendError::Hooks);
    handle.drain().unwrap();
    world.settle();
    let (outlet, inlet) = mpsc::channel();
    handle.on_drain(move || outlet.send(()).unwrap()).unwrap();
    world.settle();
    assert_eq!(inlet.try_recv(), Ok(()));
    world.pass(MINUTE, &mut client);
    assert!(world.server.is_over());
}

#[test]
fn the_drain_waits_for_a_hook_and_not_for_ever() {
    for is_stuck in [false, true] {
        let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
        let pairs = [("workers", "1"), ("deadlines.drain", "10s")];
        let builder = routes().config(config(&pairs)).clock(clock.clone());
        let server = builder.listen_memory(&network).unwrap();
        let handle = server.handle();
        let (begun, is_begun) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let hook = move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
        };
        handle.on_drain(hook).unwrap();
        let serving = thread::spawn(move || server.run().unwrap());
        handle.drain().unwrap();
        is_begun.recv().unwrap();
        // No connection is left, and the hook runs: the drain's time is not over.
        clock.advance(Duration::from_secs(9));
        thread::sleep(Duration::from_millis(20));
        assert!(!serving.is_finished());
        match is_stuck {
            false => go_on.send(()).unwrap(),
            true => eventually("the drain's time is over", || {
                clock.advance(SECOND);
                serving.is_finished()
            }),
        }
        assert_eq!(serving.join().unwrap(), Ended::Drained);
        drop(go_on);
    }
}
