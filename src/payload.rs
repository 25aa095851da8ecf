//! What an event bears.

/// The payload of an event, borrowed: what was published, without its topic and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Text.
    Text(&'a str),
    /// One JSON value, as it was published: [`json::value`](crate::json::value) found it good.
    Json(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}
