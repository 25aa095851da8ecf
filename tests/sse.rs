//! Event streams against a reader written from the text of the WHATWG (HTML, 9.2.5 and 9.2.6).
//!
//! Random streams of all kinds of pieces, payloads full of line breaks, blanks, colons and whole
//! lines of the protocol, are cut anywhere, also within a character, and read piece by piece. The
//! reader must hand out what was encoded, with the ids it is to remember, and nothing else.
//!
//! `SEED=` runs one random stream, `ROUNDS=` sets how many there are.

#[path = "common/event_stream.rs"]
mod event_stream;
#[path = "common/rng.rs"]
mod rng;

use std::env;

use heartwheel::core::wire::payload::Payload;
use heartwheel::core::wire::sse;
use heartwheel::http::{HeadLimits, HeadReader};

use event_stream::{Reader, Stream};
use rng::Rng;

/// Adds a piece of any kind.
fn add(stream: &mut Stream, rng: &mut Rng) {
    match rng.below(10) {
        0 => stream.add_retry(rng.next_u64() >> rng.below(64)),
        1 => stream.add_comment(),
        2 => stream.add_position(&field(rng)),
        3 => {
            let first = rng.chance(50).then(|| field(rng));
            stream.add_gap(rng.chance(50).then(|| text(rng)), first);
        }
        _ => add_event(stream, rng),
    }
}

fn add_event(stream: &mut Stream, rng: &mut Rng) {
    let id = field(rng);
    let name = rng.chance(50).then(|| field(rng));
    let (text, bytes): (_, Vec<u8>);
    let payload = match rng.below(8) {
        0..2 => {
            bytes = (0..rng.below(20)).map(|_| rng.below(256) as u8).collect();
            Payload::Binary(&bytes)
        }
        form => {
            text = self::text(rng);
            if form < 5 { Payload::Text(&text) } else { Payload::Json(&text) }
        }
    };
    stream.add_event(&id, name.as_deref(), payload);
}

/// A text that tries to break lines.
fn text(rng: &mut Rng) -> String {
    const PARTS: &[&str] = &[
        "\r", "\n", "\r\n", "\n\n", " ", "  ", ":", ": ", "data: x", "id: 9", "event", "retry: 1",
        "a", "ü", "€", "😀", "\0", "\t", "\u{feff}", "\u{85}", "\u{2028}", "\"", "\\", "{}",
    ];
    let parts = rng.below(9);
    (0..parts).map(|_| PARTS[rng.below(PARTS.len() as u64) as usize]).collect()
}

/// An id or a name: one line without NUL.
fn field(rng: &mut Rng) -> String {
    text(rng).replace(['\r', '\n', '\0'], "")
}

#[test]
fn a_reader_gets_what_was_encoded() {
    let number = |name| env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDS").unwrap_or(3000),
    };
    for seed in seeds {
        let round = std::panic::catch_unwind(|| run(&mut Rng::new(seed)));
        assert!(round.is_ok(), "SEED={seed}");
    }
}

fn run(rng: &mut Rng) {
    let mut stream = Stream::default();
    for _ in 0..rng.below(20) {
        add(&mut stream, rng);
    }
    let mut reader = Reader::default();
    let mut rest = &stream.bytes[..];
    let chunk_bytes_max = 1 + rng.below(40);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(1 + rng.below(chunk_bytes_max) as usize));
        reader.read(chunk);
        rest = after;
    }
    stream.compare(&reader);
}

/// The reader itself, by the examples of the text, so that it is no mirror of the encoder.
#[test]
fn the_reader_reads_the_examples_of_the_standard() {
    let dispatched = |stream: &str| {
        let mut reader = Reader::default();
        reader.read(stream.as_bytes());
        let dispatched = reader.dispatched.into_iter();
        dispatched.map(|e| (e.event_type, e.data, e.last_event_id)).collect::<Vec<_>>()
    };
    let expected = |events: &[(&str, &str, &str)]| {
        let owned = |(a, b, c): &(&str, &str, &str)| (a.to_string(), b.to_string(), c.to_string());
        events.iter().map(owned).collect::<Vec<_>>()
    };
    for (stream, events) in [
        ("data: YHOO\ndata: +2\r\ndata: 10\r\r", &[("message", "YHOO\n+2\n10", "")][..]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n\
             data:  third event\n\nlost",
            &[
                ("message", "first event", "1"),
                ("message", "second event", ""),
                ("message", " third event", ""),
            ],
        ),
        ("data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]),
        ("\u{feff}data:test\n\ndata: test\n\n", &[("message", "test", ""); 2]),
        (
            "event: add\ndata: 7\n\nid: 1\n\nevent: lost\n\ndata: 8\n\n",
            &[("add", "7", ""), ("message", "8", "1")],
        ),
    ] {
        assert_eq!(dispatched(stream), expected(events), "{stream:?}");
    }
}

#[test]
fn an_id_that_is_not_utf_8_is_not_taken_for_none() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7-0\xff\r\n\r\n";
    let (_, head) =
        HeadReader::default().read(head, &HeadLimits { head_bytes: 100, headers: 2 }).unwrap();
    let request = head.unwrap().request;
    assert_eq!(sse::last_event_id(&request).as_deref(), Some("7-0\u{fffd}"));
}
