//! What a peer can do wrong.

use std::fmt;

use crate::core::ground::reason::CloseReason;

/// A breach of RFC 6455 or of a limit. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A reserved bit is set, and no extension was agreed on.
    Rsv,
    /// The opcode is reserved.
    Opcode,
    /// The frame is not masked, and came from a client.
    Unmasked,
    /// The control frame has more than 125 bytes of payload.
    ControlTooLong,
    /// The control frame is fragmented.
    ControlFragmented,
    /// The payload length is not in its shortest form, or has its top bit set.
    Length,
    /// A continuation frame came, but no message had begun.
    ContinuationWithoutStart,
    /// A new message began before the last one had ended.
    StartInsideMessage,
    /// The close code may not be sent.
    CloseCode,
    /// The close frame's payload is a single byte.
    ClosePayload,
    /// Text or a close reason is not UTF-8.
    Utf8,
    /// The message is longer than [`Limits::message_bytes`](super::Limits::message_bytes).
    TooBig,
    /// The message has more frames than [`Limits::fragments`](super::Limits::fragments).
    Fragments,
    /// The frame is masked, and came from a server.
    Masked,
    /// A compressed message is no DEFLATE data (RFC 7692).
    #[cfg(feature = "deflate")]
    Deflate,
}

use Violation::*;

impl Violation {
    /// How many kinds there are.
    pub const COUNT: usize = 14 + cfg!(feature = "deflate") as usize;

    /// All kinds, in their order.
    pub const ALL: [Violation; Violation::COUNT] = [
        Rsv,
        Opcode,
        Unmasked,
        ControlTooLong,
        ControlFragmented,
        Length,
        ContinuationWithoutStart,
        StartInsideMessage,
        CloseCode,
        ClosePayload,
        Utf8,
        TooBig,
        Fragments,
        Masked,
        #[cfg(feature = "deflate")]
        Deflate,
    ];

    /// Returns the reason of the connection's end, which has the close code.
    pub const fn reason(self) -> CloseReason {
        match self {
            Rsv
            | Opcode
            | Unmasked
            | ControlTooLong
            | ControlFragmented
            | Length
            | ContinuationWithoutStart
            | StartInsideMessage
            | CloseCode
            | ClosePayload
            | Masked => CloseReason::Protocol,
            Utf8 => CloseReason::Utf8,
            TooBig => CloseReason::TooBig,
            Fragments => CloseReason::Fragments,
            #[cfg(feature = "deflate")]
            Deflate => CloseReason::Deflate,
        }
    }

    /// Returns the label for log lines and metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            Rsv => "rsv",
            Opcode => "opcode",
            Unmasked => "unmasked",
            ControlTooLong => "control_too_long",
            ControlFragmented => "control_fragmented",
            Length => "length",
            ContinuationWithoutStart => "continuation_without_start",
            StartInsideMessage => "start_inside_message",
            CloseCode => "close_code",
            ClosePayload => "close_payload",
            Utf8 => "utf8",
            TooBig => "too_big",
            Fragments => "fragments",
            Masked => "masked",
            #[cfg(feature = "deflate")]
            Deflate => "deflate",
        }
    }
}

/// The sentence that tells people what was wrong.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rsv => "a reserved bit is set",
            Opcode => "the opcode is reserved",
            Unmasked => "the frame is not masked",
            ControlTooLong => "the control frame is longer than 125 bytes",
            ControlFragmented => "the control frame is fragmented",
            Length => "the payload length is malformed",
            ContinuationWithoutStart => "a continuation without a message",
            StartInsideMessage => "a new message inside a message",
            CloseCode => "the close code may not be sent",
            ClosePayload => "the close frame bears half a code",
            Utf8 => "the text is not UTF-8",
            TooBig => "the message is too big",
            Fragments => "the message has too many fragments",
            Masked => "the frame is masked",
            #[cfg(feature = "deflate")]
            Deflate => "the message cannot be inflated",
        })
    }
}

impl std::error::Error for Violation {}
