//! What clients do: each kind is a list of steps.

use std::rc::Rc;
use std::time::Duration;

use crate::common::frame::{self, frame, frame_unmasked, header};
use crate::common::rng::Rng;

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Honest: stays all the time, its messages are echoed.
    Standing,
    /// Honest: comes, has a few messages echoed and closes.
    Passing,
    /// A request head, byte by byte.
    SlowHead,
    /// Connects and says nothing.
    Silent,
    /// Connects and resets.
    Reset,
    /// Pipelined requests, and behind them what is none.
    Garbage,
    PingFlood,
    PongFlood,
    /// Messages in fragments of one byte, more and more of them.
    Fragments,
    /// Sends messages and never reads an echo.
    ClosedWindow,
    /// Frames that must not be.
    BadFrame,
    /// A header that claims more than may come, or than ever comes.
    GiantClaim,
    /// Half a frame, then silence.
    HalfFrame,
    /// Goes on sending behind its close frame.
    AfterClose,
}

impl Kind {
    pub const ABUSIVE: [Kind; 12] = [
        Kind::SlowHead,
        Kind::Silent,
        Kind::Reset,
        Kind::Garbage,
        Kind::PingFlood,
        Kind::PongFlood,
        Kind::Fragments,
        Kind::ClosedWindow,
        Kind::BadFrame,
        Kind::GiantClaim,
        Kind::HalfFrame,
        Kind::AfterClose,
    ];

    pub fn named(name: &str) -> Result<Kind, String> {
        let found = Kind::ABUSIVE.into_iter().find(|kind| kind.name() == name);
        let names = Kind::ABUSIVE.map(Kind::name).join(", ");
        found.ok_or_else(|| format!("--only {name}: must be one of {names}"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Standing => "standing",
            Kind::Passing => "passing",
            Kind::SlowHead => "slow-head",
            Kind::Silent => "silent",
            Kind::Reset => "reset",
            Kind::Garbage => "garbage",
            Kind::PingFlood => "ping-flood",
            Kind::PongFlood => "pong-flood",
            Kind::Fragments => "fragments",
            Kind::ClosedWindow => "closed-window",
            Kind::BadFrame => "bad-frame",
            Kind::GiantClaim => "giant-claim",
            Kind::HalfFrame => "half-frame",
            Kind::AfterClose => "after-close",
        }
    }

    pub fn is_honest(self) -> bool {
        matches!(self, Kind::Standing | Kind::Passing)
    }

    /// Says whether it reads what it is sent.
    pub fn reads(self) -> bool {
        self != Kind::ClosedWindow
    }
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Ask for a WebSocket and wait for the 101.
    Upgrade,
    /// Send bytes, in pieces of this many, with a pause behind each.
    Send { bytes: Rc<[u8]>, piece: usize, pause: Duration },
    /// Send messages at a steady pace, whether echoes come or not; then wait for all echoes.
    Echo { count: u64, every: Duration },
    /// Wait until the server has ended the connection.
    AwaitEnd,
    /// Reset it.
    Reset,
}

/// What each kind does. Bytes are made once and shared.
pub struct Scripts {
    standing: Rc<[Step]>,
    passing: Rc<[Step]>,
    abusive: Vec<(Kind, Rc<[Step]>)>,
}

impl Scripts {
    pub fn new() -> Scripts {
        let echo = |count, every| vec![Step::Upgrade, Step::Echo { count, every }];
        let mut passing = echo(3, Duration::from_millis(20));
        passing.extend([send(frame::close(1000, "")), Step::AwaitEnd]);
        let scripts = Kind::ABUSIVE.into_iter().flat_map(|kind| {
            let scripts = abuse(kind).into_iter();
            scripts.map(move |steps| (kind, steps.into()))
        });
        Scripts {
            standing: echo(u64::MAX, STANDING_EVERY).into(),
            passing: passing.into(),
            abusive: scripts.collect(),
        }
    }

