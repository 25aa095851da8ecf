//! The two sides of a WebSocket.

/// Which side of a WebSocket we are.
///
/// RFC 6455, 5.1: a client masks each frame that it sends, a server none. Each side ends a
/// connection on which its peer does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that accepted the connection: it reads masked frames and sends unmasked ones.
    Server,
    /// The side that connected: it reads unmasked frames and sends masked ones.
    Client,
}
