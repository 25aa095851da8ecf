//! A log that goes away, comes back, and begins anew: each subscriber is told a gap, and a
//! publication that the log has had before is answered with its id.

use heartwheel::core::contract::backbone::{Logged, Publication};
use heartwheel::topics::EventId;

use crate::common::world::*;
use crate::log::*;

fn begun() -> EventId {
    EventId::new(2_000_000_000_001, 78)
}

// FAULTS 280.
#[test]
fn all_subscribers_are_told_a_gap_when_the_log_begins_anew() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a", "b"]);
    let mut own = late.hub(&["$stats"]);
    let mut stream =
        late.world.send(b"GET /events?topic=a&topic=b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    late.settle();
    late.give(None, "a", "one");
    assert_eq!(late.hear(&mut hub), ["event one"]);
    late.say(Logged::Renewed(begun()));
    let told = ["gap", "subscribed", "gap", "subscribed"];
    assert_eq!(late.hear(&mut hub), told);
    assert_eq!(late.hear(&mut own), [""; 0]);
    let next = EventId::new(2_000_000_000_002, 78);
    let (topic, content) = ("a".parse().unwrap(), "two".into());
    late.say(Logged::Event { ticket: None, id: next, topic, content });
    assert_eq!(late.hear(&mut hub), ["event two"]);
    let streamed = text(&read_all(&mut stream).0);
    let gaps = streamed.matches("event: gap").count();
    assert_eq!(gaps, 2, "{streamed}");
    assert!(streamed.rfind("event: gap") < streamed.find("two"), "{streamed}");
    let id = id(1);
    let asked = format!("GET /topics/a?after={id} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let resumed = late.world.ask(&asked);
    assert!(resumed.contains("Gap: "), "{resumed}");
    assert!(resumed.contains("two") && !resumed.contains("one"), "{resumed}");
    late.settle();
    assert!(late.world.server.next_timeout() > Some(std::time::Duration::ZERO));
}

#[test]
fn what_the_log_has_had_before_is_answered_with_its_id() {
    let mut late = Late::new(&[]);
    let mut peer = late.post("a", "one");
    let Publication { ticket, .. } = late.take("one");
    late.say(Logged::Repeated(ticket, id(3)));
    assert_eq!(answers(&mut peer), [published(&id(3).to_string())]);
    assert_eq!(late.world.server.stats().publishes_repeated, 1);
    late.say(Logged::Repeated(ticket, id(3)));
    assert_eq!(late.world.server.stats().publishes_repeated, 1, "it was answered");
}

#[test]
fn what_nobody_can_know_is_told_as_that() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "one");
    let Publication { ticket, .. } = late.take("one");
    let mut peer = late.post("a", "two");
    let Publication { ticket: second, .. } = late.take("two");
    late.say(Logged::Unknown(ticket));
    late.say(Logged::Unknown(second));
    assert_eq!(late.hear(&mut hub), ["unavailable one"]);
    let words = "the log has not answered in time: it may be published all the same\n";
    assert_eq!(answers(&mut peer), [format!("503 {words}")]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 2);
}

// FAULTS 283.
#[test]
fn a_log_that_is_away_for_long_is_told_where_it_is_asked_whether_more_are_welcome() {
    let mut late = Late::new(&[("cluster.grace", "3s")]);
    let ready = |late: &mut Late| {
        late.world
            .ask("GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .get(9..12)
            .map(String::from)
    };
    assert_eq!(ready(&mut late).as_deref(), Some("200"));
    for _ in 0..2 {
        late.say(Logged::Reached(false));
        late.world.pass(SECOND, &mut []);
    }
    assert_eq!(ready(&mut late).as_deref(), Some("200"));
    late.world.pass(SECOND, &mut []);
    assert_eq!(ready(&mut late).as_deref(), Some("503"));
    late.say(Logged::Reached(true));
    assert_eq!(ready(&mut late).as_deref(), Some("200"));
}
