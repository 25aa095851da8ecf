//! What compressed messages cost (feature `deflate`): a connection that has agreed on them, and
//! bombs.

use heartwheel::core::ground::reason::CloseReason;
use heartwheel::{Config, ConnectionId};
use zlib_rs::{Deflate, DeflateFlush};

use super::common::frame::{BINARY, CONTINUATION, FIN, TEXT, frame};
use super::common::http::upgrade_request;
use super::{World, live, peak_of};

/// Gives a world in which a peer that offers compression gets it.
fn world(message_bytes: u64) -> World {
    let mut config = Config::default();
    config.set("compression.mode", "on").unwrap();
    config.set("heartbeat.interval", "off").unwrap();
    config.set("limits.message_bytes", &message_bytes.to_string()).unwrap();
    World::new(config)
}

/// Opens a WebSocket. Its peer offers compression, or not.
fn open(world: &mut World, path: &str, offers: bool) -> ConnectionId {
    let id = world.accept();
    let lines = if offers { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    world.turn(id, upgrade_request(path, lines).as_bytes(), usize::MAX);
    id
}

/// Gives the compressed payload of a message.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(6, false, 15);
    let mut out = vec![0; payload.len() + 100];
    deflate.compress(payload, &mut out, DeflateFlush::SyncFlush).unwrap();
    out.truncate(deflate.total_out() as usize - TAIL.len());
    out
}

/// Gives the bytes that `COUNT` connections own when all have been idle for a while, and the
/// coders were given back.
fn idle_bytes(offers: bool) -> isize {
    let mut world = world(1 << 20);
    let json = br#"{"device":"gw-17","celsius":21.5}"#.repeat(30);
    let message = frame(RSV1 | TEXT, &compressed(&json));
    // What is kept to be used again is as large as it gets.
    let first = open(&mut world, "/echo", true);
    world.turn(first, &message, usize::MAX);
    world.0.run_for(20_000);
    let before = live();
    for number in 0..COUNT {
        let path = if number % 2 == 0 { "/echo" } else { "/topics/news" };
        let id = open(&mut world, path, offers);
        if offers && number % 2 == 0 {
            world.turn(id, &message, usize::MAX);
        }
    }
    world.publish(json.into());
    world.0.settle();
    let stats = world.0.engine.stats();
    let (came, made) = (stats.messages_received, stats.compressions);
    let (half, echoes) = (COUNT as u64 / 2, if offers { COUNT as u64 / 2 } else { 0 });
    assert_eq!(came, 1 + echoes, "compressed messages came");
    assert_eq!(stats.messages_sent, 1 + echoes + half, "and left again, as did an event");
    assert!(made > echoes, "compressed: {made} times");
    world.0.run_for(20_000);
    assert_eq!(world.0.engine.len(), 1 + COUNT);
    live() - before
}

/// The server keeps no window of a peer: four bytes in a table, which may have grown to twice what
/// is in use.
#[test]
fn an_idle_connection_that_has_agreed_on_compression_owns_four_bytes_more() {
    let (plain, with_compression) = (idle_bytes(false), idle_bytes(true));
    let more = with_compression - plain;
    println!("{COUNT} idle connections own {plain} bytes, with compression {more} more");
    assert!(more > 0, "the count counts");
    assert!(more <= 2 * 4 * COUNT as isize, "{more} bytes more");
}

/// What came of messages.
struct Outcome {
    /// The most that was allocated at any moment, beyond what was there before: with what one read
    /// gave, if there was no time to decode all of it.
    grown: isize,
    /// The most messages that came in one turn.
    most_messages: u64,
    /// Why the server ended the connection.
    reason: Option<CloseReason>,
}

/// Sends frames, `piece` bytes at a time, and turns until all is done or the server has refused it.
fn suffer(world: &mut World, frames: &[u8], piece: usize) -> Outcome {
    let id = open(world, "/echo", true);
    let before = live();
    let mut most_messages = 0;
    let grown = peak_of(|| {
        for piece in frames.chunks(piece) {
            world.0.send(id, piece);
            while world.0.has_work_left() {
                let received = world.0.engine.stats().messages_received;
                world.0.turn();
                let received = world.0.engine.stats().messages_received - received;
                most_messages = most_messages.max(received);
            }
        }
    });
    // A peer that was refused has got a close frame by now, and goes.
    world.0.end(id);
    world.0.settle();
    let stats = world.0.engine.stats();
    assert!(!world.0.engine.contains(id));
    let reasons = [CloseReason::TooBig, CloseReason::Deflate];
    let reason = reasons.into_iter().find(|reason| stats.closed_by(*reason) > 0);
    Outcome { grown: grown - before, most_messages, reason }
}

/// Gives a payload of about so many kibibytes that inflates to as many mebibytes of zeros, and more
/// may follow.
fn bomb(kibibytes: usize) -> Vec<u8> {
    let mebibyte = [&compressed(&vec![0; 1 << 20])[..], &TAIL].concat();
    assert!((1000..1100).contains(&mebibyte.len()));
    mebibyte.repeat(kibibytes)
}

/// Gives a message in fragments of so many bytes.
fn fragments(payload: &[u8], len: usize) -> Vec<u8> {
    let count = payload.chunks(len).count();
    let fragment = |(number, piece)| {
        let first = if number == 0 { RSV1 | BINARY & !FIN } else { CONTINUATION & !FIN };
        frame(if number + 1 == count { first | FIN } else { first }, piece)
    };
    payload.chunks(len).enumerate().flat_map(fragment).collect()
}

