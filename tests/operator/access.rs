//! Who may ask, how, and where.

use heartwheel::http::Response;
use heartwheel::{Route, Server};

use super::common::server::TestServer;
use super::common::topics::{fetch, request};
use super::{admin, post, start};

const PATHS: [&str; 5] = ["/metrics", "/connections", "/config", "/drain", "/shed?fraction=1"];

#[test]
fn the_public_listener_knows_nothing_of_it() {
    let server = start(&[]);
    for path in PATHS {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = request(server.address, &format!("{method} {path}"), "", b"");
            assert_eq!(reply.status, 404, "{method} {path}");
        }
    }
    assert_eq!(request(server.address, "DELETE /connections/1", "", b"").status, 404);
    assert!(!server.is_over());
    assert_eq!(fetch(admin(&server), "/topics/a").status, 404, "nor the other of topics");
}

#[test]
fn other_methods_are_answered_405_with_those_that_are_allowed() {
    let server = start(&[]);
    for (method, path, allow) in [
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
        ("PUT", "/connections", "GET, HEAD, DELETE, OPTIONS"),
        ("GET", "/connections/1", "DELETE, OPTIONS"),
        ("PUT", "/config", "GET, HEAD, OPTIONS"),
        ("GET", "/drain", "POST, OPTIONS"),
        ("GET", "/shed?fraction=1", "POST, OPTIONS"),
    ] {
        let reply = request(admin(&server), &format!("{method} {path}"), "", b"");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(request(admin(&server), "OPTIONS /drain", "", b"").status, 204);
}

/// A page that somebody has open in a browser on this machine can send requests to the operator's
/// listener: it must not be obeyed.
#[test]
fn a_page_from_elsewhere_cannot_make_the_operators_requests() {
    let evil = "Origin: http://evil.example\r\n";
    let named = "Origin: http://desk.example\r\n";
    let rebound = "POST /drain HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let acts = [
        "POST /drain",
        "POST /shed?fraction=1",
        "DELETE /connections/1",
        "DELETE /connections?identity=a",
    ];
    for origins in ["same", "http://desk.example", "*"] {
        let server = start(&[("admission.origins", origins)]);
        let admin = admin(&server);
        for act in acts {
            assert_eq!(request(admin, act, evil, b"").status, 403, "{act} with {origins}");
            let form = format!("{evil}Content-Type: text/plain\r\nContent-Length: 1\r\n");
            assert_eq!(request(admin, act, &form, b"x").status, 403, "{act} with {origins}");
            assert_eq!(request(admin, act, "Origin: null\r\n", b"").status, 403, "{act}");
        }
        let read = request(admin, "GET /config", evil, b"").status;
        assert_eq!(read, if origins == "*" { 200 } else { 403 }, "{origins}");
        let mut peer = super::common::client::Client::connect(admin);
        peer.send(rebound.as_bytes());
        assert_eq!(peer.read_answer().status, 421, "DNS rebinding");
        let is_named = origins == "http://desk.example";
        let status = request(admin, "DELETE /connections/1", named, b"").status;
        assert_eq!(status, if is_named { 404 } else { 403 }, "{origins}");
        assert!(!server.is_over());
        let rejected = server.stats().rejected();
        println!("{origins}: {rejected:?}");
        assert!(rejected.contains(&("host", 1)));
    }
}

#[test]
fn the_configuration_in_force_reads_back_to_itself() {
    let server = start(&[("deadlines.handshake", "1500ms"), ("limits.topics", "7")]);
    let reply = fetch(admin(&server), "/config");
    assert_eq!(reply.status, 200);
    let text = reply.text();
    assert!(text.contains("handshake = \"1500ms\"\n") && text.contains("topics = 7\n"), "{text}");
    assert!(text.starts_with("listen = ["), "{text}");
}

/// The library has the operator's face too, beside routes of its user's own.
#[test]
fn an_embedder_may_have_an_operators_listener() {
    let own = Route::get("/own", |_| Response::new(200).text("own")).inline().admin();
    let server = Server::builder()
        .workers(0)
        .route(own)
        .admin("127.0.0.1:0")
        .expect("it is an address")
        .listen("127.0.0.1:0")
        .expect("ports are free");
    let server = TestServer::of(server);
    let admin = admin(&server);
    for path in ["/metrics", "/connections", "/config", "/own", "/healthz", "/readyz"] {
        assert_eq!(fetch(admin, path).status, 200, "{path}");
    }
    assert_eq!(fetch(server.address, "/metrics").status, 404);
    assert_eq!(fetch(server.address, "/healthz").status, 200);
    assert!(Server::builder().admin("nowhere").is_err());
    assert_eq!(post(admin, "/drain").status, 202);
}
