//! Why a connection ended: one reason, one label, one close code, one sentence.
//!
//! The first *fault* names the end. A clean cause (the peer closed, the handler closed, the server
//! drains) that then runs into a close deadline becomes [`CloseReason::CloseSend`] or
//! [`CloseReason::CloseAck`]. If a reset or a drop overtakes a clean end by the server before its
//! close frame has left, that names the end; every other cause keeps its label.

use std::fmt;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent a close frame, with this code (1005 if it named none).
    Peer(u16),
    /// The handler closed, with this code.
    Application(u16),
    /// The peer broke RFC 6455.
    Protocol,
    /// A text message or a close reason was not UTF-8.
    Utf8,
    /// A message was longer than `limits.message_bytes`.
    TooBig,
    /// A message had more fragments than `limits.fragments`.
    Fragments,
    /// The peer sent pings or unsolicited pongs faster than `limits.pings_per_second`, or, with
    /// `limits.rate_action = close`, sent more than another rate allows.
    Rate,
    /// The operator ended this connection.
    Kicked,
    /// The same identity has connected again to the same route: `admission.takeover`.
    Replaced,
    /// The peer published where it may not.
    Forbidden,
    /// Nothing was received for `deadlines.read_idle`.
    ReadIdle,
    /// `heartbeat.max_missed` pings in a row went unanswered.
    Heartbeat,
    /// A message took longer than `deadlines.message`.
    Message,
    /// More waited for the peer than `limits.outbox_bytes`.
    Overflow,
    /// More memory was in use than `limits.memory_bytes`, and most of it by this connection.
    Memory,
    /// The peer accepted no byte for `deadlines.write_stall`, or the oldest one waited three times
    /// as long.
    WriteStall,
    /// The close frame did not leave within `deadlines.close_send`.
    CloseSend,
    /// The peer did not finish closing within `deadlines.close_ack`.
    CloseAck,
    /// The handler panicked.
    Panic,
    /// The connection reached `deadlines.lifetime`.
    Lifetime,
    /// The server drained: it closed, and said so.
    Drain,
    /// The server drained, and at `deadlines.drain` the connection was still open: it was dropped,
    /// with no close frame. The label is that of [`CloseReason::Drain`].
    DrainDeadline,
    /// The operator had the server shed connections.
    Shed,
    /// No complete request head within `deadlines.handshake`.
    Handshake,
    /// No answer was begun within `deadlines.handshake` of the complete request: the peer is not to
    /// blame. The label is that of [`CloseReason::Handshake`].
    Answer,
    /// No complete request body within `deadlines.body`.
    Body,
    /// No further request within `deadlines.keep_alive`.
    KeepAlive,
    /// A request was answered (or refused) and the connection was not to be kept.
    Done,
    /// The connection was reset, or writing to it failed.
    Reset,
    /// The peer ended its side: of a WebSocket without a close frame, of a request before it was
    /// complete, or of an event stream.
    Eof,
    /// The server was told to end at once.
    Shutdown,
    /// The body of an answer stood still for `deadlines.stream`: what was to give it gave nothing.
    Stream,
    /// The body of an answer was cut off: what was to give it ended early, or gave another number
    /// of bytes than it had promised.
    Cut,
    /// Where only proxies may connect, somebody else did, or began without a good PROXY header.
    Proxy,
    /// The time of the connection's token was over, or a reload took the token away.
    Auth,
    /// A compressed message was no DEFLATE data.
    #[cfg(feature = "deflate")]
    Deflate,
    /// TLS was refused or broken: the log says why.
    #[cfg(feature = "tls")]
    Tls,
}

/// How loudly an end is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The end is no fault: debug.
    Clean,
    /// A deadline or a limit ended it: info.
    Deadline,
    /// The peer broke a protocol: warn.
    Fault,
}

use CloseReason::*;

