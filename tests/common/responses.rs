//! The verdict of tungstenite's client on the answer to an upgrade, and where ours is another.

// Each test takes what it needs.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read, Write};

use heartwheel::http::{ResponseHead, SwitchError, UpgradeKey};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::Request;

/// Has tungstenite's client read an answer to an upgrade that bore this key and offered these
/// subprotocols. Gives what it found wrong.
pub fn oracle(answer: &[u8], key: &UpgradeKey, offered: &[&str]) -> Result<(), String> {
    let mut request = Request::get("ws://a/")
        .header("Host", "a")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", key.as_str());
    if !offered.is_empty() {
        request = request.header("Sec-WebSocket-Protocol", offered.join(", "));
    }
    let request = request.body(()).expect("the request is right");
    match tungstenite::client(request, Answer(answer)) {
        Ok(_) => Ok(()),
        Err(HandshakeError::Failure(error)) => Err(error.to_string()),
        Err(HandshakeError::Interrupted(_)) => Err("more is needed".into()),
    }
}

/// Says whether tungstenite may say the contrary of our verdict.
///
/// - It wants `Upgrade` alone in `Connection`, where RFC 6455 wants it among others.
/// - It takes the first line of each header, where there must be one, and all lines count.
/// - It does not look at extensions.
/// - It wants a subprotocol where one was offered, which RFC 6455 leaves to the client.
pub fn is_stricter(head: &ResponseHead, ours: Result<Option<&str>, SwitchError>) -> bool {
    let count =
        |name: &str| head.headers().filter(|(own, _)| own.eq_ignore_ascii_case(name)).count();
    match ours {
        Ok(None) if count("sec-websocket-protocol") == 0 => true,
        Ok(_) => {
            let plain =
                head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("upgrade"));
            let alone = head.header("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
            !plain || !alone
        }
        Err(SwitchError::Extension) => true,
        Err(SwitchError::Upgrade) => count("upgrade") > 1,
        Err(SwitchError::AcceptKey) => count("sec-websocket-accept") > 1,
        Err(SwitchError::Protocol) => count("sec-websocket-protocol") > 1,
        Err(SwitchError::Connection | SwitchError::Status) => false,
    }
}

/// Swallows the request and gives the answer.
struct Answer<'a>(&'a [u8]);

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.is_empty() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.0.read(buffer),
        }
    }
}

impl Write for Answer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
