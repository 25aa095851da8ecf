//! WebSocket frames byte by byte, wrong ones too: what a well-behaved client library refuses to
//! send.

// Each test takes what it needs.
#![allow(dead_code)]

/// The first byte of a whole text message; `& !FIN` begins a fragmented one.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
/// The first byte of a last continuation.
pub const CONTINUATION: u8 = 0x80;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
pub const FIN: u8 = 0x80;

/// Any mask: what it is does not matter.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Gives a frame as a client sends it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_masked_by(MASK, first, payload)
}

/// Gives a frame as a client sends it, with this mask.
pub fn frame_masked_by(mask: [u8; 4], first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(mask, first, payload.len() as u64);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Gives the header of a frame of this length, in the shortest form.
pub fn header(mask: [u8; 4], first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes
}

/// Gives a frame without a mask, as only a server may send it.
pub fn frame_unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(MASK, first, payload.len() as u64);
    bytes.truncate(bytes.len() - MASK.len());
    bytes[1] &= 0x7f;
    bytes.extend(payload);
    bytes
}

/// Gives a close frame.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}
