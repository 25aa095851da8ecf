//! The same bytes, cut elsewhere: the application sees the same events and the client the same
//! answers.

use heartwheel::core::contract::event::Event;
use heartwheel::core::contract::route::{Face, RouteSpec};
use heartwheel::{Config, Message};

use crate::common::engine::TestEngine;
use crate::common::rng::Rng;
use crate::script::{frame, message, upgrade_request};
use crate::settings::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX, routes};
use crate::witness::{Said, Witness};

/// What came of one connection.
#[derive(Debug, PartialEq)]
struct Story {
    messages: Vec<Message>,
    events: Vec<&'static str>,
    said: Vec<Said>,
}

/// Requests, the upgrade, frames and, in most cases, something wrong.
pub fn draw(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..rng.below(3) {
        let request = format!("GET /plain?{index} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        bytes.extend(request.into_bytes());
    }
    bytes.extend(upgrade_request("/inline"));
    for number in 0..rng.below(8) {
        let most = if rng.chance(10) { 70_000 } else { 300 };
        let len = rng.below(most) as usize;
        let message = message(rng, number, len);
        let opcode = if message.as_text().is_some() { 1 } else { 2 };
        let (front, back) = message.as_bytes().split_at(message.len() / 2);
        match rng.chance(50) {
            true => bytes.extend(frame(rng, opcode, true, message.as_bytes())),
            false => {
                bytes.extend(frame(rng, opcode, false, front));
                bytes.extend(frame(rng, 0, true, back));
            }
        }
    }
    match rng.below(6) {
        0 => bytes.extend(frame(rng, 8, true, &1000u16.to_be_bytes())),
        1 => bytes.extend(frame(rng, 1, true, b"\xff")),
        2 => bytes.extend(frame(rng, 3, true, b"")),
        3 => bytes.extend([0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        4 => (0..FRAGMENTS_MAX + 1).for_each(|_| bytes.extend(frame(rng, 1, false, b""))),
        _ => {}
    }
    bytes
}

/// Runs the bytes in pieces of up to `piece_max` bytes through an engine of their own.
fn run(bytes: &[u8], piece_max: u64, rng: &mut Rng) -> Story {
    let mut config = Config::default();
    config.limits.message_bytes = MESSAGE_BYTES_MAX;
    config.limits.fragments = FRAGMENTS_MAX;
    let routes = routes().into_iter().map(|route| RouteSpec { wants_drained: false, ..route });
    let mut engine = TestEngine::with(config, routes.collect());
    engine.world.told = Some(Vec::new());
    let id = engine.connect_to(Face::Public, None).expect("there is room");
    let mut rest = bytes;
    while !rest.is_empty() || engine.has_work_left() {
        if engine.unread(id) == 0 {
            let len = rest.len().min(1 + rng.below(piece_max) as usize);
            let (piece, later) = rest.split_at(len);
            engine.send(id, piece);
            rest = later;
        }
        engine.turn();
    }
    let said = Witness::default().take(&engine.received(id));
    let mut story = Story { messages: Vec::new(), events: Vec::new(), said };
    for event in engine.world.told.take().expect("it was asked for") {
        story.events.push(match event {
            Event::Opened(_) => "opened",
            Event::Message(message) => {
                story.messages.push(message);
                "message"
            }
            Event::Closed(_) => "closed",
            _ => "other",
        });
    }
    story
}

impl Story {
    /// Replies that a fault has cut off are missing; which ones depends on when it was met.
    fn is_cut(&self) -> bool {
        self.said.iter().any(|said| matches!(said, Said::Close { code, .. } if *code != 1000))
    }
}

/// Holds runs with small and with large pieces against each other.
pub fn compare(seed: u64) {
    let mut rng = Rng::new(seed);
    let bytes = draw(&mut rng);
    let whole = run(&bytes, 1 << 20, &mut rng);
    for piece_max in [1, 7, 500, 20_000] {
        if piece_max == 1 && bytes.len() > 5000 {
            continue;
        }
        let cut = run(&bytes, piece_max, &mut rng);
        assert_eq!(cut.messages, whole.messages, "SEED={seed} pieces of {piece_max}");
        assert_eq!(cut.events, whole.events, "SEED={seed} pieces of {piece_max}");
        assert_eq!(cut.said.last(), whole.said.last(), "SEED={seed} pieces of {piece_max}");
        if !whole.is_cut() {
            assert_eq!(cut.said, whole.said, "SEED={seed} pieces of {piece_max}");
        }
    }
}
