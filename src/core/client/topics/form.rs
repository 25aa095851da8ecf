//! The forms of the messages of `/ws`: JSON as text, and CBOR in binary messages.

#[cfg(feature = "cbor")]
use super::cbor;
use super::json;
use crate::core::topics::{After, Content};
use crate::core::wire::message::Message;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `heartwheel.v1`, or no subprotocol.
    Json,
    /// `heartwheel.v1.cbor`.
    #[cfg(feature = "cbor")]
    Cbor,
}

/// A message to the server.
#[derive(Debug)]
pub(super) enum Order<'a> {
    Hello {
        client: &'a str,
    },
    Subscribe {
        topic: &'a str,
        after: After,
        #[cfg(feature = "presence")]
        info: Option<&'a str>,
    },
    #[cfg(feature = "presence")]
    Presence {
        topic: &'a str,
        reference: u32,
    },
    Unsubscribe {
        topic: &'a str,
    },
    Publish {
        topic: &'a str,
        reference: u32,
        content: &'a Content,
    },
    Token {
        token: &'a str,
    },
}

impl Form {
    /// Returns the form that a message has; `None` if the build does not read it.
    pub fn of(message: &Message) -> Option<Form> {
        match message {
            Message::Text(_) => Some(Form::Json),
            #[cfg(feature = "cbor")]
            Message::Binary(_) => Some(Form::Cbor),
            #[cfg(not(feature = "cbor"))]
            Message::Binary(_) => None,
        }
    }

    /// Writes a message to the server; `None` if it would bear bytes, and the form bears none.
    pub fn write(self, order: &Order<'_>) -> Option<Message> {
        match self {
            Form::Json => json::write(order).map(Message::text),
            #[cfg(feature = "cbor")]
            Form::Cbor => Some(Message::binary(cbor::write(order))),
        }
    }
}

/// How the client calls its version.
pub(super) const VERSION: &str = concat!("heartwheel-", env!("CARGO_PKG_VERSION"));

/// A position that no server knows.
pub(super) const NO_POSITION: &str = "-";
