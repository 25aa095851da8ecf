//! Base64 with padding (RFC 4648, 4). Only a client decodes.

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

/// Decodes what [`encode`] makes; `None` if the text is something else.
#[cfg(feature = "client")]
pub(crate) fn decode(code: &str) -> Option<Vec<u8>> {
    let (fours, []) = code.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(fours.len() * 3);
    for (index, four) in fours.iter().enumerate() {
        let is_last = index + 1 == fours.len();
        let padding = four.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && !is_last) {
            return None;
        }
        let mut bits = 0;
        for byte in &four[..4 - padding] {
            let value = ALPHABET.iter().position(|other| other == byte)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * padding;
        let [_, three @ ..] = bits.to_be_bytes();
        if three[3 - padding..].iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(&three[..3 - padding]);
    }
    Some(bytes)
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

    #[cfg(feature = "client")]
    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else() {
        for len in 0..50 {
            let bytes: Vec<u8> = (0..len).map(|n: u8| n.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
        for code in ["A", "AA", "AAA", "A===", "====", "AA=A", "AB==", "AAB=", "AA==AAAA", "A\nAA"]
        {
            assert_eq!(decode(code), None, "{code}");
        }
    }
}
