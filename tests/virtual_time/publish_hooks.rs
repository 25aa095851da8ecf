//! Hooks of routes with topics decide on what clients publish: each way of publishing, each
//! verdict, in the order of each client.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use heartwheel::http::Refusal;
use heartwheel::stats::HookVerdict;
use heartwheel::topics::After;
use heartwheel::{
    Builder, Error, Event, Heard, MemoryNetwork, Offer, Payload, Peer, Route, Server,
};

use crate::common::timing::eventually;
use crate::common::world::*;

/// What the hook of these tests makes of a text.
fn decide(peer: &Peer, offer: Offer) -> Result<Option<Payload>, Refusal> {
    let text = offer.payload.as_text().unwrap_or_default().to_owned();
    match text.split_once(' ').unwrap_or((&text, "")) {
        ("change", rest) => Ok(Some(format!("changed {rest}").into())),
        ("take", _) => Ok(None),
        ("before", rest) => {
            peer.publish(offer.topic.as_str(), format!("first {rest}")).unwrap();
            Ok(Some(offer.payload))
        }
        ("lie", _) => Ok(Some(Payload::Json("{".into()))),
        ("json", rest) => Ok(Some(Payload::Json(rest.into()))),
        ("panic", _) => panic!("the hook"),
        (status, _) if status.parse::<u16>().is_ok() => {
            Err(Refusal::new(status.parse().unwrap(), format!("not {status}")))
        }
        _ => Ok(Some(offer.payload)),
    }
}

fn hooked(decide: fn(&Peer, Offer) -> Result<Option<Payload>, Refusal>) -> Builder {
    Server::builder()
        .seed(7)
        .route(Route::topics("/topics/{topic}").on_publish(decide))
        .route(Route::hub("/ws").on_publish(decide))
}

fn post(text: &str) -> String {
    let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{text}", text.len())
}

fn verdicts(world: &World) -> [u64; HookVerdict::COUNT] {
    world.server.stats().hook_verdicts
}

fn texts(client: &Client) -> Vec<String> {
    client.messages.iter().map(|message| message.to_text().unwrap().to_owned()).collect()
}

