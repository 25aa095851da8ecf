//! Decisions read from the bytes of a fuzzer: a change of one byte is a change of one decision.

/// What is left of an input. Where nothing is left, every decision is the first of its choices.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Source<'a> {
        Source(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn seed(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Gives a number from 0 to `n - 1`; `n` is 1 to 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// Says yes in `of_256` of 256 cases.
    pub fn chance(&mut self, of_256: u8) -> bool {
        // Turned around, so that the end of the input says no.
        !self.byte() < of_256
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Takes up to `len` bytes.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes a length and as many bytes, as text: what is no UTF-8 becomes U+FFFD.
    pub fn text(&mut self) -> String {
        let len = usize::from(self.byte());
        String::from_utf8_lossy(self.take(len)).into_owned()
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}
