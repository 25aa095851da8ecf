//! How `authorize` lets a request in: as whom, with which rights, and with which headers.

use std::fmt;

use crate::core::admission::rights::{Right, Rights};
use crate::core::ground::identity::Identity;
use crate::core::wire::http::{self, HeaderError, HeaderLines, Refusal};

/// Lets a request in. By default without an identity, with all rights that its token has, and with
/// the first offered subprotocol that the route has.
///
/// ```
/// use heartwheel::Accept;
///
/// let accept = Accept::new()
///     .identity("device-7")
///     .publish(["devices.7.*"])
///     .subscribe(["commands.7", "alarms"])
///     .header("Set-Cookie", "seen=1; HttpOnly");
/// assert_eq!(accept.check(), Ok(()));
/// ```
///
/// The first fault is kept: [`Accept::check`] returns it. If a request is let in with a fault, its
/// answer is 500, the log names the fault, and it counts as refused by the handler.
#[derive(Clone, Debug, Default)]
pub struct Accept(Option<Box<Terms>>);

/// What a request is let in with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub protocol: Option<String>,
    pub identity: Option<Identity>,
    /// `None` takes no right away.
    pub rights: Option<Box<Rights>>,
    pub headers: HeaderLines,
    fault: Option<AcceptError>,
}

impl Accept {
    /// Lets a request in: the same as the default.
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Accepts with this subprotocol, which the client must have offered (RFC 6455, 4.2.2).
    ///
    /// # Errors
    ///
    /// If the name is not a token; it cannot go on the wire then.
    pub fn with_protocol(name: impl Into<String>) -> Result<Accept, HeaderError> {
        let name = name.into();
        match http::is_token(name.as_bytes()) {
            true => Ok(Accept::new().with(|terms| {
                terms.protocol = Some(name);
                Ok(())
            })),
            false => Err(HeaderError::Value),
        }
    }

    /// Says who is at the other end: 1 to 256 bytes of text without control characters. Handlers
    /// get the identity by [`Request::identity`](http::Request::identity) and
    /// [`Peer::identity`](crate::Peer::identity), the operator in the table of connections and in
    /// the log. It replaces an identity from a token or a certificate.
    pub fn identity(self, text: impl AsRef<str>) -> Accept {
        self.with(|terms| {
            terms.identity = Some(Identity::new(text.as_ref()).ok_or(AcceptError::Identity)?);
            Ok(())
        })
    }

    /// Lets the connection publish to these topics: names in which `*` means one character or more,
    /// as in the file of tokens. May be called again for more.
    ///
    /// Without a call of this and of [`Accept::subscribe`] no right is taken away. With a call of
    /// one of them, what neither names is not allowed. If `admission.tokens` is set, the token must
    /// allow it, too. There can be 64 patterns in all.
    pub fn publish(self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Accept {
        self.with(|terms| terms.allow(Right::Publish, patterns))
    }

    /// Lets the connection subscribe to these topics, and read them; see [`Accept::publish`].
    pub fn subscribe(self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Accept {
        self.with(|terms| terms.allow(Right::Subscribe, patterns))
    }

    /// Adds a header line to the answer, the 101 of an upgrade or any other: `Set-Cookie`, for
    /// instance. All lines together can have 4,096 bytes. The headers of the connection, of the
    /// WebSocket handshake and of the body are the server's own.
    pub fn header(self, name: &str, value: &str) -> Accept {
        self.with(|terms| {
            let is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
            if is_own || has_prefix(name, HANDSHAKE_PREFIX) {
                return Err(AcceptError::Header(HeaderError::Reserved));
            }
            terms.headers.push(name, value).map_err(AcceptError::Header)?;
            match terms.headers.as_str().len() > HEADER_BYTES_MAX {
                true => Err(AcceptError::Headers),
                false => Ok(()),
            }
        })
    }

    /// Checks that a request can be let in with this.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn check(&self) -> Result<(), AcceptError> {
        self.0.as_ref().and_then(|terms| terms.fault).map_or(Ok(()), Err)
    }

    /// Returns what the request is let in with.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub(crate) fn into_terms(self) -> Result<Terms, AcceptError> {
        self.check()?;
        Ok(self.0.map(|terms| *terms).unwrap_or_default())
    }

