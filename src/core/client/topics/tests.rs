//! The topics of a client, message by message.

use std::ops::{Deref, DerefMut};

use super::*;
use crate::core::ground::json::{Object, members, string};
use crate::core::topics::{EventId, Payload};

/// The topics of a client. What is said and heard here is JSON; the form has it otherwise.
struct Rig {
    topics: Topics,
    form: Form,
}

impl Deref for Rig {
    type Target = Topics;

    fn deref(&self) -> &Topics {
        &self.topics
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Topics {
        &mut self.topics
    }
}

/// Runs a test in each form.
fn in_each_form(test: impl Fn(Form)) {
    test(Form::Json);
    #[cfg(feature = "cbor")]
    test(Form::Cbor);
}

fn topics(form: Form) -> Rig {
    Rig { topics: Topics::new(1000, &mut Random::new(7)), form }
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

fn said(rig: &mut Rig) -> Vec<String> {
    let sent = std::iter::from_fn(|| rig.topics.poll_send());
    let shown = |message| match (rig.form, message) {
        (Form::Json, Message::Text(text)) => text.as_str().to_owned(),
        #[cfg(feature = "cbor")]
        (Form::Cbor, Message::Binary(bytes)) => in_cbor::to_json(&bytes),
        (form, message) => panic!("{form:?}: {message:?}"),
    };
    sent.map(shown).collect()
}

fn heard(rig: &mut Rig, now: Instant, text: &str) -> Vec<TopicEvent> {
    let message = match rig.form {
        Form::Json => text.into(),
        #[cfg(feature = "cbor")]
        Form::Cbor => Message::binary(in_cbor::of_json(text)),
    };
    assert!(rig.reads(&message));
    heard_as_it_is(rig, now, &message)
}

fn heard_as_it_is(rig: &mut Rig, now: Instant, message: &Message) -> Vec<TopicEvent> {
    let mut all = Vec::new();
    rig.receive(now, message, &mut |heard| all.push(heard));
    all
}

fn greeted(topics: &mut Rig, now: Instant) -> Vec<TopicEvent> {
    let id = topics.connection.map_or(9 << 24, |id| id + (1 << 24));
    greeted_by(topics, now, id)
}

fn greeted_by(topics: &mut Rig, now: Instant, id: u64) -> Vec<TopicEvent> {
    topics.reset();
    let hello = format!(r#"{{"op":"hello","connection":"{id}","message_bytes":500}}"#);
    let told = heard(topics, now, &hello);
    assert_eq!(told[0], TopicEvent::Ready);
    told
}

#[test]
fn it_greets_and_goes_on_where_it_was() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
    });
}

#[test]
fn payloads_of_all_kinds_come_as_they_were_published() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
    });
}

#[test]
fn publications_are_kept_until_answered_and_sent_again() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
    });
}

#[test]
fn what_waits_is_bounded_and_what_cannot_go_is_refused() {
    in_each_form(|form| {
        use TopicRefused::{Full, TooLong, Topic};
        let mut topics = topics(form);
        for topic in ["", "a b", "$clients", "ä"] {
            assert_eq!(topics.publish(at(0), 0, topic, &"x".into()), Err(Topic), "{topic:?}");
        }
        assert_eq!(topics.subscribe("a b", After::Now), Err(Topic));
        let text = Payload::text("x".repeat(400)).into();
        let taken = (0..9).take_while(|n| topics.publish(at(0), *n, "a", &text).is_ok()).count();
        assert_eq!((taken, topics.publish(at(0), 9, "a", &text)), (2, Err(Full)));
        topics.forget(0);
        assert!(topics.publish(at(0), 9, "a", &text).is_ok());
        greeted(&mut topics, at(0));
        let long = Payload::text("x".repeat(500)).into();
        assert_eq!(topics.publish(at(0), 10, "a", &long), Err(TooLong));
        topics.topics = Topics::new(1 << 20, &mut Random::new(7));
        let taken = (0..99).take_while(|n| topics.publish(at(0), *n, "a", &"x".into()).is_ok());
        assert_eq!(taken.count(), PENDING_MAX);
    });
}

#[test]
fn what_was_published_before_the_server_said_how_much_it_takes_is_refused_then() {
    in_each_form(|form| {
        let mut topics = topics(form);
        topics.publish(at(0), 0, "a", &Payload::text("x".repeat(500)).into()).unwrap();
        topics.publish(at(0), 1, "a", &"short".into()).unwrap();
        let told = greeted(&mut topics, at(0));
        assert!(matches!(
            &told[1..],
            [TopicEvent::NotPublished { reference: 0, code, .. }] if code == "limit"
        ));
        assert_eq!(said(&mut topics).len(), 2, "the greeting, and what is short enough");
    });
}

#[test]
fn a_topic_that_was_left_says_nothing_more() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
    });
}

