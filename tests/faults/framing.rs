//! Frames that break RFC 6455, and right ones however they are cut.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::CloseReason;

use crate::common::client::{Client, End, Frame};
use crate::common::frame::{
    BINARY, CLOSE, CONTINUATION, FIN, MASK, PING, PONG, TEXT, close, frame, frame_masked_by,
    frame_unmasked, header,
};
use crate::common::lag;
use crate::common::rng::Rng;
use crate::common::server::TestServer;
use crate::common::timing::{alone, optimized, percentile, rounds_of};

/// Asserts that each of these ends the connection with its code, though the peer never answers the
/// close frame, and that no handler is given anything of it.
#[track_caller]
fn assert_all_closed(reason: CloseReason, cases: &[Vec<u8>]) {
    let server = TestServer::start(&[]);
    for bytes in cases {
        println!("{}", bytes[..bytes.len().min(40)].escape_ascii());
        let mut client = Client::open(server.address, "/echo");
        client.send(bytes);
        client.assert_closed(reason.code());
    }
    let stats = server.wait_closed(reason, cases.len() as u64);
    assert_eq!((stats.messages_received, stats.messages_sent), (0, 0));
    server.stop();
}

/// FAULTS 28.
#[test]
fn reserved_bits_and_opcodes_are_closed_1002() {
    let bits = [0x40, 0x20, 0x10].map(|bit| frame(TEXT | bit, b"x"));
    let opcodes = (3..=7).chain(11..=15).map(|opcode| frame(FIN | opcode, b""));
    assert_all_closed(CloseReason::Protocol, &bits.into_iter().chain(opcodes).collect::<Vec<_>>());
}

/// FAULTS 29.
#[test]
fn unmasked_frame_is_closed_1002() {
    let cases = [frame_unmasked(TEXT, b"x"), frame_unmasked(PING, b""), frame_unmasked(CLOSE, b"")];
    assert_all_closed(CloseReason::Protocol, &cases);
}

/// FAULTS 31.
#[test]
fn length_that_is_not_in_its_shortest_form_is_closed_1002() {
    let long = |form: &[u8]| [&[BINARY], form, &MASK].concat();
    let cases = [
        long(&[0x80 | 126, 0, 125]),
        long(&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 125]),
        long(&[0x80 | 127, 0, 0, 0, 0, 0, 0, 255, 255]),
        long(&[0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ];
    assert_all_closed(CloseReason::Protocol, &cases);
}

/// FAULTS 32.
#[test]
fn fragmented_or_long_control_frame_is_closed_1002() {
    let fragmented = [PING, PONG, CLOSE].map(|first| frame(first & !FIN, b""));
    let long = [PING, PONG, CLOSE].map(|first| header(MASK, first, 126));
    assert_all_closed(CloseReason::Protocol, &[fragmented, long].concat());
}

/// FAULTS 33.
#[test]
fn continuation_without_a_start_and_start_inside_a_message_are_closed_1002() {
    let begun = frame(TEXT & !FIN, b"begun");
    let cases = [
        frame(CONTINUATION, b"x"),
        frame(CONTINUATION & !FIN, b"x"),
        [begun.clone(), frame(TEXT, b"x")].concat(),
        [begun.clone(), frame(BINARY & !FIN, b"x")].concat(),
    ];
    assert_all_closed(CloseReason::Protocol, &cases);
}

/// FAULTS 72, as far as it is framing; 69, 70 are about what follows.
#[test]
fn malformed_close_frame_is_closed_1002() {
    let wrong = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000];
    let mut cases = wrong.map(|code| close(code, "")).to_vec();
    cases.push(frame(CLOSE, b"x"));
    assert_all_closed(CloseReason::Protocol, &cases);
    assert_all_closed(CloseReason::Utf8, &[frame(CLOSE, b"\x03\xe8\xff")]);
}

/// Valid frames of every kind, and what comes back for them.
fn conversation() -> (Vec<u8>, Vec<Frame>) {
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    let long: Vec<u8> = (0..400).map(|n| n as u8).collect();
    for (first, payload) in
        [(TEXT, "größe".as_bytes()), (BINARY, &long), (TEXT, b""), (BINARY, b"")]
    {
        sent.extend(frame(first, payload));
        expected.push(Frame { first, payload: payload.into() });
    }
    for (first, piece) in [(TEXT & !FIN, "gr\u{f6}"), (0, ""), (0, "ss"), (CONTINUATION, "e")] {
        sent.extend(frame(first, piece.as_bytes()));
    }
    expected.push(Frame { first: TEXT, payload: "größe".replace('ß', "ss").into() });
    (sent, expected)
}

