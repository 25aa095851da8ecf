//! `limits.handshakes_per_second`: beyond it accepting pauses.

use heartwheel::{Server, app};

use crate::common::client::Client;
use crate::common::http::get_request;
use crate::common::lines::Lines;
use crate::common::server::TestServer;
use crate::common::timing::{Span, eventually, ms};

#[test]
fn accepting_pauses_beyond_the_rate_and_says_when_it_goes_on() {
    let mut server = Lines::new(&[("limits.handshakes_per_second", "10")]);
    let _peers: Vec<_> = (0..800).map(|_| server.connect()).collect();
    server.settle();
    assert_eq!(server.stats().accepted, 20);
    let operator = server.connect_admin();
    server.settle();
    assert_eq!(server.stats().accepted, 21, "the operator does not wait");
    server.reset(operator);
    server.settle();
    // It goes on at a time of its own.
    server.run_for(99);
    assert_eq!(server.stats().accepted, 21);
    server.run_for(1);
    assert_eq!(server.stats().accepted, 22);
    let turns = server.stats().turns;
    server.run_for(60_000 - 100);
    assert_eq!(server.stats().accepted, 21 + 600, "the operator is one of them");
    assert!(server.stats().handshake_pauses <= 601);
    let turns = server.stats().turns - turns;
    println!("{turns} turns in a minute");
    assert!(turns <= 10 * 600, "{turns}");
    // In a drain nobody is left waiting: one turn takes in 256.
    server.handle().drain().expect("the server is there");
    server.settle();
    assert_eq!(server.stats().accepted, 801);
}

#[test]
fn a_burst_of_connects_is_served_over_time_and_whole() {
    let pairs = [("limits.handshakes_per_second", "20"), ("admin_listen", "127.0.0.1:0")];
    let mut config = crate::common::server::config(&pairs);
    config.limits.connections = 1000;
    let server = app::routes(Server::builder()).config(config).build().unwrap();
    let admin = server.admin_addresses()[0].as_tcp().unwrap();
    let server = TestServer::of(server);
    let span = Span::begin();
    let mut peers: Vec<_> = (0..80).map(|_| Client::connect(server.address)).collect();
    peers.iter_mut().for_each(|peer| peer.send(get_request("/healthz", "").as_bytes()));
    let mut operator = Client::connect(admin);
    operator.send(get_request("/healthz", "").as_bytes());
    assert_eq!(operator.read_answer().status, 200);
    assert!(span.elapsed() < ms(1000) + span.stalled(), "the operator does not wait");
    let answered_at: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            assert_eq!(peer.read_answer().status, 200);
            span.elapsed()
        })
        .collect();
    // Forty at once, then twenty a second.
    for (second, least) in [(1, 60), (2, 80)] {
        let within = answered_at.iter().filter(|at| **at <= ms(1000 * second + 100)).count();
        assert!(within <= least + 4, "{within} within {second} s");
    }
    span.took_between("all are served", ms(1900), ms(2100));
    assert_eq!(server.stats().accepted, 81);
    let pauses = server.stats().handshake_pauses;
    println!("{pauses} pauses, {} timeouts, {} turns", server.timeouts(), server.stats().turns);
    assert!((10..=45).contains(&pauses), "{pauses}");
}

#[test]
fn a_pause_does_not_spin() {
    let server = crate::common::topics::start(&[("limits.handshakes_per_second", "1")]);
    let _peers: Vec<_> = (0..20).map(|_| Client::connect(server.address)).collect();
    std::thread::sleep(ms(300));
    let before = server.stats().turns;
    std::thread::sleep(ms(2500));
    let turns = server.stats().turns - before;
    println!("{turns} turns while eighteen connections wait");
    assert!(turns <= 2 * 3 + 2 + 3, "{turns}");
}

/// Who had connected before the drain began is told, not left hanging.
#[test]
fn a_drain_leaves_nobody_waiting_to_be_accepted() {
    let server = crate::common::topics::start(&[("limits.handshakes_per_second", "1")]);
    let mut peers: Vec<_> = (0..20).map(|_| Client::connect(server.address)).collect();
    peers.iter_mut().for_each(|peer| peer.send(get_request("/healthz", "").as_bytes()));
    eventually("two are accepted", || server.stats().accepted == 2);
    server.handle.drain().expect("the server is there");
    for peer in &mut peers {
        assert_eq!(peer.read_answer().status, 200);
        peer.expect_fin();
    }
    drop(peers);
    eventually("the drain has ended", || server.is_over());
    assert_eq!(server.stats().accepted, 20);
}
