//! What clients, balancers and pools rely on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use heartwheel::{CloseReason, Server, app};

use crate::common::client::Client;
use crate::common::http::{header, upgrade_request};
use crate::common::server::{TestServer, config};
use crate::common::timing::{Span, ms};
use crate::common::topics::{self, publish};
use crate::{PROBE, is_probed, start, tell};

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

// FAULTS 174.
#[test]
fn health_is_told_whatever_the_host_is_called() {
    for hosts in ["auto", "heartwheel.example"] {
        let server = start(&[("admission.hosts", hosts), ("admission.admin_hosts", hosts)]);
        for address in [server.address, server.admin.unwrap()] {
            for path in ["/healthz", "/readyz"] {
                for host in ["localhost", "upstream", "evil.example:80", ""] {
                    assert_eq!(tell(address, &get(path, host)).status, 200, "{path} {host}");
                }
            }
            assert_eq!(tell(address, &get("/", "evil.example")).status, 421);
            assert_eq!(tell(address, &get("/nothing", "evil.example")).status, 421);
        }
    }
}

// FAULTS 174: what opens the public listener does not open the operator's.
#[test]
fn the_operators_listener_has_hosts_of_its_own() {
    for (pairs, public, admin) in [
        ([("admission.hosts", "*"), ("admission.admin_hosts", "auto")], 200, 421),
        ([("admission.hosts", "auto"), ("admission.admin_hosts", "*")], 421, 200),
        ([("admission.hosts", "a.example"), ("admission.admin_hosts", "evil.example")], 421, 200),
    ] {
        let server = start(&pairs);
        assert_eq!(tell(server.address, &get("/", "evil.example")).status, public, "{pairs:?}");
        let told = tell(server.admin.unwrap(), &get("/config", "evil.example"));
        assert_eq!(told.status, admin, "{pairs:?}");
        let text = String::from_utf8_lossy(&told.rest).into_owned();
        assert_eq!(admin == 421, text.ends_with("see admission.admin_hosts\n"), "{text}");
    }
}

#[test]
fn a_kept_connection_is_told_how_long_it_is_kept() {
    for (keep_alive, told) in
        [("75s", Some("timeout=75")), ("1999ms", Some("timeout=1")), ("999ms", None)]
    {
        let server = start(&[("deadlines.keep_alive", keep_alive)]);
        let mut peer = Client::connect(server.address);
        for path in ["/healthz", "/nothing", "/topics/a"] {
            peer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            let answer = peer.read_answer();
            assert_eq!(header(&answer.head, "Connection"), Some("keep-alive"), "{answer:?}");
            assert_eq!(header(&answer.head, "Keep-Alive"), told, "{answer:?}");
        }
        peer.send(PROBE.as_bytes());
        let answer = peer.read_answer();
        assert_eq!(header(&answer.head, "Connection"), Some("close"), "{answer:?}");
        assert_eq!(header(&answer.head, "Keep-Alive"), None, "{answer:?}");
    }
}

// FAULTS 175.
#[test]
fn the_key_of_the_rfc_is_taken() {
    let server = start(&[]);
    let key = |key: &str| upgrade_request("/echo", "").replace("dGhlIHNhbXBsZSBub25jZQ==", key);
    let told = tell(server.address, &key("AQIDBAUGBwgJCgsMDQ4PEC=="));
    assert_eq!(told.status, 101, "{}", told.head);
    assert_eq!(told.header("Sec-WebSocket-Accept"), Some("OfS0wDaT5NoxF2gqm7Zj2YtetzM="));
    // 15 bytes, 17 bytes, and 16 that are not base64.
    for bad in ["AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEBE=", "AQIDBAUGBwgJCgsMDQ4P_C=="] {
        assert_eq!(tell(server.address, &key(bad)).status, 400, "{bad}");
    }
}

// FAULTS 176: an empty line is no request, so no deadline of one begins.
#[test]
fn empty_lines_between_requests_start_no_deadline() {
    let server = start(&[("deadlines.keep_alive", "900ms"), ("deadlines.handshake", "200ms")]);
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut peer = Client::connect(server.address);
    peer.send(request);
    peer.read_answer();
    for piece in ["\r\n", "\r", "\n\r\n"] {
        peer.send(piece.as_bytes());
        std::thread::sleep(ms(100));
    }
    std::thread::sleep(ms(200));
    peer.send(request);
    assert_eq!(peer.read_answer().status, 200, "500 ms behind an empty line");

    // And it does not keep the connection open for longer.
    let span = Span::begin();
    peer.send(b"\r\n\r\n");
    peer.expect_fin();
    span.took("keep_alive", ms(900));
    drop(peer);
    server.expect_closed(CloseReason::KeepAlive, 1);

    let mut peer = Client::connect(server.address);
    peer.send([&request[..], b"\r\n\r\n\r\n\r\n", request, b"\r\n\r\n\r\n\r\n\r\n"].concat());
    assert_eq!(
        [peer.read_answer().status, peer.read_answer().status, peer.read_answer().status],
        [200, 200, 400]
    );
    peer.expect_fin();
}

