//! Compressed messages, permessage-deflate (RFC 7692): by a clock that is moved by hand, in memory.
//! The peer inflates with one inflater for the whole connection, as browsers do.

mod common;

use std::io::Write;

use common::frame::{BINARY, CONTINUATION, FIN, PING, TEXT, close, frame, header};
use common::world::*;
use heartwheel::{CloseReason, MemoryPeer};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

const ON: [(&str, &str); 1] = [("compression.mode", "on")];
const RSV1: u8 = 0x40;
const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A client that has offered compression.
struct Peer {
    memory: MemoryPeer,
    /// The head of the answer.
    head: String,
    inflate: Inflate,
    unread: Vec<u8>,
}

/// A message as it came.
#[derive(Debug, PartialEq)]
struct Came {
    is_compressed: bool,
    /// The length of its payload on the wire.
    wire: usize,
    payload: Vec<u8>,
}

impl Peer {
    fn open(world: &mut World, path: &str, offer: &str) -> Peer {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: {offer}\r\n\r\n"
        );
        let mut memory = world.send(request.as_bytes());
        let mut came = read_all(&mut memory).0;
        let end = came.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let unread = came.split_off(end);
        let window = |head: &str| head.split("max_window_bits=").nth(1)?[..2].trim().parse().ok();
        let head = text(&came);
        let bits = window(&head).unwrap_or(15);
        Peer { memory, head, inflate: Inflate::new(false, bits), unread }
    }

    fn send(&mut self, world: &mut World, bytes: &[u8]) {
        for piece in bytes.chunks(32 * 1024) {
            self.memory.write_all(piece).expect("there is room");
            world.settle();
        }
    }

    /// Gives the messages that have come, and the close code.
    fn read(&mut self, world: &mut World) -> (Vec<Came>, Option<u16>) {
        loop {
            let came = read_all(&mut self.memory).0;
            if came.is_empty() {
                break;
            }
            self.unread.extend(came);
            world.settle();
        }
        let (mut messages, mut at) = (Vec::new(), 0);
        while let Some(&[first, len]) = self.unread[at..].first_chunk() {
            let rest = &self.unread[at..];
            let (head, len) = match len {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => (10, u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize),
                len => (2, len.into()),
            };
            let Some(payload) = rest.get(head..head + len) else { break };
            at += head + len;
            if first == 0x88 {
                return (messages, Some(u16::from_be_bytes([payload[0], payload[1]])));
            }
            if first & 0xf != 1 && first & 0xf != 2 {
                continue;
            }
            assert!(first & FIN != 0, "no message is fragmented");
            let is_compressed = first & RSV1 != 0;
            let payload = match is_compressed {
                true => inflate(&mut self.inflate, payload),
                false => payload.to_vec(),
            };
            messages.push(Came { is_compressed, wire: len, payload });
        }
        self.unread.drain(..at);
        (messages, None)
    }

    /// Gives the only message that has come.
    #[track_caller]
    fn message(&mut self, world: &mut World) -> Came {
        let (mut messages, code) = self.read(world);
        assert_eq!((messages.len(), code), (1, None));
        messages.remove(0)
    }
}

fn inflate(inflate: &mut Inflate, payload: &[u8]) -> Vec<u8> {
    let tailed = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = vec![0; 4 << 20];
    let before = inflate.total_out();
    inflate.decompress(&tailed, &mut out, InflateFlush::SyncFlush).expect("it can be inflated");
    out.truncate((inflate.total_out() - before) as usize);
    out
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(6, false, 15);
    let mut out = vec![0; payload.len() + payload.len() / 8 + 100];
    deflate.compress(payload, &mut out, DeflateFlush::SyncFlush).unwrap();
    out.truncate(deflate.total_out() as usize - 4);
    out
}

/// JSON of about `len` bytes.
fn json(n: usize, len: usize) -> Vec<u8> {
    let mut text = format!("{{\"device\":\"gw-{:04x}\",\"n\":{n}", n * 7919 % 65_536);
    while text.len() < len - 1 {
        text += &format!(",\"k{}\":{}.{}", text.len() % 97, n * 31 % 100, text.len() * 7 % 1000);
    }
    text.truncate(len - 1);
    (text + "}").into_bytes()
}

fn world(pairs: &[(&str, &str)]) -> World {
    World::new(pairs, routes())
}

