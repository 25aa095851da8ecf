//! What proves that a handshake was read: `Sec-WebSocket-Accept` (RFC 6455, 4.2.2).

use crate::core::ground::base64;

/// Returns the answer to a `Sec-WebSocket-Key`.
pub(super) fn accept_key(key: &[u8]) -> String {
    base64::encode(&sha1(&[key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat()))
}

/// SHA-1 (RFC 3174). Nothing is kept secret by it: it tells servers that know WebSockets from
/// others.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0_u32];
    let mut padded = [message, &[0x80]].concat();
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() <= size_of::<u64>() {
        padded.resize(padded.len() + 64, 0);
    }
    let length_at = padded.len() - size_of::<u64>();
    padded[length_at..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.as_chunks::<64>().0 {
        let mut words = [0; 80];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for nth in 16..80 {
            let mixed = words[nth - 3] ^ words[nth - 8] ^ words[nth - 14] ^ words[nth - 16];
            words[nth] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (nth, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match nth {
                ..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let sum = [mixed, e, word, constant].into_iter();
            let first = sum.fold(a.rotate_left(5), u32::wrapping_add);
            (a, b, c, d, e) = (first, a, b.rotate_left(30), c, d);
        }
        for (sum, more) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(more);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::handshake::derive_accept_key;

    #[test]
    fn the_key_of_the_rfc_has_its_answer() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_of_any_length_have_the_answers_that_others_give() {
        let key: Vec<u8> = (0..200).collect();
        for end in 0..key.len() {
            assert_eq!(accept_key(&key[..end]), derive_accept_key(&key[..end]), "{end}");
        }
    }
}
