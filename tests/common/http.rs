//! Requests as clients write them, and answers as they are read.

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Takes the head at the front of the bytes apart, once it is whole. Gives the answer without
    /// its body, and the length of the head.
    #[track_caller]
    pub fn read(bytes: &[u8]) -> Option<(Answer, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("a status line comes first: {head}"));
        Some((Answer { status, head, body: Vec::new() }, end))
    }

    /// Gives the value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn has_line(&self, line: &str) -> bool {
        self.head.lines().any(|own| own.eq_ignore_ascii_case(line))
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is text")
    }
}

/// Gives the value of a header, which stands in one line at the most.
#[track_caller]
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(own, _)| own.eq_ignore_ascii_case(name));
    let value = values.next().map(|(_, value)| value);
    assert_eq!(values.next(), None, "{name} stands in one line: {head}");
    value
}

/// Gives a GET; `lines` are further header lines, each with its CRLF.
pub fn get_request(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Gives a request for a WebSocket; `lines` are further header lines, each with its CRLF.
pub fn upgrade_request(path: &str, lines: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    get_request(path, &format!("{upgrade}Sec-WebSocket-Key: {KEY}\r\n{lines}"))
}

/// The example of RFC 6455, 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server makes of [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
