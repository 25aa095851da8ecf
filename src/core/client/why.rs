//! Why a try or a connection of a client ended.

use std::fmt;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use super::told::State;
use super::verdict::{Verdict, of_close, of_status};
use crate::core::wire::http::ResponseHead;
use crate::core::wire::ws::Violation;

/// Why a try, or a connection, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The host's name has no address, or cannot be looked up.
    Name(String),
    /// No address of the host could be connected to.
    Unreachable(String),
    /// A phase took longer than its deadline. A plain request, which has one for the whole, is
    /// `Open` while it waits for its answer.
    TimedOut(State),
    /// TLS was refused, or broken off.
    Tls(String),
    /// The server's certificate is not valid for it.
    Certificate(String),
    /// The server answered the upgrade, or the request for an event stream, with this status.
    Status {
        /// The status: not 101, and not 200 of an event stream.
        status: u16,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// The server's answer to the upgrade was none of RFC 6455; or an answer of any kind cannot be
    /// read, is cut off, or is beyond a limit.
    Answer(String),
    /// The server answered with an accept key that was not made from ours.
    AcceptKey,
    /// The server closed with this code; 1005 if it gave none.
    Closed {
        /// The close code.
        code: u16,
        /// The reason, often empty.
        reason: Utf8Bytes,
    },
    /// The server broke RFC 6455, or one of our limits.
    Violation(Violation),
    /// The server was silent for `deadlines.read_idle`, or missed too many pings.
    Silent,
    /// A message took longer than `deadlines.message`.
    Message,
    /// The server did not take what was sent, for `deadlines.write_stall`.
    WriteStall,
    /// The connection ended without a close frame.
    Lost(String),
    /// The server ended the event stream in good order.
    Ended,
    /// There is no use in the event stream: status 204, an answer of another type, or an event
    /// beyond the limit.
    Stream(String),
    /// The application stopped the client.
    Stopped,
}

impl Why {
    /// Returns what an answer says whose status is not the one hoped for.
    pub(super) fn status_of(head: &ResponseHead) -> Why {
        // A date is left alone (RFC 9110, 10.2.3): the clocks of devices are not to be trusted.
        let seconds = head.header("retry-after").and_then(|value| value.trim().parse::<u32>().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Why::Status { status: head.status(), retry_after }
    }

    /// Returns what follows.
    pub fn verdict(&self) -> Verdict {
        match self {
            Why::Certificate(_) | Why::AcceptKey | Why::Stream(_) | Why::Stopped => Verdict::Stop,
            Why::Status { status, .. } => of_status(*status),
            Why::Closed { code, .. } => of_close(*code),
            Why::Violation(violation) => of_close(violation.reason().code()),
            _ => Verdict::Retry,
        }
    }

    /// Returns whether the server is to blame for a connection that did not hold: it was reached,
    /// and failed.
    pub fn is_servers_fault(&self) -> bool {
        match self {
            Why::Name(_) | Why::Unreachable(_) | Why::TimedOut(_) => false,
            Why::Ended | Why::Stopped => false,
            // Also 2xx and 3xx: what answers an upgrade so, a captive portal perhaps, is no server.
            Why::Status { status, .. } => !(400..500).contains(status),
            Why::Closed { code, .. } => {
                !matches!(code, 1000 | 1001 | 1012 | 3000) && !(4000..=4999).contains(code)
            }
            _ => true,
        }
    }

    /// Returns the close code that stands for it, as RFC 6455 has them: 1006 where there was none,
    /// 1015 for TLS.
    pub fn code(&self) -> u16 {
        match self {
            Why::Closed { code, .. } => *code,
            Why::Violation(violation) => violation.reason().code(),
            Why::Silent | Why::Message => 3008,
            Why::Stopped => 1000,
            Why::Tls(_) | Why::Certificate(_) => 1015,
            _ => 1006,
        }
    }

    /// Returns how long the server asked to stay away.
    pub fn asked_wait(&self) -> Duration {
        match self {
            Why::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            Why::Closed { reason, .. } => {
                let ms = reason.as_str().strip_prefix("retry=").and_then(|ms| ms.parse().ok());
                ms.map_or(Duration::ZERO, |ms: u32| Duration::from_millis(ms.into()))
            }
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Name(error) => write!(f, "no address: {error}"),
            Why::Unreachable(error) => write!(f, "not reached: {error}"),
            // Only a plain request has its deadline while it is connected.
            Why::TimedOut(State::Open) => f.write_str("no answer in time"),
            Why::TimedOut(state) => write!(f, "too late while {}", state.label()),
            Why::Tls(error) => write!(f, "TLS: {error}"),
            Why::Certificate(error) => write!(f, "the certificate is not valid: {error}"),
            Why::Status { status, .. } => write!(f, "HTTP status {status}"),
            Why::Answer(error) => write!(f, "no good answer: {error}"),
            Why::AcceptKey => f.write_str("the accept key is wrong"),
            Why::Closed { code, reason } if reason.as_str().is_empty() => {
                write!(f, "closed with {code}")
            }
            Why::Closed { code, reason } => write!(f, "closed with {code} {:?}", reason.as_str()),
            Why::Violation(violation) => write!(f, "the server broke the protocol: {violation}"),
            Why::Silent => f.write_str("the server is silent"),
            Why::Message => f.write_str("a message took too long"),
            Why::WriteStall => f.write_str("the server does not read"),
            Why::Lost(error) => write!(f, "the connection broke: {error}"),
            Why::Ended => f.write_str("the server ended the stream"),
            Why::Stream(error) => write!(f, "no use in the event stream: {error}"),
            Why::Stopped => f.write_str("stopped by the application"),
        }
    }
}

impl std::error::Error for Why {}
