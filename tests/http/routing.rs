//! Which route a request is given to: by its path, by its method, and through which listener.

use heartwheel::http::{Method, Request, Response};
use heartwheel::{Builder, Error, Event, Peer, Route, Server};

use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;

/// Answers with the name of the route and the values of these parameters.
fn named(
    name: &'static str,
    parameters: &'static [&'static str],
) -> impl Fn(&Request) -> Response + Send + Sync + 'static {
    move |request| {
        let value = |name: &&str| request.parameter(name).map(|value| format!(" {value}"));
        let values: String = parameters.iter().filter_map(value).collect();
        Response::new(200).text(format!("{name}{values}"))
    }
}

fn ask(world: &mut World, method: &str, path: &str, lines: &str) -> (u16, String) {
    let answer = world.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[track_caller]
fn expect(world: &mut World, path: &str, body: &str) {
    let (status, answer) = ask(world, "GET", path, "");
    let (expected, body) = if body.is_empty() { (404, "") } else { (200, body) };
    assert_eq!(status, expected, "{path}: {answer}");
    assert!(answer.ends_with(body), "{path}: {answer}");
}

#[test]
fn the_path_that_says_more_wins() {
    let routes = Server::builder()
        .get("/{rest...}", named("rest", &["rest"]))
        .get("/users/{id}", named("user", &["id"]))
        .get("/users/me", named("me", &["id"]))
        .get("/users/{id}/keys/{key}", named("key", &["id", "key", "none"]))
        .get("/v{version}/a", named("version", &["version"]))
        .get("/a%20b/{x}", named("blank", &["x"]));
    let mut world = World::new(&[], routes);
    for (path, body) in [
        ("/users/me", "\r\nme"),
        ("/users/%6De", "\r\nme"),
        ("/%75sers/me", "\r\nme"),
        ("/users/me/", "rest users/me/"),
        ("/users/7", "user 7"),
        ("/users/", "user "),
        ("/users", "rest users"),
        ("/users/a%2Fb", "user a/b"),
        ("/users/..", "user .."),
        ("/users/%2E%2e", "user .."),
        ("/users/%7Bid%7D", "user {id}"),
        ("/users/%C3%A4", "user \u{e4}"),
        ("/users/1/keys/2", "key 1 2"),
        ("/users/1/keys%2F2", "rest users/1/keys/2"),
        ("/v2/a", "version 2"),
        ("/v/a", "version "),
        ("/a%20b/c", "blank c"),
        ("/", "rest "),
        ("/../x", "rest ../x"),
    ] {
        expect(&mut world, path, body);
    }
}

#[test]
fn each_method_has_its_route_and_allow_names_them() {
    let mut routes = Server::builder()
        .websocket("/both", |_: &Peer, _: Event| {})
        .post("/both", named("post", &[]));
    for method in Method::ALL {
        routes = routes.on(method, "/all", named(method.name(), &[]));
    }
    let mut world = World::new(&[], routes.on(Method::Put, "/put/{x}", named("put", &["x"])));
    for method in Method::ALL {
        let (status, answer) = ask(&mut world, method.name(), "/all", "Content-Length: 0\r\n");
        assert_eq!(status, 200, "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{}", method.name())), "{answer}");
    }
    let (status, answer) = ask(&mut world, "HEAD", "/all", "");
    assert!(status == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
    for (method, path, lines, status, allow) in [
        ("GET", "/put/7", "", 405, "PUT, OPTIONS"),
        ("put", "/put/7", "", 405, "PUT, OPTIONS"),
        ("PROPFIND", "/put/7", "", 405, "PUT, OPTIONS"),
        ("OPTIONS", "/put/7", "", 204, "PUT, OPTIONS"),
        ("PUT", "/put/7", "", 411, ""),
        ("PUT", "/put/7", "Content-Length: 0\r\n", 200, ""),
        ("DELETE", "/both", "", 405, "GET, POST, OPTIONS"),
        ("GET", "/both", "", 426, ""),
        ("DELETE", "/none", "", 404, ""),
    ] {
        let (told, answer) = ask(&mut world, method, path, lines);
        assert_eq!(told, status, "{method} {path}: {answer}");
        let line = format!("\r\nAllow: {allow}\r\n");
        assert!(allow.is_empty() || answer.contains(&line), "{method} {path}: {answer}");
    }
    let answer = world.ask(&upgrade_request("/both", ""));
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[test]
fn routes_that_answer_the_same_are_refused() {
    let build = |builder: Builder| builder.listen("127.0.0.1:0").map(drop);
    let answer = || named("x", &[]);
    for (one, other) in [
        ("/a", "/a"),
        ("/a", "/%61"),
        ("/a/{x}", "/a/{y}"),
        ("/a/{x...}", "/%61/{y...}"),
        ("/{x}/b", "/{y}/b"),
    ] {
        let builder = Server::builder().workers(0).get(one, answer());
        let error = build(builder.get(other, answer())).unwrap_err();
        let is_second = matches!(&error, Error::Route { path, .. } if path == other);
        assert!(is_second && error.to_string().contains("another route"), "{error}");
        let apart = Server::builder().workers(0).get(one, answer()).post(other, answer());
        assert!(build(apart).is_ok(), "{one} {other}");
        let admin = Route::get(other, answer()).admin();
        assert!(build(Server::builder().workers(0).get(one, answer()).route(admin)).is_ok());
    }
    // What the library serves by itself may be asked for twice, but not with another judge.
    assert!(build(Server::builder().workers(0).health().health()).is_ok());
    let judged = Route::health().authorize(|_| Ok(heartwheel::Accept::new()));
    assert!(build(Server::builder().workers(0).health().route(judged)).is_err());
}

/// Topics may stand anywhere in a path, beside other parameters.
#[test]
fn the_topic_of_a_path_is_its_parameter() {
    let routes = Server::builder().topics("/{tenant}/{topic}/events").get("/a/b", named("b", &[]));
    let mut world = World::new(&[], routes);
    let lines = "Content-Length: 1\r\n\r\nx";
    let head = "POST /x/a%3Ab/events HTTP/1.1\r\nHost: localhost\r\n";
    assert!(world.ask(&format!("{head}{lines}")).starts_with("HTTP/1.1 200 "));
    let answer = world.ask(&get_request("/y/a:b/%65vents", ""));
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
    assert!(world.ask(&get_request("/y/a%2Fb/events", "")).starts_with("HTTP/1.1 400 "));
}

#[test]
fn among_4096_routes_each_is_found() {
    let mut routes = Server::builder();
    for nth in 0..4000 {
        routes = routes.get(format!("/exact/{nth}"), named("exact", &[]));
    }
    for nth in 0..96 {
        routes = routes.get(format!("/{{a}}/{nth}/{{b}}"), named("pattern", &["a", "b"]));
    }
    let mut world = World::new(&[], routes);
    for nth in (0..4000).step_by(97).chain([3999]) {
        expect(&mut world, &format!("/exact/{nth}"), "exact");
    }
    for nth in 0..96 {
        expect(&mut world, &format!("/x%2F/{nth}/y"), "pattern x/ y");
    }
    for path in ["/exact/4000", "/exact", "/x/96/y", "/x/1", "//"] {
        expect(&mut world, path, "");
    }
}
