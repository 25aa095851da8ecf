//! The chunked transfer coding (RFC 9112, 7.1) as its reader sees it, strictly.

// Each test takes what it needs.
#![allow(dead_code)]

/// Takes chunks apart, in whatever pieces they come.
#[derive(Clone, Debug, Default)]
pub struct Unchunker {
    /// Received, not yet taken apart.
    rest: Vec<u8>,
    is_over: bool,
}

impl Unchunker {
    /// Takes bytes, and gives what was in the chunks that are complete with them.
    #[track_caller]
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.is_empty() || !self.is_over, "bytes follow the last chunk");
        self.rest.extend_from_slice(bytes);
        let mut content = Vec::new();
        let mut used = 0;
        while let Some((len, chunk)) = next(&self.rest[used..]) {
            used += len;
            content.extend_from_slice(chunk);
            if chunk.is_empty() {
                self.is_over = true;
                assert_eq!(used, self.rest.len(), "bytes follow the last chunk");
            }
        }
        self.rest.drain(..used);
        content
    }

    /// Says whether the last chunk has come.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Gives how long a body is with its last chunk, once that has come.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let mut used = 0;
    loop {
        let (len, chunk) = next(&bytes[used..])?;
        used += len;
        if chunk.is_empty() {
            return Some(used);
        }
    }
}

/// Gives the next chunk and how long it is with its size and its end.
fn next(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let size_len = bytes.windows(2).position(|two| two == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..size_len]).expect("a size is text");
    assert!(!size.starts_with('0') || size == "0", "a size is written shortly: {size}");
    let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
    let start = size_len + 2;
    let end = bytes.get(start + size..start + size + 2)?;
    assert_eq!(end, b"\r\n", "a chunk ends where its size says");
    Some((start + size + 2, &bytes[start..start + size]))
}
