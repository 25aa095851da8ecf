//! The record layer of TLS 1.3 (RFC 8446, 5) after the handshake: keys, and nothing else.
//!
//! The handshake is another's (rustls). What it leaves is two secrets and two sequence numbers, and
//! of these a [`Session`] seals and opens records in place, in buffers that all connections share.
//! An idle session is [`SESSION_BYTES`] long and owns nothing.
//!
//! Nothing here knows a socket or a clock. What a session sends of its own (the answer to a key
//! update, an alert) it seals behind the bytes that it is given for that, so that the order of
//! records is the order of their sequence numbers. **A record that is sealed goes out as it is, or
//! the connection ends**: to seal other bytes under the same number would give both away.

mod certificate;
mod half;
mod hello;
mod session;
mod suite;

pub use certificate::{Certificate, Der, unix_seconds};
pub use half::{Half, Secret};
pub use hello::{First, first, is_complete_record, is_one_record, record_len};
pub use session::{Aes128, Aes256, ChaCha20, Ended, Opened, Session};
pub use suite::Suite;

/// The header of a record: type, version, length.
pub const HEADER_BYTES: usize = 5;
/// The most plaintext that one record bears.
pub const PLAIN_BYTES_MAX: usize = 1 << 14;
/// What sealing adds to a record: header, inner type, tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// The longest record that a peer may send.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 256;
/// What an idle session takes at most: that of AES-256.
pub const SESSION_BYTES: usize = 208;

/// All suites of TLS 1.3 that are spoken here have one of this length.
const TAG_BYTES: usize = 16;

/// A content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// An alert.
    Alert = 21,
    /// A message of the handshake, of which only KeyUpdate may come after it.
    Handshake = 22,
    /// Bytes of the application.
    Data = 23,
}

/// What a handshake has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The suite.
    pub suite: Suite,
    /// A session before was resumed.
    pub is_resumed: bool,
}

/// Why this end gives a connection up (RFC 8446, 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// A message that must not come now.
    UnexpectedMessage = 10,
    /// A record that does not open.
    BadRecordMac = 20,
    /// A record that is too long.
    RecordOverflow = 22,
    /// A field with a value that it must not have.
    IllegalParameter = 47,
    /// A message that cannot be read.
    DecodeError = 50,
    /// The peer asks for more than it is given.
    InternalError = 80,
}

impl Alert {
    /// The label: in log lines and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Alert::UnexpectedMessage => "unexpected_message",
            Alert::BadRecordMac => "bad_record_mac",
            Alert::RecordOverflow => "record_overflow",
            Alert::IllegalParameter => "illegal_parameter",
            Alert::DecodeError => "decode_error",
            Alert::InternalError => "internal_error",
        }
    }

    /// The record that tells the peer where nothing is sealed yet.
    pub const fn in_plain_text(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, FATAL, self as u8]
    }
}

const FATAL: u8 = 2;
const WARNING: u8 = 1;