    fn with(mut self, set: impl FnOnce(&mut Terms) -> Result<(), AcceptError>) -> Accept {
        let terms = self.0.get_or_insert_default();
        if terms.fault.is_none() {
            terms.fault = set(terms).err();
        }
        self
    }
}

impl Terms {
    fn allow(
        &mut self,
        right: Right,
        patterns: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), AcceptError> {
        let rights = self.rights.get_or_insert_default();
        for pattern in patterns {
            if rights.len() == PATTERNS_MAX {
                return Err(AcceptError::Patterns);
            }
            rights.allow(right, pattern.as_ref()).map_err(|_| AcceptError::Pattern)?;
        }
        Ok(())
    }
}

/// What is wrong with an [`Accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The identity is empty, longer than 256 bytes, or has a control character.
    Identity,
    /// A pattern is not 1 to 128 characters of a topic's name and `*`.
    Pattern,
    /// There are more than 64 patterns.
    Patterns,
    /// A header line cannot be sent, or is the server's own.
    Header(HeaderError),
    /// The header lines have more than 4,096 bytes.
    Headers,
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcceptError::Identity => "an identity must be 1 to 256 bytes of text",
            AcceptError::Pattern => {
                "a pattern must be 1 to 128 characters of A-Z a-z 0-9 . _ - : and *"
            }
            AcceptError::Patterns => "there must be at most 64 patterns",
            AcceptError::Header(error) => return error.fmt(f),
            AcceptError::Headers => "header lines must have at most 4096 bytes",
        })
    }
}

impl std::error::Error for AcceptError {}

/// For `?` in `authorize`: 500, since the fault is not the client's.
impl From<AcceptError> for Refusal {
    fn from(_: AcceptError) -> Refusal {
        Refusal::new(500, "the server could not let this in")
    }
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
}

/// Headers of one connection (RFC 9110, 7.6.1), and those that only a proxy writes. Response lines
/// reserve others.
const OWN: [&str; 4] = ["Proxy-Authenticate", "Proxy-Connection", "TE", "Trailer"];
const HANDSHAKE_PREFIX: &str = "Sec-WebSocket-";
const HEADER_BYTES_MAX: usize = 4096;
const PATTERNS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_is_kept() {
        let accept = Accept::new().identity("a\nb").publish(["a/b"]).identity("a");
        assert_eq!(accept.check(), Err(AcceptError::Identity));
        assert_eq!(accept.into_terms().err(), Some(AcceptError::Identity));
        assert!(Accept::new().into_terms().is_ok_and(|terms| terms.rights.is_none()));
    }

    // FAULTS 24: an error, and nothing on the wire.
    #[test]
    fn no_header_of_the_handshake_can_be_forged() {
        for (name, value, error) in [
            ("X", "a\r\nSet-Cookie: b", HeaderError::Value),
            ("X\r\nY", "a", HeaderError::Name),
            ("Sec-WebSocket-Accept", "x", HeaderError::Reserved),
            ("sec-websocket-version", "8", HeaderError::Reserved),
            ("Sec-WebSocket-", "8", HeaderError::Reserved),
            ("Upgrade", "h2c", HeaderError::Reserved),
            ("connection", "close", HeaderError::Reserved),
            ("Content-Length", "1", HeaderError::Reserved),
            ("trailer", "x", HeaderError::Reserved),
        ] {
            let accept = Accept::new().header(name, value);
            assert_eq!(accept.check(), Err(AcceptError::Header(error)), "{name:?}");
        }
        let accept = Accept::new().header("Set-Cookie", "a=1").header("Set-Cookie", "b=2");
        let headers = accept.into_terms().unwrap().headers;
        assert_eq!(headers.as_str(), "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
    }

    #[test]
    fn what_is_kept_for_a_connection_is_bounded() {
        let many = || (0..64).map(|n| format!("t{n}"));
        assert_eq!(Accept::new().publish(many()).check(), Ok(()));
        let more = Accept::new().publish(many()).subscribe(["a"]);
        assert_eq!(more.check(), Err(AcceptError::Patterns));
        let long = "x".repeat(4096);
        assert_eq!(Accept::new().header("X", &long).check(), Err(AcceptError::Headers));
        assert_eq!(Accept::new().subscribe(["a/b"]).check(), Err(AcceptError::Pattern));
    }
}
