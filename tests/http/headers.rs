//! Answers of every status: each of their headers once.

use std::net::SocketAddr;

use crate::common::client::Client;
use crate::common::http::upgrade_request;
use crate::common::timing::{PATIENCE, eventually};
use crate::walk::assert_once;
use crate::{Told, start, tell};

fn get(lines: &str) -> String {
    format!("GET /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n")
}

fn post(lines: &str, body: &str) -> String {
    let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    format!("{head}{lines}\r\n{body}")
}

/// Sends a request from a page that is admitted, and expects its status.
#[track_caller]
fn expect(address: SocketAddr, request: &str, status: u16) -> Told {
    let origin = "Origin: https://app.example\r\n";
    let request =
        request.replacen("Host: localhost\r\n", &format!("Host: localhost\r\n{origin}"), 1);
    let told = tell(address, &request);
    assert_eq!(told.status, status, "{request}\n{}", told.head);
    assert_once(&told, &request);
    told
}

// FAULTS 168.
#[test]
fn refusals_of_every_status_have_each_header_once() {
    let far = [("admission.origins", "https://app.example")];
    let server =
        start(&[&far[..], &[("limits.message_bytes", "10"), ("limits.topics", "1")]].concat());
    let address = server.address;
    for (request, status) in [
        (get("A : b\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        (get("Last-Event-ID: x\r\nAccept: text/event-stream;q=0\r\n"), 204),
        (
            get("")
                .replace("/topics/a", "/events?topic=a")
                .replace("close\r\n", "close\r\nAccept: text/event-stream;q=0\r\n"),
            406,
        ),
        (get("").replace("/topics/a", "/nothing"), 404),
        (get("").replace("GET", "PUT"), 405),
        (post("", ""), 411),
        (post("Content-Length: 11\r\n", ""), 413),
        (post("Content-Length: 1\r\nContent-Encoding: gzip\r\n", "x"), 415),
        (
            get("")
                .replace("Host: localhost", "Host: localhost\r\nX-Host: x")
                .replace("GET /", "GET http://evil.example/"),
            421,
        ),
        (get("").replace("/topics/a", "/ws"), 426),
        (upgrade_request("/ws", "").replace("Version: 13", "Version: 12"), 426),
        (get(&"X: y\r\n".repeat(70)), 431),
        (post("Transfer-Encoding: gzip\r\n", ""), 501),
        ("GET / HTTP/1.2\r\n\r\n".into(), 505),
        (post("Content-Length: 1\r\n", "x"), 200),
        (post("Content-Length: 1\r\n", "x").replace("/topics/a", "/topics/b"), 503),
        (get("Accept: text/event-stream\r\n"), 200),
        (upgrade_request("/topics/a", ""), 101),
        (upgrade_request("/ws", ""), 101),
        (upgrade_request("/echo", ""), 101),
    ] {
        expect(address, &request, status);
    }
}

#[test]
fn refusals_by_deadlines_rates_and_drains_have_each_header_once() {
    let far = ("admission.origins", "https://app.example");
    let server = start(&[far, ("deadlines.handshake", "300ms"), ("deadlines.body", "300ms")]);
    expect(server.address, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ", 408);
    let late = expect(server.address, &post("Content-Length: 9\r\n", "half"), 408);
    assert_eq!(late.header("Access-Control-Allow-Origin"), Some("https://app.example"));
    assert_eq!(late.header("Vary"), Some("Accept, Origin"));

    let paced = [far, ("limits.messages_per_second", "1"), ("limits.rate_action", "close")];
    let server = start(&paced);
    let many = get("").replace("Connection: close\r\n", "").repeat(5);
    let told = tell(server.address, &many);
    let text = String::from_utf8([told.head.into_bytes(), told.rest].concat()).unwrap();
    let last = text.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(last.starts_with("429 "), "{text}");
    let head = format!("HTTP/1.1 {}", last.split_inclusive("\r\n\r\n").next().unwrap());
    assert_once(&Told { status: 429, head, rest: Vec::new() }, "too many");

    let server = start(&[far, ("limits.connections", "1")]);
    let mut held = Client::connect(server.address);
    eventually("it is accepted", || server.open() == 1);
    expect(server.address, &get(""), 503);
    held.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n");
    held.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    server.handle.drain().unwrap();
    let answer = held.read_answer();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_once(&Told { status: 503, head: answer.head, rest: Vec::new() }, "draining");
    let admin = server.admin.unwrap();
    expect(admin, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 503);
    expect(admin, "POST /drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 202);
}
