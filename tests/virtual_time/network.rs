//! Connections in memory end, fill up and are refused as those over sockets are, and cost no
//! descriptor.

use std::io::{ErrorKind, Read, Write};

use heartwheel::{CloseReason, MemoryPeer, Server};

use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux says so").count()
}

#[test]
fn ten_thousand_connections_take_no_descriptor() {
    const CLIENTS: usize = 10_000;
    let mut world = World::new(&[("heartbeat.interval", "off")], routes());
    let before = descriptors();
    let mut peers: Vec<MemoryPeer> = Vec::new();
    for _ in 0..CLIENTS {
        let mut peer = match world.network.connect() {
            Ok(peer) => peer,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "as many wait as may");
                world.settle();
                world.network.connect().unwrap()
            }
        };
        peer.write_all(upgrade_request("/quiet", "").as_bytes()).unwrap();
        peers.push(peer);
    }
    world.settle();
    assert_eq!(world.server.connections(), CLIENTS);
    assert_eq!(world.server.stats().upgraded, CLIENTS as u64);
    for peer in &mut peers {
        assert!(read_all(peer).0.starts_with(b"HTTP/1.1 101"));
    }
    // Other tests of this process have some of their own.
    let now = descriptors();
    println!("{now} descriptors, {before} before");
    assert!(now < before + 100);
    // One more is told so, without a slot.
    let mut refused = world.send(get_request("/", "").as_bytes());
    let (answer, end) = read_all(&mut refused);
    assert!(text(&answer).starts_with("HTTP/1.1 503") && end.is_none(), "{}", text(&answer));
    assert_eq!(world.server.stats().rejected_connections, 1);
    // A minute later all of them have been silent for too long.
    world.pass(MINUTE + TICK, &mut []);
    assert_eq!(world.server.stats().fired(heartwheel::stats::DeadlineKind::ReadIdle), 10_000);
    drop(peers);
    world.settle();
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn a_peer_that_does_not_read_is_bounded_and_ends_by_write_stall() {
    let mut world = World::new(&[], routes());
    let mut client = world.open("/flood");
    client.say("1000000");
    world.settle();
    let sent = world.server.stats().sent_bytes;
    assert!(sent < 2 * MemoryPeer::BUFFER_BYTES as u64, "{sent}");
    // Who reads again gets the rest.
    let mut all = 0;
    while client.messages.is_empty() {
        client.attend(world.clock.elapsed());
        world.settle();
        all += 1;
        assert!(all < 100, "it goes on when there is room");
    }
    assert_eq!(client.messages[0].len(), 1_000_000);
    client.say("1000000");
    let began_at = world.clock.elapsed();
    let gone_at = world.until("it is dropped", |server| server.connections() == 0);
    assert!(gone_at - began_at <= 10 * SECOND + TICK, "{:?}", gone_at - began_at);
    assert_eq!(world.server.stats().closed_by(CloseReason::WriteStall), 1);
    let (rest, end) = read_all(client.socket.get_mut());
    assert_eq!((rest.len(), end), (MemoryPeer::BUFFER_BYTES, Some(ErrorKind::ConnectionReset)));
}

#[test]
fn what_a_peer_sends_and_nobody_takes_is_bounded() {
    let pairs = [("limits.inbox_messages", "1"), ("limits.outbox_bytes", "1k")];
    let mut world = World::new(&pairs, routes());
    let mut client = world.open("/echo");
    let message = tungstenite::Message::binary(vec![0; 10_000]);
    let mut taken = 0;
    // Its echoes are not read: the server stops reading it, and then it has no room.
    while client.socket.send(message.clone()).is_ok() {
        taken += 10_000;
        world.settle();
        assert!(taken < 1_000_000);
    }
    println!("{taken} bytes were taken");
    assert!(taken >= 2 * MemoryPeer::BUFFER_BYTES as u64 as usize - 20_000);
    world.until("it is dropped", |server| server.connections() == 0);
    assert_eq!(world.server.stats().closed_by(CloseReason::WriteStall), 1);
}