impl CloseReason {
    /// Returns the label for log lines and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Peer(_) => "peer",
            Application(_) => "application",
            Protocol => "protocol",
            Utf8 => "utf8",
            TooBig => "too_big",
            Fragments => "fragments",
            Rate => "rate",
            Kicked => "kicked",
            Replaced => "replaced",
            Forbidden => "forbidden",
            ReadIdle => "read_idle",
            Heartbeat => "heartbeat",
            Message => "message",
            Overflow => "overflow",
            Memory => "memory",
            WriteStall => "write_stall",
            CloseSend => "close_send",
            CloseAck => "close_ack",
            Panic => "panic",
            Lifetime => "lifetime",
            Drain | DrainDeadline => "drain",
            Shed => "shed",
            Handshake | Answer => "handshake",
            Body => "body",
            KeepAlive => "keep_alive",
            Done => "done",
            Reset => "reset",
            Eof => "eof",
            Shutdown => "shutdown",
            Stream => "stream",
            Cut => "cut",
            Proxy => "proxy",
            Auth => "auth",
            #[cfg(feature = "deflate")]
            Deflate => "deflate",
            #[cfg(feature = "tls")]
            Tls => "tls",
        }
    }

    /// Returns the WebSocket close code of this end (RFC 6455, 7.4): that of the close frame, or
    /// 1006 where there was none.
    pub const fn code(self) -> u16 {
        match self {
            Peer(code) | Application(code) => code,
            Protocol => 1002,
            Utf8 => 1007,
            TooBig => 1009,
            Fragments | Rate | Kicked | Forbidden => 1008,
            // 3000 is registered with IANA as "Unauthorized".
            Auth => 3000,
            // 3008 is registered with IANA as "Timeout".
            ReadIdle | Heartbeat | Message => 3008,
            Overflow | Memory => 1013,
            Panic => 1011,
            Lifetime | Drain => 1001,
            Shed => 1012,
            Replaced => 4409,
            WriteStall | CloseSend | CloseAck | DrainDeadline | Handshake | Answer | Body
            | KeepAlive | Done | Reset | Eof | Shutdown | Stream | Cut | Proxy => 1006,
            #[cfg(feature = "deflate")]
            Deflate => 1007,
            #[cfg(feature = "tls")]
            Tls => 1006,
        }
    }

    /// Returns whether a close deadline that passes renames this end, which is no fault itself.
    pub const fn is_clean(self) -> bool {
        matches!(self, Peer(_) | Application(_) | Lifetime | Drain | Shed | Kicked)
    }

    /// Returns how loudly this end is logged.
    pub const fn severity(self) -> Severity {
        match self {
            Peer(_) | Application(_) | Lifetime | Drain | Shed | Kicked | Replaced | KeepAlive
            | Done | Eof | Reset | Shutdown => Severity::Clean,
            ReadIdle | Heartbeat | Message | Overflow | Memory | WriteStall | CloseSend
            | CloseAck | DrainDeadline | Handshake | Answer | Body | Stream | Proxy | Auth => {
                Severity::Deadline
            }
            #[cfg(feature = "deflate")]
            Deflate => Severity::Fault,
            #[cfg(feature = "tls")]
            Tls => Severity::Deadline,
            Protocol | Utf8 | TooBig | Fragments | Rate | Forbidden | Panic | Cut => {
                Severity::Fault
            }
        }
    }

    /// Returns a small number for each label, below [`CloseReason::COUNT`].
    pub const fn index(self) -> usize {
        match self {
            Peer(_) => 0,
            Application(_) => 1,
            Protocol => 2,
            Utf8 => 3,
            TooBig => 4,
            Fragments => 5,
            Rate => 6,
            ReadIdle => 7,
            Heartbeat => 8,
            Message => 9,
            Overflow => 10,
            WriteStall => 11,
            CloseSend => 12,
            CloseAck => 13,
            Panic => 14,
            Lifetime => 15,
            Drain | DrainDeadline => 16,
            Handshake | Answer => 17,
            Body => 18,
            KeepAlive => 19,
            Done => 20,
            Reset => 21,
            Eof => 22,
            Shutdown => 23,
            Forbidden => 24,
            Shed => 25,
            Kicked => 26,
            Memory => 27,
            Stream => 28,
            Cut => 29,
            Proxy => 30,
            Replaced => 31,
            Auth => 32,
            #[cfg(feature = "tls")]
            Tls => 33,
            #[cfg(feature = "deflate")]
            Deflate => 33 + cfg!(feature = "tls") as usize,
        }
    }

    /// How many labels there are.
    pub const COUNT: usize =
        33 + cfg!(feature = "tls") as usize + cfg!(feature = "deflate") as usize;

    /// All reasons, one for each label, in the order of [`CloseReason::index`].
    pub const ALL: [CloseReason; CloseReason::COUNT] = [
        Peer(1000),
        Application(1000),
        Protocol,
        Utf8,
        TooBig,
        Fragments,
        Rate,
        ReadIdle,
        Heartbeat,
        Message,
        Overflow,
        WriteStall,
        CloseSend,
        CloseAck,
        Panic,
        Lifetime,
        Drain,
        Handshake,
        Body,
        KeepAlive,
        Done,
        Reset,
        Eof,
        Shutdown,
        Forbidden,
        Shed,
        Kicked,
        Memory,
        Stream,
        Cut,
        Proxy,
        Replaced,
        Auth,
        #[cfg(feature = "tls")]
        Tls,
        #[cfg(feature = "deflate")]
        Deflate,
    ];
}

/// The sentence that tells people what happened.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer(_) => "the peer closed",
            Application(_) => "the handler closed",
            Protocol => "the peer broke the WebSocket protocol",
            Utf8 => "text was not UTF-8",
            TooBig => "a message was too big",
            Fragments => "a message had too many fragments",
            Rate => "the peer sent too much too fast",
            Kicked => "the operator ended the connection",
            Replaced => "its client has connected again",
            Forbidden => "the peer published where it may not",
            ReadIdle => "nothing was received for too long",
            Heartbeat => "pings went unanswered",
            Message => "a message took too long",
            Overflow => "too much waited for the peer",
            Memory => "memory was short and this connection held most of it",
            WriteStall => "the peer stopped reading",
            CloseSend => "the close frame could not be sent in time",
            CloseAck => "the peer did not finish closing in time",
            Panic => "the handler panicked",
            Lifetime => "the connection reached its lifetime",
            Drain => "the server is draining",
            DrainDeadline => "the connection was still open when the drain was over",
            Shed => "the server is shedding connections",
            Handshake => "the request head took too long",
            Answer => "no answer was ready in time",
            Body => "the request body took too long",
            KeepAlive => "no further request came",
            Done => "the request was answered",
            Reset => "the connection was reset",
            Eof => "the peer hung up",
            Shutdown => "the server was told to end at once",
            Stream => "the body of the answer stood still for too long",
            Cut => "the body of the answer was cut off",
            Proxy => "only trusted proxies may connect here, with a good PROXY header",
            Auth => "the token is not good any more",
            #[cfg(feature = "deflate")]
            Deflate => "a compressed message could not be inflated",
            #[cfg(feature = "tls")]
            Tls => "TLS was refused or broken",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_index_and_label() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            let same = CloseReason::ALL.iter().filter(|other| other.label() == reason.label());
            assert_eq!(same.count(), 1, "{reason:?}");
        }
    }
}
