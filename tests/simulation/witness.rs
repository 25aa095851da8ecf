//! Reads what the server puts on one connection, byte by byte as it is handed to the kernel, and
//! holds it against the grammar: whole answers, then whole frames of a server, nothing behind a
//! close frame; or the blocks of an event stream, in chunks, until its end.

use heartwheel::Message;

use super::chunked::Unchunker;
use super::window::{RSV1, Window};

/// What the server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Answer {
        status: u16,
        /// The value of `Event-Gap`.
        gap: Option<String>,
        body: Vec<u8>,
    },
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close {
        code: u16,
        text: String,
    },
    /// Lines of an event stream, up to an empty one.
    Block(String),
}

/// The short of it, for the story of a failure.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub enum Gist {
    Answer(u16),
    Message { bytes: usize, begin: String },
    Ping,
    Pong,
    Close(u16),
    Block(String),
}

impl Said {
    pub fn gist(&self) -> Gist {
        let begin = |text: &str| text.chars().take(40).collect::<String>();
        match self {
            Said::Answer { status, .. } => Gist::Answer(*status),
            Said::Message(message) => Gist::Message {
                bytes: message.len(),
                begin: begin(message.as_text().unwrap_or_default()),
            },
            Said::Ping(_) => Gist::Ping,
            Said::Pong(_) => Gist::Pong,
            Said::Close { code, .. } => Gist::Close(*code),
            Said::Block(lines) => Gist::Block(begin(lines)),
        }
    }
}

/// What one connection's bytes have come to so far.
#[derive(Debug, Default)]
pub struct Witness {
    pending: Vec<u8>,
    /// Which answers have no body, whatever their length says: they are to HEAD.
    pub heads: Vec<usize>,
    pub upgraded: bool,
    /// It has become an event stream.
    pub streams: bool,
    /// The stream goes in chunks.
    pub chunks: Option<Unchunker>,
    /// What the peer keeps for compressed messages.
    window: Option<Window>,
    pub close: Option<u16>,
    /// Final answers; `100 Continue` is none.
    pub answers: usize,
    pub continues: usize,
    pub messages: u64,
}

impl Witness {
    /// Makes one that knows which answers are to HEAD.
    pub fn new(heads: &[usize]) -> Witness {
        Witness { heads: heads.to_vec(), ..Witness::default() }
    }

    /// Takes bytes; gives what is complete with them.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        assert!(self.close.is_none() || bytes.is_empty(), "bytes follow the close frame");
        match &mut self.chunks {
            Some(chunks) => self.pending.extend(chunks.take(bytes)),
            None => self.pending.extend_from_slice(bytes),
        }
        let mut said = Vec::new();
        let mut used = 0;
        while let Some((len, one)) = self.next(used) {
            used += len;
            match &one {
                Said::Answer { status: 100, .. } => self.continues += 1,
                Said::Answer { status, .. } => {
                    self.answers += 1;
                    self.upgraded = *status == 101;
                    if let Some(chunks) = &mut self.chunks {
                        let rest = self.pending.split_off(used);
                        self.pending.extend(chunks.take(&rest));
                    }
                }
                Said::Message(_) => self.messages += 1,
                Said::Close { code, .. } => self.close = Some(*code),
                Said::Ping(_) | Said::Pong(_) | Said::Block(_) => {}
            }
            said.push(one);
            let behind = self.close.is_some() && used < self.pending.len();
            assert!(!behind, "bytes follow the close frame: {:?}", &self.pending[used..]);
        }
        self.pending.drain(..used);
        said
    }

    fn next(&mut self, from: usize) -> Option<(usize, Said)> {
        if from == self.pending.len() {
            return None;
        }
        match (self.upgraded, self.streams) {
            (true, _) => frame(&self.pending[from..], &mut self.window),
            (_, true) => block(&self.pending[from..]),
            _ => self.answer(from),
        }
    }

    fn answer(&mut self, from: usize) -> Option<(usize, Said)> {
        let bytes = &self.pending[from..];
        let start = bytes.len().min(9);
        assert_eq!(bytes[..start], b"HTTP/1.1 "[..start], "an answer begins so");
        let head_len = 4 + bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..head_len]).expect("a head is text");
        let status: u16 = head[9..12].parse().expect("a status is a number");
        let value = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
            head.lines().find_map(value)
        };
        self.window = Window::agreed(head);
        let gap = value("Event-Gap");
        let length = value("Content-Length").map_or(0, |text| text.parse().expect("a number"));
        let has_body = !self.heads.contains(&self.answers);
        let is_json = value("Content-Type").is_some_and(|text| text == "application/json");
        if has_body && is_json && value("Transfer-Encoding").is_some_and(|text| text == "chunked") {
            let (used, body) = dechunk(&bytes[head_len..])?;
            return Some((head_len + used, Said::Answer { status, gap, body }));
        }
        let len = head_len + if has_body { length } else { 0 };
        let body = bytes.get(head_len..len)?.to_vec();
        let media = value("Content-Type");
        self.streams = has_body && media.is_some_and(|text| text == "text/event-stream");
        let is_chunked = value("Transfer-Encoding").is_some_and(|text| text == "chunked");
        self.chunks = (self.streams && is_chunked).then(Unchunker::default);
        Some((len, Said::Answer { status, gap, body }))
    }
}

/// Gives how long a whole body in chunks is, and what it bears (RFC 9112, 7.1).
fn dechunk(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut used, mut body) = (0, Vec::new());
    loop {
        let rest = &bytes[used..];
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
        let piece = rest.get(line + 2..line + 2 + size + 2)?;
        let (piece, end) = piece.split_at(size);
        assert_eq!(end, b"\r\n", "a chunk ends so");
        body.extend_from_slice(piece);
        used += line + 2 + size + 2;
        if size == 0 {
            return Some((used, body));
        }
    }
}

fn block(bytes: &[u8]) -> Option<(usize, Said)> {
    let len = 2 + bytes.windows(2).position(|window| window == b"\n\n")?;
    let lines = std::str::from_utf8(&bytes[..len]).expect("a stream is text");
    Some((len, Said::Block(lines.to_owned())))
}

/// Gives how long the frame at the front of a server's bytes is, the first byte and the payload.
pub fn payload_of(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert_eq!(second & 0x80, 0, "a server's frame bears no mask");
    let (length, rest, head_len) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest, 4)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length) as usize, rest, 10)
        }
        length => (usize::from(*length), rest, 2),
    };
    Some((head_len + length, *first, rest.get(..length)?))
}

fn frame(bytes: &[u8], window: &mut Option<Window>) -> Option<(usize, Said)> {
    let (len, first, payload) = payload_of(bytes)?;
    let (first, payload) = match window {
        Some(window) if first & RSV1 != 0 => (first & !RSV1, window.inflate(payload)),
        _ => (first, payload.to_vec()),
    };
    let said = match first {
        0x81 => Said::Message(Message::text(String::from_utf8(payload).expect("UTF-8"))),
        0x82 => Said::Message(Message::binary(payload)),
        0x88 => Said::Close {
            code: u16::from_be_bytes([payload[0], payload[1]]),
            text: String::from_utf8(payload[2..].to_vec()).expect("UTF-8"),
        },
        0x89 => Said::Ping(payload),
        0x8a => Said::Pong(payload),
        other => panic!("a frame begins with {other:#x}"),
    };
    Some((len, said))
}
