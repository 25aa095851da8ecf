//! The chunked transfer coding (RFC 9112, 7.1).
//!
//! ```text
//! SIZE [;extension] CRLF  data CRLF  ..  0 [;extension] CRLF  (trailer CRLF)*  CRLF
//! ```
//!
//! Extensions and trailers are thrown away, and their amount is limited: trailers keep within the
//! limits of a head. Refused: a size of more than 16 digits or none, blanks around it, bare CR or
//! LF, control characters, and a trailer line that is no header line. A request that begins before
//! the last CRLF is such a line.

use super::refusal::Refusal;
use super::scan::HeadLimits;
use super::syntax::is_tchar;

/// The position of the next byte in the coding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    position: Position,
    limits: HeadLimits,
    /// Bytes of extensions so far.
    extension_bytes: usize,
    /// Bytes of the trailer section so far, the ends of its lines included.
    trailer_bytes: usize,
    /// Trailer lines begun so far.
    trailers: usize,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// In a size, after this many digits.
    Size { size: u64, digits: u8 },
    /// Behind `;`.
    Extension { size: u64 },
    /// Behind the CR of the size line.
    SizeLf { size: u64 },
    /// In the data, of which this many bytes are left.
    Data { left: u64 },
    /// Behind the data, before its CR.
    DataCr,
    /// Behind the data's CR.
    DataLf,
    /// Where a trailer or the last CRLF begins.
    TrailerStart,
    /// In the name of a trailer.
    TrailerName,
    /// Behind the colon of a trailer.
    TrailerValue,
    /// Behind a trailer's CR.
    TrailerLf,
    /// Behind the CR of the last CRLF.
    EndLf,
}

/// What the taken bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// No bytes of the body.
    Between,
    /// The end of a size line: this many bytes of data follow.
    Begins(u64),
    /// Bytes of the body.
    Data,
    /// The end of the coding.
    End,
}

impl Chunks {
    pub fn new(limits: HeadLimits) -> Chunks {
        let position = Position::Size { size: 0, digits: 0 };
        Chunks { position, limits, extension_bytes: 0, trailer_bytes: 0, trailers: 0 }
    }

    /// Takes one byte between the data, or as much data as there is. Returns how many bytes were
    /// taken, and what they were. `input` must not be empty.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Chunk), Refusal> {
        let Position::Data { left } = self.position else {
            return self.step(input[0]).map(|chunk| (1, chunk));
        };
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.position = match left - taken as u64 {
            0 => Position::DataCr,
            left => Position::Data { left },
        };
        Ok((taken, Chunk::Data))
    }

    fn step(&mut self, byte: u8) -> Result<Chunk, Refusal> {
        let mut chunk = Chunk::Between;
        self.position = match (self.position, byte) {
            (Position::Size { digits: 1.., size }, b'\r') => Position::SizeLf { size },
            (Position::Size { digits: 1.., size }, b';') => Position::Extension { size },
            (Position::Size { size, digits }, _) if digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or_else(malformed)?;
                Position::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Position::Extension { size }, b'\r') => Position::SizeLf { size },
            (Position::SizeLf { size }, b'\n') => {
                chunk = Chunk::Begins(size);
                if size == 0 { Position::TrailerStart } else { Position::Data { left: size } }
            }
            (Position::DataCr, b'\r') => Position::DataLf,
            (Position::DataLf, b'\n') => Position::Size { size: 0, digits: 0 },
            (Position::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                Position::Extension { size }
            }
            (position, _) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > self.limits.head_bytes {
                    return Err(Refusal::new(431, "the trailer section is too long"));
                }
                let position = self.step_trailer(position, byte)?;
                if matches!((self.position, byte), (Position::EndLf, b'\n')) {
                    chunk = Chunk::End;
                }
                position
            }
        };
        Ok(chunk)
    }

    /// Takes a byte of the trailer section: header lines, then an empty line.
    fn step_trailer(&mut self, position: Position, byte: u8) -> Result<Position, Refusal> {
        Ok(match (position, byte) {
            (Position::TrailerStart, b'\r') => Position::EndLf,
            (Position::EndLf, b'\n') => Position::EndLf,
            (Position::TrailerStart, _) if is_tchar(byte) => {
                self.trailers += 1;
                if self.trailers > self.limits.headers {
                    return Err(Refusal::new(431, "the trailer section has too many lines"));
                }
                Position::TrailerName
            }
            (Position::TrailerName, _) if is_tchar(byte) => Position::TrailerName,
            (Position::TrailerName, b':') => Position::TrailerValue,
            (Position::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => Position::TrailerValue,
            (Position::TrailerValue, b'\r') => Position::TrailerLf,
            (Position::TrailerLf, b'\n') => Position::TrailerStart,
            _ => return Err(malformed()),
        })
    }

    fn count_extension(&mut self) -> Result<(), Refusal> {
        self.extension_bytes += 1;
        match self.extension_bytes > EXTENSION_BYTES_MAX {
            true => Err(Refusal::bad_request("the chunks have too much beside their data")),
            false => Ok(()),
        }
    }
}

