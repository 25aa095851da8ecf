//! Bodies, read as their bytes come.

use tungstenite::Bytes;

use super::buffer;
use super::chunks::{Chunk, Chunks};
use super::framing::BodyLength;
use super::refusal::Refusal;
use super::scan::HeadLimits;

/// The part of a body that has arrived so far.
///
/// Memory follows what was received, not what was announced.
#[derive(Debug)]
pub struct BodyReader {
    bytes: Vec<u8>,
    rest: Rest,
    limit: u64,
    /// The buffer holds no more than that, if what has come is taken in time.
    room: usize,
}

/// What is still to come.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunks(Chunks),
    /// All bytes until the connection is closed.
    Close,
}

impl BodyReader {
    /// Makes a reader of a body of at most `limit` bytes. A trailer section behind it must keep
    /// within the limits of a head, and is thrown away.
    ///
    /// # Errors
    ///
    /// 413, if the announced length is more.
    pub fn new(
        length: BodyLength,
        limit: u64,
        trailers: &HeadLimits,
    ) -> Result<BodyReader, Refusal> {
        let rest = match length {
            BodyLength::None => Rest::Length(0),
            BodyLength::Length(length) if length > limit => return Err(too_large()),
            BodyLength::Length(length) => Rest::Length(length),
            BodyLength::Chunked => Rest::Chunks(Chunks::new(*trailers)),
            BodyLength::Close => Rest::Close,
        };
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(BodyReader { bytes: Vec::new(), rest, limit, room })
    }

    /// Has the buffer hold no more than `room` bytes, if no more wait to be taken.
    pub fn with_room(self, room: usize) -> BodyReader {
        BodyReader { room, ..self }
    }

    /// Takes bytes from the front of `input`. Returns how many were used, and the body once it is
    /// complete; without a body all were used. A body of no bytes is complete at the first call,
    /// with any input: call with an empty one rather than wait for bytes.
    ///
    /// # Errors
    ///
    /// 400 if the chunks or the trailers are malformed, 413 if the chunks sum up to more than the
    /// limit, 431 if there are too many trailers. Nothing more can be read on this connection then.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Bytes>), Refusal> {
        match self.rest {
            Rest::Length(left) => Ok(self.read_length(input, left)),
            Rest::Chunks(chunks) => self.read_chunks(input, chunks),
            Rest::Close => self.read_to_close(input),
        }
    }

    /// Returns the body that ends because the connection was closed.
    ///
    /// # Errors
    ///
    /// If the body should have ended otherwise: it is cut off.
    pub fn close(mut self) -> Result<Bytes, Refusal> {
        match self.rest {
            Rest::Close => Ok(self.finish()),
            _ => Err(Refusal::bad_request("the connection was closed inside the body")),
        }
    }

    /// Takes what has come so far out of the reader: the body that [`BodyReader::read`] gives in
    /// the end is what comes behind it. It counts in the limit all the same.
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        self.limit -= bytes.len() as u64;
        bytes
    }

    /// Returns how many bytes of the body have come and were not taken.
    pub fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how many bytes of the body can still come at most.
    pub fn outstanding(&self) -> u64 {
        match self.rest {
            Rest::Length(left) => left,
            Rest::Chunks(_) | Rest::Close => self.limit - self.bytes.len() as u64,
        }
    }

    /// Returns the heap bytes held: at most about twice what was received.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn read_length(&mut self, input: &[u8], left: u64) -> (usize, Option<Bytes>) {
        let used = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (piece, _) = input.split_at(used);
        let left = left - used as u64;
        self.rest = Rest::Length(left);
        if left == 0 && self.bytes.is_empty() {
            return (used, Some(Bytes::copy_from_slice(piece)));
        }
        let length = (self.bytes.len() + used) as u64 + left;
        self.append(piece, length);
        (used, (left == 0).then(|| self.finish()))
    }

    fn read_chunks(
        &mut self,
        input: &[u8],
        mut chunks: Chunks,
    ) -> Result<(usize, Option<Bytes>), Refusal> {
        let mut used = 0;
        while used < input.len() {
            let (taken, chunk) = chunks.next(&input[used..])?;
            let piece = &input[used..used + taken];
            used += taken;
            match chunk {
                Chunk::Between => {}
                Chunk::Begins(size) if size > self.limit - self.bytes.len() as u64 => {
                    return Err(too_large());
                }
                Chunk::Begins(_) => {}
                Chunk::Data => self.append(piece, self.limit),
                Chunk::End => return Ok((used, Some(self.finish()))),
            }
        }
        self.rest = Rest::Chunks(chunks);
        Ok((used, None))
    }

    fn read_to_close(&mut self, input: &[u8]) -> Result<(usize, Option<Bytes>), Refusal> {
        if input.len() as u64 > self.limit - self.bytes.len() as u64 {
            return Err(too_large());
        }
        self.append(input, self.limit);
        Ok((input.len(), None))
    }

    fn append(&mut self, piece: &[u8], len_max: u64) {
        let len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
        buffer::append(&mut self.bytes, piece, len_max.min(self.room));
    }

    fn finish(&mut self) -> Bytes {
        // A body may be retained for long: it keeps no spare room.
        std::mem::take(&mut self.bytes).into_boxed_slice().into()
    }
}

