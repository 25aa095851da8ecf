//! The client's part in the step from HTTP to a WebSocket (RFC 6455, 4.1).

use std::fmt;

use super::accept_key::accept_key;
use super::response_head::ResponseHead;
use crate::core::ground::base64;

/// The key of one upgrade: 16 bytes that the client drew for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeKey(String);

impl UpgradeKey {
    /// Makes a key of random bytes.
    pub fn new(bytes: [u8; 16]) -> UpgradeKey {
        UpgradeKey(base64::encode(&bytes))
    }

    /// Returns the value of `Sec-WebSocket-Key`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the answer to an upgrade that had this key, offered these subprotocols, and offered no
/// extension. Returns the chosen subprotocol, if there is one.
///
/// # Errors
///
/// What is wrong with it: the connection must be ended then. [`SwitchError::Status`] means that the
/// server has refused, in plain HTTP.
pub fn check_switch<'o>(
    head: &ResponseHead,
    key: &UpgradeKey,
    offered: &[&'o str],
) -> Result<Option<&'o str>, SwitchError> {
    check_switch_with(head, key, offered, |_| false)
}

/// Checks an answer as [`check_switch`] does, to an upgrade that has offered extensions: `agrees`
/// says of each that the server names whether it may.
///
/// # Errors
///
/// As for [`check_switch`].
pub(crate) fn check_switch_with<'o>(
    head: &ResponseHead,
    key: &UpgradeKey,
    offered: &[&'o str],
    agrees: impl FnMut(&[u8]) -> bool,
) -> Result<Option<&'o str>, SwitchError> {
    let lines = head.lines();
    if head.status() != 101 {
        return Err(SwitchError::Status);
    }
    let mut protocols = lines.elements("upgrade");
    let is_websocket = protocols.next().is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"));
    if !is_websocket || protocols.next().is_some() {
        return Err(SwitchError::Upgrade);
    }
    if !lines.has_token("connection", "upgrade") {
        return Err(SwitchError::Connection);
    }
    let accept_key = accept_key(key.as_str().as_bytes());
    if lines.only_value("sec-websocket-accept") != Some(accept_key.as_bytes()) {
        return Err(SwitchError::AcceptKey);
    }
    if !lines.elements("sec-websocket-extensions").all(agrees) {
        return Err(SwitchError::Extension);
    }
    if lines.values("sec-websocket-protocol").next().is_none() {
        return Ok(None);
    }
    // RFC 6455, 4.2.2 and 11.3.4: one line with one subprotocol, as it was offered.
    let chosen = lines.only_value("sec-websocket-protocol").ok_or(SwitchError::Protocol)?;
    let mut offered = offered.iter().copied();
    offered.find(|own| own.as_bytes() == chosen).map(Some).ok_or(SwitchError::Protocol)
}

/// What is wrong with the answer to an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchError {
    /// The status is not 101.
    Status,
    /// `Upgrade` is not `websocket` alone.
    Upgrade,
    /// `Connection` does not name `Upgrade`.
    Connection,
    /// There is not exactly one accept key, or it was not made from ours.
    AcceptKey,
    /// The server uses an extension that was not offered, or not in this way.
    Extension,
    /// The server chose not exactly one of the offered subprotocols.
    Protocol,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SwitchError::Status => "the server did not switch protocols",
            SwitchError::Upgrade => "the server switched to another protocol than websocket",
            SwitchError::Connection => "the answer lacks Connection: Upgrade",
            SwitchError::AcceptKey => "the accept key is not that of the key that was sent",
            SwitchError::Extension => "the server uses an extension in a way that was not offered",
            SwitchError::Protocol => "the server chose a subprotocol that was not offered",
        })
    }
}

