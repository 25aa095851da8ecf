//! Base64 with padding (RFC 4648, 4), and base64url without (RFC 4648, 5). Only clients and readers
//! of signed tokens decode.

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
#[cfg(any(feature = "client", feature = "jwt"))]
pub(crate) fn decode(code: &str) -> Option<Vec<u8>> {
    let bare = code.trim_end_matches('=');
    let is_whole = code.len().is_multiple_of(4) && code.len() - bare.len() <= 2;
    is_whole.then(|| decode_bare(bare, *b"+/"))?
}

/// Decodes base64url without padding; `None` if the text is something else.
#[cfg(feature = "jwt")]
pub(crate) fn decode_url(code: &str) -> Option<Vec<u8>> {
    decode_bare(code, *b"-_")
}

/// Decodes a code without padding, of the alphabet that ends in these two characters. Bits that
/// belong to no byte must be zero: no two texts mean the same bytes.
#[cfg(any(feature = "client", feature = "jwt"))]
fn decode_bare(code: &str, last: [u8; 2]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(code.len() / 4 * 3 + 2);
    for four in code.as_bytes().chunks(4) {
        let mut bits = 0;
        for byte in four {
            bits = bits << 6 | value(*byte, last)?;
        }
        let [_, three @ ..] = (bits << (6 * (4 - four.len()))).to_be_bytes();
        let len = four.len() - 1;
        if len == 0 || three[len..].iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(&three[..len]);
    }
    Some(bytes)
}

#[cfg(any(feature = "client", feature = "jwt"))]
fn value(byte: u8, last: [u8; 2]) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        _ => 62 + last.iter().position(|other| *other == byte)? as u8,
    };
    Some(value.into())
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

    #[cfg(feature = "jwt")]
    #[test]
    fn base64url_is_decoded_as_others_encode_it_and_nothing_else_is() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for end in 0..all.len() {
            let code = data_encoding::BASE64URL_NOPAD.encode(&all[..end]);
            assert_eq!(decode_url(&code).as_deref(), Some(&all[..end]));
        }
        for code in ["A", "AAAAA", "AA==", "AB", "AAB", "AA+A", "AA/A", "A A", "AA\n", "\u{e4}"] {
            assert_eq!(decode_url(code), None, "{code}");
        }
    }

    #[cfg(any(feature = "client", feature = "jwt"))]
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
