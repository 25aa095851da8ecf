//! Memory that follows what was received.

/// Appends bytes to a buffer that never holds more than `len_max`.
///
/// The buffer grows to twice its length at most, so that many small pieces cost linear work. It
/// does not grow beyond `len_max`, so that a full buffer has no spare room.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], len_max: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let room = (2 * buffer.len()).clamp(CAPACITY_MIN, len_max.max(CAPACITY_MIN)).max(needed);
        buffer.reserve_exact(room - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

/// The first allocation.
const CAPACITY_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_follows_what_it_received() {
        let mut buffer = Vec::new();
        for received in 1..=1000 {
            append(&mut buffer, b"x", 1000);
            assert!(buffer.capacity() <= 64.max(2 * received).min(1000), "{received}");
        }
        assert_eq!((buffer.len(), buffer.capacity()), (1000, 1000));
    }

    #[test]
    fn a_large_piece_gets_its_exact_size() {
        let mut buffer = Vec::new();
        append(&mut buffer, &[0; 500], 1 << 20);
        assert_eq!(buffer.capacity(), 500);
    }
}
