//! `limits.connections_per_ip`. Tests come from loopback, which is exempt, so the engine is told
//! where its peers come from.

use heartwheel::config::Config;
use heartwheel::core::admission::credentials::Credentials;
use heartwheel::core::contract::event::Command;
use heartwheel::core::contract::route::Face;
use heartwheel::core::engine::Engine;

use crate::common::engine::TestEngine;

/// FAULTS 95.
#[test]
fn an_address_with_a_thousand_connections_is_held_to_its_limit_and_others_are_unaffected() {
    let mut server = TestEngine::new(&[("limits.connections_per_ip", "50")]);
    let mut open = Vec::new();
    for port in 1..=1000 {
        match server.connect(&format!("192.0.2.7:{port}")) {
            Ok(id) => open.push(id),
            Err(status) => assert_eq!(status, 429),
        }
    }
    assert_eq!((open.len(), server.engine.len()), (50, 50));
    assert_eq!(server.engine.stats().rejected_per_ip, 950);
    assert_eq!(server.engine.stats().accepted, 50, "who is refused gets no slot");
    assert!(server.connect("192.0.2.8:1").is_ok(), "others are unaffected");
    server.reset(open[7]);
    assert!(server.connect("192.0.2.7:1001").is_ok(), "one has left, one may come");
    assert_eq!(server.connect("192.0.2.7:1002"), Err(429));
}

#[test]
fn an_ipv6_network_of_64_bits_counts_as_one_address() {
    let mut server = TestEngine::new(&[("limits.connections_per_ip", "2")]);
    assert!(server.connect("[2001:db8:0:1::1]:1").is_ok());
    assert!(server.connect("[2001:db8:0:1:ffff::2]:1").is_ok());
    assert_eq!(server.connect("[2001:db8:0:1::3]:1"), Err(429));
    assert!(server.connect("[2001:db8:0:2::1]:1").is_ok());
}

#[test]
fn this_machine_and_the_operator_are_exempt() {
    let mut server = TestEngine::new(&[("limits.connections_per_ip", "1")]);
    for _ in 0..5 {
        for address in ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(server.connect(address).is_ok(), "{address}");
        }
        assert!(server.connect_to(Face::Public, None).is_ok(), "a Unix socket");
        assert!(server.connect_to(Face::Admin, Some("192.0.2.7:1")).is_ok());
    }
    assert_eq!(server.engine.stats().rejected_per_ip, 0);
    assert!(server.connect("192.0.2.7:1").is_ok(), "the operator's do not count either");
    assert_eq!(server.connect("192.0.2.7:1"), Err(429));
}

#[test]
fn a_limit_that_a_reload_switches_on_counts_who_is_there() {
    let mut server = TestEngine::new(&[]);
    let open: Vec<_> = (1..=3).map(|port| server.connect(&format!("192.0.2.7:{port}"))).collect();
    let reload = |server: &mut TestEngine, limit: u32| {
        let mut config: Config = server.engine.config().clone();
        config.limits.connections_per_ip = limit;
        server.command(Engine::reload_command(config, Credentials::default()));
    };
    reload(&mut server, 3);
    assert_eq!(server.connect("192.0.2.7:4"), Err(429));
    server.command(Command::Shutdown);
    assert!(open.into_iter().all(|id| !server.engine.contains(id.unwrap())));
    assert!(server.connect("192.0.2.7:5").is_ok());
    reload(&mut server, 0);
    for port in 6..20 {
        assert!(server.connect(&format!("192.0.2.7:{port}")).is_ok());
    }
}
