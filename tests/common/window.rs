//! What a peer keeps that has agreed on compression, as browsers do: one inflater for the whole
//! connection, made of another library than the server's.

// Each test takes what it needs.
#![allow(dead_code)]

use std::fmt;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush};

/// The bit of a frame that says that its message is compressed.
pub const RSV1: u8 = 0x40;

/// The inflater of a peer.
pub struct Window {
    state: Box<InflateState>,
    /// The server has said that each message is compressed by itself.
    forgets: bool,
}

impl Window {
    /// Gives the window that the head of an answer has agreed on.
    pub fn agreed(head: &str) -> Option<Window> {
        let line = head.lines().find(|line| line.starts_with("Sec-WebSocket-Extensions: "))?;
        assert!(line.contains("permessage-deflate"), "{line}");
        let forgets = line.contains("server_no_context_takeover");
        Some(Window { state: InflateState::new_boxed(DataFormat::Raw), forgets })
    }

    /// Inflates the next message.
    pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.forgets {
            self.state = InflateState::new_boxed(DataFormat::Raw);
        }
        let tailed = [payload, &TAIL].concat();
        let (mut rest, mut out, mut room) = (&tailed[..], Vec::new(), [0; 4096]);
        loop {
            let done = inflate(&mut self.state, rest, &mut room, MZFlush::Sync);
            rest = &rest[done.bytes_consumed..];
            out.extend_from_slice(&room[..done.bytes_written]);
            match done.status {
                Ok(_) | Err(MZError::Buf) => {}
                Err(error) => panic!("what came cannot be inflated: {error:?}"),
            }
            if rest.is_empty() && done.bytes_written < room.len() {
                return out;
            }
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").finish_non_exhaustive()
    }
}

/// Gives the compressed payload of a message.
pub fn compressed(payload: &[u8]) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params(6, -15, 0);
    let mut out = vec![0; payload.len() + payload.len() / 8 + 100];
    let done = deflate(&mut CompressorOxide::new(flags), payload, &mut out, MZFlush::Sync);
    assert_eq!(done.bytes_consumed, payload.len());
    out.truncate(done.bytes_written - TAIL.len());
    out
}

/// What a sender leaves away, RFC 7692, 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
