//! The payload of an event.

/// The payload of an event, borrowed: what was published, without its topic and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Text.
    Text(&'a str),
    /// One JSON value, as it was published, which [`value`](crate::core::ground::json::value)
    /// found to be one.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Payload::Text(text) | Payload::Json(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}