fn malformed() -> Refusal {
    Refusal::bad_request("the chunks are malformed")
}

/// Sixteen digits fill 64 bits.
const DIGITS_MAX: u8 = 16;

/// Bytes of extensions in a whole body.
const EXTENSION_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the bytes taken and the verdict.
    fn run(input: &[u8]) -> (usize, Result<Chunk, u16>) {
        let mut chunks = Chunks::new(HeadLimits { head_bytes: 100, headers: 2 });
        let mut used = 0;
        let mut last = Chunk::Between;
        while used < input.len() {
            match chunks.next(&input[used..]) {
                Ok((taken, chunk)) => (used, last) = (used + taken, chunk),
                Err(refusal) => return (used, Err(refusal.status())),
            }
            if last == Chunk::End {
                break;
            }
        }
        (used, Ok(last))
    }

    #[test]
    fn malformed_chunks_are_refused_where_they_show() {
        for (input, used) in [
            ("\r\n", 0),
            (";\r\n", 0),
            ("x", 0),
            ("+5\r\n", 0),
            ("-1\r\n", 0),
            ("0x5\r\n", 1),
            (" 5\r\n", 0),
            ("5 \r\n", 1),
            ("5 ;a\r\n", 1),
            ("5\n", 1),
            ("5\rx", 2),
            ("5;a\n", 3),
            ("5;a\0", 3),
            ("5;a\rb", 4),
            ("5\r\nhello5\r\n", 8),
            ("5\r\nhello\n", 8),
            ("5\r\nhello\r5", 9),
            ("0\r\n\n", 3),
            ("0\r\nA: b\n", 7),
            ("0\r\nA: b\rc", 8),
            ("0\r\n A: b\r\n", 3),
            // FAULTS 176: a trailer must be a header line, and a request line is none.
            ("0\r\nPOST /x HTTP/1.1\r\n\r\n", 7),
            ("0\r\nGET\r\n\r\n", 6),
            ("0\r\n: b\r\n", 3),
            ("0\r\nA : b\r\n", 4),
            ("0\r\nA: b\r\nC\r\n", 10),
            ("0\r\nA: \0\r\n", 6),
            ("0\r\n\rx", 4),
        ] {
            assert_eq!(run(input.as_bytes()), (used, Err(400)), "{input:?}");
        }
    }

    // FAULTS 22: decided after 17 digits.
    #[test]
    fn a_thousand_digits_are_refused_at_once() {
        for digit in ["0", "f"] {
            assert_eq!(run(digit.repeat(1000).as_bytes()), (16, Err(400)));
        }
        assert_eq!(run(b"ffffffffffffffff\r\n"), (18, Ok(Chunk::Begins(u64::MAX))));
    }

    #[test]
    fn extensions_are_bounded() {
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(2048));
        assert_eq!(run(format!("{extension}{extension}0\r\n\r\n").as_bytes()).1, Ok(Chunk::End));
        assert_eq!(run(format!("{extension}{extension}0;e\r\n").as_bytes()).1, Err(400));
    }

    // FAULTS 176: by the limits of a head, which are 100 bytes and two lines here.
    #[test]
    fn trailers_are_bounded() {
        for (value_len, lines, verdict) in [
            (91, "", Ok(Chunk::End)),
            (92, "", Err(431)),
            (0, "B:\r\n", Ok(Chunk::End)),
            (0, "B:\r\nC:\r\n", Err(431)),
        ] {
            let text = format!("0\r\nABC: {}\r\n{lines}\r\n", "x".repeat(value_len));
            assert_eq!(run(text.as_bytes()).1, verdict, "{value_len} {lines:?}");
        }
    }
}