/// FAULTS 34. Every vector and every cut stands in src/core/wire/ws/decoder.rs; here one
/// conversation is cut once at every byte.
#[test]
fn frames_cut_at_every_byte_are_the_same_frames() {
    let server = TestServer::start(&[]);
    let (sent, expected) = conversation();
    let mut client = Client::open(server.address, "/inline");
    for cut in 0..=sent.len() {
        client.send(&sent[..cut]);
        if cut % 8 == 0 {
            // Long enough for the server to read the first piece alone.
            thread::sleep(Duration::from_millis(1));
        }
        client.send(&sent[cut..]);
        for expected in &expected {
            assert_eq!(&client.read_frame(), expected, "cut at {cut}");
        }
    }
    let count = expected.len() * (sent.len() + 1);
    let stats = server.stop();
    assert_eq!((stats.messages_received, stats.messages_sent), (count as u64, count as u64));
}

/// FAULTS 35.
#[test]
fn frames_in_one_segment_and_a_header_in_five_are_the_same_frames() {
    let server = TestServer::start(&[]);
    for path in ["/echo", "/inline"] {
        let mut client = Client::open(server.address, path);
        let texts: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
        let frames: Vec<u8> = texts.iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
        client.send(frames);
        for text in &texts {
            assert_eq!(client.read_frame().payload, text.as_bytes());
        }
        let payload = vec![7; 70_000];
        let bytes = frame(BINARY, &payload);
        for piece in [0..1, 1..2, 2..5, 5..11, 11..14, 14..bytes.len()] {
            client.send(&bytes[piece]);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(client.read_frame().payload, payload);
    }
    assert_eq!(server.stop().messages_handled, 202);
}

/// FAULTS 36. The oracle is tests/differential.rs; here random conversations go through a socket in
/// random pieces, and what comes back is what was sent.
#[test]
fn random_frames_in_random_pieces_come_back() {
    let server = TestServer::start(&[]);
    for seed in 0..rounds_of(20, 1_000_000) as u64 {
        let mut rng = Rng::new(seed);
        let path = if rng.chance(50) { "/echo" } else { "/inline" };
        let mut client = Client::open(server.address, path);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let payload: Vec<u8> = (0..rng.below(2000)).map(|_| rng.next_u64() as u8).collect();
            append_fragmented(&mut rng, &mut bytes, &payload);
            expected.push(payload);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + rng.below(3000) as usize));
            client.send(piece);
            rest = behind;
        }
        for payload in expected {
            assert_eq!(client.read_frame(), Frame { first: BINARY, payload }, "seed {seed}");
        }
    }
    assert_eq!(server.stop().messages_dropped(), 0);
}

/// Appends a binary message in random fragments, with pongs between them, which nobody answers.
fn append_fragmented(rng: &mut Rng, bytes: &mut Vec<u8>, payload: &[u8]) {
    let mut first = BINARY & !FIN;
    let mut rest = payload;
    loop {
        let mask = (rng.next_u64() as u32).to_ne_bytes();
        let (piece, behind) = rest.split_at(rng.below(rest.len() as u64 + 1) as usize);
        rest = behind;
        if rest.is_empty() {
            bytes.extend(frame_masked_by(mask, first | FIN, piece));
            return;
        }
        bytes.extend(frame_masked_by(mask, first, piece));
        first = 0;
    }
}

/// FAULTS 37.
#[test]
fn every_mask_and_length_gives_the_right_bytes() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(server.address, "/inline");
    let payload: Vec<u8> = (0..300).map(|n| n as u8).collect();
    for mask in [[0; 4], [0xff; 4], MASK] {
        // All lengths in one stream: each frame begins at another alignment of the server's buffer.
        let bytes: Vec<u8> =
            (0..=300).flat_map(|len| frame_masked_by(mask, BINARY, &payload[..len])).collect();
        client.send(bytes);
        for len in 0..=300 {
            assert_eq!(client.read_frame().payload, payload[..len]);
        }
    }
    for shift in 0..8 {
        // A frame of that much first moves the next one's payload to each place within eight bytes.
        client.send([frame(BINARY, &payload[..shift]), frame(BINARY, &payload)].concat());
        assert_eq!(client.read_frame().payload, payload[..shift]);
        assert_eq!(client.read_frame().payload, payload);
    }
    server.stop();
}

/// FAULTS 38. The fragment that makes it wrong is enough: the message's end is never sent.
#[test]
fn text_that_is_not_utf8_is_closed_1007() {
    let overlong: &[u8] = b"\xc0\xaf";
    let surrogate = b"\xed\xa0\x80";
    let beyond = b"\xf4\x90\x80\x80";
    let mut cases = vec![
        frame(TEXT, b"\xff"),
        frame(TEXT, b"cut \xe2\x82"),
        [frame(TEXT & !FIN, b"cut \xe2"), frame(0, b"\x28")].concat(),
        [frame(TEXT & !FIN, b"cut \xe2"), frame(CONTINUATION, b"\x82")].concat(),
        // Half of a long frame.
        [header([0; 4], TEXT, 1000), b"\xff".repeat(10)].concat(),
    ];
    for wrong in [overlong, surrogate, beyond] {
        cases.push(frame(TEXT, wrong));
        cases.push(frame(TEXT & !FIN, wrong));
    }
    assert_all_closed(CloseReason::Utf8, &cases);
}

