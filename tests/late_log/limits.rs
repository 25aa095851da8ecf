//! What waits for the log is bounded, by connection and in all, and counted.

use crate::common::world::*;
use crate::log::*;

const LOG_BYTES: &str = r#"heartwheel_memory_bytes{kind="log"}"#;

#[test]
fn a_connection_with_as_much_to_be_answered_as_it_may_have_is_not_read_from() {
    let mut late = Late::new(&[("limits.inbox_messages", "3"), ("limits.inbox_bytes", "1m")]);
    for path in ["/ws", "/topics/a"] {
        let mut client = late.world.open(path);
        for payload in ["1", "2", "3", "4", "5"] {
            match path {
                "/ws" => late.publish(&mut client, "a", payload),
                _ => client.say(payload),
            }
        }
        assert_eq!(late.waiting(), ["1", "2", "3"], "{path}");
        late.answer("2");
        late.answer("3");
        assert_eq!(late.waiting(), ["1"], "{path}: two answers wait for the first");
        late.answer("1");
        assert_eq!(late.waiting(), ["4", "5"], "{path}");
        late.refuse("5");
        late.answer("4");
    }
}

#[test]
fn a_connection_that_is_not_read_from_goes_on_when_the_log_is_late() {
    let mut late = Late::new(&[("limits.inbox_messages", "1")]);
    let mut plain = late.world.open("/topics/a");
    plain.say("1");
    plain.say("2");
    assert_eq!(late.waiting(), ["1"]);
    late.world.pass(DEADLINE + TICK, std::slice::from_mut(&mut plain));
    assert_eq!(late.waiting(), ["1", "2"]);
    assert_eq!(late.world.server.connections(), 1);
}

#[test]
fn more_than_may_wait_is_unavailable_at_once() {
    const MOST: usize = 4096;
    let mut late = Late::new(&[]);
    let handle = late.world.server.handle();
    for nth in 0..MOST {
        handle.publish("a", nth.to_string()).unwrap();
        late.settle();
    }
    assert_eq!(late.taken.len(), MOST);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "hub");
    let mut post = late.post("a", "post");
    assert_eq!(late.hear(&mut hub), ["unavailable hub"]);
    let busy = "the log has too much to answer: it was not published\n";
    assert_eq!(answers(&mut post), [format!("503 {busy}")]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 2);
    late.answer("17");
    late.publish(&mut hub, "a", "again");
    late.answer("again");
    assert_eq!(late.hear(&mut hub), ["published again"]);
    // All of it is given up in time, and then there is room.
    late.world.until("all are given up", |server| {
        server.stats().publishes_unavailable == 2 + MOST as u64 - 1
    });
    assert!(late.figure(LOG_BYTES) < 1000, "{}", late.figure(LOG_BYTES));
}

#[test]
fn their_bytes_are_counted_and_bounded_by_the_memory_budget() {
    let mut late = Late::new(&[("limits.memory_bytes", "4m")]);
    let handle = late.world.server.handle();
    for nth in 0..20_u64 {
        handle.publish("a", format!("{nth}{}", "x".repeat(100_000))).unwrap();
        late.settle();
    }
    // A quarter of the budget.
    assert_eq!(late.taken.len(), 10);
    let bytes = late.figure(LOG_BYTES);
    assert!((1_000_000..=1 << 20).contains(&bytes), "{bytes}");
    assert_eq!(late.world.server.stats().publishes_unavailable, 10);
    late.world.pass(DEADLINE + TICK, &mut []);
    assert_eq!(late.figure(LOG_BYTES), 0);
    assert_eq!(late.world.server.stats().publishes_unavailable, 20);
}

#[test]
fn a_long_ref_counts_for_its_connection() {
    let mut late = Late::new(&[("limits.inbox_bytes", "64k")]);
    let mut hub = late.hub(&[]);
    let long = "r".repeat(40_000);
    for payload in ["1", "2", "3"] {
        hub.say(&format!(r#"{{"op":"publish","topic":"a","ref":"{long}","data":"{payload}"}}"#));
        late.settle();
    }
    assert_eq!(late.waiting(), ["1", "2"]);
    late.answer("1");
    assert_eq!(late.waiting(), ["2", "3"]);
    late.answer("2");
    late.answer("3");
    assert_eq!(late.hear(&mut hub).len(), 3);
    assert!(late.figure(LOG_BYTES) < 1000);
}
