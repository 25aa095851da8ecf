//! Compressed messages, permessage-deflate (RFC 7692): by a clock that is moved by hand, in memory.
//! The peer inflates with one inflater for the whole connection, as browsers do.

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};

use common::frame::{BINARY, CONTINUATION, FIN, PING, TEXT, close, frame, header};
use common::rng::Rng;
use common::world::*;
use heartwheel::{CloseReason, MemoryPeer, Payload};
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

    /// Reads a few bytes, for later.
    fn sip(&mut self, world: &mut World, len: usize) {
        let mut bytes = vec![0; len];
        if let Ok(len) = self.memory.read(&mut bytes) {
            self.unread.extend(&bytes[..len]);
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
            if self.head.contains("server_no_context_takeover") {
                self.inflate.reset(false);
            }
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
    let answer = "permessage-deflate; client_no_context_takeover";
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
    let forgetful = "permessage-deflate; server_no_context_takeover";
    let expected = format!("{answer}; server_no_context_takeover");
    assert_eq!(line(&Peer::open(&mut on, "/echo", forgetful)).as_deref(), Some(&*expected));
    let off = [("compression.mode", "on"), ("compression.history", "off")];
    let mut without = world(&off);
    assert_eq!(line(&Peer::open(&mut without, "/echo", OFFER)).as_deref(), Some(&*expected));
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
    let (mut sent_wire, mut sent_plain) = (0, 0);
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
        sent_wire += 3 * small.len() as u64;
        sent_plain += 3 * payload.len() as u64;
        for bytes in [&whole, &fragments, &late_end, &frame(TEXT, &payload)] {
            peer.send(&mut world, bytes);
            let came = peer.message(&mut world);
            assert!(came.payload == payload, "{len}");
            let is_compressed = (512..=64 * 1024).contains(&payload.len());
            assert_eq!(came.is_compressed, is_compressed, "{len}");
            assert!(!is_compressed || came.wire < payload.len() * 6 / 10);
        }
        if len <= 5000 {
            sent_wire += small.len() as u64;
            sent_plain += payload.len() as u64;
            for byte in &whole {
                peer.send(&mut world, &[*byte]);
            }
            assert!(peer.message(&mut world).payload == payload);
        }
    }
    let stats = world.server.stats();
    assert_eq!((stats.inflated_bytes, stats.inflated_plain_bytes), (sent_wire, sent_plain));
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
    // Behind a last block stands something else than padding.
    let behind = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x07];
    let bad = [&[0xff][..], behind, cut, &[0xf2, 0x00, 0x11, 0x00, 0x00], &[0xf3, 0x48, 0, 7]];
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

/// JSON as devices send it.
fn reading(n: usize, len: usize) -> Vec<u8> {
    let mut text = format!(
        "{{\"op\":\"event\",\"topic\":\"plant.line4.temperature\",\"id\":\"17643{}-{}\",\"data\":{{\
         \"device\":\"gw-{:04x}\",\"celsius\":{}.{},\"humidity\":{},\"ok\":true}}",
        10_000_000 + n * 37,
        n * 65_536 + 4242,
        n * 7919 % 65_536,
        20 + n % 9,
        n * 31 % 100,
        40 + n % 13,
    );
    while text.len() + 1 < len {
        let (key, whole, tenth) = (text.len() * 7 % 1000, n * text.len() % 97, text.len() % 10);
        text += &format!(",\"k{key}\":{{\"unit\":7,\"v\":{whole}.{tenth}}}");
    }
    (text + "}").into_bytes()
}

/// Publishes what `payload` makes, and gives the share of the bytes that went over the wire, and
/// how many messages were compressed.
fn share(world: &mut World, peers: &mut [Peer], payload: impl Fn(usize) -> Vec<u8>) -> (f64, u64) {
    let (mut plain, mut wire) = (0, 0);
    // Of those alone that were compressed.
    let (mut plain_bytes, mut wire_bytes) = (0, 0);
    let before = *world.server.stats();
    for n in 0..300 {
        let payload = payload(n);
        world.server.handle().publish("a", String::from_utf8(payload.clone()).unwrap()).unwrap();
        world.settle();
        for peer in &mut *peers {
            let came = peer.message(world);
            assert!(came.payload == payload);
            (plain, wire) = (plain + payload.len(), wire + came.wire);
            if came.is_compressed {
                plain_bytes += payload.len() as u64;
                wire_bytes += came.wire as u64;
            }
        }
    }
    let stats = world.server.stats();
    assert_eq!(stats.deflated_plain_bytes - before.deflated_plain_bytes, plain_bytes);
    assert_eq!(stats.deflated_bytes - before.deflated_bytes, wire_bytes);
    (wire as f64 / plain as f64, stats.compressions - before.compressions)
}

