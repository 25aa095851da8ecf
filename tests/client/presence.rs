//! Clients that ask who is on a topic, in both forms.

use std::time::Duration;

use heartwheel::topics::After;
use heartwheel::{LinkEvent, SendError, TopicEvent};

use super::memory::{Both, Told, dial};

const PAIRS: &[(&str, &str)] = &[("topics.presence", "room")];

/// What members say of themselves, or why they are not told.
type Answer = Result<Vec<Option<String>>, String>;

/// What was answered, with the number of the question.
fn answers(told: &Told) -> Vec<(u32, Answer)> {
    let answers = told.take().into_iter().filter_map(|event| match event {
        LinkEvent::Topic(TopicEvent::Presence { reference, topic, count, members }) => {
            let members = members.expect("there are few");
            assert_eq!((&*topic, members.len() as u64), ("room", count));
            assert!(members.iter().all(|one| one.identity.is_none()));
            assert!(members.iter().all(|one| one.connection.parse::<u64>().is_ok()));
            Some((reference, Ok(members.into_iter().map(|one| one.info).collect())))
        }
        LinkEvent::Topic(TopicEvent::NoPresence { reference, code, .. }) => {
            Some((reference, Err(code)))
        }
        _ => None,
    });
    answers.collect()
}

#[test]
fn who_is_there_is_told_in_both_forms_and_asked_again_after_a_break() {
    let mut both = Both::with(PAIRS);
    let (cbor, told) = both.connect(dial("/ws").topics());
    let (json, told_json) = both.connect(dial("/ws").protocol("heartwheel.v1").topics());
    cbor.subscribe_as("room", After::Now, "a \"phone\"").unwrap();
    both.settle();
    json.subscribe("room", After::Now).unwrap();
    both.settle();
    let expected = vec![Some("a \"phone\"".to_owned()), None];
    for (link, told) in [(&cbor, &told), (&json, &told_json)] {
        let first = link.presence("room").unwrap();
        let second = link.presence("hall").unwrap();
        assert_eq!(link.presence("no topic"), Err(SendError::Topic));
        both.settle();
        let refused = (second, Err("bad_request".to_owned()));
        assert_eq!(answers(told), [(first, Ok(expected.clone())), refused]);
    }
    // One that is asked where there is no connection is answered when there is one: and what a
    // client says of itself is said again.
    both.server = None;
    both.pass(Duration::from_secs(2));
    let asked = cbor.presence("room").unwrap();
    both.settle();
    assert_eq!(answers(&told), []);
    both.serve();
    both.pass(Duration::from_secs(60));
    let told = answers(&told);
    assert!(matches!(&told[..], [(one, Ok(all))] if *one == asked && all.contains(&expected[0])));
}

#[test]
fn questions_that_wait_are_bounded_and_end_with_the_client() {
    let mut both = Both::with(PAIRS);
    both.server = None;
    let (link, told) = both.connect(dial("/ws").topics());
    let numbers: Vec<u32> = (0..65).map(|_| link.presence("room").unwrap()).collect();
    both.settle();
    assert_eq!(answers(&told), [(numbers[64], Err("full".to_owned()))]);
    link.close().unwrap();
    both.settle();
    let closed = numbers[..64].iter().map(|number| (*number, Err("closed".to_owned())));
    assert_eq!(answers(&told), closed.collect::<Vec<_>>());
}
