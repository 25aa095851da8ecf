//! The topics of a client, message by message.

use super::*;
use crate::core::topics::EventId;

fn topics() -> Topics {
    Topics::new(1000, &mut Random::new(7))
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn said(topics: &mut Topics) -> Vec<String> {
    std::iter::from_fn(|| topics.poll_send()).map(|text| text.as_str().to_owned()).collect()
}

fn heard(topics: &mut Topics, now: Instant, text: &str) -> Vec<TopicEvent> {
    let mut all = Vec::new();
    topics.receive(now, text, &mut |heard| all.push(heard));
    all
}

fn greeted(topics: &mut Topics, now: Instant) -> Vec<TopicEvent> {
    greeted_by(topics, now, topics.connection.map_or(9 << 24, |id| id + (1 << 24)))
}

fn greeted_by(topics: &mut Topics, now: Instant, id: u64) -> Vec<TopicEvent> {
    topics.reset();
    let hello = format!(r#"{{"op":"hello","connection":"{id}","message_bytes":500}}"#);
    let told = heard(topics, now, &hello);
    assert_eq!(told[0], TopicEvent::Ready);
    told
}

#[test]
fn it_greets_and_goes_on_where_it_was() {
    let mut topics = topics();
    topics.subscribe("b", After::Now).unwrap();
    topics.subscribe("a", After::Position(EventId::new(5, 0))).unwrap();
    assert_eq!(said(&mut topics), [""; 0], "not before the server");
    greeted(&mut topics, at(0));
    let first = said(&mut topics);
    let client = topics.client.clone();
    assert_eq!(client.len(), 22);
    assert_eq!(
        first,
        [
            format!(r#"{{"op":"hello","client":"{client}","version":"heartwheel-0.1.0"}}"#),
            r#"{"op":"subscribe","topic":"a","after":"5-0","ref":"a"}"#.into(),
            r#"{"op":"subscribe","topic":"b","ref":"b"}"#.into(),
        ]
    );
    let event = r#"{"op":"event","topic":"a","id":"6-0","data":"x\ny"}"#;
    let told = heard(&mut topics, at(1), event);
    let text = Event { id: EventId::new(6, 0), payload: Payload::text("x\ny"), trace: None };
    assert_eq!(told, [TopicEvent::Event { topic: "a".into(), event: text }]);
    assert_eq!(heard(&mut topics, at(1), event), [], "it has that one");
    let told = heard(&mut topics, at(1), r#"{"op":"subscribed","topic":"b","last":"7-0"}"#);
    let position = EventId::new(7, 0);
    assert_eq!(told, [TopicEvent::Subscribed { topic: "b".into(), position }]);
    greeted(&mut topics, at(2));
    let again = said(&mut topics);
    assert!(again[1].contains(r#""after":"6-0""#) && again[2].contains(r#""after":"7-0""#));
    assert!(again[0].contains(&client), "it is the same client");
}

#[test]
fn payloads_of_all_kinds_come_as_they_were_published() {
    let mut topics = topics();
    topics.subscribe("a", After::Now).unwrap();
    greeted(&mut topics, at(0));
    for (number, (member, payload)) in [
        (r#""data":"\u00fc""#, Payload::text("ü")),
        (r#""data":{"b":[1.50]}"#, Payload::Json(r#"{"b":[1.50]}"#.into())),
        (r#""data":null"#, Payload::Json("null".into())),
        (r#""base64":"AP8=""#, Payload::Binary(vec![0, 255].into())),
    ]
    .into_iter()
    .enumerate()
    {
        let id = EventId::new(number as u64 + 1, 0);
        let text = format!(r#"{{"op":"event","topic":"a","id":"{id}",{member}}}"#);
        let told = heard(&mut topics, at(0), &text);
        let event = Event { id, payload, trace: None };
        assert_eq!(told, [TopicEvent::Event { topic: "a".into(), event }], "{text}");
    }
}

#[test]
fn publications_are_kept_until_answered_and_sent_again() {
    let mut topics = topics();
    assert_eq!(topics.publish(at(0), 0, "a", &"one".into()), Ok(()));
    greeted(&mut topics, at(0));
    let one = r#"{"op":"publish","topic":"a","ref":0,"data":"one"}"#;
    assert_eq!(said(&mut topics)[1..], [one]);
    assert_eq!(topics.publish(at(1), 1, "a", &Payload::Json("[2]".into()).into()), Ok(()));
    let two = r#"{"op":"publish","topic":"a","ref":1,"data":[2]}"#;
    assert_eq!(said(&mut topics), [two]);
    let told = heard(&mut topics, at(1), r#"{"op":"published","ref":0,"id":"9-0"}"#);
    assert_eq!(told, [TopicEvent::Published { reference: 0, id: EventId::new(9, 0) }]);
    assert_eq!(heard(&mut topics, at(1), r#"{"op":"published","ref":0,"id":"9-0"}"#), []);
    greeted(&mut topics, at(20));
    assert_eq!(said(&mut topics)[1..], [two]);
    let told = greeted(&mut topics, at(60));
    assert!(matches!(
        &told[1],
        TopicEvent::NotPublished { reference: 1, code, .. } if code == "unknown"
    ));
    assert!(!topics.has_pending() && topics.pending_bytes == 0);
}

#[test]
fn what_waits_is_bounded_and_what_cannot_go_is_refused() {
    use TopicRefused::{Binary, Full, TooLong, Topic};
    let mut topics = topics();
    for topic in ["", "a b", "$clients", "ä"] {
        assert_eq!(topics.publish(at(0), 0, topic, &"x".into()), Err(Topic), "{topic:?}");
    }
    assert_eq!(topics.subscribe("a b", After::Now), Err(Topic));
    assert_eq!(topics.publish(at(0), 0, "a", &vec![0].into()), Err(Binary));
    let text = Payload::text("x".repeat(400)).into();
    let taken = (0..9).take_while(|n| topics.publish(at(0), *n, "a", &text).is_ok()).count();
    assert_eq!((taken, topics.publish(at(0), 9, "a", &text)), (2, Err(Full)));
    topics.forget(0);
    assert!(topics.publish(at(0), 9, "a", &text).is_ok());
    greeted(&mut topics, at(0));
    let long = Payload::text("x".repeat(500)).into();
    assert_eq!(topics.publish(at(0), 10, "a", &long), Err(TooLong));
    let mut topics = Topics::new(1 << 20, &mut Random::new(7));
    let taken = (0..99).take_while(|n| topics.publish(at(0), *n, "a", &"x".into()).is_ok());
    assert_eq!(taken.count(), PENDING_MAX);
}

#[test]
fn what_was_published_before_the_server_said_how_much_it_takes_is_refused_then() {
    let mut topics = topics();
    topics.publish(at(0), 0, "a", &Payload::text("x".repeat(500)).into()).unwrap();
    topics.publish(at(0), 1, "a", &"short".into()).unwrap();
    let told = greeted(&mut topics, at(0));
    assert!(matches!(
        &told[1..],
        [TopicEvent::NotPublished { reference: 0, code, .. }] if code == "limit"
    ));
    assert_eq!(said(&mut topics).len(), 2, "the greeting, and what is short enough");
}

#[test]
fn a_topic_that_was_left_says_nothing_more() {
    let mut topics = topics();
    topics.subscribe("a", After::Now).unwrap();
    greeted(&mut topics, at(0));
    topics.subscribe("a", After::Now).unwrap();
    let event = r#"{"op":"event","topic":"a","id":"6-0","data":1}"#;
    assert_eq!(heard(&mut topics, at(0), event), [], "of the first subscription");
    assert_eq!(heard(&mut topics, at(0), r#"{"op":"unsubscribed","topic":"a"}"#), []);
    assert_eq!(heard(&mut topics, at(0), event).len(), 1);
    topics.unsubscribe("a");
    assert_eq!(heard(&mut topics, at(0), r#"{"op":"unsubscribed","topic":"a"}"#), []);
    assert_eq!(heard(&mut topics, at(0), event), []);
}

#[test]
fn refusals_gaps_and_leave_takings_are_told() {
    let mut topics = topics();
    topics.subscribe("a", After::Now).unwrap();
    topics.subscribe("b", After::Now).unwrap();
    topics.publish(at(0), 0, "a", &"x".into()).unwrap();
    greeted(&mut topics, at(0));
    let gap = heard(&mut topics, at(0), r#"{"op":"gap","topic":"a","first":null}"#);
    assert_eq!(gap, [TopicEvent::Gap { topic: "a".into(), gap: Gap { first: None } }]);
    let error = r#"{"op":"error","code":"forbidden","message":"no","ref":0}"#;
    assert!(matches!(
        &heard(&mut topics, at(0), error)[..],
        [TopicEvent::NotPublished { reference: 0, code, sentence }]
            if code == "forbidden" && sentence == "no"
    ));
    let error = r#"{"op":"error","code":"limit","message":"no","ref":"b"}"#;
    assert!(matches!(&heard(&mut topics, at(0), error)[..], [TopicEvent::NotSubscribed { .. }]));
    let goaway = heard(&mut topics, at(0), r#"{"op":"goaway","retry_ms":70}"#);
    assert_eq!(goaway, [TopicEvent::Goaway(Duration::from_millis(70))]);
    said(&mut topics);
    topics.publish(at(0), 1, "a", &"x".into()).unwrap();
    assert_eq!(said(&mut topics), [""; 0], "it waits for the next connection");
    assert_eq!(
        heard(&mut topics, at(0), r#"{"op":"pressure","level":2}"#),
        [TopicEvent::Pressure(2)]
    );
}

#[test]
fn what_is_no_message_says_nothing() {
    let mut topics = topics();
    topics.subscribe("a", After::Now).unwrap();
    greeted(&mut topics, at(0));
    for text in [
        "",
        "[]",
        "{",
        "{}",
        r#"{"op":1}"#,
        r#"{"op":"event"}"#,
        r#"{"op":"event","topic":"a","id":"x","data":1}"#,
        r#"{"op":"event","topic":"a","id":"7-0"}"#,
        r#"{"op":"event","topic":"a","id":"7-0","base64":"?"}"#,
        r#"{"op":"event","topic":"other","id":"7-0","data":1}"#,
        r#"{"op":"published","ref":5,"id":"1-0"}"#,
        r#"{"op":"published","ref":{},"id":"1-0"}"#,
        r#"{"op":"unsubscribed","topic":"a"}"#,
        r#"{"op":"pressure","level":-1}"#,
    ] {
        assert_eq!(heard(&mut topics, at(0), text), [], "{text}");
    }
}

// It has forgotten what it published: it would publish that again.
#[test]
fn what_another_server_may_have_published_is_not_sent_again() {
    for (before, now, is_same) in [
        (5, 6, true),
        (5, 5 + 0xff_ffff, true),
        ((1 << 40) - 1, 0, true),
        (5, 5, false),
        (6, 5, false),
        (5, 5 + 0x100_0000, false),
    ] {
        let mut topics = topics();
        greeted_by(&mut topics, at(0), before << 24);
        topics.publish(at(0), 0, "a", &"sent".into()).unwrap();
        said(&mut topics);
        topics.reset();
        topics.publish(at(0), 1, "a", &"not sent".into()).unwrap();
        let told = greeted_by(&mut topics, at(1), now << 24);
        let unknown = told.iter().any(|one| {
            let TopicEvent::NotPublished { reference, code, .. } = one else { return false };
            *reference == 0 && code == "unknown"
        });
        assert_eq!(unknown, !is_same, "{before} {now}");
        let again = said(&mut topics);
        assert_eq!(
            again.iter().filter(|text| text.contains("publish")).count(),
            if is_same { 2 } else { 1 }
        );
    }
}

// A device without a clock of its own restarts, and its ids begin lower than they were.
#[test]
fn after_a_gap_a_server_whose_clock_is_behind_is_heard() {
    let mut topics = topics();
    topics.subscribe("a", After::Position(EventId::new(900, 7))).unwrap();
    greeted(&mut topics, at(0));
    let event = |ms: u64, process: u64| {
        format!(r#"{{"op":"event","topic":"a","id":"{ms}-{process}","data":1}}"#)
    };
    assert_eq!(heard(&mut topics, at(0), &event(100, 8)), [], "without a gap it is old");
    heard(&mut topics, at(0), r#"{"op":"gap","topic":"a","first":"100-8"}"#);
    assert_eq!(heard(&mut topics, at(0), &event(800, 7)), [], "the same server's are old");
    assert_eq!(heard(&mut topics, at(0), &event(100, 8)).len(), 1);
    assert_eq!(heard(&mut topics, at(0), &event(100, 8)), [], "it has that one");
    assert_eq!(heard(&mut topics, at(0), &event(101, 8)).len(), 1);
}

#[test]
fn nothing_waits_for_an_answer_when_the_client_has_stopped() {
    let mut topics = topics();
    greeted(&mut topics, at(0));
    topics.publish(at(0), 0, "a", &"sent".into()).unwrap();
    topics.reset();
    topics.publish(at(0), 1, "a", &"not sent".into()).unwrap();
    let mut all = Vec::new();
    topics.give_up_all("stopped", &mut |heard| all.push(heard));
    let codes = all.iter().map(|heard| match heard {
        TopicEvent::NotPublished { reference, code, .. } => (*reference, code.as_str()),
        other => panic!("{other:?}"),
    });
    assert!(codes.eq([(0, "unknown"), (1, "closed")]));
    assert!(!topics.has_pending() && topics.pending_bytes == 0);
}

#[test]
fn what_a_server_takes_over_has_no_id_and_a_bad_id_is_none() {
    let mut topics = topics();
    greeted(&mut topics, at(0));
    (0..2).for_each(|n| topics.publish(at(0), n, "a", &"x".into()).unwrap());
    let taken = heard(&mut topics, at(0), r#"{"op":"published","ref":0,"id":null}"#);
    assert_eq!(taken, [TopicEvent::Taken { reference: 0 }]);
    let bad = heard(&mut topics, at(0), r#"{"op":"published","ref":1,"id":"x"}"#);
    assert!(matches!(&bad[..], [TopicEvent::NotPublished { reference: 1, .. }]), "{bad:?}");
    assert!(!topics.has_pending());
}
