//! What names a session, over the engine: cookies, queries, identities, and what is none.

use std::sync::Arc;

use heartwheel::{Accept, MemorySessions, Route, Server, SessionKey};

use super::tally::Tally;
use crate::common::http::upgrade_request;
use crate::common::world::*;

fn start(key: SessionKey) -> World {
    let store = Arc::new(MemorySessions::default());
    let route = Route::sessions("/tally", Tally::default(), key, store);
    let route = route.authorize(|request| {
        let user = request.query_value("user");
        Ok(user.map_or(Accept::new(), |user| Accept::new().identity(user)))
    });
    World::new(&[], Server::builder().seed(7).route(route).admin("127.0.0.1:0").unwrap())
}

/// Opens a connection, has it count, and ends it. Gives what the handler said first.
fn visit(world: &mut World, path: &str, lines: &str) -> String {
    let mut peer = world.send(upgrade_request(path, lines).as_bytes());
    let answer = text(&read_all(&mut peer).0);
    if !answer.starts_with("HTTP/1.1 101") {
        return answer.lines().next().unwrap().to_owned();
    }
    std::io::Write::write_all(&mut peer, &crate::common::frame::frame(0x81, b"1")).unwrap();
    world.settle();
    drop(peer);
    world.settle();
    let hello = answer.split("\r\n\r\n").nth(1).unwrap();
    hello.chars().skip_while(|c| !c.is_ascii_lowercase()).collect()
}

#[test]
fn an_identity_names_it_and_no_other_gets_it() {
    let mut world = start(SessionKey::identity().required());
    assert_eq!(visit(&mut world, "/tally?user=ann", ""), "new");
    assert_eq!(visit(&mut world, "/tally?user=ann", ""), "back 1");
    assert_eq!(visit(&mut world, "/tally?user=bob", ""), "new");
    assert!(visit(&mut world, "/tally", "").contains("400"));
}

#[test]
fn a_cookie_names_it() {
    let mut world = start(SessionKey::cookie("sid"));
    assert_eq!(visit(&mut world, "/tally", "Cookie: a=1; sid=x\r\n"), "new");
    assert_eq!(visit(&mut world, "/tally", "Cookie: sid=\"x\"; sid=y\r\n"), "back 1");
    assert_eq!(visit(&mut world, "/tally", ""), "new");
}

// FAULTS 264.
#[test]
fn a_hostile_key_is_refused_and_stands_nowhere() {
    let mut world = start(SessionKey::query("sid"));
    for key in ["%00", "secret%0A", &"secret".repeat(50), "secret%C2%85"] {
        let answer = visit(&mut world, &format!("/tally?sid={key}"), "");
        assert_eq!(answer, "HTTP/1.1 400 Bad Request", "{key}");
    }
    for key in ["secret'%22;--", "../../secret", "%F0%9F%92%A3secret", "secret%FF"] {
        assert_eq!(visit(&mut world, &format!("/tally?sid={key}"), ""), "new", "{key}");
        assert_eq!(visit(&mut world, &format!("/tally?sid={key}"), ""), "back 1", "{key}");
    }
    let metrics = world.server.metrics();
    assert!(metrics.contains("heartwheel_sessions_opened_total{result=\"bad_key\"} 4"));
    assert!(!metrics.contains("secret"));
}
