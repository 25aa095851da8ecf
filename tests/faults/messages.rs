//! Messages that are too long, too slow, or never whole; and peers that do not read what they are
//! answered.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::stats::DeadlineKind;
use heartwheel::{CloseReason, Event, Peer};

use crate::common::client::{Client, Frame, is_timeout};
use crate::common::frame::{BINARY, CONTINUATION, FIN, MASK, TEXT, frame, header};
use crate::common::rng::Rng;
use crate::common::server::TestServer;
use crate::common::timing::{TICK, assert_took, quiet, rounds_of};

/// FAULTS 42. Only the header of the message that is too long is sent: what it announces is enough.
#[test]
fn message_of_the_limit_passes_and_one_more_byte_is_closed_1009() {
    let server = TestServer::start(&[("limits.message_bytes", "100000")]);
    let limit = vec![b'x'; 100_000];
    for first in [TEXT, BINARY] {
        let mut client = Client::open(server.address, "/echo");
        client.assert_echo(first, &limit);
        client.send(frame(first & !FIN, &limit[..99_999]));
        client.send(frame(CONTINUATION, b"x"));
        assert_eq!(client.read_frame(), Frame { first, payload: limit.clone() });
        client.send(header(MASK, first, 100_001));
        client.assert_closed(1009);
        let mut client = Client::open(server.address, "/echo");
        client.send(frame(first & !FIN, &limit));
        client.send(header(MASK, CONTINUATION, 1));
        client.assert_closed(1009);
    }
    let stats = server.wait_closed(CloseReason::TooBig, 4);
    assert_eq!(stats.messages_received, 4);
    server.stop();
}

/// FAULTS 43.
#[test]
fn fragments_whose_sum_overflows_are_closed_1009() {
    let server = TestServer::start(&[]);
    for length in [u64::from(u32::MAX), (1 << 32) - 1, i64::MAX as u64] {
        let mut client = Client::open(server.address, "/echo");
        client.send(frame(BINARY & !FIN, b"0123456789"));
        client.send(header(MASK, CONTINUATION, length));
        client.assert_closed(1009);
    }
    server.wait_closed(CloseReason::TooBig, 3);
    server.stop();
}

/// CONTRACT 2, `limits.fragments`; empty ones count.
#[test]
fn too_many_fragments_are_closed_1008() {
    let server = TestServer::start(&[("limits.fragments", "10")]);
    let mut client = Client::open(server.address, "/echo");
    let begun = [frame(TEXT & !FIN, b""), frame(0, b"").repeat(8)].concat();
    client.send([begun.clone(), frame(CONTINUATION, b"ten")].concat());
    assert_eq!(client.read_frame(), Frame { first: TEXT, payload: b"ten".into() });
    client.send([begun, frame(0, b"").repeat(2)].concat());
    client.assert_closed(1008);
    server.wait_closed(CloseReason::Fragments, 1);
    server.stop();
}

/// FAULTS 44. Bytes keep coming, so that nothing is idle; but the message never ends.
#[test]
fn slow_fragments_are_closed_3008_at_the_message_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.message", "300ms")]);
    let mut client = Client::open(server.address, "/echo");
    thread::sleep(TICK * 5);
    let began = Instant::now();
    client.send(frame(TEXT & !FIN, b"x"));
    while !client.has_ended() {
        client.send(frame(0, b"x"));
        thread::sleep(TICK);
    }
    assert_took(began, Duration::from_millis(300));
    client.answer_close(3008);
    let stats = server.wait_closed(CloseReason::Message, 1);
    assert_eq!((stats.fired(DeadlineKind::Message), stats.messages_received), (1, 0));
    server.stop();
}

