//! The messages of `/ws`: many topics on one WebSocket, as JSON text.
//!
//! [`ClientMessage::parse`] reads what clients send, [`ServerMessage::encode`] writes what they
//! get. It is pure: the caller judges whether a topic's name is good, an id is known or a client
//! may publish. Published JSON is passed on as it came, never encoded again: numbers keep their
//! digits, objects keep the order of their members and their blanks.

mod reading;
mod server;

use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "presence")]
use crate::core::ground::id::ConnectionId;
use crate::core::ground::trace::{BadTrace, Trace};
use crate::core::wire::payload::Payload;

#[cfg(feature = "presence")]
pub(crate) use reading::NO_INFO;
pub(crate) use reading::{NO_CLIENT_ID, NO_VERSION, Reading};
#[cfg(feature = "presence")]
pub use server::list_of;
pub use server::{ServerMessage, event_around, row_around};
pub(crate) use server::{around_base64, with_gap};

/// A message of a client, borrowed from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Say who the client is, first of all: then what it publishes again with the same `ref` is
    /// not published twice.
    Hello {
        /// The id that the client drew for its life: [`is_client_id`].
        client: Cow<'a, str>,
        /// The version of the client: [`is_version`].
        version: Cow<'a, str>,
        /// What an error answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Subscribe to this topic; first send the events after this id.
    Subscribe {
        /// The topic.
        topic: Cow<'a, str>,
        /// The id of the last event that the client has, as the client sent it.
        after: Option<Cow<'a, str>>,
        /// What the client says of itself to those who ask who is there: [`is_info`].
        #[cfg(feature = "presence")]
        info: Option<Cow<'a, str>>,
        /// What an error answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Answer with who is on this topic.
    #[cfg(feature = "presence")]
    Presence {
        /// The topic.
        topic: Cow<'a, str>,
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Unsubscribe from this topic.
    Unsubscribe {
        /// The topic.
        topic: Cow<'a, str>,
    },
    /// Publish an event.
    Publish {
        /// The topic.
        topic: Cow<'a, str>,
        /// What to publish.
        data: Published<'a>,
        /// The trace context that goes with it.
        trace: Option<Result<Trace, BadTrace>>,
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Go by this token instead of the one that the connection came with.
    #[cfg(any(feature = "jwt", feature = "client"))]
    Token {
        /// The token.
        token: Cow<'a, str>,
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
    /// Answer with a pong.
    Ping {
        /// What the answer must repeat: JSON, raw.
        reference: Option<&'a str>,
    },
}

impl<'a> ClientMessage<'a> {
    /// Reads a message: one JSON object.
    ///
    /// Members of unknown names are ignored; of members with the same name the last one counts. An
    /// `after` of `null` counts as none, a `ref` of `null` as a value. It takes time linear in the
    /// length of any text, and does not recurse.
    ///
    /// # Errors
    ///
    /// The answer, if the text is no message; the connection stays open.
    pub fn parse(text: &'a str) -> Result<ClientMessage<'a>, Problem<'a>> {
        Reading::default().finish(text)
    }
}

/// Returns whether a client may call itself so: 16 to 64 characters of base64url.
pub fn is_client_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (16..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns whether a client's version may read so: 1 to 64 characters of `A-Z a-z 0-9 . _ + -`.
pub fn is_version(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns whether a client may say this of itself when it subscribes: at most 256 bytes of text
/// without control characters.
#[cfg(feature = "presence")]
pub fn is_info(text: &str) -> bool {
    text.len() <= INFO_BYTES_MAX && !text.contains(char::is_control)
}

/// The longest text that a client may say of itself, in bytes.
#[cfg(feature = "presence")]
pub const INFO_BYTES_MAX: usize = 256;

/// A member of a topic.
#[cfg(feature = "presence")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present<'a> {
    /// Who it is, if the server knows.
    pub identity: Option<&'a str>,
    /// Its connection.
    pub connection: ConnectionId,
    /// What it said of itself when it subscribed.
    pub info: Option<&'a str>,
}

/// What a client publishes: a JSON string is text, anything else is kept as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published<'a> {
    /// The content of the string.
    Text(Cow<'a, str>),
    /// The JSON value, raw.
    Json(&'a str),
    /// Bytes, which JSON does not bear.
    Binary(&'a [u8]),
}

impl Published<'_> {
    /// Returns it as the payload of an event.
    pub fn payload(&self) -> Payload<'_> {
        match self {
            Published::Text(text) => Payload::Text(text),
            Published::Json(json) => Payload::Json(json),
            Published::Binary(bytes) => Payload::Binary(bytes),
        }
    }
}

/// Why a message of a client was refused: the content of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    /// The kind of problem.
    pub code: ErrorCode,
    /// The problem in words.
    pub sentence: &'static str,
    /// What the answer must repeat, if it can be found: JSON, raw.
    pub reference: Option<&'a str>,
}

impl<'a> From<Problem<'a>> for ServerMessage<'a> {
    fn from(problem: Problem<'a>) -> ServerMessage<'a> {
        let Problem { code, sentence, reference } = problem;
        ServerMessage::Error { code, sentence, reference }
    }
}

/// The kind of problem that an `error` message reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The message is not one of those that clients send.
    BadRequest,
    /// The `op` is not one of those that clients send.
    UnknownOp,
    /// The client may not do this.
    Forbidden,
    /// A limit of the server was reached.
    Limit,
    /// The log refused the event, or did not answer in time. After the latter the event may still
    /// be published.
    Unavailable,
}

impl ErrorCode {
    /// Returns the code as it stands in the message.
    pub const fn label(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::UnknownOp => "unknown_op",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::Limit => "limit",
            ErrorCode::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests;
