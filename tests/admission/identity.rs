//! What `authorize` lets in, before all that the library serves: as whom, with which rights, and
//! with which headers of the answer.

use std::sync::{Arc, Mutex};

use heartwheel::http::{Refusal, Request, Response};
use heartwheel::{Accept, Event, Peer, Route, Server};

use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;
use crate::tokens::TokenFile;

/// Lets in what has a `?user=`, as that user, with the rights of that user.
fn by_user(request: &Request) -> Result<Accept, Refusal> {
    let user = request.query_value("user").ok_or_else(|| Refusal::new(401, "say who you are"))?;
    match &*user {
        "panic" => panic!("as the test wants it"),
        "bad" => Ok(Accept::new().identity("a\nb")),
        "split" => Ok(Accept::new().identity("x").header("X", "a\r\nSet-Cookie: b=c")),
        "token" => Ok(Accept::new()),
        "a\"b" => Ok(Accept::new().identity(user)),
        user => Ok(Accept::new()
            .identity(user)
            .publish([format!("in.{user}")])
            .subscribe([format!("out.{user}"), "all".into()])
            .header("Set-Cookie", &format!("user={user}"))),
    }
}

fn builder() -> heartwheel::Builder {
    Server::builder()
        .route(Route::topics("/topics/{topic}").authorize(by_user))
        .route(Route::hub("/ws").authorize(by_user))
        .route(Route::events("/events").authorize(by_user).inline())
        .route(Route::health().authorize(by_user))
        .route(Route::get("/who", who).authorize(by_user))
        .route(Route::post("/who", who).authorize(by_user))
}

fn who(request: &Request) -> Response {
    let body = str::from_utf8(request.body()).unwrap_or_default();
    Response::new(200).text(format!("{} {body}", request.identity().unwrap_or("nobody")))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn post_request(path: &str, body: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}")
}

#[test]
fn it_stands_before_all_that_the_library_serves() {
    let mut world = World::new(&[], builder());
    let stream = "Accept: text/event-stream\r\n";
    for path in ["/topics/all", "/ws", "/events?topic=all", "/healthz", "/readyz", "/who"] {
        let user = if path.contains('?') { "&user=ann" } else { "?user=ann" };
        for (lines, is_upgrade) in [("", false), (stream, false), ("", true)] {
            if is_upgrade != (path == "/ws") && !path.starts_with("/topics") {
                continue;
            }
            let request = |path: &str| match is_upgrade {
                true => upgrade_request(path, lines),
                false => get_request(path, lines),
            };
            let refused = world.ask(&request(path));
            assert_eq!(status(&refused), 401, "{path} {lines}: {refused}");
            assert!(refused.ends_with("say who you are\n"), "{refused}");
            let answer = world.ask(&request(&format!("{path}{user}")));
            let expected = [200, 101, 204];
            assert!(expected.contains(&status(&answer)), "{path} {lines}: {answer}");
            assert!(answer.contains("\r\nSet-Cookie: user=ann\r\n"), "{path}: {answer}");
        }
    }
    assert_eq!(status(&world.ask(&post_request("/topics/in.ann", "x"))), 401);
    assert_eq!(status(&world.ask(&post_request("/topics/in.ann?user=ann", "x"))), 200);
    let answer = world.ask(&post_request("/who?user=ann", "and a body"));
    assert!(answer.ends_with("\r\n\r\nann and a body"), "{answer}");
    assert_eq!(world.server.stats().rejected_by_handlers, 13);
}

