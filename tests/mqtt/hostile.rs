//! What a hostile broker, or one that is none, may send.

use heartwheel::core::client::State;
use heartwheel::core::client::broker::Login;

use super::common::rng::Rng;
use super::rig::Rig;
use super::seeds;
use super::sessions::{login, rig};

/// A client that has sent its first packet.
fn connected(login: Login, seed: u64) -> Rig {
    let mut rig = rig(login, seed);
    for _ in 0..10 {
        match rig.dialler.state() {
            State::Waiting => rig.act(|dialler, means| dialler.timeout(means)),
            State::Connecting => {
                let number = *rig.tries.first().unwrap();
                rig.act(|dialler, means| dialler.connected(means, number));
            }
            _ => break,
        }
    }
    rig.write_all();
    assert_eq!(rig.dialler.state(), State::Upgrading);
    rig
}

const ACCEPTED: [u8; 5] = [0x20, 3, 0, 0, 0];

#[test]
fn rubbish_ends_the_connection() {
    let cases: [(&str, &[u8]); 12] = [
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("an endless length", &[0x20, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("too long", &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("refused", &[0x20, 3, 0, 0x87, 0]),
        ("PUBACK before CONNACK", &[0x40, 2, 0, 1]),
        ("a type that there is not", &[0x00, 0]),
        ("CONNECT from a broker", &[0x10, 0]),
        ("receive maximum of 0", &[0x20, 6, 0, 0, 3, 0x21, 0, 0]),
        ("packet size of 0", &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 0]),
        ("properties cut short", &[0x20, 3, 0, 0, 200]),
        ("trailing bytes", &[0x20, 5, 0, 0, 0, 1, 2]),
        ("an unknown property", &[0x20, 5, 0, 0, 2, 0x7f, 0]),
    ];
    for (name, bytes) in cases {
        let mut rig = connected(login(), 1);
        rig.receive(bytes);
        assert_ne!(rig.dialler.state(), State::Upgrading, "{name}");
        assert_ne!(rig.dialler.state(), State::Open, "{name}");
        assert!(!rig.is_kept, "{name}");
    }
}

#[test]
fn rubbish_on_an_open_connection_ends_it() {
    let cases: [(&str, &[u8]); 8] = [
        ("an acknowledgement of nothing", &[0x40, 2, 0, 9]),
        ("quality 2", &[0x34, 8, 0, 2, b'a', b'b', 0, 1, 0, b'x']),
        ("quality 3", &[0x36, 8, 0, 2, b'a', b'b', 0, 1, 0, b'x']),
        ("packet number 0", &[0x32, 8, 0, 2, b'a', b'b', 0, 0, 0, b'x']),
        ("a topic beyond the packet", &[0x30, 4, 0, 200, b'a', b'b']),
        ("a topic that is no UTF-8", &[0x30, 6, 0, 2, 0xff, 0xfe, 0, b'x']),
        ("a second CONNACK", &ACCEPTED),
        ("a subscription's answer with nothing asked", &[0x90, 4, 0, 77, 0, 0]),
    ];
    for (name, bytes) in cases {
        let mut rig = connected(Login { filters: Vec::new(), ..login() }, 1);
        rig.receive(&ACCEPTED);
        assert_eq!(rig.dialler.state(), State::Open, "{name}");
        rig.receive(bytes);
        assert!(!rig.is_kept, "{name}: {:?}", rig.told.last());
    }
}

/// Random packets, and good ones with changed bytes, in slices: no panic, and an end in time.
#[test]
fn no_bytes_panic() {
    let good: [&[u8]; 6] = [
        &ACCEPTED,
        &[0x20, 6, 0, 0, 3, 0x21, 0, 9],
        &[0x32, 14, 0, 2, b'a', b'b', 0, 1, 5, 0x26, 0, 1, b'k', 0, 0, b'x'],
        &[0x40, 4, 0, 1, 0, 0],
        &[0x90, 4, 0, 1, 0, 1],
        &[0xe0, 2, 0x8d, 0],
    ];
    for seed in seeds(20_000) {
        let mut rng = Rng::new(seed);
        let mut rig = connected(login(), seed);
        if rng.chance(70) {
            rig.receive(&ACCEPTED);
        }
        for _ in 0..8 {
            let mut bytes = match rng.below(4) {
                0 => (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect(),
                _ => good[rng.below(good.len() as u64) as usize].to_vec(),
            };
            for _ in 0..rng.below(3) {
                let index = rng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = rng.next_u64() as u8;
                }
            }
            let cut = rng.below(bytes.len() as u64 + 1) as usize;
            rig.receive(&bytes[..cut]);
            rig.receive(&bytes[cut..]);
            rig.write_all();
            if !rig.is_kept {
                break;
            }
        }
        assert!(rig.dialler.poll_timeout(rig.now()).is_some());
    }
}