/// FAULTS 39. One peer sends messages of one byte as fast as they are taken; the round trips of a
/// hundred others.
#[test]
fn flood_of_small_messages_does_not_delay_others() {
    let _alone = alone();
    let server = TestServer::start(&[("limits.pings_per_second", "1000")]);
    let mut others: Vec<_> = (0..100).map(|_| Client::open(server.address, "/echo")).collect();
    let mut flooder = Client::open(server.address, "/echo");
    let mut reader = flooder.stream.try_clone().expect("a descriptor is left");
    let reading = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    let flood = frame(BINARY, b"x").repeat(1000);
    let ends_at = Instant::now() + Duration::from_millis(rounds_of(1000, 60_000) as u64);
    let flooding = thread::spawn(move || {
        while Instant::now() < ends_at {
            flooder.send(&flood);
        }
        flooder.half_close();
    });
    let mut round_trips = Vec::new();
    while !flooding.is_finished() {
        for other in &mut others {
            let began = Instant::now();
            other.send(frame(PING, b"?"));
            assert_eq!(other.read_frame().first, PONG);
            round_trips.push(began.elapsed());
        }
    }
    flooding.join().expect("the server took all");
    reading.join().expect("no panic").expect("the flood is answered to its end");
    let p99 = percentile(&mut round_trips, 99);
    let stats = server.wait_closed(CloseReason::Eof, 1);
    println!("{} messages, p99 of {} pongs: {p99:?}", stats.messages_received, round_trips.len());
    assert!(p99 < optimized(Duration::from_millis(20)) + lag::worst(), "{p99:?}");
    assert_eq!((stats.messages_sent, stats.messages_dropped()), (stats.messages_received, 0));
    server.stop();
}

/// A fragment costs as much of `turn.bytes` as a message: a flood of them is cut into turns, and
/// others come between.
#[test]
fn fragments_of_one_byte_take_as_many_turns_as_messages() {
    let server = TestServer::start(&[("turn.bytes", "1k")]);
    let mut client = Client::open(server.address, "/echo");
    let before = server.snapshot().stats.turns;
    let more = frame(0, b"x").repeat(798);
    client.send([frame(TEXT & !FIN, b"x"), more, frame(CONTINUATION, b"x")].concat());
    assert_eq!(client.read_frame(), Frame { first: TEXT, payload: vec![b'x'; 800] });
    let turns = server.snapshot().stats.turns - before;
    assert!(turns >= 800 / 8, "{turns} turns");
    server.stop();
}

/// FAULTS 41.
#[test]
fn pings_between_fragments_are_answered_and_the_message_is_whole() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(server.address, "/echo");
    for (first, piece) in [(TEXT & !FIN, "one "), (0, "two "), (CONTINUATION, "three")] {
        client.send(frame(PING, piece.as_bytes()));
        assert_eq!(client.read_frame(), Frame { first: PONG, payload: piece.into() });
        client.send(frame(first, piece.as_bytes()));
    }
    assert_eq!(client.read_frame(), Frame { first: TEXT, payload: b"one two three".into() });
    server.stop();
}

/// CONTRACT 2, `pings_per_second`: pings, and pongs that nobody asked for.
#[test]
fn flood_of_pings_is_closed_1008() {
    let server = TestServer::start(&[]);
    for first in [PING, PONG] {
        let mut client = Client::open(server.address, "/echo");
        client.send(frame(first, b"x").repeat(100));
        let mut frames = Vec::new();
        let close = loop {
            let frame = client.read_frame();
            if frame.first == CLOSE {
                break frame;
            }
            frames.push(frame);
        };
        assert_eq!(close.payload, 1008u16.to_be_bytes());
        assert!(frames.iter().all(|frame| frame.first == PONG) && frames.len() < 50);
        // The close frame is answered: the end is clean.
        client.send(self::close(1008, ""));
        assert_eq!(client.read_to_end(), (Vec::new(), End::Fin));
    }
    server.wait_closed(CloseReason::Rate, 2);
    server.stop();
}

/// A peer that goes on sending after its fault still gets the close frame, and no reset takes it
/// away.
#[test]
fn peer_that_keeps_sending_after_a_fault_reads_the_close_frame() {
    let server = TestServer::start(&[]);
    let mut client = Client::open(server.address, "/echo");
    client.send(frame_unmasked(TEXT, b"x"));
    for _ in 0..100 {
        client.send(frame(BINARY, &[0; 1000]));
    }
    client.half_close();
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).expect("FIN, not a reset");
    assert_eq!(bytes, [CLOSE, 2, 0x03, 0xea]);
    let stats = server.wait_closed(CloseReason::Protocol, 1);
    assert_eq!(stats.messages_received, 0);
    server.stop();
}