/// The client's window has the event before: nothing is kept for that, and the event is compressed
/// once for all who are in step.
#[test]
fn an_event_is_compressed_against_the_one_before() {
    for (len, most, most_alone) in [(146, 0.30, 1.0), (1024, 0.27, 0.6)] {
        for (history, most) in [("message", most), ("off", most_alone)] {
            let mut world = world(&[("compression.mode", "on"), ("compression.history", history)]);
            let mut peers: Vec<_> =
                (0..10).map(|_| Peer::open(&mut world, "/topics/a", OFFER)).collect();
            let (share, compressions) = share(&mut world, &mut peers, |n| reading(n, len));
            println!("{len} bytes, history {history}: {share:.3}");
            assert!(share <= most, "{share}");
            assert!(history == "off" || share < most_alone / 1.5);
            let once = if history == "off" && len < 512 { 0 } else { 300 };
            assert_eq!(compressions, once);
        }
    }
}

/// Says whether a message of a peer is one that was sent to it: what is read by a window in which
/// something else lies than the server thinks is no such message.
fn assert_known(path: &str, payload: &[u8], published: &HashSet<Vec<u8>>) {
    let text = String::from_utf8_lossy(payload);
    match (path, text.split_once("\"data\":")) {
        ("/ws", None) => assert!(text.starts_with("{\"op\":\"") && text.ends_with('}'), "{text}"),
        ("/ws", Some((_, data))) => {
            let data = data.strip_suffix('}').expect("the end of an event");
            assert!(published.contains(data.as_bytes()), "{text}");
        }
        _ => assert!(published.contains(payload), "{text}"),
    }
}

/// Peers that read seldom, whose events give way to others, that come back and are replayed to,
/// speak between, and are pinged: whatever was dropped was never in a window.
#[test]
fn windows_stay_in_step_whatever_is_dropped() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let first: u64 = number("SEED").unwrap_or(1);
    for seed in first..first + number("ROUNDS").unwrap_or(3) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let policy = ["latest", "drop_oldest", "drop_newest"][seed as usize % 3];
        let pace = ["0", "200", "0"][rng.below(3) as usize];
        let mut world = world(&[
            ("compression.mode", "on"),
            ("overflow.policy", policy),
            ("limits.outbox_bytes", "6k"),
            ("limits.send_per_second", pace),
            ("heartbeat.interval", "1s"),
            ("topics.retain_events", "20"),
            ("turn.bytes", ["256k", "8k"][rng.below(2) as usize]),
        ]);
        windows_of(&mut world, &mut rng);
    }
}

fn windows_of(world: &mut World, rng: &mut Rng) {
    const PATHS: [&str; 4] = ["/topics/a", "/topics/b", "/ws", "/ws"];
    let mut published = HashSet::new();
    let (mut read, mut compressed) = (0, 0);
    let mut peers: Vec<_> =
        (0..12).map(|n| (PATHS[n % 4], open_one(world, rng, PATHS[n % 4]))).collect();
    for n in 0..800 {
        let topic = ["a", "a", "a", "b", "c"][rng.below(5) as usize];
        let len = [80, 146, 146, 600, 3000][rng.below(5) as usize];
        let payload = match rng.below(20) {
            0 => json(n, 70_000),
            _ => reading(n, len),
        };
        published.insert(payload.clone());
        let text = String::from_utf8(payload).unwrap();
        world.server.handle().publish(topic, Payload::Json(text.into())).unwrap();
        if rng.below(3) > 0 {
            world.settle();
        }
        let which = rng.below(peers.len() as u64) as usize;
        let (path, peer) = &mut peers[which];
        match rng.below(40) {
            0 => world.clock.advance(SECOND / 4),
            1 => peer.send(world, &frame(PING, b"x")),
            2 if *path == "/ws" => peer.send(world, &frame(TEXT, br#"{"op":"ping","ref":"x"}"#)),
            3 => *peer = open_one(world, rng, path),
            _ => {}
        }
        // The first of them are always in step, the last read seldom.
        for (index, (path, peer)) in peers.iter_mut().enumerate() {
            if index >= 4 && rng.below(10 * index as u64) > 0 {
                peer.sip(world, rng.below(2000) as usize);
                continue;
            }
            let (messages, code) = peer.read(world);
            assert_eq!(code, None);
            for came in messages {
                read += 1;
                compressed += usize::from(came.is_compressed);
                assert_known(path, &came.payload, &published);
            }
        }
    }
    let dropped = world.server.stats().messages_dropped();
    println!("{read} messages, {compressed} of them compressed, {dropped} dropped");
    assert!(read > 1000 && compressed > read / 3);
}

/// Opens a connection, which may begin with all that is retained.
fn open_one(world: &mut World, rng: &mut Rng, path: &str) -> Peer {
    let after = rng.below(2) == 0;
    match path {
        "/ws" => {
            let mut peer = Peer::open(world, path, OFFER);
            for topic in ["a", "b", "c"].iter().take(1 + rng.below(3) as usize) {
                let after = if after { ",\"after\":\"0-0\"" } else { "" };
                let text = format!("{{\"op\":\"subscribe\",\"topic\":\"{topic}\"{after}}}");
                peer.send(world, &frame(TEXT, text.as_bytes()));
            }
            peer
        }
        path => {
            Peer::open(world, &format!("{path}{}", if after { "?after=0-0" } else { "" }), OFFER)
        }
    }
}
