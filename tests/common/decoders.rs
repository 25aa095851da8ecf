//! The decoder and tungstenite's, each over the same bytes in random pieces, in words that both
//! sides share.

// Each test takes what it needs.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read, Write};

use heartwheel::core::wire::ws::{Decoder, Incoming, Limits, Role, Violation};
use heartwheel::{CloseReason, Message};
use tungstenite::protocol::{self, WebSocketConfig};
use tungstenite::{Error, WebSocket};

use super::rng::Rng;

/// What came out.
#[derive(Debug, PartialEq)]
pub enum Item {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// How a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// All bytes were taken.
    Clean,
    /// The peer closed; what follows does not count.
    Closed,
    Protocol,
    Utf8,
    TooBig,
}

pub fn is_refusal(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Clean | Verdict::Closed)
}

pub fn verdict(items: &[Item], violation: Option<Violation>) -> Verdict {
    match violation.map(Violation::reason) {
        Some(CloseReason::Utf8) => Verdict::Utf8,
        Some(CloseReason::TooBig) => Verdict::TooBig,
        Some(_) => Verdict::Protocol,
        None if matches!(items.last(), Some(Item::Close(_))) => Verdict::Closed,
        None => Verdict::Clean,
    }
}

/// Runs our decoder over random pieces.
pub fn decode(
    role: Role,
    rng: &mut Rng,
    mut bytes: &[u8],
    limits: &Limits,
) -> (Vec<Item>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(piece_len(rng, bytes.len()));
        bytes = rest;
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        while !input.is_empty() {
            let (used, incoming) = match decoder.decode(role, input, limits) {
                Ok(decoded) => decoded,
                Err(violation) => return (items, Some(violation)),
            };
            input = &mut input[used..];
            items.extend(incoming.map(item));
            match items.last() {
                Some(Item::Close(Some((1014, _)))) => {
                    items.pop();
                    return (items, Some(Violation::CloseCode));
                }
                Some(Item::Close(_)) => return (items, None),
                _ => {}
            }
        }
    }
    (items, None)
}

fn item(incoming: Incoming) -> Item {
    match incoming {
        Incoming::Message(message) => Item::Message(message),
        Incoming::Ping(ping) => Item::Ping(ping.to_vec()),
        Incoming::Pong(pong) => Item::Pong(pong.to_vec()),
        Incoming::Close(close) => {
            Item::Close(close.map(|frame| (frame.code, frame.reason.to_string())))
        }
    }
}

/// Runs tungstenite over random pieces.
pub fn decode_tungstenite(
    role: Role,
    rng: &mut Rng,
    bytes: &[u8],
    limits: Limits,
) -> (Vec<Item>, Verdict) {
    let limit = Some(limits.message_bytes as usize);
    let config = WebSocketConfig::default()
        .read_buffer_size(64)
        .max_message_size(limit)
        .max_frame_size(limit);
    let socket = Socket { bytes, rng };
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let mut socket = WebSocket::from_raw_socket(socket, role, Some(config));
    let mut items = Vec::new();
    let verdict = loop {
        items.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Item::Message(Message::Text(text)),
            Ok(tungstenite::Message::Binary(bytes)) => Item::Message(Message::Binary(bytes)),
            Ok(tungstenite::Message::Ping(payload)) => Item::Ping(payload.to_vec()),
            Ok(tungstenite::Message::Pong(payload)) => Item::Pong(payload.to_vec()),
            Ok(tungstenite::Message::Close(Some(frame))) if frame.reason == FORBIDDEN_CODE => {
                break Verdict::Protocol;
            }
            Ok(tungstenite::Message::Close(frame)) => {
                let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                items.push(Item::Close(frame));
                break Verdict::Closed;
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break Verdict::Clean,
            Err(Error::Protocol(_)) => break Verdict::Protocol,
            Err(Error::Utf8(_)) => break Verdict::Utf8,
            Err(Error::Capacity(_)) => break Verdict::TooBig,
            Err(error) => panic!("{error}"),
        });
    };
    (items, verdict)
}

/// The reason that tungstenite puts in place of a close frame with a forbidden code.
pub const FORBIDDEN_CODE: &str = "Protocol violation";

/// Gives the bytes in random pieces and swallows what is written.
struct Socket<'a> {
    bytes: &'a [u8],
    rng: &'a mut Rng,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = piece_len(self.rng, self.bytes.len().min(buffer.len()));
        self.bytes.read(&mut buffer[..length])
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Draws from 1 to `most`, within what a read gives: often a byte, often everything.
fn piece_len(rng: &mut Rng, most: usize) -> usize {
    let most = most.min(64 * 1024) as u64;

    let length = match rng.below(4) {
        0 if most < 1000 => 1,
        1 => most,
        2 => 1 + rng.below(most.min(20)),
        _ => 1 + rng.below(most),
    };
    length as usize
}
