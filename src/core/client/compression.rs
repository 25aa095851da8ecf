//! Compressed messages (RFC 7692): what a client offers, and what it has agreed on with a server.

use tungstenite::Bytes;

use crate::core::client::rules::Rules;
use crate::core::config::{CompressionHistory, CompressionMode, Config};
use crate::core::outbox::COMPRESSED_BYTES_MAX;
use crate::core::wire::deflate::{ALONE_BYTES_MIN, Answered, Coders, History, Offer, Want};
use crate::core::wire::frame::Frame;
use crate::core::wire::message::Message;
use crate::core::wire::ws::encoder;

/// What a client follows.
#[derive(Clone, Copy, Debug)]
pub struct Compressing {
    /// What is offered; `None`: compression is off.
    pub offer: Option<Offer>,
    level: u8,
    min_bytes: usize,
}

impl From<&Config> for Compressing {
    fn from(config: &Config) -> Compressing {
        let compression = &config.compression;
        let bits = config.client.history_bytes.ilog2() as u8;
        let window_bits = (compression.history == CompressionHistory::Message).then_some(bits);
        let is_on = compression.mode == CompressionMode::On;
        Compressing {
            offer: is_on.then_some(Offer { window_bits }),
            level: compression.level,
            min_bytes: compression.min_bytes,
        }
    }
}

/// What was agreed on with the server of an open connection.
#[derive(Debug)]
pub(super) struct Compression {
    /// The server's messages may refer to it.
    pub history: History,
    /// How the client's own messages are compressed; `None`: they are not.
    want: Option<Want>,
    min_bytes: usize,
    /// What has come and is not decoded, because the application is to be told first.
    pub unread: Vec<u8>,
}

impl Compression {
    pub fn new(rules: &Rules, answered: Answered) -> Compression {
        let Compressing { level, min_bytes, .. } = rules.compression;
        let want = answered.own_bits.map(|window_bits| Want { level, window_bits });
        let history = History::new(answered.window_bits.map_or(0, |bits| 1 << bits));
        Compression { history, want, min_bytes, unread: Vec::new() }
    }

    /// Encodes a message of the client's: compressed by itself, if it shrinks by that.
    pub fn encode(&self, coders: &mut Coders, message: Message) -> Frame {
        let plain = encoder::message(message);
        let least = self.min_bytes.max(ALONE_BYTES_MIN);
        let Some((opcode, payload)) = encoder::parts(&plain) else { return plain };
        let is_long = (least..=COMPRESSED_BYTES_MAX).contains(&payload.len());
        let made = self.want.filter(|_| is_long).and_then(|want| {
            let bytes = coders.compress(want, b"", payload)?;
            Some(encoder::compressed(opcode, Bytes::copy_from_slice(bytes)))
        });
        made.unwrap_or(plain)
    }
}
