//! Frames to a peer, never fragmented: as a server sends them, and masked as a client does.

use tungstenite::Bytes;

use super::{Control, mask::unmask};
use crate::core::ground::random::Random;
use crate::core::wire::encoded::Encoded;
use crate::core::wire::frame::Frame;
use crate::core::wire::message::Message;

/// Encodes a message. The payload is moved, not copied.
pub fn message(message: Message) -> Frame {
    let opcode = match message {
        Message::Text(_) => TEXT,
        Message::Binary(_) => BINARY,
    };
    frame(opcode, message.into_bytes())
}

/// Encodes a message of text around a payload.
pub fn text(text: Encoded) -> Frame {
    with_head(TEXT, text.len(), |head| Frame::encoded(head, text))
}

/// Encodes a message that is compressed already (RFC 7692, 6).
#[cfg(feature = "deflate")]
pub fn compressed(opcode: u8, payload: Bytes) -> Frame {
    frame(RSV1 | opcode, payload)
}

/// Returns the opcode and the payload of a server's frame that is a whole message and is not
/// compressed; `None` for all others, and for a text that is encoded while it is written.
#[cfg(feature = "deflate")]
pub fn parts(frame: &Frame) -> Option<(u8, &[u8])> {
    match (frame.text(), frame.head()) {
        (Some(_), _) => None,
        (None, []) => split(frame.payload()),
        (None, head) => Some((opcode(head)?, frame.payload())),
    }
}

/// Splits the bytes of a server's frame, as [`parts`] does.
#[cfg(feature = "deflate")]
pub fn split(frame: &[u8]) -> Option<(u8, &[u8])> {
    let head_len = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    Some((opcode(frame)?, frame.get(head_len..)?))
}

/// Returns the length of the payload of a server's frame of less than 64 KiB.
#[cfg(feature = "deflate")]
pub fn payload_len(frame: &Frame) -> usize {
    frame.len() - if frame.len() < 128 { 2 } else { 4 }
}

/// Returns the opcode at the front of a frame that is a whole message and is not compressed.
#[cfg(feature = "deflate")]
pub fn opcode(head: &[u8]) -> Option<u8> {
    let opcode = head.first()?.checked_sub(FIN)?;
    matches!(opcode, TEXT | BINARY).then_some(opcode)
}

/// Encodes a message of bytes around a payload.
pub fn binary(bytes: Encoded) -> Frame {
    with_head(BINARY, bytes.len(), |head| Frame::encoded(head, bytes))
}

/// Encodes a ping.
///
/// # Panics
///
/// If the payload is longer than 125 bytes.
pub fn ping(payload: &[u8]) -> Frame {
    assert!(payload.len() <= Control::BYTES_MAX, "a ping bears at most 125 bytes");
    frame(PING, Bytes::copy_from_slice(payload))
}

/// Encodes the answer to a ping: the same payload.
///
/// # Panics
///
/// As [`ping`].
pub fn pong(payload: Bytes) -> Frame {
    assert!(payload.len() <= Control::BYTES_MAX, "a pong bears at most 125 bytes");
    frame(PONG, payload)
}

