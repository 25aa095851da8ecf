//! Trace contexts: in with a request or a message, through the topics, out with the event.

use std::sync::{Arc, Mutex};

use heartwheel::http::{Request, Response};
use heartwheel::topics::After;
use heartwheel::{Heard, Offer, Payload, Peer, Route, Server, Trace};

use crate::common::http::upgrade_request;
use crate::common::world::*;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00";

fn post(lines: &str, text: &str) -> String {
    let head = format!("POST /topics/a HTTP/1.1\r\nHost: localhost\r\n{lines}");
    format!("{head}Content-Length: {}\r\n\r\n{text}", text.len())
}

fn subscribe(world: &mut World, after: &str) -> Client {
    let mut client = world.open("/ws");
    client.say(&format!(r#"{{"op":"subscribe","topic":"a"{after}}}"#));
    world.meet(std::slice::from_mut(&mut client));
    client
}

/// Gives what `/ws` said of each event but for its id.
fn events(client: &mut Client) -> Vec<String> {
    let texts = client.messages.drain(..).filter_map(|message| {
        let text =
            message.to_text().unwrap().strip_prefix(r#"{"op":"event","topic":"a","id":""#)?;
        Some(text.split_once("\",").unwrap().1.to_owned())
    });
    texts.collect()
}

fn meet(world: &mut World, client: &mut Client) {
    world.meet(std::slice::from_mut(client));
}

fn ignored(world: &World) -> u64 {
    world.server.stats().traces_ignored
}

#[test]
fn what_is_posted_with_one_bears_it_live_and_replayed() {
    let mut world = World::new(&[], routes());
    let mut live = subscribe(&mut world, "");
    for (lines, text) in [
        (format!("TraceParent: {TRACE}\r\n"), "one"),
        (String::new(), "two"),
        (format!("traceparent: {OTHER}\r\ntracestate: a=b\r\n"), "three"),
        (format!("traceparent: {TRACE}x\r\n"), "four"),
        (format!("traceparent: {TRACE}\r\ntraceparent: {TRACE}\r\n"), "five"),
        (format!("traceparent: {}\r\n", TRACE.to_uppercase()), "six"),
    ] {
        let answer = world.ask(&post(&lines, text));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    meet(&mut world, &mut live);
    let all = [
        format!(r#""trace":"{TRACE}","data":"one"}}"#),
        r#""data":"two"}"#.into(),
        format!(r#""trace":"{OTHER}","data":"three"}}"#),
        r#""data":"four"}"#.into(),
        r#""data":"five"}"#.into(),
        r#""data":"six"}"#.into(),
    ];
    assert_eq!(events(&mut live), all);
    assert_eq!(ignored(&world), 3);
    let mut late = subscribe(&mut world, r#","after":"0-0""#);
    assert_eq!(events(&mut late), all);
    // Other ways to read a topic have no place for it.
    for target in ["/topics/a", "/topics/a?after=0-0"] {
        let answer = world.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(!answer.contains(&TRACE[..20]), "{answer}");
    }
}

/// The log has only the newest event, of which it keeps the context: earlier ones are on their way.
#[test]
fn it_outlives_the_event_in_the_log_on_the_way_to_a_subscriber() {
    let mut world = World::new(&[("topics.retain_events", "1"), ("turn.bytes", "1k")], routes());
    let mut live = subscribe(&mut world, "");
    let own = world.server.handle();
    for trace in [Some(TRACE), None, Some(OTHER), Some(TRACE), None] {
        let trace = trace.map(|text| text.parse::<Trace>().unwrap());
        own.publish("a", Payload::text("x".repeat(1000)).traced(trace)).unwrap();
    }
    meet(&mut world, &mut live);
    let has = |text: &String| [TRACE, OTHER].into_iter().find(|trace| text.contains(trace));
    let traces: Vec<_> = events(&mut live).iter().map(has).collect();
    assert_eq!(traces, [Some(TRACE), None, Some(OTHER), Some(TRACE), None]);
    let mut late = subscribe(&mut world, r#","after":"0-0""#);
    assert_eq!(events(&mut late).iter().map(has).collect::<Vec<_>>(), [None]);
}

#[test]
fn a_client_of_many_topics_gives_one_with_what_it_publishes() {
    let mut world = World::new(&[], routes());
    let mut client = subscribe(&mut world, "");
    for (member, expected, count) in [
        (format!(r#","trace":"{TRACE}""#), format!(r#""trace":"{TRACE}","#), 0),
        (format!(r#","tr\u0061ce":"{OTHER}""#), format!(r#""trace":"{OTHER}","#), 0),
        (r#","trace":null"#.into(), String::new(), 0),
        (r#","trace":"""#.into(), String::new(), 1),
        (r#","trace":["00"]"#.into(), String::new(), 2),
        (format!(r#","trace":"{TRACE}-""#), String::new(), 3),
        (
            format!(r#","trace":"{}""#, TRACE.replace("00-", "cc-")),
            format!(r#""trace":"{TRACE}","#),
            3,
        ),
        (
            format!(r#","trace":"{}""#, TRACE.replace("b7ad6b7169203331", "0000000000000000")),
            String::new(),
            4,
        ),
    ] {
        client.say(&format!(r#"{{"op":"publish","topic":"a","data":[1],"ref":7{member}}}"#));
        meet(&mut world, &mut client);
        let published =
            client.messages.iter().filter(|one| one.to_text().unwrap().contains(r#""ref":7"#));
        assert_eq!(published.count(), 1, "{member}: an invalid one refuses nothing");
        assert_eq!(events(&mut client), [format!(r#"{expected}"data":[1]}}"#)], "{member}");
        assert_eq!(ignored(&world), count, "{member}");
    }
}

#[test]
fn applications_are_given_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |seen: &Arc<Mutex<Vec<Option<Trace>>>>| {
        let seen = seen.clone();
        move |trace: Option<Trace>| seen.lock().unwrap().push(trace)
    };
    let (on_get, on_open, on_offer) = (note(&seen), note(&seen), note(&seen));
    let hook = move |_: &Peer, offer: Offer| {
        on_offer(offer.trace);
        Ok(Some("changed".into()))
    };
    struct Opening<F>(F);
    impl<F: Fn(Option<Trace>) + Send + Sync + 'static> heartwheel::Handler for Opening<F> {
        type Session = ();
        fn open(&self, _: &Peer, request: Request) {
            (self.0)(request.trace());
        }
        fn message(&self, _: &mut (), _: &Peer, _: heartwheel::Message) {}
    }
    let builder = Server::builder()
        .route(Route::topics("/topics/{topic}").on_publish(hook.clone()))
        .route(Route::hub("/ws").on_publish(hook))
        .websocket("/own", Opening(on_open))
        .get("/get", move |request: &Request| {
            on_get(request.trace());
            Response::new(200)
        });
    let mut world = World::new(&[], builder);
    let handle = world.server.handle();
    let heard = handle.subscribe("a", After::Now).unwrap();
    let mut client = subscribe(&mut world, "");
    let line = format!("traceparent: {TRACE}\r\n");
    world.ask(&format!("GET /get HTTP/1.1\r\nHost: localhost\r\n{line}\r\n"));
    world.ask("GET /get HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.send(upgrade_request("/own", &line).as_bytes());
    world.ask(&post(&line, "x"));
    client.say(&format!(r#"{{"op":"publish","topic":"a","data":"x","trace":"{TRACE}"}}"#));
    meet(&mut world, &mut client);
    let given: Trace = TRACE.parse().unwrap();
    let with = Some(given.clone());
    assert_eq!(*seen.lock().unwrap(), [with.clone(), None, with.clone(), with.clone(), with]);
    // It goes on with what the hook has made of the event.
    let expected = format!(r#""trace":"{TRACE}","data":"changed"}}"#);
    assert_eq!(events(&mut client), [expected.clone(), expected]);
    for _ in 0..2 {
        let Ok(Heard::Event(event)) = heard.try_receive() else { panic!("an event") };
        assert_eq!((event.payload.as_text(), event.trace), (Some("changed"), Some(given.clone())));
    }
}
