//! Each kind of publisher gets the answer that it would get from a log that answers at once.

use std::io::Write;

use heartwheel::{Payload, SendError};

use crate::common::world::*;
use crate::log::*;

#[test]
fn a_post_is_answered_and_its_event_delivered_when_the_log_has_answered() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    let mut peer = late.post("a", "one");
    late.world.pass(DEADLINE - 2 * TICK, &mut []);
    assert_eq!(late.waiting(), ["one"]);
    assert_eq!(answers(&mut peer), [""; 0]);
    assert_eq!(late.hear(&mut hub), [""; 0], "nothing is delivered that the log has not taken");
    assert_eq!(
        late.world.ask("GET /topics/a HTTP/1.0\r\nHost: localhost\r\n\r\n").get(9..12),
        Some("204")
    );
    let id = late.answer("one");
    assert_eq!(answers(&mut peer), [published(&id)]);
    assert_eq!(late.hear(&mut hub), ["event one"]);
    assert_eq!(late.world.server.stats().messages_posted, 1);
    // The connection is kept, and its deadline is that of the next request.
    late.world.pass(3 * SECOND, &mut []);
    peer.write_all(request("a", "two").as_bytes()).unwrap();
    let id = late.answer("two");
    assert_eq!(answers(&mut peer), [published(&id)]);
}

#[test]
fn pipelined_posts_are_answered_in_the_order_of_asking() {
    let mut late = Late::new(&[]);
    let (first, second) = (request("a", "one"), request("b", "two"));
    let mut peer = late.world.send(format!("{first}{second}").as_bytes());
    assert_eq!(late.waiting(), ["one"], "the second is read when the first is answered");
    let one = late.answer("one");
    assert_eq!(late.waiting(), ["two"]);
    let two = late.answer("two");
    assert_eq!(answers(&mut peer), [published(&one), published(&two)]);
}

#[test]
fn a_post_whose_client_has_ended_its_side_is_answered() {
    let mut late = Late::new(&[]);
    let mut peer = late.post("a", "one");
    peer.shut_down();
    late.settle();
    let id = late.answer("one");
    assert_eq!(answers(&mut peer), [published(&id)]);
    assert_eq!(late.world.server.connections(), 0);
}

#[test]
fn a_websocket_of_a_topic_publishes_and_gets_its_own_events_from_the_log() {
    let mut late = Late::new(&[]);
    let mut peer = late.world.open("/topics/a");
    peer.say("one");
    peer.say("two");
    assert_eq!(late.waiting(), ["one", "two"]);
    peer.attend(late.world.clock.elapsed());
    assert!(peer.messages.is_empty());
    late.answer("two");
    late.answer("one");
    peer.attend(late.world.clock.elapsed());
    let texts: Vec<_> = peer.messages.iter().map(|one| one.to_text().unwrap()).collect();
    assert_eq!(texts, ["two", "one"], "the order is the log's");
}

#[test]
fn the_handle_publishes_through_the_log() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    let handle = late.world.server.handle();
    handle.publish("a", "one").unwrap();
    handle.publish("a", "two").unwrap();
    assert_eq!(handle.publish("no blanks", "three"), Err(SendError::Topic));
    assert_eq!(late.waiting(), ["one", "two"]);
    late.answer("two");
    late.refuse("one");
    assert_eq!(late.hear(&mut hub), ["event two"]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 1);
}

#[test]
fn what_others_have_published_to_the_log_is_delivered() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    late.give(None, "a", Payload::text("from elsewhere"));
    assert_eq!(late.hear(&mut hub), ["event from elsewhere"]);
}

#[test]
fn the_servers_own_topics_are_in_no_log_and_keep_the_order() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["$stats", "a"]);
    let mut ids = Vec::new();
    for nth in 0..5 {
        late.give(None, "a", Payload::text(nth.to_string()));
        late.world.pass(SECOND, std::slice::from_mut(&mut hub));
    }
    assert_eq!(late.waiting(), [""; 0]);
    for message in std::mem::take(&mut hub.messages) {
        let text = message.to_text().unwrap().to_owned();
        let id = crate::common::topics::find_member(&text, "id").unwrap_or_default().to_owned();
        ids.extend(id.parse::<heartwheel::topics::EventId>().ok());
    }
    assert!(ids.len() >= 10, "{ids:?}");
    assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
}