/// The messages of `/ws` but for the first, which greets; ids as `ID`.
fn told(client: &Client) -> Vec<String> {
    let without_id = |text: String| match text.split_once(r#""id":""#) {
        Some((before, rest)) => format!(r#"{before}"id":"ID{}"#, &rest[rest.find('"').unwrap()..]),
        None => text,
    };
    texts(client).into_iter().skip(1).map(without_id).collect()
}

#[test]
fn a_post_is_answered_as_the_hook_decides() {
    let mut world = World::new(&[], hooked(decide));
    let handle = world.server.handle();
    let heard = handle.subscribe("a", After::Now).unwrap();
    for (text, status, body) in [
        ("plain", "200", r#"{"id":""#),
        ("change it", "200", r#"{"id":""#),
        ("before it", "200", r#"{"id":""#),
        ("json [1]", "200", r#"{"id":""#),
        ("take it", "200", r#"{"id":null}"#),
        ("403", "403", "not 403\n"),
        ("503", "503", "not 503\n"),
        ("lie", "500", "the hook made JSON that is none\n"),
        ("panic", "500", "the handler panicked\n"),
    ] {
        let answer = world.ask(&post(text));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text}: {answer}");
        assert!(answer.split_once("\r\n\r\n").unwrap().1.starts_with(body), "{text}: {answer}");
    }
    handle.publish("a", "403").unwrap();
    world.settle();
    let texts = std::iter::from_fn(|| match heard.try_receive() {
        Ok(Heard::Event(event)) => Some(event.payload.as_text().unwrap().to_owned()),
        _ => None,
    });
    // What the server's own code publishes is asked of no hook.
    let expected = ["plain", "changed it", "first it", "before it", "[1]", "403"];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
    assert_eq!(verdicts(&world), [4, 3, 1, 0]);
    assert_eq!(world.server.stats().handler_panics, 1);
    assert_eq!(world.server.stats().messages_posted, 4);
}

#[test]
fn a_client_of_many_topics_is_answered_in_its_order() {
    for workers in ["0", "2"] {
        let mut world = World::new(&[("workers", workers)], hooked(decide));
        let mut client = [world.open("/ws")];
        let publish = |topic: &str, data: &str, number: usize| {
            format!(r#"{{"op":"publish","topic":"{topic}","data":"{data}","ref":{number}}}"#)
        };
        let data = ["x", "take", "429", "400", "403", "503", "lie", "change x"];
        for (number, data) in data.iter().enumerate() {
            client[0].say(&publish("a", data, number));
        }
        // None of these is asked of the hook; their answers wait all the same.
        client[0].say(&publish("$stats", "x", 8));
        client[0].say(&publish("no blanks", "x", 9));
        client[0].say(r#"{"op":"ping","ref":10}"#);
        eventually("all are answered", || {
            world.pass(Duration::ZERO, &mut client);
            client[0].messages.len() == 12
        });
        let error = |code: &str, message: &str, number: usize| {
            format!(r#"{{"op":"error","code":"{code}","message":"{message}","ref":{number}}}"#)
        };
        let published = |number: usize| format!(r#"{{"op":"published","ref":{number},"id":"ID"}}"#);
        let mut told = told(&client[0]);
        // A pong waits for nothing.
        let pong = told.iter().position(|text| text.contains("pong")).unwrap();
        told.remove(pong);
        assert_eq!(
            told,
            [
                published(0),
                r#"{"op":"published","ref":1,"id":null}"#.to_owned(),
                error("limit", "not 429", 2),
                error("bad_request", "not 400", 3),
                error("forbidden", "not 403", 4),
                error("unavailable", "not 503", 5),
                error("unavailable", "the hook made JSON that is none", 6),
                published(7),
                error("forbidden", "this topic is the server's own", 8),
                error("bad_request", "a topic is 1 to 128 characters of A-Z a-z 0-9 . _ - :", 9),
            ],
            "{workers}"
        );
        assert_eq!(verdicts(&world), [2, 5, 1, 0]);
        let stats = world.server.stats();
        assert_eq!((stats.messages_received, stats.messages_handled), (11, 11));
        // A panic ends the connection, as one of a handler does.
        client[0].say(&publish("a", "panic", 11));
        client[0].say(&publish("a", "x", 12));
        eventually("it ends", || {
            world.pass(Duration::ZERO, &mut client);
            client[0].ended_at.is_some()
        });
        assert_eq!(client[0].code(), 1011);
        let stats = world.server.stats();
        let lost = stats.messages_panicked + stats.messages_cancelled;
        assert_eq!((stats.messages_received, stats.messages_handled + lost), (13, 13));
    }
}

#[test]
fn a_websocket_of_a_topic_learns_a_refusal_by_its_end() {
    let mut world = World::new(&[], hooked(decide));
    let mut clients = [world.open("/topics/a"), world.open("/topics/a")];
    for text in ["x", "change y", "take z", "before w", "403", "never"] {
        clients[0].say(text);
    }
    world.pass(SECOND, &mut clients);
    assert_eq!(clients[0].code(), 1008);
    assert_eq!(texts(&clients[1]), ["x", "changed y", "first w", "before w"]);
    assert!(clients[1].ended_at.is_none());
    // What it has sent behind is refused with it.
    assert_eq!(verdicts(&world), [3, 2, 1, 0]);
    let stats = world.server.stats();
    assert_eq!((stats.messages_received, stats.messages_handled), (6, 6));
}

#[test]
fn a_hook_that_blocks_keeps_the_order_and_holds_up_one_client() {
    let (outlet, inlet) = mpsc::channel::<()>();
    let inlet = Mutex::new(inlet);
    let decide = move |_: &Peer, offer: Offer| {
        if offer.payload.as_text() == Some("slow") {
            inlet.lock().unwrap().recv().unwrap();
        }
        Ok(Some(offer.payload))
    };
    let builder =
        Server::builder().seed(7).route(Route::topics("/topics/{topic}").on_publish(decide));
    let pairs = [("workers", "2"), ("limits.inbox_messages", "4"), ("deadlines.handler", "1s")];
    let mut world = World::new(&pairs, builder);
    let mut clients = [world.open("/topics/a"), world.open("/topics/a"), world.open("/topics/a")];
    clients[0].say("slow");
    world.settle();
    for number in 0..20 {
        clients[0].say(&number.to_string());
    }
    clients[1].say("other");
    eventually("the other client is served", || {
        world.pass(Duration::ZERO, &mut clients);
        texts(&clients[2]) == ["other"]
    });
    let received = world.server.stats().messages_received;
    assert!(received < 10, "it is not read on: {received}");
    // A POST is answered in time, and is not published then.
    let mut late = world.send(post("slow").as_bytes());
    world.pass(6 * SECOND, &mut clients);
    let answer = text(&read_all(&mut late).0);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // The peer leaves; what it has published is decided on.
    clients[0].socket.close(None).unwrap();
    outlet.send(()).unwrap();
    outlet.send(()).unwrap();
    let expected: Vec<String> = ["other".to_owned(), "slow".to_owned()]
        .into_iter()
        .chain((0..20).map(|number: u32| number.to_string()))
        .collect();
    eventually("all is published", || {
        world.pass(Duration::ZERO, &mut clients);
        clients[2].messages.len() == 22 && clients[0].ended_at.is_some()
    });
    assert_eq!(texts(&clients[2]), expected);
    assert_eq!(clients[0].code(), 1000);
    eventually("the late verdict is counted", || {
        world.settle();
        verdicts(&world)[HookVerdict::Late as usize] == 1
    });
}

#[test]
fn a_client_that_publishes_and_goes_is_heard() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let decide = move |peer: &Peer, offer: Offer| {
        noted.lock().unwrap().push(peer.identity().map(str::to_owned));
        Ok(Some(offer.payload))
    };
    let route = Route::topics("/topics/{topic}")
        .authorize(|_| Ok(heartwheel::Accept::new().identity("ada")))
        .on_publish(decide);
    let mut world = World::new(&[], Server::builder().seed(7).route(route));
    let heard = world.server.handle().subscribe("a", After::Now).unwrap();
    let mut client = world.open("/topics/a");
    client.say("last words");
    client.socket.get_mut().shut_down();
    drop(client);
    world.settle();
    world.settle();
    assert!(matches!(heard.try_receive(), Ok(Heard::Event(_))));
    assert_eq!(*seen.lock().unwrap(), [Some("ada".to_owned())]);
    assert_eq!(world.server.stats().messages_cancelled, 0);
}

#[test]
fn only_routes_on_which_clients_publish_have_a_hook() {
    for route in [
        Route::events("/events"),
        Route::websocket("/a", |_: &Peer, _: Event| {}),
        Route::get("/b", |_| heartwheel::http::Response::new(200)),
    ] {
        let builder = Server::builder().route(route.on_publish(decide));
        let error = builder.listen_memory(&MemoryNetwork::new()).unwrap_err();
        assert!(matches!(error, Error::Route { rule, .. } if rule.contains("hooks")), "{error}");
    }
}

#[test]
fn what_comes_again_while_the_hook_decides_is_published_once() {
    let (outlet, inlet) = mpsc::channel::<()>();
    let inlet = Mutex::new(inlet);
    let hook = move |peer: &Peer, offer: Offer| {
        inlet.lock().unwrap().recv().unwrap();
        decide(peer, offer)
    };
    let builder = Server::builder().seed(7).route(Route::hub("/ws").on_publish(hook));
    let mut world = World::new(&[("workers", "2")], builder);
    let heard = world.server.handle().subscribe("a", After::Now).unwrap();
    for data in ["once", "take"] {
        let mut clients = [world.open("/ws"), world.open("/ws")];
        for client in &mut clients {
            client.say(&format!(
                r#"{{"op":"hello","client":"0123456789abcdef-{data}","version":"1"}}"#
            ));
            client.say(&format!(r#"{{"op":"publish","topic":"a","data":"{data}","ref":1}}"#));
            world.settle();
        }
        // Both are with the hook. The first client does not live to see the answer.
        clients[0].socket.get_mut().shut_down();
        outlet.send(()).unwrap();
        outlet.send(()).unwrap();
        eventually("it is answered", || {
            world.pass(Duration::ZERO, &mut clients);
            told(&clients[1]).iter().any(|text| text.contains("published"))
        });
    }
    eventually("both verdicts are followed", || {
        world.settle();
        world.server.stats().publishes_repeated == 2
    });
    assert_eq!(std::iter::from_fn(|| heard.try_receive().ok()).count(), 1);
    // What comes again is judged again, and published once.
    assert_eq!(verdicts(&world), [2, 0, 2, 0]);
}
