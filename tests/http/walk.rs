//! A walk over every route, method and origin, on both listeners.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::common::server::TestServer;
use crate::common::topics::{Stream, publish};
use crate::{PROBE, Told, is_probed, start, tell};

/// Every path there is, and some that there are not.
const PATHS: &[&str] = &[
    "/",
    "/heartwheel.js",
    "/healthz",
    "/readyz",
    "/topics/a",
    "/topics/empty",
    "/topics/a?after=0-0",
    "/topics/$stats",
    "/topics/a%20b",
    "/topics/a/b",
    "/events?topic=a&topic=b",
    "/events",
    "/ws",
    "/echo",
    "/metrics",
    "/connections",
    "/connections/1",
    "/config",
    "/shed?fraction=2",
    "/shed",
    "/nothing",
    "*",
];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PREFLIGHT"];

const ADMITTED: &str = "https://app.example";
const REFUSED: &str = "https://evil.example";

/// Gives a request; a preflight is an OPTIONS that asks for another.
fn request(method: &str, path: &str, lines: &str) -> String {
    let (method, asked) = match method {
        "PREFLIGHT" => (
            "OPTIONS",
            "Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization, content-type\r\n",
        ),
        method => (method, ""),
    };
    let body = if method == "POST" { "Content-Length: 1\r\n" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    format!("{head}{lines}{asked}{body}\r\n{}", if body.is_empty() { "" } else { "1" })
}

fn faces(server: &TestServer) -> [SocketAddr; 2] {
    [server.address, server.admin.expect("there is an operator's listener")]
}

/// Asserts that no header stands twice.
#[track_caller]
pub fn assert_once(told: &Told, request: &str) {
    let mut seen = BTreeSet::new();
    for (name, _) in told.lines() {
        let is_new = seen.insert(name.clone());
        assert!(is_new || name == "set-cookie", "{name} stands twice: {request}\n{}", told.head);
    }
}

fn elements<'t>(told: &'t Told, name: &str) -> Vec<&'t str> {
    told.header(name).into_iter().flat_map(|value| value.split(", ")).collect()
}

// FAULTS 168: each header once; who may read an answer can, and nobody else; 173.
#[test]
fn each_header_stands_once_whatever_is_asked_and_by_whom() {
    for (origins, admitted) in [("same", ""), (ADMITTED, ADMITTED), ("*", REFUSED)] {
        let server = start(&[("admission.origins", origins)]);
        publish(server.address, "a", "x");
        let mut statuses = BTreeSet::new();
        for address in faces(&server) {
            for path in PATHS {
                for method in METHODS {
                    for origin in ["", "http://localhost", ADMITTED, REFUSED, "null"] {
                        let is_topical = path.starts_with("/topics") || path.starts_with("/events");
                        let wanted = ["", "Accept: text/event-stream\r\n"];
                        for more in &wanted[..1 + usize::from(is_topical)] {
                            let line = match origin {
                                "" => String::new(),
                                origin => format!("Origin: {origin}\r\n"),
                            };
                            let text = request(method, path, &format!("{line}{more}"));
                            let told = tell(address, &format!("{text}{PROBE}"));
                            statuses.insert(told.status);
                            assert_once(&told, &text);
                            let is_foreign = !matches!(origin, "" | "http://localhost");
                            let is_admitted = is_foreign && (admitted == origin || origins == "*");
                            check_cors(&told, &text, is_foreign.then_some(origin), is_admitted);
                            check_caching(&told, path, address == server.address);
                        }
                    }
                }
            }
        }
        println!("{origins}: {statuses:?}");
        for status in [200, 204, 400, 403, 404, 405, 426] {
            // Nobody is refused where all are admitted, but on the operator's listener.
            assert!(statuses.contains(&status), "{status} of {statuses:?}");
        }
    }
}

fn check_cors(told: &Told, request: &str, foreign: Option<&str>, is_admitted: bool) {
    let allowed = told.header("Access-Control-Allow-Origin");
    let exposed = elements(told, "Access-Control-Expose-Headers");
    let varies = elements(told, "Vary").contains(&"Origin");
    match foreign {
        // The refused page may see that it is refused.
        Some(origin) if !is_admitted || told.status == 403 => {
            if !is_admitted {
                assert!([400, 403].contains(&told.status), "{request}\n{}", told.head);
            }
            if told.status == 403 {
                assert_eq!(allowed, Some(origin), "{request}\n{}", told.head);
                assert!(varies, "{request}\n{}", told.head);
            } else {
                assert_eq!(allowed, None, "{request}\n{}", told.head);
            }
            assert!(is_admitted || exposed.is_empty(), "{request}\n{}", told.head);
        }
        Some(origin) if told.status != 400 || allowed.is_some() => {
            assert_eq!(allowed, Some(origin), "{request}\n{}", told.head);
            assert_eq!(exposed, ["Event-Id", "Event-Gap"], "{request}");
            assert!(varies, "{request}\n{}", told.head);
        }
        // A request that cannot be read.
        Some(_) => {}
        None => {
            assert_eq!((allowed, exposed), (None, vec![]), "{request}\n{}", told.head);
        }
    }
    let is_preflight = request.starts_with("OPTIONS") && request.contains("Request-Method");
    if is_preflight && is_admitted && told.status == 204 {
        assert_eq!(
            told.header("Access-Control-Allow-Headers"),
            Some("authorization, content-type")
        );
    }
}