    /// Draws one of the things that clients of a kind do.
    pub fn draw(&self, kind: Kind, rng: &mut Rng) -> Rc<[Step]> {
        match kind {
            Kind::Standing => self.standing.clone(),
            Kind::Passing => self.passing.clone(),
            _ => {
                let those = self.abusive.iter().filter(|(own, _)| *own == kind);
                let count = those.clone().count() as u64;
                let drawn = those.clone().nth(rng.below(count) as usize);
                drawn.expect("every kind has a script").1.clone()
            }
        }
    }
}

/// How many honest clients stay, and how often each sends: a thousand messages a second.
pub const STANDING: usize = 50;
const STANDING_EVERY: Duration = Duration::from_millis(50);
/// Of a hundred connections, how many are honest.
pub const HONEST_PERCENT: u64 = 20;

/// Gives what clients of an abusive kind do: one of these.
fn abuse(kind: Kind) -> Vec<Vec<Step>> {
    let upgraded = |steps: Vec<Step>| [vec![Step::Upgrade], steps, vec![Step::AwaitEnd]].concat();
    let after_upgrade = |bytes: Vec<u8>| upgraded(vec![send(bytes)]);
    let flood = |frame: Vec<u8>| upgraded(vec![send(frame.repeat(FLOOD_BYTES / frame.len()))]);
    let half = frame(frame::TEXT, &[b'x'; 1000])[..500].to_vec();
    match kind {
        Kind::Standing | Kind::Passing => Vec::new(),
        Kind::SlowHead => vec![vec![drip(REQUEST.into(), 1, 20), Step::AwaitEnd]],
        Kind::Silent => vec![vec![Step::AwaitEnd]],
        Kind::Reset => vec![
            vec![Step::Reset],
            vec![send(REQUEST[..40].into()), Step::Reset],
            vec![send(REQUEST.into()), Step::Reset],
        ],
        Kind::Garbage => {
            let requests = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
            let noise: Vec<u8> = (0..4096u32).map(|n| ((n * n) >> 3) as u8 | 0x80).collect();
            vec![
                vec![send([requests, noise.clone()].concat()), Step::AwaitEnd],
                vec![send(noise), Step::AwaitEnd],
            ]
        }
        Kind::PingFlood => vec![flood(frame(frame::PING, b"")), flood(frame(frame::PING, &[7; 9]))],
        Kind::PongFlood => vec![flood(frame(frame::PONG, b"")), flood(frame(frame::PONG, &[7; 9]))],
        Kind::Fragments => {
            let first = frame(frame::TEXT & !frame::FIN, b"x");
            let more = frame(0, b"x");
            let last = frame(frame::CONTINUATION, b"x");
            let mut legal = flood([first.clone(), more.repeat(1000), last].concat());
            legal.insert(2, send(frame::close(1000, "")));
            vec![
                legal,
                after_upgrade([first.clone(), more.repeat(2000)].concat()),
                upgraded(vec![send(first), drip(more.repeat(2000), 16 * more.len(), 1)]),
            ]
        }
        Kind::ClosedWindow => vec![flood(frame(frame::BINARY, &[7; 16_000]))],
        Kind::BadFrame => vec![
            after_upgrade(frame(frame::TEXT | 0x40, b"reserved bit")),
            after_upgrade(frame(0x83, b"reserved opcode")),
            after_upgrade(frame_unmasked(frame::TEXT, b"no mask")),
            after_upgrade(frame(frame::TEXT, b"not \xff\xfe UTF-8")),
            after_upgrade(frame(frame::PING, &[7; 126])),
            after_upgrade(frame(frame::CONTINUATION, b"of nothing")),
        ],
        Kind::GiantClaim => vec![
            after_upgrade(header(frame::MASK, frame::BINARY, u64::MAX >> 1)),
            after_upgrade(header(frame::MASK, frame::BINARY, (1 << 20) + 1)),
            after_upgrade(header(frame::MASK, frame::BINARY, 1 << 20)),
        ],
        Kind::HalfFrame => vec![after_upgrade(half), after_upgrade(vec![frame::TEXT])],
        Kind::AfterClose => {
            let more = frame(frame::BINARY, &[7; 1000]).repeat(64);
            vec![after_upgrade([frame::close(1000, "bye"), more].concat())]
        }
    }
}

fn send(bytes: Vec<u8>) -> Step {
    Step::Send { bytes: bytes.into(), piece: PIECE_BYTES, pause: Duration::ZERO }
}

fn drip(bytes: Vec<u8>, piece: usize, pause_ms: u64) -> Step {
    Step::Send { bytes: bytes.into(), piece, pause: Duration::from_millis(pause_ms) }
}

/// The request for a WebSocket.
pub const REQUEST: &[u8] = b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// What a flood sends, if it is let.
const FLOOD_BYTES: usize = 256 * 1024;
/// The most that is sent in one step, so that the generator comes back to its honest clients soon.
const PIECE_BYTES: usize = 16 * 1024;
