//! One message to its compressed bytes.

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::TAIL;

/// Compresses one message at a time.
pub struct Compressor {
    deflate: Deflate,
    level: u8,
    window_bits: u8,
}

/// How a message is to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// From 1 to 9.
    pub level: u8,
    /// The peer's window, from 9 to 15.
    pub window_bits: u8,
}

impl Want {
    /// Returns whether the peer shares what is compressed of so many bytes, the history included,
    /// with all peers of the largest window.
    pub fn shares(self, bytes: usize) -> bool {
        self.window_bits == WINDOW_BITS_MAX || self.fits(bytes)
    }

    /// Returns whether so many bytes fit the peer's window.
    fn fits(self, bytes: usize) -> bool {
        bytes <= 1 << self.window_bits
    }
}

impl Compressor {
    /// The memory of a compressor, in bytes, at any window.
    pub const BYTES: usize = 372 * 1024;

    fn new(level: u8, window_bits: u8) -> Compressor {
        let window = -i32::from(window_bits);
        let config =
            DeflateConfig { level: level.into(), window_bits: window, ..DeflateConfig::default() };
        Compressor { deflate: Deflate::new_with_config(config), level, window_bits }
    }

    /// Compresses a message into `out`, whose content is replaced. `history` is what the peer's
    /// inflater has made last, or nothing. Returns whether the message has shrunk; else nothing of
    /// use is in `out`.
    ///
    /// `compressor` is made if there is none, and made anew for another effort, or for another
    /// window if the message is so long that this matters.
    pub fn compress(
        compressor: &mut Option<Box<Compressor>>,
        want: Want,
        history: &[u8],
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let bytes = history.len() + message.len();
        let window_bits = if want.fits(bytes) { WINDOW_BITS_MAX } else { want.window_bits };
        let is_short = |bits: u8| bytes <= 1 << bits;
        compressor.take_if(|other| {
            let is_other = other.window_bits != window_bits;
            other.level != want.level || is_other && !is_short(other.window_bits.min(window_bits))
        });
        let compressor =
            compressor.get_or_insert_with(|| Box::new(Compressor::new(want.level, window_bits)));
        compressor.compress_one(history, message, out)
    }

    fn compress_one(&mut self, history: &[u8], message: &[u8], out: &mut Vec<u8>) -> bool {
        self.deflate.reset();
        if !history.is_empty() && self.deflate.set_dictionary(history).is_err() {
            return false;
        }
        out.clear();
        // What is as long as the message is of no use.
        out.resize(message.len() + TAIL.len(), 0);
        let done = self.deflate.compress(message, out, DeflateFlush::SyncFlush);
        let len = self.deflate.total_out() as usize;
        let is_whole = done.is_ok()
            && self.deflate.total_in() == message.len() as u64
            && len < out.len()
            && out[..len].ends_with(&TAIL);
        out.truncate(len.saturating_sub(TAIL.len()));
        is_whole
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compressor { level, window_bits, .. } = self;
        let mut out = f.debug_struct("Compressor");
        out.field("level", level).field("window_bits", window_bits).finish_non_exhaustive()
    }
}

const WINDOW_BITS_MAX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::super::{Inflater, Step};
    use super::*;

    const WANT: Want = Want { level: 6, window_bits: 15 };

    fn inflate(mut message: &[u8], window_bits: u8) -> Vec<u8> {
        // The peer's own inflater, which knows no larger window than it has said.
        let mut peer = zlib_rs::Inflate::new(false, window_bits);
        let tailed = [message, &TAIL].concat();
        let mut peers = vec![0; 1 << 20];
        peer.decompress(&tailed, &mut peers, zlib_rs::InflateFlush::SyncFlush).unwrap();
        peers.truncate(peer.total_out() as usize);
        let (mut inflater, mut room, mut out) = (Inflater::new(), [0; 4096], Vec::new());
        loop {
            let Step { used, made } = inflater.step(message, &mut room).unwrap();
            out.extend_from_slice(&room[..made]);
            message = &message[used..];
            if made < room.len() && message.is_empty() {
                break;
            }
        }
        inflater.finish().unwrap();
        assert_eq!(out, peers);
        out
    }

    #[test]
    fn what_is_compressed_is_inflated_by_a_window_of_any_size() {
        let (mut compressor, mut out) = (None, Vec::new());
        for window_bits in [15, 9, 12, 15] {
            for level in [1, 6, 9] {
                for len in [10, 600, 5000, 60_000] {
                    let letter = |n: u64| b'a' + (n * n / 7 % 13) as u8;
                    let line: Vec<u8> = (0..len).map(letter).collect();
                    let mut message = line.repeat(2);
                    message.truncate(64 * 1024);
                    let want = Want { level, window_bits };
                    if Compressor::compress(&mut compressor, want, b"", &message, &mut out) {
                        assert!(out.len() < message.len());
                        assert_eq!(inflate(&out, window_bits), message);
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_told() {
        let (mut compressor, mut out) = (None, Vec::new());
        let mut random = crate::core::ground::random::Random::new(1);
        for len in [0, 1, 5, 100, 1000, 50_000] {
            let message: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
            assert!(!Compressor::compress(&mut compressor, WANT, b"", &message, &mut out), "{len}");
        }
        assert!(Compressor::compress(&mut compressor, WANT, b"", &[b'a'; 100], &mut out));
        assert_eq!(inflate(&out, 15), [b'a'; 100]);
    }

    /// The peer's inflater is one for the whole connection, and of its window alone.
    #[test]
    fn a_message_refers_to_the_one_before_and_a_peer_reads_all() {
        for window_bits in [9, 12, 15] {
            let (mut compressor, mut out) = (None, Vec::new());
            let mut peer = zlib_rs::Inflate::new(false, window_bits);
            let mut before = Vec::new();
            let (mut plain, mut wire) = (0, 0);
            for n in 0..200 {
                let message = format!("{{\"id\":{n},\"celsius\":{},\"unit\":7}}", n * 31 % 97);
                let message = message.repeat(1 + n % 40).into_bytes();
                let want = Want { level: 6, window_bits };
                let history = if n % 7 == 0 { &[][..] } else { &before };
                if !Compressor::compress(&mut compressor, want, history, &message, &mut out) {
                    continue;
                }
                plain += message.len();
                wire += out.len();
                let tailed = [&out[..], &TAIL].concat();
                let mut room = vec![0; message.len() + 10];
                let made = peer.total_out();
                peer.decompress(&tailed, &mut room, zlib_rs::InflateFlush::SyncFlush).unwrap();
                room.truncate((peer.total_out() - made) as usize);
                assert_eq!(room, message, "{n}");
                before = message;
            }
            assert!(wire * 10 < plain, "{wire} of {plain}");
        }
    }
}
