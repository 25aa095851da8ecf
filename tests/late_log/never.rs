//! A log that does not answer: publishers are told in time, and what comes late is delivered.

use std::io::Write;
use std::time::Duration;

use crate::common::world::*;
use crate::log::*;

#[test]
fn publishers_are_told_that_the_log_is_unavailable() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    let mut plain = late.world.open("/topics/a");
    let began_at = late.world.clock.elapsed();
    let mut post = late.post("a", "1");
    late.publish(&mut hub, "a", "2");
    plain.say("3");
    late.settle();
    late.world.server.handle().publish("a", "4").unwrap();
    assert_eq!(late.waiting(), ["1", "2", "3", "4"]);
    let told_at =
        late.world.until("they are told", |server| server.stats().publishes_unavailable == 4);
    let waited = told_at - began_at;
    assert!((DEADLINE..=DEADLINE + TICK).contains(&waited), "{waited:?}");
    late.settle();
    let late_words = "the log has not answered in time: it may be published all the same\n";
    assert_eq!(answers(&mut post), [format!("503 {late_words}")]);
    assert_eq!(late.hear(&mut hub), ["unavailable 2"]);
    assert_eq!(late.figure("heartwheel_publishes_unavailable_total"), 4);
    assert_eq!(late.world.server.connections(), 3, "no connection ends for it");
    // An answer that comes now is for nobody; the event is for all.
    for payload in ["4", "3", "2", "1"] {
        late.answer(payload);
    }
    assert_eq!(answers(&mut post), [""; 0]);
    assert_eq!(late.hear(&mut hub), ["event 4", "event 3", "event 2", "event 1"]);
    plain.attend(late.world.clock.elapsed());
    assert_eq!(plain.messages.len(), 4);
    assert_eq!(late.world.server.stats().publishes_unavailable, 4);
    assert_eq!(late.world.server.stats().messages_posted, 0, "nobody was told so");
    assert!(late.world.server.next_timeout() > Some(Duration::ZERO), "nothing is left to do");
}

#[test]
fn an_answer_in_time_is_held_up_by_an_earlier_one_until_that_is_late() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    late.world.pass(SECOND, &mut []);
    late.publish(&mut hub, "a", "2");
    late.answer("2");
    assert_eq!(late.hear(&mut hub), [""; 0]);
    late.world.pass(DEADLINE - SECOND + TICK, &mut []);
    assert_eq!(late.hear(&mut hub), ["unavailable 1", "published 2"]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 1);
}

#[test]
fn the_answer_to_a_connection_that_has_ended_is_dropped_and_the_event_is_not() {
    let mut late = Late::new(&[]);
    let mut reader = late.hub(&["a"]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    let mut post = late.post("a", "2");
    hub.socket.get_mut().reset();
    post.reset();
    late.settle();
    assert_eq!(late.world.server.connections(), 1);
    // Other connections in the same slots are answered nothing.
    let mut others = (late.hub(&[]), late.hub(&[]));
    late.answer("2");
    late.answer("1");
    assert_eq!(late.hear(&mut reader), ["event 2", "event 1"]);
    assert_eq!(late.hear(&mut others.0), [""; 0]);
    assert_eq!(late.hear(&mut others.1), [""; 0]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 0);
}

#[test]
fn nothing_follows_a_close_frame() {
    let mut late = Late::new(&[("limits.pings_per_second", "1")]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    hub.socket.get_mut().write_all(&[0x89, 0x80, 0, 0, 0, 0].repeat(20)).unwrap();
    late.settle();
    late.answer("1");
    let (bytes, _) = read_all(hub.socket.get_mut());
    assert!(bytes.ends_with(&[0x88, 2, 3, 0xf0]), "1008, for too many pings: {bytes:?}");
}

#[test]
fn a_drain_waits_for_the_log_before_it_says_goodbye() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    late.publish(&mut hub, "a", "2");
    let mut post = late.post("a", "3");
    late.world.server.handle().drain().unwrap();
    late.world.pass(SECOND, &mut []);
    assert_eq!(late.hear(&mut hub), [""; 0]);
    let id = late.answer("3");
    assert_eq!(answers(&mut post), [published(&id)]);
    late.answer("1");
    assert_eq!(late.hear(&mut hub), ["published 1"]);
    late.world.pass(DEADLINE, std::slice::from_mut(&mut hub));
    assert_eq!(late.hear(&mut hub), ["unavailable 2", "goaway"]);
    assert_eq!(hub.code(), 1001);
    assert!(late.world.server.is_over());
}

#[test]
fn a_client_that_closes_hears_what_it_asked_before() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    hub.socket.close(None).unwrap();
    late.settle();
    late.answer("1");
    assert_eq!(late.hear(&mut hub), ["published 1"]);
    assert!(hub.ended_at.is_some());
}

// The close is answered within `deadlines.close_send`, whatever the log does.
#[test]
fn a_log_that_never_answers_holds_no_close_up_for_long() {
    let mut late = Late::new(&[("deadlines.close_send", "1s")]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    hub.socket.close(None).unwrap();
    late.world.pass(SECOND + TICK, std::slice::from_mut(&mut hub));
    assert!(hub.ended_at.is_some());
    late.world.until("its ticket is given up", |server| server.stats().publishes_unavailable == 1);
}
