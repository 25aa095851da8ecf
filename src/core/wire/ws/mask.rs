//! The mask that a client applies to its payload (RFC 6455, 5.3).

/// Applies the mask to a piece of payload, or removes it, in place. Returns the mask for the piece
/// that follows.
///
/// Pieces may have any length and alignment. Whole words are independent of each other, so that the
/// compiler makes vectors of them.
#[inline]
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    // A server's frames have no mask.
    if mask == [0; 4] {
        return mask;
    }
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let length = payload.len();
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    let (words, rest) = rest.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
    std::array::from_fn(|index| mask[(length + index) % 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect()
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 + 3) as u8).collect()
    }

    #[test]
    fn any_length_at_any_alignment_is_unmasked() {
        for mask in [[0; 4], [0x12, 0x34, 0x56, 0x78], [0xff, 0, 0xff, 1]] {
            for length in 0..=300 {
                for offset in 0..8 {
                    let mut bytes = vec![0xaa; offset];
                    bytes.extend(masked(&payload(length), mask));
                    unmask(&mut bytes[offset..], mask);
                    assert_eq!(bytes[offset..], payload(length), "{length} bytes at {offset}");
                    assert!(bytes[..offset].iter().all(|&byte| byte == 0xaa));
                }
            }
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_whole() {
        let mask = [1, 2, 3, 4];
        for cut in 0..=40 {
            let mut bytes = masked(&payload(40), mask);
            let (front, back) = bytes.split_at_mut(cut);
            let next = unmask(front, mask);
            unmask(back, next);
            assert_eq!(bytes, payload(40), "cut at {cut}");
        }
    }
}
