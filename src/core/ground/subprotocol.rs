//! The subprotocol of a WebSocket (RFC 6455, 1.9), as far as figures tell them apart.

/// What a client and a server have agreed to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subprotocol {
    /// `heartwheel.v1`: the messages of `/ws` as JSON text.
    Json,
    /// `heartwheel.v1.cbor`: the same messages as CBOR.
    Cbor,
    /// None was agreed on; or the connection is no WebSocket.
    #[default]
    None,
    /// One of the application's own.
    Other,
}

impl Subprotocol {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All of them.
    pub const ALL: [Subprotocol; Subprotocol::COUNT] =
        [Subprotocol::Json, Subprotocol::Cbor, Subprotocol::None, Subprotocol::Other];

    /// Returns which one an answer names.
    pub fn of(name: Option<&str>) -> Subprotocol {
        match name {
            None => Subprotocol::None,
            Some(name) => {
                let known = [Subprotocol::Json, Subprotocol::Cbor];
                known.into_iter().find(|one| one.label() == name).unwrap_or(Subprotocol::Other)
            }
        }
    }

    /// Returns its label in metrics and in rows of `/connections`: its name, if the server has
    /// given it one.
    pub const fn label(self) -> &'static str {
        match self {
            Subprotocol::Json => "heartwheel.v1",
            Subprotocol::Cbor => "heartwheel.v1.cbor",
            Subprotocol::None => "none",
            Subprotocol::Other => "other",
        }
    }
}
