//! Clients of topics that speak CBOR where the server does, beside those that speak JSON.

use std::time::Duration;

use heartwheel::topics::{After, Content};
use heartwheel::{
    Client, Config, Dial, Event, Heard, LinkEvent, Message, Payload, Peer, Route, Server,
    TopicEvent, Trace,
};

use super::common::topics::{publish_bytes, start};
use super::memory::{Both, Told, dial};

/// One payload of each kind.
fn payloads() -> [Payload; 4] {
    let json = Payload::Json("{\"n\": 1.50}".into());
    [Payload::text("größe\0"), json, Payload::Binary(vec![0, 255].into()), vec![7; 70_000].into()]
}

fn events(told: &Told) -> Vec<Content> {
    let events = told.take().into_iter().filter_map(|event| match event {
        LinkEvent::Topic(TopicEvent::Event { event, .. }) => Some(event),
        _ => None,
    });
    events.map(|event| event.payload.traced(event.trace)).collect()
}

fn fates(told: &Told) -> Vec<(u32, String)> {
    let fates = told.take().into_iter().filter_map(|event| match event {
        LinkEvent::Topic(TopicEvent::Published { reference, .. }) => Some((reference, "ok".into())),
        LinkEvent::Topic(TopicEvent::NotPublished { reference, code, .. }) => {
            Some((reference, code))
        }
        _ => None,
    });
    fates.collect()
}

#[test]
fn payloads_of_all_kinds_go_to_clients_in_both_forms() {
    let mut both = Both::new();
    let (cbor, told) = both.connect(dial("/ws").topics());
    let (json, told_json) = both.connect(dial("/ws").protocol("heartwheel.v1").topics());
    for link in [&cbor, &json] {
        link.subscribe("a", After::Now).unwrap();
    }
    both.settle();
    let trace: Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let mut expected: Vec<Content> = payloads().map(Content::from).to_vec();
    expected.push(Payload::from(vec![1]).traced(Some(trace)));
    for content in &expected {
        cbor.publish("a", content.clone()).unwrap();
        both.settle();
    }
    assert_eq!(events(&told), expected);
    assert_eq!(events(&told_json), expected);
    // The other one has agreed on JSON, which bears no bytes.
    for content in &expected {
        json.publish("a", content.clone()).unwrap();
        both.settle();
    }
    let fates: Vec<String> = fates(&told_json).into_iter().map(|(_, fate)| fate).collect();
    assert_eq!(fates, ["ok", "ok", "bad_request", "bad_request", "bad_request"]);
    assert_eq!(events(&told), expected[..2]);
}

#[test]
fn after_a_break_it_goes_on_where_it_was() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    link.subscribe("a", After::Now).unwrap();
    both.settle();
    let [_, _, bytes, _] = payloads();
    link.publish("a", bytes.clone()).unwrap();
    link.reconnect().unwrap();
    let (other, _) = both.connect(dial("/ws").topics());
    other.publish("a", bytes.clone()).unwrap();
    both.pass(40 * SECOND);
    assert_eq!(events(&told).len(), 2, "each once, and none is missing");
}

/// A server of another build: what has been sent in CBOR goes out again in JSON.
#[test]
fn what_waits_goes_to_a_server_without_cbor_in_json() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    both.settle();
    both.server = None;
    both.pass(SECOND);
    let [text, _, bytes, _] = payloads();
    link.publish("a", text.clone()).unwrap();
    link.publish("a", bytes.clone()).unwrap();
    fates(&told);
    let hub = |peer: &Peer, event: Event| match event {
        Event::Opened(_) => {
            let _ = peer.send(r#"{"op":"hello","connection":"1","message_bytes":1000}"#);
        }
        Event::Message(Message::Text(text)) if text.as_str().contains("publish") => {
            let text = text.as_str();
            assert!(text.ends_with(r#""ref":0,"data":"größe\u0000"}"#), "{text}");
            let _ = peer.send(r#"{"op":"published","ref":0,"id":"7-0"}"#);
        }
        Event::Message(Message::Binary(bytes)) => panic!("JSON was agreed on: {bytes:?}"),
        _ => {}
    };
    let mut config = Config::default();
    config.set("workers", "0").unwrap();
    let route = Route::websocket("/ws", hub).protocol("heartwheel.v1");
    let builder = Server::builder().config(config).clock(both.clock.clone()).route(route);
    both.server = Some(builder.listen_memory(&both.network).unwrap());
    both.pass(60 * SECOND);
    let mut fates = fates(&told);
    fates.sort();
    assert_eq!(fates, [(0, "ok".to_owned()), (1, "bad_request".to_owned())]);
}

#[test]
fn a_script_publishes_and_hears_bytes_over_tcp() {
    let server = start(&[]);
    let mut client = Client::new(Dial::to(&format!("ws://{}", server.address)).unwrap()).unwrap();
    let mut first = None;
    for payload in payloads() {
        let id = client.publish("a", payload).unwrap();
        first.get_or_insert(id);
    }
    publish_bytes(server.address, "a", b"posted");
    let heard = client.subscribe("a", After::Position(first.unwrap())).unwrap();
    let heard = heard.take(4).map(|(_, heard)| match heard {
        Heard::Event(event) => event.payload,
        other => panic!("{other:?}"),
    });
    let posted = Payload::Binary(b"posted"[..].into());
    let expected: Vec<Payload> = payloads().into_iter().skip(1).chain([posted]).collect();
    assert_eq!(heard.collect::<Vec<_>>(), expected);
}

const SECOND: Duration = Duration::from_secs(1);