#[test]
fn rights_bound_what_a_connection_may_do() {
    let mut world = World::new(&[], builder());
    for (request, expected) in [
        (get_request("/topics/out.ann?user=ann", ""), 204),
        (get_request("/topics/in.ann?user=ann", ""), 403),
        (get_request("/topics/out.bob?user=ann", ""), 403),
        (get_request("/topics/out.bob?user=token", ""), 204),
        (get_request("/topics/a%20b?user=ann", ""), 400),
        (get_request("/events?user=ann&topic=all&topic=out.bob", ""), 403),
        (post_request("/topics/out.ann?user=ann", "x"), 403),
        (post_request("/topics/in.ann?user=ann", "x"), 200),
        (upgrade_request("/topics/out.bob?user=ann", ""), 403),
        (upgrade_request("/topics/out.ann?user=ann", ""), 101),
    ] {
        let answer = world.ask(&request);
        assert_eq!(status(&answer), expected, "{request} {answer}");
    }
    assert_eq!(world.server.stats().rejected_rights, 5);
    let mut hub = [world.open("/ws?user=ann")];
    for (said, expected) in [
        (r#"{"op":"subscribe","topic":"out.ann"}"#, "subscribed"),
        (r#"{"op":"subscribe","topic":"out.bob"}"#, "forbidden"),
        (r#"{"op":"publish","topic":"in.ann","data":1}"#, "published"),
        (r#"{"op":"publish","topic":"out.ann","data":1}"#, "forbidden"),
    ] {
        hub[0].messages.clear();
        hub[0].say(said);
        world.pass(TICK, &mut hub);
        let answer = hub[0].messages.last().expect("each is answered").to_string();
        assert!(answer.contains(expected), "{said}: {answer}");
    }
    let mut socket = [world.open("/topics/out.ann?user=ann")];
    socket[0].say("mine");
    world.pass(TICK, &mut socket);
    assert_eq!(socket[0].code(), 1008);
}

#[test]
fn with_tokens_both_must_let_in() {
    let file = TokenFile::new("t publish=in.* subscribe=* identity=\"of the line\"\nnone\n");
    let mut world = World::new(&[("admission.tokens", file.path())], builder());
    for (token, path, expected) in [
        ("", "/topics/out.ann?user=ann", 401),
        ("t", "/topics/out.ann", 401),
        ("t", "/topics/out.ann?user=ann", 204),
        ("t", "/topics/out.bob?user=ann", 403),
        ("t", "/topics/out.bob?user=token", 204),
        ("none", "/topics/out.ann?user=ann", 403),
    ] {
        let answer = world.ask(&get_request(path, &format!("Authorization: Bearer {token}\r\n")));
        assert_eq!(status(&answer), expected, "{token} {path}: {answer}");
    }
    for (user, expected) in [("ann", "ann "), ("token", "of the line ")] {
        let lines = "Authorization: Bearer t\r\n";
        let answer = world.ask(&get_request(&format!("/who?user={user}"), lines));
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    }
}

/// The handler is told in each call, and again after the connection has ended.
#[test]
fn a_handler_is_told_who_is_there() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    let handler = move |peer: &Peer, event: Event| {
        let what = match event {
            Event::Opened(request) => format!("opened {:?}", request.identity()),
            Event::Message(_) => "message".to_owned(),
            Event::Closed(_) => "closed".to_owned(),
            _ => return,
        };
        note.lock().unwrap().push(format!("{what} {:?}", peer.identity()));
    };
    let route = Route::websocket("/a", handler);
    let routes = Server::builder().route(route.authorize(by_user)).get("/who", who);
    let mut world = World::new(&[], routes);
    for user in ["ann", "token"] {
        let mut client = [world.open(&format!("/a?user={user}"))];
        client[0].say("x");
        world.pass(TICK, &mut client);
        drop(client);
        world.settle();
        let told = std::mem::take(&mut *told.lock().unwrap());
        let name = if user == "ann" { "Some(\"ann\")" } else { "None" };
        let expected =
            [format!("opened {name} {name}"), format!("message {name}"), format!("closed {name}")];
        assert_eq!(told, expected);
    }
}

/// One connection, many requests: what was known of the one before holds no longer.
#[test]
fn the_next_request_of_a_connection_is_another_asker() {
    let mut world = World::new(&[], builder().get("/open", who));
    let requests = [
        get_request("/who?user=ann", ""),
        get_request("/who?user=bob", ""),
        get_request("/who?user=token", ""),
        get_request("/who?user=ann", ""),
        get_request("/open", ""),
        get_request("/topics/in.ann?user=token", ""),
    ];
    let answers = world.ask(&requests.concat());
    let expected = ["ann ", "bob ", "nobody ", "ann ", "nobody "];
    let bodies: Vec<&str> = answers.split("\r\n\r\n").collect();
    for (body, expected) in bodies[1..].iter().zip(expected) {
        assert!(body.starts_with(expected), "{expected}: {answers}");
    }
    assert!(bodies[5].contains("HTTP/1.1 204 "), "no right was taken away: {answers}");
}

#[test]
fn a_faulty_answer_of_authorize_is_500_and_lets_nothing_in() {
    let mut world = World::new(&[], builder());
    for user in ["panic", "bad", "split"] {
        for request in [
            get_request(&format!("/topics/all?user={user}"), ""),
            post_request(&format!("/topics/in.x?user={user}"), "x"),
            upgrade_request(&format!("/ws?user={user}"), ""),
            get_request(&format!("/who?user={user}"), ""),
        ] {
            let answer = world.ask(&request);
            assert_eq!(status(&answer), 500, "{user}: {answer}");
            assert!(!answer.contains("Set-Cookie"), "{answer}");
        }
    }
    let stats = world.server.stats();
    assert_eq!((stats.handler_panics, stats.rejected_by_handlers), (4, 8));
    assert_eq!((stats.upgraded, stats.messages_posted), (0, 0));
}

/// The operator sees who is there, in a row and in the line of the end.
#[test]
fn the_table_of_connections_names_who_is_there() {
    let server = Server::builder().route(Route::hub("/ws").authorize(by_user)).operator();
    let mut world = World::new(&[], server);
    let client = world.open("/ws?user=a%22b");
    let other = world.open("/ws?user=token");
    let handle = world.server.handle();
    let rows = std::thread::scope(|scope| {
        let table = scope.spawn(move || {
            let mut rows = String::new();
            assert!(handle.connections(SECOND * 10, |slice| rows.push_str(slice)));
            rows
        });
        while !table.is_finished() {
            world.server.turn().expect("the poller works");
        }
        table.join().expect("nobody panicked")
    });
    assert!(rows.contains(r#""identity":"a\"b""#), "{rows}");
    assert_eq!(rows.matches("identity").count(), 1, "{rows}");
    drop((client, other));
}