/// Asserts why messages were refused, and that they held no more than the largest one may and
/// 64 KiB, beside what one read gave.
#[track_caller]
fn assert_refused(outcome: &Outcome, why: CloseReason, most: u64, piece: usize, what: &str) {
    let grown = outcome.grown;
    println!("{what}, {piece} a read: {grown} bytes, {most} are allowed to a message");
    assert_eq!(outcome.reason, Some(why), "{what}");
    let read = if piece < LARGEST_READ { 0 } else { LARGEST_READ };
    assert!(grown <= (most as usize + SLACK + read) as isize, "{what}: {grown} of {most}");
}

/// FAULTS 47: what comes out is bounded while it comes out.
#[test]
fn a_bomb_holds_no_more_than_a_message_may_have() {
    for most in [1 << 10, 64 << 10, 1 << 20] {
        for kibibytes in [2, 16, 100, 1024] {
            let payload = [&bomb(kibibytes)[..], &[0]].concat();
            let shapes = [frame(RSV1 | BINARY, &payload), fragments(&payload, 2000)];
            for (frames, piece) in
                shapes.iter().flat_map(|frames| PIECES.map(|piece| (frames, piece)))
            {
                let outcome = suffer(&mut world(most), frames, piece);
                let what = format!("{kibibytes} KiB");
                assert_refused(&outcome, CloseReason::TooBig, most, piece, &what);
            }
        }
    }
}

#[test]
fn nor_does_one_that_breaks_off_behind_much() {
    for (kibibytes, piece) in [1, 3].into_iter().flat_map(|size| PIECES.map(|piece| (size, piece)))
    {
        let most = 4 << 20;
        let payload = [&bomb(kibibytes)[..], &[0xff; 10]].concat();
        let outcome = suffer(&mut world(most), &frame(RSV1 | BINARY, &payload), piece);
        assert_refused(&outcome, CloseReason::Deflate, most, piece, "corrupt");
    }
}

/// What goes in is bounded, too: such blocks make nothing, and hold nothing.
#[test]
fn empty_blocks_without_an_end_are_refused_and_hold_nothing() {
    for (most, piece) in
        [64 << 10, 1 << 20].into_iter().flat_map(|most| PIECES.map(|piece| (most, piece)))
    {
        let blocks = [0, 0, 0, 0xff, 0xff].repeat(2 * most / 5);
        let outcome = suffer(&mut world(most as u64), &fragments(&blocks, 4000), piece);
        assert_refused(&outcome, CloseReason::TooBig, 0, piece, "blocks");
    }
}

#[test]
fn many_compressed_messages_of_one_byte_are_spread_over_turns_and_hold_nothing() {
    const MESSAGES: usize = 65_535;
    let frames = frame(RSV1 | TEXT, &[0]).repeat(MESSAGES);
    for piece in PIECES {
        let mut world = world(1 << 20);
        let outcome = suffer(&mut world, &frames, piece);
        let (grown, each_turn) = (outcome.grown, outcome.most_messages);
        println!("{piece} a read: {grown} bytes, at most {each_turn} messages a turn");
        let stats = world.0.engine.stats();
        assert_eq!((stats.messages_sent, outcome.reason), (MESSAGES as u64, None));
        // A message costs as much of a turn as 128 bytes.
        let most = Config::default().turn.bytes as u64 / 128 + 1;
        assert!(each_turn <= most, "{each_turn} messages in one turn");
        assert!(grown <= (SLACK + piece) as isize, "{grown}");
    }
}

/// A turn inflates as much as it may do, a slice of 64 KiB that it has begun, and of that the last
/// 256 compressed bytes, which may become a thousand times as many.
#[test]
fn a_bomb_that_is_allowed_takes_its_turns_and_others_have_theirs() {
    const BYTES: usize = 16 << 20;
    let mut world = world(BYTES as u64);
    let (id, other) = (open(&mut world, "/echo", true), open(&mut world, "/echo", true));
    let payload = [&bomb(BYTES >> 20)[..], &[0]].concat();
    world.0.send(id, frame(RSV1 | BINARY, &payload));
    let (turns, mut echoes) = (world.0.turns, 0);
    // The other one says something in every second turn, until all is inflated.
    let handled = |world: &World| world.0.engine.stats().messages_received;
    loop {
        world.0.send(other, frame(RSV1 | TEXT, &[0]));
        (0..2).for_each(|_| world.0.turn());
        if handled(&world) > echoes + 1 {
            break;
        }
        assert_eq!(handled(&world), echoes + 1, "the other one has its turn");
        echoes += 1;
    }
    let turns = world.0.turns - turns;
    let most = Config::default().turn.bytes + (64 << 10) + 256 * 1032;
    println!("{BYTES} bytes in {turns} turns");
    assert!(turns as usize >= BYTES / most, "{turns} turns");
}

const COUNT: usize = 1000;
const RSV1: u8 = 0x40;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// What a message may take beside its own bytes.
const SLACK: usize = 64 << 10;
/// How much of a message comes at once.
const PIECES: [usize; 3] = [1000, 16 << 10, LARGEST_READ];
/// What a turn reads into the buffer that connections share, at most.
const LARGEST_READ: usize = 64 << 10;
