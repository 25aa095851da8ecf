//! Ids rise in the order of the log, answers come in the order of asking.

use heartwheel::Payload;
use heartwheel::core::contract::backbone::Logged;

use crate::log::*;

#[test]
fn events_come_in_the_order_of_the_log_and_answers_in_that_of_asking() {
    let mut late = Late::new(&[]);
    let (mut asker, mut other) = (late.hub(&[]), late.hub(&[]));
    let mut reader = late.hub(&["a", "b"]);
    for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3")] {
        late.publish(&mut asker, topic, payload);
    }
    late.publish(&mut other, "a", "4");
    assert_eq!(late.waiting(), ["1", "2", "3", "4"]);
    late.answer("3");
    assert_eq!(late.hear(&mut asker), [""; 0], "its answer waits for two others");
    assert_eq!(late.hear(&mut reader), ["event 3"], "the event does not");
    late.answer("4");
    assert_eq!(late.hear(&mut other), ["published 4"], "nor does another connection");
    late.answer("1");
    assert_eq!(late.hear(&mut asker), ["published 1"]);
    late.answer("2");
    assert_eq!(late.hear(&mut asker), ["published 2", "published 3"]);
    assert_eq!(late.hear(&mut reader), ["event 4", "event 1", "event 2"]);
    let history = late.world.ask("GET /topics/a?after=0-0 HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let events = [(1, "3"), (2, "4"), (3, "1")];
    let rows = events.map(|(nth, data)| format!(r#"{{"id":"{}","data":"{data}"}}"#, id(nth)));
    assert!(history.ends_with(&format!("[{}]", rows.join(","))), "{history}");
}

#[test]
fn ids_in_the_answers_are_those_of_the_events() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    late.publish(&mut hub, "a", "1");
    late.publish(&mut hub, "a", "2");
    let two = late.answer("2");
    let one = late.answer("1");
    hub.attend(late.world.clock.elapsed());
    let texts: Vec<_> = hub.messages.iter().map(|one| one.to_text().unwrap()).collect();
    let event = |id: &str, data: &str| {
        format!(r#"{{"op":"event","topic":"a","id":"{id}","data":"{data}"}}"#)
    };
    let answer =
        |id: &str, data: &str| format!(r#"{{"op":"published","ref":"{data}","id":"{id}"}}"#);
    assert_eq!(texts, [event(&two, "2"), answer(&one, "1"), answer(&two, "2"), event(&one, "1")]);
}

#[test]
fn refusals_wait_for_their_turn_and_pongs_do_not() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    hub.say(r#"{"op":"ping","ref":"p"}"#);
    late.publish(&mut hub, "no blanks", "2");
    assert_eq!(late.hear(&mut hub), ["pong"]);
    // Behind a refusal that waits nothing is read.
    late.publish(&mut hub, "$stats", "3");
    hub.say(r#"{"op":"ping","ref":"p"}"#);
    assert_eq!(late.hear(&mut hub), [""; 0]);
    late.refuse("1");
    assert_eq!(late.hear(&mut hub), ["unavailable 1", "bad_request 2", "forbidden 3", "pong"]);
    // Now none waits: a refusal is told at once.
    late.publish(&mut hub, "$stats", "4");
    assert_eq!(late.hear(&mut hub), ["forbidden 4"]);
}

#[test]
fn behind_a_refusal_nothing_is_read_until_another_answer_is_told() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    late.publish(&mut hub, "a", "1");
    late.publish(&mut hub, "a", "2");
    late.publish(&mut hub, "$stats", "3");
    hub.say(r#"{"op":"ping","ref":"p"}"#);
    late.answer("2");
    assert_eq!(late.hear(&mut hub), [""; 0], "the answer that has come waits for the first");
    late.answer("1");
    assert_eq!(late.hear(&mut hub), ["published 1", "published 2", "forbidden 3", "pong"]);
}

#[test]
fn a_trace_context_goes_through_the_log() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    hub.say(&format!(r#"{{"op":"publish","topic":"a","data":"1","trace":"{trace}"}}"#));
    late.world.meet(std::slice::from_mut(&mut hub));
    late.answer("1");
    late.world.meet(std::slice::from_mut(&mut hub));
    let has = |one: &tungstenite::Message| {
        let text = one.to_text().unwrap();
        text.contains(r#""op":"event""#) && text.contains(&format!(r#""trace":"{trace}""#))
    };
    assert_eq!(hub.messages.iter().filter(|one| has(one)).count(), 1);
}

#[test]
fn what_the_log_repeats_is_answered_and_not_delivered_again() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&["a"]);
    late.publish(&mut hub, "a", "1");
    let ticket = late.take("1").ticket;
    let topic: heartwheel::topics::Name = "a".parse().unwrap();
    for ticket in [None, Some(ticket), Some(ticket), None] {
        let content = Payload::text("1").into();
        late.say(Logged::Event { ticket, id: id(1), topic: topic.clone(), content });
    }
    late.say(Logged::Refused(ticket));
    assert_eq!(late.hear(&mut hub), ["event 1", "published 1"]);
    assert_eq!(late.world.server.stats().publishes_unavailable, 0);
}

#[test]
fn a_position_of_the_log_is_good() {
    let mut late = Late::new(&[]);
    let mut hub = late.hub(&[]);
    hub.say(r#"{"op":"subscribe","topic":"a"}"#);
    late.settle();
    hub.attend(late.world.clock.elapsed());
    let subscribed = hub.messages.pop().unwrap();
    let beginning = id(0).to_string();
    assert!(subscribed.to_text().unwrap().contains(&format!(r#""last":"{beginning}""#)));
    late.give(None, "a", Payload::text("1"));
    let mut next = late.hub(&[]);
    next.say(&format!(r#"{{"op":"subscribe","topic":"a","after":"{beginning}"}}"#));
    assert_eq!(late.hear(&mut next), ["event 1", "subscribed"]);
}
