//! The same bytes, cut elsewhere: the application sees the same events and the client the same
//! answers.

use std::io::{self, ErrorKind, IoSlice, Read};

use heartwheel::core::contract::event::{Command, Done, Event, Outcome, Task};
use heartwheel::core::contract::route::{Face, Placement, RouteSpec};
use heartwheel::core::engine::pump;
use heartwheel::core::engine::{Engine, Setup};
use heartwheel::core::ground::time::Instant;
use heartwheel::core::transport::{Got, Transport, Written};
use heartwheel::{Config, Message};

use crate::common::rng::Rng;
use crate::script::{frame, message, upgrade_request};
use crate::settings::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX, routes};
use crate::witness::{Said, Witness};

/// Gives pieces, one for each time the poller says that there is something.
struct Pieces<'a> {
    piece: &'a [u8],
    written: Vec<u8>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.piece.len().min(buffer.len());
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        buffer[..len].copy_from_slice(&self.piece[..len]);
        self.piece = &self.piece[len..];
        Ok(len)
    }
}

impl Pieces<'_> {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.written.len();
        slices.iter().for_each(|slice| self.written.extend_from_slice(slice));
        Ok(self.written.len() - before)
    }
}

impl Transport for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = Read::read(self, buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        self.write_vectored(slices).map(Written::from)
    }

    fn finish(&mut self) {}

    fn has_room(&mut self) -> bool {
        true
    }
}

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
    let routes: Vec<_> =
        routes().into_iter().map(|route| RouteSpec { wants_drained: false, ..route }).collect();
    let mut engine = Engine::new(Setup {
        config,
        routes,
        machine_name: "here".into(),
        memory_auto: u64::MAX,
        seed: 1,
        unix_ms: 1,
    });
    let now = Instant::from_millis(1);
    let id = engine.accept(now, Face::Public, None).expect("there is room");
    let mut story = Story { messages: Vec::new(), events: Vec::new(), said: Vec::new() };
    let mut socket = Pieces { piece: &[], written: Vec::new() };
    let mut shared = vec![0; 64 * 1024];
    let mut rest = bytes;
    engine.handle_readiness(0, false, true, false);
    while !rest.is_empty() || engine.has_work_left() {
        engine.begin_turn(0);
        if socket.piece.is_empty() {
            let len = rest.len().min(1 + rng.below(piece_max) as usize);
            (socket.piece, rest) = rest.split_at(len);
            engine.handle_readiness(0, len > 0, false, false);
        }
        while let Some(id) = engine.poll_ready() {
            pump::fill(&mut engine, now, id, &mut socket, &mut shared);
        }
        while let Some(job) = engine.poll_job(Placement::Inline) {
            let outcome = story.take(&mut engine, now, id, job.task);
            let done = Done { id, route: job.route, outcome };
            engine.handle_command(now, Some(id), Command::Done(done));
        }
        while let Some(id) = engine.poll_dirty() {
            pump::flush(&mut engine, now, id, &mut socket);
        }
        engine.end_turn(now);
    }
    story.said = Witness::default().take(&socket.written);
    story
}

impl Story {
    fn take(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        id: heartwheel::ConnectionId,
        task: Task,
    ) -> Outcome {
        let Task::Events { events, .. } = task else {
            let Task::Answer(request) = task else { panic!("nobody is asked") };
            let text = request.query().unwrap_or_default().to_owned();
            return Outcome::Answer(heartwheel::http::Response::new(200).text(text));
        };
        let mut handled = 0;
        for event in events {
            self.events.push(match event {
                Event::Opened(_) => "opened",
                Event::Message(message) => {
                    handled += 1;
                    self.messages.push(message.clone());
                    engine.handle_command(now, Some(id), Command::Send(id, message));
                    "message"
                }
                Event::Closed(_) => "closed",
                _ => "other",
            });
        }
        Outcome::Events {
            session: Some(Box::new(())),
            messages_handled: handled,
            events: Default::default(),
        }
    }

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