/// Encodes a close frame. The reason is cut to as many characters as fit 123 bytes.
pub fn close(code: u16, reason: &str) -> Frame {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let payload = [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat();
    frame(CLOSE, payload.into())
}

/// Makes a client's frame from a server's frame, with a new mask that `random` gives (RFC 6455,
/// 5.3).
///
/// The payload is copied once, because it may be shared, and masked in the copy; header and payload
/// become one piece. The frame is for one peer and must not be shared: two peers, or two frames,
/// never use the same mask.
///
/// # Panics
///
/// If the frame has no header apart from its payload: a joined frame cannot be masked.
pub fn masked(frame: &Frame, random: &mut Random) -> Frame {
    let &[first, second, ref length @ ..] = frame.head() else {
        panic!("a frame that is masked has a header")
    };
    debug_assert_eq!(second & MASKED, 0, "a frame is masked once");
    let mask = (random.next_u64() as u32).to_ne_bytes();
    let mut bytes = Vec::with_capacity(frame.len() + mask.len());
    bytes.extend([first, MASKED | second]);
    bytes.extend_from_slice(length);
    bytes.extend_from_slice(&mask);
    let start = bytes.len();
    frame.write_body(&mut bytes);
    unmask(&mut bytes[start..], mask);
    Frame::raw(bytes)
}

/// Puts the header in front (RFC 6455, 5.2): one whole frame, the length in its shortest form.
fn frame(opcode: u8, payload: Bytes) -> Frame {
    with_head(opcode, payload.len(), |head| Frame::new(head, payload))
}

fn with_head(opcode: u8, length: usize, frame: impl FnOnce(&[u8]) -> Frame) -> Frame {
    let first = FIN | opcode;
    match length {
        0..126 => frame(&[first, length as u8]),
        126..0x1_0000 => {
            let [high, low] = (length as u16).to_be_bytes();
            frame(&[first, 126, high, low])
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (length as u64).to_be_bytes();
            frame(&[first, 127, a, b, c, d, e, f, g, h])
        }
    }
}

const FIN: u8 = 0x80;
#[cfg(feature = "deflate")]
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The bytes that a close frame has left behind the code.
const REASON_BYTES_MAX: usize = Control::BYTES_MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_have_the_shortest_length_form() {
        let head = |length| message(Message::binary(vec![0; length])).head().to_vec();
        assert_eq!(head(0), [0x82, 0]);
        assert_eq!(head(125), [0x82, 125]);
        assert_eq!(head(126), [0x82, 126, 0, 126]);
        assert_eq!(head(65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(head(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn payloads_are_shared() {
        let bytes = Bytes::from(vec![7; 100]);
        let binary = message(Message::Binary(bytes.clone()));
        assert_eq!(binary.payload().as_ptr(), bytes.as_ptr());
        let text = Message::text("x".repeat(100));
        let frame = message(text.clone());
        assert_eq!(frame.head(), [0x81, 100]);
        assert_eq!(frame.payload().as_ptr(), text.as_bytes().as_ptr());
    }

    #[test]
    fn control_frames_bear_their_payload() {
        let frame = ping(b"now");
        assert_eq!((frame.head(), &frame.payload()[..]), (&[0x89, 3][..], &b"now"[..]));
        let frame = pong(Bytes::from_static(b"now"));
        assert_eq!((frame.head(), &frame.payload()[..]), (&[0x8a, 3][..], &b"now"[..]));
        let frame = close(1001, "bye");
        assert_eq!((frame.head(), &frame.payload()[..]), (&[0x88, 5][..], &b"\x03\xe9bye"[..]));
    }

    // RFC 6455, 5.3: a mask of its own for each frame, over the payload alone.
    #[test]
    fn a_client_masks_each_frame_anew() {
        let mut random = Random::new(1);
        let mut masks = std::collections::HashSet::new();
        let control = [ping(b"now"), pong(Bytes::from_static(b"now")), close(1000, "bye")];
        let data = [0, 1, 3, 125, 126, 65_535, 65_536].map(|length| vec![b'x'; length]);
        let data = data.into_iter().map(|payload| message(Message::binary(payload)));
        for plain in control.into_iter().chain(data) {
            let frame = masked(&plain, &mut random);
            assert!(frame.head().is_empty() && frame.payload().is_unique());
            let (head, rest) = frame.payload().split_at(plain.head().len());
            let (mask, payload) = rest.split_first_chunk().unwrap();
            assert_eq!((head[0], head[1]), (plain.head()[0], 0x80 | plain.head()[1]));
            assert_eq!(head[2..], plain.head()[2..]);
            let mut payload = payload.to_vec();
            unmask(&mut payload, *mask);
            assert_eq!(payload, plain.payload()[..]);
            assert!(masks.insert(*mask));
        }
    }

    #[test]
    fn a_shared_payload_stays_as_it_is_when_a_client_sends_it() {
        let plain = message(Message::text("for all"));
        let [one, two] = [1, 2].map(|seed| masked(&plain, &mut Random::new(seed)));
        assert_ne!(one.payload(), two.payload());
        assert_eq!(&plain.payload()[..], b"for all");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = |text: &str| close(1000, text).payload()[2..].to_vec();
        assert_eq!(reason(&"x".repeat(200)), [b'x'; 123]);
        assert_eq!(reason(&"ü".repeat(100)), "ü".repeat(61).into_bytes());
        assert_eq!(reason(&"€".repeat(41)), "€".repeat(41).into_bytes());
        assert_eq!(reason(&"😀".repeat(40)), "😀".repeat(30).into_bytes());
    }
}
