//! What ends connections by hand: one, a part of them, all.

use std::io::Read;
use std::thread;
use std::time::Instant;

use heartwheel::core::contract::event::Command;
use heartwheel::{CloseReason, Server};

use super::common::client::{Client, Seen};
use super::common::engine::TestEngine;
use super::common::server::TestServer;
use super::common::timing::{Span, eventually, ms};
use super::common::topics::{Hub, Stream, fetch, member, request};
use super::{admin, dechunk, post, scrape, start};

fn ids(server: &TestServer, path: &str) -> Vec<String> {
    let table = dechunk(&fetch(admin(server), "/connections").body);
    let path = format!("\"path\":\"{path}\"");
    let rows = table.lines().filter(|line| line.contains(&path));
    rows.map(|row| member(row.trim_end_matches(','), "id").trim_matches('"').into()).collect()
}

fn kick(server: &TestServer, id: &str) -> u16 {
    request(admin(server), &format!("DELETE /connections/{id}"), "", b"").status
}

#[test]
fn one_connection_is_kicked_and_no_other() {
    let server = start(&[]);
    let mut first = Client::open(server.address, "/echo");
    let id = ids(&server, "/echo").pop().expect("it is there");
    let mut second = Client::open(server.address, "/echo");
    let mut stream = Stream::open(server.address, "/topics/a");
    stream.position();
    assert_eq!(kick(&server, &id), 204);
    assert_eq!(first.expect_close(1008), "kicked");
    first.close(1008);
    first.expect_fin();
    assert_eq!(kick(&server, &ids(&server, "/topics/a")[0]), 204);
    stream.expect_fin();
    drop((first, stream));
    eventually("both have ended", || server.closed_by(CloseReason::Kicked) == 2);
    let kicked = [("transport", "events"), ("reason", "kicked")];
    let figures = scrape(admin(&server));
    assert_eq!(figures.value("heartwheel_connections_closed_total", &kicked), 1.0);
    second.text("still here");
    assert_eq!(second.message(), "still here");
    for stale in [&*id, "0", "1", "x", "-1", "18446744073709551616", ""] {
        assert_eq!(kick(&server, stale), 404, "{stale}");
    }
    // Whoever comes next into the slot is somebody else.
    let mut third = Client::open(server.address, "/echo");
    assert_eq!(kick(&server, &id), 404);
    third.text("x");
    assert_eq!(third.message(), "x");
}

#[test]
fn a_connection_in_any_phase_can_be_kicked() {
    let server = start(&[]);
    let mut silent = Client::connect(server.address);
    let mut kept = Client::connect(server.address);
    kept.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    kept.read_answer();
    eventually("both are there", || server.open() == 2);
    let table = dechunk(&fetch(admin(&server), "/connections").body);
    let own = "\"path\":\"/connections\"";
    for row in table.lines().filter(|line| line.starts_with('{') && !line.contains(own)) {
        let id = member(row.trim_end_matches(','), "id").trim_matches('"').to_owned();
        assert_eq!(kick(&server, &id), 204);
    }
    silent.expect_fin();
    kept.expect_fin();
    drop((silent, kept));
    server.expect_closed(CloseReason::Kicked, 2);
    // Even the one that asks is answered first.
    let mut own = Client::connect(admin(&server));
    own.send(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut text = String::new();
    while !text.ends_with("\r\n0\r\n\r\n") {
        let mut piece = [0; 4096];
        let len = own.stream.read(&mut piece).expect("it comes");
        text.push_str(std::str::from_utf8(&piece[..len]).expect("it is text"));
    }
    let row = text.lines().find(|line| line.starts_with('{')).expect("its own row");
    let id = member(row, "id").trim_matches('"').to_owned();
    own.send(format!("DELETE /connections/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert_eq!(own.read_answer().status, 204);
    own.expect_fin();
}

#[test]
fn a_part_is_shed_and_told_when_to_come_back() {
    let server = start(&[("deadlines.drain", "2s")]);
    let address = server.address;
    let peers: Vec<_> = (0..20).map(|_| Client::open(address, "/echo")).collect();
    let mut kept = Client::connect(address);
    kept.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    kept.read_answer();
    for bad in [
        "",
        "?",
        "?fraction=",
        "?fraction=0",
        "?fraction=1.1",
        "?fraction=-1",
        "?fraction=NaN",
        "?fraction=x",
        "?fraction=inf",
        "?part=1",
    ] {
        assert_eq!(post(admin(&server), &format!("/shed{bad}")).status, 400, "{bad}");
    }
    let reply = post(admin(&server), "/shed?fraction=0.3");
    assert_eq!((reply.status, reply.text()), (200, "{\"shed\":6}"));
    let mut retries = Vec::new();
    let mut chosen = Vec::new();
    let mut left = Vec::new();
    for (place, mut peer) in peers.into_iter().enumerate() {
        let Seen::Frame(0x88, payload) = peer.see_within(ms(100)) else {
            left.push(peer);
            continue;
        };
        assert_eq!(payload[..2], 1012u16.to_be_bytes());
        let text = std::str::from_utf8(&payload[2..]).unwrap();
        let retry: u64 = text.strip_prefix("retry=").unwrap().parse().unwrap();
        assert!(retry <= 1060);
        retries.push(retry);
        chosen.push(place);
        peer.close(1012);
        peer.expect_fin();
    }
    println!("shed {chosen:?}, told {retries:?}");
    assert_eq!(retries.len(), 6);
    assert!(chosen != [0, 1, 2, 3, 4, 5] && retries.iter().any(|retry| *retry != retries[0]));
    server.expect_closed(CloseReason::Shed, 6);
    kept.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200, "plain requests are left alone");
    left[13].text("still here");
    assert_eq!(left[13].message(), "still here");
    assert_eq!(server.open(), 15);
}

#[test]
fn each_transport_is_shed_in_its_own_words() {
    let server = start(&[("deadlines.drain", "10s")]);
    let mut hub = Hub::open(server.address);
    let mut stream = Stream::open(server.address, "/events?topic=a");
    stream.position();
    assert_eq!(post(admin(&server), "/shed?fraction=1").text(), "{\"shed\":2}");
    let goaway = hub.hear();
    assert_eq!(member(&goaway, "op"), "goaway");
    let (_, retry) = goaway.trim_end_matches('}').split_once("\"retry_ms\":").expect("a number");
    assert_eq!(hub.peer.expect_close(1012), format!("retry={retry}"), "the same number");
    assert!(retry.parse::<u64>().unwrap() <= 1020);
    hub.peer.close(1012);
    let piece = stream.piece();
    let told: u64 = piece.strip_prefix("retry: ").expect(&piece).parse().expect(&piece);
    assert!(told <= 1020);
    stream.expect_fin();
    drop((hub, stream));
    server.expect_closed(CloseReason::Shed, 2);
    let figures = scrape(admin(&server));
    for transport in ["websocket", "events"] {
        let shed = [("transport", transport), ("reason", "shed")];
        assert_eq!(figures.value("heartwheel_connections_closed_total", &shed), 1.0);
    }
}

/// Ends of a shed are spread over two milliseconds each; one that is asked for meanwhile chooses
/// among those that are left.
#[test]
fn sheds_are_spread_and_add_up() {
    let server = start(&[("deadlines.drain", "10s")]);
    let peers: Vec<_> = (0..300).map(|_| Client::open(server.address, "/echo")).collect();
    let began = Instant::now();
    assert_eq!(post(admin(&server), "/shed?fraction=0.5").text(), "{\"shed\":150}");
    assert_eq!(post(admin(&server), "/shed?fraction=1").text(), "{\"shed\":150}");
    let threads: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            thread::spawn(move || {
                peer.expect_close(1012);
                peer.close(1012);
                began.elapsed()
            })
        })
        .collect();
    let mut ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    ends.sort();
    println!("the first after {:?}, the last after {:?}", ends[0], ends[299]);
    assert!(ends[299] >= ms(400), "spread over 600 ms");
    eventually("all are shed", || server.closed_by(CloseReason::Shed) == 300);
}

