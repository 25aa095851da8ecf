//! Peers of topics: subscribers of every kind, those that come back with a position, those that do
//! not read, and publishers. What they are sent is held against the [`Ledger`](crate::ledger).

use crate::common::rng::Rng;
use crate::plan::pick;
use crate::script::{Act, Script, frame, upgrade_request};

/// The topics of a run.
pub const TOPICS: [&str; 3] = ["a", "b", "c"];

/// What a peer subscribes to, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// It does not.
    #[default]
    None,
    /// A WebSocket of one topic.
    Plain,
    /// `/ws`.
    Hub,
    /// An event stream of one topic.
    Stream,
    /// An event stream of several.
    Streams,
}

pub const SCRIPTS: [fn(&mut Script, &mut Rng); 8] = [
    |script, rng| {
        plain(script, rng, "subscriber");
        publish_now_and_then(script, rng);
    },
    |script, rng| {
        hub(script, rng, "hub");
        publish_now_and_then(script, rng);
    },
    |script, rng| stream(script, rng, "stream"),
    |script, rng| streams(script, rng, "streams"),
    |script, rng| {
        match rng.below(4) {
            0 => plain(script, rng, "deaf subscriber"),
            1 => hub(script, rng, "deaf hub"),
            2 => stream(script, rng, "deaf stream"),
            _ => streams(script, rng, "deaf streams"),
        }
        script.labels = &["write_stall", "overflow", "heartbeat", "read_idle"];
        script.reads = false;
        script.pongs = false;
        // It cannot know that the upgrade is there.
        script.acts.retain(|act| !matches!(act, Act::AwaitUpgrade));
    },
    |script, rng| {
        script.is("publisher", &["done", "keep_alive"]);
        for nth in 0..1 + rng.below(12) {
            let (topic, body) = (pick(rng, &TOPICS), payload(rng));
            let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\n");
            let lines = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            script.posts.push((topic.to_owned(), body));
            script.send(lines);
            if rng.chance(70) {
                script.acts.push(Act::AwaitAnswers(nth as usize + 1));
                script.wait(rng.below(400));
            }
        }
    },
    |script, rng| {
        script.is("reader", &["done"]);
        let topic = pick(rng, &TOPICS);
        for (nth, (method, query)) in
            [("GET", ""), ("HEAD", ""), ("GET", "?after=0-0"), ("HEAD", "?after=0-0"), ("GET", "")]
                .into_iter()
                .enumerate()
        {
            let last = if nth == 4 { "Connection: close\r\n" } else { "" };
            script.posts.push((topic.to_owned(), String::new()));
            if method == "HEAD" {
                script.heads.push(nth);
            }
            let path = format!("/topics/{topic}{query}");
            script.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"));
            script.wait(rng.below(900));
        }
    },
    |script, rng| {
        script.is("forbidden publisher", &["forbidden", "overflow", "done"]);
        script.send(upgrade_request("/topics/$stats"));
        script.acts.push(Act::AwaitUpgrade);
        script.wait(rng.below(2500)).send(frame(rng, 1, true, b"mine"));
    },
];

/// Makes a payload that is like no other.
pub fn payload(rng: &mut Rng) -> String {
    let most = pick(rng, &[10, 10, 200, 2000]);
    let len = rng.below(most) as usize;
    format!("event {:016x}{}", rng.next_u64(), ".".repeat(len))
}

/// The event that each live subscriber is to get when the faults are over.
pub fn last_payload(topic: &str) -> String {
    format!("event last of {topic}")
}

/// Asks for a position now and then: one that is known, the beginning, or nonsense.
fn position(script: &mut Script, rng: &mut Rng, topics: &[&str]) -> Option<String> {
    for topic in topics {
        script.topics.push((*topic).to_owned());
    }
    let position = pick(rng, &["", "", "{id}", "{id}", "{id}", "0-0", "x", "99999999999999-7"]);
    script.asks = !position.is_empty();
    (!position.is_empty()).then(|| position.to_owned())
}

fn plain(script: &mut Script, rng: &mut Rng, name: &'static str) {
    let topic = pick(rng, &TOPICS);
    script.is(name, &["peer", "overflow"]).form = Form::Plain;
    let query = position(script, rng, &[topic]).map(|id| format!("?after={id}"));
    let path = format!("/topics/{topic}{}", query.unwrap_or_default());
    script.comes_after_ms = rng.below(8000);
    script.acts.push(Act::Ask(String::from_utf8(upgrade_request(&path)).expect("text")));
    script.acts.push(Act::AwaitUpgrade);
    script.stays = true;
}