#[test]
fn compression_is_agreed_on_only_where_it_is_on() {
    let line = |peer: &Peer| {
        let lines = peer.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(name, _)| *name == "Sec-WebSocket-Extensions");
        found.next().map(|(_, value)| value.to_owned())
    };
    let answer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    assert_eq!(line(&Peer::open(&mut world(&[]), "/echo", OFFER)), None);
    let mut on = world(&ON);
    for path in ["/echo", "/ws", "/topics/a"] {
        assert_eq!(line(&Peer::open(&mut on, path, OFFER)).as_deref(), Some(answer), "{path}");
    }
    assert_eq!(line(&Peer::open(&mut on, "/echo", "permessage-deflate; x")), None);
    let narrow = "permessage-deflate; server_max_window_bits=8, \
         permessage-deflate; server_max_window_bits=10";
    let expected = format!("{answer}; server_max_window_bits=10");
    assert_eq!(line(&Peer::open(&mut on, "/echo", narrow)).as_deref(), Some(&*expected));
    // A route has its own value.
    let mut own = World::new(&ON, routes_that_set(&[("compression.mode", "off")]));
    assert_eq!(line(&Peer::open(&mut own, "/echo", OFFER)), None);
    let mut own = World::new(&[], routes_that_set(&ON));
    assert_eq!(line(&Peer::open(&mut own, "/echo", OFFER)).as_deref(), Some(answer));
}

#[test]
fn messages_come_back_however_they_are_compressed_and_cut() {
    let mut world = world(&ON);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    for len in [1, 100, 511, 512, 5000, 60_000, 70_000, 300_000] {
        let payload = json(len, len.max(40));
        let small = deflate(&payload);
        let (half, quarter) = (small.len() / 2, small.len() / 4);
        let whole = frame(RSV1 | TEXT, &small);
        let fragments = [
            frame((RSV1 | TEXT) & !FIN, &small[..quarter]),
            frame(PING, b"between"),
            frame(CONTINUATION & !FIN, &small[quarter..half]),
            frame(CONTINUATION & !FIN, b""),
            frame(CONTINUATION, &small[half..]),
        ]
        .concat();
        let late_end = [frame((RSV1 | TEXT) & !FIN, &small), frame(CONTINUATION, b"")].concat();
        for bytes in [&whole, &fragments, &late_end, &frame(TEXT, &payload)] {
            peer.send(&mut world, bytes);
            let came = peer.message(&mut world);
            assert!(came.payload == payload, "{len}");
            let is_compressed = (512..=64 * 1024).contains(&payload.len());
            assert_eq!(came.is_compressed, is_compressed, "{len}");
            assert!(!is_compressed || came.wire < payload.len() * 6 / 10);
        }
        if len <= 5000 {
            for byte in &whole {
                peer.send(&mut world, &[*byte]);
            }
            assert!(peer.message(&mut world).payload == payload);
        }
    }
    // RFC 7692, 7.2.3.6; and a client that compresses nothing to nothing.
    for empty in [&[0][..], &[]] {
        peer.send(&mut world, &frame(RSV1 | TEXT, empty));
        assert_eq!(peer.message(&mut world).payload, b"");
    }
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    let mut world = world(&ON);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    let mut seed = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    })
    .take(4000)
    .collect();
    peer.send(&mut world, &frame(BINARY, &noise));
    let came = peer.message(&mut world);
    assert!(!came.is_compressed && came.payload == noise);
}

#[test]
fn many_small_messages_that_leave_together_are_compressed_each_by_itself() {
    let pairs = [("compression.mode", "on"), ("limits.inbox_messages", "1000")];
    let mut world = world(&pairs);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    let payloads: Vec<_> = (0..50).map(|n| json(n, 40 + n * 17)).collect();
    let frames: Vec<_> = payloads.iter().map(|payload| frame(TEXT, payload)).collect();
    peer.send(&mut world, &frames.concat());
    let (messages, _) = peer.read(&mut world);
    assert_eq!(messages.len(), payloads.len());
    for (came, payload) in messages.iter().zip(&payloads) {
        assert!(came.payload == *payload);
        assert_eq!(came.is_compressed, payload.len() >= 512);
    }
}

#[test]
fn the_window_of_the_peer_is_kept_to() {
    let mut world = world(&ON);
    // One after the other, so that a compressor of another window is there already.
    for bits in [15, 9, 10, 15, 12] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let mut peer = Peer::open(&mut world, "/echo", &offer);
        let payload = json(7, 2000).repeat(8);
        peer.send(&mut world, &frame(TEXT, &payload));
        let came = peer.message(&mut world);
        assert!(came.is_compressed && came.payload == payload, "{bits} bits");
    }
}

