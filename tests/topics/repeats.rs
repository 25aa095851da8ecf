//! Publications that a client sends again because its connection broke before the answer: each is
//! published once.

use std::collections::HashMap;

use crate::common::client::Client;
use crate::common::server::TestServer;
use crate::common::topics::*;

const ID: &str = "abcdefghijklmnop";

fn hello(client: &str) -> String {
    format!(r#"{{"op":"hello","client":"{client}","version":"1"}}"#)
}

fn publish_message(data: &str, reference: &str) -> String {
    format!(r#"{{"op":"publish","topic":"t","data":"{data}","ref":{reference}}}"#)
}

/// Opens `/ws` as this client.
#[track_caller]
fn open_as(server: &TestServer, client: &str) -> Hub {
    let mut hub = Hub::open(server.address);
    hub.say(&hello(client));
    hub
}

/// Publishes, and gives the event's id.
#[track_caller]
fn publish_as(hub: &mut Hub, data: &str, reference: &str) -> String {
    hub.say(&publish_message(data, reference));
    let answer = hub.hear();
    let id = member(&answer, "id").to_owned();
    assert_eq!(answer, format!(r#"{{"op":"published","ref":{reference},"id":"{id}"}}"#));
    id
}

/// Gives the texts that the topic has retained.
fn retained(server: &TestServer) -> Vec<String> {
    let answer = fetch(server.address, "/topics/t?after=0-0");
    let rows = answer.text().split("\"data\":\"").skip(1);
    rows.map(|row| row.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn what_is_sent_again_is_published_once() {
    let server = start(&[]);
    let mut hub = open_as(&server, ID);
    let first = publish_as(&mut hub, "a", "1");
    assert_eq!(publish_as(&mut hub, "a", "1"), first);
    // From another connection, while the first is still there and after it has ended.
    let mut second = open_as(&server, ID);
    assert_eq!(publish_as(&mut second, "a", "1"), first);
    drop((hub, second));
    let mut third = open_as(&server, ID);
    assert_eq!(publish_as(&mut third, "another text", "1"), first, "the `ref` says which it is");
    let next = publish_as(&mut third, "b", "2");
    assert_ne!(next, first);
    assert_eq!(retained(&server), ["a", "b"]);
    assert_eq!(server.stats().publishes_repeated, 3);
}

#[test]
fn what_another_client_sends_is_no_repeat() {
    let server = start(&[]);
    let mut ids = vec![
        publish_as(&mut open_as(&server, ID), "a", "1"),
        publish_as(&mut open_as(&server, "another-client-01"), "a", "1"),
        publish_as(&mut open_as(&server, ID), "a", "2"),
    ];
    // Two that have not said who they are, and count from the same number.
    for _ in 0..2 {
        let mut hub = Hub::open(server.address);
        ids.extend([publish_as(&mut hub, "a", "1"), publish_as(&mut hub, "a", "1")]);
    }
    // What is no integer names nothing: it is only repeated in the answer.
    let mut hub = open_as(&server, ID);
    for reference in ["\"1\"", "1.0", "1e0", "[1]", "null", "9223372036854775808"] {
        ids.extend([publish_as(&mut hub, "a", reference), publish_as(&mut hub, "a", reference)]);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3 + 4 + 12);
    assert_eq!(server.stats().publishes_repeated, 0);
    let least = publish_as(&mut hub, "a", "-9223372036854775808");
    assert_eq!(publish_as(&mut hub, "a", "-9223372036854775808"), least);
}

#[test]
fn the_same_client_of_another_identity_is_another() {
    let tokens = "one publish=t subscribe=t identity=ann\ntwo publish=t subscribe=t identity=bob\n";
    let file = std::env::temp_dir().join(format!("heartwheel-repeats-{}", std::process::id()));
    std::fs::write(&file, tokens).unwrap();
    let server = start(&[("admission.tokens", file.to_str().unwrap())]);
    let open = |token: &str| {
        let mut hub = Hub { peer: Client::connect(server.address) };
        hub.peer.upgrade(&format!("/ws?access_token={token}"));
        hub.hear();
        hub.say(&hello(ID));
        hub
    };
    let ann = publish_as(&mut open("one"), "a", "1");
    let bob = publish_as(&mut open("two"), "b", "1");
    assert_ne!(ann, bob);
    assert_eq!(publish_as(&mut open("one"), "a", "1"), ann);
    assert_eq!(publish_as(&mut open("two"), "b", "1"), bob);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_hello_counts_as_the_first_message_alone() {
    let server = start(&[("admin_listen", "127.0.0.1:0")]);
    let refusal = |hub: &mut Hub, message: &str| {
        hub.say(message);
        let answer = hub.hear();
        assert_eq!(member(&answer, "op"), "error", "{message}");
        assert_eq!(member(&answer, "code"), "bad_request", "{message}");
        member(&answer, "message").to_owned()
    };
    const LATE: &str = "hello is the first message";
    // Behind another message, good, bad or not text.
    for before in [r#"{"op":"ping"}"#, "rubbish"] {
        let mut hub = Hub::open(server.address);
        hub.say(before);
        hub.hear();
        assert_eq!(refusal(&mut hub, &hello(ID)), LATE, "{before}");
        let ids = [publish_as(&mut hub, "a", "1"), publish_as(&mut hub, "a", "1")];
        assert_ne!(ids[0], ids[1], "nobody said who it is");
    }
    let mut hub = open_as(&server, ID);
    let first = publish_as(&mut hub, "a", "1");
    let figures = fetch(server.admin.expect("it has a listener"), "/metrics");
    assert!(figures.text().contains("heartwheel_hub_hellos_total{version=\"1\"} 1\n"));
    assert_eq!(refusal(&mut hub, &hello("another-client-01")), LATE);
    assert_eq!(publish_as(&mut hub, "a", "1"), first, "the first hello holds");
    for bad in [
        r#"{"op":"hello"}"#,
        r#"{"op":"hello","client":"abcdefghijklmnop"}"#,
        r#"{"op":"hello","client":"abcdefghijklmno","version":"1"}"#,
        r#"{"op":"hello","client":"abcdefghijklmno=","version":"1"}"#,
        r#"{"op":"hello","client":"abcdefghijklmnop","version":"a b"}"#,
    ] {
        let mut hub = Hub::open(server.address);
        refusal(&mut hub, bad);
        assert_eq!(refusal(&mut hub, &hello(ID)), LATE);
        assert_ne!(publish_as(&mut hub, "a", "1"), first);
    }
    let mut hub = Hub::open(server.address);
    hub.say(r#"{"op":"hello","client":1,"version":"1","ref":[7]}"#);
    assert!(hub.hear().ends_with(r#","ref":[7]}"#));
}

#[test]
fn a_refusal_is_not_remembered() {
    let server = start(&[("limits.topics", "1")]);
    let mut hub = open_as(&server, ID);
    let publish = |hub: &mut Hub, topic: &str| {
        hub.say(&format!(r#"{{"op":"publish","topic":"{topic}","data":1,"ref":1}}"#));
        hub.hear()
    };
    assert_eq!(member(&publish(&mut hub, "no blanks"), "code"), "bad_request");
    assert_eq!(member(&publish(&mut hub, "$stats"), "code"), "forbidden");
    let first = publish_as(&mut hub, "a", "2");
    assert_eq!(member(&publish(&mut hub, "another"), "code"), "limit");
    // With the same `ref`, now that it can be published.
    let second = publish_as(&mut hub, "b", "1");
    assert_ne!(second, first);
    // What is known is answered, whatever would become of it now.
    assert_eq!(member(&publish(&mut hub, "no blanks"), "id"), second);
}

#[test]
fn the_newest_64_of_a_client_are_known() {
    let server = start(&[]);
    let mut hub = open_as(&server, ID);
    let ids: Vec<_> =
        (0..65).map(|number| publish_as(&mut hub, "a", &number.to_string())).collect();
    let mut again = open_as(&server, ID);
    for (number, id) in ids.iter().enumerate().skip(1) {
        assert_eq!(publish_as(&mut again, "a", &number.to_string()), *id);
    }
    assert_ne!(publish_as(&mut again, "a", "0"), ids[0]);
}

/// By that a client knows whether the server that it comes back to knows what was published.
#[test]
fn the_id_of_a_connection_counts_those_of_its_server() {
    let count = |server: &TestServer| {
        let mut peer = Client::connect(server.address);
        peer.upgrade("/ws");
        let hello = peer.message();
        member(&hello, "connection").parse::<u64>().expect("a number") >> 24
    };
    let server = start(&[]);
    let first = count(&server);
    for nth in 1..5 {
        assert_eq!(count(&server).wrapping_sub(first) % (1 << 40), nth);
    }
    // Another server begins elsewhere. One of 2^15 times it does not, so there are three of them.
    let is_near = |count: u64| count.wrapping_sub(first) % (1 << 40) < 1 << 24;
    let others = [start(&[]), start(&[]), start(&[])];
    assert!(!others.iter().all(|server| is_near(count(server))));
}

/// FAULTS 195: the connection breaks anywhere, again and again, and the client sends what was not
/// answered once more. Each text is published once, and each answer names the event with its text.
#[test]
fn a_client_whose_connection_breaks_publishes_each_once() {
    const TEXTS: usize = 600;
    let server = start(&[("topics.retain_events", "10000")]);
    let mut random = 7_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % limit
    };
    let mut answers: HashMap<usize, String> = HashMap::new();
    let (mut next, mut waiting) = (0, Vec::new());
    let mut connections = 0;
    while answers.len() < TEXTS {
        let mut hub = open_as(&server, ID);
        connections += 1;
        // At most as many as the server knows wait for an answer.
        let fresh = (TEXTS - next).min(64 - waiting.len()).min(below(40) as usize);
        waiting.extend(next..next + fresh);
        next += fresh;
        for number in &waiting {
            hub.say(&publish_message(&format!("text {number}"), &number.to_string()));
        }
        // Some answers are heard; the others are lost, and perhaps what they answer, too.
        for _ in 0..below(waiting.len() as u64 + 1) {
            let answer = hub.hear();
            let (_, reference) = answer.split_once("\"ref\":").expect("it has a ref");
            let number: usize = reference.split(',').next().unwrap().parse().unwrap();
            assert_eq!(waiting.remove(0), number, "answers come in order");
            answers.insert(number, member(&answer, "id").to_owned());
        }
    }
    assert!(connections > 20, "{connections}");
    let rows = fetch(server.address, "/topics/t?after=0-0");
    let mut found = 0;
    for row in rows.text().split("{\"id\":\"").skip(1) {
        let (id, rest) = row.split_once('"').unwrap();
        let number = rest.split("text ").nth(1).and_then(|text| text.split('"').next());
        let number: usize = number.unwrap().parse().unwrap();
        assert_eq!(answers[&number], id, "the event with this text, and no other");
        found += 1;
    }
    assert_eq!(found, TEXTS);
    assert!(server.stats().publishes_repeated > 20);
}
