//! What a server of `/ws` says, as clients read it: whatever message comes, in JSON or in CBOR, it
//! tells one thing or none, an event is whole, and the same event is told of both forms.

use heartwheel::core::client::topics::{TopicEvent, Topics};
use heartwheel::core::ground::json;
use heartwheel::core::ground::random::Random;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::wire::hub::ServerMessage;
use heartwheel::core::wire::payload::Payload as Wire;
use heartwheel::topics::{After, Event, Payload};
use heartwheel::{Message, Trace};

pub fn run(input: &[u8]) {
    let message = match input.split_first() {
        Some((b'{', _)) => match str::from_utf8(input) {
            Ok(text) => Message::text(text),
            Err(_) => return,
        },
        _ => Message::binary(input.to_vec()),
    };
    let Some(told) = told(&message) else { return };
    assert!(told.len() <= 1, "{told:?}");
    let Some(TopicEvent::Event { topic, event }) = told.first() else { return };
    assert_eq!(topic, "a");
    assert!(event.payload.len() <= message.len());
    if let Payload::Json(text) = &event.payload {
        assert_eq!(json::value(text.as_str()), Ok(text.as_str()));
    }
    for again in forms(topic, event) {
        assert_eq!(self::told(&again).as_ref(), Some(&told));
    }
}

/// Gives what a client tells of a message that comes behind its greeting in the same form; `None`
/// if the build does not speak that.
fn told(message: &Message) -> Option<Vec<TopicEvent>> {
    let mut topics = Topics::new(1000, &mut Random::new(7));
    topics.subscribe("a", After::Now).unwrap();
    let (now, mut all) = (Instant::default(), Vec::new());
    let limits = (0, 0, 1000);
    let (heartbeat_ms, read_idle_ms, message_bytes) = limits;
    let connection = "7";
    let hello = ServerMessage::Hello { connection, heartbeat_ms, read_idle_ms, message_bytes };
    let hello = encoded(&hello, message.as_text().is_some());
    if !topics.reads(&hello) {
        return None;
    }
    topics.receive(now, &hello, &mut |heard| all.push(heard));
    assert_eq!(all, [TopicEvent::Ready]);
    topics.publish(now, 0, "a", &"x".into()).unwrap();
    while topics.poll_send().is_some() {}
    assert!(topics.reads(message));
    all.clear();
    topics.receive(now, message, &mut |heard| all.push(heard));
    assert!(topics.poll_send().is_none(), "nothing is answered");
    Some(all)
}

fn forms(topic: &str, event: &Event) -> Vec<Message> {
    let id = event.id.to_string();
    let trace: Option<&Trace> = event.trace.as_ref();
    let payload = match &event.payload {
        Payload::Text(text) => Wire::Text(text.as_str()),
        Payload::Json(json) => Wire::Json(json.as_str()),
        Payload::Binary(bytes) => Wire::Binary(bytes),
    };
    let message = ServerMessage::Event { topic, id: &id, payload, trace };
    let forms = if cfg!(feature = "cbor") { &[true, false][..] } else { &[true] };
    forms.iter().map(|is_json| encoded(&message, *is_json)).collect()
}

fn encoded(message: &ServerMessage<'_>, is_json: bool) -> Message {
    match is_json {
        true => Message::text(message.encode()),
        false => Message::binary(heartwheel::core::wire::hub_cbor::encode(message)),
    }
}
