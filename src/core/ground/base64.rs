//! Base64 with padding (RFC 4648, 4), one way: what is sent is encoded, nothing is decoded.

/// Appends the code of some bytes: four characters for each three, or the rest of them.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(len(bytes.len()));
    let (threes, rest) = bytes.as_chunks::<3>();
    for three in threes {
        out.extend_from_slice(&four(*three));
    }
    if !rest.is_empty() {
        let mut three = [0; 3];
        three[..rest.len()].copy_from_slice(rest);
        let four = four(three);
        out.extend_from_slice(&four[..rest.len() + 1]);
        out.extend_from_slice(&b"=="[rest.len() - 1..]);
    }
}

/// Returns the code of some bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    append(&mut out, bytes);
    String::from_utf8(out).expect("the alphabet is ASCII")
}

/// Returns how long the code of so many bytes is.
pub(crate) fn len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

fn four([first, second, third]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, first, second, third]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;

    #[test]
    fn bytes_are_encoded_as_others_encode_them() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for end in 0..all.len() {
            assert_eq!(encode(&all[..end]), BASE64.encode(&all[..end]));
            assert_eq!(encode(&all[..end]).len(), len(end));
        }
    }
}
