//! The chunked transfer coding (RFC 9112, 7.1).
//!
//! ```text
//! SIZE [;extension] CRLF  data CRLF  ..  0 [;extension] CRLF  (trailer CRLF)*  CRLF
//! ```
//!
//! Extensions and trailers are thrown away, and there are not many of them. Refused: a size of more
//! than 16 digits or none, blanks around it, bare CR or LF, control characters.

use super::refusal::Refusal;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    place: Place,
    /// Bytes of extensions and trailers so far.
    extra: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a size, of which so many digits have come.
    Size { size: u64, digits: u8 },
    /// Behind `;`.
    Extension { size: u64 },
    /// Behind the CR of the size line.
    SizeLf { size: u64 },
    /// In the data, of which so many bytes are left.
    Data { left: u64 },
    /// Behind the data, before its CR.
    DataCr,
    /// Behind the data's CR.
    DataLf,
    /// Where a trailer or the last CRLF begins.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// Behind a trailer's CR.
    TrailerLf,
    /// Behind the CR of the last CRLF.
    EndLf,
}

/// What the bytes taken were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Nothing of the body.
    Between,
    /// The end of a size line: so many bytes follow.
    Begins(u64),
    /// Bytes of the body.
    Data,
    /// The end of the coding.
    End,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks { place: Place::Size { size: 0, digits: 0 }, extra: 0 }
    }
}

impl Chunks {
    /// Takes one byte between the data, or data as far as it goes. Gives how many bytes were taken
    /// and what they were. `input` must not be empty.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Chunk), Refusal> {
        let Place::Data { left } = self.place else {
            return self.step(input[0]).map(|chunk| (1, chunk));
        };
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.place = match left - taken as u64 {
            0 => Place::DataCr,
            left => Place::Data { left },
        };
        Ok((taken, Chunk::Data))
    }

    fn step(&mut self, byte: u8) -> Result<Chunk, Refusal> {
        let mut chunk = Chunk::Between;
        self.place = match (self.place, byte) {
            (Place::Size { digits: 1.., size }, b'\r') => Place::SizeLf { size },
            (Place::Size { digits: 1.., size }, b';') => Place::Extension { size },
            (Place::Size { size, digits }, _) if digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or_else(malformed)?;
                Place::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Place::Extension { size }, b'\r') => Place::SizeLf { size },
            (Place::SizeLf { size }, b'\n') => {
                chunk = Chunk::Begins(size);
                if size == 0 { Place::TrailerStart } else { Place::Data { left: size } }
            }
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size { size: 0, digits: 0 },
            (Place::TrailerStart, b'\r') => Place::EndLf,
            (Place::TrailerStart, b' ' | b'\t') => return Err(malformed()),
            (Place::Trailer, b'\r') => Place::TrailerLf,
            (Place::TrailerLf, b'\n') => Place::TrailerStart,
            (Place::EndLf, b'\n') => {
                chunk = Chunk::End;
                Place::EndLf
            }
            (Place::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extra()?;
                Place::Extension { size }
            }
            (Place::TrailerStart | Place::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extra()?;
                Place::Trailer
            }
            _ => return Err(malformed()),
        };
        Ok(chunk)
    }

    fn count_extra(&mut self) -> Result<(), Refusal> {
        self.extra += 1;
        match self.extra > EXTRA_BYTES_MAX {
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

/// Extensions and trailers of a whole body.
const EXTRA_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the bytes taken and the verdict.
    fn run(input: &[u8]) -> (usize, Result<Chunk, u16>) {
        let mut chunks = Chunks::default();
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
    fn extensions_and_trailers_are_bounded_together() {
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(2000));
        let trailer = format!("0\r\n{}: b\r\n\r\n", "t".repeat(2093));
        assert_eq!(run(format!("{extension}{trailer}").as_bytes()).1, Ok(Chunk::End));
        assert_eq!(run(format!("{extension}{extension}{trailer}").as_bytes()).1, Err(400));
        let lines = "a\r\n".repeat(5000);
        assert_eq!(run(format!("0\r\n{lines}\r\n").as_bytes()).1, Err(400));
    }
}