// FAULTS 75 and 76.
#[test]
fn half_closes_and_resets_are_seen_by_the_other_end() {
    let mut world = World::new(&[], routes());
    // A client that ends its side still gets its answer, and then the server's end.
    let mut peer = world.network.connect().unwrap();
    peer.write_all(get_request("/", "").as_bytes()).unwrap();
    peer.shut_down();
    assert_eq!(peer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    world.settle();
    let (answer, end) = read_all(&mut peer);
    assert!(text(&answer).starts_with("HTTP/1.1 200") && end.is_none());
    assert_eq!(world.server.connections(), 0);
    assert_eq!(world.server.stats().closed_by(CloseReason::Done), 1);
    // A reset ends at once, and so does one that was never accepted.
    let mut client = world.open("/quiet");
    client.socket.get_mut().reset();
    world.network.connect().unwrap().reset();
    world.settle();
    assert_eq!(world.server.stats().closed_by(CloseReason::Reset), 2);
    // One that is dropped, with and without bytes unread.
    drop(world.open("/quiet"));
    world.settle();
    assert_eq!(world.server.stats().closed_by(CloseReason::Eof), 1);
    let mut client = world.open("/echo");
    client.say("unread");
    world.settle();
    drop(client);
    world.settle();
    assert_eq!(world.server.stats().closed_by(CloseReason::Reset), 3);
    assert_eq!((world.server.connections(), world.server.next_timeout()), (0, None));
}

#[test]
fn a_clean_close_goes_both_ways() {
    let mut world = World::new(&[], routes());
    let mut clients = [world.open("/echo"), world.open("/flood")];
    clients[0].say("hello");
    clients[0].socket.close(None).unwrap();
    clients[1].say("!");
    world.pass(SECOND, &mut clients);
    assert_eq!(clients[0].messages, [tungstenite::Message::text("hello")]);
    assert_eq!(clients[1].code(), 4000);
    assert!(clients.iter().all(|client| client.ended_at.is_some()));
    let stats = world.server.stats();
    assert_eq!(stats.closed_by(CloseReason::Peer(1000)), 1);
    assert_eq!(stats.closed_by(CloseReason::Application(4000)), 1);
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn each_face_has_a_door_of_its_own() {
    let mut world = World::new(&[], routes());
    assert!(world.ask(&get_request("/operator", "")).starts_with("HTTP/1.1 404"));
    let mut peer = world.network.connect_admin().unwrap();
    peer.write_all(get_request("/operator", "").as_bytes()).unwrap();
    world.settle();
    assert!(read_all(&mut peer).0.starts_with(b"HTTP/1.1 200"));
    assert!(world.server.local_addresses().is_empty());
}

// FAULTS 95, and that addresses are what a test says.
#[test]
fn a_peer_comes_from_where_the_test_says() {
    let mut world = World::new(&[("limits.connections_per_ip", "1")], routes());
    let mut connect = |address: &str| {
        let mut peer = world.network.connect_from(address.parse().unwrap()).unwrap();
        peer.write_all(get_request("/", "").as_bytes()).unwrap();
        world.settle();
        let status = text(&read_all(&mut peer).0)[9..12].to_owned();
        (status, peer)
    };
    let first = connect("192.0.2.1:1000");
    let second = connect("192.0.2.1:1001");
    let other = connect("192.0.2.2:1000");
    assert_eq!([first.0, second.0, other.0], ["200", "429", "200"]);
}

#[test]
fn a_network_has_one_server_at_a_time_and_another_after_it() {
    let mut world = World::new(&[], routes());
    let taken = Server::builder().workers(0).listen_memory(&world.network);
    assert!(taken.is_err_and(|error| error.to_string().contains("in use")));
    let mut client = world.open("/quiet");
    let waiting = world.network.connect().unwrap();
    let World { network, server, .. } = world;
    drop(server);
    assert_eq!(network.connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for peer in [client.socket.get_mut(), &mut { waiting }] {
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let next = Server::builder().workers(0).listen_memory(&network).unwrap();
    assert!(network.connect().is_ok());
    drop(next);
}