/// FAULTS 44, within one frame, and within its header.
#[test]
fn slow_frame_and_slow_header_are_closed_3008_at_the_message_deadline() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.message", "300ms")]);
    let cases = [frame(BINARY, &[7; 120]), header(MASK, BINARY, 1000)[..5].to_vec()];
    for (bytes, pause) in cases.iter().zip([TICK, TICK * 9]) {
        let mut client = Client::open(server.address, "/echo");
        let began = Instant::now();
        client.drip(bytes, pause);
        client.read_close(3008);
        assert_took(began, Duration::from_millis(300));
        // What follows is the rest of the frame, skipped, and then the answer.
        drop(client);
    }
    let stats = server.wait_closed(CloseReason::Message, 2);
    assert_eq!(stats.fired(DeadlineKind::Message), 2);
    server.stop();
}

/// The deadline is that of one message: many of them may take longer.
#[test]
fn each_message_has_the_message_deadline_for_itself() {
    let _quiet = quiet();
    let server = TestServer::start(&[("deadlines.message", "300ms")]);
    let mut client = Client::open(server.address, "/echo");
    for _ in 0..5 {
        client.send(frame(TEXT & !FIN, b"a"));
        thread::sleep(Duration::from_millis(100));
        client.send(frame(CONTINUATION, b"b"));
        assert_eq!(client.read_frame().payload, b"ab");
    }
    assert_eq!(server.stop().fired(DeadlineKind::Message), 0);
}

/// FAULTS 46.
#[cfg(feature = "program")]
#[test]
fn memory_follows_what_is_received_and_not_what_is_declared() {
    let _alone = crate::common::timing::alone();
    let server = crate::common::program::Program::start(&[]);
    server.descriptors_at_rest();
    let mut clients: Vec<_> =
        (0..rounds_of(1000, 5000)).map(|_| Client::open(server.address, "/echo")).collect();
    let memory = server.memory();
    for client in &mut clients {
        client.send(header(MASK, BINARY, 64 << 10));
        client.send(b"x");
    }
    // All of it has been read when the last one's ping, in another frame's place, would be: ask
    // anew instead.
    Client::open(server.address, "/echo").assert_echo(TEXT, b"after the others");
    let each = server.memory().saturating_sub(memory) / clients.len() as u64;
    println!("{each} bytes for each of {} messages begun", clients.len());
    assert!(each < 2048, "{each} bytes");
}

/// FAULTS 50. Messages of every size up to the limit, several under way at a time; the order and
/// each byte are kept.
#[test]
fn random_messages_come_back_in_order_and_whole() {
    let server = TestServer::start(&[("limits.message_bytes", "64k")]);
    for (seed, path) in ["/echo", "/inline"].into_iter().enumerate() {
        let mut rng = Rng::new(seed as u64);
        let mut client = Client::open(server.address, path);
        let mut under_way = VecDeque::new();
        for _ in 0..rounds_of(300, 50_000) {
            let size = if rng.chance(80) { rng.below(1000) } else { rng.below((64 << 10) + 1) };
            let sum = rng.next_u64();
            client.send(frame(BINARY, &numbers_from(sum, size as usize)));
            under_way.push_back((sum, size as usize));
            if under_way.len() == 5 {
                let (sum, size) = under_way.pop_front().expect("there are five");
                assert!(client.read_frame().payload == numbers_from(sum, size), "seed {seed}");
            }
        }
        for (sum, size) in under_way {
            assert!(client.read_frame().payload == numbers_from(sum, size), "seed {seed}");
        }
    }
    let stats = server.stop();
    assert_eq!((stats.messages_sent, stats.messages_dropped()), (stats.messages_received, 0));
}

/// Gives bytes that differ from place to place and from seed to seed.
fn numbers_from(seed: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes: Vec<u8> =
        (0..size.div_ceil(8)).flat_map(|_| rng.next_u64().to_ne_bytes()).collect();
    bytes.truncate(size);
    bytes
}

