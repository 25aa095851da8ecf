//! What a client hears: an answer, then frames. Only what the soak asks for is understood.

/// The bytes not yet understood, and what was learned from those before.
#[derive(Default)]
pub struct Inbound {
    rest: Vec<u8>,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// The code of the server's close frame.
    pub close_code: Option<u16>,
}

impl Inbound {
    pub fn is_upgraded(&self) -> bool {
        self.status == Some(101)
    }

    /// Takes bytes; tells each message.
    pub fn feed(&mut self, bytes: &[u8], mut message: impl FnMut(&[u8])) {
        self.rest.extend_from_slice(bytes);
        if !self.is_upgraded() {
            self.read_answers();
        }
        if !self.is_upgraded() {
            return;
        }
        let mut used = 0;
        while let Some((first, payload, length)) = next_frame(&self.rest[used..]) {
            match first & 0x0f {
                1 | 2 => message(payload),
                8 if payload.len() >= 2 => {
                    self.close_code = Some(u16::from_be_bytes([payload[0], payload[1]]));
                }
                _ => {}
            }
            used += length;
        }
        self.rest.drain(..used);
    }

    /// Bodies are short and without empty lines: they end up in the head behind them.
    fn read_answers(&mut self) {
        while let Some(end) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = &self.rest[..end];
            let version = b"HTTP/1.1 ";
            let at = head.windows(version.len()).position(|bytes| bytes == version);
            let digits = at.and_then(|at| head.get(at + version.len()..at + version.len() + 3));
            let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
            self.status = digits.and_then(|digits| digits.parse().ok());
            self.rest.drain(..end + 4);
            if self.is_upgraded() {
                return;
            }
        }
    }
}

/// Gives the first byte, the payload and the length of a frame, if all of it is there.
fn next_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &short) = (bytes.first()?, bytes.get(1)?);
    let (head, length) = match short {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    Some((first, bytes.get(head..head + length)?, head + length))
}