#[test]
fn bits_that_were_not_agreed_on_or_stand_elsewhere_are_refused() {
    let small = deflate(b"Hello");
    for (pairs, bytes) in [
        (&[][..], frame(RSV1 | TEXT, &small)),
        (&ON, frame(0x20 | TEXT, b"x")),
        (&ON, frame(0x10 | RSV1 | TEXT, &small)),
        (&ON, frame(RSV1 | PING, b"")),
        (&ON, frame(RSV1 | CONTINUATION, &small)),
        (
            &ON,
            [frame((RSV1 | TEXT) & !FIN, &small[..2]), frame(RSV1 | CONTINUATION, &small[2..])]
                .concat(),
        ),
        // Not even where the message is not compressed.
        (&ON, [frame(TEXT & !FIN, b"x"), frame(RSV1 | CONTINUATION, b"y")].concat()),
    ] {
        let mut world = world(pairs);
        let mut peer = Peer::open(&mut world, "/echo", OFFER);
        peer.send(&mut world, &bytes);
        assert_eq!(peer.read(&mut world), (vec![], Some(1002)), "{bytes:x?}");
    }
}

#[test]
fn what_is_corrupt_ends_the_connection_with_1007() {
    let hello = deflate(&json(1, 5000));
    let cut = &hello[..hello.len() - 3];
    let bad = [&[0xff][..], cut, &[0xf2, 0x00, 0x11, 0x00, 0x00], &[0xf3, 0x48, 0, 7]];
    for bytes in bad {
        for size in [1, 2, 10_000] {
            let mut world = world(&ON);
            let mut peer = Peer::open(&mut world, "/echo", OFFER);
            for piece in frame(RSV1 | BINARY, bytes).chunks(size) {
                peer.send(&mut world, piece);
            }
            assert_eq!(peer.read(&mut world), (vec![], Some(1007)), "{} bytes", bytes.len());
            peer.send(&mut world, &close(1007, ""));
            peer.memory.shut_down();
            world.settle();
            assert_eq!(world.server.stats().closed_by(CloseReason::Deflate), 1);
        }
    }
    // Text that is none, inflated.
    let mut world = world(&ON);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    peer.send(&mut world, &frame(RSV1 | TEXT, &deflate(&[b'a', 0xff, b'b'])));
    assert_eq!(peer.read(&mut world), (vec![], Some(1007)));
}

/// The limit holds for what comes out, while it comes out.
#[test]
fn a_bomb_is_too_big() {
    let zeros = deflate(&vec![0; 8 << 20]);
    assert!(zeros.len() < 10_000);
    for limit in ["1k", "64k", "1m"] {
        let pairs = [("compression.mode", "on"), ("limits.message_bytes", limit)];
        let mut world = world(&pairs);
        let mut peer = Peer::open(&mut world, "/echo", OFFER);
        peer.send(&mut world, &frame(RSV1 | BINARY, &zeros));
        assert_eq!(peer.read(&mut world), (vec![], Some(1009)), "{limit}");
    }
    // Blocks that make nothing, without an end.
    let mut world = world(&[("compression.mode", "on"), ("limits.message_bytes", "4k")]);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    peer.send(&mut world, &header([0; 4], RSV1 | BINARY, 1 << 30));
    assert_eq!(peer.read(&mut world).1, Some(1009));
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(100);
    peer.send(&mut world, &frame((RSV1 | BINARY) & !FIN, &nothing));
    for _ in 0..10 {
        peer.send(&mut world, &frame(CONTINUATION & !FIN, &nothing));
    }
    assert_eq!(peer.read(&mut world).1, Some(1009));
}

/// A message that grows long is inflated in slices, and the others have their turns.
#[test]
fn inflating_is_charged_to_the_turn() {
    let pairs = [("compression.mode", "on"), ("turn.bytes", "64k"), ("limits.message_bytes", "8m")];
    let mut world = world(&pairs);
    let mut peer = Peer::open(&mut world, "/echo", OFFER);
    let turns = world.server.stats().turns;
    peer.send(&mut world, &frame(RSV1 | BINARY, &deflate(&vec![0; 4 << 20])));
    let took = world.server.stats().turns - turns;
    assert!(took >= 16, "{took} turns");
    assert_eq!(peer.message(&mut world).payload.len(), 4 << 20);
}

/// An event is compressed once for all, and not at all for those who have not agreed.
#[test]
fn events_are_compressed_for_their_subscribers() {
    let mut world = world(&ON);
    let mut peers: Vec<_> = (0..20).map(|_| Peer::open(&mut world, "/topics/a", OFFER)).collect();
    let mut plain = Peer::open(&mut world, "/topics/a", "x");
    for n in 0..30 {
        let payload = json(n, 600 + n);
        peers[0].send(&mut world, &frame(TEXT, &payload));
        for peer in &mut peers {
            let came = peer.message(&mut world);
            assert!(came.is_compressed && came.payload == payload);
        }
        let came = plain.message(&mut world);
        assert!(!came.is_compressed && came.payload == payload);
    }
}
