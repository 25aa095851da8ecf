//! Where a head ends, found without looking at a byte twice.
//!
//! ```text
//! CRLF*4   METHOD target HTTP/1.1 CRLF   (header CRLF)*   CRLF    a request
//! CRLF*4   HTTP/1.1 200 reason CRLF      (header CRLF)*   CRLF    a response
//! ```
//!
//! The scan knows lines, not headers. It refuses each byte that cannot stand in a head at its
//! place. So the verdict does not depend on how the bytes were cut, and garbage (a TLS hello, a
//! preface of HTTP/2) is refused at once: a control character, a first word that is no method, a
//! first line that does not end with a version; in a response, a first word that is no version.

use super::refusal::Refusal;
use super::syntax::is_tchar;

/// How much of a head is accepted.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first one to the empty line, both included; more get 431.
    pub head_bytes: usize,
    /// Header lines; more get 431.
    pub headers: usize,
}

/// Which line a head begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Request,
    Status,
}

/// How far the search has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Bytes looked at.
    seen: usize,
    empty_lines: u8,
    /// Lines complete so far, empty ones not counted: the first line and the headers.
    lines: usize,
    /// Bytes of the line in progress, without its CR.
    line_len: usize,
    after_cr: bool,
    after_method: bool,
    /// The last eight bytes of the first line.
    tail: u64,
}

impl Scan {
    /// Scans the next bytes. Returns the position behind the head's last byte, if it came.
    ///
    /// It costs a few steps per byte of `input`, whatever came before.
    pub fn find_end(
        &mut self,
        start: Start,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        for (index, byte) in input.iter().enumerate() {
            if self.seen >= limits.head_bytes.min(HEAD_BYTES_MAX) {
                return Err(Refusal::new(431, "the head is too long"));
            }
            self.seen += 1;
            if self.step(start, *byte, limits)? {
                return Ok(Some(index + 1));
            }
        }
        Ok(None)
    }

    /// Returns the number of header lines found.
    pub fn headers(&self) -> usize {
        self.lines.saturating_sub(1)
    }

    /// Takes one byte and returns whether the head ends with it.
    fn step(&mut self, start: Start, byte: u8, limits: &HeadLimits) -> Result<bool, Refusal> {
        match byte {
            b'\n' if self.after_cr => return self.step_line_end(start, limits),
            b'\n' => return Err(Refusal::bad_request("a line ends with LF alone")),
            _ if self.after_cr => return Err(Refusal::bad_request("a CR stands alone")),
            b'\r' => self.after_cr = true,
            b' ' | b'\t' if self.line_len == 0 => {
                return Err(Refusal::bad_request("a line begins with a blank"));
            }
            b'\t' | b' '..=b'~' | 0x80.. => {
                self.line_len += 1;
                if self.lines == 0 {
                    match start {
                        Start::Request => self.step_request_line(byte)?,
                        Start::Status => self.step_status_line(byte)?,
                    }
                }
            }
            _ => return Err(Refusal::bad_request("a control character stands in the head")),
        }
        Ok(false)
    }

    fn step_request_line(&mut self, byte: u8) -> Result<(), Refusal> {
        self.tail = self.tail << 8 | u64::from(byte);
        if byte == b' ' {
            self.after_method = true;
        }
        if !self.after_method && (self.line_len > METHOD_BYTES_MAX || !is_tchar(byte)) {
            return Err(Refusal::bad_request("this does not begin with a method"));
        }
        Ok(())
    }

    fn step_status_line(&self, byte: u8) -> Result<(), Refusal> {
        match STATUS_LINE.get(self.line_len - 1) {
            Some(expected) if *expected != byte => {
                Err(Refusal::bad_request("this does not begin with HTTP/1.1"))
            }
            _ => Ok(()),
        }
    }

    fn step_line_end(&mut self, start: Start, limits: &HeadLimits) -> Result<bool, Refusal> {
        self.after_cr = false;
        match (std::mem::take(&mut self.line_len), self.lines) {
            // RFC 9112, 2.2: some empty lines before the first line are allowed.
            (0, 0) => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX {
                    return Err(Refusal::bad_request("too many empty lines"));
                }
            }
            (0, _) => return Ok(true),
            (_, 0) => {
                if start == Start::Request {
                    check_version(self.tail.to_be_bytes())?;
                }
                self.lines = 1;
            }
            _ => self.lines += 1,
        }
        if self.headers() > limits.headers {
            return Err(Refusal::new(431, "the head has too many headers"));
        }
        Ok(false)
    }
}

