//! What comes first on a connection that should be TLS, before any state is made for it.

use super::{HEADER_BYTES, RECORD_BYTES_MAX};

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The beginning of a ClientHello.
    Part,
    /// A ClientHello is complete.
    Hello,
    /// A request of HTTP, in plain text.
    Http,
    /// Something else: an SSLv2 hello, or none of TLS at all.
    Other,
}

/// Says what the bytes that have come so far are. A ClientHello may be cut over several records
/// (RFC 8446, 5.1).
pub fn first(bytes: &[u8]) -> First {
    match bytes {
        [] => return First::Part,
        [b'A'..=b'Z', ..] => return First::Http,
        [HANDSHAKE] | [HANDSHAKE, MAJOR, ..] => {}
        _ => return First::Other,
    }
    let mut rest = bytes;
    let mut message = Message::default();
    while let Some(len) = record_len(rest) {
        if rest[0] != HANDSHAKE || len == HEADER_BYTES || len > RECORD_BYTES_MAX {
            return First::Other;
        }
        // Of a record that is not complete, only the beginning is judged.
        let is_whole = rest.len() >= len;
        match message.add(&rest[HEADER_BYTES..len.min(rest.len())]) {
            First::Hello if !is_whole => return First::Part,
            First::Part => {}
            found => return found,
        }
        rest = &rest[len.min(rest.len())..];
    }
    First::Part
}

/// Returns the length of a record, its header included, as the header says.
pub fn record_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]])))
}

/// Returns whether a whole record stands at the front.
pub fn is_complete_record(bytes: &[u8]) -> bool {
    record_len(bytes).is_some_and(|len| len <= bytes.len())
}

/// Returns whether the bytes are one record and nothing else.
pub fn is_one_record(bytes: &[u8]) -> bool {
    record_len(bytes) == Some(bytes.len())
}

/// A message of the handshake, as its bytes come.
#[derive(Default)]
struct Message {
    header: [u8; 4],
    bytes: usize,
}

impl Message {
    /// Takes more of the message.
    fn add(&mut self, body: &[u8]) -> First {
        let known = self.bytes.min(4);
        for (place, byte) in self.header[known..].iter_mut().zip(body) {
            *place = *byte;
        }
        self.bytes += body.len();
        let [kind, high, middle, low] = self.header.map(usize::from);
        if self.bytes > 0 && kind != CLIENT_HELLO {
            return First::Other;
        }
        let is_whole = self.bytes >= 4 && self.bytes - 4 >= (high << 16 | middle << 8 | low);
        if is_whole { First::Hello } else { First::Part }
    }
}

const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;
const CLIENT_HELLO: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8]) -> Vec<u8> {
        [&[22, 3, 1, 0, body.len() as u8][..], body].concat()
    }

    /// FAULTS 137.
    #[test]
    fn a_hello_is_complete_with_its_last_byte_however_it_is_cut() {
        let message = [&[1, 0, 0, 40][..], &[7; 40]].concat();
        for cut in 1..message.len() {
            let (head, tail) = message.split_at(cut);
            let bytes = [record(head), record(tail)].concat();
            for len in 0..bytes.len() {
                assert_eq!(first(&bytes[..len]), First::Part, "cut at {cut}, {len} bytes");
            }
            assert_eq!(first(&bytes), First::Hello, "cut at {cut}");
            assert_eq!(first(&[&bytes[..], b"more"].concat()), First::Hello, "cut at {cut}");
        }
        // Records are read whole, also if there is more in one than the hello.
        let longer = record(&[&message[..], b"more"].concat());
        for len in 0..longer.len() {
            assert_eq!(first(&longer[..len]), First::Part, "{len} bytes");
        }
        assert_eq!(first(&longer), First::Hello);
    }

    #[test]
    fn what_is_none_is_known_by_its_first_bytes() {
        let sslv2 = [0x80, 0x2e, 1, 3, 1, 0, 0x15];
        let empty = record(&[]);
        let too_long = [22, 3, 1, 0x41, 1];
        let other_message = record(&[2, 0, 0, 0]);
        for bytes in [&sslv2[..], &empty, &too_long, &other_message, b"\r\n", &[22, 2], &[0]] {
            assert_eq!(first(bytes), First::Other, "{bytes:?}");
        }
        for bytes in ["G", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"] {
            assert_eq!(first(bytes.as_bytes()), First::Http, "{bytes:?}");
        }
    }
}
