//! Servers whose topics tell who is on them.

use std::time::Duration;

use heartwheel::http::{Refusal, Request};
use heartwheel::topics::After;
use heartwheel::{Accept, Event, MemoryPeer, Peer, Route, Server, Subscription};

use crate::common::http::get_request;
use crate::common::world::*;

/// A second, and what is added to it so that crowds are told of together.
const TOLD: Duration = Duration::from_millis(1250 + 51);

fn identify(request: &Request) -> Result<Accept, Refusal> {
    let accept = Accept::new();
    let accept = match request.query_value("user") {
        Some(user) => accept.identity(user),
        None => accept,
    };
    Ok(match request.query_value("may") {
        Some(pattern) => accept.subscribe([&*pattern]),
        None => accept.subscribe(["*"]),
    })
}

pub fn start(pairs: &[(&str, &str)]) -> World {
    let subscriber = |peer: &Peer, event: Event| {
        if let Event::Opened(_) = event {
            peer.subscribe("room").unwrap();
        }
    };
    let builder = Server::builder()
        .route(Route::topics("/topics/{topic}").authorize(identify))
        .route(Route::hub("/ws").authorize(identify))
        .route(Route::events("/events").authorize(identify))
        .route(Route::websocket("/handled", subscriber).authorize(identify));
    let pairs = [&[("topics.presence", "room,rooms.*")][..], pairs].concat();
    World::new(&pairs, builder)
}

/// Opens a client of `/ws` that is subscribed.
pub fn join(world: &mut World, query: &str, topic: &str) -> Client {
    let mut client = world.open(&format!("/ws?{query}"));
    subscribe(world, &mut client, topic);
    client
}

fn subscribe(world: &mut World, client: &mut Client, topic: &str) {
    client.say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
    world.meet(std::slice::from_mut(client));
}

fn say(world: &mut World, client: &mut Client, text: &str) -> String {
    client.say(text);
    world.meet(std::slice::from_mut(client));
    client.messages.pop().expect("it is answered").to_string()
}