#[test]
fn a_handler_that_blocks_does_not_keep_its_peer_from_being_shed() {
    let builder = heartwheel::app::routes(Server::builder()).websocket(
        "/slow",
        |_: &heartwheel::Peer, event: heartwheel::Event| {
            if matches!(event, heartwheel::Event::Message(_)) {
                thread::sleep(ms(1500));
            }
        },
    );
    let pairs = [("admin_listen", "127.0.0.1:0"), ("deadlines.close_send", "400ms")];
    let server = TestServer::serve(&pairs, builder);
    let mut peer = Client::open(server.address, "/slow");
    peer.text("x");
    eventually("it is handled", || server.stats().messages_received == 1);
    let span = Span::begin();
    server.handle.shed(1.0).expect("it is taken");
    peer.expect_close(1012);
    assert!(span.elapsed() < ms(1200) + span.stalled(), "{:?}", span.elapsed());
}

#[test]
fn a_drain_by_request_ends_everything_and_answers() {
    let server = start(&[("deadlines.drain", "5s")]);
    let admin = admin(&server);
    let mut peer = Client::open(server.address, "/echo");
    let reply = post(admin, "/drain");
    assert_eq!((reply.status, reply.text()), (202, "{\"connections\":1}"));
    assert!(peer.expect_close(1001).starts_with("retry="));
    assert_eq!(fetch(admin, "/readyz").status, 503);
    assert_eq!(post(admin, "/shed?fraction=1").status, 409);
    assert_eq!(post(admin, "/drain").status, 202, "again is nothing new");
    let drained = [("transport", "websocket"), ("phase", "closing"), ("subprotocol", "none")];
    assert_eq!(scrape(admin).value("heartwheel_connections", &drained), 1.0);
    peer.close(1001);
    peer.expect_fin();
    drop(peer);
    eventually("the drain ends", || server.is_over());
}

/// FIN goes behind what has begun to leave, whatever it is.
#[test]
fn a_kick_while_100_continue_leaves_is_fin_behind_it() {
    let mut server = TestEngine::new(&[]);
    let id = server.connect("127.0.0.1:9").expect("there is room");
    server.narrow(id, 10);
    let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n";
    server.send(id, format!("{head}Expect: 100-continue\r\n\r\n"));
    server.settle();
    server.command(Command::Kick(id));
    assert!(!server.is_over(id), "half of it is still to come");
    server.narrow(id, usize::MAX);
    server.settle();
    assert_eq!(server.received(id), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(server.is_over(id));
}
