//! Moving the clock, and writing in memory, wake a server that runs on a thread of its own.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use heartwheel::stats::DeadlineKind;
use heartwheel::{Ended, ManualClock, MemoryNetwork, MemoryPeer};

use crate::common::frame::frame;
use crate::common::http::upgrade_request;
use crate::common::server::config;
use crate::common::timing::{eventually, ms};
use crate::common::world::routes;

/// Reads until there are `len` bytes, or the end.
fn read(peer: &mut MemoryPeer, len: usize) -> Vec<u8> {
    let (mut all, mut buffer, mut has_ended) = (Vec::new(), [0; 1024], false);
    eventually("bytes come", || {
        match peer.read(&mut buffer) {
            Ok(0) => has_ended = true,
            Ok(len) => all.extend(&buffer[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        has_ended || all.len() >= len
    });
    all
}

#[test]
fn a_server_on_a_thread_follows_the_clock() {
    for workers in ["0", "2"] {
        let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
        let pairs = [("workers", workers), ("deadlines.read_idle", "1d")];
        let builder = routes().config(config(&pairs)).clock(clock.clone());
        let server = builder.listen_memory(&network).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.run().unwrap());
        let mut peer = network.connect().unwrap();
        peer.write_all(upgrade_request("/echo", "").as_bytes()).unwrap();
        assert!(read(&mut peer, 100).starts_with(b"HTTP/1.1 101"));
        for _ in 0..50 {
            peer.write_all(&frame(0x81, b"hello")).unwrap();
            assert_eq!(read(&mut peer, 7), b"\x81\x05hello");
        }
        // The deadlines wait for the clock and for nothing else.
        clock.advance(Duration::from_secs(23 * 60 * 60));
        thread::sleep(ms(20));
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        clock.advance(Duration::from_secs(60 * 60 + 1));
        assert_eq!(read(&mut peer, 4)[..4], [0x88, 2, 0x0b, 0xc0][..]);
        handle.shut_down().unwrap();
        assert_eq!(serving.join().unwrap(), Ended::ShutDown);
        // What was moved after the end wakes nobody.
        clock.advance(Duration::from_secs(1));
    }
}

#[test]
fn the_descriptor_of_a_server_tells_of_memory_and_of_the_clock() {
    use crate::common::server::wait_for;
    let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
    let builder = routes().config(config(&[("workers", "0")])).clock(clock.clone());
    let mut server = builder.listen_memory(&network).unwrap();
    let settle = |server: &mut heartwheel::Server| {
        while server.next_timeout() == Some(Duration::ZERO) || wait_for(server, Some(ms(5))) {
            server.turn().unwrap();
        }
    };
    settle(&mut server);
    let peer = network.connect().unwrap();
    assert!(wait_for(&server, Some(ms(0))), "a connection");
    settle(&mut server);
    assert_eq!(server.connections(), 1);
    clock.advance(Duration::from_secs(6));
    assert!(wait_for(&server, Some(ms(0))), "the clock");
    settle(&mut server);
    assert_eq!(server.stats().fired(DeadlineKind::Handshake), 1);
    drop(peer);
    assert!(wait_for(&server, Some(ms(0))), "an end");
    settle(&mut server);
    assert_eq!(server.connections(), 0);
}