#[test]
fn refusals_gaps_and_leave_takings_are_told() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
        assert!(matches!(
            &heard(&mut topics, at(0), error)[..],
            [TopicEvent::NotSubscribed { .. }]
        ));
        let goaway = heard(&mut topics, at(0), r#"{"op":"goaway","retry_ms":70}"#);
        assert_eq!(goaway, [TopicEvent::Goaway(Duration::from_millis(70))]);
        said(&mut topics);
        topics.publish(at(0), 1, "a", &"x".into()).unwrap();
        assert_eq!(said(&mut topics), [""; 0], "it waits for the next connection");
        assert_eq!(
            heard(&mut topics, at(0), r#"{"op":"pressure","level":2}"#),
            [TopicEvent::Pressure(2)]
        );
    });
}

#[test]
fn what_is_no_message_says_nothing() {
    let mut topics = topics(Form::Json);
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
    in_each_form(|form| {
        for (before, now, is_same) in [
            (5, 6, true),
            (5, 5 + 0xff_ffff, true),
            ((1 << 40) - 1, 0, true),
            (5, 5, false),
            (6, 5, false),
            (5, 5 + 0x100_0000, false),
        ] {
            let mut topics = topics(form);
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
    });
}

// A device without a clock of its own restarts, and its ids begin lower than they were.
#[test]
fn after_a_gap_a_server_whose_clock_is_behind_is_heard() {
    in_each_form(|form| {
        let mut topics = topics(form);
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
    });
}

#[test]
fn nothing_waits_for_an_answer_when_the_client_has_stopped() {
    in_each_form(|form| {
        let mut topics = topics(form);
        greeted(&mut topics, at(0));
        topics.publish(at(0), 0, "a", &"sent".into()).unwrap();
        topics.reset();
        topics.publish(at(0), 1, "a", &"not sent".into()).unwrap();
        let mut all = Vec::new();
        topics.topics.give_up_all("stopped", &mut |heard| all.push(heard));
        let codes = all.iter().map(|heard| match heard {
            TopicEvent::NotPublished { reference, code, .. } => (*reference, code.as_str()),
            other => panic!("{other:?}"),
        });
        assert!(codes.eq([(0, "unknown"), (1, "closed")]));
        assert!(!topics.has_pending() && topics.pending_bytes == 0);
    });
}

#[test]
fn what_a_server_takes_over_has_no_id_and_a_bad_id_is_none() {
    in_each_form(|form| {
        let mut topics = topics(form);
        greeted(&mut topics, at(0));
        (0..2).for_each(|n| topics.publish(at(0), n, "a", &"x".into()).unwrap());
        let taken = heard(&mut topics, at(0), r#"{"op":"published","ref":0,"id":null}"#);
        assert_eq!(taken, [TopicEvent::Taken { reference: 0 }]);
        let bad = heard(&mut topics, at(0), r#"{"op":"published","ref":1,"id":"x"}"#);
        assert!(matches!(&bad[..], [TopicEvent::NotPublished { reference: 1, .. }]), "{bad:?}");
        assert!(!topics.has_pending());
    });
}

fn not_published(heard: &[TopicEvent]) -> Vec<(u32, &str)> {
    let pairs = heard.iter().filter_map(|heard| match heard {
        TopicEvent::NotPublished { reference, code, .. } => Some((*reference, code.as_str())),
        _ => None,
    });
    pairs.collect()
}

#[test]
fn bytes_are_published_where_the_form_bears_them() {
    let bytes: Content = vec![0, 255].into();
    let mut topics = topics(Form::Json);
    // Before the greeting the form is not known, where the build has two.
    let early = topics.publish(at(0), 0, "a", &bytes);
    let expected = if cfg!(feature = "cbor") { Ok(()) } else { Err(TopicRefused::Binary) };
    assert_eq!(early, expected);
    let told = greeted(&mut topics, at(0));
    let refused: &[_] = if early.is_ok() { &[(0, "bad_request")] } else { &[] };
    assert_eq!(not_published(&told), refused);
    assert_eq!(topics.publish(at(0), 1, "a", &bytes), Err(TopicRefused::Binary));
    assert!(!topics.has_pending() && topics.pending_bytes == 0);
    assert_eq!(said(&mut topics).len(), 1, "the greeting");
}

/// The next server may be another build.
#[cfg(feature = "cbor")]
#[test]
fn what_waits_is_sent_in_the_form_of_the_next_connection() {
    let mut topics = topics(Form::Cbor);
    topics.publish(at(0), 0, "a", &vec![0, 255].into()).unwrap();
    greeted(&mut topics, at(0));
    let json = Payload::Json("[1.50]".into());
    topics.publish(at(0), 1, "a", &json.into()).unwrap();
    topics.publish(at(0), 2, "a", &"text".into()).unwrap();
    let again = [
        r#"{"op":"publish","topic":"a","ref":0,"base64":"AP8="}"#,
        r#"{"op":"publish","topic":"a","ref":1,"data":[1.50]}"#,
        r#"{"op":"publish","topic":"a","ref":2,"data":"text"}"#,
    ];
    assert_eq!(said(&mut topics)[1..], again);
    topics.form = Form::Json;
    let told = greeted(&mut topics, at(1));
    assert_eq!(not_published(&told), [(0, "unknown")], "it has been sent once");
    assert_eq!(said(&mut topics)[1..], again[1..]);
    topics.form = Form::Cbor;
    greeted(&mut topics, at(2));
    assert_eq!(said(&mut topics)[1..], again[1..]);
}

/// They are the application's.
#[test]
fn messages_in_another_form_are_not_read() {
    let (text, bytes) = (Message::text("{}"), Message::binary(vec![0xa0]));
    let mut topics = topics(Form::Json);
    assert_eq!((topics.reads(&text), topics.reads(&bytes)), (true, cfg!(feature = "cbor")));
    greeted(&mut topics, at(0));
    assert_eq!((topics.reads(&text), topics.reads(&bytes)), (true, false));
    #[cfg(feature = "cbor")]
    {
        topics.form = Form::Cbor;
        greeted(&mut topics, at(0));
        assert_eq!((topics.reads(&text), topics.reads(&bytes)), (false, true));
    }
}

#[cfg(feature = "cbor")]
#[test]
fn what_is_no_cbor_message_says_nothing() {
    let event = in_cbor::of_json(r#"{"op":"event","topic":"a","id":"7-0","data":"x"}"#);
    let with = |name: &[u8], value: &[u8]| {
        let mut message = event.clone();
        message[0] += 1;
        message.extend([name, value].concat());
        message
    };
    let (data, json, deep) = (&b"\x64data"[..], &b"\x64json"[..], [0x81; 101]);
    let mut all: Vec<Vec<u8>> = (0..event.len()).map(|len| event[..len].to_vec()).collect();
    all.extend([
        [&event[..], &[0x00]].concat(),
        [&[0x81], &event[..]].concat(),
        [&[0xbf], &event[1..], &[0xff]].concat(),
        [&[0xbb], &[0xff; 8][..], &event[1..]].concat(),
        with(b"\x61x", &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        with(b"\x61x", &[&deep[..], &[0x00]].concat()),
        with(b"\x61x", b"\x61\xff"),
        with(b"\x61x", &[0x1c]),
        with(data, &[0x01]),
        with(data, &[0x81, 0x41, 0x00]),
        with(b"\x62id", b"\x61x"),
        with(b"\x62id", &[0x07]),
        with(b"\x65topic", &[0x41, b'a']),
        with(b"\x62op", &[0x45, b'e', b'v', b'e', b'n', b't']),
    ]);
    // JSON without `data`.
    let bare = in_cbor::of_json(r#"{"op":"event","topic":"a","id":"7-0"}"#);
    for json in [&[json, b"\x61{"].concat(), &[json, &[0x41, b'1'][..]].concat()] {
        all.push([&[bare[0] + 1], &bare[1..], &json[..]].concat());
    }
    let mut topics = topics(Form::Cbor);
    topics.subscribe("a", After::Now).unwrap();
    greeted(&mut topics, at(0));
    for bytes in all {
        let heard = heard_as_it_is(&mut topics, at(0), &Message::binary(bytes.clone()));
        assert_eq!(heard, [], "{bytes:x?}");
    }
    let bearable = [&deep[1..], &[0x00]].concat();
    for extra in [with(b"\x61x", &bearable), with(&[0x01], &[0x02]), event.clone()] {
        topics.subscribe("a", After::Now).unwrap();
        heard(&mut topics, at(0), r#"{"op":"unsubscribed","topic":"a"}"#);
        let heard = heard_as_it_is(&mut topics, at(0), &Message::binary(extra.clone()));
        assert_eq!(heard.len(), 1, "{extra:x?}");
    }
}

/// Messages in CBOR, written down as the same ones in JSON.
#[cfg(feature = "cbor")]
mod in_cbor {
    use super::*;
    use crate::core::wire::cbor::{Item, Map, NULL, Reader, TRUE};

    pub fn of_json(text: &str) -> Vec<u8> {
        let mut map = Map::default();
        members(text, |name, raw| {
            let given = std::mem::take(&mut map);
            map = match (&*name, string(raw), raw) {
                ("base64", Some(text), _) => given.bytes("data", &base64::decode(&text).unwrap()),
                (name, Some(text), _) => given.text(name, &text),
                ("data", None, json) => given.text("json", json),
                (name, None, "null") => given.raw(name, &[NULL]),
                (name, None, number) => given.number(name, number.parse().unwrap()),
            };
        })
        .unwrap();
        map.end()
    }

    pub fn to_json(bytes: &[u8]) -> String {
        let mut reader = Reader::new(bytes);
        let mut object = Object::new();
        for _ in 0..reader.map().unwrap().unwrap() {
            let Item::Text(name) = Item::of(reader.raw().unwrap()) else { panic!("a name") };
            let value = reader.raw().unwrap();
            object = match (name, Item::of(value)) {
                ("json", Item::Text(json)) => object.raw("data", json),
                (name, Item::Text(text)) => object.string(name, text),
                ("data", Item::Bytes(bytes)) => object.string("base64", &base64::encode(bytes)),
                (name, Item::Integer(number)) => object.number(name, number as u64),
                (name, _) if value == [TRUE] => object.raw(name, "true"),
                (name, item) => panic!("{name}: {item:?}"),
            };
        }
        assert!(reader.is_over());
        object.end()
    }
}