impl std::error::Error for SwitchError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::framing::Asked;
    use crate::core::wire::http::response_head::tests::read;
    use crate::core::wire::http::{HeaderLines, Wire, switching_protocols};

    /// The key of the RFC's example.
    fn key() -> UpgradeKey {
        UpgradeKey::new(*b"the sample nonce")
    }

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    /// Returns the verdict on a good answer in which one header is replaced by other lines.
    fn verdict(
        replaced: &str,
        lines: &str,
        offered: &[&'static str],
    ) -> Result<Option<&'static str>, SwitchError> {
        let good =
            [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT)];
        let kept = good.iter().filter(|(name, _)| *name != replaced);
        let kept: String = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = read(Asked::Upgrade, &format!("HTTP/1.1 101 x\r\n{kept}{lines}\r\n")).unwrap();
        check_switch(&head, &key(), offered)
    }

    #[test]
    fn the_example_of_the_rfc_switches() {
        assert_eq!(key().as_str(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(verdict("", "", &[]), Ok(None));
        let offered = ["superchat", "chat"];
        assert_eq!(verdict("", "Sec-WebSocket-Protocol: chat\r\n", &offered), Ok(Some("chat")));
        assert_eq!(verdict("", "", &offered), Ok(None), "a server may choose none");
    }

    // RFC 6455, 4.1, the six rules for the server's answer.
    #[test]
    fn an_answer_that_is_no_switch_is_told_by_what_is_wrong() {
        use SwitchError::*;
        let refused = read(Asked::Upgrade, "HTTP/1.1 426 x\r\nUpgrade: websocket\r\n\r\n").unwrap();
        assert_eq!(check_switch(&refused, &key(), &[]), Err(Status));
        for (replaced, lines, error) in [
            ("Upgrade", "", Upgrade),
            ("Upgrade", "Upgrade: h2c\r\n", Upgrade),
            ("Upgrade", "Upgrade: websocket2\r\n", Upgrade),
            ("Upgrade", "Upgrade: websocket, h2c\r\n", Upgrade),
            ("", "Upgrade: websocket\r\n", Upgrade),
            ("Connection", "", Connection),
            ("Connection", "Connection: keep-alive\r\n", Connection),
            ("Sec-WebSocket-Accept", "", AcceptKey),
            ("Sec-WebSocket-Accept", "Sec-WebSocket-Accept: AAAA\r\n", AcceptKey),
            ("", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", AcceptKey),
            ("", "Sec-WebSocket-Extensions: permessage-deflate\r\n", Extension),
            ("", "Sec-WebSocket-Protocol: other\r\n", Protocol),
            ("", "Sec-WebSocket-Protocol: CHAT\r\n", Protocol),
            ("", "Sec-WebSocket-Protocol:\r\n", Protocol),
            ("", "Sec-WebSocket-Protocol: chat, superchat\r\n", Protocol),
            ("", "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n", Protocol),
        ] {
            let offered = ["superchat", "chat"];
            assert_eq!(verdict(replaced, lines, &offered), Err(error), "{replaced} {lines:?}");
        }
        let unasked = verdict("", "Sec-WebSocket-Protocol: chat\r\n", &[]);
        assert_eq!(unasked, Err(Protocol));
        for (replaced, lines) in [
            ("Connection", "Connection: keep-alive, UPGRADE\r\n"),
            ("Connection", "Connection: x\r\nConnection: upgrade\r\n"),
            ("Upgrade", "Upgrade: WebSocket\r\n"),
            ("", "Sec-WebSocket-Extensions: ,\r\n"),
        ] {
            assert_eq!(verdict(replaced, lines, &[]), Ok(None), "{lines:?}");
        }
    }

    #[test]
    fn what_our_server_answers_switches_our_client() {
        let wire = Wire { date: "D", keep_alive: None, head_only: true };
        let answer = switching_protocols(ACCEPT, Some("chat"), &HeaderLines::default());
        let bytes = answer.encode(&wire);
        let head = read(Asked::Upgrade, str::from_utf8(&bytes).unwrap()).unwrap();
        assert_eq!(check_switch(&head, &key(), &["chat"]), Ok(Some("chat")));
    }
}