fn hub(script: &mut Script, rng: &mut Rng, name: &'static str) {
    script.is(name, &["peer", "overflow"]).form = Form::Hub;
    script.comes_after_ms = rng.below(4000);
    script.send(upgrade_request("/ws"));
    if cfg!(feature = "cbor") && rng.chance(50) {
        script.is_cbor = true;
        script.offer("Sec-WebSocket-Protocol: heartwheel.v1.cbor\r\n");
    }
    script.acts.push(Act::AwaitUpgrade);
    if rng.chance(50) {
        let client = rng.below(CLIENTS);
        script.client = Some(client);
        let hello =
            format!(r#"{{"op":"hello","client":"client-of-peers-{client}","version":"1"}}"#);
        script.send(script.hub_frame(rng, &hello));
        if rng.chance(10) {
            script.send(script.hub_frame(rng, &hello));
        }
    }
    let wanted = rng.below(TOPICS.len() as u64 + 1) as usize;
    for topic in &TOPICS[..wanted] {
        script.wait(rng.below(3000));
        let after = position(script, rng, &[topic]);
        let after = after.map(|id| format!(r#","after":"{id}""#)).unwrap_or_default();
        script.acts.push(Act::AskHub(format!(r#"{{"op":"subscribe","topic":"{topic}"{after}}}"#)));
    }
    for text in [r#"{"op":"ping","ref":7}"#, "nonsense", r#"{"op":"fly"}"#] {
        if rng.chance(50) {
            script.send(script.hub_frame(rng, text));
        }
    }
    script.stays = true;
}

fn stream(script: &mut Script, rng: &mut Rng, name: &'static str) {
    let topic = pick(rng, &TOPICS);
    script.is(name, &["eof", "overflow"]).form = Form::Stream;
    let last = position(script, rng, &[topic]);
    ask_for_stream(script, rng, &format!("/topics/{topic}"), last);
}

fn streams(script: &mut Script, rng: &mut Rng, name: &'static str) {
    script.is(name, &["eof", "overflow"]).form = Form::Streams;
    let wanted = &TOPICS[..1 + rng.below(TOPICS.len() as u64) as usize];
    let last = position(script, rng, wanted);
    let query: Vec<_> = wanted.iter().map(|topic| format!("topic={topic}")).collect();
    ask_for_stream(script, rng, &format!("/events?{}", query.join("&")), last);
}

fn ask_for_stream(script: &mut Script, rng: &mut Rng, path: &str, last: Option<String>) {
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let accept = "Accept: text/event-stream\r\n";
    script.comes_after_ms = rng.below(8000);
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{accept}{last}\r\n");
    script.acts.push(Act::Ask(head));
    script.stays = true;
}

/// Publishes what a WebSocket publishes: plain on one of a topic, in messages on `/ws`.
fn publish_now_and_then(script: &mut Script, rng: &mut Rng) {
    let pause_ms = pick(rng, &[1, 100, 1500]);
    for _ in 0..rng.below(20) {
        if let Some(client) = script.client.filter(|_| rng.chance(70)) {
            let again = again(script, rng, client);
            script.wait(rng.below(pause_ms)).acts.push(again);
            continue;
        }
        let payload = payload(rng);
        let message = match script.form {
            Form::Hub => {
                let topic = pick(rng, &TOPICS);
                let text = format!(r#"{{"op":"publish","topic":"{topic}","data":"{payload}"}}"#);
                script.hub_frame(rng, &text)
            }
            _ => {
                script.messages.push(payload.as_str().into());
                frame(rng, 1, true, payload.as_bytes())
            }
        };
        script.wait(rng.below(pause_ms)).send(message);
    }
}

/// Publishes what another peer that is the same client may have published, as if it were sent again
/// after a reconnect.
fn again(script: &Script, rng: &mut Rng, client: u64) -> Act {
    let number = rng.below(REFERENCES);
    let topic = TOPICS[number as usize % TOPICS.len()];
    let payload = format!("event {number} of client {client}{}", ".".repeat(number as usize * 20));
    let text = format!(r#"{{"op":"publish","topic":"{topic}","ref":{number},"data":"{payload}"}}"#);
    Act::Again(script.hub_frame(rng, &text), payload)
}

/// How many clients the peers of `/ws` are that say who they are.
const CLIENTS: u64 = 3;

/// How many publications each of them has: fewer than are known of it.
const REFERENCES: u64 = 6;