fn check_version(tail: [u8; 8]) -> Result<(), Refusal> {
    match &tail {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Refusal::new(505, "the version spoken here is HTTP/1.1"))
        }
        _ => Err(Refusal::bad_request("the first line does not end with a version")),
    }
}

/// How a status line begins; the parser checks the rest.
const STATUS_LINE: &[u8] = b"HTTP/1.";

/// Empty lines allowed before the first line.
pub(super) const EMPTY_LINES_MAX: u8 = 4;

/// The longest method registered with IANA has 17 bytes.
const METHOD_BYTES_MAX: usize = 24;

/// No head is longer, whatever the configuration says: positions in it are kept in 32 bits.
const HEAD_BYTES_MAX: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 100, headers: 2 };

    /// Returns how many bytes were looked at, and the verdict, for bytes cut into pieces.
    fn scan(bytes: &[u8], piece_len: usize) -> (usize, Result<bool, u16>) {
        scan_as(Start::Request, bytes, piece_len)
    }

    fn scan_as(start: Start, bytes: &[u8], piece_len: usize) -> (usize, Result<bool, u16>) {
        let mut scan = Scan::default();
        for piece in bytes.chunks(piece_len) {
            match scan.find_end(start, piece, &LIMITS) {
                Ok(None) => {}
                Ok(Some(_)) => return (scan.seen, Ok(true)),
                Err(refusal) => return (scan.seen, Err(refusal.status())),
            }
        }
        (scan.seen, Ok(false))
    }

    #[test]
    fn garbage_is_refused_at_the_byte_that_shows_it() {
        for (text, seen, verdict) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"[..], 24, Ok(true)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r", 23, Ok(false)),
            // FAULTS 14: a TLS hello, the preface of HTTP/2, HTTP/0.9.
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 1, Err(400)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 16, Err(505)),
            (b"GET /\r\n", 7, Err(400)),
            (b"GET / HTTP/1.2\r\n", 16, Err(505)),
            (b"GET / HTTP/11.1\r\n", 17, Err(400)),
            (b"SSH-2.0-OpenSSH_for_a_long_time", 25, Err(400)),
            (b"{\"op\":1}", 1, Err(400)),
            (b"GE:T / HTTP/1.1\r\n", 3, Err(400)),
            // FAULTS 20: bare LF, bare CR, NUL, DEL, control characters, folded lines.
            (b"GET / HTTP/1.1\nA: b\r\n\r\n", 15, Err(400)),
            (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 22, Err(400)),
            (b"GET / HTTP/1.1\r\r\n", 16, Err(400)),
            (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", 20, Err(400)),
            (b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", 20, Err(400)),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 23, Err(400)),
            (b"GET / HTTP/1.1\r\n\tA: b\r\n\r\n", 17, Err(400)),
            (b" GET / HTTP/1.1\r\n\r\n", 1, Err(400)),
            // FAULTS 25.
            (b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 26, Ok(true)),
            (b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 10, Err(400)),
            (b"GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\n\r\n", 28, Err(431)),
        ] {
            for piece_len in [1, 3, 7, 1000] {
                assert_eq!(scan(text, piece_len), (seen, verdict), "{:?}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn a_response_is_told_from_garbage_at_its_first_word() {
        for (text, seen, verdict) in [
            (&b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest"[..], 25, Ok(true)),
            (b"HTTP/1.0 404\r\n\r\n", 16, Ok(true)),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", 21, Ok(true)),
            (b"HTTP/2.0 200 OK\r\n\r\n", 6, Err(400)),
            (b"http/1.1 200 OK\r\n\r\n", 1, Err(400)),
            (b"SSH-2.0-OpenSSH", 1, Err(400)),
            (b"\x15\x03\x01\0\x02\x02\x16", 1, Err(400)),
            (b"<html>", 1, Err(400)),
            // FAULTS 20.
            (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", 16, Err(400)),
            (b"HTTP/1.1 200 O\rK\r\n\r\n", 16, Err(400)),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 24, Err(400)),
            (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", 21, Err(400)),
            (b"HTTP/1.1 200 OK\r\nA:\r\nB:\r\nC:\r\n\r\n", 29, Err(431)),
        ] {
            for piece_len in [1, 3, 7, 1000] {
                let outcome = scan_as(Start::Status, text, piece_len);
                assert_eq!(outcome, (seen, verdict), "{:?}", text.escape_ascii());
            }
        }
    }

    // FAULTS 17.
    #[test]
    fn a_head_of_exactly_the_limit_passes() {
        for (value_len, verdict) in [(77, Ok(true)), (78, Err(431))] {
            let text = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(value_len));
            for piece_len in [1, 9, 1000] {
                assert_eq!(scan(text.as_bytes(), piece_len), (100, verdict));
            }
        }
    }
}
