//! What the generator counts.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::script::Kind;

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Refused with a status.
    Status(u16),
    /// The server closed with a code.
    Code(u16),
    /// FIN without another word.
    Fin,
    /// A reset without another word.
    Reset,
    /// The client ended it by itself.
    Own,
    /// The connection could not be made.
    Failed,
}

pub struct Tally {
    began: Instant,
    /// Round trips of messages, in microseconds: of the phase, and of the second.
    pub phase: Histogram<u64>,
    pub second: Histogram<u64>,
    /// For how long the honest clients were not looked after, in microseconds.
    pub blind: Histogram<u64>,
    /// Messages sent before this are of no account.
    pub since: Instant,
    pub connected: u64,
    /// Honest clients send nothing more: what is under way is to come back.
    pub is_over: bool,
    pub sent: u64,
    pub echoed: u64,
    pub garbled: u64,
    /// Messages whose echo never came.
    pub lost: u64,
    pub ends: BTreeMap<(Kind, Outcome), u64>,
}

impl Tally {
    pub fn new() -> Tally {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        let now = Instant::now();
        Tally {
            began: now,
            phase: histogram(),
            second: histogram(),
            blind: histogram(),
            since: now,
            connected: 0,
            is_over: false,
            sent: 0,
            echoed: 0,
            garbled: 0,
            lost: 0,
            ends: BTreeMap::new(),
        }
    }

    /// Gives the message that is sent now: its moment, and enough to make 64 bytes.
    pub fn message(&mut self) -> [u8; MESSAGE_BYTES] {
        self.sent += 1;
        let mut message = FILLER;
        let sent_at = self.began.elapsed().as_nanos() as u64;
        message[..8].copy_from_slice(&sent_at.to_be_bytes());
        message
    }

    /// Takes an echo.
    pub fn echo(&mut self, message: &[u8]) {
        let now = self.began.elapsed().as_nanos() as u64;
        self.echoed += 1;
        if message.len() != MESSAGE_BYTES || message[8..] != FILLER[8..] {
            self.garbled += 1;
            return;
        }
        let sent_at = u64::from_be_bytes(message[..8].try_into().expect("eight bytes"));
        if sent_at >= (self.since - self.began).as_nanos() as u64 {
            let us = now.saturating_sub(sent_at) / 1000;
            self.phase += us;
            self.second += us;
        }
    }

    pub fn end(&mut self, kind: Kind, outcome: Outcome) {
        *self.ends.entry((kind, outcome)).or_default() += 1;
    }

    /// Gives how many honest connections ended otherwise than by their own close.
    pub fn harmed(&self) -> u64 {
        let is_harmed = |(kind, outcome): &(Kind, Outcome)| {
            kind.is_honest() && !matches!(outcome, Outcome::Code(1000) | Outcome::Own)
        };
        self.ends.iter().filter(|(key, _)| is_harmed(key)).map(|(_, count)| count).sum()
    }
}

const MESSAGE_BYTES: usize = 64;
const FILLER: [u8; MESSAGE_BYTES] = [0x5a; MESSAGE_BYTES];