// FAULTS 176.
#[test]
fn a_trailer_section_is_read_bounded_and_thrown_away() {
    let server = start(&[("limits.headers", "8"), ("limits.head_bytes", "500")]);
    let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (end, status) in [
        ("0\r\n\r\n".to_owned(), 200),
        ("0;a=b\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n".to_owned(), 200),
        ("0\r\nPOST /x HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("0\r\nPOST /topics/b HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400),
        ("0\r\nA : b\r\n\r\n".to_owned(), 400),
        (format!("0\r\n{}\r\n", "A: b\r\n".repeat(8)), 200),
        (format!("0\r\n{}\r\n", "A: b\r\n".repeat(9)), 431),
        (format!("0\r\nA: {}\r\n\r\n", "x".repeat(600)), 431),
    ] {
        let told = tell(server.address, &format!("{head}1\r\nx\r\n{end}{PROBE}"));
        assert_eq!(told.status, status, "{end:?}");
        assert_eq!(is_probed(&told), status == 200, "{end:?}: {:?}", told.rest);
    }
    assert_eq!(server.stats().messages_posted, 3);
}

// FAULTS 176.
#[test]
fn an_encoded_body_is_refused_before_it_is_read() {
    let server = start(&[]);
    let post = |lines: &str| {
        let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
        tell(server.address, &format!("{head}Content-Length: 1\r\n{lines}\r\nx{PROBE}"))
    };
    for lines in
        ["Content-Encoding: gzip\r\n", "Content-Encoding: identity\r\nContent-Encoding: br\r\n"]
    {
        let told = post(lines);
        assert_eq!((told.status, told.header("Accept-Encoding")), (415, Some("identity")));
        assert_eq!(told.header("Connection"), Some("close"));
        assert!(!is_probed(&told));
    }
    for lines in ["", "Content-Encoding: identity\r\n"] {
        let told = post(lines);
        assert_eq!(told.status, 100);
        assert!(told.rest.starts_with(b"HTTP/1.1 200 ") && is_probed(&told), "{lines}");
    }
    let none = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n\r\n";
    assert_eq!(tell(server.address, &format!("{none}{PROBE}")).status, 200, "there is no body");
}

#[test]
fn pages_from_files_and_of_applications_may_be_admitted() {
    let origins = ["null", "file://", "capacitor://localhost", "app://.", "moz-extension://0a-1b"];
    let server = start(&[("admission.origins", &origins.join(","))]);
    publish(server.address, "a", "x");
    for origin in origins {
        let lines = format!("Origin: {origin}\r\n");
        let reply = topics::request(server.address, "GET /topics/a", &lines, b"");
        assert_eq!((reply.status, reply.text()), (200, "x"), "{origin}");
        assert_eq!(reply.header("Access-Control-Allow-Origin"), Some(origin));
    }
    for origin in ["http://null", "file:///", "capacitor://other"] {
        let lines = format!("Origin: {origin}\r\n");
        let reply = topics::request(server.address, "GET /topics/a", &lines, b"");
        assert_eq!(reply.status, 403, "{origin}");
    }
}

#[test]
fn a_star_listens_on_both_families() {
    let mut config = config(&[]);
    config.set("listen", "*:0").unwrap();
    let server = app::routes(Server::builder()).config(config).build().unwrap();
    let addresses: Vec<_> =
        server.local_addresses().iter().map(|address| address.as_tcp().unwrap()).collect();
    let port = addresses[0].port();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let mut expected = vec![(IpAddr::from(Ipv4Addr::UNSPECIFIED), port)];
    if has_ipv6 {
        expected.push((Ipv6Addr::UNSPECIFIED.into(), port));
    }
    let found: Vec<_> = addresses.iter().map(|address| (address.ip(), address.port())).collect();
    assert_eq!(found, expected);
    let _running = TestServer::of(server);
    assert_eq!(tell((Ipv4Addr::LOCALHOST, port).into(), PROBE).status, 200);
    if has_ipv6 {
        assert_eq!(tell((Ipv6Addr::LOCALHOST, port).into(), PROBE).status, 200);
    }
}

/// The first event comes at once, and each after it, to clients that hand on what chunks bring.
#[test]
fn an_event_is_whole_in_its_chunk() {
    let server = start(&[]);
    let mut stream = topics::Stream::open(server.address, "/topics/a");
    stream.position();
    for len in [1, 1000, 1024, 1500, 100_000] {
        let text = "x".repeat(len);
        let id = publish(server.address, "a", &text);
        assert_eq!(
            stream.piece_within(Duration::from_secs(5)),
            Some(format!("id: {id}\ndata: {text}"))
        );
    }
}