fn too_large() -> Refusal {
    Refusal::new(413, "the body is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::head::tests::{LIMITS, random};

    /// Reads a body in pieces. Returns the bytes used, and the body or the status; the status is 0
    /// without a verdict yet.
    fn read(length: BodyLength, input: &[u8], piece_len: usize) -> Result<(usize, Bytes), u16> {
        let reader = BodyReader::new(length, 100, &LIMITS);
        let mut reader = reader.map_err(|refusal| refusal.status())?;
        let mut used = 0;
        loop {
            let piece = &input[used..input.len().min(used + piece_len)];
            let (taken, body) = reader.read(piece).map_err(|refusal| refusal.status())?;
            used += taken;
            match body {
                Some(body) => return Ok((used, body)),
                None => assert_eq!(taken, piece.len()),
            }
            if used == input.len() {
                return Err(0);
            }
        }
    }

    #[test]
    fn a_body_of_known_length_ends_there() {
        for piece_len in [1, 2, 100] {
            for (length, expected) in [
                (BodyLength::None, ""),
                (BodyLength::Length(0), ""),
                (BodyLength::Length(5), "hello"),
            ] {
                let (used, body) = read(length, b"hello, rest", piece_len).unwrap();
                assert_eq!((used, &body[..]), (expected.len(), expected.as_bytes()));
            }
        }
    }

    #[test]
    fn chunks_are_joined() {
        for (input, rest, expected) in [
            ("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nGET", 3, "hello!"),
            ("0\r\n\r\n", 0, ""),
            (
                "000A;a=b;c=\"d\"\r\n0123456789\r\n000;x\r\nTrailer: x\r\nB: y\r\n\r\n",
                0,
                "0123456789",
            ),
        ] {
            for piece_len in [1, 2, 3, 7, 100] {
                let (used, body) = read(BodyLength::Chunked, input.as_bytes(), piece_len).unwrap();
                assert_eq!((input.len() - used, &body[..]), (rest, expected.as_bytes()));
            }
        }
    }

    #[test]
    fn a_body_of_exactly_the_limit_passes() {
        assert!(BodyReader::new(BodyLength::Length(100), 100, &LIMITS).is_ok());
        for length in [101, u64::MAX] {
            let refusal = BodyReader::new(BodyLength::Length(length), 100, &LIMITS).unwrap_err();
            assert_eq!(refusal.status(), 413);
        }
        let data = "x".repeat(50);
        for (last, status) in [("32", None), ("33", Some(413)), ("ffffffffffffffff", Some(413))] {
            let input = format!("32\r\n{data}\r\n{last}\r\n{data}\r\n0\r\n\r\n");
            for piece_len in [1, 9, 1000] {
                let verdict = read(BodyLength::Chunked, input.as_bytes(), piece_len);
                assert_eq!(verdict.err(), status, "{last}");
            }
        }
    }

    // RFC 9112, 6.3: only a body without a length of its own may end with the connection.
    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut reader = BodyReader::new(BodyLength::Close, 10, &LIMITS).unwrap();
        for piece in ["hello", "", ", you"] {
            assert_eq!(reader.read(piece.as_bytes()), Ok((piece.len(), None)));
        }
        assert_eq!(reader.read(b"!").unwrap_err().status(), 413);
        assert_eq!(reader.close().unwrap(), "hello, you");
        for length in [BodyLength::Length(2), BodyLength::Chunked] {
            let mut reader = BodyReader::new(length, 10, &LIMITS).unwrap();
            reader.read(b"1").unwrap();
            assert!(reader.close().is_err(), "{length:?} is cut off");
        }
    }

    // FAULTS 46 for bodies.
    #[test]
    fn memory_follows_what_was_received() {
        let limit = 1 << 40;
        for length in [BodyLength::Length(limit), BodyLength::Chunked] {
            let mut reader = BodyReader::new(length, limit, &LIMITS).unwrap();
            reader.read(b"1000000\r\nx").unwrap();
            assert!(reader.held_bytes() <= 64, "{}", reader.held_bytes());
        }
    }

    /// Random changes of good chunks: no panic, and the same verdict however they are cut.
    #[test]
    fn hostile_chunks_never_panic() {
        let good = b"5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        let mut random = random();
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = b"\r\n ;:0fF5\0\x7f\xff"[random(12)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[random(bytes.len())]),
                }
            }
            let whole = read(BodyLength::Chunked, &bytes, 1000);
            for piece_len in [1, 2, 7] {
                let cut = read(BodyLength::Chunked, &bytes, piece_len);
                assert_eq!(cut, whole, "{}", bytes.escape_ascii());
            }
        }
    }
}