/// FAULTS 84. The server stops reading a peer that does not read; what it holds is bounded; the
/// peer ends by the stall, not by an overflow of answers that it asked for itself.
#[test]
fn peer_that_never_reads_its_echoes_is_not_read_and_ends_by_write_stall() {
    let _quiet = quiet();
    for (path, size) in [("/echo", 64 << 10), ("/inline", 64 << 10), ("/echo", 100)] {
        let server = TestServer::start(&[("deadlines.write_stall", "500ms")]);
        let mut client = Client::connect_narrow(server.address);
        client.upgrade(path);
        let flood = frame(BINARY, &vec![7; size]).repeat((256 << 10) / size);
        let sending = thread::spawn(move || (send_until_reset(&mut client, &flood), client));
        let seen = server.wait_until(|seen| seen.stats.closed_total() > 0);
        assert_took(seen.sent_at.expect("it was answered 101"), Duration::from_millis(500));
        let stats = server.wait_closed(CloseReason::WriteStall, 1);
        let (sent, client) = sending.join().expect("it is dropped");
        println!("{path}, {size} bytes: {sent} sent, {} read", stats.received_bytes);
        // The inbox, the outbox and one read, each 256 KiB at the most with the default limits, and
        // what a job holds.
        assert!(stats.received_bytes < 1 << 20, "{}", stats.received_bytes);
        assert_eq!(stats.fired(DeadlineKind::WriteStall), 1);
        drop(client);
        server.stop();
    }
}

/// Sends again and again until the server drops the connection. Gives how many bytes were taken.
fn send_until_reset(client: &mut Client, flood: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        match client.stream.write(&flood[sent % flood.len()..]) {
            Ok(len) => sent += len,
            Err(error) if is_timeout(&error) => panic!("it is never dropped"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return sent;
            }
        }
    }
}

/// FAULTS 84c. Nine thousand messages come in one segment while the handler is blocked: what the
/// inbox has no room for waits undecoded, and all are answered in order once the handler goes on.
#[test]
fn messages_beyond_the_inbox_wait_and_are_answered_in_order() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().expect("nobody has panicked");
    let server = TestServer::start_with(&[], |builder| {
        let gate = gate.clone();
        builder.websocket("/gated", move |peer: &Peer, event: Event| {
            if let Event::Message(message) = event {
                drop(gate.lock().expect("nobody panics with it"));
                peer.send(message);
            }
        })
    });
    let mut client = Client::open(server.address, "/gated");
    let count = 9000;
    let flood: Vec<u8> =
        (0..count).flat_map(|index| frame(BINARY, &[(index % 251) as u8])).collect();
    client.send(&flood);
    let full = server.wait_until(|seen| seen.stats.messages_received >= 64);
    thread::sleep(Duration::from_millis(100));
    let later = server.snapshot();
    println!("{} of {count} messages decoded", later.stats.messages_received);
    // As many as the inbox holds, and as many as the job holds that is out.
    assert!(later.stats.messages_received <= 128, "{}", later.stats.messages_received);
    assert!(later.stats.turns - full.stats.turns < 20, "the loop does not spin");
    assert!(later.cpu - full.cpu < Duration::from_millis(20), "the loop does not spin");
    drop(held);
    for index in 0..count {
        assert_eq!(client.read_frame().payload, [(index % 251) as u8], "message {index}");
    }
    let stats = server.stop();
    assert_eq!((stats.messages_handled, stats.messages_dropped()), (count, 0));
}

/// FAULTS 86. Injected errors are for the simulation; here a narrow window cuts writes where it
/// likes, and the peer reads slowly: every byte comes, in order.
#[test]
fn slow_reader_gets_every_byte_in_order() {
    let _quiet = quiet();
    let server = TestServer::start(&[]);
    let mut client = Client::connect_narrow(server.address);
    client.upgrade("/echo");
    let mut rng = Rng::new(86);
    let messages: Vec<Vec<u8>> =
        (0..200).map(|seed| numbers_from(seed, rng.below(5000) as usize)).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(BINARY, message)).collect();
    let mut sender = client.stream.try_clone().expect("a descriptor is left");
    let sending = thread::spawn(move || sender.write_all(&bytes));
    for (index, message) in messages.iter().enumerate() {
        assert!(client.read_frame().payload == *message, "message {index}");
        if index % 4 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    sending.join().expect("no panic").expect("the server takes it");
    assert_eq!(server.stop().messages_dropped(), 0);
}