/// What tells how things stand now is kept by no cache, and what is about topics depends on what
/// was asked for.
fn check_caching(told: &Told, path: &str, is_public: bool) {
    let is_page = ["/", "/heartwheel.js"].contains(&path);
    let policy = told.header("Cache-Control");
    let is_stream = told.header("Content-Type") == Some("text/event-stream");
    match () {
        () if is_page => assert!([None, Some("no-cache"), Some("no-store")].contains(&policy)),
        () if is_stream => assert_eq!(policy, Some("no-store, no-transform")),
        () => assert_eq!(policy, Some("no-store"), "{path}\n{}", told.head),
    }
    let is_topical = (path.starts_with("/topics/") && path.matches('/').count() == 2)
        || path.starts_with("/events");
    if is_public && is_topical {
        assert_eq!(told.header("Vary"), Some("Accept, Origin"), "{path}\n{}", told.head);
    }
}

// FAULTS 170: same status, same headers, no body, no subscription; on routes that stream, too.
#[test]
fn head_is_get_without_the_body() {
    let server = start(&[("admission.origins", ADMITTED), ("limits.subscriptions", "2")]);
    publish(server.address, "a", "x");
    let paths = PATHS.iter().chain(&["/events?topic=gap", "/events?topic=1&topic=2&topic=3"]);
    for path in paths.filter(|path| path.starts_with('/')) {
        for address in faces(&server) {
            for lines in [
                "",
                "Accept: text/event-stream\r\n",
                "Accept: text/event-stream;q=0\r\n",
                "Accept: text/event-stream\r\nLast-Event-ID: x\r\n",
                "Origin: https://app.example\r\nAccept: text/event-stream\r\n",
                "Origin: https://evil.example\r\n",
                "Upgrade: websocket\r\n",
                "Content-Length: 0\r\n",
            ] {
                let get = tell(address, &(request("GET", path, lines) + PROBE));
                let text = request("HEAD", path, lines);
                let head = tell(address, &format!("{text}{PROBE}"));
                assert_eq!(head.status, get.status, "{text}");
                assert_eq!(comparable(&head, path), comparable(&get, path), "{text}");
                let is_kept = elements(&head, "Connection").contains(&"keep-alive");
                let has_no_body = head.rest.is_empty() || head.rest.starts_with(b"HTTP/1.1 200 ");
                assert!(has_no_body, "{text}{}", String::from_utf8_lossy(&head.rest));
                assert_eq!(is_probed(&head), is_kept, "{text}");
            }
        }
    }
    // A HEAD leaves nothing behind: neither a stream nor a topic that somebody subscribes to.
    let before = server.stats().streams;
    for path in ["/events?topic=new", "/topics/new"] {
        let head = tell(server.address, &request("HEAD", path, "Accept: text/event-stream\r\n"));
        assert_eq!((head.status, head.rest.len()), (200, 0));
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    }
    assert_eq!(server.stats().streams, before);
    assert!(figure(&server, "heartwheel_topics ") <= 2.0, "only a and, for a moment, $stats");
    let mut stream = Stream::open(server.address, "/events?topic=new");
    stream.position();
    let id = publish(server.address, "new", "y");
    assert_eq!(stream.piece(), format!("id: {id}\nevent: new\ndata: y"));
}

/// Gives the header lines of an answer that do not depend on when it was given.
fn comparable(told: &Told, path: &str) -> Vec<(String, String)> {
    let mut lines = told.lines();
    lines.retain(|(name, _)| name != "date");
    if path == "/metrics" {
        // The figures have moved on.
        lines
            .iter_mut()
            .filter(|(name, _)| name == "content-length")
            .for_each(|line| line.1.clear());
    }
    lines
}

fn figure(server: &TestServer, name: &str) -> f64 {
    let get = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let told = tell(server.admin.unwrap(), get);
    let text = String::from_utf8(told.rest).expect("figures are text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    value.parse().expect("a number")
}

// FAULTS 169: what a proxy may take for the beginning of a WebSocket is the last request on its
// connection, so that nothing is smuggled behind it.
#[test]
fn an_upgrade_that_is_not_done_ends_the_connection() {
    let server = start(&[("admission.origins", ADMITTED)]);
    publish(server.address, "a", "x");
    let offers = [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: WebSocket\r\n",
        "Upgrade: websocket/13\r\n",
        "Upgrade: websocket2\r\n",
        "Upgrade: h2c, webSocket\r\n",
        "Upgrade: h2c\r\nUpgrade: WEBSOCKET/13\r\n",
        "Host: other.example\r\nUpgrade: websocket\r\n",
        "Origin: https://evil.example\r\nUpgrade: websocket2\r\n",
        "Accept: text/event-stream;q=0\r\nUpgrade: websocket\r\n",
    ];
    for address in faces(&server) {
        for path in PATHS {
            for method in METHODS {
                for offer in offers {
                    let text = request(method, path, offer);
                    let told = tell(address, &format!("{text}{PROBE}"));
                    let options: Vec<_> = elements(&told, "Connection");
                    assert!(options.contains(&"close"), "{text}\n{}", told.head);
                    assert!(!is_probed(&told), "{text}\n{}", told.head);
                }
            }
        }
    }
}

// FAULTS 169: curl and Java offer HTTP/2 with every plain request.
#[test]
fn other_offers_are_ignored() {
    let server = start(&[]);
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
    for address in faces(&server) {
        for (path, method) in [
            ("/healthz", "GET"),
            ("/", "HEAD"),
            ("/nothing", "GET"),
            ("/topics/a", "POST"),
            ("/connections", "OPTIONS"),
        ] {
            if method == "POST" && address != server.address {
                continue;
            }
            let told = tell(address, &(request(method, path, offer) + PROBE));
            assert!(elements(&told, "Connection").contains(&"keep-alive"), "{}", told.head);
            assert!(is_probed(&told), "{path} {method}\n{}", told.head);
        }
    }
}
