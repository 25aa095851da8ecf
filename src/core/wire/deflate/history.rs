//! What a peer's compressed messages may refer to.

/// The last bytes that have come out of a peer's compressed messages: at most those of its window.
///
/// They are kept in place of an inflater of the peer's own, which would be larger, and as large at
/// the first message as at the last.
#[derive(Debug, Default)]
pub struct History {
    bytes: Vec<u8>,
    /// Nothing is kept if this is 0.
    most: usize,
}

impl History {
    /// Begins with nothing, to keep at most so many bytes.
    pub fn new(most: usize) -> History {
        History { bytes: Vec::new(), most }
    }

    /// Returns what is kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a message that was inflated.
    pub fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.most)..];
        let len = self.bytes.len() + message.len();
        self.bytes.drain(..len.saturating_sub(self.most));
        if len > self.bytes.capacity() {
            let grown = (2 * self.bytes.capacity()).max(len).min(self.most);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(message);
    }

    /// Returns how many bytes of memory are held.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more_memory_than_they_take() {
        for most in [0, 1, 7, 512] {
            let (mut history, mut all) = (History::new(most), Vec::new());
            for len in [0, 1, 3, 600, 2, 511, 512, 5, 1] {
                let message: Vec<u8> = (0..len).map(|n: usize| (n * 7 + all.len()) as u8).collect();
                history.push(&message);
                all.extend_from_slice(&message);
                let last = &all[all.len().saturating_sub(most)..];
                assert_eq!(history.as_bytes(), last, "{most}");
                assert!(history.held_bytes() <= most, "{} of {most}", history.held_bytes());
            }
        }
    }
}