/// Gives the number of a client's connection.
fn number(client: &Client) -> String {
    let hello = client.messages[0].to_string();
    let (_, rest) = hello.split_once(r#""connection":""#).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// Gives what is answered to a request, without its head.
fn ask(world: &mut World, path: &str) -> String {
    let answer = world.ask(&get_request(path, ""));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
    body.to_owned()
}

fn status(world: &mut World, path: &str) -> (u16, String) {
    let answer = world.ask(&get_request(path, ""));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn listen(world: &mut World) -> Subscription {
    let subscription = world.server.handle().subscribe("$presence.room", After::Now).unwrap();
    world.settle();
    subscription
}

/// What has been told: `+ann` has joined, `-` and nothing else is an anonymous one that has left;
/// then the count.
fn told(subscription: &Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(heartwheel::Heard::Event(event)) = subscription.try_receive() {
        let text = event.payload.as_text().expect("JSON").to_owned();
        let object: tinyjson::JsonValue = text.parse().unwrap();
        let object: std::collections::HashMap<_, _> = object.try_into().unwrap();
        let mut words = String::new();
        for (member, sign) in [("joined", '+'), ("left", '-')] {
            let list: &Vec<tinyjson::JsonValue> = object[member].get().unwrap();
            for person in list {
                let name: Option<&String> = person["identity"].get();
                words.push(sign);
                words.push_str(name.map_or("", |name| name));
            }
        }
        let count: &f64 = object["count"].get().unwrap();
        all.push(format!("{words} {count}"));
    }
    all
}

// FAULTS 238: a client that connects again within a second makes no noise.
#[test]
fn a_person_joins_once_and_leaves_once_whatever_its_connections_do() {
    let mut world = start(&[]);
    let heard = listen(&mut world);
    let mut clients = vec![join(&mut world, "user=ann", "room")];
    world.pass(TOLD, &mut clients);
    assert_eq!(told(&heard), ["+ann 1"]);
    // Another tab, and others.
    clients.push(join(&mut world, "user=ann", "room"));
    clients.push(join(&mut world, "user=bob", "room"));
    clients.push(join(&mut world, "", "room"));
    world.pass(TOLD, &mut clients);
    assert_eq!(told(&heard), ["+bob+ 4"], "in the order of what they are called");
    drop(clients.remove(0));
    world.pass(TOLD, &mut clients);
    assert_eq!((told(&heard), world.server.stats().presence_joins), (vec![], 3));
    // She connects again, and again.
    for _ in 0..5 {
        drop(clients.remove(0));
        world.pass(SECOND - TICK, &mut clients);
        clients.insert(0, join(&mut world, "user=ann", "room"));
        world.pass(100 * TICK, &mut clients);
    }
    assert_eq!(told(&heard), [""; 0]);
    let moment = world.clock.elapsed();
    clients.clear();
    world.settle();
    world.until("it is told", |server| server.stats().presence_leaves == 3);
    let span = world.clock.elapsed() - moment;
    assert!(span >= SECOND && span <= TOLD, "{span:?}");
    assert_eq!(told(&heard), ["-ann-bob- 0"]);
    assert_eq!(
        ask(&mut world, "/topics/room?presence"),
        r#"{"topic":"room","count":0,"members":[]}"#
    );
    world.settle();
}

#[test]
fn members_are_all_who_get_the_topic() {
    let mut world = start(&[]);
    let mut hub = world.open("/ws?user=ann");
    hub.say(r#"{"op":"subscribe","topic":"room","info":"a \"phone\""}"#);
    world.meet(std::slice::from_mut(&mut hub));
    let _plain = world.open("/topics/room?user=bob&info=ch%C3%A4t");
    let stream = |path| get_request(path, "Accept: text/event-stream\r\n");
    let _one: MemoryPeer = world.send(stream("/topics/room?info=s").as_bytes());
    let _many = world.send(stream("/events?topic=room&topic=rooms.b&user=cy&info=both").as_bytes());
    let _handled = world.open("/handled?user=dan");
    let hello = number(&hub);
    let text = ask(&mut world, "/topics/room?presence");
    let members = text.strip_prefix(r#"{"topic":"room","count":5,"members":["#).expect(&text);
    let ann = format!(r#"{{"identity":"ann","connection":"{hello}","info":"a \"phone\""}}"#);
    assert!(members.contains(&ann), "{text}");
    let mut rest = members;
    // Those without a name first, the others by their names.
    for (name, behind) in [
        ("null", r#"","info":"s"},"#),
        (r#""ann""#, r#"","info":"a \"phone\""},"#),
        (r#""bob""#, r#"","info":"chät"},"#),
        (r#""cy""#, r#"","info":"both"},"#),
        (r#""dan""#, r#""}]}"#),
    ] {
        let head = format!(r#"{{"identity":{name},"connection":""#);
        let member = rest.strip_prefix(&*head).expect(rest);
        let end = member.find('"').unwrap();
        assert!(member[..end].parse::<u64>().is_ok(), "{member}");
        rest = member[end..].strip_prefix(behind).expect(member);
    }
    assert!(rest.is_empty());
    // The same in an answer to a client of `/ws`, who may say what it answers.
    let same = say(&mut world, &mut hub, r#"{"op":"presence","topic":"room","ref":[1, "x"]}"#);
    let expected = text.strip_suffix('}').unwrap().strip_prefix('{').unwrap();
    assert_eq!(same, format!(r#"{{"op":"presence",{expected},"ref":[1, "x"]}}"#));
    let other = say(&mut world, &mut hub, r#"{"op":"presence","topic":"rooms.b"}"#);
    assert!(other.starts_with(r#"{"op":"presence","topic":"rooms.b","count":1,"members":[{"#));
    assert!(other.ends_with(r#""info":"both"}]}"#), "{other}");
    // What it says of itself is what it said last.
    hub.say(r#"{"op":"subscribe","topic":"room"}"#);
    hub.say(r#"{"op":"subscribe","topic":"room","info":"b"}"#);
    world.meet(std::slice::from_mut(&mut hub));
    assert!(ask(&mut world, "/topics/room?presence").contains(r#""info":"b"}"#));
    // A HEAD subscribes nobody, and is answered as GET is.
    let head = get_request("/topics/room?presence", "").replace("GET", "HEAD");
    let answer = world.ask(&head);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let head = stream("/topics/room").replace("GET", "HEAD");
    world.ask(&head);
    assert!(ask(&mut world, "/topics/room?presence").contains(r#""count":5"#));
}

// FAULTS 240: who may not subscribe to a topic is not told who is there.
#[test]
fn who_may_not_subscribe_is_not_told() {
    let mut world = start(&[]);
    let _there = join(&mut world, "user=ann", "room");
    let mut other = world.open("/ws?user=eve&may=rooms.*");
    for message in
        [r#"{"op":"presence","topic":"room"}"#, r#"{"op":"subscribe","topic":"$presence.room"}"#]
    {
        let answer = say(&mut world, &mut other, message);
        assert!(answer.starts_with(r#"{"op":"error","code":"forbidden","#), "{answer}");
        let quoted = if message.contains('$') { "$presence.room" } else { "room" };
        assert!(answer.ends_with(&format!(r#""ref":"{quoted}"}}"#)), "{answer}");
    }
    for path in [
        "/topics/room?presence&may=rooms.*",
        "/topics/$presence.room?may=rooms.*",
        "/events?topic=$presence.room&may=rooms.*",
    ] {
        assert_eq!(status(&mut world, path).0, 403, "{path}");
    }
    // Nor is what one says of oneself taken when one may not come in again.
    let word = r#"{"op":"subscribe","topic":"room","info":"here"}"#;
    assert!(say(&mut world, &mut other, word).contains(r#""code":"forbidden""#));
    assert!(!ask(&mut world, "/topics/room?presence").contains("here"));
    // The right to the topic is the right to hear of it, and none to publish there.
    let mut peer = join(&mut world, "may=rooms.*", "$presence.rooms.x");
    assert!(peer.messages.pop().unwrap().to_string().contains("subscribed"));
    let word = r#"{"op":"publish","topic":"$presence.rooms.x","data":"x"}"#;
    assert!(say(&mut world, &mut peer, word).contains(r#""code":"forbidden""#));
    assert_eq!(status(&mut world, "/topics/rooms.x?presence&may=rooms.*").0, 200);
}

// FAULTS 241: what is no topic, tells nothing, or says too much of itself.
#[test]
fn what_cannot_be_answered_is_refused_and_counted() {
    let mut world = start(&[]);
    let mut client = world.open("/ws");
    for (topic, sentence) in [
        ("hall", "this topic does not tell who is on it: see topics.presence"),
        ("$stats", "this topic does not tell who is on it: see topics.presence"),
        ("$presence.room", "this topic does not tell who is on it: see topics.presence"),
        ("a b", "a topic is 1 to 128 characters of A-Z a-z 0-9 . _ - :"),
    ] {
        let answer =
            say(&mut world, &mut client, &format!(r#"{{"op":"presence","topic":"{topic}"}}"#));
        let error = r#"{"op":"error","code":"bad_request","#;
        assert_eq!(answer, format!(r#"{error}"message":"{sentence}","ref":"{topic}"}}"#));
    }
    assert!(
        say(&mut world, &mut client, r#"{"op":"presence","ref":7}"#)
            .ends_with(r#""message":"topic is a string","ref":7}"#)
    );
    for (path, code) in [
        ("/topics/hall?presence", 404),
        ("/topics/$stats?presence=1", 404),
        ("/topics/a%20b?presence", 400),
    ] {
        assert_eq!(status(&mut world, path).0, code, "{path}");
    }
    assert_eq!(world.server.stats().presence_refused, 5);
    let longest = "x".repeat(256);
    let longer = "x".repeat(257);
    for info in [&*format!("{longer:?}"), "7", "{}", r#""a\n""#] {
        let word = format!(r#"{{"op":"subscribe","topic":"room","info":{info}}}"#);
        let answer = say(&mut world, &mut client, &word);
        let sentence = "info is a string of at most 256 bytes without control characters";
        assert!(answer.contains(sentence), "{answer}");
    }
    for path in [format!("/topics/room?info={longer}"), "/events?topic=room&info=%00".into()] {
        let answer = world.ask(&get_request(&path, "Accept: text/event-stream\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert!(ask(&mut world, "/topics/room?presence").contains(r#""count":0"#));
    for info in [&*format!("{longest:?}"), "null"] {
        let word = format!(r#"{{"op":"subscribe","topic":"room","info":{info}}}"#);
        assert!(say(&mut world, &mut client, &word).contains("subscribed"));
        // Without one it keeps what it said before.
        assert!(ask(&mut world, "/topics/room?presence").contains(&longest));
    }
}

#[test]
fn of_too_many_only_their_number_is_told() {
    let mut world = start(&[("topics.presence_members", "2")]);
    let mut clients = vec![join(&mut world, "user=eve", "$presence.room")];
    for user in ["ann", "bob"] {
        clients.push(join(&mut world, &format!("user={user}"), "room"));
    }
    world.pass(TOLD, &mut clients);
    let told = clients[0].messages.pop().unwrap().to_string();
    let data = told.split_once(r#""data":"#).unwrap().1;
    let [ann, bob] = [1, 2].map(|n| number(&clients[n]));
    let list = [("ann", ann), ("bob", bob)]
        .map(|(name, number)| format!(r#"{{"identity":"{name}","connection":"{number}"}}"#));
    let list = list.join(",");
    assert_eq!(data, format!(r#"{{"joined":[{list}],"left":[],"count":2}}}}"#));
    let listed = ask(&mut world, "/topics/room?presence");
    assert_eq!(listed, format!(r#"{{"topic":"room","count":2,"members":[{list}]}}"#));
    clients.push(join(&mut world, "", "room"));
    assert_eq!(ask(&mut world, "/topics/room?presence"), r#"{"topic":"room","count":3}"#);
    let answer = say(&mut world, &mut clients[0], r#"{"op":"presence","topic":"room","ref":1}"#);
    assert_eq!(answer, r#"{"op":"presence","topic":"room","count":3,"ref":1}"#);
    world.pass(TOLD, &mut clients);
    let told = clients[0].messages.pop().unwrap().to_string();
    assert!(told.ends_with(r#""data":{"count":3}}"#), "{told}");
}

/// Nothing is kept of topics that do not tell, and nobody wakes up for those on which nobody comes
/// or goes.
#[test]
fn what_is_not_asked_for_costs_nothing() {
    let mut world = start(&[("heartbeat.interval", "10m"), ("deadlines.read_idle", "1h")]);
    let mut clients = [join(&mut world, "user=ann", "hall"), join(&mut world, "", "$stats")];
    clients[1].say(r#"{"op":"unsubscribe","topic":"$stats"}"#);
    world.meet(&mut clients);
    let before = world.server.next_timeout();
    assert!(before.is_some_and(|wait| wait > 2 * SECOND), "{before:?}");
    assert_eq!(world.server.stats().presence_joins, 0);
    let mut members = [join(&mut world, "user=bob", "room")];
    assert!(world.server.next_timeout().is_some_and(|wait| wait <= TOLD));
    world.pass(TOLD, &mut members);
    assert!(world.server.next_timeout().is_some_and(|wait| wait > 2 * SECOND));
    assert_eq!(world.server.stats().presence_joins, 1, "whether anybody hears it or not");
    // One that comes and goes at once was never there.
    members[0].say(r#"{"op":"subscribe","topic":"rooms.b"}"#);
    members[0].say(r#"{"op":"unsubscribe","topic":"rooms.b"}"#);
    world.meet(&mut members);
    assert!(world.server.next_timeout().is_some_and(|wait| wait > 2 * SECOND));
    let events = world.ask(&get_request("/topics/$presence.room", ""));
    assert!(events.starts_with("HTTP/1.1 204 "), "{events}");
}

#[test]
fn another_configuration_names_other_topics() {
    let mut world = start(&[]);
    let mut clients: Vec<_> =
        (0..3).map(|n| join(&mut world, &format!("user=u{n}"), "room")).collect();
    for client in &mut clients {
        subscribe(&mut world, client, "hall");
    }
    world.pass(TOLD, &mut clients);
    for (named, other) in [("hall", "room"), ("room", "hall")] {
        let mut config = world.config.clone();
        config.set("topics.presence", named).unwrap();
        world.server.handle().reload(config).expect("it is sound");
        world.pass(TOLD, &mut clients);
        let text = ask(&mut world, &format!("/topics/{named}?presence"));
        assert!(text.contains(r#""count":3"#) && text.contains(r#""identity":"u2""#), "{text}");
        assert_eq!(status(&mut world, &format!("/topics/{other}?presence")).0, 404);
    }
    let stats = *world.server.stats();
    assert_eq!((stats.presence_joins, stats.presence_leaves), (9, 6));
    clients.clear();
    world.settle();
    world.pass(TOLD, &mut clients);
    assert_eq!(world.server.stats().presence_leaves, 9);
}
