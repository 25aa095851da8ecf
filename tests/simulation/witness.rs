//! Reads what the server puts on one connection, byte by byte as it is handed to the kernel, and
//! holds it against the grammar: whole answers, then whole frames of a server, nothing behind a
//! close frame.

use heartwheel::Message;

/// What the server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Answer { status: u16, body: Vec<u8> },
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close { code: u16, text: String },
}

/// The short of it, for the story of a failure.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub enum Gist {
    Answer(u16),
    Message { bytes: usize },
    Ping,
    Pong,
    Close(u16),
}

impl Said {
    pub fn gist(&self) -> Gist {
        match self {
            Said::Answer { status, .. } => Gist::Answer(*status),
            Said::Message(message) => Gist::Message { bytes: message.len() },
            Said::Ping(_) => Gist::Ping,
            Said::Pong(_) => Gist::Pong,
            Said::Close { code, .. } => Gist::Close(*code),
        }
    }
}

/// What one connection's bytes have come to so far.
#[derive(Debug, Default)]
pub struct Witness {
    pending: Vec<u8>,
    pub upgraded: bool,
    pub close: Option<u16>,
    pub answers: usize,
    pub messages: u64,
}

impl Witness {
    /// Takes bytes; gives what is complete with them.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        assert!(self.close.is_none() || bytes.is_empty(), "bytes follow the close frame");
        self.pending.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some((used, one)) = if self.upgraded { self.frame() } else { self.answer() } {
            self.pending.drain(..used);
            match &one {
                Said::Answer { status, .. } => {
                    self.answers += 1;
                    self.upgraded = *status == 101;
                }
                Said::Message(_) => self.messages += 1,
                Said::Close { code, .. } => self.close = Some(*code),
                Said::Ping(_) | Said::Pong(_) => {}
            }
            said.push(one);
            assert!(
                self.close.is_none() || self.pending.is_empty(),
                "bytes follow the close frame: {:?}",
                self.pending
            );
        }
        said
    }

    fn answer(&self) -> Option<(usize, Said)> {
        let start = self.pending.len().min(9);
        assert_eq!(self.pending[..start], b"HTTP/1.1 "[..start], "an answer begins so");
        let head_len = 4 + self.pending.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&self.pending[..head_len]).expect("a head is text");
        let status: u16 = head[9..12].parse().expect("a status is a number");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse().expect("a length is a number"));
        let body = self.pending.get(head_len..head_len + length)?.to_vec();
        Some((head_len + length, Said::Answer { status, body }))
    }

    fn frame(&self) -> Option<(usize, Said)> {
        let [first, second, rest @ ..] = &self.pending[..] else { return None };
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
        let payload = rest.get(..length)?.to_vec();
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
        Some((head_len + length, said))
    }
}
